"""Arrays of samples, wherever they are, read from front to back in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nnprune.errors import DataError
from nnprune.keras_io.wording import one_line, quoted

__all__ = ["ArrayRows", "Rows", "check_numbers", "is_array", "to_numpy"]

_WIDENED = ("bfloat16", "float8")  # NumPy lists them as "other" kinds, and torch cannot export them


class Rows(Protocol):
    """An array with samples along its first axis.

    Attributes
    ----------
    name : str
        How messages name it.
    shape : tuple of int
        Its whole shape.
    dtype : dtype
        Of its values.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def chunks(self, size: int) -> Iterator[NDArray[Any]]:
        """Give all samples in order, `size` at a time (fewer in the last chunk)."""
        ...


class ArrayRows:
    """An array or tensor in memory, or mapped into it; only slices of it are converted."""

    def __init__(self, name: str, values: Any) -> None:
        """Take anything that NumPy can make an array of."""
        self.name = name
        if isinstance(values, np.ma.MaskedArray) and np.any(np.ma.getmaskarray(values)):
            raise DataError(f"{name}: some values are masked; leave such samples out")
        lazy = is_array(values) and not hasattr(values, "iloc")  # pandas slices by its own rules
        self._values = values if lazy else to_numpy(name, values)
        self.shape = tuple(int(length) for length in self._values.shape)
        probe = self._values[:0] if self.shape else self._values
        self.dtype = to_numpy(name, probe).dtype

    def chunks(self, size: int) -> Iterator[NDArray[Any]]:
        """Give all samples in order, `size` at a time; views where the array is NumPy's."""
        for start in range(0, self.shape[0], size):
            yield to_numpy(self.name, self._values[start : start + size])


def is_array(values: Any) -> bool:
    """Whether an object is an array or tensor of any package, and no list or stream."""
    return all(hasattr(values, name) for name in ("shape", "dtype", "__getitem__"))


def to_numpy(name: str, values: Any) -> NDArray[Any]:
    """Return values as a NumPy array, without a copy where possible.

    Parameters
    ----------
    name : str
        How messages name them.
    values : array-like
        NumPy, TensorFlow, torch (on any device, with or without gradients), JAX, nested lists.

    Raises
    ------
    DataError
        They are ragged, or of a kind that has no array.
    """
    try:
        if hasattr(values, "detach"):  # torch
            values = values.detach().cpu()
            if str(values.dtype).removeprefix("torch.").startswith(_WIDENED):
                values = values.float()
        if callable(getattr(values, "numpy", None)):  # torch and TensorFlow
            values = values.numpy()
        return np.asarray(values)
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise DataError(
            f"{name}: {quoted(type(values).__name__)} cannot be turned into one array of numbers "
            f"({one_line(error)}); give all samples the same shape"
        ) from error


def check_numbers(name: str, dtype: np.dtype[Any]) -> None:
    """Refuse what is not real numbers or bool.

    Raises
    ------
    DataError
        The message names the dtype.
    """
    if dtype.kind in "biuf" or dtype.name.startswith(_WIDENED):
        return
    kinds = {"c": "complex numbers", "U": "text", "S": "text", "T": "text", "O": "Python objects"}
    what = kinds.get(dtype.kind, "no numbers")
    raise DataError(f"{name}: holds {what} (dtype {dtype.name}); real numbers are needed")
