"""A sweep as one web page, in the style of the evaluation report."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from nnprune.report import format as fmt
from nnprune.report.text import visible
from nnprune.sweeping.front import failures, figures_of, groups_of, meaning, pareto_front
from nnprune.sweeping.plot import keys_of, panels_of
from nnprune.sweeping.record import Cell

__all__ = ["render"]

#: Nothing but this file's own style: no script, no font, no request, whatever a name may contain.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render(cells: Sequence[Cell], parts: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """Return the page, which needs nothing else: no scripts, no requests.

    Parameters
    ----------
    cells : sequence of Cell
        All of a sweep, the original first.
    parts, about : mapping
        As in `SweepResult`. Every text in them may be hostile.

    Returns
    -------
    str
        HTML, to be written as UTF-8.
    """
    keys = keys_of(cells)
    figures = figures_of(cells)
    front = pareto_front(cells)
    on_front = {cell.cell for cell in front}
    return _template().render(
        policy=_POLICY,
        parts=parts,
        about=about,
        counts=(len(cells) - 1, sum(not cell.done for cell in cells)),
        count=fmt.count,
        keys=list(keys.values()),
        panels=panels_of(cells),
        meaning=meaning(cells),
        head=[figure.name for figure in figures],
        groups=[
            {
                "key": keys[group.label],
                "target": _target(group.target),
                "cells": len(group.cells),
                "values": [figure.told(group) for figure in figures],
                "front": any(cell.cell in on_front for cell in group.cells),
            }
            for group in groups_of(cells)
        ],
        front=[_row(cell, keys, figures) for cell in front],
        cells=[_row(cell, keys, figures) for cell in cells],
        failures=[text.removeprefix("! ") for text in failures(cells)],
        facts=_facts(parts, about),
    )


@functools.cache
def _template() -> jinja2.Template:
    """Return the page's template, with every text escaped and made visible on its way in."""
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [
                jinja2.PackageLoader("nnprune.sweeping", "templates"),
                jinja2.PackageLoader("nnprune.report", "templates"),
            ]
        ),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("sweep.html.j2")


def _shown(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _row(cell: Cell, keys: Mapping[str, Any], figures: Sequence[Any]) -> dict[str, Any]:
    values = [figure.read(cell) for figure in figures]
    return {
        "key": keys[cell.label],
        "target": _target(cell.target),
        "seed": fmt.MISSING if cell.seed is None else str(cell.seed),
        "values": [
            fmt.MISSING if value is None else figure.show(value)
            for figure, value in zip(figures, values, strict=True)
        ],
        "seconds": fmt.duration(cell.seconds),
        "status": cell.status,
    }


def _target(target: float) -> str:
    return f"{target:.4g}" if target else fmt.MISSING


def _facts(parts: Mapping[str, Any], about: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Return names and values of what the sweep was made of."""
    box = parts["input_box"]
    facts = [
        ("Model", [str(about["model"]), f"SHA-256 {parts['model']}"]),
        ("Inputs", [f"{box['lower']:g} to {box['upper']:g} ({box['source']})"]),
        ("Step", [f"{parts['step']:g} of each layer's units in an epoch"]),
        ("Saliency", [f"outgoing weights as {parts['outgoing']}"]),
        ("nnprune", [str(parts["nnprune"])]),
    ]
    if parts["data"] is not None:
        told = f"{about['data']}, {fmt.count(about['samples'])} samples"
        facts.insert(1, ("Data", [told, f"SHA-256 {parts['data']}"]))
    for attack in parts["attacks"]:
        options = ", ".join(f"{name} {value}" for name, value in attack["parameters"].items())
        epsilons = ", ".join(fmt.epsilon(value) for value in attack["epsilons"])
        facts.append((attack["attack"], [f"epsilon {epsilons}; {options}"]))
    for name in ("layers", "exclude"):
        if parts[name] is not None:
            facts.append((name.capitalize(), [", ".join(parts[name])]))
    return facts
