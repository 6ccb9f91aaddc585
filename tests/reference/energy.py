"""Energy of a candidate: how much and how unevenly it moves the outputs (eq. 4 to 8)."""

from __future__ import annotations

import math

import numpy as np

from reference.activation import Array


def norm(lower: Array, upper: Array) -> float:
    """Return the sum of the widths (eq. 4)."""
    return float(np.sum(upper - lower))


def similarity(lower: Array, upper: Array) -> Array:
    """Return how alike each two output intervals are (eq. 5)."""
    size = len(lower)
    spread = float(np.max(upper) - np.min(lower)) if size else 0.0
    if spread == 0.0 or not math.isfinite(spread):
        return np.ones((size, size))
    result = np.empty((size, size))
    for k in range(size):
        for other in range(size):
            gap = abs(lower[k] - lower[other]) + abs(upper[k] - upper[other])
            result[k, other] = 1.0 - gap / (2.0 * spread)
    return result


def densities(
    lower: Array, upper: Array, *, threshold: float = 0.9, density: str = "inclusive"
) -> Array:
    """Return the share of outputs that are similar to each output (eq. 6)."""
    alike = similarity(lower, upper) >= threshold
    if density == "printed":
        np.fill_diagonal(alike, False)
    return np.asarray(np.sum(alike, axis=1) / len(lower))


def entropy(
    lower: Array, upper: Array, *, threshold: float = 0.9, density: str = "inclusive"
) -> float:
    """Return ENT (eq. 7)."""
    shares = densities(lower, upper, threshold=threshold, density=density)
    return 0.0 - float(sum(d * math.log(d) for d in shares if d > 0.0))


def logistic(x: float) -> float:
    """Return 1 / (1 + exp(-x)) without overflow."""
    if x >= 0.0:
        return 1.0 / (1.0 + math.exp(-x))
    return math.exp(x) / (1.0 + math.exp(x))


def reference_norm(norms: list[float]) -> float:
    """Return the middle of the finite norms of the first candidates, guarded against 0."""
    norms = [x for x in norms if math.isfinite(x)]
    positive = [x for x in norms if x > 0.0]
    middle = float(np.median(norms)) if norms else 0.0
    if middle > 0.0:
        return middle
    return min(positive) if positive else 1.0


def energy(
    delta: tuple[Array, Array],
    base: tuple[Array, Array],
    *,
    reference: float,
    alpha: float = 0.75,
    threshold: float = 0.9,
    density: str = "inclusive",
    normalization: str = "scaled",
) -> float:
    """Return the energy of moving the outputs by `delta` on top of `base` (eq. 8)."""
    lower, upper = base[0] + delta[0], base[1] + delta[1]
    if normalization == "scaled":
        size = norm(*delta)
        score = 1.0 if math.isinf(size) else size / (size + reference)
    else:
        score = logistic(norm(lower, upper))
    unevenness = entropy(lower, upper, threshold=threshold, density=density)
    return alpha * score + (1.0 - alpha) * logistic(unevenness)
