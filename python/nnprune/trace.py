"""What a pruning recorded on its way: merges, epochs, and figures after each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nnprune.metrics.classification import Proportion

__all__ = ["Epoch", "EpochEvaluation", "Merge", "RobustInstances"]


@dataclass(frozen=True, kw_only=True)
class Merge:
    """One primitive operation; units by their numbers in the original layer.

    Attributes
    ----------
    layer : str
        The layer of both units.
    nominee : int
        The unit that went.
    delegate : int or None
        The unit that took over its outgoing weights; None where the nominee was 0 for every
        legitimate input, so that nothing had to, and where least squares re-expressed it by all
        units that are left.
    epoch : int
        When, from 0.
    """

    layer: str
    nominee: int
    delegate: int | None
    epoch: int


@dataclass(frozen=True, kw_only=True)
class RobustInstances:
    """Samples classified correctly both before and after an attack (eq. 1).

    Attributes
    ----------
    attack : str
        The attack's label, such as "PGD-7".
    epsilon : float
        Its strength, in the input's own units.
    instances : Proportion
        How many of the samples.
    """

    attack: str
    epsilon: float
    instances: Proportion


@dataclass(frozen=True, kw_only=True)
class EpochEvaluation:
    """What a model in the middle of its pruning does on the samples given.

    Attributes
    ----------
    samples : int
        Number of samples.
    accuracy : Proportion
        Samples classified correctly.
    agreement : Proportion
        Samples classified as by the original.
    robust : tuple of RobustInstances
        For every attack and epsilon.
    """

    samples: int
    accuracy: Proportion
    agreement: Proportion
    robust: tuple[RobustInstances, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One visit to every layer that still had units to remove.

    Attributes
    ----------
    epoch : int
        Its number, from 0.
    temperature : float
        Units still to remove over all units to remove, at its start.
    units : mapping of str to int
        Units left in each pruned layer, at its end.
    removed : int
        Units removed.
    energy, energy_scale : float or None
        Mean energy of the accepted pairs, and mean scale of the temperature; None for methods
        without energies.
    candidates : int
        Pairs scored.
    accepted, accepted_by_chance, rejected, taken : int
        Pairs accepted because the energy did not rise, or by a draw; draws that refused; pairs
        taken in the end although refused.
    impact_lower, impact_upper : sequence of float
        Bounds of the logits' change over the whole input box so far, all outputs side by side.
    evaluation : EpochEvaluation or None
        What the model did on the samples given, at its end; None without samples.
    synthetic_agreement : float or None
        Inputs classified as by the original among those of the data-free judge, at its end; None
        where it was not asked for.
    """

    epoch: int
    temperature: float
    units: Mapping[str, int]
    removed: int
    energy: float | None
    energy_scale: float | None
    candidates: int
    accepted: int
    accepted_by_chance: int
    rejected: int
    taken: int
    impact_lower: Sequence[float]
    impact_upper: Sequence[float]
    evaluation: EpochEvaluation | None = None
    synthetic_agreement: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        evaluation = None if self.evaluation is None else self.evaluation.to_dict()
        return {**vars(self), "units": dict(self.units), "evaluation": evaluation}
