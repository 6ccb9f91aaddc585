"""Whether an exported model gives what Keras gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from nnprune.errors import ModelError
from nnprune.keras_io.box_samples import corners, inside
from nnprune.keras_io.export_trace import Traced
from nnprune.keras_io.input_box import InputBox
from nnprune.keras_io.wording import one_line, quoted

__all__ = ["LEAST_SAMPLES", "Converted", "largest_difference", "largest_value", "precision"]

#: The lowest and the highest corner of the input box.
LEAST_SAMPLES = 2

# Differences allowed, as a fraction of the largest absolute value of the output; where Keras
# computes with 16 bits the runtimes may round elsewhere. Next to nothing is always allowed.
_TOLERANCE = 1e-4
_TOLERANCE_16_BITS = 2e-2
_NOTHING = 1e-6
_16_BITS = frozenset({"bfloat16", "float16"})

_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A converted model.

    Attributes
    ----------
    data
        Contents of the file.
    traced
        What it was converted from.
    format
        Name of the format.
    evaluate
        Runs it: takes `data`, `traced` and the inputs, gives the outputs, both in Keras' order.
    """

    data: bytes
    traced: Traced
    format: str
    evaluate: Callable[[bytes, Traced, Sequence[NDArray[Any]]], list[NDArray[np.float64]]]


def largest_difference(
    made: Converted, box: InputBox, *, samples: int, seed: int, scale: float = 0.0
) -> float:
    """Run a converted model and the original on the same inputs.

    Parameters
    ----------
    made : Converted
        The model.
    box : InputBox
        Where inputs are drawn from: a quarter are corners, the rest is from all of it.
    samples : int
        How many, at least `LEAST_SAMPLES`.
    seed : int
        Seed of the random stream.
    scale : float, default 0
        Size of the values that outputs are computed of, where these may be much smaller.

    Returns
    -------
    float
        Largest absolute difference between outputs.

    Raises
    ------
    ModelError
        An output differs by more than 1e-4 of its largest absolute value (2e-2 if the model
        computes with 16 bits), or one of the two cannot be run.
    """
    model = made.traced.model
    inputs = _drawn(model, box, samples, seed)
    try:
        expected = _evaluate_keras(model, inputs)
        found = made.evaluate(made.data, made.traced, inputs)
    except Exception as error:  # Keras and the runtimes raise many kinds
        raise ModelError(
            f"model {quoted(model.name)}: its {made.format} file cannot be checked on inputs from "
            f"the input box ({one_line(error)})"
        ) from error
    pairs = zip(made.traced.outputs, expected, found, strict=True)
    return max(_difference(model, made.format, *pair, least_scale=scale) for pair in pairs)


def largest_value(model: keras.Model, box: InputBox, *, samples: int, seed: int) -> float:
    """Find the largest absolute value that Keras gives on the inputs of `largest_difference`."""
    outputs = _evaluate_keras(model, _drawn(model, box, samples, seed))
    return max(float(np.max(np.abs(one[np.isfinite(one)]), initial=0.0)) for one in outputs)


def precision(model: keras.Model) -> set[str]:
    """Name the kinds of numbers that the layers compute in."""
    kinds = {str(getattr(layer, "compute_dtype", "")) for layer in model._flatten_layers()}
    return {kind for kind in kinds if "float" in kind}


def _drawn(model: keras.Model, box: InputBox, samples: int, seed: int) -> list[NDArray[Any]]:
    """Draw inputs in Keras' order: corners of the box, then points of it."""
    random = np.random.default_rng(seed)
    at_corners = max(LEAST_SAMPLES, samples // 4)
    drawn: list[NDArray[Any]] = []
    for tensor, lower, upper in zip(_inputs(model), box.lower, box.upper, strict=True):
        dtype = str(tensor.dtype)
        ends = corners(lower, upper, count=at_corners, dtype=dtype, random=random)
        within = inside(lower, upper, count=samples - at_corners, dtype=dtype, random=random)
        drawn.append(np.concatenate([ends, within]))
    return drawn


def _inputs(model: keras.Model) -> list[Any]:
    sequential = isinstance(model, keras.Sequential)
    return list(keras.tree.flatten(model.inputs if sequential else model.input))


def _evaluate_keras(
    model: keras.Model, inputs: Sequence[NDArray[Any]]
) -> list[NDArray[np.float64]]:
    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    parts = []
    for start in range(0, len(inputs[0]), _BATCH):
        batch = [one[start : start + _BATCH] for one in inputs]
        outputs = model(keras.tree.pack_sequence_as(structure, batch), training=False)
        parts.append([keras.ops.cast(one, "float32") for one in keras.tree.flatten(outputs)])
    return [
        np.concatenate([np.asarray(keras.ops.convert_to_numpy(one), np.float64) for one in part])
        for part in zip(*parts, strict=True)
    ]


def _difference(
    model: keras.Model,
    form: str,
    output: str,
    expected: NDArray[np.float64],
    found: NDArray[np.float64],
    *,
    least_scale: float = 0.0,
) -> float:
    """Compare one output; the largest absolute difference."""
    if expected.shape != found.shape:
        raise ModelError(
            f"model {quoted(model.name)}: output {quoted(output)} of its {form} file has the shape "
            f"{found.shape} instead of {expected.shape}"
        )
    # Infinities and NaN of both count as equal.
    same = (expected == found) | (np.isnan(expected) & np.isnan(found))
    with np.errstate(invalid="ignore"):
        gaps = np.where(same, 0.0, np.abs(expected - found))
    largest = float(np.max(gaps, initial=0.0))
    finite = expected[np.isfinite(expected)]
    scale = float(np.max(np.abs(finite), initial=least_scale))
    tolerance = _TOLERANCE_16_BITS if precision(model) & _16_BITS else _TOLERANCE
    if not largest <= _NOTHING + tolerance * scale:  # NaN too
        raise ModelError(
            f"model {quoted(model.name)}: output {quoted(output)} of its {form} file differs from "
            f"Keras' by up to {largest:.3g} at values of up to {scale:.3g}; it was not exported"
        )
    return largest
