"""Compensation by one kept unit for each removed one: the scaled sum of Neuron Merging."""

from __future__ import annotations

import numpy as np
from compensations import compensate, plain, samples_of
from hypothesis import given
from hypothesis import strategies as st
from networks import Sketch, build, logits, seeds, with_weights
from nnprune import _core
from reference import Graph
from reference.merge import merge


def scaled_twin(graph: Graph, gone: list[int], kept: list[int], threshold: float) -> Graph:
    """Neuron Merging on the first of two layers, the removed units left in place."""
    first, second = graph["dense_0"], graph["dense_1"]
    kernel, bias = first.weight("kernel"), first.weight("bias")
    outgoing = second.weight("kernel")
    assert kernel is not None
    assert bias is not None
    assert outgoing is not None
    incoming = np.vstack([kernel, bias]).T
    length = np.linalg.norm(incoming, axis=1)
    cosine = (incoming @ incoming.T) / np.outer(length, length)
    outgoing = outgoing.copy()
    for i in gone:
        j = max(kept, key=lambda unit: cosine[i, unit])
        if cosine[i, j] >= threshold:
            outgoing[j] += length[i] / length[j] * outgoing[i]
        outgoing[i] = 0.0
    return graph.replace({"dense_1": {"kernel": outgoing}})


@given(seed=seeds, units=st.integers(3, 12), threshold=st.sampled_from([-1.0, 0.45]))
def test_scaled_delegates_equal_the_twin(seed: int, units: int, threshold: float) -> None:
    graph = plain(seed, units)
    network, points = build(graph), samples_of(graph, 20, seed)
    order = np.random.default_rng(seed).permutation(units).tolist()
    gone, kept = order[: units // 2], sorted(order[units // 2 :])
    options = {"rule": "scaled", "threshold": threshold}
    (found,) = compensate(network, points, kept={"dense_0": kept}, **options)
    got = logits(with_weights(graph, found.network), points)
    want = logits(scaled_twin(graph, gone, kept, threshold), points)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    (entry,) = found.layers
    assert {nominee for nominee, _ in entry["pairs"]} <= set(gone)
    assert {delegate for _, delegate in entry["pairs"]} <= set(kept)


@given(seed=seeds, norm=st.booleans(), kind=st.sampled_from(["relu", "leaky_relu", "linear"]))
def test_a_positive_multiple_of_a_kept_unit_goes_without_a_trace(
    seed: int, norm: bool, kind: str
) -> None:
    sketch = Sketch(seed)
    hidden = sketch.dense(sketch.input(4), 5)
    at = sketch.activation(sketch.norm(hidden) if norm else hidden, kind, {})
    graph = sketch.graph(sketch.dense(at, 3))
    changed = {
        name: dict(graph[name].options) for name in (hidden, "batch_normalization_0")[: 1 + norm]
    }
    for options in changed.values():
        for key, value in options.items():
            options[key] = value.copy() if isinstance(value, np.ndarray) else value
    if norm:
        # Its own normalization makes the multiple: the layer's outputs are the same.
        changed[hidden]["kernel"][:, 1] = changed[hidden]["kernel"][:, 3]
        changed[hidden]["bias"][1] = changed[hidden]["bias"][3]
        options = changed["batch_normalization_0"]
        for key in ("mean", "variance"):
            options[key][1] = options[key][3]
        for key in ("gamma", "beta"):
            options[key][1] = np.float32(2.5) * options[key][3]
    else:
        for key in ("kernel", "bias"):
            changed[hidden][key][..., 1] = np.float32(2.5) * changed[hidden][key][..., 3]
    graph = graph.replace(changed)
    points = samples_of(graph, 20, seed)
    (found,) = compensate(build(graph), points, kept={hidden: [0, 2, 3, 4]}, rule="scaled")
    assert found.layers[0]["pairs"] == [(1, 3)]
    got = logits(with_weights(graph, found.network), points)
    np.testing.assert_allclose(got, logits(graph, points), rtol=1e-3, atol=1e-4)


@given(seed=seeds)
def test_scaled_certificates_are_sound_and_other_activations_take_the_sum(seed: int) -> None:
    sketch = Sketch(seed)
    hidden = sketch.dense(sketch.input(4), 6)
    graph = sketch.graph(sketch.dense(sketch.activation(hidden, "tanh", {}), 2))
    network, points = build(graph), samples_of(graph, 50, seed)
    kept = [0, 2, 5]
    options = {"rule": "scaled", "threshold": -1.0}
    (found,) = compensate(network, points, kept={hidden: kept}, **options)
    pairs = found.layers[0]["pairs"]
    summed = merge(graph, hidden, pairs)
    smaller = with_weights(graph, found.network)
    np.testing.assert_allclose(
        logits(smaller, points), logits(summed, points), rtol=1e-4, atol=1e-5
    )
    relu = graph.replace({"activation_0": {"function": "relu"}})
    network = build(relu)
    (found,) = compensate(network, points, kept={hidden: kept}, **options)
    merges = [(hidden, nominee, delegate) for nominee, delegate in found.layers[0]["pairs"]]
    box = [np.full(4, -4.0)], [np.full(4, 4.0)]
    bounds = _core.certify(network, found.network, *box, merges)
    inside = [np.clip(points[0], -4.0, 4.0)]
    moved = logits(with_weights(relu, found.network), inside) - logits(relu, inside)
    assert np.all(moved >= bounds["lower"] - 1e-5)
    assert np.all(moved <= bounds["upper"] + 1e-5)
