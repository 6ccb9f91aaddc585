"""Cells in parallel through joblib, on whatever backend the user has chosen."""

from __future__ import annotations

import contextlib
import signal
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import Any, NamedTuple

from nnprune.errors import ConfigError
from nnprune.keras_io.wording import one_line
from nnprune.parallelism import asked_threads
from nnprune.sweeping.cell import Job, Outcome, failed, run_cell
from nnprune.sweeping.grid import GridPoint

__all__ = ["Crew", "crew_of"]

# A cell that was alone in its process as often as this, and took it down, has itself to blame.
_LIVES = 2
# Cells for each worker between two looks at the results, where a backend gives no others.
_ROUNDS = 2


class Lost(NamedTuple):
    """A cell that a cluster's scheduler has given up, and why."""

    point: GridPoint
    error: str


class Crew:
    """Those who do the cells.

    Parameters
    ----------
    backend
        joblib's.
    workers : int
        How many cells are done at a time.
    threads : int or None
        How many threads each local process has; None for its share of the cores.
    """

    def __init__(self, backend: Any, workers: int, threads: int | None = None) -> None:
        self._backend = backend
        self.workers = workers
        self.threads = threads

    @property
    def here(self) -> bool:
        """Whether this process does all cells itself, one after the other."""
        return self.workers == 1

    def run(self, job: Job, points: Sequence[GridPoint]) -> Generator[Outcome]:
        """Do cells, and give the outcomes as they come.

        A worker that dies takes the cells with it that were under way. They are done again in the
        end, each alone, and the one that then takes its workers down again has failed.
        """
        if self.here:
            yield from (run_cell(job, point) for point in points)
            return
        with self._dismissal(), _adapted(self._backend):
            remaining, suspects = list(points), list[GridPoint]()
            while remaining:
                done: set[GridPoint] = set()
                try:
                    with contextlib.closing(self._parallel(job, remaining)) as outcomes:
                        for found in outcomes:
                            if isinstance(found, Lost):
                                done.add(found.point)
                                suspects.append(found.point)
                            else:
                                done.add(found.cell.point)
                                yield found
                    break
                except BrokenProcessPool:
                    remaining = [point for point in remaining if point not in done]
                    # They are given out in order: only the first ones can have been under way.
                    suspects += remaining[: self.workers]
                    remaining = remaining[self.workers :]
            for point in suspects:
                yield self._alone(job, point)

    def _alone(self, job: Job, point: GridPoint) -> Outcome:
        death = ""
        for _ in range(_LIVES):
            try:
                [found] = self._parallel(job, [point])
            except BrokenProcessPool as error:
                death = one_line(error)
            else:
                return failed(job, point, found.error) if isinstance(found, Lost) else found
        return failed(job, point, f"its process died, the last time with {death}")

    def _parallel(self, job: Job, points: Sequence[GridPoint]) -> Generator[Outcome | Lost]:
        import joblib

        # One worker would mean this very process, which must not die with a cell.
        workers = max(2, min(self.workers, len(points)))
        tasks = (joblib.delayed(run_cell)(job, point) for point in points)
        if not self._backend.supports_return_generator:  # such as Ray's: no news before the end
            yield from self._in_rounds(tasks, workers, len(points))
            return
        with self._threads_shared_out():
            parallel = joblib.Parallel(
                n_jobs=workers, batch_size=1, return_as="generator_unordered"
            )
        with _ctrl_c_waiting(self._backend):
            outcomes = parallel(tasks)
        try:
            # `yield from` would close it itself, and let it warn.
            for outcome in outcomes:  # noqa: UP028
                yield outcome
        finally:
            with warnings.catch_warnings():  # that results are thrown away: they are meant to be
                warnings.simplefilter("ignore")
                outcomes.close()

    def _in_rounds(self, tasks: Iterator[Any], workers: int, count: int) -> Iterator[Outcome]:
        import joblib

        size = _ROUNDS * workers
        with joblib.Parallel(n_jobs=workers, batch_size=1) as parallel:
            for start in range(0, count, size):
                yield from parallel([next(tasks) for _ in range(min(size, count - start))])

    def _threads_shared_out(self) -> contextlib.AbstractContextManager[Any]:
        """Let joblib tell its processes how many threads NumPy has, before they import it."""
        import joblib

        if self.threads is None or not _is_local(self._backend):
            return contextlib.nullcontext()
        context: contextlib.AbstractContextManager[Any] = joblib.parallel_config(
            "loky", inner_max_num_threads=self.threads
        )
        return context

    @contextlib.contextmanager
    def _dismissal(self) -> Iterator[None]:
        """Send the local processes home afterwards: each holds Keras' backend and a model."""
        yield
        if _is_local(self._backend):
            from joblib.externals.loky import get_reusable_executor

            get_reusable_executor(reuse=True).shutdown(wait=True)


def crew_of(jobs: int | None) -> Crew:
    """Find out who is to work: joblib's backend, as the user has configured it, and how many.

    Parameters
    ----------
    jobs : int or None
        Cells at a time; None for as many as configured, by default one a core, and not more than
        the threads that were asked for.

    Raises
    ------
    ConfigError
        `jobs` is no positive integer, or more than the threads that were asked for, or the
        backend starts processes in a way that Keras' backend does not survive.
    """
    from joblib.parallel import get_active_backend

    if jobs is not None and (
        isinstance(jobs, bool) or not hasattr(jobs, "__index__") or int(jobs) < 1
    ):
        raise ConfigError(f"jobs: expected an integer from 1 on, got {jobs!r}")
    backend, configured = get_active_backend()
    if type(backend).__name__ == "MultiprocessingBackend":
        raise ConfigError(
            "joblib's backend 'multiprocessing' copies a running process, which TensorFlow does "
            "not survive; use 'loky', its default"
        )
    wanted = jobs if jobs is not None else -1 if configured is None else configured
    workers = int(backend.effective_n_jobs(int(wanted)))
    if _is_dask(backend):  # one worker may be another machine: the work is to be done there
        return Crew(backend, max(2, workers))
    threads = asked_threads() if _is_local(backend) else None
    if threads is None:
        return Crew(backend, workers)
    if jobs is not None and workers > threads:
        raise ConfigError(
            f"jobs: {workers} cells at a time need a thread each, but {threads} in all were asked "
            "for; ask for fewer jobs, or more threads"
        )
    workers = min(workers, threads)
    return Crew(backend, workers, threads // workers)


@contextlib.contextmanager
def _ctrl_c_waiting(backend: Any) -> Iterator[None]:
    """Let Ctrl-C wait until processes have been started, which then never get it.

    A terminal sends it to all of them, and each would tell about it. The one that has started them
    ends them.
    """
    if not _is_local(backend) or not hasattr(signal, "pthread_sigmask"):  # Windows has none
        yield
        return
    # Otherwise started in between, and Python 3.11 and 3.12 then let signals in again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_local(backend: Any) -> bool:
    return type(backend).__name__ == "LokyBackend"


def _is_dask(backend: Any) -> bool:
    return type(backend).__name__ == "DaskDistributedBackend"


@contextlib.contextmanager
def _adapted(backend: Any) -> Iterator[None]:
    """Change two things of joblib's Dask backend, on this one object and for as long as needed.

    It is to tell when the scheduler has given a task up: one that several workers have died of, or
    where workers cannot import this package. joblib 1.6 notes the error and calls nobody, and so
    would wait for ever. And it is not to leave the work to this process where there is one worker.
    """
    if not _is_dask(backend):
        yield
        return
    submit, effective = backend.submit, backend.effective_n_jobs

    def guarded(func: Any, callback: Callable[[Any], None]) -> Any:
        def tell(future: Any) -> None:
            error = future.exception()
            if error is not None:
                callback([Lost(point, one_line(error)) for _, (_, point), _ in func.items])

        future = submit(func, callback)
        future.add_done_callback(tell)
        return future

    backend.submit = guarded
    backend.effective_n_jobs = lambda n_jobs: max(2, effective(n_jobs))
    try:
        yield
    finally:
        del backend.submit, backend.effective_n_jobs
