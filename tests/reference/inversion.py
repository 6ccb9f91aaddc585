"""Inputs found by gradient towards drawn classes; the gradient by central differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from reference.activation import Array
from reference.bounds import evaluate, softmax
from reference.graph import Graph

Image = tuple[int, int, int] | None

STEP = 1e-6


def _below(draws: Iterator[float], count: int) -> int:
    return int(next(draws) * count)


def draw_targets(
    graph: Graph, shapes: Sequence[tuple[int, ...]], samples: int, steps: int | None, draws: Array
) -> tuple[list[list[list[int]]], list[int]]:
    """Return a class for every sample, head and row of it, and each sample's number of steps.

    `steps` is None where all samples take the same number.
    """
    stream = iter(draws.tolist())
    classes, numbers = [], []
    for _ in range(samples):
        heads = []
        for shape in shapes:
            rows = int(np.prod(shape[:-1]))
            heads.append([_below(stream, max(2, shape[-1])) for _ in range(rows)])
        classes.append(heads)
        numbers.append(1 + _below(stream, steps) if steps else 0)
    return classes, numbers


def log_likelihood(
    logits: Array, classes: Sequence[int], confidence: float, temperature: float
) -> float:
    """Return `sum(target ln softmax(logits / temperature))` over the rows of one head."""
    total = 0.0
    for row, chosen in zip(logits.reshape(len(classes), -1) / temperature, classes, strict=True):
        pair = np.array([0.0, row[0]]) if row.size == 1 else row
        share = np.full(pair.size, (1.0 - confidence) / (pair.size - 1))
        share[chosen] = confidence
        total += float(share @ np.log(softmax(pair)))
    return total


def smooth(image: Array, deviation: float) -> Array:
    """Blur both axes by a Gaussian whose weights add up to 1 up to the border."""
    for axis in (1, 0):
        places = np.arange(image.shape[axis])
        distance = np.abs(places[:, None] - places)
        weights = np.exp(-0.5 * (distance / deviation) ** 2) * (distance <= 4.0 * deviation)
        weights /= weights.sum(axis=1, keepdims=True)
        image = np.moveaxis(np.tensordot(weights, image, (1, axis)), 0, axis)
    return image


def invert(
    graph: Graph,
    lower: Sequence[Array],
    upper: Sequence[Array],
    starts: Sequence[Array],
    *,
    images: Sequence[Image],
    steps: int,
    step_size: float,
    vary_steps: bool,
    confidence: float,
    temperature: float,
    smoothing: float,
    draws: Array,
) -> list[Array]:
    """Take the steps of every sample, one sample and one input element at a time."""
    shapes = [evaluate(graph, [s[:1] for s in starts])[name].shape[1:] for name in graph.logits]
    varied = steps if vary_steps else None
    classes, numbers = draw_targets(graph, shapes, len(starts[0]), varied, draws)
    sides = [high - low for low, high in zip(lower, upper, strict=True)]
    found = []
    for sample, (heads, number) in enumerate(zip(classes, numbers, strict=True)):
        at = [
            np.clip(start[sample], low, high)
            for start, low, high in zip(starts, lower, upper, strict=True)
        ]

        def likelihood(point: Sequence[Array], heads: list[list[int]] = heads) -> float:
            values = evaluate(graph, [each[None] for each in point])
            return sum(
                log_likelihood(values[name], chosen, confidence, temperature)
                for name, chosen in zip(dict.fromkeys(graph.logits), heads, strict=True)
            )

        for _ in range(number if vary_steps else steps):
            slopes = [g * side for g, side in zip(_slopes(likelihood, at), sides, strict=True)]
            for which, image in enumerate(images):
                if image is not None and smoothing > 0.0:
                    shape = slopes[which].shape
                    slopes[which] = smooth(slopes[which].reshape(image), smoothing).reshape(shape)
                slopes[which] = np.where(sides[which] > 0.0, slopes[which], 0.0)
            largest = max(float(np.max(np.abs(slope))) for slope in slopes)
            if largest == 0.0:
                break
            at = [
                np.clip(point + step_size * slope / largest * side, low, high)
                for point, slope, side, low, high in zip(
                    at, slopes, sides, lower, upper, strict=True
                )
            ]
        found.append(at)
    return [np.stack(each) for each in zip(*found, strict=True)]


def _slopes(function: object, at: Sequence[Array]) -> list[Array]:
    assert callable(function)
    slopes = []
    for which, point in enumerate(at):
        slope = np.zeros_like(point)
        for place in np.ndindex(*point.shape):
            ends = []
            for sign in (1.0, -1.0):
                moved = [each.copy() for each in at]
                moved[which][place] += sign * STEP
                ends.append(function(moved))
            slope[place] = (ends[0] - ends[1]) / (2.0 * STEP)
        slopes.append(slope)
    return slopes
