"""FGSM and PGD on a model's logits, within the epsilon ball and the input box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from nnprune.gradients import compiled, devices, to_numpy, vjp

__all__ = ["Attacker", "RandomStarts"]

# A tensor of the backend, or a NumPy array.
Tensor = Any


class Attacker:
    """Moves inputs of a model so that the loss of their labels grows.

    The loss is the cross entropy of the logits, its gradient scaled for every sample by a positive
    number: the sign is the same, and it does not vanish where the softmax of a confident model is
    1 in float32, which would make that model look robust.

    On a GPU everything stays there. On a CPU only the model is the backend's work, and the inputs
    are moved by NumPy, in place: the backend's calls would cost more than the arithmetic.

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
        self._on_host = devices() == ["CPU"]
        # Rounded into the box, where float32 cannot hold its ends.
        self._lower = self._placed(_shared(_inward(lower, np.float32(np.inf))))
        self._upper = self._placed(_shared(_inward(upper, np.float32(-np.inf))))
        self.logits = compiled(self._logits, model)
        self._predicted = compiled(self._classes, model)
        self._slope = compiled(self._gradient, model)

    def predictions(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predict classes where the inputs are, without bringing the logits from the device.

        Parameters
        ----------
        x : float32 tensor, shape (samples, *input_shape)
            Inputs.

        Returns
        -------
        classes : integer tensor, shape (samples,)
            The largest logit, the first of equal ones; for one logit 1 from 0 on.
        finite : bool tensor, shape ()
            Whether all logits are finite; else the classes mean nothing.
        """
        if self._on_host:
            logits = to_numpy(self.logits(x))
            return _largest(logits), np.isfinite(logits).all()
        classes, finite = self._predicted(x)
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
        sign = self._sign(self._placed(x), self.labels(y))
        if self._on_host:
            return sign, ~np.any(sign.reshape(len(sign), -1), axis=1)
        return sign, ops.all(ops.equal(sign, 0.0), axis=tuple(range(1, len(sign.shape))))

    def move(
        self, x: Tensor, direction: Tensor, epsilon: float, *, paper_code: bool = False
    ) -> Tensor:
        """Move inputs along a direction by epsilon and clip them to the box: FGSM.

        Parameters
        ----------
        x : float32 tensor, shape (samples, *input_shape)
            Inputs.
        direction : float32 tensor, shape (samples, *input_shape)
            The sign of the gradient.
        epsilon : float
            The length.
        paper_code : bool, default False
            Take 1 where the direction is 0, and clip to [-1, 1].
        """
        lower, upper = self._lower, self._upper
        if paper_code:
            where = np.where if self._on_host else ops.where
            direction = where(direction == 0.0, np.float32(1.0), direction)
            lower, upper = np.float32(-1.0), np.float32(1.0)
        return self._moved(self._placed(x), direction, epsilon, lower, upper)

    def fgsm(self, x: Tensor, y: Tensor, epsilons: Sequence[float]) -> list[Tensor]:
        """Make the adversarial inputs for many epsilons from one gradient.

        `clip(x + epsilon sign(gradient), lower, upper)`, with sign(0) = 0.
        """
        x = self._placed(x)
        direction = self._sign(x, self.labels(y))
        return [self.move(x, direction, epsilon) for epsilon in epsilons]

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
            Length of a step; by default a quarter of epsilon (Madry et al.), and with fewer than
            seven steps so much more that they lead as far together.
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
        x, y = self._placed(x), self.labels(y)
        larger, smaller = (np.maximum, np.minimum) if self._on_host else (ops.maximum, ops.minimum)
        lower = larger(x - np.float32(epsilon), self._lower)
        upper = smaller(x + np.float32(epsilon), self._upper)
        moved = x
        if start is not None:
            moved = self._moved(x, self._placed(start), epsilon, lower, upper)
        length = epsilon * max(1 / 4, 7 / 4 / steps) if step_size is None else step_size
        # Without a gradient a sample stays where it is, and has none at the next step either.
        sign, zero = self.direction(moved, y)
        moved = self._moved(moved, sign, length, lower, upper)
        for _ in range(steps - 1):
            moved = self._moved(moved, self._sign(moved, y), length, lower, upper)
        return moved, zero

    def labels(self, y: Any) -> Tensor:
        """Bring labels to where the model computes."""
        return ops.convert_to_tensor(y, dtype="int32") if isinstance(y, np.ndarray) else y

    def _placed(self, x: Any) -> Tensor:
        """Bring inputs to where they are moved."""
        if self._on_host:
            return x if isinstance(x, np.ndarray | np.generic) else to_numpy(x)
        return ops.convert_to_tensor(x, dtype="float32") if isinstance(x, np.ndarray) else x

    def _sign(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute the sign of the gradient; NaN, as of a square root at 0, points nowhere: 0."""
        gradient = self._slope(x, y)
        if not self._on_host:
            sign = ops.sign(gradient)
            return ops.where(ops.isnan(sign), 0.0, sign)
        # NumPy's is ten times as fast as TensorFlow's on a CPU.
        found: NDArray[np.float32] = np.sign(to_numpy(gradient))
        if np.isnan(found.sum()):  # one number to look at, as a rule
            found[np.isnan(found)] = 0.0
        return found

    def _moved(
        self, x: Tensor, direction: Tensor, length: float, lower: Tensor, upper: Tensor
    ) -> Tensor:
        step = np.float32(length)
        if not self._on_host:
            return ops.minimum(ops.maximum(x + step * direction, lower), upper)
        moved = np.multiply(direction, step, dtype=np.float32)
        np.add(moved, x, out=moved)
        if np.ndim(lower) == np.ndim(upper) == 0:  # each is the faster way for its kind
            return np.clip(moved, lower, upper, out=moved)
        np.maximum(moved, lower, out=moved)
        return np.minimum(moved, upper, out=moved)

    def _logits(self, x: Tensor) -> Tensor:
        logits = ops.cast(self._model(x, training=False), "float32")
        # A single logit may come without an axis of its own.
        return logits[:, None] if len(logits.shape) == 1 else logits

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


def _largest(logits: NDArray[np.float32]) -> NDArray[np.int64]:
    if logits.shape[-1] == 1:
        return (logits[:, 0] >= 0.0).astype(np.int64)
    return np.asarray(np.argmax(logits, axis=-1), np.int64)


def _inward(end: ArrayLike, inner: np.float32) -> NDArray[np.float32]:
    exact = np.asarray(end, np.float64)
    rounded = exact.astype(np.float32)
    outside = rounded < exact if inner > 0 else rounded > exact
    return np.where(outside, np.nextafter(rounded, inner), rounded)


def _shared(end: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make one number of an end that all features share, which is cheaper to clip to."""
    first = end.reshape(-1)[:1].reshape(())
    return first if np.all(end == first) else end


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
