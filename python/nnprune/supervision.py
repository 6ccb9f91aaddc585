"""Watching a pruning with data: figures after every epoch, and floors that end it.

The data only report and stop; which units go is decided without them.
"""

from __future__ import annotations

import time
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nnprune import _core
from nnprune.attacks.options import FGSM, Attack
from nnprune.datasets.evaluation_data import EvaluationData
from nnprune.datasets.sources import open_data
from nnprune.errors import ConfigError, DataError, ModelError
from nnprune.evaluation.doubts import doubts_about_epsilons
from nnprune.evaluation.robustness import RobustCounts, labelled
from nnprune.evaluation.settings import check_attacks
from nnprune.evaluation.subject import (
    Subject,
    check_attackable,
    expectation_of,
    subject_of,
    task_of,
)
from nnprune.keras_io.opened import OpenedModel
from nnprune.metrics.classification import predictions, proportion
from nnprune.trace import Epoch, EpochEvaluation, RobustInstances

if TYPE_CHECKING:
    from nnprune.keras_io.input_box import InputBox

__all__ = ["Floors", "Supervision", "Supervisor"]

# Those of the main paper's figures.
_DEFAULT_ATTACKS = (FGSM((0.01, 0.05)),)
_CHANGED = (
    "evaluate: the samples and labels are not the same, or not in the same order, as in the first "
    "pass over them; switch shuffling (shuffle=False, or reshuffle_each_iteration=False) and "
    "random augmentation off"
)


@dataclass(frozen=True, kw_only=True)
class Floors:
    """What the model must keep; None where that does not matter.

    Attributes
    ----------
    accuracy, agreement : float or None
        Least accuracy, and least agreement with the original, in [0, 1].
    robust_accuracy : float or None
        Least fraction of robust instances, under every attack and epsilon that is run.
    """

    accuracy: float | None = None
    robust_accuracy: float | None = None
    agreement: float | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, floor in vars(self).items():
            if floor is None:
                continue
            number = isinstance(floor, int | float | np.floating) and not isinstance(floor, bool)
            if not number or not 0.0 <= floor <= 1.0:
                raise ConfigError(
                    f"stop_if_{name}_below: expected a fraction from 0 to 1, got {floor!r}"
                )

    def broken_by(self, evaluation: EpochEvaluation) -> str | None:
        """Name the floor that a model is below: "accuracy", "robust_accuracy" or "agreement"."""
        robust = min((one.instances.value for one in evaluation.robust), default=None)
        reached = {
            "accuracy": evaluation.accuracy.value,
            "robust_accuracy": robust,
            "agreement": evaluation.agreement.value,
        }
        for name, value in reached.items():
            floor = getattr(self, name)
            if floor is not None and value is not None and value < floor:
                return name
        return None


@dataclass(frozen=True, kw_only=True)
class Supervision:
    """What to watch a pruning with, as it was asked for.

    Attributes
    ----------
    data
        The labelled samples.
    attacks
        The attacks to run after every epoch.
    floors
        What ends the run.
    """

    data: EvaluationData
    attacks: tuple[Attack, ...]
    floors: Floors

    @classmethod
    def asked_for(
        cls, evaluate: Any, attacks: Sequence[Attack] | None, floors: Floors
    ) -> Supervision | None:
        """Check the options of `prune`; None if nothing is to be watched.

        Raises
        ------
        ConfigError
            There are attacks or floors without data, or a floor for robustness without attacks.
        DataError
            The data cannot be read.
        """
        check_attacks(attacks)
        if evaluate is None:
            asked = [
                f"stop_if_{name}_below" for name, floor in vars(floors).items() if floor is not None
            ]
            if attacks:
                asked.insert(0, "attacks")
            if asked:
                raise ConfigError(
                    f"{asked[0]}: needs data to measure on; give evaluate (--evaluate)"
                )
            return None
        chosen = _DEFAULT_ATTACKS if attacks is None else tuple(attacks)
        if floors.robust_accuracy is not None and not chosen:
            raise ConfigError("stop_if_robust_accuracy_below: needs an attack, got attacks=()")
        if hasattr(evaluate, "__next__"):
            raise DataError(
                "evaluate: an iterator can be read only once, and the samples are read after every "
                "epoch; give arrays, a tf.data.Dataset or another object that can be read again"
            )
        data = evaluate if isinstance(evaluate, EvaluationData) else open_data(evaluate)
        return cls(data=data, attacks=chosen, floors=floors)


class _Seen(NamedTuple):
    """A batch of the first pass: its checksum, and what the original predicts."""

    crc: int
    predictions: NDArray[np.int64]


class Supervisor:
    """Measures a model in the middle of its pruning.

    Parameters
    ----------
    supervision : Supervision
        What to measure.
    opened : OpenedModel
        The original.
    box : InputBox
        Its legitimate inputs.

    Raises
    ------
    ConfigError
        The original itself is below a floor.
    DataError
        The data do not fit the model.
    ModelError
        The model is no classifier, or cannot be attacked.
    """

    def __init__(self, supervision: Supervision, opened: OpenedModel, box: InputBox) -> None:
        from nnprune.keras_io.batches import batch_size_of
        from nnprune.keras_io.logits import logits_model
        from nnprune.keras_io.loss_task import loss_task
        from nnprune.keras_io.masked import MaskedModel

        logits = logits_model(opened.model)
        # Where the model does not tell, samples to watch it with say that it is a classifier.
        if task_of(opened, logits, loss_task(opened.model) or "classification") != "classification":
            raise ModelError(
                f"model '{opened.model.name}': only classifiers can be watched while they are "
                "pruned; leave evaluate out"
            )
        if supervision.attacks:
            check_attackable(opened)
        for doubt in doubts_about_epsilons(supervision.attacks, box):
            warnings.warn(doubt, UserWarning, stacklevel=3)
        self._supervision = supervision
        self._box = box
        self._masked = MaskedModel(opened.model, opened.graph)
        self._subject: Subject | None = None
        self._expectation = expectation_of(logits, "classification", box)
        self._batch_size = batch_size_of(logits.model)
        supervision.data.check(self._expectation)
        self.cpu_seconds = 0.0
        self._first_pass: list[_Seen] = []
        self.original = self.measure(opened.graph.network)
        broken = supervision.floors.broken_by(self.original)
        if broken is not None:
            raise ConfigError(
                f"stop_if_{broken}_below: the original itself is below it; choose a lower one"
            )

    def measure(self, network: _core.Network) -> EpochEvaluation:
        """Measure the model as `network` has it: of the original's shape, units masked."""
        started = time.process_time()
        subject = self._following(network)
        counts = {
            name: RobustCounts(attack, {"": subject}, None)
            for name, attack in labelled(self._supervision.attacks).items()
        }
        first_time = not self._first_pass
        samples = correct = agreeing = 0
        batches = self._supervision.data.batches(self._expectation, self._batch_size)
        for number, (x, labels) in enumerate(batches):
            y = labels.astype(np.int64, copy=False)
            predicted = predictions(subject.outputs(x))
            if first_time:
                self._first_pass.append(_Seen(_checksum(x, y), predicted))
            samples += len(y)
            correct += int(np.sum(predicted == y))
            agreeing += int(np.sum(predicted == self._original_predictions(number, x, y)))
            for count in counts.values():
                count.add(x, y, {"": predicted})
        if not first_time and samples != self.original.samples:  # whole batches are missing
            raise DataError(_CHANGED)
        robust = [
            RobustInstances(attack=name, epsilon=point.epsilon, instances=point.white_box)
            for name, count in counts.items()
            for point in count.outcome("", name).points
        ]
        self.cpu_seconds += time.process_time() - started
        return EpochEvaluation(
            samples=samples,
            accuracy=proportion(correct, samples),
            agreement=proportion(agreeing, samples),
            robust=tuple(robust),
        )

    def broken_floor(self, epoch: Epoch) -> str | None:
        """Name the floor that the model is below after an epoch, None if it is above all."""
        if epoch.evaluation is None:
            return None
        return self._supervision.floors.broken_by(epoch.evaluation)

    def _original_predictions(
        self, number: int, x: NDArray[np.float32], y: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return what the original predicts for a batch."""
        if number >= len(self._first_pass) or self._first_pass[number].crc != _checksum(x, y):
            raise DataError(_CHANGED)
        return self._first_pass[number].predictions

    def _following(self, network: _core.Network) -> Subject:
        logits = self._masked.follow(network)
        if self._subject is None or self._subject.logits is not logits:
            self._subject = subject_of(logits, self._box)
        return self._subject


def _checksum(x: NDArray[np.float32], y: NDArray[np.int64]) -> int:
    """Return a checksum of a batch's inputs and labels."""
    return zlib.crc32(np.ascontiguousarray(y).data, zlib.crc32(x.data))
