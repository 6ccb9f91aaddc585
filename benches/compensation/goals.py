"""What was to be reached, beside what was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compensation.methods import Method
from compensation.recorded import Recorded
from compensation.settings import QUANTITIES, BenchModel

__all__ = ["Goal", "Standing", "fixed_goals", "rival_goals"]

OURS, SAMPLES = "ours", "ours_samples"
_POLISHED = "_polished"
"""What the name of a row ends in whose networks were trained a little at the end."""

_MNIST = {0.5: (0.95, 0.97), 0.7: (0.88, 0.93), 0.8: (0.80, 0.87)}
_ROBUST_SHARE = 0.75

_MERGING = {0.5: 0.8869, 0.6: 0.8692, 0.7: 0.8275, 0.8: 0.8002}
_MERGING_BASE = 0.8980
"""Neuron Merging's own LeNet-300-100 on Fashion-MNIST (README of its code)."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A number that a method was to reach.

    Attributes
    ----------
    words : str
        What it is.
    model, method : str
        Of which.
    ratio : float
        At which share of units removed.
    quantity : str
        Accuracy or another share of the samples.
    least : float
        The number; of the original's where `relative`.
    relative : bool
        Whether it is a part of what the original has.
    """

    words: str
    model: str
    method: str
    ratio: float
    quantity: str
    least: float
    relative: bool = False


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A goal and what was reached, in shares of the samples.

    Attributes
    ----------
    words : str
        What was asked for.
    ratio : float
        At which share of units removed.
    needed, reached : float
        The number, and the mean over seeds.
    polished : float or None
        The mean over seeds with a polish at the end.
    by : str
        Whose number `needed` is, where it is that of a rival.
    """

    words: str
    ratio: float
    needed: float
    reached: float
    polished: float | None = None
    by: str = ""

    @property
    def verdict(self) -> str:
        """Whether it was reached, and with what."""
        if self.reached >= self.needed:
            return "met"
        polished = self.polished is not None and self.polished >= self.needed
        return "met, polished" if polished else "missed"


def fixed_goals(recorded: Recorded) -> list[Standing]:
    """Return the goals that are numbers, as far as they were measured."""
    found = []
    for goal in _goals():
        values = recorded.values(goal.model, goal.method, goal.ratio, goal.quantity)
        original = recorded.original(goal.model, goal.quantity)
        if values is None or original is None:
            continue
        needed = goal.least * (original if goal.relative else 1.0)
        polished = recorded.values(goal.model, goal.method + _POLISHED, goal.ratio, goal.quantity)
        found.append(
            Standing(
                words=goal.words,
                ratio=goal.ratio,
                needed=needed,
                reached=values.mean,
                polished=None if polished is None else polished.mean,
            )
        )
    return found


def rival_goals(
    recorded: Recorded, model: BenchModel, methods: Sequence[Method], quantity: str
) -> list[Standing]:
    """Set ours beside the best data-free rival at every ratio."""
    found = []
    rivals = {method.name: method.title for method in methods if method.kind in ("paper", "rival")}
    for ratio in model.ratios:
        ours = recorded.values(model.name, OURS, ratio, quantity)
        known = {
            title: values.mean
            for name, title in rivals.items()
            if (values := recorded.values(model.name, name, ratio, quantity)) is not None
        }
        if ours is None or not known:
            continue
        best = max(known, key=lambda title: known[title])
        polished = recorded.values(model.name, OURS + _POLISHED, ratio, quantity)
        found.append(
            Standing(
                words=f"{model.title}: no rival above ours, {QUANTITIES[quantity]}",
                ratio=ratio,
                needed=known[best],
                reached=ours.mean,
                polished=None if polished is None else polished.mean,
                by=best,
            )
        )
    return found


def _goals() -> list[Goal]:
    mnist = [
        Goal(
            words=f"MNIST, {words}",
            model="mnist",
            method=method,
            ratio=ratio,
            quantity="accuracy",
            least=least[which],
        )
        for which, (method, words) in enumerate([(OURS, "no data"), (SAMPLES, "128 samples")])
        for ratio, least in _MNIST.items()
    ]
    robust = Goal(
        words="MNIST, no data: robust instances at epsilon .05",
        model="mnist",
        method=OURS,
        ratio=0.5,
        quantity="robust 0.05",
        least=_ROBUST_SHARE,
        relative=True,
    )
    merging = [
        Goal(
            words="LeNet-300-100: Neuron Merging's published share of the original's accuracy",
            model="lenet300",
            method=OURS,
            ratio=ratio,
            quantity="accuracy",
            least=accuracy / _MERGING_BASE,
            relative=True,
        )
        for ratio, accuracy in _MERGING.items()
    ]
    return [*mnist, robust, *merging]
