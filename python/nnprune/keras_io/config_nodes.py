"""The notations of Keras configurations: class names, shapes, tensor references, nodes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

__all__ = [
    "History",
    "Node",
    "build_shape",
    "class_name",
    "declared_shape",
    "fixed_shape",
    "graph_kind",
    "layer_name",
    "outputs_of",
    "read_node",
    "references",
    "sequential_input",
    "sequential_layers",
]


# Far beyond any real tensor of one sample, and still an array that fits into memory.
_MOST_ELEMENTS = 2**28


class History(NamedTuple):
    """A tensor as a configuration refers to it: layer, number of the call, of the output."""

    layer: str
    call: int
    output: int
    shape: tuple[int, ...] | None = None


class Node(NamedTuple):
    """One entry of `inbound_nodes`: the tensors and constants that a layer was called on.

    `keys` names the tensors where the layer was called on one dictionary of them.
    """

    tensors: list[History]
    keys: list[str] | None
    arguments: dict[str, Any]


def class_name(layer: Mapping[str, Any]) -> str:
    """Keras' class name, marked with its package where the class is not one of Keras' layers."""
    name, module = str(layer["class_name"]), layer.get("module")
    if module is None or module == "keras":
        return name
    if module.startswith(("keras.src.ops.", "keras.ops")):
        return f"ops.{name}"
    if module.startswith("keras."):
        return name
    return str(layer.get("registered_name") or f"{module}>{name}")


def graph_kind(layer: Mapping[str, Any]) -> str | None:
    """`"Sequential"` or `"Functional"` for a model whose layers are on record, else None."""
    name, config = class_name(layer), layer.get("config")
    if name == "Sequential" and isinstance(config, (dict, list)):
        return name
    if name in {"Functional", "Model"} and isinstance(config, dict) and "input_layers" in config:
        return "Functional"
    return None


def layer_name(layer: Mapping[str, Any]) -> str:
    """Name of a layer; older files keep it in the layer's own configuration only."""
    name = layer.get("name")
    return str(layer["config"]["name"] if name is None else name)


def fixed_shape(shape: Any) -> tuple[int, ...] | None:
    """Drop the batch axis of a shape; None where an axis is unknown."""
    if not isinstance(shape, (list, tuple)) or not shape:
        return None
    axes = shape[1:]
    known = all(type(axis) is int and axis > 0 for axis in axes)
    return tuple(axes) if known and math.prod(axes) <= _MOST_ELEMENTS else None


def build_shape(layer: Mapping[str, Any]) -> Any:
    """Read the shape that a layer was built on, where its configuration records it."""
    return (layer.get("build_config") or {}).get("input_shape")


def declared_shape(config: Mapping[str, Any]) -> Any:
    """Read the batch input shape that a layer states for itself, as input layers do."""
    shape = config.get("batch_shape")
    return config.get("batch_input_shape") if shape is None else shape


def references(structure: Any) -> Iterator[tuple[str, History]]:
    """Tensors of `input_layers` or `output_layers` with their dictionary keys ("" for none).

    Dictionaries are walked in the order of their sorted keys, as Keras flattens them.
    """

    def walk(part: Any, key: str) -> Iterator[tuple[str, History]]:
        if isinstance(part, dict):
            for inner_key in sorted(part):
                yield from walk(part[inner_key], inner_key)
        elif not isinstance(part, (list, tuple)):
            raise TypeError(f"{part!r} refers to no tensor")
        elif len(part) == 3 and isinstance(part[0], str):
            yield key, History(part[0], part[1], part[2])
        else:
            for inner in part:
                yield from walk(inner, key)

    return walk(structure, "")


def outputs_of(
    config: Mapping[str, Any], layers: Mapping[str, Mapping[str, Any]]
) -> Iterator[History]:
    """Find the tensors that are the outputs of a Functional model.

    Here Keras 3 numbers the calls of a Functional model from 1, and Keras 2 those of any model.
    """
    keras2 = any(isinstance(node, list) for one in layers.values() for node in _nodes(one))
    for _, history in references(config["output_layers"]):
        layer = layers[history.layer]
        kind, calls = graph_kind(layer), len(_nodes(layer))
        # A subclass of Functional is not told from a layer, but by the number that is too high.
        late = kind == "Functional" or (kind is not None and keras2) or history.call >= calls
        yield history._replace(call=history.call - 1 if late and history.call else history.call)


def _nodes(layer: Mapping[str, Any]) -> Sequence[Any]:
    nodes: Sequence[Any] = layer.get("inbound_nodes") or ()
    return nodes


def read_node(node: Any, models: Set[str]) -> Node:
    """One entry of `inbound_nodes`, in the notation of Keras 3 or of Keras 2.

    `models` names the nested models: Keras 2 numbers their calls from 1.
    """
    if isinstance(node, dict):
        return _read_keras3_node(node["args"], node["kwargs"])
    if node and isinstance(node[0], str):  # a single tensor without the list around it
        node = [node]
    tensors: list[History] = []
    arguments: dict[str, Any] = {}
    for layer, call, output, *constants in node:
        tensors.append(History(layer, call - 1 if layer in models and call else call, output))
        for found in constants:
            arguments.update(found)
    return Node(tensors, None, arguments)


def _read_keras3_node(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Node:
    first = args[0] if args else None
    keys = None
    if isinstance(first, dict) and "class_name" not in first:
        keys = sorted(first)
    tensors = list(_tensors(args))
    arguments: dict[str, Any] = {}
    for name in sorted(kwargs):
        found = list(_tensors(kwargs[name]))
        tensors.extend(found)
        if not found and kwargs[name] is not None:
            arguments[name] = kwargs[name]
    positional = [None if any(_tensors(argument)) else argument for argument in args]
    if any(argument is not None for argument in positional):
        arguments["args"] = positional
    return Node(tensors, keys, arguments)


def _tensors(value: Any) -> Iterator[History]:
    """Every tensor inside the arguments of a call, in the order Keras flattens them."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            config = value["config"]
            layer, call, output = config["keras_history"]
            yield History(layer, call, output, fixed_shape(config.get("shape")))
        else:
            for key in sorted(value):
                yield from _tensors(value[key])
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def sequential_layers(model: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Layers of a Sequential model; the oldest files hold nothing but their list."""
    config = model["config"]
    layers: list[Mapping[str, Any]] = config if isinstance(config, list) else config["layers"]
    return layers


def sequential_input(model: Mapping[str, Any]) -> tuple[str, Any]:
    """Name and batch shape of a Sequential model's input; shape None if it is not on record."""
    layers = sequential_layers(model)
    first: Mapping[str, Any] = layers[0] if layers else {"class_name": "", "config": {}}
    config = first["config"]
    if class_name(first) == "InputLayer":
        return layer_name(first), declared_shape(config)
    if graph_kind(first) == "Sequential":
        return sequential_input(first)
    if graph_kind(first) == "Functional":
        inner = {layer_name(layer): layer for layer in config["layers"]}
        _, history = next(references(config["input_layers"]))
        return history.layer, declared_shape(inner[history.layer]["config"])
    recorded = (
        None if isinstance(model["config"], list) else model["config"].get("build_input_shape")
    )
    for shape in (recorded, build_shape(model), declared_shape(config)):
        if shape is not None:
            return "input", shape
    return "input", None
