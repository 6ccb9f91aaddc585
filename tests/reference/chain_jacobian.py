"""Rows of a chain's Jacobian, enclosed as centre + box + ellipsoids.

A row r is c + rho, and rho is bounded three ways: |rho| <= R component by component, |rho|_2 <= N,
and |rho . t| <= the sum of size_k * sqrt(t' X_k t) over the layers where a part of rho arose. The
box knows which units count; the ball does not lose the square root of the width at every layer, as
the box does; the ellipsoids also know which directions the weights shrink.

Slopes scale the columns. What they do to an ellipsoid holds for all slopes of the activation, so
the X_k depend on the weights alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reference import activation
from reference.activation import Array
from reference.bounds import Interval

GRAM_STEPS = 4
# How strongly an ellipsoid is scaled by its own diagonal before its slopes are bounded.
BALANCE = 0.25


def spectral_radius(matrix: Array, steps: int = GRAM_STEPS) -> float:
    """Bound the spectral radius from above: by the norm of a power."""
    logarithm, power = 0.0, 1.0
    for _ in range(steps + 1):
        size = float(np.linalg.norm(matrix))
        if size == 0.0:
            return 0.0
        logarithm += np.log(size) / power
        matrix, power = (matrix / size) @ (matrix / size), 2.0 * power
    return float(np.exp(logarithm) * np.linalg.norm(matrix) ** (1.0 / power))


def spectral_norm(matrix: Array, steps: int = GRAM_STEPS) -> float:
    """Bound the spectral norm from above by Gram iteration (Delattre et al., ICML 2023)."""
    small = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    return float(np.sqrt(spectral_radius(small @ small.T, steps - 1)))


def stretch(shape: Array, weight: Array) -> float:
    """Bound the largest sqrt(t' W' X W t) over |t|_2 <= 1."""
    if weight.shape[0] <= weight.shape[1]:
        return float(np.sqrt(spectral_radius(shape @ (weight @ weight.T))))
    return float(np.sqrt(spectral_radius(weight.T @ shape @ weight)))


def columns(shape: Array, weight: Array) -> Array:
    """Return sqrt(t' W' X W t) for each unit vector t."""
    return np.asarray(np.sqrt(np.maximum(np.sum(weight * (shape @ weight), axis=0), 0.0)))


def reach(shape: Array, weight: Array, t: Array) -> float:
    """Bound the largest sqrt(s' W' X W s) over |s| <= t, by |D^-1/2 W' X W D^-1/2| s' D s."""
    own = floored(columns(shape, weight))
    return min(
        stretch(shape, weight / scale) * float(np.linalg.norm(scale * t))
        for scale in (np.sqrt(own), own)
    )


def floored(scale: Array) -> Array:
    """Keep a scale away from 0, where a unit or an input counts for nothing."""
    return np.maximum(scale, max(1e-9 * float(np.max(scale, initial=0.0)), 1e-150))


def after_slopes(shape: Array, least: float, most: float) -> Array:
    """Enclose all s o r with slopes s in [least, most] and r in the ellipsoid X of a layer.

    With D diagonal and B = D^-1/2 X D^-1/2 <= I, slopes in [0, 1] keep r inside D, and inside
    D^1/2 (2 - B)^-1 D^1/2 too: add multiples of s_i r_i (r_i - s_i r_i) >= 0, one for each unit.
    The inverse is at most the polynomial below, for every eigenvalue of B in [0, 1].
    """
    scale = floored(np.diag(shape)) ** BALANCE
    root = scale * stretch(shape, np.diag(1.0 / scale))
    if not np.any(root):
        return np.zeros_like(shape)
    if least < 0.0:
        return np.diag((max(-least, most) * root) ** 2)
    b = shape / np.outer(root, root)
    inner = np.eye(len(b)) / 2.0 + b / 4.0 + (b @ b) / 8.0 + (b @ b @ b) / 8.0
    return np.asarray(most**2 * inner * np.outer(root, root))


class Ellipsoids:
    """For layers k >= l: X(k, l) encloses u W_k S W_k-1 S ... W_l+1 S for every |u|_2 <= 1."""

    def __init__(self, weights: Sequence[Array], kind: str) -> None:
        least, most = activation.slope_range(kind, np.array(-1e6), np.array(1e6))
        self._shapes: dict[tuple[int, int], Array] = {}
        for start in range(len(weights) - 1):
            shape = np.eye(len(weights[start]))
            self._shapes[start, start] = shape
            for layer in range(start, 0, -1):
                weight = weights[layer]
                shape = after_slopes(weight.T @ shape @ weight, float(least), float(most))
                self._shapes[start, layer - 1] = shape

    def at(self, start: int, layer: int) -> Array:
        """Return X(start, layer)."""
        return self._shapes[start, layer]


@dataclass(frozen=True)
class Slopes:
    """The range of each unit's slope."""

    least: Array
    most: Array


@dataclass(frozen=True)
class Part:
    """What deviation arose at a layer, and what all of it was there."""

    layer: int
    fresh: Array  # (rows,) norm
    total: Array  # (rows,) norm


@dataclass(frozen=True)
class Rows:
    """Enclosed rows on the pre-activations of a layer."""

    layer: int
    centre: Array  # (rows, units)
    radius: Array  # (rows, units)
    parts: tuple[Part, ...]  # the latest, so the lowest layer, first
    ellipsoids: Ellipsoids

    @classmethod
    def exact(cls, rows: Array, layer: int, ellipsoids: Ellipsoids) -> Rows:
        """Return rows that are known."""
        return cls(layer, rows, np.zeros_like(rows), (), ellipsoids)

    def _sums(self, factors: Iterable[Array | float]) -> Iterator[Array]:
        """Yield bounds: all that there was at one layer, and what arose below it."""
        below: Array | float = 0.0
        for part, factor in zip(self.parts, factors, strict=True):
            yield below + np.multiply.outer(part.total, factor)
            below = below + np.multiply.outer(part.fresh, factor)

    def _shapes(self) -> Iterator[Array]:
        return (self.ellipsoids.at(part.layer, self.layer) for part in self.parts)

    def radius_after(self, weight: Array) -> Array:
        """Bound |rho W|."""
        found = self.radius @ np.abs(weight)
        for bound in self._sums(columns(shape, weight) for shape in self._shapes()):
            found = np.minimum(found, bound)
        return found

    def through(self, weight: Array, slopes: Slopes) -> Rows:
        """Take the rows through the layer's weights and the slopes before them.

        Slopes split: s r = m c + (c (s - m) + s rho), with m their middle.
        """
        middle, half = (slopes.least + slopes.most) / 2.0, (slopes.most - slopes.least) / 2.0
        largest = np.maximum(np.abs(slopes.least), np.abs(slopes.most))
        centre, radius = self.centre @ weight, self.radius_after(weight)
        norm = np.linalg.norm(radius, axis=1)
        for bound in self._sums(stretch(shape, weight) for shape in self._shapes()):
            norm = np.minimum(norm, bound)
        spread = np.abs(centre) * half
        radius, fresh = radius * largest + spread, np.linalg.norm(spread, axis=1)
        total = np.max(largest, initial=0.0) * norm + fresh
        total = np.minimum(total, np.linalg.norm(radius, axis=1))
        part = Part(self.layer - 1, fresh, total)
        return Rows(self.layer - 1, centre * middle, radius, (part, *self.parts), self.ellipsoids)

    def deviation(self, weight: Array, t: Array) -> Array:
        """Bound |rho W s| over |s| <= t."""
        found = np.minimum(self.radius_after(weight) @ t, self.radius @ (np.abs(weight) @ t))
        for bound in self._sums(reach(shape, weight, t) for shape in self._shapes()):
            found = np.minimum(found, bound)
        return found

    def times(self, weight: Array, box: Interval) -> tuple[Interval, Array]:
        """Bound r W t over a box of t: by the centre's product, to be widened by the deviation."""
        middle, half = (box[0] + box[1]) / 2.0, (box[1] - box[0]) / 2.0
        centre = self.centre @ weight
        value, radius = centre @ middle, np.abs(centre) @ half
        largest = np.maximum(np.abs(box[0]), np.abs(box[1]))
        return (value - radius, value + radius), self.deviation(weight, largest)
