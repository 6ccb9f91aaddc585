"""The public implementation on the very same weights, run in turns with ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nnprune
import numpy as np

from paper.results import Cells
from paper.settings import PaperModel, Settings
from paper.workbench import Workbench, open_workbench

__all__ = ["ENVIRONMENT", "available", "measure_peer"]

_ROOT = Path(__file__).resolve().parents[2]
_DRIVER = _ROOT / "benches" / "peer"
_WORK = _ROOT / "build" / "paper-peer"

ENVIRONMENT = Path(os.environ.get("NNPRUNE_PEER", _ROOT / ".venv-peer")) / "bin" / "python"
"""What runs it; `benches/peer/make_environment.sh` makes it, in `.venv-peer` or elsewhere."""


def available() -> bool:
    """Whether the public implementation can be run here."""
    return ENVIRONMENT.is_file() and (_DRIVER / "run_peer.py").is_file()


def measure_peer(model: PaperModel, settings: Settings, cells: Cells) -> None:
    """Run both in turns on one model of the main paper, each run with a seed of its own."""
    if model.name not in settings.peer_models or not available():
        return
    bench = open_workbench(model, settings)
    for repeat in range(settings.peer_repeats):
        # Nothing keeps the answer of a run that was cut off but the limit that cut it.
        limit = settings.peer_repeat_limit_seconds if repeat else settings.peer_limit_seconds
        given = bench.given | {
            "step": str(model.step),
            "targets": settings.peer_targets,
            "limit": limit,
        }
        cells.measure(
            f"{model.name}/{repeat}",
            given,
            lambda repeat=repeat, limit=limit: _in_turns(  # type: ignore[misc]
                bench, model, settings.peer_targets, repeat, limit
            ),
        )


def _in_turns(
    bench: Workbench, model: PaperModel, targets: tuple[float, ...], seed: int, limit: float
) -> dict[str, Any]:
    """Prune with the public implementation, then with ours, and measure both."""
    theirs = _theirs(bench, model, targets, seed, limit)
    return {"theirs": theirs, "ours": [_ours(bench, model, target, seed) for target in targets]}


def _ours(bench: Workbench, model: PaperModel, target: float, seed: int) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = bench.prune(nnprune.Annealing(), step=model.step, target=target, seed=seed)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    removed = bench.removed(target)
    bench.replay(result.merges, removed)
    once = bench.prune(nnprune.OneShot(), step=model.step, target=target)
    found = {
        "target": target,
        "engine_seconds": result.engine_seconds,
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "removed": len(result.merges),
        "measured": bench.measure(),
    }
    bench.replay(once.merges, removed)
    return found | {"one_shot": bench.measure()}


def _theirs(
    bench: Workbench, model: PaperModel, targets: tuple[float, ...], seed: int, limit: float
) -> dict[str, Any]:
    _run([sys.executable, str(_DRIVER / "hand_over.py"), model.name, "--out", str(_WORK)])
    lower, upper = (float(np.min(bench.box[0])), float(np.max(bench.box[1])))
    command = [str(ENVIRONMENT), str(_DRIVER / "run_peer.py"), str(_WORK / f"{model.name}.json")]
    command += ["--step", str(model.step), "--seed", str(seed), "--limit-seconds", str(limit)]
    command += ["--input-interval", str(lower), str(upper)]
    command += ["--targets", *(str(target) for target in targets)]
    printed = _run(command)
    path = Path(printed.splitlines()[0])
    document: dict[str, Any] = json.loads(path.read_text())
    points = []
    for point in document["points"]:
        with np.load(path.parent / point["file"]) as weights:
            bench.take({name: weights[name] for name in weights.files})
        kept = ("target", "epoch", "cpu_seconds", "wall_seconds")
        points.append(
            {key: point[key] for key in kept}
            | {
                "removed": sum(layer["silent"] for layer in point["layers"]),
                "pairs": sum(layer["pairs"] for layer in point["layers"]),
                "measured": bench.measure(),
            }
        )
    told = ("package", "tensorflow", "strategy", "stopped_by", "cpu_seconds", "wall_seconds")
    return {key: document[key] for key in told} | {"points": points}


def _run(command: list[str]) -> str:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return done.stdout
