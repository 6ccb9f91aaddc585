"""One pass over the data: every model measured batch by batch, in memory that does not grow."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnprune.attacks.options import Attack
from nnprune.datasets.expectation import Batch
from nnprune.errors import ModelError
from nnprune.evaluation.certified import CertifiedCounts
from nnprune.evaluation.robustness import RobustCounts, flagged, labelled
from nnprune.evaluation.subject import Subject
from nnprune.metrics.calibration import Calibration, CalibrationTotals
from nnprune.metrics.classification import (
    ClassificationTotals,
    Quality,
    check_logits,
    predictions,
)
from nnprune.metrics.regression import RegressionQuality, RegressionTotals
from nnprune.metrics.robustness import AttackOutcome

__all__ = ["Classified", "classify", "regress"]


@dataclass(frozen=True, kw_only=True)
class Classified:
    """What was measured of a classifier."""

    quality: Quality
    calibration: Calibration
    robustness: tuple[AttackOutcome, ...]


def classify(
    subjects: Mapping[str, Subject],
    batches: Iterable[Batch],
    *,
    original: str | None,
    attacks: Sequence[Attack],
    bins: int,
    certified: CertifiedCounts | None = None,
    tell: Callable[[int], None],
) -> dict[str, Classified]:
    """Measure classifiers on labelled samples.

    Parameters
    ----------
    subjects : mapping of str to Subject
        The models by their labels, the original first.
    batches : iterable of Batch
        Inputs and labels.
    original : str or None
        Label of the original among them.
    attacks : sequence of Attack
        The attacks to run on each.
    bins : int
        Bins of the reliability diagram.
    certified : CertifiedCounts or None
        Counts instances proved robust, if that is asked for.
    tell : callable
        Told the number of samples done, after every batch.

    Raises
    ------
    ModelError
        A model gives NaN or infinite logits; the message names it.
    """
    quality = {label: ClassificationTotals() for label in subjects}
    calibration = {label: CalibrationTotals(bins) for label in subjects}
    named = labelled(attacks)
    counts = {name: RobustCounts(attack, subjects, original) for name, attack in named.items()}
    frequencies: dict[int, int] = {}
    for x, labels in batches:
        y = labels.astype(np.int64, copy=False)
        clean: dict[str, NDArray[np.int64]] = {}
        for label, subject in subjects.items():
            with _naming(label):
                logits = check_logits(subject.outputs(x))
            clean[label] = predictions(logits)
            first = clean[original] if original is not None and label != original else None
            quality[label].add(logits, y, first)
            calibration[label].add(logits, y)
        for count in counts.values():
            count.add(x, y, clean)
        if certified is not None:
            certified.add(x, y, clean)
        for label_number, times in zip(*np.unique(y, return_counts=True), strict=True):
            frequencies[int(label_number)] = frequencies.get(int(label_number), 0) + int(times)
        tell(len(y))
    chance = max(frequencies.values(), default=0) / max(sum(frequencies.values()), 1)
    found = {}
    for label in subjects:
        measured = quality[label].result()
        outcomes = [count.outcome(label, name) for name, count in counts.items()]
        if certified is not None:
            outcomes = [
                certified.joined(label, attack, outcome)
                for attack, outcome in zip(named.values(), outcomes, strict=True)
            ]
        found[label] = Classified(
            quality=measured,
            calibration=calibration[label].result(),
            robustness=flagged(outcomes, measured.accuracy, chance),
        )
    return found


def regress(
    subjects: Mapping[str, Subject],
    batches: Iterable[Batch],
    *,
    original: str | None,
    tell: Callable[[int], None],
) -> dict[str, RegressionQuality]:
    """Measure models that predict numbers; parameters as for `classify`.

    Raises
    ------
    ModelError
        A model gives NaN or infinite values.
    """
    totals = {label: RegressionTotals() for label in subjects}
    for x, y in batches:
        outputs = {label: subject.outputs(x) for label, subject in subjects.items()}
        for label, values in outputs.items():
            first = outputs[original] if original is not None and label != original else None
            with _naming(label):
                totals[label].add(values, y, first)
        tell(len(y))
    return {label: total.result() for label, total in totals.items()}


@contextlib.contextmanager
def _naming(label: str) -> Iterator[None]:
    """Say in errors which model they are about."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{label}: {error}") from None
