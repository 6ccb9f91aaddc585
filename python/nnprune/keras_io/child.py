"""Run a module, or a function, of this package in a process of its own."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Finished", "can_fork", "run_forked", "run_module"]

_SCARCELY_FORKED = frozenset({"jax", "keras", "tensorflow", "torch"})


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a process ended.

    Attributes
    ----------
    status : int or None
        The exit status, negative for a signal; None where the time was up.
    output : bytes
        What it wrote to its standard output.
    last_words : str
        The last line of its standard error.
    """

    status: int | None
    output: bytes
    last_words: str


def run_module(
    module: str,
    arguments: list[str],
    *,
    seconds: float,
    variables: Mapping[str, str] | None = None,
) -> Finished:
    """Run `python -m module arguments`, without input and with its messages kept back.

    Parameters
    ----------
    module : str
        A module of this package.
    arguments : list of str
        Its arguments.
    seconds : float
        After this time it is ended.
    variables : mapping of str to str, optional
        Environment variables to set besides those of this process.

    Returns
    -------
    Finished
        Exit status and output.

    Raises
    ------
    OSError
        The process cannot be started.
    """
    # -P: no module of the current folder is taken for one of Python's or TensorFlow's.
    command = [sys.executable, "-P", "-m", module, *arguments]
    package_folder = str(Path(__file__).parents[2])
    search_path = os.environ.get("PYTHONPATH")
    environment = {
        **os.environ,
        **(variables or {}),
        "PYTHONPATH": os.pathsep.join(filter(None, [package_folder, search_path])),
    }
    try:
        finished = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return Finished(status=None, output=error.stdout or b"", last_words="")
    lines = finished.stderr.decode("utf-8", errors="replace").split("\n")
    return Finished(
        status=finished.returncode,
        output=finished.stdout,
        last_words=next((line for line in reversed(lines) if line.strip()), ""),
    )


def can_fork() -> bool:
    """Tell whether a copy of this process may do the work, which saves the start of Python.

    Not where other threads may hold locks at that moment: those of this process, and those that
    Keras' backends start.
    """
    return (
        hasattr(os, "fork")
        and sys.platform != "darwin"
        and threading.active_count() == 1
        and not _SCARCELY_FORKED & set(sys.modules)
    )


def run_forked(work: Callable[[], bytes], *, seconds: float) -> Finished:
    """Run a function in a copy of this process, without input and with its messages kept back.

    Parameters
    ----------
    work : callable
        What to do; its answer is the output. An exception gives status 1.
    seconds : float
        After this time the copy is ended.

    Raises
    ------
    OSError
        The process cannot be copied.
    """
    reading, writing = os.pipe()
    # Ctrl-C in the middle of the copying would be lost in Python's own handlers around it.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns of any thread; those of NumPy's linear algebra are not used there.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            _answer_and_exit(work, writing)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    os.close(writing)
    status: int | None = None
    try:
        output, in_time = _read_all(reading, until=time.monotonic() + seconds)
        if in_time:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            child = 0
    finally:
        os.close(reading)
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return Finished(status=status, output=output, last_words="")


def _answer_and_exit(work: Callable[[], bytes], writing: int) -> None:
    """Do the work in the copy, and leave without what the original does at its end."""
    status = 1
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(work())
        status = 0
    finally:
        os._exit(status)


def _read_all(reading: int, *, until: float) -> tuple[bytes, bool]:
    """Read to the end, or as long as there is time."""
    parts: list[bytes] = []
    while (left := until - time.monotonic()) > 0:
        if not select.select([reading], [], [], left)[0]:
            break
        part = os.read(reading, 1 << 16)
        if not part:
            return b"".join(parts), True
        parts.append(part)
    return b"".join(parts), False
