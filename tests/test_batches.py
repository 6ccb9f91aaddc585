"""How many samples Keras computes at a time: 256, or what memory allows."""

from __future__ import annotations

import keras
import pytest
from keras import layers
from nnprune.keras_io import batches
from nnprune.keras_io.batches import batch_size_of


def model() -> keras.Model:
    """Return a model with another one in it."""
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(4)], name="inner")
    return keras.Sequential(
        [
            keras.Input((2, 3, 4)),
            layers.Conv2D(4, 3, padding="same"),
            layers.MaxPooling2D((2, 2), strides=1, padding="same"),
            layers.Conv2D(1, 1),
            layers.Flatten(),
            inner,
        ]
    )


def test_a_small_model_takes_the_most() -> None:
    assert batch_size_of(model()) == 256
    assert batch_size_of() == 256


def test_the_values_of_all_layers_fit_into_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = model()
    # The inner model's outputs count as its own and as its last layer's.
    elements = 24 + 24 + 6 + 6 + 4 + 4
    for samples in (1, 7, 255):
        monkeypatch.setattr(batches, "_BYTES", 4 * elements * samples)
        assert batch_size_of(small) == samples
        monkeypatch.setattr(batches, "_BYTES", 4 * elements * samples + 1)
        assert batch_size_of(small) == samples
    monkeypatch.setattr(batches, "_BYTES", 4)
    assert batch_size_of(small) == 1


def test_the_largest_of_several_models_decides_and_open_sides_count_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wide = keras.Sequential([keras.Input((None, 10)), layers.Dense(30)])
    narrow = keras.Sequential([keras.Input((1,)), layers.Dense(1)])
    monkeypatch.setattr(batches, "_BYTES", 4 * 30 * 5)
    assert batch_size_of(wide, narrow) == batch_size_of(narrow, wide) == 5
    assert batch_size_of(narrow) == 150
