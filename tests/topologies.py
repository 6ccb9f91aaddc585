"""Networks with prunable units, one small topology for each way the units can be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from networks import STACKABLE, Box, Sketch, activations, build, logits, seeds
from nnprune import _core
from reference import Graph
from reference.activation import Array


@dataclass(frozen=True)
class Case:
    """A network, a box for its input, and the layers whose units may go."""

    name: str
    graph: Graph
    box: Box
    layers: list[str]

    @property
    def network(self) -> _core.Network:
        """The core's network."""
        return build(self.graph)

    def units(self, layer: str) -> int:
        """Return how many units a layer has."""
        return int(self.graph[layer].options["kernel"].shape[1])


Act = Callable[[str], str]


def _plain(s: Sketch, act: Act) -> tuple[str, ...]:
    at = act(s.dense(s.input(4), 6))
    return (s.dense(act(s.dense(at, 5)), 3),)


def _norms(s: Sketch, act: Act) -> tuple[str, ...]:
    at = s.norm(act(s.norm(s.dense(s.input(4), 6))))
    at = s.norm(act(s.norm(s.dense(at, 5))))
    return (s.add("softmax", [s.dense(at, 3)]),)


def _two_activations(s: Sketch, act: Act) -> tuple[str, ...]:
    at = act(s.norm(act(s.dense(s.input(4), 6))))
    return (s.dense(at, 2),)


def _no_activation(s: Sketch, act: Act) -> tuple[str, ...]:
    return (s.dense(act(s.dense(s.dense(s.input(4), 5), 4)), 2),)


def _flatten(s: Sketch, act: Act) -> tuple[str, ...]:
    at = s.norm(s.flatten(act(s.dense(s.input(3, 4), 5))))
    return (s.dense(act(s.dense(at, 4)), 2),)


def _last_axis(s: Sketch, act: Act) -> tuple[str, ...]:
    at = s.norm(act(s.dense(s.input(2, 2, 3), 5)))
    at = act(s.dense(at, 4))
    return (s.dense(s.flatten(at), 2),)


def _global_average(s: Sketch, act: Act) -> tuple[str, ...]:
    at = s.norm(act(s.dense(s.input(2, 3, 3), 5)))
    at = s.norm(s.add("global_average_pool", [at]))
    return (s.dense(at, 3),)


def _global_maximum(s: Sketch, act: Act) -> tuple[str, ...]:
    at = s.norm(act(s.dense(s.input(3, 3), 5)))
    at = s.norm(s.add("global_max_pool", [at]))
    return (s.dense(at, 3),)


def _pools(s: Sketch, act: Act) -> tuple[str, ...]:
    at = s.norm(act(s.dense(s.input(4, 4, 2), 4)))
    at = s.add("max_pool", [at], window=[2, 2], strides=[2, 2], padding="same")
    at = s.add("average_pool", [s.norm(at)], window=[2, 1], strides=[1, 1], padding="valid")
    return (s.dense(act(s.dense(s.flatten(at), 4)), 2),)


def _reshape(s: Sketch, act: Act) -> tuple[str, ...]:
    at = act(s.norm(s.dense(s.input(4, 3), 5)))
    at = s.norm(s.add("reshape", [at], shape=(2, 10)))
    return (s.dense(s.flatten(act(s.dense(at, 4))), 2),)


def _reshape_pool(s: Sketch, act: Act) -> tuple[str, ...]:
    at = s.norm(act(s.dense(s.input(4, 4, 2), 3)))
    at = s.norm(s.add("reshape", [at], shape=(4, 2, 6)))
    at = s.add("max_pool", [at], window=[2, 1], strides=[2, 1], padding="valid")
    at = s.norm(s.add("global_average_pool", [at]))
    return (s.dense(at, 2),)


def _two_ways(s: Sketch, act: Act) -> tuple[str, ...]:
    at = s.dense(s.input(4), 6)
    return (s.dense(act(s.norm(at)), 2), s.dense(s.norm(act(at)), 3), s.dense(at, 2))


def _heads(s: Sketch, act: Act) -> tuple[str, ...]:
    trunk = act(s.dense(s.input(4), 6))
    first = s.activation(s.dense(act(s.dense(trunk, 4)), 2), "sigmoid", {})
    return (first, s.dense(trunk, 3))


def _add(s: Sketch, act: Act) -> tuple[str, ...]:
    trunk = act(s.dense(s.input(4), 6))
    at = s.add("add", [s.dense(trunk, 3), s.dense(trunk, 3)])
    return (s.dense(act(at), 2),)


def _concatenate(s: Sketch, act: Act) -> tuple[str, ...]:
    x = s.input(4)
    trunk = act(s.dense(x, 6))
    at = s.add("concatenate", [act(s.dense(trunk, 3)), s.dense(trunk, 2), x])
    return (s.dense(act(s.dense(at, 4)), 2),)


def _residual(s: Sketch, act: Act) -> tuple[str, ...]:
    x = s.input(4)
    at = s.add("add", [x, s.dense(act(s.dense(x, 6)), 4)])
    at = s.add("add", [at, s.dense(act(s.dense(at, 6)), 4)])
    return (s.dense(at, 2),)


def _convolution_before(s: Sketch, act: Act) -> tuple[str, ...]:
    window = {"window": [2, 2], "strides": [1, 1], "dilation": [1, 1], "padding": "same"}
    at = act(s.conv(s.input(3, 3, 2), 3, groups=1, **window))
    at = act(s.norm(s.dense(s.flatten(at), 6)))
    return (s.dense(act(s.dense(at, 4)), 3),)


def _softmax_behind(s: Sketch, act: Act) -> tuple[str, ...]:
    at = s.dense(act(s.dense(s.input(4), 6)), 4)
    return (s.dense(s.add("softmax", [at]), 2),)


def _pool_behind(s: Sketch, act: Act) -> tuple[str, ...]:
    at = act(s.dense(act(s.dense(s.input(4, 3), 6)), 3))
    at = s.add("max_pool", [at], window=[2], strides=[1], padding="valid")
    return (s.dense(s.flatten(at), 2),)


def _convolutions_behind(s: Sketch, act: Act) -> tuple[str, ...]:
    window = {"window": [2, 2], "strides": [1, 1], "dilation": [1, 1], "padding": "same"}
    at = act(s.dense(act(s.dense(s.input(3, 3, 2), 5)), 4))
    at = act(s.norm(s.conv(at, 4, groups=2, **window)))
    at = s.add("zero_padding", [at], padding=[(1, 0), (0, 1)])
    window = {"window": [3, 2], "strides": [2, 1], "dilation": [1, 1], "padding": "valid"}
    at = act(s.depthwise_conv(at, 2, **window))
    at = s.add("average_pool", [at], window=[1, 2], strides=[1, 1], padding="same")
    branch = s.add("global_max_pool", [at])
    return (s.dense(s.add("add", [branch, s.add("global_average_pool", [at])]), 3),)


TOPOLOGIES: Sequence[Callable[[Sketch, Act], tuple[str, ...]]] = (
    _plain,
    _norms,
    _two_activations,
    _no_activation,
    _flatten,
    _last_axis,
    _global_average,
    _global_maximum,
    _pools,
    _reshape,
    _reshape_pool,
    _two_ways,
    _heads,
    _add,
    _concatenate,
    _residual,
    _convolution_before,
    _softmax_behind,
    _pool_behind,
    _convolutions_behind,
)
READ_ELEMENTWISE = (
    _plain,
    _norms,
    _no_activation,
    _heads,
    _add,
    _concatenate,
    _residual,
    _softmax_behind,
    _pool_behind,
    _convolutions_behind,
)
"""Those whose first layer is read as it is, or through elementwise affine ops."""


@st.composite
def cases(
    draw: st.DrawFn,
    *,
    width: float = 1.0,
    kinds: Sequence[str] = STACKABLE,
    makes: Sequence[Callable[[Sketch, Act], tuple[str, ...]]] = TOPOLOGIES,
) -> Case:
    """Draw a topology, its weights, its activation and its box."""
    make = draw(st.sampled_from(makes))
    sketch = Sketch(draw(seeds))
    kind, parameters = draw(activations(kinds))
    outputs = make(sketch, lambda at: sketch.activation(at, kind, parameters))
    graph = sketch.graph(*outputs)
    layers = [group.layer for group in build(graph).groups if group.reason is None]
    return Case(make.__name__, graph, sketch.box(width), layers)


@st.composite
def merges(draw: st.DrawFn, units: int, most: int = 4) -> list[tuple[int, int]]:
    """Draw pairs that use every unit at most once."""
    order = draw(st.permutations(range(units)))
    count = draw(st.integers(1, min(most, units // 2)))
    return [(order[2 * k], order[2 * k + 1]) for k in range(count)]


def differences(case: Case, pruned: Graph, points: Sequence[Array]) -> Array:
    """Return g - f at the logits, the heads side by side, for every point."""
    return logits(pruned, points) - logits(case.graph, points)


def identical(graph: Graph, layer: str, nominee: int, delegate: int) -> dict[str, dict[str, Array]]:
    """Make two units of a layer, and of every normalization on their way, the same."""
    units = graph[layer].options["kernel"].shape[1]
    changed: dict[str, dict[str, Array]] = {}
    waiting = [layer]
    while waiting:
        name = waiting.pop()
        node = graph[name]
        arrays = {
            key: value for key, value in node.options.items() if isinstance(value, np.ndarray)
        }
        if name == layer or node.kind == "batch_normalization":
            changed[name] = {key: value.copy() for key, value in arrays.items()}
            for value in changed[name].values():
                # After a flatten unit c is every index that is c modulo the number of units.
                value[..., nominee::units] = value[..., delegate::units]
        reading = graph.consumers(name)
        waiting += [node.name for node in reading if node.kind not in ("dense", "conv")]
    return changed
