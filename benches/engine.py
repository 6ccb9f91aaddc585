"""Speed and memory of the engine on the paper's MNIST model, 80 % of the units at step 1/64.

Prints the CPU time of the engine alone (weights in, weights out), of the whole command as a
process beside it, the engine's peak memory over the size of the weights, and the rate at which
this machine multiplies matrices, all from this one run:

    python benches/engine.py [--repeat 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MODEL = Path(__file__).parent / "models" / "mnist.keras"
TARGET, STEP = 0.8, 1 / 64

# Run in a process of its own, so that nothing else's memory counts.
MEASURE = """
import json, sys, time
import numpy as np
from nnprune import _core
from nnprune.options import Annealing, method_to_dict

if _core.build_profile != "release":
    sys.exit("this is a debug build: install the release wheel")
weights = np.load(sys.argv[1])
builder = _core.NetworkBuilder()
builder.input("input", [784])
source = "input"
for layer in range(4):
    name = f"dense_{layer}"
    builder.dense(name, source, weights[f"kernel{layer}"], weights[f"bias{layer}"])
    source = name
    if layer < 3:
        source = f"{name}/activation"
        builder.activation(source, name, "relu")
network = builder.build([source])
lower, upper = [np.zeros(784)], [np.ones(784)]

def memory(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) * 1024

def run(target):
    started = time.process_time()
    pruning = _core.prune(
        network, lower, upper, layers=[], target=target, step=float(sys.argv[3]),
        method=method_to_dict(Annealing()), outgoing="l2", seed=0,
    )
    taken = time.process_time() - started
    return taken, pruning

# Start the threads on a network of two units: their stacks are not the model's.
small = _core.NetworkBuilder()
small.input("input", [2])
small.dense("dense", "input", np.ones((2, 2), np.float32))
small.dense("output", "dense", np.ones((2, 2), np.float32))
small.build(["output"]).saliency("dense")
try:
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")
    before = memory("VmRSS")
except OSError:
    before = None
first, pruning = run(float(sys.argv[2]))
peak = memory("VmHWM") - before if before is not None else None
times = [first] + [run(float(sys.argv[2]))[0] for _ in range(int(sys.argv[4]) - 1)]
size = sum(a.nbytes for a in weights.values())
print(json.dumps({"seconds": times, "peak": peak, "weights": size, "merges": len(pruning.merges)}))
"""


def matrix_rates() -> dict[str, float]:
    """Return the GFLOP/s of NumPy's product of two 512 by 512 matrices, by CPU time."""
    import numpy as np

    rates = {}
    for dtype in ("float32", "float64"):
        matrix = np.random.default_rng(0).random((512, 512)).astype(dtype)
        best = 0.0
        for _ in range(10):
            started = time.process_time()
            for _ in range(5):
                matrix @ matrix
            best = max(best, 5 * 2 * 512**3 / (time.process_time() - started) / 1e9)
        rates[dtype] = best
    return rates


def children_seconds() -> float:
    """Return the CPU time of all finished child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def engine(repeat: int) -> dict[str, Any]:
    """Measure the engine in a process of its own."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import numpy as np

    layers = [w for layer in keras.saving.load_model(MODEL).layers if (w := layer.get_weights())]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.npz"
        arrays: dict[str, Any] = {}
        for number, (kernel, bias) in enumerate(layers):
            arrays |= {f"kernel{number}": kernel, f"bias{number}": bias}
        np.savez(path, **arrays)
        arguments = [str(path), str(TARGET), str(STEP), str(repeat)]
        output = subprocess.run(
            [sys.executable, "-c", MEASURE, *arguments], check=True, capture_output=True, text=True
        )
    measured: dict[str, Any] = json.loads(output.stdout)
    return measured


def whole_process(repeat: int) -> list[float]:
    """Measure `nnprune prune` from file to file."""
    times = []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", "from nnprune.cli import main; main()", "prune"]
        command += [str(MODEL), "-o", str(Path(folder) / "small.keras"), "--quiet", "--overwrite"]
        command += ["--target", str(TARGET), "--step", "1/64"]
        for _ in range(repeat):
            before = children_seconds()
            subprocess.run(command, check=True)
            times.append(children_seconds() - before)
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    measured = engine(options.repeat)
    rates = matrix_rates()
    process = whole_process(min(options.repeat, 3))
    ratio = None if measured["peak"] is None else measured["peak"] / measured["weights"]
    report = {
        "model": MODEL.name,
        "target": TARGET,
        "step": STEP,
        "engine_cpu_seconds": measured["seconds"],
        "process_cpu_seconds": process,
        "peak_over_weights": ratio,
        "gflops": rates,
        "merges": measured["merges"],
        "load_average": os.getloadavg()[0],
    }
    if options.json:
        print(json.dumps(report, indent=2))
        return
    seconds = measured["seconds"]
    print(f"MNIST model, {TARGET:.0%} of the units, step 1/64, annealing, {len(seconds)} runs")
    print(
        f"engine alone    {statistics.median(seconds):.3f} s CPU "
        f"[{min(seconds):.3f}, {max(seconds):.3f}], {measured['merges']} merges"
    )
    print(f"whole process   {statistics.median(process):.2f} s CPU, file to file")
    shown = "not measured here" if ratio is None else f"{ratio:.1f} times the weights"
    print(f"engine's peak   {shown} ({measured['weights']:,} bytes)")
    print(f"this machine    {rates['float32']:.0f} GFLOP/s f32, {rates['float64']:.0f} f64 (NumPy)")


if __name__ == "__main__":
    main()
