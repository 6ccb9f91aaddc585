"""The box of inputs: as given, or as the first layers suggest."""

from __future__ import annotations

import io
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers
from keras_models import ARCHITECTURES
from nnprune.errors import BoundsError
from nnprune.keras_io.config import ModelInput, read_config
from nnprune.keras_io.input_box import InputBox, default_box, given_box
from nnprune.keras_io.rebuild import live_config
from nnprune.keras_io.weights import LiveWeights

ONE = (ModelInput(name="x", shape=(2, 3)),)
TWO = (ModelInput(name="x", shape=(2, 3)), ModelInput(name="y", shape=(4,)))


def default_of(model: keras.Model) -> InputBox:
    return default_box(read_config(live_config(model)), LiveWeights(model))


def behind(*body: Any, shape: tuple[int, ...] = (4, 3)) -> InputBox:
    return default_of(
        keras.Sequential([keras.Input(shape), *body, layers.Flatten(), layers.Dense(2)])
    )


def assert_box(box: InputBox, lower: Any, upper: Any, source: str) -> None:
    assert box.source == source
    for ends, expected in ((box.lower, lower), (box.upper, upper)):
        assert len(ends) == 1
        assert ends[0].dtype == np.float64
        np.testing.assert_allclose(ends[0], np.broadcast_to(expected, ends[0].shape), atol=1e-6)


def test_default_is_the_unit_box() -> None:
    box = default_of(ARCHITECTURES["several_ends"]())
    assert box.source == "default"
    assert [ends.shape for ends in box.lower] == [(3,), (6, 6, 1)]
    assert all(np.all(ends == 0.0) for ends in box.lower)
    assert all(np.all(ends == 1.0) for ends in box.upper)


def test_rescaling_is_undone() -> None:
    assert_box(behind(layers.Rescaling(1 / 255)), 0.0, 255.0, "rescaling")
    assert_box(behind(layers.Rescaling(1 / 127.5, offset=-1)), 0.0, 255.0, "rescaling")
    assert_box(behind(layers.Rescaling(1 / 255, offset=-0.5)), 0.0, 255.0, "rescaling")
    assert_box(behind(layers.Rescaling(0.5, offset=0.5)), -1.0, 1.0, "rescaling")
    assert_box(behind(layers.Rescaling(-1.0, offset=1.0)), 0.0, 1.0, "rescaling")
    per_channel = behind(layers.Rescaling([0.5, 0.25, 0.1], offset=[0.0, -1.0, 0.0]))
    assert_box(per_channel, [0.0, 0.0, 0.0], [2.0, 8.0, 10.0], "rescaling")


def test_layers_that_pass_values_on_are_looked_through() -> None:
    body = [layers.GaussianNoise(0.1), layers.Reshape((3, 4)), layers.Rescaling(1 / 255)]
    assert_box(behind(*body), 0.0, 255.0, "rescaling")
    # Numbers for each element of an axis that the input does not have.
    moved = [layers.Reshape((3, 4)), layers.Rescaling([1.0, 2.0, 3.0, 4.0])]
    assert_box(behind(*moved), 0.0, 1.0, "default")


def test_rescaling_in_a_nested_model_and_after_weights() -> None:
    inner = keras.Sequential([keras.Input((4, 3)), layers.Rescaling(1 / 255)])
    assert_box(behind(inner), 0.0, 255.0, "rescaling")
    assert_box(behind(layers.Dense(3), layers.Rescaling(1 / 255)), 0.0, 1.0, "default")


def test_normalization_is_assumed_to_be_four_deviations_wide() -> None:
    fixed = layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 0.25])
    assert_box(behind(fixed), [-3.0, -6.0, 1.0], [5.0, 10.0, 5.0], "assumed")
    single = layers.Normalization(mean=1.0, variance=4.0, axis=None)
    assert_box(behind(single), -7.0, 9.0, "assumed")
    adapted = layers.Normalization()
    adapted.adapt(np.array([[0.0, 2.0, 1.0], [2.0, 6.0, 1.0]], np.float32))
    expected = [1.0, 4.0, 1.0], np.array([1.0, 2.0, 1e-7])
    model = keras.Sequential([keras.Input((3,)), adapted, layers.Dense(2)])
    mean, deviation = expected
    assert_box(default_of(model), mean - 4.0 * deviation, mean + 4.0 * deviation, "assumed")
    inverted = layers.Normalization(mean=5.0, variance=4.0, axis=None, invert=True)
    assert_box(behind(inverted), -4.0, 4.0, "assumed")
    over_rows = layers.Normalization(axis=1)
    assert_box(behind(over_rows), 0.0, 1.0, "default")


def test_readers_of_an_input_must_agree() -> None:
    source = keras.Input((3,))
    scaled, plain = layers.Rescaling(1 / 255)(source), layers.Dense(3)(source)
    assert_box(default_of(keras.Model(source, [scaled, plain])), 0.0, 1.0, "default")
    again = layers.Rescaling(1 / 255)(source)
    assert_box(default_of(keras.Model(source, [scaled, again])), 0.0, 255.0, "rescaling")


def test_each_input_has_its_own() -> None:
    one, two = keras.Input((3,), name="one"), keras.Input((2,), name="two")
    scaled = layers.Rescaling(1 / 255)(two)
    box = default_of(keras.Model([one, two], layers.Concatenate()([one, scaled])))
    assert box.source == "rescaling"
    np.testing.assert_allclose(box.upper[0], 1.0)
    np.testing.assert_allclose(box.upper[1], 255.0)


def test_given_numbers_and_arrays() -> None:
    assert_box(given_box(ONE, (-1, 2)), -1.0, 2.0, "given")
    lower = np.arange(3.0)
    assert_box(given_box(ONE, (lower, 5)), lower, 5.0, "given")
    full = np.arange(6.0).reshape(2, 3)
    assert_box(given_box(ONE, (full, full + 1.0)), full, full + 1.0, "given")
    assert_box(given_box(ONE, {"x": (0, 1)}), 0.0, 1.0, "given")
    assert_box(given_box(ONE, {"lower": full, "upper": full}), full, full, "given")


def test_given_from_a_file_of_arrays() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, lower=np.zeros(3), upper=np.ones((2, 3)))
    buffer.seek(0)
    with np.load(buffer) as arrays:
        assert_box(given_box(ONE, arrays), 0.0, 1.0, "given")


def test_given_for_several_inputs() -> None:
    each: tuple[Any, ...] = (
        [(-1, 1), (0, np.arange(4.0))],
        {"y": (0, np.arange(4.0)), "x": (-1, 1)},
        {"x_lower": -1, "x_upper": 1, "y_lower": 0, "y_upper": np.arange(4.0)},
    )
    for bounds in each:
        box = given_box(TWO, bounds)
        assert box.source == "given"
        np.testing.assert_array_equal(box.lower[0], -np.ones((2, 3)))
        np.testing.assert_array_equal(box.upper[1], np.arange(4.0))
    alike: tuple[Any, ...] = ((-1, 1), {"lower": -1, "upper": 1})
    for bounds in alike:
        assert [ends.shape for ends in given_box(TWO, bounds).lower] == [(2, 3), (4,)]


BAD: dict[str, tuple[Any, str]] = {
    "inverted": ((1, 0), r"'x' of shape \(2, 3\).*above"),
    "inverted somewhere": (([0, 0, 2], 1), "above"),
    "nan": ((0, np.nan), "finite"),
    "infinite": ((-np.inf, 0), "finite"),
    "wrong shape": ((np.zeros(2), 1), r"'x' of shape \(2, 3\).*\(2,\)"),
    "one end": ((0,), "pair"),
    "three ends": ((0, 1, 2), "pair"),
    "words": (("low", "high"), "pair"),
    "ragged": (([[0], [1, 2]], 1), "pair"),
    "a number": (1.0, "pair"),
    "another input": ({"z": (0, 1)}, "'x'.*'lower'"),
    "half": ({"lower": 0}, "'x'"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_bounds_name_the_input(name: str) -> None:
    bounds, message = BAD[name]
    with pytest.raises(BoundsError, match=message):
        given_box(ONE, bounds)


def test_bad_bounds_of_several_inputs() -> None:
    with pytest.raises(BoundsError, match="3 bounds for 2 inputs"):
        given_box(TWO, [(0, 1)] * 3)
    with pytest.raises(BoundsError, match="'y'"):
        given_box(TWO, {"x": (0, 1)})
    with pytest.raises(BoundsError, match=r"'y'.*above"):
        given_box(TWO, [(0, 1), (1, 0)])
    with pytest.raises(BoundsError, match=r"'x'.*pair"):
        given_box(TWO, {"x": 0, "y": (0, 1)})


@given(
    scale=st.floats(0.001, 100.0),
    sign=st.sampled_from([-1.0, 1.0]),
    offset=st.floats(-10.0, 1.0),
)
def test_rescaling_maps_the_box_onto_its_range(scale: float, sign: float, offset: float) -> None:
    box = behind(layers.Rescaling(sign * scale, offset=offset), shape=(2,))
    ends = sorted(sign * scale * end + offset for end in (box.lower[0][0], box.upper[0][0]))
    expected = [offset, -offset] if offset < 0.0 else [0.0, 1.0]
    np.testing.assert_allclose(ends, expected, rtol=1e-9, atol=1e-9)
