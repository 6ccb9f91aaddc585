"""Calibration of a classifier: how far its confidence is from its accuracy.

Expected and maximum calibration error over bins of equal width (Guo et al., 2017, arXiv
1706.04599; Mantowsky et al., eq. 5 and 6) and the numbers of a reliability diagram.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnprune.errors import ConfigError, DataError
from nnprune.metrics.classification import check_labels, check_logits, predictions, probabilities

__all__ = ["Calibration", "CalibrationTotals", "ReliabilityBin", "bin_of"]

_MOST_BINS = 1000
_EVEN = 1e-12  # closer than this, confidence and accuracy differ by rounding only


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """The samples whose confidence is in (lower, upper]; the first bin has 0 too.

    Attributes
    ----------
    lower, upper, center : float
        Ends and middle of the bin.
    count : int
        Samples in it.
    accuracy, confidence : float or None
        Fraction predicted correctly, and mean confidence; None if the bin is empty.
    gap : float or None
        `accuracy - confidence`.
    """

    lower: float
    upper: float
    center: float
    count: int
    accuracy: float | None
    confidence: float | None
    gap: float | None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How well confidence tells accuracy; all values are fractions.

    Attributes
    ----------
    bins : int
        Number of bins, on which the errors depend.
    ece : float
        Expected calibration error: mean over samples of their bin's |accuracy - mean confidence|.
    mce : float
        Maximum calibration error: the largest |accuracy - mean confidence| of a bin.
    mce_count : int
        Samples in the bin that `mce` is of, the first of them if there are several.
    ece_center, mce_center : float
        The same errors with the middle of a bin in place of its mean confidence.
    accuracy, mean_confidence : float
        Over all samples.
    sign : {"over-confident", "under-confident", "even"}
        Whether mean confidence is above, below or at accuracy (within 1e-12).
    reliability : tuple of ReliabilityBin
        All bins, empty ones too, by rising confidence; of detections only those that the score
        threshold leaves open.
    """

    bins: int
    ece: float
    mce: float
    mce_count: int
    ece_center: float
    mce_center: float
    accuracy: float
    mean_confidence: float
    sign: Literal["over-confident", "under-confident", "even"]
    reliability: tuple[ReliabilityBin, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON has them."""
        plain = asdict(self)
        return {**plain, "reliability": list(plain["reliability"])}


def bin_of(confidences: ArrayLike, bins: int) -> NDArray[np.int64]:
    """Return in which of `bins` bins of equal width each confidence is.

    Bin m, from 0, is (m / bins, (m + 1) / bins], and bin 0 has confidence 0 too. Confidences are
    compared with these ends: ceil(confidence * bins) - 1 rounds some ends into the next bin, as
    7 / 25 of 25 bins.

    Parameters
    ----------
    confidences : array of float64, shape [samples]
        In [0, 1].
    bins : int
        Their number.

    Returns
    -------
    array of int64, shape [samples]
    """
    ends = np.arange(1, bins + 1) / bins
    found = np.searchsorted(ends, np.asarray(confidences, dtype=np.float64), side="left")
    return found.astype(np.int64)


class CalibrationTotals:
    """Sums per bin over batches, from which `result` makes a `Calibration`.

    Parameters
    ----------
    bins : int, default 15
        Number of bins, from 1 to 1000.
    binary : {"top_label", "positive"}, default "top_label"
        What is compared for a model with one logit: the probability of the predicted class with
        whether it is right, or the probability of class 1 with whether the label is 1 ("accuracy"
        is then the fraction of ones). Models with a logit per class always take "top_label".

    Raises
    ------
    ConfigError
        A parameter is out of range.
    """

    def __init__(
        self, bins: int = 15, binary: Literal["top_label", "positive"] = "top_label"
    ) -> None:
        self._bins = _integer("calibration bins", bins, _MOST_BINS)
        if binary not in ("top_label", "positive"):
            raise ConfigError(f"binary: expected 'top_label' or 'positive', got {binary!r}")
        self._positive = binary == "positive"
        self._counts = np.zeros(self._bins, dtype=np.int64)
        self._correct = np.zeros(self._bins, dtype=np.int64)
        self._confidence = np.zeros(self._bins)

    def add(self, logits: ArrayLike, labels: ArrayLike) -> None:
        """Take one batch in.

        Parameters
        ----------
        logits : array of float, shape [samples, classes] or [samples, 1]
            What the model gives, without a final softmax or sigmoid.
        labels : array of int, shape [samples]
            Class numbers from 0.

        Raises
        ------
        ModelError
            Logits are not finite, or of a shape that no classifier gives.
        DataError
            Labels do not fit the logits.
        """
        outputs = check_logits(logits)
        truth = check_labels(labels, outputs)
        shares = probabilities(outputs)
        if self._positive and outputs.shape[1] == 1:
            confidences, correct = shares[:, 1], truth == 1
        else:
            confidences, correct = np.max(shares, axis=1), predictions(outputs) == truth
        self.add_confidences(confidences, correct)

    def add_confidences(self, confidences: ArrayLike, correct: ArrayLike) -> None:
        """Take in samples, or detections, whose confidence is known.

        Parameters
        ----------
        confidences : array of float, shape [samples]
            In [0, 1].
        correct : array of bool, shape [samples]
            Which are right.

        Raises
        ------
        DataError
            Confidences are out of range, or the two are not of the same length.
        """
        shares, right = np.asarray(confidences, dtype=np.float64), np.asarray(correct)
        if shares.ndim != 1 or right.shape != shares.shape or right.dtype != np.bool_:
            raise DataError(
                "calibration: expected one confidence and one truth value for each sample; got "
                f"{shares.dtype} of shape {list(shares.shape)} and {right.dtype} of shape "
                f"{list(right.shape)}"
            )
        if not np.all((shares >= 0.0) & (shares <= 1.0)):  # NaN is neither
            raise DataError("calibration: confidences must be from 0 to 1")
        places = bin_of(shares, self._bins)
        self._counts += np.bincount(places, minlength=self._bins)
        self._correct += np.bincount(places[right], minlength=self._bins)
        self._confidence += np.bincount(places, weights=shares, minlength=self._bins)

    def result(self, mce_min_count: int = 1) -> Calibration:
        """Return the calibration over all batches.

        Parameters
        ----------
        mce_min_count : int, default 1
            Samples that a bin must have to count for the maximum errors: a bin of one sample is
            mostly noise.

        Raises
        ------
        DataError
            There were no samples.
        ConfigError
            `mce_min_count` is below 1, or no bin has so many samples.
        """
        samples = int(np.sum(self._counts))
        if samples == 0:
            raise DataError("calibration: no samples were given, so there is no calibration error")
        fullest = int(np.max(self._counts))
        least = _integer("mce_min_count", mce_min_count, None)
        if least > fullest:
            raise ConfigError(
                f"mce_min_count: no bin has {least} samples, the fullest has {fullest}; give fewer"
            )
        reliability = tuple(self._bin(place) for place in range(self._bins))
        by_mean = [None if entry.gap is None else abs(entry.gap) for entry in reliability]
        by_center = [
            None if entry.accuracy is None else abs(entry.accuracy - entry.center)
            for entry in reliability
        ]
        mce, place = _largest(by_mean, self._counts, least)
        accuracy = int(np.sum(self._correct)) / samples
        confidence = float(np.sum(self._confidence)) / samples
        return Calibration(
            bins=self._bins,
            ece=_expected(by_mean, self._counts),
            mce=mce,
            mce_count=int(self._counts[place]),
            ece_center=_expected(by_center, self._counts),
            mce_center=_largest(by_center, self._counts, least)[0],
            accuracy=accuracy,
            mean_confidence=confidence,
            sign=_sign(confidence - accuracy),
            reliability=reliability,
        )

    def _bin(self, place: int) -> ReliabilityBin:
        lower, upper = place / self._bins, (place + 1) / self._bins
        count = int(self._counts[place])
        accuracy = int(self._correct[place]) / count if count else None
        confidence = float(self._confidence[place]) / count if count else None
        return ReliabilityBin(
            lower=lower,
            upper=upper,
            center=(lower + upper) / 2,
            count=count,
            accuracy=accuracy,
            confidence=confidence,
            gap=None if accuracy is None or confidence is None else accuracy - confidence,
        )


def _expected(errors: list[float | None], counts: NDArray[np.int64]) -> float:
    """Return the mean error of a sample's bin (Mantowsky et al., eq. 5)."""
    total = sum(
        int(count) * error for error, count in zip(errors, counts, strict=True) if error is not None
    )
    return float(total / int(np.sum(counts)))


def _largest(
    errors: list[float | None], counts: NDArray[np.int64], least: int
) -> tuple[float, int]:
    """Return the largest error of bins with `least` samples or more (eq. 6), and which has it."""
    considered = [
        (error, -place)
        for place, (error, count) in enumerate(zip(errors, counts, strict=True))
        if error is not None and count >= least
    ]
    error, place = max(considered)
    return error, -place


def _sign(excess: float) -> Literal["over-confident", "under-confident", "even"]:
    if abs(excess) < _EVEN:
        return "even"
    return "over-confident" if excess > 0.0 else "under-confident"


def _integer(name: str, value: Any, most: int | None) -> int:
    """Return an integer of 1 or more, and of at most `most`."""
    limit = "of 1 or more" if most is None else f"from 1 to {most}"
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ConfigError(f"{name}: expected an integer {limit}, got {value!r}")
    number = int(value)
    if number < 1 or (most is not None and number > most):
        raise ConfigError(f"{name}: expected an integer {limit}, got {value!r}")
    return number
