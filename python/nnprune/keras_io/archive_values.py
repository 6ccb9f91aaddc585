"""Values in a configuration that Keras reads and writes again as they were."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

__all__ = [
    "Check",
    "activation",
    "at_least",
    "batch_shape",
    "constant",
    "either",
    "flag",
    "float32_policy",
    "initializer",
    "matches",
    "name",
    "nothing",
    "number",
    "off",
    "on",
    "plain_object",
    "regularizer",
    "sizes",
    "whole",
    "within",
]

Check = Callable[[Any], bool]

_ACTIVATIONS = frozenset(
    {
        "celu",
        "elu",
        "exponential",
        "gelu",
        "hard_sigmoid",
        "hard_silu",
        "hard_tanh",
        "leaky_relu",
        "linear",
        "log_sigmoid",
        "mish",
        "relu",
        "relu6",
        "selu",
        "sigmoid",
        "silu",
        "softmax",
        "softplus",
        "softsign",
        "tanh",
    }
)


def constant(*values: Any) -> Check:
    """Accept these values only, of these types only: 1 is not True."""
    return lambda value: any(type(value) is type(one) and value == one for one in values)


def off(value: Any) -> bool:
    """Accept False."""
    return value is False


def on(value: Any) -> bool:
    """Accept True."""
    return value is True


nothing = constant(None)


def either(*checks: Check) -> Check:
    """Accept what one of the checks accepts."""
    return lambda value: any(check(value) for check in checks)


flag = either(off, on)


def name(value: Any) -> bool:
    """Accept the name of a layer or model."""
    return isinstance(value, str) and value != "" and "/" not in value


def number(value: Any) -> bool:
    """Accept a finite number that was written as one with a fraction."""
    return type(value) is float and math.isfinite(value)


def at_least(least: float) -> Check:
    """Accept a number from here on."""
    return lambda value: number(value) and value >= least


def within(least: float, most: float) -> Check:
    """Accept a number from this to that."""
    return lambda value: number(value) and least <= value <= most


def whole(value: Any) -> bool:
    """Accept an integer above 0."""
    return type(value) is int and value > 0


def sizes(value: Any) -> bool:
    """Accept a list of integers above 0, one for each axis of an image."""
    return isinstance(value, list) and 1 <= len(value) <= 3 and all(map(whole, value))


def batch_shape(value: Any) -> bool:
    """Accept the shape of an input of which only the number of samples is open."""
    return isinstance(value, list) and value[:1] == [None] and all(map(whole, value[1:]))


def activation(value: Any) -> bool:
    """Accept a function that Keras writes by the name under which it was read."""
    return isinstance(value, str) and value in _ACTIVATIONS


def matches(value: Any, entries: Mapping[str, Check]) -> bool:
    """Whether a value is a dictionary of exactly these entries, each as its check wants it."""
    if not isinstance(value, dict) or value.keys() != entries.keys():
        return False
    return all(check(value[key]) for key, check in entries.items())


def plain_object(module: str, class_name: str, entries: Mapping[str, Check]) -> Check:
    """Accept an object of Keras with these parameters, written as Keras writes it."""
    parts: dict[str, Check] = {
        "module": constant(module),
        "class_name": constant(class_name),
        "config": lambda config: matches(config, entries),
        "registered_name": nothing,
    }
    return lambda value: matches(value, parts)


def float32_policy(value: Any) -> bool:
    """Accept the dtype policy float32; several layers may say that they share it."""
    if isinstance(value, dict) and type(value.get("shared_object_id")) is int:
        value = {key: entry for key, entry in value.items() if key != "shared_object_id"}
    return _float32(value)


_float32 = plain_object("keras", "DTypePolicy", {"name": constant("float32")})
_seed = either(nothing, lambda value: type(value) is int and 0 <= value < 2**31)
_by_fans = {"seed": _seed, "input_axes": nothing, "output_axes": nothing}

initializer = either(
    *(
        plain_object("keras.initializers", kind, _by_fans)
        for kind in (
            "GlorotNormal",
            "GlorotUniform",
            "HeNormal",
            "HeUniform",
            "LecunNormal",
            "LecunUniform",
        )
    ),
    plain_object("keras.initializers", "Ones", {}),
    plain_object("keras.initializers", "Zeros", {}),
    *(
        plain_object(
            "keras.initializers", kind, {"seed": _seed, "mean": number, "stddev": at_least(0.0)}
        )
        for kind in ("RandomNormal", "TruncatedNormal")
    ),
)

# Not L1: Keras rounds its parameter to float32 once more.
regularizer = either(nothing, plain_object("keras.regularizers", "L2", {"l2": at_least(0.0)}))
