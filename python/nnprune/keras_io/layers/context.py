"""What every converter works with: the builder, the weights, and what was found out so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nnprune.keras_io.config import LayerCall
from nnprune.keras_io.layers.shapes import derived_shape
from nnprune.keras_io.weights import WeightProvider
from nnprune.keras_io.wording import quoted

if TYPE_CHECKING:
    from nnprune._core import NetworkBuilder

__all__ = ["Conversion", "Converter", "Unfollowable", "require"]


class Unfollowable(Exception):  # noqa: N818 (no error: the call becomes an opaque node)
    """The engine cannot follow this call; the message says why."""


@dataclass(kw_only=True)
class Conversion:
    """A network under construction.

    Attributes
    ----------
    builder
        Collects the nodes.
    weights
        Gives the layers' weights.
    nodes
        The node that stands for each call's output, by the call's name.
    masked
        Calls whose output may carry a mask.
    unknown
        Nodes whose output shape is not known; the builder has `()` for them.
    opaque
        Why the layers that the engine cannot follow are opaque, by layer.
    """

    builder: NetworkBuilder
    weights: WeightProvider
    nodes: dict[str, str] = field(default_factory=dict)
    masked: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    opaque: dict[str, str] = field(default_factory=dict)

    def sources(self, call: LayerCall) -> list[str]:
        """Nodes that the call reads."""
        return [self.nodes[source] for source in call.sources]

    def source(self, call: LayerCall) -> str:
        """Find the one node that the call reads."""
        require(len(call.sources) == 1, f"it reads {len(call.sources)} tensors")
        return self.nodes[call.sources[0]]

    def source_shape(self, call: LayerCall) -> tuple[int, ...]:
        """Shape of the one node that the call reads."""
        return self.builder.shape(self.source(call))

    def load(
        self, call: LayerCall, shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, NDArray[np.float32]]:
        """Weights of the call's layer, by Keras' names for them."""
        arrays = self.weights(call.layer, list(shapes), list(shapes.values()))
        if arrays is None:
            raise Unfollowable("its weights are not those of a plain layer of this class")
        return dict(zip(shapes, arrays, strict=True))

    def owner(self, call: LayerCall) -> str:
        """Path of the layer whose weights the call uses."""
        return self.weights.owner(call.layer)

    def add_opaque(self, call: LayerCall, reason: str) -> str:
        """Add the call as a node that the engine cannot follow, with its shape if it is known."""
        sources = self.sources(call)
        return self.add_opaque_node(
            call.name, call, sources, reason, self._opaque_shape(call, sources)
        )

    def add_opaque_node(
        self,
        name: str,
        call: LayerCall,
        sources: Sequence[str],
        reason: str,
        shape: tuple[int, ...] | None,
    ) -> str:
        """Add a node that stands for (a part of) a call that the engine cannot follow."""
        sentence = f"{quoted(call.class_name)} layer {quoted(call.layer)}: {reason}"
        if shape is None:
            self.unknown.add(name)
            sentence += "; its output shape is not known"
        self.builder.opaque(name, sources, shape or (), sentence)
        self.opaque.setdefault(call.layer, sentence)
        return name

    def _opaque_shape(self, call: LayerCall, sources: Sequence[str]) -> tuple[int, ...] | None:
        if call.shape is not None:
            return call.shape
        if any(source in self.unknown for source in sources):
            return None
        shapes = [self.builder.shape(source) for source in sources]
        live = self.weights.output_shape(call, shapes)
        return derived_shape(call, shapes) if live is None else live


Converter = Callable[[LayerCall, Conversion], str]
"""Adds the nodes of one call; the name of the node that stands for its output."""


def require(condition: bool, otherwise: str) -> None:  # noqa: FBT001 (reads like an assertion)
    """Go on only if the condition holds.

    Raises
    ------
    Unfollowable
        Otherwise, for this reason.
    """
    if not condition:
        raise Unfollowable(otherwise)
