"""Gaussian inputs with the covariance of the first layers' weights.

`W z` for a normal z has the covariance W W^T. It is the gradient of `z . (first layer)`, so the
engine's own reverse pass takes z back through whatever layers of weights come first.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nnprune.synthetic.blocks import blocks
from nnprune.synthetic.scene import InputSide, Scene

__all__ = ["first_layer_gaussian", "first_layers"]

_WEIGHTED = frozenset({"Dense", "Conv"})
_LINEAR = frozenset(
    {"Affine", "BatchNormalization", "Concatenate", "Identity", "Reshape", "ZeroPadding"}
)


def first_layers(scene: Scene, side: InputSide) -> list[str]:
    """Name the Dense and convolutional ops that read an input before anything non-linear does."""
    passed, found = {side.name}, []
    for node in scene.network.nodes:
        if passed.isdisjoint(node.sources):
            continue
        if node.kind in _LINEAR:
            passed.add(node.name)
        elif node.kind in _WEIGHTED:
            found.append(node.name)
    return found


def first_layer_gaussian(
    scene: Scene,
    side: InputSide,
    *,
    samples: int,
    mean: float,
    contrast: float,
    random: np.random.Generator,
) -> NDArray[np.float32]:
    """Draw inputs of one input node, clipped into the box.

    Parameters
    ----------
    scene
        The network and its box.
    side
        The input; `first_layers` must name one for it.
    samples
        How many.
    mean, contrast
        Mean, and root mean square deviation, as shares of the box.
    random
        The stream to draw from.

    Returns
    -------
    float32 array of shape (samples, *input shape)
    """
    shapes = {node.name: node.shape for node in scene.network.nodes}
    above = {
        name: _above_noise(scene.network.weights(name)["kernel"].astype(np.float64))
        for name in first_layers(scene, side)
    }
    elements = max(sum(math.prod(shapes[name]) for name in above), math.prod(side.shape))
    directions = np.empty((samples, *side.shape), np.float32)
    # A convolution's outputs are many times as many as its inputs.
    for block in blocks(samples, elements):
        count = block.stop - block.start
        cotangents = {
            name: (random.standard_normal((count, *shapes[name])) @ gains).astype(np.float32)
            for name, gains in above.items()
        }
        directions[block] = _led_back(scene, side, cotangents, count)
    # In units of the box's sides, so that a wide side does not drown the others.
    moving = side.upper > side.lower
    own = list(blocks(samples, math.prod(side.shape)))
    squares = [np.sum(np.square(directions[block][:, moving], dtype=np.float64)) for block in own]
    scale = np.sqrt(sum(squares) / max(samples * np.count_nonzero(moving), 1)) or 1.0
    for block in own:
        directions[block] = side.at(mean + contrast * (directions[block] / np.float64(scale)))
    return directions


def _led_back(
    scene: Scene, side: InputSide, cotangents: dict[str, NDArray[np.float32]], count: int
) -> NDArray[np.float32]:
    """Take noise at the first layers' outputs back to the input."""
    zeros = {each.name: np.zeros((count, *each.shape), np.float32) for each in scene.sides}
    own = [each.name for each in scene.sides].index(side.name)
    return np.asarray(scene.network.gradient(zeros, cotangents)[own], np.float32)


def _above_noise(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return P such that `kernel @ P.T @ P @ kernel.T` is the covariance above the noise edge.

    Where nothing stands out of the noise, all of it counts.
    """
    inputs, units = kernel.shape
    _, singular, right = np.linalg.svd(kernel, full_matrices=False)
    eigenvalues = np.square(singular) / units
    edge = 2.0 / (inputs + units) * (1.0 + np.sqrt(inputs / units)) ** 2
    kept = np.maximum(eigenvalues - edge, 0.0)
    if not np.any(kept > 0.0):
        return np.eye(units)
    gains = np.sqrt(np.divide(kept, eigenvalues, out=np.zeros_like(kept), where=eigenvalues > 0))
    return np.asarray(right.T * gains @ right)
