"""Random weights and inputs for Keras models, their networks, and the outputs of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from nnprune import _core
from nnprune.keras_io.config import read_config
from nnprune.keras_io.graph import Graph, read_network
from nnprune.keras_io.rebuild import live_config
from nnprune.keras_io.weights import LiveWeights
from numpy.typing import NDArray

METHOD: dict[str, Any] = {
    "name": "annealing",
    "alpha": 0.75,
    "similarity": 0.9,
    "density": "inclusive",
    "normalization": "scaled",
    "impact": "interval",
    "pool": 4,
    "rewalks": 1,
    "restart": "never",
}


def graph_of(model: keras.Model) -> Graph:
    """Read the network of a live model."""
    return read_network(read_config(live_config(model)), LiveWeights(model))


def randomize(model: keras.Model, seed: int = 0) -> keras.Model:
    """Give every weight a random value, variances a positive one."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        shape = tuple(weight.shape)
        if "seed" in weight.name or "count" in weight.name:
            continue
        if "variance" in weight.name:
            weight.assign(random.uniform(0.5, 2.0, shape))
        else:
            rows = max(1, int(np.prod(shape[:-1])))
            weight.assign(random.standard_normal(shape) * rows**-0.5)
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
    return model


def input_structure(model: keras.Model) -> Any:
    """Return the inputs of a model as it takes them; a Sequential model has one."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def samples(model: keras.Model, count: int = 3, seed: int = 1) -> list[NDArray[np.float32]]:
    """Draw a batch for every input of a model."""
    random = np.random.default_rng(seed)
    return [
        random.uniform(-1.0, 1.0, (count, *tensor.shape[1:])).astype(np.float32)
        for tensor in keras.tree.flatten(input_structure(model))
    ]


def keras_outputs(model: keras.Model, batches: Sequence[Any]) -> list[NDArray[np.float64]]:
    """Run a model on a batch for every input; its outputs, flattened as Keras does."""
    inputs = keras.tree.pack_sequence_as(input_structure(model), list(batches))
    outputs = model(inputs, training=False)
    return [
        np.asarray(ops.convert_to_numpy(ops.cast(output, "float32")), np.float64)
        for output in keras.tree.flatten(outputs)
    ]


def graph_outputs(graph: Graph, batches: Sequence[Any]) -> list[NDArray[np.float64]]:
    """Run the compiled core on a batch for every input, sample by sample."""
    rows = [
        graph.network.evaluate([np.asarray(batch[number], np.float64) for batch in batches])
        for number in range(len(batches[0]))
    ]
    return [np.stack(column) for column in zip(*rows, strict=True)]


def prune_graph(graph: Graph) -> _core.Pruning:
    """Prune every layer that can be pruned over the box [-1, 1]."""
    return _core.prune(
        graph.network,
        [-np.ones(one.shape) for one in graph.inputs],
        [np.ones(one.shape) for one in graph.inputs],
        layers=[group.layer for group in graph.network.groups if group.reason is None],
        target=0.5,
        step=0.25,
        method=METHOD,
        outgoing="l2",
        seed=0,
    )


def prunable(graph: Graph) -> set[str]:
    """Return the layers of which units can be removed."""
    return {group.layer for group in graph.network.groups if group.reason is None}
