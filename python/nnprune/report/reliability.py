"""The reliability diagram: accuracy against confidence, and how many samples each bin holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from nnprune.report import format as fmt
from nnprune.report.charts import WIDTH
from nnprune.report.scales import Scale, nice_ticks
from nnprune.report.svg import drawing, element, group, polyline, text

__all__ = ["reliability_diagram"]

_LEFT, _RIGHT = 42.0, 22.0
_UPPER = (10.0, 210.0)  # top and bottom of the panel of accuracies
_LOWER = (236.0, 292.0)  # of the panel of counts
_HEIGHT = 328.0
_QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)

_Bin = Mapping[str, Any]


def reliability_diagram(
    bins: Sequence[_Bin], colour: str, *, identifier: str, title: str, description: str
) -> Markup:
    """Return a diagram after Guo et al. (2017), fig. 1, with the counts below.

    Parameters
    ----------
    bins : sequence of mapping
        `reliability` of the evaluation JSON.
    colour : str
        Class of the style sheet.
    identifier : str
        Unique in the page.
    title, description : str
        For those who cannot see it.
    """
    across = Scale(low=0.0, high=1.0, start=_LEFT, end=WIDTH - _RIGHT)
    up = Scale(low=0.0, high=1.0, start=_UPPER[1], end=_UPPER[0])
    filled = [entry for entry in bins if entry["count"]]
    most = max((entry["count"] for entry in filled), default=1)
    tall = Scale(low=0.0, high=most, start=_LOWER[1], end=_LOWER[0])
    identity = [(across(0.0), up(0.0)), (across(1.0), up(1.0))]
    return drawing(
        WIDTH,
        _HEIGHT,
        [
            _frame(across, up, tall),
            *(_accuracy_bar(entry, colour, across, up) for entry in filled),
            polyline(identity, "identity", "5 4"),
            *(_count_bar(entry, colour, across, tall) for entry in filled),
        ],
        identifier=identifier,
        title=title,
        description=description,
    )


def _frame(across: Scale, up: Scale, tall: Scale) -> Markup:
    """Return lines, ticks and titles of both panels."""
    counts = nice_ticks(0.0, tall.high, 3, whole=True)
    pieces = [_across(across, up(at), "grid" if at else "axis") for at in _QUARTERS]
    pieces += [_across(across, tall(at), "grid" if at else "axis") for at in counts]
    pieces += [text(_LEFT - 7, up(at) + 4, fmt.percent_tick(at), anchor="end") for at in _QUARTERS]
    pieces += [text(_LEFT - 7, tall(at) + 4, fmt.compact(at), anchor="end") for at in counts]
    pieces += [
        text(across(at), _LOWER[1] + 16, fmt.percent_tick(at), anchor="middle") for at in _QUARTERS
    ]
    pieces += [
        text(across(0.5), _LOWER[1] + 32, "confidence", anchor="middle", name="axis-title"),
        text(_LEFT + 6, _UPPER[0] + 11, "accuracy", name="axis-title"),
        text(_LEFT + 6, _LOWER[0] - 4, "samples", name="axis-title"),
    ]
    return group("frame", *pieces)


def _across(across: Scale, y: float, name: str) -> Markup:
    """Return a line across a panel."""
    return element("line", {"class": name, "x1": across.start, "x2": across.end, "y1": y, "y2": y})


def _accuracy_bar(entry: _Bin, colour: str, across: Scale, up: Scale) -> Markup:
    """Return one bin: its accuracy, and the gap to its confidence."""
    x, width = _column(entry, across)
    accuracy, confidence = up(entry["accuracy"]), up(entry["confidence"])
    top, bottom = min(accuracy, confidence), max(accuracy, confidence)
    return group(
        f"series {colour}",
        _box("bar", x, accuracy, width, _UPPER[1] - accuracy),
        _box("gap", x, top, width, bottom - top),
        polyline([(x, confidence), (x + width, confidence)], "confidence"),
        tip=_tip(entry),
    )


def _count_bar(entry: _Bin, colour: str, across: Scale, tall: Scale) -> Markup:
    """Return one bin's number of samples; even one sample among many can be seen."""
    x, width = _column(entry, across)
    top = min(tall(entry["count"]), _LOWER[1] - 1)
    return group(f"series {colour}", _box("bar", x, top, width, _LOWER[1] - top), tip=_tip(entry))


def _column(entry: _Bin, across: Scale) -> tuple[float, float]:
    """Return where a bin starts and how wide it is, with air between two."""
    start, end = across(entry["lower"]), across(entry["upper"])
    air = min(1.0, (end - start) / 4)
    return start + air / 2, end - start - air


def _box(name: str, x: float, y: float, width: float, height: float) -> Markup:
    """Return a rectangle."""
    return element("rect", {"class": name, "x": x, "y": y, "width": width, "height": height})


def _tip(entry: _Bin) -> str:
    """Return a bin in words."""
    return (
        f"confidence {fmt.percent(entry['lower'])} to {fmt.percent(entry['upper'])}:"
        f" {fmt.count(entry['count'])} samples, accuracy {fmt.percent(entry['accuracy'])},"
        f" mean confidence {fmt.percent(entry['confidence'])}"
    )
