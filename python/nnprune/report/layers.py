"""Layer by layer: what went, and why the rest stayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnprune.report import format as fmt
from nnprune.report.models import Entry

__all__ = ["LayerTable", "layer_tables"]


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One layer.

    Attributes
    ----------
    name, kind : str
        Foreign text.
    units, parameters, macs : tuple of (str or None, str)
        Before and after; None before where it is the same or not known.
    left : float or None
        Fraction of the units that are left; None for a layer without units.
    density : str
        Weights that are not zero.
    reason : str
        Why no unit went, empty where some did.
    """

    name: str
    kind: str
    units: tuple[str | None, str]
    parameters: tuple[str | None, str]
    macs: tuple[str | None, str]
    left: float | None
    density: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class LayerTable:
    """All layers of one model."""

    entry: Entry
    rows: tuple[LayerRow, ...]


def layer_tables(models: Sequence[Entry]) -> tuple[LayerTable, ...]:
    """Return a table for every pruned model, for they have the original's figures in them.

    Where there is no pruned one, the original gets its table.
    """
    shown = [entry for entry in models if entry.role != "original"] or models
    return tuple(
        LayerTable(entry=entry, rows=tuple(_row(layer) for layer in entry.record["layers"]))
        for entry in shown
        if entry.record["layers"]
    )


def _row(layer: Mapping[str, Any]) -> LayerRow:
    """Return one layer."""
    before, after = layer["units_before"], layer["units"]
    left = None
    if after is not None:
        left = after / before if before else 1.0
    return LayerRow(
        name=layer["layer"],
        kind=layer["kind"],
        units=_change(before, after),
        parameters=_change(layer["parameters_before"], layer["parameters"]),
        macs=_change(layer["macs_before"], layer["macs"]),
        left=left,
        density=fmt.percent(layer["density"]),
        reason=layer["reason"] or "",
    )


def _change(before: int | None, after: int | None) -> tuple[str | None, str]:
    """Return a count before and after, the former only if it was another."""
    return (None if before in (None, after) else fmt.count(before), fmt.count(after))
