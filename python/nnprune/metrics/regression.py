"""Quality of a regression model: squared and absolute errors, and change against the original."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnprune.errors import ConfigError, DataError, ModelError

__all__ = ["RegressionQuality", "RegressionTotals"]

Array = NDArray[np.float64]

_LARGEST_VALUE = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class RegressionQuality:
    """How close a model's outputs are to the targets, over all samples and outputs.

    Attributes
    ----------
    mse : float
        Mean squared error, in the target's unit squared.
    mae : float
        Mean absolute error, in the target's unit.
    mean_change, largest_change : float or None
        Mean and largest absolute difference to the original model's outputs; None without them.
    """

    mse: float
    mae: float
    mean_change: float | None
    largest_change: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON has them."""
        return asdict(self)


class RegressionTotals:
    """Sums over batches, from which `result` makes a `RegressionQuality`."""

    def __init__(self) -> None:
        self._values = 0
        self._squares = 0.0
        self._errors = 0.0
        self._changes = 0.0
        self._largest = 0.0
        self._with_original: bool | None = None

    def add(
        self,
        outputs: ArrayLike,
        targets: ArrayLike,
        original_outputs: ArrayLike | None = None,
    ) -> None:
        """Take one batch in.

        Parameters
        ----------
        outputs : array of float, shape [samples, ...]
            What the model gives.
        targets : array of float, shape of `outputs`
            What it should give; axes of length 1 may be missing or added after the first.
        original_outputs : array of float, shape of `outputs`, optional
            What the original model gives: with every batch or with none.

        Raises
        ------
        ModelError
            Outputs are NaN or infinite.
        DataError
            Targets are NaN or infinite, or of another shape than the outputs.
        ConfigError
            Only some batches come with the original's outputs.
        """
        given = _outputs("model", outputs)
        wanted = np.asarray(targets, dtype=np.float64)
        if _shape(wanted) != _shape(given):
            raise DataError(
                f"targets: expected shape {list(given.shape)}, as the model's outputs; got "
                f"{list(wanted.shape)}"
            )
        if not np.all(np.abs(wanted) <= _LARGEST_VALUE):
            raise DataError("targets: found NaN or infinite values; remove those samples")
        with_original = original_outputs is not None
        if self._with_original is None:
            self._with_original = with_original
        if with_original != self._with_original:
            raise ConfigError("batches: expected original_outputs with every batch or with none")
        if original_outputs is not None:
            self._add_changes(given, _outputs("original model", original_outputs))
        errors = np.abs(given - wanted.reshape(given.shape))
        self._values += given.size
        self._squares += float(np.sum(errors**2))
        self._errors += float(np.sum(errors))

    def _add_changes(self, outputs: Array, original: Array) -> None:
        if _shape(original) != _shape(outputs):
            raise ModelError(
                f"the original model gives outputs of shape {list(original.shape)}, this one of "
                f"shape {list(outputs.shape)}; only models with the same outputs can be compared"
            )
        changes = np.abs(outputs - original.reshape(outputs.shape))
        self._changes += float(np.sum(changes))
        self._largest = max(self._largest, float(np.max(changes, initial=0.0)))

    def result(self) -> RegressionQuality:
        """Return the quality over all batches.

        Raises
        ------
        DataError
            There were no samples.
        """
        if self._values == 0:
            raise DataError("regression: no samples were given, so there is no error to tell")
        return RegressionQuality(
            mse=self._squares / self._values,
            mae=self._errors / self._values,
            mean_change=self._changes / self._values if self._with_original else None,
            largest_change=self._largest if self._with_original else None,
        )


def _shape(values: Array) -> tuple[int, ...]:
    """Return the shape without axes of length 1 after the first.

    NumPy would take [N] and [N, 1] for a table of N times N differences.
    """
    return (*values.shape[:1], *(length for length in values.shape[1:] if length != 1))


def _outputs(whose: str, outputs: ArrayLike) -> Array:
    """Return outputs as float64 if they are finite as float32."""
    values: Array = np.asarray(outputs, dtype=np.float64)
    if values.ndim == 0:
        raise ModelError(f"the {whose} gives a single number; expected one or more for each sample")
    finite = np.abs(values) <= _LARGEST_VALUE  # NaN is not <= either
    wrong = int(np.sum(~np.all(finite, axis=tuple(range(1, values.ndim)))))
    if wrong:
        raise ModelError(
            f"the {whose} gives NaN or infinite outputs for {wrong} of {len(values)} samples; look "
            "for NaN in the data, for inputs far outside the range the model was trained on, and "
            "for overflow if it computes in float16"
        )
    return values
