"""Results on disk: one JSON line for every cell, written as soon as it is measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Journal"]

_NAMED = ("model", "method", "seed", "ratio")


class Journal:
    """The cells of a table.

    A line that a later one has the names of is superseded by it; a last line that was cut off
    while it was written is measured again.

    Parameters
    ----------
    path : Path
        The file; need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cells: dict[tuple[Any, ...], dict[str, Any]] = {}
        if path.is_file():
            lines = path.read_text().split("\n")
            if lines[-1]:  # cut off
                path.write_text("".join(f"{line}\n" for line in lines[:-1]))
            for line in lines[:-1]:
                cell = json.loads(line)
                self._cells[self._key(cell)] = cell

    def find(self, names: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return a cell if it was measured with the same `given`.

        Parameters
        ----------
        names : mapping
            `model`, `method`, `seed` and `ratio`.
        given : mapping
            What it depends on besides the code, as JSON has it.
        """
        cell = self._cells.get(self._key(names))
        same = cell is not None and cell["given"] == json.loads(json.dumps(given))
        return cell if same else None

    def add(self, cell: Mapping[str, Any]) -> None:
        """Write a cell."""
        line = json.dumps(cell, allow_nan=False)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(line + "\n")
        self._cells[self._key(cell)] = json.loads(line)

    def of(self, model: str, method: str, ratio: float | None) -> list[dict[str, Any]]:
        """Return the cells of all seeds; a ratio of None is the original."""
        wanted = (model, method, ratio)
        found = [cell for (m, n, _, r), cell in self._cells.items() if (m, n, r) == wanted]
        return sorted(found, key=lambda cell: int(cell["seed"]))

    def _key(self, names: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(names[name] for name in _NAMED)
