"""A model's outputs for many inputs, batch by batch."""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

__all__ = ["outputs_of"]

_BATCH_SIZE = 512


def outputs_of(model: keras.Model, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute a model's one output for all inputs.

    Parameters
    ----------
    model : keras.Model
        A model with one input and one output.
    x : float32 array, shape (samples, *input_shape)
        The inputs.

    Returns
    -------
    float32 array, shape (samples, *output_shape)
    """
    parts = [
        keras.ops.convert_to_numpy(model(x[first : first + _BATCH_SIZE], training=False))
        for first in range(0, len(x), _BATCH_SIZE)
    ]
    return np.concatenate(parts).astype(np.float32, copy=False)
