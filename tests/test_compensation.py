"""Compensation of whole networks against the twin, and what must always hold."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from compensations import SEARCH, compensate, plain, samples_of
from hypothesis import given
from hypothesis import strategies as st
from networks import Sketch, build, logits, seeds, with_weights
from nnprune import _core, errors
from reference import Graph, Node
from reference.activation import Array
from reference.bounds import evaluate
from reference.compensation import refit
from reference.merge import merge
from topologies import Case, cases

SMOOTH = ("linear", "relu", "tanh", "sigmoid", "softplus", "gelu")


def groups_of(network: _core.Network) -> dict[str, _core.GroupInfo]:
    return {group.layer: group for group in network.groups if group.reason is None}


def random_sets(network: _core.Network, seed: int) -> dict[str, list[int]]:
    """Draw units to keep for every layer that can be pruned."""
    random = np.random.default_rng(seed)
    drawn = {}
    for layer, group in groups_of(network).items():
        count = int(random.integers(1, group.units + 1))
        drawn[layer] = sorted(random.choice(group.units, count, replace=False).tolist())
    return drawn


def twin_of(case: Case, points: list[Array], kept: dict[str, list[int]], **options: Any) -> Graph:
    """Refit layer after layer, the removed units staying with zero outgoing weights."""
    pruned, changed = case.graph, False
    for layer, group in groups_of(case.network).items():
        all_stay = len(kept[layer]) == group.units
        changed = changed or not all_stay
        if all_stay and not options.get("closed_loop", True):
            continue  # regressed on itself: there is nothing to make up for
        if changed:
            names, units = group.consumers, group.units
            pruned = refit(case.graph, pruned, names, kept[layer], points, units=units, **options)
    return pruned


@given(
    case=cases(kinds=SMOOTH),
    seed=seeds,
    closed_loop=st.booleans(),
    unchanged=st.booleans(),
)
def test_every_topology_is_refitted_as_by_the_twin(
    case: Case, seed: int, closed_loop: bool, unchanged: bool
) -> None:
    points = samples_of(case.graph, 40, seed)
    kept = random_sets(case.network, seed)
    towards = "unchanged" if unchanged else "zero"
    (found,) = compensate(
        case.network, points, kept=kept, ridge=0.05, closed_loop=closed_loop, towards=towards
    )
    expected = twin_of(case, points, kept, ridge=0.05, closed_loop=closed_loop, unchanged=unchanged)
    got = logits(with_weights(case.graph, found.network), points)
    want = logits(expected, points)
    scale = np.abs(want).max() + np.abs(logits(case.graph, points)).max()
    np.testing.assert_allclose(got, want, atol=2e-3 * scale)
    before = logits(case.graph, points)
    variance = np.sum((before - before.mean(axis=0)) ** 2)
    if len(case.graph.logits) == 1 and variance > 1e-6:
        error = np.sum((got - before) ** 2) / variance
        np.testing.assert_allclose(found.loss, error, rtol=1e-2, atol=1e-5)


@given(seed=seeds, units=st.integers(3, 12))
def test_without_a_ridge_it_is_least_squares_with_an_intercept(seed: int, units: int) -> None:
    graph = plain(seed, units, inputs=8)
    network, points = build(graph), samples_of(graph, 200, seed)
    kept = np.sort(np.random.default_rng(seed).choice(units, units // 2 + 1, replace=False))
    (found,) = compensate(network, points, kept={"dense_0": kept.tolist()}, ridge=0.0)
    values = evaluate(graph, points)
    design = np.column_stack([values["activation_0"][:, kept], np.ones(200)])
    fitted, *_ = np.linalg.lstsq(design, values["dense_1"], rcond=None)
    wanted = design @ fitted
    got = logits(with_weights(graph, found.network), points)
    np.testing.assert_allclose(got, wanted, atol=1e-3 * np.abs(wanted).max())
    (entry,) = found.layers
    centred = values["dense_1"] - values["dense_1"].mean(axis=0)
    left = np.sum((wanted - values["dense_1"]) ** 2) / np.sum(centred**2)
    np.testing.assert_allclose(entry["loss"], left, rtol=1e-2, atol=1e-6)


@given(seed=seeds, units=st.integers(4, 12), wide=st.booleans())
def test_never_worse_on_the_samples_than_plain_removal_or_the_sum(
    seed: int, units: int, wide: bool
) -> None:
    graph = plain(seed, units, 2 * units if wide else units)
    network, points = build(graph), samples_of(graph, 100, seed)
    random = np.random.default_rng(seed)
    order = random.permutation(units)
    gone, kept = order[: units // 2], np.sort(order[units // 2 :])
    (found,) = compensate(network, points, kept={"dense_0": kept.tolist()}, ridge=1e-9)
    before = evaluate(graph, points)["dense_1"]

    def off(pruned: Graph) -> float:
        return float(np.sum((evaluate(pruned, points)["dense_1"] - before) ** 2))

    kernel = graph["dense_1"].options["kernel"].copy()
    kernel[gone] = 0.0
    summed = merge(graph, "dense_0", [(int(i), int(random.choice(kept))) for i in gone])
    removed = off(graph.replace({"dense_1": {"kernel": kernel}}))
    ours = off(with_weights(graph, found.network))
    assert ours <= 1.001 * min(removed, off(summed)) + 1e-6 * np.sum(before**2)


@given(seed=seeds, units=st.integers(4, 12))
def test_units_that_others_add_up_to_are_recovered(seed: int, units: int) -> None:
    sketch = Sketch(seed)
    hidden = sketch.dense(sketch.input(units), units)
    graph = sketch.graph(sketch.dense(sketch.activation(hidden, "linear", {}), 3))
    options = {k: v.copy() for k, v in graph[hidden].options.items()}
    mixed = units // 2
    mixing = sketch.weights(units - mixed, mixed)
    options["kernel"][:, :mixed] = options["kernel"][:, mixed:] @ mixing
    options["bias"][:mixed] = options["bias"][mixed:] @ mixing + np.float32(0.5)
    graph = graph.replace({hidden: options})
    points = samples_of(graph, 10 * units, seed)
    (found,) = compensate(build(graph), points, targets=[mixed / units], ridge=1e-9)
    got = logits(with_weights(graph, found.network), points)
    want = logits(graph, points)
    np.testing.assert_allclose(got, want, atol=5e-3 * np.abs(want).max())
    assert found.loss < 1e-4


@given(seed=seeds)
def test_several_targets_are_nested_and_each_as_if_asked_for_alone(seed: int) -> None:
    graph = plain(seed, 12, 9)
    network, points = build(graph), samples_of(graph, 60, seed)
    targets = [0.25, 0.5, 0.75]
    together = compensate(network, points, targets=targets)
    assert [each.target for each in together] == targets
    for target, found in zip(targets, together, strict=True):
        (alone,) = compensate(network, points, targets=[target])
        for name in ("dense_0", "dense_1", "dense_2"):
            for key, weight in found.network.weights(name).items():
                np.testing.assert_array_equal(weight, alone.network.weights(name)[key])
    for larger, smaller in itertools.pairwise(together):
        for layer, kept in smaller.kept.items():
            assert set(kept) < set(larger.kept[layer])


@given(seed=seeds)
def test_selected_units_refit_to_the_same_network_when_given(seed: int) -> None:
    graph = plain(seed, 10, 8)
    network, points = build(graph), samples_of(graph, 60, seed)
    (found,) = compensate(network, points, selection={**SEARCH, "alpha": 0.75})
    kept = {layer: units.tolist() for layer, units in found.kept.items()}
    (again,) = compensate(network, points, kept=kept)
    assert [entry["moves"] for entry in found.layers] == [400, 400]
    assert again.target is None
    for name in ("dense_0", "dense_1", "dense_2"):
        for key, weight in found.network.weights(name).items():
            np.testing.assert_array_equal(weight, again.network.weights(name)[key])


def test_a_search_out_of_time_keeps_what_elimination_found() -> None:
    graph = plain(3, 12)
    network, points = build(graph), samples_of(graph, 60, 3)
    (found,) = compensate(network, points, selection={**SEARCH, "seconds": 0.0})
    (plainly,) = compensate(network, points)
    assert found.layers[0]["moves"] == 0
    np.testing.assert_array_equal(found.kept["dense_0"], plainly.kept["dense_0"])


@given(seed=seeds)
def test_a_metric_decides_which_outputs_count(seed: int) -> None:
    graph = plain(seed, 8, outputs=2)
    kernel = np.zeros((8, 2), np.float32)
    kernel[:4, 0], kernel[4:, 1] = 1.0, 1.0
    network = build(graph.replace({"dense_1": {"kernel": kernel}}))
    points = samples_of(graph, 200, seed)
    metrics = {"dense_1": np.array([[1.0, 0.0]])}
    (found,) = compensate(network, points, metrics=metrics)
    (plainly,) = compensate(network, points, metrics={"dense_1": np.eye(2)})
    (without,) = compensate(network, points)
    np.testing.assert_array_equal(plainly.kept["dense_0"], without.kept["dense_0"])
    before = logits(with_weights(graph, network), points)

    def error(each: _core.Compensation) -> float:
        after = logits(with_weights(graph, each.network), points)
        return float(np.sum((after - before)[:, 0] ** 2))

    assert error(found) <= error(without) * 1.02 + 1e-9


@given(seed=seeds, head=st.sampled_from(["none", "softmax"]))
def test_the_logits_metric_is_the_mean_gram_matrix_of_their_jacobian(seed: int, head: str) -> None:
    graph = plain(seed, 7, 6)
    if head == "softmax":
        last = Node("softmax_0", "softmax", graph.outputs)
        graph = Graph((*graph.nodes, last), (last.name,))
    network, points = build(graph), samples_of(graph, 30, seed)
    values = evaluate(graph, points)
    weights = graph["dense_2"].weight("kernel")
    assert weights is not None
    at_logits = np.broadcast_to(np.eye(3) - 1.0 / 3.0, (30, 3, 3))
    before = (values["dense_1"] > 0.0)[:, :, None] * (weights @ at_logits)
    metrics = {}
    for name, jacobians in {"dense_1": before, "dense_2": at_logits}.items():
        gram = np.einsum("suc,svc->uv", jacobians, jacobians) / 30
        mixed = 0.9 * gram + 0.1 * np.trace(gram) / len(gram) * np.eye(len(gram))
        powers, axes = np.linalg.eigh(mixed)
        metrics[name] = (axes * np.sqrt(np.maximum(powers, 0.0))).T
    (found,) = compensate(network, points, logit_metric=True)
    (expected,) = compensate(network, points, metrics=metrics)
    for layer, kept in expected.kept.items():
        np.testing.assert_array_equal(found.kept[layer], kept)


def parameters(network: _core.Network) -> int:
    return sum(node.parameters for node in network.nodes)


@given(seed=seeds, target=st.sampled_from([0.3, 0.5, 0.7]), multiple=st.sampled_from([1, 4]))
def test_a_propagated_budget_saves_as_much_as_a_uniform_one(
    seed: int, target: float, multiple: int
) -> None:
    graph = plain(seed, 20, 16)
    network, points = build(graph), samples_of(graph, 50, seed)
    options: dict[str, Any] = {"targets": [target], "width_multiple": multiple}
    (even,) = compensate(network, points, **options)
    (found,) = compensate(network, points, allocation="propagated", **options)
    assert parameters(found.network) <= parameters(even.network)
    for layer, kept in found.kept.items():
        units = groups_of(network)[layer].units
        assert len(kept) % multiple == 0
        assert 1.0 - len(kept) / units <= min(0.95, 1.5 * target) + 0.5 / units


def test_a_propagated_budget_spares_the_layer_that_matters() -> None:
    sketch = Sketch(0)
    first = sketch.dense(sketch.input(6), 16)
    second = sketch.dense(sketch.activation(first, "relu", {}), 16)
    graph = sketch.graph(sketch.dense(sketch.activation(second, "relu", {}), 3))
    # The second layer's units all do the same: all of them but one can go.
    options = graph[second].options
    kernel = np.repeat(options["kernel"][:, :1], 16, axis=1)
    same = {"kernel": kernel, "bias": np.repeat(options["bias"][:1], 16)}
    network = build(graph.replace({second: same}))
    points = samples_of(graph, 100, 0)
    (found,) = compensate(network, points, allocation="propagated")
    assert len(found.kept[second]) < 8 < len(found.kept[first])


@given(units=st.integers(2, 40), multiple=st.integers(1, 16), target=st.floats(0.1, 0.9))
def test_widths_are_rounded_up_to_a_multiple(units: int, multiple: int, target: float) -> None:
    graph = plain(0, units)
    network, points = build(graph), samples_of(graph, 20, 0)
    kept = units - min(int(np.floor(target * units + 0.5)), units - 1)
    expected = min(-(-kept // multiple) * multiple, units)
    box = [np.zeros(5)], [np.ones(5)]
    method = {"name": "one_shot"}
    options: dict[str, Any] = {"layers": [], "step": 1.0, "outgoing": "l2", "seed": 0}
    if expected == units:
        with pytest.raises(errors.NothingToPruneError):
            compensate(network, points, targets=[target], width_multiple=multiple)
        return
    (found,) = compensate(network, points, targets=[target], width_multiple=multiple)
    pruned = _core.prune(
        network, *box, target=target, method=method, width_multiple=multiple, **options
    )
    assert len(found.kept["dense_0"]) == len(pruned.kept["dense_0"]) == expected


def overflowing(seed: int) -> Graph:
    """Return a network one of whose units is infinite, and whose logits are not."""
    sketch = Sketch(seed)
    first = sketch.dense(sketch.input(4), 6)
    bounded = sketch.dense(sketch.activation(first, "exponential", {}), 5)
    graph = sketch.graph(sketch.dense(sketch.activation(bounded, "tanh", {}), 2))
    bias = graph[first].options["bias"].copy()
    bias[2] = 500.0
    return graph.replace({first: {"bias": bias}})


def test_a_layer_that_cannot_be_refitted_falls_back_to_the_sum() -> None:
    graph = overflowing(1)
    network, points = build(graph), samples_of(graph, 30, 1)
    seen: list[tuple[float | None, dict[str, Any]]] = []
    (found,) = compensate(
        network, points, on_layer=lambda target, entry: seen.append((target, entry))
    )
    first, second = found.layers
    assert "values of 'activation_0' that are not finite" in first["fallback"]
    assert first["ridge"] is None
    assert second["fallback"] is None
    assert second["ridge"] == 1e-2
    assert [(target, entry["layer"]) for target, entry in seen] == [
        (0.5, "dense_0"),
        (0.5, "dense_1"),
    ]
    assert found.network.weights("dense_1")["kernel"].shape == (3, 2)


def test_a_callback_that_raises_is_not_lost() -> None:
    graph = plain(0, 6)

    def refuse(*_: object) -> None:
        raise KeyError("no")

    with pytest.raises(KeyError, match="no"):
        compensate(build(graph), samples_of(graph, 20, 0), on_layer=refuse)
