"""How the cost of a merge, and of a candidate, grows with a network; and memory with the epochs.

Doubles the width, the number of inputs, the depth and the number of outputs of dense ReLU networks
with normal weights and fits slopes in log-log tables:

    python benches/growth.py [--quick] [--only width width3 inputs depth outputs epochs] [--json]

*A merge*: CPU time of annealing from one target to a larger one at the same step, which is a
difference of two runs, so that the first Gram products and the first propagation are not in it;
over the merges between. It has a merge's share of its epoch: candidates, Jacobian, bounds.
*A candidate*: by how much scoring three quarters of a layer's units as candidates costs more than
scoring eight, over their number, where one unit a layer goes in an epoch and only a few epochs are
run. Each of these runs is repeated and the least time counts; the engine gets one thread, whose CPU
time has no waiting in it.

*Epochs*: the same network at steps 1/16 to 1/256, each in a process of its own. Its peak memory
beyond what it held before must not grow by more than the trace does. The C library is told to hand
back at once what is freed, so that the peak is that of what is in use.

Slopes asked: a merge at most 2 in the width, 1 in depth and in outputs (all layers behind it are
walked through, and the last kernel's size is proportional to its outputs); a candidate at most 1 in
inputs and in outputs, 0 in depth. Fitted over the larger half of the sizes, where what is the same
for all sizes counts least.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

Item = TypeVar("Item")

TARGETS = (0.25, 0.5)
STEP = 1 / 32
POOL = 4
# To tell what a candidate costs: so many epochs of one unit a layer, with few candidates.
CANDIDATE_EPOCHS, FEW = 2, 8
# These runs are short: more of them fit between what else the machine does.
SHORT_RUNS = 5
STEPS = (1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256)
# The GNU C library's allocator, for what is freed not to stay with the process.
HANDED_BACK = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "16384",
    "MALLOC_TRIM_THRESHOLD_": "16384",
}
# What whole pages, and pieces that lie between others, add to a process that uses no more: far less
# than a matrix of all units by all units in every epoch would.
PAGES = 1 << 20


@dataclass(frozen=True)
class Sizes:
    """A network: `inputs`, `depth` hidden layers of `width` units each, `outputs`."""

    inputs: int
    width: int
    depth: int
    outputs: int

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths from the inputs to the outputs."""
        return (self.inputs, *[self.width] * self.depth, self.outputs)


@dataclass(frozen=True)
class Axis:
    """What is doubled, and the slopes asked: None where nothing is."""

    sizes: Mapping[int, Sizes]
    quick: tuple[int, ...]
    merge: float | None
    candidate: float | None


@dataclass(frozen=True)
class Case:
    """Options of a run."""

    target: float
    step: float
    pool: int


AXES = {
    "width": Axis(
        {n: Sizes(n, n, 2, 10) for n in (128, 256, 512, 1024, 2048)}, (128, 256, 512), 2.0, 1.0
    ),
    # Three hidden layers: norms of the kernels between them are needed.
    "width3": Axis(
        {n: Sizes(n, n, 3, 10) for n in (128, 256, 512, 1024, 2048)}, (128, 256, 512), 2.0, 1.0
    ),
    "inputs": Axis(
        {n: Sizes(n, 256, 1, 10) for n in (256, 512, 1024, 2048, 4096, 8192, 16384)},
        (1024, 2048, 4096),
        1.0,
        1.0,
    ),
    "depth": Axis({n: Sizes(256, 256, n, 10) for n in (2, 4, 8, 16)}, (2, 4, 8), 1.0, 0.0),
    "outputs": Axis(
        {n: Sizes(256, 256, 2, n) for n in (10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120)},
        (80, 160, 320),
        1.0,
        1.0,
    ),
}
EPOCHS = Sizes(784, 512, 2, 10)
EPOCHS_QUICK = Sizes(64, 128, 2, 10)


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the slope of the least-squares line through the logarithms.

    Values of 0 or less, which differences of times may be, are left out; without two others it is
    not a number.
    """
    points = [
        (np.log(size), np.log(value))
        for size, value in zip(sizes, values, strict=True)
        if value > 0
    ]
    if len(points) < 2:
        return float("nan")
    x, y = np.array(points).T
    return float(np.polyfit(x, y, 1)[0])


def larger_half(values: Sequence[Item]) -> Sequence[Item]:
    """Return the last half of some values, at least three where there are three."""
    return values[-max((len(values) + 1) // 2, 3) :]


def weights_of(sizes: Sizes) -> list[Any]:
    """Return normal weights of He's scale."""
    random = np.random.default_rng(0)
    return [
        (
            random.standard_normal((inputs, units), np.float32) * np.float32(np.sqrt(2 / inputs)),
            random.standard_normal(units, np.float32) * np.float32(0.1),
        )
        for inputs, units in zip(sizes.widths, sizes.widths[1:], strict=False)
    ]


def pruned(network: Any, inputs: int, case: Case) -> Any:
    """Prune by annealing; return the pruning."""
    from nnprune import _core
    from nnprune.options import Annealing, method_to_dict

    return _core.prune(
        network,
        [np.zeros(inputs)],
        [np.ones(inputs)],
        layers=[],
        target=case.target,
        step=case.step,
        method=method_to_dict(Annealing(pool=case.pool)),
        outgoing="l2",
        seed=0,
    )


def costs(sizes: Sizes, repeat: int) -> dict[str, float]:
    """Time a network in this process: seconds of a merge and of a candidate."""
    from speed.dense import network_of

    network = network_of(weights_of(sizes))
    some, more = (Case(target, STEP, POOL) for target in TARGETS)
    one = 1 / sizes.width
    few, many = (Case(CANDIDATE_EPOCHS * one, one, pool) for pool in (FEW, 3 * sizes.width // 4))
    least: dict[Case, float] = {}
    done: dict[Case, Any] = {}
    for _ in range(repeat):
        for case in (some, more, *[few, many] * SHORT_RUNS):
            started = time.process_time()
            done[case] = pruned(network, sizes.inputs, case)
            taken = time.process_time() - started
            least[case] = min(least.get(case, taken), taken)
    merges = len(done[more].merges) - len(done[some].merges)
    candidates = candidates_of(done[many]) - candidates_of(done[few])
    return {
        "merge": (least[more] - least[some]) / merges,
        "candidate": (least[many] - least[few]) / candidates,
        "whole": least[more],
        "merges": merges,
        "candidates": candidates,
    }


def candidates_of(pruning: Any) -> int:
    """Return how many candidates a pruning scored."""
    return sum(entry["candidates"] for entry in pruning.trace)


def memory(sizes: Sizes, step: float) -> dict[str, Any]:
    """Prune in this process; return its peak growth and the size of the trace."""
    from speed.dense import network_of, warm_up
    from speed.memory import Growth

    network = network_of(weights_of(sizes))
    warm_up()
    growth = Growth()
    pruning = pruned(network, sizes.inputs, Case(TARGETS[1], step, POOL))
    peak = growth.bytes
    return {
        "step": step,
        "epochs": len(pruning.trace),
        "peak": peak,
        "trace": trace_bytes(pruning.trace),
        "weights": sum(kernel.nbytes + bias.nbytes for kernel, bias in weights_of(sizes)),
    }


def trace_bytes(trace: Sequence[Mapping[str, Any]]) -> int:
    """Return what the numbers and names of a trace take, eight bytes each number."""
    total = 0
    stack: list[Any] = list(trace)
    while stack:
        value = stack.pop()
        if isinstance(value, Mapping):
            stack.extend(value.values())
            total += sum(len(str(key)) for key in value)
        elif isinstance(value, np.ndarray):
            total += value.nbytes
        elif isinstance(value, str):
            total += len(value)
        elif isinstance(value, Sequence):
            stack.extend(value)
        else:
            total += 8
    return total


def in_process(arguments: Sequence[str], **environment: str) -> dict[str, Any]:
    """Measure one network in a process of its own, on one thread."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"RAYON_NUM_THREADS": "1"} | environment,
    )
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def grown(name: str, *, quick: bool, repeat: int) -> dict[str, Any]:
    """Measure all sizes of an axis and fit the slopes."""
    axis = AXES[name]
    sizes = axis.quick if quick else tuple(axis.sizes)
    rows = []
    for size in sizes:
        given = json.dumps(asdict(axis.sizes[size]))
        rows.append({"size": size} | in_process(["--cost", given, "--repeat", str(repeat)]))
    fitted = {
        what: slope(larger_half(sizes), larger_half([row[what] for row in rows]))
        for what in ("merge", "candidate")
    }
    unfitted = {
        what: [row["size"] for row in larger_half(rows) if row[what] <= 0] for what in fitted
    }
    return {
        "axis": name,
        "rows": rows,
        "slopes": fitted,
        "left_out": unfitted,
        "asked": {"merge": axis.merge, "candidate": axis.candidate},
    }


def grown_by_epochs(*, quick: bool) -> list[dict[str, Any]]:
    """Measure memory at every step on the same network."""
    given = json.dumps(asdict(EPOCHS_QUICK if quick else EPOCHS))
    steps = STEPS[::2] if quick else STEPS
    return [in_process(["--memory", given, "--step", repr(step)], **HANDED_BACK) for step in steps]


def within_trace(rows: Sequence[Mapping[str, Any]]) -> bool | None:
    """Tell whether memory grew from the first row to each by the trace's growth at most."""
    if any(row["peak"] is None for row in rows):
        return None
    first = rows[0]
    return all(row["peak"] - first["peak"] <= row["trace"] - first["trace"] + PAGES for row in rows)


def told(report: Mapping[str, Any]) -> str:
    """Return an axis's table as text."""
    lines = [f"\n{report['axis']:<10}       merge   candidate   whole run"]
    for row in report["rows"]:
        lines.append(
            f"{row['size']:>10}{row['merge'] * 1e6:9.1f} us{row['candidate'] * 1e6:9.2f} us"
            f"{row['whole']:10.3f} s"
        )
    slopes, asked = report["slopes"], report["asked"]
    shown = [f"{slopes[what]:9.2f}   " for what in ("merge", "candidate")]
    lines.append(f"     slope{''.join(shown)}")
    wanted = [
        f"{'-' if asked[what] is None else f'<= {asked[what]:g}':>9}   "
        for what in ("merge", "candidate")
    ]
    lines.append(f"     asked{''.join(wanted)}")
    for what, left_out in report["left_out"].items():
        if left_out:
            lines.append(f"     {what}: {left_out} left out, lost in what else the machine did")
    return "\n".join(lines)


def told_by_epochs(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of memory as text."""
    lines = ["\nstep        epochs   peak growth      trace     weights (bytes)"]
    for row in rows:
        peak = "not measured" if row["peak"] is None else f"{row['peak']:,}"
        lines.append(
            f"1/{1 / row['step']:<9.0f}{row['epochs']:7}{peak:>14}{row['trace']:11,}"
            f"{row['weights']:12,}"
        )
    held = within_trace(rows)
    if held is not None:
        lines.append(f"grows beyond the trace: {'no' if held else 'yes'} (up to {PAGES:,} bytes)")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    every = (*AXES, "epochs")
    parser.add_argument("--only", nargs="+", choices=every, default=every)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--cost", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--memory", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--step", type=float, default=STEP, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cost is not None:
        print(json.dumps(costs(Sizes(**options.cost), options.repeat)))
        return
    if options.memory is not None:
        print(json.dumps(memory(Sizes(**options.memory), options.step)))
        return
    report: dict[str, Any] = {"growth": [], "load_average": None}
    for name in options.only:
        if name == "epochs":
            report["epochs"] = grown_by_epochs(quick=options.quick)
            text = told_by_epochs(report["epochs"])
        else:
            report["growth"].append(grown(name, quick=options.quick, repeat=options.repeat))
            text = told(report["growth"][-1])
        if not options.json:
            print(text, flush=True)
    report["load_average"] = os.getloadavg()[0]
    if options.json:
        print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
