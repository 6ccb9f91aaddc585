"""What a change of the logits can do to the probabilities computed of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnprune.certification.outputs import Output
from nnprune.certification.outward import ULPS, up

__all__ = ["ProbabilityChange", "probability_changes"]

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ProbabilityChange:
    """Bounds on the change of one output's probabilities, over the whole box.

    Where an output has several positions, of the worst of them.

    Attributes
    ----------
    output : str
        The output.
    per_class : tuple of float
        Of each logit's own probability: at most `tanh(tau / 4)`, where tau bounds the change of
        this logit against any other.
    total_variation : float
        Half the sum of all changes: at most `tanh(T / 4)`, T the largest change of a logit against
        another.
    kullback_leibler : float
        Of the original's probabilities from the smaller model's, in nats: at most `T**2 / 8`.
    log_probability : float
        Of the logarithm of any probability, and so of the cross-entropy: at most T.
    """

    output: str
    per_class: tuple[float, ...]
    total_variation: float
    kullback_leibler: float
    log_probability: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**vars(self), "per_class": list(self.per_class)}


def probability_changes(
    outputs: Sequence[Output], lower: Array, upper: Array, margins: Array | None
) -> tuple[ProbabilityChange, ...]:
    """Derive them for every output with a softmax or sigmoid.

    Parameters
    ----------
    outputs
        The outputs, whose logits stand side by side.
    lower, upper : float64 array [logits]
        Bounds on the change of the logits.
    margins : float64 array [logits, logits] or None
        `margins[c, k]` bounds `(f_c - f_k) - (g_c - g_k)`; None to go by `lower` and `upper` only.
    """
    found = []
    first = 0
    for output in outputs:
        last = first + output.size
        if output.head == "softmax":
            inner = None if margins is None else margins[first:last, first:last]
            found.append(_softmax(output, lower[first:last], upper[first:last], inner))
        elif output.head == "sigmoid":
            found.append(_sigmoid(output, lower[first:last], upper[first:last]))
        first = last
    return tuple(found)


def _softmax(
    output: Output, lower: Array, upper: Array, margins: Array | None
) -> ProbabilityChange:
    per_class: list[float] = []
    largest = 0.0
    count = output.classes
    for start in range(0, output.size, count):
        stop = start + count
        if margins is None:
            taus = _against_others(lower[start:stop], upper[start:stop])
        else:
            part = margins[start:stop, start:stop]
            # The change of logit k against any other is at most this, up or down.
            taus = np.maximum(part.max(axis=1), part.max(axis=0))
            taus = np.minimum(taus, _against_others(lower[start:stop], upper[start:stop]))
        per_class += _tanh(taus).tolist()
        largest = max(largest, float(taus.max()))
    return _change(output, per_class, largest)


def _sigmoid(output: Output, lower: Array, upper: Array) -> ProbabilityChange:
    taus = np.maximum(np.abs(lower), np.abs(upper))  # against a logit of 0 that does not change
    return _change(output, _tanh(taus).tolist(), float(taus.max()))


def _change(output: Output, per_class: list[float], largest: float) -> ProbabilityChange:
    return ProbabilityChange(
        output=output.name,
        per_class=tuple(per_class),
        total_variation=float(_tanh(np.array(largest))),
        kullback_leibler=float(up(np.array(largest) ** 2 / 8.0)),
        log_probability=largest,
    )


def _against_others(lower: Array, upper: Array) -> Array:
    """For each logit, the largest change against any other, from the intervals alone."""
    found = np.zeros(len(lower))
    for k in range(len(lower)):
        others = np.arange(len(lower)) != k
        if others.any():
            ends = upper[k] - lower[others].min(), upper[others].max() - lower[k]
            found[k] = max(0.0, *ends)
    return up(found)


def _tanh(taus: Array) -> Array:
    return np.minimum(up(np.tanh(taus / 4.0), ULPS), 1.0)
