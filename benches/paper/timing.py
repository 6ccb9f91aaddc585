"""RQ2: what 80 % at the slowest pace costs, in elapsed and in CPU time."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nnprune

from paper.results import Cells
from paper.settings import TARGET, PaperModel, Settings
from paper.workbench import FOLDER, Workbench, open_workbench

__all__ = ["measure_timing", "time_command", "time_pruning"]


def measure_timing(model: PaperModel, settings: Settings, cells: Cells) -> None:
    """Time one model: the call in Python, and the whole command from file to file."""
    bench = open_workbench(model, settings)
    given = {"model": bench.sha256, "step": str(model.step), "target": TARGET}
    cells.measure(
        f"{model.name}/call",
        given | {"repeats": settings.timing_repeats},
        lambda: time_pruning(bench, model, settings.timing_repeats),
    )
    cells.measure(
        f"{model.name}/command",
        given | {"repeats": settings.process_repeats},
        lambda: time_command(model, settings.process_repeats),
    )


def time_pruning(bench: Workbench, model: PaperModel, repeats: int) -> dict[str, Any]:
    """Time `nnprune.prune` on a loaded model; the first call, which warms up, is not counted."""
    elapsed, cpu, engine = [], [], []
    for repeat in range(repeats + 1):
        wall, used = time.perf_counter(), time.process_time()
        result = bench.prune(nnprune.Annealing(), step=model.step, target=TARGET, seed=repeat)
        if repeat:
            elapsed.append(time.perf_counter() - wall)
            cpu.append(time.process_time() - used)
            engine.append(result.engine_seconds)
    return {"elapsed": elapsed, "cpu": cpu, "engine": engine, "merges": len(result.merges)}


def time_command(model: PaperModel, repeats: int) -> dict[str, Any]:
    """Time `nnprune prune` as a process of its own, from file to file."""
    elapsed, cpu = [], []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", "from nnprune.cli import main; main()", "prune"]
        command += [str(FOLDER / f"{model.name}.keras"), "-o", str(Path(folder) / "small.keras")]
        command += ["--input-bounds", str(FOLDER / f"{model.name}_box.npz")]
        command += ["--target", str(TARGET), "--step", str(model.step), "--quiet", "--overwrite"]
        for _ in range(repeats):
            wall, used = time.perf_counter(), _children_seconds()
            subprocess.run(command, check=True)
            elapsed.append(time.perf_counter() - wall)
            cpu.append(_children_seconds() - used)
    return {"elapsed": elapsed, "cpu": cpu}


def _children_seconds() -> float:
    """Return the CPU time of all finished child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
