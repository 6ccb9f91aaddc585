"""A model's serialized configuration as a flat list of layer calls. JSON only, no Keras.

Reads what `config.json` of a `.keras` file and the attribute `model_config` of an `.h5` file
hold, and what `keras.saving.serialize_keras_object` gives. Nested models are flattened: their
layers appear with their path (`"encoder/dense"`), and shared layers once for every call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from nnprune.errors import FileFormatError, ModelError, NnpruneError
from nnprune.keras_io.config_nodes import (
    Node,
    build_shape,
    class_name,
    declared_shape,
    fixed_shape,
    graph_kind,
    layer_name,
    outputs_of,
    read_node,
    references,
    sequential_input,
    sequential_layers,
)
from nnprune.keras_io.wording import one_line, quoted

__all__ = ["LayerCall", "ModelCalls", "ModelInput", "read_config"]

# Far beyond any real model: no file can make the reader run away by nesting shared models.
_MAX_CALLS = 100_000
_MAX_DEPTH = 50


@dataclass(frozen=True, kw_only=True)
class LayerCall:
    """One call of a layer, or of an operation without a layer, on the tensors it reads.

    Attributes
    ----------
    name
        Unique: the layer's path, with `":1"` added for its second call, and so on.
    layer
        Path of the layer that owns the weights, nested models joined by `"/"`.
    class_name
        Keras' class name; `"ops.<class>"` for an operation without a layer, and
        `"<package>><class>"` for a class that is not Keras' own.
    config
        The layer's configuration.
    sources
        Names of the calls it reads, in the order of its arguments.
    arguments
        Constants of the call by name; the positional ones under `"args"`, None for a tensor.
    output
        Which of the layer's outputs this is; other than 0 only for layers with several.
    shape
        Output shape without the batch axis, where the configuration records it.
    """

    name: str
    layer: str
    class_name: str
    config: Mapping[str, Any]
    sources: tuple[str, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    output: int = 0
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class ModelInput:
    """An input of the model: its name, and its shape without the batch axis."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ModelCalls:
    """A model as layer calls in topological order, its inputs among them.

    Attributes
    ----------
    calls
        Every call, after those it reads.
    inputs
        The model's inputs, in Keras' order.
    outputs
        Names of the calls that are the model's outputs, in Keras' order.
    nested
        For each nested model, by path, the calls that its inputs stand for when first called.
    """

    calls: tuple[LayerCall, ...]
    inputs: tuple[ModelInput, ...]
    outputs: tuple[str, ...]
    nested: Mapping[str, tuple[str, ...]]


def read_config(config: Mapping[str, Any]) -> ModelCalls:
    """Flatten a serialized Sequential or Functional model.

    Parameters
    ----------
    config
        `{"class_name": ..., "config": {...}}`, of Keras 3 or of a Keras-2 `.h5` file.

    Raises
    ------
    ModelError
        The model is subclassed, not built, or has an input without a fixed shape.
    FileFormatError
        The configuration is malformed.
    """
    reader = _Reader()
    try:
        if graph_kind(config) is None:
            raise ModelError(
                f"model of class {quoted(config['class_name'])}: only Sequential and Functional "
                "models can be read layer by layer; rebuild it with keras.Model(inputs, outputs)"
            )
        return reader.finish(reader.model(config, _Call(path="", sources=None)))
    except NnpruneError:
        raise
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        StopIteration,
        TypeError,
        ValueError,
    ) as error:
        raise FileFormatError(
            f"the model's configuration is malformed ({one_line(error)})"
        ) from error


class _Tensor(NamedTuple):
    """One output of one call."""

    call: str
    output: int


# What a call gives: a layer's name, whose outputs are numbered; a nested model's own tensors.
_Outputs = str | list[_Tensor]


def _output(outputs: _Outputs, number: int) -> _Tensor:
    return _Tensor(outputs, number) if isinstance(outputs, str) else outputs[number]


@dataclass(frozen=True, kw_only=True)
class _Call:
    """A call of a nested model: its path, what it reads (None: it is the model itself)."""

    path: str
    sources: Sequence[_Tensor] | None
    keys: Sequence[str] | None = None
    training: bool = False

    def layer_path(self, layer: Mapping[str, Any]) -> str:
        return f"{self.path}/{layer_name(layer)}" if self.path else layer_name(layer)

    def source(self, number: int, key: str, name: str) -> _Tensor:
        """Find the tensor for the input of this number, dictionary key and layer name."""
        if self.sources is None:
            raise IndexError(name)
        if self.keys is None:
            return self.sources[number]
        return self.sources[self.keys.index(key if key in self.keys else name)]


class _Reader:
    """Walks a configuration and collects the calls."""

    def __init__(self) -> None:
        self.calls: list[LayerCall] = []
        self.names: set[str] = set()
        self.counts: dict[str, int] = {}
        self.inputs: list[ModelInput] = []
        self.nested: dict[str, tuple[str, ...]] = {}
        self.shapes: dict[_Tensor, tuple[int, ...]] = {}
        self.further_outputs: dict[str, set[int]] = {}

    def finish(self, outputs: Sequence[_Tensor]) -> ModelCalls:
        """Give every output that is read a call of its own, and the shapes on record."""
        output_names = tuple(self.source_name(tensor) for tensor in outputs)
        calls: list[LayerCall] = []
        for call in self.calls:
            first = _Tensor(call.name, 0)
            calls.append(replace(call, shape=self.shapes.get(first, call.shape)))
            for output in sorted(self.further_outputs.get(call.name, ())):
                tensor = _Tensor(call.name, output)
                name, shape = self.source_name(tensor), self.shapes.get(tensor)
                calls.append(replace(call, name=name, output=output, shape=shape))
        return ModelCalls(
            calls=tuple(calls),
            inputs=tuple(self.inputs),
            outputs=output_names,
            nested=self.nested,
        )

    def model(self, model: Mapping[str, Any], call: _Call) -> list[_Tensor]:
        """Add the calls of a model called once; its outputs."""
        if call.path.count("/") >= _MAX_DEPTH:
            raise ModelError(f"model {quoted(call.path)} is nested over {_MAX_DEPTH} levels deep")
        if graph_kind(model) == "Sequential":
            return self.sequential(model, call)
        return self.functional(model["config"], call)

    def sequential(self, model: Mapping[str, Any], call: _Call) -> list[_Tensor]:
        """Add the calls of a Sequential model, layer after layer."""
        if call.sources is None:
            name, shape = sequential_input(model)
            if shape is None:
                raise ModelError(
                    f"model {quoted(layer_name(model))} is not built, its input shape is not "
                    "known: start it with keras.Input(shape=...) or call model.build(...)"
                )
            tensor = self.add_input(name, shape)
        else:
            tensor = call.sources[0]
            self.record_nested(call, [tensor])
        for layer in sequential_layers(model):
            if class_name(layer) != "InputLayer":
                # What a layer was built on is the shape of what came before it.
                self.record_shape(tensor, fixed_shape(build_shape(layer)))
                tensor = _output(self.layer_call(layer, call, Node([], None, {}), [tensor]), 0)
        return [tensor]

    def functional(self, config: Mapping[str, Any], call: _Call) -> list[_Tensor]:
        """Add the calls of a Functional model, each as soon as what it reads is there."""
        layers = {layer_name(layer): layer for layer in config["layers"]}
        done: dict[str, list[_Outputs]] = {name: [] for name in layers}
        entries: list[_Tensor] = []
        for number, (key, history) in enumerate(references(config["input_layers"])):
            if call.sources is None:
                shape = declared_shape(layers[history.layer]["config"])
                tensor = self.add_input(history.layer, shape)
            else:
                tensor = call.source(number, key, history.layer)
            done[history.layer].append([tensor])
            entries.append(tensor)
        self.record_nested(call, entries)
        models = {name for name, layer in layers.items() if graph_kind(layer) is not None}
        waiting = {
            name: [read_node(node, models) for node in layer.get("inbound_nodes", ()) if node][::-1]
            for name, layer in layers.items()
            if not done[name]
        }
        while waiting:
            before = sum(map(len, waiting.values()))
            for name, nodes in waiting.items():
                while nodes and all(len(done[t.layer]) > t.call for t in nodes[-1].tensors):
                    node = nodes.pop()
                    sources = [_output(done[t.layer][t.call], t.output) for t in node.tensors]
                    for source, history in zip(sources, node.tensors, strict=True):
                        self.record_shape(source, history.shape)
                    done[name].append(self.layer_call(layers[name], call, node, sources))
            waiting = {name: nodes for name, nodes in waiting.items() if nodes}
            if sum(map(len, waiting.values())) == before:
                raise FileFormatError(
                    "the model's configuration has a loop or reads a layer that is not there, "
                    f"at {quoted(next(iter(waiting)))}"
                )
        return [
            _output(done[history.layer][history.call], history.output)
            for history in outputs_of(config, layers)
        ]

    def layer_call(
        self, layer: Mapping[str, Any], model: _Call, node: Node, sources: Sequence[_Tensor]
    ) -> _Outputs:
        """Add the call of one layer, or those of a nested model; its outputs."""
        path = model.layer_path(layer)
        arguments = dict(node.arguments)
        # The mode of a nested model's call is handed on to every layer in it.
        training = model.training or arguments.pop("training", None) is True
        if training:
            arguments["training"] = True
        if graph_kind(layer) is not None:
            inner = _Call(path=path, sources=sources, keys=node.keys, training=training)
            return self.model(layer, inner)
        name = self.new_name(path)
        self.calls.append(
            LayerCall(
                name=name,
                layer=path,
                class_name=class_name(layer),
                config=dict(layer["config"]),
                sources=tuple(self.source_name(source) for source in sources),
                arguments=arguments,
            )
        )
        return name

    def add_input(self, name: str, batch_shape: Any) -> _Tensor:
        """Add an input of the model; its shape must be fixed."""
        shape = fixed_shape(batch_shape)
        if shape is None:
            raise ModelError(
                f"input {quoted(name)} has no fixed shape ({batch_shape}): rebuild the model with "
                "every axis but the batch given, as in keras.Input(shape=(28, 28, 1))"
            )
        name = self.new_name(name)
        self.inputs.append(ModelInput(name=name, shape=shape))
        self.calls.append(
            LayerCall(
                name=name,
                layer=name,
                class_name="InputLayer",
                config={"batch_shape": [None, *shape]},
                sources=(),
                shape=shape,
            )
        )
        return _Tensor(name, 0)

    def record_nested(self, call: _Call, entries: Sequence[_Tensor]) -> None:
        """Keep what the inputs of a nested model stand for in its first call."""
        if call.sources is not None and call.path not in self.nested:
            self.nested[call.path] = tuple(self.source_name(tensor) for tensor in entries)

    def new_name(self, path: str) -> str:
        """Make a name of the path, numbered from the second call on."""
        if len(self.calls) >= _MAX_CALLS:
            raise ModelError(f"the model has over {_MAX_CALLS} layer calls")
        name = path
        while name in self.names:
            self.counts[path] = self.counts.get(path, 0) + 1
            name = f"{path}:{self.counts[path]}"
        self.names.add(name)
        return name

    def source_name(self, tensor: _Tensor) -> str:
        """Name of the call that stands for one output of a layer."""
        if tensor.output == 0:
            return tensor.call
        self.further_outputs.setdefault(tensor.call, set()).add(tensor.output)
        return f"{tensor.call}/output:{tensor.output}"

    def record_shape(self, tensor: _Tensor, shape: tuple[int, ...] | None) -> None:
        """Keep the first shape on record for a tensor."""
        if shape is not None:
            self.shapes.setdefault(tensor, shape)
