"""Everything that goes through `nnprune.prune`: the paper's method, one-shot, and ours.

The one file that knows how compensation is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nnprune
from nnprune.synthetic.sources import DEFAULT, Mixture, source_named

from compensation.chain import Chain, read_chain
from compensation.subjects import Subject

__all__ = ["SOURCES", "annealed", "compensated", "one_shot"]

_MIXTURE = "mixture"

_SINGLE = ("box", "smooth", "leaves", "near_zero", "first_layer", "gradient")

SOURCES = ("box", "smooth", "leaves", "near_zero", "first_layer", "convex", _MIXTURE, "moments")
"""Where the statistics come from that the fit is made on, but for the default."""

_CONVOLUTIONAL_SAMPLES = 1000
"""Inputs of the fit behind convolutions: a gradient step for one costs 60 million products."""


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
    rule: str = "least_squares",
    source: str | None = None,
    search: bool = False,
    inputs: int = 0,
    restarts: int = 1,
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
    rule : {"least_squares", "scaled"}
        The compensation.
    source : str, optional
        One of `SOURCES`; by default that of the package.
    search : bool, default False
        Search for the units to keep by annealing.
    inputs : int, default 0
        How many unlabelled training inputs it is given.
    restarts : int, default 1
        Seeds of which the judge keeps the best; those of two runs have none in common.
    **options
        For `nnprune.prune`.
    """
    compensation: Any = nnprune.Scaled()
    if rule == "least_squares":
        samples = 4000 if subject.body is None else _CONVOLUTIONAL_SAMPLES
        compensation = nnprune.LeastSquares(source=_source(source), samples=samples)
    if inputs:
        options["representative_inputs"] = subject.training_inputs(inputs, seed)
    if search:
        options["method"] = nnprune.Annealing()
    results = nnprune.prune(
        subject.model,
        targets=list(ratios),
        compensation=compensation,
        step=float(subject.described.step),
        seed=seed * restarts,
        restarts=restarts,
        input_bounds=subject.box,
        layers=subject.layers,
        **options,
    )
    return [read_chain(result.model) for result in results]


def _source(name: str | None) -> Any:
    """Return a source of the package; the mixture is of all that are not mixed themselves."""
    if name == _MIXTURE:
        return Mixture(sources=[source_named(one) for one in _SINGLE])
    return DEFAULT if name is None else name


def _pruned(subject: Subject, ratio: float, **options: Any) -> Chain:
    result = nnprune.prune(
        subject.model,
        target=ratio,
        step=float(subject.described.step),
        input_bounds=subject.box,
        layers=subject.layers,
        **options,
    )
    return read_chain(result.model)
