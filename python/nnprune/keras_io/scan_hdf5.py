"""Walk an HDF5 file: no way out of the file, no shape bombs, nothing that cannot be read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from nnprune.errors import FileFormatError, NnpruneError, UntrustedModelError
from nnprune.keras_io.wording import DAMAGED, one_line, quoted

if TYPE_CHECKING:
    import h5py

    _Object: TypeAlias = h5py.Group | h5py.Dataset

__all__ = ["RECORD", "SIGNATURE", "Hdf5Contents", "scan_hdf5"]

#: The first eight bytes of every HDF5 file that Keras writes.
SIGNATURE = b"\x89HDF\r\n\x1a\n"

#: The attribute of the root that `PruningResult.save` adds; Keras does not look at it.
RECORD = "nnprune"

# Keras stores weights uncompressed (declared = stored). gzip on real weights gains a few per cent,
# on constant arrays at most 1000 : 1; a hundredfold of the file with 16 MiB to spare lets every
# genuine file pass and no small file ask for much memory.
_LARGEST_EXPANSION = 100
_ALWAYS_ALLOWED_BYTES = 16 << 20

# A Keras file has a few objects a weight. Millions of empty groups only cost time.
_MOST_OBJECTS = 1_000_000

_TEXT_ATTRIBUTES = ("keras_version", "model_config", "training_config", RECORD)


@dataclass(frozen=True, kw_only=True)
class Hdf5Contents:
    """What a harmless HDF5 file holds.

    Attributes
    ----------
    attributes : dict of str to str
        The texts kept at the root: `model_config`, `training_config`, `keras_version`, `nnprune`.
    datasets : dict of str to tuple of int
        Path (such as `model_weights/dense/dense/kernel`) and shape of every numeric data set.
    """

    attributes: dict[str, str]
    datasets: dict[str, tuple[int, ...]]

    def numbers(self, counts: Callable[[str], bool]) -> int:
        """Count the numbers in the data sets whose path `counts` says yes to."""
        return sum(math.prod(shape) for path, shape in self.datasets.items() if counts(path))


def scan_hdf5(source: Path | BinaryIO, *, label: str, size: int) -> Hdf5Contents:
    """Walk an HDF5 file object by object and refuse what points out of it or unpacks to too much.

    Parameters
    ----------
    source : Path or binary file object
        The file, or its bytes in memory.
    label : str
        How messages name the file.
    size : int
        Bytes of the file, against which the declared bytes are held.

    Returns
    -------
    Hdf5Contents
        The root's texts and every numeric data set's shape.

    Raises
    ------
    FileFormatError
        The file is truncated or corrupt.
    UntrustedModelError
        A link, external storage, a virtual data set or a shape bomb.
    """
    import h5py

    try:
        with h5py.File(source, "r") as file:
            attributes = {
                name: text
                for name in _TEXT_ATTRIBUTES
                if (text := _text_attribute(file, name, size)) is not None
            }
            return Hdf5Contents(attributes=attributes, datasets=_datasets(file, label, size))
    except NnpruneError:
        raise
    except Exception as error:  # the HDF5 library raises almost any kind on damaged bytes
        raise FileFormatError(f"{label}: {DAMAGED} ({one_line(error)})") from error


def _text_attribute(file: h5py.File, name: str, size: int) -> str | None:
    if name not in file.attrs:
        return None
    _check_attribute_size(file, name, size)
    value = file.attrs[name]
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if not isinstance(value, str):
        raise ValueError(f"attribute {name} is no text")
    return value


def _check_attribute_size(item: _Object, name: str, size: int) -> None:
    import h5py

    attribute = h5py.h5a.open(item.id, name.encode())
    if math.prod(attribute.shape or ()) * attribute.dtype.itemsize > max(size, 1024):
        raise ValueError(f"attribute {name} is larger than the file")


def _datasets(file: h5py.File, label: str, size: int) -> dict[str, tuple[int, ...]]:
    import h5py

    shapes: dict[str, tuple[int, ...]] = {}
    declared = 0
    for path, item in _objects(file, label):
        for name in item.attrs:  # Keras reads the names of layers and weights from them
            _check_attribute_size(item, name, size)
            item.attrs[name]
        if not isinstance(item, h5py.Dataset):
            continue
        if item.external or item.is_virtual:
            kind = "external" if item.external else "virtual"
            raise UntrustedModelError(
                f"{label}: the data set {quoted(path)} is {kind}, it would read other files; "
                "save the model anew with Keras"
            )
        shape = item.shape or ()
        declared += math.prod(shape) * item.dtype.itemsize
        if declared > _LARGEST_EXPANSION * size + _ALWAYS_ALLOWED_BYTES:
            raise UntrustedModelError(
                f"{label}: the data set {quoted(path)} brings the declared size to {declared} "
                f"bytes, in {size} stored bytes (a shape bomb); save the model anew with Keras"
            )
        item[()]  # damaged chunks only show when they are read
        if item.dtype.kind in "fiub" or item.dtype.kind == "V":  # V: bfloat16 by older Keras
            shapes[path] = tuple(int(length) for length in shape)
    return shapes


def _objects(file: h5py.File, label: str) -> Iterator[tuple[str, _Object]]:
    """Yield every object once, opening none that is reached through a link.

    Keras gives each object exactly one name. A second one (a hard link) could make a walk endless
    or have one stored array loaded many times.
    """
    import h5py

    seen = {_address(file)}
    waiting: list[tuple[str, h5py.Group]] = [("", file)]
    while waiting:
        prefix, group = waiting.pop()
        for name in group:
            path = f"{prefix}{name}"
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise UntrustedModelError(
                    f"{label}: {quoted(path)} is a link ({type(link).__name__}), which could read "
                    "other files; save the model anew with Keras"
                )
            item = group[name]
            if isinstance(item, h5py.Datatype):
                raise ValueError(f"{path} is a data type")
            address = _address(item)
            if address in seen:
                raise UntrustedModelError(
                    f"{label}: {quoted(path)} is a second name of another object; "
                    "save the model anew with Keras"
                )
            seen.add(address)
            if len(seen) > _MOST_OBJECTS:
                raise UntrustedModelError(f"{label}: more than {_MOST_OBJECTS} HDF5 objects")
            yield path, item
            if isinstance(item, h5py.Group):
                waiting.append((f"{path}/", item))


def _address(item: _Object) -> int:
    import h5py

    return int(h5py.h5o.get_info(item.id).addr)
