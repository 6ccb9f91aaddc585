"""Point values and value intervals of every node.

Every affine op maps a box in centre and radius form, `c = W m + b`, `R = |W| r`; there is no
rounding pad here, so the core's intervals may be wider by a few units in the last place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from reference import activation
from reference.activation import Array
from reference.graph import AFFINE, Graph, Node, linear, offset, patches

Interval = tuple[Array, Array]


def softmax(x: Array) -> Array:
    """Return the softmax over the last axis."""
    powers = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return np.asarray(powers / np.sum(powers, axis=-1, keepdims=True))


def _maximum(x: Array, node: Node) -> Array:
    window = node.options["window"]
    cells = patches(
        x, window, node.options["strides"], [1] * len(window), node.options["padding"], -np.inf
    )
    return np.asarray(np.max(list(cells.values()), axis=0))


def _global_maximum(x: Array, node: Node) -> Array:
    axes = tuple(range(1, x.ndim - 1))
    return np.asarray(np.max(x, axis=axes, keepdims=node.options.get("keepdims", False)))


def monotone_pool(node: Node, x: Array) -> Array:
    """Apply max pooling: a rule for values, lower ends and upper ends alike."""
    return _maximum(x, node) if node.kind == "max_pool" else _global_maximum(x, node)


def layer_normalization(node: Node, x: Array) -> Array:
    """Normalise the last axis of every sample."""
    gamma, beta = node.weight("gamma"), node.weight("beta")
    centred = x - np.mean(x, axis=-1, keepdims=True)
    variance = np.mean(centred**2, axis=-1, keepdims=True)
    scaled = centred / np.sqrt(variance + node.options["epsilon"])
    scaled = scaled if gamma is None else scaled * gamma
    return np.asarray(scaled if beta is None else scaled + beta)


def value(node: Node, inputs: Sequence[Array]) -> Array:
    """Apply one op to points."""
    if node.kind in AFFINE:
        return linear(node, inputs) + offset(node)
    match node.kind:
        case "activation":
            function, parameters = node.options["function"], node.options.get("parameters")
            return activation.value(function, inputs[0], parameters)
        case "softmax":
            return softmax(inputs[0])
        case "max_pool" | "global_max_pool":
            return monotone_pool(node, inputs[0])
        case "layer_normalization":
            return layer_normalization(node, inputs[0])
        case _:
            raise ValueError(node.kind)


def evaluate(graph: Graph, inputs: Sequence[Array]) -> dict[str, Array]:
    """Evaluate every node on a batch of points, one array per input of the graph."""
    waiting = iter(inputs)
    values: dict[str, Array] = {}
    for node in graph.nodes:
        if node.kind == "input":
            values[node.name] = np.asarray(next(waiting), dtype=np.float64)
        else:
            values[node.name] = value(node, [values[name] for name in node.sources])
    return values


def _softmax_interval(lower: Array, upper: Array) -> Interval:
    low, high = np.empty_like(lower), np.empty_like(upper)
    for k in range(lower.shape[-1]):
        for ends, own, others in ((low, lower, upper), (high, upper, lower)):
            logits = others.copy()
            logits[..., k] = own[..., k]
            ends[..., k] = softmax(logits)[..., k]
    return low, high


def interval(node: Node, sources: Sequence[Interval]) -> Interval:
    """Apply one op to boxes."""
    if node.kind in AFFINE:
        return affine_interval(node, sources, offset(node))
    lower, upper = sources[0]
    match node.kind:
        case "activation":
            kind, parameters = node.options["function"], node.options.get("parameters")
            return activation.value_range(kind, lower, upper, parameters)
        case "softmax":
            return _softmax_interval(lower, upper)
        case "max_pool" | "global_max_pool":
            return monotone_pool(node, lower), monotone_pool(node, upper)
        case _:
            raise ValueError(node.kind)


def affine_interval(node: Node, sources: Sequence[Interval], added: Array) -> Interval:
    """Map boxes through an affine op in centre and radius form."""
    centre = linear(node, [(low + high) / 2.0 for low, high in sources]) + added
    radius = linear(node, [(high - low) / 2.0 for low, high in sources], magnitude=True)
    return centre - radius, centre + radius


def value_intervals(
    graph: Graph, lower: Sequence[Array], upper: Sequence[Array]
) -> dict[str, Interval]:
    """Return the box of every node (with a leading batch axis of one)."""
    waiting = iter(zip(lower, upper, strict=True))
    boxes: dict[str, Interval] = {}
    for node in graph.nodes:
        if node.kind == "input":
            low, high = next(waiting)
            boxes[node.name] = (np.asarray(low)[None], np.asarray(high)[None])
        else:
            boxes[node.name] = interval(node, [boxes[name] for name in node.sources])
    return boxes


def sample(
    random: np.random.Generator, lower: Sequence[Array], upper: Sequence[Array], count: int
) -> list[Array]:
    """Draw points of a box: inner points, corners, and mixtures of both, where extremes live."""
    points = []
    for low, high in zip(lower, upper, strict=True):
        share = random.random((count, *low.shape))
        corners = random.integers(0, 2, (count, *low.shape)).astype(np.float64)
        blend = random.random((count, *([1] * low.ndim)))
        pick = np.where(share < blend, corners, share)
        points.append(np.clip(low + pick * (high - low), low, high))
    return points


def simplify(boxes: Mapping[str, Interval]) -> dict[str, Interval]:
    """Drop the batch axis of one."""
    return {name: (low[0], high[0]) for name, (low, high) in boxes.items()}
