"""`export`: a model as LiteRT or ONNX, checked against what Keras computes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnprune.keras_io.opened import input_box_of, open_model

if TYPE_CHECKING:
    import keras

__all__ = ["ExportReport", "export"]


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """A model written in another format.

    Attributes
    ----------
    path : Path
        The file, absolute.
    format : {"litert", "onnx"}
        Its format.
    bytes : int
        Its size.
    samples : int
        Inputs from the box on which the file was compared with the Keras model.
    largest_difference : float
        Largest absolute difference of an output on them.
    any_batch : bool
        Whether it takes any number of samples at a time; else it takes one.
    """

    path: Path
    format: str
    bytes: int
    samples: int
    largest_difference: float
    any_batch: bool

    def summary(self) -> str:
        """Tell in two lines what was written."""
        return (
            f"written to {self.path} ({self.bytes:,} bytes)\n"
            f"its outputs differ from Keras' by at most {self.largest_difference:.2g}"
            f" on {self.samples} inputs"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {**vars(self), "path": str(self.path)}


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

    written = save_export(opened.model, path, input_box=box, overwrite=overwrite)
    return ExportReport(
        path=written.path,
        format=written.format,
        bytes=written.bytes,
        samples=written.samples,
        largest_difference=written.largest_difference,
        any_batch=written.any_batch,
    )
