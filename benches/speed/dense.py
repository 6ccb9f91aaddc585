"""Chains of dense layers for the compiled core, as arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from nnprune import _core
from numpy.typing import NDArray

__all__ = ["Weights", "layer_names", "network_of", "size_of", "warm_up", "weights_out"]

Weights = Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Kernel and bias of each layer, ReLU between them."""

INPUT = "input"


def layer_names(count: int) -> list[str]:
    """Return the names that `network_of` gives its layers."""
    return [f"dense_{number}" for number in range(count)]


def network_of(weights: Weights) -> _core.Network:
    """Build the network of some weights; it copies them."""
    builder = _core.NetworkBuilder()
    builder.input(INPUT, [len(weights[0][0])])
    source = INPUT
    for number, (name, (kernel, bias)) in enumerate(
        zip(layer_names(len(weights)), weights, strict=True)
    ):
        builder.dense(name, source, kernel, bias)
        source = name
        if number < len(weights) - 1:
            source = f"{name}/activation"
            builder.activation(source, name, "relu")
    return builder.build([source])


def weights_out(network: _core.Network) -> list[dict[str, NDArray[np.float32]]]:
    """Return the arrays of all nodes of a network that have some."""
    owners = [node.name for node in network.nodes if node.parameters]
    return [network.weights(name) for name in owners]


def size_of(weights: Weights) -> int:
    """Return the bytes of all weights."""
    return sum(kernel.nbytes + bias.nbytes for kernel, bias in weights)


def warm_up() -> None:
    """Start the engine's threads on a network of two units: their stacks are not the model's."""
    square, none = np.ones((2, 2), np.float32), np.zeros(2, np.float32)
    network_of([(square, none), (square, none)]).saliency(layer_names(1)[0])
