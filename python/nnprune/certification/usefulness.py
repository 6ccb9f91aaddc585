"""Say in plain words whether a certificate is too loose to be of use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nnprune.certification.certificate import Interval, Usefulness
from nnprune.certification.coverage import Coverage
from nnprune.certification.outputs import Output, single_label

__all__ = ["judge"]

_TOO_LOOSE = "too loose to be of use"


def judge(
    outputs: tuple[Output, ...],
    change: Interval,
    margins: NDArray[np.float64],
    original_range: Interval,
    pruned_range: Interval,
    coverage: Coverage | None,
) -> Usefulness:
    """Compare the bounds with the outputs' own range, and look at what they prove on samples.

    Parameters
    ----------
    outputs, change, margins, original_range, pruned_range, coverage
        As in `Certificate`.
    """
    unbounded = int(np.sum(~np.isfinite(change.widths)))
    if unbounded:
        return Usefulness(
            too_loose=True,
            text=f"{_TOO_LOOSE}: {unbounded} of {len(change.widths)} logits have no finite bound",
        )
    if coverage is not None and coverage.by_pruned is not None:
        return _by_samples(coverage)
    wide = change.widths >= original_range.widths
    if np.all(wide) and np.any(change.widths > 0.0):
        return Usefulness(
            too_loose=True,
            text=f"{_TOO_LOOSE}: no bound is narrower than the range of the original's own logit "
            "over the box",
        )
    if single_label(outputs) and not _ever_clear(margins, pruned_range):
        return Usefulness(
            too_loose=True,
            text=f"{_TOO_LOOSE} for the run-time rule: no margin that the smaller model can have "
            "in the box exceeds what the rule asks for",
        )
    parts = np.divide(
        change.widths,
        original_range.widths,
        out=np.zeros_like(change.widths),
        where=original_range.widths > 0.0,
    )
    text = (
        f"the bounds are {100 * float(parts.max()):.3g} % as wide as the range of the original's "
        "own logits over the box, for the worst logit"
    )
    if single_label(outputs):
        text += "; on how many inputs the run-time rule helps, only samples can tell"
    return Usefulness(too_loose=False, text=text)


def _by_samples(coverage: Coverage) -> Usefulness:
    best = max(coverage.by_original or 0, coverage.by_pruned or 0)
    if best == 0:
        return Usefulness(
            too_loose=True,
            text=f"{_TOO_LOOSE}: agreement is proved on none of the {coverage.samples:,} samples",
        )
    share = 100.0 * (coverage.by_pruned or 0) / coverage.samples
    return Usefulness(
        too_loose=False,
        text=f"agreement is proved on {share:.1f} % of the {coverage.samples:,} samples from the "
        "smaller model's outputs alone",
    )


def _ever_clear(margins: NDArray[np.float64], pruned_range: Interval) -> bool:
    """Whether the smaller model's margins can exceed what the run-time rule asks for."""
    lower, upper = pruned_range.lower, pruned_range.upper
    if len(lower) == 1:
        lower, upper = np.array([0.0, lower[0]]), np.array([0.0, upper[0]])
    largest = upper[:, np.newaxis] - lower[np.newaxis, :]
    exceeded = largest > np.maximum(margins.T, 0.0)
    exceeded |= np.eye(len(lower), dtype=bool)
    return bool(exceeded.all(axis=1).any())
