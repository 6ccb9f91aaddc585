"""On which samples the margin certificate proves that both models agree."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnprune.certification.pair import Pair
from nnprune.certification.rule import clear, logit_gaps
from nnprune.certification.samples import Samples, classifies, compute

__all__ = ["Coverage", "measure_coverage"]

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What the certificate says about given samples.

    Attributes
    ----------
    samples : int
        How many there were.
    sha256 : str
        Their fingerprint.
    by_original, by_pruned : int or None
        On how many the margins of the original, or those of the smaller model alone, prove that
        both predict the same class; None where the model does not predict classes.
    agreeing : int or None
        On how many both do predict the same, as computed.
    change_lower, change_upper : tuple of float
        Least and greatest change of each logit on the samples, as computed.
    """

    samples: int
    sha256: str
    by_original: int | None
    by_pruned: int | None
    agreeing: int | None
    change_lower: tuple[float, ...] = field(repr=False)
    change_upper: tuple[float, ...] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            **vars(self),
            "change_lower": list(self.change_lower),
            "change_upper": list(self.change_upper),
        }


def measure_coverage(pair: Pair, margins: Array, samples: Samples) -> Coverage:
    """Compute both models on the samples and apply the margin certificate.

    Parameters
    ----------
    pair : Pair
        The models.
    margins : float64 array [classes, classes]
        `margins[c, k]` bounds `(f_c - f_k) - (g_c - g_k)`.
    samples : Samples
        The samples.
    """
    chosen = classifies(pair.original)
    counts = np.zeros(3, np.int64)
    lower, upper = np.inf, -np.inf
    outputs = zip(compute(pair.original, samples.x), compute(pair.pruned, samples.x), strict=True)
    for f, g in outputs:
        lower = np.minimum(lower, (g - f).min(axis=0))
        upper = np.maximum(upper, (g - f).max(axis=0))
        if chosen:
            whole, small = logit_gaps(f), logit_gaps(g)
            counts += [
                int(clear(whole, margins).sum()),
                int(clear(small, margins.T).sum()),
                int(np.sum(whole.classes == small.classes)),
            ]
    return Coverage(
        samples=len(samples.x),
        sha256=samples.sha256,
        by_original=int(counts[0]) if chosen else None,
        by_pruned=int(counts[1]) if chosen else None,
        agreeing=int(counts[2]) if chosen else None,
        change_lower=tuple(np.asarray(lower).tolist()),
        change_upper=tuple(np.asarray(upper).tolist()),
    )
