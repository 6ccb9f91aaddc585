"""A model under evaluation: its task, its head, and the functions that compute with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nnprune.datasets.expectation import Expectation
from nnprune.errors import ModelError

if TYPE_CHECKING:
    from nnprune.attacks.gradient_sign import Attacker
    from nnprune.keras_io.input_box import InputBox
    from nnprune.keras_io.logits import LogitsModel
    from nnprune.keras_io.opened import OpenedModel

__all__ = [
    "Subject",
    "Task",
    "check_alike",
    "check_attackable",
    "expectation_of",
    "subject_of",
    "task_of",
]

Task = Literal["classification", "regression"]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model that can be asked for outputs and attacked.

    Attributes
    ----------
    logits
        The model up to its logits.
    attacker
        Computes logits, and moves inputs against them within the input box.
    """

    logits: LogitsModel
    attacker: Attacker

    def outputs(self, x: Any) -> NDArray[np.float32]:
        """Compute logits (or a regression's values) for a batch of inputs."""
        from nnprune.gradients import to_numpy

        return to_numpy(self.attacker.logits(x))

    def predictions(self, x: Any) -> NDArray[np.int64]:
        """Predict the class of every input of a batch.

        Raises
        ------
        ModelError
            Logits are NaN or infinite.
        """
        from nnprune.gradients import to_numpy

        classes, finite = self.attacker.predictions(x)
        found = to_numpy(classes).astype(np.int64)
        if not to_numpy(finite):
            raise ModelError(
                f"model '{self.logits.model.name}' gives NaN or infinite logits on inputs within "
                "the box that an attack has found: it overflows there"
            )
        return found


def subject_of(logits: LogitsModel, box: InputBox) -> Subject:
    """Make a subject of a model up to its logits."""
    from nnprune.attacks.gradient_sign import Attacker

    attacker = Attacker(logits.model, box.lower[0], box.upper[0])
    return Subject(logits=logits, attacker=attacker)


def task_of(opened: OpenedModel, logits: LogitsModel, wanted: Task | None) -> Task:
    """Find out whether a model classifies, from its head and its loss.

    Parameters
    ----------
    opened : OpenedModel
        The model.
    logits : LogitsModel
        The same up to its logits.
    wanted : {"classification", "regression"} or None
        What the user says; None to go by the model.

    Raises
    ------
    ModelError
        The model does not tell, or does not fit what is wanted; the message says what to do.
    """
    from nnprune.keras_io.loss_task import loss_task

    name = opened.model.name
    found = wanted or ("classification" if logits.head == "softmax" else loss_task(opened.model))
    if found is None and logits.head == "sigmoid":
        found = "classification"
    if found is None and logits.head == "logits":
        raise ModelError(
            f"model '{name}': its last layer '{logits.layer}' has neither softmax nor sigmoid, and "
            "the model is not compiled with a loss that tells its task; give "
            "task='classification' or 'regression' (--task)"
        )
    if found == "regression":
        return "regression"
    if logits.head == "values" or len(logits.model.outputs[0].shape) > 2:
        raise ModelError(
            f"model '{name}': its head (layer '{logits.layer}', {logits.outputs} outputs) is "
            "neither logits, nor a sigmoid of one output, nor a softmax over classes; evaluation "
            "of classifiers needs one label for a sample. If the model predicts numbers, give "
            "task='regression' (--task regression)"
        )
    return "classification"


def expectation_of(logits: LogitsModel, task: Task, box: InputBox) -> Expectation:
    """Say what data must look like for a model."""
    return Expectation(
        input_shape=tuple(logits.model.inputs[0].shape[1:]),
        outputs=max(logits.outputs, 2) if task == "classification" else logits.outputs,
        task=task,
        output_shape=tuple(logits.model.outputs[0].shape[1:]),
        lower=box.lower[0],
        upper=box.upper[0],
        box_source=box.source,
    )


def check_alike(models: Mapping[str, OpenedModel]) -> None:
    """Make sure that models take the same inputs and give outputs of the same shape.

    Parameters
    ----------
    models : mapping of str to OpenedModel
        The models by their labels.

    Raises
    ------
    ModelError
        They do not.
    """
    for kind in ("inputs", "outputs"):
        shapes = {
            label: [tuple(tensor.shape[1:]) for tensor in getattr(opened.model, kind)]
            for label, opened in models.items()
        }
        first, *others = shapes
        for label in others:
            if shapes[label] != shapes[first]:
                raise ModelError(
                    f"{label} has {kind} of shape {shapes[label]}, {first} of shape "
                    f"{shapes[first]}: give versions of the same model"
                )


def check_attackable(opened: OpenedModel) -> None:
    """Make sure that a model's input can be moved by small steps.

    Raises
    ------
    ModelError
        The input has an integer type.
    BackendError
        The Keras backend cannot differentiate.
    """
    from nnprune.gradients import check_backend

    check_backend()
    tensor = opened.model.inputs[0]
    if "float" not in str(tensor.dtype):
        raise ModelError(
            f"model '{opened.model.name}': attacks need an input of floating-point numbers, "
            f"'{tensor.name}' is {tensor.dtype}; evaluate with attacks=() (--no-attacks), or "
            "rebuild the model with keras.Input(..., dtype='float32')"
        )
