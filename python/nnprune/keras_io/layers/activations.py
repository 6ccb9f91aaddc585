"""Activations: fused into a layer, as a layer of their own, or as an operation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from nnprune.keras_io.config import LayerCall
from nnprune.keras_io.config_nodes import class_name
from nnprune.keras_io.layers.context import Conversion, Converter, Unfollowable, require
from nnprune.keras_io.wording import quoted

__all__ = ["CONVERTERS", "add_activation"]


class Activation(NamedTuple):
    """One of the engine's activations, or `"softmax"`."""

    kind: str
    parameters: Mapping[str, float] = {}


# By the names that Keras' `activation=` arguments have. Each states its parameters: the names
# mean the functions with their default arguments.
_BY_NAME: dict[str, Activation] = {
    "linear": Activation("linear"),
    "relu": Activation("relu"),
    "relu6": Activation("relu6"),
    "leaky_relu": Activation("leaky_relu", {"negative_slope": 0.2}),
    "elu": Activation("elu", {"alpha": 1.0}),
    "celu": Activation("celu", {"alpha": 1.0}),
    "gelu": Activation("gelu"),
    "swish": Activation("silu"),
    "hard_swish": Activation("hard_silu"),
} | {
    name: Activation(name)
    for name in (
        "selu",
        "sigmoid",
        "tanh",
        "softplus",
        "softsign",
        "exponential",
        "silu",
        "mish",
        "hard_sigmoid",
        "hard_silu",
        "hard_tanh",
        "log_sigmoid",
        "softmax",
    )
}

_OPERATIONS: dict[str, str] = {
    "ops.Exp": "exponential",
    "ops.HardSigmoid": "hard_sigmoid",
    "ops.HardSilu": "hard_silu",
    "ops.HardTanh": "hard_tanh",
    "ops.LogSigmoid": "log_sigmoid",
    "ops.Relu": "relu",
    "ops.Relu6": "relu6",
    "ops.Selu": "selu",
    "ops.Sigmoid": "sigmoid",
    "ops.Silu": "silu",
    "ops.Softplus": "softplus",
    "ops.Softsign": "softsign",
    "ops.Tanh": "tanh",
}


def add_activation(call: LayerCall, conversion: Conversion, name: str, source: str) -> str:
    """Add the activation that is fused into a layer as `"<name>/activation"`; its node.

    An activation that the engine does not know becomes an opaque node of its own, so that the
    layer itself is still followed.
    """
    node = f"{name}/activation"
    try:
        activation = _read_activation(call.config.get("activation"))
    except Unfollowable as reason:
        # Keras itself takes every activation for elementwise.
        shape = conversion.builder.shape(source)
        return conversion.add_opaque_node(node, call, [source], str(reason), shape)
    return source if activation.kind == "linear" else _add(conversion, node, source, activation)


def _add(conversion: Conversion, name: str, source: str, activation: Activation) -> str:
    if activation.kind == "softmax":
        conversion.builder.softmax(name, source)
    elif activation.kind == "linear":
        conversion.builder.identity(name, source)
    else:
        parameters = dict(activation.parameters)
        conversion.builder.activation(name, source, activation.kind, parameters=parameters)
    return name


def _read_activation(value: Any) -> Activation:
    """Read an `activation=` argument: a name, a serialized function, or a layer."""
    if value is None:
        return _BY_NAME["linear"]
    if isinstance(value, Mapping) and "class_name" in value:
        name = class_name(value)
        if name in _LAYERS:
            return _LAYERS[name](value["config"])
        # A function of Keras; one of somebody else may well have the name of one of Keras'.
        own = value.get("module") in {None, "builtins", "keras.activations"}
        value = value["config"] if own else value.get("registered_name") or name
    if isinstance(value, str) and value in _BY_NAME:
        return _BY_NAME[value]
    named = quoted(value) if isinstance(value, str) else "written in Python"
    raise Unfollowable(f"its activation {named} is not one that the engine knows")


def _relu(config: Mapping[str, Any]) -> Activation:
    parameters = {
        "negative_slope": float(config.get("negative_slope") or 0.0),
        "threshold": float(config.get("threshold") or 0.0),
    }
    if config.get("max_value") is not None:
        parameters["max_value"] = float(config["max_value"])
    return Activation("relu", parameters)


def _leaky_relu(config: Mapping[str, Any]) -> Activation:
    slope = config.get("negative_slope", config.get("alpha", 0.3))  # alpha: Keras 2
    return Activation("leaky_relu", {"negative_slope": float(slope)})


def _elu(config: Mapping[str, Any]) -> Activation:
    return Activation("elu", {"alpha": float(config.get("alpha", 1.0))})


def _softmax(config: Mapping[str, Any]) -> Activation:
    axis = config.get("axis", -1)
    axes = [axis] if isinstance(axis, int) else list(axis)
    require(axes == [-1], f"its axis is {axis}, not the last one")
    return Activation("softmax")


_LAYERS = {"ELU": _elu, "LeakyReLU": _leaky_relu, "ReLU": _relu, "Softmax": _softmax}


def _layer(call: LayerCall, conversion: Conversion) -> str:
    source = conversion.source(call)
    if call.class_name == "Activation":
        activation = _read_activation(call.config.get("activation"))
    else:
        activation = _LAYERS[call.class_name](call.config)
    if call.class_name == "Softmax":
        require(call.sources[0] not in conversion.masked, "it may read a mask")
    return _add(conversion, call.name, source, activation)


def _operation(call: LayerCall, conversion: Conversion) -> str:
    source = conversion.source(call)
    return _add(conversion, call.name, source, _BY_NAME[_OPERATIONS[call.class_name]])


def _parametric_operation(call: LayerCall, conversion: Conversion) -> str:
    source, config = conversion.source(call), call.config
    match call.class_name:
        case "ops.Gelu":
            activation = Activation("gelu_tanh" if config["approximate"] else "gelu")
        case "ops.LeakyRelu":
            activation = _leaky_relu(config)
        case "ops.Softmax":
            activation = _softmax(config)
        case _:
            kind = call.class_name.removeprefix("ops.").lower()
            activation = Activation(kind, {"alpha": float(config["alpha"])})
    return _add(conversion, call.name, source, activation)


CONVERTERS: dict[str, Converter] = {
    "Activation": _layer,
    **dict.fromkeys(_LAYERS, _layer),
    **dict.fromkeys(_OPERATIONS, _operation),
    **dict.fromkeys(
        ("ops.Celu", "ops.Elu", "ops.Gelu", "ops.LeakyRelu", "ops.Softmax"), _parametric_operation
    ),
}
