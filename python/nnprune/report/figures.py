"""Figures of several models side by side, each with its change against the original."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nnprune.report import format as fmt

__all__ = ["Cell", "Change", "Figure", "amounts", "fractions", "plain", "proportions"]

_Proportion = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Change:
    """How a figure changed against the original.

    Attributes
    ----------
    text : str
        The change, with its sign or direction.
    tone : {"better", "worse", "even"}
        What that means; "even" where the samples do not tell.
    relative : str
        The same relative to the original, if that says more.
    apart : bool or None
        Whether the intervals of the two are apart; None without intervals.
    """

    text: str
    tone: Literal["better", "worse", "even"]
    relative: str = ""
    apart: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model's figure.

    Attributes
    ----------
    value : str
        The figure.
    notes : tuple of str
        What belongs to it: interval, counts.
    change : Change or None
        Against the original; None for the original and where there is none.
    share : float or None
        Its length as a bar, of the longest in its row; None for no bar.
    span : tuple of three float, or None
        Lower end of its interval, value, upper end; None without an interval.
    strong : bool
        Whether it stands out among its neighbours.
    """

    value: str
    notes: tuple[str, ...] = ()
    change: Change | None = None
    share: float | None = None
    span: tuple[float, float, float] | None = None
    strong: bool = True


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of all models.

    Attributes
    ----------
    name : str
        What it is.
    detail : str
        What belongs to the name: attack, number of bins, unit.
    cells : tuple of Cell or None
        One for each model; None where the model has none.
    """

    name: str
    cells: tuple[Cell | None, ...]
    detail: str = ""

    def known(self) -> bool:
        """Return whether any model has the figure."""
        return any(cell is not None for cell in self.cells)


def proportions(
    name: str, values: Sequence[_Proportion | None], *, compared: bool, detail: str = ""
) -> Figure:
    """Return shares of samples, with their intervals; more is better.

    Parameters
    ----------
    name, detail : str
        What it is.
    values : sequence of proportion or None
        One for each model.
    compared : bool
        Whether the first model is the original, which the others are compared with.
    """
    first = values[0] if compared and values else None

    def cell(index: int, value: _Proportion) -> Cell:
        notes = (
            f"{fmt.count(value['count'])} of {fmt.count(value['samples'])}",
            fmt.interval(value),
        )
        change = None if first is None or index == 0 else _proportion_change(first, value)
        span = (value["lower"], value["value"], value["upper"])
        return Cell(value=fmt.percent(value["value"]), notes=notes, change=change, span=span)

    return _figure(name, values, cell, detail)


def fractions(
    name: str, values: Sequence[float | None], *, compared: bool, detail: str = ""
) -> Figure:
    """Return fractions without an interval, such as ECE; less is better."""
    first = values[0] if compared and values else None
    longest = max((value for value in values if value is not None), default=0.0)

    def cell(index: int, value: float) -> Cell:
        change = None
        if first is not None and index > 0:
            change = Change(
                text=fmt.points(value - first),
                tone=_tone(round(first - value, 3)),
                relative=fmt.relative(first, value),
            )
        share = value / longest if longest > 0 else None
        return Cell(value=fmt.percent(value), change=change, share=share)

    return _figure(name, values, cell, detail)


def amounts(
    name: str,
    values: Sequence[float | None],
    show: Callable[[Any], str],
    *,
    compared: bool,
    detail: str = "",
    words: tuple[str, str] = ("smaller", "larger"),
    exact: Callable[[Any], str] | None = None,
    bars: bool = False,
) -> Figure:
    """Return amounts (sizes, times, losses) of which less is better.

    Parameters
    ----------
    name, detail : str
        What it is.
    values : sequence of float or None
        One for each model.
    show : callable
        Turns a value into text.
    compared : bool
        Whether the first model is the original, which the others are compared with.
    words : tuple of two str
        What less and more are called.
    exact : callable or None
        Turns a value into a second, exact text.
    bars : bool
        Whether the lengths of bars tell the amounts, too.
    """
    first = values[0] if compared and values else None
    longest = max((value for value in values if value is not None), default=0)

    def cell(index: int, value: float) -> Cell:
        told = None
        if index > 0:
            told = fmt.ratio(first, value, less=words[0], more=words[1])
        change = None
        if told is not None and first is not None:
            change = Change(text=told, tone=_tone(first - value))
        share = value / longest if bars and longest > 0 else None
        notes = () if exact is None else (exact(value),)
        return Cell(value=show(value), notes=notes, change=change, share=share)

    return _figure(name, values, cell, detail)


def plain(name: str, texts: Sequence[str | None], detail: str = "") -> Figure:
    """Return texts that are only shown."""
    return _figure(name, texts, lambda _, text: Cell(value=text), detail)


def _figure(
    name: str, values: Sequence[Any], cell: Callable[[int, Any], Cell], detail: str
) -> Figure:
    """Return a figure with a cell for every value there is."""
    cells = tuple(
        None if value is None else cell(index, value) for index, value in enumerate(values)
    )
    return Figure(name=name, cells=cells, detail=detail)


def _proportion_change(before: _Proportion, after: _Proportion) -> Change:
    """Return the change of a share; it only counts as one where the intervals are apart."""
    apart = before["upper"] < after["lower"] or after["upper"] < before["lower"]
    difference = after["value"] - before["value"]
    return Change(
        text=fmt.points(difference),
        tone=_tone(difference) if apart else "even",
        apart=apart,
    )


def _tone(gain: float) -> Literal["better", "worse", "even"]:
    """Return what a gain (or, negative, a loss) means."""
    return "better" if gain > 0 else "worse" if gain < 0 else "even"
