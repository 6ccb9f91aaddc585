"""`export`: a model as LiteRT or ONNX, checked against what Keras computes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from nnprune.keras_io.opened import input_box_of, open_model

if TYPE_CHECKING:
    import keras

    from nnprune.keras_io.export import ExportReport

__all__ = ["export"]


def export(
    model: str | os.PathLike[str] | keras.Model,
    path: str | os.PathLike[str],
    *,
    input_bounds: Any = None,
    overwrite: bool = False,
    trust: bool = False,
) -> ExportReport:
    """Write a model as LiteRT or ONNX, and compare its outputs with Keras' own.

    Parameters
    ----------
    model : path-like or keras.Model
        A `.keras` or `.h5` file, or a built Sequential or Functional model.
    path : path-like
        The file to write: `.tflite` (needs the extra `litert`) or `.onnx` (the extra `onnx`).
    input_bounds : optional
        The legitimate inputs, as for `prune`, from which the inputs to compare are drawn.
    overwrite : bool, default False
        Whether a file that is there may be replaced.
    trust : bool, default False
        Open a file although it could run code: only for files whose author you trust.

    Returns
    -------
    ExportReport
        What was written, and how well it agrees.

    Raises
    ------
    OutputError
        The file cannot be written; what was there before is untouched.
    MissingExtraError
        The extra is not installed.
    BackendError
        Keras runs on a backend that cannot export.
    ModelError
        The format has no equivalent for an operation, or the outputs disagree.
    """
    from nnprune.keras_io.save import check_output

    check_output(path, overwrite=overwrite, suffixes=(".tflite", ".onnx"))
    opened = open_model(model, trust=trust)
    box = input_box_of(opened, input_bounds)
    from nnprune.keras_io.export import save_export

    return save_export(opened.model, path, input_box=box, overwrite=overwrite)
