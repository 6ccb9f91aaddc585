"""What the stages have written, read back: the full run where there is one, else the quick one."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Curve", "Recorded", "Spread", "share_of"]

_MODES = ("full", "quick")


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The median of some runs, and the least and the most of them.

    Attributes
    ----------
    median, least, most : float
        Of the runs' values.
    runs : int
        How many there are.
    """

    median: float
    least: float
    most: float
    runs: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Summarize values, of which there is at least one."""
        known = list(values)
        return cls(
            median=statistics.median(known), least=min(known), most=max(known), runs=len(known)
        )

    def text(self, pattern: str, scale: float = 1.0) -> str:
        """Return the median, and the range where there is one, each as `pattern` has it."""
        middle = format(scale * self.median, pattern)
        if self.runs == 1:
            return middle
        least, most = (format(scale * end, pattern) for end in (self.least, self.most))
        return f"{middle} [{least}, {most}]"


def share_of(measured: Mapping[str, Any], quantity: str) -> float:
    """Return a share of the samples: "accuracy", "balanced", or "robust 0.05"."""
    if quantity == "balanced":
        return float(measured["balanced"])
    count = measured["correct"]
    if quantity.startswith("robust "):
        count = measured["robust"][quantity.removeprefix("robust ")]
    return float(count / measured["samples"])


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One method on one model.

    Attributes
    ----------
    runs : sequence of sequence of mapping
        For each seed its points, from few to many units removed.
    """

    runs: Sequence[Sequence[Mapping[str, Any]]]

    def shares(self) -> list[float]:
        """Return the shares of units removed at the points."""
        return [float(point["share"]) for point in self.runs[0]]

    def values(self, index: int, quantity: str) -> list[float]:
        """Return one quantity at one point, for each seed."""
        return [share_of(run[index], quantity) for run in self.runs]

    def index_at(self, share: float) -> int | None:
        """Return the point at a share, None if there is none."""
        for index, found in enumerate(self.shares()):
            if abs(found - share) < 1e-9:
                return index
        return None


class Recorded:
    """All results in a folder.

    Parameters
    ----------
    folder : Path
        Holds `quick` and `full`, with a JSON file for each stage.
    """

    def __init__(self, folder: Path) -> None:
        self._cells: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
        for mode in _MODES:
            for path in sorted((folder / mode).glob("*.json")):
                self._cells[mode, path.stem] = json.loads(path.read_text())["cells"]

    def cells(self, stage: str, model: str, needed: Sequence[str] = ()) -> dict[str, Any]:
        """Return a model's measurements of a stage, by what follows the model's name.

        The full run's are taken once it has all that the quick one has; the two are not mixed.

        Parameters
        ----------
        stage, model : str
            Which.
        needed : sequence of str
            What a run must have to be taken at all.
        """
        runs = [
            {
                name.partition("/")[2]: cell
                for name, cell in self._cells.get((mode, stage), {}).items()
                if name.partition("/")[0] == model
            }
            for mode in _MODES
        ]
        full, quick = ({} if set(needed) - set(found) else found for found in runs)
        return full if full and not set(quick) - set(full) else quick or full

    def curves(self, model: str, prefix: str = "") -> dict[str, Curve]:
        """Return a model's curves by method, all seeds of a method together."""
        needed = [f"{prefix}{name}" for name in ("original", "one_shot/0", "annealing/0")]
        cells = self.cells("curves", model, needed)
        runs: dict[str, list[Any]] = {}
        for name, cell in cells.items():
            method, _, seed = name.removeprefix(prefix).partition("/")
            if name.startswith(prefix) and seed.isdigit():
                runs.setdefault(method, []).append(cell["result"]["points"])
        return {method: Curve(runs=found) for method, found in runs.items()}

    def original(self, model: str, prefix: str = "") -> Mapping[str, Any]:
        """Return what the original does on the curves' samples."""
        needed = [f"{prefix}{name}" for name in ("original", "one_shot/0", "annealing/0")]
        measured: dict[str, Any] = self.cells("curves", model, needed)[f"{prefix}original"][
            "result"
        ]
        return measured
