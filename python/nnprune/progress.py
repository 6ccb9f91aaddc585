"""Telling a person how far a run is."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["counter"]


@contextlib.contextmanager
def counter(
    text: str, *, total: int | None, unit: str, progress: bool
) -> Iterator[Callable[[int], None]]:
    """Give a function that is told how much has been done since the last time.

    Parameters
    ----------
    text
        What is being done.
    total
        How much there is to do; None if that is not known.
    unit
        What is counted.
    progress
        Whether to show a bar on standard error; only done if that is a terminal.
    """
    if not (progress and sys.stderr.isatty()):
        yield lambda _: None
        return
    bar = _bar(text, unit)
    with bar:
        task = bar.add_task(text, total=total)
        yield lambda done: bar.advance(task, done)


def _bar(text: str, unit: str) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn(text),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
