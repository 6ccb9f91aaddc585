"""RQ1 and RQ3: accuracy and robust instances from 0 to 80 % pruned, beside one-shot."""

from __future__ import annotations

from typing import Any

import nnprune

from paper.results import Cells
from paper.settings import TARGET, PaperModel, Settings
from paper.workbench import Workbench, open_workbench, shares_to

__all__ = ["METHODS", "measure_curves", "measure_model"]

METHODS: dict[str, nnprune.options.Method] = {
    "one_shot": nnprune.OneShot(),
    "greedy": nnprune.Greedy(),
    "annealing": nnprune.Annealing(),
}


def measure_curves(model: PaperModel, settings: Settings, cells: Cells) -> None:
    """Measure one model of the papers; the convolutional one on its whole test set, too."""
    bench = open_workbench(model, settings)
    measure_model(model, settings, cells, bench)
    if not bench.convolutional or not settings.whole_test_targets:
        return
    whole = open_workbench(model, settings, whole=True)
    shares = list(settings.whole_test_targets)
    _original(f"{model.name}/whole/original", cells, whole)
    for name in METHODS:
        _curve(f"{model.name}/whole/{name}/0", model, cells, whole, (name, 0), shares)


def measure_model(model: PaperModel, settings: Settings, cells: Cells, bench: Workbench) -> None:
    """Measure a model at every point of its curves, for every method and seed."""
    every = settings.convolutional_every if bench.convolutional else settings.every
    shares = shares_to(every)
    _original(f"{model.name}/original", cells, bench)
    for name in METHODS:
        for seed in range(settings.seeds if name == "annealing" else 1):
            _curve(f"{model.name}/{name}/{seed}", model, cells, bench, (name, seed), shares)


def _original(cell: str, cells: Cells, bench: Workbench) -> None:
    def work() -> dict[str, Any]:
        bench.replay((), {})
        return bench.measure()

    cells.measure(cell, bench.given, work)


def _curve(
    cell: str,
    model: PaperModel,
    cells: Cells,
    bench: Workbench,
    run: tuple[str, int],
    shares: list[float],
) -> None:
    """Prune once, to 80 %, and measure at every one of `shares`."""
    name, seed = run

    def work() -> dict[str, Any]:
        result = bench.prune(METHODS[name], step=model.step, target=TARGET, seed=seed)
        points = []
        for share in shares:
            bench.replay(result.merges, bench.removed(share))
            points.append({"share": share, **bench.measure()})
        return {"points": points, "merges": len(result.merges), "engine": result.engine_seconds}

    cells.measure(cell, bench.given | {"step": str(model.step), "shares": shares}, work)
