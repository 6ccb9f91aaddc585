"""Layers without weights: pooling, padding, shapes, merging, and those that do nothing."""

from __future__ import annotations

import math
from typing import Any

from nnprune.keras_io.config import LayerCall
from nnprune.keras_io.layers.context import Conversion, Converter, require

__all__ = ["CONVERTERS", "resolved_shape"]


def _input(call: LayerCall, conversion: Conversion) -> str:
    conversion.builder.input(call.name, tuple(call.config["batch_shape"][1:]))
    return call.name


def _identity(call: LayerCall, conversion: Conversion) -> str:
    require(call.arguments.get("training") is not True, "it is called with training=True")
    conversion.builder.identity(call.name, conversion.source(call))
    return call.name


def _squeeze(call: LayerCall, conversion: Conversion) -> str:
    shape = conversion.source_shape(call)
    at = _place(call, len(shape))
    require(shape[at] == 1, "it takes away an axis that is no 1")
    conversion.builder.reshape(call.name, conversion.source(call), (*shape[:at], *shape[at + 1 :]))
    return call.name


def _expand(call: LayerCall, conversion: Conversion) -> str:
    shape = conversion.source_shape(call)
    at = _place(call, len(shape) + 1)
    conversion.builder.reshape(call.name, conversion.source(call), (*shape[:at], 1, *shape[at:]))
    return call.name


def _place(call: LayerCall, axes: int) -> int:
    """Which of so many axes, the batch left out, an operation is about."""
    axis = call.config.get("axis")
    require(isinstance(axis, int), "its axis is no single number")
    place = int(axis or 0) - 1 if (axis or 0) >= 0 else int(axis or 0) + axes
    require(0 <= place < axes, "its axis is the batch axis")
    return place


def _pool(call: LayerCall, conversion: Conversion) -> str:
    config, source = call.config, conversion.source(call)
    _require_channels_last(call, conversion)
    size = _per_axis(config["pool_size"], call)
    strides = config.get("strides")
    conversion.builder.pool(
        call.name,
        source,
        "max" if call.class_name.startswith("Max") else "average",
        window=size,
        strides=size if strides is None else _per_axis(strides, call),
        padding=config["padding"],
    )
    return call.name


def _global_pool(call: LayerCall, conversion: Conversion) -> str:
    source = conversion.source(call)
    _require_channels_last(call, conversion)
    if call.class_name == "GlobalAveragePooling1D":
        require(call.sources[0] not in conversion.masked, "it may read a mask")
    kind = "max" if call.class_name.startswith("GlobalMax") else "average"
    keepdims = bool(call.config.get("keepdims"))
    conversion.builder.global_pool(call.name, source, kind, keepdims=keepdims)
    return call.name


def _zero_padding(call: LayerCall, conversion: Conversion) -> str:
    source, padding = conversion.source(call), call.config["padding"]
    _require_channels_last(call, conversion)
    rank = _rank(call)
    if isinstance(padding, int):
        padding = [padding] * (2 if rank == 1 else rank)
    if rank == 1:
        padding = [padding]
    amounts = [(n, n) if isinstance(n, int) else (int(n[0]), int(n[1])) for n in padding]
    conversion.builder.zero_padding(call.name, source, amounts)
    return call.name


def _flatten(call: LayerCall, conversion: Conversion) -> str:
    source, shape = conversion.source(call), conversion.source_shape(call)
    first = call.config.get("data_format") == "channels_first" and len(shape) > 1
    require(not first, "its channels come first")
    conversion.builder.reshape(call.name, source, (math.prod(shape),))
    return call.name


def _reshape(call: LayerCall, conversion: Conversion) -> str:
    source, shape = conversion.source(call), conversion.source_shape(call)
    target = resolved_shape(call.config["target_shape"], shape)
    conversion.builder.reshape(call.name, source, target)
    return call.name


def resolved_shape(target: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Replace the -1 of a target shape by what is left of the elements of `shape`."""
    known = math.prod(axis for axis in target if axis != -1)
    return tuple(math.prod(shape) // known if axis == -1 else axis for axis in target)


def _add(call: LayerCall, conversion: Conversion) -> str:
    # An .h5 file does not tell Keras' operation Add, which takes numbers too, from the layer.
    require("args" not in call.arguments, "it adds a constant")
    sources = conversion.sources(call)
    shapes = {conversion.builder.shape(source) for source in sources}
    require(len(shapes) == 1, f"it adds tensors of different shapes {sorted(shapes)}")
    conversion.builder.add(call.name, sources)
    return call.name


def _concatenate(call: LayerCall, conversion: Conversion) -> str:
    sources, axis = conversion.sources(call), int(call.config.get("axis", -1))
    rank = len(conversion.builder.shape(sources[0]))
    # Keras counts the batch axis. From the end on, both count alike.
    from_end = axis if axis < 0 else axis - rank - 1
    require(-rank <= from_end, "it concatenates batches")
    conversion.builder.concatenate(call.name, sources, from_end)
    return call.name


def _require_channels_last(call: LayerCall, conversion: Conversion) -> None:
    require(call.config.get("data_format") != "channels_first", "its channels come first")
    shape = conversion.source_shape(call)
    require(len(shape) == _rank(call) + 1, f"it cannot read an input of shape {shape}")


def _rank(call: LayerCall) -> int:
    """Read the number of spatial axes off the class name, as in `MaxPooling2D`."""
    return int(call.class_name[-2])


def _per_axis(value: Any, call: LayerCall) -> tuple[int, ...]:
    return (value,) * _rank(call) if isinstance(value, int) else tuple(value)


_IDENTITIES = (
    "ActivityRegularization",
    "AlphaDropout",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
)

CONVERTERS: dict[str, Converter] = {
    "Add": _add,
    "Concatenate": _concatenate,
    "Flatten": _flatten,
    "InputLayer": _input,
    "Reshape": _reshape,
    "ops.Concatenate": _concatenate,
    "ops.ExpandDims": _expand,
    "ops.Squeeze": _squeeze,
    **dict.fromkeys(_IDENTITIES, _identity),
    **{f"ZeroPadding{rank}D": _zero_padding for rank in (1, 2, 3)},
    **{f"{kind}Pooling{rank}D": _pool for rank in (1, 2, 3) for kind in ("Max", "Average")},
    **{
        f"Global{kind}Pooling{rank}D": _global_pool
        for rank in (1, 2, 3)
        for kind in ("Max", "Average")
    },
}
