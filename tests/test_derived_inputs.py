"""Inputs made of a few that were given."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from nnprune.keras_io.opened import OpenedModel, input_box_of, open_model
from nnprune.pruning.derived import derived, repeated

DIGITS = Path(str(resources.files("nnprune") / "demo_files" / "digits.keras"))


@pytest.fixture(scope="module")
def digits() -> OpenedModel:
    return open_model(DIGITS, trust=False)


def given(digits: OpenedModel, count: int) -> list[np.ndarray]:
    shape = digits.graph.inputs[0].shape
    return [np.random.default_rng(1).random((count, *shape), np.float32)]


def test_half_are_the_inputs_and_half_come_from_them(digits: OpenedModel) -> None:
    few, box = given(digits, 7), input_box_of(digits, None)
    (made,) = derived(digits, box, few, 41, np.random.default_rng(2))
    assert made.shape == (41, *few[0].shape[1:])
    nearest = np.abs(made[:, None] - few[0][None]).reshape(41, 7, -1).max(axis=2).min(axis=1)
    assert (nearest[:21] == 0).all()
    # Five steps of a tenth of the box at most: somewhere else, but not far.
    assert (nearest[21:] > 0).all()
    assert (nearest[21:] <= 0.5 + 1e-6).all()
    assert made.min() >= 0
    assert made.max() <= 1


def test_enough_inputs_are_left_alone(digits: OpenedModel) -> None:
    many, box = given(digits, 50), input_box_of(digits, None)
    (made,) = derived(digits, box, many, 50, np.random.default_rng(2))
    np.testing.assert_array_equal(made, many[0])


def test_the_same_stream_gives_the_same_inputs(digits: OpenedModel) -> None:
    few, box = given(digits, 5), input_box_of(digits, None)
    made = [derived(digits, box, few, 24, np.random.default_rng(3))[0] for _ in range(2)]
    np.testing.assert_array_equal(made[0], made[1])


def test_each_is_repeated_about_as_often() -> None:
    chosen = repeated(np.arange(5), 13, np.random.default_rng(0))
    counts = np.bincount(chosen, minlength=5)
    assert counts.sum() == 13
    assert set(counts) == {2, 3}
