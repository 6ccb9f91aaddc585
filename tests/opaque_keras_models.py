"""Keras models with layers that the engine does not know."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers
from keras_helpers import randomize


@keras.saving.register_keras_serializable(package="nnprune_synthetic_tests")
class Halving(keras.layers.Layer):  # type: ignore[misc]
    """A layer of the user's own."""

    def call(self, inputs: Any) -> Any:
        """Halve."""
        return 0.5 * inputs


def opaque_model(*, classes: int = 3) -> keras.Model:
    return randomize(
        keras.Sequential(
            [
                keras.Input((8, 9, 1)),
                layers.Conv2D(4, 3, activation="tanh"),
                Halving(),
                layers.Flatten(),
                layers.Dense(classes, activation="softmax" if classes > 1 else "sigmoid"),
            ]
        )
    )


def plain_model(*, classes: int) -> keras.Model:
    """Return what `opaque_model` computes, in layers that the engine knows."""
    model = keras.Sequential(
        [
            keras.Input((8, 9, 1)),
            layers.Conv2D(4, 3, activation="tanh"),
            layers.Rescaling(0.5),
            layers.Flatten(),
            layers.Dense(classes, activation="softmax" if classes > 1 else "sigmoid"),
        ]
    )
    model.set_weights(opaque_model(classes=classes).get_weights())
    return model


def opaque_models() -> dict[str, keras.Model]:
    source = keras.Input((6,))
    shared = Halving()
    twice = layers.Dense(2)(layers.Add()([shared(layers.Dense(4)(source)), shared(source[:, :4])]))
    inner_source = keras.Input((6,))
    inner = keras.Model(inner_source, layers.Dense(3)(Halving()(inner_source)), name="inner")
    sequences = keras.Input((5, 3))
    attended = layers.MultiHeadAttention(2, 3)(sequences, sequences)
    first, second = keras.Input((4,)), keras.Input((3,))
    joined = layers.Multiply()([layers.Dense(5)(first), layers.Dense(5)(second)])
    fused = layers.Dense(4, activation=keras.activations.sparse_plus)(source)
    models = {
        "sequential": opaque_model(),
        "called twice": keras.Model(source, twice),
        "nested": keras.Model(source, layers.Dense(2)(inner(source))),
        "attention": keras.Model(sequences, layers.Dense(2)(layers.Flatten()(attended))),
        "two inputs": keras.Model([first, second], layers.Dense(2)(joined)),
        "recurrent": keras.Model(sequences, layers.Dense(2)(layers.LSTM(4)(sequences))),
        "fused activation": keras.Model(source, layers.Dense(2)(fused)),
    }
    return {name: randomize(model) for name, model in models.items()}
