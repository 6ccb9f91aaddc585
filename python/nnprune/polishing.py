"""The polish: a smaller model learns the original's logits on synthetic inputs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnprune.compensation import Polish, polish_to_dict
from nnprune.compensation_trace import PolishTrace
from nnprune.errors import ConfigError
from nnprune.judge import judgeable
from nnprune.keras_io.input_box import InputBox
from nnprune.keras_io.opened import OpenedModel, open_model
from nnprune.progress import counter

if TYPE_CHECKING:
    import keras

    from nnprune.attacks.gradient_sign import Attacker
    from nnprune.keras_io.student import Student

__all__ = ["check_polishable", "polish_model"]

Array = NDArray[np.float32]


def check_polishable(opened: OpenedModel, polish: Polish) -> None:
    """Make sure, before any work, that a model can be polished.

    Raises
    ------
    ConfigError
        It is no classifier that FGSM could move inputs against.
    ModelError
        It has several inputs or outputs.
    BackendError
        The Keras backend cannot differentiate.
    """
    from nnprune.gradients import check_backend
    from nnprune.keras_io.logits import logits_model

    check_backend()
    logits_model(opened.model)
    for weight in opened.model.trainable_weights:
        if str(weight.dtype) in ("float16", "bfloat16"):
            raise ConfigError(
                f"polish: weight '{weight.path}' is {weight.dtype}, in which Adam's steps vanish "
                "or overflow; polish a float32 model and cast it afterwards"
            )
    attackable = judgeable(opened) and "float" in str(opened.model.inputs[0].dtype)
    if polish.epsilon > 0.0 and not attackable:
        raise ConfigError(
            f"polish: epsilon: model '{opened.model.name}' is no classifier of floating-point "
            "inputs, and FGSM has nothing to go by; use Polish(epsilon=0)"
        )


def polish_model(
    original: OpenedModel,
    smaller: keras.Model,
    box: InputBox,
    x: Array,
    held_out: Array,
    polish: Polish,
    *,
    inputs: str,
    seed: int,
    progress: bool,
) -> PolishTrace:
    """Train a smaller model to give the original's logits; it changes at the end only.

    Parameters
    ----------
    original : OpenedModel
        The teacher.
    smaller : keras.Model
        The model to polish, in place.
    box : InputBox
        The legitimate inputs.
    x, held_out : float32 array, shape (samples, *input_shape)
        The inputs to train on, and those that decide which epoch counts.
    polish : Polish
        The parameters.
    inputs : {"synthetic", "representative"}
        Where they come from.
    seed : int
        Seed of the batches.
    progress : bool
        Whether to show a bar.

    Raises
    ------
    ModelError
        There is nothing to train.
    """
    started = time.perf_counter()
    random = np.random.default_rng(seed)
    lesson = _Lesson(original, smaller, box, x, held_out, polish)
    losses = [lesson.loss()]
    best, weights, stopped_by = 0, lesson.student.weights(), "epochs"
    total = polish.epochs * lesson.batches
    with counter("polishing", total=total, unit="batches", progress=progress) as advance:
        for _ in range(polish.epochs):
            for rows in lesson.shuffled(random):
                lesson.teach(rows)
                advance(1)
                if polish.seconds is not None and time.perf_counter() - started > polish.seconds:
                    stopped_by = "seconds"
                    break
            losses.append(lesson.loss())
            if losses[-1] < losses[best]:
                best, weights = len(losses) - 1, lesson.student.weights()
            if stopped_by == "seconds":
                break
    if best:
        lesson.student.finish(weights)
    return PolishTrace(
        options=polish_to_dict(polish),
        inputs=inputs,
        samples=len(x),
        held_out=len(held_out),
        losses=tuple(losses),
        best=best,
        stopped_by=stopped_by,
        seconds=time.perf_counter() - started,
    )


class _Lesson:
    """A teacher, a student, and the inputs between them."""

    def __init__(
        self,
        original: OpenedModel,
        smaller: keras.Model,
        box: InputBox,
        x: Array,
        held_out: Array,
        polish: Polish,
    ) -> None:
        from nnprune.attacks.gradient_sign import Attacker
        from nnprune.keras_io.batches import batch_size_of
        from nnprune.keras_io.logits import logits_model
        from nnprune.keras_io.student import Student

        lower, upper = box.lower[0], box.upper[0]
        self._x, self._held_out = x, held_out
        self._epsilon = polish.epsilon
        self._size = min(polish.batch_size, len(x))
        teacher = logits_model(original.model).model
        self._computed = batch_size_of(teacher)  # at a time; the student has not more layers
        self._teacher = Attacker(teacher, lower, upper)
        self._wanted = self._logits(self._teacher, x)
        self._wanted_held_out = self._logits(self._teacher, held_out)
        self._scale = float(np.std(_centred(self._wanted))) or 1.0
        self.student: Student = Student(
            open_model(smaller, trust=True),
            learning_rate=polish.learning_rate,
            steps=polish.epochs * self.batches,
            scale=self._scale,
        )
        self._attacker = Attacker(self.student.model, lower, upper)

    @property
    def batches(self) -> int:
        """Number of batches in an epoch; what is left over waits for another."""
        return len(self._x) // self._size

    def shuffled(self, random: np.random.Generator) -> list[NDArray[np.int64]]:
        """Share the inputs out among batches anew."""
        order = random.permutation(len(self._x))[: self.batches * self._size]
        return np.split(order, self.batches)

    def teach(self, rows: NDArray[np.int64]) -> None:
        """Take one step on a batch, half of it moved against the student."""
        x, wanted = self._x[rows], self._wanted[rows]
        half = len(rows) // 2
        if self._epsilon > 0.0 and half:
            moved = self._moved(x[:half], wanted[:half])
            x = np.concatenate([moved, x[half:]])
            wanted = np.concatenate([self._logits(self._teacher, moved), wanted[half:]])
        self.student.learn(x, wanted)

    def loss(self) -> float:
        """Return the error on the held-out inputs, clean and moved."""
        found = self._error(self._logits(self._attacker, self._held_out), self._wanted_held_out)
        if self._epsilon > 0.0:
            found = (found + self._error(*self._on_moved_inputs())) / 2
        return found

    def _on_moved_inputs(self) -> tuple[Array, Array]:
        """Return the student's and the teacher's logits on the held-out inputs, moved."""
        found, wanted = [], []
        for first in range(0, len(self._held_out), self._computed):
            batch = slice(first, first + self._computed)
            moved = self._moved(self._held_out[batch], self._wanted_held_out[batch])
            found.append(self._logits(self._attacker, moved))
            wanted.append(self._logits(self._teacher, moved))
        return np.concatenate(found), np.concatenate(wanted)

    def _logits(self, attacker: Attacker, x: Array) -> Array:
        from nnprune.gradients import to_numpy

        parts = [
            to_numpy(attacker.logits(x[first : first + self._computed]))
            for first in range(0, len(x), self._computed)
        ]
        return np.concatenate(parts)

    def _error(self, found: Array, wanted: Array) -> float:
        difference = _centred(found - wanted)
        return float(np.mean(np.square(difference / self._scale, dtype=np.float64)))

    def _moved(self, x: Array, wanted: Array) -> Array:
        """Move inputs by FGSM against what the student makes of the teacher's classes."""
        from nnprune.gradients import to_numpy

        classes = np.argmax(wanted, axis=1) if wanted.shape[1] > 1 else wanted[:, 0] >= 0.0
        (moved,) = self._attacker.fgsm(x, classes.astype(np.int32), [self._epsilon])
        found: Array = moved if isinstance(moved, np.ndarray) else to_numpy(moved)
        return found


def _centred(logits: Any) -> Any:
    if logits.shape[-1] == 1:
        return logits
    return logits - np.mean(logits, axis=-1, keepdims=True)
