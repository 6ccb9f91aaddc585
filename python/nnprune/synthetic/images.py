"""Random images: smooth fields and dead leaves, as shares of the box."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from nnprune.synthetic.scene import Image

__all__ = ["dead_leaves", "smooth_fields", "smoothing_weights"]

_Array = NDArray[np.float64]

# Images painted at once: what bounds memory for large ones.
_ELEMENTS_PER_BLOCK = 1 << 22
_PRESENCE = 0.7
_RECTANGLES = 0.5
_DARK = 0.3
_CENTRES = (0.2, 0.8)
_LOG_RADII = (math.log(0.04), math.log(0.35))
_VALUES = (0.2, 1.0)


def smooth_fields(
    image: Image,
    *,
    samples: int,
    deviations: Sequence[float],
    contrast: float,
    random: np.random.Generator,
) -> _Array:
    """Draw Gaussian fields of mean 1/2.

    Parameters
    ----------
    image
        Height, width and channels.
    samples
        How many.
    deviations
        Of the smoothing Gaussian, in pixels; taken in turn.
    contrast
        Standard deviation of a pixel.
    random
        The stream to draw from.

    Returns
    -------
    float64 array of shape (samples, height, width, channels)
    """
    noise = random.standard_normal((samples, *image))
    for number, deviation in enumerate(deviations):
        own = slice(number, None, len(deviations))
        for axis in (1, 2):
            weights = np.exp(-0.5 * (_distances(image[axis - 1]) / deviation) ** 2)
            # Of unit variance after as before, at the border, too.
            weights /= np.sqrt(np.sum(weights**2, axis=1, keepdims=True))
            noise[own] = _along(weights, noise[own], axis)
    return 0.5 + contrast * noise


def smoothing_weights(length: int, deviation: float) -> _Array:
    """Return the weights, shape (length, length), of a Gaussian that add up to 1 for every pixel.

    They end four standard deviations away, where nothing is left of them in float32.
    """
    distances = _distances(length)
    weights = np.exp(-0.5 * (distances / deviation) ** 2) * (distances <= 4.0 * deviation)
    return np.asarray(weights / np.sum(weights, axis=1, keepdims=True))


def _distances(length: int) -> _Array:
    places = np.arange(length, dtype=np.float64)
    return np.abs(places[:, None] - places)


def _along(weights: _Array, images: _Array, axis: int) -> _Array:
    return np.moveaxis(np.tensordot(images, weights, (axis, 1)), -1, axis)


def dead_leaves(image: Image, *, samples: int, leaves: int, random: np.random.Generator) -> _Array:
    """Paint ellipses and rectangles of any direction over each other, with edges a pixel wide.

    Each is there with probability 0.7; the centres lie in the inner 60 % of both axes, half-axes
    are 4 % to 35 % of them on a logarithmic scale; 3 of 10 are as dark as the ground (0), the
    others have a value from 0.2 to 1, one for each channel.

    Parameters
    ----------
    image
        Height, width and channels.
    samples
        How many.
    leaves
        Most leaves of each.
    random
        The stream to draw from.

    Returns
    -------
    float64 array of shape (samples, height, width, channels)
    """
    height, width, channels = image
    sides = np.array([height, width], np.float64)
    painted = np.zeros((samples, *image))
    for _ in range(leaves):
        there = random.random(samples) < _PRESENCE
        centres = random.uniform(*_CENTRES, (samples, 2)) * sides
        radii = np.exp(random.uniform(*_LOG_RADII, (samples, 2))) * sides
        angles = random.uniform(0.0, np.pi, samples)
        rectangular = random.random(samples) < _RECTANGLES
        dark = random.random(samples) < _DARK
        values = random.uniform(*_VALUES, (samples, channels)) * ~dark[:, None]
        for block in _blocks(samples, height * width * channels):
            covered = there[block, None, None] * _coverage(
                image, centres[block], radii[block], angles[block], rectangular[block]
            )
            part = painted[block]
            part += covered[..., None] * (values[block, None, None, :] - part)
    return painted


def _coverage(
    image: Image, centres: _Array, radii: _Array, angles: _Array, rectangular: NDArray[np.bool_]
) -> _Array:
    """Return how much of each pixel a leaf covers."""
    rows, columns = np.mgrid[: image[0], : image[1]]

    def each(values: _Array) -> _Array:
        return values[:, None, None]

    down, right = rows - each(centres[:, 0]), columns - each(centres[:, 1])
    cosine, sine = each(np.cos(angles)), each(np.sin(angles))
    along = (cosine * down + sine * right) / each(radii[:, 0])
    across = (cosine * right - sine * down) / each(radii[:, 1])
    distance = np.where(
        rectangular[:, None, None],
        np.maximum(np.abs(along), np.abs(across)),
        np.hypot(along, across),
    )
    return np.asarray(np.clip((1.0 - distance) * each(np.min(radii, axis=1)) + 0.5, 0.0, 1.0))


def _blocks(samples: int, elements: int) -> Iterator[slice]:
    size = max(1, _ELEMENTS_PER_BLOCK // elements)
    edges = [*range(0, samples, size), samples]
    return (slice(first, last) for first, last in itertools.pairwise(edges))
