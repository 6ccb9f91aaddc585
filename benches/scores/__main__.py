"""Which score orders candidates best: accuracy at 25, 50, 70 and 80 % of the units, by strategy.

The models of the papers (`benches/paper/settings.py`) are pruned without data, once to 80 %, and
every share is replayed from that run; the test samples are only used to report. A strategy that
draws nothing gives one result per model, which says little: a unit more or less early changes all
that follows. So every strategy has the same ten runs: run 0 on the model as it is, each other one
with a seed of its own and its decisions taken on a copy whose every weight is off by about one
percent; its merges are then replayed on the model as it is. Of CIFAR-10 only the head is pruned,
and its inputs are computed once. Run it from the repository's root:

    python benches/scores [--models mnist,kdd] [--runs 10] [--samples 5000] [--only interval]
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
sys.path.insert(0, str(Path(__file__).parents[1]))

import keras
import nnprune
import numpy as np
from nnprune.gradients import to_numpy
from numpy.typing import NDArray
from paper.settings import FULL, MODELS, TARGET, PaperModel, model_named
from paper.workbench import Workbench, open_workbench

SHARES = (0.25, 0.5, 0.7, 0.8)
EPSILON = 0.05
SHAKE = 0.01
"""Standard deviation of a weight's relative error in a shaken copy."""

Strategy = tuple[nnprune.options.Method, Literal["absolute", "relative"]]
"""How pairs are chosen, and how biases enter the distance of two units."""

STRATEGIES: Mapping[str, Strategy] = {
    "one-shot, bias as printed": (nnprune.OneShot(), "relative"),
    "saliency, bias as printed": (nnprune.Greedy(pool=1), "relative"),
    "saliency": (nnprune.Greedy(pool=1), "absolute"),
    "greedy, bias as printed": (nnprune.Greedy(), "relative"),
    "greedy": (nnprune.Greedy(), "absolute"),
    "greedy, pool 8": (nnprune.Greedy(pool=8), "absolute"),
    "greedy, every nominee": (nnprune.Greedy(pool=1000), "absolute"),
    "greedy, impact from distances": (nnprune.Greedy(impact="distance"), "absolute"),
    "greedy, impact from moments": (nnprune.Greedy(impact="moment"), "absolute"),
    "annealing to the letter": (
        nnprune.Annealing(normalization="none", density="printed", pool=1, restart="visit"),
        "relative",
    ),
    "annealing, bias as printed": (nnprune.Annealing(), "relative"),
    "annealing (the default)": (nnprune.Annealing(), "absolute"),
}


def shaken(model: keras.Model, seed: int) -> keras.Model:
    """Return a copy of the model whose Dense weights are slightly off; seed 0 leaves them be."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    random = np.random.default_rng(seed)
    for layer in copy.layers if seed else ():
        if isinstance(layer, keras.layers.Dense):
            kernel = to_numpy(layer.kernel)
            error = SHAKE * random.standard_normal(kernel.shape)
            layer.kernel.assign((kernel * (1 + error)).astype(kernel.dtype))
    return copy


def head_of(bench: Workbench) -> Workbench:
    """Return the Dense head of a convolutional model on the bench, its inputs computed once."""
    flatten = next(x for x in bench.model.layers if isinstance(x, keras.layers.Flatten))
    body = keras.Model(bench.model.inputs, flatten.output)
    head = keras.Sequential([keras.Input(flatten.output.shape[1:]), *bench.dense])
    inputs = body.predict(bench.x, batch_size=100, verbose=0)
    return Workbench(head, inputs, bench.y, np.zeros(()), np.full((), np.inf))


def figures(bench: Workbench) -> NDArray[np.float64]:
    """Return in percent what the bench's copy gets right.

    Of all samples, the mean over the classes, and under FGSM (not a number for a head alone).
    """
    if bench.convolutional:
        right = bench.classes(bench.x) == bench.y
        balanced = np.mean([np.mean(right[bench.y == label]) for label in np.unique(bench.y)])
        return 100 * np.array([np.mean(right), balanced, np.nan])
    found = bench.measure((EPSILON,))
    shares = [found["correct"], found["robust"][f"{EPSILON:g}"]]
    right, robust = np.array(shares) / found["samples"]
    return 100 * np.array([right, found["balanced"], robust])


def measured(
    model: PaperModel,
    opened: Workbench,
    bench: Workbench,
    strategy: Strategy,
    runs: int,
) -> NDArray[np.float64]:
    """Prune `runs` times; figures of shape (runs, shares, 3)."""
    rows = []
    method, bias = strategy
    for seed in range(runs):
        result = nnprune.prune(
            shaken(opened.model, seed),
            target=TARGET,
            step=float(model.step),
            method=method,
            bias=bias,
            seed=seed,
            input_bounds=opened.box,
            layers=list(bench.units),
        )
        row = []
        for share in SHARES:
            bench.replay(result.merges, bench.removed(share))
            row.append(figures(bench))
        rows.append(row)
    return np.array(rows)


def table(model: PaperModel, runs: int, samples: int, only: str) -> None:
    """Print one model's table, in Markdown."""
    settings = replace(FULL, samples=samples, convolutional_samples=min(samples, 1000))
    opened = open_workbench(model, settings)
    bench = opened
    if opened.convolutional:
        bench = head_of(opened)
        bench.convolutional = True
    bench.replay((), {})
    right, balanced, robust = figures(bench)
    original = f"original {right:.1f}, balanced {balanced:.1f}, FGSM {robust:.1f}"
    print(f"\n**{model.title}**: {original}; {len(bench.y)} samples\n")
    heads = [*(f"{share:.0%}" for share in SHARES), "mean", "balanced", "FGSM"]
    print(f"| strategy | {' | '.join(heads)} |\n| --- |{' --- |' * len(heads)}")
    for name, strategy in STRATEGIES.items():
        if only in name:
            found = measured(model, opened, bench, strategy, runs)
            cells = [spread(share) for share in found[:, :, 0].T]
            cells += [f"{mean:.1f}" for mean in found.mean(axis=(0, 1))]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


def spread(found: NDArray[np.float64]) -> str:
    """Return the figures of several runs as median [least, most]."""
    return f"{np.median(found):.1f} [{found.min():.1f}, {found.max():.1f}]"


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = ",".join(model.name for model in MODELS)
    parser.add_argument("--models", default=names, help=f"some of {names}")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--only", default="", help="strategies whose name has this in it")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
    print(f"Accuracy in percent, median [least, most] of {options.runs} runs; then means over runs")
    print("and shares: accuracy, its mean over the classes, and what stays correct under FGSM at")
    print(f"epsilon {EPSILON:g} on the pruned model's own gradients.")
    for name in options.models.split(","):
        table(model_named(name), options.runs, options.samples, options.only)


if __name__ == "__main__":
    main()
