"""One command for all of it: measure what is not measured yet, then write the page."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from paper.ablation import measure_ablation
from paper.curves import measure_curves
from paper.demonstration import measure_demonstration
from paper.differences import measure_differences
from paper.page import write_page
from paper.peer import available, measure_peer
from paper.results import Cells, Clock
from paper.settings import FULL, MODELS, QUICK, PaperModel, Settings
from paper.timing import measure_timing

__all__ = ["STAGES", "main"]

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).resolve().parents[2] / "docs"

# In this order for every model: what the page needs most comes first.
STAGES: dict[str, Callable[[PaperModel, Settings, Cells], None]] = {
    "timing": measure_timing,
    "curves": measure_curves,
    "demonstration": measure_demonstration,
    "differences": measure_differences,
    "ablation": measure_ablation,
    "peer": measure_peer,
}


def parser() -> argparse.ArgumentParser:
    """Return the command's options."""
    shown = argparse.ArgumentParser(prog="benches/paper", description=__doc__)
    shown.add_argument("--quick", action="store_true", help="ten minutes instead of two hours")
    shown.add_argument("--only", nargs="+", choices=STAGES, help="only these stages")
    names = [model.name for model in MODELS]
    shown.add_argument("--models", nargs="+", choices=names, help="only these models")
    shown.add_argument("--minutes", type=float, help="another time limit")
    shown.add_argument("--fresh", action="store_true", help="measure again what is there already")
    shown.add_argument("--page-only", action="store_true", help="measure nothing")
    shown.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    shown.add_argument("--out", type=Path, default=DOCS, help="folder of the page")
    return shown


def main(arguments: list[str] | None = None) -> None:
    """Run the experiments and write the page."""
    given = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(given)
    if not options.page_only:
        _measure(options)
    for path in write_page(options.results, options.out):
        print(path)


def _measure(options: argparse.Namespace) -> None:
    settings = QUICK if options.quick else FULL
    clock = Clock(minutes=settings.minutes if options.minutes is None else options.minutes)
    models = [model for model in MODELS if options.models is None or model.name in options.models]
    skipped = []
    if not available():
        print("no .venv-peer: the public implementation is left out", file=sys.stderr)
    for stage, measure in STAGES.items():
        if options.only is not None and stage not in options.only:
            continue
        path = options.results / settings.name / f"{stage}.json"
        if options.fresh:
            path.unlink(missing_ok=True)
        cells = Cells(path, mode=settings.name, command=_command(settings, stage), clock=clock)
        for model in models:
            print(f"{stage} {model.name}, {clock.left:.0f} s left", file=sys.stderr, flush=True)
            measure(model, settings, cells)
        skipped += [f"{stage}: {name}" for name in cells.skipped]
    if skipped:
        print(f"out of time before {len(skipped)} measurements:", file=sys.stderr)
        print("\n".join(skipped[:20]), file=sys.stderr)


def _command(settings: Settings, stage: str) -> str:
    """Return the command that makes a stage's results."""
    arguments = [*(["--quick"] if settings is QUICK else []), "--only", stage]
    return f"make paper PAPER_ARGS={shlex.quote(' '.join(arguments))}"
