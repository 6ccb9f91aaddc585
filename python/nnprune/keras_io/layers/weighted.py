"""Layers with weights: Dense, convolutions, normalizations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnprune.keras_io.config import LayerCall
from nnprune.keras_io.layers.activations import add_activation
from nnprune.keras_io.layers.context import Conversion, Converter, require

__all__ = ["CONVERTERS"]


def _dense(call: LayerCall, conversion: Conversion) -> str:
    source, shape = conversion.source(call), conversion.source_shape(call)
    _require_plain_weights(call.config)
    units = int(call.config["units"])
    weights = conversion.load(
        call, {"kernel": (shape[-1], units)} | _bias_shape(call.config, units)
    )
    owner = conversion.owner(call)
    conversion.builder.dense(call.name, source, weights["kernel"], weights.get("bias"), layer=owner)
    return add_activation(call, conversion, call.name, call.name)


def _conv(call: LayerCall, conversion: Conversion) -> str:
    source, config = conversion.source(call), call.config
    window = _window(call, conversion)
    channels, filters = conversion.source_shape(call)[-1], int(config["filters"])
    groups = int(config.get("groups") or 1)
    kernel_shape = (*config["kernel_size"], channels // groups, filters)
    weights = conversion.load(call, {"kernel": kernel_shape} | _bias_shape(config, filters))
    conversion.builder.conv(
        call.name,
        source,
        weights["kernel"],
        weights.get("bias"),
        groups=groups,
        layer=conversion.owner(call),
        **window,
    )
    return add_activation(call, conversion, call.name, call.name)


def _depthwise_conv(call: LayerCall, conversion: Conversion) -> str:
    source, config = conversion.source(call), call.config
    window = _window(call, conversion)
    channels, multiplier = conversion.source_shape(call)[-1], int(config["depth_multiplier"])
    shapes = {"kernel": (*config["kernel_size"], channels, multiplier)}
    weights = conversion.load(call, shapes | _bias_shape(config, channels * multiplier))
    conversion.builder.depthwise_conv(
        call.name,
        source,
        weights["kernel"],
        weights.get("bias"),
        layer=conversion.owner(call),
        **window,
    )
    return add_activation(call, conversion, call.name, call.name)


def _separable_conv(call: LayerCall, conversion: Conversion) -> str:
    """Add the depthwise part as `"<name>/depthwise"`, then the pointwise part."""
    source, config = conversion.source(call), call.config
    window = _window(call, conversion)
    channels, multiplier = conversion.source_shape(call)[-1], int(config["depth_multiplier"])
    filters, rank = int(config["filters"]), len(config["kernel_size"])
    shapes = {
        "depthwise_kernel": (*config["kernel_size"], channels, multiplier),
        "pointwise_kernel": (*(1,) * rank, channels * multiplier, filters),
    }
    weights = conversion.load(call, shapes | _bias_shape(config, filters))
    owner, depthwise = conversion.owner(call), f"{call.name}/depthwise"
    conversion.builder.depthwise_conv(
        depthwise, source, weights["depthwise_kernel"], layer=f"{owner}/depthwise", **window
    )
    conversion.builder.conv(
        call.name,
        depthwise,
        weights["pointwise_kernel"],
        weights.get("bias"),
        strides=(1,) * rank,
        dilation=(1,) * rank,
        padding="valid",
        layer=owner,
    )
    return add_activation(call, conversion, call.name, call.name)


def _batch_normalization(call: LayerCall, conversion: Conversion) -> str:
    source, shape, config = conversion.source(call), conversion.source_shape(call), call.config
    _require_last_axis(config, shape)
    require(not config.get("renorm"), "it renormalizes batches")
    require(call.arguments.get("training") is not True, "it is called with training=True")
    shapes = _scale_shapes(config, shape[-1])
    shapes |= {"moving_mean": (shape[-1],), "moving_variance": (shape[-1],)}
    weights = conversion.load(call, shapes)
    conversion.builder.batch_normalization(
        call.name,
        source,
        mean=weights["moving_mean"],
        variance=weights["moving_variance"],
        epsilon=float(config["epsilon"]),
        gamma=weights.get("gamma"),
        beta=weights.get("beta"),
        layer=conversion.owner(call),
    )
    return call.name


def _layer_normalization(call: LayerCall, conversion: Conversion) -> str:
    source, shape, config = conversion.source(call), conversion.source_shape(call), call.config
    _require_last_axis(config, shape)
    require(not config.get("rms_scaling"), "it scales by the root mean square")
    weights = conversion.load(call, _scale_shapes(config, shape[-1]))
    conversion.builder.layer_normalization(
        call.name,
        source,
        epsilon=float(config["epsilon"]),
        gamma=weights.get("gamma"),
        beta=weights.get("beta"),
        layer=conversion.owner(call),
    )
    return call.name


def _window(call: LayerCall, conversion: Conversion) -> dict[str, Any]:
    """Read strides, dilation and padding of a convolution that the engine can follow."""
    config, shape = call.config, conversion.source_shape(call)
    _require_plain_weights(config)
    require(config.get("data_format") != "channels_first", "its channels come first")
    rank = len(config["kernel_size"])
    require(len(shape) == rank + 1, f"it has more than one batch axis (input {shape})")
    return {
        "strides": tuple(config["strides"]),
        "dilation": tuple(config["dilation_rate"]),
        "padding": config["padding"],
    }


def _require_plain_weights(config: Mapping[str, Any]) -> None:
    """Refuse a kernel that is not what it seems: quantized, or with a low-rank part added."""
    policy = config.get("dtype")
    quantized = isinstance(policy, Mapping) and "Quantized" in str(policy.get("class_name"))
    require(not quantized, "its weights are quantized")
    require(not config.get("quantization_config"), "its weights are quantized")
    require(not config.get("lora_rank"), "it has a LoRA part; merge that into the kernel first")


def _require_last_axis(config: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    axis = config.get("axis", -1)
    axes = [axis] if isinstance(axis, int) else list(axis)
    # Keras counts the batch axis, the shape leaves it out.
    require(axes in ([-1], [len(shape)]), f"its axis is {axis}, not the last one")


def _bias_shape(config: Mapping[str, Any], units: int) -> dict[str, tuple[int, ...]]:
    return {"bias": (units,)} if config.get("use_bias", True) else {}


def _scale_shapes(config: Mapping[str, Any], units: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    if config.get("scale", True):
        shapes["gamma"] = (units,)
    if config.get("center", True):
        shapes["beta"] = (units,)
    return shapes


CONVERTERS: dict[str, Converter] = {
    "BatchNormalization": _batch_normalization,
    "Conv1D": _conv,
    "Conv2D": _conv,
    "Conv3D": _conv,
    "Dense": _dense,
    "DepthwiseConv1D": _depthwise_conv,
    "DepthwiseConv2D": _depthwise_conv,
    "LayerNormalization": _layer_normalization,
    "SeparableConv1D": _separable_conv,
    "SeparableConv2D": _separable_conv,
}
