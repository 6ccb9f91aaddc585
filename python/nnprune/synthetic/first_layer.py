"""Gaussian inputs with the covariance of the first layers' weights.

`W z` for a normal z has the covariance W W^T. It is the gradient of `z . (first layer)`, so the
engine's own reverse pass takes z back through whatever layers of weights come first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
    cotangents = {}
    for name in first_layers(scene, side):
        shape = shapes[name]
        noise = random.standard_normal((samples, *shape[:-1], shape[-1]))
        above = _above_noise(scene.network.weights(name)["kernel"].astype(np.float64))
        cotangents[name] = (noise @ above).astype(np.float32)
    zeros = {each.name: np.zeros((samples, *each.shape), np.float32) for each in scene.sides}
    gradients = scene.network.gradient(zeros, cotangents)
    own = [each.name for each in scene.sides].index(side.name)
    # In units of the box's sides, so that a wide side does not drown the others.
    width = side.upper.astype(np.float64) - side.lower
    directions = gradients[own].astype(np.float64)
    moving = width > 0.0
    scale = np.sqrt(np.mean(np.square(directions[:, moving])))
    deviations = directions / scale if scale > 0.0 else directions
    return side.at(mean + contrast * deviations)


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
