"""The front as charts: what is left of a model's quality, over how small it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from nnprune.report import format as fmt
from nnprune.report.charts import Axis, Panel, Point, Series, Tick, line_chart
from nnprune.report.scales import nice_range, nice_ticks
from nnprune.report.svg import element, group, marker, polyline
from nnprune.sweeping.front import Figure, Group, figures_of, groups_of, pareto_front
from nnprune.sweeping.record import Cell

__all__ = ["Key", "keys_of", "panels_of"]

#: The original has the first colour of the style sheet, the methods share the rest in turn.
_COLOURS = 8
#: No axis of shares zooms in further than this: ten percentage points.
_LEAST_SPAN = 0.1
_TITLES = {
    "accuracy": "Accuracy",
    "agreement": "Agreement with the original",
    "least robust": "Robust accuracy, least of all attacks",
    "impact": "Widest change of a logit",
}


@dataclass(frozen=True, kw_only=True)
class Key:
    """A method's letter and colour, all through the page.

    Attributes
    ----------
    key : str
        Its letter.
    colour : str
        Class of the style sheet.
    label : str
        Its name.
    """

    key: str
    colour: str
    label: str


def keys_of(cells: Sequence[Cell]) -> dict[str, Key]:
    """Give every method a letter and a colour, by its label; the original comes first."""
    labels = list(dict.fromkeys(cell.label for cell in cells))
    return {
        label: Key(
            key=_letters(index),
            colour="c0" if index == 0 else f"c{1 + (index - 1) % (_COLOURS - 1)}",
            label=label,
        )
        for index, label in enumerate(labels)
    }


def panels_of(cells: Sequence[Cell]) -> tuple[Panel, ...]:
    """Draw every figure over the number of parameters: medians, their spread, and the front.

    With samples these are accuracy, agreement and least robust accuracy, else the impact.
    """
    measured = any(cell.accuracy is not None for cell in cells)
    keys = keys_of(cells)
    wanted = ("accuracy", "least robust", "agreement") if measured else ("impact",)
    found = {figure.name: figure for figure in figures_of(cells)}
    panels = [
        _panel(found[name], cells, keys, index)
        for index, name in enumerate(wanted)
        if name in found
    ]
    return tuple(panel for panel in panels if panel is not None)


def _panel(
    figure: Figure, cells: Sequence[Cell], keys: Mapping[str, Key], index: int
) -> Panel | None:
    """Draw one figure; None if there is nothing to draw."""
    share = figure.name != "impact"
    lines = [
        _line(figure, keys[label], [one for one in groups_of(cells) if one.label == label])
        for label in keys
    ]
    marks = [
        _mark(figure, keys[cell.label], cell)
        for cell in pareto_front(cells)
        if cell.method is not None and figure.read(cell) is not None
    ]
    series = [*(line for line in lines if line.points), *marks]
    points = [point for line in series for point in line.points]
    if not points:
        return None
    values = [end for point in points for end in (point.y, point.lower, point.upper)]
    known = [value for value in values if value is not None]
    largest = max(point.x for point in points)
    low, high = (
        nice_range(known, least=_LEAST_SPAN, floor=0.0, ceiling=1.0)
        if share
        else nice_range([0.0, *known], least=max(known) or 1.0)
    )
    told = "; ".join(line.points[0].tip for line in lines if line.points)
    chart = line_chart(
        series,
        Axis(
            low=0.0,
            high=largest,
            ticks=[
                Tick(value=at, label=fmt.compact(at)) for at in nice_ticks(0.0, largest, whole=True)
            ],
            title="parameters",
        ),
        Axis(
            low=low,
            high=high,
            ticks=[
                Tick(value=at, label=fmt.percent_tick(at) if share else fmt.compact(at))
                for at in nice_ticks(low, high)
            ],
        ),
        identifier=f"front-{index}",
        title=f"{_TITLES[figure.name]} over the number of parameters",
        description=f"The smallest models: {told}.",
    )
    return Panel(caption=_TITLES[figure.name], chart=chart, legend=_legend(cells, marks))


def _line(figure: Figure, key: Key, groups: Sequence[Group]) -> Series:
    """Draw a method: a point for every target, from the smallest model to the largest."""
    points = []
    spread_out = False
    for one in groups:
        size = one.spread(lambda cell: cell.parameters)
        spread = one.spread(figure.read)
        if size is None or spread is None:
            continue
        spread_out |= spread.high > spread.low
        points.append(
            Point(
                x=size.median,
                y=spread.median,
                lower=spread.low,
                upper=spread.high,
                tip=f"{key.key} {key.label}{_at(one.target)}: {figure.told(one)}",
            )
        )
    points.sort(key=lambda point: point.x)
    return Series(key=key.key, colour=key.colour, points=points, band=spread_out)


def _mark(figure: Figure, key: Key, cell: Cell) -> Series:
    """Draw a cell of the front."""
    value = figure.read(cell)
    assert value is not None
    place = f"{key.key} {key.label}{_at(cell.target)}, seed {cell.seed}, on the front"
    point = Point(x=cell.parameters or 0, y=value, tip=f"{place}: {figure.show(value)}")
    return Series(key="", colour=key.colour, points=[point], shape="diamond")


def _legend(cells: Sequence[Cell], marks: Sequence[Series]) -> tuple[tuple[Markup, str], ...]:
    seeds = {cell.seed for cell in cells if cell.method is not None}
    line = polyline([(1, 6), (33, 6)], "line")
    told = "median, and range over the seeds" if len(seeds) > 1 else "one seed"
    legend = [(_sample(line, marker("circle", 17, 6)), told)]
    if marks:
        legend.append((_sample(marker("diamond", 17, 6)), "on the front"))
    return tuple(legend)


def _sample(*pieces: Markup) -> Markup:
    attributes = {"class": "sample", "viewBox": "0 0 34 12", "aria-hidden": "true"}
    return element("svg", attributes, group("series plain", *pieces))


def _at(target: float) -> str:
    return f", target {target:.4g}" if target else ""


def _letters(index: int) -> str:
    """Return A, B, ... Z, AA, AB, ..."""
    text = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        text = chr(ord("A") + rest) + text
    return text
