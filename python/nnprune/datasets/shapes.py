"""Which shapes mean the same sample, and what to say where they do not."""

from __future__ import annotations

import math

__all__ = ["advice_on_shape", "fits"]

_MOST_AXES = 2


def fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a sample can be taken for one of another shape, row by row.

    So it is where they differ in axes of length one only, or in one being the other flattened.
    """
    if shape == wanted:
        return True
    long, wanted_long = _longer_than_one(shape), _longer_than_one(wanted)
    if long == wanted_long:
        return True
    flat = len(long) < _MOST_AXES or len(wanted_long) < _MOST_AXES
    return flat and math.prod(shape) == math.prod(wanted)


def advice_on_shape(shape: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Say what to do about samples of a shape that does not fit.

    Parameters
    ----------
    shape : tuple of int
        Of one sample.
    wanted : tuple of int
        What the model takes.
    """
    if len(shape) == len(wanted) > 1 and shape == (wanted[-1], *wanted[:-1]):
        axes = (0, *range(2, len(shape) + 1), 1)
        return f"the channels come first: use numpy.transpose(x, {axes})"
    if len(shape) == len(wanted) > 1 and shape == (*wanted[1:], wanted[0]):
        axes = (0, len(shape), *range(1, len(shape)))
        return f"the channels come last: use numpy.transpose(x, {axes})"
    if sorted(shape) == sorted(wanted):
        return "the axes are in another order: transpose them"
    if math.prod(shape) == math.prod(wanted):
        return "the number of values is right: reshape them if that keeps their meaning"
    if len(shape) == len(wanted) > 1 and shape[-1] == wanted[-1]:
        return "resize the samples"
    return "prepare the data as for training"


def _longer_than_one(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(length for length in shape if length != 1)
