"""What a run of the core made, as a result tells it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnprune import _core
from nnprune.result import LayerChange

__all__ = ["impact_by_output", "layer_changes", "macs"]


def macs(network: _core.Network) -> int:
    """Count the multiply-accumulates of one evaluation."""
    return sum(node.macs for node in network.nodes)


def layer_changes(network: _core.Network, pruning: _core.Pruning) -> tuple[LayerChange, ...]:
    """Tell of every layer with units how many it has and had."""
    kept = pruning.kept
    return tuple(
        LayerChange(
            layer=group.layer,
            units_before=group.units,
            units_after=len(kept[group.layer]) if group.layer in kept else group.units,
            reason=group.reason,
        )
        for group in network.groups
    )


def impact_by_output(
    network: _core.Network, pruning: _core.Pruning
) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
    """Split the logits' bounds by output."""
    lower, upper = pruning.impact
    sizes = {node.name: int(np.prod(node.shape)) for node in network.nodes}
    impact = {}
    first = 0
    for name in network.logits:
        last = first + sizes[name]
        # A fused activation is a node of its own; the layer's name is what users know.
        impact[name.removesuffix("/activation")] = (
            lower[first:last].tolist(),
            upper[first:last].tolist(),
        )
        first = last
    return impact
