"""The page docs/compensation.md and the printed table, from the results on disk alone."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from nnprune.report.format import MISSING
from paper.figures import Chart, Look, sheet
from paper.recorded import Spread
from paper.tables import table

from compensation.goals import Standing, fixed_goals, rival_goals
from compensation.judged import judge_table
from compensation.methods import PUBLIC, Method
from compensation.recorded import Recorded
from compensation.settings import MODELS, QUANTITIES, BenchModel

__all__ = ["build_page", "model_table", "write_page"]

_INTRODUCTION = """\
# Compensation: every data-free method beside ours

    python benches/compensation               # all of it
    python benches/compensation --quick       # minutes: two runs, fewer samples
    python benches/compensation --page        # only this page, from what was measured

An equal share of every hidden Dense layer's units is removed from the models in `benches/models`;
the test samples only report. Every pruned network is judged alike: accuracy in percent, and
instances that are right both without and under FGSM at epsilon on the pruned network's own
gradients. Mean ± standard deviation over seeds; one number where a method draws nothing. CPU s: the
median of what pruning to all the ratios together took of the whole process, inputs, fit and polish
included. Results: `benches/compensation/results`, one line a run.

- *The paper's method* and *one-shot*: `nnprune.prune` with `Annealing()` and `OneShot()`, the
  delegate takes the sum.
- *Ours*: `compensation="least_squares"` with nothing else given, and with one thing changed in each
  further row: the source of the statistics, a search for the units to keep, a budget across
  layers, the best of four seeds by the judge, a polish, 128 unlabelled training inputs. The recipe
  was chosen on six other networks, trained with other seeds, and on held-out training rows.
- *The public implementation*: the runs recorded in `benches/paper/results`, at the paper's slowest
  pace, on up to 10,000 test samples; "not reached" where it was not run to that share, or cut off
  before (on KDD Cup '99 it needs a minute of CPU time for 3 %).
- *Neuron Merging* (NeurIPS 2020), *LBYL* (arXiv 2502.08474) and *Model Folding* (ICLR 2025, its
  Fold-AR) are re-implemented from their papers (`benches/compensation/rivals`) with the settings
  published for LeNet-300-100: l1 norm and cosine 0.45; l2 norm, lambda1 0 and a lambda2 for each
  ratio. None are published for the other models, which get the same; because a threshold and a
  lambda2 chosen on one network need not suit another, a second row has one plain value throughout.
  BatchNormalization is folded into the weights first (for Fold-AR after its repair of the
  variances); where the authors' code departs from their derivation, the derivation is followed.
  `python benches/compensation/published.py` sets them beside their authors' figures, on a network
  trained by their recipe."""

_CHARTS = """\
Medians over seeds, bands from the least to the most; for the two tables of features the mean recall
of the classes, because one class prevails in them."""

_READING = """\
What the misses are made of, and what was tried, on development networks and here:

- Made inputs are the bottleneck, not the fit: with 8,000 training inputs in their place the same
  code comes within two points of the original at half the units. The gradient from leaves is far
  ahead of noise, fields, first-layer Gaussians and moments, except that moments are as good where
  BatchNormalization keeps what the data were like; unions and convex combinations add nothing.
- A search over the same statistics finds smaller losses, no better networks: it fits the made
  inputs. A budget across layers helps the Fashion-MNIST models by one to three points and costs
  MNIST some at 70 %. The best of four seeds is worth a point at most.
- The polish is what closes most of the gap to the goals, at ten times the time; more inputs for it
  still helped when it was left at 16,000.
- The published shares of Neuron Merging are those of a network trained with weight decay; on this
  LeNet-300-100 Neuron Merging itself is far below them.
- Credit card: a wide box of small features. Folding, which looks at weights alone, finds more of
  the frauds; inputs made by gradient know little about 2 % of the rows. Agreement is no judge
  there: nearly everything agrees."""

_JUDGE = """\
Agreement with the original on synthetic inputs that no run was fitted on, beside what the test set
says: over all runs of the tables that saw no data, rivals included, and over ours alone. r is
Pearson's correlation. Picked: the accuracy of the run that agrees most, beside mean and best."""

_LOOKS = {
    "annealing": Look(label="the paper's", key="A", colour="c1", shape="circle", dash=""),
    "neuron_merging": Look(label="Merging", key="N", colour="c2", shape="square", dash="7 3"),
    "lbyl": Look(label="LBYL", key="L", colour="c3", shape="triangle", dash="2 3"),
    "folding": Look(label="Folding", key="F", colour="c4", shape="diamond", dash="10 3 2 3"),
    "ours": Look(label="ours", key="O", colour="c5", shape="circle", dash=""),
    "bound": Look(label="upper bound", key="B", colour="c6", shape="square", dash="5 2"),
}


def write_page(recorded: Recorded, methods: Sequence[Method], out: Path) -> list[Path]:
    """Write the page and its figure.

    Returns
    -------
    list of Path
        The files written.
    """
    measured = [model for model in MODELS if recorded.original(model.name, "accuracy") is not None]
    folder = out / "compensation"
    folder.mkdir(parents=True, exist_ok=True)
    page, figure = out / "compensation.md", folder / "accuracy.svg"
    page.write_text(build_page(recorded, methods, measured))
    charts = [_chart(recorded, model) for model in measured]
    figure.write_text(
        sheet(charts, columns=3, name="compensation", title="Accuracy by method", looks=_LOOKS)
    )
    return [page, figure]


def build_page(
    recorded: Recorded, methods: Sequence[Method], measured: Sequence[BenchModel]
) -> str:
    """Return the page's text."""
    parts = [_INTRODUCTION, "## The goals", _goals(recorded, methods, measured), _READING]
    parts += ["## Accuracy", "![Accuracy by method](compensation/accuracy.svg)"]
    parts += [_CHARTS]
    parts += ["## The judge without data", _JUDGE, judge_table(recorded, measured, methods)]
    for model in measured:
        parts += [f"## {model.title}", _legend(recorded, model)]
        parts += [model_table(recorded, model, methods, model.shown)]
        (other,) = {"robust 0.01", "robust 0.05"} - set(model.shown)
        parts += [f"In each cell: {QUANTITIES[other]}."]
        parts += [model_table(recorded, model, methods, (other,))]
    return "\n\n".join(parts) + "\n"


def model_table(
    recorded: Recorded, model: BenchModel, methods: Sequence[Method], shown: Sequence[str]
) -> str:
    """Return one model's table in Markdown, all methods beside each other.

    Parameters
    ----------
    recorded : Recorded
        The figures.
    model : BenchModel
        Which.
    methods : sequence of Method
        The rows; the public implementation comes behind the paper's method.
    shown : sequence of str
        The quantities in every cell.
    """
    original = _joined(_original(recorded, model, shown))
    rows = [["original", "", *[original] * len(model.ratios), ""]]
    for name, title in _rows(methods):
        cells, runs = [], 0
        for ratio in model.ratios:
            values = [recorded.values(model.name, name, ratio, quantity) for quantity in shown]
            runs = max([runs, *(len(one.runs) for one in values if one is not None)])
            # The recorded runs have no recall.
            known = [MISSING if one is None else one.text() for one in values]
            cells.append(_joined(known) if any(one is not None for one in values) else "")
        if runs:
            missing = "not reached" if name == PUBLIC else MISSING
            seconds = _seconds(recorded, model, name)
            rows.append([title, str(runs), *(cell or missing for cell in cells), seconds])
        elif name == PUBLIC:
            rows.append([title, "", *["not reached"] * len(model.ratios), ""])
    heads = ["method", "runs", *(f"{ratio:.0%}" for ratio in model.ratios), "CPU s"]
    return table(heads, rows)


def _seconds(recorded: Recorded, model: BenchModel, name: str) -> str:
    """Return the median over the seeds of what pruning to all ratios took."""
    cells = [cell for ratio in model.ratios for cell in recorded.cells(model.name, name, ratio)]
    known = [cell["seconds"] for cell in cells if "seconds" in cell]
    return f"{statistics.median(known):.3g}" if known else MISSING


def _rows(methods: Sequence[Method]) -> list[tuple[str, str]]:
    rows = [(method.name, method.title) for method in methods]
    return [*rows[:2], (PUBLIC, "the public implementation"), *rows[2:]]


def _original(recorded: Recorded, model: BenchModel, shown: Sequence[str]) -> list[str]:
    values = [recorded.original(model.name, quantity) for quantity in shown]
    return [MISSING if value is None else f"{100 * value:.1f}" for value in values]


def _joined(texts: Sequence[str]) -> str:
    return " / ".join(texts)


def _legend(recorded: Recorded, model: BenchModel) -> str:
    """Say what a cell holds, and of how many samples."""
    words = " / ".join(QUANTITIES[quantity] for quantity in model.shown)
    cell = recorded.original_cell(model.name)
    assert cell is not None
    found = cell["measured"]
    attacked = "" if found["attacked"] == found["samples"] else f", {found['attacked']} attacked"
    text = f"{model.layers}; {found['samples']:,} test samples{attacked}. In each cell: {words}."
    reached = recorded.public_ratios(model.name)
    if reached:
        text += f" The public implementation was recorded at {_percents(reached)}."
    return text


def _percents(ratios: Sequence[float]) -> str:
    return ", ".join(f"{ratio:.0%}" for ratio in ratios)


def _goals(recorded: Recorded, methods: Sequence[Method], measured: Sequence[BenchModel]) -> str:
    standings = fixed_goals(recorded)
    for model in measured:
        for quantity in model.shown:
            if quantity != "recall":  # never to raise an alarm is easy, and always to raise one
                standings += rival_goals(recorded, model, methods, quantity)
    if not standings:
        return "Ours has not been measured yet."
    heads = ["goal", "units removed", "needed", "ours", "ours, polished", ""]
    return table(heads, [_goal_row(standing) for standing in standings])


def _goal_row(standing: Standing) -> list[str]:
    by = f" ({standing.by})" if standing.by else ""
    return [
        standing.words,
        f"{standing.ratio:.0%}",
        f"{100 * standing.needed:.1f}{by}",
        f"{100 * standing.reached:.1f}",
        MISSING if standing.polished is None else f"{100 * standing.polished:.1f}",
        standing.verdict,
    ]


def _chart(recorded: Recorded, model: BenchModel) -> Chart:
    """Draw accuracy, or the mean over the classes where one class prevails."""
    quantity = "balanced" if "balanced" in model.shown else "accuracy"
    original = recorded.original(model.name, quantity)
    assert original is not None
    lines = []
    for name in _LOOKS:
        points = [(0.0, Spread.of([original]))]
        for ratio in model.ratios:
            values = recorded.values(model.name, name, ratio, quantity)
            if values is not None:
                points.append((ratio, Spread.of(values.runs)))
        if len(points) > 1:
            lines.append((name, points))
    heading = model.title if quantity == "accuracy" else f"{model.title}, mean recall"
    return Chart(heading=heading, lines=lines)
