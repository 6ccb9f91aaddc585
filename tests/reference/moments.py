"""Gaussian moments through the layers, in plain NumPy: one vector, one covariance matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reference.activation import Array, Parameters, value
from reference.compensation import coefficients_of
from reference.graph import Graph, Node

TERMS = 12
REST_POWER = 48
_REACH = 10.0
_POINTS = 4_001


def expand(
    kind: str, mean: float, deviation: float, parameters: Parameters | None = None
) -> tuple[float, float, Array]:
    """Return mean, variance and `t_k / sqrt(k!)` of an activation, by the trapezoidal rule."""
    middle = float(value(kind, np.array(mean), parameters))
    if deviation == 0.0:
        return middle, 0.0, np.zeros(TERMS)
    grid = np.linspace(-_REACH, _REACH, _POINTS)
    weights = np.exp(-0.5 * grid**2)
    weights /= weights.sum()
    height = value(kind, mean + deviation * grid, parameters) - middle
    first = float(weights @ height)
    before, now = np.ones_like(grid), grid
    terms = []
    for k in range(1, TERMS + 1):
        terms.append(weights @ (height * now))
        before, now = now, (grid * now - math.sqrt(k) * before) / math.sqrt(k + 1)
    return middle + first, float(weights @ (height - first) ** 2), np.array(terms)


@dataclass(frozen=True)
class Law:
    """Means and covariances of many variables."""

    means: Array
    covariance: Array

    def affine(self, kernel: Array, bias: Array | float) -> Law:
        """Through `y = x W + b`."""
        return Law(self.means @ kernel + bias, kernel.T @ self.covariance @ kernel)

    def activated(self, kind: str, parameters: Parameters | None = None) -> Law:
        """Through an activation: the series, and what it leaves out where variables are alike."""
        deviations = np.sqrt(np.maximum(np.diag(self.covariance), 0.0))
        found = [
            expand(kind, float(m), float(s), parameters)
            for m, s in zip(self.means, deviations, strict=True)
        ]
        means = np.array([mean for mean, _, _ in found])
        variances = np.array([variance for _, variance, _ in found])
        terms = np.array([terms for _, _, terms in found])
        size = np.outer(deviations, deviations)
        correlation = np.divide(self.covariance, size, out=np.zeros_like(size), where=size > 0.0)
        correlation = np.clip(correlation, -1.0, 1.0)
        covariance = sum(
            correlation**k * np.outer(terms[:, k - 1], terms[:, k - 1]) for k in range(1, TERMS + 1)
        )
        rest = np.sqrt(np.maximum(variances - np.sum(terms**2, axis=1), 0.0))
        covariance = covariance + correlation**REST_POWER * np.outer(rest, rest)
        np.fill_diagonal(covariance, variances)
        return Law(means, covariance)


def box_law(lower: Array, upper: Array, axes: tuple[int, int, int] | None, length: float) -> Law:
    """Return the law of a uniform input, correlated where it is an image."""
    deviations = (np.ravel(upper) - np.ravel(lower)) / math.sqrt(12.0)
    correlation = np.eye(len(deviations))
    if axes is not None and length > 0.0:
        place = np.stack(np.unravel_index(np.arange(len(deviations)), axes), axis=1)
        gaps = (place[:, None, :2] - place[None, :, :2]).astype(np.float64)
        same = place[:, None, 2] == place[None, :, 2]
        correlation = same * np.exp(-np.sqrt((gaps**2).sum(axis=2)) / length)
    covariance = correlation * np.outer(deviations, deviations)
    return Law(0.5 * (np.ravel(lower) + np.ravel(upper)), covariance)


def anchor(node: Node, law: Law) -> tuple[Array, Array]:
    """Return scale and offset that give the units the moments that a normalization has stored."""
    variance, epsilon = node.weight("variance"), node.options["epsilon"]
    gamma, beta = node.weight("gamma"), node.weight("beta")
    assert variance is not None
    wanted = np.sqrt(variance / (variance + epsilon)) * (1.0 if gamma is None else gamma)
    deviations = np.sqrt(np.diag(law.covariance))
    scale = np.divide(wanted, deviations, out=np.zeros_like(wanted), where=deviations > 0.0)
    return scale, (0.0 if beta is None else beta) - law.means * scale


def laws(graph: Graph, inputs: Mapping[str, Law]) -> dict[str, Law]:
    """Return the law of every node of a tree of dense layers."""
    found = dict(inputs)
    for node in graph.nodes:
        if node.kind == "input":
            continue
        law = found[node.sources[0]]
        found[node.name] = _through(node, law, node, 0, law)
    return found


def _through(now: Node, law: Law, node: Node, copies: int, own: Law) -> Law:
    """Through a node; with `copies`, through it and its pruned form `now` side by side."""
    match node.kind:
        case "dense":
            kernel, bias = node.weight("kernel"), node.weight("bias")
            assert kernel is not None
            bias = np.zeros(kernel.shape[1]) if bias is None else bias
            if copies:
                other, shift = now.weight("kernel"), now.weight("bias")
                assert other is not None
                zeros = np.zeros((len(kernel), other.shape[1]))
                block = np.block(
                    [[kernel, zeros], [np.zeros((len(other), kernel.shape[1])), other]]
                )
                bias = np.concatenate([bias, np.zeros(other.shape[1]) if shift is None else shift])
                kernel = block
            return law.affine(kernel, bias)
        case "batch_normalization" | "affine":
            if node.kind == "affine":
                scale, offset = node.options["scale"], node.options["offset"]
                size = len(own.means)
                scale, offset = np.resize(scale, size), np.resize(offset, size)
            else:
                scale, offset = anchor(node, own)
            scale, offset = (np.tile(values, copies + 1) for values in (scale, offset))
            return law.affine(np.diag(scale), offset)
        case "activation":
            return law.activated(node.options["function"], node.options.get("parameters"))
    return law


def stacked(original: Graph, pruned: Graph, inputs: Mapping[str, Law]) -> dict[str, Law]:
    """Return the law of every node's values in the original and in the pruned graph, one vector.

    Removed units are still there in the pruned graph, with zero outgoing weights.
    """
    own = laws(original, inputs)
    found: dict[str, Law] = {}
    for node in original.nodes:
        if node.kind == "input":
            law = own[node.name]
            found[node.name] = Law(np.tile(law.means, 2), np.tile(law.covariance, (2, 2)))
        else:
            source = node.sources[0]
            found[node.name] = _through(pruned[node.name], found[source], node, 1, own[source])
    return found


def refit(
    original: Graph,
    pruned: Graph,
    consumers: Sequence[str],
    kept: Sequence[int],
    inputs: Mapping[str, Law],
    *,
    ridge: float,
    closed_loop: bool = True,
) -> Graph:
    """Refit what reads a layer to the moments; removed units keep their place."""
    joint = stacked(original, pruned if closed_loop else original, inputs)
    changed: dict[str, dict[str, Any]] = {}
    for name in consumers:
        node = original[name]
        law = joint[node.sources[0]]
        units = len(law.means) // 2
        now = units + np.asarray(kept)
        found = coefficients_of(
            law.covariance[:units, now], law.covariance[np.ix_(now, now)], ridge
        )
        kernel, bias = node.weight("kernel"), node.weight("bias")
        assert kernel is not None
        refitted = np.zeros_like(kernel)
        refitted[np.asarray(kept)] = found.T @ kernel
        shift = (law.means[:units] - found @ law.means[now]) @ kernel
        changed[name] = {"kernel": refitted, "bias": shift if bias is None else bias + shift}
    return pruned.replace(changed)


def relative_error(original: Graph, pruned: Graph, name: str, inputs: Mapping[str, Law]) -> float:
    """Return the mean squared change of a node's values, relative to their variance."""
    law = stacked(original, pruned, inputs)[name]
    units = len(law.means) // 2
    difference = np.vstack([np.eye(units), -np.eye(units)])
    gap = law.affine(difference, 0.0)
    variance = np.trace(law.covariance[:units, :units])
    return float((np.trace(gap.covariance) + gap.means @ gap.means) / variance)
