"""Counting instances that are proved robust: the other side of what attacks find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nnprune.attacks.options import FGSM, PGD, Attack
from nnprune.certification.local import certified
from nnprune.errors import ConfigError
from nnprune.metrics.classification import proportion
from nnprune.metrics.robustness import AttackOutcome

if TYPE_CHECKING:
    from nnprune.keras_io.input_box import InputBox
    from nnprune.keras_io.opened import OpenedModel

__all__ = ["CertifiedCounts", "certifiable"]

# A sample that float32 has put outside the box by this much, relative to it, is still in it.
_ROUNDING = 1e-6


def certifiable(attacks: Sequence[Attack]) -> tuple[float, ...]:
    """Return the sizes of those attacks that stay within the ball and the box.

    Raises
    ------
    ConfigError
        There are none.
    """
    sizes = {size for attack in attacks if _stays_inside(attack) for size in attack.epsilons}
    if not sizes:
        raise ConfigError(
            "certified: needs the sizes of FGSM or PGD attacks; give some (--attack fgsm:0.01)"
        )
    return tuple(sorted(sizes))


class CertifiedCounts:
    """Instances proved robust, of models at several sizes of perturbation.

    Parameters
    ----------
    models : mapping of str to OpenedModel
        The models by their labels.
    box : InputBox
        The legitimate inputs, of one input.
    epsilons : sequence of float
        The sizes.
    """

    def __init__(
        self, models: Mapping[str, OpenedModel], box: InputBox, epsilons: Sequence[float]
    ) -> None:
        self._models = models
        self._lower, self._upper = box.lower[0], box.upper[0]
        self._counts = {(label, size): 0 for label in models for size in epsilons}
        self._samples = 0

    def add(
        self,
        x: NDArray[np.float32],
        y: NDArray[np.int64],
        clean: Mapping[str, NDArray[np.int64]],
    ) -> None:
        """Take in a batch; parameters as for `RobustCounts.add`."""
        self._samples += len(y)
        size = np.maximum(np.abs(self._lower), np.abs(self._upper))
        off = np.abs(x - np.clip(x, self._lower, self._upper)) - _ROUNDING * size
        inside = np.all(off.reshape(len(x), -1) <= 0.0, axis=1)
        for (label, epsilon), count in self._counts.items():
            chosen = inside & (clean[label] == y)
            if epsilon > 0.0 and chosen.any():
                found = certified(
                    self._models[label],
                    y[chosen],
                    self._lower,
                    self._upper,
                    x[chosen],
                    epsilon,
                    lambda _: None,
                )
                self._counts[label, epsilon] = count + int(found.sum())
            elif epsilon == 0.0:  # there is nothing to prove
                self._counts[label, epsilon] = count + int(np.sum(clean[label] == y))

    def joined(self, label: str, attack: Attack, outcome: AttackOutcome) -> AttackOutcome:
        """Add to what an attack did to a model how many instances no attack can turn."""
        if not _stays_inside(attack):
            return outcome
        points = [
            replace(point, certified=proportion(self._counts[label, point.epsilon], self._samples))
            for point in outcome.points
        ]
        return replace(outcome, points=tuple(points))


def _stays_inside(attack: Attack) -> bool:
    """Whether an attack moves every feature by at most epsilon, and within the box."""
    return isinstance(attack, PGD) or (isinstance(attack, FGSM) and not attack.paper_code)
