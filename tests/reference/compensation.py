"""Compensation: removed units re-expressed by all that are kept, by least squares on samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reference.activation import Array
from reference.bounds import evaluate
from reference.graph import Graph, Node

Units = Sequence[int] | NDArray[np.int64]


def with_ridge(matrix: Array, ridge: float) -> Array:
    """Add a ridge, relative to the mean diagonal element, or absolute where all are 0."""
    mean = np.trace(matrix) / len(matrix)
    return np.asarray(matrix + ridge * (mean if mean > 0.0 else 1.0) * np.eye(len(matrix)))


def losses(covariance: Array, weights: Array, kept: Units, ridge: float) -> Array:
    """Return what every output is off by when kept units make up for the rest, solved directly.

    `weights` has one row a unit and one column an output.
    """
    covariance = with_ridge(covariance, ridge)
    kept = np.asarray(kept, dtype=np.int64)
    removed = np.setdiff1d(np.arange(len(covariance)), kept)
    between = covariance[np.ix_(removed, kept)]
    rest = covariance[np.ix_(removed, removed)]
    if len(kept):
        inside = covariance[np.ix_(kept, kept)]
        rest = rest - between @ np.linalg.solve(inside, between.T)
    return np.asarray(np.einsum("uo,uv,vo->o", weights[removed], rest, weights[removed]))


def eliminate(
    covariances: Sequence[Array], weights: Sequence[Array], ridge: float
) -> tuple[list[int], list[float]]:
    """Remove the unit of least loss again and again, every downdate made at once."""
    inverses = [np.linalg.inv(with_ridge(c, ridge)) for c in covariances]
    readings = [w.copy() for w in weights]
    units = len(inverses[0])
    order: list[int] = []
    lost = [0.0]
    while len(order) < units:
        open_units = [unit for unit in range(units) if unit not in order]
        cost = {
            unit: sum(
                float(v[unit] @ v[unit] / h[unit, unit])
                for v, h in zip(readings, inverses, strict=True)
            )
            for unit in open_units
        }
        unit = min(open_units, key=lambda unit: (cost[unit], unit))
        for v, h in zip(readings, inverses, strict=True):
            column = h[:, unit].copy()
            v -= np.outer(column / column[unit], v[unit])
            h -= np.outer(column, column) / column[unit]
        order.append(unit)
        lost.append(lost[-1] + cost[unit])
    return order, lost


def _blocks(values: Array, units: int) -> Array:
    """Lay values out as (places, blocks of the last axis, units)."""
    return values.reshape(-1, values.shape[-1] // units, units)


def _is_padded(node: Node, shape: Sequence[int]) -> bool:
    """Whether a convolution's window ever hangs over the border of its input."""
    if node.kind != "conv" or node.options["padding"] == "valid":
        return False
    window = node.options["kernel"].shape[:-2]
    strides = node.options["strides"]
    spreads = node.options.get("dilation", [1] * len(window))
    for size, taps, stride, spread in zip(shape[1:-1], window, strides, spreads, strict=True):
        reach = (taps - 1) * spread + 1
        if node.options["padding"] == "causal" and reach > 1:
            return True
        if (-(-size // stride) - 1) * stride + reach > size:
            return True
    return False


def coefficients(target: Array, known: Array, ridge: float, towards: Array) -> Array:
    """Return the ridge regression of `target` on `known`: one column for each of these."""
    covariance = np.einsum("rbu,rbv->uv", known, known) / (known.shape[0] * known.shape[1])
    cross = np.einsum("rbu,rbv->uv", target, known) / (known.shape[0] * known.shape[1])
    rest = cross - towards @ covariance
    return np.asarray(towards + np.linalg.solve(with_ridge(covariance, ridge), rest.T).T)


def coefficients_of(cross: Array, covariance: Array, ridge: float) -> Array:
    """Return the ridge regression by covariances: of all units (rows) and kept ones (columns)."""
    return np.asarray(np.linalg.solve(with_ridge(covariance, ridge), cross.T).T)


def refit(
    original: Graph,
    pruned: Graph,
    consumers: Sequence[str],
    kept: Units,
    points: Sequence[Array],
    *,
    units: int,
    ridge: float,
    closed_loop: bool = True,
    unchanged: bool = False,
) -> Graph:
    """Refit what reads a layer; the other units keep their place with zero outgoing weights."""
    before, now = evaluate(original, points), evaluate(pruned, points)
    kept = np.asarray(kept)
    changed: dict[str, dict[str, Array]] = {}
    for name in consumers:
        node = original[name]
        source = node.sources[0]
        target = _blocks(before[source], units)
        known = _blocks((now if closed_loop else before)[source], units)[:, :, kept]
        centred = not _is_padded(node, before[source].shape)
        target_means = target.mean(axis=0) if centred else np.zeros(target.shape[1:])
        known_means = known.mean(axis=0) if centred else np.zeros(known.shape[1:])
        towards = np.eye(units)[:, kept] if unchanged else np.zeros((units, len(kept)))
        found = coefficients(target - target_means, known - known_means, ridge, towards)
        kernel = node.weight("kernel")
        assert kernel is not None
        rows = kernel.reshape(-1, units, kernel.shape[-1])
        refitted = np.zeros_like(rows)
        refitted[:, kept] = np.einsum("uk,buo->bko", found, rows)
        gaps = np.tile(target_means - known_means @ found.T, (len(rows) // target.shape[1], 1))
        bias = node.weight("bias")
        shift = np.einsum("bu,buo->o", gaps, rows)
        changed[name] = {"kernel": refitted.reshape(kernel.shape)}
        if bias is not None or np.any(shift):
            changed[name]["bias"] = shift if bias is None else bias + shift
    return pruned.replace(changed)
