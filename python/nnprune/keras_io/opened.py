"""A model opened for work: from a file, looked at first, or as it is in memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nnprune.errors import BoundsError
from nnprune.keras_io.wording import quoted

if TYPE_CHECKING:
    import keras

    from nnprune.keras_io.graph import Graph
    from nnprune.keras_io.input_box import InputBox

__all__ = ["OpenedModel", "input_box_of", "open_model"]

# Taken for an infinite side; what becomes larger than its root has no bound.
_FAR = 1e30
_MOST_NAMED = 6


@dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """A model, and the network it is.

    Attributes
    ----------
    model
        The model.
    graph
        Its network.
    path, sha256
        The file and its fingerprint; None for a model in memory.
    record
        What `PruningResult.save` has put into the file, not looked at; None if nothing.
    """

    model: keras.Model
    graph: Graph
    path: str | None
    sha256: str | None
    record: str | None = None


def open_model(model: str | os.PathLike[str] | keras.Model, *, trust: bool) -> OpenedModel:
    """Look at a file and load it, or take a live model; read its graph and weights.

    Raises
    ------
    ModelError
        The model is not built, subclassed, or Keras cannot rebuild it.
    FileFormatError, UntrustedModelError
        The file is no model, damaged, or does what an unknown file must not do.
    """
    path = sha256 = record = None
    if isinstance(model, str | os.PathLike):
        from nnprune.keras_io.scan import look

        file = look(model, trust=trust)
        from nnprune.keras_io.quiet import quiet_start

        with quiet_start():
            from nnprune.keras_io.load import load_model

        path, sha256, record = str(file.path), file.sha256, file.record
        model = load_model(file, trust=trust)
    from nnprune.keras_io.config import read_config
    from nnprune.keras_io.graph import read_network
    from nnprune.keras_io.rebuild import live_config
    from nnprune.keras_io.weights import LiveWeights

    calls = read_config(live_config(model))
    graph = read_network(calls, LiveWeights(model))
    return OpenedModel(model=model, graph=graph, path=path, sha256=sha256, record=record)


def input_box_of(opened: OpenedModel, bounds: Any) -> InputBox:
    """Check the bounds given for a model's inputs, or find those that its first layers suggest.

    Raises
    ------
    BoundsError
        They are inverted, not finite, not numbers, or do not fit; the message names the input, and
        of infinite ones the layers that would have no finite bound.
    """
    from nnprune.keras_io.input_box import default_box, given_box
    from nnprune.keras_io.weights import LiveWeights

    calls = opened.graph.calls
    if bounds is None:
        return default_box(calls, LiveWeights(opened.model))
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
