"""The paper's claims, and ours, each held against the numbers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from paper.recorded import Recorded, share_of
from paper.settings import PaperModel
from paper.verdicts import against, listed, standing

__all__ = ["claims_section"]

_SHARES = (0.2, 0.5, 0.7, 0.8)
_WORDS = {"accuracy": "more accurate", "robust 0.05": "more robust (epsilon .05)"}


def claims_section(recorded: Recorded, models: Sequence[PaperModel]) -> str:
    """Return a list: for every claim where it holds and where it does not."""
    if not models:
        return "Nothing has been measured yet."
    lines = []
    for other, name in (("one_shot", "one-shot"), ("greedy", "greedy")):
        for quantity, words in _WORDS.items():
            claim = f"Annealing is {words} than {name}"
            lines.append(_where(recorded, models, other, quantity, claim))
    lines.append(_half(recorded, models))
    lines.append(_spread(recorded, models))
    return "\n".join(f"- {line}" for line in lines)


def _where(
    recorded: Recorded, models: Sequence[PaperModel], other: str, quantity: str, claim: str
) -> str:
    """Sort models and shares by how far a claim holds there."""
    sorted_out: dict[str, list[str]] = {}
    for model in models:
        curves = recorded.curves(model.name)
        if other not in curves:
            continue
        by_word: dict[str, list[str]] = {}
        for share, word in against(curves, other, quantity, _SHARES).items():
            by_word.setdefault(word, []).append(f"{100 * share:g}")
        for word, shares in by_word.items():
            sorted_out.setdefault(word, []).append(f"{model.title} at {listed(shares)} %")
    names = {
        "above": "ahead for every seed",
        "above in the median": "ahead in the median",
        "level": "level",
        "below in the median": "behind in the median",
        "below": "behind for every seed",
    }
    told = [
        f"*{names[word]}*: {'; '.join(sorted_out[word])}" for word in names if word in sorted_out
    ]
    count = sum(word.startswith("above") for word in _words(recorded, models, other, quantity))
    total = len(_words(recorded, models, other, quantity))
    return f"**{claim}**: in the median at {count} of {total} places. {'. '.join(told)}."


def _words(
    recorded: Recorded, models: Sequence[PaperModel], other: str, quantity: str
) -> list[str]:
    found: list[str] = []
    for model in models:
        curves = recorded.curves(model.name)
        if other in curves:
            found += against(curves, other, quantity, _SHARES).values()
    return found


def _half(recorded: Recorded, models: Sequence[PaperModel]) -> str:
    """Say whether our accuracy at 50 % is above one-shot's and the public implementation's."""
    short, met = [], []
    for model in models:
        once = against(recorded.curves(model.name), "one_shot", "accuracy", (0.5,)).get(0.5)
        words = {} if once is None else {"one-shot": once}
        peer = _against_peer(recorded, model)
        if peer is not None:
            words["the public implementation"] = peer
        worse = [f"{word} {name}" for name, word in words.items() if not word.startswith("above")]
        if once is not None and not once.startswith("above"):
            worse.append(_by_how_much(recorded, model))
        if worse:
            short.append(f"{model.title} ({listed(worse)})")
        elif words:
            met.append(f"{model.title} ({listed(list(words))})")
    text = "**At 50 % our accuracy is above the public implementation's and one-shot's**: "
    text += f"met on {listed(met)}" if met else "met nowhere"
    text += f"; not met on {listed(short)}" if short else ""
    unknown = [model.title for model in models if _against_peer(recorded, model) is None]
    if unknown:
        text += f". The public implementation has no figure at 50 % here for {listed(unknown)}"
    return text + "."


def _by_how_much(recorded: Recorded, model: PaperModel) -> str:
    """Set the distance from one-shot beside what that many samples can tell."""
    curves = recorded.curves(model.name)
    index = curves["one_shot"].index_at(0.5)
    if index is None:
        return "not measured at 50 %"
    base = curves["one_shot"].values(index, "accuracy")[0]
    gap = statistics.median(curves["annealing"].values(index, "accuracy")) - base
    samples = recorded.original(model.name)["samples"]
    error = 1.96 * math.sqrt(base * (1 - base) / samples)
    return (
        f"{100 * gap:+.1f} points from one-shot, where one accuracy of {samples:,} samples has an "
        f"error of {100 * error:.1f} points at 95 %"
    )


def _against_peer(recorded: Recorded, model: PaperModel) -> str | None:
    gaps = []
    for cell in recorded.cells("peer", model.name).values():
        ours = {one["target"]: one["measured"] for one in cell["result"]["ours"]}
        for point in cell["result"]["theirs"]["points"]:
            if point["target"] == 0.5 and 0.5 in ours:
                mine = share_of(ours[0.5], "accuracy")
                gaps.append(mine - share_of(point["measured"], "accuracy"))
    return standing(gaps, 0.0) if gaps else None


def _spread(recorded: Recorded, models: Sequence[PaperModel]) -> str:
    """Compare annealing's gain over greedy at 50 % with its spread over seeds."""
    told = []
    for model in models:
        curves = recorded.curves(model.name)
        index = curves["one_shot"].index_at(0.5)
        if "greedy" not in curves or index is None:
            continue
        values = curves["annealing"].values(index, "accuracy")
        base = curves["greedy"].values(index, "accuracy")[0]
        middle = statistics.median(values)
        spread = max(values) - min(values)
        told.append(f"{model.title} {100 * (middle - base):+.1f} (spread {100 * spread:.1f})")
    return (
        "**What chance adds**: accuracy of annealing's median seed less greedy's at 50 %, in "
        f"points, and the distance of its best from its worst seed: {listed(told)}."
    )
