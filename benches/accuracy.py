"""Accuracy at 50, 70 and 80 % pruned: annealing, greedy and one-shot side by side.

A model kept in benches/models (by default the paper's MNIST model, 784-128-128-64-10) is pruned
without data; the test images are only used to report. Run it from the repository's root:

    python benches/accuracy.py [--model mnist] [--seeds 10] [--step 1/64] [--json]
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

FOLDER = Path(__file__).parent / "models"
DATA = {"mnist": "mnist", "fashion_batchnorm": "fashion_mnist", "cifar10": "cifar10"}
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
    parser.add_argument("--model", choices=DATA, default="mnist")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--step", type=Fraction, default=Fraction(1, 64))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    data = datasets.load(DATA[options.model])
    images, labels = data.x_test, data.y_test
    original = keras.saving.load_model(FOLDER / f"{options.model}.keras")
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
        report = {
            "model": options.model,
            "original": base,
            "step": float(options.step),
            "rows": rows,
        }
        print(json.dumps(report, indent=2))
    else:
        print(
            f"{options.model}: original {base:.4f}; median [least, most] over {options.seeds} seeds"
        )


if __name__ == "__main__":
    main()
