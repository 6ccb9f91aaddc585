"""The page: docs/experiments.md with its figures, from the results on disk alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnprune.report.format import MISSING

from paper.ablation_tables import ablation_section, differences_section, ingredient_table
from paper.claims import claims_section
from paper.figures import absolute, improvement, sheet
from paper.picture import picture
from paper.recorded import Recorded, share_of
from paper.settings import MODELS, PaperModel
from paper.tables import curve_table, peer_sections, source_line, table, timing_section, whole_table

__all__ = ["build_page", "write_page"]

_INTRODUCTION = """\
# The papers' experiments

What the method of Meng, Bai, Teo and Dong (arXiv 2204.00783) does on the four models of their paper
and on Fashion-MNIST's LeNet-300-100, beside one-shot saliency pruning, a greedy search without
chance, and the authors' public implementation. This page is written by

    make paper                          # all of it: at most two hours on two cores
    make paper PAPER_ARGS=--quick       # ten minutes: fewer seeds, samples and points

from the results in `benches/paper/results`; every table and figure names the command and the commit
that made it (a plus: with changes not yet committed). Sentences about who is ahead are chosen by
the numbers. The models (`benches/models`) are trained here by the paper's recipe, they are not the
authors'; CIFAR-10 comes from JPEG copies and the credit card data are a part, so that figures are
to be compared within a table, not with the paper's. Figures of commit a8f04e55d531 and earlier are
those of the engine before its impacts came from an enclosed Jacobian and its saliency took biases
as one more weight: `docs/scores.md` has both.

*Robust*: right both without and under FGSM of strength epsilon on the pruned model's own gradients,
within the input box. *Mean recall*: the mean over the classes of the share that is right; it is
shown where one class prevails. Figures are medians over seeds [least, most]; one-shot and greedy do
not depend on a seed. One run to 80 % gives the whole curve."""

_ABLATION = """\
Each line changes one option of the default; at 50 and 80 % of the units, medians [least, most]."""

_INGREDIENTS = """\
Change of the median accuracy against the default, in points; a star where the median is outside
the default's own range over its seeds. On a model with one output (credit card fraud) ENT is
constant, so that alpha, phi and the density cannot matter unless alpha is 0."""

_DIFFERENCES = """\
The engine always intersects the interval of a unit's change that follows from the two value
intervals with the one that follows from the difference of the two affine maps; it has no switch.
So a NumPy loop of its own (`benches/paper/differences.py`) prunes greedily by each: there the
impact alone decides."""

_DEMONSTRATION = """\
The first test images, one of each class, that the original gets right; the adversarial ones are
made against the original and shown to all models. Left of each answer whether it is right."""


def write_page(results: Path, out: Path) -> list[Path]:
    """Write the page and its figures.

    Parameters
    ----------
    results : Path
        Folder of the stages' results.
    out : Path
        Gets `experiments.md`, and the figures in a folder `experiments`.

    Returns
    -------
    list of Path
        The files written.
    """
    page, figures = build_page(Recorded(results))
    folder = out / "experiments"
    folder.mkdir(parents=True, exist_ok=True)
    written = [out / "experiments.md"]
    written[0].write_text(page)
    for name, content in figures.items():
        path = folder / f"{name}.svg"
        path.write_text(content)
        written.append(path)
    return written


def build_page(recorded: Recorded) -> tuple[str, dict[str, str]]:
    """Return the page's text and its figures by their names."""
    figures: dict[str, str] = {}
    models = sorted(MODELS, key=lambda model: model.number or 9)
    measured = [model for model in models if recorded.curves(model.name)]
    parts = [_INTRODUCTION, _extent(recorded, models)]
    parts += ["## The claims", claims_section(recorded, measured)]
    parts += ["## RQ1: accuracy and robustness from 0 to 80 %"]
    for model in measured:
        parts += _curves(recorded, model, figures)
    parts += _improvements(recorded, measured, figures)
    timed = {
        f"{model.name}/{name}": cell
        for model in models
        for name, cell in recorded.cells("timing", model.name, ["call"]).items()
    }
    if timed:
        parts += ["## RQ2: time for 80 %", _timing_words(), timing_section(recorded)]
        parts += [source_line(timed)]
    parts += ["## The public implementation", *_peer(recorded)]
    parts += _demonstration(recorded, figures)
    parts += _ablation(recorded, models)
    return "\n\n".join(part for part in parts if part) + "\n", figures


def _extent(recorded: Recorded, models: Sequence[PaperModel]) -> str:
    """Say what was run with which settings, and what was not."""
    rows = []
    for model in models:
        row = [f"{model.title}, {model.layers}"]
        curves = recorded.curves(model.name)
        if curves:
            samples = recorded.original(model.name)["samples"]
            row += [f"{samples:,}", str(len(curves["annealing"].runs))]
        else:
            row += [MISSING, MISSING]
        for stage in ("curves", "timing", "peer", "ablation"):
            cells = recorded.cells(stage, model.name)
            row.append("/".join(sorted({cell["mode"] for cell in cells.values()})) or "not run")
        rows.append(row)
    heads = ["model", "test samples", "seeds", "RQ1, RQ3", "RQ2", "public implementation"]
    return "What was run:\n\n" + table([*heads, "ablation"], rows)


def _curves(recorded: Recorded, model: PaperModel, figures: dict[str, str]) -> list[str]:
    curves, original = recorded.curves(model.name), recorded.original(model.name)
    headings = {
        "accuracy": "Accuracy",
        "robust 0.01": "Robust instances, epsilon .01",
        "robust 0.05": "Robust instances, epsilon .05",
    }
    charts = [
        absolute(heading, quantity, curves, share_of(original, quantity))
        for quantity, heading in headings.items()
    ]
    name = f"curves-{model.name}"
    figures[name] = sheet(charts, columns=3, name=name, title=f"{model.title}, by share pruned")
    cells = recorded.cells("curves", model.name, ["original", "one_shot/0", "annealing/0"])
    number = "" if model.number is None else f"Model {model.number}: "
    return [
        f"### {number}{model.title}",
        f"{model.layers}, step {model.step}, {original['samples']:,} test samples.",
        f"![{model.title}: accuracy and robust instances](experiments/{name}.svg)",
        curve_table(recorded, model),
        whole_table(recorded, model) or "",
        source_line(cells),
    ]


def _improvements(
    recorded: Recorded, models: Sequence[PaperModel], figures: dict[str, str]
) -> list[str]:
    if not models:
        return []
    charts = []
    for model in models:
        curves = recorded.curves(model.name)
        charts.append(improvement(f"{model.title}: accuracy", "accuracy", curves))
        charts.append(improvement(f"{model.title}: robust, .05", "robust 0.05", curves))
    title = "Improvement over one-shot, in points of the test samples"
    figures["improvement"] = sheet(charts, columns=2, name="improvement", title=title)
    cells = {
        f"{model.name}/{name}": cell
        for model in models
        for name, cell in recorded.cells("curves", model.name, ["original", "annealing/0"]).items()
    }
    return [
        "## RQ3: improvement over one-shot",
        "Percentage points of the test samples above (or below) one-shot, as the paper's figure 4: "
        "the median over seeds and, shaded, the range.",
        "![Improvement over one-shot](experiments/improvement.svg)",
        source_line(cells),
    ]


def _timing_words() -> str:
    return (
        "Seconds for 80 % of the units at the slowest pace. *Engine*: weights in, weights out; "
        "*call*: `nnprune.prune` on a loaded model; *command*: `nnprune prune` from file to file, "
        "with the start of TensorFlow. Elapsed time suffers from other work on the machine, CPU "
        "time hardly does."
    )


def _peer(recorded: Recorded) -> list[str]:
    found = peer_sections(recorded)
    if found is None:
        return [
            "Not run: `.venv-peer` was not there. `benches/peer/make_environment.sh` makes it, and "
            "`make paper PAPER_ARGS='--only peer'` measures."
        ]
    return [
        "paoding-dl, stochastic strategy, on the very same weights, run in turns with ours on the "
        "same machine, each pair with a seed of its own. Its time is that of its pruning loop, "
        "without the start of TensorFlow; ours is the engine's for the same target and step. "
        "*Units removed*: without any outgoing weight left. It takes one interval for all inputs: "
        "on KDD that is [-10, 10] for the one-hot features, too.",
        found,
    ]


def _demonstration(recorded: Recorded, figures: dict[str, str]) -> list[str]:
    shown: list[tuple[str, Any]] = []
    cells: dict[str, Any] = {}
    for model in MODELS:
        found = recorded.cells("demonstration", model.name)
        for cell in found.values():
            shown.append((model.title, cell["result"]["images"]))
            cells[model.name] = cell
    if not shown:
        return []
    figures["demonstration"] = picture(shown, title="What the models say about test images")
    return [
        "## The demonstration",
        _DEMONSTRATION,
        "![Test images and adversaries](experiments/demonstration.svg)",
        source_line(cells),
    ]


def _ablation(recorded: Recorded, models: Sequence[PaperModel]) -> list[str]:
    parts: list[str] = []
    for model in models:
        section = ablation_section(recorded, model)
        if section is not None:
            cells = recorded.cells("ablation", model.name, ["default/0", "rewalks_4/0"])
            parts += [f"### {model.title}", section, source_line(cells)]
    if parts:
        parts = [_INGREDIENTS, ingredient_table(recorded, models), _ABLATION, *parts]
    compared: list[str] = []
    for model in models:
        section = differences_section(recorded, model)
        if section is not None:
            cells = recorded.cells("differences", model.name, ["sources"])
            compared += [f"**{model.title}**", section, source_line(cells)]
    if compared:
        parts += ["### Interval difference against affine difference", _DIFFERENCES, *compared]
    return ["## What each ingredient is worth", *parts] if parts else []
