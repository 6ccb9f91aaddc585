"""Sweeps of a real model: what is recorded, what a failing or resumed one does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import nnprune
import numpy as np
import pytest
from nnprune.errors import ConfigError, DataError, ModelError, NothingToPruneError, OutputError
from nnprune.keras_io.fingerprints import model_sha256
from nnprune.sweeping import cell as cell_module
from nnprune.sweeping import crew
from nnprune.sweeping.record import Cell
from nnprune.sweeping.result import SweepResult
from nnprune.sweeping.sweep import sweep
from sweep_helpers import DIGITS, digits_samples, tiny_model, untimed

GRID: dict[str, Any] = {
    "targets": (0.3, 0.6),
    "seeds": (0, 1),
    "methods": (nnprune.Annealing(), nnprune.Greedy(pool=2)),
}
ATTACKS = (nnprune.FGSM((0.01, 0.05)), nnprune.PGD(0.05, steps=2))


@pytest.fixture(scope="module")
def samples() -> Any:
    return digits_samples(200)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture(scope="module")
def done(samples: Any, folder: Path) -> SweepResult:
    """Return a sweep that this process has done, with its journal and its models."""
    return sweep(
        DIGITS,
        **GRID,
        evaluate=samples,
        attacks=ATTACKS,
        journal=folder / "sweep.jsonl",
        keep_models=folder / "models",
        jobs=1,
    )


def test_every_cell_of_the_grid_is_there_once_in_order(done: SweepResult) -> None:
    original, *cells = done.cells
    assert original.label == "original"
    assert [(cell.method, cell.target, cell.seed) for cell in cells] == [
        (method, target, seed)
        for method in GRID["methods"]
        for target in GRID["targets"]
        for seed in GRID["seeds"]
    ]
    assert len({cell.cell for cell in done.cells}) == 9
    assert not done.failed


def test_a_cell_is_what_prune_and_evaluate_find(
    done: SweepResult, samples: Any, folder: Path
) -> None:
    x, y = samples
    for cell in (done.cells[0], done.cells[4]):
        pruned = DIGITS
        if cell.method is not None:
            result = nnprune.prune(
                DIGITS, target=cell.target, seed=int(cell.seed or 0), method=cell.method
            )
            assert cell.weights_sha256 == model_sha256(result.model, {})
            assert cell.macs == result.after.macs
            assert cell.stopped_by == result.stopped_by == "target"
            lower, upper = next(iter(result.impact.values()))
            assert cell.impact_width == max(np.subtract(upper, lower))
            assert cell.model is not None
            pruned = folder / "models" / cell.model
            assert cell.keras_bytes == pruned.stat().st_size
        found = nnprune.evaluate(pruned, x, y, original=DIGITS, attacks=ATTACKS).models[-1]
        assert cell.parameters == found["size"]["parameters"]
        assert cell.accuracy is not None
        assert cell.accuracy.to_dict() == found["quality"]["accuracy"]
        assert (cell.agreement is None) == (cell.method is None)
        if cell.agreement is not None:
            assert cell.agreement.to_dict() == found["quality"]["agreement"]
        assert [(one.attack, one.epsilon, one.instances.to_dict()) for one in cell.robust] == [
            (outcome["attack"], point["epsilon"], point["white_box"])
            for outcome in found["robustness"]
            for point in outcome["points"]
        ]


def test_two_processes_and_a_model_in_memory_find_the_same(done: SweepResult, samples: Any) -> None:
    model = keras.saving.load_model(DIGITS)
    there = sweep(model, **GRID, evaluate=samples, attacks=ATTACKS, jobs=2)

    def anonymous(cells: tuple[Cell, ...]) -> list[dict[str, Any]]:
        # Only the models' fingerprints differ: of a file, and of weights and configuration.
        return [{**record, "cell": None, "model": None} for record in untimed(cells)]

    assert anonymous(there.cells) == anonymous(done.cells)
    assert there.parts["model"] != done.parts["model"]


def test_a_finished_sweep_is_not_done_again(done: SweepResult, samples: Any, folder: Path) -> None:
    journal = folder / "sweep.jsonl"
    before = journal.read_bytes()
    again: list[Cell] = []
    found = sweep(
        DIGITS,
        **GRID,
        evaluate=samples,
        attacks=ATTACKS,
        journal=journal,
        keep_models=folder / "models",
        on_cell=again.append,
        jobs=1,
    )
    assert found == done
    assert again == []
    assert journal.read_bytes() == before


def test_a_model_that_is_gone_is_made_again(done: SweepResult, samples: Any, folder: Path) -> None:
    missing = folder / "models" / str(done.cells[3].model)
    missing.unlink()
    again: list[Cell] = []
    found = sweep(
        DIGITS,
        **GRID,
        evaluate=samples,
        attacks=ATTACKS,
        journal=folder / "sweep.jsonl",
        keep_models=folder / "models",
        on_cell=again.append,
        jobs=1,
    )
    assert untimed(found.cells) == untimed(done.cells)
    assert [cell.cell for cell in again] == [done.cells[3].cell]
    assert missing.exists()


def test_a_cell_that_fails_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prune = nnprune.prune

    def failing(*arguments: Any, **options: Any) -> Any:
        if options["seed"] == 1:
            raise MemoryError("no room\nfor this")
        return prune(*arguments, **options)

    options: dict[str, Any] = {
        "targets": [0.5],
        "seeds": [0, 1, 2],
        "journal": tmp_path / "sweep.jsonl",
        "jobs": 1,
    }
    monkeypatch.setattr("nnprune.pruning.prune.prune", failing)
    model = tiny_model()
    first = sweep(model, **options)
    assert [cell.status for cell in first.cells] == ["done", "done", "failed", "done"]
    [failed] = first.failed
    assert failed.error == "MemoryError: no room for this"
    assert failed.parameters is None
    assert "! annealing, target 0.5, seed 1: MemoryError: no room for this" in first.table()
    assert failed.cell not in {cell.cell for cell in first.front()}

    monkeypatch.undo()
    seen: list[Cell] = []
    assert sweep(model, **options, on_cell=seen.append) == first
    assert seen == []
    repaired = sweep(model, **options, on_cell=seen.append, retry_failed=True)
    assert [cell.seed for cell in seen] == [1]
    assert not repaired.failed
    assert sweep(model, **options) == repaired


def test_without_samples_the_front_is_of_size_and_impact() -> None:
    found = sweep(tiny_model(), targets=[0.25, 0.5, 0.75], seeds=[0, 1], jobs=1)
    assert all(cell.accuracy is None and cell.robust == () for cell in found.cells)
    widths = [cell.impact_width for cell in found.cells]
    assert widths[0] == 0.0
    assert all(width is not None and width > 0.0 for width in widths[1:])
    assert found.cells[0] in found.front()
    assert "impact" in found.table()
    assert "accuracy" not in found.table().splitlines()[0]


def test_a_larger_grid_goes_on_from_a_smaller_one(tmp_path: Path) -> None:
    journal = tmp_path / "sweep.jsonl"
    small = sweep(tiny_model(), targets=[0.5], seeds=[0, 1], journal=journal, jobs=1)
    seen: list[Cell] = []
    large = sweep(
        tiny_model(),
        targets=[0.5, 0.25],
        seeds=[1, 2],
        methods=[nnprune.OneShot(), nnprune.Annealing()],
        journal=journal,
        on_cell=seen.append,
        jobs=1,
    )
    assert len(seen) == 7
    assert set(large.cells) - set(seen) == {small.cells[0], small.cells[2]}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"targets": [0.25]}, []),
        ({"step": 1 / 16}, ["step", "0.03125", "0.0625"]),
        ({"outgoing": "mean_abs"}, ["outgoing", "l2", "mean_abs"]),
        ({"exclude": ["second"]}, ["exclude", "null", "second"]),
        ({"input_bounds": (0.0, 2.0)}, ["input_box", "default", "given"]),
        ({"model": 1}, ["another model"]),
        ({"evaluate": (np.zeros((4, 6)), [0, 1, 2, 0])}, ["data", "attacks"]),
    ],
)
def test_the_journal_of_another_sweep_is_refused(
    options: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    journal = tmp_path / "sweep.jsonl"
    sweep(tiny_model(), targets=[0.5], journal=journal, jobs=1)
    before = journal.read_bytes()
    given = {"targets": [0.5], **options}
    model = tiny_model(given.pop("model", 0))
    if not words:
        sweep(model, **given, journal=journal, jobs=1)
        return
    with pytest.raises(ConfigError, match="another sweep") as caught:
        sweep(model, **given, journal=journal, jobs=1)
    assert all(word in str(caught.value) for word in [str(journal), *words])
    assert journal.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"targets": []}, ConfigError, "targets: expected at least one"),
        ({"targets": 0.5}, ConfigError, "targets: expected a list"),
        ({"targets": [0.5, 0.5]}, ConfigError, "targets: 0.5 is there twice"),
        ({"targets": [0.5, 1.0]}, ConfigError, "target"),
        ({"targets": [0.5, "many"]}, ConfigError, "target"),
        ({"targets": [0.01]}, NothingToPruneError, "target 0.01"),
        ({"seeds": []}, ConfigError, "seeds"),
        ({"seeds": [0, 1, 0]}, ConfigError, "seeds: 0 is there twice"),
        ({"seeds": [-1]}, ConfigError, "seed"),
        ({"methods": nnprune.Greedy()}, ConfigError, "methods: expected a list"),
        ({"methods": ["greedy"]}, ConfigError, "method"),
        ({"methods": [nnprune.Greedy(), nnprune.Greedy()]}, ConfigError, "twice"),
        ({"step": 0.0}, ConfigError, "step"),
        ({"outgoing": "l3"}, ConfigError, "outgoing"),
        ({"layers": ["third"]}, ConfigError, "third"),
        ({"jobs": 0}, ConfigError, "jobs"),
        ({"jobs": True}, ConfigError, "jobs"),
        ({"attacks": [nnprune.FGSM(0.1)]}, ConfigError, "attacks"),
        ({"scale": 0.5}, ConfigError, "scale"),
        ({"evaluate": "no.npz"}, DataError, "no.npz"),
        ({"evaluate": iter([])}, DataError, "other processes"),
        ({"evaluate": (np.zeros((4, 5)), np.zeros(4, int))}, DataError, "5"),
        ({"input_bounds": (1.0, 0.0)}, ConfigError, "lower"),
    ],
)
def test_wrong_options_are_told_before_any_work(
    options: dict[str, Any], error: type[Exception], words: str, tmp_path: Path
) -> None:
    journal = tmp_path / "sweep.jsonl"
    with pytest.raises(error, match=words):
        sweep(tiny_model(), **{"targets": [0.5], "journal": journal, "jobs": 1, **options})
    assert not journal.exists()


def test_only_classifiers_are_measured() -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)])
    model.compile(loss="mse")
    with pytest.raises(ModelError, match="classifiers"):
        sweep(model, targets=[0.5], evaluate=(np.zeros((2, 3)), np.zeros(2)), jobs=1)
    assert len(sweep(model, targets=[0.5], jobs=1).cells) == 2


def test_outputs_that_cannot_be_written_are_told_before_any_work(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    for name in ("journal", "keep_models"):
        place = {name: taken / "inside"}
        with pytest.raises(OutputError, match="inside"):
            sweep(tiny_model(), targets=[0.5], jobs=1, **place)  # type: ignore[arg-type]
    with pytest.raises(OutputError, match=r"taken: cannot be made a folder \(File exists\)"):
        sweep(tiny_model(), targets=[0.5], jobs=1, keep_models=taken)


def test_a_worker_with_another_file_or_version_says_so(
    done: SweepResult, samples: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Any] = []

    def noted(job: Any, point: Any) -> Any:
        jobs.append(job)
        return cell_module.run_cell(job, point)

    monkeypatch.setattr(crew, "run_cell", noted)
    data = folder / "moving.npz"
    np.savez(data, x=samples[0], y=samples[1])
    sweep(DIGITS, targets=[0.5], evaluate=data, attacks=[], jobs=1)
    job = jobs[0]
    point = done.cells[1].point
    assert cell_module.run_cell(job, point).cell.done
    cell_module.keep_workbench(job, None)
    np.savez(data, x=samples[0][:50], y=samples[1][:50])
    found = cell_module.run_cell(job, point).cell
    assert "the data on" in str(found.error)
    monkeypatch.setattr(cell_module, "__version__", "0.0.1")
    found = cell_module.run_cell(job, point).cell
    assert "0.0.1" in str(found.error)
    assert nnprune.__version__ in str(found.error)


def test_paths_are_read_whatever_the_working_directory(
    samples: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", samples[0][:20])
    np.save(tmp_path / "y.npy", samples[1][:20])
    monkeypatch.chdir(tmp_path)
    found = []
    for data in ("x.npy,y.npy", (Path("x.npy"), "y.npy")):
        seen: list[Any] = []
        monkeypatch.setattr(crew, "run_cell", lambda job, point, seen=seen: seen.append(job))
        with pytest.raises(AttributeError):
            sweep(DIGITS, targets=[0.5], evaluate=data, attacks=[], jobs=1)
        found.append((seen[0].samples.x, seen[0].samples.y))
    assert found == [(str(tmp_path / "x.npy"), str(tmp_path / "y.npy"))] * 2


def test_importing_it_is_cheap() -> None:
    script = (
        "import sys, nnprune.sweeping.sweep, nnprune.sweeping.result, nnprune.cli.sweep\n"
        "heavy = {'keras', 'tensorflow', 'joblib', 'jinja2', 'distributed'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
