"""Sentences that are chosen by the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from paper.recorded import Curve

__all__ = ["against", "blind", "curve_sentence", "listed", "standing"]

#: Differences below this many points are not told apart.
_SAME = 0.05


def standing(values: Sequence[float], other: float) -> str:
    """Say where runs stand to one value: shares, compared in points.

    Returns
    -------
    str
        "above", "above in the median", "level", "below in the median" or "below"; the plain
        words only where they hold for every run.
    """
    gaps = sorted(100 * (value - other) for value in values)
    middle = (gaps[(len(gaps) - 1) // 2] + gaps[len(gaps) // 2]) / 2
    if abs(middle) < _SAME:
        return "level"
    if middle > 0:
        return "above" if gaps[0] > 0 or len(gaps) == 1 else "above in the median"
    return "below" if gaps[-1] < 0 or len(gaps) == 1 else "below in the median"


def against(
    curves: Mapping[str, Curve], other: str, quantity: str, shares: Sequence[float]
) -> dict[float, str]:
    """Say where annealing stands to another method at some shares of units removed."""
    found = {}
    for share in shares:
        index = curves[other].index_at(share)
        if index is not None:
            theirs = curves[other].values(index, quantity)[0]
            found[share] = standing(curves["annealing"].values(index, quantity), theirs)
    return found


def curve_sentence(
    curves: Mapping[str, Curve], quantity: str, words: str, shares: Sequence[float]
) -> str:
    """Say in one sentence where annealing stands to one-shot and to greedy."""
    parts = []
    for other, name in (("one_shot", "one-shot"), ("greedy", "greedy")):
        if other in curves:
            told = against(curves, other, quantity, shares)
            parts.append(f"against {name} {_runs_together(told)}")
    return f"Annealing's {words}: {'; '.join(parts)}."


def blind(measured: Mapping[str, Any], classes: int) -> bool:
    """Whether a model hardly tells the classes apart: its mean recall is that of a constant."""
    return float(measured["balanced"]) < 1.0 / classes + 0.02


def listed(parts: Sequence[str]) -> str:
    """Return parts as a list in words."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _runs_together(told: Mapping[float, str]) -> str:
    """Say "above at 20 and 50 %, below at 80 %", in the order of the shares."""
    runs: list[tuple[str, list[str]]] = []
    for share, word in told.items():
        if runs and runs[-1][0] == word:
            runs[-1][1].append(f"{100 * share:g}")
        else:
            runs.append((word, [f"{100 * share:g}"]))
    return ", ".join(f"{word} at {listed(shown)} %" for word, shown in runs)
