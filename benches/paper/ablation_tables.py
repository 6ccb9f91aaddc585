"""Tables and paragraphs of the page about what each ingredient is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nnprune.report.format import MISSING

from paper.ablation import VARIANTS
from paper.differences import SOURCES
from paper.recorded import Recorded, Spread, share_of
from paper.settings import PaperModel
from paper.tables import table

__all__ = ["ablation_section", "differences_section", "ingredient_table"]

_SHARES = ("0.5", "0.8")
_COLUMNS = (
    ("0.5", "accuracy", "accuracy, 50 %"),
    ("0.8", "accuracy", "accuracy, 80 %"),
    ("0.5", "robust 0.05", "robust .05, 50 %"),
    ("0.8", "robust 0.05", "robust .05, 80 %"),
)
_SOURCES = {
    "intervals": "difference of the two value intervals",
    "affine": "interval of the difference of the two affine maps",
    "both": "both, intersected (what the engine does)",
}


def _runs(recorded: Recorded, model: str) -> dict[str, list[Mapping[str, Any]]]:
    """Return what every variant does, seed by seed."""
    cells = recorded.cells("ablation", model, ["default/0", "rewalks_4/0"])
    found: dict[str, list[Mapping[str, Any]]] = {}
    for name, cell in cells.items():
        found.setdefault(name.partition("/")[0], []).append(cell["result"])
    return found


def ablation_section(recorded: Recorded, model: PaperModel) -> str | None:
    """Return the table of one model, None if there is none."""
    runs = _runs(recorded, model.name)
    if not runs:
        return None
    rows = [
        [
            f"{variant.group}: {variant.title}" if variant.group == "order" else variant.title,
            str(len(runs[name])),
            *(
                Spread.of(share_of(run[share], quantity) for run in runs[name]).text(".1f", 100)
                for share, quantity, _ in _COLUMNS
            ),
        ]
        for name, variant in VARIANTS.items()
        if name in runs
    ]
    heads = ["one change at a time", "runs", *(head for _, _, head in _COLUMNS)]
    told = [_rank(runs, share) for share in _SHARES]
    return f"{table(heads, rows)}\n\n{' '.join(told)}"


def _rank(runs: Mapping[str, Sequence[Mapping[str, Any]]], share: str) -> str:
    """Say how many variants have a higher median accuracy than the default, and the highest."""
    medians = {
        name: Spread.of(share_of(run[share], "accuracy") for run in found).median
        for name, found in runs.items()
    }
    higher = sum(median > medians["default"] for median in medians.values())
    best = max(medians, key=medians.__getitem__)
    return (
        f"At {100 * float(share):g} % {higher} of {len(medians) - 1} variants have a higher median "
        f"accuracy than the default; the highest: {VARIANTS[best].title}, "
        f"{100 * medians[best]:.1f}."
    )


def ingredient_table(recorded: Recorded, models: Sequence[PaperModel]) -> str:
    """Return what each ingredient does to the accuracy, over all models, and a summary in words.

    The change of the median is set against the range of the default over its seeds: what is
    within it is no more than another seed could do.
    """
    known = {model.title: runs for model in models if (runs := _runs(recorded, model.name))}
    rows: list[list[str]] = []
    verdicts: dict[str, list[str]] = {"better": [], "worse": []}
    for name, variant in VARIANTS.items():
        if name == "default":
            continue
        changes = [
            _change(runs["default"], runs[name], share) if name in runs else None
            for runs in known.values()
            for share in _SHARES
        ]
        rows.append([variant.title, *(MISSING if one is None else one.text for one in changes)])
        clear = [one for one in changes if one is not None and not one.within]
        if clear and len(clear) > len(changes) / 2:
            for verdict, sign in (("better", 1.0), ("worse", -1.0)):
                if all(one.points * sign > 0 for one in clear):
                    verdicts[verdict].append(variant.title)
    heads = [f"{title}, {100 * float(share):g} %" for title in known for share in _SHARES]
    told = [
        f"Clearly {verdict} than the default (a star in most places, none of the other sign): "
        f"{'; '.join(titles) if titles else 'none'}."
        for verdict, titles in verdicts.items()
    ]
    return table(["change of the accuracy, points", *heads], rows) + "\n\n" + " ".join(told)


class _Change(NamedTuple):
    """By how much a median has moved, in points, and whether a seed could have done that."""

    points: float
    within: bool

    @property
    def text(self) -> str:
        return f"{self.points:+.1f}{'' if self.within else '*'}"


def _change(
    default: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]], share: str
) -> _Change:
    base = Spread.of(share_of(run[share], "accuracy") for run in default)
    found = Spread.of(share_of(run[share], "accuracy") for run in other)
    return _Change(
        points=100 * (found.median - base.median),
        within=base.least <= found.median <= base.most,
    )


def differences_section(recorded: Recorded, model: PaperModel) -> str | None:
    """Return the comparison of the impact's sources on one model, None if there is none."""
    cells = recorded.cells("differences", model.name, ["sources"])
    if not cells:
        return None
    result = cells["sources"]["result"]
    rows = [
        [
            _SOURCES[source],
            *(
                f"{100 * share_of(result['at'][source][share], quantity):.1f}"
                for share, quantity, _ in _COLUMNS
            ),
        ]
        for source in SOURCES
    ]
    wider = {name: quartiles[1] for name, quartiles in result["wider"].items()}
    best = max(SOURCES, key=lambda source: share_of(result["at"][source]["0.5"], "accuracy"))
    same = result["same_as_engine"]
    heads = ["greedy, impact from", *(head for _, _, head in _COLUMNS)]
    return (
        f"{table(heads, rows)}\n\n"
        f"The median impact is {wider['intervals']:.2f} times as wide from intervals alone, "
        f"{wider['affine']:.2f} times from affine maps alone, as from both (quartiles "
        f"{_quartiles(result['wider']['intervals'])} and {_quartiles(result['wider']['affine'])}). "
        f"The most accurate at 50 % is: {_SOURCES[best]}. With both this loop makes "
        f"{100 * same:.1f} % of the merges that the engine's greedy makes."
    )


def _quartiles(values: Sequence[float]) -> str:
    return f"{values[0]:.2f} to {values[2]:.2f}"
