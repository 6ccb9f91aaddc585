"""Saliency of every pair (eq. 2), each distance computed directly."""

from __future__ import annotations

import numpy as np

from reference.activation import Array
from reference.graph import Graph
from reference.layer import read_layer


def bias_term(first: float, second: float) -> float:
    """Return the relative distance of two biases; equal ones are at no distance."""
    if first == second:
        return 0.0
    return abs(first - second) / max(abs(first + second), 1e-12)


def saliency(graph: Graph, name: str, *, outgoing: str = "l2", bias: str = "absolute") -> Array:
    """Return the matrix of saliencies: row = nominee, column = delegate; the diagonal is inf."""
    layer = read_layer(graph, name)
    rows = layer.outgoing()
    weight = np.sqrt(np.sum(rows**2, axis=1)) if outgoing == "l2" else np.mean(np.abs(rows), axis=1)
    result = np.full((layer.units, layer.units), np.inf)
    for i in range(layer.units):
        for j in range(layer.units):
            if i != j:
                squares = float(np.sum((layer.kernel[:, i] - layer.kernel[:, j]) ** 2))
                gap = float(layer.bias[i] - layer.bias[j])
                if bias == "absolute":
                    distance = np.sqrt(squares + gap**2)
                else:
                    distance = np.sqrt(squares) + bias_term(layer.bias[i], layer.bias[j])
                result[i, j] = weight[i] * distance
    return result
