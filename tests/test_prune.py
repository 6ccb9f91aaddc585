"""Whole runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from networks import Box, Sketch, build, evaluate_each, logits, mlps, with_weights
from nnprune import _core
from nnprune.errors import NothingToPruneError
from reference import Graph, prune
from reference.activation import Array
from reference.bounds import evaluate, sample
from topologies import Case, cases

ANNEALING: Mapping[str, Any] = {"name": "annealing", **prune.DEFAULTS}
GREEDY: Mapping[str, Any] = {"name": "greedy", "impact": "interval", "pool": 4}
ONE_SHOT: Mapping[str, Any] = {"name": "one_shot"}
METHODS = [ANNEALING, GREEDY, ONE_SHOT]
SMOOTH = ["relu", "tanh", "gelu", "silu", "softplus", "elu", "hard_silu", "leaky_relu"]

OnEpoch = Callable[[dict[str, Any]], bool | None]


def run(
    network: _core.Network,
    box: tuple[Sequence[Array], Sequence[Array]],
    layers: Sequence[str],
    *,
    target: float = 0.5,
    step: float = 0.25,
    method: Mapping[str, Any] = ANNEALING,
    outgoing: str = "l2",
    seed: int = 0,
    on_epoch: OnEpoch | None = None,
) -> _core.Pruning:
    return _core.prune(
        network,
        *box,
        layers=layers,
        target=target,
        step=step,
        method=method,
        outgoing=outgoing,
        seed=seed,
        on_epoch=on_epoch,
    )


def merges_of(pruning: _core.Pruning) -> list[tuple[str, int, int, int]]:
    return [(m["layer"], m["nominee"], m["delegate"], m["epoch"]) for m in pruning.merges]


fractions = st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 0.7, 0.9, 0.99])


@given(
    case=cases(kinds=SMOOTH),
    target=fractions,
    step=st.sampled_from([1 / 64, 0.25, 0.5, 1.0]),
    method=st.sampled_from(METHODS),
)
def test_the_target_is_met_exactly(
    case: Case, target: float, step: float, method: Mapping[str, Any]
) -> None:
    quotas = {layer: prune.quota(target, case.units(layer)) for layer in case.layers}
    if sum(quotas.values()) == 0:
        with pytest.raises(NothingToPruneError):
            run(case.network, case.box, case.layers, target=target, step=step, method=method)
        return
    pruning = run(case.network, case.box, case.layers, target=target, step=step, method=method)
    assert pruning.stopped_by == "target"
    gone: dict[str, list[int]] = {layer: [] for layer in case.layers}
    for layer, nominee, delegate, _ in merges_of(pruning):
        assert delegate != nominee
        assert nominee not in gone[layer]
        assert delegate not in gone[layer]
        gone[layer].append(nominee)
    shapes = {node.name: node.shape for node in pruning.network.nodes}
    for layer in case.layers:
        units = case.units(layer)
        assert len(gone[layer]) == quotas[layer] < units
        kept = pruning.kept[layer]
        assert kept.tolist() == [unit for unit in range(units) if unit not in gone[layer]]
        assert shapes[layer][-1] == units - quotas[layer]
    assert dict(pruning.trace[-1]["units"]) == {k: len(v) for k, v in pruning.kept.items()}


@given(drawn=mlps(units=(3, 12)), target=fractions, step=st.sampled_from([1 / 64, 0.2, 0.5, 1.0]))
def test_the_trace_tells_the_same_story(
    drawn: tuple[Graph, Box, list[str]], target: float, step: float
) -> None:
    graph, box, layers = drawn
    seen: list[dict[str, Any]] = []
    network = build(graph)
    sizes = {layer: graph[layer].options["kernel"].shape[1] for layer in layers}
    total = sum(prune.quota(target, size) for size in sizes.values())
    if total == 0:
        return
    pruning = run(network, box, layers, target=target, step=step, on_epoch=seen.append)
    assert len(seen) == len(pruning.trace)
    merges = merges_of(pruning)
    left = total
    for epoch, (entry, shown) in enumerate(zip(pruning.trace, seen, strict=True)):
        assert entry["epoch"] == shown["epoch"] == epoch
        assert entry["temperature"] == left / total
        now = [merge for merge in merges if merge[3] == epoch]
        assert entry["removed"] == len(now)
        for layer, size in sizes.items():
            removed = sum(merge[0] == layer for merge in now)
            before = size - sum(merge[0] == layer and merge[3] < epoch for merge in merges)
            quota_left = prune.quota(target, size) - (size - before)
            # A visit uses each unit once, so that it may end short of its step.
            assert removed <= min(prune.step_size(step, size), quota_left)
            assert dict(entry["units"])[layer] == before - removed
            used = [unit for merge in now if merge[0] == layer for unit in merge[1:3]]
            assert len(used) == len(set(used))
        chosen = entry["accepted"] + entry["accepted_by_chance"] + entry["taken"]
        assert chosen == entry["removed"]
        assert entry["candidates"] >= entry["removed"]
        left -= entry["removed"]
    assert left == 0
    np.testing.assert_array_equal(pruning.trace[-1]["impact_lower"], pruning.impact[0])
    np.testing.assert_array_equal(pruning.trace[-1]["impact_upper"], pruning.impact[1])


@st.composite
def annealings(draw: st.DrawFn) -> Mapping[str, Any]:
    return {
        "name": "annealing",
        "alpha": draw(st.sampled_from([0.0, 0.5, 0.75, 1.0])),
        "similarity": draw(st.sampled_from([0.5, 0.9])),
        "density": draw(st.sampled_from(["inclusive", "printed"])),
        "normalization": draw(st.sampled_from(["scaled", "none"])),
        "impact": draw(st.sampled_from(["interval", "distance", "moment"])),
        "pool": draw(st.sampled_from([1, 2, 4])),
        "rewalks": draw(st.integers(0, 2)),
        "restart": draw(st.sampled_from(["never", "visit"])),
    }


@given(
    drawn=mlps(units=(4, 14), biased=True, kinds=SMOOTH),
    method=st.one_of(annealings(), st.sampled_from(METHODS)),
    target=st.sampled_from([0.3, 0.5, 0.8]),
    step=st.sampled_from([0.05, 0.2, 0.5]),
    outgoing=st.sampled_from(["l2", "mean_abs"]),
    bias=st.sampled_from(["absolute", "relative"]),
    seed=st.integers(0, 2**64 - 1),
)
def test_the_whole_run_is_that_of_the_twin(
    drawn: tuple[Graph, Box, list[str]],
    method: Mapping[str, Any],
    target: float,
    step: float,
    outgoing: str,
    bias: str,
    seed: int,
) -> None:
    graph, box, layers = drawn
    options: dict[str, Any] = {
        "layers": layers,
        "target": target,
        "step": step,
        "method": method,
        "outgoing": outgoing,
        "bias": bias,
        "seed": seed,
    }
    expected = prune.prune(graph, *box, **options)
    assume(not expected.degenerate)
    found = _core.prune(build(graph), *box, **options)
    assert merges_of(found) == expected.merges
    scale = 1.0 + float(np.max(np.abs(expected.cumulative)))
    for ours, theirs in zip(found.impact, expected.cumulative, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6 * scale)


@given(drawn=mlps(units=(9, 24), heads=1, biased=True, kinds=SMOOTH), seed=st.integers(0, 99))
@settings(max_examples=25)
def test_many_visits_to_wide_layers_are_those_of_the_twin(
    drawn: tuple[Graph, Box, list[str]], seed: int
) -> None:
    """Delegates of one visit are free again in the next: what is remembered must know that."""
    graph, box, layers = drawn
    options: dict[str, Any] = {"layers": layers, "target": 0.9, "step": 0.3, "seed": seed}
    for method in (ANNEALING, {**GREEDY, "pool": 1}):
        expected = prune.prune(graph, *box, method=method, **options)
        assume(not expected.degenerate)
        found = _core.prune(build(graph), *box, method=method, outgoing="l2", **options)
        assert merges_of(found) == expected.merges


@given(
    case=cases(kinds=SMOOTH), target=st.sampled_from([0.3, 0.7]), method=st.sampled_from(METHODS)
)
def test_the_cumulative_impact_contains_sampled_differences(
    case: Case, target: float, method: Mapping[str, Any]
) -> None:
    pruning = run(case.network, case.box, case.layers, target=target, method=method)
    points = sample(np.random.default_rng(0), *case.box, 200)
    final = with_weights(case.graph, pruning.network)
    found = logits(final, points) - logits(case.graph, points)
    values = evaluate(case.graph, points).values()
    pad = 1e-12 * (1.0 + max(float(np.max(np.abs(value))) for value in values))
    low, high = pruning.impact
    assert np.all(low - pad <= found), case.name
    assert np.all(found <= high + pad), case.name


@given(case=cases(kinds=SMOOTH), method=st.sampled_from(METHODS))
def test_the_impact_holds_for_the_stored_weights_on_a_point_box(
    case: Case, method: Mapping[str, Any]
) -> None:
    """On a box of one point the difference is one number: the merged weights' rounding counts."""
    lower = case.box[0]
    pruning = run(case.network, (lower, lower), case.layers, target=0.5, method=method)
    points = [low[None] for low in lower]
    final = with_weights(case.graph, pruning.network)
    found = (logits(final, points) - logits(case.graph, points))[0]
    values = evaluate(case.graph, points).values()
    size = 1.0 + max(float(np.max(np.abs(value))) for value in values)
    low, high = pruning.impact
    assert np.all(low - 1e-12 * size <= found), case.name
    assert np.all(found <= high + 1e-12 * size), case.name
    assert np.all(high - low <= 1e-4 * size)


def duplicated(seed: int, copies: int) -> tuple[Graph, Box]:
    """Return an MLP with `copies` exact copies among 12 units of its hidden layer."""
    sketch = Sketch(seed)
    hidden = sketch.dense(sketch.input(5), 12)
    options = sketch.nodes[-1].options
    order = sketch.random.permutation(12)
    for k in range(copies):
        first, second = order[2 * k], order[2 * k + 1]
        options["kernel"][:, second] = options["kernel"][:, first]
        options["bias"][second] = options["bias"][first]
    at = sketch.activation(hidden, "relu", {})
    return sketch.graph(sketch.dense(at, 4)), sketch.box()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method["name"])
@pytest.mark.parametrize("step", [1 / 12, 1.0])
def test_identical_units_go_first_and_change_nothing(
    method: Mapping[str, Any], step: float
) -> None:
    for seed in range(8):
        graph, box = duplicated(seed, 4)
        network = build(graph)
        pruning = run(network, box, ["dense_0"], target=4 / 12, step=step, method=method)
        kernel = graph["dense_0"].options["kernel"]
        for _, nominee, delegate, _ in merges_of(pruning):
            np.testing.assert_array_equal(kernel[:, nominee], kernel[:, delegate])
        points = sample(np.random.default_rng(0), *box, 20)
        before, after = (evaluate_each(net, points) for net in (network, pruning.network))
        np.testing.assert_allclose(after[0], before[0], rtol=1e-6, atol=1e-6)


def permuted(graph: Graph, order: Sequence[int]) -> Graph:
    """Return the network with the units of its first hidden layer in another order."""
    first, second = graph["dense_0"].options, graph["dense_1"].options
    changed: dict[str, dict[str, Any]] = {
        "dense_0": {"kernel": first["kernel"][:, order].copy()},
        "dense_1": {"kernel": second["kernel"][order].copy()},
    }
    if "bias" in first:
        changed["dense_0"]["bias"] = first["bias"][order].copy()
    return graph.replace(changed)


@given(
    drawn=mlps(norms=False, biased=True, heads=1, units=(4, 9), kinds=["tanh", "gelu", "softplus"]),
    data=st.data(),
    method=st.sampled_from(METHODS),
)
def test_units_may_come_in_any_order(
    drawn: tuple[Graph, Box, list[str]], data: st.DataObject, method: Mapping[str, Any]
) -> None:
    graph, box, layers = drawn
    units = graph["dense_0"].options["kernel"].shape[1]
    order = data.draw(st.permutations(range(units)))
    plain = run(build(graph), box, layers, method=method, step=0.3)
    other = run(build(permuted(graph, order)), box, layers, method=method, step=0.3)
    renamed = [
        (layer, *((order[i], order[j]) if layer == "dense_0" else (i, j)), epoch)
        for layer, i, j, epoch in merges_of(other)
    ]
    assert renamed == merges_of(plain)


def some_network() -> tuple[_core.Network, Box]:
    sketch = Sketch(1)
    at = sketch.input(6)
    for units in (20, 16):
        at = sketch.activation(sketch.dense(at, units), "relu", {})
    return build(sketch.graph(sketch.dense(at, 3))), sketch.box()


def test_on_epoch_may_stop_the_run() -> None:
    network, box = some_network()
    full = run(network, box, ["dense_0", "dense_1"], step=1 / 64)
    pruning = run(
        network,
        box,
        ["dense_0", "dense_1"],
        step=1 / 64,
        on_epoch=lambda entry: entry["epoch"] < 2,
    )
    assert pruning.stopped_by == "callback"
    assert len(pruning.trace) == 3 < len(full.trace)
    assert merges_of(pruning) == [merge for merge in merges_of(full) if merge[3] <= 2]
    assert pruning.kept["dense_0"].size == 17
    assert {node.name: node.shape for node in pruning.network.nodes}["dense_0"] == (17,)


def test_an_exception_in_on_epoch_propagates() -> None:
    network, box = some_network()

    def fail(entry: dict[str, Any]) -> None:
        raise LookupError(f"epoch {entry['epoch']}")

    with pytest.raises(LookupError, match="epoch 0"):
        run(network, box, ["dense_0"], on_epoch=fail)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method["name"])
def test_only_the_named_layers_are_pruned(method: Mapping[str, Any]) -> None:
    network, box = some_network()
    pruning = run(network, box, ["dense_1"], method=method)
    assert {merge[0] for merge in merges_of(pruning)} == {"dense_1"}
    assert set(pruning.kept) == {"dense_1"}
    np.testing.assert_array_equal(
        pruning.network.weights("dense_0")["kernel"], network.weights("dense_0")["kernel"]
    )


def test_different_seeds_explore() -> None:
    network, box = some_network()
    found = {
        tuple(merges_of(run(network, box, ["dense_0", "dense_1"], step=1 / 16, seed=seed)))
        for seed in range(10)
    }
    assert len(found) > 3


def test_the_original_network_is_left_alone() -> None:
    network, box = some_network()
    before = {name: network.weights(name) for name in ("dense_0", "dense_1", "dense_2")}
    run(network, box, ["dense_0", "dense_1"])
    for name, weights in before.items():
        for key, value in network.weights(name).items():
            np.testing.assert_array_equal(value, weights[key])
