"""Sweeps on a Dask cluster of real processes: a scheduler and two workers on loopback."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import nnprune
import numpy as np
import pytest
from nnprune.sweeping import crew
from nnprune.sweeping.record import Cell
from nnprune.sweeping.sweep import sweep
from sweep_helpers import DIGITS, child_environment, deadly_cell, digits_samples, untimed

distributed = pytest.importorskip("distributed", reason="needs the package distributed")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends SIGKILL")


class Cluster:
    """A scheduler and workers, each a process of its own, without nannies: killed is killed."""

    def __init__(self, folder: Path, *, allowed_failures: int = 3) -> None:
        self._environment = {
            **child_environment(),  # for deadly_cell
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(allowed_failures),
        }
        self._folder = folder
        self._file = folder / "scheduler.json"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._start("scheduler", "--port", "0", "--scheduler-file", str(self._file))
        self._wait_for(self._file.exists)
        self.client = distributed.Client(scheduler_file=str(self._file), timeout=30)

    def add_workers(self, count: int) -> None:
        for _ in range(count):
            arguments = ["--no-nanny", "--nthreads", "1", "--local-directory", str(self._folder)]
            self._start("worker", "--scheduler-file", str(self._file), *arguments)
        self.client.wait_for_workers(len(self._processes) - 1, timeout=60)

    def pids(self) -> dict[str, int]:
        """Return the workers' process numbers by their addresses."""
        found: dict[str, int] = self.client.run(os.getpid)
        return found

    def kill_a_busy_worker(self, pids: dict[str, int]) -> None:
        busy = [address for address, tasks in self.client.processing().items() if tasks]
        os.kill(pids[busy[0]], signal.SIGKILL)

    def close(self) -> None:
        self.client.close()
        for process in self._processes:
            process.kill()
            process.wait()

    def _start(self, role: str, *arguments: str) -> None:
        command = [sys.executable, "-m", f"distributed.cli.dask_{role}", "--host", "127.0.0.1"]
        with (self._folder / f"{role}-{len(self._processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "--no-dashboard", *arguments],
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)

    def _wait_for(self, condition: Any) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with contextlib.closing(Cluster(tmp_path)) as made:
        yield made


def test_a_worker_killed_in_the_middle_costs_nothing(cluster: Cluster, tmp_path: Path) -> None:
    x, y = digits_samples(200)
    data = tmp_path / "digits.npz"
    np.savez(data, x=x, y=y)
    options: dict[str, Any] = {
        "targets": [0.3, 0.6],
        "seeds": range(4),
        "evaluate": data,
        "attacks": [nnprune.FGSM(0.05)],
    }
    cluster.add_workers(2)
    pids = cluster.pids()
    assert len(set(pids.values())) == 2
    seen: list[Cell] = []

    def kill_one(cell: Cell) -> None:
        seen.append(cell)
        if len(seen) == 1:
            cluster.kill_a_busy_worker(pids)

    journal = tmp_path / "sweep.jsonl"
    with joblib.parallel_config(backend="dask"):
        there = sweep(DIGITS, **options, journal=journal, on_cell=kill_one)
    assert len(cluster.pids()) == 1
    assert len(seen) == len(there.cells) == 9
    assert not there.failed
    assert len(journal.read_text().splitlines()) == 10
    here = sweep(DIGITS, **options, jobs=1)
    assert untimed(there.cells) == untimed(here.cells)


def test_a_cell_that_kills_its_worker_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "run_cell", deadly_cell)
    with contextlib.closing(Cluster(tmp_path, allowed_failures=0)) as cluster:
        cluster.add_workers(3)
        with joblib.parallel_config(backend="dask"):
            found = sweep(DIGITS, targets=[0.5], seeds=[*range(4), 13, *range(20, 30)])
        assert len(cluster.pids()) == 1
    [failed] = found.failed
    assert failed.seed == 13
    assert "KilledWorker" in str(failed.error)
    assert len(found.cells) == 16
