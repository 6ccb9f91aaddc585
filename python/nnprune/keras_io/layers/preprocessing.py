"""Rescaling and Normalization, and the constants in arithmetic without a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nnprune.keras_io.config import LayerCall
from nnprune.keras_io.layers.context import Conversion, Converter, Unfollowable, require
from nnprune.keras_io.weights import WeightProvider

__all__ = ["CONVERTERS", "Affine", "normalization", "read_array", "rescaling"]

# Keras' default `keras.config.epsilon()`: the least deviation that Normalization divides by.
_LEAST_DEVIATION = 1e-7


class Affine(NamedTuple):
    """`y = scale x + offset`, both of length 1 or one entry for each element of the last axis."""

    scale: NDArray[np.float64]
    offset: NDArray[np.float64]


def read_array(value: Any) -> NDArray[np.float64]:
    """Read a number or list, or a serialized NumPy array."""
    if isinstance(value, Mapping):
        value = value["config"]["value"]
    return np.asarray(value, np.float64)


def rescaling(config: Mapping[str, Any], shape: tuple[int, ...]) -> Affine:
    """Scale and offset of a Rescaling layer.

    Raises
    ------
    Unfollowable
        They vary along another axis than the last.
    """
    scale, offset = read_array(config["scale"]), read_array(config.get("offset", 0.0))
    return Affine(_along_last_axis(scale, shape), _along_last_axis(offset, shape))


def normalization(
    call: LayerCall, shape: tuple[int, ...], weights: WeightProvider
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of a Normalization layer, of length 1 or that of the last axis.

    Raises
    ------
    Unfollowable
        They vary along another axis than the last, or are missing.
    """
    config = call.config
    axis = config.get("axis", -1)
    axes = [axis] if isinstance(axis, int) else list(axis or ())
    require(axes in ([], [-1], [len(shape)]), f"its axis is {axis}, not the last one")
    if config.get("mean") is not None:
        mean, variance = read_array(config["mean"]), read_array(config["variance"])
    else:
        expected = (shape[-1],) if axes else ()
        found = weights(call.layer, ["mean", "variance"], [expected, expected])
        if found is None:
            raise Unfollowable("it has no mean and variance of its input's shape")
        mean, variance = (array.astype(np.float64) for array in found)
    deviation = np.maximum(np.sqrt(variance), _LEAST_DEVIATION)
    return _along_last_axis(mean, shape), _along_last_axis(deviation, shape)


def _along_last_axis(array: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    flat = array.reshape(-1)
    last = shape[-1] if shape else 1
    along = flat.size == 1 or (flat.size == last and array.shape[-1] == last)
    require(along, "its numbers vary along another axis than the last")
    return flat


def _rescaling(call: LayerCall, conversion: Conversion) -> str:
    source, shape = conversion.source(call), conversion.source_shape(call)
    affine = rescaling(call.config, shape)
    conversion.builder.affine(call.name, source, scale=affine.scale, offset=affine.offset)
    return call.name


def _normalization(call: LayerCall, conversion: Conversion) -> str:
    source, shape = conversion.source(call), conversion.source_shape(call)
    mean, deviation = normalization(call, shape, conversion.weights)
    if call.config.get("invert"):
        scale, offset = deviation, mean
    else:
        scale, offset = 1.0 / deviation, -mean / deviation
    conversion.builder.affine(call.name, source, scale=scale, offset=offset)
    return call.name


def _arithmetic(call: LayerCall, conversion: Conversion) -> str:
    """Add an operation on a tensor and a number: `2 * x`, `x - 1`, `1 - x`, `x / 255`."""
    source = conversion.source(call)
    constants = call.arguments.get("args", [None])
    numbers = [value for value in constants if isinstance(value, (int, float))]
    require(
        len(constants) == 2 and len(numbers) == 1,
        "it is not an operation on one tensor and one number",
    )
    number, tensor_first = float(numbers[0]), constants[0] is None
    match call.class_name:
        case "ops.Add":
            scale, offset = 1.0, number
        case "ops.Subtract":
            scale, offset = (1.0, -number) if tensor_first else (-1.0, number)
        case "ops.Multiply":
            scale, offset = number, 0.0
        case _:
            require(tensor_first, "it divides by a tensor")
            require(number != 0.0, "it divides by zero")
            scale, offset = 1.0 / number, 0.0
    conversion.builder.affine(call.name, source, scale=np.array([scale]), offset=np.array([offset]))
    return call.name


def _add_operation(call: LayerCall, conversion: Conversion) -> str:
    """Add the sum of two tensors, or of a tensor and a number."""
    if len(call.sources) == 1 and "args" in call.arguments:
        return _arithmetic(call, conversion)
    sources = conversion.sources(call)
    shapes = {conversion.builder.shape(source) for source in sources}
    require(len(shapes) == 1, f"it adds tensors of different shapes {sorted(shapes)}")
    conversion.builder.add(call.name, sources)
    return call.name


CONVERTERS: dict[str, Converter] = {
    "Normalization": _normalization,
    "Rescaling": _rescaling,
    "ops.Add": _add_operation,
    "ops.Divide": _arithmetic,
    "ops.Multiply": _arithmetic,
    "ops.Subtract": _arithmetic,
    "ops.TrueDivide": _arithmetic,
}
