"""What happened while units were removed, epoch by epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnprune.report import format as fmt
from nnprune.report.charts import Axis, Panel, Point, Series, Tick, line_chart
from nnprune.report.models import Entry
from nnprune.report.scales import nice_range, nice_ticks

__all__ = ["Run", "TrajectoryView", "trajectory_view"]

#: No axis of shares zooms in further than this: ten percentage points.
_LEAST_SPAN = 0.1


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch with its place on the way.

    Attributes
    ----------
    start, end : float
        Fraction of the units that were gone before and after it.
    record : mapping
        Its entry in the trace.
    """

    start: float
    end: float
    record: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model's pruning.

    Attributes
    ----------
    entry : Entry
        The pruned model.
    method : str
        How it was pruned, in words.
    epochs : tuple of Epoch
        The way.
    origin : mapping or None
        What was measured before it began.
    head : tuple of str
        Columns of its table.
    rows : tuple of tuple of str
        Rows of its table.
    """

    entry: Entry
    method: str
    epochs: tuple[Epoch, ...]
    origin: Mapping[str, Any] | None
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class TrajectoryView:
    """What the section shows.

    Attributes
    ----------
    panels : tuple of Panel
        Charts of what was measured, then of the search itself.
    measured : bool
        Whether anything was measured on data.
    runs : tuple of Run
        The prunings, with their tables.
    """

    panels: tuple[Panel, ...]
    measured: bool
    runs: tuple[Run, ...]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One quantity along the way.

    Attributes
    ----------
    name : str
        What stands over its panel.
    points : callable
        The values of one run: (fraction removed, value, proportion or None).
    show, tick : callable
        A value as text, and one on the axis.
    share : bool
        Whether it is between 0 and 1.
    """

    name: str
    points: Callable[[Run], list[tuple[float, float, Mapping[str, Any] | None]]]
    show: Callable[[float], str]
    tick: Callable[[float], str]
    share: bool


def trajectory_view(models: Sequence[Entry]) -> TrajectoryView | None:
    """Return the section, or None if no model comes with the trace of its pruning."""
    runs = tuple(_run(entry) for entry in models if (entry.record["pruning"] or {}).get("trace"))
    if not runs:
        return None
    quality = _quality_curves(runs)
    drawn = [
        *quality,
        Curve(
            name="Energy of the accepted pairs",
            points=_energy,
            show=fmt.number,
            tick=fmt.compact,
            share=False,
        ),
        _share_curve("Acceptance rate", _acceptance),
    ]
    if not any(curve.points(run) for curve in quality for run in runs):
        # A straight line for most methods: the table has it, too.
        drawn.append(
            Curve(
                name="Temperature",
                points=_temperature,
                show=fmt.number,
                tick=fmt.number,
                share=True,
            )
        )
    farthest = max(epoch.end for run in runs for epoch in run.epochs)
    panels = [_panel(curve, runs, farthest, index) for index, curve in enumerate(drawn)]
    return TrajectoryView(
        panels=tuple(panel for panel in panels if panel is not None),
        measured=any(panels[: len(quality)]),
        runs=runs,
    )


def _run(entry: Entry) -> Run:
    """Return one model's pruning."""
    pruning = entry.record["pruning"]
    trace = pruning["trace"]
    total = sum(trace[0]["units"].values()) + trace[0]["removed"]
    gone, epochs = 0, []
    for record in trace:
        before, gone = gone, gone + record["removed"]
        epochs.append(Epoch(start=before / max(total, 1), end=gone / max(total, 1), record=record))
    name = str(pruning["method"]["name"]).replace("_", "-")
    target = pruning["target"]
    method = (
        f"{name}, target {target if isinstance(target, str) else fmt.percent(target)},"
        f" step {fmt.percent(pruning['step'])},"
        f" seed {pruning['seed']}, stopped by {pruning['stopped_by'].replace('_', ' ')}"
    )
    if pruning.get("undone"):
        method += "; the epoch that broke it was taken back"
    head, rows = _table(epochs)
    return Run(
        entry=entry,
        method=method,
        epochs=tuple(epochs),
        origin=pruning.get("original_evaluation"),
        head=head,
        rows=rows,
    )


# --- curves --------------------------------------------------------------------------------------

_Values = list[tuple[float, float, Mapping[str, Any] | None]]


def _share_curve(name: str, points: Callable[[Run], _Values]) -> Curve:
    """Return a quantity that is read in percent."""
    return Curve(name=name, points=points, show=fmt.percent, tick=fmt.percent_tick, share=True)


def _quality_curves(runs: Sequence[Run]) -> list[Curve]:
    """Return what was measured on data along the way, from the original on."""

    def proportion(name: str, pick: _Pick) -> Curve:
        def points(run: Run) -> _Values:
            told = [(0.0, run.origin), *((e.end, e.record.get("evaluation")) for e in run.epochs)]
            found = [(x, pick(evaluation)) for x, evaluation in told if evaluation]
            return [(x, value["value"], value) for x, value in found if value is not None]

        return _share_curve(name, points)

    curves = [
        proportion("Accuracy", _accuracy_of),
        proportion("Agreement with the original", _agreement_of),
    ]
    for attack, size in _attacked(runs):
        name = f"Robust, {attack}, \N{GREEK SMALL LETTER EPSILON} = {fmt.epsilon(size)}"
        curves.append(proportion(name, _robust(attack, size)))
    return curves


_Pick = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]


def _attacked(runs: Sequence[Run]) -> list[tuple[str, float]]:
    """Return every attack and size that was tried along the way."""
    found: dict[tuple[str, float], None] = {}
    for run in runs:
        for epoch in run.epochs:
            for entry in (epoch.record.get("evaluation") or {}).get("robust", ()):
                found[entry["attack"], entry["epsilon"]] = None
    return list(found)


def _robust(attack: str, size: float) -> _Pick:
    """Return how to find the robust instances under one attack."""

    def pick(evaluation: Mapping[str, Any]) -> Mapping[str, Any] | None:
        for entry in evaluation["robust"]:
            if (entry["attack"], entry["epsilon"]) == (attack, size):
                found: Mapping[str, Any] = entry["instances"]
                return found
        return None

    return pick


def _energy(run: Run) -> _Values:
    return [
        (epoch.end, epoch.record["energy"], None)
        for epoch in run.epochs
        if epoch.record["energy"] is not None
    ]


def _acceptance(run: Run) -> _Values:
    rates = [(epoch.end, _acceptance_rate(epoch.record)) for epoch in run.epochs]
    return [(x, rate, None) for x, rate in rates if rate is not None]


def _temperature(run: Run) -> _Values:
    # A trace has the temperature at the start of each epoch.
    return [(epoch.start, epoch.record["temperature"], None) for epoch in run.epochs]


def _acceptance_rate(record: Mapping[str, Any]) -> float | None:
    """Return accepted over decided pairs; None where nothing was decided."""
    accepted = record["accepted"] + record["accepted_by_chance"]
    decided = accepted + record["rejected"]
    return accepted / decided if decided else None


def _panel(curve: Curve, runs: Sequence[Run], farthest: float, index: int) -> Panel | None:
    """Return a chart of one quantity, or None if no run has it."""
    lines = [(run, curve.points(run)) for run in runs]
    band = len(runs) == 1
    values = [value for _, points in lines for _, value, _ in points]
    if band:
        shares = [share for _, points in lines for _, _, share in points if share is not None]
        values += [share[end] for share in shares for end in ("lower", "upper")]
    if not values:
        return None
    if curve.share:
        low, high = nice_range(values, least=_LEAST_SPAN, floor=0.0, ceiling=1.0)
    else:
        largest = max(abs(value) for value in values)
        low, high = nice_range([0.0, *values], least=largest or 1.0)
    series = [
        Series(
            key=run.entry.key if len(runs) > 1 else "",
            colour=run.entry.colour,
            band=band,
            points=[_point(run, curve, *point) for point in points],
        )
        for run, points in lines
    ]
    told = "; ".join(line.points[-1].tip for line in series if line.points)
    chart = line_chart(
        series,
        Axis(
            low=0.0,
            high=farthest,
            ticks=[Tick(value=at, label=fmt.percent_tick(at)) for at in nice_ticks(0.0, farthest)],
            title="units removed",
        ),
        Axis(
            low=low,
            high=high,
            ticks=[Tick(value=at, label=curve.tick(at)) for at in nice_ticks(low, high)],
        ),
        identifier=f"trajectory-{index}",
        title=f"{curve.name} over the pruning",
        description=f"At the end: {told}.",
    )
    return Panel(caption=curve.name, chart=chart)


def _point(
    run: Run, curve: Curve, x: float, value: float, proportion: Mapping[str, Any] | None
) -> Point:
    """Return a point of a curve."""
    counted = (
        f" ({fmt.count(proportion['count'])} of {fmt.count(proportion['samples'])})"
        if proportion is not None
        else ""
    )
    return Point(
        x=x,
        y=value,
        lower=None if proportion is None else proportion["lower"],
        upper=None if proportion is None else proportion["upper"],
        tip=f"{run.entry.key}, {fmt.percent(x)} removed: {curve.show(value)}{counted}",
    )


# --- table ---------------------------------------------------------------------------------------


def _table(epochs: Sequence[Epoch]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return every epoch's figures."""
    evaluated = [epoch.record.get("evaluation") for epoch in epochs]
    tried: dict[tuple[str, float], None] = {}
    for told in evaluated:
        for entry in (told or {}).get("robust", ()):
            tried[entry["attack"], entry["epsilon"]] = None
    head = ["epoch", "removed", "temperature", "energy", "scored", "accepted", "by chance"]
    head += ["rejected", "taken"]
    if any(evaluated):
        head += ["accuracy", "agreement"]
        head += [
            f"{attack} \N{GREEK SMALL LETTER EPSILON} {fmt.epsilon(size)}" for attack, size in tried
        ]
    rows = []
    for epoch, told in zip(epochs, evaluated, strict=True):
        record = epoch.record
        row = [str(record["epoch"]), fmt.percent(epoch.end), fmt.number(record["temperature"])]
        row.append(fmt.number(record["energy"]))
        for name in ("candidates", "accepted", "accepted_by_chance", "rejected", "taken"):
            row.append(fmt.count(record[name]))
        if any(evaluated):
            picks = [_accuracy_of, _agreement_of, *(_robust(*attack) for attack in tried)]
            row += [_share(pick(told)) if told else fmt.MISSING for pick in picks]
        rows.append(tuple(row))
    return tuple(head), tuple(rows)


def _accuracy_of(evaluation: Mapping[str, Any]) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = evaluation["accuracy"]
    return found


def _agreement_of(evaluation: Mapping[str, Any]) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = evaluation["agreement"]
    return found


def _share(value: Mapping[str, Any] | None) -> str:
    """Return a share of the samples in percent."""
    return fmt.MISSING if value is None else fmt.percent(value["value"])
