"""What a process opens once for all cells of a sweep: the original and the samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnprune.attacks.options import FGSM, PGD, Attack
from nnprune.datasets.evaluation_data import EvaluationData
from nnprune.errors import ModelError
from nnprune.evaluation.robustness import RobustCounts, labelled
from nnprune.evaluation.subject import (
    Subject,
    check_attackable,
    expectation_of,
    subject_of,
    task_of,
)
from nnprune.keras_io.opened import OpenedModel, input_box_of, open_model
from nnprune.metrics.classification import check_logits, predictions, proportion
from nnprune.trace import EpochEvaluation, RobustInstances

if TYPE_CHECKING:
    import keras

__all__ = ["Workbench", "open_workbench"]


class Workbench:
    """The original, open, with the samples to measure smaller ones on.

    Parameters
    ----------
    opened : OpenedModel
        The original.
    data : EvaluationData or None
        Labelled samples; None to measure nothing on data.
    attacks : sequence of Attack
        The attacks to run on every model.
    input_bounds
        As for `prune`.

    Attributes
    ----------
    opened
        The original.
    box
        Its legitimate inputs.
    data
        The samples; None without.

    Raises
    ------
    ConfigError
        The bounds are wrong.
    DataError
        The samples do not fit the model.
    ModelError
        There are samples, but the model is no classifier, or cannot be attacked.
    """

    def __init__(
        self,
        opened: OpenedModel,
        *,
        data: EvaluationData | None,
        attacks: Sequence[Attack],
        input_bounds: Any,
    ) -> None:
        self.opened = opened
        self.box = input_box_of(opened, input_bounds)
        self.data = data
        self._attacks = labelled(attacks)
        self._original: list[NDArray[np.int64]] | None = None
        if data is None:
            return
        from nnprune.keras_io.batches import batch_size_of
        from nnprune.keras_io.logits import logits_model

        self._logits = logits_model(opened.model)
        if task_of(opened, self._logits, None) != "classification":
            raise ModelError(
                f"model '{opened.model.name}': only classifiers can be measured in a sweep; leave "
                "evaluate out"
            )
        if attacks:
            check_attackable(opened)
        for attack in attacks:
            if not isinstance(attack, FGSM | PGD):
                from nnprune.attacks.toolbox import check_toolbox

                check_toolbox(attack, max(self._logits.outputs, 2))
        self._batch_size = batch_size_of(self._logits.model)
        self._expectation = expectation_of(self._logits, "classification", self.box)
        data.check(self._expectation)

    @property
    def attacks(self) -> dict[str, Attack]:
        """The attacks by their labels."""
        return dict(self._attacks)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the original, in the layers that the engine knows."""
        return sum(node.macs for node in self.opened.graph.network.nodes)

    def measure(self, model: keras.Model, *, original: bool) -> EpochEvaluation | None:
        """Measure a model on all samples; None if there are none.

        Parameters
        ----------
        model : keras.Model
            The original, or a smaller one.
        original : bool
            Whether it is the original.

        Raises
        ------
        ModelError
            It gives NaN or infinite logits.
        """
        if self.data is None:
            return None
        from nnprune.keras_io.logits import logits_model

        logits = self._logits if original else logits_model(model)
        subject = subject_of(logits, self.box)
        before = self._original_predictions()
        counts = {
            label: RobustCounts(attack, {"": subject}, None)
            for label, attack in self._attacks.items()
        }
        samples = correct = agreeing = 0
        batches = self.data.batches(self._expectation, self._batch_size)
        for (x, labels), expected in zip(batches, before, strict=True):
            y = labels.astype(np.int64, copy=False)
            predicted = _predicted(subject, x)
            samples += len(y)
            correct += int(np.sum(predicted == y))
            agreeing += int(np.sum(predicted == expected))
            for count in counts.values():
                count.add(x, y, {"": predicted})
        return EpochEvaluation(
            samples=samples,
            accuracy=proportion(correct, samples),
            agreement=proportion(agreeing, samples),
            robust=tuple(
                RobustInstances(attack=label, epsilon=point.epsilon, instances=point.white_box)
                for label, count in counts.items()
                for point in count.outcome("", label).points
            ),
        )

    def _original_predictions(self) -> list[NDArray[np.int64]]:
        """Return what the original predicts for every batch; computed once."""
        if self._original is None:
            assert self.data is not None
            subject = subject_of(self._logits, self.box)
            batches = self.data.batches(self._expectation, self._batch_size)
            self._original = [_predicted(subject, x) for x, _ in batches]
        return self._original


def open_workbench(
    model: Any,
    *,
    data: EvaluationData | None,
    attacks: Sequence[Attack],
    input_bounds: Any,
    trust: bool,
) -> Workbench:
    """Open a model, from a file or live, and make sure that the samples fit it.

    Raises
    ------
    ModelError, FileFormatError, UntrustedModelError
        As by `prune`; and what `Workbench` raises.
    """
    opened = open_model(model, trust=trust)
    return Workbench(opened, data=data, attacks=attacks, input_bounds=input_bounds)


def _predicted(subject: Subject, x: Any) -> NDArray[np.int64]:
    return predictions(check_logits(subject.outputs(x)))
