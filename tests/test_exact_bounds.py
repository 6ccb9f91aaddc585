"""Bounds and certificates against exact rational arithmetic, and against gradient ascent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
from exact_chains import (
    F64,
    GRID_BITS,
    POINT_BITS,
    Chain,
    ExactBox,
    Integers,
    Merge,
    Step,
    Values,
    assert_contains,
    at_most,
    difference,
    hard_chain,
    margins,
    random_merges,
)
from hypothesis import given, settings
from networks import seeds
from nnprune import _core

TIGHTENINGS = list(product([False, True], repeat=2))


INNER = 12  # points of a box beside its corners


def image(weights: F64, bias: float, lower: F64, upper: F64) -> tuple[Fraction, Fraction]:
    """Return the exact ends of `weights . x + bias` over a box."""
    least = most = Fraction(bias)
    for weight, low, high in zip(weights, lower, upper, strict=True):
        ends = Fraction(weight) * Fraction(low), Fraction(weight) * Fraction(high)
        least, most = least + min(ends), most + max(ends)
    return least, most


def check_image(seed: int, *, vanishing: bool = False) -> None:
    random = np.random.default_rng(seed)
    chain, lower, upper = hard_chain(random, 1, vanishing=vanishing)
    network = chain.build()
    (step,) = chain.steps
    for low, high in ((lower, lower), (upper, upper), (lower, upper)):
        found = network.value_intervals([low], [high])["dense_0"]
        for unit, bias in enumerate(step.bias):
            weights = step.kernel[:, unit].astype(np.float64)
            least, most = image(weights, float(bias), low, high)
            assert not np.isfinite(found[0][unit]) or Fraction(found[0][unit]) <= least
            assert not np.isfinite(found[1][unit]) or most <= Fraction(found[1][unit])


@settings(max_examples=400)
@given(seed=seeds)
def test_a_linear_image_contains_the_exact_one(seed: int) -> None:
    """The rounding pad alone: of two points and a box, for 1 to 6 units."""
    check_image(seed)


@settings(max_examples=20)
@given(seed=seeds)
def test_long_sums_are_padded_enough(seed: int) -> None:
    """Up to 300 products that cancel."""
    random = np.random.default_rng(seed)
    rows = int(random.integers(30, 300))
    kernel = (random.standard_normal((rows, 4)) * 2.0 ** random.integers(-60, 60)).astype(
        np.float32
    )
    x = random.standard_normal(rows) * np.exp2(random.uniform(-30.0, 30.0, rows))
    half = rows // 2
    kernel[half : 2 * half], x[half : 2 * half] = -kernel[:half], x[:half]
    step = Step(kernel, np.zeros(4, np.float32))
    low, high = Chain((step,)).build().value_intervals([x], [x])["dense_0"]
    for unit in range(4):
        least, most = image(kernel[:, unit].astype(np.float64), 0.0, x, x)
        assert Fraction(low[unit]) <= least <= most <= Fraction(high[unit])


@settings(max_examples=20)
@given(seed=seeds)
def test_integers_in_one_unit_are_rational_arithmetic(seed: int) -> None:
    random = np.random.default_rng(seed)
    chain, lower, upper = hard_chain(random, int(random.integers(1, 4)))
    places = random.integers(0, (1 << GRID_BITS) + 1, len(lower))
    share = [Fraction(int(place), 1 << GRID_BITS) for place in places]
    at = [
        Fraction(low) * (1 - part) + Fraction(high) * part
        for low, high, part in zip(lower, upper, share, strict=True)
    ]
    for step in chain.steps:
        sums = [
            sum(
                (Fraction(float(w)) * x for w, x in zip(column, at, strict=True)),
                Fraction(float(b)),
            )
            for column, b in zip(step.kernel.T, step.bias, strict=True)
        ]
        slope = Fraction(1 if step.slope is None else step.slope)
        at = [z if z > 0 else slope * z for z in sums]
    found = chain.outputs(ExactBox(lower, upper).on_grid(places[None]))
    assert [Fraction(number, 1 << found.bits) for number in found.numbers[0]] == at


def check_values(seed: int, *, vanishing: bool = False) -> None:
    random = np.random.default_rng(seed)
    chain, lower, upper = hard_chain(random, int(random.integers(1, 4)), vanishing=vanishing)
    network, box = chain.build(), ExactBox(lower, upper)
    places = box.places(random, INNER)
    unit, sign = int(random.integers(chain.logits)), int(random.choice([-1, 1]))

    def height(points: Integers) -> Integers:
        found: Integers = sign * chain.outputs(points).numbers[:, unit]
        return found

    places = np.concatenate([places, box.climbed(height, places[-3:])])
    values = chain.values(box.on_grid(places))
    for name, (low, high) in network.value_intervals([lower], [upper]).items():
        if name in values:
            assert_contains(low, high, values[name], name)
    for name, exact in values.items():
        for mean_value, backward in TIGHTENINGS:
            low, high = _core.tight_bounds(
                network, name, [lower], [upper], mean_value=mean_value, backward=backward
            )
            assert_contains(low, high, exact, (name, mean_value, backward))


@settings(max_examples=350)
@given(seed=seeds)
def test_value_bounds_contain_exact_values(seed: int) -> None:
    check_values(seed)


def smaller(random: np.random.Generator, f: Chain) -> tuple[Chain, list[Merge]]:
    """Return what merges make of a chain; sometimes with other weights than merging gives."""
    merges = random_merges(random, f, drops=True)
    g = f.merged(merges)
    if random.random() < 0.3:
        steps = [
            replace(
                step,
                kernel=np.nextafter(step.kernel, np.float32(random.choice([-1e30, 1e30]))),
                bias=np.nextafter(step.bias, np.float32(random.choice([-1e30, 1e30]))),
            )
            for step in g.steps
        ]
        g = Chain(tuple(steps))
    return g, merges


def test_merging_here_is_merging_there() -> None:
    random = np.random.default_rng(0)
    for _ in range(100):
        chain, _, _ = hard_chain(random, 3, least_units=2)
        merges = random_merges(random, chain)
        network = chain.build()
        for layer in ("dense_0", "dense_1"):
            pairs = [(i, j) for name, i, j in merges if name == layer and j is not None]
            network = network.removed(layer, pairs)
        for number, step in enumerate(chain.merged(merges).steps):
            stored = network.weights(f"dense_{number}")
            np.testing.assert_array_equal(stored["kernel"], step.kernel)
            np.testing.assert_array_equal(stored["bias"], step.bias)


def check_certificate(seed: int, *, vanishing: bool = False) -> None:
    random = np.random.default_rng(seed)
    f, lower, upper = hard_chain(random, int(random.integers(2, 4)), vanishing=vanishing)
    g, merges = smaller(random, f)
    box = ExactBox(lower, upper)
    places = box.places(random, INNER)
    unit, sign = int(random.integers(f.logits)), int(random.choice([-1, 1]))

    def height(points: Integers) -> Integers:
        change = difference(f.outputs(points), g.outputs(points)).numbers
        found: Integers = sign * (change[:, unit] - change[:, 0] * (unit > 0))
        return found

    places = np.concatenate([places, box.climbed(height, places[-3:])])
    points = box.on_grid(places)
    before, after = f.outputs(points), g.outputs(points)
    change = difference(before, after)
    falls = margins(Values(-change.numbers, change.bits))
    pair = f.build(), g.build()
    for mean_value, backward in TIGHTENINGS:
        options = (mean_value, backward)
        found = _core.certify(
            *pair, [lower], [upper], merges, mean_value=mean_value, backward=backward
        )
        assert_contains(found["lower"], found["upper"], change, options)
        for c, k in np.ndindex(*found["margins"].shape):
            most = float(found["margins"][c, k])
            assert at_most(-most, -max(falls.numbers[:, c, k]), falls.bits), (c, k, options)
    found = _core.verify(*pair, [lower], [upper], merges)
    assert_contains(found["lower"], found["upper"], change, "verify")


@settings(max_examples=350)
@given(seed=seeds)
def test_certificates_contain_exact_changes(seed: int) -> None:
    check_certificate(seed)


def check_margins(seed: int, *, vanishing: bool = False) -> None:
    random = np.random.default_rng(seed)
    chain, lower, upper = hard_chain(random, int(random.integers(1, 4)), vanishing=vanishing)
    network = chain.build()
    middle = np.clip(lower / 2.0 + upper / 2.0, lower, upper)
    lows = np.array([lower, middle, lower, middle])
    highs = np.array([upper, upper, middle, middle])
    classes = random.integers(0, max(chain.logits, 2), len(lows))
    found = _core.certified_margins(network, lows, highs, classes)
    for low, high, c, bounds in zip(lows, highs, classes, found, strict=True):
        box = ExactBox(low, high)
        other = int(random.integers(len(bounds)))

        def depth(points: Integers, c: int = int(c), other: int = other) -> Integers:
            found: Integers = -margins(chain.outputs(points)).numbers[:, c, other]
            return found

        places = box.places(random, INNER)
        places = np.concatenate([places, box.climbed(depth, places[-2:], rounds=1)])
        exact = margins(chain.outputs(box.on_grid(places)))
        for k, bound in enumerate(bounds.tolist()):
            if k == c:
                assert bound == np.inf
            else:
                assert at_most(bound, min(exact.numbers[:, c, k]), exact.bits), (c, k)


@settings(max_examples=250)
@given(seed=seeds)
def test_certified_margins_are_never_above_exact_ones(seed: int) -> None:
    check_margins(seed)


@pytest.mark.parametrize("check", [check_image, check_values, check_certificate, check_margins])
def test_bounds_hold_where_products_vanish(check: Callable[..., None]) -> None:
    for seed in range(60):
        check(seed, vanishing=True)


@pytest.mark.parametrize(("weight", "x"), [(1.0, 1e-310), (0.5, 5e-324), (1e-45, 1e-300)])
def test_a_constant_swallows_no_tiny_product(weight: float, x: float) -> None:
    """Values are above 1; the bounds are [1, 1]."""
    step = Step(np.array([[weight]], np.float32), np.ones(1, np.float32))
    network, at = Chain((step,)).build(), [np.array([x])]
    exact = 1 + Fraction(float(step.kernel[0, 0])) * Fraction(x)
    plain = network.value_intervals(at, at)["dense_0"]
    for _, high in (plain, _core.tight_bounds(network, "dense_0", at, at)):
        assert exact <= Fraction(high[0])


@pytest.mark.parametrize("path", [_core.certify, _core.verify])
@pytest.mark.parametrize(("weight", "x"), [(0.5, 5e-324), (1e-45, 1e-310)])
def test_dropping_a_tiny_unit_is_a_change(
    path: Callable[..., dict[str, F64]], weight: float, x: float
) -> None:
    """`g - f = -weight * x`, which is below 0; the bounds are [0, 0]."""
    first = Step(np.array([[1.0, weight]], np.float32), np.zeros(2, np.float32), 0.0)
    last = Step(np.ones((2, 1), np.float32), np.zeros(1, np.float32))
    f, merges = Chain((first, last)), [("dense_0", 1, None)]
    at = [np.array([x])]
    found = path(f.build(), f.merged(merges).build(), at, at, merges)
    exact = -Fraction(float(first.kernel[0, 1])) * Fraction(x)
    assert Fraction(found["lower"][0]) <= exact <= Fraction(found["upper"][0])


class Climber:
    """Gradients of a chain of ReLUs in float64, by hand, and how far values may be off."""

    def __init__(self, chain: Chain) -> None:
        self.kernels = [step.kernel.astype(np.float64) for step in chain.steps]
        self.biases = [step.bias.astype(np.float64) for step in chain.steps]
        self.slopes = [1.0 if step.slope is None else step.slope for step in chain.steps]

    def values(self, x: F64) -> tuple[F64, list[F64]]:
        """Return logits, and the slope of every unit's activation at the points."""
        taken = []
        for kernel, bias, slope in zip(self.kernels, self.biases, self.slopes, strict=True):
            z = x @ kernel + bias
            taken.append(np.where(z > 0.0, 1.0, slope))
            x = z * taken[-1]
        return x, taken

    def gradients(self, taken: list[F64], rows: F64) -> F64:
        """Return the gradients of `rows . logits`."""
        for kernel, slopes in zip(self.kernels[::-1], taken[::-1], strict=True):
            rows = (rows * slopes) @ kernel.T
        return rows

    def error(self, x: F64) -> F64:
        """Return by how much rounding may have moved each logit."""
        x, terms = np.abs(x), 0
        for kernel, bias in zip(self.kernels, self.biases, strict=True):
            x = x @ np.abs(kernel) + np.abs(bias)
            terms += len(kernel) + 4
        return terms * 2.0**-52 * x


def medium_chain(random: np.random.Generator, sizes: list[int], slope: float) -> Chain:
    """Return a chain whose units come in pairs that are nearly alike, as merging needs them."""
    steps = []
    for number, (rows, columns) in enumerate(pairwise(sizes)):
        kernel = random.standard_normal((rows, columns)) * rows**-0.5
        bias = 0.2 * random.standard_normal(columns)
        last = number == len(sizes) - 2
        if not last:
            half = columns // 2
            near = kernel[:, :half] + 0.02 * random.standard_normal((rows, half))
            kernel[:, half : 2 * half], bias[half : 2 * half] = near, bias[:half]
        steps.append(
            Step(kernel.astype(np.float32), bias.astype(np.float32), None if last else slope)
        )
    return Chain(tuple(steps))


@pytest.mark.parametrize("width", [1.0, 0.1, 0.01])
@pytest.mark.parametrize(
    ("sizes", "slope"), [([20, 30, 30, 5], 0.0), ([12, 24, 16, 3], 0.1), ([8, 40, 2], 0.0)]
)
@pytest.mark.parametrize("sequence", [0, 1, 2])
def test_gradient_ascent_breaks_no_bound(
    sizes: list[int], slope: float, sequence: int, width: float
) -> None:
    random = np.random.default_rng([*sizes, round(100 * width), sequence])
    f = medium_chain(random, sizes, slope)
    merges: list[Merge] = random_merges(random, f, drops=sequence == 2, least=4)
    if sequence == 0:  # units that are nearly alike
        merges = [
            (f"dense_{number}", i, i - units // 2)
            for number, units in enumerate(sizes[1:-1])
            for i in range(units // 2, units // 2 * 2, 2)
        ]
    g = f.merged(merges)
    centre = random.standard_normal(sizes[0])
    lower, upper = centre - width, centre + width
    boxes = [lower], [upper]
    pair = f.build(), g.build()
    change = _core.certify(*pair, *boxes, merges)
    checked = _core.verify(*pair, *boxes, merges)
    logits = [_core.tight_bounds(network, f"dense_{len(sizes) - 2}", *boxes) for network in pair]
    classes = np.arange(sizes[-1])
    least = _core.certified_margins(
        pair[0], np.tile(lower, (sizes[-1], 1)), np.tile(upper, (sizes[-1], 1)), classes
    )

    # Each row says how much of f's and of g's logits is to rise: of one, of g - f, of margins.
    eye = np.eye(sizes[-1])
    apart = (eye[:, None] - eye[None]).reshape(-1, sizes[-1])
    plain = np.concatenate([eye, -eye])
    rows_f = np.concatenate([plain, 0.0 * plain, -plain, apart, apart])
    rows_g = np.concatenate([0.0 * plain, plain, plain, -apart, 0.0 * apart])
    rows_f, rows_g = (np.tile(rows, (3, 1)) for rows in (rows_f, rows_g))
    climb_f, climb_g = Climber(f), Climber(g)
    x = random.uniform(lower, upper, (len(rows_f), sizes[0]))
    heights = []
    third = len(x) // 3
    x[:third] = np.where(random.random((third, sizes[0])) < 0.5, lower, upper)
    for step in range(31):
        z_f, taken_f = climb_f.values(x)
        z_g, taken_g = climb_g.values(x)
        heights.append(np.sum(rows_f * z_f + rows_g * z_g, axis=1))
        e_f, e_g = climb_f.error(x), climb_g.error(x)
        slack = e_f + e_g
        assert np.all(z_g - z_f >= change["lower"] - slack)
        assert np.all(z_g - z_f <= change["upper"] + slack)
        assert np.all(z_g - z_f >= checked["lower"] - slack)
        assert np.all(z_g - z_f <= checked["upper"] + slack)
        for z, error, (low, high) in ((z_f, e_f, logits[0]), (z_g, e_g, logits[1])):
            assert np.all(z >= low - error)
            assert np.all(z <= high + error)
        both = slack[:, :, None] + slack[:, None, :]
        gap_f, gap_g = (z[:, :, None] - z[:, None, :] for z in (z_f, z_g))
        assert np.all(gap_f - gap_g <= change["margins"] + both)
        off = ~np.eye(sizes[-1], dtype=bool)
        assert np.all((gap_f - least + both)[:, off] >= 0.0)
        uphill = climb_f.gradients(taken_f, rows_f) + climb_g.gradients(taken_g, rows_g)
        x = np.clip(x + width * 0.9**step * np.sign(uphill), lower, upper)
    risen = heights[-1] - heights[0]
    changes = np.all(rows_f + rows_g == 0.0, axis=1)
    assert np.mean(risen[changes]) > 0.0
    assert np.mean(risen[~changes]) > 0.0


def test_points_lie_in_their_box() -> None:
    box = ExactBox(np.array([-1.0, 5e-324]), np.array([2.0, 5e-324]))
    points = box.on_grid(np.array([[0, 0], [1 << GRID_BITS, 3]]))
    assert [Fraction(int(one), 1 << POINT_BITS) for one in points[:, 0]] == [-1, 2]
    assert all(Fraction(int(one), 1 << POINT_BITS) == Fraction(5e-324) for one in points[:, 1])
