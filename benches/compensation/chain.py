"""A chain of Dense layers with ReLU between them, as plain arrays: what the rivals work on.

Read from a Keras model or from the head of one. BatchNormalization behind an activation is put
into the layer that reads it, which is exact; one before the activation is kept beside the weights,
because Model Folding needs it, and `folded` puts it into them, exactly too. A softmax or sigmoid at
the end is left out: the last layer gives logits. All arrays are float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from nnprune.gradients import to_numpy
from numpy.typing import NDArray

__all__ = ["Chain", "Layer", "Normalization", "kept_units", "read_chain"]

Array = NDArray[np.float64]

_SKIPPED = ("InputLayer", "Flatten", "Dropout")


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """BatchNormalization of every unit of a layer, before its activation.

    `gamma (value - mean) / deviation + beta`, where the deviation is the root of variance plus
    epsilon (two published implementations pass the variance for it).

    Attributes
    ----------
    gamma, beta, mean, deviation : ndarray, shape (units,)
        Its parameters.
    """

    gamma: Array
    beta: Array
    mean: Array
    deviation: Array


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A Dense layer.

    Attributes
    ----------
    kernel : ndarray, shape (inputs, units)
        Incoming weights.
    bias : ndarray, shape (units,)
        Added to them.
    normalization : Normalization, optional
        What comes before the activation.
    """

    kernel: Array
    bias: Array
    normalization: Normalization | None = None

    @property
    def units(self) -> int:
        """How many units it has."""
        return int(self.kernel.shape[1])

    @property
    def incoming(self) -> Array:
        """Incoming weights and bias of every unit, shape (units, inputs + 1)."""
        return np.vstack([self.kernel, self.bias]).T

    def folded(self) -> Layer:
        """Put the normalization into the weights."""
        if self.normalization is None:
            return self
        norm = self.normalization
        scale = norm.gamma / norm.deviation
        return Layer(kernel=self.kernel * scale, bias=(self.bias - norm.mean) * scale + norm.beta)


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Layers from the inputs to the logits; ReLU behind all but the last."""

    layers: tuple[Layer, ...]

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each hidden layer."""
        return tuple(layer.units for layer in self.layers[:-1])

    def folded(self) -> Chain:
        """Put every normalization into the weights."""
        return Chain(layers=tuple(layer.folded() for layer in self.layers))

    def logits(self, inputs: NDArray[Any]) -> Array:
        """Compute the logits.

        Parameters
        ----------
        inputs : ndarray, shape (samples, ...)
            Flattened for each sample.

        Returns
        -------
        ndarray of float64, shape (samples, outputs)
        """
        values: Array = np.asarray(inputs, np.float64).reshape(len(inputs), -1)
        plain = self.folded().layers
        for layer in plain[:-1]:
            values = np.maximum(values @ layer.kernel + layer.bias, 0.0)
        return values @ plain[-1].kernel + plain[-1].bias

    def padded(self, widths: Sequence[int]) -> list[tuple[Array, Array]]:
        """Return kernels and biases with units added that pass nothing on.

        Parameters
        ----------
        widths : sequence of int
            Units of each hidden layer, at least those of this chain.
        """
        found, inputs = [], self.layers[0].kernel.shape[0]
        plain = self.folded().layers
        for layer, units in zip(plain, (*widths, plain[-1].units), strict=True):
            kernel, bias = np.zeros((inputs, units)), np.zeros(units)
            kernel[: layer.kernel.shape[0], : layer.units] = layer.kernel
            bias[: layer.units] = layer.bias
            found.append((kernel, bias))
            inputs = units
        return found


def kept_units(units: int, ratio: float) -> int:
    """Return how many units stay, rounded as `nnprune.prune` does."""
    return units - min(math.floor(ratio * units + 0.5), units - 1)


def read_chain(model: keras.Model) -> Chain:
    """Read the Dense layers of a model, from its last Flatten on.

    Parameters
    ----------
    model : keras.Model
        Sequential, or Functional with its layers in a line; ReLU behind every hidden Dense.

    Raises
    ------
    ValueError
        There is a layer or an activation of another kind.
    """
    layers = list(model.layers)
    flattens = [i for i, layer in enumerate(layers) if isinstance(layer, keras.layers.Flatten)]
    reader = _Reader()
    for layer in layers[flattens[-1] if flattens else 0 :]:
        reader.take(layer)
    return Chain(layers=tuple(reader.layers))


class _Reader:
    """Takes in layer after layer."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self._active = True  # whether the last Dense layer's activation has come
        self._behind: tuple[Array, Array] | None = None  # scale and shift not yet put into a layer

    def take(self, layer: keras.Layer) -> None:
        kind = type(layer).__name__
        if isinstance(layer, keras.layers.Dense):
            self._dense(layer)
        elif isinstance(layer, keras.layers.BatchNormalization):
            self._normalization(layer)
        elif kind == "ReLU" or (kind == "Activation" and _named(layer) == "relu"):
            self._active = True
        elif kind not in _SKIPPED and _named(layer) not in ("softmax", "sigmoid"):
            raise ValueError(f"layer {layer.name}: a {kind} cannot be read as part of a chain")

    def _dense(self, layer: keras.Layer) -> None:
        if not self._active:
            raise ValueError(f"layer {layer.name}: reads a Dense layer without an activation")
        kernel = np.asarray(to_numpy(layer.kernel), np.float64)
        bias = np.zeros(kernel.shape[1])
        if layer.use_bias:
            bias = np.asarray(to_numpy(layer.bias), np.float64)
        if self._behind is not None:
            scale, shift = self._behind
            bias, kernel = bias + shift @ kernel, scale[:, None] * kernel
            self._behind = None
        if _named(layer) not in ("linear", "relu", "softmax", "sigmoid"):
            raise ValueError(f"layer {layer.name}: activation {_named(layer)} is not ReLU")
        self.layers.append(Layer(kernel=kernel, bias=bias))
        self._active = _named(layer) == "relu"

    def _normalization(self, layer: keras.Layer) -> None:
        mean, variance = (
            np.asarray(to_numpy(moment), np.float64)
            for moment in (layer.moving_mean, layer.moving_variance)
        )
        gamma = np.asarray(to_numpy(layer.gamma), np.float64) if layer.scale else np.ones_like(mean)
        beta = np.asarray(to_numpy(layer.beta), np.float64) if layer.center else 0 * mean
        deviation = np.sqrt(variance + layer.epsilon)
        if not self._active:
            norm = Normalization(gamma=gamma, beta=beta, mean=mean, deviation=deviation)
            self.layers[-1] = replace(self.layers[-1], normalization=norm)
            return
        self._behind = gamma / deviation, beta - gamma * mean / deviation


def _named(layer: keras.Layer) -> str:
    config: Mapping[str, Any] = layer.get_config()
    activation = config.get("activation")
    return activation if isinstance(activation, str) else ""
