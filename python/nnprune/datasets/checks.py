"""Inputs and labels of the same samples, read and judged together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnprune.datasets.expectation import Batch, Expectation, LabelKind
from nnprune.datasets.inputs import InputReader, Scaling
from nnprune.datasets.targets import LabelReader, TargetReader, YReader
from nnprune.errors import DataError

__all__ = ["SampleReader"]


class SampleReader:
    """Turns chunks of raw samples into batches, and refuses data that do not fit the model."""

    def __init__(
        self, names: tuple[str, str], expectation: Expectation, scaling: Scaling | None
    ) -> None:
        """Prepare to read samples; messages call inputs and labels by `names`."""
        x_name, y_name = names
        self.scaling = scaling
        self._x = InputReader(x_name, expectation, scaling)
        self._y: YReader = (
            LabelReader(y_name, expectation)
            if expectation.task == "classification"
            else TargetReader(y_name, expectation)
        )
        self._shapes: tuple[tuple[int, ...], tuple[int, ...]] | None = None
        self.samples = 0

    @property
    def labels(self) -> LabelKind:
        """The form of the labels; known after `meet`."""
        return self._y.kind

    @property
    def reshaped_from(self) -> tuple[int, ...] | None:
        """The samples' own shape where it is not the model's; known after `meet`."""
        return self._x.reshaped_from

    def meet(
        self,
        x_shape: tuple[int, ...],
        x_dtype: np.dtype[Any],
        y_shape: tuple[int, ...],
        y_dtype: np.dtype[Any],
    ) -> None:
        """Check shapes, without the sample axis, and dtypes of what is to come.

        Raises
        ------
        DataError
            They do not fit the model, or are not those of the samples before.
        """
        if self._shapes not in (None, (x_shape, y_shape)):
            raise DataError(
                f"{self._x.name}: samples and labels from sample {self.samples} on have shapes "
                f"{x_shape} and {y_shape}, those before {self._shapes[0]} and {self._shapes[1]}; "
                "give all the same shape"
            )
        self._x.meet(x_shape, x_dtype)
        self._y.meet(y_shape, y_dtype)
        self._shapes = x_shape, y_shape

    def survey(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        """Look at values without judging yet."""
        self._look(self._x.convert(x, copy=False), y)

    def verdict(self) -> None:
        """Refuse what is wrong with the samples surveyed.

        Raises
        ------
        DataError
            Values that are not finite or outside the box, labels that are no class.
        """
        self._x.verdict("")
        self._y.verdict("")

    def convert(self, x: NDArray[Any], y: NDArray[Any]) -> Batch:
        """Return samples that are known to be right."""
        return Batch(self._x.convert(x), self._y.convert(y))

    def read(self, x: NDArray[Any], y: NDArray[Any]) -> Batch:
        """Return samples that nobody has looked at yet.

        Raises
        ------
        DataError
            As `meet` and `verdict`, with the range of the samples.
        """
        self.meet(x.shape[1:], x.dtype, y.shape[1:], y.dtype)
        converted = self._x.convert(x)
        first = self.samples
        self._look(converted, y)
        where = f" in samples {first} to {self.samples - 1}"
        self._x.verdict(where)
        self._y.verdict(where)
        return Batch(converted, self._y.convert(y))

    def warnings(self) -> list[str]:
        """Say what is odd about samples that have passed."""
        return self._x.warnings()

    def _look(self, converted: NDArray[np.float32], y: NDArray[Any]) -> None:
        self._x.survey(converted)
        self._y.survey(y)
        self.samples += len(y)
