"""FGSM and PGD on a model's logits, within the epsilon ball and the input box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from nnprune.gradients import compiled, vjp

__all__ = ["Attacker", "RandomStarts", "labels", "tensor"]

# A tensor of the backend; NumPy arrays are taken where one is expected.
Tensor = Any


class Attacker:
    """Moves inputs of a model so that the loss of their labels grows.

    The loss is the cross entropy of the logits, its gradient scaled for every sample by a positive
    number: the sign is the same, and it does not vanish where the softmax of a confident model is
    1 in float32, which would make that model look robust.

    Parameters
    ----------
    model : keras.Model
        Gives logits, of shape (samples, classes), or (samples, 1) for two classes.
    lower, upper : array_like
        The input box; of the shape of an input, or broadcast to it.

    Raises
    ------
    BackendError
        By every attack, where the Keras backend cannot differentiate.
    """

    def __init__(self, model: Any, lower: ArrayLike, upper: ArrayLike) -> None:
        self._model = model
        self.box = np.asarray(lower, np.float64), np.asarray(upper, np.float64)
        # Rounded into the box, where float32 cannot hold its ends.
        self._lower = tensor(_shared(_inward(lower, np.float32(np.inf))))
        self._upper = tensor(_shared(_inward(upper, np.float32(-np.inf))))
        self.logits = compiled(self._logits)
        self._predicted = compiled(self._classes)
        self._direction = compiled(self._gradient_sign)
        self._moved = compiled(_moved)
        self._fan = compiled(_fan)
        self._ball = compiled(_ball)
        self._step = compiled(self._gradient_step)

    def predictions(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predict classes where the inputs are, without bringing the logits from the device.

        Parameters
        ----------
        x : float32 tensor, shape (samples, *input_shape)
            Inputs.

        Returns
        -------
        classes : int32 tensor, shape (samples,)
            The largest logit, the first of equal ones; for one logit 1 from 0 on.
        finite : bool tensor, shape ()
            Whether all logits are finite; else the classes mean nothing.
        """
        classes, finite = self._predicted(tensor(x))
        return classes, finite

    def direction(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the sign of the loss' gradient, and which samples' gradients are all zero.

        Parameters
        ----------
        x : float32 tensor, shape (samples, *input_shape)
            Inputs.
        y : int32 tensor, shape (samples,)
            Labels.

        Returns
        -------
        sign : float32 tensor, shape (samples, *input_shape)
            -1, 0 or 1.
        zero : bool tensor, shape (samples,)
            Whether the attack has nothing to go by.
        """
        sign, zero = self._direction(tensor(x), labels(y))
        return sign, zero

    def move(
        self, x: Tensor, direction: Tensor, epsilons: Sequence[float], *, paper_code: bool = False
    ) -> list[Tensor]:
        """Move inputs along a direction by each epsilon and clip them to the box: FGSM.

        Parameters
        ----------
        x : float32 tensor, shape (samples, *input_shape)
            Inputs.
        direction : float32 tensor, shape (samples, *input_shape)
            The sign of the gradient.
        epsilons : sequence of float
            Lengths.
        paper_code : bool, default False
            Take 1 where the direction is 0, and clip to [-1, 1].
        """
        lengths = [tensor(np.float32(epsilon)) for epsilon in epsilons]
        lower, upper = self._lower, self._upper
        if paper_code:
            direction = ops.where(ops.equal(direction, 0.0), 1.0, direction)
            lower, upper = tensor(np.float32(-1.0)), tensor(np.float32(1.0))
        moved: list[Tensor] = self._fan(tensor(x), direction, lengths, lower, upper)
        return moved

    def fgsm(self, x: Tensor, y: Tensor, epsilons: Sequence[float]) -> list[Tensor]:
        """Make the adversarial inputs for many epsilons from one gradient.

        `clip(x + epsilon sign(gradient), lower, upper)`, with sign(0) = 0.
        """
        x = tensor(x)
        direction, _ = self.direction(x, y)
        return self.move(x, direction, epsilons)

    def pgd(
        self,
        x: Tensor,
        y: Tensor,
        epsilon: float,
        *,
        steps: int,
        step_size: float | None = None,
        start: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Make adversarial inputs by projected gradient descent.

        Parameters
        ----------
        x : float32 tensor, shape (samples, *input_shape)
            Inputs.
        y : int32 tensor, shape (samples,)
            Labels.
        epsilon : float
            Largest change of a feature.
        steps : int
            Gradient steps.
        step_size : float, optional
            Length of a step; a quarter of epsilon by default.
        start : float32 tensor, shape (samples, *input_shape), optional
            Where to start, relative to `x` and in units of epsilon, within [-1, 1]; at `x` by
            default.

        Returns
        -------
        adversarial : float32 tensor, shape (samples, *input_shape)
            The inputs after the last step.
        zero : bool tensor, shape (samples,)
            Samples whose gradient was all zero from the first step on.
        """
        x, y = tensor(x), labels(y)
        lower, upper = self._ball(x, np.float32(epsilon), self._lower, self._upper)
        moved = x
        if start is not None:
            moved = self._moved(x, tensor(start), np.float32(epsilon), lower, upper)
        length = np.float32(epsilon / 4 if step_size is None else step_size)
        # Without a gradient a sample stays where it is, and has none at the next step either.
        sign, zero = self._direction(moved, y)
        moved = self._moved(moved, sign, length, lower, upper)
        for _ in range(steps - 1):
            moved = self._step(moved, y, length, lower, upper)
        return moved, zero

    def _logits(self, x: Tensor) -> Tensor:
        return ops.cast(self._model(x, training=False), "float32")

    def _classes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = self._logits(x)
        finite = ops.all(ops.isfinite(logits))
        if logits.shape[-1] == 1:
            return ops.cast(logits[:, 0] >= 0.0, "int32"), finite
        return ops.cast(ops.argmax(logits, axis=-1), "int32"), finite

    def _gradient(self, x: Tensor, y: Tensor) -> Tensor:
        def cotangent(logits: Tensor) -> Tensor:
            return _scaled_loss_gradient(logits, y)

        return vjp(self._logits, x, cotangent)[1]

    def _gradient_sign(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        gradient = self._gradient(x, y)
        zero = ops.all(ops.equal(gradient, 0.0), axis=tuple(range(1, len(gradient.shape))))
        return ops.sign(gradient), zero

    def _gradient_step(
        self, x: Tensor, y: Tensor, length: Tensor, lower: Tensor, upper: Tensor
    ) -> Tensor:
        return _moved(x, ops.sign(self._gradient(x, y)), length, lower, upper)


class RandomStarts:
    """Random points of the unit ball (largest norm), restart by restart, sample by sample.

    Every restart has a stream of its own, drawn in the order of the samples: a sample's points do
    not depend on how the samples are split into batches.

    Parameters
    ----------
    seed : int
        Seed of the streams.
    restarts : int
        Number of streams.
    """

    def __init__(self, seed: int, restarts: int) -> None:
        self._streams = [np.random.default_rng([seed, restart]) for restart in range(restarts)]

    def draw(self, shape: tuple[int, ...]) -> list[NDArray[np.float32]]:
        """Draw the points of the next `shape[0]` samples, within [-1, 1], for every restart."""
        return [
            2.0 * stream.random(shape, dtype=np.float32) - np.float32(1.0)
            for stream in self._streams
        ]


def tensor(x: Any) -> Tensor:
    """Bring a NumPy array of numbers to the backend's device, as float32."""
    return (
        ops.convert_to_tensor(x, dtype="float32") if isinstance(x, np.generic | np.ndarray) else x
    )


def labels(y: Any) -> Tensor:
    """Bring a NumPy array of labels to the backend's device."""
    return ops.convert_to_tensor(y, dtype="int32") if isinstance(y, np.ndarray) else y


def _inward(end: ArrayLike, inner: np.float32) -> NDArray[np.float32]:
    exact = np.asarray(end, np.float64)
    rounded = exact.astype(np.float32)
    outside = rounded < exact if inner > 0 else rounded > exact
    return np.where(outside, np.nextafter(rounded, inner), rounded)


def _shared(end: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make one number of an end that all features share: backends broadcast that much faster."""
    first = end.reshape(-1)[0]
    return first if np.all(end == first) else end


def _moved(x: Tensor, direction: Tensor, length: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    return ops.minimum(ops.maximum(x + length * direction, lower), upper)


def _fan(
    x: Tensor, direction: Tensor, lengths: list[Tensor], lower: Tensor, upper: Tensor
) -> list[Tensor]:
    """Move by every length, in one call: beside a small model the calls are what takes time."""
    return [_moved(x, direction, length, lower, upper) for length in lengths]


def _ball(x: Tensor, epsilon: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    return ops.maximum(x - epsilon, lower), ops.minimum(x + epsilon, upper)


def _scaled_loss_gradient(logits: Tensor, y: Tensor) -> Tensor:
    """Gradient of the cross entropy with respect to the logits, divided by 1 - p(label).

    p - onehot(label) becomes -1 at the label and, elsewhere, the softmax over the other classes:
    nothing in it underflows together.
    """
    if logits.shape[-1] == 1:
        return ops.where(ops.equal(y, 1), -1.0, 1.0)[:, None]
    label = ops.one_hot(y, logits.shape[-1], dtype="float32")
    others = ops.softmax(ops.where(label > 0.0, -np.inf, logits), axis=-1)
    return others - label
