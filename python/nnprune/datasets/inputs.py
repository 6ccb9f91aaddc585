"""Samples as the model takes them: shape, dtype, scaling, and whether they lie in the box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nnprune.datasets.arrays import check_numbers
from nnprune.datasets.expectation import Expectation
from nnprune.datasets.shapes import advice_on_shape, fits
from nnprune.errors import DataError

__all__ = ["InputReader", "Scaling"]

# Of the box's width; on top of it comes the rounding of the box's own ends to float32.
_TOLERANCE = 1e-6
_FLOAT32 = float(np.finfo(np.float32).eps)

# Data that use less of the box than this were perhaps scaled twice, or for another model.
_SMALL_PART = 0.02

_LARGEST_PIXEL = 255


class Scaling(NamedTuple):
    """`x * scale + offset`, computed in float32."""

    scale: float
    offset: float


@dataclass(kw_only=True)
class _Findings:
    """What a pass over the samples has shown so far."""

    samples: int = 0
    judged: int = 0
    broken_values: int = 0
    first_broken: int = 0
    outside_values: int = 0
    outside_samples: int = 0
    first_outside: int = 0
    whole: bool = True
    least: float = np.inf
    greatest: float = -np.inf


class InputReader:
    """Turns samples into what the model takes, and keeps account of what is wrong with them."""

    def __init__(self, name: str, expectation: Expectation, scaling: Scaling | None) -> None:
        """Prepare to read samples that messages call `name`."""
        self.name = name
        self.reshaped_from: tuple[int, ...] | None = None
        self._expectation = expectation
        self._scaling = scaling
        lower, upper = expectation.lower, expectation.upper
        tolerance = _TOLERANCE * (upper - lower) + _FLOAT32 * np.maximum(abs(lower), abs(upper))
        self._lower, self._upper = lower - tolerance, upper + tolerance
        self._found = _Findings()

    def meet(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Check the shape of one sample and the dtype.

        Raises
        ------
        DataError
            They do not fit the model.
        """
        check_numbers(self.name, dtype)
        wanted = self._expectation.input_shape
        if not fits(shape, wanted):
            raise DataError(
                f"{self.name}: samples have shape {shape}, the model takes {wanted}; "
                f"{advice_on_shape(shape, wanted)}"
            )
        self.reshaped_from = None if shape == wanted else shape

    def convert(self, raw: NDArray[Any], *, copy: bool = True) -> NDArray[np.float32]:
        """Return scaled samples of the model's shape.

        Parameters
        ----------
        raw : array
            As they are given.
        copy : bool, default True
            Whether they must be a copy, because others may write into them.
        """
        with np.errstate(over="ignore"):  # too large for float32: found by `survey`
            x = raw.astype(np.float32, order="C", copy=copy or self._scaling is not None)
            if self._scaling is not None:
                x *= np.float32(self._scaling.scale)
                x += np.float32(self._scaling.offset)
        return x.reshape(len(x), *self._expectation.input_shape)

    def survey(self, x: NDArray[np.float32]) -> None:
        """Look for values that are not finite or outside the box."""
        found = self._found
        start, found.samples = found.samples, found.samples + len(x)
        with np.errstate(invalid="ignore"):
            low, high = x.min(axis=0), x.max(axis=0)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            count, _, first = _where(~np.isfinite(x))
            if not found.broken_values:
                found.first_broken = start + first
            found.broken_values += count
            return
        found.least = min(found.least, float(low.min()))
        found.greatest = max(found.greatest, float(high.max()))
        if np.any(low < self._lower) or np.any(high > self._upper):
            count, samples, first = _where((x < self._lower) | (x > self._upper))
            if not found.outside_values:
                found.first_outside = start + first
            found.outside_values += count
            found.outside_samples += samples
            found.whole &= bool(np.all(x == np.rint(x)))

    def verdict(self, where: str) -> None:
        """Refuse what `survey` has found wrong.

        Parameters
        ----------
        where : str
            Which samples were surveyed since the last verdict; empty if all.

        Raises
        ------
        DataError
            Values that are not finite, or outside a box that was not just assumed.
        """
        found = self._found
        if found.broken_values:
            raise DataError(
                f"{self.name}{where}: {_counted(found.broken_values, 'value')} NaN, infinite or "
                f"too large for float32 (first in sample {found.first_broken}, counted from 0); "
                "leave such samples out or fill them in as for training"
            )
        if found.outside_values and self._expectation.box_source != "assumed":
            judged = found.samples - found.judged
            raise DataError(f"{self._outside(where, judged)}; {self._advice()}")
        found.judged = found.samples

    def warnings(self) -> list[str]:
        """Say what is odd about samples that have passed."""
        found, expectation = self._found, self._expectation
        if found.outside_values:
            return [
                f"{self._outside('', found.samples)}; the box is only assumed, as mean +- 4 "
                "deviations of the Normalization layer, and attacks stay inside it: state the "
                "right one with input_bounds (--input-bounds)"
            ]
        lower, upper = float(expectation.lower.min()), float(expectation.upper.max())
        used = found.greatest - found.least
        if found.samples and used < _SMALL_PART * (upper - lower):
            return [
                f"{self.name}: all values are in {_interval(found.least, found.greatest)}, a "
                f"small part of the input box {_interval(lower, upper)}; are they scaled as for "
                "training?"
            ]
        return []

    def _outside(self, where: str, samples: int) -> str:
        found, expectation = self._found, self._expectation
        box = _interval(expectation.lower.min(), expectation.upper.max())
        scaled = "" if self._scaling is None else ", scaled as asked for,"
        varied = "" if expectation.uniform_box else ", which is narrower for some features"
        return (
            f"{self.name}{where}: {_counted(found.outside_values, 'value')} outside the input box "
            f"{box}{varied}, in {found.outside_samples} of {samples} samples "
            f"(first in sample {found.first_outside}, counted from 0); the values{scaled} range "
            f"from {found.least:.6g} to {found.greatest:.6g}"
        )

    def _advice(self) -> str:
        found, box = self._found, self._expectation.uniform_box
        pixels = found.whole and found.least >= 0 and found.greatest <= _LARGEST_PIXEL
        general = (
            "prepare the values as for training, or state the box they are from with "
            "input_bounds (--input-bounds)"
        )
        if box is None or not pixels or self._scaling is not None:
            return general
        lower, width = box[0], box[1] - box[0]
        if lower == 0:
            scaling = f"scale={width:g}/255 (--scale {width:g}/255)"
        else:
            scaling = (
                f"scale={width:g}/255, offset={lower:g} (--scale {width:g}/255 --offset {lower:g})"
            )
        return f"if they are pixels of 0..255, use {scaling}; else {general}"


def _where(wrong: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Return how many values are wrong, in how many samples, and the first of these."""
    rows = wrong.reshape(len(wrong), -1).any(axis=1)
    return int(np.count_nonzero(wrong)), int(np.count_nonzero(rows)), int(rows.argmax())


def _counted(count: int, noun: str) -> str:
    return f"1 {noun} is" if count == 1 else f"{count} {noun}s are"


def _interval(lower: float, upper: float) -> str:
    return f"[{lower:.6g}, {upper:.6g}]"
