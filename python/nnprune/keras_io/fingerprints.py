"""SHA-256 of arrays and of the weights of live models."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras

__all__ = ["array_sha256", "model_sha256", "weights_sha256"]

# Keras writes the addresses of objects that are used twice into a model's configuration.
_ADDRESS = re.compile(r'"shared_object_id": \d+')


def array_sha256(array: NDArray[Any]) -> str:
    """Return the SHA-256 over an array's type, shape and values, in hexadecimal digits."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def model_sha256(model: keras.Model, config: Mapping[str, Any]) -> str:
    """Return the SHA-256 over a live model's configuration and weights, in hexadecimal digits.

    Parameters
    ----------
    model : keras.Model
        The model.
    config : mapping
        Its configuration; empty to look at the weights only.
    """
    return weights_sha256((np.asarray(weight.numpy()) for weight in model.weights), config)


def weights_sha256(
    weights: Iterable[NDArray[Any]], config: Mapping[str, Any] = MappingProxyType({})
) -> str:
    """Return the SHA-256 over a configuration and the weights of a model, in Keras' order."""
    text = json.dumps(dict(config), sort_keys=True, default=repr)
    digest = hashlib.sha256(_ADDRESS.sub("", text).encode())
    for weight in weights:
        digest.update(array_sha256(weight).encode())
    return digest.hexdigest()
