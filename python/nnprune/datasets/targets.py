"""Labels as class indices, and targets of a regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nnprune.datasets.arrays import check_numbers
from nnprune.datasets.expectation import Expectation, LabelKind
from nnprune.datasets.shapes import fits
from nnprune.errors import DataError

__all__ = ["LabelReader", "TargetReader", "YReader"]


class YReader(Protocol):
    """Turns labels or targets into what metrics take, and accounts for what is wrong."""

    kind: LabelKind

    def meet(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Check the shape for one sample and the dtype."""

    def convert(self, raw: NDArray[Any]) -> NDArray[np.int64] | NDArray[np.float32]:
        """Return a copy as `Batch.y`."""
        ...

    def survey(self, raw: NDArray[Any]) -> None:
        """Look for what is wrong."""

    def verdict(self, where: str) -> None:
        """Refuse what `survey` has found; `where` names the samples since the last verdict."""


@dataclass(kw_only=True)
class _Findings:
    """What a pass over the labels has shown so far."""

    samples: int = 0
    judged: int = 0
    wrong: int = 0
    first_wrong: int = 0
    example: object = None
    outside: int = 0
    least: int | None = None
    greatest: int | None = None

    def note_wrong(self, start: int, wrong: NDArray[np.bool_], values: NDArray[Any]) -> None:
        """Count labels of the wrong kind, and keep the first."""
        if not wrong.any():
            return
        if not self.wrong:
            first = int(wrong.argmax())
            self.first_wrong, self.example = start + first, values[first]
        self.wrong += int(np.count_nonzero(wrong))


class LabelReader:
    """Class indices [N] or [N, 1], in any type that holds whole numbers, or one-hot rows [N, C]."""

    def __init__(self, name: str, expectation: Expectation) -> None:
        """Prepare to read labels that messages call `name`."""
        self.name = name
        self.kind: LabelKind = "integers"
        self._classes = expectation.outputs
        self._found = _Findings()

    def meet(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Check the shape of one label and the dtype, and tell indices from one-hot rows."""
        if dtype.kind in "UST":
            raise DataError(
                f"{self.name}: labels are text (dtype {dtype.name}); give the index of each "
                f"sample's class, 0 to {self._classes - 1}"
            )
        check_numbers(self.name, dtype)
        if shape in ((), (1,)):
            self.kind = "integers"
        elif shape == (self._classes,):
            self.kind = "one_hot"
        else:
            raise DataError(
                f"{self.name}: a label has shape {shape}; give class indices [N] or one-hot rows "
                f"[N, {self._classes}] for the {self._classes} classes of the model"
            )

    def convert(self, raw: NDArray[Any]) -> NDArray[np.int64]:
        """Return class indices [n]; only for labels that `survey` finds nothing wrong with."""
        if self.kind == "one_hot":
            indices: NDArray[np.int64] = np.argmax(raw, axis=1).astype(np.int64)
            return indices
        labels: NDArray[np.int64] = raw.reshape(len(raw)).astype(np.int64)
        return labels

    def survey(self, raw: NDArray[Any]) -> None:
        """Look for labels that are no class index or no one-hot row."""
        found = self._found
        start, found.samples = found.samples, found.samples + len(raw)
        if self.kind == "one_hot":
            ones = raw == 1
            one_hot = np.all(ones | (raw == 0), axis=1) & (np.count_nonzero(ones, axis=1) == 1)
            found.note_wrong(start, ~one_hot, raw)
            return
        labels = raw.reshape(len(raw))
        if labels.dtype.kind not in "biu":
            labels = labels.astype(np.float64)
            whole = np.isfinite(labels) & (labels == np.rint(labels))
            found.note_wrong(start, ~whole, labels)
            labels = labels[whole]
        if labels.size:
            least, greatest = int(labels.min()), int(labels.max())
            found.least = least if found.least is None else min(found.least, least)
            found.greatest = greatest if found.greatest is None else max(found.greatest, greatest)
            found.outside += int(np.count_nonzero((labels < 0) | (labels >= self._classes)))

    def verdict(self, where: str) -> None:
        """Refuse what `survey` has found wrong.

        Raises
        ------
        DataError
            Labels that are no class of the model.
        """
        found = self._found
        label = f"{self.name}{where}"
        of_all = f"of {found.samples - found.judged}"
        if found.wrong and self.kind == "one_hot":
            raise DataError(
                f"{label}: {found.wrong} {of_all} rows are not one-hot, one 1 and else 0 (first: "
                f"sample {found.first_wrong}, counted from 0); give class indices, such as "
                "y.argmax(axis=1)"
            )
        if found.wrong:
            raise DataError(
                f"{label}: {found.wrong} {of_all} labels are no whole numbers (first: sample "
                f"{found.first_wrong}, counted from 0, is {found.example}); give class indices, "
                'or for values to predict use task="regression" (--task regression)'
            )
        if found.outside:
            raise DataError(
                f"{label}: {found.outside} {of_all} labels are no class of the model, which has "
                f"0..{self._classes - 1} (smallest label {found.least}, largest "
                f"{found.greatest}); {self._advice()}"
            )
        found.judged = found.samples

    def _advice(self) -> str:
        found = self._found
        if found.least == 1 and found.greatest == self._classes:
            return "labels start at 0: subtract 1"
        if self._classes == 2 and (found.least, found.greatest) == (-1, 1):
            return "write 0 for -1"
        return "use the labels of the model's training"


class TargetReader:
    """Values to predict, of the shape of the model's output."""

    def __init__(self, name: str, expectation: Expectation) -> None:
        """Prepare to read targets that messages call `name`."""
        self.name = name
        self.kind: LabelKind = "values"
        self._shape = expectation.output_shape
        self._found = _Findings()

    def meet(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Check the shape of one target and the dtype."""
        check_numbers(self.name, dtype)
        if not fits(shape, self._shape):
            raise DataError(
                f"{self.name}: a target has shape {shape}, the model's output {self._shape}"
            )

    def convert(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        """Return targets [n, *output_shape]."""
        with np.errstate(over="ignore"):  # too large for float32: found by `survey`
            return raw.astype(np.float32, order="C").reshape(len(raw), *self._shape)

    def survey(self, raw: NDArray[Any]) -> None:
        """Look for targets that are not finite."""
        found = self._found
        start, found.samples = found.samples, found.samples + len(raw)
        broken = ~np.isfinite(self.convert(raw)).reshape(len(raw), -1)
        found.note_wrong(start, np.any(broken, axis=1), raw)

    def verdict(self, where: str) -> None:
        """Refuse what `survey` has found wrong.

        Raises
        ------
        DataError
            Targets that are NaN or infinite.
        """
        found = self._found
        if found.wrong:
            raise DataError(
                f"{self.name}{where}: targets of {found.wrong} of {found.samples - found.judged} "
                "samples are NaN, infinite or too large for float32 (first: sample "
                f"{found.first_wrong}, counted from 0)"
            )
        found.judged = found.samples
