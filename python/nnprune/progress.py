"""Telling a person, or a callback, how far a run is."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from nnprune.result import Epoch

__all__ = ["observer"]


@contextlib.contextmanager
def observer(
    on_epoch: Callable[[Epoch], bool | None] | None, *, total: int, progress: bool
) -> Iterator[Callable[[dict[str, Any]], bool | None] | None]:
    """Give the callback that the core calls after every epoch, or None if nobody listens.

    Parameters
    ----------
    on_epoch
        The user's callback.
    total
        Units that the run will remove.
    progress
        Whether to show a bar on standard error; only done if that is a terminal.
    """
    if not (progress and sys.stderr.isatty()):
        yield None if on_epoch is None else (lambda entry: on_epoch(Epoch(**entry)))
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("pruning"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("units"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("pruning", total=total)

        def tell(entry: dict[str, Any]) -> bool | None:
            bar.advance(task, entry["removed"])
            return on_epoch(Epoch(**entry)) if on_epoch is not None else None

        yield tell
