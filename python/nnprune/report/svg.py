"""Drawings as text: every element goes through one function, and that function escapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup, escape

from nnprune.report.text import visible

__all__ = ["MARKERS", "drawing", "element", "group", "marker", "polygon", "polyline", "text"]

#: Shapes of points, in the order in which attacks get them.
MARKERS = ("circle", "square", "triangle", "diamond", "wedge", "plus", "cross")

_Attributes = Mapping[str, str | float]


def element(tag: str, attributes: _Attributes, *children: str) -> Markup:
    """Return one element; strings among its children are escaped, `Markup` is taken as it is."""
    written = Markup("").join(
        Markup(' {}="{}"').format(name, _value(value)) for name, value in attributes.items()
    )
    content = Markup("").join(
        child if isinstance(child, Markup) else escape(visible(child)) for child in children
    )
    # The tags are constants of this package: nothing to escape in them.
    return Markup(f"<{tag}{written}>{content}</{tag}>")


def drawing(
    width: float,
    height: float,
    children: Iterable[Markup],
    *,
    identifier: str,
    title: str,
    description: str,
) -> Markup:
    """Return a whole drawing that tells what it shows to those who cannot see it.

    Parameters
    ----------
    width, height : float
        Size of its coordinates.
    children : iterable of Markup
        What is in it, from back to front.
    identifier : str
        Unique in the page.
    title, description : str
        What it is, and what there is to see.
    """
    return element(
        "svg",
        {
            "class": "chart",
            "viewBox": f"0 0 {width:g} {height:g}",
            "role": "img",
            "aria-labelledby": f"{identifier}-title {identifier}-desc",
        },
        element("title", {"id": f"{identifier}-title"}, title),
        element("desc", {"id": f"{identifier}-desc"}, description),
        *children,
    )


def group(name: str, *children: Markup, tip: str | None = None) -> Markup:
    """Return elements under one class, with what pointing at them shows."""
    told = () if tip is None else (element("title", {}, tip),)
    return element("g", {"class": name}, *told, *children)


def text(x: float, y: float, content: str, *, anchor: str = "start", name: str = "tick") -> Markup:
    """Return a line of text; `anchor` is start, middle or end."""
    return element("text", {"class": name, "x": x, "y": y, "text-anchor": anchor}, content)


def polyline(positions: Iterable[tuple[float, float]], name: str, dash: str = "") -> Markup:
    """Return a line through positions."""
    attributes = {"class": name, "points": _points(positions)}
    return element("polyline", attributes | ({"stroke-dasharray": dash} if dash else {}))


def polygon(positions: Iterable[tuple[float, float]], name: str) -> Markup:
    """Return a filled shape."""
    return element("polygon", {"class": name, "points": _points(positions)})


def marker(shape: str, x: float, y: float, size: float = 3.6) -> Markup:
    """Return a point of one of the shapes in `MARKERS`."""
    if shape == "circle":
        return element("circle", {"class": "dot", "cx": x, "cy": y, "r": size})
    outline = _OUTLINES[shape]
    if shape in ("plus", "cross"):
        arms = (outline[:2], outline[2:])
        return Markup("").join(polyline(_placed(arm, x, y, size), "stroke") for arm in arms)
    return polygon(_placed(outline, x, y, size), "dot")


#: The shapes around (0, 0), of about the same area as a circle of radius 1.
_OUTLINES: Mapping[str, Sequence[tuple[float, float]]] = {
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "triangle": ((0.0, -1.2), (1.15, 0.85), (-1.15, 0.85)),
    "diamond": ((0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)),
    "wedge": ((0.0, 1.2), (1.15, -0.85), (-1.15, -0.85)),
    "plus": ((-1.2, 0.0), (1.2, 0.0), (0.0, -1.2), (0.0, 1.2)),
    "cross": ((-1.0, -1.0), (1.0, 1.0), (-1.0, 1.0), (1.0, -1.0)),
}


def _placed(
    outline: Iterable[tuple[float, float]], x: float, y: float, size: float
) -> list[tuple[float, float]]:
    """Return an outline at its place."""
    return [(x + size * across, y + size * down) for across, down in outline]


def _points(positions: Iterable[tuple[float, float]]) -> str:
    """Return positions as the attribute `points` wants them."""
    return " ".join(f"{_value(x)},{_value(y)}" for x, y in positions)


def _value(value: str | float) -> str:
    """Return an attribute's value; a hundredth of a pixel is as fine as anyone can see."""
    if isinstance(value, str):
        return visible(value)
    return f"{value:.2f}".rstrip("0").rstrip(".")
