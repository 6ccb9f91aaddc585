"""Saliency of every pair."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import Box, Sketch, build, mlps, seeds
from reference import Graph
from reference.activation import Array
from reference.saliency import bias_term, saliency

MEASURES = ["l2", "mean_abs"]
BIASES = ["absolute", "relative"]


def off_diagonal(matrix: Array) -> Array:
    return matrix[~np.eye(len(matrix), dtype=bool)]


@given(
    drawn=mlps(units=(2, 12)),
    outgoing=st.sampled_from(MEASURES),
    bias=st.sampled_from(BIASES),
)
def test_every_pair_equals_the_twin(
    drawn: tuple[Graph, Box, list[str]], outgoing: str, bias: str
) -> None:
    graph, _, layers = drawn
    network = build(graph)
    for layer in layers:
        found = network.saliency(layer, outgoing=outgoing, bias=bias)
        expected = saliency(graph, layer, outgoing=outgoing, bias=bias)
        assert found.shape == expected.shape
        np.testing.assert_allclose(off_diagonal(found), off_diagonal(expected), rtol=1e-9)


@given(seed=seeds)
def test_a_normalization_after_the_activation_counts(seed: int) -> None:
    sketch = Sketch(seed)
    hidden = sketch.dense(sketch.input(3), 4)
    at = sketch.norm(sketch.activation(hidden, "tanh", {}))
    graph = sketch.graph(sketch.dense(at, 2))
    gamma = graph[at].options["gamma"].copy()
    gamma[2] *= np.float32(4.0)
    found = build(graph.replace({at: {"gamma": gamma}})).saliency(hidden)
    before = build(graph).saliency(hidden)
    np.testing.assert_allclose(found[2, [0, 1, 3]], 4.0 * before[2, [0, 1, 3]], rtol=1e-6)
    np.testing.assert_array_equal(found[[0, 1, 3]], before[[0, 1, 3]])


def near_twins(seed: int, offset: float, gap: float) -> Graph:
    """Return a layer whose units 0 and 1 differ by `gap` on top of large common weights."""
    sketch = Sketch(seed)
    at = sketch.input(40)
    hidden = sketch.dense(at, 5)
    kernel = sketch.nodes[-1].options["kernel"]
    kernel += np.float32(offset)
    kernel[:, 1] = kernel[:, 0] * np.float32(1.0 + gap)
    sketch.nodes[-1].options["bias"][1] = sketch.nodes[-1].options["bias"][0]
    at = sketch.activation(hidden, "relu", {})
    return sketch.graph(sketch.dense(at, 3))


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("offset", [0.0, 1.0, 1e3])
@pytest.mark.parametrize("gap", [1e-6, 1e-4, 1e-2])
def test_close_units_do_not_drown_in_cancellation(offset: float, gap: float, bias: str) -> None:
    graph = near_twins(4, offset, gap)
    found = build(graph).saliency("dense_0", bias=bias)
    expected = saliency(graph, "dense_0", bias=bias)
    assert expected[0, 1] > 0.0
    np.testing.assert_allclose(off_diagonal(found), off_diagonal(expected), rtol=1e-8)


@given(seed=seeds, offset=st.sampled_from([0.0, 1.0, 1e4]))
def test_identical_units_are_at_no_distance(seed: int, offset: float) -> None:
    found = build(near_twins(seed, offset, 0.0)).saliency("dense_0")
    assert found[0, 1] == 0.0
    assert found[1, 0] == 0.0
    assert np.min(off_diagonal(found)[2:]) >= 0.0


@pytest.mark.parametrize(
    ("first", "second", "relative"),
    [
        (0.0, 0.0, 0.0),
        (0.5, 0.5, 0.0),
        (0.5, 0.25, 1.0 / 3.0),
        (-0.5, 0.25, 3.0),
        (0.5, -0.5, 1e12),
        (0.0, 0.5, 1.0),
    ],
)
def test_the_bias_term(first: float, second: float, relative: float) -> None:
    assert bias_term(first, second) == pytest.approx(relative)
    sketch = Sketch(0)
    at = sketch.input(2)
    kernel = np.ones((2, 2), dtype=np.float32)
    bias = np.array([first, second], dtype=np.float32)
    at = sketch.add("dense", [at], kernel=kernel, bias=bias)
    out = sketch.add("dense", [at], kernel=np.array([[3.0], [4.0]], dtype=np.float32))
    network = build(sketch.graph(out))
    for name, expected in (("relative", relative), ("absolute", abs(first - second))):
        found = network.saliency(at, bias=name)
        assert found[0, 1] == pytest.approx(3.0 * expected)
        assert found[1, 0] == pytest.approx(4.0 * expected)


def test_all_consumers_count() -> None:
    sketch = Sketch(1)
    hidden = sketch.dense(sketch.input(3), 4)
    at = sketch.activation(hidden, "tanh", {})
    graph = sketch.graph(sketch.dense(at, 2), sketch.dense(at, 5))
    found = build(graph).saliency(hidden)
    expected = saliency(graph, hidden)
    one_head = Graph(graph.nodes[:-1], graph.outputs[:1])
    np.testing.assert_allclose(off_diagonal(found), off_diagonal(expected), rtol=1e-12)
    assert np.all(off_diagonal(found) > off_diagonal(saliency(one_head, hidden)))
