"""Line charts: one small panel each, drawn at the size at which their text is read.

A panel is never wider than a telephone; wide screens show several side by side. So the text keeps
its size everywhere, and no second drawing for narrow screens is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from nnprune.report.scales import Scale, spaced
from nnprune.report.svg import drawing, element, group, marker, polygon, polyline, text

__all__ = [
    "DASHES",
    "WIDTH",
    "Axis",
    "Panel",
    "Point",
    "Series",
    "Tick",
    "line_chart",
    "line_sample",
]

#: Width of every panel, in the pixels of a narrow telephone.
WIDTH = 340.0

#: Patterns of lines, in the order in which attacks get them.
DASHES = ("", "7 3", "2 3", "10 3 2 3", "5 2", "1 2", "12 4")

_HEIGHT = 220.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 42.0, 24.0, 10.0, 36.0
_LINE = 12.0  # height of a line of text
_FEW = 4  # lines that full-size points do not hide
_DIGIT = 6.4  # width of a digit


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A labelled value on an axis."""

    value: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis of a panel.

    Attributes
    ----------
    low, high : float
        Its ends.
    ticks : sequence of Tick
        Lines across the panel; labels that would touch one further out are left away.
    title : str
        What it measures, with the unit.
    """

    low: float
    high: float
    ticks: Sequence[Tick]
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measured value.

    Attributes
    ----------
    x, y : float
        Where it is.
    tip : str
        What pointing at it shows: the value in words.
    lower, upper : float or None
        Its interval, if it has one.
    """

    x: float
    y: float
    tip: str
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a panel.

    Attributes
    ----------
    key : str
        Letter at its end; empty for none.
    colour : str
        Class of the style sheet.
    points : sequence of Point
        From left to right; one alone is shown as a point with its interval.
    shape : str
        Shape of its points, one of `MARKERS`.
    dash : str
        Pattern of the line, as in `DASHES`.
    faint : bool
        Whether it stands back behind the others.
    band : bool
        Whether the intervals are shown.
    """

    key: str
    colour: str
    points: Sequence[Point]
    shape: str = "circle"
    dash: str = ""
    faint: bool = False
    band: bool = False


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A chart, and what stands over it.

    Attributes
    ----------
    caption : str
        What it shows, foreign text.
    chart : Markup
        The drawing.
    legend : tuple of (Markup, str)
        Samples of its lines and what they mean, besides the models' colours.
    """

    caption: str
    chart: Markup
    legend: tuple[tuple[Markup, str], ...] = ()


def line_chart(
    series: Sequence[Series], x: Axis, y: Axis, *, identifier: str, title: str, description: str
) -> Markup:
    """Return a panel with lines over two linear axes.

    Parameters
    ----------
    series : sequence of Series
        The lines, from back to front.
    x, y : Axis
        The axes.
    identifier : str
        Unique in the page.
    title, description : str
        For those who cannot see it.
    """
    across = Scale(low=x.low, high=x.high, start=_LEFT, end=WIDTH - _RIGHT)
    up = Scale(low=y.low, high=y.high, start=_HEIGHT - _BOTTOM, end=_TOP)
    drawn = [line for line in series if line.points]
    return drawing(
        WIDTH,
        _HEIGHT,
        [
            *_grid(x, y, across, up),
            *(_intervals(line, across, up) for line in drawn if line.band),
            *(_line(line, across, up, size=3.6 if len(drawn) <= _FEW else 2.8) for line in drawn),
            *_end_labels(drawn, across, up),
        ],
        identifier=identifier,
        title=title,
        description=description,
    )


def line_sample(shape: str, dash: str, *, faint: bool = False) -> Markup:
    """Return a piece of line with a point on it, for a legend."""
    pieces = [polyline([(1, 6), (33, 6)], "line", dash), marker(shape, 17, 6)]
    return element(
        "svg",
        {"class": "sample", "viewBox": "0 0 34 12", "aria-hidden": "true"},
        group(f"series plain{' faint' if faint else ''}", *pieces),
    )


def _grid(x: Axis, y: Axis, across: Scale, up: Scale) -> list[Markup]:
    """Return the lines of the ticks, their labels, and the title of the axis below."""
    left, right, bottom, top = across.start, across.end, up.start, up.end
    pieces = [
        element("line", {"class": "grid", "x1": left, "x2": right, "y1": up(at), "y2": up(at)})
        for at in (tick.value for tick in y.ticks)
    ]
    pieces += [
        element(
            "line",
            {"class": "axis", "x1": across(at), "x2": across(at), "y1": bottom, "y2": bottom + 4},
        )
        for at in (tick.value for tick in x.ticks)
    ]
    pieces.append(
        element("line", {"class": "axis", "x1": left, "x2": right, "y1": bottom, "y2": bottom})
    )
    pieces += [text(left - 7, up(tick.value) + 4, tick.label, anchor="end") for tick in y.ticks]
    pieces += [
        text(across(tick.value), bottom + 16, tick.label, anchor="middle")
        for tick in _readable(x.ticks, across)
    ]
    if x.title:
        middle = (left + right) / 2
        pieces.append(text(middle, bottom + 32, x.title, anchor="middle", name="axis-title"))
    return [group("frame", *pieces), _zero_line(left, right, top, bottom)]


def _zero_line(left: float, right: float, top: float, bottom: float) -> Markup:
    """Return the upright axis: a hair line, for the values are read off the lines across."""
    return element("line", {"class": "grid", "x1": left, "x2": left, "y1": top, "y2": bottom})


def _readable(ticks: Sequence[Tick], across: Scale) -> list[Tick]:
    """Return the ticks whose labels do not touch: both ends, and what fits between."""
    if len(ticks) < 3:
        return [*ticks]

    def room(tick: Tick) -> tuple[float, float]:
        half = _DIGIT * len(tick.label) / 2 + 3
        return across(tick.value) - half, across(tick.value) + half

    kept = [ticks[0], ticks[-1]]
    for tick in ticks[-2:0:-1]:
        start, end = room(tick)
        if all(end <= room(other)[0] or start >= room(other)[1] for other in kept):
            kept.append(tick)
    return kept


def _intervals(line: Series, across: Scale, up: Scale) -> Markup:
    """Return the intervals of a line as a band, or as a whisker where it is one point only."""
    bounds = [
        (across(point.x), up(point.lower), up(point.upper))
        for point in line.points
        if point.lower is not None and point.upper is not None
    ]
    if len(bounds) == 1:
        [(x, lower, upper)] = bounds
        ends = [polyline([(x - 4, y), (x + 4, y)], "whisker") for y in (lower, upper)]
        return group(f"series {line.colour}", polyline([(x, lower), (x, upper)], "whisker"), *ends)
    edge = [(x, upper) for x, _, upper in bounds] + [(x, lower) for x, lower, _ in bounds[::-1]]
    return group(f"series {line.colour}", polygon(edge, "band"))


def _line(line: Series, across: Scale, up: Scale, *, size: float) -> Markup:
    """Return a line with its points."""
    places = [(across(point.x), up(point.y)) for point in line.points]
    # Many points make a rope of beads: they shrink, but still answer to the pointer.
    dense = len(places) > 12
    dots = [
        group("point", marker(line.shape, *place, 2.0 if dense else size), tip=point.tip)
        for place, point in zip(places, line.points, strict=True)
    ]
    kind = f"series {line.colour}{' faint' if line.faint else ''}{' dense' if dense else ''}"
    return group(kind, polyline(places, "line", line.dash), *dots)


def _end_labels(lines: Sequence[Series], across: Scale, up: Scale) -> list[Markup]:
    """Return the letters at the ends of the lines, moved apart where they would touch."""
    named = [line for line in lines if line.key and not line.faint]
    named.sort(key=lambda line: line.points[-1].x)
    labels = []
    column: list[Series] = []
    for index, line in enumerate(named):
        column.append(line)
        end = across(line.points[-1].x)
        following = named[index + 1] if index + 1 < len(named) else None
        if following is None or across(following.points[-1].x) - end > _LINE:
            heights = [up(each.points[-1].y) for each in column]
            heights = spaced(heights, least=_LINE, low=up.end + 2, high=up.start - 6)
            labels += [
                group(f"series {each.colour}", text(end + 8, height + 4, each.key, name="key"))
                for each, height in zip(column, heights, strict=True)
            ]
            column = []
    return labels
