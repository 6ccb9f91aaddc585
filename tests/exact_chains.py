"""Chains of Dense and ReLU, evaluated without any rounding, and boxes that are hard on bounds.

A float is an integer times a power of two. With all of them in one small enough unit, sums and
products of integers are what rational arithmetic would give; Python's integers never overflow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from nnprune import _core
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Integers = NDArray[np.object_]
Merge = tuple[str, int, int | None]

# Every float64 is a multiple of 2^-1074, every float32 of 2^-149; no slope here needs more bits.
FLOAT_BITS, WEIGHT_BITS, SLOPE_BITS, GRID_BITS = 1074, 149, 64, 6
POINT_BITS = FLOAT_BITS + GRID_BITS


def scaled(values: Any, bits: int) -> Integers:
    """Return `values * 2^bits`, which have to be integers."""

    def one(value: Any) -> int:
        above, below = float(value).as_integer_ratio()
        assert (above << bits) % below == 0
        return (above << bits) // below

    found: Integers = np.frompyfunc(one, 1, 1)(np.asarray(values, np.float64))
    return found


@dataclass(frozen=True)
class Step:
    """A Dense op, and the activation behind it: none, or a ReLU with a slope below 0."""

    kernel: F32
    bias: F32
    slope: float | None = None


@dataclass(frozen=True)
class Values:
    """Values of a node at some points, `[points, units]` in units of `2^-bits`."""

    numbers: Integers
    bits: int

    def at(self, bits: int) -> Integers:
        """Return the numbers in a finer unit."""
        finer: Integers = self.numbers * (1 << (bits - self.bits))
        return finer


@dataclass(frozen=True)
class Chain:
    """Steps one after the other; step i is the layer `dense_i`, its activation `act_i`."""

    steps: tuple[Step, ...]

    @property
    def features(self) -> int:
        return len(self.steps[0].kernel)

    @property
    def logits(self) -> int:
        return len(self.steps[-1].bias)

    def build(self) -> _core.Network:
        builder = _core.NetworkBuilder()
        at = "x"
        builder.input(at, (self.features,))
        for number, step in enumerate(self.steps):
            builder.dense(f"dense_{number}", at, step.kernel, step.bias)
            at = f"dense_{number}"
            if step.slope is not None:
                builder.activation(
                    f"act_{number}", at, "relu", parameters={"negative_slope": step.slope}
                )
                at = f"act_{number}"
        return builder.build([at])

    def values(self, points: Integers) -> dict[str, Values]:
        """Return the exact values of every node at points in units of `2^-POINT_BITS`."""
        at, bits = points, POINT_BITS
        found = {}
        for number, step in enumerate(self.steps):
            at = at @ scaled(step.kernel, WEIGHT_BITS) + scaled(step.bias, bits + WEIGHT_BITS)
            bits += WEIGHT_BITS
            found[f"dense_{number}"] = Values(at, bits)
            if step.slope is not None:
                falling = int(scaled(step.slope, SLOPE_BITS))
                at = np.where(at > 0, at * (1 << SLOPE_BITS), at * falling)
                bits += SLOPE_BITS
                found[f"act_{number}"] = Values(at, bits)
        return found

    def outputs(self, points: Integers) -> Values:
        """Return the exact logits."""
        return list(self.values(points).values())[-1]

    def merged(self, merges: Sequence[Merge]) -> Chain:
        """Merge as the core does: sums are rounded to float32, one after the other."""
        steps = list(self.steps)
        for number in range(len(steps) - 1):
            mine = [(i, j) for layer, i, j in merges if layer == f"dense_{number}"]
            kernel = steps[number + 1].kernel.copy()
            for nominee, delegate in mine:
                if delegate is not None:
                    kernel[delegate] += kernel[nominee]
                kernel[nominee] = 0.0
            kept = np.setdiff1d(np.arange(len(kernel)), [nominee for nominee, _ in mine])
            here = steps[number]
            steps[number] = replace(here, kernel=here.kernel[:, kept], bias=here.bias[kept])
            steps[number + 1] = replace(steps[number + 1], kernel=kernel[kept])
        return Chain(tuple(steps))


def random_merges(
    random: np.random.Generator, chain: Chain, *, drops: bool = False, least: int = 0
) -> list[Merge]:
    """Return merges in every layer but the last; a delegate may go later on."""
    merges: list[Merge] = []
    for number, step in enumerate(chain.steps[:-1]):
        live = list(range(step.kernel.shape[1]))
        for _ in range(int(random.integers(least, len(live)))):
            nominee = live.pop(int(random.integers(len(live))))
            delegate = live[int(random.integers(len(live)))]
            gone = drops and random.random() < 0.2
            merges.append((f"dense_{number}", nominee, None if gone else delegate))
    return merges


def weights(random: np.random.Generator, *shape: int) -> F32:
    """Return float32 weights of one of many kinds, some of them exactly zero."""
    drawn = random.standard_normal(shape)
    match random.integers(7):
        case 0:  # of any size
            drawn = np.sign(drawn) * np.exp2(random.uniform(-140.0, 60.0, shape))
        case 1:  # of two sizes, far apart
            drawn *= np.where(random.random(shape) < 0.5, 1.0, 2.0 ** random.integers(20, 60))
        case 2:  # most of them subnormal
            drawn *= np.exp2(random.uniform(-149.0, -124.0, shape))
        case 3:  # next to each other but for the sign
            drawn = drawn[:1] * random.choice([-1.0, 1.0], shape)
            drawn *= 1.0 + 2.0**-23 * random.integers(-2, 3, shape)
        case 4:  # integers
            drawn = np.rint(4.0 * drawn)
        case _:
            pass
    kept = random.random(shape) < random.choice([0.6, 1.0])
    return np.asarray(np.where(kept, drawn, 0.0), np.float32)


SLOPES = (0.0, 0.0, 0.0, 0.25, 0.01, 2.0**-30)


def hard_chain(
    random: np.random.Generator, depth: int, *, vanishing: bool = False, least_units: int = 1
) -> tuple[Chain, F64, F64]:
    """Return a small chain and a box: a point, tiny, wide or huge; values may cancel in it.

    With `vanishing` some inputs are so small that products with weights underflow.
    """
    sizes = random.integers(least_units, 7, depth + 1)
    lower, upper = _box(random, int(sizes[0]), vanishing=vanishing)
    at, steps = lower / 2.0 + upper / 2.0, []
    for number in range(depth):
        kernel = weights(random, int(sizes[number]), int(sizes[number + 1]))
        bias = weights(random, int(sizes[number + 1]))
        with np.errstate(all="ignore"):
            middle = at @ kernel.astype(np.float64)
            # Half of all units change their sign within rounding of the middle.
            cancelling = (random.random(len(bias)) < 0.5) & (np.abs(middle) < 1e30)
            bias = np.where(cancelling, np.float32(0.0) - middle, bias).astype(np.float32)
            at = np.maximum(middle + bias, 0.0)
        slope = None if number == depth - 1 else float(random.choice(SLOPES))
        steps.append(Step(kernel, bias, slope))
    return Chain(tuple(steps)), lower, upper


def _box(random: np.random.Generator, size: int, *, vanishing: bool) -> tuple[F64, F64]:
    tiny, usual = [5e-324, 1e-310, 1e-290, 1e-270], [0.0, 1e-60, 1.0, 1.0, 1.0, 1e9, 1e25]
    scale = float(random.choice(tiny if vanishing else usual))
    centre = scale * random.standard_normal(size)
    if not vanishing:  # powers of two are exact, and nothing is rounded where nothing has to be
        centre = np.where(random.random(size) < 0.2, np.exp2(np.rint(centre % 8.0)), centre)
    match random.integers(6):
        case 0:
            radius = np.zeros(size)
        case 1:
            radius = np.spacing(np.abs(centre)) * random.integers(0, 3, size)
            radius = np.where(centre == 0.0, 0.0, radius)
        case 2:
            radius = 1e-9 * scale * random.random(size)
        case 3:
            radius = np.exp2(random.uniform(-1070.0 if vanishing else -200.0, 20.0, size))
        case 4:
            radius = random.random(size)
        case _:
            radius = 1e6 * max(scale, 1.0) * random.random(size)
    return centre - radius, centre + radius


class ExactBox:
    """The points of a box, exactly."""

    def __init__(self, lower: F64, upper: F64) -> None:
        self.lower, self.upper = scaled(lower, FLOAT_BITS), scaled(upper, FLOAT_BITS)

    def on_grid(self, places: NDArray[np.int64]) -> Integers:
        """Return points by how many of `2^GRID_BITS` parts they are on the way up."""
        up = places.astype(object)
        found: Integers = self.lower * ((1 << GRID_BITS) - up) + self.upper * up
        return found

    def places(self, random: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Return all corners (few features only), and random points of the grid."""
        end, features = 1 << GRID_BITS, len(self.lower)
        corners = np.array(list(product([0, end], repeat=features)), np.int64)
        return np.concatenate([corners, random.integers(0, end + 1, (count, features))])

    def climbed(
        self,
        objective: Callable[[Integers], Integers],
        starts: NDArray[np.int64],
        rounds: int = 2,
    ) -> NDArray[np.int64]:
        """Raise an exact objective from each start, one coordinate after the other."""
        at = starts.copy()
        end = 1 << GRID_BITS
        for _ in range(rounds):
            for feature in range(at.shape[1]):
                near = at[:, feature]
                moves = [0 * near, near // 2, near, (near + end) // 2, 0 * near + end]
                tried = np.repeat(at[None], len(moves), axis=0)
                tried[:, :, feature] = moves
                heights = objective(self.on_grid(tried.reshape(-1, at.shape[1])))
                best = heights.reshape(len(moves), -1).argmax(axis=0)
                at = tried[best, np.arange(len(at))]
        return at


def ends(values: Values) -> Iterator[tuple[int, int]]:
    """Return the least and the greatest value of each unit."""
    return zip(values.numbers.min(axis=0), values.numbers.max(axis=0), strict=True)


def at_most(bound: float, number: int, bits: int) -> bool:
    """Whether `bound <= number * 2^-bits`, exactly; NaN never is."""
    if not np.isfinite(bound):
        return bool(bound == -np.inf)
    above, below = float(bound).as_integer_ratio()
    return above << bits <= number * below


def assert_contains(lower: F64, upper: F64, values: Values, what: object = "") -> None:
    """Check bounds `[units]` against exact values, without any tolerance."""
    assert lower.shape == upper.shape == values.numbers.shape[1:]
    for unit, (least, most) in enumerate(ends(values)):
        assert at_most(lower[unit], least, values.bits), f"{what}: lower end of {unit}"
        assert at_most(-upper[unit], -most, values.bits), f"{what}: upper end of {unit}"


def difference(f: Values, g: Values) -> Values:
    """Return g - f."""
    bits = max(f.bits, g.bits)
    return Values(g.at(bits) - f.at(bits), bits)


def margins(values: Values) -> Values:
    """Return `z_c - z_k` as `[points, c, k]`; a single logit z counts as two, 0 and z."""
    z = values.numbers
    if z.shape[1] == 1:
        z = np.concatenate([0 * z, z], axis=1)
    return Values(z[:, :, None] - z[:, None, :], values.bits)
