"""What the tests of sweeps share: records to compare, and the model that ships in the package."""

from __future__ import annotations

import json
import os
import signal
import time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nnprune.metrics.classification import proportion
from nnprune.sweeping.cell import Job, Outcome, failed
from nnprune.sweeping.grid import GridPoint
from nnprune.sweeping.identity import fingerprint
from nnprune.sweeping.processes import settle
from nnprune.sweeping.record import Cell
from nnprune.trace import RobustInstances
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras

DIGITS = Path(str(resources.files("nnprune") / "demo_files" / "digits.keras"))


def child_environment() -> dict[str, str]:
    """Return the environment of a process that imports from this folder too."""
    known = os.environ.get("PYTHONPATH")
    folders = [str(Path(__file__).parent), *([known] if known else [])]
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.pathsep.join(folders)}


def digits_samples(count: int = 450) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return test images of the digits, and their labels."""
    with np.load(DIGITS.with_name("digits.npz")) as data:
        return data["x_test"][:count].astype(np.float32) / 16, data["y_test"][:count]


def untimed(cells: tuple[Cell, ...]) -> list[dict[str, Any]]:
    """Return records without what differs from run to run."""
    return [
        {name: value for name, value in cell.to_dict().items() if "seconds" not in name}
        for cell in cells
    ]


def deadly_cell(job: Job, point: GridPoint) -> Outcome:
    """Do as `run_cell` without a model; the cell with seed 13 takes its process down."""
    if point.seed == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    cell = Cell(
        cell=point.identifier(job.sweep),
        target=point.target,
        seed=point.seed,
        method=point.method,
        status="done",
        parameters=1,
        seconds=0.1,
    )
    return Outcome(cell=cell)


def telling_cell(job: Job, point: GridPoint) -> Outcome:
    """Say in the record's error how this process shares the cores."""
    settle(job.home)
    names = (
        "RAYON_NUM_THREADS",
        "TF_NUM_INTRAOP_THREADS",
        "TF_NUM_INTEROP_THREADS",
        "TF_FORCE_GPU_ALLOW_GROWTH",
        "OMP_NUM_THREADS",
    )
    return failed(job, point, json.dumps({name: os.environ.get(name) for name in names}))


def tiny_model(seed: int = 0) -> keras.Model:
    """Return a classifier with random weights."""
    import keras  # workers that only die have no use for it

    keras.utils.set_random_seed(seed)
    layers = [
        keras.Input((6,), name="features"),
        keras.layers.Dense(8, activation="relu", name="first"),
        keras.layers.Dense(4, activation="relu", name="second"),
        keras.layers.Dense(3, activation="softmax", name="last"),
    ]
    return keras.Sequential(layers, name="tiny")


PARTS: dict[str, Any] = {
    "nnprune": "0.1.0",
    "model": "0" * 64,
    "data": "1" * 64,
    "scale": None,
    "offset": None,
    "attacks": [{"attack": "FGSM", "kind": "fgsm", "epsilons": [0.05], "parameters": {}}],
    "step": 1 / 32,
    "outgoing": "l2",
    "input_box": {"source": "default", "lower": 0.0, "upper": 1.0, "sha256": "2" * 64},
    "layers": None,
    "exclude": None,
}
ABOUT: dict[str, Any] = {"model": "model.keras", "data": "test.npz", "samples": 20}
SWEEP = fingerprint(PARTS)


def cell_at(point: GridPoint, **figures: Any) -> Cell:
    """Return a record at a place of the grid."""
    values: dict[str, Any] = {"status": "done", "seconds": 0.5, "parameters": 10, **figures}
    return Cell(
        cell=point.identifier(SWEEP),
        target=point.target,
        seed=point.seed,
        method=point.method,
        **values,
    )


def counted(count: int) -> Any:
    """Return a share of 20 samples."""
    return proportion(count, 20)


def measured(point: GridPoint, parameters: int, right: int, *robust: int) -> Cell:
    """Return a record with figures on 20 samples, robust instances for every epsilon."""
    found = tuple(
        RobustInstances(attack="FGSM", epsilon=0.01 * (1 + index), instances=counted(count))
        for index, count in enumerate(robust)
    )
    agreement = None if point.method is None else counted(right)
    return cell_at(
        point,
        parameters=parameters,
        accuracy=counted(right),
        agreement=agreement,
        robust=found,
        impact_width=1.5,
        weights_sha256="3" * 64,
    )
