"""A certificate in a few lines of plain text."""

from __future__ import annotations

import numpy as np

from nnprune.certification.certificate import EXECUTION, SEMANTICS, Certificate

__all__ = ["summary"]

_MOST_LOGITS = 12


def summary(certificate: Certificate) -> str:
    """Tell what is proved, over what, and of how much use it is."""
    change = certificate.output_change
    merged = sum(map(len, certificate.merges.values()))
    lines = [
        f"{certificate.pruned.name} against {certificate.original.name}: {merged} units merged",
        f"over the input box ({certificate.input_source}): {_box(certificate)}",
        "change of the logits, pruned minus original:",
    ]
    first = 0
    for output in certificate.outputs:
        for number in range(output.size):
            at = first + number
            if at == _MOST_LOGITS:
                lines.append(f"  ... and {len(change.lower) - at} more")
            if at < _MOST_LOGITS:
                ends = f"[{change.lower[at]:.6g}, {change.upper[at]:.6g}]"
                lines.append(f"  {output.name}[{number}]  {ends}")
        first += output.size
    for one in certificate.probabilities:
        worst = max(one.per_class)
        lines.append(
            f"probabilities of {one.output} change by at most {worst:.6g}, in total variation by "
            f"{one.total_variation:.6g}"
        )
    coverage = certificate.coverage
    if coverage is not None and coverage.by_pruned is not None:
        lines.append(
            f"agreement proved on {coverage.by_original:,} of {coverage.samples:,} samples by the "
            f"original's margins, on {coverage.by_pruned:,} by the smaller model's alone "
            f"({coverage.agreeing:,} do agree)"
        )
    if coverage is not None:
        seen = np.abs([coverage.change_lower, coverage.change_upper]).max()
        lines.append(f"largest change seen on the samples: {seen:.6g}")
    for ball in certificate.local:
        kind = "to the label" if ball.labelled else "to the prediction"
        lines.append(
            f"all within {ball.epsilon:g} of {ball.samples:,} samples: certified {kind}: original "
            f"{ball.robust_original:,}, pruned {ball.robust_pruned:,}; both to one class "
            f"{ball.agree:,}"
        )
    mark = "! " if certificate.usefulness.too_loose else ""
    lines.append(f"{mark}{certificate.usefulness.text}")
    lines.append(f"proved for {SEMANTICS}; {EXECUTION}")
    return "\n".join(lines)


def _box(certificate: Certificate) -> str:
    sides = [
        f"{name} in [{float(np.min(lower)):g}, {float(np.max(upper)):g}]"
        for name, (lower, upper) in certificate.input_bounds.items()
    ]
    return ", ".join(sides)
