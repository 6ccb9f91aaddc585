"""How many samples Keras computes at a time, where nobody has said: the one rule.

A call costs something whatever it computes: with 256 samples of a small model about a tenth of the
work, so that little is won with more. Whether a batch's values fit into the processor's cache made
no difference that could be measured. What bounds large models is memory: a gradient keeps the
values of all layers. So 256 samples, but fewer where these values would take more than 256 MiB; the
same on every device, as some attacks draw their points batch by batch.
"""

from __future__ import annotations

import math
from typing import Any

import keras

from nnprune.keras_io.weights import named_layers

__all__ = ["batch_size_of"]

_MOST = 256
_BYTES = 1 << 28
_BYTES_EACH = 4


def batch_size_of(*models: keras.Model) -> int:
    """Return how many samples to compute at a time with each of some models.

    Parameters
    ----------
    *models : keras.Model
        Built Sequential or Functional models.

    Returns
    -------
    int
        From 1 to 256.
    """
    largest = max((_elements(model) for model in models), default=1)
    return max(1, min(_MOST, _BYTES // (_BYTES_EACH * max(largest, 1))))


def _elements(model: keras.Model) -> int:
    """Count the values of all layers for one sample; sides of no fixed length count once."""
    return sum(
        math.prod(side or 1 for side in tensor.shape[1:])
        for _, layer in named_layers(model)
        for tensor in _outputs(layer)
    )


def _outputs(layer: Any) -> list[Any]:
    try:
        return list(keras.tree.flatten(layer.output))
    except (AttributeError, ValueError):  # an operation, or a layer inside another one
        return []
