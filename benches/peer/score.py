"""Say what the networks that the public implementation pruned are worth.

Runs in this project's environment, on what run_peer.py wrote. The pruned weights are put into a
copy of the original model (units merged away stay in it, with outgoing weights of zero), and
`nnprune.compare` measures accuracy and robust instances under FGSM on the whole test set:

    python benches/peer/score.py build/peer/mnist-stochastic-s0.json [...] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models"))

import datasets
import keras
import nnprune
import numpy as np

MODELS = Path(__file__).resolve().parents[1] / "models"
EPSILONS = (0.01, 0.05)


def restored(original: keras.Model, path: Path) -> keras.Model:
    """Return a copy of the original with the weights of a file."""
    model = keras.models.clone_model(original)
    with np.load(path) as arrays:
        for layer in model.layers:
            layer.set_weights(
                [arrays[f"{layer.name}/{index}"] for index in range(len(layer.get_weights()))]
            )
    return model


def measured(run: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Measure the original and the network at every point of a run.

    Returns
    -------
    list of dict
        `point` (None for the original), `accuracy`, `agreement` and, for each epsilon, the
        fraction of `robust` instances: right without attack and under it.
    """
    name = run["model"]
    path = MODELS / f"{name}.keras"
    original = keras.saving.load_model(path, compile=False)
    data = datasets.load_for(name)
    with np.load(MODELS / f"{name}_box.npz") as box:
        bounds = {end: box[end] for end in ("lower", "upper")}
    evaluation = nnprune.compare(
        {point["file"]: restored(original, folder / point["file"]) for point in run["points"]},
        data.x_test.reshape(-1, *original.input_shape[1:]),
        data.y_test,
        original=path,
        attacks=[nnprune.FGSM(EPSILONS)],
        input_bounds=bounds,
        task="classification",
    )
    rows = []
    for point, model in zip([None, *run["points"]], evaluation.models, strict=True):
        quality = model["quality"]
        rows.append(
            {
                "point": point,
                "accuracy": quality["accuracy"]["value"],
                "agreement": None if point is None else quality["agreement"]["value"],
                "robust": {
                    str(at["epsilon"]): at["white_box"]["value"]
                    for at in model["robustness"][0]["points"]
                },
            }
        )
    return rows


def told(run: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Return a run's figures as text."""
    lines = [
        f"{run['model']}: {run['package']}, {run['strategy']}, step {run['step']:g}, seed "
        f"{run['seed']}; {run['cpu_seconds']:.1f} s CPU in all, stopped by {run['stopped_by']}"
    ]
    for row in rows:
        point = row["point"]
        label, cost = "original", ""
        if point is not None:
            silent = sum(layer["silent"] for layer in point["layers"])
            units = sum(layer["units"] for layer in point["layers"])
            label = f"{silent}/{units} units"
            cost = f"{point['cpu_seconds']:8.1f} s CPU"
        robust = "  ".join(f"{value:.4f} at {at}" for at, value in row["robust"].items())
        lines.append(f"  {label:<16} accuracy {row['accuracy']:.4f}  robust {robust}{cost}")
    return "\n".join(lines)


def main() -> None:
    """Score the runs named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("runs", type=Path, nargs="+", help="documents that run_peer.py wrote")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report = []
    for path in options.runs:
        run = json.loads(path.read_text())
        rows = measured(run, path.parent)
        report.append({key: run[key] for key in run if key not in ("points", "epochs")})
        report[-1]["points"] = rows
        if not options.json:
            print(told(run, rows), flush=True)
    if options.json:
        print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
