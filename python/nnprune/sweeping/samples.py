"""Labelled samples as another process, or another machine, can read them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from nnprune.datasets.arrays import is_array, to_numpy
from nnprune.datasets.evaluation_data import EvaluationData
from nnprune.datasets.files import named_pair
from nnprune.datasets.sources import open_data
from nnprune.errors import ConfigError, DataError
from nnprune.keras_io.fingerprints import array_sha256

__all__ = ["Samples", "samples_of"]

Part = str | NDArray[Any]
"""An absolute path, or an array."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Where labelled samples are: paths that are read where the work is done, or the arrays.

    Attributes
    ----------
    x : str or array
        Inputs, or a file or folder with both.
    y : str, array or None
        Labels; None where `x` has them.
    scale, offset : float or None
        What `x` is multiplied by, and what is added then.
    """

    x: Part
    y: Part | None
    scale: float | None
    offset: float | None

    def open(self) -> EvaluationData:
        """Open them on this machine.

        Raises
        ------
        DataError
            They cannot be read.
        """
        return open_data(self.x, self.y, scale=self.scale, offset=self.offset)

    def sha256(self, opened: EvaluationData) -> str | None:
        """Return their fingerprint: of the files, or over both arrays."""
        if isinstance(self.x, str) or self.y is None or isinstance(self.y, str):
            return opened.sha256
        return hashlib.sha256((array_sha256(self.x) + array_sha256(self.y)).encode()).hexdigest()


def samples_of(evaluate: Any, *, scale: float | None, offset: float | None) -> Samples | None:
    """Take the samples as the user has given them.

    Parameters
    ----------
    evaluate : path, pair or mapping, optional
        The path of an `.npz` file or of a folder of images, `"x.npy,y.npy"`, a pair `(x, y)` of
        arrays or `.npy` files, or a mapping with both arrays.
    scale, offset : float, optional
        As for `nnprune.evaluate`.

    Raises
    ------
    ConfigError
        There is a scale or an offset, but no samples.
    DataError
        They are something else, which another process could not read.
    """
    if evaluate is None:
        if scale is not None or offset is not None:
            raise ConfigError("scale: is for the samples of `evaluate`, which are not given")
        return None
    x, y = _pair(evaluate)
    return Samples(x=x, y=y, scale=scale, offset=offset)


def _pair(evaluate: Any) -> tuple[Part, Part | None]:
    if isinstance(evaluate, str | os.PathLike):
        text = os.fspath(evaluate)
        if isinstance(text, str) and text.count(",") == 1 and not os.path.exists(text):
            first, second = text.split(",")
            return _part("x", first.strip()), _part("y", second.strip())
        return _part("x", evaluate), None
    if isinstance(evaluate, Mapping):
        x_name, y_name = named_pair(list(evaluate), "data")
        return to_numpy(x_name, evaluate[x_name]), to_numpy(y_name, evaluate[y_name])
    if isinstance(evaluate, tuple) and len(evaluate) == 2:
        return _part("x", evaluate[0]), _part("y", evaluate[1])
    raise DataError(
        f"evaluate: {type(evaluate).__name__} cannot be sent to other processes; give the path of "
        "an .npz file or of a folder of images, or a pair of arrays (x, y)"
    )


def _part(name: str, given: Any) -> Part:
    """Make a path absolute, for a worker may have another working directory."""
    if isinstance(given, str | os.PathLike):
        path = os.fspath(given)
        if not isinstance(path, str):
            raise DataError(f"{name}: the path {path!r} is bytes; give text")
        return path if "://" in path else str(Path(path).absolute())
    if is_array(given) or isinstance(given, list | tuple) or hasattr(given, "__array__"):
        return to_numpy(name, given)
    raise DataError(
        f"evaluate: {name} of type {type(given).__name__} cannot be sent to other processes; give "
        "an array or the path of an .npy file"
    )
