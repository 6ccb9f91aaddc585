"""The processes of a sweep: killed, interrupted, dying, of other backends, sharing the cores."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from joblib.parallel import ThreadingBackend
from nnprune import parallelism
from nnprune.errors import ConfigError
from nnprune.sweeping import crew
from nnprune.sweeping.record import Cell
from nnprune.sweeping.sweep import sweep
from sweep_helpers import (
    DIGITS,
    child_environment,
    deadly_cell,
    digits_samples,
    tiny_model,
    untimed,
)

SCRIPT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job has it switched off
import sweep_helpers
from nnprune.sweeping import crew
from nnprune.sweeping.sweep import sweep
if {light!r}:
    crew.run_cell = sweep_helpers.deadly_cell
sweep(
    {model!r}, targets=[0.3, 0.6], seeds=range(100, 200), evaluate={data!r}, attacks=[], jobs=2,
    journal={journal!r},
)
"""


@contextlib.contextmanager
def running_sweep(folder: Path, *, light: bool) -> Iterator[subprocess.Popen[str]]:
    """Run a long sweep in a session of its own; light ones have no model in their workers."""
    x, y = digits_samples(200)
    data, journal = folder / "data.npz", folder / "sweep.jsonl"
    np.savez(data, x=x, y=y)
    script = SCRIPT.format(model=str(DIGITS), data=str(data), journal=str(journal), light=light)
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env=child_environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        wait_for(lambda: journal.exists() and journal.read_bytes().count(b"\n") > 5)
        assert process.poll() is None
        yield process


@pytest.mark.skipif(sys.platform != "linux", reason="asks ps for the processes of a session")
def test_a_killed_sweep_goes_on_where_it_was(tmp_path: Path) -> None:
    with running_sweep(tmp_path, light=False) as process:
        process.kill()  # this process alone: its workers must find out
        process.communicate()
    wait_for(lambda: session_is_over(process.pid))
    journal = tmp_path / "sweep.jsonl"
    lines = journal.read_text().splitlines()
    known = {json.loads(line)["cell"] for line in lines[1:]}
    assert len(known) == len(lines) - 1 >= 5

    again: list[Cell] = []
    options: dict[str, Any] = {
        "targets": [0.3],
        "seeds": range(100, 108),
        "evaluate": tmp_path / "data.npz",
        "attacks": [],
        "jobs": 1,
    }
    resumed = sweep(DIGITS, **options, journal=journal, on_cell=again.append)
    assert not {cell.cell for cell in again} & known
    assert {cell.cell for cell in resumed.cells} <= {cell.cell for cell in again} | known
    assert untimed(resumed.cells) == untimed(sweep(DIGITS, **options).cells)


@pytest.mark.skipif(sys.platform != "linux", reason="asks ps for the processes of a session")
def test_ctrl_c_ends_all_processes_and_is_told_once(tmp_path: Path) -> None:
    with running_sweep(tmp_path, light=True) as process:
        os.killpg(process.pid, signal.SIGINT)  # all of them, as a terminal does
        sent = time.monotonic()
        _, errors = process.communicate(timeout=20)
        assert time.monotonic() - sent < 10
    assert process.returncode != 0
    assert errors.count("Traceback") == errors.count("KeyboardInterrupt\n") == 1
    wait_for(lambda: session_is_over(process.pid))
    journal = (tmp_path / "sweep.jsonl").read_text()
    assert journal.endswith("\n")
    assert all(json.loads(line) for line in journal.splitlines())


def wait_for(condition: Any, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def session_is_over(leader: int) -> bool:
    found = subprocess.run(
        ["ps", "-o", "pid=", "-s", str(leader)], capture_output=True, check=False
    )
    return not found.stdout.strip()


@pytest.mark.skipif(os.name == "nt", reason="sends SIGKILL")
def test_a_cell_that_kills_its_process_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "run_cell", deadly_cell)
    found = sweep(tiny_model(), targets=[0.5], seeds=[*range(3), 13, *range(20, 26)], jobs=2)
    [failed] = found.failed
    assert failed.seed == 13
    assert "process died" in str(failed.error)
    assert "TerminatedWorkerError" in str(failed.error)
    assert len(found.cells) == 11


def test_an_error_of_on_cell_ends_the_sweep_and_keeps_the_journal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(crew, "run_cell", deadly_cell)
    journal = tmp_path / "sweep.jsonl"

    def enough(cell: Cell) -> None:
        raise RuntimeError("enough")

    options: dict[str, Any] = {"targets": [0.5], "seeds": range(6), "journal": journal}
    for jobs, lines in ((1, 2), (2, 3)):
        with pytest.raises(RuntimeError, match="enough"):
            sweep(tiny_model(), **options, jobs=jobs, on_cell=enough)
        assert len(journal.read_text().splitlines()) == lines
    assert len(sweep(tiny_model(), **options, jobs=1).cells) == 7


class InRounds(ThreadingBackend):  # type: ignore[misc]
    """A backend that tells nothing before all is done, as that of Ray."""

    supports_retrieve_callback = False


def test_a_backend_without_news_works_in_rounds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(crew, "run_cell", deadly_cell)
    joblib.register_parallel_backend("in-rounds", InRounds)
    journal, lines = tmp_path / "sweep.jsonl", list[int]()

    def count(cell: Cell) -> None:
        lines.append(journal.read_text().count("\n"))

    with joblib.parallel_config(backend="in-rounds", n_jobs=2):
        found = sweep(tiny_model(), targets=[0.5], seeds=range(9), journal=journal, on_cell=count)
    assert len(found.cells) == 10
    assert lines == list(range(2, 12))


def test_a_backend_that_copies_processes_is_refused() -> None:
    with (
        joblib.parallel_config(backend="multiprocessing"),
        pytest.raises(ConfigError, match="loky"),
    ):
        sweep(tiny_model(), targets=[0.5], jobs=2)


def test_cores_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    from sweep_helpers import telling_cell

    monkeypatch.setattr(crew, "run_cell", telling_cell)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", "2")
    monkeypatch.delenv("RAYON_NUM_THREADS", raising=False)
    before = dict(os.environ)
    found = sweep(tiny_model(), targets=[0.5], jobs=2)
    told = {
        "RAYON_NUM_THREADS": "3",
        "TF_NUM_INTRAOP_THREADS": "3",
        "TF_NUM_INTEROP_THREADS": "2",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "OMP_NUM_THREADS": "3",
    }
    assert [json.loads(str(cell.error)) for cell in found.cells] == [told, told]
    sweep(tiny_model(), targets=[0.5], jobs=1)
    assert dict(os.environ) == before


def test_threads_asked_for_are_shared_out_whatever_the_variables_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sweep_helpers import telling_cell

    monkeypatch.setattr(crew, "run_cell", telling_cell)
    monkeypatch.setattr(parallelism, "_asked", 7)
    for name in (*parallelism.VARIABLES, "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "5")
    before = dict(os.environ)
    found = sweep(tiny_model(), targets=[0.5], jobs=2)
    told = dict.fromkeys((*parallelism.VARIABLES, "OMP_NUM_THREADS"), "3")
    told["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    assert [json.loads(str(cell.error)) for cell in found.cells] == [told, told]
    assert dict(os.environ) == before


def test_there_are_no_more_jobs_than_threads_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallelism, "_asked", 1)
    assert (crew.crew_of(None).workers, crew.crew_of(None).threads) == (1, 1)
    with pytest.raises(ConfigError, match=r"^jobs: 2 cells at a time need a thread each, but 1 "):
        crew.crew_of(2)
    monkeypatch.setattr(parallelism, "_asked", 5)
    assert (crew.crew_of(2).workers, crew.crew_of(2).threads) == (2, 2)
    monkeypatch.setattr(parallelism, "_asked", None)
    assert crew.crew_of(2).threads is None
