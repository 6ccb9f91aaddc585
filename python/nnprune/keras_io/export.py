"""Models for other runtimes, LiteRT (`.tflite`) and ONNX, checked against Keras when made."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from nnprune.errors import ConfigError, ModelError
from nnprune.keras_io.config import ModelCalls, read_config
from nnprune.keras_io.export_check import LEAST_SAMPLES, Converted, largest_difference, precision
from nnprune.keras_io.export_litert import evaluate_litert, to_litert
from nnprune.keras_io.export_onnx import check_onnx_installed, evaluate_onnx, to_onnx
from nnprune.keras_io.export_trace import Traced, Unexportable, trace
from nnprune.keras_io.input_box import InputBox, default_box
from nnprune.keras_io.litert_runtime import litert_version
from nnprune.keras_io.rebuild import live_config
from nnprune.keras_io.save import check_output, write_atomically
from nnprune.keras_io.weights import LiveWeights
from nnprune.keras_io.wording import quoted, shown_path

__all__ = [
    "EXPORT_SUFFIXES",
    "Export",
    "ExportReport",
    "export_litert",
    "export_onnx",
    "save_export",
]

#: The formats that a model can be exported to, by suffix.
EXPORT_SUFFIXES = (".tflite", ".onnx")


@dataclass(frozen=True, kw_only=True)
class Export:
    """A model in another format, which gives what Keras gives.

    Attributes
    ----------
    data : bytes
        Contents of the file.
    format : {"litert", "onnx"}
        The format.
    largest_difference : float
        Largest absolute difference of an output from Keras' own, over all samples.
    samples : int
        Number of inputs that were compared.
    any_batch : bool
        Whether it takes any number of samples at a time; else it takes one. LiteRT takes one
        until `resize_tensor_input`.
    """

    data: bytes = field(repr=False)
    format: str
    largest_difference: float
    samples: int
    any_batch: bool


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """A model written in another format.

    Attributes
    ----------
    path : Path
        The file, absolute.
    bytes : int
        Its size.
    format, samples, largest_difference, any_batch
        As of `Export`.
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


def export_litert(
    model: keras.Model,
    *,
    input_box: InputBox | None = None,
    check_samples: int = 64,
    seed: int = 0,
) -> Export:
    """Convert a model to LiteRT, and compare the two.

    Parameters
    ----------
    model : keras.Model
        A built Sequential or Functional model.
    input_box : InputBox, optional
        Where the inputs to compare are drawn from; by default the model's default box.
    check_samples : int, default 64
        How many inputs are compared: a quarter of them corners of the box, the rest from all of
        it. At least 2.
    seed : int, default 0
        Seed of the random inputs.

    Returns
    -------
    Export
        The model in float32, with the signature `serving_default`.

    Raises
    ------
    MissingExtraError
        ai-edge-litert is not installed.
    BackendError
        Keras runs on another backend than TensorFlow.
    ModelError
        LiteRT has no equivalent for an operation, or the outputs differ by more than 1e-4 of
        their largest absolute value (2e-2 if the model computes with 16 bits).
    """
    litert_version()
    calls = _checked(model, check_samples)

    def trace_for(batch: int | None) -> Traced:
        return trace(model, calls, batch=batch)

    try:
        data, traced = to_litert(trace_for)
    except Unexportable as reason:
        raise _refused(model, "LiteRT", reason) from None
    made = Converted(data=data, traced=traced, format="litert", evaluate=evaluate_litert)
    return _finished(made, calls, input_box, check_samples, seed)


def export_onnx(
    model: keras.Model,
    *,
    input_box: InputBox | None = None,
    check_samples: int = 64,
    seed: int = 0,
    scale: float = 0.0,
) -> Export:
    """Convert a model to ONNX, and compare the two.

    Parameters
    ----------
    model, input_box, check_samples, seed
        As of `export_litert`.
    scale : float, default 0
        Size of the values that the outputs are differences of: rounding is in proportion to them.

    Returns
    -------
    Export
        The model; it takes any number of samples at a time.

    Raises
    ------
    MissingExtraError
        tf2onnx, onnx or onnxruntime is not installed.
    BackendError
        Keras runs on another backend than TensorFlow.
    ModelError
        ONNX has no equivalent for an operation, or the outputs differ by more than 1e-4 of their
        largest absolute value (2e-2 if the model computes with 16 bits).
    """
    check_onnx_installed()
    calls = _checked(model, check_samples)
    traced = trace(model, calls)
    try:
        data = to_onnx(traced)
    except Unexportable as reason:
        raise _refused(model, "ONNX", reason) from None
    made = Converted(data=data, traced=traced, format="onnx", evaluate=evaluate_onnx)
    return _finished(made, calls, input_box, check_samples, seed, scale)


def save_export(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    input_box: InputBox | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Convert a model to LiteRT or ONNX and write it to a file, wholly or not at all.

    Parameters
    ----------
    model : keras.Model
        A built Sequential or Functional model.
    path : str or path-like
        Where to write; the suffix, `.tflite` or `.onnx`, decides the format.
    input_box : InputBox, optional
        Where the inputs to compare are drawn from; by default the model's default box.
    overwrite : bool, default False
        Whether a file that is there may be replaced.

    Returns
    -------
    ExportReport
        What was written.

    Raises
    ------
    OutputError
        It cannot be written; what was there before is untouched.
    MissingExtraError, BackendError, ModelError
        It cannot be converted, see `export_litert` and `export_onnx`.
    """
    target = check_output(path, overwrite=overwrite, suffixes=EXPORT_SUFFIXES)
    convert = export_litert if target.suffix == ".tflite" else export_onnx
    export = convert(model, input_box=input_box)

    def write(temporary: Path) -> None:
        temporary.write_bytes(export.data)

    written = write_atomically(target, write, label=shown_path(path), overwrite=overwrite)
    return ExportReport(
        path=written,
        bytes=len(export.data),
        format=export.format,
        largest_difference=export.largest_difference,
        samples=export.samples,
        any_batch=export.any_batch,
    )


def _checked(model: keras.Model, check_samples: int) -> ModelCalls:
    if check_samples < LEAST_SAMPLES:
        raise ConfigError(f"check_samples: expected at least {LEAST_SAMPLES}, got {check_samples}")
    return read_config(live_config(model))


def _finished(
    made: Converted,
    calls: ModelCalls,
    input_box: InputBox | None,
    samples: int,
    seed: int,
    scale: float = 0.0,
) -> Export:
    box = default_box(calls, LiveWeights(made.traced.model)) if input_box is None else input_box
    return Export(
        data=made.data,
        format=made.format,
        largest_difference=largest_difference(made, box, samples=samples, seed=seed, scale=scale),
        samples=samples,
        any_batch=made.traced.batch is None,
    )


def _refused(model: keras.Model, form: str, reason: Unexportable) -> ModelError:
    odd = precision(model) - {"float32"}
    advice = f"; it computes in {', '.join(sorted(odd))}: rebuild it in float32" if odd else ""
    return ModelError(f"model {quoted(model.name)}: {form} cannot hold it, {reason}{advice}")
