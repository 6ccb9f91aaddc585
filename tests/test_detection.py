"""Boxes matched with objects, and the calibration of their scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import seeds
from nnprune.errors import ConfigError, DataError
from nnprune.metrics.calibration import CalibrationTotals
from nnprune.metrics.detection import (
    DetectedImage,
    detection_calibration,
    intersection_over_union,
    match_detections,
)
from reference import calibration as calibration_twin
from reference import detection as twin

# Halves and thirds are reached exactly, and with a small grid so are ties.
THRESHOLDS = (Fraction(1, 4), Fraction(1, 2), Fraction(3, 4), Fraction(1))


@dataclass(frozen=True)
class Scene:
    """An image as lists, for the twin."""

    detections: list[twin.Detection]
    things: list[twin.Thing]

    def image(self) -> DetectedImage:
        """Return it as arrays."""
        return DetectedImage(
            boxes=np.array([[float(end) for end in one.box] for one in self.detections]),
            classes=np.array([one.label for one in self.detections], np.int64),
            scores=np.array([one.score for one in self.detections]),
            true_boxes=np.array([[float(end) for end in one.box] for one in self.things]),
            true_classes=np.array([one.label for one in self.things], np.int64),
        )

    def kept(self, least: float) -> Scene:
        """Return it without the detections of a low score."""
        return replace(self, detections=[one for one in self.detections if one.score >= least])


@st.composite
def boxes(draw: st.DrawFn) -> twin.Box:
    """Draw a box on a small grid; some have no area."""
    ends = [sorted((draw(st.integers(0, 6)), draw(st.integers(0, 6)))) for _ in range(2)]
    (left, right), (top, bottom) = ends
    return (Fraction(left), Fraction(top), Fraction(right), Fraction(bottom))


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Draw an image; many boxes are near an object, and no two scores are the same."""
    labels = st.integers(0, 2)
    things = [twin.Thing(draw(boxes()), draw(labels)) for _ in range(draw(st.integers(0, 5)))]
    grades: list[int] = draw(st.lists(st.integers(0, 100), max_size=6, unique=True))
    detections = []
    for grade in grades:
        box, label = draw(boxes()), draw(labels)
        near: bool = draw(st.booleans())
        if things and near:
            thing = draw(st.sampled_from(things))
            shift = draw(st.sampled_from([Fraction(0), Fraction(1, 2), Fraction(1)]))
            left, top, right, bottom = thing.box
            box, label = (left + shift, top, right + shift, bottom), thing.label
        detections.append(twin.Detection(box, label, grade / 100))
    return Scene(detections, things)


def numbers(box: Sequence[Fraction]) -> list[float]:
    return [float(end) for end in box]


@given(one=boxes(), other=boxes())
def test_overlap_is_that_of_the_twin(one: twin.Box, other: twin.Box) -> None:
    found = intersection_over_union([numbers(one)], [numbers(other)])
    assert found.shape == (1, 1)
    assert found[0, 0] == float(twin.overlap(one, other))
    assert found[0, 0] == intersection_over_union([numbers(other)], [numbers(one)])[0, 0]
    assert 0.0 <= found[0, 0] <= 1.0
    assert intersection_over_union([numbers(one)], [numbers(one)])[0, 0] == (twin.area(one) > 0)


@given(seed=seeds, scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e6, 1e30]))
def test_overlap_of_any_boxes(seed: int, scale: float) -> None:
    """In [0, 1], symmetric, and the same in any unit and with the axes exchanged."""
    random = np.random.default_rng(seed)
    lower = random.normal(size=(2, 5, 2)) * scale
    both = np.concatenate([lower, lower + random.exponential(size=(2, 5, 2)) * scale], axis=-1)
    found = intersection_over_union(both[0], both[1])
    assert found.min() >= 0.0
    assert found.max() <= 1.0
    np.testing.assert_array_equal(found, intersection_over_union(both[1], both[0]).T)
    turned = both[..., [1, 0, 3, 2]]
    np.testing.assert_allclose(found, intersection_over_union(turned[0], turned[1]), rtol=1e-12)
    np.testing.assert_allclose(
        found, intersection_over_union(both[0] * 7, both[1] * 7), rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(np.diag(intersection_over_union(both[0], both[0])), 1.0)


@given(scene=scenes(), least=st.sampled_from(THRESHOLDS))
def test_matches_are_those_of_the_twin(scene: Scene, least: Fraction) -> None:
    found = match_detections(scene.image(), iou_threshold=float(least))
    assert found.dtype == np.bool_
    assert found.tolist() == twin.match(scene.detections, scene.things, least)


@given(scene=scenes(), seed=seeds)
def test_orders_make_no_difference(scene: Scene, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = random.permutation(len(scene.detections))
    mixed = Scene(
        [scene.detections[row] for row in rows],
        [scene.things[row] for row in random.permutation(len(scene.things))],
    )
    found = match_detections(scene.image())
    np.testing.assert_array_equal(match_detections(mixed.image()), found[rows])


@given(scene=scenes())
def test_no_object_is_found_twice_and_none_of_another_class(scene: Scene) -> None:
    found = match_detections(scene.image())
    for label in range(3):
        right = sum(
            one.label == label for one, hit in zip(scene.detections, found, strict=True) if hit
        )
        assert right <= sum(thing.label == label for thing in scene.things)
    other = [replace(one, label=one.label + 3) for one in scene.detections]
    assert not match_detections(replace(scene, detections=other).image()).any()


def test_one_object_is_found_once_by_the_highest_score() -> None:
    image = DetectedImage(
        boxes=[[0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 4, 3]],
        classes=[1, 1, 1],
        scores=[0.6, 0.9, 0.7],
        true_boxes=[[0, 0, 4, 4]],
        true_classes=[1],
    )
    assert match_detections(image).tolist() == [False, True, False]
    # A second object of the class is free for the next.
    two = replace(image, true_boxes=[[0, 0, 4, 4], [0, 0, 4, 3]], true_classes=[1, 1])
    assert match_detections(two).tolist() == [False, True, True]


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
@pytest.mark.parametrize(
    ("boxes", "objects", "second"),
    [
        # The first box overlaps the objects by 1 and 0.6, the second by 0.4 and 2/3.
        ([[0, 0, 10, 1], [0, 0, 4, 1]], [[0, 0, 10, 1], [0, 0, 6, 1]], True),
        # The first overlaps both by 0.6, and takes the one with the lower corner.
        ([[2, 0, 10, 1], [0, 0, 8, 1]], [[0, 0, 8, 1], [4, 0, 12, 1]], False),
        ([[2, 0, 10, 1], [4, 0, 12, 1]], [[0, 0, 8, 1], [4, 0, 12, 1]], True),
    ],
)
def test_a_box_takes_the_object_that_it_overlaps_most(
    boxes: list[list[int]], objects: list[list[int]], second: bool, order: list[int]
) -> None:
    image = DetectedImage(
        boxes=boxes,
        classes=[0, 0],
        scores=[0.9, 0.8],
        true_boxes=[objects[place] for place in order],
        true_classes=[0, 0],
    )
    assert match_detections(image).tolist() == [True, second]


def test_of_equal_scores_the_first_wins() -> None:
    image = DetectedImage(
        boxes=[[0, 0, 4, 3], [0, 0, 4, 4]],
        classes=[0, 0],
        scores=[0.5, 0.5],
        true_boxes=[[0, 0, 4, 4]],
        true_classes=[0],
    )
    assert match_detections(image).tolist() == [True, False]


@pytest.mark.parametrize(("width", "hit"), [(4.0, True), (3.999, False)])
def test_the_least_overlap_is_enough(width: float, hit: bool) -> None:
    image = DetectedImage(
        boxes=[[0, 0, width, 1]],
        classes=[0],
        scores=[1.0],
        true_boxes=[[0, 0, 8, 1]],
        true_classes=[0],
    )
    assert match_detections(image).tolist() == [hit]


@given(
    drawn=st.lists(scenes(), min_size=1, max_size=5),
    bins=st.sampled_from([1, 4, 10, 15, 20]),
    least=st.sampled_from([0.0, 0.3, 0.5, 0.99]),
)
def test_calibration_is_that_of_the_twin(drawn: list[Scene], bins: int, least: float) -> None:
    scores: list[float] = []
    correct: list[bool] = []
    for scene in drawn:
        kept = scene.kept(least)
        scores += [one.score for one in kept.detections]
        correct += twin.match(kept.detections, kept.things, Fraction(1, 2))
    images = [scene.image() for scene in drawn]
    if not scores:
        with pytest.raises(DataError, match="lower score_threshold"):
            detection_calibration(images, bins=bins, score_threshold=least)
        return
    found = detection_calibration(images, bins=bins, score_threshold=least)
    filled = calibration_twin.fill(scores, correct, bins)
    for center, ece, mce in (
        (False, found.ece, found.mce),
        (True, found.ece_center, found.mce_center),
    ):
        assert ece == pytest.approx(calibration_twin.expected_error(filled, center=center))
        assert mce == pytest.approx(calibration_twin.maximum_error(filled, center=center))
    assert found.bins == bins
    assert found.accuracy == sum(correct) / len(correct)
    assert found.mean_confidence == pytest.approx(np.mean(scores))
    assert sum(entry.count for entry in found.reliability) == len(scores)
    # Only bins without a sample are left out, and they are the lowest.
    shown = filled[len(filled) - len(found.reliability) :]
    assert not any(entry.correct for entry in filled[: len(filled) - len(shown)])
    assert [(entry.lower, entry.upper) for entry in found.reliability] == [
        (entry.lower, entry.upper) for entry in shown
    ]
    assert found.reliability[0].lower < least <= found.reliability[0].upper or least == 0.0


@given(drawn=st.lists(scenes(), min_size=2, max_size=5), seed=seeds)
def test_the_order_of_the_images_makes_no_difference(drawn: list[Scene], seed: int) -> None:
    certain = Scene([twin.Detection((Fraction(0),) * 4, 0, 0.9)], [])
    images = [scene.image() for scene in [*drawn, certain]]
    mixed = [images[row] for row in np.random.default_rng(seed).permutation(len(images))]
    one, other = detection_calibration(iter(images)), detection_calibration(mixed)
    assert one.ece == pytest.approx(other.ece, abs=1e-12)
    assert [entry.count for entry in one.reliability] == [
        entry.count for entry in other.reliability
    ]


def test_bins_below_the_threshold_are_left_out() -> None:
    image = DetectedImage(
        boxes=[[0, 0, 1, 1]] * 4,
        classes=[0, 1, 2, 3],
        scores=[0.3, 0.95, 0.29, 0.31],
        true_boxes=[[0, 0, 1, 1]] * 2,
        true_classes=[0, 1],
    )
    found = detection_calibration([image], bins=10)
    # (0.2, 0.3] can hold a score of just 0.3.
    assert [round(entry.upper, 9) for entry in found.reliability] == [
        0.3,
        0.4,
        0.5,
        0.6,
        0.7,
        0.8,
        0.9,
        1.0,
    ]
    assert [entry.count for entry in found.reliability] == [1, 1, 0, 0, 0, 0, 0, 1]
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.ece == pytest.approx((0.7 + 0.31 + 0.05) / 3)
    assert found.mce == pytest.approx(0.7)
    plain = found.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert len(detection_calibration([image], bins=10, score_threshold=0.31).reliability) == 7


def test_a_dropped_box_leaves_its_object_free() -> None:
    image = DetectedImage(
        boxes=[[0, 0, 1, 1], [0, 0, 1, 1]],
        classes=[0, 0],
        scores=[0.2, 0.8],
        true_boxes=[[0, 0, 1, 1]],
        true_classes=[0],
    )
    assert detection_calibration([image]).accuracy == 1.0


def empty(**given: Any) -> DetectedImage:
    """Return an image without boxes or objects, but for what is given."""
    return DetectedImage(
        **{
            "boxes": np.zeros((0, 4)),
            "classes": [],
            "scores": [],
            "true_boxes": [],
            "true_classes": np.zeros(0, np.int32),
            **given,
        }
    )


def test_images_may_be_empty() -> None:
    objects = empty(true_boxes=[[0, 0, 1, 1]], true_classes=[0])
    alone = empty(boxes=[[0, 0, 1, 1]], classes=[0], scores=[0.5])
    assert match_detections(empty()).shape == (0,)
    assert match_detections(objects).shape == (0,)
    assert match_detections(alone).tolist() == [False]
    assert intersection_over_union([], [[0, 0, 1, 1]]).shape == (0, 1)
    found = detection_calibration([empty(), objects, alone])
    assert (found.accuracy, found.mean_confidence, found.sign) == (0.0, 0.5, "over-confident")
    for images in ([], [empty(), objects]):
        with pytest.raises(DataError, match=r"none has a score of 0\.3 or more"):
            detection_calibration(images)


BOX = [[0.0, 0.0, 1.0, 1.0]]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"boxes": BOX[0]}, r"boxes: expected numbers of shape \[n, 4\].*shape \[4\]"),
        ({"boxes": [[0, 0, 1]]}, r"boxes: expected numbers of shape \[n, 4\]"),
        ({"boxes": np.zeros((0, 5))}, r"boxes: expected numbers of shape \[n, 4\]"),
        ({"boxes": [["a"] * 4]}, "boxes: expected numbers"),
        ({"boxes": [[0, 0, np.nan, 1]]}, "boxes: must be finite"),
        ({"boxes": [[0, 0, np.inf, 1]]}, "boxes: must be finite"),
        ({"boxes": [[2, 0, 1, 1]]}, "boxes: a box ends before it begins"),
        ({"true_boxes": [[0, 2, 1, 1]]}, "true_boxes: a box ends before it begins"),
        ({"scores": [0.5, 0.5]}, r"scores: expected 1 of them.*shape \[2\]"),
        ({"scores": [[0.5]]}, r"scores: expected 1 of them.*shape \[1, 1\]"),
        ({"scores": [1.5]}, "scores: must be from 0 to 1"),
        ({"scores": [-0.1]}, "scores: must be from 0 to 1"),
        ({"scores": [np.nan]}, "scores: must be from 0 to 1"),
        ({"scores": ["a"]}, "scores: expected 1 of them"),
        ({"classes": [0, 1]}, "classes: expected 1 class numbers"),
        ({"classes": [0.0]}, "classes: expected 1 class numbers.*float64"),
        ({"true_classes": []}, "true_classes: expected 1 class numbers"),
    ],
)
def test_wrong_images_are_refused(given: dict[str, Any], words: str) -> None:
    right: dict[str, Any] = {
        "boxes": BOX,
        "classes": [0],
        "scores": [0.5],
        "true_boxes": BOX,
        "true_classes": [0],
    }
    image = DetectedImage(**{**right, **given})
    with pytest.raises(DataError, match=words):
        match_detections(image)
    with pytest.raises(DataError, match=f"image 1: {words}"):
        detection_calibration([DetectedImage(**right), image])


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan, True, "0.5", None])
def test_options_out_of_range_are_refused(value: Any) -> None:
    for option in ("score_threshold", "iou_threshold"):
        with pytest.raises(ConfigError, match=f"{option}: expected a fraction"):
            detection_calibration([], **{option: value})
    with pytest.raises(ConfigError, match="iou_threshold"):
        match_detections(empty(), iou_threshold=value)


def test_an_overlap_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="iou_threshold: must be above 0"):
        detection_calibration([], iou_threshold=0.0)
    with pytest.raises(ConfigError, match="calibration bins"):
        detection_calibration([], bins=0)


@pytest.mark.parametrize(
    ("confidences", "correct", "words"),
    [
        ([0.5], [True, False], "one confidence and one truth value"),
        ([[0.5]], [[True]], "one confidence and one truth value"),
        ([0.5], [1], "one confidence and one truth value"),
        ([1.5], [True], "from 0 to 1"),
        ([np.nan], [True], "from 0 to 1"),
    ],
)
def test_wrong_confidences_are_refused(confidences: Any, correct: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        CalibrationTotals().add_confidences(confidences, correct)
