"""Accuracy, top-5 accuracy, agreement, negative log-likelihood and Brier score."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import seeds
from nnprune.errors import ConfigError, DataError, ModelError
from nnprune.metrics.classification import (
    ClassificationTotals,
    Quality,
    check_labels,
    check_logits,
    predictions,
    probabilities,
    proportion,
)
from numpy.typing import NDArray
from reference import classification as twin
from sklearn.metrics import brier_score_loss, log_loss

QUANTILE = 1.959963984540054


@dataclass
class Batch:
    """Logits, labels and what another model predicts."""

    logits: NDArray[np.float64]
    labels: NDArray[np.int64]
    original: NDArray[np.int64]

    def rows(self, chosen: NDArray[np.int64] | slice) -> Batch:
        return Batch(self.logits[chosen], self.labels[chosen], self.original[chosen])


@st.composite
def batches(draw: st.DrawFn, columns: Sequence[int] = (1, 2, 3, 5, 6, 9)) -> Batch:
    """Draw a classifier's logits: tiny ones, huge ones, and some of them equal."""
    random = np.random.default_rng(draw(seeds))
    samples, width = draw(st.integers(1, 30)), draw(st.sampled_from(list(columns)))
    logits = random.standard_normal((samples, width)) * draw(
        st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1e4])
    )
    logits = np.round(logits) if draw(st.booleans()) else logits
    labels, original = random.integers(0, max(width, 2), (2, samples))
    return Batch(logits, labels, original)


def measure(*parts: Batch, original: bool = True) -> Quality:
    totals = ClassificationTotals()
    for part in parts:
        totals.add(part.logits, part.labels, part.original if original else None)
    return totals.result()


def assert_alike(found: Quality, expected: Quality) -> None:
    assert (found.accuracy, found.top5) == (expected.accuracy, expected.top5)
    assert found.agreement == expected.agreement
    assert found.nll == pytest.approx(expected.nll, rel=1e-12, abs=1e-12)
    assert found.brier == pytest.approx(expected.brier, rel=1e-12, abs=1e-12)


@given(batch=batches())
def test_every_measure_equals_the_twin(batch: Batch) -> None:
    found, samples = measure(batch), len(batch.labels)
    expected = twin.quality(batch.logits, batch.labels.tolist(), batch.original.tolist())
    assert found.accuracy == proportion(expected.correct, samples)
    assert found.agreement == proportion(expected.agreeing, samples)
    top5 = proportion(expected.in_top5, samples) if batch.logits.shape[1] > 5 else None
    assert found.top5 == top5
    assert found.nll == pytest.approx(float(expected.nll) / samples, rel=1e-12, abs=1e-15)
    assert found.brier == pytest.approx(float(expected.brier) / samples, rel=1e-12, abs=1e-15)


@given(batch=batches())
def test_probabilities_equal_the_twin(batch: Batch) -> None:
    found = probabilities(batch.logits)
    expected = [[float(share) for share in twin.probabilities(row)] for row in batch.logits]
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-300)
    np.testing.assert_allclose(np.sum(found, axis=1), 1.0, rtol=1e-15 * found.shape[1] * 2)
    assert found.dtype == np.float64


@given(batch=batches(), data=st.data())
def test_the_split_into_batches_does_not_matter(batch: Batch, data: st.DataObject) -> None:
    samples = len(batch.labels)
    cuts = sorted(data.draw(st.lists(st.integers(0, samples), max_size=4)))
    parts = [batch.rows(slice(start, end)) for start, end in pairwise([0, *cuts, samples])]
    assert_alike(measure(*parts), measure(batch))


@given(batch=batches(), seed=seeds)
def test_the_order_of_samples_does_not_matter(batch: Batch, seed: int) -> None:
    shuffled = batch.rows(np.random.default_rng(seed).permutation(len(batch.labels)))
    assert_alike(measure(shuffled), measure(batch))


@given(batch=batches(columns=(1,)))
def test_one_logit_is_two_of_which_that_of_class_0_is_0(batch: Batch) -> None:
    # An exact zero is class 1 for one logit, and a tie, which class 0 wins, for two.
    batch.logits[batch.logits == 0.0] = 1e-9
    pair = np.concatenate([np.zeros_like(batch.logits), batch.logits], axis=1)
    assert_alike(measure(batch), measure(Batch(pair, batch.labels, batch.original)))


@given(batch=batches(columns=(2, 3, 9)), shift=st.floats(-100.0, 100.0))
def test_a_shift_of_all_logits_does_not_matter(batch: Batch, shift: float) -> None:
    batch.logits = np.round(batch.logits)  # so that the shift rounds no two to the same
    shift = round(shift)
    assert_alike(measure(Batch(batch.logits + shift, batch.labels, batch.original)), measure(batch))


@given(batch=batches())
def test_bounds_and_order_of_the_measures(batch: Batch) -> None:
    found = measure(batch)
    assert 0.0 <= found.brier <= (1.0 if batch.logits.shape[1] <= 2 else 2.0)
    assert found.nll >= 0.0
    assert found.top5 is None or found.top5.count >= found.accuracy.count
    assert found.accuracy.count == int(np.sum(predictions(batch.logits) == batch.labels))


@given(seed=seeds, classes=st.sampled_from([2, 3, 7]))
def test_loss_and_brier_score_equal_those_of_scikit_learn(seed: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    logits = random.standard_normal((40, classes)) * 3.0
    labels, every = random.integers(0, classes, 40), np.arange(classes)
    found, shares = measure(Batch(logits, labels, labels)), probabilities(logits)
    assert found.nll == pytest.approx(log_loss(labels, shares, labels=every), rel=1e-10)
    expected = brier_score_loss(labels, shares, labels=every)
    assert found.brier == pytest.approx(expected, rel=1e-10)


@given(seed=seeds)
def test_one_logit_scores_as_in_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    logits, labels = random.standard_normal((40, 1)) * 3.0, random.integers(0, 2, 40)
    found, share = measure(Batch(logits, labels, labels)), probabilities(logits)[:, 1]
    assert found.nll == pytest.approx(log_loss(labels, share, labels=[0, 1]), rel=1e-10)
    expected = brier_score_loss(labels, share, labels=[0, 1])
    assert found.brier == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_certainty_beyond_underflow_keeps_its_loss(classes: int) -> None:
    logits = np.zeros((2, classes))
    logits[:, -1] = 1e4  # the probability of any other class is below the smallest float64
    totals = ClassificationTotals()
    totals.add(logits, np.array([0, max(classes, 2) - 1]))
    assert totals.result().nll == 5e3
    assert totals.result().brier == (0.5 if classes <= 2 else 1.0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("columns", [1, 3])
def test_the_largest_logits_overflow_nowhere(dtype: type, columns: int) -> None:
    largest = min(float(np.finfo(dtype).max), float(np.finfo(np.float32).max))
    logits: NDArray[Any] = np.full((2, columns), -largest, dtype=dtype)
    logits[0] = largest
    found = measure(Batch(logits, np.array([1, 0]), np.array([1, 0])))
    assert np.isfinite([found.nll, found.brier]).all()


def test_ties_go_to_the_first_class_in_all_measures() -> None:
    totals = ClassificationTotals()
    totals.add(np.zeros((7, 7)), np.arange(7))
    found = totals.result()
    assert found.accuracy.count == 1
    assert found.top5 is not None
    assert found.top5.count == 5


def test_a_logit_of_zero_is_class_1() -> None:
    logits = [[0.0], [-0.0], [np.nextafter(0.0, -1.0)], [3.0]]
    assert predictions(logits).tolist() == [1, 1, 0, 1]


def test_top_5_needs_more_than_five_classes() -> None:
    for classes, there in ((5, False), (6, True)):
        totals = ClassificationTotals()
        totals.add(np.zeros((1, classes)), [0])
        assert (totals.result().top5 is not None) == there


def test_agreement_only_with_the_originals_classes() -> None:
    batch = Batch(np.eye(3), np.arange(3), np.array([0, 1, 1]))
    assert measure(batch, original=False).agreement is None
    agreement = measure(batch).agreement
    assert agreement is not None
    assert (agreement.count, agreement.samples) == (2, 3)


def test_quality_as_json() -> None:
    plain = measure(Batch(np.eye(3), np.arange(3), np.arange(3)), original=False).to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert list(plain) == ["accuracy", "top5", "agreement", "nll", "brier"]
    assert list(plain["accuracy"]) == ["count", "samples", "value", "lower", "upper"]
    assert plain["accuracy"]["count"] == 3
    assert plain["top5"] is None


@given(samples=st.integers(1, 10_000), data=st.data())
def test_wilson_interval_equals_the_twin(samples: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, samples))
    found = proportion(count, samples)
    lower, upper = twin.wilson(count, samples, QUANTILE)
    assert found.lower == pytest.approx(lower, abs=1e-9)
    assert found.upper == pytest.approx(upper, abs=1e-9)
    assert 0.0 <= found.lower <= found.value <= found.upper <= 1.0
    other = proportion(samples - count, samples)
    assert (found.lower, found.upper) == pytest.approx((1 - other.upper, 1 - other.lower))


@pytest.mark.parametrize(
    ("count", "samples", "lower", "upper"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_as_printed_by_newcombe_1998(
    count: int, samples: int, lower: float, upper: float
) -> None:
    found = proportion(count, samples)
    assert (round(found.lower, 4), round(found.upper, 4)) == (lower, upper)


@pytest.mark.parametrize(("count", "samples"), [(0, 0), (-1, 3), (4, 3), (0, -1)])
def test_no_proportion_of_impossible_counts(count: int, samples: int) -> None:
    with pytest.raises(ValueError, match="a proportion"):
        proportion(count, samples)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("use", [check_logits, predictions, probabilities])
def test_not_finite_logits_are_counted(wrong: float, use: object) -> None:
    logits = np.zeros((5, 3))
    logits[1] = logits[3, 2] = wrong
    with pytest.raises(ModelError, match=r"NaN or infinite logits for 2 of 5 samples; look for"):
        use(logits)  # type: ignore[operator]


@pytest.mark.parametrize("shape", [(), (4,), (4, 0), (4, 2, 2)])
def test_logits_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"expected logits of shape \[samples, classes\]"):
        check_logits(np.zeros(shape))


@pytest.mark.parametrize(
    ("labels", "columns", "message"),
    [
        ([0, 1], 3, "expected 3 class numbers"),
        ([[0], [1], [2]], 3, "expected 3 class numbers"),
        ([0.0, 1.0, 2.0], 3, "got float64"),
        ([True, False, True], 3, "got bool"),
        ([0, 1, 3], 3, "from 0 to 2.*found 0 to 3"),
        ([0, 1, -1], 3, "from 0 to 2.*found -1 to 1"),
        ([0, 1, 2], 1, "from 0 to 1.*found 0 to 2"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: object, columns: int, message: str) -> None:
    logits = check_logits(np.zeros((3, columns)))
    with pytest.raises(DataError, match=message):
        check_labels(labels, logits)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_labels_of_any_integer_type_will_do(dtype: type) -> None:
    found = check_labels(np.array([0, 2], dtype=dtype), np.zeros((2, 3)))
    assert found.dtype == np.int64
    assert found.tolist() == [0, 2]


def test_batches_that_differ_in_kind_are_refused() -> None:
    totals = ClassificationTotals()
    totals.add(np.zeros((2, 3)), [0, 1])
    with pytest.raises(ConfigError, match="same number of logits"):
        totals.add(np.zeros((2, 4)), [0, 1])
    with pytest.raises(ConfigError, match="with every batch or with none"):
        totals.add(np.zeros((2, 3)), [0, 1], [0, 1])
    assert totals.result().accuracy.samples == 2


def test_no_samples_no_quality() -> None:
    totals = ClassificationTotals()
    with pytest.raises(DataError, match="no samples"):
        totals.result()
    totals.add(np.zeros((0, 3)), np.zeros(0, dtype=np.int64))
    with pytest.raises(DataError, match="no samples"):
        totals.result()
