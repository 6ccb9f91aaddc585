"""What a second thread brings the engine's Gram product, and NumPy's, on a wide layer.

    python benches/gram_threads.py [--inputs 8192] [--units 4096] [--rounds 3]

The engine's product is timed where it is used: in the saliencies of all pairs of a layer. What
these take beside it is taken off, as that of the same layer with 256 inputs, from both. Every
process with a number of threads of its own, in turns; the least of several rounds counts, elapsed
time. Asked is 80 % of the ideal speed-up, 1.6 on two threads.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from itertools import product

import numpy as np

WHO = ("engine", "numpy")
FEW = 256
# OpenBLAS reads the first two, the engine the third.
VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


def engine_seconds(inputs: int, units: int) -> float:
    """Time the saliencies of a layer of normal weights in this process."""
    from speed.dense import layer_names, network_of

    random = np.random.default_rng(0)
    shapes = ((inputs, units), (units, 4))
    weights = [
        (random.standard_normal(shape, np.float32), np.zeros(shape[1], np.float32))
        for shape in shapes
    ]
    network = network_of(weights)
    started = time.perf_counter()
    network.saliency(layer_names(len(weights))[0])
    return time.perf_counter() - started


def numpy_seconds(inputs: int, units: int) -> float:
    """Time NumPy's product of the same shape in this process."""
    weights = np.random.default_rng(0).standard_normal((inputs, units))
    started = time.perf_counter()
    weights.T @ weights
    return time.perf_counter() - started


def in_process(threads: int, who: str, inputs: int, units: int) -> float:
    """Measure in a process of its own."""
    shape = ["--inputs", str(inputs), "--units", str(units)]
    done = subprocess.run(
        [sys.executable, __file__, "--who", who, *shape],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | dict.fromkeys(VARIABLES, str(threads)),
    )
    return float(json.loads(done.stdout))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--inputs", type=int, default=8192)
    parser.add_argument("--units", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--who", choices=WHO, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.who:
        measure = engine_seconds if options.who == "engine" else numpy_seconds
        print(json.dumps(measure(options.inputs, options.units)))
        return
    least: dict[tuple[str, int, int], float] = {}
    for _ in range(options.rounds):
        for threads in (1, 2):
            for who, size in product(WHO, (options.inputs, FEW)):
                key = (who, threads, size)
                seconds = in_process(threads, who, size, options.units)
                least[key] = min(least.get(key, seconds), seconds)
    print(f"W^T W of {options.inputs - FEW} x {options.units} in float64, elapsed seconds")
    for who in WHO:
        one, two = (least[who, n, options.inputs] - least[who, n, FEW] for n in (1, 2))
        print(f"{who:<8}{one:8.2f} on one thread{two:8.2f} on two{one / two:8.2f} times")
    print(f"load average {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    main()
