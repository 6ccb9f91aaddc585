"""Several runs from different seeds, in parallel, of which the judge keeps the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from nnprune.compensation import Sum
from nnprune.compensation_trace import Restart
from nnprune.parallelism import threads
from nnprune.pruning.job import Fraction, Job, Run, Watchers
from nnprune.pruning.merging import merge_to
from nnprune.pruning.refitting import refit_to

__all__ = ["Best", "best_of"]

_MOST_SEEDS = 2**64


@dataclass(frozen=True, kw_only=True)
class Best:
    """The run that counts, and what the others came to.

    Attributes
    ----------
    run
        The run.
    seed
        Its seed.
    restarts
        Every seed's outcome, in order; empty where there was one seed only.
    """

    run: Run
    seed: int
    restarts: tuple[Restart, ...]


def best_of(
    job: Job, targets: Sequence[Fraction], seed: int, restarts: int, watchers: Watchers
) -> list[Best]:
    """Prune to each target with each seed and keep the best for each target.

    That is the run that removed most units, of these the one that agrees most with the original,
    of these the first: the same whatever the number of threads.

    Parameters
    ----------
    job, targets
        What is asked for.
    seed
        The first seed; the others follow it.
    restarts
        How many seeds.
    watchers
        Who follows the runs.
    """
    seeds = [(seed + number) % _MOST_SEEDS for number in range(restarts)]

    def attempt(seed: int) -> list[Run]:
        return [_judged(job, run) for run in _runs(job, targets, seed, watchers)]

    attempts = [attempt(seed)] if restarts == 1 else _in_parallel(attempt, seeds, watchers)
    return [
        _best([runs[place] for runs in attempts], seeds, listed=restarts > 1)
        for place in range(len(targets))
    ]


def _runs(job: Job, targets: Sequence[Fraction], seed: int, watchers: Watchers) -> list[Run]:
    if not isinstance(job.compensation, Sum):
        return refit_to(job, [float(target) for target in targets], seed, watchers)
    return [merge_to(job, target, seed, watchers) for target in targets]


def _judged(job: Job, run: Run) -> Run:
    if job.judge is None:
        return run
    return replace(run, agreement=job.judge.agreement(run.network, run.kept))


def _in_parallel(
    attempt: Callable[[int], list[Run]], seeds: Sequence[int], watchers: Watchers
) -> list[list[Run]]:
    """Run all seeds in threads: the core leaves the interpreter to others while it computes.

    Where the engine does not follow every layer, Keras may judge one while others are pruned.
    """
    workers = min(len(seeds), threads())  # so that one thread means one run at a time
    with ThreadPoolExecutor(workers, thread_name_prefix="nnprune") as pool:
        attempts = [pool.submit(attempt, seed) for seed in seeds]
        try:
            return [one.result() for one in attempts]
        except BaseException:  # Ctrl-C reaches this thread only
            watchers.halted.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _best(runs: Sequence[Run], seeds: Sequence[int], *, listed: bool) -> Best:
    def merit(place: int) -> tuple[int, float, int]:
        agreement = runs[place].agreement
        return runs[place].removed, 0.0 if agreement is None else agreement.value, -place

    place = max(range(len(runs)), key=merit)
    told = [
        Restart(seed=seed, removed=run.removed, agreement=run.agreement.value)
        for seed, run in zip(seeds, runs, strict=True)
        if run.agreement is not None
    ]
    return Best(run=runs[place], seed=seeds[place], restarts=tuple(told) if listed else ())
