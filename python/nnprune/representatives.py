"""A few unlabelled inputs that the user gives in place of synthetic ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnprune.errors import DataError
from nnprune.keras_io.config import ModelInput
from nnprune.keras_io.input_box import InputBox
from nnprune.keras_io.opened import OpenedModel
from nnprune.keras_io.wording import quoted

__all__ = ["Representatives", "read_representatives"]

_OPTION = "representative_inputs"
# As for labelled samples: of the box's width, and the rounding of its ends to float32.
_TOLERANCE = 1e-6
_FLOAT32 = float(np.finfo(np.float32).eps)


@dataclass(frozen=True, kw_only=True, eq=False)
class Representatives:
    """Unlabelled inputs that fit the model.

    Attributes
    ----------
    arrays : tuple of float32 arrays, shape (samples, *input_shape)
        The samples of every input, in the model's order.
    sha256 : str
        Their fingerprint.
    """

    arrays: tuple[NDArray[np.float32], ...] = field(repr=False)
    sha256: str

    @property
    def samples(self) -> int:
        """How many there are."""
        return len(self.arrays[0])


def read_representatives(given: Any, opened: OpenedModel, box: InputBox) -> Representatives:
    """Check unlabelled inputs.

    Parameters
    ----------
    given : array, sequence of arrays or mapping of str to array
        The samples of the one input, or of all in the model's order or by their names; shape
        (samples, *input_shape).
    opened : OpenedModel
        The model.
    box : InputBox
        Its legitimate inputs.

    Raises
    ------
    DataError
        There are fewer than two, they do not fit the model, are not finite, or outside the box.
    """
    inputs = opened.graph.inputs
    given_arrays = _by_input(given, inputs)
    counts = {name: len(array) for name, array in given_arrays.items()}
    if len(set(counts.values())) > 1:
        raise DataError(
            f"{_OPTION}: the inputs have different numbers of samples ({counts}); give the same "
            "samples of each"
        )
    digest = hashlib.sha256()
    found = []
    for one, lower, upper in zip(inputs, box.lower, box.upper, strict=True):
        array = _checked(given_arrays[one.name], one, lower, upper)
        digest.update(repr((one.name, array.shape)).encode())
        digest.update(array.tobytes())
        found.append(array)
    return Representatives(arrays=tuple(found), sha256=digest.hexdigest())


def _by_input(given: Any, inputs: tuple[ModelInput, ...]) -> dict[str, NDArray[Any]]:
    names = [one.name for one in inputs]
    if isinstance(given, Mapping):
        if set(given) != set(names):
            raise DataError(
                f"{_OPTION}: expected an array for each of the inputs {_listed(names)}, got "
                f"{_listed(map(str, given))}"
            )
        return {name: _array(given[name], name) for name in names}
    if len(inputs) == 1:
        only = given[0] if _is_list_of_one_array(given) else given
        return {names[0]: _array(only, names[0])}
    if not isinstance(given, list | tuple) or len(given) != len(inputs):
        raise DataError(
            f"{_OPTION}: expected a list of {len(inputs)} arrays, or a mapping, for the inputs "
            f"{_listed(names)}"
        )
    return {name: _array(one, name) for name, one in zip(names, given, strict=True)}


def _is_list_of_one_array(given: Any) -> bool:
    one = isinstance(given, list | tuple) and len(given) == 1
    return one and isinstance(given[0], np.ndarray) and given[0].ndim > 1


def _array(given: Any, name: str) -> NDArray[Any]:
    try:
        array = np.asarray(given)
    except (TypeError, ValueError):  # lists of different lengths
        array = np.empty((), object)
    numbers = np.issubdtype(array.dtype, np.number) and not np.iscomplexobj(array)
    if not (numbers or array.dtype == np.bool_):
        raise DataError(f"{_OPTION}: expected an array of numbers for input {quoted(name)}")
    if array.ndim == 0 or len(array) < 2:
        got = "a number" if array.ndim == 0 else f"{len(array)}"
        raise DataError(
            f"{_OPTION}: expected at least two samples of input {quoted(name)}, got {got}; their "
            "spread is what is used"
        )
    return array


def _checked(
    array: NDArray[Any], one: ModelInput, lower: NDArray[np.float64], upper: NDArray[np.float64]
) -> NDArray[np.float32]:
    name = quoted(one.name)
    if array.shape[1:] != one.shape:
        raise DataError(
            f"{_OPTION}: samples of input {name} have shape {array.shape[1:]}, the model takes "
            f"{one.shape}; reshape them to (samples, {', '.join(map(str, one.shape))})"
        )
    with np.errstate(over="ignore"):
        found: NDArray[np.float32] = np.ascontiguousarray(array, np.float32)
    _refuse(~np.isfinite(found), name, "values that are NaN or infinite", "leave them out")
    tolerance = _TOLERANCE * (upper - lower) + _FLOAT32 * np.maximum(abs(lower), abs(upper))
    outside = (found < lower - tolerance) | (found > upper + tolerance)
    remedy = (
        f"the box is [{np.min(lower):g}, {np.max(upper):g}], the samples reach from "
        f"{found.min():g} to {found.max():g}: scale them as for training, or give input_bounds "
        "(--input-bounds)"
    )
    _refuse(outside, name, "values outside the input box", remedy)
    return np.clip(found, lower, upper).astype(np.float32)


def _refuse(wrong: NDArray[np.bool_], name: str, what: str, remedy: str) -> None:
    if wrong.any():
        first = int(np.argmax(wrong.reshape(len(wrong), -1).any(axis=1)))
        raise DataError(
            f"{_OPTION}: {int(wrong.sum())} {what} in input {name}, the first in sample {first}; "
            f"{remedy}"
        )


def _listed(names: Any) -> str:
    return ", ".join(quoted(name) for name in names)
