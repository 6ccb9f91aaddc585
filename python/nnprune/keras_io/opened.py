"""A model opened for work: from a file, looked at first, or as it is in memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

    from nnprune.keras_io.graph import Graph
    from nnprune.keras_io.input_box import InputBox

__all__ = ["OpenedModel", "input_box_of", "open_model"]


@dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """A model, and the network it is.

    Attributes
    ----------
    model
        The model.
    graph
        Its network.
    path, sha256
        The file and its fingerprint; None for a model in memory.
    """

    model: keras.Model
    graph: Graph
    path: str | None
    sha256: str | None


def open_model(model: str | os.PathLike[str] | keras.Model, *, trust: bool) -> OpenedModel:
    """Look at a file and load it, or take a live model; read its graph and weights.

    Raises
    ------
    ModelError
        The model is not built, subclassed, or Keras cannot rebuild it.
    FileFormatError, UntrustedModelError
        The file is no model, damaged, or does what an unknown file must not do.
    """
    path = sha256 = None
    if isinstance(model, str | os.PathLike):
        from nnprune.keras_io.scan import look

        file = look(model, trust=trust)
        from nnprune.keras_io.quiet import quiet_start

        with quiet_start():
            from nnprune.keras_io.load import load_model

        path, sha256 = str(file.path), file.sha256
        model = load_model(file, trust=trust)
    from nnprune.keras_io.config import read_config
    from nnprune.keras_io.graph import read_network
    from nnprune.keras_io.rebuild import live_config
    from nnprune.keras_io.weights import LiveWeights

    calls = read_config(live_config(model))
    graph = read_network(calls, LiveWeights(model))
    return OpenedModel(model=model, graph=graph, path=path, sha256=sha256)


def input_box_of(opened: OpenedModel, bounds: Any) -> InputBox:
    """Check the bounds given for a model's inputs, or find those that its first layers suggest.

    Raises
    ------
    BoundsError
        They are inverted, not finite, not numbers, or do not fit; the message names the input.
    """
    from nnprune.keras_io.input_box import default_box, given_box
    from nnprune.keras_io.weights import LiveWeights

    calls = opened.graph.calls
    if bounds is None:
        return default_box(calls, LiveWeights(opened.model))
    return given_box(calls.inputs, bounds)
