"""The figures: sheets of line charts that stand alone, with their own style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from nnprune.report.charts import WIDTH, Axis, Point, Series, Tick, line_chart
from nnprune.report.scales import nice_range, nice_ticks
from nnprune.report.svg import element, group, marker, polyline, text

from paper.recorded import Curve, Spread

__all__ = ["METHODS", "Chart", "Look", "absolute", "improvement", "sheet"]

_STYLE = """
svg { font: 11.5px system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
.sheet { fill: #ffffff; } text { fill: #55606f; } .heading { fill: #1a222d; font-weight: 600; }
.key { fill: var(--c); font-weight: 700; } .grid { stroke: #dde2e9; } .axis { stroke: #55606f; }
.line { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; }
.dot { fill: var(--c); stroke: #ffffff; } .dense .dot { stroke: none; }
.band { fill: var(--c); opacity: .16; } .whisker { fill: none; stroke: var(--c); }
.c1 { --c: #1257b0; } .c2 { --c: #c2500a; } .c3 { --c: #0a8566; }
.c4 { --c: #8a3fa0; } .c5 { --c: #b3123b; } .c6 { --c: #55606f; }
"""
_HEIGHT, _GAP, _HEAD = 220.0, 14.0, 26.0


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a method's line is drawn.

    Attributes
    ----------
    label, key : str
        Its name, and the letter at the line's end.
    colour : str
        A class of the style, "c1" to "c6".
    shape : str
        Of its points.
    dash : str
        Pattern of the line.
    """

    label: str
    key: str
    colour: str
    shape: str
    dash: str


METHODS = {
    "annealing": Look(label="annealing", key="A", colour="c1", shape="circle", dash=""),
    "greedy": Look(label="greedy", key="G", colour="c3", shape="square", dash="7 3"),
    "one_shot": Look(label="one-shot", key="O", colour="c2", shape="triangle", dash="2 3"),
}


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart of a sheet.

    Attributes
    ----------
    heading : str
        What stands over it.
    lines : sequence of (method, [(share, Spread), ...])
        From back to front.
    zoomed : bool
        Whether the axis is of differences, in points, not of shares from 0 to 100 %.
    """

    heading: str
    lines: Sequence[tuple[str, Sequence[tuple[float, Spread]]]]
    zoomed: bool = False


def absolute(heading: str, quantity: str, curves: dict[str, Curve], original: float) -> Chart:
    """Draw one quantity of all methods, from the original on."""
    start = (0.0, Spread.of([original]))
    return Chart(
        heading=heading,
        lines=[
            (
                method,
                [start]
                + [
                    (share, Spread.of(curves[method].values(index, quantity)))
                    for index, share in enumerate(curves[method].shares())
                ],
            )
            for method in ("one_shot", "greedy", "annealing")
            if method in curves
        ],
    )


def improvement(heading: str, quantity: str, curves: dict[str, Curve]) -> Chart:
    """Draw by how much the others are above one-shot, seed by seed."""
    base = curves["one_shot"]
    lines = []
    for method in ("greedy", "annealing"):
        if method in curves:
            points = [
                (
                    share,
                    Spread.of(
                        value - base.values(index, quantity)[0]
                        for value in curves[method].values(index, quantity)
                    ),
                )
                for index, share in enumerate(base.shares())
            ]
            lines.append((method, points))
    return Chart(heading=heading, lines=lines, zoomed=True)


def sheet(
    charts: Sequence[Chart],
    *,
    columns: int,
    name: str,
    title: str,
    looks: Mapping[str, Look] = METHODS,
) -> str:
    """Return a whole SVG file with charts in rows, and one legend over them.

    Parameters
    ----------
    charts : sequence of Chart
        From left to right, from top to bottom.
    columns : int
        Charts in a row.
    name : str
        Unique among the page's figures.
    title : str
        What the figure is, for those who cannot see it.
    looks : mapping, optional
        How the lines of each method are drawn, in the legend's order; by default `METHODS`.
    """
    rows = -(-len(charts) // columns)
    width = columns * (WIDTH + _GAP) + _GAP
    height = _HEAD + rows * (_HEIGHT + _HEAD + _GAP)
    pieces = [element("title", {}, title), element("style", {}, Markup(_STYLE))]
    pieces.append(element("rect", {"class": "sheet", "width": width, "height": height}))
    methods = {method for chart in charts for method, _ in chart.lines}
    pieces += _legend([look for method, look in looks.items() if method in methods])
    for index, chart in enumerate(charts):
        x = _GAP + index % columns * (WIDTH + _GAP)
        y = _HEAD + index // columns * (_HEIGHT + _HEAD + _GAP)
        pieces.append(text(x + 42, y + 16, chart.heading, name="heading"))
        drawn = _drawn(chart, looks, f"{name}-{index}")
        place = f'<svg x="{x:g}" y="{y + _HEAD:g}" width="{WIDTH:g}" height="{_HEIGHT:g}"'
        pieces.append(Markup(str(drawn).replace("<svg", place, 1)))  # drawn is Markup already
    attributes: dict[str, str | float] = {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": f"0 0 {width:g} {height:g}",
        "width": width,
        "height": height,
        "role": "img",
    }
    return str(element("svg", attributes, *pieces)) + "\n"


def _legend(looks: Sequence[Look]) -> list[Markup]:
    pieces = []
    for index, look in enumerate(looks):
        x = _GAP + 42 + 130 * index
        line = polyline([(x, 14), (x + 30, 14)], "line", look.dash)
        pieces.append(group(f"series {look.colour}", line, marker(look.shape, x + 15, 14)))
        pieces.append(text(x + 36, 18, f"{look.key}  {look.label}"))
    return pieces


def _drawn(chart: Chart, looks: Mapping[str, Look], identifier: str) -> Markup:
    ends = [end for _, line in chart.lines for _, at in line for end in (at.least, at.most)]
    if chart.zoomed:
        low, high = nice_range([*ends, 0.0], least=0.1, floor=-1.0, ceiling=1.0)
        ticks = [
            Tick(value=at, label=f"{100 * at:+g}".replace("+0", "0"))
            for at in nice_ticks(low, high)
        ]
    else:
        low, high = 0.0, 1.0
        ticks = [Tick(value=at, label=f"{100 * at:g}%") for at in nice_ticks(low, high)]
    series = [
        Series(
            key=looks[method].key,
            colour=looks[method].colour,
            shape=looks[method].shape,
            dash=looks[method].dash,
            band=any(at.runs > 1 for _, at in line),
            points=[
                Point(
                    x=share,
                    y=at.median,
                    tip=f"{looks[method].label} at {100 * share:g} %: {at.text('.1f', 100)} %",
                    lower=at.least,
                    upper=at.most,
                )
                for share, at in line
            ],
        )
        for method, line in chart.lines
    ]
    shares = [Tick(value=at / 10, label=f"{10 * at}%") for at in range(0, 9, 2)]
    return line_chart(
        series,
        Axis(low=0.0, high=0.8, ticks=shares, title="units removed"),
        Axis(low=low, high=high, ticks=ticks),
        identifier=identifier,
        title=chart.heading,
        description="; ".join(point.tip for line in series for point in line.points[-1:]),
    )
