"""Accuracy on MNIST at 50, 70 and 80 % pruned: annealing, greedy and one-shot side by side.

The paper's MNIST model (784-128-128-64-10), kept in benches/models, is pruned without data;
the 10,000 test images are only used to report. Run it from the repository's root:

    python benches/accuracy.py [--seeds 10] [--step 1/64] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent / "models"))

import datasets
import keras
import nnprune
import numpy as np

MODEL = Path(__file__).parent / "models" / "mnist.keras"
TARGETS = (0.5, 0.7, 0.8)
METHODS: dict[str, nnprune.options.Method] = {
    "annealing": nnprune.Annealing(),
    "annealing, energy as printed": nnprune.Annealing(normalization="none", pool=1),
    "greedy": nnprune.Greedy(),
    "one-shot": nnprune.OneShot(),
}


def accuracy(model: keras.Model, images: Any, labels: Any) -> float:
    """Return the fraction of images classified correctly."""
    predicted = np.argmax(model.predict(images, batch_size=1000, verbose=0), axis=-1)
    return float(np.mean(predicted == labels))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--step", type=Fraction, default=Fraction(1, 64))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    data = datasets.load("mnist")
    images, labels = data.x_test, data.y_test
    original = keras.saving.load_model(MODEL)
    images = images.reshape(len(images), *original.input_shape[1:])
    base = accuracy(original, images, labels)
    rows = []
    for name, method in METHODS.items():
        for target in TARGETS:
            seeds = range(options.seeds if "annealing" in name else 1)
            results = [
                nnprune.prune(
                    original, target=target, step=float(options.step), method=method, seed=seed
                )
                for seed in seeds
            ]
            found = [accuracy(result.model, images, labels) for result in results]
            rows.append(
                {
                    "method": name,
                    "target": target,
                    "accuracies": found,
                    "median": statistics.median(found),
                    "engine_seconds": [result.engine_seconds for result in results],
                }
            )
            if not options.json:
                spread = f"[{min(found):.4f}, {max(found):.4f}]" if len(found) > 1 else ""
                print(f"{name:<30}{target:>5.0%}{rows[-1]['median']:>9.4f}  {spread}", flush=True)
    if options.json:
        report = {"original": base, "step": float(options.step), "rows": rows}
        print(json.dumps(report, indent=2))
    else:
        print(f"original {base:.4f}; median [least, most] over {options.seeds} seeds")


if __name__ == "__main__":
    main()
