"""A head of VGG16's size, 25088-4096-4096-1000: half of both hidden layers, by both ways.

Time and peak memory of the engine's annealing at step 1/64 and of least squares on at most 2,048
samples, beside the time that NumPy needs for the two layers' Gram products `W^T W` in float32 and
float64, in turns in one run, each in a process of its own:

    python benches/head.py [--scale 1/4] [--samples 2048] [--only annealing least_squares] [--json]

Asked are at most 8 times NumPy's time and at most 2.5 times the weights, which the engine's own
copy of them is part of; the caller's arrays are not counted. "in and out" is from the arrays of
the weights to the arrays of the smaller network's.

The weights are made, not trained, so that nothing has to be downloaded; they share with trained
ones what pruning is about. Each kernel is

    s_k sum_r c_r u_ir v_rk + n_ik,   c_r = r^(-1/2),   r = 1 .. a sixteenth of the narrower side,

a few strong directions with a decaying spectrum over normal noise of the size of He's
initialisation, with the spectral part as strong as the noise. Unit scales s_k are log-normal
(deviation 0.5), so that units matter unequally, and the next kernel's rows have such scales, too.
A tenth of the units are near copies of others, 1 to 10 % off, as wide trained layers have them.
Inputs are post-ReLU features: from 0 to a log-normal end of each; samples are 0 with probability
0.6 and otherwise exponential below that end. All from one seed, in float32.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import statistics
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "build" / "head"
WIDTHS = (25088, 4096, 4096, 1000)
TARGET, STEP = 0.5, 1 / 64
ASKED_TIME, ASKED_MEMORY = 8.0, 2.5
PARTS = ("annealing", "least_squares")
RANK_SHARE, COPIES, SPREAD = 16, 10, 0.5
DTYPES = ("float32", "float64")

Arrays = dict[str, NDArray[np.float32]]


def widths_at(scale: Fraction) -> tuple[int, ...]:
    """Return the widths of a head that is smaller by a factor."""
    return tuple(max(int(width * scale), 4) for width in WIDTHS)


def kernel_of(
    random: np.random.Generator, inputs: int, units: int, *, copies: bool
) -> NDArray[np.float32]:
    """Make a kernel: a few strong directions over noise, uneven units, near copies among them."""
    rank = max(min(inputs, units) // RANK_SHARE, 1)
    left = random.standard_normal((inputs, rank), np.float32)
    right = random.standard_normal((rank, units), np.float32)
    strengths = np.arange(1, rank + 1, dtype=np.float32) ** -0.5
    # So that an element of the sum has the variance of an element of the noise.
    strengths *= 1 / np.sqrt(np.sum(strengths**2))
    kernel = (left * strengths) @ right
    kernel += random.standard_normal(kernel.shape, np.float32)
    kernel *= np.exp(SPREAD * random.standard_normal(units)).astype(np.float32)
    kernel *= np.exp(SPREAD * random.standard_normal((inputs, 1))).astype(np.float32)
    if copies:
        chosen = random.permutation(units)[: 2 * (units // COPIES)]
        originals, near = np.split(chosen, 2)
        off = random.uniform(0.01, 0.1, len(near)).astype(np.float32)
        moved = kernel[:, originals]
        moved += off * np.abs(moved).mean(axis=0) * random.standard_normal(moved.shape, np.float32)
        kernel[:, near] = moved
    kernel *= np.float32(np.sqrt(1 / inputs))
    return np.ascontiguousarray(kernel, np.float32)


def head_of(scale: Fraction, seed: int = 0) -> Arrays:
    """Make the head: `kernel0`, `bias0` and so on, and the inputs' ends `upper`."""
    random = np.random.default_rng(seed)
    widths = widths_at(scale)
    arrays: Arrays = {}
    for number, (inputs, units) in enumerate(pairwise(widths)):
        last = number == len(widths) - 2
        arrays[f"kernel{number}"] = kernel_of(random, inputs, units, copies=not last)
        arrays[f"bias{number}"] = (0.05 * random.standard_normal(units)).astype(np.float32)
    arrays["upper"] = np.exp(SPREAD * random.standard_normal(widths[0])).astype(np.float32)
    return arrays


def samples_of(upper: NDArray[np.float32], count: int, seed: int = 0) -> NDArray[np.float32]:
    """Draw inputs like post-ReLU features, shape (count, inputs)."""
    random = np.random.default_rng([seed, 1])
    shape = (count, len(upper))
    drawn = random.standard_exponential(shape, np.float32)
    drawn *= 0.25 * upper
    np.minimum(drawn, upper, out=drawn)
    drawn[random.random(shape, np.float32) < 0.6] = 0.0
    return drawn


def cached(scale: Fraction) -> Path:
    """Return the folder of the head's arrays, made where it is not there."""
    widths = "x".join(str(width) for width in widths_at(scale))
    made_by = inspect.getsource(head_of) + inspect.getsource(kernel_of)
    folder = CACHE / f"{widths}-{zlib.crc32(made_by.encode()):08x}"
    if not (folder / "made").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in head_of(scale).items():
            np.save(folder / f"{name}.npy", array)
        (folder / "made").touch()
    return folder


def read(folder: Path) -> Arrays:
    """Read what `cached` wrote."""
    return {path.stem: np.load(path) for path in sorted(folder.glob("*.npy"))}


def gram_seconds(folder: Path, dtype: str) -> dict[str, Any]:
    """Time NumPy's Gram products of the two hidden layers, in this process."""
    arrays = read(folder)
    kernels = [arrays[f"kernel{number}"].astype(dtype) for number in range(2)]
    np.ones((64, 64), dtype) @ np.ones((64, 64), dtype)
    wall, cpu = time.perf_counter(), time.process_time()
    for kernel in kernels:
        kernel.T @ kernel
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def prune_seconds(folder: Path, part: str, options: argparse.Namespace) -> dict[str, Any]:
    """Time the engine from weights to weights, in this process, and its memory."""
    from nnprune import _core
    from speed.dense import network_of, size_of, warm_up, weights_out
    from speed.memory import Growth

    if _core.build_profile != "release":
        sys.exit("this is a debug build: install the release wheel")
    arrays = read(folder)
    weights = [(arrays[f"kernel{number}"], arrays[f"bias{number}"]) for number in range(3)]
    work = (annealing if part == "annealing" else least_squares)(arrays, options)
    warm_up()
    growth = Growth()
    clocks = [clock_pair()]
    network = network_of(weights)
    clocks.append(clock_pair())
    smaller = work(network)
    clocks.append(clock_pair())
    weights_out(smaller)
    clocks.append(clock_pair())
    peak = growth.bytes
    return {
        "wall": clocks[-1][0] - clocks[0][0],
        "cpu": clocks[-1][1] - clocks[0][1],
        "pruning_wall": clocks[2][0] - clocks[1][0],
        "pruning_cpu": clocks[2][1] - clocks[1][1],
        "peak": peak,
        "weights": size_of(weights),
        "peak_over_weights": None if peak is None else peak / size_of(weights),
        "parameters_left": sum(node.parameters for node in smaller.nodes),
    }


def clock_pair() -> tuple[float, float]:
    """Return wall-clock and CPU seconds."""
    return time.perf_counter(), time.process_time()


def annealing(arrays: Arrays, options: argparse.Namespace) -> Callable[[Any], Any]:
    """Return the paper's pruning at the slowest pace."""
    from nnprune import _core
    from nnprune.options import Annealing, method_to_dict

    upper = arrays["upper"].astype(np.float64)

    def work(network: _core.Network) -> _core.Network:
        return _core.prune(
            network,
            [np.zeros_like(upper)],
            [upper],
            layers=[],
            target=TARGET,
            step=options.step,
            method=method_to_dict(Annealing()),
            outgoing="l2",
            seed=0,
        ).network

    return work


def least_squares(arrays: Arrays, options: argparse.Namespace) -> Callable[[Any], Any]:
    """Return the compensated pruning with the defaults of `LeastSquares` and these samples."""
    from nnprune import _core
    from nnprune.compensation import LeastSquares
    from speed.dense import INPUT

    defaults = LeastSquares()
    drawn = samples_of(arrays["upper"], options.samples)

    def work(network: _core.Network) -> _core.Network:
        (made,) = _core.compensate(
            network,
            {INPUT: drawn},
            layers=[],
            targets=[TARGET],
            allocation="uniform",
            width_multiple=1,
            ridge=defaults.ridge,
            selection_ridge=defaults.selection_ridge,
            towards=defaults.towards,
            closed_loop=defaults.loop == "closed",
            selection={"name": "elimination"},
            seed=0,
        )
        return made.network

    return work


def in_process(options: argparse.Namespace, part: str, **environment: str) -> dict[str, Any]:
    """Measure one part in a process of its own."""
    command = [sys.executable, __file__, "--part", part, "--scale", str(options.scale)]
    command += ["--samples", str(options.samples), "--step", str(options.step)]
    done = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def measured_in_turns(options: argparse.Namespace) -> dict[str, Any]:
    """Measure NumPy before, between and after the engine's parts."""
    threads = str(options.threads)
    grams: dict[str, list[dict[str, Any]]] = {dtype: [] for dtype in DTYPES}

    def numpy() -> None:
        for dtype in DTYPES:
            grams[dtype].append(in_process(options, dtype, OPENBLAS_NUM_THREADS=threads))

    cached(options.scale)
    engine = {}
    numpy()
    for part in options.only:
        engine[part] = in_process(options, part, RAYON_NUM_THREADS=threads)
        numpy()
    return {
        "widths": widths_at(options.scale),
        "target": TARGET,
        "step": options.step,
        "samples": options.samples,
        "threads": options.threads,
        "numpy": grams,
        "engine": {
            part: found | {"of_numpy": ratios(found, grams)} for part, found in engine.items()
        },
        "load_average": os.getloadavg()[0],
    }


def ratios(
    found: dict[str, Any], grams: dict[str, list[dict[str, Any]]]
) -> dict[str, dict[str, float]]:
    """Return a part's time over the median of NumPy's, by wall clock and by CPU time."""
    return {
        dtype: {
            clock: found[clock] / statistics.median(gram[clock] for gram in measured)
            for clock in ("wall", "cpu")
        }
        for dtype, measured in grams.items()
    }


def told(report: dict[str, Any]) -> str:
    """Return a report as text."""
    widths = "-".join(str(width) for width in report["widths"])
    lines = [f"{widths}, {TARGET:.0%} of both hidden layers, {report['threads']} threads"]
    for dtype, measured in report["numpy"].items():
        wall, cpu = (
            statistics.median(gram[clock] for gram in measured) for clock in ("wall", "cpu")
        )
        name = f"NumPy's Gram products, {dtype}"
        lines.append(f"{name:<34}{wall:9.2f} s{cpu:9.2f} s CPU")
    for part, found in report["engine"].items():
        name = "annealing, step " + str(Fraction(report["step"]).limit_denominator())
        if part != "annealing":
            name = f"least squares, {report['samples']} samples"
        name += ", in and out"
        lines.append(f"{name:<34}{found['wall']:9.2f} s{found['cpu']:9.2f} s CPU")
        for dtype, times in found["of_numpy"].items():
            lines.append(
                f"    times NumPy's {dtype:<16}{times['wall']:9.2f}{times['cpu']:11.2f}"
                f"       asked: at most {ASKED_TIME:g}"
            )
        peak = found["peak_over_weights"]
        shown = "not measured here" if peak is None else f"{peak:9.2f} times the weights"
        lines.append(f"    peak memory {shown}, asked: at most {ASKED_MEMORY:g}")
    lines.append(f"load average {report['load_average']:.2f}")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--scale", type=Fraction, default=Fraction(1), help="of widths: 1/4")
    parser.add_argument("--step", type=lambda text: float(Fraction(text)), default=STEP)
    parser.add_argument("--samples", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--part", choices=(*DTYPES, *PARTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part is not None:
        folder = cached(options.scale)
        found = (
            gram_seconds(folder, options.part)
            if options.part in DTYPES
            else prune_seconds(folder, options.part, options)
        )
        print(json.dumps(found))
        return
    report = measured_in_turns(options)
    print(json.dumps(report, indent=2) if options.json else told(report))


if __name__ == "__main__":
    main()
