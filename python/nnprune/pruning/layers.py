"""Which layers are pruned, and how many units that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from nnprune import _core
from nnprune.errors import ConfigError, UnknownLayerError
from nnprune.keras_io.opened import OpenedModel

__all__ = ["chosen_layers", "units_to_remove"]


def chosen_layers(
    network: _core.Network, layers: Sequence[str] | None, exclude: Sequence[str] | None
) -> list[str]:
    """Names of the layers to prune; the core says why if one of them cannot be."""
    known = [group.layer for group in network.groups]
    for option, names in (("layers", layers), ("exclude", exclude)):
        if isinstance(names, str):
            raise ConfigError(f"{option}: expected a list of layer names, got the text {names!r}")
        for name in names or ():
            if name not in known:
                raise UnknownLayerError(
                    f"{option}: unknown layer '{name}'; layers with units: {', '.join(known)}"
                )
    if layers is not None and not layers:
        raise ConfigError("layers: expected at least one layer name, got none")
    if layers is None and not exclude:
        return []
    prunable = [group.layer for group in network.groups if group.reason is None]
    wanted = prunable if layers is None else layers
    chosen = [name for name in wanted if name not in (exclude or ())]
    if not chosen and prunable:
        raise ConfigError("exclude: leaves no layer to prune")
    return chosen


def units_to_remove(
    opened: OpenedModel, chosen: Sequence[str], target: float | Literal["lossless"]
) -> int:
    """Count the units that a run to `target` has to remove, over all layers chosen."""
    units = [
        group.units
        for group in opened.graph.network.groups
        if group.reason is None and (not chosen or group.layer in chosen)
    ]
    if isinstance(target, str):
        return sum(count - 1 for count in units)
    return sum(min(int(np.floor(target * count + 0.5)), count - 1) for count in units)
