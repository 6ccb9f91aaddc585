"""The rebuilt model is the pruned network: smaller, and of the same layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras_helpers import graph_of, keras_outputs, prunable, prune_graph, randomize, samples
from keras_models import ARCHITECTURES
from nnprune.keras_io.rebuild import rebuild
from pruned_models import PRUNED, normalized, reshaped, shrink


def layer_names(model: keras.Model) -> list[Any]:
    return [
        (layer.name, layer_names(layer) if hasattr(layer, "layers") else type(layer).__name__)
        for layer in model.layers
    ]


def assert_same(found: Any, expected: Any) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(PRUNED))
def test_rebuilt_model_equals_the_pruned_network(name: str) -> None:
    model = randomize(PRUNED[name]())
    graph = graph_of(model)
    pruning = prune_graph(graph)
    smaller = rebuild(model, graph, pruning.network, pruning.kept).model
    assert pruning.merges
    assert smaller.count_params() < model.count_params()
    assert smaller.name == model.name
    assert layer_names(smaller) == layer_names(model)
    again = graph_of(smaller)
    for ours, core in zip(again.network.nodes, pruning.network.nodes, strict=True):
        assert (ours.name, ours.kind, ours.shape) == (core.name, core.kind, core.shape)
        assert ours.parameters == core.parameters
    if not graph.opaque:
        batches = samples(model)
        rows = [
            pruning.network.evaluate([np.asarray(batch[row], np.float64) for batch in batches])
            for row in range(len(batches[0]))
        ]
        expected = [np.stack(column) for column in zip(*rows, strict=True)]
        assert_same(keras_outputs(smaller, batches), expected)


@pytest.mark.parametrize("name", ["activation_layers", "across_nested", "several_readers"])
def test_rebuilt_model_equals_the_masked_original(name: str) -> None:
    model = randomize(PRUNED[name]())
    graph = graph_of(model)
    pruning = prune_graph(graph)
    smaller = rebuild(model, graph, pruning.network, pruning.kept).model
    consumers = {group.layer: group.consumers for group in graph.network.groups}
    by_path = {node.layer: node.name for node in graph.network.nodes}
    assert set(pruning.kept) <= set(by_path)
    for merge in pruning.merges:
        for consumer in consumers[merge["layer"]]:
            kernel = _find(model, consumer).kernel
            values = np.array(kernel)
            values[merge["delegate"]] += values[merge["nominee"]]
            values[merge["nominee"]] = 0.0
            kernel.assign(values)
    batches = samples(model)
    assert_same(keras_outputs(smaller, batches), keras_outputs(model, batches))


def _find(model: keras.Model, path: str) -> Any:
    name, _, rest = path.partition("/")
    layer = model.get_layer(name)
    return _find(layer, rest) if rest else layer


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_a_model_that_loses_nothing_is_copied_exactly(name: str) -> None:
    model = randomize(ARCHITECTURES[name]())
    graph = graph_of(model)
    rebuilt = rebuild(model, graph, graph.network, {})
    batches = samples(model)
    assert rebuilt.rounding == 0.0
    assert rebuilt.model is not model
    for ours, theirs in zip(
        keras_outputs(rebuilt.model, batches), keras_outputs(model, batches), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    copied, original = rebuilt.model.get_config(), model.get_config()
    assert json.dumps(copied, default=str) == json.dumps(original, default=str)


@pytest.mark.parametrize("name", sorted(PRUNED))
def test_the_original_is_not_touched(name: str) -> None:
    model = randomize(PRUNED[name]())
    model.compile(optimizer="adam", loss="mse")
    config, weights = model.get_config(), model.get_weights()
    optimizer, nodes = model.optimizer, [len(layer._inbound_nodes) for layer in model.layers]
    shrink(model)
    assert model.get_config() == config
    assert model.optimizer is optimizer
    assert [len(layer._inbound_nodes) for layer in model.layers] == nodes
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", sorted(set(PRUNED) - {"with_opaque_parts"}))
def test_rebuilt_models_survive_a_file(
    name: str, suffix: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    smaller = shrink(randomize(PRUNED[name]()))[2].model
    path = tmp_path / f"model{suffix}"
    smaller.save(path)
    loaded = keras.saving.load_model(path)
    batches = samples(smaller)
    assert_same(keras_outputs(loaded, batches), keras_outputs(smaller, batches))
    assert layer_names(loaded) == layer_names(smaller)


def test_a_consumer_gets_the_bias_it_needs() -> None:
    model = randomize(normalized())
    _, pruning, rebuilt = shrink(model)
    last = rebuilt.model.layers[-1]
    assert model.layers[-1].use_bias is False
    assert last.use_bias is True
    bias = pruning.network.weights(last.name)["bias"]
    np.testing.assert_array_equal(np.array(last.bias), bias)
    assert np.any(bias != 0.0)


def test_units_and_shapes_on_record_are_the_new_ones() -> None:
    model = randomize(reshaped())
    _, pruning, rebuilt = shrink(model)
    smaller = {layer.name: layer for layer in rebuilt.model.layers}
    assert smaller["first"].units == len(pruning.kept["first"]) == 4
    assert smaller["second"].units == len(pruning.kept["second"]) == 3
    targets = [tuple(layer.target_shape) for layer in smaller.values() if "reshape" in layer.name]
    assert targets == [(2, 2, 4), (-1, 4), (12,), (1, -1), (2,)]
    assert smaller["head"].units == 2


def test_every_hidden_layer_of_the_examples_is_pruned() -> None:
    counts = {name: len(prunable(graph_of(build()))) for name, build in PRUNED.items()}
    assert counts["normalized"] == counts["across_nested"] == counts["nested"] == 2
    assert counts["reshaped"] == counts["several_readers"] == 3
    assert counts["dense_before_convolution"] == counts["rescaled_between"] == 2
    assert counts["with_opaque_parts"] == counts["pooled"] == 1
