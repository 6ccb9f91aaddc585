"""FGSM and PGD on a plain network of dense ReLU layers, sample by sample, in float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Layers = list[tuple[Array, Array]]


def logits(layers: Layers, x: Array) -> Array:
    """Return the logits of one sample."""
    value = x
    for place, (kernel, bias) in enumerate(layers):
        value = value @ kernel + bias
        if place < len(layers) - 1:
            value = np.maximum(value, 0.0)
    return value


def loss_gradient(layers: Layers, x: Array, y: int) -> Array:
    """Return the gradient of the cross entropy of one sample by backpropagation."""
    activations, value = [], x
    for place, (kernel, bias) in enumerate(layers):
        activations.append(value)
        value = value @ kernel + bias
        if place < len(layers) - 1:
            value = np.maximum(value, 0.0)
    if len(value) == 1:
        back = 1.0 / (1.0 + np.exp(-value)) - y
    else:
        powers = np.exp(value - value.max())
        back = powers / powers.sum() - (np.arange(len(value)) == y)
    for place in reversed(range(len(layers))):
        back = layers[place][0] @ back
        if place > 0:
            back = back * (activations[place] > 0.0)
    return back


def fgsm(layers: Layers, x: Array, y: int, epsilon: float, lower: float, upper: float) -> Array:
    """Return clip(x + epsilon sign(gradient))."""
    moved = x + epsilon * np.sign(loss_gradient(layers, x, y))
    return np.clip(moved, lower, upper)


def pgd(
    layers: Layers,
    x: Array,
    y: int,
    epsilon: float,
    lower: float,
    upper: float,
    *,
    steps: int,
    step_size: float,
    start: Array,
) -> Array:
    """Return the last iterate; every step is taken back into the ball, then into the box."""
    moved = np.clip(x + epsilon * start, lower, upper)
    for _ in range(steps):
        moved = moved + step_size * np.sign(loss_gradient(layers, moved, y))
        moved = np.clip(moved, x - epsilon, x + epsilon)
        moved = np.clip(moved, lower, upper)
    return moved
