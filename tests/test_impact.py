"""Impact of merging units on the logits: soundness, and equality with the twin for MLPs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import Box, Sketch, build, mlps, with_weights
from nnprune import _core
from reference import Graph
from reference.activation import Array
from reference.bounds import evaluate, sample
from reference.impact import impact, joint_impact
from reference.layer import read_layer
from reference.merge import merge
from topologies import (
    READ_ELEMENTWISE,
    TOPOLOGIES,
    Case,
    cases,
    differences,
    identical,
    merges,
)

Drawn = tuple[Graph, Box, list[str]]


def assert_inside(low: Array, high: Array, found: Array, size: float, note: object) -> None:
    """Check g - f; both were evaluated in float64 at values of about `size`.

    g has the merged weights as they are stored, in float32: their rounding is part of g - f.
    """
    outside = float(np.max(np.maximum(low - found, found - high), initial=0.0))
    assert outside <= 1e-12 * (1.0 + size), note


def size_of(case: Case, points: list[Array]) -> float:
    return max(float(np.max(np.abs(value))) for value in evaluate(case.graph, points).values())


def able_pairs(case: Case, layer: str, pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    delegates = read_layer(case.graph, layer).delegates
    return [pair for pair in pairs if pair[1] in delegates]


@given(case=cases(), data=st.data())
def test_candidates_contain_sampled_differences(case: Case, data: st.DataObject) -> None:
    points = sample(np.random.default_rng(0), *case.box, 150)
    network, size = case.network, size_of(case, points)
    for layer in case.layers:
        pairs = able_pairs(case, layer, data.draw(merges(case.units(layer))))
        low, high = network.impact(layer, pairs, *case.box)
        assert np.all(low <= high)
        for row, pair in enumerate(pairs):
            found = differences(case, merge(case.graph, layer, [pair]), points)
            assert_inside(low[row], high[row], found, size, (case.name, layer, pair))


@given(case=cases(), data=st.data())
def test_joint_impact_contains_sampled_differences(case: Case, data: st.DataObject) -> None:
    points = sample(np.random.default_rng(0), *case.box, 150)
    network, size = case.network, size_of(case, points)
    for layer in case.layers:
        pairs = able_pairs(case, layer, data.draw(merges(case.units(layer))))
        low, high = network.joint_impact(layer, pairs, *case.box)
        pruned = with_weights(case.graph, network.masked(layer, pairs))
        found = differences(case, pruned, points)
        assert_inside(low, high, found, size, (case.name, layer, pairs))


@pytest.mark.parametrize("width", [0.001, 20.0])
@given(data=st.data())
def test_narrow_and_wide_boxes(width: float, data: st.DataObject) -> None:
    # Values grow with the box: the exponential would leave the range of float64.
    kinds = ["relu", "gelu", "silu", "mish", "tanh", "hard_silu", "softplus", "elu"]
    case = data.draw(cases(width=width, kinds=kinds))
    points = sample(np.random.default_rng(0), *case.box, 150)
    layer = data.draw(st.sampled_from(case.layers))
    pairs = able_pairs(case, layer, data.draw(merges(case.units(layer))))
    network = case.network
    low, high = network.joint_impact(layer, pairs, *case.box)
    found = differences(case, with_weights(case.graph, network.masked(layer, pairs)), points)
    assert_inside(low, high, found, size_of(case, points), (case.name, layer, pairs))


@given(case=cases(), data=st.data())
def test_still_sound_after_many_merges(case: Case, data: st.DataObject) -> None:
    network = case.network
    for layer in case.layers:
        pairs = able_pairs(case, layer, data.draw(merges(case.units(layer))))
        network = network.masked(layer, pairs)
    graph = with_weights(case.graph, network)
    merged = Case(case.name, graph, case.box, case.layers)
    points = sample(np.random.default_rng(0), *case.box, 100)
    layer = data.draw(st.sampled_from(case.layers))
    pairs = able_pairs(merged, layer, data.draw(merges(case.units(layer))))
    found = differences(merged, with_weights(graph, network.masked(layer, pairs)), points)
    size = size_of(merged, points)
    low, high = network.joint_impact(layer, pairs, *case.box)
    assert_inside(low, high, found, size, (case.name, layer, pairs))


def test_every_topology_has_units_that_may_go() -> None:
    for make in TOPOLOGIES:
        sketch = Sketch(0)
        outputs = make(sketch, lambda at, s=sketch: s.activation(at, "relu", {}))  # type: ignore[misc]
        groups = build(sketch.graph(*outputs)).groups
        prunable = [group.layer for group in groups if group.reason is None]
        assert "dense_0" in prunable, (make.__name__, [group.reason for group in groups])


def assert_same(found: tuple[Array, Array], expected: tuple[Array, Array], scale: float) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10 * scale)


@given(drawn=mlps(biased=True), data=st.data())
def test_candidates_equal_the_twin(drawn: Drawn, data: st.DataObject) -> None:
    graph, box, layers = drawn
    network = build(graph)
    for layer in layers:
        view = read_layer(graph, layer)
        pairs = [pair for pair in data.draw(merges(view.units)) if pair[1] in view.delegates]
        expected = impact(graph, layer, pairs, *box)
        found = network.impact(layer, pairs, *box)
        assert found[0].shape == expected[0].shape
        assert_same(found, expected, 1.0 + float(np.max(np.abs(expected))))


@given(case=cases(makes=READ_ELEMENTWISE), data=st.data())
def test_candidates_equal_the_twin_through_every_op(case: Case, data: st.DataObject) -> None:
    layer = case.layers[0]  # what reads it is what the twin can follow
    pairs = able_pairs(case, layer, data.draw(merges(case.units(layer))))
    expected = impact(case.graph, layer, pairs, *case.box)
    found = case.network.impact(layer, pairs, *case.box)
    assert_same(found, expected, 1.0 + float(np.max(np.abs(expected), initial=0.0)))


@given(drawn=mlps(biased=True), data=st.data())
def test_joint_impact_equals_the_twin(drawn: Drawn, data: st.DataObject) -> None:
    graph, box, layers = drawn
    network = build(graph)
    for layer in layers:
        view = read_layer(graph, layer)
        pairs = [pair for pair in data.draw(merges(view.units)) if pair[1] in view.delegates]
        expected = joint_impact(graph, layer, pairs, *box)
        found = network.joint_impact(layer, pairs, *box)
        # Where the intersection with the values of both networks bites, the core's intervals
        # carry the float32 rounding of its merged weights.
        scale = float(np.max(np.abs(expected))) + 1.0
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=3e-6 * scale)


def test_the_values_of_both_networks_cut_the_joint_impact() -> None:
    """Outgoing weights 1 and -1 that cancel in one delegate: only the value intervals show it."""
    sketch = Sketch(0)
    hidden = sketch.dense(sketch.input(3), 3)
    kernel = np.array([[1.0], [-1.0], [0.0]], dtype=np.float32)
    graph = sketch.graph(sketch.add("dense", [hidden], kernel=kernel))
    box = ([np.full(3, -1.0)], [np.full(3, 1.0)])
    pairs = [(0, 2), (1, 2)]
    network = build(graph)
    found = network.joint_impact(hidden, pairs, *box)
    assert_same(found, joint_impact(graph, hidden, pairs, *box), 1.0)
    alone = network.impact(hidden, pairs, *box)
    summed = np.sum(alone[1] - alone[0])
    assert float(found[1][0] - found[0][0]) < 0.9 * float(summed)
    old = network.value_intervals(*box)["dense_1"]
    np.testing.assert_allclose(found, (-old[1], -old[0]), rtol=1e-12)


@given(case=cases(), data=st.data())
def test_identical_units_have_no_impact(case: Case, data: st.DataObject) -> None:
    layer = data.draw(st.sampled_from(case.layers))
    nominee, delegate = data.draw(merges(case.units(layer), most=1))[0]
    graph = case.graph.replace(identical(case.graph, layer, nominee, delegate))
    network = build(graph)
    for pair in ((nominee, delegate), (delegate, nominee)):
        if pair[1] in read_layer(graph, layer).delegates:
            low, high = network.impact(layer, [pair], *case.box)
            assert np.all(low == 0.0), case.name
            assert np.all(high == 0.0), case.name
            # The sum of their outgoing weights is rounded to float32, and no more than that.
            low, high = network.joint_impact(layer, [pair], *case.box)
            wide = network.joint_impact(
                layer, [(pair[0], other_unit(case, layer, pair))], *case.box
            )
            assert np.all(high - low <= 1e-6 * (1.0 + np.max(wide[1] - wide[0]))), case.name


def other_unit(case: Case, layer: str, pair: tuple[int, int]) -> int:
    """Return a delegate that is not like the nominee, or the one of the pair if there is none."""
    delegates = read_layer(case.graph, layer).delegates
    return next((unit for unit in sorted(delegates) if unit not in pair), pair[1])


def convolved(seed: int, *, norm: bool, padding: str, zeros: bool) -> tuple[Case, list[str]]:
    """Return a case whose units are read by a convolution, and the nodes that belong to them.

    Where the convolution pads, a normalization before it cannot be folded into its kernel (the
    padding would have to change too), so that it moves with the unit.
    """
    sketch = Sketch(seed)
    hidden = sketch.dense(sketch.input(3, 3, 2), 4)
    own = [hidden]
    at = sketch.activation(hidden, "tanh", {})
    if norm:
        at = sketch.norm(at)
        own += [at] if padding == "same" or zeros else []
    if zeros:
        at = sketch.add("zero_padding", [at], padding=[(1, 0), (0, 1)])
    window = {"window": [2, 2], "strides": [1, 1], "dilation": [1, 1], "padding": padding}
    at = sketch.activation(sketch.conv(at, 3, groups=1, **window), "relu", {})
    graph = sketch.graph(sketch.dense(sketch.flatten(at), 2))
    return Case("convolved", graph, sketch.box(), [hidden]), own


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("norm", [False, True])
def test_units_read_by_a_convolution(norm: bool, padding: str, zeros: bool) -> None:
    for seed in range(10):
        case, own = convolved(seed, norm=norm, padding=padding, zeros=zeros)
        points = sample(np.random.default_rng(0), *case.box, 100)
        low, high = case.network.impact("dense_0", [(2, 0)], *case.box)
        alike = identical(case.graph, "dense_0", 2, 0)
        stand_in = case.graph.replace({name: alike[name] for name in own})
        found = differences(case, stand_in, points)
        assert_inside(low[0], high[0], found, size_of(case, points), seed)
        masked = with_weights(case.graph, case.network.masked("dense_0", [(2, 0)]))
        stored = differences(case, masked, points)
        np.testing.assert_allclose(stored, found, rtol=1e-5, atol=1e-5)


def test_a_unit_off_in_both_networks_has_no_impact() -> None:
    sketch = Sketch(5)
    hidden = sketch.dense(sketch.input(3), 4)
    sketch.nodes[-1].options["bias"][:2] = -100.0
    graph = sketch.graph(sketch.dense(sketch.activation(hidden, "relu", {}), 2))
    low, high = build(graph).impact(hidden, [(0, 1), (0, 2)], [np.full(3, -1.0)], [np.ones(3)])
    assert np.all(low[0] == 0.0)
    assert np.all(high[0] == 0.0)
    assert np.any(high[1] > 0.0)


def test_no_pair_has_no_impact() -> None:
    sketch = Sketch(5)
    hidden = sketch.dense(sketch.input(3), 4)
    network = build(sketch.graph(sketch.dense(hidden, 2)))
    box = ([np.zeros(3)], [np.ones(3)])
    low, high = network.impact(hidden, [], *box)
    assert low.shape == high.shape == (0, 2)
    low, high = network.joint_impact(hidden, [], *box)
    assert np.all(low == 0.0)
    assert np.all(high == 0.0)


def test_overflow_gives_infinite_impacts_not_nan() -> None:
    sketch = Sketch(0)
    at = sketch.input(2)
    for _ in range(3):
        at = sketch.activation(sketch.dense(at, 4), "exponential", {})
    network = build(sketch.graph(sketch.dense(at, 2)))
    box = ([np.full(2, -50.0)], [np.full(2, 50.0)])
    for low, high in (
        network.impact("dense_0", [(0, 1)], *box),
        network.joint_impact("dense_0", [(0, 1)], *box),
        network.impact("dense_2", [(0, 1)], *box),
    ):
        assert not np.any(np.isnan(low) | np.isnan(high))
        assert np.all(low <= high)
    assert isinstance(network, _core.Network)
