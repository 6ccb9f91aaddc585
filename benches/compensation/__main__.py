"""Every data-free compensation method beside ours, in one table: run it from the repository's root.

    python benches/compensation [--quick] [--model mnist] [--runs 10] [--only ours] [--page]

Cells that `benches/compensation/results` has already are not measured again, so that a run that
was stopped goes on where it was. At the end the tables are printed; a full run also writes
`docs/compensation.md`.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from compensation.journal import Journal
from compensation.methods import methods
from compensation.page import model_table, write_page
from compensation.recorded import Recorded
from compensation.run import measure_model
from compensation.settings import FULL, MODELS, QUANTITIES, QUICK

_HERE = Path(__file__).resolve().parent
_DOCUMENTS = _HERE.parents[1] / "docs"


def main() -> None:
    """Measure what is missing, print the tables, write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    names = [model.name for model in MODELS]
    parser.add_argument("--model", action="append", choices=names, help="by default all")
    parser.add_argument("--runs", type=int, help="seeds of a method that draws")
    parser.add_argument("--only", help="only methods whose name begins with this")
    parser.add_argument("--quick", action="store_true", help="two runs, fewer samples, no page")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    options = parser.parse_args()
    settings = QUICK if options.quick else FULL
    if options.runs is not None:
        settings = replace(settings, runs=options.runs)
    journal = Journal(_HERE / "results" / f"{settings.name}.jsonl")
    rows = methods(settings)
    chosen = [row for row in rows if row.name.startswith(options.only or "")]
    models = [model for model in MODELS if not options.model or model.name in options.model]
    if not options.page:
        for model in models:
            measure_model(model, chosen, settings, journal)
    recorded = Recorded(journal)
    for model in models:
        if recorded.original(model.name, "accuracy") is not None:
            shown = " / ".join(QUANTITIES[quantity] for quantity in model.shown)
            print(f"\n**{model.title}**: {shown}, in percent\n")
            print(model_table(recorded, model, rows, model.shown))
    if not options.quick:
        for path in write_page(recorded, rows, _DOCUMENTS):
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
