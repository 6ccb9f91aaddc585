"""One small converter for each Keras layer class: a call of it becomes nodes of the network."""

from __future__ import annotations

from nnprune.keras_io.layers import activations, preprocessing, structural, weighted
from nnprune.keras_io.layers.context import Conversion, Converter, Unfollowable

__all__ = ["CONVERTERS", "Conversion", "Converter", "Unfollowable"]

CONVERTERS: dict[str, Converter] = {
    **activations.CONVERTERS,
    **preprocessing.CONVERTERS,
    **structural.CONVERTERS,
    **weighted.CONVERTERS,
}
"""By Keras' class name, or `"ops.<class>"` for an operation without a layer."""
