"""Errors of a regression model, and its change against the original."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import seeds
from nnprune.errors import ConfigError, DataError, ModelError
from nnprune.metrics.regression import RegressionQuality, RegressionTotals
from numpy.typing import NDArray
from sklearn.metrics import mean_absolute_error, mean_squared_error

Values = NDArray[np.float64]
Triple = tuple[Values, Values, Values]


@st.composite
def triples(draw: st.DrawFn) -> Triple:
    """Draw outputs, targets and the original's outputs."""
    random = np.random.default_rng(draw(seeds))
    shape = (draw(st.integers(1, 20)), *draw(st.sampled_from([(), (1,), (3,), (2, 1, 3)])))
    scale = draw(st.sampled_from([0.0, 1e-3, 1.0, 1e6]))
    outputs, targets, original = random.standard_normal((3, *shape)) * scale
    return outputs, targets, original


def measure(*parts: Triple) -> RegressionQuality:
    totals = RegressionTotals()
    for outputs, targets, original in parts:
        totals.add(outputs, targets, original)
    return totals.result()


def assert_alike(found: RegressionQuality, expected: RegressionQuality) -> None:
    assert found.to_dict() == pytest.approx(expected.to_dict(), rel=1e-12)


@given(drawn=triples())
def test_every_measure_is_its_definition(drawn: Triple) -> None:
    found = measure(drawn)
    outputs, targets, original = (values.ravel().tolist() for values in drawn)
    errors = [abs(output - target) for output, target in zip(outputs, targets, strict=True)]
    changes = [abs(output - before) for output, before in zip(outputs, original, strict=True)]
    assert found.mse == pytest.approx(math.fsum(e**2 for e in errors) / len(errors), rel=1e-12)
    assert found.mae == pytest.approx(math.fsum(errors) / len(errors), rel=1e-12)
    assert found.mean_change == pytest.approx(math.fsum(changes) / len(changes), rel=1e-12)
    assert found.largest_change == max(changes)


@given(drawn=triples())
def test_errors_equal_those_of_scikit_learn(drawn: Triple) -> None:
    found = measure(drawn)
    outputs, targets = (values.reshape(len(values), -1) for values in drawn[:2])
    assert found.mse == pytest.approx(mean_squared_error(targets, outputs), rel=1e-12)
    assert found.mae == pytest.approx(mean_absolute_error(targets, outputs), rel=1e-12)


@given(drawn=triples(), data=st.data())
def test_neither_the_batches_nor_the_order_matter(drawn: Triple, data: st.DataObject) -> None:
    samples = len(drawn[0])
    cuts = sorted(data.draw(st.lists(st.integers(0, samples), max_size=4)))
    order = np.array(data.draw(st.permutations(range(samples))))
    outputs, targets, original = (values[order] for values in drawn)
    parts = [
        (outputs[start:end], targets[start:end], original[start:end])
        for start, end in pairwise([0, *cuts, samples])
    ]
    assert_alike(measure(*parts), measure(drawn))


@given(drawn=triples())
def test_invariants(drawn: Triple) -> None:
    found = measure(drawn)
    assert found.mean_change is not None
    assert found.largest_change is not None
    assert found.mae**2 <= found.mse * (1 + 1e-12)  # Jensen's inequality
    assert 0.0 <= found.mean_change <= found.largest_change * (1 + 1e-12)
    same = measure((drawn[0], drawn[0], drawn[0]))
    assert set(same.to_dict().values()) == {0.0}


def test_a_target_without_the_last_axis_is_no_table_of_differences() -> None:
    outputs, targets = np.array([[1.0], [2.0], [4.0]]), np.array([1.0, 2.0, 3.0])
    for one, other in ((outputs, targets), (targets, outputs)):
        totals = RegressionTotals()
        totals.add(one, other)
        found = totals.result()
        assert found.mse == pytest.approx(1 / 3)
        assert found.mae == pytest.approx(1 / 3)
        assert found.mean_change is found.largest_change is None


def test_float16_outputs_are_summed_in_float64() -> None:
    outputs = np.full((50_000, 1), 60_000.0, dtype=np.float16)
    totals = RegressionTotals()
    totals.add(outputs, np.zeros((50_000, 1)), -outputs)
    found = totals.result()
    value = float(outputs[0, 0])
    assert (found.mae, found.largest_change) == (value, 2 * value)
    assert found.mse == pytest.approx(value**2, rel=1e-12)


def test_quality_as_json() -> None:
    totals = RegressionTotals()
    totals.add([[1.0]], [[2.0]])
    plain = totals.result().to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain == {"mse": 1.0, "mae": 1.0, "mean_change": None, "largest_change": None}


@pytest.mark.parametrize("shape", [(2, 2), (3, 2), (2, 3, 2), (6,)])
def test_targets_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"targets: expected shape \[2, 3\]"):
        RegressionTotals().add(np.zeros((2, 3)), np.zeros(shape))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_not_finite_values_are_refused(wrong: float) -> None:
    fine, values = np.zeros((3, 2)), np.zeros((3, 2))
    values[1, 0] = values[1, 1] = wrong
    with pytest.raises(DataError, match="targets: found NaN or infinite"):
        RegressionTotals().add(fine, values)
    with pytest.raises(ModelError, match="the model gives NaN or infinite outputs for 1 of 3"):
        RegressionTotals().add(values, fine)
    with pytest.raises(ModelError, match="the original model gives NaN or infinite outputs"):
        RegressionTotals().add(fine, fine, values)


def test_a_single_number_is_no_batch() -> None:
    with pytest.raises(ModelError, match="the model gives a single number"):
        RegressionTotals().add(1.0, 1.0)


def test_an_original_with_other_outputs_is_refused() -> None:
    with pytest.raises(ModelError, match="same outputs"):
        RegressionTotals().add(np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 4)))


@pytest.mark.parametrize("first", [None, np.zeros((2, 3))])
def test_the_originals_outputs_come_always_or_never(first: Any) -> None:
    totals = RegressionTotals()
    totals.add(np.zeros((2, 3)), np.zeros((2, 3)), first)
    second = np.zeros((2, 3)) if first is None else None
    with pytest.raises(ConfigError, match="with every batch or with none"):
        totals.add(np.zeros((2, 3)), np.zeros((2, 3)), second)


def test_no_samples_no_error() -> None:
    with pytest.raises(DataError, match="no samples"):
        RegressionTotals().result()
