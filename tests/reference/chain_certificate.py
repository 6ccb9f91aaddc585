"""What is certified of g - f: bounds of the outputs, of the margins, and of the softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reference.activation import Array
from reference.bounds import Interval
from reference.chain_difference import Pairs, bound_difference, common, compare
from reference.chain_values import Chain


@dataclass(frozen=True)
class Certificate:
    """Bounds for every input of the box."""

    lower: Array  # (outputs,) of g - f
    upper: Array
    margins: Array  # (outputs, outputs): M[c, k] >= (f_c - f_k) - (g_c - g_k); 0 on the diagonal
    routes: dict[str, Interval]  # what each route found for g - f


def certify(old: Chain, new: Chain, merges: Sequence[Pairs], box: Interval) -> Certificate:
    """Bound the outputs' difference and the margins' by every route."""
    outputs = len(old.biases[-1])
    identity = np.eye(outputs)
    pairs = [(c, k) for c in range(outputs) for k in range(c + 1, outputs)]
    rows = np.array([*identity, *(identity[k] - identity[c] for c, k in pairs)])
    found = bound_difference(compare(old, new, merges, box), rows, len(old.weights) - 1)
    lower, upper = common(found)
    margins = np.subtract.outer(-lower[:outputs], -upper[:outputs])
    np.fill_diagonal(margins, 0.0)
    for (c, k), low, high in zip(pairs, lower[outputs:], upper[outputs:], strict=True):
        margins[c, k] = min(margins[c, k], high)
        margins[k, c] = min(margins[k, c], -low)
    routes = {name: (low[:outputs], high[:outputs]) for name, (low, high) in found.items()}
    return Certificate(lower[:outputs], upper[:outputs], margins, routes)


def old_decides(logits: Array, margins: Array) -> NDArray[np.bool_]:
    """Tell for which logits (samples, outputs) of f the pruned network's class is the same."""
    return _clear(logits, margins)


def new_decides(logits: Array, margins: Array) -> NDArray[np.bool_]:
    """Tell for which logits (samples, outputs) of g the original's class is the same."""
    return _clear(logits, margins.T)


def _clear(logits: Array, margins: Array) -> NDArray[np.bool_]:
    best = np.argmax(logits, axis=1)
    ahead = np.take_along_axis(logits, best[:, None], axis=1) - logits
    clear = ahead > margins[best]
    np.put_along_axis(clear, best[:, None], True, axis=1)
    return np.asarray(np.all(clear, axis=1))


@dataclass(frozen=True)
class SoftmaxLines:
    """Bounds on the change of the softmax."""

    probability: Array  # (outputs,) of each class
    total_variation: float
    divergence: float  # Kullback-Leibler, from f to g
    log_probability: float  # of any class, and so of the cross entropy


def softmax_lines(margins: Array) -> SoftmaxLines:
    """Derive the softmax's change from how far two logits can move against each other."""
    apart = np.maximum(margins, margins.T)
    most = float(np.max(apart))
    return SoftmaxLines(
        np.tanh(np.max(apart, axis=1) / 4.0), float(np.tanh(most / 4.0)), most**2 / 8.0, most
    )
