"""The twins of the certificate against auto_LiRPA, and against what sampling finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from reference.activation import Array, slope
from reference.bounds import Interval, sample, softmax
from reference.chain_certificate import (
    Certificate,
    certify,
    new_decides,
    old_decides,
    softmax_lines,
)
from reference.chain_difference import Pairs, delegates, merged
from reference.chain_jacobian import after_slopes, reach, spectral_norm, spectral_radius
from reference.chain_values import Chain, pre_activations, value_maps
from reference.impact import gap

FIXTURE = Path(__file__).with_name("oracles") / "crown.npz"
RADII = {"eps0.003922": 1 / 255, "eps0.031373": 8 / 255, "eps0.020000": 0.02}
REGIONS = {
    "mlp": ("box", "eps0.003922", "eps0.031373"),
    "deep": ("box", "eps0.003922", "eps0.031373"),
    "tab": ("box", "eps0.020000"),
}
# The mean over the outputs of the largest |g - f| certified, to notice when it gets worse.
REACHED = {
    ("mlp", 10, "box"): 1005.3,
    ("mlp", 25, "box"): 1677.4,
    ("mlp", 10, "eps0.031373"): 26.77,
    ("deep", 10, "box"): 3563.5,
    ("deep", 25, "box"): 4317.9,
    ("tab", 10, "box"): 2.246e-6,
    ("tab", 25, "box"): 12.34,
    ("tab", 25, "eps0.020000"): 0.2531,
}
KINDS = ("relu", "leaky_relu", "tanh", "gelu")


@pytest.fixture(scope="module")
def made() -> dict[str, NDArray[Any]]:
    with np.load(FIXTURE) as arrays:
        return dict(arrays)


@dataclass(frozen=True)
class Case:
    """An original network, a pruned one, and where to compare them."""

    old: Chain
    new: Chain
    merges: Sequence[Pairs]
    box: Interval
    point: Array


def read(made: dict[str, NDArray[Any]], name: str, share: int, region: str) -> Case:
    layers = sum(key.startswith(f"{name}/kernel") for key in made)
    old = Chain(
        tuple(made[f"{name}/kernel{i}"].T.astype(np.float64) for i in range(layers)),
        tuple(made[f"{name}/bias{i}"].astype(np.float64) for i in range(layers)),
    )
    merges = [
        [(int(i), int(j)) for i, j in made[f"{name}/merges{share}/{layer}"]]
        for layer in range(layers - 1)
    ]
    inputs = old.weights[0].shape[1]
    point = made.get(f"{name}/x", np.full(inputs, 0.5))
    radius = RADII.get(region, 1.0)
    box = (np.maximum(point - radius, 0.0), np.minimum(point + radius, 1.0))
    return Case(old, merged(old, merges), merges, box, point)


def assert_equal(found: Interval, expected: Array) -> None:
    scale = np.max(np.abs(expected))
    np.testing.assert_allclose(np.stack(found), expected, rtol=0.0, atol=1e-9 * scale)


def gradient(chain: Chain, points: Array, row: Array) -> Array:
    """Return the gradient (samples, inputs) of row @ outputs."""
    hidden = pre_activations(chain, points)[:-1]
    found = np.broadcast_to(row @ chain.weights[-1], (len(points), chain.weights[-1].shape[1]))
    for weight, before in zip(reversed(chain.weights[:-1]), reversed(hidden), strict=True):
        found = (found * slope(chain.activation, before, side="right")) @ weight
    return found


def climb(case: Case, points: Array, row: Array, steps: int = 6) -> Array:
    """Follow the gradient's sign to a large row @ (g - f) inside the box."""
    lower, upper = case.box
    for step in range(steps):
        uphill = gradient(case.new, points, row) - gradient(case.old, points, row)
        points = points + np.sign(uphill) * (upper - lower) / (2.0 + step)
        points = np.clip(points, lower, upper)
    return points


def attempts(case: Case, seed: int = 0) -> Array:
    """Return points of the box: random ones, corners, the middle, and where the outputs part."""
    random = np.random.default_rng(seed)
    lower, upper = case.box
    starts = sample(random, [lower], [upper], 40)[0]
    starts = np.concatenate([starts, [lower, upper, np.clip(case.point, lower, upper)]])
    rows = [sign * row for row in np.eye(len(case.old.biases[-1])) for sign in (1.0, -1.0)]
    return np.concatenate([starts, *(climb(case, starts[-5:], row) for row in rows)])


def assert_sound(case: Case, found: Certificate, seed: int = 0) -> None:
    points = attempts(case, seed)
    old, new = (pre_activations(chain, points)[-1] for chain in (case.old, case.new))
    apart = new - old
    # The sampled values carry the rounding of both networks.
    pad = 1e-12 * (1.0 + np.max(np.abs(old)))
    for route, (low, high) in found.routes.items():
        assert np.all(low - pad <= apart), route
        assert np.all(apart <= high + pad), route
    assert np.all(found.lower - pad <= apart)
    assert np.all(apart <= found.upper + pad)
    against = apart[:, None, :] - apart[:, :, None]
    assert np.all(against <= found.margins + 2.0 * pad)

    shares = softmax(new) - softmax(old)
    lines = softmax_lines(found.margins + 2.0 * pad)
    assert np.all(np.abs(shares) <= lines.probability + 1e-12)
    assert np.all(np.sum(np.abs(shares), axis=1) / 2.0 <= lines.total_variation + 1e-12)
    same = np.argmax(old, axis=1) == np.argmax(new, axis=1)
    assert np.all(same[old_decides(old, found.margins + 2.0 * pad)])
    assert np.all(same[new_decides(new, found.margins + 2.0 * pad)])


CASES = [
    (name, share, region)
    for name, regions in REGIONS.items()
    for share in (10, 25)
    for region in regions
]


@pytest.mark.parametrize(("name", "share", "region"), CASES)
def test_intervals_and_lines_equal_the_outside_verifier(
    made: dict[str, NDArray[Any]], name: str, share: int, region: str
) -> None:
    case = read(made, name, share, region)
    where = f"{name}/{share}/{region}"
    ends = {}
    for which, chain in (("f", case.old), ("g", case.new)):
        for theirs, ours in (("IBP", "interval"), ("CROWN", "crown")):
            ends[which, ours] = value_maps(chain, case.box, [ours])[-1]
            assert_equal(ends[which, ours], made[f"{where}/{which}/{theirs}"])
    apart = gap(ends["f", "interval"], ends["g", "interval"])
    assert_equal(apart, made[f"{where}/diff/IBP"])


@pytest.mark.parametrize(("name", "share", "region"), REACHED)
def test_certificates_hold_and_beat_the_outside_verifier(
    made: dict[str, NDArray[Any]], name: str, share: int, region: str
) -> None:
    case = read(made, name, share, region)
    found = certify(case.old, case.new, case.merges, case.box)
    theirs = made[f"{name}/{share}/{region}/diff/CROWN"]
    assert_equal(found.routes["twin_crown_plain"], theirs)
    slack = 1e-9 * np.abs(theirs)
    assert np.all(found.lower >= theirs[0] - slack[0])
    assert np.all(found.upper <= theirs[1] + slack[1])
    reached = np.mean(np.maximum(-found.lower, found.upper))
    assert reached <= REACHED[name, share, region]
    assert_sound(case, found)


def test_all_maps_contain_what_networks_compute(made: dict[str, NDArray[Any]]) -> None:
    for name in REGIONS:
        case = read(made, name, 10, "box")
        values = pre_activations(case.old, attempts(case))
        for layer, (low, high) in enumerate(value_maps(case.old, case.box)):
            pad = 1e-12 * np.max(np.abs(values[layer]))
            assert np.all(low - pad <= values[layer])
            assert np.all(values[layer] <= high + pad)


def small(random: np.random.Generator, kind: str) -> Case:
    sizes = [int(size) for size in random.integers(1, 7, random.integers(2, 6))]
    sizes[-1] = max(sizes[-1], 2)
    weights = [random.normal(size=(m, n)) for n, m in pairwise(sizes)]
    for weight in weights:
        weight[random.random(weight.shape) < 0.2] = 0.0
    biases = [random.normal(size=m) for m in sizes[1:]]
    old = Chain(tuple(weights), tuple(biases), kind)
    merges: list[Pairs] = []
    for units in sizes[1:-1]:
        order = [int(unit) for unit in random.permutation(units)]
        # Delegates may go in turn, so there are chains.
        merges.append(
            [
                (order[i], order[int(random.integers(i + 1, units))])
                for i in range(random.integers(units))
            ]
        )
    new = merged(old, merges, stored=bool(random.random() < 0.5))
    if random.random() < 0.3:  # any other change is part of the difference too
        changed = [bias + 0.1 * random.normal(size=len(bias)) for bias in biases]
        new = Chain(new.weights, tuple(changed), kind)
    lower = random.normal(size=sizes[0])
    upper = lower + random.choice([0.0, 0.1, 1.0, 4.0]) * random.random(sizes[0])
    return Case(old, new, merges, (lower, upper), lower)


@pytest.mark.parametrize("kind", KINDS)
def test_small_networks_never_leave_their_certificates(kind: str) -> None:
    for seed in range(10):
        case = small(np.random.default_rng(seed), kind)
        found = certify(case.old, case.new, case.merges, case.box)
        assert np.all(found.lower <= found.upper)
        assert_sound(case, found, seed)


def test_no_merge_means_no_difference() -> None:
    case = small(np.random.default_rng(3), "relu")
    found = certify(case.old, case.old, [[] for _ in case.merges], case.box)
    assert not np.any(found.lower)
    assert not np.any(found.upper)
    assert not np.any(found.margins)


def test_delegates_are_followed_to_the_last() -> None:
    np.testing.assert_array_equal(delegates(5, [(0, 1), (1, 4), (3, 0)]), [4, 4, 2, 4, 4])


def test_spectral_bounds_are_above_and_close() -> None:
    random = np.random.default_rng(0)
    for size in ((1, 1), (5, 9), (30, 20), (60, 60)):
        matrix = random.normal(size=size)
        exact = np.linalg.norm(matrix, 2)
        assert exact * (1.0 - 1e-12) <= spectral_norm(matrix) <= 1.1 * exact
        gram = matrix @ matrix.T
        assert exact**2 * (1.0 - 1e-12) <= spectral_radius(gram) <= 1.1 * exact**2
    assert spectral_norm(np.zeros((3, 2))) == 0.0


@pytest.mark.parametrize("least", [0.0, -0.2])
@pytest.mark.parametrize("rank", [1, 2, 6])
def test_slopes_stay_within_the_ellipsoid(least: float, rank: int) -> None:
    random = np.random.default_rng(rank)
    for _ in range(50):
        root = random.normal(size=(rank, 6)) * 10.0 ** random.uniform(-1.0, 1.0, 6)
        sphere = random.normal(size=(200, rank))
        inside = sphere / np.linalg.norm(sphere, axis=1, keepdims=True) @ root
        slopes = random.choice([least, 0.5, 1.0], size=inside.shape)
        slopes[:20] = 1.0
        rows = inside * slopes
        wide = after_slopes(root.T @ root, least, 1.0)
        assert np.all(np.sum(rows * np.linalg.solve(wide, rows.T).T, axis=1) <= 1.0 + 1e-9)

        weight, box = random.normal(size=(6, 6)), random.random(6)
        largest = np.abs(rows @ weight) @ box
        assert np.all(largest <= reach(wide, weight, box) * (1.0 + 1e-9))
