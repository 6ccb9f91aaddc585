"""Inputs drawn at random from the input box."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["corners", "inside"]


def inside(
    lower: ArrayLike, upper: ArrayLike, *, count: int, dtype: str, random: np.random.Generator
) -> NDArray[np.generic]:
    """Draw inputs evenly between the bounds.

    Parameters
    ----------
    lower, upper : array
        Bounds of one input, without the batch axis.
    count : int
        Number of samples.
    dtype : str
        The input's; whole numbers are drawn for integers.
    random : Generator
        The stream to draw from.

    Returns
    -------
    array of shape (count, ...)
    """
    low, high = np.asarray(lower, np.float64), np.asarray(upper, np.float64)
    if np.issubdtype(np.dtype(dtype), np.floating):
        return random.uniform(low, high, (count, *low.shape)).astype(dtype)
    first, last = _whole(low, high)
    return random.integers(first, last, (count, *low.shape), endpoint=True).astype(dtype)


def corners(
    lower: ArrayLike, upper: ArrayLike, *, count: int, dtype: str, random: np.random.Generator
) -> NDArray[np.generic]:
    """Give the lowest and the highest corner of the box, and then random ones.

    Parameters and result are those of `inside`.
    """
    low, high = np.asarray(lower, np.float64), np.asarray(upper, np.float64)
    if not np.issubdtype(np.dtype(dtype), np.floating):
        low, high = (end.astype(np.float64) for end in _whole(low, high))
    up = random.integers(0, 2, (count, *low.shape)).astype(bool)
    up[:1], up[1:2] = False, True
    return np.where(up, high, low).astype(dtype)


def _whole(
    low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    first = np.ceil(low).astype(np.int64)
    return first, np.maximum(np.floor(high).astype(np.int64), first)
