"""Calibration of a detector: how far the scores of its boxes are from their precision.

Mantowsky et al., figure 6: every box kept is one prediction, and it is right if it finds an object
of its class. The paper is silent on the matching; this is that of Pascal VOC (Everingham et al.,
2010), except that a box looks for the best object still free.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnprune.errors import ConfigError, DataError
from nnprune.metrics.calibration import Calibration, CalibrationTotals

__all__ = ["DetectedImage", "detection_calibration", "intersection_over_union", "match_detections"]

Boxes = NDArray[np.float64]
Mask = NDArray[np.bool_]

_CORNERS = 4
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class DetectedImage:
    """The boxes that a detector gives for an image, and those of the objects in it.

    Boxes are pairs of opposite corners, (x0, y0, x1, y1) or (y0, x0, y1, x1), all alike and in any
    unit; an image without boxes has arrays of length 0.

    Attributes
    ----------
    boxes : array of float, shape [detections, 4]
        Boxes given, after non-maximum suppression.
    classes : array of int, shape [detections]
        Their classes.
    scores : array of float, shape [detections]
        Their confidences, in [0, 1].
    true_boxes : array of float, shape [objects, 4]
        Boxes of the objects.
    true_classes : array of int, shape [objects]
        Their classes.
    """

    boxes: ArrayLike
    classes: ArrayLike
    scores: ArrayLike
    true_boxes: ArrayLike
    true_classes: ArrayLike


def intersection_over_union(boxes: ArrayLike, others: ArrayLike) -> NDArray[np.float64]:
    """Return how much boxes overlap: area of their intersection over area of their union.

    Parameters
    ----------
    boxes, others : array of float, shape [n, 4] and [m, 4]
        Opposite corners, the lower ones first.

    Returns
    -------
    array of float64, shape [n, m]
        In [0, 1]; 0 for two boxes without area.

    Raises
    ------
    DataError
        Boxes are not finite, have their upper corner first, or are of another shape.
    """
    one, other = _boxes("boxes", boxes)[:, None], _boxes("others", others)[None]
    lower = np.maximum(one[..., :2], other[..., :2])
    upper = np.minimum(one[..., 2:], other[..., 2:])
    shared = np.prod(np.maximum(upper - lower, 0.0), axis=-1)
    union = _areas(one) + _areas(other) - shared
    overlap = np.zeros(shared.shape)
    np.divide(shared, union, out=overlap, where=union > 0.0)
    return np.minimum(overlap, 1.0)


def match_detections(image: DetectedImage, *, iou_threshold: float = 0.5) -> Mask:
    """Return which boxes of an image find an object.

    By falling score (of equal scores the first), each box takes the object of its class with the
    greatest overlap that no box has taken before, if that overlap is large enough.

    Parameters
    ----------
    image : DetectedImage
        The boxes and the objects.
    iou_threshold : float, default 0.5
        Least intersection over union, in (0, 1].

    Returns
    -------
    array of bool, shape [detections]

    Raises
    ------
    DataError
        Arrays are of wrong shapes or types, boxes or scores are out of range.
    ConfigError
        `iou_threshold` is out of range.
    """
    least = _least_overlap(iou_threshold)
    found = _checked(image)
    overlaps = intersection_over_union(found.boxes, found.true_boxes)
    overlaps[found.classes[:, None] != found.true_classes] = 0.0
    correct = np.zeros(len(found.scores), np.bool_)
    if not overlaps.size:
        return correct
    # Of objects that overlap alike the one with the least corners: their order is no matter.
    overlaps = overlaps[:, np.lexsort(found.true_boxes.T[::-1])]
    for place in np.argsort(-found.scores, kind="stable"):
        best = int(np.argmax(overlaps[place]))
        if overlaps[place, best] >= least:
            correct[place] = True
            overlaps[:, best] = 0.0
    return correct


def detection_calibration(
    images: Iterable[DetectedImage],
    *,
    bins: int = 15,
    score_threshold: float = 0.3,
    iou_threshold: float = 0.5,
) -> Calibration:
    """Return the calibration over the boxes of many images, objects that none finds left out.

    Parameters
    ----------
    images : iterable of DetectedImage
        Read once, image by image.
    bins : int, default 15
        Number of bins of [0, 1], from 1 to 1000.
    score_threshold : float, default 0.3
        Boxes with a lower score are dropped before they are matched, in [0, 1].
    iou_threshold : float, default 0.5
        Least intersection over union of a box and its object, in (0, 1].

    Returns
    -------
    Calibration
        `accuracy` is the precision of the boxes kept. `reliability` leaves out the bins that end
        below the score threshold, so that it may have fewer than `bins`.

    Raises
    ------
    DataError
        An image is wrong; the message gives its number, from 0. Or no box is kept.
    ConfigError
        An option is out of range.
    """
    least = _fraction("score_threshold", score_threshold)
    _least_overlap(iou_threshold)
    totals = CalibrationTotals(bins)
    kept_any = False
    for number, image in enumerate(images):
        try:
            kept = _kept(_checked(image), least)
            correct = match_detections(kept, iou_threshold=iou_threshold)
        except DataError as error:
            raise DataError(f"image {number}: {error}") from None
        totals.add_confidences(kept.scores, correct)
        kept_any |= correct.size > 0
    if not kept_any:
        raise DataError(
            f"detections: none has a score of {least:g} or more, so there is no calibration error; "
            "lower score_threshold"
        )
    calibration = totals.result()
    above = tuple(entry for entry in calibration.reliability if entry.upper >= least)
    return replace(calibration, reliability=above)


@dataclass(frozen=True, kw_only=True)
class _Checked(DetectedImage):
    """An image whose arrays are known to fit."""

    boxes: Boxes
    classes: NDArray[np.int64]
    scores: NDArray[np.float64]
    true_boxes: Boxes
    true_classes: NDArray[np.int64]


def _checked(image: DetectedImage) -> _Checked:
    if isinstance(image, _Checked):
        return image
    boxes, true_boxes = _boxes("boxes", image.boxes), _boxes("true_boxes", image.true_boxes)
    scores = np.asarray(image.scores)
    if scores.shape != (len(boxes),) or (scores.size and scores.dtype.kind != "f"):
        raise DataError(
            f"scores: expected {len(boxes)} of them, one for each box; got {scores.dtype} of shape "
            f"{list(scores.shape)}"
        )
    if not np.all((scores >= 0.0) & (scores <= 1.0)):  # NaN is neither
        raise DataError("scores: must be from 0 to 1; give probabilities, not logits")
    return _Checked(
        boxes=boxes,
        classes=_classes("classes", image.classes, len(boxes)),
        scores=scores.astype(np.float64),
        true_boxes=true_boxes,
        true_classes=_classes("true_classes", image.true_classes, len(true_boxes)),
    )


def _kept(image: _Checked, least: float) -> _Checked:
    """Drop the boxes whose score is too low."""
    rows = image.scores >= least
    return replace(
        image, boxes=image.boxes[rows], classes=image.classes[rows], scores=image.scores[rows]
    )


def _boxes(name: str, values: ArrayLike) -> Boxes:
    given = np.asarray(values)
    if given.size == 0 and given.shape in ((0,), (0, _CORNERS)):
        return np.zeros((0, _CORNERS))
    if given.ndim != 2 or given.shape[1] != _CORNERS or given.dtype.kind not in "iuf":
        raise DataError(
            f"{name}: expected numbers of shape [n, 4], two corners of each box; got {given.dtype} "
            f"of shape {list(given.shape)}"
        )
    boxes = given.astype(np.float64)
    if not np.all(np.abs(boxes) <= _LARGEST):
        raise DataError(f"{name}: must be finite")
    if np.any(boxes[:, 2:] < boxes[:, :2]):
        raise DataError(
            f"{name}: a box ends before it begins; give opposite corners, (x0, y0, x1, y1), not a "
            "corner and a size"
        )
    return boxes


def _classes(name: str, values: ArrayLike, count: int) -> NDArray[np.int64]:
    given = np.asarray(values)
    if given.shape != (count,) or (given.size and given.dtype.kind not in "iu"):
        raise DataError(
            f"{name}: expected {count} class numbers, one integer for each box; got {given.dtype} "
            f"of shape {list(given.shape)}"
        )
    return given.astype(np.int64)


def _areas(boxes: Boxes) -> NDArray[np.float64]:
    return np.asarray(np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1))


def _least_overlap(iou_threshold: Any) -> float:
    least = _fraction("iou_threshold", iou_threshold)
    if least == 0.0:
        raise ConfigError("iou_threshold: must be above 0, or boxes far apart would match")
    return least


def _fraction(name: str, value: Any) -> float:
    number = isinstance(value, int | float | np.floating) and not isinstance(value, bool)
    if not number or not 0.0 <= value <= 1.0:
        raise ConfigError(f"{name}: expected a fraction from 0 to 1, got {value!r}")
    return float(value)
