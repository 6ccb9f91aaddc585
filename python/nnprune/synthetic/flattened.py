"""Whether a vector is an image laid out in a row: the first layer's weights tell."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nnprune import _core

__all__ = ["flattened_image"]

# Smaller pictures have too few neighbours to tell them from chance.
_SHORTEST_SIDE = 8
_LONGEST_SIDE = 256
_CHANNELS = (1, 3)
# Standard errors by which neighbours must be more alike than any two elements.
_CERTAIN = 5.0
# And by which cosine, however many there are.
_CLEAR = 0.05
_PASSING = frozenset({"Affine", "BatchNormalization", "Identity", "Reshape"})


def flattened_image(network: _core.Network, name: str, length: int) -> tuple[int, int, int] | None:
    """Find the square image that an input's elements are, row by row, if they are one.

    Training makes the weights of neighbouring pixels alike, because the pixels are. Their cosine
    is compared, along rows and along columns, with that of any two elements.

    Parameters
    ----------
    network : Network
        The network.
    name : str
        The input.
    length : int
        Number of its elements.

    Returns
    -------
    (height, width, channels) or None
        None where no Dense layer reads the input first, or no layout stands out.
    """
    kernel = _first_kernel(network, name, length)
    if kernel is None:
        return None
    for channels in _CHANNELS:
        side = math.isqrt(length // channels)
        if side * side * channels == length and _SHORTEST_SIDE <= side <= _LONGEST_SIDE:
            image = (side, side, channels)
            if _neighbours_are_alike(kernel, image):
                return image
    return None


def _first_kernel(network: _core.Network, name: str, length: int) -> NDArray[np.float64] | None:
    """Return the weights of the first Dense layer that reads the input, one row for an element."""
    passed = {name}
    for node in network.nodes:
        if passed.isdisjoint(node.sources):
            continue
        if node.kind == "Dense":
            kernel = network.weights(node.name)["kernel"].astype(np.float64)
            return kernel if kernel.shape[0] == length else None
        if node.kind not in _PASSING:
            return None
        passed.add(node.name)
    return None


def _neighbours_are_alike(kernel: NDArray[np.float64], image: tuple[int, int, int]) -> bool:
    rows = kernel - kernel.mean(axis=1, keepdims=True)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)
    count = len(rows)
    # Means of the cosine and of its square over all pairs, without the n x n matrix.
    total = rows.sum(axis=0)
    mean = (total @ total - count) / (count * (count - 1))
    small = rows.T @ rows
    square = (np.sum(small * small) - count) / (count * (count - 1))
    deviation = math.sqrt(max(square - mean * mean, 0.0))
    grid = rows.reshape(*image, -1)
    pairs = [(grid[1:], grid[:-1]), (grid[:, 1:], grid[:, :-1])]
    for one, other in pairs:
        cosines = np.sum(one * other, axis=-1)
        if cosines.mean() <= mean + max(_CLEAR, _CERTAIN * deviation / math.sqrt(cosines.size)):
            return False
    return True
