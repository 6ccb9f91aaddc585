"""What Neuron Merging and LBYL share: units are dropped, those that stay take over their outputs.

For every hidden layer a *scaling matrix* S of shape (units, kept) says how each unit's output is
made of the kept ones': the row of a kept unit is one of the identity. The layer that reads them is
multiplied by it. All matrices come from the original weights, as in both papers' code: a layer's
selection does not see what the layers before it have lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from compensation.chain import Array, Chain, kept_units

__all__ = ["Scaling", "largest", "restored"]

Scaling = Callable[[Array, NDArray[np.intp]], Array]
"""From the incoming weights of all units, (units, inputs + 1), and the kept units to S."""


def largest(incoming: Array, count: int, order: int) -> NDArray[np.intp]:
    """Return the units of largest l1 (order 1) or l2 (order 2) norm, in their order."""
    norms = np.linalg.norm(incoming, ord=order, axis=1)
    return np.sort(np.argsort(-norms, kind="stable")[:count])


def restored(chain: Chain, ratio: float, *, order: int, scaling: Scaling) -> Chain:
    """Drop a share of every hidden layer's units, and let the others stand in for them.

    Parameters
    ----------
    chain : Chain
        Normalizations are folded into its weights first.
    ratio : float
        Share of the units that go.
    order : {1, 2}
        The norm of incoming weights and bias that says which.
    scaling : callable
        Makes the scaling matrix of a layer.
    """
    original = chain.folded().layers
    layers = list(original)
    for index, layer in enumerate(original[:-1]):
        kept = largest(layer.incoming, kept_units(layer.units, ratio), order)
        matrix = scaling(layer.incoming, kept)
        here, reader = layers[index], layers[index + 1]
        layers[index] = replace(here, kernel=here.kernel[:, kept], bias=here.bias[kept])
        layers[index + 1] = replace(reader, kernel=matrix.T @ reader.kernel)
    return Chain(layers=tuple(layers))
