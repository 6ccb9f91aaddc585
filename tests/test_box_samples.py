"""Inputs drawn from a box: within it, at its corners, whole where they must be."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from nnprune.keras_io.box_samples import corners, inside


@given(
    data=st.data(),
    dtype=st.sampled_from(["float32", "float16", "int32", "uint8"]),
    seed=st.integers(0, 9),
)
def test_samples_lie_in_the_box_and_corners_on_it(
    data: st.DataObject, dtype: str, seed: int
) -> None:
    ends = [
        sorted(data.draw(st.tuples(st.integers(0, 200), st.integers(0, 200)))) for _ in range(6)
    ]
    lower, upper = (np.array(side, float).reshape(2, 3) for side in zip(*ends, strict=True))
    options: dict[str, Any] = {"count": 5, "dtype": dtype}
    within = inside(lower, upper, random=np.random.default_rng(seed), **options)
    at = corners(lower, upper, random=np.random.default_rng(seed), **options)
    for drawn_ in (within, at):
        assert drawn_.dtype == dtype
        assert drawn_.shape == (5, 2, 3)
        assert np.all((drawn_ >= lower) & (drawn_ <= upper))
    assert np.all((at == lower) | (at == upper))
    np.testing.assert_array_equal(at[0], lower.astype(dtype))
    np.testing.assert_array_equal(at[1], upper.astype(dtype))
    again = inside(lower, upper, random=np.random.default_rng(seed), **options)
    np.testing.assert_array_equal(within, again)


def test_whole_numbers_of_a_box_without_any() -> None:
    drawn_ = inside(0.2, 0.8, count=3, dtype="int32", random=np.random.default_rng(0))
    np.testing.assert_array_equal(drawn_, [1, 1, 1])
