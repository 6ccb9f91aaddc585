"""On how many threads the work is done: the one rule for engine, Keras' backend and sweeps.

The engine has what `set_threads` was told, else `RAYON_NUM_THREADS`, else one thread for each core
that the process may use. No result depends on it.
"""

from __future__ import annotations

import os

from nnprune import _core
from nnprune.errors import ConfigError

__all__ = ["VARIABLES", "asked_threads", "set_threads", "threads", "use_threads"]

#: The engine's, and those of TensorFlow's two pools; each is read once, for the first work.
VARIABLES = ("RAYON_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
# Those of PyTorch and of NumPy's matrix products, read when they are imported.
_MATRICES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")

# Far more than there are cores to run them; the core has the same limit.
_MOST = 4096
_asked: int | None = None


def set_threads(count: int) -> None:
    """Say on how many threads the engine of this process computes.

    The threads are made once, for the engine's first work. TensorFlow has pools of its own
    (`tf.config.threading`), and does not compute at the same time; the option `--threads` of the
    command line sets these, too.

    Parameters
    ----------
    count : int
        How many, from 1 to 4096.

    Raises
    ------
    ConfigError
        It is no such number, or the threads are there already and are not so many.
    """
    global _asked
    whole = hasattr(count, "__index__") and not isinstance(count, bool)
    if not whole or not 1 <= int(count) <= _MOST:
        raise ConfigError(f"threads: expected an integer from 1 to {_MOST}, got {count!r}")
    _core.set_threads(int(count))
    _asked = int(count)


def threads() -> int:
    """Return on how many threads the engine of this process computes, or will.

    Returns
    -------
    int

    Raises
    ------
    ConfigError
        `RAYON_NUM_THREADS` is no number of threads.
    """
    return _core.threads()


def asked_threads() -> int | None:
    """Return what `set_threads` was told; None if nothing."""
    return _asked


def use_threads(count: int | None) -> None:
    """Let all that computes have so many threads, in a process that has only begun.

    Parameters
    ----------
    count : int or None
        How many; None to leave each library to its own rule.

    Raises
    ------
    ConfigError
        As by `set_threads`.
    """
    if count is None:
        return
    set_threads(count)
    os.environ.update(dict.fromkeys((*VARIABLES, *_MATRICES), str(count)))
