"""Measure every cell of the table that is not in the journal yet."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from paper.results import commit, machine

from compensation.journal import Journal
from compensation.methods import Method
from compensation.settings import BenchModel, Settings
from compensation.subjects import Subject

__all__ = ["ORIGINAL", "measure_model"]

ORIGINAL = "original"
"""The name of the cell that has the unpruned model."""


def measure_model(
    described: BenchModel, chosen: Sequence[Method], settings: Settings, journal: Journal
) -> None:
    """Measure one model: the original, then method by method, seed by seed.

    Parameters
    ----------
    described : BenchModel
        Which.
    chosen : sequence of Method
        The rows.
    settings : Settings
        How much.
    journal : Journal
        Gets every cell as soon as it is there.
    """
    subject = Subject(described, settings)
    names = {"model": described.name, "method": ORIGINAL, "seed": 0, "ratio": None}
    if journal.find(names, subject.given) is None:
        _add(journal, names, subject.given, subject.measure(subject.chain), 0.0)
    for method in chosen:
        if method.dense_only and subject.body is not None:
            continue
        for seed in range(min(settings.runs, method.most) if method.seeded else 1):
            _measure_run(subject, method, seed, journal)


def _measure_run(subject: Subject, method: Method, seed: int, journal: Journal) -> None:
    """Prune to all ratios with one seed, unless all of them are known."""
    ratios = subject.described.ratios
    given = subject.given | {"settings": dict(method.settings), "ratios": list(ratios)}
    names = {"model": subject.described.name, "method": method.name, "seed": seed}
    missing = [r for r in ratios if journal.find(names | {"ratio": r}, given) is None]
    if not missing:
        return
    started = time.process_time()
    chains = method.prune(subject, ratios, seed)
    seconds = time.process_time() - started
    for ratio, chain in zip(ratios, chains, strict=True):
        if ratio in missing:
            measured = subject.measure(chain) | {"units": list(chain.widths)}
            _add(journal, names | {"ratio": ratio}, given, measured, seconds)
    print(f"{subject.described.name}: {method.title}, seed {seed}", flush=True)


def _add(
    journal: Journal,
    names: dict[str, Any],
    given: dict[str, Any],
    measured: dict[str, Any],
    seconds: float,
) -> None:
    """Write a cell; its seconds are CPU time of pruning to all ratios together."""
    journal.add(
        names
        | {
            "given": given,
            "measured": measured,
            "seconds": round(seconds, 3),
            "commit": commit(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
        }
    )
