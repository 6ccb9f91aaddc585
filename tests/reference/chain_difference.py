"""How far a pruned chain g can be from the original f: a certificate for g - f over a box.

With W, W' the weights of f and g at a layer and P its merge map, the pre-activations differ by

    W' (a' - a) + (W' - W) a    [old: chain of g, injections in f]
    W (a' - a) + (W' - W) a'    [new: chain of f, injections in g]

where a, a' are the activations before. Each route below bounds rows of that at a layer; what they
find is intersected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from reference import activation
from reference.activation import Array
from reference.bounds import Interval
from reference.chain_jacobian import Rows, Slopes
from reference.chain_values import (
    Chain,
    Form,
    Maps,
    affine,
    bounds,
    form,
    inputs_of,
    line_below,
    secant,
    tangent,
    value_maps,
)
from reference.impact import gap, intersect

Units = NDArray[np.int64]
Pairs = Sequence[tuple[int, int]]
ROUTES = ("gap", "forward", "symbolic", "twin_crown", "twin_crown_plain", "twin_mean_value")


def delegates(units: int, pairs: Pairs) -> Units:
    """Return for each unit the one that stands for it in the end: itself, or its delegate's."""
    stands = np.arange(units)
    for nominee, delegate in pairs:
        stands[nominee] = delegate
    while np.any(stands != stands[stands]):
        stands = stands[stands]
    return stands


def merged(chain: Chain, merges: Sequence[Pairs], *, stored: bool = False) -> Chain:
    """Give each nominee's outgoing weights to its delegate; `stored` rounds them to float32."""
    weights = list(chain.weights)
    for layer, pairs in enumerate(merges, start=1):
        weight = weights[layer].copy()
        for nominee, delegate in pairs:
            weight[:, delegate] += weight[:, nominee]
            weight[:, nominee] = 0.0
        weights[layer] = weight.astype(np.float32).astype(np.float64) if stored else weight
    return Chain(tuple(weights), chain.biases, chain.activation)


def add(first: Interval, second: Interval) -> Interval:
    """Return the interval of sums."""
    return first[0] + second[0], first[1] + second[1]


def consistent(
    old: Interval, new: Interval, difference: Interval
) -> tuple[Interval, Interval, Interval]:
    """Cut two values and their difference to what fits together."""
    difference = intersect(difference, gap(old, new))
    new = intersect(new, add(old, difference))
    old = intersect(old, (new[0] - difference[1], new[1] - difference[0]))
    return old, new, difference


def activated(kind: str, old: Interval, new: Interval, difference: Interval) -> Interval:
    """Take a difference through the activation; for ReLU exactly (it only clips)."""
    values = (activation.value_range(kind, *old), activation.value_range(kind, *new))
    if kind == "relu":
        (a, b), (p, q) = values
        return np.maximum(-b, np.minimum(difference[0], p)), np.maximum(
            -a, np.minimum(difference[1], q)
        )
    hull = (np.minimum(old[0], new[0]), np.maximum(old[1], new[1]))
    return intersect(
        activation.product(activation.slope_range(kind, *hull), difference), gap(*values)
    )


def secants_between(kind: str, old: Interval, new: Interval) -> Slopes:
    """Return the range of the secant slopes between a value of f and one of g."""
    if kind == "relu":
        return Slopes(secant(old[0], new[0]), secant(old[1], new[1]))
    hull = (np.minimum(old[0], new[0]), np.maximum(old[1], new[1]))
    return Slopes(*activation.slope_range(kind, *hull))


@dataclass(frozen=True)
class Injection:
    """What (W' - W) a is at a layer: the sum of weight @ t over the parts; all of it at once."""

    parts: tuple[tuple[Array, Interval], ...]
    whole: Interval


@dataclass
class Networks:
    """Both chains over a box, and what has been found out about them so far, layer by layer."""

    old: Chain
    new: Chain
    stands: Sequence[Units]  # of every hidden layer
    box: Interval
    old_maps: list[Interval]
    new_maps: list[Interval]
    old_crown: Maps  # CROWN alone
    new_crown: Maps
    activations: list[Interval] = field(default_factory=list)  # their differences
    in_old: list[Injection] = field(default_factory=list)
    in_new: list[Injection] = field(default_factory=list)


def merge_difference(
    chain: Chain, layer: int, stands: Units, maps: Maps, box: Interval
) -> tuple[Units, Interval]:
    """Return the nominees and the interval of delegate less nominee, both activated."""
    identity = np.eye(len(stands))
    goes = np.flatnonzero(stands != np.arange(len(stands)))
    stays = stands[goes]
    between = bounds(chain, form(chain, identity[stays] - identity[goes], layer), maps, box)
    lower, upper = maps[layer]
    fits = consistent((lower[goes], upper[goes]), (lower[stays], upper[stays]), between)
    return goes, activated(chain.activation, *fits)


def injection(nets: Networks, chain: Chain, layer: int, maps: Maps) -> Injection:
    """Return what a layer's new weights inject, with the activations of `chain` before it."""
    old, new = nets.old.weights[layer], nets.new.weights[layer]
    shift = nets.new.biases[layer] - nets.old.biases[layer]
    whole = bounds(chain, Form(layer, new - old, shift), maps, nets.box)
    if layer == 0:
        return Injection(((np.eye(len(old)), whole),), whole)
    stands = nets.stands[layer - 1]
    goes, difference = merge_difference(chain, layer - 1, stands, maps, nets.box)
    parts = [(old[:, goes], difference)]
    # What is left: weights rounded, or changed otherwise.
    rest = new - old @ np.eye(len(stands))[stands]
    if np.any(rest) or np.any(shift):
        box = affine(rest, shift, inputs_of(chain, layer, maps, nets.box))
        parts.append((np.eye(len(old)), box))
    return Injection(tuple(parts), whole)


def forward(nets: Networks, rows: Array, layer: int, chain: Chain, injected: Injection) -> Interval:
    """Bound rows of the difference by the box of the differences before the layer."""
    apart = affine(rows, 0.0, injected.whole)
    parts = [affine(rows @ weight, 0.0, box) for weight, box in injected.parts]
    total = parts[0]
    for part in parts[1:]:
        total = add(total, part)
    total = intersect(total, apart)
    if layer == 0:
        return total
    return add(total, affine(rows @ chain.weights[layer], 0.0, nets.activations[layer - 1]))


def symbolic(
    nets: Networks, rows: Array, layer: int, chain: Chain, injections: Sequence[Injection]
) -> Interval:
    """Bound rows of the difference by the Jacobian from every layer's injection."""
    jacobian = Rows.exact(rows, layer, chain.ellipsoids)
    total = (np.zeros(len(rows)), np.zeros(len(rows)))
    for at in range(layer, -1, -1):
        total = add(total, impact(jacobian, injections[at]))
        if at > 0:
            slopes = secants_between(chain.activation, nets.old_maps[at - 1], nets.new_maps[at - 1])
            jacobian = jacobian.through(chain.weights[at], slopes)
    return total


def impact(jacobian: Rows, injected: Injection) -> Interval:
    """Bound the Jacobian's rows times what is injected at their layer."""
    value, deviation = jacobian.times(np.eye(jacobian.centre.shape[1]), injected.whole)
    apart = (np.zeros(len(deviation)), np.zeros(len(deviation)))
    apart_deviation = np.zeros(len(deviation))
    for weight, box in injected.parts:
        part, part_deviation = jacobian.times(weight, box)
        apart, apart_deviation = add(apart, part), apart_deviation + part_deviation
    lower, upper = intersect(value, apart)
    least = np.minimum(deviation, apart_deviation)
    return lower - least, upper + least


def twin_crown(nets: Networks, rows: Array, layer: int, old_maps: Maps, new_maps: Maps) -> Interval:
    """Bound rows of g - f as one network of two towers: their lines meet at the input."""

    def below(rows: Array) -> Array:
        after = line_below(nets.new, form(nets.new, rows, layer), new_maps)
        before = line_below(nets.old, form(nets.old, -rows, layer), old_maps)
        return affine(after.weight + before.weight, after.bias + before.bias, nets.box)[0]

    return below(rows), -below(-rows)


def twin_mean_value(nets: Networks, rows: Array, layer: int) -> Interval:
    """Bound rows of g - f by the mean value form of both: their centres meet at the input."""
    after = tangent(nets.new, form(nets.new, rows, layer), nets.new_maps, nets.box)
    before = tangent(nets.old, form(nets.old, rows, layer), nets.old_maps, nets.box)
    middle = after.middle - before.middle
    radius = np.abs(after.slope - before.slope) @ ((nets.box[1] - nets.box[0]) / 2.0)
    radius = radius + after.error + before.error
    return middle - radius, middle + radius


def bound_difference(
    nets: Networks, rows: Array, layer: int, routes: Sequence[str] = ROUTES
) -> dict[str, Interval]:
    """Bound rows of the difference at a layer by each of the routes."""
    found: dict[str, Interval] = {}
    for route in routes:
        match route:
            case "gap":
                after = bounds(nets.new, form(nets.new, rows, layer), nets.new_maps, nets.box)
                before = bounds(nets.old, form(nets.old, rows, layer), nets.old_maps, nets.box)
                found[route] = gap(before, after)
            case "forward":
                found[route] = intersect(
                    forward(nets, rows, layer, nets.new, nets.in_old[layer]),
                    forward(nets, rows, layer, nets.old, nets.in_new[layer]),
                )
            case "symbolic":
                found[route] = intersect(
                    symbolic(nets, rows, layer, nets.new, nets.in_old),
                    symbolic(nets, rows, layer, nets.old, nets.in_new),
                )
            case "twin_crown":
                found[route] = twin_crown(nets, rows, layer, nets.old_maps, nets.new_maps)
            case "twin_crown_plain":
                found[route] = twin_crown(nets, rows, layer, nets.old_crown, nets.new_crown)
            case "twin_mean_value":
                found[route] = twin_mean_value(nets, rows, layer)
    return found


def common(found: Mapping[str, Interval]) -> Interval:
    """Intersect what all routes found."""
    return reduce(intersect, found.values())


def compare(old: Chain, new: Chain, merges: Sequence[Pairs], box: Interval) -> Networks:
    """Bound both chains, what each layer injects, and the differences of the hidden layers."""
    stands = [
        delegates(len(bias), pairs) for bias, pairs in zip(old.biases[:-1], merges, strict=True)
    ]
    old_crown, new_crown = (value_maps(chain, box, ["crown"]) for chain in (old, new))
    old_maps = value_maps(old, box, known=old_crown)
    new_maps = value_maps(new, box, known=new_crown)
    nets = Networks(old, new, stands, box, old_maps, new_maps, old_crown, new_crown)
    for layer, bias in enumerate(old.biases):
        nets.in_old.append(injection(nets, old, layer, nets.old_maps))
        nets.in_new.append(injection(nets, new, layer, nets.new_maps))
        if layer < len(stands):
            found = common(bound_difference(nets, np.eye(len(bias)), layer, ["forward"]))
            fits = consistent(nets.old_maps[layer], nets.new_maps[layer], found)
            nets.old_maps[layer], nets.new_maps[layer], _ = fits
            nets.activations.append(activated(old.activation, *fits))
    return nets
