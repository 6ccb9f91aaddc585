"""An evaluation as it is published: one versioned JSON, from which text and report are made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnprune.result import to_json

__all__ = ["Evaluation"]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was measured of one or several models.

    Attributes
    ----------
    document : mapping
        All of it as plain values; `nnprune.report.schema.load_schema()` is its JSON Schema.
        Fractions are between 0 and 1, times in seconds, sizes in bytes; what is not there is None,
        and `absent` says why.
    """

    document: Mapping[str, Any] = field(repr=False)

    @property
    def models(self) -> list[Mapping[str, Any]]:
        """What was measured of each model, the original first if there is one."""
        return list(self.document["models"])

    @property
    def warnings(self) -> list[str]:
        """What the reader must know before the figures are believed."""
        return list(self.document["warnings"])

    def to_dict(self) -> dict[str, Any]:
        """Return the document."""
        return dict(self.document)

    def to_json(self) -> str:
        """Return the document as JSON text."""
        return to_json(self.document)

    def summary(self) -> str:
        """Tell the main figures in a table, one column a model."""
        from nnprune.evaluation.summary import summary

        return summary(self.document)

    def save_json(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the JSON to a file, wholly or not at all.

        Raises
        ------
        OutputError
            It cannot be written; what was there before is untouched.
        """
        from nnprune.keras_io.save import write_text_atomically

        return write_text_atomically(path, self.to_json() + "\n", overwrite=overwrite)

    def save_report(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write a report that a browser shows, in one HTML file without scripts.

        Raises
        ------
        OutputError
            It cannot be written; what was there before is untouched.
        """
        from nnprune.keras_io.save import write_text_atomically
        from nnprune.report.render import render

        return write_text_atomically(path, render(self.document), overwrite=overwrite)
