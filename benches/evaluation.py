"""What evaluation costs beside the bare forward and gradient calls that it needs.

On the paper's MNIST model (or another one, --model) and 10,000 test images (--samples), in
alternating runs on the same machine:

1. making FGSM inputs for ten epsilons against making them for one;
2. evaluating ten epsilons against one gradient and eleven forward passes;
3. an evaluation (clean, FGSM at two epsilons, PGD-7 at one) against its 4 forward passes and 8
   gradients.

The bare calls are compiled by TensorFlow and read the same batches; only samples that are right
without attack are attacked, which the ratios include. With a GPU (--device GPU) it also prints the
throughput of FGSM and PGD-7 and the peak device memory.

    python benches/evaluation.py [--model mnist|cifar10] [--samples N] [--repeat 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent / "models"))

import datasets
import numpy as np
from nnprune import FGSM, PGD, evaluate
from nnprune.attacks.gradient_sign import Attacker
from nnprune.datasets.expectation import Batch
from nnprune.evaluation.passes import classify
from nnprune.evaluation.subject import Subject
from nnprune.gradients import backend, compiled, devices, vjp
from nnprune.keras_io.load import load_model
from nnprune.keras_io.logits import logits_model
from nnprune.keras_io.scan import look

MODELS = Path(__file__).parent / "models"
BATCH = 256
TEN = tuple(np.linspace(0.01, 0.1, 10))


class Workload:
    """A model, its data in batches, and the bare calls on them."""

    def __init__(self, name: str, samples: int) -> None:
        from keras import ops

        images = datasets.load(name)
        self.path = MODELS / f"{name}.keras"
        model = load_model(look(self.path))
        shape = (-1, *model.input_shape[1:])
        self.x = images.x_test[:samples].reshape(shape)
        self.y = images.y_test[:samples].astype(np.int64)
        self.batches = [
            Batch(self.x[first : first + BATCH], self.y[first : first + BATCH])
            for first in range(0, len(self.x), BATCH)
        ]
        logits = logits_model(model)
        self.subject = Subject(
            logits=logits,
            attacker=Attacker(logits.model, np.zeros(shape[1:]), np.ones(shape[1:])),
        )

        def gradient(x: Any, y: Any) -> Any:
            def cotangent(z: Any) -> Any:
                return ops.softmax(z) - ops.one_hot(y, z.shape[-1], dtype="float32")

            return vjp(logits.model, x, cotangent)[1]

        self._forward = compiled(lambda x: logits.model(x, training=False))
        self._gradient = compiled(gradient)

    def bare(self, forwards: int, gradients: int) -> None:
        """Make the bare calls over all batches, each result brought to NumPy or awaited."""
        from keras import ops

        for x, y in self.batches:
            inputs, labels = ops.convert_to_tensor(x), ops.convert_to_tensor(y, dtype="int32")
            for _ in range(forwards):
                ops.convert_to_numpy(self._forward(inputs))
            for _ in range(gradients):
                result = self._gradient(inputs, labels)
            if gradients:
                np.asarray(ops.convert_to_numpy(result[:1]))

    def make(self, epsilons: tuple[float, ...]) -> None:
        """Make FGSM inputs for all batches."""
        for x, y in self.batches:
            moved = self.subject.attacker.fgsm(x, y, epsilons)
            np.asarray(moved[-1][:1])

    def measure(self, *attacks: Any) -> Any:
        """Evaluate all batches under attacks."""
        return classify(
            {"model": self.subject},
            self.batches,
            original=None,
            attacks=attacks,
            bins=15,
            tell=lambda _: None,
        )["model"]


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Return the wall-clock and the CPU seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def compare(ours: Callable[[], Any], bare: Callable[[], Any], repeat: int) -> dict[str, Any]:
    """Time two calls in turn after one warm-up; the ratio of each pair, and their median."""
    ours()
    bare()
    pairs = [(timed(ours), timed(bare)) for _ in range(repeat)]
    found: dict[str, Any] = {}
    for place, clock in enumerate(("wall", "cpu")):
        ratios = [one[place] / other[place] for one, other in pairs]
        found[clock] = {
            "seconds": statistics.median(one[place] for one, _ in pairs),
            "bare_seconds": statistics.median(other[place] for _, other in pairs),
            "ratio": statistics.median(ratios),
            "ratio_range": [min(ratios), max(ratios)],
        }
    return found


def throughput(workload: Workload) -> dict[str, Any]:
    """Images a second for FGSM and PGD-7, and the peak memory of the device if it tells."""
    images = len(workload.x)
    attacker = workload.subject.attacker

    def descend() -> None:
        for x, y in workload.batches:
            np.asarray(attacker.pgd(x, y, 8 / 255, steps=7)[0][:1])

    found: dict[str, Any] = {"devices": devices(), "backend": backend()}
    works: dict[str, Callable[[], None]] = {
        "FGSM": lambda: workload.make((8 / 255,)),
        "PGD-7": descend,
    }
    for name, work in works.items():
        work()
        found[f"{name} images/s"] = images / min(timed(work)[0] for _ in range(3))
    found["peak_device_bytes"] = peak_device_bytes()
    return found


def peak_device_bytes() -> int | None:
    """Return the most memory that the GPU has held, or None if there is none or it does not say."""
    if "GPU" not in devices():
        return None
    if backend() == "tensorflow":
        import tensorflow as tf

        return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
    if backend() == "jax":
        import jax

        return int(jax.devices()[0].memory_stats()["peak_bytes_in_use"])
    import torch

    peak: int = torch.cuda.max_memory_allocated()
    return peak


def main() -> None:
    """Run the comparisons and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mnist", choices=["mnist", "cifar10"])
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        workload = Workload(options.model, options.samples)
    except datasets.MissingDataError as error:
        sys.exit(str(error))
    attacks = FGSM((0.01, 0.05)), PGD(8 / 255, steps=7)
    found: dict[str, Any] = {
        "model": options.model,
        "samples": len(workload.x),
        "ten_against_one": compare(
            lambda: workload.make(TEN), lambda: workload.make(TEN[:1]), options.repeat
        ),
        "ten_epsilons": compare(
            lambda: workload.measure(FGSM(TEN)), lambda: workload.bare(11, 1), options.repeat
        ),
        "evaluation": compare(
            lambda: workload.measure(*attacks), lambda: workload.bare(4, 8), options.repeat
        ),
        "throughput": throughput(workload),
    }
    found["whole_call_seconds"] = timed(
        lambda: evaluate(workload.path, workload.x, workload.y, attacks=attacks)
    )[0]
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{options.model}, {len(workload.x):,} images, batches of {BATCH}")
    rows = (
        ("making FGSM inputs, ten epsilons / one", "ten_against_one", 1.5),
        ("ten epsilons / 1 gradient + 11 forward", "ten_epsilons", 1.2),
        ("evaluation / 8 gradients + 4 forward", "evaluation", 1.3),
    )
    for text, key, limit in rows:
        print(f"{text}  (limit {limit})")
        for clock, row in found[key].items():
            low, high = row["ratio_range"]
            print(
                f"  {clock:<6}{row['seconds']:7.3f} s {row['bare_seconds']:7.3f} s  ratio "
                f"{row['ratio']:.2f} [{low:.2f}, {high:.2f}]"
            )
    for name, value in found["throughput"].items():
        print(f"{name:<42}{value if not isinstance(value, float) else f'{value:,.0f}'}")
    print(f"{'the whole call, models loaded and traced':<42}{found['whole_call_seconds']:7.3f} s")


if __name__ == "__main__":
    main()
