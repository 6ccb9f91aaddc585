"""A pruned network back to a `.keras` file without Keras, as Keras would write it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnprune import _core
from nnprune.keras_io.archive_layers import LAYERS
from nnprune.keras_io.archive_read import ArchivedLayer, ArchivedModel, shapes_read, with_shapes
from nnprune.keras_io.archive_values import float32_policy
from nnprune.keras_io.archive_write import write_archive
from nnprune.keras_io.edits import Edits, too_large
from nnprune.keras_io.graph import Graph
from nnprune.keras_io.late_model import Pending

if TYPE_CHECKING:
    import keras

__all__ = ["SmallerArchive", "smaller_archive"]

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class SmallerArchive(Pending):
    """A smaller model that no Keras has seen yet.

    Attributes
    ----------
    model
        The model as it will stand in its file.
    """

    model: ArchivedModel

    def write(self, path: Path) -> None:
        """Write the `.keras` file."""
        write_archive(self.model, path)

    def load(self) -> keras.Model:
        """Have Keras read the file that this would be; the optimizer starts afresh."""
        from nnprune.keras_io.quiet import quiet_start

        with quiet_start():
            from nnprune.keras_io.load import load_own
        with tempfile.TemporaryDirectory(prefix="nnprune-") as folder:
            path = Path(folder) / "model.keras"
            self.write(path)
            return load_own(path)


def smaller_archive(
    model: ArchivedModel,
    graph: Graph,
    network: _core.Network,
    kept: Mapping[str, NDArray[np.int64]],
) -> SmallerArchive:
    """Make the smaller model, as `nnprune.keras_io.rebuild.rebuild` does with Keras.

    Parameters
    ----------
    model
        The model that `graph` was read from.
    graph
        Its network.
    network
        What a run made of that network.
    kept
        The original numbers of the units left, for every layer that lost some.

    Raises
    ------
    WeightError
        A merged weight is too large for float32; the message names the layer.
    """
    edits = Edits(graph, network, kept)
    read = shapes_read(graph, network)
    layers = tuple(_smaller_layer(layer, edits, read[layer.name]) for layer in model.layers)
    config = {**model.described["config"], "layers": [layer.described for layer in layers]}
    if "dtype" in config:
        config["dtype"] = _alone(config["dtype"])
    return SmallerArchive(
        model=replace(model, described={**model.described, "config": config}, layers=layers)
    )


def _smaller_layer(
    layer: ArchivedLayer, edits: Edits, shapes: list[list[int | None]]
) -> ArchivedLayer:
    described = with_shapes(layer.described, shapes)
    config = {**described["config"], **edits.config(layer.name, described["config"])}
    described["config"] = {key: _alone(value) for key, value in config.items()}
    changed = edits.weights(layer.name)
    weights = {}
    for name in LAYERS[described["class_name"]].weights(config):
        new = changed.get(name)
        weights[name] = layer.weights[name] if new is None else _stored(new, layer, name)
    return replace(layer, described=described, weights=weights)


def _stored(new: Array, layer: ArchivedLayer, name: str) -> Array:
    """Bring a changed weight to the shape that Keras gives it."""
    if not np.all(np.isfinite(new)):
        raise too_large(layer.name, name, "float32")
    old = layer.weights.get(name)
    if old is None or new.ndim == old.ndim:
        return new
    # The core keeps kernels of convolutions as matrices; what changes is the channels they read.
    return new.reshape(*old.shape[:-2], -1, old.shape[-1])


def _alone(value: Any) -> Any:
    """Describe a dtype policy as one that no two layers share: the smaller model's do not."""
    if float32_policy(value):
        return {key: entry for key, entry in value.items() if key != "shared_object_id"}
    return value
