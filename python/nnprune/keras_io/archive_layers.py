"""The layers of which it is known how Keras writes them after it has read them.

Every class with the entries of its configuration, the values that come back as they were, and its
weights in the order of the file. Held to Keras by `tests/test_archive.py`, class by class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nnprune.keras_io.archive_values import (
    Check,
    activation,
    at_least,
    batch_shape,
    constant,
    either,
    flag,
    float32_policy,
    initializer,
    matches,
    name,
    nothing,
    number,
    off,
    regularizer,
    sizes,
    whole,
    within,
)

__all__ = ["LAYERS", "LayerRule", "is_known"]

Config = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class LayerRule:
    """What is known of a class of layers.

    Attributes
    ----------
    entries
        The entries of its configuration, and which values come back as they were.
    weights
        The names of its weights in the order of the file, from its configuration.
    built
        Whether the file records the shape that the layer was built on.
    """

    entries: Mapping[str, Check]
    weights: Callable[[Config], tuple[str, ...]] = lambda _: ()
    built: bool = False


def is_known(layer: Any) -> bool:
    """Whether a layer, as it stands in a file, is one that Keras writes again as it was."""
    if not isinstance(layer, dict):
        return False
    kind = layer.get("class_name")
    rule = LAYERS.get(kind) if isinstance(kind, str) else None
    if rule is None or layer.get("module") != "keras.layers":
        return False
    config = layer.get("config")
    known = layer.get("registered_name", "") is None and matches(config, rule.entries)
    return known and ("build_config" in layer) == rule.built and _may_be_together(layer["config"])


def _may_be_together(config: Config) -> bool:
    """Keras takes no strides with dilation."""
    return set(config.get("strides", [1])) == {1} or set(config.get("dilation_rate", [1])) == {1}


def _entries(**entries: Check) -> dict[str, Check]:
    return {"name": name, "trainable": flag, "dtype": float32_policy, **entries}


def _of(config: Config, **options: str) -> tuple[str, ...]:
    return tuple(weight for weight, option in options.items() if config[option])


_LAST = constant("channels_last")
_PADDING = constant("valid", "same")
_RATE = within(0.0, 1.0)
_SEED = either(nothing, lambda value: type(value) is int)


def _parts(*parts: str) -> dict[str, Check]:
    """Give the entries that go with every weight of a layer."""
    entries: dict[str, Check] = {}
    entries |= {f"{part}_initializer": initializer for part in parts}
    entries |= {f"{part}_regularizer": regularizer for part in parts}
    return entries | {f"{part}_constraint": nothing for part in parts}


_WINDOW: dict[str, Check] = {
    "kernel_size": sizes,
    "strides": sizes,
    "padding": _PADDING,
    "data_format": _LAST,
    "dilation_rate": sizes,
    "activation": activation,
    "use_bias": flag,
    "activity_regularizer": nothing,
}

_DENSE = LayerRule(
    entries=_entries(
        units=whole,
        activation=activation,
        use_bias=flag,
        quantization_config=nothing,
        **_parts("kernel", "bias"),
    ),
    weights=lambda config: ("kernel", *_of(config, bias="use_bias")),
    built=True,
)


def _conv(padding: Check = _PADDING) -> LayerRule:
    return LayerRule(
        entries=_entries(
            **(_WINDOW | {"filters": whole, "groups": whole, "padding": padding}),
            **_parts("kernel", "bias"),
        ),
        weights=lambda config: ("kernel", *_of(config, bias="use_bias")),
        built=True,
    )


_DEPTHWISE = LayerRule(
    entries=_entries(**_WINDOW, depth_multiplier=whole, **_parts("depthwise", "bias")),
    weights=lambda config: ("kernel", *_of(config, bias="use_bias")),
    built=True,
)
_SEPARABLE = LayerRule(
    entries=_entries(
        **_WINDOW, filters=whole, depth_multiplier=whole, **_parts("depthwise", "pointwise", "bias")
    ),
    weights=lambda config: (
        "depthwise_kernel",
        "pointwise_kernel",
        *_of(config, bias="use_bias"),
    ),
    built=True,
)
_BATCH_NORMALIZATION = LayerRule(
    entries=_entries(
        axis=constant(-1, 1, 2, 3, 4),
        momentum=_RATE,
        epsilon=at_least(0.0),
        center=flag,
        scale=flag,
        synchronized=off,
        renorm=off,
        renorm_clipping=nothing,
        renorm_momentum=number,
        moving_mean_initializer=initializer,
        moving_variance_initializer=initializer,
        **_parts("beta", "gamma"),
    ),
    weights=lambda config: (
        *_of(config, gamma="scale", beta="center"),
        "moving_mean",
        "moving_variance",
    ),
    built=True,
)
_LAYER_NORMALIZATION = LayerRule(
    entries=_entries(
        axis=lambda value: value in ([-1], [1], [2], [3], [4]),
        epsilon=at_least(0.0),
        center=flag,
        scale=flag,
        rms_scaling=off,
        **_parts("beta", "gamma"),
    ),
    weights=lambda config: _of(config, gamma="scale", beta="center"),
    built=True,
)
_POOLING = LayerRule(
    entries=_entries(pool_size=sizes, strides=sizes, padding=_PADDING, data_format=_LAST)
)
_GLOBAL_POOLING = LayerRule(entries=_entries(data_format=_LAST, keepdims=flag))


def _pad(value: Any) -> bool:
    return type(value) is int and value >= 0


def _pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_pad, value))


def _pairs(value: Any) -> bool:
    return isinstance(value, list) and all(map(_pair, value))


def _target(value: Any) -> bool:
    return isinstance(value, list) and all(size == -1 or whole(size) for size in value)


def _padding(padding: Check) -> LayerRule:
    return LayerRule(entries=_entries(padding=padding, data_format=_LAST), built=True)


def _factor(value: Any) -> bool:
    """Accept one number, or one for each channel, with a fraction or without."""
    if isinstance(value, list):
        return len(value) > 1 and all(number(one) for one in value)
    return number(value) or type(value) is int


LAYERS: dict[str, LayerRule] = {
    "Activation": LayerRule(entries=_entries(activation=activation)),
    "ActivityRegularization": LayerRule(entries=_entries(l1=at_least(0.0), l2=at_least(0.0))),
    "Add": LayerRule(entries=_entries(), built=True),
    "AlphaDropout": LayerRule(entries=_entries(rate=_RATE, seed=_SEED, noise_shape=nothing)),
    "AveragePooling1D": _POOLING,
    "AveragePooling2D": _POOLING,
    "AveragePooling3D": _POOLING,
    "BatchNormalization": _BATCH_NORMALIZATION,
    "Concatenate": LayerRule(entries=_entries(axis=lambda value: type(value) is int), built=True),
    "Conv1D": _conv(constant("valid", "same", "causal")),
    "Conv2D": _conv(),
    "Conv3D": _conv(),
    "Dense": _DENSE,
    "DepthwiseConv1D": _DEPTHWISE,
    "DepthwiseConv2D": _DEPTHWISE,
    "Dropout": LayerRule(entries=_entries(rate=_RATE, seed=_SEED, noise_shape=nothing)),
    "ELU": LayerRule(entries=_entries(alpha=number)),
    "Flatten": LayerRule(entries=_entries(data_format=_LAST), built=True),
    "GaussianDropout": LayerRule(entries=_entries(rate=_RATE, seed=_SEED)),
    "GaussianNoise": LayerRule(entries=_entries(stddev=_RATE, seed=_SEED)),
    "GlobalAveragePooling1D": _GLOBAL_POOLING,
    "GlobalAveragePooling2D": _GLOBAL_POOLING,
    "GlobalAveragePooling3D": _GLOBAL_POOLING,
    "GlobalMaxPooling1D": _GLOBAL_POOLING,
    "GlobalMaxPooling2D": _GLOBAL_POOLING,
    "GlobalMaxPooling3D": _GLOBAL_POOLING,
    "Identity": LayerRule(entries=_entries()),
    "InputLayer": LayerRule(
        entries={
            "batch_shape": batch_shape,
            "dtype": constant("float32"),
            "sparse": off,
            "ragged": off,
            "name": name,
            "optional": off,
        }
    ),
    "LayerNormalization": _LAYER_NORMALIZATION,
    "LeakyReLU": LayerRule(entries=_entries(negative_slope=at_least(0.0))),
    "MaxPooling1D": _POOLING,
    "MaxPooling2D": _POOLING,
    "MaxPooling3D": _POOLING,
    "ReLU": LayerRule(
        entries=_entries(
            max_value=either(nothing, at_least(0.0)),
            negative_slope=at_least(0.0),
            threshold=at_least(0.0),
        )
    ),
    "Rescaling": LayerRule(entries=_entries(scale=_factor, offset=_factor), built=True),
    "Reshape": LayerRule(entries=_entries(target_shape=_target)),
    "SeparableConv1D": _SEPARABLE,
    "SeparableConv2D": _SEPARABLE,
    "Softmax": LayerRule(entries=_entries(axis=constant(-1))),
    "SpatialDropout1D": LayerRule(
        entries={"rate": _RATE, "seed": _SEED, "name": name, "dtype": constant("float32")}
    ),
    **{
        f"SpatialDropout{rank}D": LayerRule(
            entries={
                "rate": _RATE,
                "seed": _SEED,
                "name": name,
                "dtype": constant("float32"),
                "data_format": _LAST,
            }
        )
        for rank in (2, 3)
    },
    "ZeroPadding1D": _padding(_pair),
    "ZeroPadding2D": _padding(_pairs),
    "ZeroPadding3D": _padding(_pairs),
}
"""By class name, those that the engine follows."""
