"""Where a network's weights come from: a live Keras model, or zeros of the right shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nnprune.keras_io.config import LayerCall

__all__ = ["LiveWeights", "WeightProvider", "ZeroWeights", "is_graph_model", "named_layers"]

# Only these run their layers as listed; a subclass with a `call` of its own does what it likes.
_GRAPH_MODULES = frozenset({"keras.src.models.functional", "keras.src.models.sequential"})


class WeightProvider(Protocol):
    """Gives the weights of a layer by its path."""

    def __call__(
        self, layer: str, names: Sequence[str], shapes: Sequence[tuple[int, ...]]
    ) -> list[NDArray[np.float32]] | None:
        """Give the weights called `names`, or None if the layer's are not of these shapes."""

    def output_shape(
        self, call: LayerCall, sources: Sequence[tuple[int, ...]]
    ) -> tuple[int, ...] | None:
        """Give the output shape without the batch axis, or None where it is not known."""

    def owner(self, layer: str) -> str:
        """Give the one path that stands for the layer, if it is found under several."""


class ZeroWeights:
    """Zeros of the expected shapes: enough to see a model's structure without its weights."""

    def __call__(
        self, layer: str, names: Sequence[str], shapes: Sequence[tuple[int, ...]]
    ) -> list[NDArray[np.float32]] | None:
        """Give zeros."""
        return [np.zeros(shape, np.float32) for shape in shapes]

    def output_shape(
        self, call: LayerCall, sources: Sequence[tuple[int, ...]]
    ) -> tuple[int, ...] | None:
        """Know no shape."""
        return None

    def owner(self, layer: str) -> str:
        """Give the path itself."""
        return layer


class LiveWeights:
    """The weights of a live Sequential or Functional model, cast to float32."""

    def __init__(self, model: Any) -> None:
        self._layers = dict(named_layers(model))
        first: dict[int, str] = {}
        for path, layer in self._layers.items():
            first.setdefault(id(layer), path)
        self._owners = {path: first[id(layer)] for path, layer in self._layers.items()}

    def __call__(
        self, layer: str, names: Sequence[str], shapes: Sequence[tuple[int, ...]]
    ) -> list[NDArray[np.float32]] | None:
        """Give the layer's weights by their names, whatever else the layer owns."""
        found = {weight.name: weight for weight in self._layers[layer].weights}
        if any(name not in found for name in names):
            return None
        arrays = [np.asarray(found[name].numpy()).astype(np.float32) for name in names]
        matching = all(a.shape == tuple(s) for a, s in zip(arrays, shapes, strict=True))
        return arrays if matching else None

    def output_shape(
        self, call: LayerCall, sources: Sequence[tuple[int, ...]]
    ) -> tuple[int, ...] | None:
        """Ask the layer for its output shape on inputs of these shapes."""
        batched = [(None, *shape) for shape in sources]
        try:
            given: Any = batched[0] if len(batched) == 1 else batched
            shape = self._layers[call.layer].compute_output_shape(given)
        except Exception:  # any layer's own code may run here, and fail in its own way
            return None
        if shape and isinstance(shape[0], (list, tuple)):
            shape = shape[call.output]
        axes = tuple(shape[1:]) if shape else ()
        return axes if shape and all(isinstance(axis, int) for axis in axes) else None

    def owner(self, layer: str) -> str:
        """Give the first path under which the same layer object is found."""
        return self._owners[layer]


def is_graph_model(layer: Any) -> bool:
    """Whether this is a Sequential or Functional model that runs its layers as they are listed."""
    for ancestor in type(layer).__mro__:
        if "call" in vars(ancestor):
            return ancestor.__module__ in _GRAPH_MODULES
    return False


def named_layers(model: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every layer and operation of a live model with its path, nested models included."""
    # Only Functional models have `operations`: their layers, and operations without a layer.
    for layer in getattr(model, "operations", model.layers):
        path = f"{prefix}{layer.name}"
        yield path, layer
        if is_graph_model(layer):
            yield from named_layers(layer, f"{path}/")
