"""Which cells nothing else beats, and what the rest is worth, as a table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnprune.metrics.classification import Proportion
from nnprune.sweeping.record import Cell

__all__ = [
    "Figure",
    "Group",
    "failures",
    "figures_of",
    "groups_of",
    "meaning",
    "pareto_front",
    "table",
]


def pareto_front(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Choose the cells that no other one beats.

    One cell beats another if it is at least as good in every respect and better in one. The
    respects are few parameters, accuracy, and robust instances under the attack that leaves the
    fewest; without samples few parameters and a narrow impact.

    Parameters
    ----------
    cells : sequence of Cell
        All of them; failed ones are left out.

    Returns
    -------
    tuple of Cell
        From the smallest model to the largest; equals are all there.
    """
    done = [cell for cell in cells if cell.done]
    if not done:
        return ()
    values = _respects(done)
    front = [
        cell
        for cell, own in zip(done, values, strict=True)
        if not np.any(np.all(values >= own, axis=1) & np.any(values > own, axis=1))
    ]
    return tuple(sorted(front, key=lambda cell: cell.parameters or 0))


def _respects(cells: Sequence[Cell]) -> NDArray[np.float64]:
    """Return one row a cell, one column a respect; more is better."""
    columns: list[Callable[[Cell], float]] = [lambda cell: -float(cell.parameters or 0)]
    if all(cell.accuracy is not None for cell in cells):
        columns.append(lambda cell: _value(cell.accuracy))
        if all(cell.robust for cell in cells):
            columns.append(lambda cell: _value(cell.least_robust))
    else:
        columns.append(lambda cell: -np.inf if cell.impact_width is None else -cell.impact_width)
    return np.array([[column(cell) for column in columns] for cell in cells], np.float64)


def _value(proportion: Proportion | None) -> float:
    return -np.inf if proportion is None else proportion.value


@dataclass(frozen=True, kw_only=True)
class Group:
    """The cells that differ in their seeds only.

    Attributes
    ----------
    label : str
        Their method.
    target : float
        Their target.
    cells : tuple of Cell
        Those that are done.
    failed : int
        How many are not.
    """

    label: str
    target: float
    cells: tuple[Cell, ...]
    failed: int

    def spread(self, read: Callable[[Cell], float | None]) -> Spread | None:
        """Return median and ends of a figure over the seeds; None where a cell has none."""
        values = [read(cell) for cell in self.cells]
        known = [value for value in values if value is not None]
        if not known or len(known) < len(values):
            return None
        return Spread(low=min(known), median=statistics.median(known), high=max(known))


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A figure over several seeds."""

    low: float
    median: float
    high: float


def groups_of(cells: Sequence[Cell]) -> list[Group]:
    """Put the cells together that differ in their seeds only, in the order of the grid."""
    members: dict[tuple[str, float], list[Cell]] = {}
    for cell in cells:
        members.setdefault((cell.label, cell.target), []).append(cell)
    return [
        Group(
            label=label,
            target=target,
            cells=tuple(cell for cell in group if cell.done),
            failed=sum(not cell.done for cell in group),
        )
        for (label, target), group in members.items()
    ]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A column of tables: what it is called, where it is in a cell, and how it is shown.

    Attributes
    ----------
    name : str
        Its title.
    read : callable
        Gives a cell's value; None where it has none.
    show : callable
        Turns a value into text.
    """

    name: str
    read: Callable[[Cell], float | None]
    show: Callable[[float], str]

    def told(self, group: Group) -> str:
        """Return the median over a group, and both ends where seeds differ."""
        spread = group.spread(self.read)
        if spread is None:
            return "-"
        low, median, high = self.show(spread.low), self.show(spread.median), self.show(spread.high)
        return median if low == high else f"{median} ({low.removesuffix('%')}-{high})"


def figures_of(cells: Sequence[Cell]) -> list[Figure]:
    """List the figures that any cell has."""

    def share(name: str, read: Callable[[Cell], Proportion | None]) -> Figure:
        def value(cell: Cell) -> float | None:
            found = read(cell)
            return None if found is None else found.value

        return Figure(name=name, read=value, show=lambda fraction: f"{fraction:.1%}")

    known = [
        Figure(name="parameters", read=lambda cell: cell.parameters, show=_number),
        share("accuracy", lambda cell: cell.accuracy),
        share("agreement", lambda cell: cell.agreement),
        share("least robust", lambda cell: cell.least_robust),
        Figure(name="impact", read=lambda cell: cell.impact_width, show=_number),
    ]
    return [one for one in known if any(one.read(cell) is not None for cell in cells)]


def table(cells: Sequence[Cell]) -> str:
    """Tell what came of every method and target, over all seeds, in plain text.

    Figures are medians, with the least and greatest one where seeds differ. A star marks rows with
    a cell on the front.
    """
    front = {cell.cell for cell in pareto_front(cells)}
    figures = figures_of(cells)
    rows = [["", "target", "cells", *(figure.name for figure in figures)]]
    for group in groups_of(cells):
        starred = any(cell.cell in front for cell in group.cells)
        rows.append(
            [
                f"{'*' if starred else ' '} {group.label}",
                f"{group.target:.4g}" if group.target else "-",
                str(len(group.cells)),
                *(figure.told(group) for figure in figures),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in rows
    ]
    lines.append(f"* on the front: {meaning(cells)}")
    return "\n".join([*lines, *failures(cells)])


def meaning(cells: Sequence[Cell]) -> str:
    """Say what being on the front means for these cells."""
    if any(cell.robust for cell in cells):
        return "nothing smaller is as accurate and as robust"
    if any(cell.accuracy is not None for cell in cells):
        return "nothing smaller is as accurate"
    return "nothing smaller changes the outputs as little"


def failures(cells: Sequence[Cell]) -> list[str]:
    """Name the cells that failed, each with its error."""
    return [
        f"! {cell.label}, target {cell.target:.4g}, seed {cell.seed}: {cell.error}"
        if cell.method is not None
        else f"! the original: {cell.error}"
        for cell in cells
        if not cell.done
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}"
