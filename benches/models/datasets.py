"""The data sets that the training scripts and the benchmarks read.

They are NumPy archives in the folder named by the environment variable ``NNPRUNE_DATA``; without
it, in ``../shared/data`` beside the repository. Nothing is downloaded.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_REPOSITORY = Path(__file__).resolve().parents[2]
_DEFAULT_FOLDER = _REPOSITORY.parent / "shared" / "data"


class MissingDataError(FileNotFoundError):
    """A data set is not in the data folder."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """A labelled image data set with its official split.

    Attributes
    ----------
    x_train, x_test : ndarray of float32
        Pixels in [0, 1]; shape (samples, height, width) or (samples, height, width, channels).
    y_train, y_test : ndarray of uint8, shape (samples,)
        Class labels.
    """

    x_train: NDArray[np.float32]
    y_train: NDArray[np.uint8]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.uint8]


def folder() -> Path:
    """Return the folder that the data sets are read from."""
    named = os.environ.get("NNPRUNE_DATA")
    return Path(named).expanduser() if named else _DEFAULT_FOLDER


def load(name: str) -> Images:
    """Read the image data set ``<name>.npz``, its pixels scaled to [0, 1].

    Parameters
    ----------
    name : str
        ``"mnist"``, ``"fashion_mnist"`` or ``"cifar10"``.

    Returns
    -------
    Images

    Raises
    ------
    MissingDataError
        If the folder holds no such file.
    """
    path = folder() / f"{name}.npz"
    if not path.is_file():
        raise MissingDataError(
            f"no data set {path}: set NNPRUNE_DATA to the folder that holds {name}.npz "
            "(uint8 arrays x_train, y_train, x_test, y_test)"
        )
    with np.load(path) as archive:
        return Images(
            x_train=archive["x_train"].astype(np.float32) / 255,
            y_train=archive["y_train"],
            x_test=archive["x_test"].astype(np.float32) / 255,
            y_test=archive["y_test"],
        )
