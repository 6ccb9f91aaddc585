"""LBYL: every dropped unit leaves its share to all kept ones before it goes.

Lee, Kim and Choi, "Training-Free Restoration of Pruned Neural Networks" (arXiv 2502.08474; Leave
Before You Leave). A dropped unit's incoming weights and bias are written as a combination of the
kept units' by ridge regression, `kappa = (W W' + lambda2 I)^-1 W w`, and its outgoing weights are
given to them in that proportion: exact as long as every ReLU concerned is in its linear part.

For Dense layers the authors set lambda1, the weight of the BatchNormalization term, to 0, choose
units by their l2 norm, and have a lambda2 for each ratio (README of their code, ICML2022-LBYL).
That code also fits an intercept that the derivation has not and nothing uses; here is none. As for
Neuron Merging, BatchNormalization is folded into the weights first; their code for it adds the
squared norm of q to the diagonal where the derivation has the matrix q q', and uses kappa itself
where it has r kappa.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compensation.chain import Array, Chain
from compensation.rivals.restoration import restored

__all__ = ["PENALTIES", "leave_shares", "sharing_matrix"]

PENALTIES = {0.5: 0.3, 0.6: 0.6, 0.7: 0.3, 0.8: 1e-6}
"""lambda2 at each ratio, as published for LeNet-300-100 on Fashion-MNIST."""


def leave_shares(chain: Chain, ratio: float, *, penalty: float | None = None) -> Chain:
    """Drop the units of least l2 norm; all kept units take over, by ridge regression.

    Parameters
    ----------
    chain : Chain
        What is pruned.
    ratio : float
        Share of the units that go.
    penalty : float, optional
        lambda2; by default the published one for this ratio.
    """
    chosen = PENALTIES[ratio] if penalty is None else penalty
    return restored(
        chain,
        ratio,
        order=2,
        scaling=lambda incoming, kept: sharing_matrix(incoming, kept, chosen),
    )


def sharing_matrix(incoming: Array, kept: NDArray[np.intp], penalty: float) -> Array:
    """Return the scaling matrix.

    Parameters
    ----------
    incoming : ndarray, shape (units, inputs + 1)
        Incoming weights and bias.
    kept : ndarray of int
        Units that stay.
    penalty : float
        lambda2, positive.
    """
    basis = incoming[kept]
    normal = basis @ basis.T + penalty * np.eye(len(kept))
    matrix = np.linalg.solve(normal, basis @ incoming.T).T.astype(np.float64)
    matrix[kept] = np.eye(len(kept))
    return matrix
