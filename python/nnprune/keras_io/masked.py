"""A running model that follows a pruning epoch by epoch, without being rebuilt.

The units that went stay in it with outgoing weights of zero: it computes what the smaller model
does, and one compiled function serves all epochs.
"""

from __future__ import annotations

from typing import Any

import keras

from nnprune import _core
from nnprune.keras_io.edits import Edits
from nnprune.keras_io.graph import Graph
from nnprune.keras_io.logits import LogitsModel, logits_model
from nnprune.keras_io.rebuild import rebuild
from nnprune.keras_io.weights import named_layers

__all__ = ["MaskedModel"]


class MaskedModel:
    """The logits of a model in the middle of its pruning.

    Parameters
    ----------
    model : keras.Model
        The original; not touched.
    graph : Graph
        Its network.
    """

    def __init__(self, model: keras.Model, graph: Graph) -> None:
        self._original = model
        self._graph = graph
        self._biased: frozenset[str] | None = None
        self._layers: dict[str, Any] = {}
        self._logits: LogitsModel | None = None

    def follow(self, network: _core.Network) -> LogitsModel:
        """Take over the weights of `network`, which has the original's shape.

        Returns
        -------
        LogitsModel
            The same one from call to call, unless a merge has given a bias to a layer without one.
        """
        biased = frozenset(
            node.name for node in network.nodes if "bias" in network.weights(node.name)
        )
        if self._logits is None or biased != self._biased:
            self._logits = self._built(network)
            self._biased = biased
        edits = Edits(self._graph, network, {})
        for path, layer in self._layers.items():
            changed = edits.weights(path)
            for weight in layer.weights if changed else ():
                value = changed.get(weight.name)
                if value is not None:
                    weight.assign(value.reshape(weight.shape))
        return self._logits

    def _built(self, network: _core.Network) -> LogitsModel:
        model = rebuild(self._original, self._graph, network, {}, compiled=False).model
        logits = logits_model(model)
        self._layers = dict(named_layers(model))
        if logits.last is not None:
            self._layers[logits.layer] = logits.last
        return logits
