"""The top of the page: what changed, and what to mind before believing it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnprune.report import format as fmt
from nnprune.report.calibration import calibration_figure
from nnprune.report.figures import Figure, amounts, proportions
from nnprune.report.footprint import file_figure, latency_figure, size_figure
from nnprune.report.models import Entry, reference
from nnprune.report.robustness import attacks, robust_point

__all__ = ["Caution", "cautions", "costs", "error_figures", "qualities"]


@dataclass(frozen=True, kw_only=True)
class Caution:
    """Something to know before relying on the figures.

    Attributes
    ----------
    text : str
        A sentence, foreign text.
    entries : tuple of Entry
        The models it is about; empty for the whole evaluation.
    attack : str
        The attack it is about; empty for none.
    """

    text: str
    entries: tuple[Entry, ...] = ()
    attack: str = ""


def qualities(models: Sequence[Entry]) -> tuple[Figure, ...]:
    """Return how good the models are, without the figures that none of them has."""
    found = [*_shares(models), *_robust(models), calibration_figure(models)]
    found += error_figures(models)
    return tuple(figure for figure in found if figure.known())


def costs(models: Sequence[Entry]) -> tuple[Figure, ...]:
    """Return what the models cost, without the figures that none of them has."""
    found = [
        size_figure(models, "Parameters", "parameters", "all weights"),
        file_figure(models, "File size", "keras_bytes", ".keras"),
        size_figure(models, "MACs", "macs", "per sample"),
        latency_figure(models, "Latency", "p50_seconds", "median on the host"),
    ]
    return tuple(figure for figure in found if figure.known())


def cautions(document: Mapping[str, Any], models: Sequence[Entry]) -> tuple[Caution, ...]:
    """Return every reason for doubt that the document holds, once for all models it is about."""
    found: dict[tuple[str, str], list[Entry]] = {}
    for text, attack, entry in _cautions(document, models):
        about = found.setdefault((attack, text), [])
        if entry is not None:
            about.append(entry)
    return tuple(
        Caution(text=text, attack=attack, entries=tuple(about))
        for (attack, text), about in found.items()
    )


def error_figures(models: Sequence[Entry]) -> tuple[Figure, ...]:
    """Return the errors of a regression, and the changes against the original's outputs."""
    compared = reference(models) is not None
    told = [entry.record["quality"] or {} for entry in models]
    found = [
        amounts(
            name,
            [quality.get(key) for quality in told],
            fmt.rounded,
            compared=compared,
            detail=detail,
            words=("lower", "higher"),
        )
        for name, key, detail in (
            ("MSE", "mse", "mean squared error"),
            ("MAE", "mae", "mean absolute error"),
            ("Mean change", "mean_change", "against the original's outputs"),
            ("Largest change", "largest_change", "of one output"),
        )
    ]
    return tuple(figure for figure in found if figure.known())


def _shares(models: Sequence[Entry]) -> list[Figure]:
    """Return accuracy and agreement."""
    told = [entry.record["quality"] or {} for entry in models]
    return [
        proportions(
            name,
            [quality.get(key) for quality in told],
            compared=reference(models) is not None,
            detail=detail,
        )
        for name, key, detail in (
            ("Accuracy", "accuracy", "not attacked"),
            ("Agreement", "agreement", "same class as the original"),
        )
    ]


def _robust(models: Sequence[Entry]) -> Iterator[Figure]:
    """Yield the robust accuracy under each attack, at the largest size that all models saw."""
    for attack in attacks(models):
        if attack.common is None:
            continue
        found = [robust_point(entry, attack.name, attack.common) for entry in models]
        yield proportions(
            "Robust accuracy",
            [None if point is None else point["white_box"] for point in found],
            compared=reference(models) is not None,
            detail=f"{attack.name}, \N{GREEK SMALL LETTER EPSILON} = {fmt.epsilon(attack.common)}",
        )


def _cautions(
    document: Mapping[str, Any], models: Sequence[Entry]
) -> Iterator[tuple[str, str, Entry | None]]:
    """Yield them: sentence, attack, model; the document's own warnings first."""
    for sentence in document["warnings"]:
        yield sentence, "", None
    for entry in models:
        for record in entry.record["robustness"] or ():
            for sentence in record["flags"]:
                yield sentence, record["attack"], entry
    if not any("trusted" in sentence for sentence in document["warnings"]):
        for entry in models:
            if entry.record["trusted"]:
                what = "the file was trusted: what guards against a hostile author was skipped"
                yield what, "", entry
    box = document["input_box"]
    if box is not None and box["source"] == "assumed":
        yield "the bounds of the inputs are assumed; attacks depend on them", "", None
    for entry in models:
        if entry.record["size"]["uncounted"]:
            yield "the MACs leave out layers that cannot be counted; see size", "", entry
