"""Axes: from values to positions, and where to put ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Scale", "nice_range", "nice_ticks", "spaced"]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A linear map from values to positions in a drawing.

    Attributes
    ----------
    low, high : float
        Ends of the axis, in the unit of the data.
    start, end : float
        Their positions, in the unit of the drawing; `start` > `end` for an upright axis.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the position of a value; one beyond the axis lands on its end."""
        if self.high <= self.low:
            return (self.start + self.end) / 2
        share = min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))
        return self.start + share * (self.end - self.start)


def nice_ticks(low: float, high: float, most: int = 5, *, whole: bool = False) -> list[float]:
    """Return at most `most` + 1 round values that cover [low, high] evenly from within.

    Parameters
    ----------
    low, high : float
        Ends of the axis.
    most : int, default 5
        About how many steps.
    whole : bool, default False
        Whether the values count something, so that half steps make no sense.
    """
    if not high > low:
        return [low]
    step = _step(high - low, most)
    if whole:
        step = max(1.0, step)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # Rounding takes away the 0.30000000000000004 of binary fractions.
    places = max(0, 2 - math.floor(math.log10(step)))
    return [round(index * step, places) for index in range(first, last + 1)]


def nice_range(
    values: Iterable[float], *, least: float, floor: float = -math.inf, ceiling: float = math.inf
) -> tuple[float, float]:
    """Return round ends of an axis for `values`, at least `least` apart, within the limits.

    An axis that zooms in on noise would make a change of one sample look like a landslide:
    `least` is what keeps it honest.
    """
    known = list(values) or [0.0]
    low, high = min(known), max(known)
    if high - low < least:
        middle = (low + high) / 2
        low, high = middle - least / 2, middle + least / 2
        # What sticks out beyond a limit is moved, not cut: the axis keeps its length.
        low, high = low - max(0.0, high - ceiling), min(high, ceiling)
        low, high = max(low, floor), high + max(0.0, floor - low)
    for _ in range(3):  # a longer axis may get longer steps, which its ends then have to fit
        step = _step(high - low)
        low = max(floor, math.floor(low / step + 1e-9) * step)
        high = min(ceiling, math.ceil(high / step - 1e-9) * step)
    return low, high


def _step(length: float, most: int = 5) -> float:
    """Return the round step that divides a length into at most `most` pieces or a little more."""
    raw = length / most
    power = 10.0 ** math.floor(math.log10(raw))
    return next(size * power for size in (1.0, 2.0, 5.0, 10.0) if size * power >= raw * 0.999)


def spaced(positions: Sequence[float], *, least: float, low: float, high: float) -> list[float]:
    """Move positions apart so that labels there do not touch, each as little as may be.

    Parameters
    ----------
    positions : sequence of float
        Where the labels would like to be.
    least : float
        Least distance of two.
    low, high : float
        Room there is; where it is too small for all, the distance shrinks.
    """
    order = sorted(range(len(positions)), key=positions.__getitem__)
    if len(order) > 1:
        least = min(least, (high - low) / (len(order) - 1))
    # Without the distances, "in order" is all that is asked for: neighbours out of order share
    # their mean (the pool-adjacent-violators algorithm), which moves them the least.
    pools: list[tuple[float, int]] = []
    for rank, index in enumerate(order):
        mean, size = positions[index] - rank * least, 1
        while pools and pools[-1][0] > mean:
            other, others = pools.pop()
            mean, size = (mean * size + other * others) / (size + others), size + others
        pools.append((mean, size))
    means = [mean for mean, size in pools for _ in range(size)]
    room = high - least * max(0, len(order) - 1)
    moved = [0.0] * len(positions)
    for rank, index in enumerate(order):
        moved[index] = min(max(means[rank], low), max(low, room)) + rank * least
    return moved
