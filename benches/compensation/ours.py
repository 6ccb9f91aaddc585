"""Everything that goes through `nnprune.prune`: the paper's method, one-shot, and ours.

The one file that knows how compensation is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nnprune

from compensation.chain import Chain, read_chain
from compensation.subjects import Subject

__all__ = ["SOURCES", "annealed", "available", "compensated", "one_shot"]

SOURCES = ("moments", "noise", "fields", "spectrum", "gradient", "mixture")
"""Where statistics of the activations come from without data."""


def available() -> bool:
    """Whether this nnprune compensates."""
    return hasattr(nnprune, "LeastSquares")


def annealed(subject: Subject, ratios: Sequence[float], seed: int) -> list[Chain]:
    """Prune by the paper's method: the delegate takes the sum."""
    return [_pruned(subject, ratio, seed=seed, method=nnprune.Annealing()) for ratio in ratios]


def one_shot(subject: Subject, ratios: Sequence[float], seed: int) -> list[Chain]:
    """Prune by the original saliency order, all at once."""
    return [_pruned(subject, ratio, seed=seed, method=nnprune.OneShot()) for ratio in ratios]


def compensated(
    subject: Subject,
    ratios: Sequence[float],
    seed: int,
    *,
    source: str | None = None,
    rule: str = "least_squares",
    inputs: int = 0,
    **options: Any,
) -> list[Chain]:
    """Prune with compensation.

    Parameters
    ----------
    subject : Subject
        What.
    ratios : sequence of float
        Shares of the units that go, one after the other in one run.
    seed : int
        Of everything that is drawn, the training inputs too.
    source : str, optional
        One of `SOURCES`; by default that of the package.
    rule : {"least_squares", "scaled"}
        The compensation.
    inputs : int, default 0
        How many unlabelled training inputs it is given.
    **options
        For `nnprune.prune`.
    """
    compensation = rule if source is None else nnprune.LeastSquares(source=source)
    if inputs:
        options["representative_inputs"] = subject.training_inputs(inputs, seed)
    prune: Any = nnprune.prune
    results = prune(
        subject.model,
        targets=list(ratios),
        compensation=compensation,
        seed=seed,
        input_bounds=subject.box,
        layers=subject.layers,
        **options,
    )
    return [read_chain(result.model) for result in results]


def _pruned(subject: Subject, ratio: float, **options: Any) -> Chain:
    if available():
        options["compensation"] = "sum"
    result = nnprune.prune(
        subject.model,
        target=ratio,
        step=float(subject.described.step),
        input_bounds=subject.box,
        layers=subject.layers,
        **options,
    )
    return read_chain(result.model)
