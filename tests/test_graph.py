"""A Keras model and its network give the same outputs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from keras_helpers import (
    graph_of,
    graph_outputs,
    keras_outputs,
    prunable,
    randomize,
    samples,
)
from keras_models import ARCHITECTURES
from nnprune.errors import ModelError, WeightError
from nnprune.keras_io.config import read_config
from nnprune.keras_io.graph import read_network
from nnprune.keras_io.rebuild import live_config
from nnprune.keras_io.weights import LiveWeights, ZeroWeights


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_network_equals_keras(name: str) -> None:
    model = randomize(ARCHITECTURES[name]())
    graph = graph_of(model)
    batches = samples(model)
    expected, found = keras_outputs(model, batches), graph_outputs(graph, batches)
    assert not graph.opaque
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_structure_needs_no_weights(name: str) -> None:
    model = ARCHITECTURES[name]()
    calls = read_config(live_config(model))
    bare = read_network(calls, ZeroWeights())
    full = read_network(calls, LiveWeights(model))
    assert not bare.opaque
    for found, expected in zip(bare.network.nodes, full.network.nodes, strict=True):
        assert (found.name, found.kind, found.shape, found.parameters) == (
            expected.name,
            expected.kind,
            expected.shape,
            expected.parameters,
        )
    reasons = [(group.layer, group.reason) for group in bare.network.groups]
    assert reasons == [(group.layer, group.reason) for group in full.network.groups]


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("size", [(7, 7), (8, 5)])
def test_windows_meet_the_border_as_in_keras(
    padding: str, strides: int, size: tuple[int, int]
) -> None:
    source = keras.Input((*size, 2))
    options = {"padding": padding, "strides": strides}
    heads = [
        layers.Conv2D(3, (3, 2), **options)(source),
        layers.DepthwiseConv2D(3, **options)(source),
        layers.SeparableConv2D(2, 4, **options)(source),
        layers.MaxPooling2D((2, 3), **options)(source),
        layers.AveragePooling2D((3, 2), **options)(source),
    ]
    model = randomize(keras.Model(source, heads))
    batches = samples(model)
    for ours, theirs in zip(
        graph_outputs(graph_of(model), batches), keras_outputs(model, batches), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_trained_model_equals_predict() -> None:
    random = np.random.default_rng(0)
    x = random.uniform(size=(64, 6)).astype(np.float32)
    y = (x.sum(axis=1) > 3.0).astype(np.float32)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu"),
            layers.BatchNormalization(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(optimizer="adam", loss="binary_crossentropy")
    model.fit(x, y, epochs=2, verbose=0)
    found = graph_outputs(graph_of(model), [x[:8]])[0]
    np.testing.assert_allclose(found, model.predict(x[:8], verbose=0), rtol=1e-5, atol=1e-6)


def test_logits_leave_out_the_final_softmax() -> None:
    source = keras.Input((4,))
    logits = layers.Dense(3, name="logits")(layers.Dense(5, activation="relu")(source))
    model = randomize(keras.Model(source, layers.Softmax(name="probabilities")(logits)))
    graph = graph_of(model)
    assert graph.outputs == ("probabilities",)
    assert graph.network.logits == ["logits"]
    point = samples(model, count=1)[0]
    lower, upper = graph.network.value_intervals(
        [point[0].astype(np.float64)], [point[0].astype(np.float64)]
    )["logits"]
    expected = keras_outputs(keras.Model(source, logits), [point])[0][0]
    np.testing.assert_allclose((lower + upper) / 2.0, expected, rtol=1e-5, atol=1e-5)


def test_fused_parts_are_nodes_of_their_own() -> None:
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2), name="image"),
            layers.SeparableConv2D(3, 2, activation="relu", name="separable"),
            layers.Flatten(name="flat"),
            layers.Dense(2, activation="softmax", name="dense"),
        ]
    )
    nodes = {node.name: node for node in graph_of(model).network.nodes}
    assert list(nodes) == [
        "image",
        "separable/depthwise",
        "separable",
        "separable/activation",
        "flat",
        "dense",
        "dense/activation",
    ]
    assert nodes["dense"].sources == ["flat"]
    assert nodes["dense"].shape == (2,)


def test_shared_and_nested_layers_are_told_by_path_and_owner() -> None:
    graph = graph_of(ARCHITECTURES["siamese"]())
    dense = [node for node in graph.network.nodes if node.kind == "Dense"]
    assert len({node.name for node in dense}) == 4
    assert len({node.layer for node in dense}) == 2
    assert all(node.layer.startswith("twice/") for node in dense)
    assert not prunable(graph)


def test_a_layer_of_two_models_is_one_owner() -> None:
    both = layers.Dense(4, activation="relu", name="both")
    inner_source, source = keras.Input((4,)), keras.Input((4,))
    inner = keras.Model(inner_source, both(inner_source), name="inner")
    model = keras.Model(source, layers.Dense(2)(inner(both(source))))
    graph = graph_of(model)
    owners = {node.name: node.layer for node in graph.network.nodes if node.kind == "Dense"}
    assert owners["both"] == owners["inner/both"]
    assert not prunable(graph)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "mixed_bfloat16"])
def test_other_dtypes_are_read_as_float32(dtype: str) -> None:
    model = randomize(
        keras.Sequential(
            [keras.Input((4,)), layers.Dense(6, "relu", dtype=dtype), layers.Dense(2, dtype=dtype)]
        )
    )
    graph = graph_of(model)
    kernel = graph.network.weights(model.layers[0].name)["kernel"]
    assert kernel.dtype == np.float32
    batches = samples(model)
    found, expected = graph_outputs(graph, batches)[0], keras_outputs(model, batches)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5 if dtype == "float64" else 0.05)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_broken_weights_name_the_layer(value: float) -> None:
    model = ARCHITECTURES["nested"]()
    layer = model.get_layer("backbone").get_layer("inner").get_layer("dense")
    layer.bias.assign(np.full(layer.bias.shape, value, np.float32))
    with pytest.raises(WeightError, match="backbone/inner/dense"):
        graph_of(model)


class Subclassed(keras.Model):  # type: ignore[misc]
    """A model with code of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        """Run."""
        return self.dense(inputs)


class Head(keras.Model):  # type: ignore[misc]
    """A Functional model behind a constructor of its own."""

    def __init__(self, units: int) -> None:
        source = keras.Input((4,))
        hidden = layers.Dense(units, activation="relu", name="hidden")(source)
        super().__init__(inputs=source, outputs=layers.Dense(2)(hidden))


def test_functional_subclasses_are_read() -> None:
    model = randomize(Head(6))
    batches = samples(model)
    graph = graph_of(model)
    assert prunable(graph) == {"hidden"}
    np.testing.assert_allclose(
        graph_outputs(graph, batches)[0], keras_outputs(model, batches)[0], atol=1e-5
    )


def test_models_that_cannot_be_read_are_refused() -> None:
    subclassed = Subclassed()
    subclassed(np.zeros((1, 3), np.float32))
    with pytest.raises(ModelError, match=r"Subclassed.*keras\.Model\(inputs, outputs\)"):
        live_config(subclassed)
    with pytest.raises(ModelError, match=r"not built.*keras\.Input"):
        live_config(keras.Sequential([layers.Dense(2)], name="bare"))
    with pytest.raises(ModelError, match=r"keras\.Model, got str"):
        live_config("model.keras")
    source = keras.Input((None, 3), name="series")
    with pytest.raises(ModelError, match=r"'series' has no fixed shape"):
        graph_of(keras.Model(source, layers.Conv1D(2, 3)(source)))


def test_reading_leaves_the_model_alone() -> None:
    model = randomize(ARCHITECTURES["nested_by_name"]())
    before, weights = model.get_config(), model.get_weights()
    graph_of(model)
    assert model.get_config() == before
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_structure_is_read_without_loading_keras(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(live_config(ARCHITECTURES["convolution_2d"]())))
    program = """
import json, sys
from nnprune.keras_io.config import read_config
from nnprune.keras_io.graph import read_network
from nnprune.keras_io.input_box import default_box
from nnprune.keras_io.weights import ZeroWeights
calls = read_config(json.load(open(sys.argv[1])))
default_box(calls, ZeroWeights())
print(len(read_network(calls, ZeroWeights()).network.nodes))
print(sorted({"keras", "tensorflow", "h5py"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n") == ["10", "[]", ""]
