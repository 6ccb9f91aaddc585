"""Random images: smooth fields and dead leaves, as shares of the box."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nnprune.synthetic.blocks import blocks
from nnprune.synthetic.scene import Image

__all__ = ["dead_leaves", "smooth_fields", "smoothing_weights"]

_Array = NDArray[np.float64]

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
) -> Iterator[_Array]:
    """Draw Gaussian fields of mean 1/2, some at a time.

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

    Yields
    ------
    float64 array of shape (some samples, height, width, channels)
    """
    smoothing = [_smoothing_fields(image, deviation) for deviation in deviations]
    # Every block begins with the first deviation.
    for block in blocks(samples, math.prod(image), multiple=len(deviations)):
        noise = random.standard_normal((block.stop - block.start, *image))
        for number, (down, across) in enumerate(smoothing):
            own = slice(number, None, len(smoothing))
            noise[own] = _along(across, _along(down, noise[own], 1), 2)
        noise *= contrast
        noise += 0.5
        yield noise


def _smoothing_fields(image: Image, deviation: float) -> list[_Array]:
    """Return the weights along both axes that keep the variance, at the border, too."""
    found = []
    for length in image[:2]:
        weights = np.exp(-0.5 * (_distances(length) / deviation) ** 2)
        found.append(weights / np.sqrt(np.sum(weights**2, axis=1, keepdims=True)))
    return found


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


@dataclass(frozen=True, kw_only=True)
class _Leaf:
    """What one leaf of every sample looks like: arrays with samples along the first axis."""

    there: NDArray[np.bool_]
    centres: _Array
    radii: _Array
    angles: _Array
    rectangular: NDArray[np.bool_]
    values: _Array

    @classmethod
    def drawn(cls, image: Image, samples: int, random: np.random.Generator) -> Self:
        """Draw them from the stream."""
        sides = np.array(image[:2], np.float64)
        there = random.random(samples) < _PRESENCE
        centres = random.uniform(*_CENTRES, (samples, 2)) * sides
        radii = np.exp(random.uniform(*_LOG_RADII, (samples, 2))) * sides
        angles = random.uniform(0.0, np.pi, samples)
        rectangular = random.random(samples) < _RECTANGLES
        dark = random.random(samples) < _DARK
        values = random.uniform(*_VALUES, (samples, image[2])) * ~dark[:, None]
        return cls(
            there=there,
            centres=centres,
            radii=radii,
            angles=angles,
            rectangular=rectangular,
            values=values,
        )

    def paint(self, images: _Array, block: slice) -> None:
        """Paint these leaves over the images of some samples."""
        height, width, channels = images.shape[1:]
        covered = self.there[block, None, None] * _coverage(
            (height, width, channels),
            self.centres[block],
            self.radii[block],
            self.angles[block],
            self.rectangular[block],
        )
        images += covered[..., None] * (self.values[block, None, None, :] - images)


def dead_leaves(
    image: Image, *, samples: int, leaves: int, random: np.random.Generator
) -> Iterator[_Array]:
    """Paint ellipses and rectangles of any direction over each other, some samples at a time.

    Their edges are a pixel wide.

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

    Yields
    ------
    float64 array of shape (some samples, height, width, channels)
    """
    painted = [_Leaf.drawn(image, samples, random) for _ in range(leaves)]
    for block in blocks(samples, math.prod(image)):
        images = np.zeros((block.stop - block.start, *image))
        for leaf in painted:
            leaf.paint(images, block)
        yield images


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
