"""A model up to its logits: what its head is, found from its layers and never from its values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import keras

from nnprune.errors import ModelError
from nnprune.keras_io.weights import is_graph_model
from nnprune.keras_io.wording import quoted

__all__ = ["Head", "LogitsModel", "logits_model"]

Head = Literal["softmax", "sigmoid", "logits", "values"]
"""`softmax`: left out, over several classes. `sigmoid`: left out, of one logit. `logits`: the last
layer has no activation. `values`: it has another one, and its outputs are taken as they are."""

# They pass values on in the same order, so that a softmax may stand before them.
_PASSING = frozenset(
    {"ActivityRegularization", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze"}
)


@dataclass(frozen=True, kw_only=True)
class LogitsModel:
    """A model that gives logits.

    Attributes
    ----------
    model
        The model without the final softmax or sigmoid; with the layers of the original, but for a
        last layer whose activation was part of it: that is a copy.
    head
        What was left out, or what the outputs are.
    layer
        Path of the last layer with a say in the head.
    outputs
        The outputs of one sample: shape (outputs,) for a head other than `values`.
    last
        The copy of the last layer if there is one, else None.
    """

    model: keras.Model
    head: Head
    layer: str
    outputs: int
    last: Any


def logits_model(model: keras.Model, *, every_head: bool = False) -> LogitsModel:
    """Find a model's logits.

    Parameters
    ----------
    model : keras.Model
        A built Sequential or Functional model with one input and one output.
    every_head : bool, default False
        Leave out a softmax or sigmoid that names no single label, too: several sigmoids, or
        decisions at every position.

    Raises
    ------
    ModelError
        It has several inputs or outputs, or is subclassed; the message says what to do.
    """
    _check_graph(model)
    finder = _Finder(every_head=every_head)
    tensor = finder.logits_of(model.outputs[0], path="")
    logits = keras.Model(model.inputs[0], tensor, name=model.name)
    outputs = 1
    for size in tensor.shape[1:]:
        outputs *= size or 1
    return LogitsModel(
        model=logits, head=finder.head, layer=finder.layer, outputs=outputs, last=finder.last
    )


def _check_graph(model: object) -> None:
    if not isinstance(model, keras.Model):
        raise ModelError(f"expected a keras.Model, got {type(model).__name__}")
    named = f"model {quoted(model.name)}"
    if not is_graph_model(model):
        raise ModelError(
            f"{named}: its class {type(model).__name__} has a call method of its own, which "
            "cannot be read layer by layer; rebuild it with keras.Model(inputs, outputs)"
        )
    if not model.built or not getattr(model, "outputs", None):
        raise ModelError(f"{named} is not built: start it with keras.Input(shape=...)")
    for kind, tensors in (("input", model.inputs), ("output", model.outputs)):
        if len(tensors) != 1:
            raise ModelError(
                f"{named} has {len(tensors)} {kind}s; evaluation takes one: make a model of the "
                f"{kind} to look at with keras.Model(inputs, outputs)"
            )


class _Finder:
    """Walks from a model's output back to its logits."""

    def __init__(self, *, every_head: bool) -> None:
        self.every_head = every_head
        self.head: Head = "values"
        self.layer = ""
        self.last: Any = None

    def logits_of(self, tensor: Any, path: str) -> Any:
        """Give the tensor that holds the logits behind `tensor`."""
        operation, node_index, _ = tensor._keras_history
        arguments = operation._inbound_nodes[node_index].arguments
        name = f"{path}{operation.name}"
        if is_graph_model(operation):
            inner = self.logits_of(operation.outputs[0], f"{name}/")
            stripped = keras.Model(operation.inputs, inner, name=operation.name)
            return stripped(*arguments.args, **arguments.kwargs)
        self.layer = name
        class_name = type(operation).__name__
        if class_name in _PASSING:
            return operation(self.logits_of(arguments.keras_tensors[0], path))
        left_out = _own_activation(operation, class_name)
        if left_out is not None:
            if left_out == "linear":
                return self.logits_of(arguments.keras_tensors[0], path)
            self.head = self._head(left_out, tensor)
            return arguments.keras_tensors[0] if self.head != "values" else tensor
        fused = _activation_name(getattr(operation, "activation", None))
        if fused is None:
            return tensor
        self.head = self._head(fused, tensor)
        if fused == "linear" or self.head == "values":
            return tensor
        self.last = _without_activation(operation, arguments.keras_tensors[0])
        return self.last(arguments.keras_tensors[0])

    def _head(self, activation: str, tensor: Any) -> Head:
        if self.every_head and activation in ("softmax", "sigmoid"):
            return "softmax" if activation == "softmax" else "sigmoid"
        return _head(activation, tensor)


def _own_activation(operation: Any, class_name: str) -> str | None:
    """Name the activation that a layer or operation is; None if it is none."""
    if class_name == "Activation":
        return _activation_name(operation.activation) or "other"
    if class_name == "Softmax":
        return "softmax" if getattr(operation, "axis", -1) in (-1, 1) else "other"
    return "sigmoid" if class_name == "Sigmoid" else None


def _activation_name(activation: Any) -> str | None:
    if activation is None:
        return None
    name: str = getattr(activation, "__name__", type(activation).__name__)
    return name.lower()


def _head(activation: str, tensor: Any) -> Head:
    """Name the head of an activation on the output `tensor`."""
    *positions, outputs = tensor.shape[1:] or (1,)
    if activation == "linear":
        return "logits"
    if any(size != 1 for size in positions):  # a decision at every position: no single label
        return "values"
    if activation == "softmax" and outputs > 1:
        return "softmax"
    # Several sigmoids decide about each output by itself: no single label either.
    return "sigmoid" if activation == "sigmoid" and outputs == 1 else "values"


def _without_activation(layer: Any, source: Any) -> Any:
    config = layer.get_config()
    config["activation"] = "linear"
    copy = type(layer).from_config(config)
    copy.build(source.shape)
    copy.set_weights(layer.get_weights())
    return copy
