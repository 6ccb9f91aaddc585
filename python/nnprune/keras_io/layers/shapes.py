"""Output shapes of layers that the engine cannot follow, as far as they are simple to tell."""

from __future__ import annotations

from collections.abc import Sequence

from nnprune.keras_io.config import LayerCall

__all__ = ["derived_shape"]

# These give one value for each that they read.
_ELEMENTWISE = frozenset(
    {
        "Activation",
        "AlphaDropout",
        "BatchNormalization",
        "Dropout",
        "ELU",
        "GaussianDropout",
        "GaussianNoise",
        "GroupNormalization",
        "LayerNormalization",
        "LeakyReLU",
        "Masking",
        "Normalization",
        "PReLU",
        "RMSNormalization",
        "ReLU",
        "Rescaling",
        "Softmax",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
        "UnitNormalization",
    }
)
_MERGING = frozenset({"Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract"})
_RECURRENT = frozenset({"GRU", "LSTM", "SimpleRNN"})


def derived_shape(call: LayerCall, sources: Sequence[tuple[int, ...]]) -> tuple[int, ...] | None:
    """Output shape of a call, batch left out, from its configuration; None if not simple.

    Parameters
    ----------
    call
        The call of a layer or operation.
    sources
        Shapes of what it reads, batch left out.
    """
    if not sources or call.output != 0:
        return None
    first, config, name = sources[0], call.config, call.class_name
    shape: tuple[int, ...] | None = None
    if name in _ELEMENTWISE or (name in _MERGING and len(set(sources)) == 1):
        shape = first
    elif name == "Embedding":
        shape = (*first, config["output_dim"])
    elif name == "Dense":
        shape = (*first[:-1], config["units"])
    elif name in _RECURRENT and len(first) == 2:
        units = (config["units"],)
        shape = (first[0], *units) if config.get("return_sequences") else units
    elif name == "RepeatVector":
        shape = (config["n"], *first)
    elif name == "Permute":
        shape = tuple(first[axis - 1] for axis in config["dims"])
    return shape
