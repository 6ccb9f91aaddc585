"""Batches from tf.data, Keras' PyDataset, torch's DataLoader and any other iterable."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnprune.datasets.arrays import Rows, to_numpy
from nnprune.datasets.evaluation_data import RawChunk
from nnprune.datasets.expectation import Expectation
from nnprune.datasets.inputs import Scaling
from nnprune.datasets.shapes import fits
from nnprune.errors import DataError
from nnprune.keras_io.wording import quoted

__all__ = ["StreamSource", "is_stream"]

_INFINITE = -1  # tf.data.INFINITE_CARDINALITY
_FORM = "each element must be a pair (x, y) of a batch or a sample"


def is_stream(data: Any) -> bool:
    """Whether an object can be iterated over, or indexed up to its length."""
    return hasattr(data, "__iter__") or (hasattr(data, "__getitem__") and hasattr(data, "__len__"))


class StreamSource:
    """An iterable of (x, y), or (x, y, sample weights), in batches of any size or single samples.

    A re-iterable one is read anew in each pass; an iterator only once.
    """

    array_names = ("x", "y")
    samples: int | None = None
    sha256: str | None = None
    surveyed = False

    def __init__(self, data: Any) -> None:
        """Take a stream.

        Raises
        ------
        DataError
            It says of itself that it never ends.
        """
        self.name = f"batches from {_kind(data)}"
        self.warnings: tuple[str, ...] = ()
        self._data = data
        self._once = hasattr(data, "__next__")
        self._used = False
        if _is_endless(data):
            raise DataError(
                f"{self.name}: they never end; leave out repeat(), or take a number of them"
            )

    def prepare(self, expectation: Expectation, *, scaled: bool) -> Scaling | None:
        """Nothing is known beforehand."""
        return None

    def rows(self) -> tuple[Rows, Rows] | None:
        """There are no whole arrays."""
        return None

    def chunks(self, expectation: Expectation, size: int) -> Iterator[RawChunk]:
        """Begin a pass.

        Raises
        ------
        DataError
            The stream is an iterator, and a pass was begun before; or, when its turn comes, an
            element that is no pair, or whose x and y have different lengths.
        """
        if self._once and self._used:
            raise DataError(
                f"{self.name}: an iterator can be read only once and this one was; make a new one, "
                "or give something that can be read again, such as a list or a DataLoader"
            )
        self._used = True
        return self._pieces(expectation, size)

    def _pieces(self, expectation: Expectation, size: int) -> Iterator[RawChunk]:
        first = 0
        for element in _elements(self._data):
            x, y = _batch(element, first, expectation)
            if len(element) == 3:
                self.warnings = (f"{self.name}: sample weights are left out of account",)
            if len(x) != len(y):
                raise DataError(
                    f"{self.name}: the element from sample {first} on has {len(x)} samples in x "
                    f"and {len(y)} in y"
                )
            for start in range(0, len(x), size):
                yield RawChunk(x[start : start + size], y[start : start + size])
            first += len(x)


def _kind(data: Any) -> str:
    if hasattr(data, "element_spec"):  # its classes have many private names
        return "a tf.data.Dataset"
    if isinstance(data, types.GeneratorType):
        return "a generator"
    return type(data).__name__.strip("_")


def _is_endless(data: Any) -> bool:
    if hasattr(data, "element_spec") and callable(getattr(data, "cardinality", None)):
        return int(data.cardinality()) == _INFINITE
    if hasattr(type(data), "num_batches"):  # a PyDataset
        try:
            return data.num_batches is None
        except NotImplementedError:
            return True
    return False


def _elements(data: Any) -> Iterator[Any]:
    if hasattr(data, "__iter__"):
        return iter(data)
    return (data[index] for index in range(len(data)))  # torch's map-style Dataset


def _batch(element: Any, first: int, expectation: Expectation) -> RawChunk:
    """Take an element apart, and give a single sample its batch axis."""
    where = f" of the element from sample {first} on"
    if not isinstance(element, tuple | list) or len(element) not in (2, 3):
        what = quoted(type(element).__name__)
        if isinstance(element, dict):
            what = f"a dictionary with {', '.join(map(quoted, element)) or 'nothing'}"
        raise DataError(f"the element from sample {first} on is {what}: {_FORM}")
    for part, name in zip(element, "xy", strict=False):
        if isinstance(part, tuple | dict):
            raise DataError(
                f"{name}{where} is a {type(part).__name__}: models with several inputs or outputs "
                "cannot be evaluated"
            )
    x, y = to_numpy(f"x{where}", element[0]), to_numpy(f"y{where}", element[1])
    if _is_single(x, y, expectation.input_shape):
        return RawChunk(x[np.newaxis], y[np.newaxis])
    if not x.ndim or not y.ndim:
        raise DataError(
            f"x{where} has shape {x.shape} and y {y.shape}; the model takes samples of shape "
            f"{expectation.input_shape}: {_FORM}"
        )
    return RawChunk(x, y)


def _is_single(x: NDArray[Any], y: NDArray[Any], wanted: tuple[int, ...]) -> bool:
    as_batch = x.ndim > 0 and fits(x.shape[1:], wanted)
    as_single = fits(x.shape, wanted)
    if as_batch and as_single:  # an axis of length one, for the batch or for the sample
        return y.ndim == 0 or len(y) != len(x)
    return as_single or (not as_batch and x.ndim == len(wanted) and y.ndim == 0)
