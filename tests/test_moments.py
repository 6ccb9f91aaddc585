"""Gaussian moments: of activations, of networks, and compensation by them without any sample."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from compensations import ELIMINATION, feeds_of, samples_of
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Sketch, activations, build, logits, seeds, with_weights
from nnprune import _core, errors
from reference import Graph
from reference.activation import KINDS, Array, jumps, value
from reference.moments import Law, box_law, expand, laws, refit, relative_error

# Bounded slopes: an exponential's moments are those of its far tail.
TAME = tuple(kind for kind in KINDS if kind != "exponential")
DRAWS = 200_000


def normal(x: float) -> tuple[float, float]:
    """Return the standard normal distribution function and density."""
    density = math.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
    return 0.5 * math.erfc(-x / math.sqrt(2.0)), density


@given(
    activation=activations(),
    mean=st.floats(-6.0, 6.0),
    deviation=st.sampled_from([0.0, 1e-3, 0.1, 0.7, 2.0]),
)
@settings(max_examples=60)
def test_moments_and_terms_of_every_activation_equal_the_twin(
    activation: tuple[str, Mapping[str, float]], mean: float, deviation: float
) -> None:
    kind, parameters = activation
    found = _core.activation_moments(
        kind, np.array([mean]), np.array([deviation]), parameters=parameters
    )
    expected = expand(kind, mean, deviation, parameters)
    # A kink costs the twin the square of its step, 2.5e-5, by a twelfth of the bend.
    size = abs(expected[0]) + math.sqrt(expected[1]) + deviation
    np.testing.assert_allclose(found[0][0], expected[0], atol=4e-6 * size)
    np.testing.assert_allclose(found[1][0], expected[1], atol=4e-6 * size**2)
    np.testing.assert_allclose(found[2][0], expected[2], atol=4e-6 * size)
    assert np.sum(found[2][0] ** 2) <= found[1][0] * (1.0 + 1e-9) + 1e-14 * size**2


def test_a_jump_is_integrated_exactly() -> None:
    parameters = {"threshold": 0.5}
    assert jumps("relu", parameters)
    mean, deviation = 0.2, 0.6
    (got,), (variance,), _ = _core.activation_moments(
        "relu", np.array([mean]), np.array([deviation]), parameters=parameters
    )
    alpha = (0.5 - mean) / deviation
    above, density = 1.0 - normal(alpha)[0], normal(alpha)[1]
    first = mean * above + deviation * density
    second = (mean**2 + deviation**2) * above + deviation * density * (2 * mean + alpha * deviation)
    np.testing.assert_allclose([got, variance], [first, second - first**2], rtol=1e-12)


@given(mean=st.floats(-4.0, 4.0), deviation=st.floats(0.05, 4.0))
def test_relu_and_gelu_have_their_closed_forms(mean: float, deviation: float) -> None:
    alpha = mean / deviation
    below, density = normal(alpha)
    (got,), (variance,), (terms,) = _core.activation_moments(
        "relu", np.array([mean]), np.array([deviation])
    )
    first = mean * below + deviation * density
    second = (mean**2 + deviation**2) * below + mean * deviation * density
    size = deviation**2
    np.testing.assert_allclose(got, first, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(variance, second - first**2, rtol=1e-8, atol=1e-12 * size)
    hermite = [1.0, alpha, alpha**2 - 1.0]
    wanted = [deviation * below] + [
        deviation * (-1) ** k * hermite[k - 2] * density / math.sqrt(math.factorial(k))
        for k in (2, 3, 4)
    ]
    np.testing.assert_allclose(terms[:4], wanted, rtol=1e-9, atol=1e-12 * deviation)
    c = math.sqrt(1.0 + deviation**2)
    u = mean / c
    below, density = normal(u)
    (got,), _, (terms,) = _core.activation_moments("gelu", np.array([mean]), np.array([deviation]))
    np.testing.assert_allclose(
        got, mean * below + deviation**2 / c * density, rtol=1e-9, atol=1e-13
    )
    np.testing.assert_allclose(terms[0], deviation * (below + mean / c**3 * density), rtol=1e-8)


def dense_chain(
    seed: int, *units: int, inputs: int = 6, kinds: tuple[str, ...] = ("relu",)
) -> Graph:
    """Return an MLP with affine maps, normalizations and layout ops on its way."""
    sketch = Sketch(seed)
    at = sketch.flatten(sketch.input(2, inputs // 2))
    size = sketch.random.uniform(0.5, 2.0, inputs)
    at = sketch.add("affine", [at], scale=size, offset=sketch.random.standard_normal(inputs))
    for index, count in enumerate(units):
        at = sketch.dense(at, count, bias=index != 1)
        if index % 2:
            at = sketch.norm(at)
        at = sketch.add("identity", [sketch.activation(at, kinds[index % len(kinds)], {})])
    return sketch.graph(sketch.dense(at, 3))


def prior(graph: Graph, seed: int) -> tuple[list[Array], list[Array], dict[str, Law]]:
    """Draw a box, and return the law of the inputs in it."""
    random = np.random.default_rng(seed)
    nodes = [node for node in graph.nodes if node.kind == "input"]
    lower = [np.asarray(random.standard_normal(node.options["shape"])) for node in nodes]
    upper = [low + random.uniform(0.2, 2.0, low.shape) for low in lower]
    each = zip(nodes, lower, upper, strict=True)
    return lower, upper, {node.name: box_law(low, up, None, 0.0) for node, low, up in each}


@given(seed=seeds, kinds=st.lists(st.sampled_from(TAME), min_size=3, max_size=3))
@settings(max_examples=10)
def test_every_node_has_the_twins_law_and_no_negative_variance(seed: int, kinds: list[str]) -> None:
    graph = dense_chain(seed, 7, 5, 6, kinds=tuple(kinds))
    network = build(graph)
    lower, upper, inputs = prior(graph, seed)
    expected = laws(graph, inputs)
    for name, law in expected.items():
        means, covariance = _core.gaussian_moments(network, name, lower, upper)
        size = np.sqrt(np.trace(law.covariance)) + np.abs(law.means).max()
        np.testing.assert_allclose(means, law.means, rtol=1e-5, atol=1e-5 * size)
        np.testing.assert_allclose(covariance, law.covariance, rtol=1e-4, atol=1e-5 * size**2)
        assert np.array_equal(covariance, covariance.T)
        assert np.linalg.eigvalsh(covariance).min() >= -1e-10 * np.trace(covariance)


@pytest.mark.parametrize("kind", TAME)
def test_activations_of_correlated_variables_equal_monte_carlo(kind: str) -> None:
    sketch = Sketch(3)
    hidden = sketch.dense(sketch.input(8), 6)
    graph = sketch.graph(sketch.dense(sketch.activation(hidden, kind, {}), 2))
    network = build(graph)
    box = [np.full(8, -2.5)], [np.full(8, 2.5)]
    before = _core.gaussian_moments(network, hidden, *box)
    means, covariance = _core.gaussian_moments(network, "activation_0", *box)
    random = np.random.default_rng(0)
    drawn = random.multivariate_normal(*before, size=DRAWS)
    after = value(kind, drawn)
    error = after.std(axis=0) / math.sqrt(DRAWS)
    assert np.all(np.abs(after.mean(axis=0) - means) <= 5.0 * error)
    centred = after - means
    products = centred[:, :, None] * centred[:, None, :]
    error = products.std(axis=0) / math.sqrt(DRAWS)
    deviations = np.sqrt(np.diag(covariance))
    # Correlations reach 0.75 here, where twelve terms leave out less than 0.001 of two deviations.
    allowed = 5.0 * error + 1e-3 * np.outer(deviations, deviations)
    assert np.all(np.abs(products.mean(axis=0) - covariance) <= allowed)


@given(seed=seeds)
def test_normalized_units_have_exactly_the_stored_moments(seed: int) -> None:
    graph = dense_chain(seed, 6, 8)
    node = graph["batch_normalization_0"]
    lower, upper, _ = prior(graph, seed)
    means, covariance = _core.gaussian_moments(build(graph), node.name, lower, upper)
    gamma, variance = node.options["gamma"], node.options["variance"].astype(np.float64)
    np.testing.assert_allclose(means, node.options["beta"], rtol=1e-9, atol=1e-12)
    wanted = gamma.astype(np.float64) ** 2 * variance / (variance + node.options["epsilon"])
    np.testing.assert_allclose(np.diag(covariance), wanted, rtol=1e-9)
    _, read = _core.gaussian_moments(build(graph), node.sources[0], lower, upper)

    def correlation(matrix: Array) -> Array:
        root = np.sqrt(np.diag(matrix))
        return np.asarray(matrix / np.outer(root, root))

    sign = np.outer(np.sign(gamma), np.sign(gamma))
    np.testing.assert_allclose(correlation(covariance), sign * correlation(read), atol=1e-9)


@pytest.mark.parametrize("axes", [(4, 3, 1), (2, 3, 2)])
def test_images_are_correlated_by_distance(axes: tuple[int, int, int]) -> None:
    sketch = Sketch(0)
    graph = sketch.graph(sketch.dense(sketch.dense(sketch.flatten(sketch.input(*axes)), 4), 2))
    random = np.random.default_rng(0)
    lower = random.standard_normal(axes)
    upper = lower + random.uniform(0.0, 1.0, axes)
    means, covariance = _core.gaussian_moments(
        build(graph), "reshape_0", [lower], [upper], images=[axes], correlation=1.5
    )
    law = box_law(lower, upper, axes, 1.5)
    np.testing.assert_allclose(means, law.means, rtol=1e-12)
    np.testing.assert_allclose(covariance, law.covariance, rtol=1e-12, atol=1e-15)


def compensate(
    network: _core.Network, lower: list[Array], upper: list[Array], **options: Any
) -> list[_core.Compensation]:
    """Compensate by moments, with defaults."""
    defaults: dict[str, Any] = {
        "layers": [],
        "targets": [] if options.get("kept") is not None else [0.5],
        "allocation": "uniform",
        "width_multiple": 1,
        "ridge": 1e-2,
        "closed_loop": True,
        "selection": ELIMINATION,
        "seed": 0,
    }
    return _core.compensate(network, lower=lower, upper=upper, **{**defaults, **options})


@given(seed=seeds, closed_loop=st.booleans())
@settings(max_examples=10)
def test_compensation_equals_the_twins_stacked_networks(seed: int, closed_loop: bool) -> None:
    graph = dense_chain(seed, 7, 6, 5, kinds=("relu", "gelu", "tanh"))
    network = build(graph)
    lower, upper, inputs = prior(graph, seed)
    random = np.random.default_rng(seed)
    kept = {
        group.layer: sorted(random.choice(group.units, 3, replace=False).tolist())
        for group in network.groups
        if group.reason is None
    }
    (found,) = compensate(network, lower, upper, kept=kept, closed_loop=closed_loop, ridge=0.05)
    pruned = graph
    for group in network.groups:
        if group.reason is None:
            pruned = refit(
                graph,
                pruned,
                group.consumers,
                kept[group.layer],
                inputs,
                ridge=0.05,
                closed_loop=closed_loop,
            )
    points = samples_of(graph, 30, seed)
    got, want = logits(with_weights(graph, found.network), points), logits(pruned, points)
    np.testing.assert_allclose(got, want, atol=2e-3 * np.abs(want).max())
    loss = relative_error(graph, pruned, graph.logits[0], inputs)
    np.testing.assert_allclose(found.loss, loss, rtol=1e-2, atol=1e-5)


@given(seed=seeds, units=st.integers(3, 8), kind=st.sampled_from(["relu", "gelu", "tanh"]))
def test_duplicated_units_go_without_a_trace(seed: int, units: int, kind: str) -> None:
    sketch = Sketch(seed)
    hidden = sketch.dense(sketch.input(9), 2 * units)
    graph = sketch.graph(sketch.dense(sketch.activation(hidden, kind, {}), 3))
    options = {key: values.copy() for key, values in graph[hidden].options.items()}
    for values in options.values():
        values[..., units:] = values[..., :units]
    graph = graph.replace({hidden: options})
    lower, upper, _ = prior(graph, seed)
    kept = np.random.default_rng(seed).choice(2, units) * units + np.arange(units)
    kept_units = {hidden: sorted(kept.tolist())}
    (found,) = compensate(build(graph), lower, upper, ridge=1e-9, kept=kept_units)
    # In the box: a unit that never fires there has no variance beside the ridge.
    points = [lower[0] + (upper[0] - lower[0]) * np.random.default_rng(seed).random((20, 9))]
    want = logits(graph, points)
    got = logits(with_weights(graph, found.network), points)
    np.testing.assert_allclose(got, want, atol=1e-3 * np.abs(want).max())
    assert found.loss < 1e-6


def test_every_way_of_compensating_takes_moments() -> None:
    graph = dense_chain(1, 12, 10, 8)
    network = build(graph)
    lower, upper, _ = prior(graph, 1)
    for options in (
        {"allocation": "propagated"},
        {"rule": "sum"},
        {"logit_metric": False},
        {"targets": [0.25, 0.5]},
    ):
        for found in compensate(network, lower, upper, **options):
            assert math.isfinite(found.loss)
            assert all(math.isfinite(layer["loss"]) for layer in found.layers)


def test_what_is_no_dense_chain_is_refused_by_name() -> None:
    sketch = Sketch(0)
    first = sketch.dense(sketch.input(4), 4)
    other = sketch.dense(first, 4)
    graph = sketch.graph(sketch.dense(sketch.add("add", [first, other]), 2))
    box = [np.zeros(4)], [np.ones(4)]
    with pytest.raises(errors.NnpruneError, match=r"add_0.*sampled inputs"):
        _core.gaussian_moments(build(graph), "dense_2", *box)
    sketch = Sketch(0)
    graph = sketch.graph(sketch.dense(sketch.dense(sketch.input(3, 4), 4), 2))
    with pytest.raises(errors.NnpruneError, match=r"dense_0.*several places"):
        _core.gaussian_moments(build(graph), "dense_1", [np.zeros((3, 4))], [np.ones((3, 4))])


BAD: list[tuple[dict[str, Any], str]] = [
    ({"correlation": -1.0}, "correlation: expected a finite number"),
    ({"correlation": math.nan}, "correlation: expected a finite number"),
    ({"images": []}, "images: expected one entry for each of 1 inputs, got 0"),
    ({"images": [(2, 2, 1)], "correlation": 1.5}, "images: expected axes of the 6 elements"),
    ({"upper": None}, "feeds: expected either samples, or lower and upper"),
    ({"upper": [np.full((2, 3), np.inf)]}, "finite lower <= upper"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_priors_are_named(options: dict[str, Any], message: str) -> None:
    graph = dense_chain(0, 4, 4)
    lower, upper, _ = prior(graph, 0)
    given_options = {"lower": lower, "upper": upper, **options}
    with pytest.raises(errors.ConfigError, match=message):
        compensate(
            build(graph), given_options.pop("lower"), given_options.pop("upper"), **given_options
        )


def test_samples_and_a_box_exclude_each_other_and_large_images_have_no_correlation() -> None:
    graph = dense_chain(0, 4, 4)
    network = build(graph)
    lower, upper, _ = prior(graph, 0)
    with pytest.raises(errors.ConfigError, match="either samples"):
        compensate(network, lower, upper, feeds=feeds_of(network, samples_of(graph, 9, 0)))
    sketch = Sketch(0)
    wide = build(sketch.graph(sketch.dense(sketch.dense(sketch.input(4100), 2), 2)))
    box = [np.zeros(4100)], [np.ones(4100)]
    with pytest.raises(errors.ConfigError, match="at most 4096 elements of input 'input_0'"):
        _core.gaussian_moments(wide, "dense_0", *box, images=[(4100, 1, 1)], correlation=1.0)
    means, _ = _core.gaussian_moments(wide, "dense_0", *box, images=[(4100, 1, 1)])
    assert np.all(np.isfinite(means))
