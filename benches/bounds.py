"""How tight and how fast bounds are: on the verifier's networks, and on the credit card model.

    python benches/bounds.py [--budgets 1e-6,0.5,10]

Prints, for the networks that auto_LiRPA was run on (`tests/oracles/README.md`), the mean over the
outputs of the largest certified change, beside its CROWN on the network g - f, with the seconds of
certifying and of verifying; what scoring a pair costs; what CROWN costs for one image in a ball;
and on the credit card model how many units go within budgets of certified change, and for how many
test samples the margin certificate proves agreement.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from nnprune import _core
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent / "models"))

ROOT = Path(__file__).parents[1]
ORACLE = ROOT / "tests" / "oracles" / "crown.npz"
CREDIT = ROOT / "benches" / "models" / "creditcard.keras"
CREDIT_BOX = ROOT / "benches" / "models" / "creditcard_box.npz"
RADIUS = 8 / 255

Merges = list[tuple[str, int, int | None]]


def network(kernels: list[NDArray[np.float32]], biases: list[NDArray[np.float32]]) -> _core.Network:
    """Build a chain of Dense layers with ReLU between them."""
    builder = _core.NetworkBuilder()
    builder.input("x", (len(kernels[0]),))
    last = "x"
    for at, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        builder.dense(f"d{at}", last, kernel, bias)
        last = f"d{at}"
        if at < len(kernels) - 1:
            builder.activation(f"a{at}", last, "relu")
            last = f"a{at}"
    return builder.build([last])


def pair_of(
    oracle: dict[str, NDArray[np.float32]], name: str, percent: int
) -> tuple[_core.Network, _core.Network, Merges]:
    """Return a network of the oracle, what its merges leave of it, and the merges."""
    count = sum(f"{name}/kernel{at}" in oracle for at in range(20))
    kernels = [oracle[f"{name}/kernel{at}"] for at in range(count)]
    biases = [oracle[f"{name}/bias{at}"] for at in range(count)]
    small, offsets = [kernel.copy() for kernel in kernels], [bias.copy() for bias in biases]
    merges: Merges = []
    for layer in range(count - 1):
        gone = oracle[f"{name}/merges{percent}/{layer}"].astype(int)
        for nominee, delegate in gone:
            small[layer + 1][delegate] += small[layer + 1][nominee]
            merges.append((f"d{layer}", int(nominee), int(delegate)))
        kept = np.setdiff1d(np.arange(small[layer].shape[1]), gone[:, 0])
        small[layer], offsets[layer] = small[layer][:, kept], offsets[layer][kept]
        small[layer + 1] = small[layer + 1][kept]
    return network(kernels, biases), network(small, offsets), merges


def timed(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the least wall-clock and CPU seconds of several runs."""
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return min(walls), min(cpus)


def tightness(oracle: dict[str, NDArray[np.float32]]) -> None:
    """Print how far outputs may move, certified, beside CROWN on the difference."""
    print("Certified change over the box [0, 1], mean over the outputs of its larger end")
    print("| network | pruned | CROWN on g - f | certificate | certify, s | verify, s | verified |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in ("tab", "mlp", "deep"):
        for percent in (10, 25):
            old, new, merges = pair_of(oracle, name, percent)
            width = len(oracle[f"{name}/kernel0"])
            box = [np.zeros(width)], [np.ones(width)]
            started = time.perf_counter()
            found = _core.certify(old, new, *box, merges)
            certified = time.perf_counter()
            again = _core.verify(old, new, *box, merges)
            verified = time.perf_counter()
            lower, upper = oracle[f"{name}/{percent}/box/diff/CROWN"]
            pad = 1e-9 * np.maximum(np.abs(found["lower"]), np.abs(found["upper"]))
            inside = np.all(again["lower"] >= found["lower"] - pad)
            inside &= np.all(again["upper"] <= found["upper"] + pad)
            mean = np.mean(np.maximum(-found["lower"], found["upper"]))
            print(
                f"| {name} | {percent} % | {np.mean(np.maximum(-lower, upper)):.4g} | {mean:.4g} | "
                f"{certified - started:.2f} | {verified - certified:.2f} | "
                f"{'yes' if inside else 'NO'} |",
                flush=True,
            )


def speed(oracle: dict[str, NDArray[np.float32]]) -> None:
    """Print what a candidate costs, and CROWN for one image."""
    old, _, _ = pair_of(oracle, "mlp", 10)
    units = oracle["mlp/kernel0"].shape[1]
    pairs = [(i, j) for i in range(units) for j in range(units) if i != j]
    box = [np.zeros(784)], [np.ones(784)]
    wall, cpu = timed(lambda: old.impact("d0", pairs, *box), 10)
    print(f"\nScoring all {len(pairs):,} pairs of the first layer of 784-128-128-64-10, bounds and")
    print(
        f"Jacobian and Python's lists included: {1e6 * wall / len(pairs):.2f} us a pair, ", end=""
    )
    print(f"{1e6 * cpu / len(pairs):.2f} us of CPU time")
    for name in ("mlp", "deep"):
        model, _, _ = pair_of(oracle, name, 10)
        last = f"d{sum(f'{name}/kernel{at}' in oracle for at in range(20)) - 1}"
        x = oracle[f"{name}/x"].astype(np.float64)
        ends = [np.maximum(x - RADIUS, 0.0)], [np.minimum(x + RADIUS, 1.0)]
        wall, cpu = timed(
            lambda model=model, last=last, ends=ends: _core.tight_bounds(  # type: ignore[misc]
                model, last, *ends, mean_value=False
            ),
            20,
        )
        print(f"CROWN, {name}, one image, eps 8/255: {1e3 * wall:.1f} ms ({1e3 * cpu:.1f} ms CPU)")


def credit_card(budgets: list[float]) -> None:
    """Print what budgets buy on the credit card model, and what the margins prove."""
    import datasets
    import nnprune

    box = np.load(CREDIT_BOX)
    bounds = box["lower"], box["upper"]
    data = datasets.load_for("creditcard")
    samples = np.clip(data.x_test, *bounds)
    print("\nCredit card model, 128 hidden units, its own box")
    for budget in budgets:
        result = nnprune.prune(
            str(CREDIT),
            target=0.9,
            input_bounds=bounds,
            max_output_change=budget,
            method=nnprune.Greedy(),
        )
        print(f"budget {budget:g}: {len(result.merges)} units", flush=True)
    for target in (0.02, 0.05, 0.1):
        result = nnprune.prune(
            str(CREDIT), target=target, input_bounds=bounds, method=nnprune.Greedy()
        )
        found = nnprune.certify(
            result.model,
            original=str(CREDIT),
            pruning=result.to_dict(),
            samples=samples,
        ).to_dict()
        change = found["output_change"]
        print(
            f"{target:.0%} pruned: {len(result.merges)} units, change "
            f"[{change['lower'][0]:.3g}, {change['upper'][0]:.3g}], coverage {found['coverage']}"
        )


def main() -> None:
    """Print it all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budgets", default="1e-6,0.5,5,10,50")
    options = parser.parse_args()
    oracle = dict(np.load(ORACLE))
    tightness(oracle)
    speed(oracle)
    if CREDIT.is_file():
        credit_card([float(budget) for budget in options.budgets.split(",")])


if __name__ == "__main__":
    main()
