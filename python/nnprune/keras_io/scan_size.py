"""Estimate how many parameters a configuration makes Keras allocate, before it does."""

from __future__ import annotations

import math
from typing import Any

from nnprune.errors import UntrustedModelError
from nnprune.keras_io.wording import quoted

__all__ = ["check_declared_parameters"]

# In a genuine file every parameter that is built is stored, int4 weights two to a number. Below 16
# million (64 MiB) nothing is harmed, whatever the file says.
_LARGEST_RATIO = 4
_ALWAYS_ALLOWED = 1 << 24

_SAME_SHAPE = frozenset(
    {
        "Activation",
        "BatchNormalization",
        "Dropout",
        "ELU",
        "GaussianDropout",
        "GaussianNoise",
        "Identity",
        "LayerNormalization",
        "LeakyReLU",
        "Normalization",
        "ReLU",
        "Rescaling",
        "Softmax",
    }
)

_Shape = list[int | None]


def check_declared_parameters(config: dict[str, Any], *, label: str, stored: int) -> None:
    """Refuse a configuration whose layers are far larger than the weights in the file.

    The estimate never exceeds what Keras builds. It follows the shapes the configuration records,
    and through dense layers, convolutions and layers that keep the shape also those it does not;
    a layer whose input is unknown counts with one input.

    Parameters
    ----------
    config : dict
        The serialized model.
    label : str
        How messages name the file.
    stored : int
        Numbers in the file's weights.

    Raises
    ------
    UntrustedModelError
        The layers would need many times the memory that the file can fill.
    """
    limit = _LARGEST_RATIO * stored + _ALWAYS_ALLOWED
    declared = 0
    waiting: list[object] = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(value)
        if not isinstance(value, dict):
            continue
        waiting.extend(value.values())
        for name, size in _layer_sizes(value):
            declared += size
            if declared > limit:
                raise UntrustedModelError(
                    f"{label}: layer {quoted(name)} brings the model to {declared} parameters, "
                    f"but the file holds {stored}; save the model anew with Keras"
                )


def _layer_sizes(model: dict[str, Any]) -> list[tuple[str, int]]:
    """Return name and parameters of the layers directly in `model`, if it is one."""
    inner = model.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else inner
    if not isinstance(layers, list):
        return []
    sizes: list[tuple[str, int]] = []
    shapes: dict[str, _Shape] = {}
    previous: _Shape = []
    for layer in layers:
        if not isinstance(layer, dict) or not isinstance(layer.get("config"), dict):
            continue
        settings = layer["config"]
        name = str(settings.get("name"))
        known = [*_recorded_shapes(layer), *_source_shapes(layer, shapes)]
        if "inbound_nodes" not in layer:
            known.append(previous)
        sizes.append((name, max((_parameters(layer, shape) for shape in known), default=0)))
        source = max(known, key=len, default=[])
        previous = shapes[name] = _output_shape(layer, source)
    return sizes


def _recorded_shapes(layer: dict[str, Any]) -> list[_Shape]:
    """Return the input shapes that the file states: for building, and of the tensors read."""
    build = layer.get("build_config")
    found = [_as_shape(build.get("input_shape"))] if isinstance(build, dict) else []
    waiting = [layer.get("inbound_nodes")]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, dict):
            if value.get("class_name") == "__keras_tensor__":
                tensor = value.get("config")
                found.append(_as_shape(tensor.get("shape")) if isinstance(tensor, dict) else [])
            else:
                waiting.extend(value.values())
    return found


def _source_shapes(layer: dict[str, Any], shapes: dict[str, _Shape]) -> list[_Shape]:
    """Return what was worked out for the layers that this one reads, in Keras 2's spelling."""
    nodes = layer.get("inbound_nodes")
    text = [nodes] if isinstance(nodes, list) else []
    found: list[_Shape] = []
    while text:
        for item in text.pop():
            if isinstance(item, list):
                text.append(item)
            elif isinstance(item, str) and item in shapes:
                found.append(shapes[item])
    return found


def _as_shape(value: object) -> _Shape:
    if isinstance(value, dict):  # {"class_name": "__tuple__", "items": [...]}
        value = value.get("items")
    if not isinstance(value, list):
        return []
    return [size if isinstance(size, int) and size >= 0 else None for size in value]


def _number(settings: dict[str, Any], key: str) -> int:
    value = settings.get(key)
    return int(value) if isinstance(value, int | float) and 1 <= value < 1e30 else 1


def _window(settings: dict[str, Any]) -> int:
    value = settings.get("kernel_size")
    sizes = value if isinstance(value, list) else [value]
    return math.prod(size for size in sizes if isinstance(size, int) and size > 0)


def _channels(settings: dict[str, Any], shape: _Shape) -> int:
    axis = 1 if settings.get("data_format") == "channels_first" else -1
    return (shape[axis] if len(shape) > 1 else None) or 1


def _parameters(layer: dict[str, Any], shape: _Shape) -> int:
    """Return a lower bound of the parameters of one layer that reads `shape`."""
    kind, settings = str(layer.get("class_name")), layer["config"]
    if kind == "Embedding":
        return _number(settings, "input_dim") * _number(settings, "output_dim")
    if "Conv" in kind and "LSTM" not in kind:
        inputs = _channels(settings, shape)
        if kind.startswith("Depthwise"):
            return _window(settings) * inputs * _number(settings, "depth_multiplier")
        if kind.startswith("Separable"):
            return inputs * max(_window(settings), _number(settings, "filters"))
        outputs = _number(settings, "filters")
        return _window(settings) * max(1, inputs // _number(settings, "groups")) * outputs
    if "units" in settings:
        units = _number(settings, "units")
        last = (shape[-1] if shape else None) or 1
        return units * (last if kind == "Dense" else last + units if _is_recurrent(kind) else 1)
    if kind == "MultiHeadAttention":
        return _number(settings, "num_heads") * _number(settings, "key_dim")
    return 0


def _is_recurrent(kind: str) -> bool:
    return kind in ("GRU", "LSTM", "SimpleRNN")


def _output_shape(layer: dict[str, Any], source: _Shape) -> _Shape:
    kind, settings = str(layer.get("class_name")), layer["config"]
    for key in ("batch_shape", "batch_input_shape"):
        if shape := _as_shape(settings.get(key)):
            source = shape
    if kind == "InputLayer" or kind in _SAME_SHAPE:
        return source
    if kind == "Flatten" and len(source) > 1 and None not in source[1:]:
        return [None, math.prod(size or 1 for size in source[1:])]
    if kind == "Dense":
        return [*(source[:-1] or [None]), _number(settings, "units")]
    if "Conv" in kind and "filters" in settings:
        unknown: _Shape = [None] * max(0, len(source) - 2)
        filters = _number(settings, "filters")
        first = settings.get("data_format") == "channels_first"
        return [None, filters, *unknown] if first else [None, *unknown, filters]
    return []
