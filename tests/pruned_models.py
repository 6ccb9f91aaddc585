"""Keras models with layers to prune, and what may come between them and their readers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers
from keras_helpers import graph_of, prune_graph
from keras_models import ARCHITECTURES, Build
from nnprune import _core
from nnprune.keras_io.graph import Graph
from nnprune.keras_io.rebuild import Rebuilt, rebuild


def dense(units: int, name: str, **options: Any) -> Any:
    return layers.Dense(units, name=name, **{"activation": "relu", **options})


def normalized() -> keras.Model:
    """BatchNormalization before and after the activation, and no bias to correct."""
    return keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(8, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.BatchNormalization(),
            layers.Dense(7, activation="tanh", use_bias=False),
            layers.BatchNormalization(scale=False),
            layers.Dropout(0.3),
            layers.Dense(2, use_bias=False),
        ]
    )


def reshaped() -> keras.Model:
    """Target shapes that carry the units, one of them with an open axis."""
    return keras.Sequential(
        [
            keras.Input((4, 5)),
            dense(8, "first"),
            layers.Reshape((2, 2, 8)),
            layers.Reshape((-1, 8)),
            dense(6, "second"),
            layers.Flatten(),
            layers.Reshape((24,)),
            layers.Reshape((1, -1)),
            dense(4, "third"),
            layers.Reshape((4,)),
            dense(2, "head", activation=None),
        ]
    )


def dense_before_convolution() -> keras.Model:
    """Units that convolutions and pooling read as channels."""
    return keras.Sequential(
        [
            keras.Input((7, 6, 3)),
            dense(8, "channels"),
            layers.ZeroPadding2D(1),
            layers.MaxPooling2D(2),
            layers.Conv2D(4, 3, use_bias=False, name="convolution"),
            layers.Flatten(),
            dense(6, "hidden"),
            dense(2, "head", activation="softmax"),
        ]
    )


def rescaled_between() -> keras.Model:
    """Numbers for each unit in the configuration of a layer on the way."""
    scale = np.linspace(0.5, 1.5, 6).tolist()
    normalize = layers.Normalization(mean=scale, variance=scale)
    return keras.Sequential(
        [
            keras.Input((5,)),
            dense(6, "first"),
            layers.Rescaling(scale, offset=0.25),
            dense(6, "second"),
            normalize,
            dense(2, "head", activation=None),
        ]
    )


def pooled() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6, 3)),
            dense(8, "tokens"),
            layers.AveragePooling1D(2),
            layers.GlobalAveragePooling1D(),
            dense(2, "head", activation=None),
        ]
    )


def across_nested() -> keras.Model:
    """Pruned units that leave one nested model and enter the next."""
    source = keras.Input((4,), name="source")
    left = keras.Sequential([keras.Input((4,)), dense(8, "dense")], name="left")
    inner_source = keras.Input((8,), name="inner_source")
    right = keras.Model(inner_source, dense(6, "dense")(inner_source), name="right")
    both = keras.Sequential([keras.Input((4,)), left, right], name="both")
    return keras.Model(source, dense(3, "head", activation="softmax")(both(source)))


def several_readers() -> keras.Model:
    source = keras.Input((5,), name="source")
    hidden = dense(9, "hidden")(source)
    one, two = dense(4, "one")(hidden), dense(6, "two")(hidden)
    return keras.Model(source, {"b": dense(2, "end_two")(two), "a": dense(1, "end_one")(one)})


def with_opaque_parts() -> keras.Model:
    source = keras.Input((6,), dtype="int32", name="tokens")
    embedded = layers.Embedding(9, 4)(source)
    states, last, _ = layers.LSTM(5, return_sequences=True, return_state=True)(embedded)
    joined = layers.Concatenate()([layers.GlobalMaxPooling1D()(states), last])
    return keras.Model(source, dense(2, "head")(dense(8, "hidden")(joined * 2.0)))


PRUNED: dict[str, Build] = {
    build.__name__: build
    for build in (
        normalized,
        reshaped,
        dense_before_convolution,
        rescaled_between,
        pooled,
        across_nested,
        several_readers,
        with_opaque_parts,
        *(
            ARCHITECTURES[name]
            for name in ("mlp", "activation_layers", "regularized", "several_ends", "nested")
        ),
        ARCHITECTURES["nested_by_name"],
        ARCHITECTURES["dense_on_last_axis"],
    )
}


def shrink(model: keras.Model) -> tuple[Graph, _core.Pruning, Rebuilt]:
    graph = graph_of(model)
    pruning = prune_graph(graph)
    return graph, pruning, rebuild(model, graph, pruning.network, pruning.kept)
