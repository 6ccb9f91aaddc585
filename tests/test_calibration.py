"""Expected and maximum calibration error, and the reliability diagram."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from networks import seeds
from nnprune.errors import ConfigError, DataError, ModelError
from nnprune.metrics.calibration import Calibration, CalibrationTotals, bin_of
from nnprune.metrics.classification import predictions, probabilities
from numpy.typing import NDArray
from reference import calibration as twin
from sklearn.calibration import calibration_curve

Binary = Literal["top_label", "positive"]
# Of torchmetrics: oracles/make_calibration.py.
FIXTURE = Path(__file__).with_name("oracles") / "calibration.json"
CASES = json.loads(FIXTURE.read_text())["cases"]


@dataclass
class Samples:
    """Logits, labels, a number of bins, and how one logit is taken."""

    logits: NDArray[np.float64]
    labels: NDArray[np.int64]
    bins: int
    binary: Binary

    def confidences(self) -> tuple[list[float], list[bool]]:
        """Return each sample's confidence and whether it is correct."""
        shares = probabilities(self.logits)
        if self.logits.shape[1] == 1 and self.binary == "positive":
            return shares[:, 1].tolist(), (self.labels == 1).tolist()
        right = predictions(self.logits) == self.labels
        return [max(row) for row in shares.tolist()], right.tolist()

    def measured(self, *order: NDArray[np.int64]) -> Calibration:
        """Return the calibration of the samples, in these batches."""
        totals = CalibrationTotals(bins=self.bins, binary=self.binary)
        for rows in order or (np.arange(len(self.labels)),):
            totals.add(self.logits[rows], self.labels[rows])
        return totals.result()


@st.composite
def samples(draw: st.DrawFn) -> Samples:
    """Draw samples of all grades of confidence; with labels that mostly follow, or do not."""
    random = np.random.default_rng(draw(seeds))
    count, columns = draw(st.integers(1, 40)), draw(st.sampled_from([1, 2, 3, 10]))
    logits = random.standard_normal((count, columns)) * draw(st.sampled_from([0.0, 0.5, 3.0, 1e3]))
    labels = random.integers(0, max(columns, 2), count)
    follows = random.random(count) < draw(st.sampled_from([0.0, 0.7, 1.0]))
    labels = np.where(follows, predictions(logits), labels)
    bins = draw(st.sampled_from([1, 2, 7, 10, 15, 20, 100]))
    return Samples(logits, labels, bins, draw(st.sampled_from(["top_label", "positive"])))


def assert_alike(found: Calibration, expected: Calibration) -> None:
    ours, theirs = found.to_dict(), expected.to_dict()
    # Rounding may swap which of several bins has the largest error.
    for plain in (ours, theirs):
        plain.pop("mce_count")
    for one, other in zip(ours.pop("reliability"), theirs.pop("reliability"), strict=True):
        assert [key for key in one if one[key] is None] == [
            key for key in other if other[key] is None
        ]
        for key in one:
            assert one[key] is None or one[key] == pytest.approx(other[key], rel=1e-12, abs=1e-12)
    assert ours.pop("sign") == theirs.pop("sign")
    assert ours == pytest.approx(theirs, rel=1e-12, abs=1e-12)


@given(drawn=samples())
def test_all_errors_equal_the_twin(drawn: Samples) -> None:
    found, filled = drawn.measured(), twin.fill(*drawn.confidences(), drawn.bins)
    for center, ece, mce in (
        (False, found.ece, found.mce),
        (True, found.ece_center, found.mce_center),
    ):
        assert ece == pytest.approx(twin.expected_error(filled, center=center), abs=1e-12)
        assert mce == pytest.approx(twin.maximum_error(filled, center=center), abs=1e-12)
    for one, other in zip(found.reliability, filled, strict=True):
        assert (one.lower, one.upper, one.count) == (other.lower, other.upper, len(other.correct))
        assert one.center == pytest.approx((one.lower + one.upper) / 2, abs=1e-15)
        if other.correct:
            assert one.accuracy == other.accuracy()
            assert one.confidence == pytest.approx(other.confidence(), abs=1e-12)
            assert one.gap == pytest.approx(other.accuracy() - other.confidence(), abs=1e-12)
        else:
            assert one.accuracy is one.confidence is one.gap is None


@given(drawn=samples())
def test_invariants(drawn: Samples) -> None:
    found = drawn.measured()
    distance = abs(found.accuracy - found.mean_confidence)
    assert distance - 1e-12 <= found.ece <= found.mce + 1e-12
    assert found.mce <= 1.0
    assert found.ece_center <= found.mce_center + 1e-12
    # A bin's mean confidence is less than half a width from its middle.
    assert abs(found.ece - found.ece_center) <= 0.5 / drawn.bins + 1e-12
    assert sum(entry.count for entry in found.reliability) == len(drawn.labels)
    assert found.bins == len(found.reliability) == drawn.bins
    full = [entry for entry in found.reliability if entry.gap is not None]
    assert (found.mce, found.mce_count) in [(abs(entry.gap or 0.0), entry.count) for entry in full]


@given(drawn=samples(), seed=seeds)
def test_neither_the_order_nor_the_batches_matter(drawn: Samples, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(drawn.labels))
    half = len(order) // 2
    assert_alike(drawn.measured(order), drawn.measured())
    assert_alike(drawn.measured(order[:half], order[half:]), drawn.measured())


@given(seed=seeds, classes=st.sampled_from([1, 2, 5]), bins=st.integers(1, 30))
def test_certain_and_right_is_no_error(seed: int, classes: int, bins: int) -> None:
    labels = np.random.default_rng(seed).integers(0, max(classes, 2), 20)
    logits = np.eye(classes)[labels] if classes > 1 else labels[:, None] - np.full(1, 0.5)
    found = Samples(2e3 * logits, labels, bins, "top_label").measured()
    assert (found.ece, found.mce, found.sign) == (0.0, 0.0, "even")
    assert (found.accuracy, found.mean_confidence, found.mce_count) == (1.0, 1.0, 20)


def test_certain_and_wrong_is_all_error() -> None:
    found = Samples(np.eye(3) * 1e3, np.array([1, 2, 0]), 15, "top_label").measured()
    assert (found.ece, found.mce, found.sign) == (1.0, 1.0, "over-confident")
    assert found.ece_center == pytest.approx(1.0 - 0.5 / 15)


@pytest.mark.parametrize("bins", [1, 2, 7, 10, 15, 20, 25, 49, 100, 1000])
def test_the_upper_end_belongs_to_a_bin_and_the_lower_does_not(bins: int) -> None:
    places = np.arange(1, bins + 1)
    assert bin_of(places / bins, bins).tolist() == (places - 1).tolist()
    above = np.nextafter(places[:-1] / bins, 2.0)
    assert bin_of(above, bins).tolist() == places[:-1].tolist()
    assert bin_of([0.0, np.nextafter(0.0, 1.0)], bins).tolist() == [0, 0]


@given(bins=st.integers(1, 1000), confidence=st.floats(0.0, 1.0))
def test_a_confidence_is_between_the_ends_of_its_bin(bins: int, confidence: float) -> None:
    place = int(bin_of([confidence], bins)[0])
    assert place / bins < confidence <= (place + 1) / bins or confidence == place == 0


@pytest.mark.parametrize("classes", [2, 5, 10])
def test_undecided_outputs_fill_the_bin_that_ends_at_their_confidence(classes: int) -> None:
    found = Samples(np.zeros((4, classes)), np.zeros(4, np.int64), classes, "top_label").measured()
    assert [entry.count for entry in found.reliability] == [4] + [0] * (classes - 1)
    assert found.reliability[1].accuracy is found.reliability[1].gap is None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_errors_equal_those_of_torchmetrics(case: dict[str, Any], dtype: type) -> None:
    logits = np.array(case["logits_in_64ths"], dtype=dtype) / dtype(64)
    assert logits.dtype == dtype
    for expected in case["errors"]:
        totals = CalibrationTotals(bins=expected["bins"], binary="positive")
        totals.add(logits, case["labels"])
        found = totals.result()
        assert found.ece == pytest.approx(expected["ece"], abs=1e-6)
        assert found.mce == pytest.approx(expected["mce"], abs=1e-6)


def test_the_fixture_has_all_that_torchmetrics_is_compared_in() -> None:
    assert {len(case["logits_in_64ths"][0]) for case in CASES} >= {1, 2, 10}
    for case in CASES:
        assert [entry["bins"] for entry in case["errors"]] == [10, 15, 20]


@given(seed=seeds, bins=st.sampled_from([5, 10, 15]))
def test_the_diagram_of_class_1_is_that_of_scikit_learn(seed: int, bins: int) -> None:
    random = np.random.default_rng(seed)
    logits, labels = random.standard_normal((60, 1)) * 2.0, random.integers(0, 2, 60)
    found = Samples(logits, labels, bins, "positive").measured()
    true, mean = calibration_curve(labels, probabilities(logits)[:, 1], n_bins=bins)
    full = [entry for entry in found.reliability if entry.count]
    assert [entry.accuracy for entry in full] == pytest.approx(true.tolist(), rel=1e-12)
    assert [entry.confidence for entry in full] == pytest.approx(mean.tolist(), rel=1e-12)
    assert found.accuracy == np.mean(labels)


@given(drawn=samples())
def test_binary_modes_differ_for_one_logit_only(drawn: Samples) -> None:
    other: Binary = "positive" if drawn.binary == "top_label" else "top_label"
    changed = Samples(drawn.logits, drawn.labels, drawn.bins, other)
    if drawn.logits.shape[1] > 1:
        assert changed.measured() == drawn.measured()
    else:
        assume(np.any(drawn.logits < 0.0))
        low = min(changed.measured().mean_confidence, drawn.measured().mean_confidence)
        positive = changed if other == "positive" else drawn
        assert positive.measured().mean_confidence == low


@pytest.mark.parametrize(
    ("labels", "sign"),
    [([0, 0, 0, 0], "under-confident"), ([0, 0, 0, 1], "even"), ([0, 0, 1, 1], "over-confident")],
)
def test_sign_of_the_difference(labels: list[int], sign: str) -> None:
    logits = np.tile([np.log(3.0), 0.0], (4, 1))  # three in four
    found = Samples(logits, np.array(labels), 10, "top_label").measured()
    assert found.sign == sign
    assert found.mean_confidence == pytest.approx(0.75)


def test_the_maximum_can_be_kept_to_bins_of_enough_samples() -> None:
    # Nine right of ten at confidence one half, and one wrong at certainty.
    logits = np.array([[0.0, 0.0]] * 10 + [[1e3, 0.0]])
    labels = np.array([0] * 9 + [1, 1])
    totals = CalibrationTotals(bins=10)
    totals.add(logits, labels)
    every, most = totals.result(), totals.result(mce_min_count=2)
    assert (every.mce, every.mce_count) == (1.0, 1)
    assert (round(most.mce, 12), most.mce_count) == (0.4, 10)
    assert every.mce_center == pytest.approx(0.95)
    assert most.mce_center == pytest.approx(0.9 - 0.45)
    assert most.ece == every.ece
    with pytest.raises(ConfigError, match="mce_min_count: no bin has 11 samples, the fullest"):
        totals.result(mce_min_count=11)


def test_calibration_as_json() -> None:
    plain = Samples(np.eye(3), np.arange(3), 2, "top_label").measured().to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert list(plain) == [
        "bins",
        "ece",
        "mce",
        "mce_count",
        "ece_center",
        "mce_center",
        "accuracy",
        "mean_confidence",
        "sign",
        "reliability",
    ]
    assert list(plain["reliability"][0]) == [
        "lower",
        "upper",
        "center",
        "count",
        "accuracy",
        "confidence",
        "gap",
    ]


@pytest.mark.parametrize("bins", [0, -1, 1001, 15.0, True, "15", None])
def test_bins_out_of_range_are_refused(bins: Any) -> None:
    with pytest.raises(ConfigError, match="calibration bins: expected an integer from 1 to 1000"):
        CalibrationTotals(bins=bins)


@pytest.mark.parametrize("least", [0, 1.5, False])
def test_a_least_count_out_of_range_is_refused(least: Any) -> None:
    totals = CalibrationTotals()
    totals.add(np.eye(3), np.arange(3))
    with pytest.raises(ConfigError, match="mce_min_count: expected an integer of 1 or more"):
        totals.result(mce_min_count=least)


def test_another_binary_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match="binary: expected 'top_label' or 'positive', got 'both'"):
        CalibrationTotals(binary="both")  # type: ignore[arg-type]


def test_wrong_samples_are_refused_and_leave_no_trace() -> None:
    totals = CalibrationTotals()
    with pytest.raises(ModelError, match="NaN or infinite logits for 1 of 2"):
        totals.add([[0.0, np.nan], [0.0, 1.0]], [0, 1])
    with pytest.raises(DataError, match="labels"):
        totals.add(np.zeros((2, 2)), [0, 2])
    with pytest.raises(DataError, match="no samples"):
        totals.result()
