"""How far the confidence of a model can be believed: diagrams and table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnprune.report import format as fmt
from nnprune.report.charts import Panel
from nnprune.report.figures import Cell, Figure, amounts, fractions, plain
from nnprune.report.models import Entry, reference
from nnprune.report.reliability import reliability_diagram

__all__ = ["CalibrationView", "calibration_figure", "calibration_view"]


@dataclass(frozen=True, kw_only=True)
class CalibrationView:
    """What the section shows: a diagram for each model that has one, and the figures."""

    diagrams: tuple[tuple[Entry, Panel], ...]
    figures: tuple[Figure, ...]


def calibration_view(models: Sequence[Entry]) -> CalibrationView | None:
    """Return the section, or None if no model's calibration was measured."""
    known = [entry for entry in models if entry.record["calibration"]]
    if not known:
        return None
    return CalibrationView(
        diagrams=tuple((entry, _diagram(entry, index)) for index, entry in enumerate(known)),
        figures=tuple(figure for figure in _figures(models) if figure.known()),
    )


def calibration_figure(models: Sequence[Entry]) -> Figure:
    """Return the expected calibration error."""
    bins = {c["bins"] for c in map(_calibration, models) if c}
    detail = f"{', '.join(map(str, sorted(bins)))} bins" if bins else ""
    return _fraction(models, "ECE", "ece", detail)


def _calibration(entry: Entry) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = entry.record["calibration"]
    return found


def _value(entry: Entry, key: str) -> Any:
    """Return one figure of a model's calibration, None without."""
    return (_calibration(entry) or {}).get(key)


def _fraction(models: Sequence[Entry], name: str, key: str, detail: str) -> Figure:
    """Return a fraction of which less is better."""
    compared = reference(models) is not None
    return fractions(name, [_value(e, key) for e in models], compared=compared, detail=detail)


def _figures(models: Sequence[Entry]) -> list[Figure]:
    """Return the table."""
    compared = reference(models) is not None
    quality = [entry.record["quality"] or {} for entry in models]
    return [
        calibration_figure(models),
        _fraction(models, "ECE", "ece_center", "bin centres"),
        *_largest_errors(models),
        plain("Accuracy", [_percent(_value(entry, "accuracy")) for entry in models]),
        plain("Mean confidence", [_percent(_value(e, "mean_confidence")) for e in models]),
        plain("Tendency", [_value(entry, "sign") for entry in models]),
        amounts(
            "NLL",
            [told.get("nll") for told in quality],
            fmt.rounded,
            compared=compared,
            detail="nats per sample",
            words=("lower", "higher"),
        ),
        amounts(
            "Brier score",
            [told.get("brier") for told in quality],
            fmt.rounded,
            compared=compared,
            words=("lower", "higher"),
        ),
    ]


def _largest_errors(models: Sequence[Entry]) -> list[Figure]:
    """Return the largest error of a bin, with the number of samples that it rests on.

    No change is told: of two bins with a handful of samples each it would be noise.
    """
    sizes = [_value(entry, "mce_count") for entry in models]
    told = [_percent(_value(entry, "mce")) for entry in models]
    cells = tuple(
        None if error is None else Cell(value=error, notes=(_bin(size),))
        for error, size in zip(told, sizes, strict=True)
    )
    centred = [_percent(_value(entry, "mce_center")) for entry in models]
    return [Figure(name="MCE", cells=cells), plain("MCE", centred, "bin centres")]


def _bin(size: int) -> str:
    """Return how many samples a bin holds."""
    return f"bin of {fmt.count(size)} sample{'' if size == 1 else 's'}"


def _percent(value: float | None) -> str | None:
    return None if value is None else fmt.percent(value)


def _diagram(entry: Entry, index: int) -> Panel:
    """Return one model's reliability diagram."""
    told = entry.record["calibration"]
    return Panel(
        caption=entry.label,
        chart=reliability_diagram(
            told["reliability"],
            entry.colour,
            identifier=f"reliability-{index}",
            title=f"Reliability diagram of {entry.label}",
            description=(
                f"Accuracy {fmt.percent(told['accuracy'])} at a mean confidence of"
                f" {fmt.percent(told['mean_confidence'])}: {told['sign']}."
                f" ECE {fmt.percent(told['ece'])} over {told['bins']} bins."
            ),
        ),
    )
