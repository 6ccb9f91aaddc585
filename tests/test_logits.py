"""Heads are found from the layers, and logits are what stands before the final activation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from nnprune.errors import ModelError
from nnprune.keras_io.logits import logits_model
from nnprune.keras_io.loss_task import loss_task

SOFTMAX = layers.Softmax


def sequential(*last: Any) -> keras.Model:
    return keras.Sequential([keras.Input((6,)), layers.Dense(5, activation="relu"), *last])


def functional(head: Callable[[Any], Any]) -> keras.Model:
    inputs = keras.Input((6,))
    return keras.Model(inputs, head(layers.Dense(5, activation="relu")(inputs)))


def nested() -> keras.Model:
    inner = sequential(layers.Dense(4, activation="softmax", name="class"))
    inputs = keras.Input((6,))
    return keras.Model(inputs, inner(layers.Dense(6)(inputs)))


def convolutional() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            layers.Conv2D(3, 4, activation="softmax", name="class"),
            layers.Flatten(),
        ]
    )


HEADS: dict[str, tuple[Callable[[], keras.Model], str, str, int]] = {
    "fused softmax": (
        lambda: sequential(layers.Dense(3, activation="softmax", name="c")),
        "softmax",
        "c",
        3,
    ),
    "softmax layer": (lambda: sequential(layers.Dense(3), SOFTMAX(name="s")), "softmax", "s", 3),
    "activation layer": (
        lambda: sequential(layers.Dense(3), layers.Activation("softmax", name="a")),
        "softmax",
        "a",
        3,
    ),
    "softmax operation": (
        lambda: functional(lambda x: keras.ops.softmax(layers.Dense(3)(x))),
        "softmax",
        "softmax",
        3,
    ),
    "dropout after softmax": (
        lambda: sequential(layers.Dense(3, activation="softmax", name="c"), layers.Dropout(0.1)),
        "softmax",
        "c",
        3,
    ),
    "nested": (nested, "softmax", "sequential/class", 4),
    "convolution": (convolutional, "softmax", "class", 3),
    "fused sigmoid": (
        lambda: sequential(layers.Dense(1, activation="sigmoid", name="p")),
        "sigmoid",
        "p",
        1,
    ),
    "sigmoid operation": (
        lambda: functional(lambda x: keras.ops.sigmoid(layers.Dense(1)(x))),
        "sigmoid",
        "sigmoid",
        1,
    ),
    "linear": (lambda: sequential(layers.Dense(3, name="z")), "logits", "z", 3),
    "linear activation layer": (
        lambda: sequential(layers.Dense(3, name="z"), layers.Activation("linear")),
        "logits",
        "z",
        3,
    ),
    "several sigmoids": (
        lambda: sequential(layers.Dense(3, activation="sigmoid", name="m")),
        "values",
        "m",
        3,
    ),
    "tanh": (lambda: sequential(layers.Dense(2, activation="tanh", name="t")), "values", "t", 2),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_are_found(name: str) -> None:
    make, head, layer, outputs = HEADS[name]
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    model = make()
    found = logits_model(model)
    assert (found.head, found.outputs) == (head, outputs)
    if "operation" not in name:
        assert found.layer.split("/")[-1] == layer.split("/")[-1]
    x = np.random.default_rng(0).random((4, *model.input_shape[1:])).astype(np.float32)
    logits, outputs_ = np.asarray(found.model(x)), np.asarray(model(x))
    restored = {"softmax": keras.ops.softmax, "sigmoid": keras.ops.sigmoid}.get(head, np.asarray)
    np.testing.assert_allclose(np.asarray(restored(logits)), outputs_, atol=1e-6)
    if head in ("softmax", "sigmoid"):
        assert not np.allclose(logits, outputs_)


def test_a_softmax_at_every_position_is_no_label() -> None:
    model = keras.Sequential(
        [keras.Input((4, 6)), layers.Dense(3, activation="softmax"), layers.Flatten()]
    )
    assert logits_model(model).head == "values"


def test_the_model_itself_is_left_alone() -> None:
    model = sequential(layers.Dense(3, activation="softmax"))
    before = [weight.copy() for weight in model.get_weights()]
    config = model.get_config()
    found = logits_model(model)
    found.last.set_weights([weight + 1 for weight in found.last.get_weights()])
    assert model.get_config() == config
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_mixed_precision_models_give_logits() -> None:
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(3, activation="softmax", dtype="mixed_float16"),
        ]
    )
    found = logits_model(model)
    assert found.head == "softmax"
    assert found.last.dtype_policy.name == "mixed_float16"


def test_models_that_evaluation_cannot_take() -> None:
    a, b = keras.Input((2,)), keras.Input((2,))
    both = layers.Add()([a, b])
    with pytest.raises(ModelError, match="has 2 inputs; evaluation takes one"):
        logits_model(keras.Model([a, b], both))
    with pytest.raises(ModelError, match="has 2 outputs; evaluation takes one"):
        logits_model(keras.Model(a, [layers.Dense(1)(a), layers.Dense(1)(a)]))
    with pytest.raises(ModelError, match="not built"):
        logits_model(keras.Sequential([layers.Dense(1)]))
    with pytest.raises(ModelError, match=r"expected a keras\.Model"):
        logits_model("model.keras")


@pytest.mark.parametrize(
    ("loss", "task"),
    [
        ("mse", "regression"),
        ("mean_squared_error", "regression"),
        (keras.losses.Huber(), "regression"),
        ("sparse_categorical_crossentropy", "classification"),
        (keras.losses.BinaryCrossentropy(from_logits=True), "classification"),
        (["categorical_crossentropy"], "classification"),
        (lambda y, z: keras.ops.mean(y - z), None),
    ],
)
def test_the_loss_tells_the_task(loss: Any, task: str | None) -> None:
    model = sequential(layers.Dense(3))
    assert loss_task(model) is None
    model.compile(loss=loss)
    assert loss_task(model) == task


@pytest.mark.filterwarnings("ignore:.*softmax over axis:UserWarning")
def test_a_softmax_of_one_output_is_no_head() -> None:
    assert logits_model(sequential(layers.Dense(1, activation="softmax"))).head == "values"
