"""What a process does before its first cell: share the cores, and end with its parent."""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from dataclasses import dataclass, field

from nnprune.parallelism import VARIABLES

__all__ = ["Home", "settle"]

# Otherwise the first process on a GPU takes all of its memory.
_SHARED_GPU = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
_POLL_SECONDS = 1.0

_settled = False


@dataclass(frozen=True, kw_only=True)
class Home:
    """The process that has started a sweep.

    Attributes
    ----------
    node : str
        Its machine.
    pid : int
        Its number there.
    threads : int or None
        How many threads each process that it starts is to have; None if nobody has said.
    """

    node: str = field(default_factory=platform.node)
    pid: int = field(default_factory=os.getpid)
    threads: int | None = field(default=None, compare=False)


def settle(home: Home) -> None:
    """Prepare a process for the cells of a sweep; the one that has started it is left as it is.

    Environment variables that are set already are left alone, but where a number was asked for.
    """
    global _settled
    if _settled or home == Home():
        return
    _settled = True
    for name, value in _SHARED_GPU.items():
        os.environ.setdefault(name, value)
    local = home.node == platform.node() and os.getppid() == home.pid
    if local and home.threads is not None:
        os.environ.update(dict.fromkeys(VARIABLES, str(home.threads)))
    elif (threads := _own_cores()) is not None:
        for name in VARIABLES:
            os.environ.setdefault(name, str(threads))
    if local:
        _follow(home.pid)


def _own_cores() -> int | None:
    """Return how many cores this process is meant to use; None if nobody has said."""
    if "distributed" in sys.modules:
        from distributed import get_worker

        try:
            return int(get_worker().state.nthreads)
        except ValueError:  # Dask is there, but this is no worker of it
            pass
    # joblib gives every process its share of the cores in this variable.
    words = os.environ.get("OMP_NUM_THREADS", "").split(",")
    return int(words[0]) if words[0].isdecimal() and int(words[0]) > 0 else None


def _follow(parent: int) -> None:
    """End when the parent has been killed: nobody waits for this process any more."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="nnprune-parent", daemon=True).start()
