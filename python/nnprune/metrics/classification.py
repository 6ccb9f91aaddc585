"""Quality of a classifier: accuracy, top-5 accuracy, agreement, NLL and Brier score.

Everything starts from logits. A model with one logit per sample is binary: the logit is that of
class 1, and class 0 has none. With two or more logits each class has its own.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnprune.errors import ConfigError, DataError, ModelError

__all__ = [
    "ClassificationTotals",
    "Proportion",
    "Quality",
    "check_labels",
    "check_logits",
    "predictions",
    "probabilities",
    "proportion",
]

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

_QUANTILE = 1.959963984540054  # of the normal distribution at 0.975: 95 % between both ends
_LARGEST_LOGIT = float(np.finfo(np.float32).max)
_TOP = 5


@dataclass(frozen=True, kw_only=True)
class Proportion:
    """How many of how many, with the 95 % Wilson interval (Wilson, 1927).

    Attributes
    ----------
    count, samples : int
        How many samples have the property, of how many.
    value : float
        `count / samples`.
    lower, upper : float
        Ends of the interval, in [0, 1].
    """

    count: int
    samples: int
    value: float
    lower: float
    upper: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON has them."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How well a classifier does on labelled samples.

    Attributes
    ----------
    accuracy : Proportion
        Samples whose predicted class is the label.
    top5 : Proportion or None
        Samples whose label is among the five largest logits; None with five classes or fewer.
    agreement : Proportion or None
        Samples predicted as by the original model; None without its predictions.
    nll : float
        Mean negative log-likelihood of the labels (cross entropy), in nats.
    brier : float
        Mean Brier score: squared difference of probability and outcome, of class 1 with two
        classes (from 0 to 1), summed over all classes with more (from 0 to 2).
    """

    accuracy: Proportion
    top5: Proportion | None
    agreement: Proportion | None
    nll: float
    brier: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON has them."""
        return asdict(self)


def proportion(count: int, samples: int) -> Proportion:
    """Return a proportion with its 95 % Wilson interval.

    Parameters
    ----------
    count, samples : int
        How many of how many.

    Raises
    ------
    DataError
        There are no samples, or the count is not between 0 and their number.
    """
    count, samples = int(count), int(samples)
    if samples < 1:
        raise DataError("a proportion needs at least one sample; give data that are not empty")
    if not 0 <= count <= samples:
        raise DataError(f"a proportion of {samples} samples cannot count {count} of them")
    value = count / samples
    square = _QUANTILE**2
    centre = (value + square / (2 * samples)) / (1 + square / samples)
    spread = math.sqrt(value * (1 - value) / samples + square / (4 * samples**2))
    half = _QUANTILE * spread / (1 + square / samples)
    # Rounding can take an end past the value when none or all of the samples count.
    lower, upper = min(max(centre - half, 0.0), value), max(min(centre + half, 1.0), value)
    return Proportion(count=count, samples=samples, value=value, lower=lower, upper=upper)


def check_logits(logits: ArrayLike) -> Array:
    """Return logits as float64 [samples, columns] if a metric can be made of them.

    Parameters
    ----------
    logits : array of float, shape [samples, classes] or [samples, 1]
        What the model gives, without a final softmax or sigmoid.

    Raises
    ------
    ModelError
        Their shape is another, or some are NaN, infinite or beyond the range of float32.
    """
    checked: Array = np.asarray(logits, dtype=np.float64)
    if checked.ndim != 2 or checked.shape[1] == 0:
        raise ModelError(
            "expected logits of shape [samples, classes], or [samples, 1] for a binary model; "
            f"the model gives {list(checked.shape)}"
        )
    wrong = int(np.sum(~np.all(np.abs(checked) <= _LARGEST_LOGIT, axis=1)))  # NaN is not <= either
    if wrong:
        raise ModelError(
            f"the model gives NaN or infinite logits for {wrong} of {len(checked)} samples; look "
            "for NaN in the data, for inputs far outside the range the model was trained on, and "
            "for overflow if it computes in float16"
        )
    return checked


def check_labels(labels: ArrayLike, logits: Array) -> Labels:
    """Return labels as int64 [samples] if they fit the logits.

    Parameters
    ----------
    labels : array of int, shape [samples]
        Class numbers from 0.
    logits : array of float64, shape [samples, classes] or [samples, 1]
        As `check_logits` returns them.

    Raises
    ------
    DataError
        They are no integers, of another shape, or not among the model's classes.
    """
    given = np.asarray(labels)
    if given.dtype.kind not in "iu" or given.shape != (len(logits),):
        raise DataError(
            f"labels: expected {len(logits)} class numbers, one integer for each sample; got "
            f"{given.dtype} of shape {list(given.shape)}"
        )
    classes = max(logits.shape[1], 2)
    if given.size and not (int(given.min()) >= 0 and int(given.max()) < classes):
        raise DataError(
            f"labels: expected class numbers from 0 to {classes - 1}, as the model has {classes} "
            f"classes; found {int(given.min())} to {int(given.max())}"
        )
    return np.asarray(given, dtype=np.int64)


def predictions(logits: ArrayLike) -> Labels:
    """Return the predicted classes: the largest logit, or for one logit class 1 from 0 on.

    Parameters
    ----------
    logits : array of float, shape [samples, classes] or [samples, 1]
        The first of several equal logits wins; a logit of 0, a probability of one half, is class 1.

    Returns
    -------
    array of int64, shape [samples]

    Raises
    ------
    ModelError
        See `check_logits`.
    """
    checked = check_logits(logits)
    if checked.shape[1] == 1:
        return np.asarray(checked[:, 0] >= 0.0, dtype=np.int64)
    return np.asarray(np.argmax(checked, axis=1), dtype=np.int64)


def probabilities(logits: ArrayLike) -> Array:
    """Return the probability of every class, by softmax or, for one logit, sigmoid.

    Parameters
    ----------
    logits : array of float, shape [samples, classes] or [samples, 1]
        What the model gives, without a final softmax or sigmoid.

    Returns
    -------
    array of float64, shape [samples, classes]
        Two columns, class 0 and class 1, for one logit.

    Raises
    ------
    ModelError
        See `check_logits`.
    """
    checked = check_logits(logits)
    if checked.shape[1] == 1:
        # The powers are of negative numbers only, so that none overflows.
        power = np.exp(-np.abs(checked[:, 0]))
        larger, smaller = 1.0 / (1.0 + power), power / (1.0 + power)
        positive = checked[:, 0] >= 0.0
        both = [np.where(positive, smaller, larger), np.where(positive, larger, smaller)]
        return np.stack(both, axis=1)
    powers = np.exp(checked - np.max(checked, axis=1, keepdims=True))
    return np.asarray(powers / np.sum(powers, axis=1, keepdims=True))


class ClassificationTotals:
    """Sums over batches, from which `result` makes a `Quality`; how they are split is no matter."""

    def __init__(self) -> None:
        self._samples = 0
        self._columns: int | None = None
        self._correct = 0
        self._in_top = 0
        self._agreeing: int | None = None
        self._nll = 0.0
        self._brier = 0.0

    def add(
        self,
        logits: ArrayLike,
        labels: ArrayLike,
        original_predictions: ArrayLike | None = None,
    ) -> None:
        """Take one batch in.

        Parameters
        ----------
        logits : array of float, shape [samples, classes] or [samples, 1]
            What the model gives, without a final softmax or sigmoid.
        labels : array of int, shape [samples]
            Class numbers from 0.
        original_predictions : array of int, shape [samples], optional
            Classes that the original model predicts: with every batch or with none.

        Raises
        ------
        ModelError
            Logits are not finite, or of a shape that no classifier gives.
        DataError
            Labels do not fit the logits.
        ConfigError
            Batches differ in their number of logits or in whether the original's classes are given.
        """
        outputs = check_logits(logits)
        truth = check_labels(labels, outputs)
        columns, with_original = outputs.shape[1], original_predictions is not None
        if self._columns is None:
            self._columns, self._agreeing = columns, 0 if with_original else None
        if columns != self._columns or with_original != (self._agreeing is not None):
            raise ConfigError(
                "batches: expected the same number of logits in every batch, and "
                "original_predictions with every batch or with none"
            )
        predicted = predictions(outputs)
        if original_predictions is not None and self._agreeing is not None:
            original = check_labels(original_predictions, outputs)
            self._agreeing += int(np.sum(predicted == original))
        self._samples += len(outputs)
        self._correct += int(np.sum(predicted == truth))
        if columns > _TOP:
            self._in_top += int(np.sum(_ranks(outputs, truth) < _TOP))
        self._nll += float(np.sum(_nll(outputs, truth)))
        self._brier += float(np.sum(_brier(outputs, truth)))

    def result(self) -> Quality:
        """Return the quality over all batches.

        Raises
        ------
        DataError
            There were no samples.
        """
        if self._columns is None or self._samples == 0:
            raise DataError("classification: no samples were given, so there is no quality")
        samples = self._samples
        return Quality(
            accuracy=proportion(self._correct, samples),
            top5=proportion(self._in_top, samples) if self._columns > _TOP else None,
            agreement=None if self._agreeing is None else proportion(self._agreeing, samples),
            nll=self._nll / samples,
            brier=self._brier / samples,
        )


def _of_label(values: Array, labels: Labels) -> Array:
    """Return each sample's value in the column of its label, [samples, 1]."""
    return np.asarray(np.take_along_axis(values, labels[:, None], axis=1))


def _ranks(logits: Array, labels: Labels) -> Labels:
    """Return how many classes come before the label; of equal logits the first class comes first.

    So a label is predicted exactly if its rank is 0.
    """
    own = _of_label(logits, labels)
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    before = (logits > own) | ((logits == own) & earlier)
    return np.asarray(np.sum(before, axis=1), dtype=np.int64)


def _nll(logits: Array, labels: Labels) -> Array:
    """Return each label's negative log-likelihood, from the logits: no probability underflows."""
    if logits.shape[1] == 1:
        # -ln sigmoid(z) = softplus(-z), in a form whose power cannot overflow.
        against = np.where(labels == 1, -logits[:, 0], logits[:, 0])
        return np.asarray(np.maximum(against, 0.0) + np.log1p(np.exp(-np.abs(against))))
    shifted = logits - np.max(logits, axis=1, keepdims=True)
    return np.asarray(np.log(np.sum(np.exp(shifted), axis=1)) - _of_label(shifted, labels)[:, 0])


def _brier(logits: Array, labels: Labels) -> Array:
    """Return each sample's Brier score (Brier, 1950; as is usual, halved for two classes)."""
    shares = probabilities(logits)
    outcomes = np.arange(shares.shape[1]) == labels[:, None]
    squares = np.asarray((shares - outcomes) ** 2)
    return squares[:, 1] if shares.shape[1] == 2 else np.asarray(np.sum(squares, axis=1))
