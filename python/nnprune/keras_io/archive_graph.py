"""Models that are plain graphs of known layers, in the order in which Keras writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nnprune.keras_io.archive_compile import is_known_setting
from nnprune.keras_io.archive_layers import is_known
from nnprune.keras_io.archive_values import (
    batch_shape,
    constant,
    flag,
    float32_policy,
    matches,
    off,
    on,
)
from nnprune.keras_io.archive_values import name as is_name
from nnprune.keras_io.config_nodes import references, sequential_layers

__all__ = ["is_plain_model", "tensors_read"]

Layer = Mapping[str, Any]

_KEYS = frozenset({"module", "class_name", "config", "registered_name"})


def is_plain_model(model: Mapping[str, Any]) -> bool:
    """Whether a model is a graph of known layers, each called once, none of them a model.

    Parameters
    ----------
    model
        What stands in `config.json`, in the form that Keras 3.15 gives it.
    """
    return is_known_setting(model.get("compile_config")) and (
        _is_plain_sequential(model) or _is_plain_functional(model)
    )


def tensors_read(layer: Layer) -> list[dict[str, Any]]:
    """Give the descriptions of the tensors that a layer of a plain Functional model reads."""
    return [tensor for node in layer["inbound_nodes"] for tensor in _flat(node["args"])]


def _is_plain_sequential(model: Mapping[str, Any]) -> bool:
    built = {"input_shape": lambda shape: shape == model["config"]["build_input_shape"]}
    if not matches(
        model,
        {
            "module": constant("keras"),
            "class_name": constant("Sequential"),
            "config": _is_sequential_config,
            "registered_name": constant(None),
            "build_config": lambda config: matches(config, built),
            "compile_config": is_known_setting,
        },
    ):
        return False
    first, *others = sequential_layers(model)
    names = [layer["config"]["name"] for layer in (first, *others)]
    return (
        bool(others)
        and len(set(names)) == len(names)
        and first["class_name"] == "InputLayer"
        and first["config"]["batch_shape"] == model["config"]["build_input_shape"]
        and all(layer["class_name"] != "InputLayer" for layer in others)
    )


def _is_sequential_config(config: Any) -> bool:
    def are_layers(layers: Any) -> bool:
        return isinstance(layers, list) and bool(layers) and all(map(_is_layer, layers))

    entries = {
        "name": is_name,
        "trainable": on,  # Keras does not read it back
        "dtype": float32_policy,
        "layers": are_layers,
        "build_input_shape": batch_shape,
    }
    return matches(config, entries)


def _is_layer(layer: Any) -> bool:
    return is_known(layer) and layer.keys() - {"build_config"} == _KEYS


def _is_plain_functional(model: Mapping[str, Any]) -> bool:
    return matches(
        model,
        {
            "module": constant("keras.src.models.functional"),
            "class_name": constant("Functional"),
            "config": _is_functional_config,
            "registered_name": constant("Functional"),
            "build_config": lambda config: config == {"input_shape": None},
            "compile_config": is_known_setting,
        },
    )


def _is_functional_config(config: Any) -> bool:
    def are_layers(layers: Any) -> bool:
        return isinstance(layers, list) and all(map(_is_graph_layer, layers))

    entries = {
        "name": is_name,
        "trainable": flag,
        "layers": are_layers,
        "input_layers": _refers_to_first_calls,
        "output_layers": _refers_to_first_calls,
    }
    return matches(config, entries) and _is_in_order(config)


def _is_graph_layer(layer: Any) -> bool:
    """Whether a layer is known, and called once on a tensor or on a list of tensors."""
    if not is_known(layer):
        return False
    if layer.keys() - {"build_config"} != _KEYS | {"name", "inbound_nodes"}:
        return False
    nodes = layer["inbound_nodes"]
    if layer["name"] != layer["config"]["name"] or not isinstance(nodes, list):
        return False
    if layer["class_name"] == "InputLayer":
        return nodes == []
    if len(nodes) != 1 or not _is_node(nodes[0], layer["class_name"]):
        return False
    return layer["class_name"] != "Concatenate" or _has_its_axis(layer)


_READ_MANY = frozenset({"Add", "Concatenate"})

# Keras writes these arguments of their calls whether they were given or not.
_TAKE_A_MASK = frozenset({"BatchNormalization", "GlobalAveragePooling1D", "Softmax"})
_HAVE_A_MODE = frozenset(
    {
        "AlphaDropout",
        "Dropout",
        "GaussianDropout",
        "GaussianNoise",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
    }
)


def _has_its_axis(layer: Layer) -> bool:
    """Whether the axis of a Concatenate layer is there, and not that of the samples."""
    ranks = {len(tensor["config"]["shape"]) for tensor in tensors_read(layer)}
    axis = layer["config"]["axis"]
    return all(-rank < axis < rank and axis != 0 for rank in ranks)


def _is_node(node: Any, kind: str) -> bool:
    """Whether a layer of this class is called as Keras writes a call."""
    if not isinstance(node, dict) or node.keys() != {"args", "kwargs"}:
        return False
    options, arguments = node["kwargs"], node["args"]
    expected = {"mask": constant(None)} if kind in _TAKE_A_MASK else {}
    if kind in _HAVE_A_MODE:
        expected["training"] = off
    if not matches(options, expected):
        return False
    if not isinstance(arguments, list) or len(arguments) != 1:
        return False
    [read] = arguments
    if kind in _READ_MANY:
        return isinstance(read, list) and len(read) > 1 and all(map(_is_tensor, read))
    return _is_tensor(read)


def _is_tensor(value: Any) -> bool:
    config = {
        "shape": batch_shape,
        "dtype": constant("float32"),
        "keras_history": _is_first_call,
    }
    parts = {
        "class_name": constant("__keras_tensor__"),
        "config": lambda entry: matches(entry, config),
    }
    return matches(value, parts)


def _is_first_call(history: Any) -> bool:
    """Whether this refers to the one output of the one call of a layer."""
    if not isinstance(history, list) or len(history) != 3:
        return False
    return isinstance(history[0], str) and all(map(constant(0), history[1:]))


def _refers_to_first_calls(structure: Any) -> bool:
    """Whether this is one reference, or a list or dictionary of them, each to a first call."""
    if isinstance(structure, dict):
        return bool(structure) and all(map(_is_first_call, structure.values()))
    if not isinstance(structure, list):
        return False
    return _is_first_call(structure) or (bool(structure) and all(map(_is_first_call, structure)))


def _flat(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        for one in value:
            yield from _flat(one)
    else:
        yield value


def _is_in_order(config: Mapping[str, Any]) -> bool:
    """Whether the layers stand in the order that Keras finds when it reads them."""
    names = [layer["name"] for layer in config["layers"]]
    sources = {
        layer["name"]: [tensor["config"]["keras_history"][0] for tensor in tensors_read(layer)]
        for layer in config["layers"]
    }
    inputs = [layer["name"] for layer in config["layers"] if layer["class_name"] == "InputLayer"]
    outputs = [history.layer for _, history in references(config["output_layers"])]
    given = [history.layer for _, history in references(config["input_layers"])]
    read = [name for each in sources.values() for name in each]
    known = set(names).issuperset([*read, *outputs]) and len(sources) == len(names)
    if not known or sorted(given) != sorted(inputs) or _has_loop(sources):
        return False
    return names == _keras_order(sources, outputs)


def _has_loop(sources: Mapping[str, Sequence[str]]) -> bool:
    done: set[str] = set()
    waiting = dict(sources)
    while waiting:
        ready = [name for name, read in waiting.items() if done.issuperset(read)]
        if not ready:
            return True
        done.update(ready)
        for name in ready:
            del waiting[name]
    return False


def _keras_order(sources: Mapping[str, Sequence[str]], outputs: Sequence[str]) -> list[str]:
    """Order layers as `keras.src.ops.function.map_graph` does.

    The farthest from the outputs first, those that are as far in the order in which a search
    from the outputs towards the inputs, deep first, comes to them.
    """
    first_seen: dict[str, int] = {}
    finished: list[str] = []
    for output in outputs:
        path = [(output, iter(sources[output]))] if output not in first_seen else []
        first_seen.setdefault(output, len(first_seen))
        while path:
            name, reading = path[-1]
            following = next((one for one in reading if one not in first_seen), None)
            if following is None:
                finished.append(name)
                path.pop()
            else:
                first_seen[following] = len(first_seen)
                path.append((following, iter(sources[following])))
    distances: dict[str, int] = {}
    for name in reversed(finished):
        distance = distances.setdefault(name, 0)
        for source in sources[name]:
            distances[source] = max(distances.get(source, 0), distance + 1)
    return sorted(finished, key=lambda name: (-distances[name], first_seen[name]))
