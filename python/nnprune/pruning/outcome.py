"""From the run that counts to a result: the model rebuilt, polished, judged and described."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nnprune import _core
from nnprune.compensation import Polish
from nnprune.compensation_trace import PolishTrace, SyntheticAgreement
from nnprune.keras_io.opened import open_model, smaller_model
from nnprune.pruning.job import Fraction, Job, Run, Watchers
from nnprune.pruning.restarts import Best
from nnprune.result import LayerChange, PruningResult, Size, Source

if TYPE_CHECKING:
    import keras

__all__ = ["Accounts", "result_of"]

# The impact is one of many figures of a result: it must not take longer than the pruning.
_MOST_FOR_IMPACT = 2e9


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """What a result tells besides its run.

    Attributes
    ----------
    trusted
        Whether the file was trusted.
    engine_seconds
        CPU time of the engine, of all seeds together.
    evaluation_seconds
        CPU time of measuring its epochs.
    """

    trusted: bool
    engine_seconds: float
    evaluation_seconds: float


def result_of(
    job: Job,
    target: Fraction,
    best: Best,
    accounts: Accounts,
    *,
    polish: Polish | None,
    watchers: Watchers,
    progress: bool,
) -> PruningResult:
    """Make the result of a run."""
    run, opened = best.run, job.opened
    rebuilt = smaller_model(opened, run.network, run.kept)
    polished: PolishTrace | None = None
    smaller = run.network
    if polish is not None and run.removed:
        polished = _polished(job, rebuilt.model, best.seed, polish, progress=progress)
        if _agrees_too_little(job, rebuilt.model):
            rebuilt = smaller_model(opened, run.network, run.kept)
            polished = replace(polished, best=0, stopped_by="min_agreement")
        else:
            smaller = open_model(rebuilt.model, trust=True).graph.network
    supervisor = watchers.supervisor
    return PruningResult(
        model=rebuilt.model,
        source=Source(
            path=opened.path,
            sha256=opened.sha256,
            weights_sha256=opened.weights_sha256,
            name=opened.name,
        ),
        target=target,
        step=job.step,
        method=job.method,
        outgoing=job.outgoing,
        bias=job.bias,
        max_output_change=job.max_output_change,
        seed=best.seed,
        input_box=job.box.source,
        input_bounds={
            one.name: (lower, upper)
            for one, lower, upper in zip(
                opened.graph.inputs, job.box.lower, job.box.upper, strict=True
            )
        },
        before=Size(parameters=opened.parameters, macs=_macs(job.network)),
        after=Size(parameters=rebuilt.parameters, macs=_macs(run.network)),
        layers=_layer_changes(job.network, run.kept),
        opaque=dict(opened.graph.opaque),
        merges=run.merges,
        trace=run.trace,
        impact=_by_output(job.network, _impact(job, run, smaller)),
        stopped_by=run.stopped_by,
        rounding=rebuilt.rounding,
        trusted=accounts.trusted,
        engine_seconds=accounts.engine_seconds,
        evaluation_seconds=accounts.evaluation_seconds,
        original_evaluation=None if supervisor is None else supervisor.original,
        undone=run.undone,
        kernel_path=run.kernel_path,
        compensation=run.compensation,
        allocation=job.allocation,
        width_multiple=job.width_multiple,
        min_agreement=job.min_agreement,
        synthetic_agreement=_agreement(job, run, rebuilt.model, polished=polished is not None),
        restarts=best.restarts,
        polish=polished,
    )


def _agrees_too_little(job: Job, model: keras.Model) -> bool:
    """Whether a polish has cost the agreement that was asked for: its loss is another measure."""
    if job.min_agreement is None or job.judge is None:
        return False
    found = job.judge.agreement_of(open_model(model, trust=True))
    return found.value < job.min_agreement


def _polished(job: Job, model: object, seed: int, polish: Polish, *, progress: bool) -> PolishTrace:
    from nnprune.polishing import polish_model
    from nnprune.pruning.lessons import lessons_for

    lessons = lessons_for(job, polish, seed)
    trace = polish_model(
        job.opened,
        model,
        job.box,
        lessons.x,
        lessons.held_out,
        polish,
        inputs=lessons.kind,
        seed=lessons.seed,
        progress=progress,
    )
    given = job.representatives if lessons.kind == "representative" else None
    if given is not None:
        trace = replace(trace, given=len(given.arrays[0]), sha256=given.sha256)
    return replace(trace, remarks=lessons.remarks)


def _agreement(job: Job, run: Run, model: object, *, polished: bool) -> SyntheticAgreement | None:
    if job.judge is None or run.agreement is None:
        return None
    if not polished:
        return job.judge.told(run.agreement)
    return job.judge.told(job.judge.agreement_of(open_model(model, trust=True)))


def _impact(
    job: Job, run: Run, smaller: _core.Network
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bound the change of the logits, where merging has not done so on its way."""
    if run.impact is not None and smaller is run.network:
        return run.impact
    merges = [(merge.layer, merge.nominee, merge.delegate) for merge in run.merges]
    found = _core.certify(
        job.network,
        smaller,
        job.box.lower,
        job.box.upper,
        merges,
        most_multiplications=_MOST_FOR_IMPACT,
    )
    return found["lower"], found["upper"]


def _macs(network: _core.Network) -> int:
    return sum(node.macs for node in network.nodes)


def _layer_changes(
    network: _core.Network, kept: Mapping[str, NDArray[np.int64]]
) -> tuple[LayerChange, ...]:
    return tuple(
        LayerChange(
            layer=group.layer,
            units_before=group.units,
            units_after=len(kept[group.layer]) if group.layer in kept else group.units,
            reason=group.reason,
        )
        for group in network.groups
    )


def _by_output(
    network: _core.Network, impact: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
    """Split the logits' bounds by output."""
    lower, upper = impact
    sizes = {node.name: int(np.prod(node.shape)) for node in network.nodes}
    found = {}
    first = 0
    for name in network.logits:
        last = first + sizes[name]
        # A fused activation is a node of its own; the layer's name is what users know.
        found[name.removesuffix("/activation")] = (
            lower[first:last].tolist(),
            upper[first:last].tolist(),
        )
        first = last
    return found
