"""The paper's models 1 to 4 at the slowest pace, 80 %: ours, the public implementation, the bound.

    python benches/paper_pace.py [--only mnist kdd] [--repeat 5] [--limit-seconds 120]
        [--threads 1] [--json]

*Engine*: CPU time from the network to the smaller network's arrays (`_core.prune`), and beside it
that of the whole command `nnprune prune` from file to file. *Public implementation*: CPU time of
its pruning loop (`benches/peer`, in `.venv-peer`, which `make peer` makes), in turns with ours.
After `--limit-seconds` it is stopped; the time of its whole run is then extrapolated from its whole
epochs, and called so. Asked are 5,000 times the engine's time.

*Bound*: what the counted floating-point operations take at this machine's rate of matrix products
(NumPy on one thread, float64, CPU time), plus one pass over the weights that are left in each epoch
at its rate of reading memory. Asked is an engine under 3 times that. Counted are, for layers of n
units with f inputs each, followed by a layer of o units, and m logits:

gram
    `n (n + 1) f` once for each pruned layer: one triangle of `W^T W`.
updates
    `2 o (o + 1)` for each merge in front of another pruned layer: what a merge does to its Gram
    matrix is `v_i v_j^T + v_j v_i^T`, again one triangle.
jacobian
    `4 m o n` in each epoch for each layer behind the first pruned one, but for the last: centre and
    radius of the logits' Jacobian taken back through its kernel; the last kernel is where it
    begins.
candidates
    `6 f + 4 m` for each candidate: difference, centre and radius of its row, then its change of
    the logits.
bounds
    `4 f n` for each layer once, four operations for each multiplication of what comes before them,
    and `4 n o` for every layer behind a visited one: centre and radius of the values.
impact
    The same once more without the first propagation: the joint change carried to the logits.

All sizes are those of live units at an epoch's start, as the run had them. Nothing is counted for
sorting, distances read from the Gram matrix, energies, annealing, or the trace.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "benches" / "models"
DRIVER = ROOT / "benches" / "peer"
HANDED = ROOT / "build" / "paper-pace"
PEER = Path(os.environ.get("NNPRUNE_PEER", ROOT / ".venv-peer")) / "bin" / "python"
TARGET = 0.8
STEPS = {
    "creditcard": Fraction(1, 32),
    "kdd": Fraction(1, 32),
    "mnist": Fraction(1, 64),
    "cifar10": Fraction(1, 64),
}
ASKED_RATIO, ASKED_BOUND = 5000, 3
READ_BYTES = 1 << 28


@dataclass(frozen=True)
class Shapes:
    """A chain of dense layers at the end of a network, as a pruning sees it.

    Attributes
    ----------
    widths
        Inputs of the chain, units of each layer, logits last.
    before
        Multiplications for one input of all that comes before the chain.
    """

    widths: tuple[int, ...]
    before: int


@dataclass(frozen=True)
class Epoch:
    """What one epoch of a run found and did.

    Attributes
    ----------
    live
        Units of each pruned layer at its start.
    removed
        Merges in each of them.
    candidates
        Candidates scored in all layers together.
    """

    live: tuple[int, ...]
    removed: tuple[int, ...]
    candidates: int


def epochs_of(units: Sequence[int], trace: Sequence[Mapping[str, Any]]) -> list[Epoch]:
    """Read a trace: `units` are those of the original's pruned layers, in the trace's order."""
    found = []
    live = tuple(units)
    for entry in trace:
        left = tuple(entry["units"].values())
        removed = tuple(before - after for before, after in zip(live, left, strict=True))
        found.append(Epoch(live=live, removed=removed, candidates=entry["candidates"]))
        live = left
    return found


def operations(shapes: Shapes, epochs: Sequence[Epoch]) -> dict[str, float]:
    """Count the floating-point operations of a run, part by part."""
    inputs, *units, logits = shapes.widths
    count = dict.fromkeys(("gram", "updates", "jacobian", "candidates", "bounds", "impact"), 0.0)
    for fan_in, width in zip(shapes.widths, units, strict=False):
        count["gram"] += width * (width + 1) * fan_in
    count["bounds"] = 4.0 * (shapes.before + products(shapes.widths))
    for epoch in epochs:
        chain = (inputs, *epoch.live, logits)
        visits = [layer for layer, removed in enumerate(epoch.removed) if removed]
        for layer in visits:
            if layer + 1 < len(units):
                following = epoch.live[layer + 1]
                count["updates"] += epoch.removed[layer] * 2.0 * following * (following + 1)
            behind = 4.0 * products(chain[layer + 1 :])
            count["bounds"] += behind
            count["impact"] += behind
        if visits:
            # From the last hidden layer's output back to the first visited layer's.
            count["jacobian"] += 4.0 * logits * products(epoch.live[visits[0] :])
        for layer in visits:
            share = epoch.candidates * epoch.removed[layer] / sum(epoch.removed)
            count["candidates"] += share * (6.0 * chain[layer] + 4.0 * logits)
    return count


def products(widths: Sequence[int]) -> int:
    """Return the weights of a chain of dense layers of these widths."""
    return sum(a * b for a, b in pairwise(widths))


def weight_bytes(shapes: Shapes, epochs: Sequence[Epoch]) -> int:
    """Return the bytes of the live weights, float32, added up over the epochs."""
    ends = shapes.widths[0], shapes.widths[-1]
    return sum(4 * products((ends[0], *epoch.live, ends[1])) for epoch in epochs)


def rates() -> dict[str, float]:
    """Return this machine's operations a second in products, and bytes read a second."""
    import numpy as np
    from engine import matrix_rates

    numbers = np.ones(READ_BYTES // 4, np.float32)
    best = math.inf
    for _ in range(5):
        started = time.process_time()
        np.dot(numbers, numbers)
        best = min(best, time.process_time() - started)
    return {
        "operations": matrix_rates()["float64"] * 1e9,
        "bytes": READ_BYTES / best,
    }


def bound(shapes: Shapes, epochs: Sequence[Epoch], rate: Mapping[str, float]) -> dict[str, Any]:
    """Return the seconds that the counted work takes at the measured rates."""
    counted = operations(shapes, epochs)
    read = weight_bytes(shapes, epochs)
    computing = sum(counted.values()) / rate["operations"]
    reading = read / rate["bytes"]
    return {
        "operations": counted,
        "bytes": read,
        "computing": computing,
        "reading": reading,
        "seconds": computing + reading,
    }


def shapes_of(network: Any) -> Shapes:
    """Read the dense chain at the end of a network, and what comes before it.

    Raises
    ------
    ValueError
        What is pruned is not a chain of dense layers up to the logits.
    """
    groups = [group for group in network.groups if group.reason is None]
    nodes = {node.name: node for node in network.nodes}
    chain = [group.node for group in groups]
    ends = [*chain[1:], *groups[-1].consumers]
    for group, following in zip(groups, ends, strict=True):
        if group.consumers != [following] or nodes[group.node].kind != "Dense":
            raise ValueError(f"layer {group.layer}: expected a chain of dense layers")
    kernels = [network.weights(name)["kernel"].shape for name in (*chain, ends[-1])]
    widths = (kernels[0][0], *(shape[1] for shape in kernels))
    whole = sum(node.macs for node in network.nodes)
    return Shapes(
        widths=widths, before=whole - sum(nodes[name].macs for name in (*chain, ends[-1]))
    )


def engine(name: str, repeat: int) -> dict[str, Any]:
    """Time the engine on a model, in this process: weights in, weights out."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import numpy as np
    from nnprune import _core
    from nnprune.keras_io.opened import input_box_of, open_model
    from nnprune.options import Annealing, method_to_dict
    from speed.dense import weights_out

    if _core.build_profile != "release":
        sys.exit("this is a debug build: install the release wheel")
    opened = open_model(MODELS / f"{name}.keras", trust=False)
    with np.load(MODELS / f"{name}_box.npz") as arrays:
        box = input_box_of(opened, (arrays["lower"], arrays["upper"]))
    network = opened.graph.network
    seconds = []
    for seed in range(repeat):
        started = time.process_time()
        pruning = _core.prune(
            network,
            box.lower,
            box.upper,
            layers=[],
            target=TARGET,
            step=float(STEPS[name]),
            method=method_to_dict(Annealing()),
            outgoing="l2",
            seed=seed,
        )
        weights_out(pruning.network)
        seconds.append(time.process_time() - started)
    shapes = shapes_of(network)
    epochs = epochs_of(shapes.widths[1:-1], pruning.trace)
    return {
        "seconds": seconds,
        "merges": len(pruning.merges),
        "widths": shapes.widths,
        "epochs": len(epochs),
        "bound": bound(shapes, epochs, rates()),
    }


def children_seconds() -> float:
    """Return the CPU time of all finished child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def whole_process(name: str) -> float:
    """Measure `nnprune prune` from file to file."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", "from nnprune.cli import main; main()", "prune"]
        command += [str(MODELS / f"{name}.keras"), "-o", str(Path(folder) / "small.keras")]
        command += ["--input-bounds", str(MODELS / f"{name}_box.npz"), "--quiet", "--overwrite"]
        command += ["--target", str(TARGET), "--step", str(STEPS[name])]
        before = children_seconds()
        subprocess.run(command, check=True)
        return children_seconds() - before


def public(name: str, limit: float) -> dict[str, Any] | None:
    """Time the public implementation's pruning loop; None where its environment is not made."""
    import numpy as np

    if not PEER.is_file():
        return None
    quietly([sys.executable, str(DRIVER / "hand_over.py"), name, "--out", str(HANDED)])
    with np.load(MODELS / f"{name}_box.npz") as box:
        interval = [str(float(box["lower"].min())), str(float(box["upper"].max()))]
    command = [str(PEER), str(DRIVER / "run_peer.py"), str(HANDED / f"{name}.json")]
    command += ["--step", str(STEPS[name]), "--targets", str(TARGET)]
    command += ["--limit-seconds", str(limit), "--input-interval", *interval]
    printed = quietly(command, CUDA_VISIBLE_DEVICES="")
    return run_of(json.loads(Path(printed.splitlines()[0]).read_text()))


def quietly(command: Sequence[str], **environment: str) -> str:
    """Run a command and return its output; TensorFlow's remarks are only told if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def run_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the seconds of a whole run of the public implementation.

    An epoch's clock is read when it is done, so that the last one tells what all of them took. A
    run that was stopped is extrapolated to all epochs by the mean of those; without a whole epoch
    there is nothing to extrapolate from, and the seconds spent are a bound from below.
    """
    epochs = math.ceil(Fraction(TARGET).limit_denominator() / Fraction(document["step"]))
    done = len(document["epochs"])
    bounded = bool(document["bounded"])
    spent = document["cpu_seconds"]
    if not bounded:
        seconds = spent
    elif done:
        seconds = document["epochs"][-1]["cpu_seconds"] / done * epochs
    else:
        seconds = spent
    return {
        "seconds": seconds,
        "extrapolated": bounded and done > 0,
        "at_least": bounded and not done,
        "spent": spent,
        "epochs_done": done,
        "epochs": epochs,
        "seconds_per_epoch": document["epochs"][-1]["cpu_seconds"] / done if done else None,
        "stopped_by": document["stopped_by"],
    }


def measured(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one model: the engine before and after the public implementation."""

    def ours() -> dict[str, Any]:
        command = [sys.executable, __file__, "--engine", name, "--repeat", str(options.repeat)]
        environment = {"OPENBLAS_NUM_THREADS": "1"}
        if options.threads is not None:
            environment["RAYON_NUM_THREADS"] = str(options.threads)
        found: dict[str, Any] = json.loads(quietly(command, **environment).splitlines()[-1])
        return found

    first = ours()
    theirs = None if options.no_public else public(name, options.limit_seconds)
    second = ours()
    seconds = [*first["seconds"], *second["seconds"]]
    middle = statistics.median(seconds)
    least = statistics.median([first["bound"]["seconds"], second["bound"]["seconds"]])
    return {
        "model": name,
        "step": str(STEPS[name]),
        "widths": first["widths"],
        "merges": first["merges"],
        "epochs": first["epochs"],
        "engine_cpu_seconds": seconds,
        "process_cpu_seconds": whole_process(name),
        "public": theirs,
        "of_public": None if theirs is None else theirs["seconds"] / middle,
        "bounds": [first["bound"], second["bound"]],
        "over_bound": middle / least,
    }


def told(report: Mapping[str, Any]) -> str:
    """Return one model's figures as text."""
    widths = "-".join(str(width) for width in report["widths"])
    seconds = report["engine_cpu_seconds"]
    middle = statistics.median(seconds)
    lines = [f"\n{report['model']}, {widths}, {TARGET:.0%} at {report['step']} an epoch"]
    lines.append(
        f"  engine             {middle:10.4f} s CPU [{min(seconds):.4f}, {max(seconds):.4f}], "
        f"{report['merges']} merges in {report['epochs']} epochs"
    )
    lines.append(f"  whole process      {report['process_cpu_seconds']:10.2f} s CPU")
    least = report["bounds"][-1]
    lines.append(
        f"  counted bound      {least['seconds']:10.4f} s: {least['computing']:.4f} s for "
        f"{sum(least['operations'].values()) / 1e6:,.0f} million operations, "
        f"{least['reading']:.4f} s for {least['bytes'] / 1e6:,.0f} MB"
    )
    lines.append(
        f"    engine over it   {report['over_bound']:10.2f}     asked: under {ASKED_BOUND}"
    )
    theirs = report["public"]
    if theirs is None:
        lines.append("  public             not run; `make peer` makes its environment")
        return "\n".join(lines)
    kind = "extrapolated" if theirs["extrapolated"] else "at least" if theirs["at_least"] else ""
    lines.append(
        f"  public             {theirs['seconds']:10.1f} s CPU {kind}"
        f" ({theirs['epochs_done']} of {theirs['epochs']} epochs in {theirs['spent']:.1f} s)"
    )
    lines.append(
        f"    over the engine  {report['of_public']:10,.0f}     asked: at least {ASKED_RATIO:,}"
    )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", nargs="+", choices=STEPS, default=list(STEPS), metavar="MODEL")
    parser.add_argument("--repeat", type=int, default=5, help="timed runs of the engine, twice")
    parser.add_argument("--limit-seconds", type=float, default=120, help="of the public one's CPU")
    parser.add_argument("--threads", type=int, help="of the engine; by default as many as it takes")
    parser.add_argument("--no-public", action="store_true", help="leave the public one out")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--engine", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine is not None:
        print(json.dumps(engine(options.engine, options.repeat)))
        return
    reports = []
    for name in options.only:
        reports.append(measured(name, options))
        if not options.json:
            print(told(reports[-1]), flush=True)
    if options.json:
        print(json.dumps({"models": reports, "load_average": os.getloadavg()[0]}, indent=2))


if __name__ == "__main__":
    main()
