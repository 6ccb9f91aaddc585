"""What the tests of compensation share: calls with defaults, and samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from networks import Sketch
from nnprune import _core
from numpy.typing import NDArray
from reference import Graph
from reference.activation import Array

ELIMINATION: Mapping[str, Any] = {"name": "elimination"}
SEARCH: Mapping[str, Any] = {
    "name": "search",
    "moves": 200,
    "chains": 2,
    "heat": 0.1,
    "alpha": 1.0,
    "similarity": 0.9,
    "density": "inclusive",
    "seconds": None,
}


def plain(seed: int, *units: int, inputs: int = 5, outputs: int = 3) -> Graph:
    """Return a ReLU MLP."""
    sketch = Sketch(seed)
    at = sketch.input(inputs)
    for count in units:
        at = sketch.activation(sketch.dense(at, count), "relu", {})
    return sketch.graph(sketch.dense(at, outputs))


def samples_of(graph: Graph, count: int, seed: int) -> list[Array]:
    """Draw normal inputs in float32, held in float64, one array for each input."""
    random = np.random.default_rng(seed)
    shapes = [node.options["shape"] for node in graph.nodes if node.kind == "input"]
    drawn = [random.standard_normal((count, *shape)) for shape in shapes]
    return [array.astype(np.float32).astype(np.float64) for array in drawn]


def feeds_of(network: _core.Network, points: Sequence[Array]) -> dict[str, NDArray[np.float32]]:
    """Name the inputs' samples."""
    arrays = [array.astype(np.float32) for array in points]
    return dict(zip(network.inputs, arrays, strict=True))


def compensate(
    network: _core.Network, points: Sequence[Array], **options: Any
) -> list[_core.Compensation]:
    """Compensate with defaults: 50 %, uniform, closed loop, by elimination without a metric."""
    given = options.get("kept") is not None
    defaults: dict[str, Any] = {
        "layers": [],
        "targets": [] if given else [0.5],
        "allocation": "uniform",
        "width_multiple": 1,
        "ridge": 1e-2,
        "closed_loop": True,
        "selection": ELIMINATION,
        "seed": 0,
        "logit_metric": False,
    }
    return _core.compensate(network, feeds_of(network, points), **{**defaults, **options})
