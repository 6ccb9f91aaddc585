"""What the engine cannot follow becomes an opaque node, and the reason names it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest
from keras import layers, ops
from keras_helpers import (
    graph_of,
    prunable,
    randomize,
)
from nnprune.keras_io.config import read_config
from nnprune.keras_io.graph import Graph, read_network
from nnprune.keras_io.rebuild import live_config
from nnprune.keras_io.weights import LiveWeights, ZeroWeights


@keras.saving.register_keras_serializable(package="nnprune_tests")
class Doubling(keras.layers.Layer):  # type: ignore[misc]
    """A layer of the user's own."""

    def call(self, inputs: Any) -> Any:
        """Double."""
        return 2.0 * inputs


Opaque = tuple[Callable[[Any], Any], tuple[int, ...], tuple[int, ...], str]
OPAQUE: dict[str, Opaque] = {
    "custom": (Doubling(), (4,), (4,), "nnprune_tests>Doubling"),
    "lambda": (layers.Lambda(lambda x: x[:, :2]), (4,), (2,), "Lambda"),
    "multiply": (lambda x: layers.Multiply()([x, x]), (4,), (4,), "Multiply"),
    "attention": (lambda x: layers.MultiHeadAttention(2, 3)(x, x), (5, 4), (5, 4), "MultiHead"),
    "recurrent": (layers.LSTM(6, return_sequences=True), (5, 4), (5, 6), "LSTM"),
    "einsum": (layers.EinsumDense("abc,cd->abd", (5, 3)), (5, 4), (5, 3), "EinsumDense"),
    "prelu": (layers.PReLU(), (4,), (4,), "PReLU"),
    "softmax over another axis": (layers.Softmax(axis=1), (5, 4), (5, 4), "its axis is 1"),
    "norm over another axis": (layers.BatchNormalization(axis=1), (5, 4), (5, 4), "its axis is 1"),
    "norm over two axes": (layers.LayerNormalization(axis=(1, 2)), (5, 4), (5, 4), "its axis is"),
    "norm of the batch": (
        lambda x: layers.BatchNormalization()(x, training=True),
        (4,),
        (4,),
        "training=True",
    ),
    "always dropping": (lambda x: layers.Dropout(0.5)(x, training=True), (4,), (4,), "training"),
    "broadcasting": (lambda x: layers.Add()([x, x[:, :1]]), (5, 4), (5, 4), "different shapes"),
    "channels first": (
        layers.ZeroPadding2D(1, data_format="channels_first"),
        (2, 5, 4),
        (2, 7, 6),
        "channels come first",
    ),
    "masked average": (
        lambda x: layers.GlobalAveragePooling1D()(layers.Masking()(x)),
        (5, 4),
        (4,),
        "Masking",
    ),
    "upsampling": (layers.UpSampling2D(2), (3, 4, 2), (6, 8, 2), "UpSampling2D"),
    "unknown activation": (layers.Activation("squareplus"), (4,), (4,), "'squareplus'"),
    "distributed": (layers.TimeDistributed(layers.Dense(3)), (5, 4), (5, 3), "TimeDistributed"),
}


def _around(name: str) -> keras.Model:
    body, shape, _, _ = OPAQUE[name]
    source = keras.Input(shape, name="source")
    before = layers.Dense(shape[-1], activation="relu", name="before")(source)
    after = body(before)
    flat = layers.Flatten(name="flat")(after)
    hidden = layers.Dense(6, activation="relu", name="hidden")(flat)
    return keras.Model(source, layers.Dense(2, name="head")(hidden))


@pytest.mark.parametrize("name", sorted(OPAQUE))
def test_what_cannot_be_followed_is_opaque(name: str) -> None:
    _, _, shape, reason = OPAQUE[name]
    model = _around(name)
    graph = graph_of(model)
    _check_opaque(graph, shape, reason)
    # The layer behind it can still be pruned, the one before it cannot.
    assert prunable(graph) == {"hidden"}


@pytest.mark.parametrize("name", sorted(OPAQUE))
def test_shapes_of_opaque_layers_are_on_record(name: str) -> None:
    _, _, shape, reason = OPAQUE[name]
    calls = read_config(live_config(_around(name)))
    _check_opaque(read_network(calls, ZeroWeights()), shape, reason)


def _check_opaque(graph: Graph, shape: tuple[int, ...], reason: str) -> None:
    nodes = {node.name: node for node in graph.network.nodes}
    assert any(reason in sentence for sentence in graph.opaque.values()), graph.opaque
    for layer, sentence in graph.opaque.items():
        assert nodes[layer].kind == "Opaque"
        assert repr(layer) in sentence
    assert nodes[nodes["flat"].sources[0]].shape == shape


def test_unknown_fused_activation_is_opaque_and_its_layer_is_not() -> None:
    source = keras.Input((5, 3))
    dense = layers.Dense(4, activation="soft_shrink", name="dense")(source)
    model = randomize(keras.Model(source, layers.Dense(2)(dense)))
    for weights in (LiveWeights(model), ZeroWeights()):
        graph = read_network(read_config(live_config(model)), weights)
        nodes = {node.name: node for node in graph.network.nodes}
        assert nodes["dense"].kind == "Dense"
        assert nodes["dense/activation"].kind == "Opaque"
        assert nodes["dense/activation"].shape == (5, 4)
        assert "'soft_shrink'" in graph.opaque["dense"]


def test_a_function_with_a_known_name_is_not_taken_for_keras_own() -> None:
    # Only of those that are registered under a package; Keras itself mixes up the others.
    source = keras.Input((4,))
    config = live_config(keras.Model(source, layers.Dense(3, name="dense")(source)))
    entry = next(one for one in config["config"]["layers"] if one["name"] == "dense")
    entry["config"]["activation"] = {
        "module": "builtins",
        "class_name": "function",
        "config": "nnprune_tests>relu",
        "registered_name": "function",
    }
    graph = read_network(read_config(config), ZeroWeights())
    assert "nnprune_tests>relu" in graph.opaque["dense"]


def test_every_output_of_a_layer_is_a_node() -> None:
    source = keras.Input((5, 3))
    sequence, hidden, _ = layers.LSTM(4, return_sequences=True, return_state=True, name="lstm")(
        source
    )
    model = keras.Model(source, [layers.Dense(2)(hidden), layers.Flatten()(sequence)])
    for weights in (LiveWeights(model), ZeroWeights()):
        graph = read_network(read_config(live_config(model)), weights)
        nodes = {node.name: node for node in graph.network.nodes}
        assert nodes["lstm"].shape == (5, 4)
        assert nodes["lstm/output:1"].shape == (4,)


def test_quantized_and_low_rank_layers_are_opaque() -> None:
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(8, name="low_rank"),
            layers.Dense(8, name="plain"),
            layers.Dense(2, name="head"),
        ]
    )
    model.get_layer("low_rank").enable_lora(2)
    model.get_layer("plain").quantize("int8")
    graph = graph_of(model)
    assert "LoRA" in graph.opaque["low_rank"]
    assert "quantized" in graph.opaque["plain"]
    assert "head" not in graph.opaque
    assert {node.name: node.shape for node in graph.network.nodes}["plain"] == (8,)


def test_unknown_shapes_make_all_behind_them_opaque() -> None:
    config = live_config(
        keras.Sequential(
            [
                keras.Input((4,)),
                layers.Dense(3, name="before"),
                layers.Lambda(lambda x: x[:, :2], name="cut"),
                layers.Dense(3, name="after"),
            ]
        )
    )
    for layer in config["config"]["layers"]:
        layer.pop("build_config", None)  # as in .h5 files
    graph = read_network(read_config(config), ZeroWeights())
    assert set(graph.opaque) == {"cut", "after"}
    assert "its output shape is not known" in graph.opaque["cut"]
    assert {node.name: node.shape for node in graph.network.nodes}["after"] == ()


def test_masks_of_embeddings_reach_averages_only() -> None:
    source = keras.Input((6,), dtype="int32")
    embedded = layers.Embedding(10, 4, mask_zero=True, name="embedding")(source)
    dense = layers.Dense(5, activation="relu", name="dense")(embedded)
    pooled = layers.GlobalAveragePooling1D(name="average")(dense)
    graph = graph_of(keras.Model(source, layers.Dense(2)(pooled)))
    assert {"embedding", "average"} <= set(graph.opaque)
    assert "dense" not in graph.opaque
    assert not prunable(graph)


def test_masks_within_sequential_models_are_seen() -> None:
    body = [layers.Masking(), layers.Dense(5, name="dense"), layers.GlobalAveragePooling1D()]
    graph = graph_of(keras.Sequential([keras.Input((6, 3)), *body, layers.Softmax(name="end")]))
    assert {body[0].name, body[2].name, "end"} == set(graph.opaque)
    assert "mask" in graph.opaque[body[2].name]


def test_operations_on_two_tensors_are_followed_or_named() -> None:
    source = keras.Input((4,))
    summed = layers.Dense(3)(source) + layers.Dense(3)(source)
    model = randomize(keras.Model(source, [summed, ops.multiply(summed, summed)]))
    graph = graph_of(model)
    assert list(graph.opaque) == [model.operations[-1].name]
    assert "ops.Multiply" in next(iter(graph.opaque.values()))
