"""One cell of a sweep: prune, measure, and return a record; in whatever process this runs."""

from __future__ import annotations

import platform
import tempfile
import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnprune._core import __version__
from nnprune.attacks.options import Attack
from nnprune.compensation import Compensation
from nnprune.errors import DataError, ModelError, OutputError
from nnprune.keras_io.fingerprints import model_sha256
from nnprune.keras_io.wording import one_line
from nnprune.result import PruningResult
from nnprune.sweeping.grid import GridPoint
from nnprune.sweeping.processes import Home, settle
from nnprune.sweeping.record import Cell
from nnprune.sweeping.samples import Samples
from nnprune.sweeping.workbench import Workbench, open_workbench

if TYPE_CHECKING:
    import keras

__all__ = ["Job", "Outcome", "failed", "keep_workbench", "keras_file", "run_cell"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """What a process must know of a sweep to do any of its cells.

    Attributes
    ----------
    sweep : str
        Fingerprint of all that follows.
    model : str or uint8 array
        Path of the original, or the contents of its `.keras` file.
    model_sha256 : str
        Fingerprint of the file at that path.
    samples : Samples or None
        Labelled samples.
    data_sha256 : str or None
        Their fingerprint.
    attacks : tuple of Attack
        The attacks to run on every model.
    step, outgoing, compensation, input_bounds, layers, exclude
        Options of `prune`.
    trust : bool
        Whether the file is opened although it could run code.
    keep : bool
        Whether the smaller models themselves are wanted.
    home : Home
        The process that has started the sweep.
    version : str
        The package's version there.
    """

    sweep: str
    model: str | NDArray[np.uint8]
    model_sha256: str
    samples: Samples | None
    data_sha256: str | None
    attacks: tuple[Attack, ...]
    step: float
    outgoing: str
    compensation: Compensation
    input_bounds: Any
    layers: tuple[str, ...] | None
    exclude: tuple[str, ...] | None
    trust: bool
    keep: bool
    home: Home
    version: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What comes back from a cell.

    Attributes
    ----------
    cell : Cell
        The record.
    file : uint8 array or None
        The contents of the model's `.keras` file, where models are kept.
    """

    cell: Cell
    file: NDArray[np.uint8] | None = None


_ANOTHER = (
    "the {} on {} is not that of where the sweep was started; copy it there, or use a shared folder"
)

# Dask runs several threads in a process. One cell takes all cores that the process may use, and
# Keras' naming of layers is one for all threads.
_one_at_a_time = threading.Lock()
_bench: tuple[str, Workbench] | None = None


def run_cell(job: Job, point: GridPoint) -> Outcome:
    """Do one cell; whatever goes wrong becomes a failed record."""
    settle(job.home)
    started = time.perf_counter()
    try:
        with _one_at_a_time:
            bench = _workbench(job)
            started = time.perf_counter()
            return _measured(job, point, bench, started)
    except Exception as error:  # from the model's own layers, the samples, the memory: anything
        return failed(job, point, one_line(error), seconds=time.perf_counter() - started)


def failed(job: Job, point: GridPoint, error: str, *, seconds: float = 0.0) -> Outcome:
    """Make the record of a cell without figures."""
    cell = Cell(
        cell=point.identifier(job.sweep),
        target=point.target,
        seed=point.seed,
        method=point.method,
        status="failed",
        error=error,
        seconds=seconds,
    )
    return Outcome(cell=cell)


def keep_workbench(job: Job, bench: Workbench | None) -> None:
    """Hand this process what it would otherwise open for the job's cells; None takes it away."""
    global _bench
    _bench = None if bench is None else (job.sweep, bench)


def _workbench(job: Job) -> Workbench:
    """Return what all cells of a sweep share; opened once in a process."""
    global _bench
    if _bench is None or _bench[0] != job.sweep:
        _bench = None  # two of them might not fit into memory
        _bench = (job.sweep, _opened(job))
    return _bench[1]


def _opened(job: Job) -> Workbench:
    """Open the model and the samples, and make sure that they are those of the sweep."""
    if job.version != __version__:
        raise ModelError(
            f"nnprune {__version__} on {platform.node()}, {job.version} where the sweep was "
            "started; install the same"
        )
    with tempfile.TemporaryDirectory(prefix="nnprune-") as folder:
        trust, model = job.trust, job.model
        if not isinstance(model, str):
            path = Path(folder) / "model.keras"
            path.write_bytes(model.tobytes())
            trust, model = True, str(path)  # it was alive in the process that has sent it
        data = None if job.samples is None else job.samples.open()
        bench = open_workbench(
            model,
            data=data,
            attacks=job.attacks,
            input_bounds=job.input_bounds,
            trust=trust,
        )
    if isinstance(job.model, str) and bench.opened.sha256 != job.model_sha256:
        raise ModelError(_ANOTHER.format("model", platform.node()))
    sha256 = None if job.samples is None or data is None else job.samples.sha256(data)
    if sha256 != job.data_sha256:
        raise DataError(_ANOTHER.format("data", platform.node()))
    return bench


def _measured(job: Job, point: GridPoint, bench: Workbench, started: float) -> Outcome:
    result = None
    model = bench.opened.model
    if point.method is not None and point.seed is not None:
        result = _pruned(job, point, bench)
        model = result.model
    evaluation = bench.measure(model, original=result is None)
    record = None if result is None else result.record.to_json()
    file = _file(model, record, needed=job.keep and result is not None)
    cell = Cell(
        cell=point.identifier(job.sweep),
        target=point.target,
        seed=point.seed,
        method=point.method,
        status="done",
        engine_seconds=None if result is None else result.engine_seconds,
        parameters=int(model.count_params()),
        macs=bench.macs if result is None else result.after.macs,
        keras_bytes=None if file is None else len(file),
        accuracy=None if evaluation is None else evaluation.accuracy,
        agreement=None if evaluation is None or result is None else evaluation.agreement,
        robust=() if evaluation is None else evaluation.robust,
        impact_width=0.0 if result is None else _impact_width(result),
        stopped_by=None if result is None else result.stopped_by,
        kernel_path=None if result is None else result.kernel_path,
        weights_sha256=model_sha256(model, {}),
        seconds=time.perf_counter() - started,
    )
    return Outcome(cell=cell, file=file if job.keep and result is not None else None)


def _pruned(job: Job, point: GridPoint, bench: Workbench) -> PruningResult:
    from nnprune.pruning.prune import prune

    assert point.seed is not None
    return prune(
        bench.opened.model,
        target=point.target,
        step=job.step,
        method=point.method,
        input_bounds=job.input_bounds,
        layers=job.layers,
        exclude=job.exclude,
        outgoing=job.outgoing,
        compensation=job.compensation,
        seed=point.seed,
    )


def _impact_width(result: PruningResult) -> float | None:
    """Return the widest interval of a logit's change; None if one has no bound."""
    widths = [
        np.max(np.subtract(upper, lower), initial=0.0) for lower, upper in result.impact.values()
    ]
    widest = float(np.max(widths, initial=0.0))
    return widest if np.isfinite(widest) else None


def keras_file(model: keras.Model, record: str | None = None) -> NDArray[np.uint8]:
    """Return the contents of a model's `.keras` file, with the record of its pruning if any.

    Raises
    ------
    OutputError
        The format cannot hold it.
    """
    from nnprune.keras_io.save import save_model

    with tempfile.TemporaryDirectory(prefix="nnprune-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what reading it back will need
        path = save_model(model, Path(folder) / "model.keras", record=record)
        return np.frombuffer(path.read_bytes(), np.uint8)


def _file(model: keras.Model, record: str | None, *, needed: bool) -> NDArray[np.uint8] | None:
    """Return the contents of the file; None if the model cannot be saved, and need not be."""
    try:
        return keras_file(model, record)
    except OutputError:
        if needed:
            raise
        return None
