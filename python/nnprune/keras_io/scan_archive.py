"""Read a `.keras` archive within bounds, and compare the checksums of all its members."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from nnprune.errors import FileFormatError, UntrustedModelError
from nnprune.keras_io.wording import DAMAGED, TRUST, one_line, quoted

__all__ = ["CONFIG", "METADATA", "RECORD", "SIGNATURES", "WEIGHTS", "Archive", "read_archive"]

#: First bytes of a zip file: with members, and without any.
SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")

#: The member that holds the weights.
WEIGHTS = "model.weights.h5"

#: The member that `PruningResult.save` adds; Keras does not look at it.
RECORD = "nnprune.json"

#: The members that hold texts.
CONFIG = "config.json"
METADATA = "metadata.json"
_ASSETS = "assets/"

# The engine holds all weights in memory, some of them twice. 16 GiB (4 billion float32 weights)
# is far beyond what it is made for, and what a server can be asked to unpack for one file.
_LARGEST_TOTAL = 16 << 30
# The largest genuine configurations (a thousand layers) have about 2 MiB.
_LARGEST_TEXT = 64 << 20
# Keras stores its members uncompressed. A repacked archive gains a few per cent on real weights;
# deflate cannot exceed 1032 : 1. Small members may shrink by any ratio.
_LARGEST_EXPANSION = 100
_ALWAYS_ALLOWED_BYTES = 16 << 20

_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    NotImplementedError,  # a compression method or zip feature that Keras never uses
    RuntimeError,  # an encrypted member
)


@dataclass(frozen=True, kw_only=True)
class Archive:
    """The texts of a `.keras` file, and the bytes its weights will take."""

    config: bytes
    metadata: bytes
    record: bytes | None
    weights_size: int


def read_archive(path: Path, *, label: str, size: int, trust: bool) -> Archive:
    """Read a `.keras` archive, checking names, sizes and checksums of all members.

    Parameters
    ----------
    path : Path
        The archive.
    label : str
        How messages name it.
    size : int
        Its size in bytes.
    trust : bool
        Whether `assets/` (vocabularies) may be there. Nothing else is relaxed.

    Returns
    -------
    Archive
        Configuration and metadata, and the size of the weights.

    Raises
    ------
    FileFormatError
        The archive is truncated or corrupt, or is no Keras model.
    UntrustedModelError
        A member is unexpected, too large, or named so that it would land elsewhere.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = [member.filename for member in members]
            for needed in (CONFIG, WEIGHTS):
                if needed not in names:
                    raise FileFormatError(
                        f"{label}: is no Keras model: a zip file without {needed}; "
                        "save the whole model with Keras 3"
                    )
            _check_names(names, label, trust=trust)
            _check_sizes(members, label, size)
            config = archive.read(CONFIG)
            metadata = archive.read(METADATA) if METADATA in names else b"{}"
            record = archive.read(RECORD) if RECORD in names else None
            for name in names:
                _check_checksum(archive, name)
            weights_size = archive.getinfo(WEIGHTS).file_size
    except _DAMAGE as error:
        if isinstance(error, FileFormatError):  # a ValueError too
            raise
        raise FileFormatError(f"{label}: {DAMAGED} ({one_line(error)})") from error
    return Archive(config=config, metadata=metadata, record=record, weights_size=weights_size)


def _check_names(names: list[str], label: str, *, trust: bool) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UntrustedModelError(
                f"{label}: the archive holds {quoted(name)} twice; save the model anew with Keras"
            )
        seen.add(name)
        if name in (CONFIG, METADATA, WEIGHTS, RECORD):
            continue
        parts = name.replace("\\", "/").split("/")
        leaves = name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]
        if leaves or not name.startswith(_ASSETS):
            raise UntrustedModelError(
                f"{label}: the archive holds {quoted(name)}, which no Keras model has; "
                "save the model anew with Keras"
            )
        if not trust:
            raise UntrustedModelError(
                f"{label}: the archive holds the asset {quoted(name)}, which a layer would read; "
                f"{TRUST}"
            )


def _check_sizes(members: list[zipfile.ZipInfo], label: str, size: int) -> None:
    if sum(member.compress_size for member in members) > size:
        raise FileFormatError(f"{label}: {DAMAGED} (members larger than the file)")
    total = sum(member.file_size for member in members)
    if total > _LARGEST_TOTAL:
        raise UntrustedModelError(
            f"{label}: would unpack to {total} bytes, more than the {_LARGEST_TOTAL} allowed"
        )
    for member in members:
        limit = _LARGEST_EXPANSION * member.compress_size + _ALWAYS_ALLOWED_BYTES
        if member.filename in (CONFIG, METADATA, RECORD):
            limit = min(limit, _LARGEST_TEXT)
        if member.file_size > limit:
            raise UntrustedModelError(
                f"{label}: {quoted(member.filename)} would unpack from {member.compress_size} to "
                f"{member.file_size} bytes (a zip bomb); save the model anew with Keras"
            )


def _check_checksum(archive: zipfile.ZipFile, name: str) -> None:
    with archive.open(name) as member:
        while member.read(1 << 20):  # reading to the end compares the checksum
            pass
