"""NumPy's files: `.npy` mapped into memory, members of `.npz` read piece by piece."""

from __future__ import annotations

import math
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from nnprune.datasets.arrays import ArrayRows, Rows
from nnprune.errors import DataError
from nnprune.keras_io.wording import DAMAGED, one_line, quoted, shown_path

__all__ = ["FORMATS", "archive_arrays", "array_file", "is_archive", "local_path", "named_pair"]

#: What messages say can be read.
FORMATS = (
    "give an .npz file with x and y, two .npy files as x.npy,y.npy, or a folder with a sub-folder "
    "of images for each class"
)

_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_SUFFIX = ".npy"
_ARCHIVE, _PICKLE = b"PK", b"\x80"
_READING = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError)
_PICKLED = (
    "holds pickled Python objects, which could run code and are not read; save numbers of one "
    "dtype with numpy.save or numpy.savez"
)
_PAIRS = (("x", "y"), ("x_test", "y_test"))


class _Header(NamedTuple):
    """What the start of a `.npy` file says; `size` is that of the header itself in bytes."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    size: int

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def file_bytes(self) -> int:
        """How long the whole file must be at least."""
        return self.size + math.prod(self.shape) * self.dtype.itemsize


def local_path(path: str | os.PathLike[str]) -> Path:
    """Follow links to a regular file or a folder on this machine.

    Raises
    ------
    DataError
        There is none; the message says why.
    """
    label = shown_path(path)
    if _REMOTE.match(os.fspath(path)):
        raise DataError(f"{label}: is no local file; download it and give its path")
    try:
        resolved = Path(path).resolve(strict=True)
        known = resolved.is_file() or resolved.is_dir()
    except FileNotFoundError as error:
        raise DataError(f"{label}: no such file or folder") from error
    except (OSError, RuntimeError, ValueError) as error:  # loops of links, NUL in the name
        raise DataError(f"{label}: cannot be read ({one_line(error)})") from error
    if not known:  # opening a pipe or device could hang
        raise DataError(f"{label}: is no regular file; {FORMATS}")
    return resolved


def is_archive(path: Path, label: str) -> bool:
    """Tell an `.npz` file (true) from a `.npy` file (false), by its contents.

    Raises
    ------
    DataError
        It is neither; the message names `label`.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(npy.MAGIC_PREFIX))
    except OSError as error:
        raise _unreadable(error, label) from error
    if not start:
        raise DataError(f"{label}: the file is empty; {FORMATS}")
    if start.startswith(_PICKLE):
        raise DataError(f"{label}: {_PICKLED}")
    if not start.startswith((_ARCHIVE, npy.MAGIC_PREFIX)):
        raise DataError(f"{label}: is no .npz or .npy file; {FORMATS}")
    return start.startswith(_ARCHIVE)


def array_file(path: Path, label: str) -> Rows:
    """Map a `.npy` file into memory; nothing of its values is read yet.

    Parameters
    ----------
    path : Path
        A file that `is_archive` knows as one of these.
    label : str
        How messages name it.

    Raises
    ------
    DataError
        It is damaged, or holds Python objects.
    """
    try:
        with path.open("rb") as file:
            header = _read_header(file, path.stat().st_size, label)
        if 0 in header.shape:
            return ArrayRows(label, np.empty(header.shape, header.dtype))  # nothing to map
        return ArrayRows(label, np.load(path, mmap_mode="r", allow_pickle=False))
    except _READING as error:
        raise _unreadable(error, label) from error


def archive_arrays(path: Path, label: str) -> tuple[Rows, Rows]:
    """Find inputs and labels in an `.npz` file; their values are read in each pass.

    Parameters
    ----------
    path : Path
        A file that `is_archive` knows as one of these.
    label : str
        How messages name it.

    Returns
    -------
    x, y : Rows
        The arrays `x` and `y`, or `x_test` and `y_test`.

    Raises
    ------
    DataError
        It is damaged, lacks these names, or they hold Python objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(_SUFFIX)]
            x, y = named_pair([name.removesuffix(_SUFFIX) for name in members], label)
            return _member(archive, path, label, x), _member(archive, path, label, y)
    except (*_READING, RuntimeError, NotImplementedError) as error:
        raise _unreadable(error, label) from error


def named_pair(names: list[str], label: str) -> tuple[str, str]:
    """Choose inputs and labels by their names.

    Raises
    ------
    DataError
        They are not there; the message lists what is.
    """
    for pair in _PAIRS:
        if set(pair) <= set(names):
            return pair
    found = ", ".join(map(quoted, names[:20])) + (", ..." if len(names) > 20 else "")
    raise DataError(
        f"{label}: needs arrays named 'x' and 'y', or 'x_test' and 'y_test'; "
        f"it has {found or 'no arrays'}"
    )


class _ArchiveRows:
    """One array of an `.npz` file, unpacked as it is read."""

    def __init__(self, path: Path, member: str, name: str, header: _Header) -> None:
        self.name = name
        self.shape = header.shape
        self.dtype = header.dtype
        self._path = path
        self._member = member
        self._header = header

    def chunks(self, size: int) -> Iterator[NDArray[Any]]:
        if self._header.fortran_order:  # samples are scattered over the whole array
            yield from ArrayRows(self.name, self._whole()).chunks(size)
            return
        with zipfile.ZipFile(self._path) as archive, archive.open(self._member) as file:
            self._read(file, self._header.size)
            for start in range(0, self.shape[0], size):
                count = min(size, self.shape[0] - start)
                data = self._read(file, count * self._header.row_bytes)
                yield np.frombuffer(data, self.dtype).reshape(count, *self.shape[1:])

    def _read(self, file: IO[bytes], count: int) -> bytes:
        try:
            data = file.read(count)
        except _READING as error:
            raise _unreadable(error, self.name) from error
        if len(data) < count:
            raise DataError(f"{self.name}: {DAMAGED}")
        return data

    def _whole(self) -> NDArray[Any]:
        try:
            with np.load(self._path, allow_pickle=False) as arrays:
                values: NDArray[Any] = arrays[self._member.removesuffix(_SUFFIX)]
                return values
        except _READING as error:
            raise _unreadable(error, self.name) from error


def _member(archive: zipfile.ZipFile, path: Path, label: str, name: str) -> Rows:
    member = f"{name}{_SUFFIX}"
    full_name = f"{label}: {name}"
    with archive.open(member) as file:
        header = _read_header(file, archive.getinfo(member).file_size, full_name)
    return _ArchiveRows(path, member, full_name, header)


def _read_header(file: IO[bytes], length: int, label: str) -> _Header:
    """Read the start of a `.npy` file of `length` bytes."""
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran_order, dtype = read(file)
    except Exception as error:  # NumPy parses Python's own syntax here, which fails in many ways
        raise _unreadable(error, label) from error
    if dtype.hasobject:
        raise DataError(f"{label}: {_PICKLED}")
    header = _Header(shape, fortran_order, dtype, file.tell())
    if min(shape, default=0) < 0 or length < header.file_bytes:
        raise DataError(f"{label}: {DAMAGED}")
    return header


def _unreadable(error: BaseException, label: str) -> DataError:
    if isinstance(error, DataError):  # a ValueError too
        return error
    if isinstance(error, PermissionError):
        return DataError(f"{label}: cannot be read ({one_line(error)})")
    return DataError(f"{label}: {DAMAGED} ({one_line(error)})")
