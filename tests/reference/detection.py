"""Boxes of a detector against objects: exact fractions, box by box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

Box = tuple[Fraction, Fraction, Fraction, Fraction]


@dataclass(frozen=True)
class Detection:
    """A box that a detector gives."""

    box: Box
    label: int
    score: float


@dataclass(frozen=True)
class Thing:
    """An object in an image."""

    box: Box
    label: int


def area(box: Box) -> Fraction:
    """Return the area of a box, 0 if it ends before it begins."""
    return max(box[2] - box[0], Fraction(0)) * max(box[3] - box[1], Fraction(0))


def overlap(one: Box, other: Box) -> Fraction:
    """Return intersection over union."""
    shared = area(
        (
            max(one[0], other[0]),
            max(one[1], other[1]),
            min(one[2], other[2]),
            min(one[3], other[3]),
        )
    )
    union = area(one) + area(other) - shared
    return shared / union if union > 0 else Fraction(0)


def match(detections: Sequence[Detection], things: Sequence[Thing], least: Fraction) -> list[bool]:
    """Return which detections find an object that none of a higher score has found."""
    correct = [False] * len(detections)
    free = list(things)
    for place in sorted(range(len(detections)), key=lambda at: (-detections[at].score, at)):
        detection = detections[place]
        candidates = [
            thing
            for thing in free
            if thing.label == detection.label and overlap(detection.box, thing.box) >= least
        ]
        if candidates:
            best = min(
                candidates, key=lambda thing: (-overlap(detection.box, thing.box), thing.box)
            )
            free.remove(best)
            correct[place] = True
    return correct
