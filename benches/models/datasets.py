"""The data sets that the training scripts and the benchmarks read.

They are NumPy archives in the folder named by the environment variable ``NNPRUNE_DATA``; without
it, in ``../shared/data`` beside the repository. Nothing is downloaded. Images are read by `load`,
tables by `load_table`, and by `load_for` what a model kept here was trained on.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_REPOSITORY = Path(__file__).resolve().parents[2]
_DEFAULT_FOLDER = _REPOSITORY.parent / "shared" / "data"

DATA_OF_MODEL = {
    "mnist": "mnist",
    "cifar10": "cifar10",
    "creditcard": "creditcard",
    "kdd": "kddcup99",
    "lenet300": "fashion_mnist",
    "fashion_batchnorm": "fashion_mnist",
}
"""The data set that each model of this folder was trained and is tested on."""

# Standardized features are clipped to [-limit, limit]; in KDD Cup '99 the numeric ones, which come
# first, and what follows is one-hot.
_CREDITCARD_FEATURES, _CREDITCARD_LIMIT = 29, 5.0
_KDD_FEATURES, _KDD_NUMERIC, _KDD_LIMIT = 120, 33, 10.0


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


@dataclass(frozen=True, kw_only=True)
class Table:
    """A labelled table of features with its split.

    Attributes
    ----------
    x_train, x_test : ndarray of float32, shape (samples, features)
        Features, within `lower` and `upper`.
    y_train, y_test : ndarray of uint8, shape (samples,)
        Class labels.
    lower, upper : ndarray of float32, shape (features,)
        Least and greatest legitimate value of each feature.
    """

    x_train: NDArray[np.float32]
    y_train: NDArray[np.uint8]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.uint8]
    lower: NDArray[np.float32]
    upper: NDArray[np.float32]


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
    with np.load(_present(name, "uint8 arrays x_train, y_train, x_test, y_test")) as archive:
        return Images(
            x_train=archive["x_train"].astype(np.float32) / 255,
            y_train=archive["y_train"],
            x_test=archive["x_test"].astype(np.float32) / 255,
            y_test=archive["y_test"],
        )


def load_table(name: str) -> Table:
    """Read the table ``<name>.npz``, its features clipped to their box.

    Parameters
    ----------
    name : str
        ``"creditcard"`` (features already clipped to [-5, 5] in the file) or ``"kddcup99"``
        (its 33 numeric features are clipped here to [-10, 10]; single values reach 400
        deviations).

    Returns
    -------
    Table

    Raises
    ------
    MissingDataError
        If the folder holds no such file.
    """
    lower, upper = table_box(name)
    with np.load(_present(name, "arrays x_train, y_train, x_test, y_test")) as archive:
        return Table(
            x_train=np.clip(archive["x_train"], lower, upper),
            y_train=archive["y_train"],
            x_test=np.clip(archive["x_test"], lower, upper),
            y_test=archive["y_test"],
            lower=lower,
            upper=upper,
        )


def load_for(model: str) -> Images | Table:
    """Read the data set of a model kept here: ``"mnist"``, ``"kdd"``, ... (`DATA_OF_MODEL`)."""
    name = DATA_OF_MODEL[model]
    return load_table(name) if name in ("creditcard", "kddcup99") else load(name)


def table_box(name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the least and the greatest legitimate value of each feature of a table.

    Standardized features end at the same value on both sides, one-hot features are in [0, 1].
    """
    if name == "creditcard":
        upper = np.full(_CREDITCARD_FEATURES, _CREDITCARD_LIMIT, np.float32)
        return -upper, upper
    numeric = np.arange(_KDD_FEATURES) < _KDD_NUMERIC
    lower = np.where(numeric, -_KDD_LIMIT, 0.0).astype(np.float32)
    return lower, np.where(numeric, _KDD_LIMIT, 1.0).astype(np.float32)


def _present(name: str, contents: str) -> Path:
    """Return the path of a data set, which must be there."""
    path = folder() / f"{name}.npz"
    if not path.is_file():
        raise MissingDataError(
            f"no data set {path}: set NNPRUNE_DATA to the folder that holds {name}.npz ({contents})"
        )
    return path
