"""Neuron Merging: a kept unit, scaled, stands in for a dropped one that points its way.

Kim, Kim, Park and Jeon, "Neuron Merging: Compensating for Pruned Neurons", NeurIPS 2020, algorithm
1 for fully connected layers. Their settings for LeNet-300-100: l1 norm, threshold 0.45.

BatchNormalization is folded into the weights first and the rule without it applied: exact, and not
the rule of their code for normalized convolutions, which multiplies by the inverse of the ratio
that it means and takes the running variance for the standard deviation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compensation.chain import Array, Chain
from compensation.rivals.restoration import restored

__all__ = ["THRESHOLD", "merge_neurons", "merging_matrix"]

THRESHOLD = 0.45
"""Least cosine of a pair that is merged, for fully connected layers (their supplement)."""


def merge_neurons(chain: Chain, ratio: float, *, threshold: float = THRESHOLD) -> Chain:
    """Drop the units of least l1 norm; each is merged into the kept unit most like it."""
    return restored(
        chain,
        ratio,
        order=1,
        scaling=lambda incoming, kept: merging_matrix(incoming, kept, threshold),
    )


def merging_matrix(incoming: Array, kept: NDArray[np.intp], threshold: float) -> Array:
    """Return the scaling matrix, with at most one entry in a row.

    Parameters
    ----------
    incoming : ndarray, shape (units, inputs + 1)
        Incoming weights and bias.
    kept : ndarray of int
        Units that stay.
    threshold : float
        A unit whose cosine with every kept one is less is dropped without a substitute.
    """
    norms = np.linalg.norm(incoming, axis=1)
    directions = incoming / np.where(norms > 0, norms, 1.0)[:, None]
    cosines = directions @ directions[kept].T
    matrix = np.zeros((len(incoming), len(kept)))
    nearest = np.argmax(cosines, axis=1)
    for unit, substitute in enumerate(nearest):
        if cosines[unit, substitute] >= threshold and norms[kept[substitute]] > 0:
            matrix[unit, substitute] = norms[unit] / norms[kept[substitute]]
    matrix[kept] = np.eye(len(kept))
    return matrix
