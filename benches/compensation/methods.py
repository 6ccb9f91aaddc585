"""The rows of the table: every method by its name, and how it prunes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from compensation import ours
from compensation.chain import Chain
from compensation.rivals.lbyl import PENALTIES, leave_shares
from compensation.rivals.model_folding import fold_model
from compensation.rivals.neuron_merging import THRESHOLD, merge_neurons
from compensation.settings import Settings
from compensation.subjects import Subject

__all__ = ["PUBLIC", "Kind", "Method", "methods"]

Kind = Literal["paper", "rival", "ours", "data"]
"""The paper's method and its like; published data-free methods; ours without data; with data."""

Prune = Callable[[Subject, Sequence[float], int], list[Chain]]

PUBLIC = "public"
"""The public implementation, which is not run here: its figures are read from `benches/paper`."""

_PENALTY = 0.3
"""lambda2 of the second LBYL row: published for 50 and 70 %, there is none for other models."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A row of the table.

    Attributes
    ----------
    name : str
        In the results.
    title : str
        On the page.
    kind : Kind
        Among which it is compared.
    prune : callable
        Takes subject, ratios and seed, gives a chain for each ratio.
    seeded : bool
        Whether it draws; else one run says all.
    most : int
        Seeds at most: what takes long has fewer.
    dense_only : bool
        Whether it is left out behind convolutions, where it cannot be had or takes an hour.
    settings : mapping
        What its results depend on besides, as JSON has it.
    """

    name: str
    title: str
    kind: Kind
    prune: Prune
    seeded: bool = True
    most: int = 10
    dense_only: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


def methods(settings: Settings) -> list[Method]:
    """Return the methods that can be run, in the order of the table."""
    found = [
        Method(
            name="annealing", title="the paper's method", kind="paper", prune=ours.annealed, most=5
        ),
        Method(name="one_shot", title="one-shot", kind="paper", prune=ours.one_shot, seeded=False),
        Method(
            name="magnitude",
            title="least l1 norm, no compensation",
            kind="rival",
            prune=_each(partial(merge_neurons, threshold=math.inf)),
            seeded=False,
        ),
        Method(
            name="neuron_merging",
            title="Neuron Merging",
            kind="rival",
            prune=_each(merge_neurons),
            seeded=False,
            settings={"threshold": THRESHOLD, "norm": 1},
        ),
        Method(
            name="neuron_merging_all",
            title="Neuron Merging, threshold 0",
            kind="rival",
            prune=_each(partial(merge_neurons, threshold=0.0)),
            seeded=False,
            settings={"threshold": 0.0, "norm": 1},
        ),
        Method(
            name="lbyl",
            title="LBYL",
            kind="rival",
            prune=_each(leave_shares),
            seeded=False,
            settings={"lambda2": [list(item) for item in PENALTIES.items()], "norm": 2},
        ),
        Method(
            name="lbyl_constant",
            title=f"LBYL, lambda2 {_PENALTY:g}",
            kind="rival",
            prune=_each(partial(leave_shares, penalty=_PENALTY)),
            seeded=False,
            settings={"lambda2": _PENALTY, "norm": 2},
        ),
        Method(name="folding", title="Model Folding", kind="rival", prune=_folded, most=5),
    ]
    return found + _ours(settings)


def _ours(settings: Settings) -> list[Method]:
    samples, bound = settings.representative, settings.bound
    return [
        _row("ours", "ours", most=10),
        _row("ours_scaled", "ours, scaled delegate", rule="scaled"),
        *(_source(source) for source in ours.SOURCES),
        _row("ours_search", "ours, searched", search=True),
        _row("ours_allocated", "ours, budget across layers", most=2, allocation="propagated"),
        _row("ours_restarts", "ours, best of 4 by the judge", most=2, dense_only=True, restarts=4),
        _row("ours_polished", "ours, polished", most=2, dense_only=True, polish=True),
        _row(
            "ours_samples", f"ours, {samples} unlabelled samples", "data", most=10, inputs=samples
        ),
        _row(
            "ours_samples_polished",
            f"ours, {samples} unlabelled samples, polished",
            "data",
            most=1,
            dense_only=True,
            inputs=samples,
            polish=True,
        ),
        _row("bound", f"upper bound: {bound:,} training inputs", "data", inputs=bound),
    ]


def _source(source: str) -> Method:
    moments = source == "moments"
    title = f"ours, {source.replace('_', ' ')}"
    return _row(f"ours_{source}", title, seeded=not moments, dense_only=moments, source=source)


def _row(
    name: str,
    title: str,
    kind: Kind = "ours",
    *,
    most: int = 3,
    seeded: bool = True,
    dense_only: bool = False,
    **options: Any,
) -> Method:
    return Method(
        name=name,
        title=title,
        kind=kind,
        prune=partial(ours.compensated, **options),
        seeded=seeded,
        most=most,
        dense_only=dense_only,
        settings=options,
    )


def _each(rival: Callable[[Chain, float], Chain]) -> Prune:
    """Let a rival without a seed prune to each ratio."""
    return lambda subject, ratios, _: [rival(subject.chain, ratio) for ratio in ratios]


def _folded(subject: Subject, ratios: Sequence[float], seed: int) -> list[Chain]:
    return [fold_model(subject.chain, ratio, seed) for ratio in ratios]
