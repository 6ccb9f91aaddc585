"""What a sweep found, as records, text, JSON and a web page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnprune.result import to_json
from nnprune.sweeping.front import pareto_front, table
from nnprune.sweeping.journal import KIND, SCHEMA_VERSION
from nnprune.sweeping.record import Cell

__all__ = ["SweepResult"]


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """All cells of a sweep.

    Attributes
    ----------
    cells : tuple of Cell
        The original, then the prunings by method, target and seed.
    parts : mapping
        What the sweep was made of: fingerprints of model and samples, and the options.
    about : mapping
        Names of the model and of the samples, and their number.
    """

    cells: tuple[Cell, ...] = field(repr=False)
    parts: Mapping[str, Any] = field(repr=False)
    about: Mapping[str, Any]

    @property
    def failed(self) -> tuple[Cell, ...]:
        """The cells without figures."""
        return tuple(cell for cell in self.cells if not cell.done)

    def front(self) -> tuple[Cell, ...]:
        """Choose the cells that no other one beats in size, accuracy and least robust accuracy.

        Without attacks in size and accuracy; without samples in size and width of the impact. The
        original is among the candidates.

        Returns
        -------
        tuple of Cell
            From the smallest model to the largest.
        """
        return pareto_front(self.cells)

    def table(self) -> str:
        """Tell what came of every method and target, over all seeds, in plain text."""
        return table(self.cells)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "kind": KIND,
            "schema_version": SCHEMA_VERSION,
            **self.parts,
            "about": dict(self.about),
            "cells": [cell.to_dict() for cell in self.cells],
            "front": [cell.cell for cell in self.front()],
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON text."""
        return to_json(self.to_dict())

    def save_report(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write tables and charts to one HTML file without scripts, which any browser shows.

        Parameters
        ----------
        path : str or path-like
            Where to write; ends in `.html`.
        overwrite : bool, default False
            Whether a file that is there may be replaced.

        Returns
        -------
        Path
            The file written, absolute.

        Raises
        ------
        OutputError
            It cannot be written; what was there before is untouched.
        """
        from nnprune.keras_io.save import check_output, write_text_atomically
        from nnprune.sweeping.page import render

        check_output(path, overwrite=overwrite, suffixes=(".html", ".htm"))
        page = render(self.cells, self.parts, self.about)
        return write_text_atomically(path, page, overwrite=overwrite)
