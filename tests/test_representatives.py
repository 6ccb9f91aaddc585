"""Unlabelled inputs that the user gives: what is accepted, and every way they can be wrong."""

from __future__ import annotations

from typing import Any

import keras
import nnprune
import numpy as np
import pytest
from keras_helpers import randomize
from nnprune.errors import DataError
from nnprune.keras_io.opened import input_box_of, open_model
from nnprune.representatives import Representatives, read_representatives

layers = keras.layers
RANDOM = np.random.default_rng(0)
GOOD = RANDOM.random((5, 4), np.float32)


def one_input() -> keras.Model:
    return randomize(
        keras.Sequential(
            [
                keras.Input((4,), name="features"),
                layers.Dense(8, activation="relu"),
                layers.Dense(3),
            ]
        )
    )


def two_inputs() -> keras.Model:
    inputs = [keras.Input((4,), name="left"), keras.Input((2,), name="right")]
    hidden = layers.Dense(8, activation="relu")(layers.Concatenate()(inputs))
    return randomize(keras.Model(inputs, layers.Dense(3)(hidden)))


def read(given: Any, model: keras.Model | None = None, bounds: Any = None) -> Representatives:
    opened = open_model(one_input() if model is None else model, trust=False)
    return read_representatives(given, opened, input_box_of(opened, bounds))


@pytest.mark.parametrize(
    "given", [GOOD, GOOD.astype(np.float64), GOOD.tolist(), [GOOD], {"features": GOOD}]
)
def test_one_input_may_come_in_any_form(given: Any) -> None:
    found = read(given)
    np.testing.assert_array_equal(found.arrays[0], GOOD)
    assert found.arrays[0].dtype == np.float32
    assert found.sha256 == read(GOOD).sha256
    assert found.samples == 5


def test_the_fingerprint_is_of_the_values() -> None:
    assert read(GOOD).sha256 != read(GOOD[::-1]).sha256 != read(GOOD[:4]).sha256


def test_several_inputs_come_in_order_or_by_name() -> None:
    right = RANDOM.random((5, 2), np.float32)
    listed = read([GOOD, right], two_inputs())
    named = read({"right": right, "left": GOOD}, two_inputs())
    assert listed.sha256 == named.sha256
    for found in (listed, named):
        np.testing.assert_array_equal(found.arrays[1], right)
    result = nnprune.prune(
        two_inputs(), target=0.5, compensation="least_squares", representative_inputs=[GOOD, right]
    )
    assert result.compensation.sha256 == listed.sha256


def spoiled(value: float) -> Any:
    wrong = GOOD.copy()
    wrong[3, 2] = value
    return wrong


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (GOOD[:1], ["at least two", "got 1"]),
        (GOOD[:0], ["at least two", "got 0"]),
        (3.0, ["at least two"]),
        (GOOD[:, :3], ["(3,)", "(4,)", "reshape"]),
        (GOOD[0], ["()", "(4,)"]),
        (GOOD.reshape(5, 2, 2), ["(2, 2)", "reshape"]),
        (spoiled(np.nan), ["1 values that are NaN", "sample 3"]),
        (spoiled(np.inf), ["NaN or infinite", "sample 3"]),
        (spoiled(1.5), ["outside the input box", "sample 3", "[0, 1]", "1.5", "input_bounds"]),
        (spoiled(-0.1), ["outside the input box", "-0.1"]),
        (GOOD.astype(str), ["array of numbers"]),
        (GOOD + 1j, ["array of numbers"]),
        ([[0.1, 0.2, 0.3, 0.4], [0.1]], ["array of numbers"]),
        ({"other": GOOD}, ["'features'", "'other'"]),
        ({}, ["'features'"]),
    ],
)
def test_what_is_wrong_is_said(given: Any, words: list[str]) -> None:
    with pytest.raises(DataError, match="representative_inputs") as error:
        read(given)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (GOOD, ["a list of 2 arrays", "'left'", "'right'"]),
        ([GOOD], ["a list of 2 arrays"]),
        ([GOOD, GOOD[:3, :2]], ["different numbers of samples", "5", "3"]),
        ([GOOD, GOOD], ["'right'", "(2,)"]),
    ],
)
def test_of_several_inputs_each_is_named(given: Any, words: list[str]) -> None:
    with pytest.raises(DataError, match="representative_inputs") as error:
        read(given, two_inputs())
    for word in words:
        assert word in str(error.value)


def test_the_box_is_the_one_given() -> None:
    found = read(spoiled(1.5), bounds=(0.0, 2.0))
    assert found.arrays[0].max() == 1.5


def test_they_are_judged_before_any_work(monkeypatch: Any) -> None:
    monkeypatch.setattr("nnprune.pruning.prune.best_of", None)
    with pytest.raises(DataError, match="representative_inputs"):
        nnprune.prune(
            one_input(), target=0.5, compensation="least_squares", representative_inputs=GOOD[:1]
        )
