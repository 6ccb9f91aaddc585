"""The demonstration as one picture: images, their adversaries, and what each model says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from nnprune.report.svg import element, text

__all__ = ["picture"]

_STYLE = """
svg { font: 12px system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
.sheet { fill: #ffffff; } text { fill: #1a222d; } .heading { font-weight: 600; }
.right { fill: #13693f; } .wrong { fill: #a3261b; font-weight: 600; }
image { image-rendering: pixelated; }
"""
_NAMES = {
    "original": "original",
    "one_shot 0.25": "one-shot, 25 %",
    "annealing 0.25": "annealing, 25 %",
    "one_shot 0.5": "one-shot, 50 %",
    "annealing 0.5": "annealing, 50 %",
}
_SIDE, _LINE, _HALF, _HEAD, _EDGE = 96.0, 18.0, 390.0, 30.0, 14.0
_ROW = _SIDE + 28.0


def picture(shown: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], *, title: str) -> str:
    """Return an SVG file that holds everything it shows.

    Parameters
    ----------
    shown : sequence of (heading, images)
        For each data set its images, as `paper.demonstration.show` gives them.
    title : str
        What it is, for those who cannot see it.
    """
    rows = sum(len(images) for _, images in shown)
    width, height = 2 * _HALF + 2 * _EDGE, _EDGE + len(shown) * _HEAD + rows * _ROW
    pieces = [element("title", {}, title), element("style", {}, Markup(_STYLE))]
    pieces.append(element("rect", {"class": "sheet", "width": width, "height": height}))
    top = _EDGE
    for heading, images in shown:
        for column, kind in enumerate(("test image", "adversarial, epsilon 0.05")):
            x = _EDGE + column * _HALF
            pieces.append(text(x, top + 14, f"{heading}: {kind}", name="heading"))
        top += _HEAD
        for image in images:
            pieces += _half(image, "clean", 0, _EDGE, top)
            pieces += _half(image, "adversarial", 1, _EDGE + _HALF, top)
            top += _ROW
    attributes: dict[str, str | float] = {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": f"0 0 {width:g} {height:g}",
        "width": width,
        "height": height,
        "role": "img",
    }
    return str(element("svg", attributes, *pieces)) + "\n"


def _half(image: Mapping[str, Any], kind: str, which: int, x: float, y: float) -> list[Markup]:
    """Return an image, its label, and a line for each model."""
    box: dict[str, str | float] = {"x": x, "y": y, "width": _SIDE, "height": _SIDE}
    pieces = [element("image", {"href": str(image[kind])} | box)]
    pieces.append(text(x, y + _SIDE + 15, f"label: {image['label']}"))
    for row, (who, name) in enumerate(_NAMES.items()):
        said = image["says"][who][which]
        right = said["label"] == image["label"]
        mark = "\N{CHECK MARK}" if right else "\N{BALLOT X}"
        words = f"{mark} {said['label']}, {100 * said['confidence']:.1f} %"
        down = y + 14 + row * _LINE
        pieces.append(text(x + _SIDE + 14, down, name))
        pieces.append(text(x + _SIDE + 130, down, words, name="right" if right else "wrong"))
    return pieces
