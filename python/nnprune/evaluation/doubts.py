"""What is odd about an evaluation that can be done all the same: warnings for its reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnprune.attacks.options import Attack
from nnprune.evaluation.entries import Entry

if TYPE_CHECKING:
    import keras

    from nnprune.keras_io.input_box import InputBox

__all__ = ["doubts_about_epsilons", "doubts_about_models"]

# Of the input box's width. Half of it is enough to turn every image into the same grey.
_SMALL, _LARGE = 1 / 1000, 1 / 2


def doubts_about_epsilons(attacks: Sequence[Attack], box: InputBox) -> list[str]:
    """Warn of epsilons that suit another range of inputs."""
    width = float(np.max(box.upper[0] - box.lower[0]))
    epsilons = sorted({epsilon for attack in attacks for epsilon in attack.epsilons})
    small = [epsilon for epsilon in epsilons if 0.0 < epsilon < width * _SMALL]
    large = [epsilon for epsilon in epsilons if epsilon >= width * _LARGE]
    doubts = []
    for odd, what in ((small, "less than a thousandth"), (large, "half or more")):
        if odd:
            shown = ", ".join(f"{epsilon:.4g}" for epsilon in odd)
            doubts.append(
                f"epsilon {shown} is {what} of the input box's width ({width:.6g}): epsilons are "
                "in the units of the model's input"
            )
    return doubts


def doubts_about_models(entries: Sequence[Entry], *, trusted: bool) -> list[str]:
    """Warn of models that are not what the reader will take them for."""
    doubts = []
    if trusted and any(entry.opened.path for entry in entries):
        doubts.append("the files were trusted: what guards against a hostile author was skipped")
    for place, entry in enumerate(entries):
        for other in entries[:place]:
            if entry.opened.sha256 is not None and entry.opened.sha256 == other.opened.sha256:
                doubts.append(f"{other.label} and {entry.label} are the same file")
        if entry.pruning is not None:
            doubts += _doubts_about_record(entry, entry.pruning, entries[0])
    training = [entry.label for entry in entries if _keeps_optimizer_state(entry.opened.model)]
    if training:
        doubts.append(
            f"{', '.join(training)}: the file holds the optimizer's state, which only training "
            "needs: compare parameters, not bytes, or compile the model anew before it is saved"
        )
    return doubts


def _doubts_about_record(entry: Entry, pruning: Mapping[str, Any], first: Entry) -> list[str]:
    """Compare what a pruning recorded with the models."""
    doubts = []
    after, source = pruning.get("after"), pruning.get("source")
    left = after.get("parameters") if isinstance(after, Mapping) else None
    parameters = entry.opened.model.count_params()
    if left not in (None, parameters):
        doubts.append(
            f"{entry.label} has {parameters} parameters, and the pruning whose trace was given "
            f"left {left}: it made another model"
        )
    pruned = source.get("sha256") if isinstance(source, Mapping) else None
    given = first.opened.sha256
    if first.role == "original" and None not in (pruned, given) and pruned != given:
        doubts.append(
            f"the pruning whose trace was given started from another file than {first.label}"
        )
    return doubts


def _keeps_optimizer_state(model: keras.Model) -> bool:
    """Whether a model has been trained by an optimizer that keeps numbers for every weight."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None or not getattr(optimizer, "built", False):
        return False
    keeps_none = type(optimizer).__name__ == "SGD" and not optimizer.momentum
    return int(optimizer.iterations) > 0 and not keeps_none
