"""The small pictures in cards and tables: intervals on one axis, lengths side by side."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from nnprune.report.figures import Figure
from nnprune.report.models import Entry
from nnprune.report.scales import Scale, nice_range
from nnprune.report.svg import element, group, marker, polyline

__all__ = ["bar", "gauge"]

_WIDTH, _ROW = 200.0, 11.0
_LEAST_SPAN = 0.1


def gauge(figure: Figure, models: Sequence[Entry]) -> Markup:
    """Return a figure's picture, one line for each model; empty with fewer than two of them.

    It repeats what the text beside it says, and is hidden from those who have it read to them.
    """
    known = [
        (entry, cell) for entry, cell in zip(models, figure.cells, strict=True) if cell is not None
    ]
    if len(known) < 2:
        return Markup()
    spans = [cell.span for _, cell in known if cell.span is not None]
    shares = [cell.share for _, cell in known if cell.share is not None]
    if spans:
        low, high = nice_range(
            [value for span in spans for value in span], least=_LEAST_SPAN, floor=0.0, ceiling=1.0
        )
        across = Scale(low=low, high=high, start=6.0, end=_WIDTH - 6.0)
        rows = [_interval(cell.span, across) if cell.span else Markup() for _, cell in known]
    elif shares:
        rows = [_length(cell.share or 0.0) for _, cell in known]
    else:
        return Markup()
    return element(
        "svg",
        {
            "class": "gauge",
            "viewBox": f"0 0 {_WIDTH:g} {_ROW * len(rows):g}",
            "aria-hidden": "true",
        },
        *(
            element(
                "g",
                {"class": f"series {entry.colour}", "transform": f"translate(0 {_ROW * index:g})"},
                row,
            )
            for index, ((entry, _), row) in enumerate(zip(known, rows, strict=True))
        ),
    )


def bar(share: float, colour: str) -> Markup:
    """Return a bar that fills `share` of its track."""
    width = 100 * min(1.0, max(0.0, share))
    return element(
        "svg",
        {
            "class": "bar-track",
            "viewBox": "0 0 100 6",
            "preserveAspectRatio": "none",
            "aria-hidden": "true",
        },
        element("rect", {"class": "track", "width": 100.0, "height": 6.0}),
        group(
            f"series {colour}", element("rect", {"class": "fill", "width": width, "height": 6.0})
        ),
    )


def _interval(span: tuple[float, float, float], across: Scale) -> Markup:
    """Return an interval with its value."""
    lower, value, upper = map(across, span)
    middle = _ROW / 2
    return Markup("").join(
        [
            polyline([(0, middle), (_WIDTH, middle)], "rail"),
            polyline([(lower, middle), (upper, middle)], "span"),
            marker("circle", value, middle, 3.8),
        ]
    )


def _length(share: float) -> Markup:
    """Return a length; something, however little, is never drawn as nothing."""
    width = max(1.5 if share > 0 else 0.0, _WIDTH * share)
    return element("rect", {"class": "fill", "y": 2.5, "width": width, "height": _ROW - 5})
