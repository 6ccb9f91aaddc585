"""Rounding outward: what is published is never tighter than what was proved."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["PAD", "ULPS", "outward", "outward_margins", "up"]

#: Published bounds are this much wider on each side, relative to the larger of an output's two
#: ends, so that a second path with other roundings finds its own inside.
PAD = 1e-9

#: By how many units in the last place values of `tanh` and of a few operations are rounded up.
ULPS = 8

Array = NDArray[np.float64]


def outward(lower: Array, upper: Array) -> tuple[Array, Array]:
    """Widen intervals by `PAD` and round them outward."""
    pad = up(PAD * np.maximum(np.abs(lower), np.abs(upper)))
    return -up(pad - lower), up(pad + upper)


def outward_margins(margins: Array) -> Array:
    """Widen a margin matrix by `PAD`, relative to the larger of `[c, k]` and `[k, c]`."""
    pad = up(PAD * np.maximum(np.abs(margins), np.abs(margins.T)))
    wider = up(margins + pad)
    np.fill_diagonal(wider, 0.0)
    return wider


def up(values: Array, ulps: int = 2) -> Array:
    """Round up by some units in the last place."""
    found = np.asarray(values, np.float64)
    for _ in range(ulps):
        found = np.nextafter(found, np.inf)
    return np.asarray(found, np.float64)
