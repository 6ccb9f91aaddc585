"""What a pruning changes in the layers of a model: configurations, weights, input shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnprune import _core
from nnprune.errors import WeightError
from nnprune.keras_io.config import LayerCall
from nnprune.keras_io.graph import Graph
from nnprune.keras_io.layers.preprocessing import read_array
from nnprune.keras_io.wording import quoted

__all__ = ["Edits", "too_large"]

# Keras' names for what the core calls kernel, bias, gamma, beta, mean and variance; first the
# node's suffix, for layers that are several nodes.
_PLAIN = {"": {"kernel": "kernel", "bias": "bias"}}
_SEPARABLE = {
    "/depthwise": {"kernel": "depthwise_kernel"},
    "": {"kernel": "pointwise_kernel", "bias": "bias"},
}
_WEIGHT_NAMES: dict[str, dict[str, dict[str, str]]] = {
    "Dense": _PLAIN,
    "Conv1D": _PLAIN,
    "Conv2D": _PLAIN,
    "Conv3D": _PLAIN,
    "DepthwiseConv1D": _PLAIN,
    "DepthwiseConv2D": _PLAIN,
    "SeparableConv1D": _SEPARABLE,
    "SeparableConv2D": _SEPARABLE,
    "BatchNormalization": {
        "": {
            "gamma": "gamma",
            "beta": "beta",
            "mean": "moving_mean",
            "variance": "moving_variance",
        }
    },
    "LayerNormalization": {"": {"gamma": "gamma", "beta": "beta"}},
}


class Edits:
    """The differences between the network of a model and its pruned network, layer by layer."""

    def __init__(
        self, graph: Graph, pruned: _core.Network, kept: Mapping[str, NDArray[np.int64]]
    ) -> None:
        self._graph = graph
        self._pruned = pruned
        self._kept = kept
        self._old_shapes = {node.name: node.shape for node in graph.network.nodes}
        self._new_shapes = {node.name: node.shape for node in pruned.nodes}
        self._opaque = {node.name for node in pruned.nodes if node.kind == "Opaque"}
        self._calls: dict[str, LayerCall] = {}
        for call in graph.calls.calls:
            self._calls.setdefault(call.layer, call)

    def config(self, path: str, config: Mapping[str, Any]) -> dict[str, Any]:
        """Entries of a layer's configuration that must change, with their new values."""
        call = self._calls.get(path)
        if call is None or call.name in self._opaque:
            return {}
        old, new = self._old_shapes[call.name], self._new_shapes[call.name]
        edits: dict[str, Any] = {}
        if config.get("use_bias") is False and "bias" in self._pruned.weights(call.name):
            edits["use_bias"] = True
        if old != new:
            match call.class_name:
                case "Dense":
                    edits["units"] = new[-1]
                case "Reshape":
                    edits["target_shape"] = _new_target(config["target_shape"], new)
                case "Rescaling":
                    edits |= self._cut_arrays(call, config, ("scale", "offset"))
                case "Normalization":
                    edits |= self._cut_arrays(call, config, ("mean", "variance"))
        return edits

    def weights(self, path: str) -> dict[str, NDArray[np.float32] | None]:
        """Give new values of a layer's weights by Keras' names, None for one that stays as it is.

        Empty if all of them stay as they are.
        """
        call = self._calls.get(path)
        if call is None or call.name in self._opaque:
            return {}
        found: dict[str, NDArray[np.float32] | None] = {}
        for suffix, names in _WEIGHT_NAMES.get(call.class_name, {}).items():
            node = f"{call.name}{suffix}"
            before = self._graph.network.weights(node)
            for key, value in self._pruned.weights(node).items():
                same = key in before and np.array_equal(before[key], value)
                found[names[key]] = None if same else value
        return found if any(value is not None for value in found.values()) else {}

    def input_shapes(self, path: str) -> list[tuple[int, ...]] | None:
        """Give new shapes of a nested model's inputs, None if they stay as they are."""
        sources = self._graph.calls.nested.get(path, ())
        nodes = [self._graph.nodes[source] for source in sources]
        shapes = [self._new_shapes[node] for node in nodes]
        return None if shapes == [self._old_shapes[node] for node in nodes] else shapes

    def _cut_arrays(
        self, call: LayerCall, config: Mapping[str, Any], keys: tuple[str, ...]
    ) -> dict[str, Any]:
        """Leave the pruned units out of arrays along the last axis of a layer's input."""
        arrays = {key: read_array(config[key]) for key in keys if config[key] is not None}
        kept = self._kept_positions(call)
        return {key: array[..., kept].tolist() for key, array in arrays.items() if array.size > 1}

    def _kept_positions(self, call: LayerCall) -> NDArray[np.int64]:
        """Places along the last axis at a node that belong to units which are still there."""
        length = self._old_shapes[call.name][-1]
        for group in self._graph.network.groups:
            if call.name in group.path and group.layer in self._kept:
                turns = np.arange(length // group.units, dtype=np.int64)[:, np.newaxis]
                return (turns * group.units + self._kept[group.layer]).reshape(-1)
        return np.arange(length, dtype=np.int64)


def too_large(layer: str, weight: str, dtype: object) -> WeightError:
    """Word the failure of merged weights that are too large for what they are stored in."""
    return WeightError(
        f"layer {quoted(layer)}: merged values of its {weight} are too large for {dtype}; exclude "
        "the layers before it"
    )


def _new_target(target: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Turn a target shape into one for the new shape; an axis of -1 stays so if it can."""
    return tuple(-1 if old == -1 else new for old, new in zip(target, shape, strict=True))
