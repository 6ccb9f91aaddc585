"""Impact of merging units on the logits: difference intervals from the units to the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from reference import activation
from reference.activation import Array
from reference.bounds import Interval, affine_interval, monotone_pool, value_intervals
from reference.graph import AFFINE, Graph, Node
from reference.layer import Consumer, Layer, read_layer, removed_units
from reference.merge import merge
from reference.sensitivity import Rows, Sensitivity, sensitivity

Boxes = Mapping[str, Interval]


def intersect(first: Interval, second: Interval) -> Interval:
    """Return the common part of two intervals that both hold the truth."""
    lower, upper = np.maximum(first[0], second[0]), np.minimum(first[1], second[1])
    # Two enclosures of one number meet; rounding alone can part them.
    return np.minimum(lower, upper), np.maximum(lower, upper)


def gap(old: Interval, new: Interval) -> Interval:
    """Return the interval of new less old, if all that is known are their intervals."""
    return new[0] - old[1], new[1] - old[0]


def shifted(old: Interval, difference: Interval) -> Interval:
    """Return where the new value may lie."""
    return old[0] + difference[0], old[1] + difference[1]


def activation_difference(
    node: Node, old: Interval, new: Interval, difference: Interval
) -> Interval:
    """Take a difference through an activation."""
    kind, parameters = node.options["function"], node.options.get("parameters")
    return activation.difference(kind, old, new, difference, parameters)


def _softmax_difference(difference: Interval) -> Interval:
    lower, upper = difference
    reach = np.zeros_like(lower)
    for k in range(lower.shape[-1]):
        others = [other for other in range(lower.shape[-1]) if other != k]
        if others:
            rise = upper[..., k] - np.min(lower[..., others], axis=-1)
            fall = np.max(upper[..., others], axis=-1) - lower[..., k]
            reach[..., k] = np.tanh(np.maximum(rise, fall) / 4.0)
    return -reach, reach


def step(
    node: Node, old: Sequence[Interval], new: Sequence[Interval], differences: Sequence[Interval]
) -> Interval:
    """Take differences through one op."""
    if node.kind in AFFINE:
        return affine_interval(node, differences, np.zeros(()))
    match node.kind:
        case "activation":
            return activation_difference(node, old[0], new[0], differences[0])
        case "max_pool" | "global_max_pool":
            lower, upper = differences[0]
            return -monotone_pool(node, -lower), monotone_pool(node, upper)
        case "softmax":
            return _softmax_difference(differences[0])
        case _:
            raise ValueError(node.kind)


def propagate(graph: Graph, start: Boxes, old: Boxes, new: Boxes | None = None) -> Interval:
    """Propagate differences to the logits.

    Without `new` the new value interval at a node is the old one plus the difference; with it
    every difference is also cut to the difference of the two value intervals. Nodes in `start`
    keep what they are given; all others that do not depend on them have the difference 0.
    """
    found: dict[str, Interval] = dict(start)
    after: dict[str, Interval] = {}
    for node in graph.nodes:
        name = node.name
        if name not in found:
            if any(np.any(end) for source in node.sources for end in found[source]):
                found[name] = step(
                    node,
                    [old[source] for source in node.sources],
                    [after[source] for source in node.sources],
                    [found[source] for source in node.sources],
                )
                if new is not None:
                    found[name] = intersect(found[name], gap(old[name], new[name]))
            else:
                found[name] = (np.zeros_like(old[name][0]), np.zeros_like(old[name][1]))
        after[name] = shifted(old[name], found[name]) if new is None else new[name]
    lower = np.concatenate([found[name][0].ravel() for name in graph.logits])
    upper = np.concatenate([found[name][1].ravel() for name in graph.logits])
    return lower, upper


def pair_difference(layer: Layer, boxes: Boxes, nominee: int, delegate: int) -> Interval:
    """Return the interval of the delegate's value less the nominee's, at every position."""
    lower, upper = boxes[layer.source]
    row = layer.kernel[:, delegate] - layer.kernel[:, nominee]
    centre = (lower + upper) / 2.0 @ row + (layer.bias[delegate] - layer.bias[nominee])
    radius = (upper - lower) / 2.0 @ np.abs(row)
    ends = boxes[layer.before]
    goes = (ends[0][..., nominee], ends[1][..., nominee])
    stays = (ends[0][..., delegate], ends[1][..., delegate])
    difference = intersect((centre - radius, centre + radius), gap(goes, stays))
    if layer.activation is None:
        return difference
    return activation_difference(layer.activation, goes, stays, difference)


def pair_change(
    layer: Layer, boxes: Boxes, pair: tuple[int, int], change: str = "interval"
) -> Interval:
    """Return what is taken for the change of the nominee's value, at every position."""
    if change == "interval":
        return pair_difference(layer, boxes, *pair)
    nominee, delegate = pair
    lower, upper = boxes[layer.source]
    row = layer.kernel[:, delegate] - layer.kernel[:, nominee]
    gap = layer.bias[delegate] - layer.bias[nominee]
    if change == "distance":
        size = np.full(lower.shape[:-1], np.sqrt(np.sum(row**2) + gap**2))
    else:
        # The variance of an even draw from an interval is a third of its radius squared.
        variance = ((upper - lower) / 2.0) ** 2 / 3.0 @ row**2
        size = np.sqrt(((lower + upper) / 2.0 @ row + gap) ** 2 + variance)
    return -size, size


def _read(consumer: Consumer, shape: tuple[int, ...], changes: Mapping[int, Interval]) -> Interval:
    """Return the change of what a consumer reads if these units change so."""
    lower, upper = np.zeros(shape), np.zeros(shape)
    for unit, (low, high) in changes.items():
        gain = consumer.gain[unit]
        lower[..., unit] = np.minimum(gain * low, gain * high)
        upper[..., unit] = np.maximum(gain * low, gain * high)
    return lower, upper


def sensitivity_of(graph: Graph, names: Sequence[str], boxes: Boxes) -> Sensitivity:
    """Enclose the Jacobian with respect to what the consumers of some layers read."""
    consumers = [c.node.name for name in names for c in read_layer(graph, name).consumers]
    return sensitivity(graph, boxes, consumers)


def impact(
    graph: Graph,
    name: str,
    pairs: Sequence[tuple[int, int]],
    lower: Sequence[Array],
    upper: Sequence[Array],
    *,
    change: str = "interval",
    known: Sensitivity | None = None,
) -> Interval:
    """Return the impact of every pair alone, one row each: the Jacobian times the pair's change.

    The consumers must read the layer directly or through elementwise affine ops.
    """
    boxes = value_intervals(graph, lower, upper)
    layer = read_layer(graph, name)
    known = sensitivity_of(graph, [name], boxes) if known is None else known
    logits = sum(boxes[output][0].size for output in graph.logits)
    low, high = np.zeros((len(pairs), logits)), np.zeros((len(pairs), logits))
    for row, pair in enumerate(pairs):
        changes = {pair[0]: pair_change(layer, boxes, pair, change)}
        for consumer in layer.consumers:
            shape = boxes[consumer.node.sources[0]][0].shape
            moved = alone(known.before[consumer.node.name], _read(consumer, shape, changes))
            low[row] += moved[0]
            high[row] += moved[1]
    return low, high


def alone(rows: Rows, change: Interval) -> Interval:
    """Bound the logits' move by the change of one unit's elements."""
    lower, upper = change[0].ravel(), change[1].ravel()
    elements = np.flatnonzero((lower != 0.0) | (upper != 0.0))
    return rows.times(elements, (lower[elements], upper[elements]))


def joint_impact(
    graph: Graph,
    name: str,
    pairs: Sequence[tuple[int, int]],
    lower: Sequence[Array],
    upper: Sequence[Array],
    *,
    stored: bool = True,
    known: Sensitivity | None = None,
) -> Interval:
    """Return the impact of merging all pairs at once.

    The consumers must read the layer directly or through elementwise affine ops: only from the
    consumers on is there a network after to compare with. What is `known` of the Jacobian cuts
    the differences taken forward.
    """
    old = value_intervals(graph, lower, upper)
    new = value_intervals(merge(graph, name, pairs, stored=stored), lower, upper)
    layer = read_layer(graph, name)
    start: dict[str, Interval] = {}
    for consumer in layer.consumers:
        centre = radius = np.zeros(())
        for nominee, delegate in removed_units(pairs).items():
            low, high = pair_difference(layer, old, nominee, delegate)
            rows = consumer.kernel[nominee] * consumer.gain[nominee]
            centre = centre + np.multiply.outer((low + high) / 2.0, rows)
            radius = radius + np.multiply.outer((high - low) / 2.0, np.abs(rows))
        to = consumer.node.name
        start[to] = intersect((centre - radius, centre + radius), gap(old[to], new[to]))
    forward = propagate(graph, start, old, new)
    if known is None or not known.holds:
        return forward
    changes = {
        nominee: pair_difference(layer, old, nominee, delegate)
        for nominee, delegate in removed_units(pairs).items()
    }
    by_jacobian = [
        known.moved_by(
            consumer.node,
            _read(consumer, old[consumer.node.sources[0]][0].shape, changes),
        )
        for consumer in layer.consumers
    ]
    lower_sum = np.sum([low for low, _ in by_jacobian], axis=0)
    upper_sum = np.sum([high for _, high in by_jacobian], axis=0)
    return intersect(forward, (lower_sum, upper_sum))
