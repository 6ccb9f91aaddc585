"""A model's outputs for many inputs, batch by batch."""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from nnprune.keras_io.batches import batch_size_of

__all__ = ["outputs_of"]


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
    size = batch_size_of(model)
    parts = [
        keras.ops.convert_to_numpy(model(x[first : first + size], training=False))
        for first in range(0, len(x), size)
    ]
    return np.concatenate(parts).astype(np.float32, copy=False)
