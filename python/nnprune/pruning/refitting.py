"""Runs that select the units to keep, and then make up for all others at once.

Least squares re-expresses each by all that are kept, Neuron Merging by the most similar one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnprune import _core
from nnprune.compensation import LeastSquares, Scaled, compensation_to_dict
from nnprune.compensation_trace import CompensationTrace, LayerFit
from nnprune.options import Annealing, Elimination
from nnprune.pruning.job import Job, Run, Watchers
from nnprune.pruning.merging import core_pruning
from nnprune.pruning.samples import Samples, samples_for
from nnprune.synthetic.sources import BoxNoise
from nnprune.trace import Merge

__all__ = ["refit_to"]

# Sizes that are fitted in one go, from the statistics of the original computed once.
_AT_ONCE = 4
_DEFAULT_MOVES = 2000
# Neuron Merging reads no inputs: they only tell what it has cost.
_TO_MEASURE = 1000
# Far more than any time allows.
_ENDLESS = 10**12

_Fit = Callable[[Sequence[float]], list[_core.Compensation]]


class _Halted(Exception):  # noqa: N818 (nothing went wrong)
    """The runs are to end."""


def refit_to(job: Job, targets: Sequence[float], seed: int, watchers: Watchers) -> list[Run]:
    """Prune to each target, in the order given."""
    options = job.compensation
    fitted = isinstance(options, LeastSquares)
    samples = samples_for(
        job.opened,
        job.box,
        job.representatives if fitted else None,
        source=job.source if fitted else BoxNoise(),
        count=options.samples if isinstance(options, LeastSquares) else _TO_MEASURE,
        seed=seed,
        purpose="fit",
    )
    statistics = samples.statistics(job.opened, job.box)

    def fit(fractions: Sequence[float]) -> list[_core.Compensation]:
        return _fitted(job, statistics, fractions, seed, watchers)

    started = time.perf_counter()
    found: list[tuple[_core.Compensation | None, str]]
    if job.min_agreement is None:
        found = [(one, "target") for one in fit(targets)]
    else:
        sizes = _Sizes(job, fit)
        found = [sizes.largest_within(target) for target in targets]
    seconds = {"inputs": samples.seconds, "fit": time.perf_counter() - started}
    return [_run(job, samples, seconds, seed, one, stopped) for one, stopped in found]


def _fitted(
    job: Job,
    statistics: Mapping[str, Any],
    fractions: Sequence[float],
    seed: int,
    watchers: Watchers,
) -> list[_core.Compensation]:
    """Refit to several sizes: what is the same for all is computed once where that changes none."""
    searched = isinstance(job.method, Annealing) and isinstance(job.compensation, LeastSquares)
    if isinstance(job.method, Elimination):
        return _compensated(job, statistics, seed, watchers, targets=list(fractions))
    found = []
    for fraction in fractions:
        if searched:
            found += _compensated(job, statistics, seed, watchers, targets=[fraction])
        else:
            kept = core_pruning(job, fraction, seed, job.method).kept
            given = {layer: units.tolist() for layer, units in kept.items()}
            found += _compensated(job, statistics, seed, watchers, targets=[], kept=given)
    return found


def _compensated(
    job: Job,
    statistics: Mapping[str, Any],
    seed: int,
    watchers: Watchers,
    *,
    targets: list[float],
    kept: dict[str, list[int]] | None = None,
) -> list[_core.Compensation]:
    def on_layer(_: float | None, __: dict[str, Any]) -> None:
        watchers.advance(1)
        if watchers.halted.is_set():
            raise _Halted

    def on_search(_: int) -> bool:
        if watchers.halted.is_set():
            raise _Halted
        return True

    return _core.compensate(
        job.network,
        layers=[] if kept is not None else list(job.layers),
        targets=targets,
        allocation=job.allocation,
        width_multiple=job.width_multiple,
        kept=kept,
        seed=seed,
        on_layer=on_layer,
        on_search=on_search,
        **statistics,
        **_rule(job),
    )


def _rule(job: Job) -> dict[str, Any]:
    """Say what the next layers' weights become, as the core reads it."""
    options = job.compensation
    read = options if isinstance(options, LeastSquares) else LeastSquares()
    rule = {
        "rule": options.name,
        "ridge": read.ridge,
        "selection_ridge": read.selection_ridge,
        "towards": read.towards,
        "closed_loop": read.loop == "closed",
        "selection": _selection(job, read),
    }
    return {**rule, "threshold": options.threshold} if isinstance(options, Scaled) else rule


def _selection(job: Job, options: LeastSquares) -> dict[str, Any]:
    """Say how units are selected, as the core reads it."""
    method = job.method
    if not isinstance(method, Annealing) or not isinstance(job.compensation, LeastSquares):
        return {"name": "elimination"}
    seconds = options.search_seconds or None
    moves = options.moves
    if moves is None:
        moves = _DEFAULT_MOVES if seconds is None else _ENDLESS
    return {
        "name": "search",
        "moves": moves,
        "chains": options.chains,
        "heat": options.heat,
        "alpha": method.alpha,
        "similarity": method.similarity,
        "density": method.density,
        "seconds": seconds,
    }


class _Sizes:
    """Sizes from the largest network to the smallest, until the judge finds one too small."""

    def __init__(self, job: Job, fit: _Fit) -> None:
        self._job = job
        self._fit = fit
        self._found: dict[float, tuple[_core.Compensation, bool]] = {}

    def largest_within(self, target: float) -> tuple[_core.Compensation | None, str]:
        """Return the smallest network up to a target that agrees enough; None if none does."""
        best = None
        fractions = self._steps(target)
        for first in range(0, len(fractions), _AT_ONCE):
            part = fractions[first : first + _AT_ONCE]
            self._try([fraction for fraction in part if fraction not in self._found])
            for fraction in part:
                compensation, agrees = self._found[fraction]
                if not agrees:
                    return best, "min_agreement"
                best = compensation
        return best, "target"

    def _steps(self, target: float) -> list[float]:
        """List the fractions to try: those that remove more units than the one before."""
        steps = int(np.ceil(target / self._job.step - 1e-9))
        fractions = [min(self._job.step * number, target) for number in range(1, steps + 1)]
        units = [
            group.units
            for group in self._job.network.groups
            if group.reason is None and (not self._job.layers or group.layer in self._job.layers)
        ]
        chosen: dict[tuple[int, ...], float] = {}
        for fraction in fractions:
            gone = tuple(int(np.floor(fraction * count + 0.5)) for count in units)
            if any(gone) or fraction == target:
                chosen[gone] = fraction
        return list(chosen.values())

    def _try(self, fractions: list[float]) -> None:
        if not fractions:
            return
        judge, least = self._job.judge, self._job.min_agreement
        assert judge is not None
        assert least is not None
        for fraction, one in zip(fractions, self._fit(fractions), strict=True):
            found = judge.agreement(one.network, one.kept)
            self._found[fraction] = one, found.value >= least


def _run(
    job: Job,
    samples: Samples,
    seconds: Mapping[str, float],
    seed: int,
    one: _core.Compensation | None,
    stopped_by: str,
) -> Run:
    fitted = isinstance(job.compensation, LeastSquares)
    given = job.representatives if fitted else None
    trace = CompensationTrace(
        options=compensation_to_dict(job.compensation),
        inputs=samples.kind if fitted else None,
        samples=samples.count if fitted else 0,
        given=None if given is None else len(given.arrays[0]),
        sha256=samples.sha256,
        seed=seed,
        remarks=samples.remarks,
        seconds=seconds,
    )
    if one is None:
        return Run(
            network=job.network,
            kept={},
            merges=(),
            stopped_by=stopped_by,
            kernel_path=_core.kernel_path(),
            compensation=trace,
        )
    entries = one.layers
    delegates = {fit["layer"]: dict(fit.pop("pairs") or ()) for fit in entries}
    trace = replace(trace, loss=one.loss, layers=tuple(LayerFit(**fit) for fit in entries))
    return Run(
        network=one.network,
        kept=one.kept,
        merges=_merges(job, one.kept, delegates),
        stopped_by=stopped_by,
        kernel_path=_core.kernel_path(),
        compensation=trace,
    )


def _merges(
    job: Job,
    kept: Mapping[str, NDArray[np.int64]],
    delegates: Mapping[str, Mapping[int, int]],
) -> tuple[Merge, ...]:
    """List the units that went, with the one unit that took over where there is one."""
    return tuple(
        Merge(layer=group.layer, nominee=unit, delegate=delegates[group.layer].get(unit), epoch=0)
        for group in job.network.groups
        if group.layer in kept
        for unit in sorted(set(range(group.units)) - set(kept[group.layer].tolist()))
    )
