"""The LiteRT runtime: opening models with it. Imports neither Keras nor TensorFlow."""

from __future__ import annotations

from typing import Any

from nnprune.errors import MissingExtraError, ModelError
from nnprune.keras_io.silence import silenced
from nnprune.keras_io.wording import one_line

__all__ = ["interpreter", "litert_version"]


def litert_version() -> str:
    """Return the version of the installed runtime.

    Raises
    ------
    MissingExtraError
        The runtime is not installed.
    """
    return str(_package().__version__)


def interpreter(data: bytes) -> Any:
    """Open a LiteRT model on one thread of the processor, tensors allocated.

    Raises
    ------
    MissingExtraError
        The runtime is not installed.
    ModelError
        The bytes are no model that it can run.
    """
    package = _package()
    try:
        with silenced():
            opened = package.interpreter.Interpreter(model_content=data, num_threads=1)
            opened.allocate_tensors()
    except (RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"LiteRT cannot run the model ({one_line(error)})") from error
    return opened


def _package() -> Any:
    try:
        with silenced():
            import ai_edge_litert.interpreter
    except ImportError as error:
        raise MissingExtraError(
            "LiteRT models need the package ai-edge-litert: pip install 'nnprune-rs[litert]' "
            f"({one_line(error)})"
        ) from error
    return ai_edge_litert
