"""What the judge without data says of the runs, beside what the test set does."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from nnprune.report.format import MISSING
from paper.tables import table

from compensation.methods import Method
from compensation.recorded import Recorded, share_of
from compensation.settings import BenchModel

__all__ = ["Judged", "judge_table", "judged_runs"]

_FEWEST = 4
"""A correlation over fewer runs says nothing."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One run: what the judge says of it, and what is true."""

    agreement: float
    accuracy: float
    robust: float


def judged_runs(
    recorded: Recorded, model: BenchModel, ratio: float, methods: Sequence[Method]
) -> list[Judged]:
    """Return the runs of these methods that the judge has seen."""
    robust = next(quantity for quantity in model.shown if quantity.startswith("robust"))
    cells = [
        cell["measured"]
        for method in methods
        for cell in recorded.cells(model.name, method.name, ratio)
    ]
    return [
        Judged(
            agreement=cell["agreement"],
            accuracy=share_of(cell, "accuracy"),
            robust=share_of(cell, robust),
        )
        for cell in cells
        if "agreement" in cell
    ]


def judge_table(recorded: Recorded, models: Sequence[BenchModel], methods: Sequence[Method]) -> str:
    """Return the relation of agreement to accuracy and robustness in Markdown."""
    free = [method for method in methods if method.kind != "data"]
    ours = [method for method in free if method.kind == "ours"]
    rows = []
    for model in models:
        for ratio in model.ratios:
            everything = judged_runs(recorded, model, ratio, free)
            own = judged_runs(recorded, model, ratio, ours)
            if len(everything) >= _FEWEST:
                rows.append([model.title, f"{ratio:.0%}", *_all(everything), *_own(own)])
    heads = ["model", "units removed", "runs", "r accuracy", "r robust"]
    heads += ["ours", "r accuracy", "r robust", "picked", "mean", "best"]
    return table(heads, rows)


def _all(runs: Sequence[Judged]) -> list[str]:
    return [
        str(len(runs)),
        _correlation([(run.agreement, run.accuracy) for run in runs]),
        _correlation([(run.agreement, run.robust) for run in runs]),
    ]


def _own(runs: Sequence[Judged]) -> list[str]:
    if not runs:
        return ["0", *[MISSING] * 5]
    picked = max(runs, key=lambda run: run.agreement).accuracy
    accuracies = [run.accuracy for run in runs]
    shown = (picked, statistics.fmean(accuracies), max(accuracies))
    return [*_all(runs), *(f"{100 * value:.1f}" for value in shown)]


def _correlation(pairs: Sequence[tuple[float, float]]) -> str:
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    if len(pairs) < _FEWEST or len(set(first)) == 1 or len(set(second)) == 1:
        return MISSING
    return f"{statistics.correlation(first, second):.2f}"
