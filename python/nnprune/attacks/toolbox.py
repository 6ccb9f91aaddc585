"""AutoPGD and Square by the Adversarial Robustness Toolbox, ART (the extra `attacks`).

ART chooses the points. What it hears of the model is ours: losses that do not vanish in float32
where the model is confident, and no NaN. What it makes is clipped to the same epsilon ball and box
as with the other attacks.
"""

from __future__ import annotations

import contextlib
import logging
import logging.config
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnprune.attacks.options import AutoPGD, Square
from nnprune.errors import BackendError, ConfigError, MissingExtraError

if TYPE_CHECKING:
    from nnprune.keras_io.logits import LogitsModel

__all__ = ["Toolbox", "check_toolbox"]

Floats = NDArray[np.float32]
# A TensorFlow tensor.
Tensor = Any

_CLASSES_OF_DLR = 3


class Toolbox:
    """Runs the attacks of the Adversarial Robustness Toolbox on one model.

    Parameters
    ----------
    model : LogitsModel
        Gives one logit, or one for every class.
    lower, upper : array_like
        The input box; of the shape of an input, or broadcast to it.

    Raises
    ------
    BackendError
        Keras does not run on TensorFlow.
    MissingExtraError
        ART is not installed.
    """

    def __init__(self, model: LogitsModel, lower: ArrayLike, upper: ArrayLike) -> None:
        check_toolbox()
        self._forward = _forward(model)
        self._classes = max(2, model.outputs)
        # Rounded into the box, where float32 cannot hold its ends.
        self._lower = _toward(lower, np.inf)
        self._upper = _toward(upper, -np.inf)

    def adversarial(
        self,
        attack: AutoPGD | Square,
        x: Floats,
        y: NDArray[np.integer[Any]],
        epsilon: float,
        *,
        seed: int | Sequence[int],
    ) -> Floats:
        """Make adversarial inputs of one batch.

        Parameters
        ----------
        attack : AutoPGD or Square
            Which attack and how strong; its own epsilons and seed are not looked at.
        x : float32 array, shape (samples, *input_shape)
            Inputs.
        y : integer array, shape (samples,)
            Labels; 0 and 1 for a model of one logit.
        epsilon : float
            Largest change of a feature.
        seed : int or sequence of int
            Seed of the random points, such as (seed, number of the batch). The points also depend
            on which samples share the batch.

        Returns
        -------
        float32 array, shape (samples, *input_shape)
            Within epsilon of `x` and within the box. Where the attack fails, the point of the
            greatest loss; samples that are misclassified already stay as they are.

        Raises
        ------
        ConfigError
            The loss "dlr" needs three classes.
        """
        check_toolbox(attack, self._classes)
        x, y = np.asarray(x, np.float32), np.asarray(y)
        ends = [np.broadcast_to(end, x.shape[1:]) for end in (self._lower, self._upper)]
        least = np.maximum(x - np.float32(epsilon), ends[0])
        most = np.minimum(x + np.float32(epsilon), ends[1])
        made = x
        if epsilon > 0.0 and len(x):
            labels = np.eye(self._classes, dtype=np.float32)[y]
            with _seeded(seed), _quiet():
                if isinstance(attack, AutoPGD):
                    made = self._auto_pgd(attack, x, labels, epsilon, ends)
                else:
                    made = self._square(attack, x, labels, epsilon, ends)
        made = np.where(np.isnan(made), x, made)
        return np.asarray(np.minimum(np.maximum(made, least), most), np.float32)

    def _auto_pgd(
        self, attack: AutoPGD, x: Floats, labels: Floats, epsilon: float, ends: list[Floats]
    ) -> Floats:
        from art.attacks.evasion import AutoProjectedGradientDescent

        loss = _Loss(_margin if attack.loss == "ce" else _logits_ratio)
        classifier = _classifier(self._forward, loss, labels.shape[1], ends)
        best = x.copy()
        left = np.flatnonzero(_is_correct(classifier, x, labels))
        for _ in range(attack.restarts):
            if not len(left):
                break
            method = AutoProjectedGradientDescent(
                classifier,
                eps=float(epsilon),
                eps_step=2.0 * float(epsilon),  # as in the source, section 3.1
                max_iter=attack.steps,
                nb_random_init=1,
                batch_size=len(left),
                verbose=False,
            )
            made = method.generate(x[left], labels[left])
            robust = _is_correct(classifier, made, labels[left])
            best_seen = getattr(method, "x_max", ())
            if len(best_seen) == len(left):
                # ART tries the last point only, and gives back the random start if that fails.
                made = np.where(_per_sample(robust, x), best_seen, made)
                robust = _is_correct(classifier, made, labels[left])
            best[left] = made
            left = left[robust]
        return best

    def _square(
        self, attack: Square, x: Floats, labels: Floats, epsilon: float, ends: list[Floats]
    ) -> Floats:
        from art.attacks.evasion import SquareAttack

        grid = _Grid.of(x.shape[1:])
        lower, upper = grid.fold(ends[0][None])[0], grid.fold(ends[1][None], padding=1.0)[0]

        def forward(images: Any) -> Tensor:
            return self._forward(grid.unfold(np.asarray(images, np.float32)))

        classifier = _classifier(forward, None, labels.shape[1], [lower, upper])
        method = SquareAttack(
            classifier,
            # ART's own stands still where two logits are equal.
            loss=lambda images, labels: _lead(classifier.predict(images), labels > 0),
            eps=float(epsilon),
            max_iter=max(1, attack.queries - 1),  # the stripes to start with are the first query
            nb_restarts=attack.restarts,
            batch_size=len(x),
            verbose=False,
        )
        return grid.unfold(method.generate(grid.fold(x), labels))


def check_toolbox(attack: AutoPGD | Square | None = None, classes: int | None = None) -> None:
    """Find out, before any long work, whether attacks of the toolbox can run.

    The first import of ART makes a folder `.art` in the user's home.

    Parameters
    ----------
    attack : AutoPGD or Square, optional
        An attack to check, too.
    classes : int, optional
        Classes of the model that it is for; 1 and 2 are both two.

    Raises
    ------
    BackendError
        Keras does not run on TensorFlow.
    MissingExtraError
        ART is not installed.
    ConfigError
        The loss "dlr" needs three classes.
    """
    import keras

    backend = keras.config.backend()
    if backend != "tensorflow":
        raise BackendError(
            f"AutoPGD and Square run on the Keras backend 'tensorflow' only, not on '{backend}'; "
            "use PGD, or set KERAS_BACKEND to tensorflow before Keras is imported"
        )
    try:
        with _importing():
            import art.attacks.evasion
            import art.estimators.classification  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "AutoPGD and Square need the Adversarial Robustness Toolbox "
            f"({error}): pip install 'nnprune-rs[attacks]'"
        ) from error
    needs_three = isinstance(attack, AutoPGD) and attack.loss == "dlr"
    if needs_three and classes is not None and classes < _CLASSES_OF_DLR:
        raise ConfigError(
            "auto_pgd: loss: 'dlr' compares the first with the third largest logit, and this "
            "model has two classes; use loss='ce'"
        )


def _forward(model: LogitsModel) -> Callable[[Any], Tensor]:
    """Compile the model: logits of two classes or more, less the greatest of each sample.

    So none is above 0, and ART cannot mistake them for probabilities.
    """
    import tensorflow as tf

    inner, outputs = model.model, model.outputs

    def logits(x: Tensor) -> Tensor:
        values = tf.reshape(tf.cast(inner(x, training=False), tf.float32), (-1, outputs))
        if outputs == 1:
            values = tf.concat([tf.zeros_like(values), values], axis=1)
        return values - tf.reduce_max(values, axis=1, keepdims=True)

    shape = tf.TensorSpec((None, *inner.input_shape[1:]), tf.float32)
    compiled: Callable[[Any], Tensor] = tf.function(logits, input_signature=[shape])
    return compiled


def _classifier(
    forward: Callable[[Any], Tensor], loss: _Loss | None, classes: int, ends: list[Floats]
) -> Any:
    """Wrap a model for ART."""
    from art.estimators.classification import TensorFlowV2Classifier

    class Classifier(TensorFlowV2Classifier):  # type: ignore[misc]
        # Compiled once for all shapes, where ART would compile for each.
        def predict(self, x: Any, *_: Any, **__: Any) -> Any:
            return forward(x).numpy()

        def loss_gradient(self, x: Any, y: Any, *_: Any, **__: Any) -> Any:
            return np.nan_to_num(super().loss_gradient(x, y), nan=0.0)

    lower, upper = ends
    return Classifier(
        model=lambda x, training: forward(x),
        nb_classes=classes,
        input_shape=lower.shape,
        loss_object=loss,
        # ART refuses a feature of one value; what leaves the box is clipped afterwards.
        clip_values=(lower, np.maximum(upper, np.nextafter(lower, np.float32(np.inf)))),
    )


class _Loss:
    """A loss as ART calls it: sums, or one number a sample where it says so in `reduction`."""

    def __init__(self, of_samples: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._of_samples = of_samples
        self.reduction = "sum"

    def __call__(self, labels: Any, logits: Tensor) -> Tensor:
        import tensorflow as tf

        losses = self._of_samples(tf.cast(labels, tf.bool), logits)
        return losses if self.reduction == "none" else tf.reduce_sum(losses)


def _margin(label: Tensor, logits: Tensor) -> Tensor:
    """Return log(exp(loss) - 1) of the cross entropy, which grows with it and never vanishes."""
    import tensorflow as tf

    others = tf.where(label, -np.inf, logits)
    return tf.reduce_logsumexp(others, axis=1) - tf.boolean_mask(logits, label)


def _logits_ratio(label: Tensor, logits: Tensor) -> Tensor:
    """Return the difference of logits ratio (Croce and Hein, eq. 6)."""
    import tensorflow as tf

    others = tf.reduce_max(tf.where(label, -np.inf, logits), axis=1)
    largest = tf.math.top_k(logits, _CLASSES_OF_DLR).values
    spread = tf.maximum(largest[:, 0] - largest[:, -1], 1e-12)  # as in the authors' code
    return (others - tf.boolean_mask(logits, label)) / spread


def _lead(logits: Floats, label: NDArray[np.bool_]) -> Floats:
    """Return by how much a label's logit exceeds the others."""
    others = np.max(np.where(label, -np.inf, logits), axis=1)
    return np.asarray(logits[label] - others, np.float32)


def _is_correct(classifier: Any, x: Floats, labels: Floats) -> NDArray[np.bool_]:
    predicted = np.argmax(classifier.predict(x), axis=1)
    return np.asarray(predicted == np.argmax(labels, axis=1))


def _per_sample(values: NDArray[Any], x: Floats) -> NDArray[Any]:
    return values.reshape(-1, *[1] * (x.ndim - 1))


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """Inputs of any shape as the square images that ART's Square attack takes.

    It never touches the last row and column, and fails where its square is as large as the image
    (Andriushchenko et al. draw positions likewise): so one row and one column are added, which the
    model does not see.
    """

    shape: tuple[int, ...]
    height: int
    width: int
    channels: int

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> _Grid:
        """Keep images; lay out other inputs row by row."""
        if len(shape) in (2, 3) and max(shape[:2]) <= 2 * min(shape[:2]):
            height, width, channels = (*shape, 1)[:3]
        else:
            height = width = math.ceil(math.sqrt(math.prod(shape)))
            channels = 1
        return cls(shape=shape, height=height, width=width, channels=channels)

    def fold(self, x: Floats, *, padding: float = 0.0) -> Floats:
        """Lay out inputs of shape (samples, *shape) as images (samples, side, side, channels)."""
        side = max(self.height, self.width, 4) + 1  # the first square has 0.89 of the side
        images = np.full((len(x), side, side, self.channels), padding, np.float32)
        block = np.full((len(x), self.height * self.width * self.channels), padding, np.float32)
        block[:, : math.prod(self.shape)] = x.reshape(len(x), -1)
        images[:, : self.height, : self.width] = block.reshape(
            len(x), self.height, self.width, self.channels
        )
        return images

    def unfold(self, images: Floats) -> Floats:
        """Undo `fold`."""
        block = images[:, : self.height, : self.width].reshape(len(images), -1)
        return block[:, : math.prod(self.shape)].reshape(len(images), *self.shape)


def _toward(end: ArrayLike, inner: float) -> Floats:
    exact = np.asarray(end, np.float64)
    rounded = exact.astype(np.float32)
    outside = rounded < exact if inner > 0 else rounded > exact
    return np.asarray(np.where(outside, np.nextafter(rounded, np.float32(inner)), rounded))


@contextlib.contextmanager
def _importing() -> Iterator[None]:
    """Import ART without its warning that PyTorch is missing, and without its logging settings.

    They would close the log files of the program that uses us.
    """
    configure = logging.config.dictConfig
    logging.config.dictConfig = lambda config: None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "PyTorch not found", UserWarning)
            yield
    finally:
        logging.config.dictConfig = configure


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("art")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _seeded(seed: int | Sequence[int]) -> Iterator[None]:
    """Seed NumPy's global generator, which ART draws from, and put it back afterwards."""
    state = np.random.get_state()
    np.random.seed(np.random.SeedSequence(seed).generate_state(8))
    try:
        yield
    finally:
        np.random.set_state(state)
