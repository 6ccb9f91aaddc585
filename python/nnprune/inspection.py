"""`inspect`: what could be pruned, what not, and why, without loading Keras."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnprune import _core

if TYPE_CHECKING:
    import keras

    from nnprune.keras_io.graph import Graph
    from nnprune.keras_io.scan import ModelFile
    from nnprune.keras_io.weights import WeightProvider

__all__ = ["Inspection", "LayerInspection", "inspect"]


@dataclass(frozen=True, kw_only=True)
class LayerInspection:
    """One layer with units.

    Attributes
    ----------
    layer : str
        Its name, nested models' names in front.
    kind : str
        "Dense" or "Conv".
    units : int
        Number of units or filters.
    parameters, macs : int
        Its weights, and the multiply-accumulates of one evaluation.
    consumers : tuple of str
        The layers that read its units by a kernel; empty if it cannot be pruned.
    reason : str or None
        Why its units must stay; None if they can be removed.
    """

    layer: str
    kind: str
    units: int
    parameters: int
    macs: int
    consumers: tuple[str, ...]
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What a model is made of, as far as pruning goes.

    Attributes
    ----------
    path, sha256, kind, keras_version : str or None
        The file; None for a model in memory.
    inputs : mapping of str to shape
        The inputs, without the batch axis.
    outputs : tuple of str
        The nodes that impacts are measured at: the outputs, a final softmax or sigmoid left out.
    input_box : str
        Where the default input bounds come from.
    parameters, macs : int
        Of the whole model; MACs in the layers that the engine knows.
    layers : tuple of LayerInspection
        Every layer with units, in forward order.
    opaque : mapping of str to str
        Layers that the engine cannot follow, and why.
    trusted : bool
        Whether the checks of an unknown file were skipped.
    """

    path: str | None
    sha256: str | None
    kind: str | None
    keras_version: str | None
    inputs: Mapping[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    input_box: str
    parameters: int
    macs: int
    layers: tuple[LayerInspection, ...]
    opaque: Mapping[str, str]
    trusted: bool

    @property
    def prunable_units(self) -> int:
        """Number of units in layers that can be pruned."""
        return sum(layer.units for layer in self.layers if layer.reason is None)

    def summary(self) -> str:
        """Return a table of the layers, and what cannot be pruned and why."""
        rows = [("layer", "kind", "units", "parameters", "MACs", "")]
        for layer in self.layers:
            note = "prunable" if layer.reason is None else layer.reason
            sizes = (f"{layer.units:,}", f"{layer.parameters:,}", f"{layer.macs:,}")
            rows.append((layer.layer, layer.kind, *sizes, note))
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = []
        for row in rows:
            left = [row[column].ljust(widths[column]) for column in (0, 1)]
            right = [row[column].rjust(widths[column]) for column in (2, 3, 4)]
            lines.append("  ".join([*left, *right, row[5]]).rstrip())
        lines.append(
            f"{self.parameters:,} parameters, {self.macs:,} MACs, "
            f"{self.prunable_units:,} prunable units"
        )
        lines.extend(f"{layer}: not followed, {why}" for layer, why in self.opaque.items())
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        plain = dict(vars(self))
        plain["inputs"] = {name: list(shape) for name, shape in self.inputs.items()}
        plain["outputs"] = list(self.outputs)
        plain["opaque"] = dict(self.opaque)
        plain["layers"] = [
            {**vars(layer), "consumers": list(layer.consumers)} for layer in self.layers
        ]
        plain["prunable_units"] = self.prunable_units
        return plain


def inspect(model: str | os.PathLike[str] | keras.Model, *, trust: bool = False) -> Inspection:
    """Tell what could be pruned, what not and why.

    Of a file only its description is read, not its weights; neither Keras nor TensorFlow is
    loaded.

    Parameters
    ----------
    model : path-like or keras.Model
        A `.keras` or `.h5` file, or a built Sequential or Functional model.
    trust : bool, default False
        Skip the checks of what an unknown file must not do.

    Raises
    ------
    FileFormatError, UntrustedModelError
        The file is no model, damaged, or does what an unknown file must not do.
    ModelError
        The model has no layer graph, or a shape in it is not known.
    """
    from nnprune.keras_io.config import read_config
    from nnprune.keras_io.graph import read_network
    from nnprune.keras_io.input_box import default_box
    from nnprune.keras_io.weights import LiveWeights, ZeroWeights

    weights: WeightProvider
    about: dict[str, Any] = {"path": None, "sha256": None, "kind": None, "keras_version": None}
    if isinstance(model, str | os.PathLike):
        file = _described(model, trust=trust)
        about = {
            "path": str(file.path),
            "sha256": file.sha256,
            "kind": file.kind.value,
            "keras_version": file.keras_version,
        }
        calls = read_config(file.config or {})
        parameters, weights = file.stored_parameters, ZeroWeights()
    else:
        from nnprune.keras_io.rebuild import live_config

        calls = read_config(live_config(model))
        parameters, weights = model.count_params(), LiveWeights(model)
    graph = read_network(calls, weights)
    return Inspection(
        **about,
        inputs={one.name: one.shape for one in calls.inputs},
        outputs=tuple(graph.network.logits),
        input_box=default_box(calls, weights).source,
        parameters=parameters,
        macs=sum(node.macs for node in graph.network.nodes),
        layers=_layers(graph),
        opaque=dict(graph.opaque),
        trusted=trust,
    )


def _described(path: str | os.PathLike[str], *, trust: bool) -> ModelFile:
    """Look at a file; a SavedModel tells its layers only after conversion."""
    from nnprune.keras_io.scan import look

    file = look(path, trust=trust)
    if file.config is not None:
        return file
    import tempfile

    from nnprune.keras_io.legacy import convert

    with tempfile.TemporaryDirectory(prefix="nnprune-") as folder:
        converted = convert(file, Path(folder), trust=trust)
    return replace(file, config=converted.config, stored_parameters=converted.stored_parameters)


def _layers(graph: Graph) -> tuple[LayerInspection, ...]:
    nodes: dict[str, _core.NodeInfo] = {node.name: node for node in graph.network.nodes}
    return tuple(
        LayerInspection(
            layer=group.layer,
            kind=nodes[group.node].kind,
            units=group.units,
            parameters=nodes[group.node].parameters,
            macs=nodes[group.node].macs,
            consumers=tuple(nodes[name].layer for name in group.consumers),
            reason=group.reason,
        )
        for group in graph.network.groups
    )
