"""Keep back what converters and runtimes of other packages say about their own affairs."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator

__all__ = ["silenced"]

_LOGGERS = ("absl", "tensorflow", "tf2onnx")


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Drop what is written to standard output and error, warnings and log messages among it.

    Their C++ parts write to the file descriptors, whatever the log level. What another thread
    writes meanwhile is lost, too, so nothing long should run inside that has anything to tell;
    exceptions get out as they are.
    """
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(_nowhere(1))
        stack.enter_context(_nowhere(2))
        # Notebooks and tests have streams that are not those of the process.
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        warnings.simplefilter("ignore")
        for name in levels:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def _nowhere(descriptor: int) -> Iterator[None]:
    """Point a file descriptor of the process to the null device."""
    stream = sys.stdout if descriptor == 1 else sys.stderr
    _flush(stream)
    try:
        original = os.dup(descriptor)
    except OSError:  # the process has no such output
        yield
        return
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)
        yield
    finally:
        _flush(stream)
        os.dup2(original, descriptor)
        os.close(original)


def _flush(stream: object) -> None:
    with contextlib.suppress(AttributeError, OSError, ValueError):  # None, or closed
        stream.flush()  # type: ignore[attr-defined]
