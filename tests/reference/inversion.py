"""Inputs found by gradient towards drawn classes and kept statistics; by central differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

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


def mismatch(graph: Graph, points: Sequence[Array]) -> float:
    """Return how far a batch's statistics are from those that batch normalizations keep.

    `sum((mean - m)^2 + (deviation - s)^2) / (2 v)` over layers and channels, with the moving mean
    m, the root s of the moving variance, and v that variance plus epsilon.
    """
    values = evaluate(graph, points)
    total = 0.0
    for node in graph.nodes:
        if node.kind == "batch_normalization":
            mean, variance = (node.options[name].astype(float) for name in ("mean", "variance"))
            read = values[node.sources[0]]
            axes = tuple(range(read.ndim - 1))
            squares = (read.mean(axes) - mean) ** 2 + (read.std(axes) - np.sqrt(variance)) ** 2
            total += float(np.sum(squares / (2.0 * (variance + node.options["epsilon"]))))
    return total


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
    batch_statistics: bool,
    draws: Array,
) -> list[Array]:
    """Take step after step, one sample and one input element at a time."""
    shapes = [evaluate(graph, [s[:1] for s in starts])[name].shape[1:] for name in graph.logits]
    varied = steps if vary_steps else None
    classes, numbers = draw_targets(graph, shapes, len(starts[0]), varied, draws)
    sides = [high - low for low, high in zip(lower, upper, strict=True)]
    normalizes = any(node.kind == "batch_normalization" for node in graph.nodes)

    def likelihood(point: Sequence[Array], heads: list[list[int]]) -> float:
        values = evaluate(graph, [each[None] for each in point])
        return sum(
            log_likelihood(values[name], chosen, confidence, temperature)
            for name, chosen in zip(dict.fromkeys(graph.logits), heads, strict=True)
        )

    def likeness(point: Sequence[Array], batch: Sequence[Array], sample: int) -> float:
        changed = [each.copy() for each in batch]
        for each, own in zip(changed, point, strict=True):
            each[sample] = own
        return -mismatch(graph, changed)

    def direction(slopes: Sequence[Array]) -> list[Array]:
        found = []
        for slope, side, image in zip(slopes, sides, images, strict=True):
            slope = slope * side
            if image is not None and smoothing > 0.0:
                slope = smooth(slope.reshape(image), smoothing).reshape(slope.shape)
            found.append(np.where(side > 0.0, slope, 0.0))
        return _scaled(found)

    at = [np.clip(start, *ends) for start, *ends in zip(starts, lower, upper, strict=True)]
    for step in range(steps):
        moved = [each.copy() for each in at]
        for sample, (heads, number) in enumerate(zip(classes, numbers, strict=True)):
            if vary_steps and step >= number:
                continue
            here = [each[sample] for each in at]
            towards = direction(_slopes(partial(likelihood, heads=heads), here))
            if batch_statistics and normalizes:
                other = direction(_slopes(partial(likeness, batch=at, sample=sample), here))
                towards = _scaled([a + b for a, b in zip(towards, other, strict=True)])
            for each, way, side in zip(moved, towards, sides, strict=True):
                each[sample] += step_size * way * side
        at = [np.clip(each, *ends) for each, *ends in zip(moved, lower, upper, strict=True)]
    return at


def _scaled(slopes: Sequence[Array]) -> list[Array]:
    """Scale to a largest element of 1, if there is one."""
    largest = max(float(np.max(np.abs(slope))) for slope in slopes)
    return [slope / largest if largest > 0.0 else slope for slope in slopes]


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
