"""Look at a model file before Keras sees it: what it is, whether it is whole, what it asks for.

Nothing here imports Keras or TensorFlow, builds a layer or runs anything from the file.
"""

from __future__ import annotations

import enum
import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnprune.errors import FileFormatError
from nnprune.keras_io import scan_archive, scan_hdf5
from nnprune.keras_io.scan_config import (
    check_model,
    check_objects,
    parse_json,
    whole_model_dtype,
)
from nnprune.keras_io.scan_hdf5_child import scan_hdf5_in_child
from nnprune.keras_io.scan_saved_model import scan_saved_model
from nnprune.keras_io.scan_size import check_declared_parameters
from nnprune.keras_io.wording import one_line, shown_path

__all__ = ["FileKind", "ModelFile", "check_unchanged", "fingerprint", "look"]

_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_EXPECTED = "expected a .keras or .h5 file with a whole model, or a SavedModel folder"


class FileKind(enum.Enum):
    """The formats a model can come in, by content, not by suffix."""

    KERAS = "keras"
    H5 = "h5"
    KERAS2_ARCHIVE = "keras2-archive"
    KERAS2_H5 = "keras2-h5"
    SAVED_MODEL = "saved-model"


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """What `look` learnt about a model file.

    Attributes
    ----------
    path : Path
        The file itself, absolute and with links followed.
    kind : FileKind
        Its format.
    config : dict or None
        The model's serialized configuration, with `class_name` and `config`; None for a
        SavedModel, whose configuration is complete only after conversion.
    size : int
        Bytes.
    sha256 : str
        Fingerprint of the contents; of a folder, over the names and fingerprints of its files.
    keras_version : str or None
        The version that wrote the file, where it says so.
    stored_parameters : int
        Numbers in all weights, without the state of optimizers, metrics and random generators;
        0 for a SavedModel, whose variables are not read.
    dtype : str or None
        The dtype policy, where all layers share one.
    record : str or None
        What `PruningResult.save` has put beside the model, not looked at.
    """

    path: Path
    kind: FileKind
    config: dict[str, Any] | None
    size: int
    sha256: str
    keras_version: str | None
    stored_parameters: int
    dtype: str | None
    record: str | None = None


def look(
    path: str | os.PathLike[str], *, trust: bool = False, shown: str | None = None
) -> ModelFile:
    """Recognize a model file by its contents, check that it is whole, and that it is harmless.

    Parameters
    ----------
    path : str or path-like
        A `.keras` file, an `.h5` file or a SavedModel folder, on a local file system.
    trust : bool, default False
        Skip what guards against a hostile author: the checks of classes, functions, vocabulary
        files, assets and graph ops. All others stay: local regular files only, names and sizes of
        archive members, checksums, links and external data in HDF5, declared sizes.
    shown : str, optional
        How messages name the file, if not by its path.

    Returns
    -------
    ModelFile
        What the file is and holds.

    Raises
    ------
    FileFormatError
        No such file, no Keras model, or truncated or corrupt.
    ModelError
        A model without a layer graph, or with layers that Keras 3 does not know.
    UntrustedModelError
        The file asks for something that an unknown file must not do.
    """
    label = shown_path(path if shown is None else shown)
    resolved, mode = _locate(path, label)
    try:
        if stat.S_ISDIR(mode):
            return _look_at_folder(resolved, label, trust=trust)
        with resolved.open("rb") as file:
            start = file.read(len(scan_hdf5.SIGNATURE))
            sha256 = fingerprint(resolved)
    except OSError as error:
        raise FileFormatError(f"{label}: cannot be read ({one_line(error)})") from error
    size = resolved.stat().st_size
    if start == scan_hdf5.SIGNATURE:
        return _look_at_hdf5(resolved, label, size=size, sha256=sha256, trust=trust)
    if start.startswith(scan_archive.SIGNATURES):
        return _look_at_archive(resolved, label, size=size, sha256=sha256, trust=trust)
    if size == 0:
        raise FileFormatError(f"{label}: the file is empty; {_EXPECTED}")
    raise FileFormatError(f"{label}: is no Keras model; {_EXPECTED}")


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file's contents, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_unchanged(file: ModelFile) -> None:
    """Find out whether a file is still what was looked at.

    Raises
    ------
    FileFormatError
        It is not.
    """
    try:
        same = fingerprint(file.path) == file.sha256
    except OSError:
        same = False
    if not same:
        raise FileFormatError(f"{file.path}: has changed since it was looked at; run again")


def _locate(path: str | os.PathLike[str], label: str) -> tuple[Path, int]:
    """Follow links to a regular file or a folder on this machine."""
    if _REMOTE.match(os.fspath(path)):
        raise FileFormatError(f"{label}: is no local file; download it and give its path")
    try:
        resolved = Path(path).resolve(strict=True)
        mode = resolved.stat().st_mode
    except FileNotFoundError as error:
        raise FileFormatError(f"{label}: no such file") from error
    except (OSError, RuntimeError, ValueError) as error:  # loops of links, NUL in the name
        raise FileFormatError(f"{label}: cannot be read ({one_line(error)})") from error
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # opening a pipe or device could hang
        raise FileFormatError(f"{label}: is no regular file; {_EXPECTED}")
    return resolved, mode


def _look_at_folder(path: Path, label: str, *, trust: bool) -> ModelFile:
    if not (path / "saved_model.pb").exists():
        raise FileFormatError(f"{label}: is a folder without saved_model.pb; {_EXPECTED}")
    contents = scan_saved_model(path, label=label, trust=trust)
    return ModelFile(
        path=path,
        kind=FileKind.SAVED_MODEL,
        config=None,
        size=contents.size,
        sha256=contents.sha256,
        keras_version=None,
        stored_parameters=0,
        dtype=None,
    )


def _look_at_hdf5(path: Path, label: str, *, size: int, sha256: str, trust: bool) -> ModelFile:
    contents = scan_hdf5_in_child(path, label=label, size=size)
    texts = contents.attributes
    if "model_config" not in texts:
        raise FileFormatError(
            f"{label}: is no whole Keras model (an HDF5 file without model_config, perhaps weights "
            "only); save it with model.save"
        )
    config = parse_json(texts["model_config"], label=label, part="model_config")
    stored = contents.numbers(_is_weight_of_hdf5)
    check_model(config, label=label, trust=trust)
    check_declared_parameters(config, label=label, stored=stored)
    if "training_config" in texts:
        training = parse_json(texts["training_config"], label=label, part="training_config")
        check_objects({"training_config": training}, label=label, trust=trust)
    version = texts.get("keras_version")
    return ModelFile(
        path=path,
        kind=FileKind.KERAS2_H5 if version is None or _is_keras2(version) else FileKind.H5,
        config=config,
        size=size,
        sha256=sha256,
        keras_version=version,
        stored_parameters=stored,
        dtype=whole_model_dtype(config),
        record=texts.get(scan_hdf5.RECORD),
    )


def _look_at_archive(path: Path, label: str, *, size: int, sha256: str, trust: bool) -> ModelFile:
    archive = scan_archive.read_archive(path, label=label, size=size, trust=trust)
    config = parse_json(archive.config, label=label, part="config.json")
    metadata = parse_json(archive.metadata, label=label, part="metadata.json")
    check_model(config, label=label, trust=trust)
    contents = scan_hdf5_in_child(
        path, member=scan_archive.WEIGHTS, label=label, size=archive.weights_size
    )
    stored = contents.numbers(_is_weight_of_archive)
    check_declared_parameters(config, label=label, stored=stored)
    version = metadata.get("keras_version")
    version = version if isinstance(version, str) else None
    keras2 = version is not None and _is_keras2(version)
    return ModelFile(
        path=path,
        kind=FileKind.KERAS2_ARCHIVE if keras2 else FileKind.KERAS,
        config=config,
        size=size,
        sha256=sha256,
        keras_version=version,
        stored_parameters=stored,
        dtype=whole_model_dtype(config),
        record=None if archive.record is None else archive.record.decode(errors="replace"),
    )


def _is_keras2(version: str) -> bool:
    return version.split(".")[0] in ("1", "2")


def _is_weight_of_hdf5(path: str) -> bool:
    return path.startswith("model_weights/") and "seed_generator" not in path


def _is_weight_of_archive(path: str) -> bool:
    parts = path.split("/")
    return parts[0] not in ("metrics", "optimizer") and "seed_generator" not in parts
