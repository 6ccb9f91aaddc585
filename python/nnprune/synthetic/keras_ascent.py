"""Inputs found by gradient where the engine does not know every layer.

What `_core.Network.invert` does without `batch_statistics`, with gradients by the backend of
Keras: the inputs of layers inside a Keras model are not within reach of its logits' gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnprune import _core
from nnprune.gradients import compiled, to_numpy, vjp
from nnprune.keras_io.batches import batch_size_of
from nnprune.synthetic.images import smoothing_weights
from nnprune.synthetic.scene import InputSide
from nnprune.synthetic.sources import Ascent

__all__ = ["ascend"]

FloatArray = NDArray[np.float32]


def ascend(
    logits: Any, side: InputSide, starts: FloatArray, options: Ascent, *, seed: int
) -> FloatArray:
    """Take the steps of every input.

    Parameters
    ----------
    logits : keras.Model
        Gives the logits, of shape (samples, ..., classes), for its one input.
    side : InputSide
        That input.
    starts : float32 array of shape (samples, *input shape)
        Where to start; clipped into the box.
    options : Ascent
        The steps; `batch_statistics` is not read.
    seed : int
        Seed of the classes and numbers of steps; they are those of the engine.

    Returns
    -------
    float32 array of shape (samples, *input shape)

    Raises
    ------
    BackendError
        The backend of Keras cannot differentiate.
    """
    evaluate = compiled(lambda x: logits(x, training=False), logits)
    slope = compiled(
        lambda x, cotangent: vjp(lambda at: logits(at, training=False), x, cotangent)[1], logits
    )
    shape = tuple(logits.output_shape[1:]) or (1,)
    targets = _Targets.draw(shape, len(starts), options, seed)
    found = side.clipped(starts)
    size = batch_size_of(logits)
    for first in range(0, len(found), size):
        batch = slice(first, first + size)
        for step in range(options.steps):
            pull = targets.cotangent(to_numpy(evaluate(found[batch])), batch)
            gradients = to_numpy(slope(found[batch], pull))
            going = targets.steps[batch] > step
            found[batch] = _moved(side, found[batch], gradients, options, going)
    return found


def _moved(
    side: InputSide,
    points: FloatArray,
    gradients: FloatArray,
    options: Ascent,
    going: NDArray[np.bool_],
) -> FloatArray:
    width = side.upper.astype(np.float64) - side.lower
    directions = gradients * width
    if side.image is not None and options.smoothing > 0.0:
        height, columns, _ = side.image
        images = directions.reshape(len(points), *side.image)
        down, across = (smoothing_weights(n, options.smoothing) for n in (height, columns))
        images = np.einsum("ab,cd,nbde->nace", down, across, images, optimize=True)
        directions = np.where(width > 0.0, images.reshape(directions.shape), 0.0)
    axes = tuple(range(1, points.ndim))
    largest = np.max(np.abs(directions), axis=axes, keepdims=True)
    able = going.reshape(largest.shape) & (largest > 0.0) & np.isfinite(largest)
    shares = np.divide(directions, largest, out=np.zeros_like(directions), where=able)
    return side.clipped(points + options.step_size * shares * width)


@dataclass(frozen=True)
class _Targets:
    """A target distribution for every sample and row of logits, and each sample's steps."""

    shares: NDArray[np.float64]
    steps: NDArray[np.int64]
    temperature: float

    @classmethod
    def draw(cls, shape: Sequence[int], samples: int, options: Ascent, seed: int) -> _Targets:
        """Draw sample by sample, first its classes and then its number of steps."""
        *positions, width = shape
        rows, classes = int(np.prod(positions)), max(2, width)
        per_sample = rows + int(options.vary_steps)
        uniform = _core.uniform_draws(seed, samples * per_sample).reshape(samples, per_sample)
        chosen = np.floor(uniform[:, :rows] * classes).astype(np.int64)
        rest = (1.0 - options.confidence) / (classes - 1)
        shares = np.where(
            np.arange(classes) == chosen[..., None], options.confidence, rest
        ).reshape(samples, *positions, classes)
        steps = np.full(samples, options.steps)
        if options.vary_steps:
            steps = 1 + np.floor(uniform[:, rows] * options.steps).astype(np.int64)
        # Of one logit, the share of its class counts.
        return cls(shares[..., -1:] if width == 1 else shares, steps, options.temperature)

    def cotangent(self, logits: FloatArray, batch: slice) -> FloatArray:
        """Return `target - softmax(logits / temperature)`, or with the sigmoid of one logit."""
        shares = self.shares[batch]
        scaled = logits.reshape(shares.shape).astype(np.float64) / self.temperature
        if shares.shape[-1] == 1:
            likely = 0.5 * (1.0 + np.tanh(0.5 * scaled))
        else:
            powers = np.exp(scaled - np.max(scaled, axis=-1, keepdims=True))
            likely = powers / np.sum(powers, axis=-1, keepdims=True)
        return (shares - likely).reshape(logits.shape).astype(np.float32)
