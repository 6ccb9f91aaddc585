"""Multiply-accumulates: the engine's numbers, TensorFlow's profiler, and counting by ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import tensorflow as tf
from keras import layers, ops
from keras.src.ops.operation import Operation
from keras_helpers import graph_of, input_structure
from keras_models import ARCHITECTURES, Build
from nnprune.errors import ModelError
from nnprune.keras_io.mac_rules import _SUMMING_OPERATIONS, Uncountable, rule_of
from nnprune.keras_io.macs import macs_by_layer
from pruned_models import PRUNED, shrink
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

ROOT = Path(__file__).resolve().parents[1]
FILES = [
    ROOT / "python/nnprune/demo_files/digits.keras",
    *sorted((ROOT / "benches/models").glob("*.keras")),
]


def loaded(path: Path) -> keras.Model:
    return keras.saving.load_model(path, compile=False)


def stack(shape: tuple[int | None, ...], *body: Any, **options: Any) -> keras.Model:
    return keras.Sequential([keras.Input(shape, **options), *body])


# --- against the engine


def of_engine(model: keras.Model) -> dict[str, int]:
    macs: dict[str, int] = {}
    for node in graph_of(model).network.nodes:
        layer = node.layer.removesuffix("/depthwise")
        macs[layer] = macs.get(layer, 0) + node.macs
    return {layer: count for layer, count in macs.items() if count}


def check_engine(model: keras.Model) -> None:
    macs, uncounted = macs_by_layer(model)
    expected = of_engine(model)
    assert expected
    assert {layer: macs[layer] for layer in expected} == expected
    followed = set(macs) - set(graph_of(model).opaque)
    assert {layer for layer in followed if macs[layer]} == set(expected)
    assert not uncounted


@pytest.mark.parametrize("name", sorted(ARCHITECTURES | PRUNED))
def test_layers_that_the_engine_follows_have_its_numbers(name: str) -> None:
    if name in {"global_pooling", "uneven_pooling"}:
        assert set(macs_by_layer(ARCHITECTURES[name]())[0].values()) == {0}
    else:
        check_engine((ARCHITECTURES | PRUNED)[name]())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_before_and_after_pruning_have_the_engines_numbers(path: Path) -> None:
    model = loaded(path)
    check_engine(model)
    _, _, rebuilt = shrink(model)
    check_engine(rebuilt.model)
    before, after = (sum(macs_by_layer(one)[0].values()) for one in (model, rebuilt.model))
    assert after < before


# --- against TensorFlow's profiler

COUNTED = {
    "BatchMatMulV2",
    "Conv2D",
    "Conv2DBackpropInput",
    "Conv3D",
    "DepthwiseConv2dNative",
    "MatMul",
}


def frozen_graph(model: keras.Model) -> Any:
    """Return the graph of one evaluation of one sample, without functions in it."""
    structure = input_structure(model)
    specs = [tf.TensorSpec((1, *one.shape[1:]), one.dtype) for one in keras.tree.flatten(structure)]

    def evaluate(*given: Any) -> Any:
        return model(keras.tree.pack_sequence_as(structure, list(given)), training=False)

    tf.config.run_functions_eagerly(True)
    try:
        function = tf.function(evaluate).get_concrete_function(*specs)
    finally:
        tf.config.run_functions_eagerly(False)
    return convert_variables_to_constants_v2(function).graph


def profiled_flops(graph: Any) -> int:
    """Sum what the profiler counts for the operations that multiply and accumulate."""
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    node = tf.compat.v1.profiler.profile(graph, cmd="op", options=options)
    total = 0
    while node.children:  # by kind of operation, each entry holding the sum of those after it
        (child,) = node.children
        rest = sum(inner.total_float_ops for inner in child.children)
        total += (child.total_float_ops - rest) if child.name in COUNTED else 0
        node = child
    return total


def einsum_flops(graph: Any) -> int:
    """Count the einsum operations, of which the profiler knows nothing."""
    total = 0
    for operation in graph.get_operations():
        if operation.type == "Einsum":
            terms = operation.get_attr("equation").decode().split("->")[0].split(",")
            shapes = [tuple(tensor.shape) for tensor in operation.inputs]
            sizes: dict[str, int] = {}
            for term, shape in zip(terms, shapes, strict=True):
                sizes |= dict(zip(term, shape, strict=True))
            total += 2 * int(np.prod(list(sizes.values())))
    return total


QUERY, OTHER = keras.Input((7, 6), name="query"), keras.Input((5, 4), name="other")


def attending(attend: Callable[[Any, Any], Any]) -> Build:
    return lambda: keras.Model([QUERY, OTHER], attend(QUERY, OTHER))


KINDS: Mapping[str, Build] = {
    "dense": lambda: stack((3, 4, 5), layers.Dense(7)),
    "conv1d": lambda: stack((17, 4), layers.Conv1D(6, 3, strides=2, padding="same")),
    "causal": lambda: stack((17, 4), layers.Conv1D(6, 3, padding="causal")),
    "groups": lambda: stack((9, 8, 4), layers.Conv2D(6, (3, 2), strides=(2, 1), groups=2)),
    "conv3d": lambda: stack((6, 5, 7, 2), layers.Conv3D(3, (2, 3, 2), strides=(1, 2, 1))),
    "depthwise1d": lambda: stack((9, 4), layers.DepthwiseConv1D(3, depth_multiplier=2)),
    "depthwise2d": lambda: stack(
        (9, 8, 4), layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2)
    ),
    "separable1d": lambda: stack((9, 4), layers.SeparableConv1D(5, 3, depth_multiplier=2)),
    "separable2d": lambda: stack((9, 8, 4), layers.SeparableConv2D(5, 3, padding="same")),
    "transpose1d": lambda: stack((9, 4), layers.Conv1DTranspose(5, 3, 2, padding="same")),
    "transpose2d": lambda: stack((9, 8, 4), layers.Conv2DTranspose(5, 3, 2, padding="same")),
    "einsum": lambda: stack((5, 4), layers.EinsumDense("abc,cde->abde", (5, 3, 2))),
    "self attention": lambda: keras.Model(
        QUERY, layers.MultiHeadAttention(2, 3, value_dim=5, output_shape=9)(QUERY, QUERY)
    ),
    "gated attention": lambda: keras.Model(
        QUERY, layers.MultiHeadAttention(2, 3, use_gate=True)(QUERY, QUERY)
    ),
    # Their sources are in the order of the arguments' names: key, query, value.
    "attention by name": attending(
        lambda query, other: layers.MultiHeadAttention(2, 3)(query=query, value=other, key=other)
    ),
    "attention with a key": attending(
        lambda query, other: layers.MultiHeadAttention(2, 3)(query, other, layers.Dense(9)(other))
    ),
    "attention over axes": lambda: stacked_attention(),
    "grouped attention": attending(
        lambda query, other: layers.GroupQueryAttention(3, 4, 2)(query, layers.Dense(6)(other))
    ),
    "plain attention": attending(
        lambda query, other: layers.Attention()([query, layers.Dense(6)(other)])
    ),
    "plain attention with a key": attending(
        lambda query, other: layers.Attention()(
            [query, layers.Dense(3)(other), layers.Dense(6)(other)]
        )
    ),
    "simple": lambda: stack((4, 3), layers.SimpleRNN(5, unroll=True)),
    "lstm": lambda: stack((4, 3), layers.LSTM(5, unroll=True, return_sequences=True)),
    "gru": lambda: stack((4, 3), layers.GRU(5, unroll=True)),
    "gru of old": lambda: stack((4, 3), layers.GRU(5, unroll=True, reset_after=False)),
    "cells": lambda: stack(
        (4, 3), layers.RNN([layers.LSTMCell(5), layers.GRUCell(2)], unroll=True)
    ),
    "conv lstm": lambda: stack(
        (3, 6, 5, 2), layers.ConvLSTM2D(4, 3, padding="same", strides=2, unroll=True)
    ),
    "both ways": lambda: stack((4, 3), layers.Bidirectional(layers.LSTM(5, unroll=True))),
    "distributed": lambda: stack((4, 6, 5, 2), layers.TimeDistributed(layers.Conv2D(5, 3))),
    "distributed model": lambda: stack(
        (4, 6, 5, 2),
        layers.TimeDistributed(
            stack((6, 5, 2), layers.Conv2D(5, 3), layers.Flatten(), layers.Dense(3))
        ),
    ),
    "dot": attending(lambda query, other: layers.Dot(axes=(2, 2))([query, layers.Dense(6)(other)])),
    "product": attending(
        lambda query, other: ops.matmul(query, ops.transpose(layers.Dense(6)(other), (0, 2, 1)))
    ),
    "einsum operation": attending(
        lambda query, other: ops.einsum("btd,bsd->bts", query, layers.Dense(6)(other))
    ),
    "normalized kernel": lambda: stack((3, 4), layers.SpectralNormalization(layers.Dense(7))),
}


def stacked_attention() -> keras.Model:
    query, other = keras.Input((2, 7, 6)), keras.Input((2, 5, 4))
    attend = layers.MultiHeadAttention(2, 3, attention_axes=(2,))
    return keras.Model([query, other], attend(query, other))


def check_profiler(model: keras.Model) -> None:
    macs, uncounted = macs_by_layer(model)
    graph = frozen_graph(model)
    assert 2 * sum(macs.values()) == profiled_flops(graph) + einsum_flops(graph) > 0
    assert not uncounted


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_of_layer_agrees_with_the_profiler(kind: str) -> None:
    check_profiler(KINDS[kind]())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_agree_with_the_profiler(path: Path) -> None:
    check_profiler(loaded(path))


# --- by ones: where everything is 1, a sum of products is the number of products


def by_ones(model: keras.Model) -> int:
    for weight in model.weights:
        weight.assign(np.zeros(weight.shape) if weight.name == "bias" else np.ones(weight.shape))
    batches = [np.ones((1, *one.shape[1:]), np.float32) for one in model.inputs]
    structure = input_structure(model)
    outputs = model(keras.tree.pack_sequence_as(structure, batches), training=False)
    return round(float(ops.sum(outputs)))


SIZES = st.integers(1, 3)


@given(data=st.data(), rank=st.integers(1, 3), filters=SIZES, groups=SIZES, channels=SIZES)
def test_convolutions_count_as_many_products_as_they_sum(
    data: st.DataObject, rank: int, filters: int, groups: int, channels: int
) -> None:
    def several(sizes: Any) -> tuple[int, ...]:
        return tuple(data.draw(sizes) for _ in range(rank))

    kernel, shape = several(SIZES), several(st.integers(5, 8))
    strides = several(SIZES)
    dilation = several(st.integers(1, 2)) if max(strides) == 1 else (1,) * rank
    kinds = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}
    layer = kinds[rank](
        filters * groups, kernel, strides=strides, dilation_rate=dilation, groups=groups
    )
    model = stack((*shape, channels * groups), layer)
    assert sum(macs_by_layer(model)[0].values()) == by_ones(model)


@given(data=st.data(), rank=st.integers(1, 3), filters=SIZES, channels=SIZES)
def test_transposed_convolutions_count_as_many_products_as_they_sum(
    data: st.DataObject, rank: int, filters: int, channels: int
) -> None:
    kernel, strides, shape = (tuple(data.draw(SIZES) for _ in range(rank)) for _ in range(3))
    kinds = {1: layers.Conv1DTranspose, 2: layers.Conv2DTranspose, 3: layers.Conv3DTranspose}
    model = stack((*shape, channels), kinds[rank](filters, kernel, strides=strides))
    assert sum(macs_by_layer(model)[0].values()) == by_ones(model)


@pytest.mark.parametrize(
    ("equation", "shape", "output"),
    [
        ("abc,cd->abd", (5, 4), (5, 3)),
        ("...x,xy->...y", (5, 4, 3), (7,)),
        ("ab...,bc->ac...", (3, 4), (2,)),
    ],
)
def test_einsum_layers_count_as_many_products_as_they_sum(
    equation: str, shape: tuple[int, ...], output: tuple[int, ...]
) -> None:
    model = stack(shape, layers.EinsumDense(equation, output))
    assert sum(macs_by_layer(model)[0].values()) == by_ones(model)


@pytest.mark.parametrize(
    ("left", "right", "axes"), [((4,), (4,), 1), ((4, 3), (5, 3), 2), ((4, 3), (5, 4), (1, -1))]
)
def test_dot_counts_as_many_products_as_it_sums(
    left: tuple[int, ...], right: tuple[int, ...], axes: Any
) -> None:
    sources = [keras.Input(left), keras.Input(right)]
    model = keras.Model(sources, layers.Dot(axes=axes)(sources))
    assert sum(macs_by_layer(model)[0].values()) == by_ones(model)


def test_channels_first_counts_like_channels_last() -> None:
    for kind in (layers.Conv2D, layers.SeparableConv2D, layers.Conv2DTranspose):
        last = stack((9, 8, 4), kind(6, 3))
        first = stack((4, 9, 8), kind(6, 3, data_format="channels_first"))
        counts = [list(macs_by_layer(one)[0].values()) for one in (last, first)]
        assert counts[0] == counts[1] != [0]


# --- calls, paths, and what is not known


def test_a_layer_called_twice_counts_twice() -> None:
    assert macs_by_layer(ARCHITECTURES["shared"]())[0]["encode"] == 2 * 4 * 5


def test_a_shared_layer_counts_with_the_shape_of_each_call() -> None:
    dense = layers.Dense(5, name="dense")
    one = keras.Sequential([keras.Input((3, 4)), dense], name="one")
    two = keras.Sequential([keras.Input((7, 4)), dense], name="two")
    left, right = keras.Input((3, 4)), keras.Input((7, 4))
    model = keras.Model([left, right], [one(left), two(right)])
    assert macs_by_layer(model) == ({"one/dense": (3 + 7) * 4 * 5}, {})


def test_layers_of_nested_models_have_their_paths() -> None:
    macs, _ = macs_by_layer(ARCHITECTURES["nested"]())
    assert macs == {"backbone/dense": 24, "backbone/inner/dense": 30, "dense": 15}


def test_open_axes_of_a_nested_model_are_closed_by_its_call() -> None:
    inner = keras.Sequential(
        [keras.Input((None, None, 3)), layers.Conv2D(4, 3, name="conv")], name="inner"
    )
    source = keras.Input((8, 9, 3))
    assert macs_by_layer(keras.Model(source, inner(source)))[0] == {"inner/conv": 6 * 7 * 4 * 9 * 3}


def test_several_outputs_of_one_call_count_once() -> None:
    source = keras.Input((5, 4))
    sequence, state, _ = layers.LSTM(6, return_sequences=True, return_state=True, name="lstm")(
        source
    )
    joined = layers.Concatenate()([layers.Flatten()(sequence), state])
    macs, uncounted = macs_by_layer(keras.Model(source, layers.Dense(2, name="head")(joined)))
    assert (macs["lstm"], macs["head"], uncounted) == (5 * 4 * 6 * (4 + 6), 36 * 2, {})


def test_an_initial_state_does_not_change_the_count() -> None:
    source, state = keras.Input((5, 4)), keras.Input((6,))
    gru = layers.GRU(6, name="gru")(source, initial_state=state)
    model = keras.Model([source, state], layers.Dense(2, name="head")(gru))
    assert macs_by_layer(model)[0] == {"gru": 5 * 3 * 6 * 10, "head": 12}


class Own(layers.Layer):  # type: ignore[misc]
    """A layer of the user's own, of which nothing is known."""

    def call(self, inputs: Any) -> Any:
        """Double."""
        return inputs * 2.0

    def compute_output_shape(self, shape: Any) -> Any:
        """Keep it."""
        return shape


class OwnDense(layers.Dense):  # type: ignore[misc]
    """A layer of Keras', changed."""


class OwnCell(layers.GRUCell):  # type: ignore[misc]
    """A cell of Keras', changed."""


@pytest.mark.parametrize(
    ("build", "shape", "reason"),
    [
        (Own, (4,), "Own is not one of Keras' own layers"),
        (lambda: OwnDense(3), (4,), "OwnDense is not one of Keras' own"),
        (lambda: layers.Lambda(lambda x: x), (4,), "how Lambda layers compute is not known"),
        (lambda: layers.RNN(OwnCell(3)), (5, 4), "how OwnCell cells compute"),
        (lambda: layers.TimeDistributed(Own()), (5, 4), "Own is not one of Keras' own"),
        (
            lambda: layers.TimeDistributed(stack((4,), OwnDense(3, name="inner"))),
            (5, 4),
            "layer 'inner' of the model that it wraps",
        ),
        (
            lambda: layers.TimeDistributed(stack((None, 2), layers.Conv1D(3, 2))),
            (5, 4, 2),
            "no fixed shape",
        ),
    ],
)
def test_what_is_not_known_is_listed_with_the_reason(
    build: Callable[[], Any], shape: tuple[int, ...], reason: str
) -> None:
    source = keras.Input(shape)
    odd = build()
    model = keras.Model(source, layers.Dense(2, name="head")(layers.Flatten()(odd(source))))
    macs, uncounted = macs_by_layer(model)
    assert list(uncounted) == [odd.name]
    assert reason in uncounted[odd.name]
    assert odd.name not in macs
    assert macs["head"] > 0


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        (lambda x: ops.tensordot(x, x, 2), "Tensordot"),
        (lambda x: ops.matmul(x, np.ones((4, 3), np.float32)), "constant"),
        (lambda x: ops.einsum("btd,bsd,bud->btsu", x, x, x), "more than two"),
        (lambda x: ops.einsum("btd,bse->bt", x, x), "before it multiplies"),
        (lambda x: ops.linalg.inv(ops.matmul(ops.transpose(x, (0, 2, 1)), x)), "Inv"),
    ],
)
def test_operations_that_are_not_known(operation: Callable[[Any], Any], reason: str) -> None:
    source = keras.Input((5, 4))
    _, uncounted = macs_by_layer(keras.Model(source, operation(source)))
    assert [reason in sentence for sentence in uncounted.values()] == [True]


def test_a_model_without_a_graph_is_refused() -> None:
    class Subclassed(keras.Model):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return inputs

    with pytest.raises(ModelError, match="call method of its own"):
        macs_by_layer(Subclassed())


# What is not counted of Keras' own: it runs other code, or transforms a signal.
UNKNOWN_LAYERS = {
    "AdditiveAttention",
    "FlaxLayer",
    "GRUCell",
    "JaxLayer",
    "LSTMCell",
    "Lambda",
    "Layer",
    "MelSpectrogram",
    "Pipeline",
    "STFTSpectrogram",
    "SimpleRNNCell",
    "StackedRNNCells",
    "TFSMLayer",
    "TorchModuleWrapper",
    "Wrapper",
}


def test_every_layer_of_keras_is_counted_or_known_not_to_be() -> None:
    unknown = set()
    for kind in vars(layers).values():
        if isinstance(kind, type) and issubclass(kind, layers.Layer):
            try:
                rule_of(object.__new__(kind))
            except Uncountable:
                unknown.add(kind.__name__)
    assert unknown == UNKNOWN_LAYERS


def test_operations_that_sum_products_exist_under_these_names() -> None:
    found: set[str] = set()
    waiting = [Operation]
    while waiting:
        kind = waiting.pop()
        waiting.extend(kind.__subclasses__())
        if kind.__module__.startswith("keras.src.ops."):
            found.add(kind.__name__)
    assert found >= _SUMMING_OPERATIONS
    assert {"Add", "Relu", "Matmul", "Einsum"} <= found
