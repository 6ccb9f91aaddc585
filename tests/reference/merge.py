"""The primitive operation: the delegate takes over the nominee's outgoing weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reference.activation import Array
from reference.graph import Graph
from reference.layer import read_layer


def merge(
    graph: Graph, name: str, pairs: Sequence[tuple[int, int]], *, stored: bool = False
) -> Graph:
    """Merge pair by pair; the nominees stay in place with zero outgoing weights.

    With `stored` the new weights are rounded to float32 as a network stores them.
    """

    def rounded(weights: Array) -> Array:
        return weights.astype(np.float32).astype(np.float64) if stored else weights

    changed: dict[str, dict[str, Array]] = {}
    for consumer in read_layer(graph, name).consumers:
        kernel = consumer.kernel.copy()
        shift = np.zeros(kernel.shape[1])
        for nominee, delegate in pairs:
            goes = np.flatnonzero(consumer.unit == nominee)
            stays = np.flatnonzero(consumer.unit == delegate)
            for i, j in zip(goes, stays, strict=True):
                ratio = consumer.gain[i] / consumer.gain[j]
                shift += kernel[i] * (consumer.shift[i] - consumer.shift[j] * ratio)
                kernel[j] = rounded(kernel[j] + ratio * kernel[i])
                kernel[i] = 0.0
        bias = consumer.node.weight("bias")
        bias = np.zeros(kernel.shape[1]) if bias is None else bias
        changed[consumer.node.name] = {"kernel": kernel, "bias": rounded(bias + shift)}
    return graph.replace(changed)
