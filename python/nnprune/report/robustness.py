"""Accuracy and robustness against the size of the perturbation: charts and table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from nnprune.report import format as fmt
from nnprune.report.charts import DASHES, Axis, Panel, Point, Series, Tick, line_chart, line_sample
from nnprune.report.figures import Cell
from nnprune.report.models import Entry
from nnprune.report.svg import MARKERS

__all__ = ["Attack", "RobustnessView", "attacks", "robust_point", "robustness_view"]

#: Up to so many lines, all attacks fit in one panel.
_MOST_LINES = 8
#: Up to so many models, a panel has room for bands and for the transferred attacks.
_FEW = 3


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One attack that some model was put to.

    Attributes
    ----------
    name : str
        Its label in the document, foreign text.
    shape, dash : str
        Its points and lines.
    epsilons : tuple of float
        Sizes of the perturbation that any model saw, in order.
    common : float or None
        The largest that all models saw which this attack was tried on.
    """

    name: str
    shape: str
    dash: str
    epsilons: tuple[float, ...]
    common: float | None


@dataclass(frozen=True, kw_only=True)
class Group:
    """The columns of one model."""

    entry: Entry
    columns: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One attack of one size; cells of all models side by side."""

    attack: str
    epsilon: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, kw_only=True)
class RobustnessView:
    """What the section shows.

    Attributes
    ----------
    panels : tuple of Panel
        The charts.
    groups : tuple of Group
        Columns of the table, model by model.
    blocks : tuple of tuple of Row
        Rows of the table: without an attack, then attack by attack.
    parameters : tuple of (str, str)
        Each attack and its parameters.
    """

    panels: tuple[Panel, ...]
    groups: tuple[Group, ...]
    blocks: tuple[tuple[Row, ...], ...]
    parameters: tuple[tuple[str, str], ...]


def attacks(models: Sequence[Entry]) -> tuple[Attack, ...]:
    """Return the attacks of all models, in the order in which they first come up."""
    seen: dict[str, list[set[float]]] = {}
    for entry in models:
        for record in entry.record["robustness"] or ():
            tried = {point["epsilon"] for point in record["points"]}
            seen.setdefault(record["attack"], []).append(tried)
    return tuple(
        Attack(
            name=name,
            shape=MARKERS[index % len(MARKERS)],
            dash=DASHES[index % len(DASHES)],
            epsilons=tuple(sorted(set().union(*tried))),
            common=max((size for size in set.intersection(*tried) if size > 0), default=None),
        )
        for index, (name, tried) in enumerate(seen.items())
    )


def robust_point(entry: Entry, attack: str, epsilon: float) -> Mapping[str, Any] | None:
    """Return what one attack of one size did to one model, if it was tried."""
    for point in _points(entry, attack):
        if point["epsilon"] == epsilon:
            return point
    return None


def robustness_view(models: Sequence[Entry]) -> RobustnessView | None:
    """Return the section, or None if there is neither an accuracy nor an attack."""
    tried = attacks(models)
    if not tried and not any(_accuracy(entry) for entry in models):
        return None
    groups = tuple(Group(entry=entry, columns=_columns(entry, tried)) for entry in models)
    return RobustnessView(
        panels=_panels(models, tried),
        groups=groups,
        blocks=(_clean_rows(groups), *(_rows(attack, groups) for attack in tried)),
        parameters=_parameters(models),
    )


def _points(entry: Entry, attack: str) -> Sequence[Mapping[str, Any]]:
    """Return one attack's points for one model, by size."""
    for record in entry.record["robustness"] or ():
        if record["attack"] == attack:
            return sorted(record["points"], key=lambda point: point["epsilon"])
    return ()


def _accuracy(entry: Entry) -> Mapping[str, Any] | None:
    """Return the accuracy without an attack."""
    found: Mapping[str, Any] | None = (entry.record["quality"] or {}).get("accuracy")
    return found


# --- charts --------------------------------------------------------------------------------------


def _panels(models: Sequence[Entry], tried: Sequence[Attack]) -> tuple[Panel, ...]:
    """Return a panel for every attack, and before them one for all where that stays readable."""
    sizes = sorted({size for attack in tried for size in attack.epsilons})
    panels: list[Panel] = []
    lines = [_series(entry, attack, dash=attack.dash) for attack in tried for entry in models]
    if len(tried) > 1 and len([line for line in lines if line.points]) <= _MOST_LINES:
        legend = tuple((line_sample(a.shape, a.dash), a.name) for a in tried)
        panels.append(_panel("All attacks, white box", lines, sizes, sizes, legend=legend, index=0))
    few = len(models) <= _FEW
    for attack in tried:
        own = [_series(entry, attack, band=few) for entry in models]
        faint = [_series(entry, attack, transfer=True) for entry in models if few]
        legend = ()
        if any(line.points for line in faint):
            legend = (
                (line_sample(attack.shape, ""), "white box"),
                (line_sample(attack.shape, "", faint=True), "transfer"),
            )
        panels.append(
            _panel(
                attack.name,
                [*faint, *own],
                attack.epsilons,
                sizes,
                legend=legend,
                index=len(panels),
            )
        )
    return tuple(panels)


def _panel(
    caption: str,
    lines: Sequence[Series],
    labelled: Sequence[float],
    sizes: Sequence[float],
    *,
    legend: tuple[tuple[Markup, str], ...],
    index: int,
) -> Panel:
    """Return one chart of robust accuracy against epsilon; all have the same axes."""
    ticks = [Tick(value=size, label=fmt.epsilon(size)) for size in sorted({0.0, *labelled})]
    quarters = [Tick(value=at, label=fmt.percent_tick(at)) for at in (0.0, 0.25, 0.5, 0.75, 1.0)]
    told = "; ".join(line.points[-1].tip for line in lines if line.points) or "nothing measured"
    chart = line_chart(
        lines,
        Axis(
            low=0.0,
            high=max(sizes, default=0.0),
            ticks=ticks,
            title="perturbation \N{GREEK SMALL LETTER EPSILON}",
        ),
        Axis(low=0.0, high=1.0, ticks=quarters),
        identifier=f"robustness-{index}",
        title=f"Robust accuracy against epsilon: {caption}",
        description=f"At the largest perturbation: {told}.",
    )
    return Panel(caption=caption, chart=chart, legend=legend)


def _series(
    entry: Entry,
    attack: Attack,
    *,
    dash: str = "",
    transfer: bool = False,
    band: bool = False,
) -> Series:
    """Return one model's line under one attack, from the accuracy without an attack on."""
    points = _points(entry, attack.name)
    kind = "transfer" if transfer else "white_box"
    name = f"{attack.name}, transfer" if transfer else attack.name
    measured = [(point["epsilon"], point[kind]) for point in points if point[kind] is not None]
    start = _accuracy(entry)
    if measured and measured[0][0] > 0 and start is not None:
        measured.insert(0, (0.0, start))
    return Series(
        key="" if transfer else entry.key,
        colour=entry.colour,
        shape=attack.shape,
        dash=dash,
        faint=transfer,
        band=band,
        points=[
            Point(
                x=size,
                y=value["value"],
                lower=value["lower"],
                upper=value["upper"],
                tip=_tip(entry, name, size, value),
            )
            for size, value in measured
        ],
    )


def _tip(entry: Entry, attack: str, size: float, value: Mapping[str, Any]) -> str:
    """Return a point in words."""
    under = f"{attack}, \N{GREEK SMALL LETTER EPSILON} = {fmt.epsilon(size)}" if size else "clean"
    return (
        f"{entry.key} {entry.label}, {under}: {fmt.percent(value['value'])}"
        f" ({fmt.count(value['count'])} of {fmt.count(value['samples'])},"
        f" 95% interval {fmt.interval(value)})"
    )


# --- table ---------------------------------------------------------------------------------------

_WHITE_BOX, _CERTIFIED, _TRANSFER, _RETENTION, _NO_GRADIENT = (
    "white box",
    "certified",
    "transfer",
    "retention",
    "zero gradients",
)


def _columns(entry: Entry, tried: Sequence[Attack]) -> tuple[str, ...]:
    """Return the columns that one model has anything in."""
    points = [point for attack in tried for point in _points(entry, attack.name)]
    columns = [_WHITE_BOX]
    if any(point.get("certified") is not None for point in points):
        columns.append(_CERTIFIED)
    if any(point["transfer"] is not None for point in points):
        columns.append(_TRANSFER)
    if any(point["retention"] is not None for point in points):
        columns.append(_RETENTION)
    if any(point["zero_gradients"] for point in points):
        columns.append(_NO_GRADIENT)
    return tuple(columns)


def _clean_rows(groups: Sequence[Group]) -> tuple[Row, ...]:
    """Return the row without an attack: only the accuracy has anything in it."""
    cells: list[Cell | None] = []
    for group in groups:
        cells.append(_proportion_cell(_accuracy(group.entry)))
        cells += [None] * (len(group.columns) - 1)
    return (Row(attack="no attack", epsilon="0", cells=tuple(cells)),)


def _rows(attack: Attack, groups: Sequence[Group]) -> tuple[Row, ...]:
    """Return one attack's rows."""
    return tuple(
        Row(
            attack=attack.name,
            epsilon=fmt.epsilon(size),
            cells=tuple(
                _cell(column, robust_point(group.entry, attack.name, size))
                for group in groups
                for column in group.columns
            ),
        )
        for size in attack.epsilons
    )


def _cell(column: str, point: Mapping[str, Any] | None) -> Cell | None:
    """Return one column of one point."""
    if point is None:
        return None
    if column in (_WHITE_BOX, _TRANSFER):
        own = column == _WHITE_BOX
        return _proportion_cell(point["white_box" if own else "transfer"], strong=own)
    if column == _CERTIFIED:
        return _proportion_cell(point.get("certified"), strong=False)
    if column == _RETENTION:
        kept = point["retention"]
        return None if kept is None else Cell(value=f"{kept:.3f}", strong=False)
    return Cell(value=fmt.count(point["zero_gradients"]), strong=False)


def _proportion_cell(value: Mapping[str, Any] | None, *, strong: bool = True) -> Cell | None:
    """Return a share of the samples, with count and interval."""
    if value is None:
        return None
    counted = f"{fmt.count(value['count'])}/{fmt.count(value['samples'])}"
    notes = (counted, fmt.interval(value))
    return Cell(value=fmt.percent(value["value"]), notes=notes, strong=strong)


def _parameters(models: Sequence[Entry]) -> tuple[tuple[str, str], ...]:
    """Return the parameters of each attack, once if they are the same for all models."""
    found: dict[tuple[str, str], list[str]] = {}
    for entry in models:
        for record in entry.record["robustness"] or ():
            told = ", ".join(f"{name} {_plain(v)}" for name, v in record["parameters"].items())
            found.setdefault((record["attack"], told or "no parameters"), []).append(entry.key)
    names = [attack for attack, _ in found]
    return tuple(
        (attack, told if names.count(attack) == 1 else f"{told} (models {', '.join(keys)})")
        for (attack, told), keys in found.items()
    )


def _plain(value: Any) -> str:
    """Return a parameter as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return fmt.number(value)
    return "none" if value is None else str(value)
