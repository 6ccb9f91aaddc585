"""A prunable layer seen as units: incoming weights, the way to its consumers, outgoing weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reference.activation import Array
from reference.bounds import Interval, evaluate
from reference.graph import Graph, Node, scale_and_offset

ON_THE_WAY = (
    "batch_normalization",
    "affine",
    "activation",
    "identity",
    "reshape",
    "average_pool",
    "max_pool",
    "global_average_pool",
    "global_max_pool",
)


NDArrayInt = NDArray[np.int64]


@dataclass(frozen=True)
class Consumer:
    """A Dense op that reads the units: which unit each kernel row belongs to, and its g and h."""

    node: Node
    unit: NDArrayInt
    gain: Array
    shift: Array

    @property
    def kernel(self) -> Array:
        """The kernel in float64."""
        kernel = self.node.weight("kernel")
        assert kernel is not None
        return kernel


@dataclass(frozen=True)
class Layer:
    """The units of one Dense node."""

    node: Node
    source: str
    before: str
    after: str
    activation: Node | None
    kernel: Array
    bias: Array
    consumers: tuple[Consumer, ...]

    @property
    def units(self) -> int:
        """How many units the layer has."""
        return int(self.kernel.shape[1])

    @property
    def delegates(self) -> list[int]:
        """The units that may take over: those whose gain is nowhere 0."""
        return [
            unit
            for unit in range(self.units)
            if all(np.all(c.gain[c.unit == unit] != 0.0) for c in self.consumers)
        ]

    def outgoing(self) -> Array:
        """One row per unit: the rows of all its consumers side by side, each times its gain."""
        folded = [(c.unit, c.kernel * c.gain[:, None]) for c in self.consumers]
        rows = [
            np.concatenate([kernel[owner == unit].ravel() for owner, kernel in folded])
            for unit in range(self.units)
        ]
        return np.stack(rows)


def read_layer(graph: Graph, name: str) -> Layer:
    """Follow the units of the Dense node `name` to its consumers."""
    node = graph[name]
    kernel, bias = node.weight("kernel"), node.weight("bias")
    assert kernel is not None
    bias = np.zeros(kernel.shape[1]) if bias is None else bias
    before = node
    while True:
        following = graph.consumers(before.name)
        if len(following) != 1 or following[0].kind not in (
            "batch_normalization",
            "affine",
            "identity",
        ):
            break
        before = following[0]
        if before.kind != "identity":
            scale, offset = scale_and_offset(before)
            kernel, bias = kernel * scale, bias * scale + offset
    after, first = before, None
    following = graph.consumers(before.name)
    if len(following) == 1 and following[0].kind == "activation":
        after = first = following[0]
    shapes = _shapes(graph)
    start = (
        np.broadcast_to(np.arange(kernel.shape[1]), shapes[after.name]).astype(np.int64),
        np.ones(shapes[after.name]),
        np.zeros(shapes[after.name]),
    )
    consumers = tuple(_follow(graph, after.name, start, shapes))
    return Layer(node, node.sources[0], before.name, after.name, first, kernel, bias, consumers)


def _shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    inputs = [np.zeros((1, *n.options["shape"])) for n in graph.nodes if n.kind == "input"]
    return {name: values.shape[1:] for name, values in evaluate(graph, inputs).items()}


def _follow(
    graph: Graph,
    name: str,
    carried: tuple[NDArrayInt, Array, Array],
    shapes: dict[str, tuple[int, ...]],
) -> list[Consumer]:
    found = []
    unit, gain, shift = carried
    for node in graph.consumers(name):
        if node.kind == "dense":
            # The kernel has one row for each element of the last axis, the same at all positions.
            row = (0,) * (unit.ndim - 1)
            found.append(Consumer(node, unit[row], gain[row], shift[row]))
            continue
        if node.kind not in ON_THE_WAY:
            raise ValueError(f"{node.name}: units cannot be followed through {node.kind}")
        shape = shapes[node.name]
        if node.kind == "reshape":
            step = (unit.reshape(shape), gain.reshape(shape), shift.reshape(shape))
        elif node.kind.endswith("pool"):
            # Before a flatten all positions of a unit share one g and h.
            first = (0,) * (unit.ndim - 1)
            step = (
                np.broadcast_to(unit[first], shape),
                np.broadcast_to(gain[first], shape),
                np.broadcast_to(shift[first], shape),
            )
            if "max" in node.kind:
                step = (step[0], np.ones(shape), np.zeros(shape))
        elif node.kind == "activation":
            # What lies before something non-linear cannot be undone in the outgoing weights.
            step = (unit, np.ones(shape), np.zeros(shape))
        elif node.kind in ("batch_normalization", "affine"):
            scale, offset = scale_and_offset(node)
            step = (unit, gain * scale, shift * scale + offset)
        else:
            step = (unit, gain, shift)
        found += _follow(graph, node.name, step, shapes)
    return found


def removed_units(pairs: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Map every nominee to its final delegate (a delegate may later be a nominee)."""
    heirs = dict(pairs)

    def last(unit: int) -> int:
        return last(heirs[unit]) if unit in heirs else unit

    return {nominee: last(nominee) for nominee in heirs}


def unit_axis(box: Interval, unit: int) -> Interval:
    """Return the interval of one unit at every position."""
    return box[0][..., unit], box[1][..., unit]
