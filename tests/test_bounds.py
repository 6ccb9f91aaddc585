"""Value intervals of every node, and point evaluation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import Box, Sketch, any_networks, build, evaluate_each, mlps, seeds
from nnprune import _core
from numpy.typing import NDArray
from reference import Graph
from reference.activation import Array
from reference.bounds import evaluate, sample, simplify, value_intervals


def assert_contains(low: Array, high: Array, values: Array, name: str) -> None:
    """Check the box; the sampled values carry rounding of their own."""
    pad = 1e-12 * (1.0 + np.abs(values))
    assert np.all(low - pad <= values), name
    assert np.all(values <= high + pad), name


@given(drawn=any_networks())
def test_intervals_contain_samples_and_equal_the_twin(drawn: tuple[Graph, Box]) -> None:
    graph, (lower, upper) = drawn
    found = build(graph).value_intervals(lower, upper)
    values = evaluate(graph, sample(np.random.default_rng(0), lower, upper, 60))
    twin = simplify(value_intervals(graph, lower, upper))
    assert set(found) == set(twin)
    for node in graph.nodes:
        low, high = found[node.name]
        assert low.shape == values[node.name].shape[1:]
        assert np.all(low <= high)
        assert_contains(low, high, values[node.name], node.name)
        scale = np.max(np.abs(twin[node.name]))
        for ours, theirs in zip((low, high), twin[node.name], strict=True):
            np.testing.assert_allclose(
                ours, theirs, rtol=1e-9, atol=1e-9 * scale, err_msg=f"{node.name} {node.options}"
            )


@given(drawn=any_networks())
def test_evaluation_equals_the_twin(drawn: tuple[Graph, Box]) -> None:
    graph, (lower, upper) = drawn
    points = sample(np.random.default_rng(0), lower, upper, 5)
    (found,) = evaluate_each(build(graph), points)
    expected = evaluate(graph, points)[graph.outputs[0]]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.max(np.abs(expected)))


@given(drawn=any_networks(), inner=st.floats(0.0, 1.0))
def test_a_smaller_box_gives_smaller_intervals(drawn: tuple[Graph, Box], inner: float) -> None:
    graph, (lower, upper) = drawn
    network = build(graph)
    wide = network.value_intervals(lower, upper)
    narrow = network.value_intervals(
        [low + 0.3 * inner * (high - low) for low, high in zip(lower, upper, strict=True)],
        [high - 0.5 * inner * (high - low) for low, high in zip(lower, upper, strict=True)],
    )
    for name, (low, high) in wide.items():
        pad = 1e-11 * (1.0 + np.abs(low) + np.abs(high))
        assert np.all(low - pad <= narrow[name][0])
        assert np.all(narrow[name][1] <= high + pad)


@given(drawn=mlps())
def test_a_point_box_gives_the_point_value(drawn: tuple[Graph, Box, list[str]]) -> None:
    graph, (lower, _), _ = drawn
    network = build(graph)
    found = network.value_intervals(lower, lower)
    values = evaluate(graph, [low[None] for low in lower])
    for name, (low, high) in found.items():
        scale = 1.0 + np.max(np.abs(values[name]))
        assert np.all(low <= values[name][0] + 1e-13 * scale)
        assert np.all(values[name][0] <= high + 1e-13 * scale)
        assert np.max(high - low) <= 1e-11 * scale


@given(seed=seeds)
def test_bounds_hold_against_exact_arithmetic(seed: int) -> None:
    """One affine step in integers, where NumPy makes no rounding error at all."""
    random = np.random.default_rng(seed)
    kernel = random.integers(-(2**12), 2**12, (9, 4)).astype(np.float32)
    bias = random.integers(-(2**20), 2**20, 4).astype(np.float32)
    corners = random.integers(-(2**20), 2**20, (2, 9)).astype(np.float64)
    lower, upper = corners.min(axis=0), corners.max(axis=0)
    sketch = Sketch(seed)
    at = sketch.input(9)
    at = sketch.add("dense", [at], kernel=kernel, bias=bias)
    low, high = build(sketch.graph(at)).value_intervals([lower], [upper])[at]
    positive, negative = np.maximum(kernel, 0.0), np.minimum(kernel, 0.0)
    exact_low = lower @ positive + upper @ negative + bias
    exact_high = upper @ positive + lower @ negative + bias
    assert np.all(low <= exact_low)
    assert np.all(exact_high <= high)
    size = 1e-12 * (np.maximum(np.abs(lower), np.abs(upper)) @ np.abs(kernel))
    assert np.all(exact_low - low <= size)
    assert np.all(high - exact_high <= size)


@given(seed=seeds, width=st.sampled_from([0.01, 1.0, 30.0]))
def test_layer_normalization_contains_samples(seed: int, width: float) -> None:
    sketch = Sketch(seed)
    at = sketch.input(3, 5)
    weights = {"gamma": sketch.weights(5), "beta": sketch.weights(5)}
    at = sketch.add("layer_normalization", [at], epsilon=1e-3, **weights)
    graph, (lower, upper) = sketch.graph(at), sketch.box(width)
    network = build(graph)
    points = sample(np.random.default_rng(0), lower, upper, 100)
    values = evaluate(graph, points)[at]
    assert_contains(*network.value_intervals(lower, upper)[at], values, at)
    np.testing.assert_allclose(evaluate_each(network, points)[0], values, rtol=1e-9, atol=1e-9)


def test_nothing_is_known_behind_an_opaque_op() -> None:
    builder = _core.NetworkBuilder()
    builder.input("x", (3,))
    builder.opaque("what", ["x"], (2,), "a Lambda layer")
    builder.dense("out", "what", np.ones((2, 1), dtype=np.float32))
    network = builder.build(["out"])
    boxes = network.value_intervals([np.zeros(3)], [np.ones(3)])
    for name in ("what", "out"):
        assert np.all(boxes[name][0] == -np.inf)
        assert np.all(boxes[name][1] == np.inf)


def test_overflow_widens_instead_of_failing() -> None:
    sketch = Sketch(0)
    at = sketch.input(2)
    for _ in range(3):
        at = sketch.activation(sketch.dense(at, 3), "exponential", {})
    graph = sketch.graph(sketch.dense(at, 2))
    boxes = build(graph).value_intervals([np.full(2, -50.0)], [np.full(2, 50.0)])
    for low, high in boxes.values():
        assert not np.any(np.isnan(low) | np.isnan(high))
        assert np.all(low <= high)


@pytest.mark.parametrize("shape", [(4,), (5, 3), (4, 3, 2), (3, 2, 2, 2)])
def test_dense_works_on_the_last_axis(shape: tuple[int, ...]) -> None:
    sketch = Sketch(3)
    at = sketch.input(*shape)
    at = sketch.dense(at, 6)
    graph, (lower, upper) = sketch.graph(at), sketch.box()
    low, high = build(graph).value_intervals(lower, upper)[at]
    kernel: NDArray[np.float32] = graph[at].options["kernel"]
    centre = (lower[0] + upper[0]) / 2.0 @ kernel + graph[at].options["bias"]
    radius = (upper[0] - lower[0]) / 2.0 @ np.abs(kernel)
    np.testing.assert_allclose(low, centre - radius, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(high, centre + radius, rtol=1e-12, atol=1e-12)
