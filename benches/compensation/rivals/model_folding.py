"""Model Folding: units are clustered, and each cluster becomes one unit.

Wang, Šikić, Thiele and Saukh, "Forget the Data and Fine-Tuning! Just Fold the Network to
Compress", ICLR 2025; Fold-AR, the variant without any data. The incoming weights of a cluster are
averaged, its outgoing weights summed, and where the layer is normalized before its activation the
variance that averaging loses is given back ("approximate repair"): averages of N units of variance
1 and mean correlation E have the variance (N + (N^2 - N) E) / N^2, with the cosine of incoming
weights for the correlation, as if inputs were uncorrelated.

Their Hartigan k-means has no fixed seed; this is Lloyd's of scikit-learn with ten starts and a
seed. A bias without normalization counts as one more incoming weight. Without normalization there
is nothing to repair.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from compensation.chain import Array, Chain, Layer, Normalization, kept_units

__all__ = ["clusters_of", "fold_layer", "fold_model", "repair"]

_STARTS = 10


def fold_model(chain: Chain, ratio: float, seed: int) -> Chain:
    """Fold every hidden layer, from the first to the last.

    Parameters
    ----------
    chain : Chain
        With its normalizations.
    ratio : float
        Share of the units that go.
    seed : int
        Of k-means.
    """
    layers = [*chain.layers]
    for index, layer in enumerate(layers[:-1]):
        here, reader = layers[index], layers[index + 1]
        features = _features(here, reader)
        labels = clusters_of(features, kept_units(layer.units, ratio), seed)
        layers[index], layers[index + 1] = fold_layer(here, reader, labels)
    return Chain(layers=tuple(layers))


def clusters_of(features: Array, count: int, seed: int) -> NDArray[np.intp]:
    """Return each unit's cluster, numbered from 0 without gaps."""
    found = KMeans(count, n_init=_STARTS, random_state=seed).fit_predict(features)
    return np.unique(found, return_inverse=True)[1]


def fold_layer(here: Layer, reader: Layer, labels: NDArray[np.intp]) -> tuple[Layer, Layer]:
    """Make one unit of each cluster.

    Parameters
    ----------
    here, reader : Layer
        The layer, and the one that reads it.
    labels : ndarray of int, shape (units,)
        Cluster of each unit.

    Returns
    -------
    tuple of Layer
        Both layers, smaller.
    """
    members = np.eye(labels.max() + 1)[labels]  # U, shape (units, clusters)
    averaging = members / members.sum(axis=0)
    kernel, bias = _standardized(here)
    folded = Layer(kernel=kernel @ averaging, bias=bias @ averaging)
    if here.normalization is not None:
        ones = np.ones(folded.units)
        norm = Normalization(
            gamma=(here.normalization.gamma @ averaging) * repair(kernel.T, labels),
            beta=here.normalization.beta @ averaging,
            mean=0 * ones,
            deviation=ones,
        )
        folded = replace(folded, normalization=norm)
    return folded, replace(reader, kernel=members.T @ reader.kernel)


def repair(weights: Array, labels: NDArray[np.intp]) -> Array:
    """Return the factor of each cluster's gamma that gives its unit the variance back.

    Parameters
    ----------
    weights : ndarray, shape (units, inputs)
        Incoming weights of standardized units.
    labels : ndarray of int, shape (units,)
        Cluster of each unit.
    """
    norms = np.linalg.norm(weights, axis=1, keepdims=True)
    directions = weights / np.where(norms > 0, norms, 1.0)
    factors = []
    for cluster in range(labels.max() + 1):
        alike = directions[labels == cluster]
        count = len(alike)
        cosines = np.sum(alike @ alike.T) - np.sum(alike**2)  # of all pairs i != j
        factors.append(count / np.sqrt(count + cosines))
    return np.array(factors)


def _standardized(layer: Layer) -> tuple[Array, Array]:
    """Return incoming weights and bias of the units in units of their standard deviations."""
    norm = layer.normalization
    if norm is None:
        return layer.kernel, layer.bias
    return layer.kernel / norm.deviation, (layer.bias - norm.mean) / norm.deviation


def _features(layer: Layer, reader: Layer) -> Array:
    """Return what units are clustered by: shape (units, weights out and in)."""
    kernel, bias = _standardized(layer)
    last = bias if layer.normalization is None else layer.normalization.gamma
    return np.hstack([reader.kernel, kernel.T, last[:, None]])
