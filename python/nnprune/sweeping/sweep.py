"""`sweep`: a grid of prunings in parallel, each measured, with a journal that can be resumed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnprune import _core
from nnprune._core import __version__
from nnprune.attacks.options import Attack
from nnprune.compensation import Compensation, compensation_of, compensation_to_dict
from nnprune.errors import OutputError
from nnprune.keras_io.fingerprints import model_sha256
from nnprune.keras_io.save import check_output, write_atomically
from nnprune.keras_io.wording import reason_of, shown_path
from nnprune.options import Method, OneShot, method_to_dict
from nnprune.progress import counter
from nnprune.pruning.checks import method_or_default
from nnprune.pruning.layers import chosen_layers, units_to_remove
from nnprune.supervision import Floors, Supervision
from nnprune.sweeping.cell import Job, Outcome, keep_workbench, keras_file
from nnprune.sweeping.crew import Crew, crew_of
from nnprune.sweeping.grid import ORIGINAL, GridPoint, grid_of
from nnprune.sweeping.identity import (
    attacks_to_dicts,
    box_to_dict,
    fingerprint,
    identity,
)
from nnprune.sweeping.journal import Journal
from nnprune.sweeping.processes import Home
from nnprune.sweeping.record import Cell
from nnprune.sweeping.result import SweepResult
from nnprune.sweeping.samples import samples_of
from nnprune.sweeping.workbench import Workbench, open_workbench

if TYPE_CHECKING:
    import keras

__all__ = ["sweep"]


def sweep(
    model: str | os.PathLike[str] | keras.Model,
    *,
    targets: Iterable[float],
    seeds: Iterable[int] = (0,),
    methods: Iterable[Method] | None = None,
    compensation: str | Compensation = "sum",
    evaluate: Any = None,
    scale: float | None = None,
    offset: float | None = None,
    attacks: Sequence[Attack] | None = None,
    step: float = 1 / 32,
    input_bounds: tuple[ArrayLike, ArrayLike] | Mapping[str, Any] | Sequence[Any] | None = None,
    layers: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    outgoing: str = "l2",
    journal: str | os.PathLike[str] | None = None,
    retry_failed: bool = False,
    keep_models: str | os.PathLike[str] | None = None,
    jobs: int | None = None,
    trust: bool = False,
    progress: bool = False,
    on_cell: Callable[[Cell], None] | None = None,
) -> SweepResult:
    """Prune a model with every target, seed and method, in parallel, and measure each result.

    Parameters
    ----------
    model : path-like or keras.Model
        As for `prune`. A path must be good on every machine that works; a live model is sent there.
    targets : iterable of float
        Fractions of each layer's units to remove.
    seeds : iterable of int, default (0,)
        Seeds of the random stream.
    methods : iterable of Annealing, Greedy, OneShot or Elimination, optional
        How pairs, or with least squares units, are chosen; by default the one that `prune` takes.
    compensation : {"sum", "scaled", "least_squares"}, Sum, Scaled or LeastSquares, default "sum"
        As for `prune`, the same for all cells.
    evaluate : path, pair or mapping, optional
        Labelled samples: the path of an `.npz` file or of a folder of images, which must be good
        on every machine that works, or a pair `(x, y)` of arrays, which are sent with every cell
        (large ones are better given as a file). Without samples only sizes and bounds of the
        impact are recorded.
    scale, offset : float, optional
        What `x` is multiplied by, and what is added then; 1/255 for images of bytes.
    attacks : sequence of FGSM, PGD, AutoPGD or Square, optional
        The attacks on every model; by default `FGSM((0.01, 0.05))`.
    step, input_bounds, layers, exclude, outgoing
        As for `prune`, the same for all cells.
    journal : path-like, optional
        A file of JSON lines to which every cell is appended as it is done. If it is there, it must
        be of this model, samples and options: its cells are not done again, so that a sweep that
        was killed goes on where it was, and a larger grid adds to a smaller one.
    retry_failed : bool, default False
        Also do those cells again that the journal has as failed.
    keep_models : path-like, optional
        A folder for the smaller models, `METHOD-TARGET-SEED-ID.keras`; made if it is not there.
    jobs : int, optional
        Cells at a time; 1 does them in this process. By default as many as there are cores, or as
        `joblib.parallel_config` says.
    trust : bool, default False
        Open the file although it could run code: only for files whose author you trust.
    progress : bool, default False
        Show a progress bar on standard error if that is a terminal.
    on_cell : callable, optional
        Called with every `Cell` as it comes, after it is in the journal. If it raises, the sweep
        ends with that error.

    Returns
    -------
    SweepResult
        All cells in the order of the grid, the original first.

    Raises
    ------
    ConfigError
        An option is out of range, the grid is empty or has an entry twice, a target is too small
        to remove a unit, or the journal is of another sweep; before any work.
    OutputError
        The journal or a model cannot be written, or another sweep uses the journal.
    DataError, ModelError, FileFormatError, UntrustedModelError, BackendError, MissingExtraError
        As by `prune`; before any work.

    Notes
    -----
    Cells are run by joblib: in processes of this machine by default, and elsewhere if the call is
    made within `joblib.parallel_config(backend="dask")` or with Ray's backend, where they come in
    rounds of two a worker.

    Each local process gets its share of the cores, for the engine (RAYON_NUM_THREADS) and for
    TensorFlow (TF_NUM_INTRAOP_THREADS, TF_NUM_INTEROP_THREADS) as joblib does it for OpenMP:
    cores divided by `jobs`, or `inner_max_num_threads` of `joblib.parallel_config`; variables that
    are set already are left alone. What `nnprune.set_threads` was told, or `--threads`, is for all
    of them together, and shared out instead of the cores. A Dask worker uses as many threads as it
    was started with, for one cell at a time.

    A cell that fails is recorded with its error and does not stop the others. Where a local
    process dies, the cells that were under way are done again one by one, and a cell whose
    process then dies twice more has failed.

    The records are the same whatever the number of jobs, but for the times. Keras' backend may
    add in another order on another number of threads or another processor, which at worst changes
    a sample at the edge of a decision.
    """
    rule = compensation_of(compensation)
    chosen_methods = (method_or_default(None, rule),) if methods is None else methods
    points = grid_of(
        targets, seeds, chosen_methods, step=step, outgoing=outgoing, compensation=rule
    )
    crew = crew_of(jobs)
    if journal is not None:
        check_output(journal, overwrite=True, suffixes=None)
    samples = samples_of(evaluate, scale=scale, offset=offset)
    data = None if samples is None else samples.open()
    supervision = Supervision.asked_for(data, attacks, Floors())
    chosen_attacks = () if supervision is None else supervision.attacks
    bench = open_workbench(
        model, data=data, attacks=chosen_attacks, input_bounds=input_bounds, trust=trust
    )
    chosen = chosen_layers(bench.opened.graph.network, layers, exclude)
    _check_targets(bench, chosen, {point.target for point in points})
    folder = None if keep_models is None else _folder(keep_models)
    parts = identity(
        model=bench.opened.sha256 or _live_sha256(bench),
        data=None if samples is None or data is None else samples.sha256(data),
        scale=scale,
        offset=offset,
        attacks=attacks_to_dicts(bench.attacks),
        step=step,
        outgoing=outgoing,
        compensation=compensation_to_dict(rule),
        input_box=box_to_dict(bench.box),
        layers=layers,
        exclude=exclude,
    )
    job = Job(
        sweep=fingerprint(parts),
        model=_portable(bench, crew),
        model_sha256=parts["model"],
        samples=samples,
        data_sha256=parts["data"],
        attacks=chosen_attacks,
        step=step,
        outgoing=outgoing,
        compensation=rule,
        input_bounds=None if input_bounds is None else _ends(bench),
        layers=None if layers is None else tuple(layers),
        exclude=None if exclude is None else tuple(exclude),
        trust=trust,
        keep=folder is not None,
        home=Home(threads=crew.threads),
        version=__version__,
    )
    about = _about(bench)
    keep_workbench(job, bench if crew.here else None)
    del bench  # other processes open their own
    try:
        with closing(Journal(journal, parts, about)) as kept:
            wanted = _Wanted(folder=folder, again=retry_failed, on_cell=on_cell, progress=progress)
            cells = _done(job, crew, (ORIGINAL, *points), kept, wanted)
    finally:
        keep_workbench(job, None)
    return SweepResult(cells=cells, parts=parts, about=about)


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """What is to be done with cells besides doing them; see `sweep`."""

    folder: Path | None
    again: bool
    on_cell: Callable[[Cell], None] | None
    progress: bool


def _done(
    job: Job, crew: Crew, grid: Sequence[GridPoint], journal: Journal, wanted: _Wanted
) -> tuple[Cell, ...]:
    """Do what the journal does not have yet, and return all cells of the grid."""
    names = {point: point.identifier(job.sweep) for point in grid}
    todo = [point for point in grid if _to_do(journal.cells.get(names[point]), wanted)]
    with (
        counter("sweeping", total=len(todo), unit="cells", progress=wanted.progress) as tell,
        closing(crew.run(job, todo)) as outcomes,
    ):
        for outcome in outcomes:
            cell = _stored(outcome, wanted.folder)
            journal.append(cell)
            tell(1)
            if wanted.on_cell is not None:
                wanted.on_cell(cell)
    return tuple(journal.cells[name] for name in names.values())


def _check_targets(bench: Workbench, chosen: Sequence[str], targets: set[float]) -> None:
    """Make sure that every target removes something."""
    for target in sorted(targets):
        if not units_to_remove(bench.opened, chosen, target):
            # The core says why, be it the target or the layers.
            _core.prune(
                bench.opened.graph.network,
                bench.box.lower,
                bench.box.upper,
                layers=list(chosen),
                target=target,
                step=1.0,
                method=method_to_dict(OneShot()),
                outgoing="l2",
                seed=0,
            )


def _folder(path: str | os.PathLike[str]) -> Path:
    """Make the folder for models, if need be, and find out whether files can be written there."""
    folder = Path(path)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{shown_path(path)}: cannot be made a folder ({reason_of(error)}); give another name"
        ) from error
    check_output(folder / "model.keras", overwrite=True)
    return folder


def _live_sha256(bench: Workbench) -> str:
    from nnprune.keras_io.rebuild import live_config

    return model_sha256(bench.opened.model, live_config(bench.opened.model))


def _portable(bench: Workbench, crew: Crew) -> str | NDArray[np.uint8]:
    """Return where other processes find the model, or what they can make it of."""
    if bench.opened.path is not None:
        return bench.opened.path
    if crew.here:
        return np.empty(0, np.uint8)
    return keras_file(bench.opened.model)


def _ends(bench: Workbench) -> Any:
    """Return the input box as `prune` takes it, in NumPy arrays whatever the user has given."""
    pairs = list(zip(bench.box.lower, bench.box.upper, strict=True))
    return pairs[0] if len(pairs) == 1 else pairs


def _about(bench: Workbench) -> dict[str, Any]:
    """Say what the fingerprints stand for."""
    path = bench.opened.path
    return {
        "model": bench.opened.model.name if path is None else Path(path).name,
        "data": None if bench.data is None else bench.data.source,
        "samples": None if bench.data is None else bench.data.samples,
    }


def _to_do(cell: Cell | None, wanted: _Wanted) -> bool:
    """Whether a cell is to be done: new, or failed and to be tried again, or its model missing."""
    if cell is None:
        return True
    if not cell.done:
        return wanted.again
    if wanted.folder is None or cell.method is None:
        return False
    return not (wanted.folder / _file_name(cell)).exists()


def _stored(outcome: Outcome, folder: Path | None) -> Cell:
    """Write the model to its file, if models are kept, before the journal says that it is there."""
    if folder is None or outcome.file is None:
        return outcome.cell
    name, contents = _file_name(outcome.cell), outcome.file.tobytes()

    def write(temporary: Path) -> None:
        temporary.write_bytes(contents)

    target = check_output(folder / name, overwrite=True)
    write_atomically(target, write, label=shown_path(folder / name), overwrite=True)
    return replace(outcome.cell, model=name)


def _file_name(cell: Cell) -> str:
    assert cell.method is not None
    method = cell.method.name.replace("_", "-")
    return f"{method}-{cell.target:.4g}-{cell.seed}-{cell.cell[:8]}.keras"
