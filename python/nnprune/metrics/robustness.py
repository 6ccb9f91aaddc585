"""What attacks did to a classifier, and signs that they were too weak to be believed.

Every count is of robust instances (Meng et al., arXiv 2204.00783, eq. 1): predicted right both
before and after the attack. An attack gives an upper bound, since a better one may find more;
`reliability_flags` tells where the numbers themselves show that the bound is loose, after the
checks of Carlini et al., arXiv 1902.06705, and of AutoAttack (Croce and Hein, arXiv 2003.01690).

Two counts over the same samples differ only if they do so by more than 2 samples and by more than
0.5 % of them: random starts move a few samples one way or the other. Counts over different numbers
of samples are not compared. Attacks that may leave the input box (`paper_code`) are not compared
with others, which may not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from nnprune.errors import ConfigError
from nnprune.metrics.classification import Proportion

__all__ = ["AttackOutcome", "RobustPoint", "reliability_flags", "retention"]

_LEAST_SAMPLES = 2
_LEAST_SHARE = 0.005
_ZERO_GRADIENTS = 0.01
# From so many right predictions on, an attack that turns none stays below 5 % of them (one-sided,
# 95 % confidence: 1 - 0.05 ** (1 / 59) = 0.0495).
_ENOUGH = 59

_STRONGER = {
    "fgsm": "take more and smaller steps, as PGD does",
    "pgd": "give it more steps or restarts",
    "auto_pgd": "give it more steps or restarts",
    "square": "give it more queries",
}


@dataclass(frozen=True, kw_only=True)
class RobustPoint:
    """What an attack of one strength did.

    Attributes
    ----------
    epsilon : float
        Largest change of an input feature, in the input's own units.
    white_box : Proportion
        Robust instances when attacked with the model's own gradients.
    transfer : Proportion or None
        Robust instances on the inputs that were made against the original model; None for the
        original itself, or if that was not tried.
    retention : float or None
        Robust instances over those of the original; None where the original has none.
    zero_gradients : int
        Attacked samples whose input gradient was exactly zero; 0 for attacks without gradients.
    certified : Proportion or None
        Instances proved robust, which no attack of this strength can turn; None if that was not
        tried.
    """

    epsilon: float
    white_box: Proportion
    transfer: Proportion | None
    retention: float | None
    zero_gradients: int
    certified: Proportion | None = None


@dataclass(frozen=True, kw_only=True)
class AttackOutcome:
    """What one attack did at all its strengths.

    Attributes
    ----------
    attack : str
        Short label, unique among the attacks on a model, such as "PGD-7".
    kind : {"fgsm", "pgd", "auto_pgd", "square"}
        The algorithm.
    parameters : mapping
        Its options besides epsilon, plain values.
    points : tuple of RobustPoint
        One for each epsilon.
    flags : tuple of str
        Why its numbers should not be trusted, in sentences; empty if nothing was found.
    """

    attack: str
    kind: Literal["fgsm", "pgd", "auto_pgd", "square"]
    parameters: Mapping[str, Any]
    points: tuple[RobustPoint, ...]
    flags: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON has them."""
        return {
            "attack": self.attack,
            "kind": self.kind,
            "parameters": dict(self.parameters),
            "points": [asdict(point) for point in self.points],
            "flags": list(self.flags),
        }


def retention(count: int, original_count: int) -> float | None:
    """Return robust instances over those of the original model; None where that has none."""
    return count / original_count if original_count else None


def reliability_flags(
    outcomes: Sequence[AttackOutcome], clean: Proportion, *, chance: float = 0.0
) -> dict[str, tuple[str, ...]]:
    """Return for each attack on one model why its numbers should not be trusted.

    Parameters
    ----------
    outcomes : sequence of AttackOutcome
        All attacks on this model, on the same samples.
    clean : Proportion
        Its accuracy without an attack.
    chance : float, default 0.0
        Accuracy of guessing, such as the share of the most frequent label. A model not surely
        better may give one class throughout, which no attack changes: that is not flagged.

    Returns
    -------
    dict of str to tuple of str
        For each label, in the order of `outcomes`, a sentence for each of these that was found, at
        the epsilon where it is most pronounced:

        - more than 1 % of the attacked samples had a gradient of exactly zero;
        - the robust count rises with epsilon;
        - no prediction was changed at the largest epsilon, of 59 or more right ones (then, with
          95 % confidence, fewer than 5 % of such samples fall to the attack);
        - an iterated attack leaves more robust instances than FGSM;
        - PGD leaves more than PGD of fewer steps and no more restarts;
        - the strongest gradient attack leaves more than Square, which needs no gradient;
        - the model's own gradients leave more than inputs made against the original model.

    Raises
    ------
    ConfigError
        Two attacks have the same label.
    """
    labels = [outcome.attack for outcome in outcomes]
    if len(set(labels)) < len(labels):
        raise ConfigError(f"attacks: each needs a label of its own; got {', '.join(labels)}")
    comparable = [outcome for outcome in outcomes if not outcome.parameters.get("paper_code")]
    undercut = _undercut_by_square(comparable)
    flags = {}
    for outcome in outcomes:
        found = [
            _zero_gradients(outcome),
            _rising(outcome),
            _never_falling(outcome, clean, chance),
            _weaker_than_fgsm(outcome, comparable),
            _weaker_than_fewer_steps(outcome, comparable),
            undercut.get(outcome.attack),
            _weaker_than_transfer(outcome),
        ]
        flags[outcome.attack] = tuple(sentence for sentence in found if sentence is not None)
    return flags


@dataclass(frozen=True)
class _Excess:
    """More robust instances where there should be fewer."""

    point: RobustPoint
    reference: Proportion
    source: str  # what the reference is of

    @property
    def samples(self) -> int:
        return self.point.white_box.count - self.reference.count

    def text(self) -> str:
        """Name both counts and the epsilon."""
        own = self.point.white_box
        return (
            f"{own.count} of {own.samples} robust at epsilon {self.point.epsilon:.6g}, "
            f"{self.reference.count} {self.source}"
        )


def _worst(pairs: Iterable[tuple[RobustPoint, Proportion | None, str]]) -> _Excess | None:
    """Return the largest excess of a point over its reference, if one is beyond the margin."""
    excesses = [
        _Excess(point, reference, source)
        for point, reference, source in pairs
        if reference is not None and reference.samples == point.white_box.samples
    ]
    beyond = [
        excess
        for excess in excesses
        if excess.samples > max(_LEAST_SAMPLES, _LEAST_SHARE * excess.reference.samples)
    ]
    return max(beyond, key=lambda excess: excess.samples, default=None)


def _at(outcome: AttackOutcome, epsilon: float) -> Iterable[RobustPoint]:
    return (point for point in outcome.points if point.epsilon == epsilon)


def _against(
    outcome: AttackOutcome, others: Iterable[AttackOutcome]
) -> Iterable[tuple[RobustPoint, Proportion | None, str]]:
    """Pair each point of an outcome with those of others at the same epsilon."""
    return (
        (point, other.white_box, f"against {rival.attack}")
        for rival in others
        for point in outcome.points
        for other in _at(rival, point.epsilon)
    )


def _zero_gradients(outcome: AttackOutcome) -> str | None:
    point = max(outcome.points, key=_share_of_zeros, default=None)
    if point is None or _share_of_zeros(point) <= _ZERO_GRADIENTS:
        return None
    return (
        f"{point.zero_gradients} of {point.white_box.samples} samples "
        f"({_share_of_zeros(point):.1%}) had an input gradient of exactly zero at epsilon "
        f"{point.epsilon:.6g}, which tells the attack nothing: the model may mask its gradients; "
        "check with the Square attack, which needs none."
    )


def _share_of_zeros(point: RobustPoint) -> float:
    return point.zero_gradients / point.white_box.samples


def _rising(outcome: AttackOutcome) -> str | None:
    points = sorted(outcome.points, key=lambda point: point.epsilon)
    worst = _worst(
        (later, earlier.white_box, f"at the smaller {earlier.epsilon:.6g}")
        for place, later in enumerate(points)
        for earlier in points[:place]
    )
    if worst is None:
        return None
    return (
        f"The robust count rises with epsilon ({worst.text()}), although a larger epsilon allows "
        f"all that a smaller one does: the attack is too weak; {_STRONGER[outcome.kind]}."
    )


def _never_falling(outcome: AttackOutcome, clean: Proportion, chance: float) -> str | None:
    point = max(outcome.points, key=lambda point: point.epsilon, default=None)
    if point is None or point.epsilon == 0.0 or point.white_box.samples != clean.samples:
        return None
    if clean.count < _ENOUGH or clean.lower <= chance or point.white_box.count < clean.count:
        return None
    reason, remedy = (
        ("the search is too short", "more queries")
        if outcome.kind == "square"
        else ("the model masks its gradients", "the Square attack")
    )
    return (
        f"Not one of {clean.count} right predictions was changed at the largest epsilon, "
        f"{point.epsilon:.6g}: either it is far too small for these inputs or {reason}; try a "
        f"larger epsilon, and {remedy}."
    )


def _weaker_than_fgsm(outcome: AttackOutcome, others: Sequence[AttackOutcome]) -> str | None:
    if outcome.kind not in ("pgd", "auto_pgd"):
        return None
    worst = _worst(_against(outcome, (other for other in others if other.kind == "fgsm")))
    if worst is None:
        return None
    return (
        f"Weaker than a single step ({worst.text()}): the steps may be too few or too short to "
        "reach epsilon, or the model masks its gradients; check with more steps and with the "
        "Square attack."
    )


def _weaker_than_fewer_steps(outcome: AttackOutcome, others: Sequence[AttackOutcome]) -> str | None:
    if outcome.kind != "pgd":
        return None
    steps, restarts = _number(outcome, "steps"), _number(outcome, "restarts")
    fewer = (
        other
        for other in others
        if other.kind == "pgd"
        and _number(other, "steps") < steps
        and _number(other, "restarts") <= restarts
    )
    worst = _worst(_against(outcome, fewer))
    if worst is None:
        return None
    return (
        f"More steps do not help ({worst.text()}): the step size does not suit the steps, or the "
        "model masks its gradients; check with AutoPGD and with the Square attack."
    )


def _number(outcome: AttackOutcome, name: str) -> int:
    return int(outcome.parameters.get(name, 1))


def _undercut_by_square(outcomes: Sequence[AttackOutcome]) -> dict[str, str]:
    """Return a sentence for each attack that is the strongest by gradients but not by Square."""
    squares = [outcome for outcome in outcomes if outcome.kind == "square"]
    strongest = _strongest(outcome for outcome in outcomes if outcome.kind != "square")
    sentences = {}
    for label, points in strongest.items():
        worst = _worst(
            (point, other.white_box, f"against {square.attack}")
            for point in points
            for square in squares
            for other in _at(square, point.epsilon)
        )
        if worst is not None:
            sentences[label] = (
                f"An attack without gradients is stronger ({worst.text()}): the model masks its "
                "gradients, or this attack is too weak; trust the smaller count."
            )
    return sentences


def _strongest(outcomes: Iterable[AttackOutcome]) -> dict[str, list[RobustPoint]]:
    """Return by label the points at which no other attack on as many samples is stronger."""
    best: dict[tuple[float, int], tuple[str, RobustPoint]] = {}
    for outcome in outcomes:
        for point in outcome.points:
            key = (point.epsilon, point.white_box.samples)
            if key not in best or point.white_box.count < best[key][1].white_box.count:
                best[key] = (outcome.attack, point)
    points: dict[str, list[RobustPoint]] = {}
    for label, point in best.values():
        points.setdefault(label, []).append(point)
    return points


def _weaker_than_transfer(outcome: AttackOutcome) -> str | None:
    worst = _worst(
        (point, point.transfer, "on those of the original model") for point in outcome.points
    )
    if worst is None:
        return None
    return (
        "Inputs made against the original model are stronger than those made against this one "
        f"({worst.text()}): {_masking_or_weak(outcome)}; trust the smaller count, and "
        f"{_STRONGER[outcome.kind]}."
    )


def _masking_or_weak(outcome: AttackOutcome) -> str:
    weak = "this attack is too weak"
    return weak if outcome.kind == "square" else f"the model masks its gradients, or {weak}"
