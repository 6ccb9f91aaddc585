"""Start Keras' backend without the messages that it prints before its log level is in force."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

__all__ = ["quiet_start"]

_ERRORS_ONLY = ("2", "3")


@contextlib.contextmanager
def quiet_start() -> Iterator[None]:
    """Hold back what goes to standard error while Keras is imported for the first time.

    TensorFlow's C++ parts complain there about missing GPUs whatever `TF_CPP_MIN_LOG_LEVEL` says.
    Only where that variable asks for silence (the command line sets it) is anything held back; if
    the import fails, it is shown after all.
    """
    wanted = os.environ.get("TF_CPP_MIN_LOG_LEVEL") in _ERRORS_ONLY
    if not wanted or "keras" in sys.modules:
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        try:
            original = os.dup(2)
        except OSError:  # no standard error at all
            yield
            return
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            os.dup2(original, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)
