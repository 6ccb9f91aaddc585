"""Readable, slow NumPy twins of the compiled core; `docs/method.md` is what both follow.

Nothing here imports the package under test. One module per topic, with the same word as in the
core: `activation`, `bounds`, `saliency`, `impact`, `energy`, `annealing`, `merge`, `prune`,
`inversion`. Twins of the evaluation: `attacks`, `calibration`, `classification`. Twins of the
certificate, for chains of dense layers: `chain_values`, `chain_jacobian`, `chain_difference`,
`chain_certificate`.
"""

from __future__ import annotations

from reference import (
    activation,
    annealing,
    bounds,
    energy,
    graph,
    impact,
    layer,
    merge,
    prune,
    saliency,
)
from reference.graph import Graph, Node

__all__ = [
    "Graph",
    "Node",
    "activation",
    "annealing",
    "bounds",
    "energy",
    "graph",
    "impact",
    "layer",
    "merge",
    "prune",
    "saliency",
]
