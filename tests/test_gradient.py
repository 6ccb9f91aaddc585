"""Gradients of many samples: against differences of the twin and the gradients of Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from keras_helpers import graph_of, randomize, samples
from keras_models import ARCHITECTURES
from networks import Box, any_networks, build, wide_network
from nnprune import _core, gradients
from nnprune.errors import ConfigError, ModelError
from reference import Graph
from reference.activation import Array
from reference.bounds import evaluate, sample


def directional(graph: Graph, point: Array, direction: Array, weights: Array, step: float) -> Array:
    """Return the slope of the weighed outputs along a direction, for every sample."""
    ends = [
        np.sum(weights * evaluate(graph, [point + sign * step * direction])[graph.outputs[0]])
        for sign in (1.0, -1.0)
    ]
    return np.asarray((ends[0] - ends[1]) / (2.0 * step))


@given(drawn=any_networks(), seed=st.integers(0, 100))
def test_gradients_are_those_of_differences(drawn: tuple[Graph, Box], seed: int) -> None:
    graph, (lower, upper) = drawn
    random = np.random.default_rng(seed)
    (points,) = sample(random, lower, upper, 3)
    points = points.astype(np.float32).astype(np.float64)
    (name,) = graph.outputs
    weights = random.standard_normal(evaluate(graph, [points])[name].shape).astype(np.float32)
    (found,) = build(graph).gradient({"input_0": points.astype(np.float32)}, {name: weights})
    assert found.shape == points.shape
    for row in range(len(points)):
        one = slice(row, row + 1)
        direction = random.standard_normal(points[one].shape)
        slopes = [
            directional(graph, points[one], direction, weights[one].astype(np.float64), step)
            for step in (1e-6, 3e-6)
        ]
        scale = float(np.sum(np.abs(found[one] * direction))) + float(np.abs(slopes[0])) + 1e-3
        # On a kink differences of two lengths differ, and there is no one slope to compare with.
        assume(abs(slopes[0] - slopes[1]) <= 1e-5 * scale)
        assert abs(np.sum(found[one] * direction) - slopes[0]) <= 1e-3 * scale


SINGLE = (
    "mlp",
    "dense_on_last_axis",
    "batch_normalizations",
    "layer_normalizations",
    "activation_layers",
    "convolution_1d",
    "convolution_2d",
    "depthwise_2d",
    "convolution_3d",
    "deep",
    "uneven_pooling",
    "residual",
    "concatenated_axes",
)


@pytest.mark.parametrize("name", SINGLE)
def test_gradients_equal_those_of_keras(name: str) -> None:
    model = randomize(ARCHITECTURES[name]())
    graph = graph_of(model)
    assert len(graph.inputs) == len(graph.outputs) == 1
    (batch,) = samples(model, count=4)
    random = np.random.default_rng(4)
    weights = random.standard_normal((4, *model.output_shape[1:])).astype(np.float32)
    _, expected = gradients.vjp(
        lambda at: model(at, training=False),
        keras.ops.convert_to_tensor(batch),
        keras.ops.convert_to_tensor(weights),
    )
    theirs = gradients.to_numpy(expected)
    (found,) = graph.network.gradient({graph.inputs[0].name: batch}, {graph.outputs[0]: weights})
    scale = max(1e-3, float(np.max(np.abs(theirs))))
    np.testing.assert_allclose(found, theirs, rtol=1e-3, atol=1e-4 * scale)


KINKED = {
    "relu": keras.layers.ReLU(),
    "leaky": keras.layers.LeakyReLU(0.3),
    "hard_sigmoid": keras.layers.Activation("hard_sigmoid"),
    "hard_silu": keras.layers.Activation("hard_silu"),
    "hard_tanh": keras.layers.Activation("hard_tanh"),
    "elu": keras.layers.ELU(),
    "max_pool": keras.layers.MaxPooling1D(2),
    "global_max": keras.layers.GlobalMaxPooling1D(),
}


@pytest.mark.parametrize("name", sorted(KINKED))
def test_kinks_and_ties_are_taken_as_keras_takes_them(name: str) -> None:
    model = keras.Sequential([keras.Input((8, 1)), KINKED[name]])
    graph = graph_of(model)
    values = np.array([0, 0, 1, 1, -1, -1, 3, -3], np.float32).reshape(1, 8, 1)
    weights = np.arange(1, 1 + np.prod(model.output_shape[1:]), dtype=np.float32)
    weights = weights.reshape(1, *model.output_shape[1:])
    _, expected = gradients.vjp(
        model, keras.ops.convert_to_tensor(values), keras.ops.convert_to_tensor(weights)
    )
    (found,) = graph.network.gradient({graph.inputs[0].name: values}, {graph.outputs[0]: weights})
    np.testing.assert_allclose(found, gradients.to_numpy(expected), rtol=1e-6)


def test_several_nodes_add_up_and_chunks_fit_together() -> None:
    network, count = wide_network()
    random = np.random.default_rng(2)
    points = random.random((count, 12, 11, 4)).astype(np.float32)
    weighed = {
        node.name: random.standard_normal((count, *node.shape)).astype(np.float32)
        for node in network.nodes
        if node.name in ("conv_0", "dense_1", "input_0")
    }
    (together,) = network.gradient({"input_0": points}, weighed)
    chosen = [0, 511, 512, count - 1]
    apart = [
        network.gradient({"input_0": points[chosen]}, {name: weights[chosen]})[0]
        for name, weights in weighed.items()
    ]
    np.testing.assert_allclose(together[chosen], np.sum(apart, axis=0), rtol=1e-4, atol=1e-4)


def test_an_input_that_no_node_depends_on_has_no_gradient() -> None:
    builder = _core.NetworkBuilder()
    builder.input("x", (2,))
    builder.input("y", (3,))
    builder.dense("out", "x", np.ones((2, 1), np.float32))
    network = builder.build(["out"])
    given_values = {"x": np.ones((2, 2), np.float32), "y": np.ones((2, 3), np.float32)}
    x, y = network.gradient(given_values, {"out": np.full((2, 1), 2.0, np.float32)})
    np.testing.assert_array_equal(x, np.full((2, 2), 2.0))
    np.testing.assert_array_equal(y, np.zeros((2, 3)))


def test_bad_cotangents_and_opaque_nodes_are_refused_by_name() -> None:
    builder = _core.NetworkBuilder()
    builder.input("x", (3,))
    builder.opaque("strange", ["x"], (2,), "layer 'strange' (Lambda)")
    builder.dense("out", "strange", np.ones((2, 1), np.float32))
    network = builder.build(["out"])
    x, one = np.ones((2, 3), np.float32), np.ones((2, 1), np.float32)
    with pytest.raises(ConfigError, match=r"cotangent of 'out': expected shape \(2, 1\)"):
        network.gradient({"x": x}, {"out": one[:1]})
    with pytest.raises(ConfigError, match="cotangent of 'out': it holds NaN"):
        network.gradient({"x": x}, {"out": one * np.float32(np.nan)})
    for fed in ({}, {"strange": np.ones((2, 2), np.float32)}):
        with pytest.raises(ModelError, match=r"'strange'.*Lambda"):
            network.gradient({"x": x, **fed}, {"out": one})
