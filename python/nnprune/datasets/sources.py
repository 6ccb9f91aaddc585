"""Find out what kind of data was given, and open it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nnprune.datasets.arrays import ArrayRows, Rows, is_array
from nnprune.datasets.evaluation_data import EvaluationData, RawChunk
from nnprune.datasets.expectation import Expectation
from nnprune.datasets.files import (
    FORMATS,
    archive_arrays,
    array_file,
    is_archive,
    local_path,
    named_pair,
)
from nnprune.datasets.folder import FolderSource
from nnprune.datasets.inputs import Scaling
from nnprune.datasets.streams import StreamSource, is_stream
from nnprune.errors import DataError
from nnprune.keras_io.scan import fingerprint
from nnprune.keras_io.wording import one_line, quoted, shown_path

__all__ = ["open_data"]

_IN_MEMORY = "arrays in memory"
_NO_LABELS = "labels are missing: give y too"


def open_data(
    x: Any, y: Any = None, *, scale: float | None = None, offset: float | None = None
) -> EvaluationData:
    """Open evaluation data; whether they fit a model is found out later.

    Parameters
    ----------
    x : path, array-like, mapping or iterable
        With `y`: samples as an array or tensor of any package, or the path of a `.npy` file.
        Without: the path of an `.npz` file (arrays `x` and `y`, or `x_test` and `y_test`); two
        paths of `.npy` files as `"x.npy,y.npy"`; a folder with a sub-folder of images for each
        class; a tuple `(x, y)`; a mapping with these names; or an iterable of `(x, y)`, in batches
        or single samples, such as a `tf.data.Dataset`, a Keras `PyDataset`, a torch `DataLoader` or
        a generator, which can be read only once.
    y : array-like or path, optional
        Labels: class indices [N] or [N, 1], or one-hot rows [N, C]; targets for a regression.
    scale, offset : float, optional
        Take `x * scale + offset` for x, in float32; 1/255 makes pixels of 0..255 ones of 0..1.

    Returns
    -------
    EvaluationData
        The data, to be read in batches.

    Raises
    ------
    DataError
        They cannot be read, or x and y do not belong together; the message names the remedy.
    ConfigError
        `scale` or `offset` is not finite, or `scale` is 0.
    """
    return EvaluationData(_source(x, y), scale=scale, offset=offset)


class _ArraySource:
    """Two arrays of equal length, in memory or in files."""

    surveyed = True

    def __init__(self, name: str, x: Rows, y: Rows, files: tuple[Path, ...] = ()) -> None:
        self.name = name
        self.array_names = x.name, y.name
        self.warnings: tuple[str, ...] = ()
        self._rows = x, y
        for rows in (x, y):
            if not rows.shape:
                raise DataError(f"{rows.name}: is a single value; the first axis must be samples")
        if x.shape[0] != y.shape[0]:
            raise DataError(
                f"{x.name} has {x.shape[0]} samples and {y.name} {y.shape[0]}; give one label for "
                "each sample"
            )
        if not x.shape[0]:
            raise DataError(f"{x.name}: there are no samples (shape {x.shape})")
        self.samples: int | None = x.shape[0]
        self.sha256: str | None = _fingerprint(files)

    def prepare(self, expectation: Expectation, *, scaled: bool) -> Scaling | None:
        return None

    def rows(self) -> tuple[Rows, Rows] | None:
        return self._rows

    def chunks(self, expectation: Expectation, size: int) -> Iterator[RawChunk]:
        x, y = self._rows
        return map(RawChunk, x.chunks(size), y.chunks(size))


def _source(x: Any, y: Any) -> _ArraySource | FolderSource | StreamSource:
    if isinstance(x, str | os.PathLike) or isinstance(y, str | os.PathLike):
        return _open_paths(x, y)
    if y is not None:
        if is_stream(x) and not (_is_whole(x) or isinstance(x, list | tuple)):
            raise DataError("y must not be given where x is a stream, which gives labels itself")
        return _ArraySource(_IN_MEMORY, ArrayRows("x", x), ArrayRows("y", y))
    if isinstance(x, tuple) and len(x) == 2 and not all(isinstance(part, tuple) for part in x):
        return _source(*x)
    if isinstance(x, Mapping):
        x_name, y_name = named_pair(list(x), "data")
        return _ArraySource(_IN_MEMORY, ArrayRows(x_name, x[x_name]), ArrayRows(y_name, x[y_name]))
    if _is_whole(x):
        raise DataError(_NO_LABELS)
    if not is_stream(x):
        raise DataError(
            f"data of type {quoted(type(x).__name__)} cannot be read; give arrays x and y, an "
            "iterable of (x, y), or a path"
        )
    return StreamSource(x)


def _is_whole(x: Any) -> bool:
    return is_array(x) or hasattr(x, "__array__")  # the latter a table of pandas


def _open_paths(x: Any, y: Any) -> _ArraySource | FolderSource:
    if not isinstance(x, str | os.PathLike) or not isinstance(y, str | os.PathLike | None):
        raise DataError("x and y must both be paths or both be arrays")
    if y is not None:
        return _open_pair(x, y)
    text = os.fspath(x)
    if not isinstance(text, str):
        raise DataError(f"the path {text!r} is bytes; give text")
    if text.count(",") == 1 and not os.path.exists(text):
        first, second = text.split(",")
        return _open_pair(first.strip(), second.strip())
    label, path = shown_path(x), local_path(x)
    if path.is_dir():
        return FolderSource(path, label)
    if not is_archive(path, label):
        raise DataError(f"{label}: is one array, {_NO_LABELS}, as {label},LABELS.npy")
    return _ArraySource(Path(label).name, *archive_arrays(path, label), files=(path,))


def _open_pair(x: str | os.PathLike[str], y: str | os.PathLike[str]) -> _ArraySource:
    labels = shown_path(x), shown_path(y)
    paths = local_path(x), local_path(y)
    for path, label in zip(paths, labels, strict=True):
        if path.is_dir() or is_archive(path, label):
            raise DataError(f"{label}: is no .npy file; {FORMATS}")
    x_rows, y_rows = map(array_file, paths, labels)
    name = ",".join(Path(label).name for label in labels)
    return _ArraySource(name, x_rows, y_rows, files=paths)


def _fingerprint(files: tuple[Path, ...]) -> str | None:
    """Return the SHA-256 of a file, or over the lines that `sha256sum` prints for several."""
    if not files:
        return None
    try:
        digests = [fingerprint(path) for path in files]
    except OSError as error:
        raise DataError(f"{files[0].name}: cannot be read ({one_line(error)})") from error
    if len(files) == 1:
        return digests[0]
    lines = [f"{one}  {path.name}\n" for one, path in zip(digests, files, strict=True)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
