"""What the weights of a live model and of its layers amount to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnprune.keras_io.weights import is_graph_model, named_layers

__all__ = ["LayerWeights", "WeightCounts", "count_weights", "layer_weights"]


@dataclass(frozen=True, kw_only=True)
class WeightCounts:
    """Numbers in the weights of a model or layer.

    Attributes
    ----------
    parameters
        All of them, statistics of normalizations among them.
    trainable
        Those that training changes.
    nonzero
        Those that are not 0.
    """

    parameters: int
    trainable: int
    nonzero: int


@dataclass(frozen=True, kw_only=True)
class LayerWeights:
    """One layer of a model.

    Attributes
    ----------
    layer
        Its path, nested models' names in front.
    kind
        Name of its class.
    units
        Number of units or filters; None for layers that have no such number.
    counts
        Its weights.
    """

    layer: str
    kind: str
    units: int | None
    counts: WeightCounts


def count_weights(owner: Any) -> WeightCounts:
    """Count the weights of a live model or layer, each once; one array at a time is in memory."""
    return WeightCounts(
        parameters=_numbers(owner.weights),
        trainable=_numbers(owner.trainable_weights),
        nonzero=sum(int(np.count_nonzero(weight.numpy())) for weight in owner.weights),
    )


def _numbers(weights: Iterable[Any]) -> int:
    return sum(int(np.prod(weight.shape, dtype=np.int64)) for weight in weights)


def layer_weights(model: Any) -> Iterator[LayerWeights]:
    """Look at every layer of a live model, each once under its first path.

    Layers of nested models stand for themselves, the nested models do not.
    """
    seen: set[int] = set()
    for path, layer in named_layers(model):
        if id(layer) in seen or is_graph_model(layer) or not hasattr(layer, "weights"):
            continue
        seen.add(id(layer))
        yield LayerWeights(
            layer=path,
            kind=type(layer).__name__,
            units=_units(layer),
            counts=count_weights(layer),
        )


def _units(layer: Any) -> int | None:
    for name in ("units", "filters"):
        units = getattr(layer, name, None)
        if isinstance(units, int):
            return units
    return None
