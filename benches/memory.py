"""What Python's loops over samples hold at their peak, as a multiple of the samples' own bytes.

For drawing inputs the samples are what comes back; for evaluation and the polish they are given,
and not counted. TensorFlow's own memory is not seen: only what NumPy and Python allocate.

    python benches/memory.py [--samples 16384]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from nnprune import FGSM, PGD, Polish, evaluate
from nnprune.keras_io.input_box import InputBox
from nnprune.keras_io.opened import OpenedModel, input_box_of, open_model
from nnprune.polishing import polish_model
from nnprune.synthetic.draw import draw
from nnprune.synthetic.sources import (
    DEFAULT,
    BoxNoise,
    ConvexCombinations,
    DeadLeaves,
    FirstLayer,
    GradientFound,
    NearZero,
    SmoothFields,
)

MODEL = Path(__file__).parent / "models" / "mnist.keras"
SOURCES = (
    BoxNoise(),
    NearZero(),
    SmoothFields(),
    DeadLeaves(),
    FirstLayer(),
    ConvexCombinations(source=BoxNoise()),
    GradientFound(steps=1, start=BoxNoise()),
    DEFAULT,
)


def peak(work: Callable[[], Any]) -> int:
    """Return the most bytes that a call holds beyond what was there before."""
    tracemalloc.start()
    try:
        kept = work()
        found = tracemalloc.get_traced_memory()[1]
        del kept
    finally:
        tracemalloc.stop()
    return found


def measured(opened: OpenedModel, box: InputBox, samples: int) -> Iterator[tuple[str, float]]:
    """Give the name and the multiple of every loop."""
    shape = opened.graph.inputs[0].shape
    x = np.random.default_rng(0).random((samples, *shape), dtype=np.float32)
    y = np.zeros(samples, np.int64)
    for source in SOURCES:
        name = "default" if source is DEFAULT else source.name

        def drawn(source: Any = source) -> Any:
            return draw(opened, box, source, samples=samples, seed=0)

        drawn()  # what is made once, is made now
        yield f"draw {name}", peak(drawn) / x.nbytes
    attacks = FGSM((0.01, 0.05)), PGD(0.03, steps=2)

    def evaluated(x: Any = x) -> Any:
        return evaluate(opened.model, x, y, attacks=attacks)

    evaluate(opened.model, x[:256], y[:256], attacks=attacks)
    yield "evaluate arrays in memory", peak(evaluated) / x.nbytes
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "data.npz", x=x, y=y)

        def from_file() -> Any:
            return evaluate(opened.model, Path(folder) / "data.npz", attacks=attacks)

        yield "evaluate an .npz file", peak(from_file) / x.nbytes
    half = samples // 2

    def polished() -> Any:
        return polish_model(
            opened,
            opened.model,
            box,
            x[:half],
            x[half:],
            Polish(epochs=1, learning_rate=1e-9),
            inputs="synthetic",
            seed=0,
            progress=False,
        )

    yield "polish, half held out", peak(polished) / x.nbytes


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=16384)
    options = parser.parse_args()
    opened = open_model(MODEL, trust=False)
    box = input_box_of(opened, None)
    print(f"{MODEL.name}, {options.samples:,} samples; peak / bytes of the samples")
    for name, multiple in measured(opened, box, options.samples):
        print(f"{name:<28}{multiple:6.2f}", flush=True)


if __name__ == "__main__":
    main()
