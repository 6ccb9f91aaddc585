"""Counting robust instances of several models under several attacks, batch by batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nnprune.attacks.options import Attack, attack_to_dict
from nnprune.evaluation.subject import Subject
from nnprune.metrics.classification import Proportion, proportion
from nnprune.metrics.robustness import (
    AttackOutcome,
    RobustPoint,
    reliability_flags,
    retention,
)

if TYPE_CHECKING:
    from nnprune.attacks.campaign import Campaign

__all__ = ["RobustCounts", "flagged", "labelled"]

Mask = NDArray[np.bool_]
# To how many sizes a batch may be cut, when only some of its samples are attacked.
_SIZES = 8


def labelled(attacks: Sequence[Attack]) -> dict[str, Attack]:
    """Give every attack a label of its own.

    Those that differ in their epsilons only are one; others that would share a label are numbered.
    """
    found: dict[str, Attack] = {}
    for attack in _joined(attacks):
        label, number = attack.label, 1
        while label in found:
            number += 1
            label = f"{attack.label} ({number})"
        found[label] = attack
    return found


def _joined(attacks: Sequence[Attack]) -> list[Attack]:
    epsilons: dict[str, list[float]] = {}
    first: dict[str, Attack] = {}
    for attack in attacks:
        options = f"{attack.kind} {attack_to_dict(attack)}"
        first.setdefault(options, attack)
        epsilons.setdefault(options, []).extend(attack.epsilons)
    return [
        type(attack)(epsilons[options], **attack_to_dict(attack))
        for options, attack in first.items()
    ]


class RobustCounts:
    """Robust instances of models under one attack.

    Parameters
    ----------
    attack : Attack
        The attack.
    subjects : mapping of str to Subject
        The models by their labels.
    original : str or None
        Label of the original; the other models are then also tested on the inputs that were made
        against it.
    """

    def __init__(
        self, attack: Attack, subjects: Mapping[str, Subject], original: str | None
    ) -> None:
        from nnprune.attacks.campaign import Campaign, starts_of
        from nnprune.gradients import backend

        # JAX compiles anew for every number of samples: there no sample is left out.
        self._attack_all = backend() == "jax"
        self._attack = attack
        self._subjects = subjects
        self._original = original
        self._starts = starts_of(attack)
        self._campaigns = {
            label: Campaign(attack, subject.attacker, subject.logits)
            for label, subject in subjects.items()
        }
        points = [(label, epsilon) for label in subjects for epsilon in attack.epsilons]
        self._white_box = dict.fromkeys(points, 0)
        self._transfer = dict.fromkeys(points, 0)
        self._zero = dict.fromkeys(points, 0)
        self._samples = 0

    def add(
        self,
        x: NDArray[np.float32],
        y: NDArray[np.int64],
        clean: Mapping[str, NDArray[np.int64]],
    ) -> None:
        """Attack a batch.

        Only samples that a model predicts right can be robust (eq. 1): the others are left out.

        Parameters
        ----------
        x : float32 array, shape (samples, *input_shape)
            Inputs within the box.
        y : int64 array, shape (samples,)
            Labels.
        clean : mapping of str to int64 array, shape (samples,)
            What each model predicts for `x`.
        """
        # Drawn for all samples, so that a sample's points do not depend on which are left out.
        starts = self._starts.draw(x.shape) if self._starts is not None else []
        self._samples += len(y)
        correct = {label: clean[label] == y for label in self._subjects}
        for label in self._subjects:
            victims = [label]
            if label == self._original:
                victims = list(self._subjects)
            chosen = np.logical_or.reduce([correct[victim] for victim in victims])
            if not chosen.any():
                continue
            attacked = _filled_up(chosen, 1 if self._attack_all else _SIZES)
            campaign = self._campaigns[label]
            campaign.begin(x[attacked], y[attacked], [start[attacked] for start in starts])
            for epsilon in self._attack.epsilons:
                right = {victim: correct[victim][attacked] for victim in victims}
                self._count(label, epsilon, y[attacked], right, campaign)

    def outcome(self, label: str, name: str) -> AttackOutcome:
        """Sum up what the attack, called `name`, did to a model; without flags."""
        points = []
        for epsilon in self._attack.epsilons:
            count = self._white_box[label, epsilon]
            points.append(
                RobustPoint(
                    epsilon=epsilon,
                    white_box=proportion(count, self._samples),
                    transfer=self._transferred(label, epsilon),
                    retention=self._retained(label, epsilon),
                    zero_gradients=self._zero[label, epsilon],
                )
            )
        return AttackOutcome(
            attack=name,
            kind=self._attack.kind,
            parameters=attack_to_dict(self._attack),
            points=tuple(points),
        )

    def _count(
        self,
        label: str,
        epsilon: float,
        y: NDArray[np.int64],
        right: Mapping[str, Mask],
        campaign: Campaign,
    ) -> None:
        """Add the robust instances of one epsilon (eq. 1); `right` tells who was right before."""
        robust = {victim: mask.copy() for victim, mask in right.items()}
        always_zero = right[label].copy()
        # An epsilon of 0 leaves the inputs as they are.
        for moved, zero in campaign.adversarial(epsilon) if epsilon > 0.0 else ():
            always_zero &= zero
            for victim, mask in robust.items():
                mask &= self._subjects[victim].predictions(moved) == y
        self._white_box[label, epsilon] += int(robust.pop(label).sum())
        if epsilon > 0.0:
            self._zero[label, epsilon] += int(always_zero.sum())
        for victim, mask in robust.items():
            self._transfer[victim, epsilon] += int(mask.sum())

    def _transferred(self, label: str, epsilon: float) -> Proportion | None:
        if self._original is None or label == self._original:
            return None
        return proportion(self._transfer[label, epsilon], self._samples)

    def _retained(self, label: str, epsilon: float) -> float | None:
        if self._original is None or label == self._original:
            return None
        whole = self._white_box[self._original, epsilon]
        return retention(self._white_box[label, epsilon], whole)


def _filled_up(chosen: Mask, sizes: int) -> slice | NDArray[np.intp]:
    """Choose some more samples, so that batches of one length are cut to few sizes only.

    A backend prepares its kernels anew for every number of samples, which costs more than to
    compute with a few too many.
    """
    unit = -(-len(chosen) // sizes)
    wanted = min(-(-int(chosen.sum()) // unit) * unit, len(chosen))
    if wanted == len(chosen):
        return slice(None)
    others = np.flatnonzero(~chosen)[: wanted - int(chosen.sum())]
    return np.union1d(np.flatnonzero(chosen), others)


def flagged(
    outcomes: Sequence[AttackOutcome], clean: Proportion, chance: float
) -> tuple[AttackOutcome, ...]:
    """Add to each attack's outcome on a model the reasons not to trust it."""
    flags = reliability_flags(outcomes, clean, chance=chance)
    return tuple(replace(outcome, flags=flags[outcome.attack]) for outcome in outcomes)
