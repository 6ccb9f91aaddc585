"""Two `.keras` files against each other: every member, group, attribute and number."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

_WEIGHTS = "model.weights.h5"


def differences(one: Path, other: Path) -> list[str]:
    """Say in what two files differ, but for the date at which they were written."""
    with zipfile.ZipFile(one) as first, zipfile.ZipFile(other) as second:
        both = first, second
        pairs: dict[str, list[Any]] = {"members": [_members(archive) for archive in both]}
        for name in sorted({*first.namelist()} & {*second.namelist()} - {_WEIGHTS}):
            texts = [_text(archive, name) for archive in both]
            if texts[0] != texts[1]:
                pairs[name] = [json.loads(text) for text in texts]
                pairs[f"the text of {name}"] = texts
        stored = [_stored(archive.read(_WEIGHTS)) for archive in both]
        pairs["names in the HDF5 file"] = [sorted(objects) for objects in stored]
        for path in {*stored[0]} & {*stored[1]}:
            pairs[path] = [objects[path] for objects in stored]
        pairs["bytes of the HDF5 file"] = [archive.read(_WEIGHTS) for archive in both]
    return sorted(what for what, pair in pairs.items() if pair[0] != pair[1])


def _members(archive: zipfile.ZipFile) -> list[tuple[str, int, int]]:
    return [(one.filename, one.compress_type, one.external_attr) for one in archive.infolist()]


def _text(archive: zipfile.ZipFile, name: str) -> str:
    text = archive.read(name).decode()
    if name != "metadata.json":
        return text
    written = json.loads(text)
    return text.replace(written["date_saved"], "")


def _stored(image: bytes) -> dict[str, Any]:
    """Describe every object of an HDF5 file."""
    found: dict[str, Any] = {}
    with h5py.File(io.BytesIO(image), "r") as file:
        found["/"] = _attributes(file)
        file.visititems(lambda path, item: found.update({path: _described(item)}))
    return found


def _described(item: Any) -> Any:
    if not isinstance(item, h5py.Dataset):
        return _attributes(item)
    array = np.asarray(item[()])
    layout = item.shape, item.dtype.str, item.chunks, item.compression, item.maxshape
    return _attributes(item), layout, array.tobytes()


def _attributes(item: Any) -> list[tuple[str, str, str]]:
    return [(name, type(value).__name__, str(value)) for name, value in sorted(item.attrs.items())]
