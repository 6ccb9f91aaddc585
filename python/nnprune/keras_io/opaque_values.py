"""Values of the nodes that the engine cannot compute, by the model itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnprune.errors import ConfigError, ModelError
from nnprune.keras_io.batches import batch_size_of
from nnprune.keras_io.graph import Graph
from nnprune.keras_io.opened import OpenedModel
from nnprune.keras_io.weights import is_graph_model
from nnprune.keras_io.wording import quoted

__all__ = ["needed_opaque_nodes", "opaque_values"]


def needed_opaque_nodes(graph: Graph) -> list[str]:
    """Name the opaque nodes whose values let the engine compute everything behind them.

    They are those that something other than an opaque node reads, or that are outputs; not an
    output whose shape is not known, behind which there is nothing.
    """
    nodes = graph.network.nodes
    wanted = {source for node in nodes if node.kind != "Opaque" for source in node.sources}
    wanted |= {node.name for node in nodes if node.name in graph.outputs and node.shape}
    return [node.name for node in nodes if node.kind == "Opaque" and node.name in wanted]


def opaque_values(
    opened: OpenedModel, inputs: Sequence[ArrayLike], *, batch_size: int | None = None
) -> dict[str, NDArray[np.float32]]:
    """Compute the values that `_core.Network.forward` needs beside the inputs.

    Parameters
    ----------
    opened : OpenedModel
        The model and its network.
    inputs : sequence of arrays of shape (samples, *input shape)
        One for each of the model's inputs.
    batch_size : int, optional
        Samples that the model computes at a time; by default as `batch_size_of` has it.

    Returns
    -------
    dict of str to float32 array of shape (samples, *node shape)
        By node; empty for a model without opaque nodes.

    Raises
    ------
    ConfigError
        There is not one array for each input.
    ModelError
        A node's values are not to be had: it is in a nested model that is called several times,
        or they are no array of its shape.
    """
    graph = opened.graph
    names = needed_opaque_nodes(graph)
    if not names:
        return {}
    arrays = [np.asarray(array) for array in inputs]
    if len(arrays) != len(graph.inputs):
        raise ConfigError(
            f"inputs: the model has {len(graph.inputs)}, got arrays for {len(arrays)}"
        )
    calls = {node: call for call, node in graph.nodes.items()}
    tensors = [_tensor_of(opened.model, calls.get(name, name), name) for name in names]
    part = keras.Model(opened.model.inputs, tensors)
    values: list[list[NDArray[np.float32]]] = [[] for _ in names]
    size = batch_size_of(opened.model) if batch_size is None else batch_size
    for first in range(0, len(arrays[0]), size):
        batch = [array[first : first + size] for array in arrays]
        computed = keras.tree.flatten(part(batch, training=False))
        for kept, tensor in zip(values, computed, strict=True):
            array = keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))
            kept.append(np.asarray(array, np.float32))
    found = {name: np.concatenate(kept) for name, kept in zip(names, values, strict=True)}
    _check_shapes(graph, found)
    return found


def _check_shapes(graph: Graph, found: Mapping[str, NDArray[np.float32]]) -> None:
    shapes = {node.name: tuple(node.shape) for node in graph.network.nodes}
    for name, array in found.items():
        if array.shape[1:] != shapes[name]:
            raise ModelError(
                f"layer {quoted(name)}: its values have shape {array.shape[1:]}, expected "
                f"{shapes[name]}; give representative inputs to a model without this layer"
            )


def _tensor_of(model: Any, call: str, node: str) -> Any:
    """Find the tensor of a call by its name: layer path, number of the call, of the output."""
    call, _, output = call.partition("/output:")
    path, _, number = call.partition(":")
    try:
        tensors = _call_outputs(model, path.split("/"), int(number or 0))
        return keras.tree.flatten(tensors)[int(output or 0)]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"layer {quoted(node)}: the model gives no values of it where it is called ({error}); "
            "make it a layer of the outer model"
        ) from error


def _call_outputs(model: Any, path: Sequence[str], number: int) -> Any:
    """Return the outputs of one call of a layer; nested models are called once more up to it."""
    name, *inner = path
    functional = getattr(model, "_functional", None) or model
    operation = next(each for each in functional.operations if each.name == name)
    # A layer may be called elsewhere, too; only calls that this model is made of count.
    own = {id(each) for nodes in functional._nodes_by_depth.values() for each in nodes}
    nodes = [each for each in operation._inbound_nodes if id(each) in own]
    if not inner:
        return nodes[number].output_tensors
    if not is_graph_model(operation) or len(nodes) != 1:
        raise ValueError(f"{name!r} is called {len(nodes)} times")
    part = keras.Model(operation.inputs, _call_outputs(operation, inner, number))
    return part(*nodes[0].arguments.args, **nodes[0].arguments.kwargs)
