"""Look into a SavedModel folder without TensorFlow: its files, its Keras metadata, its ops."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nnprune.errors import FileFormatError, ModelError, UntrustedModelError
from nnprune.keras_io.scan_config import check_model, check_objects, parse_json
from nnprune.keras_io.wording import DAMAGED, TRUST, one_line, quoted, shown_path

__all__ = ["SavedModelContents", "scan_saved_model"]

# Graph ops that read or write files, or run Python, by the beginning of their names. TensorFlow
# runs a SavedModel's graph with the user's rights. (RestoreV2 and SaveV2 are in every SavedModel.)
_UNSAFE_OPS = (
    b"PyFunc",
    b"ReadFile",
    b"WriteFile",
    b"MatchingFiles",
    b"InitializeTableFromTextFile",
    b"ImmutableConst",
    b"PrintV2",
    b"DebugIdentity",
    b"DebugNumericSummary",
    b"WholeFileReader",
    b"TextLineReader",
    b"TFRecordReader",
    b"FixedLengthRecordReader",
    b"LMDBReader",
    b"TextLineDataset",
    b"TFRecordDataset",
    b"FixedLengthRecordDataset",
    b"LMDBDataset",
    b"SqlDataset",
    b"CSVDataset",
    b"CacheDataset",
    b"SnapshotDataset",
    b"LoadDataset",
    b"SaveDataset",
    b"DataServiceDataset",
    b"DatasetToTFRecord",
    b"MatchingFilesDataset",
    b"CreateSummaryFileWriter",
    b"CreateSummaryDbWriter",
    b"RpcCall",
    b"RpcClient",
    b"RpcServer",
    b"ExtractJpegShapeFile",
    b"SaveSlices",
    b"InitializeTableFromDataset",
)

# TensorFlow prefers these over saved_model.pb where they exist, and they are not looked into here.
_OTHER_GRAPHS = ("saved_model.cpb", "saved_model.pbtxt")

# Field numbers of the messages on the way to Keras' metadata (saved_model.proto, meta_graph.proto,
# saved_object_graph.proto; saved_metadata.proto of Keras 2). They are part of the file format.
_META_GRAPHS, _OBJECT_GRAPH, _NODES, _USER_OBJECT, _USER_METADATA = 2, 7, 1, 4, 3
_USER_IDENTIFIER = 1
_METADATA_NODES, _NODE_PATH, _NODE_METADATA = 1, 3, 5

_BYTES = 2  # the wire type of texts and messages within messages


@dataclass(frozen=True, kw_only=True)
class SavedModelContents:
    """Size and fingerprint of a harmless SavedModel folder."""

    size: int
    sha256: str


def scan_saved_model(folder: Path, *, label: str, trust: bool) -> SavedModelContents:
    """Check a SavedModel folder that Keras 2 wrote.

    Parameters
    ----------
    folder : Path
        The folder with `saved_model.pb`.
    label : str
        How messages name it.
    trust : bool
        Whether code, assets and ops that touch files are allowed. Links within the folder, and
        metadata that cannot be read, are refused all the same.

    Returns
    -------
    SavedModelContents
        Bytes in all files, and one fingerprint over their names and contents.

    Raises
    ------
    FileFormatError
        A file of the folder is truncated or corrupt.
    ModelError
        There is no Keras metadata, or no layer graph.
    UntrustedModelError
        The folder asks for code, files or classes that are not Keras' own.
    """
    files = _regular_files(folder, label, trust=trust)
    graph = (folder / "saved_model.pb").read_bytes()
    if not trust:
        _check_ops(graph, label)
    _check_metadata(folder, graph, label, trust=trust)
    return SavedModelContents(
        size=sum(path.stat().st_size for path in files), sha256=_fingerprint(folder, files)
    )


def _regular_files(folder: Path, label: str, *, trust: bool) -> list[Path]:
    files: list[Path] = []
    for parent, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = Path(parent, name)
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise UntrustedModelError(
                    f"{label}: {quoted(str(path.relative_to(folder)))} is a link or no regular "
                    "file; copy the folder with its links followed (cp -rL)"
                )
        files.extend(Path(parent, name) for name in names)
    relative = {path.relative_to(folder).as_posix() for path in files}
    for name in _OTHER_GRAPHS:
        if name in relative:
            raise UntrustedModelError(f"{label}: holds a second graph, {name}; remove one of them")
    assets = sorted(name for name in relative if name.startswith("assets"))
    if assets and not trust:
        raise UntrustedModelError(
            f"{label}: holds the asset {quoted(assets[0])}, which a layer would read; {TRUST}"
        )
    return sorted(files)


def _check_ops(graph: bytes, label: str) -> None:
    # The names are looked for in the raw bytes: no spelling of the protobuf format hides them.
    for name in _UNSAFE_OPS:
        if name in graph:
            raise UntrustedModelError(
                f"{label}: its graph has the op {name.decode()}, which runs Python or touches "
                f"files; {TRUST}"
            )


def _check_metadata(folder: Path, graph: bytes, label: str, *, trust: bool) -> None:
    path = folder / "keras_metadata.pb"
    try:
        found = list(_metadata(path.read_bytes()) if path.exists() else _old_metadata(graph))
    except (ValueError, IndexError) as error:
        raise FileFormatError(f"{label}: {DAMAGED} ({one_line(error)})") from error
    roots = [text for node_path, text in found if node_path == "root"]
    if not roots:
        raise ModelError(
            f"{label}: a SavedModel without Keras metadata has no layer graph; save the model "
            "itself, with model.save('model.keras') or, in Keras 2, model.save('model.h5')"
        )
    for text in roots:
        check_model(parse_json(text, label=label, part="metadata"), label=label, trust=trust)
    for _, text in found:
        objects = parse_json(text, label=label, part="metadata")
        check_objects(objects, label=label, trust=trust, saved_model=True)


def _metadata(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield path and JSON text of every node in `keras_metadata.pb` (TensorFlow 2.5 and later)."""
    for node in _inside(memoryview(data), _METADATA_NODES):
        paths = list(_inside(node, _NODE_PATH))
        for text in _inside(node, _NODE_METADATA):
            yield (bytes(paths[-1]).decode() if paths else ""), bytes(text)


def _old_metadata(graph: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the same from `saved_model.pb`, where TensorFlow up to 2.4 kept it."""
    for meta_graph in _inside(memoryview(graph), _META_GRAPHS):
        for objects in _inside(meta_graph, _OBJECT_GRAPH):
            for number, node in enumerate(_inside(objects, _NODES)):
                for user_object in _inside(node, _USER_OBJECT):
                    kinds = [bytes(kind) for kind in _inside(user_object, _USER_IDENTIFIER)]
                    keras = any(kind.startswith(b"_tf_keras_") for kind in kinds)
                    for text in _inside(user_object, _USER_METADATA) if keras else ():
                        yield ("root" if number == 0 else str(number)), bytes(text)


def _inside(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """Yield the contents of every field `wanted` of a protobuf message."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        kind = key & 7
        if kind == _BYTES:
            length, position = _varint(message, position)
            if position + length > len(message):
                raise ValueError("a protobuf field ends after its message")
            if key >> 3 == wanted:
                yield message[position : position + length]
            position += length
        elif kind == 0:
            _, position = _varint(message, position)
        elif kind in (1, 5):
            position += 8 if kind == 1 else 4
        else:
            raise ValueError(f"protobuf wire type {kind}")


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
        if shift > 63:
            raise ValueError("a protobuf number of more than 64 bits")


def _fingerprint(folder: Path, files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            contents = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{contents}  {shown_path(path.relative_to(folder).as_posix())}\n".encode())
    return digest.hexdigest()
