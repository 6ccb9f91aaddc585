"""A copy of a model that learns to give other logits; the model itself changes only at the end."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from nnprune.errors import ModelError
from nnprune.keras_io.logits import logits_model
from nnprune.keras_io.opened import OpenedModel
from nnprune.keras_io.rebuild import rebuild
from nnprune.keras_io.weights import named_layers
from nnprune.keras_io.wording import quoted

__all__ = ["Student"]

# Their kernels and biases are what a certificate can follow through a training.
_TRAINED = frozenset({"Dense", "Conv1D", "Conv2D", "Conv3D"})
_NAMES = frozenset({"kernel", "bias"})


class Student:
    """Trains the kernels and biases of Dense and convolutional layers on given logits.

    Everything else is as when the model is used: BatchNormalization keeps its statistics, and
    nothing is dropped at random.

    Parameters
    ----------
    opened : OpenedModel
        The model to be trained; one input, one output.
    learning_rate : float
        Adam's at the start; it falls linearly to 0.
    steps : int
        Batches until then.
    scale : float
        What the logits' errors are divided by.

    Raises
    ------
    ModelError
        It has no such layers.
    """

    def __init__(
        self, opened: OpenedModel, *, learning_rate: float, steps: int, scale: float
    ) -> None:
        graph = opened.graph
        copy = rebuild(opened.model, graph, graph.network, {}, compiled=False).model
        logits = logits_model(copy)
        layers = dict(named_layers(copy))
        if logits.last is not None:
            layers[logits.layer] = logits.last
        self._variables = _trained(layers, set(graph.opaque))
        if not self._variables:
            raise ModelError(
                f"model {quoted(opened.model.name)}: there is no Dense or convolutional layer to "
                "polish; leave polish out"
            )
        self._original = opened.model
        self.model = logits.model
        inputs = keras.Input(batch_shape=logits.model.inputs[0].shape, dtype=_dtype(logits.model))
        self._trainer = keras.Model(inputs, logits.model(inputs, training=False))
        schedule = keras.optimizers.schedules.PolynomialDecay(learning_rate, steps, 0.0)
        self._trainer.compile(
            optimizer=keras.optimizers.Adam(schedule), loss=_Error(scale), jit_compile=False
        )

    def learn(self, x: NDArray[np.float32], logits: NDArray[np.float32]) -> None:
        """Take one step towards giving these logits on a batch of inputs."""
        self._trainer.train_on_batch(x, logits)

    def weights(self) -> list[NDArray[Any]]:
        """Copy what is trained."""
        return [np.array(keras.ops.convert_to_numpy(one.value)) for one in self._variables.values()]

    def finish(self, weights: list[NDArray[Any]]) -> None:
        """Give the model itself such weights."""
        layers = dict(named_layers(self._original))
        for (path, name), value in zip(self._variables, weights, strict=True):
            weight = next(one for one in layers[path].weights if one.name == name)
            weight.assign(value)


def _centred(logits: Any) -> Any:
    """Leave out what a softmax does: the mean of several logits."""
    if logits.shape[-1] == 1:
        return logits
    return logits - ops.mean(logits, axis=-1, keepdims=True)


class _Error:
    """The mean square of centred logits' errors, relative to a scale."""

    def __init__(self, scale: float) -> None:
        self._scale = scale

    def __call__(self, wanted: Any, found: Any) -> Any:
        difference = _centred(ops.cast(found, "float32") - ops.cast(wanted, "float32"))
        return ops.mean(ops.square(difference / self._scale))


def _trained(layers: dict[str, Any], opaque: set[str]) -> dict[tuple[str, str], Any]:
    """Freeze all layers but those to be trained; return their variables by path and name."""
    chosen: dict[tuple[str, str], Any] = {}
    seen: set[int] = set()
    for path, layer in layers.items():
        if not isinstance(layer, keras.Layer) or isinstance(layer, keras.Model):
            continue
        kind = type(layer)
        ours = kind.__module__.startswith("keras.") and kind.__name__ in _TRAINED
        followed = ours and path not in opaque and getattr(layer, "groups", 1) == 1
        layer.trainable = followed
        for weight in layer.weights if followed else ():
            if weight.name in _NAMES and id(weight) not in seen:
                seen.add(id(weight))
                chosen[path, weight.name] = weight
    return chosen


def _dtype(model: keras.Model) -> str:
    return str(model.inputs[0].dtype)
