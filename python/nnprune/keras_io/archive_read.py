"""A `.keras` file read without Keras, where it is sure what Keras would make of it."""

from __future__ import annotations

import copy
import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnprune import _core
from nnprune.keras_io.archive_compile import learning_rate
from nnprune.keras_io.archive_graph import is_plain_model, tensors_read
from nnprune.keras_io.archive_layers import LAYERS
from nnprune.keras_io.config import LayerCall
from nnprune.keras_io.graph import Graph
from nnprune.keras_io.scan import ModelFile, check_unchanged
from nnprune.keras_io.scan_archive import WEIGHTS

if TYPE_CHECKING:
    import h5py

__all__ = [
    "ArchivedLayer",
    "ArchivedModel",
    "ArchivedWeights",
    "read_archived_model",
    "shapes_read",
    "with_shapes",
]

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class ArchivedLayer:
    """One layer as it stands in a `.keras` file.

    Attributes
    ----------
    described
        Its entry in `config.json`.
    group
        Where its weights are, such as `"layers/dense_1"`; None for the input of a Sequential
        model, of which nothing is kept.
    weights
        Its weights by Keras' names, in the order of the file.
    """

    described: Mapping[str, Any]
    group: str | None
    weights: Mapping[str, Array]

    @property
    def name(self) -> str:
        """The layer's name."""
        return str(self.described["config"]["name"])


@dataclass(frozen=True, kw_only=True, eq=False)
class ArchivedModel:
    """A whole model as it stands in a `.keras` file.

    Attributes
    ----------
    described
        What stands in `config.json`.
    layers
        Its layers in Keras' order.
    """

    described: Mapping[str, Any]
    layers: tuple[ArchivedLayer, ...]

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.described["config"]["name"])

    @property
    def loss(self) -> str | None:
        """The name or class of the loss that it is compiled with, if any."""
        loss = self.described["compile_config"].get("loss")
        if isinstance(loss, dict):
            loss = loss["class_name"]
        return None if loss is None else str(loss)

    @property
    def arrays(self) -> Iterator[Array]:
        """All weights, in Keras' order."""
        for layer in self.layers:
            yield from layer.weights.values()

    @property
    def parameters(self) -> int:
        """Numbers in all weights."""
        return sum(array.size for array in self.arrays)

    def fits(self, graph: Graph) -> bool:
        """Whether the network follows every layer, on the shapes that the file records."""
        if graph.opaque:
            return False
        read = shapes_read(graph, graph.network)
        return all(
            with_shapes(one.described, read[one.name]) == one.described for one in self.layers
        )


class ArchivedWeights:
    """The weights of a model in a `.keras` file, for the network."""

    def __init__(self, model: ArchivedModel) -> None:
        self._layers = {layer.name: layer for layer in model.layers}

    def __call__(
        self, layer: str, names: Sequence[str], shapes: Sequence[tuple[int, ...]]
    ) -> list[Array] | None:
        """Give the layer's weights by their names."""
        found = self._layers[layer].weights
        arrays = [found[name] for name in names if name in found]
        matching = [array.shape for array in arrays] == [tuple(shape) for shape in shapes]
        return arrays if matching else None

    def output_shape(
        self, call: LayerCall, sources: Sequence[tuple[int, ...]]
    ) -> tuple[int, ...] | None:
        """Know no shape."""
        return None

    def owner(self, layer: str) -> str:
        """Give the path itself: no layer is called twice."""
        return layer


def read_archived_model(file: ModelFile) -> ArchivedModel | None:
    """Read the model that `look` has described, if every part of it is known.

    Known is what Keras is sure to write again as it was; `tests/test_archive.py` holds that to
    Keras.

    Parameters
    ----------
    file
        A `.keras` file that `look` found nothing against.

    Returns
    -------
    ArchivedModel or None
        The model; None where Keras has to read it.

    Raises
    ------
    FileFormatError
        The file has changed since it was looked at.
    """
    if file.config is None or not is_plain_model(file.config):
        return None
    import h5py

    check_unchanged(file)
    with zipfile.ZipFile(file.path) as archive:
        image = io.BytesIO(archive.read(WEIGHTS))
    with h5py.File(image, "r") as stored:
        return _stored_model(file.config, stored)


def _stored_model(described: Mapping[str, Any], stored: h5py.File) -> ArchivedModel | None:
    """Read the weights; None unless the file holds what is expected and nothing else."""
    if not stored.keys() <= {"layers", "optimizer", "vars"} or _entries(stored, "layers") is None:
        return None
    if "vars" in stored and _entries(stored, "vars") != set():
        return None
    layers = []
    groups = _groups(described)
    for layer, group in zip(described["config"]["layers"], groups, strict=True):
        weights = {} if group is None else _weights(layer, stored, group)
        if weights is None:
            return None
        layers.append(ArchivedLayer(described=layer, group=group, weights=weights))
    expected = {group.split("/")[1] for group in groups if group is not None}
    if stored["layers"].keys() - expected or not _has_known_optimizer(described, stored):
        return None
    return ArchivedModel(described=described, layers=tuple(layers))


def _weights(layer: Mapping[str, Any], stored: h5py.File, group: str) -> dict[str, Array] | None:
    """Read a layer's weights; None unless they are float32, and as many as there should be."""
    names = LAYERS[layer["class_name"]].weights(layer["config"])
    numbers = [str(number) for number in range(len(names))]
    if _entries(stored, group) != {"vars"} or _entries(stored, f"{group}/vars") != set(numbers):
        return None
    datasets = [stored[f"{group}/vars/{number}"] for number in numbers]
    if any(not _is_float32(dataset) for dataset in datasets):
        return None
    return {name: dataset[()] for name, dataset in zip(names, datasets, strict=True)}


def _entries(stored: h5py.File, place: str) -> set[str] | None:
    """Name what a group holds; None where there is none, or something else."""
    import h5py

    item = stored.get(place)
    return set(item.keys()) if isinstance(item, h5py.Group) else None


def _is_float32(item: Any) -> bool:
    """Whether an object in the file is an array of float32, and nothing more is said of it."""
    import h5py

    if not isinstance(item, h5py.Dataset) or item.shape is None:
        return False
    return bool(item.dtype == np.dtype("<f4")) and len(item.attrs) == 0


def _has_known_optimizer(described: Mapping[str, Any], stored: h5py.File) -> bool:
    """Whether the state of the optimizer says the learning rate that the settings say."""
    if "optimizer" not in stored:
        return True
    settings = described["compile_config"]
    if not settings or _entries(stored, "optimizer") != {"vars"}:
        return False
    if "1" not in (_entries(stored, "optimizer/vars") or ()):
        return False
    rate = stored["optimizer/vars/1"]
    if not _is_float32(rate) or rate.shape != ():
        return False
    return float(rate[()]) == learning_rate(settings)


def _groups(described: Mapping[str, Any]) -> list[str | None]:
    """Name the places of all layers' weights: by class, numbered from the second on."""
    used: dict[str, int] = {}
    groups: list[str | None] = []
    for layer in described["config"]["layers"]:
        kind = layer["class_name"]
        if kind == "InputLayer" and described["class_name"] == "Sequential":
            groups.append(None)
            continue
        name = _in_small_letters(kind)
        number = used.get(name)
        used[name] = 0 if number is None else number + 1
        groups.append(f"layers/{name}" if number is None else f"layers/{name}_{number + 1}")
    return groups


def _in_small_letters(class_name: str) -> str:
    """Spell a class name as Keras does in the names of groups."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", class_name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def shapes_read(graph: Graph, network: _core.Network) -> dict[str, list[list[int | None]]]:
    """Give the shapes of what every layer reads, in the graph's network or a smaller one."""
    shapes = {node.name: [None, *node.shape] for node in network.nodes}
    return {
        call.layer: [shapes[graph.nodes[source]] for source in call.sources]
        for call in graph.calls.calls
    }


def with_shapes(layer: Mapping[str, Any], shapes: Sequence[list[int | None]]) -> dict[str, Any]:
    """Describe a layer as one that reads tensors of these shapes."""
    described = dict(layer)
    if layer.get("inbound_nodes"):
        described["inbound_nodes"] = copy.deepcopy(layer["inbound_nodes"])
        for tensor, shape in zip(tensors_read(described), shapes, strict=True):
            tensor["config"]["shape"] = shape
    if "build_config" in layer:
        described["build_config"] = {"input_shape": shapes[0] if len(shapes) == 1 else shapes}
    return described
