"""The journal and the recorded runs of the public implementation, as shares of the samples."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compensation.journal import Journal
from compensation.methods import PUBLIC
from compensation.run import ORIGINAL

__all__ = ["Recorded", "Values", "share_of"]

_PEER = Path(__file__).resolve().parents[1] / "paper" / "results" / "full" / "peer.json"


@dataclass(frozen=True)
class Values:
    """One quantity of one method at one ratio, for each seed."""

    runs: Sequence[float]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.runs)

    @property
    def deviation(self) -> float:
        """Sample standard deviation over the seeds; 0 for one run."""
        return statistics.stdev(self.runs) if len(self.runs) > 1 else 0.0

    def text(self) -> str:
        """Return mean and standard deviation in percent."""
        if len(self.runs) == 1:
            return f"{100 * self.mean:.1f}"
        return f"{100 * self.mean:.1f} ± {100 * self.deviation:.1f}"


def share_of(measured: Mapping[str, Any], quantity: str) -> float:
    """Return "accuracy", "balanced", "recall", or "robust 0.05" of what was counted."""
    if quantity in ("balanced", "recall"):
        return float(measured[quantity])
    if quantity == "accuracy":
        return float(measured["correct"] / measured["samples"])
    # The recorded runs of the public implementation were attacked on all samples.
    attacked = measured.get("attacked", measured["samples"])
    return float(measured["robust"][quantity.removeprefix("robust ")] / attacked)


class Recorded:
    """What is known of every model.

    Parameters
    ----------
    journal : Journal
        The cells.
    peer : Path, optional
        The public implementation's results; by default those of `make paper`.
    """

    def __init__(self, journal: Journal, peer: Path = _PEER) -> None:
        self._journal = journal
        self._peer = json.loads(peer.read_text())["cells"] if peer.is_file() else {}

    def values(self, model: str, method: str, ratio: float, quantity: str) -> Values | None:
        """Return one quantity of a method; None where it was not measured."""
        if method == PUBLIC:
            measured = self._public(model, ratio)
        else:
            measured = [cell["measured"] for cell in self._journal.of(model, method, ratio)]
        known = [
            share_of(one, quantity) for one in measured if quantity != "recall" or quantity in one
        ]
        return Values(known) if known else None

    def original(self, model: str, quantity: str) -> float | None:
        """Return one quantity of the unpruned model."""
        cells = self._journal.of(model, ORIGINAL, None)
        return share_of(cells[0]["measured"], quantity) if cells else None

    def cells(self, model: str, method: str, ratio: float) -> list[dict[str, Any]]:
        """Return the cells of all seeds."""
        return self._journal.of(model, method, ratio)

    def original_cell(self, model: str) -> dict[str, Any] | None:
        """Return the cell of the unpruned model."""
        cells = self._journal.of(model, ORIGINAL, None)
        return cells[0] if cells else None

    def public_ratios(self, model: str) -> list[float]:
        """Return the shares of units that the public implementation reached on this model."""
        cells = [cell for name, cell in self._peer.items() if name.startswith(f"{model}/")]
        points = [point for cell in cells for point in cell["result"]["theirs"]["points"]]
        return sorted({point["target"] for point in points if point["target"] is not None})

    def _public(self, model: str, ratio: float) -> list[dict[str, Any]]:
        """Return what the public implementation's networks got right, run by run."""
        original = self.original_cell(model)
        found = []
        for name, cell in self._peer.items():
            same = original is not None and cell["given"]["model"] == original["given"]["model"]
            if name.startswith(f"{model}/") and same:
                points = cell["result"]["theirs"]["points"]
                found += [point["measured"] for point in points if point["target"] == ratio]
        return found
