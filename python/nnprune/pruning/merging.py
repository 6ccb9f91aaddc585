"""Runs that merge pair after pair: the delegate takes over what the nominee gave."""

from __future__ import annotations

from typing import Any

from nnprune import _core
from nnprune.compensation import compensation_to_dict
from nnprune.compensation_trace import CompensationTrace
from nnprune.options import Method, method_to_dict
from nnprune.pruning.checks import LOSSLESS, fraction_for_core
from nnprune.pruning.job import Fraction, Job, Run, Watchers
from nnprune.pruning.watch import Watch
from nnprune.trace import Merge

__all__ = ["core_pruning", "merge_to"]


def merge_to(job: Job, target: Fraction, seed: int, watchers: Watchers) -> Run:
    """Prune to a target."""
    watch = Watch(job, watchers)
    pruning = core_pruning(
        job,
        target,
        seed,
        job.method,
        on_epoch=watch.see,
        supervised=watch.measures,
        max_output_change=job.max_output_change,
        lossless=target == LOSSLESS,
    )
    return Run(
        network=pruning.network,
        kept=pruning.kept,
        merges=tuple(Merge(**merge) for merge in pruning.merges),
        trace=tuple(watch.epochs),
        undone=watch.undone,
        impact=pruning.impact,
        stopped_by=watch.stopped_by or pruning.stopped_by,
        kernel_path=pruning.kernel_path,
        compensation=CompensationTrace(options=compensation_to_dict(job.compensation)),
    )


def core_pruning(
    job: Job, target: Fraction, seed: int, method: Method, **options: Any
) -> _core.Pruning:
    """Have the core prune with what the job says."""
    return _core.prune(
        job.network,
        job.box.lower,
        job.box.upper,
        layers=list(job.layers),
        target=fraction_for_core(target),
        step=job.step,
        method=method_to_dict(method),
        outgoing=job.outgoing,
        bias=job.bias,
        width_multiple=job.width_multiple,
        seed=seed,
        **options,
    )
