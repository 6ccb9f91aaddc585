"""The journal of a sweep: a file of JSON lines that survives being killed at any moment.

The first line says which sweep it is, each further line is one cell. A line is appended whole and
flushed to the disk; what a crash leaves of a line without its end is dropped on the next start, and
that cell is done again. Later lines of a cell replace earlier ones.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from typing import Any

from nnprune.errors import ConfigError, OutputError
from nnprune.keras_io.save import cannot_be_written, check_output
from nnprune.keras_io.wording import one_line, shown_path
from nnprune.sweeping.identity import differences, fingerprint
from nnprune.sweeping.record import Cell, cell_from_dict

try:
    import fcntl
except ImportError:  # Windows has no such locks; there two sweeps must not share a journal
    fcntl = None  # type: ignore[assignment]

__all__ = ["KIND", "SCHEMA_VERSION", "Journal", "header_line"]

KIND = "nnprune-sweep"
SCHEMA_VERSION = 1

_APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)


class Journal:
    """The cells of a sweep so far, and the file to which further ones are appended.

    Parameters
    ----------
    path : path-like or None
        The file; None to keep nothing.
    parts : mapping
        The sweep's identity.
    about : mapping
        What else its first line tells those who read it.

    Attributes
    ----------
    cells : dict of str to Cell
        What the file held when it was opened, and what was appended since, by identifier.

    Raises
    ------
    ConfigError
        The file is of another sweep, or is no journal; the message says what differs.
    OutputError
        It cannot be read or written, or another sweep is writing to it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        parts: Mapping[str, Any],
        about: Mapping[str, Any],
    ) -> None:
        self.cells: dict[str, Cell] = {}
        self._descriptor: int | None = None
        if path is None:
            return
        self._label = shown_path(path)
        target = check_output(path, overwrite=True, suffixes=None)
        try:
            self._descriptor = os.open(target, _APPEND, 0o666)
            self._lock()
            self._read(target.read_bytes(), header_line(parts, about), parts)
        except OSError as error:
            self.close()
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"{self._label}: cannot be used ({one_line(error)})") from error
        except BaseException:
            self.close()
            raise

    def append(self, cell: Cell) -> None:
        """Add a cell and make sure that it is on the disk.

        Raises
        ------
        OutputError
            The disk is full, or the like; what was appended before is still there.
        """
        self.cells[cell.cell] = cell
        if self._descriptor is None:
            return
        try:
            self._write(json.dumps(cell.to_dict(), allow_nan=False).encode() + b"\n")
        except OSError as error:
            raise cannot_be_written(self._label, error) from error

    def close(self) -> None:
        """Close the file, which gives it free for another sweep."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _lock(self) -> None:
        """Keep others out until this process closes the file or ends, however it ends."""
        if fcntl is None or self._descriptor is None:
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                f"{self._label}: another sweep is writing to it; wait for that, or give another "
                "name"
            ) from None
        except OSError:  # some network file systems have no locks
            pass

    def _read(self, content: bytes, header: bytes, parts: Mapping[str, Any]) -> None:
        first, end, rest = content.partition(b"\n")
        if not end and header.startswith(first):  # empty, or killed while this was written
            self._truncate(0)
            self._write(header)
            return
        _check_header(self._label, first, parts)
        *lines, torn = rest.split(b"\n")
        if torn:
            self._truncate(len(content) - len(torn))
        strange = 0
        for line in lines:
            try:
                cell = cell_from_dict(json.loads(line))
            except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
                strange += 1
            else:
                self.cells[cell.cell] = cell
        if strange:
            warnings.warn(
                f"{self._label}: {strange} line{'' if strange == 1 else 's'} that no sweep has "
                "written; such cells are done again",
                stacklevel=2,
            )

    def _truncate(self, length: int) -> None:
        assert self._descriptor is not None
        os.ftruncate(self._descriptor, length)

    def _write(self, line: bytes) -> None:
        assert self._descriptor is not None
        while line:
            line = line[os.write(self._descriptor, line) :]
        os.fsync(self._descriptor)


def header_line(parts: Mapping[str, Any], about: Mapping[str, Any]) -> bytes:
    """Write the first line of the journal of a sweep with this identity."""
    header = {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "sweep": fingerprint(parts),
        **parts,
        "about": dict(about),
    }
    return json.dumps(header, allow_nan=False).encode() + b"\n"


def _check_header(label: str, line: bytes, parts: Mapping[str, Any]) -> None:
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or header.get("kind") != KIND:
        raise ConfigError(f"{label}: is no journal of a sweep; give another name")
    if header.get("schema_version") != SCHEMA_VERSION:
        raise ConfigError(
            f"{label}: has the format {header.get('schema_version')!r} of another version of "
            "nnprune; give another name"
        )
    differing = differences(header, json.loads(json.dumps(parts)))
    if differing:
        raise ConfigError(
            f"{label}: is the journal of another sweep: {'; '.join(differing)}; give another name, "
            "or the same model, samples and options"
        )
