"""The primitive operation: masked and removed networks."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from networks import Sketch, build, evaluate_each, with_weights
from reference import Graph
from reference.activation import Array
from reference.bounds import evaluate, sample
from reference.layer import read_layer
from reference.merge import merge
from topologies import Case, cases, identical, merges


def outputs(graph: Graph, points: list[Array]) -> list[Array]:
    values = evaluate(graph, points)
    return [values[name] for name in graph.outputs]


def able(graph: Graph, layer: str, pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    delegates = read_layer(graph, layer).delegates
    return [pair for pair in pairs if pair[1] in delegates]


def tolerance(values: list[Array]) -> float:
    return 1e-9 * (1.0 + max(float(np.max(np.abs(value))) for value in values))


@given(case=cases(), data=st.data())
def test_masking_equals_the_twin(case: Case, data: st.DataObject) -> None:
    for layer in case.layers:
        pairs = able(case.graph, layer, data.draw(merges(case.units(layer))))
        masked = case.network.masked(layer, pairs)
        expected = merge(case.graph, layer, pairs)
        for consumer in read_layer(case.graph, layer).consumers:
            name = consumer.node.name
            weights = masked.weights(name)
            kernel, bias = expected[name].weight("kernel"), expected[name].weight("bias")
            assert kernel is not None
            assert bias is not None
            # Each merge rounds to float32 once.
            np.testing.assert_allclose(weights["kernel"], kernel, rtol=1e-6, atol=2e-6)
            np.testing.assert_allclose(
                weights["bias"] if "bias" in weights else np.zeros(kernel.shape[1]),
                bias,
                rtol=1e-6,
                atol=1e-5 * (1.0 + np.max(np.abs(kernel))),
            )
            gone = np.isin(consumer.unit, [nominee for nominee, _ in pairs])
            assert np.all(weights["kernel"][gone] == 0.0)


@given(case=cases(), data=st.data())
def test_removing_equals_masking(case: Case, data: st.DataObject) -> None:
    points = sample(np.random.default_rng(0), *case.box, 20)
    for layer in case.layers:
        pairs = able(case.graph, layer, data.draw(merges(case.units(layer))))
        masked = case.network.masked(layer, pairs)
        removed = case.network.removed(layer, pairs)
        before, after = evaluate_each(masked, points), evaluate_each(removed, points)
        for one, other in zip(before, after, strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-9, atol=tolerance(before))
        units = case.units(layer)
        info = {node.name: node for node in removed.nodes}
        assert info[layer].shape[-1] == units - len(pairs)
        assert {group.layer: group.units for group in removed.groups}[layer] == units - len(pairs)
        assert removed.weights(layer)["kernel"].shape[1] == units - len(pairs)


@given(case=cases(), data=st.data())
def test_evaluation_before_and_after_equals_numpy(case: Case, data: st.DataObject) -> None:
    points = sample(np.random.default_rng(0), *case.box, 20)
    layer = data.draw(st.sampled_from(case.layers))
    pairs = able(case.graph, layer, data.draw(merges(case.units(layer))))
    masked = case.network.masked(layer, pairs)
    for network, graph in (
        (case.network, case.graph),
        (masked, with_weights(case.graph, masked)),
    ):
        expected = outputs(graph, points)
        for ours, theirs in zip(evaluate_each(network, points), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=tolerance(expected))


@given(case=cases(), data=st.data())
def test_the_delegate_stands_in_for_the_nominee(case: Case, data: st.DataObject) -> None:
    """A merge is the network in which the nominee's value is the delegate's, whatever follows."""
    # There the one unit is followed by a normalization on one way and by none on the other.
    assume(case.name != "_two_ways")
    points = sample(np.random.default_rng(0), *case.box, 20)
    layer = data.draw(st.sampled_from(case.layers))
    pairs = able(case.graph, layer, data.draw(merges(case.units(layer), most=1)))
    for nominee, delegate in pairs:
        swapped = case.graph.replace(identical_value(case.graph, layer, nominee, delegate))
        expected = outputs(swapped, points)
        found = outputs(merge(case.graph, layer, [(nominee, delegate)]), points)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=tolerance(expected))


def identical_value(
    graph: Graph, layer: str, nominee: int, delegate: int
) -> dict[str, dict[str, Array]]:
    """Make the nominee's first activation equal the delegate's; leave all that follows alone.

    Where a non-linear op comes after a normalization, that too belongs to the unit.
    """
    view = read_layer(graph, layer)
    own = {layer}
    path, name = [], layer
    while len(graph.consumers(name)) == 1 and graph.consumers(name)[0].kind != "dense":
        name = graph.consumers(name)[0].name
        path.append(name)
    barriers = [k for k, step in enumerate(path) if graph[step].kind in ("activation", "max_pool")]
    barriers += [k for k, step in enumerate(path) if graph[step].kind == "global_max_pool"]
    last = max(barriers, default=len(path))
    own |= {step for step in path[:last] if graph[step].kind == "batch_normalization"}
    everything = identical(graph, layer, nominee, delegate)
    assert view.units == graph[layer].options["kernel"].shape[1]
    return {step: changed for step, changed in everything.items() if step in own}


@given(case=cases(), data=st.data())
def test_merging_identical_units_changes_nothing(case: Case, data: st.DataObject) -> None:
    layer = data.draw(st.sampled_from(case.layers))
    nominee, delegate = data.draw(merges(case.units(layer), most=1))[0]
    graph = case.graph.replace(identical(case.graph, layer, nominee, delegate))
    if delegate not in read_layer(graph, layer).delegates:
        return
    points = sample(np.random.default_rng(0), *case.box, 20)
    before = outputs(graph, points)
    for network in (
        build(graph).masked(layer, [(nominee, delegate)]),
        build(graph).removed(layer, [(nominee, delegate)]),
    ):
        for ours, theirs in zip(evaluate_each(network, points), before, strict=True):
            scale = 1.0 + np.max(np.abs(theirs))
            # Only the sum of the two rows is rounded to float32.
            np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=2e-6 * scale)


def test_chains_pass_the_weights_on() -> None:
    sketch = Sketch(2)
    hidden = sketch.dense(sketch.input(3), 5)
    graph = sketch.graph(sketch.dense(sketch.activation(hidden, "tanh", {}), 2))
    network = build(graph)
    found = network.masked(hidden, [(0, 1), (1, 2)]).weights("dense_1")["kernel"]
    kernel = graph["dense_1"].options["kernel"]
    np.testing.assert_allclose(found[2], kernel[0] + kernel[1] + kernel[2], rtol=1e-6, atol=1e-7)
    assert np.all(found[:2] == 0.0)
    left = network.removed(hidden, [(0, 1), (1, 2)])
    np.testing.assert_array_equal(left.weights("dense_1")["kernel"], found[2:])


def test_the_original_network_is_left_alone() -> None:
    sketch = Sketch(2)
    hidden = sketch.dense(sketch.input(3), 5)
    graph = sketch.graph(sketch.dense(hidden, 2))
    network = build(graph)
    network.masked(hidden, [(0, 1)])
    network.removed(hidden, [(0, 1)])
    for name in ("dense_0", "dense_1"):
        for key, value in network.weights(name).items():
            np.testing.assert_array_equal(value, graph[name].options[key])


def test_a_missing_bias_is_made_where_a_normalization_needs_one() -> None:
    sketch = Sketch(4)
    hidden = sketch.dense(sketch.input(3), 5)
    at = sketch.norm(sketch.activation(hidden, "tanh", {}))
    graph = sketch.graph(sketch.dense(at, 2, bias=False))
    points = [np.random.default_rng(0).standard_normal((20, 3))]
    (found,) = evaluate_each(build(graph).removed(hidden, [(0, 1)]), points)
    (expected,) = outputs(merge(graph, hidden, [(0, 1)]), points)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
