"""Calibration errors, sample by sample and bin by bin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Bin:
    """The samples with confidence in (lower, upper]; those with confidence 0 are in the first."""

    lower: float
    upper: float
    confidences: list[float] = field(default_factory=list)
    correct: list[bool] = field(default_factory=list)

    def accuracy(self) -> float:
        """Return the fraction of correct samples."""
        return sum(self.correct) / len(self.correct)

    def confidence(self) -> float:
        """Return the mean confidence."""
        return math.fsum(self.confidences) / len(self.confidences)

    def gap(self, *, center: bool) -> float:
        """Return how far accuracy is from confidence, the mean one or the middle of the bin."""
        against = (self.lower + self.upper) / 2 if center else self.confidence()
        return abs(self.accuracy() - against)


def fill(confidences: Sequence[float], correct: Sequence[bool], bins: int) -> list[Bin]:
    """Return the bins with their samples."""
    filled = [Bin(place / bins, (place + 1) / bins) for place in range(bins)]
    for confidence, right in zip(confidences, correct, strict=True):
        for entry in filled:
            if entry.lower < confidence <= entry.upper or confidence == entry.lower == 0.0:
                entry.confidences.append(confidence)
                entry.correct.append(right)
    return filled


def expected_error(filled: Sequence[Bin], *, center: bool) -> float:
    """Return ECE: the mean gap of a sample's bin."""
    samples = sum(len(entry.correct) for entry in filled)
    parts = [
        len(entry.correct) / samples * entry.gap(center=center) for entry in filled if entry.correct
    ]
    return math.fsum(parts)


def maximum_error(filled: Sequence[Bin], *, center: bool, least: int = 1) -> float:
    """Return MCE: the largest gap of a bin with `least` samples or more."""
    return max(entry.gap(center=center) for entry in filled if len(entry.correct) >= least)
