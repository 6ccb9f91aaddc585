"""Value maps of a chain of dense layers: an interval for every pre-activation over a box of inputs.

Three ways to bound affine forms of what a layer reads: by the box of the layer before (IBP), by
lines laid along every activation on the way back to the input (CROWN), and by the mean value form
with the Jacobian enclosed as in `chain_jacobian`. There is no outward rounding here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np

from reference import activation
from reference.activation import Array
from reference.bounds import Interval
from reference.chain_jacobian import Ellipsoids, Rows, Slopes
from reference.impact import intersect

Maps = Sequence[Interval]  # of the pre-activations, layer by layer


@dataclass(frozen=True)
class Chain:
    """Dense layers with one activation after each but the last."""

    weights: tuple[Array, ...]  # (units, inputs) each
    biases: tuple[Array, ...]
    activation: str = "relu"

    @cached_property
    def ellipsoids(self) -> Ellipsoids:
        """What the weights make of a ball, whatever the slopes."""
        return Ellipsoids(self.weights, self.activation)


def pre_activations(chain: Chain, points: Array) -> list[Array]:
    """Return the pre-activations (samples, units) of every layer."""
    found: list[Array] = []
    for weight, bias in zip(chain.weights, chain.biases, strict=True):
        inputs = activation.value(chain.activation, found[-1]) if found else points
        found.append(inputs @ weight.T + bias)
    return found


def affine(weight: Array, bias: Array | float, box: Interval) -> Interval:
    """Map a box in centre and radius form."""
    centre = weight @ ((box[0] + box[1]) / 2.0) + bias
    radius = np.abs(weight) @ ((box[1] - box[0]) / 2.0)
    return centre - radius, centre + radius


def inputs_of(chain: Chain, layer: int, maps: Maps, box: Interval) -> Interval:
    """Return the box of what a layer reads."""
    return activation.value_range(chain.activation, *maps[layer - 1]) if layer else box


@dataclass(frozen=True)
class Form:
    """Affine functions of what a layer reads, such as rows of its pre-activations."""

    layer: int
    weight: Array  # (rows, inputs of the layer)
    bias: Array  # (rows,)

    def __neg__(self) -> Form:
        return Form(self.layer, -self.weight, -self.bias)


def form(chain: Chain, rows: Array, layer: int) -> Form:
    """Return rows (rows, units) of a layer's pre-activations."""
    return Form(layer, rows @ chain.weights[layer], rows @ chain.biases[layer])


def interval_bounds(chain: Chain, of: Form, maps: Maps, box: Interval) -> Interval:
    """Bound a form by the box of what the layer reads."""
    return affine(of.weight, of.bias, inputs_of(chain, of.layer, maps, box))


@dataclass(frozen=True)
class Lines:
    """A line below and a line above an activation over an interval."""

    lower_slope: Array
    lower_offset: Array
    upper_slope: Array
    upper_offset: Array


def lines(kind: str, lower: Array, upper: Array) -> Lines:
    """Return CROWN's lines; those of ReLU with the lower slope 1 where the upper is over 1/2."""
    if kind == "relu":
        top, bottom = np.maximum(upper, 0.0), np.minimum(lower, 0.0)
        # A unit that is off everywhere has the slope 0, also if its interval is the point 0.
        steep = top / np.where(top > bottom, top - bottom, 1.0)
        flat = np.where(steep > 0.5, 1.0, 0.0)
        return Lines(flat, np.zeros_like(flat), steep, -steep * bottom)
    # Any activation: the mean value form, from the middle, with the middle of the slopes.
    least, most = activation.slope_range(kind, lower, upper)
    middle, slope = (lower + upper) / 2.0, (least + most) / 2.0
    offset = activation.value(kind, middle) - slope * middle
    reach = (most - least) / 2.0 * (upper - lower) / 2.0
    return Lines(slope, offset - reach, slope, offset + reach)


def line_below(chain: Chain, of: Form, maps: Maps) -> Form:
    """Return a form of the input that is nowhere above the given one."""
    weight, bias = of.weight, of.bias
    for layer in range(of.layer - 1, -1, -1):
        fit = lines(chain.activation, *maps[layer])
        rises, falls = np.maximum(weight, 0.0), np.minimum(weight, 0.0)
        bias = bias + rises @ fit.lower_offset + falls @ fit.upper_offset
        weight = rises * fit.lower_slope + falls * fit.upper_slope
        bias = bias + weight @ chain.biases[layer]
        weight = weight @ chain.weights[layer]
    return Form(0, weight, bias)


def crown_bounds(chain: Chain, of: Form, maps: Maps, box: Interval) -> Interval:
    """Bound a form by lines in the input."""
    below, above = line_below(chain, of, maps), line_below(chain, -of, maps)
    return affine(below.weight, below.bias, box)[0], -affine(above.weight, above.bias, box)[0]


def secants_from(kind: str, middle: Array, box: Interval) -> Slopes:
    """Return the range of the secant slopes from a point of the interval to all others."""
    lower, upper = box
    if kind != "relu":
        return Slopes(*activation.slope_range(kind, lower, upper))
    # The secants of a convex function rise with both ends.
    return Slopes(secant(middle, lower), secant(middle, upper))


def secant(first: Array, second: Array) -> Array:
    """Return the secant slope of ReLU between two points, without cancellation."""
    low, high = np.minimum(first, second), np.maximum(first, second)
    crossing = (low < 0.0) & (high > 0.0)
    share = np.maximum(high, 0.0) / np.where(crossing, high - low, 1.0)
    return np.where(crossing, share, np.where(low >= 0.0, 1.0, 0.0))


@dataclass(frozen=True)
class Tangent:
    """A form of the input that is off by no more than the error, anywhere in the box."""

    slope: Array  # (rows, inputs)
    middle: Array  # (rows,) value in the middle of the box
    error: Array  # (rows,)


def tangent(chain: Chain, of: Form, maps: Maps, box: Interval) -> Tangent:
    """Expand a form about the middle of the box: the mean value form, its Jacobian enclosed."""
    middle, half = (box[0] + box[1]) / 2.0, (box[1] - box[0]) / 2.0
    centre = [values[0] for values in pre_activations(chain, middle[None])]
    reads = activation.value(chain.activation, centre[of.layer - 1]) if of.layer else middle
    weight = of.weight
    jacobian = Rows.exact(np.eye(len(weight)), of.layer, chain.ellipsoids)
    for layer in range(of.layer - 1, -1, -1):
        slopes = secants_from(chain.activation, centre[layer], maps[layer])
        jacobian = jacobian.through(weight, slopes)
        weight = chain.weights[layer]
    return Tangent(
        jacobian.centre @ weight, of.weight @ reads + of.bias, jacobian.deviation(weight, half)
    )


def mean_value_bounds(chain: Chain, of: Form, maps: Maps, box: Interval) -> Interval:
    """Bound a form by its value in the middle and the Jacobian from there."""
    found = tangent(chain, of, maps, box)
    radius = np.abs(found.slope) @ ((box[1] - box[0]) / 2.0) + found.error
    return found.middle - radius, found.middle + radius


METHODS = {"interval": interval_bounds, "crown": crown_bounds, "mean_value": mean_value_bounds}


def bounds(
    chain: Chain, of: Form, maps: Maps, box: Interval, methods: Sequence[str] = tuple(METHODS)
) -> Interval:
    """Bound a form by several methods and keep the common part."""
    return reduce(intersect, [METHODS[method](chain, of, maps, box) for method in methods])


def value_maps(
    chain: Chain,
    box: Interval,
    methods: Sequence[str] = tuple(METHODS),
    known: Maps | None = None,
) -> list[Interval]:
    """Bound every layer's pre-activations, each with the maps of the layers before it.

    With the method "crown" alone these are auto_LiRPA's bounds. Tighter maps do not always give
    tighter lines (ReLU's lower slope jumps), so only `known` maps are sure to be no wider.
    """
    maps: list[Interval] = []
    for layer, weight in enumerate(chain.weights):
        found = bounds(chain, Form(layer, weight, chain.biases[layer]), maps, box, methods)
        maps.append(found if known is None else intersect(found, known[layer]))
    return maps
