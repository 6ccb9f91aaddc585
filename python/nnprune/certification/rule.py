"""The run-time rule: where the smaller model alone shows that the original agrees with it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnprune.errors import DataError

__all__ = ["Gaps", "clear", "logit_gaps", "probability_gaps", "rows_of"]

# Probabilities are taken for rounded to float32 at best, whatever type they come in.
_EPSILON = float(np.finfo(np.float32).eps)
_COARSEST = 2.0**-7  # bfloat16, which NumPy does not know
_TINY = float(np.finfo(np.float32).tiny)
# How many rounding errors a probability may be off, and how far a sum of them from 1.
_ROUNDINGS = 8.0
_LARGEST_GAP = 1e-2

Array = NDArray[np.float64]


class Gaps(NamedTuple):
    """What a model predicts, and by how far.

    Attributes
    ----------
    classes : int64 array [samples]
        The class of the largest logit.
    gaps : float64 array [samples, classes]
        Lower bounds of how far its logit is above each class's.
    """

    classes: NDArray[np.int64]
    gaps: Array


def rows_of(outputs: ArrayLike, *, width: int) -> tuple[Array, float]:
    """Bring a model's outputs into rows; and the relative rounding of their type.

    Parameters
    ----------
    outputs : array-like [samples, outputs]
        What a model gives.
    width : int
        How many numbers it gives a sample.

    Raises
    ------
    DataError
        They have another shape, or are no numbers.
    """
    given = np.asarray(outputs)
    try:
        rows = given.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError("outputs: expected an array of numbers [samples, outputs]") from error
    if not rows.ndim or int(np.prod(rows.shape[1:])) != width:
        raise DataError(
            f"outputs: expected an array [samples, {width}] of the smaller model's outputs, got "
            f"shape {rows.shape}"
        )
    rounding = float(np.finfo(given.dtype).eps) if given.dtype.kind == "f" else _EPSILON
    if given.dtype.kind == "V":
        rounding = _COARSEST
    return rows.reshape(len(rows), width), max(rounding, _EPSILON)


def logit_gaps(rows: Array, *, tolerance: float = 0.0) -> Gaps:
    """Read predictions and margins off logits; one logit z is taken for 0 and z.

    Parameters
    ----------
    rows : float64 array [samples, outputs]
        The logits.
    tolerance : float
        By how much each may be off.
    """
    if rows.shape[1] == 1:
        rows = np.concatenate([np.zeros_like(rows), rows], axis=1)
        tolerance /= 2.0  # of one of the two only
    classes = np.argmax(rows, axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        gaps = np.take_along_axis(rows, classes[:, np.newaxis], axis=1) - rows
    return Gaps(classes, gaps - 2.0 * tolerance)


def probability_gaps(rows: Array, rounding: float, *, tolerance: float = 0.0) -> Gaps:
    """Read them off the probabilities of a softmax or a sigmoid.

    The margins of log-probabilities are those of the logits. A probability that is rounded to 0,
    or to 1, only tells how far its logit is at least.

    Parameters
    ----------
    rows : float64 array [samples, outputs]
        The probabilities.
    rounding : float
        Relative rounding of their type, as `rows_of` gives it.
    tolerance : float
        By how much each logit may be off.

    Raises
    ------
    DataError
        They are not between 0 and 1, or their sum is not 1.
    """
    single = rows.shape[1] == 1
    _check_probabilities(rows, rounding)
    slack = 0.0
    if single:
        rows = np.concatenate([1.0 - rows, rows], axis=1)
        slack = rounding  # of 1 - p, where p is close to 1
        tolerance /= 2.0
    classes = np.argmax(rows, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        own = np.log(np.take_along_axis(rows, classes[:, np.newaxis], axis=1) - slack)
        gaps = own - np.log(np.maximum(rows + slack, _TINY))
    off = _ROUNDINGS * rounding * (1.0 + np.abs(gaps))
    return Gaps(classes, gaps - off - 2.0 * tolerance)


def clear(found: Gaps, needed: Array) -> NDArray[np.bool_]:
    """Tell whose margins over all other classes exceed what is needed.

    Parameters
    ----------
    found : Gaps
        What is predicted, and by how far.
    needed : float64 array [classes, classes]
        In row c: what the margin of c over each other class must exceed.

    Returns
    -------
    bool array [samples]
        False also where a logit is NaN or infinite.
    """
    rows = np.maximum(needed[found.classes], 0.0)
    with np.errstate(invalid="ignore"):
        exceeded = np.isfinite(found.gaps) & (found.gaps > rows)
    exceeded[np.arange(len(exceeded)), found.classes] = True
    return np.asarray(exceeded.all(axis=1) & np.isfinite(found.gaps).all(axis=1))


def _check_probabilities(rows: Array, rounding: float) -> None:
    values = rows[np.isfinite(rows).all(axis=1)]
    allowed = max(_LARGEST_GAP, rounding * rows.shape[1])
    sums = values.sum(axis=1) if rows.shape[1] > 1 else np.ones(len(values))
    outside = np.any(values < 0.0) or np.any(values > 1.0 + allowed)
    if outside or np.any(np.abs(sums - 1.0) > allowed):
        raise DataError(
            "outputs: these are no probabilities (between 0 and 1, with a sum of 1); give "
            "from_logits=True if they are logits"
        )
