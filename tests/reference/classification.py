"""Quality of a classifier, sample by sample, in 60-digit decimals straight from the definitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext

import numpy as np

from reference.activation import Array

_DIGITS = 60


def probabilities(logits: Sequence[float]) -> list[Decimal]:
    """Return one sample's softmax; for one logit its sigmoid, after the probability of class 0."""
    with localcontext(prec=_DIGITS):
        values = [Decimal(float(logit)) for logit in logits]
        if len(values) == 1:
            values = [Decimal(0), *values]
        powers = [value.exp() for value in values]
        total = sum(powers, Decimal(0))
        return [power / total for power in powers]


def order(logits: Sequence[float]) -> list[int]:
    """Return the classes from likeliest to least likely: of equal ones the first before."""
    if len(logits) == 1:
        return [1, 0] if logits[0] >= 0.0 else [0, 1]
    return sorted(range(len(logits)), key=lambda place: (-logits[place], place))


@dataclass
class Sums:
    """Over all samples."""

    correct: int = 0
    in_top5: int = 0
    agreeing: int = 0
    nll: Decimal = Decimal(0)
    brier: Decimal = Decimal(0)


def quality(logits: Array, labels: Sequence[int], original: Sequence[int]) -> Sums:
    """Return the sums of every measure."""
    sums = Sums()
    for row, label, other in zip(logits.tolist(), labels, original, strict=True):
        shares, places = probabilities(row), order(row)
        sums.correct += places[0] == label
        sums.in_top5 += label in places[:5]
        sums.agreeing += places[0] == other
        with localcontext(prec=_DIGITS):
            squares = [(share - (place == label)) ** 2 for place, share in enumerate(shares)]
            sums.nll -= shares[label].ln()
            sums.brier += sum(squares, Decimal(0)) if len(shares) > 2 else squares[1]
    return sums


def wilson(count: int, samples: int, quantile: float) -> tuple[float, float]:
    """Return the two rates p at which (count / samples - p)^2 = z^2 p (1 - p) / samples."""
    value, share = count / samples, quantile**2 / samples
    roots = np.roots([1.0 + share, -(2.0 * value + share), value**2])
    return float(np.min(roots.real)), float(np.max(roots.real))
