"""Keras models with all that a file may hold which the package reads and writes without Keras."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers
from keras_helpers import randomize
from keras_models import Build
from pruned_models import dense


def _stack(*body: Any, shape: tuple[int, ...] = (5,)) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *body])


def frozen() -> keras.Model:
    return _stack(
        dense(6, "first", trainable=False),
        layers.BatchNormalization(trainable=False),
        dense(4, "second"),
        layers.Dense(2),
    )


def frozen_whole() -> keras.Model:
    source = keras.Input((4,), name="source")
    model = keras.Model(source, layers.Dense(2)(layers.Dropout(0.3)(dense(8, "first")(source))))
    model.trainable = False
    return model


def initialized_and_regularized() -> keras.Model:
    kinds = ["glorot_normal", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform"]
    initializers = keras.initializers
    return _stack(
        *(dense(6, kind, kernel_initializer=kind, kernel_regularizer="l2") for kind in kinds),
        dense(5, "seeded", kernel_initializer=initializers.HeNormal(seed=3)),
        dense(4, "drawn", bias_initializer=initializers.RandomNormal(stddev=0.1, seed=1)),
        dense(4, "cut", kernel_initializer="truncated_normal", bias_initializer="ones"),
        layers.Dense(2, bias_regularizer=keras.regularizers.L2(1e-4)),
    )


def noisy() -> keras.Model:
    return _stack(
        layers.SpatialDropout1D(0.1),
        layers.Conv1D(4, 3, kernel_regularizer="l2"),
        layers.SpatialDropout1D(0.2, seed=3),
        layers.Flatten(),
        dense(6, "hidden"),
        layers.Dropout(0.2, seed=4),
        layers.GaussianNoise(0.1, seed=1),
        layers.GaussianDropout(0.1),
        layers.Dense(2),
        shape=(9, 3),
    )


def noisy_cube() -> keras.Model:
    return _stack(
        layers.SpatialDropout3D(0.1),
        layers.GlobalAveragePooling3D(),
        dense(6, "hidden"),
        layers.Dense(2),
        shape=(3, 3, 3, 3),
    )


def averaged() -> keras.Model:
    return _stack(
        layers.Conv2D(4, 3, padding="same", strides=2),
        layers.GlobalAveragePooling2D(keepdims=True),
        layers.Flatten(),
        dense(6, "hidden"),
        layers.ReLU(),
        layers.Dense(2),
        shape=(9, 9, 3),
    )


def scaled_units() -> keras.Model:
    scale = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    return _stack(
        dense(6, "first"),
        layers.Rescaling(scale, offset=scale),
        dense(4, "second"),
        dense(2, "end"),
    )


def in_another_order() -> keras.Model:
    """Read the inputs in another order than they are given in, at other distances."""
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    far = layers.Dense(6)(dense(7, "hidden")(left))
    return keras.Model([left, right], layers.Dense(2)(layers.Add()([layers.Dense(6)(right), far])))


def listed_ends() -> keras.Model:
    source = keras.Input((4,), name="source")
    return keras.Model([source], [layers.Dense(2)(dense(8, "hidden")(source))])


def with_arguments_of_calls() -> keras.Model:
    source = keras.Input((4,), name="source")
    hidden = layers.Dropout(0.2)(dense(8, "hidden")(source), training=False)
    hidden = layers.GaussianNoise(0.1)(layers.BatchNormalization()(hidden))
    return keras.Model(source, layers.Dense(2)(layers.Softmax()(hidden)))


def _compiled(*, trained: bool = False, **settings: Any) -> keras.Model:
    model = randomize(
        _stack(dense(6, "hidden"), layers.Dropout(0.2), layers.Dense(3, activation="softmax"))
    )
    model.compile(**settings)
    if trained:
        random = np.random.default_rng(0)
        model.fit(random.random((64, 5)), random.integers(0, 3, 64), verbose=0)
    return model


def trained_adam() -> keras.Model:
    return _compiled(
        optimizer=keras.optimizers.Adam(0.03),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        trained=True,
    )


def trained_sgd() -> keras.Model:
    return _compiled(
        optimizer=keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        loss=keras.losses.SparseCategoricalCrossentropy(),
        metrics=["accuracy", "sparse_categorical_accuracy"],
        trained=True,
    )


def compiled_for_graphics() -> keras.Model:
    return _compiled(optimizer="rmsprop", loss="mse", metrics=["mae"], jit_compile=True)


def compiled_without_loss() -> keras.Model:
    return _compiled(optimizer="nadam")


def compiled_with_decay() -> keras.Model:
    optimizer = keras.optimizers.AdamW(1e-3, amsgrad=True)
    return _compiled(optimizer=optimizer, loss="kl_divergence", metrics=[])


def compiled_with_smoothing() -> keras.Model:
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    return _compiled(optimizer="adamax", loss=loss)


PLAIN: dict[str, Build] = {
    build.__name__: build
    for build in (
        frozen,
        frozen_whole,
        initialized_and_regularized,
        noisy,
        noisy_cube,
        averaged,
        scaled_units,
        in_another_order,
        listed_ends,
        with_arguments_of_calls,
        trained_adam,
        trained_sgd,
        compiled_for_graphics,
        compiled_without_loss,
        compiled_with_decay,
        compiled_with_smoothing,
    )
}
"""Models that need no Keras."""


def _adapted() -> keras.Model:
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(size=(50, 5)))
    return _stack(normalization, dense(6, "hidden"), layers.Dense(2))


def _half() -> keras.Model:
    return _stack(dense(6, "hidden", dtype="float16"), layers.Dense(2))


def _scheduled() -> keras.Model:
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    return _compiled(optimizer=keras.optimizers.Adam(schedule), loss="mse")


def _of_two_losses() -> keras.Model:
    source = keras.Input((4,), name="source")
    hidden = dense(8, "hidden")(source)
    model = keras.Model(source, {name: dense(2, name)(hidden) for name in "ab"})
    model.compile(optimizer="adam", loss={"a": "mse", "b": "mae"})
    return model


def _normalized_for_inference() -> keras.Model:
    """Keras writes an argument of this call only after it has read the model."""
    source = keras.Input((4,), name="source")
    hidden = layers.BatchNormalization()(dense(8, "hidden")(source), training=False)
    return keras.Model(source, layers.Dense(2)(hidden))


def _of_fixed_batch() -> keras.Model:
    return keras.Sequential([keras.Input(batch_shape=(3, 5)), dense(6, "hidden"), layers.Dense(2)])


OTHER: dict[str, Build] = {
    "normalization with statistics": _adapted,
    "float16": _half,
    "learning rate schedule": _scheduled,
    "a loss for each output": _of_two_losses,
    "fixed number of samples": _of_fixed_batch,
    "normalization called for inference": _normalized_for_inference,
    "constraint": lambda: _stack(dense(6, "h", kernel_constraint="non_neg"), layers.Dense(2)),
    "L1": lambda: _stack(dense(6, "h", kernel_regularizer="l1"), layers.Dense(2)),
    "activity": lambda: _stack(dense(6, "h", activity_regularizer="l2"), layers.Dense(2)),
    "activation with parameters": lambda: _stack(
        dense(6, "h", activation=layers.LeakyReLU(0.1)), layers.Dense(2)
    ),
    "metric with parameters": lambda: _compiled(
        optimizer="adam", loss="mse", metrics=[keras.metrics.MeanAbsoluteError()]
    ),
    "clipped gradients": lambda: _compiled(
        optimizer=keras.optimizers.Adam(clipnorm=1.0), loss="mse"
    ),
    "average of weights": lambda: _compiled(
        optimizer=keras.optimizers.Adam(use_ema=True), loss="mse"
    ),
    "several steps at once": lambda: _compiled(optimizer="adam", loss="mse", steps_per_execution=4),
}
"""Models that only Keras is sure to write as it would."""
