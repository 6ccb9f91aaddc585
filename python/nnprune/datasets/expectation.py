"""What a model takes, one batch of it, and what the report says about the data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Batch", "DataDescription", "Expectation", "LabelKind"]

LabelKind = Literal["integers", "one_hot", "values"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Expectation:
    """What a model takes and gives.

    Attributes
    ----------
    input_shape : tuple of int
        Of one sample, without the batch axis.
    outputs : int
        Classes: C, or 2 for a binary head with one logit. Of no meaning for regression.
    task : {"classification", "regression"}
        Whether labels are classes or values.
    output_shape : tuple of int
        Of one sample's output, without the batch axis.
    lower, upper : float64 array of `input_shape`
        The legitimate inputs, as declared.
    box_source : {"given", "default", "rescaling", "assumed"}
        Where the box came from; values outside one that was only assumed are no error.
    """

    input_shape: tuple[int, ...]
    outputs: int
    task: Literal["classification", "regression"]
    output_shape: tuple[int, ...]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    box_source: Literal["given", "default", "rescaling", "assumed"]

    @property
    def uniform_box(self) -> tuple[float, float] | None:
        """The ends of the box where they are the same for every feature, else None."""
        lower, upper = float(self.lower.min()), float(self.upper.max())
        same = bool(np.all(self.lower == lower) and np.all(self.upper == upper))
        return (lower, upper) if same else None


class Batch(NamedTuple):
    """Samples as the model takes them; the arrays are copies of their own.

    Attributes
    ----------
    x : float32 array [n, *input_shape], C-contiguous
        The inputs.
    y : int64 array [n], or float32 array [n, *output_shape]
        Class indices from 0, or for regression the target values.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64] | NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class DataDescription:
    """What the report says about the data.

    Attributes
    ----------
    source : str
        Name of the file or folder, or what kind of object it was.
    sha256 : str or None
        Fingerprint of the file. Of two files or a folder: of the lines `fingerprint  name` of all
        files in the order in which they were read. None for data in memory.
    samples : int
        How many were read.
    labels : {"integers", "one_hot", "values"}
        The form of the labels as given.
    reshaped_from : tuple of int or None
        The samples' own shape where it was not the model's.
    scale, offset : float or None
        `x * scale + offset` was taken for x; None where the values were taken as they are.
    """

    source: str
    sha256: str | None
    samples: int
    labels: LabelKind
    reshaped_from: tuple[int, ...] | None
    scale: float | None
    offset: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON knows them."""
        shape = self.reshaped_from
        return asdict(self) | {"reshaped_from": None if shape is None else list(shape)}
