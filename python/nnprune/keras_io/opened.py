"""A model opened for work: from a file, looked at first, or as it is in memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nnprune.errors import BoundsError
from nnprune.keras_io.late_model import LateModel, Pending
from nnprune.keras_io.wording import quoted

if TYPE_CHECKING:
    import keras
    import numpy as np
    from numpy.typing import NDArray

    from nnprune import _core
    from nnprune.keras_io.archive_read import ArchivedModel
    from nnprune.keras_io.archive_smaller import SmallerArchive
    from nnprune.keras_io.graph import Graph
    from nnprune.keras_io.input_box import InputBox
    from nnprune.keras_io.loss_task import LossTask
    from nnprune.keras_io.scan import ModelFile
    from nnprune.keras_io.weights import WeightProvider

__all__ = ["OpenedModel", "SmallerModel", "input_box_of", "open_model", "smaller_model"]

# Taken for an infinite side; what becomes larger than its root has no bound.
_FAR = 1e30
_MOST_NAMED = 6


@dataclass(frozen=True, kw_only=True, repr=False)
class OpenedModel:
    """A model, and the network it is.

    Attributes
    ----------
    model : keras.Model
        The model; where `archived` is there, Keras reads it when it is first asked for.
    graph
        Its network.
    weights
        What the network's weights are from.
    path, sha256
        The file and its fingerprint; None for a model in memory.
    record
        What `PruningResult.save` has put into the file, not looked at; None if nothing.
    archived
        The model as it stands in its file, where that was read without Keras.
    """

    model: LateModel = field(default=LateModel())
    graph: Graph
    weights: WeightProvider
    path: str | None
    sha256: str | None
    record: str | None = None
    archived: ArchivedModel | None = None

    @property
    def name(self) -> str:
        """The model's own name."""
        return str(self.model.name) if self.archived is None else self.archived.name

    @property
    def parameters(self) -> int:
        """Numbers in all weights."""
        found = self.model.count_params() if self.archived is None else self.archived.parameters
        return int(found)

    @property
    def loss_task(self) -> LossTask | None:
        """What the loss that the model is compiled with is for; None if it does not say."""
        from nnprune.keras_io.loss_task import loss_task, task_of_loss

        if self.archived is None:
            return loss_task(self.model)
        loss = self.archived.loss
        return None if loss is None else task_of_loss(loss)

    @property
    def weights_sha256(self) -> str:
        """Fingerprint of the weights, the same wherever the model is saved."""
        from nnprune.keras_io.fingerprints import model_sha256, weights_sha256

        if self.archived is None:
            return model_sha256(self.model, {})
        return weights_sha256(self.archived.arrays)


@dataclass(frozen=True, kw_only=True)
class SmallerModel:
    """What a pruning made of a model.

    Attributes
    ----------
    model
        The model, or what makes it when somebody asks for it.
    parameters
        Numbers in all its weights.
    rounding
        As in `nnprune.keras_io.rebuild.Rebuilt`.
    """

    model: keras.Model | SmallerArchive
    parameters: int
    rounding: float


def smaller_model(
    opened: OpenedModel, network: _core.Network, kept: Mapping[str, NDArray[np.int64]]
) -> SmallerModel:
    """Make the smaller model: without Keras, where the original was read without.

    Parameters
    ----------
    opened
        The original.
    network
        What a run made of its network.
    kept
        The original numbers of the units left, for every layer that lost some.

    Raises
    ------
    ModelError
        A layer cannot be rebuilt, or its merged weights are too large; the message names it.
    """
    if opened.archived is not None:
        from nnprune.keras_io.archive_smaller import smaller_archive

        smaller = smaller_archive(opened.archived, opened.graph, network, kept)
        return SmallerModel(model=smaller, parameters=smaller.model.parameters, rounding=0.0)
    from nnprune.keras_io.rebuild import rebuild

    rebuilt = rebuild(opened.model, opened.graph, network, kept)
    parameters = int(rebuilt.model.count_params())
    return SmallerModel(model=rebuilt.model, parameters=parameters, rounding=rebuilt.rounding)


def open_model(
    model: str | os.PathLike[str] | keras.Model, *, trust: bool, without_keras: bool = False
) -> OpenedModel:
    """Look at a file and load it, or take a live model; read its graph and weights.

    Parameters
    ----------
    model
        The file, or the model.
    trust
        Whether to skip the checks of an unknown file.
    without_keras
        Whether a file may be read without Keras, if it is sure that this comes to the same.

    Raises
    ------
    ModelError
        The model is not built, subclassed, or Keras cannot rebuild it.
    FileFormatError, UntrustedModelError
        The file is no model, damaged, or does what an unknown file must not do.
    """
    if not isinstance(model, str | os.PathLike):
        return _opened(model, None)
    import h5py  # noqa: F401  (before `look` starts a process that needs it, too)

    from nnprune.keras_io.scan import look

    file = look(model, trust=trust)
    opened = _opened_without_keras(file, trust=trust) if without_keras else None
    return _opened(_FileToLoad(file, trust=trust).load(), file) if opened is None else opened


@dataclass(frozen=True)
class _FileToLoad(Pending):
    """A file that was looked at, before Keras loads it."""

    file: ModelFile
    trust: bool = field(kw_only=True)

    def load(self) -> keras.Model:
        """Load it."""
        from nnprune.keras_io.quiet import quiet_start

        with quiet_start():
            from nnprune.keras_io.load import load_model

        return load_model(self.file, trust=self.trust)


def _opened(model: keras.Model, file: ModelFile | None) -> OpenedModel:
    """Read the graph and weights of a live model."""
    from nnprune.keras_io.config import read_config
    from nnprune.keras_io.graph import read_network
    from nnprune.keras_io.rebuild import live_config
    from nnprune.keras_io.weights import LiveWeights

    calls = read_config(live_config(model))
    weights = LiveWeights(model)
    return OpenedModel(
        model=model, graph=read_network(calls, weights), weights=weights, **_source(file)
    )


def _opened_without_keras(file: ModelFile, *, trust: bool) -> OpenedModel | None:
    """Read a file without Keras; None where it is not sure what Keras would make of it."""
    from nnprune.keras_io.archive_choice import may_do_without_keras

    if file.config is None or not may_do_without_keras(file, trust=trust):
        return None
    from nnprune.keras_io.archive_read import ArchivedWeights, read_archived_model
    from nnprune.keras_io.config import read_config
    from nnprune.keras_io.graph import read_network

    archived = read_archived_model(file)
    if archived is None:
        return None
    weights = ArchivedWeights(archived)
    graph = read_network(read_config(file.config), weights)
    if not archived.fits(graph):
        return None
    return OpenedModel(
        model=_FileToLoad(file, trust=trust),
        graph=graph,
        weights=weights,
        archived=archived,
        **_source(file),
    )


def _source(file: ModelFile | None) -> dict[str, Any]:
    """Say which file a model is from."""
    if file is None:
        return {"path": None, "sha256": None, "record": None}
    return {"path": str(file.path), "sha256": file.sha256, "record": file.record}


def input_box_of(opened: OpenedModel, bounds: Any) -> InputBox:
    """Check the bounds given for a model's inputs, or find those that its first layers suggest.

    Raises
    ------
    BoundsError
        They are inverted, not finite, not numbers, or do not fit; the message names the input, and
        of infinite ones the layers that would have no finite bound.
    """
    from nnprune.keras_io.input_box import default_box, given_box

    calls = opened.graph.calls
    if bounds is None:
        return default_box(calls, opened.weights)
    try:
        return given_box(calls.inputs, bounds)
    except BoundsError as error:
        try:
            far = given_box(calls.inputs, bounds, infinity=_FAR)
        except BoundsError:  # something else is wrong, too
            raise error from None
        raise BoundsError(f"{error}; {_without_bound(opened, far)}") from error


def _without_bound(opened: OpenedModel, far: InputBox) -> str:
    """Say what infinite sides leave without a bound; `far` has large numbers in their place."""
    network = opened.graph.network
    intervals = network.value_intervals(far.lower, far.upper)
    layers: list[str] = []
    for node in network.nodes:
        ends = intervals[node.name]
        bounded = all(bool((abs(end) < _FAR**0.5).all()) for end in ends)
        layer = node.layer.removesuffix("/activation")
        if not bounded and node.kind != "Input" and layer not in layers:
            layers.append(layer)
    if not layers:
        return "no layer needs them, but the methods do: give finite ones"
    more = f" and {len(layers) - _MOST_NAMED} more" if len(layers) > _MOST_NAMED else ""
    named = ", ".join(quoted(layer) for layer in layers[:_MOST_NAMED])
    return f"with them these layers have no finite bound: {named}{more}"
