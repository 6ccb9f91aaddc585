"""The logits' Jacobian, enclosed for all inputs, and how far it lets a change move the logits.

A row is `centre + rho` with `|rho| <= radius`, element by element, and `||rho||_2 <= norm`. Rows
are taken back from the logits node by node; activations have any slope that they have anywhere,
as long as that is bounded. There is no outward rounding here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reference import activation, chain_jacobian
from reference.activation import Array
from reference.bounds import Interval
from reference.graph import AFFINE, Graph, Node, linear, patches, scale_and_offset

# Far enough out for every slope to be that at infinity.
ANYWHERE = 1e6
SOFTMAX_LIPSCHITZ = 0.5


@dataclass(frozen=True)
class Rows:
    """Rows of the Jacobian on the elements of one tensor."""

    centre: Array  # (logits, elements)
    radius: Array  # of the same shape
    norm: Array  # (logits,)

    def __post_init__(self) -> None:
        """Keep the ball no larger than the box around it."""
        around = np.linalg.norm(self.radius, axis=1)
        object.__setattr__(self, "norm", np.minimum(self.norm, around))

    def __add__(self, other: Rows) -> Rows:
        return Rows(self.centre + other.centre, self.radius + other.radius, self.norm + other.norm)

    def through_slopes(self, lower: Array, upper: Array) -> Rows:
        """Scale every element by a slope from its interval."""
        middle, half = (lower + upper) / 2.0, (upper - lower) / 2.0
        most = np.maximum(np.abs(lower), np.abs(upper))
        fresh = np.abs(self.centre) * half
        return Rows(
            self.centre * middle,
            self.radius * most + fresh,
            self.norm * np.max(most) + np.linalg.norm(fresh, axis=1),
        )

    def through_linear(self, matrix: Array, magnitudes: Array, norms: Norms) -> Rows:
        """Take the rows through a matrix of shape (elements, elements before)."""
        columns = np.resize(norms.columns, matrix.shape[1])
        by_box, by_ball = self.radius @ magnitudes, np.multiply.outer(self.norm, columns)
        return Rows(self.centre @ matrix, np.minimum(by_box, by_ball), self.norm * norms.spectral)

    def through_maxima(self, windows: Array) -> Rows:
        """Share every element among its window, of which only some input counts.

        `windows` has shape (elements, elements before) and is 1 where the input is in the window.
        """
        share = 1.0 / np.sum(windows, axis=1)
        spread = np.abs(self.centre) * np.maximum(1.0 - share, share) + self.radius
        unknown = np.full_like(self.norm, np.inf)
        return Rows((self.centre * share) @ windows, spread @ windows, unknown)

    def through_lipschitz(self, constant: float) -> Rows:
        """Only the length of the rows is known."""
        norm = constant * (np.linalg.norm(self.centre, axis=1) + self.norm)
        radius = np.broadcast_to(norm[:, None], self.centre.shape)
        return Rows(np.zeros_like(self.centre), radius, norm)

    def times(self, elements: NDArray[np.int64], change: Interval) -> Interval:
        """Bound rows times a vector that is zero but for some elements."""
        middle, half = (change[0] + change[1]) / 2.0, (change[1] - change[0]) / 2.0
        most = np.maximum(np.abs(change[0]), np.abs(change[1]))
        centre, radius = self.centre[:, elements], self.radius[:, elements]
        deviation = np.minimum(radius @ most, self.norm * np.linalg.norm(most))
        reach = np.abs(centre) @ half + deviation
        return centre @ middle - reach, centre @ middle + reach

    def through_rows(self, kernel: Array, change: Interval) -> Interval:
        """Bound rows times `change @ kernel`, for a few rows of a kernel.

        The ball is met by each row of the kernel, by the sum of their sizes, and by their own
        spectral norm.
        """
        middle, half = (change[0] + change[1]) / 2.0, (change[1] - change[0]) / 2.0
        most = np.maximum(np.abs(change[0]), np.abs(change[1]))
        centre = self.centre @ kernel.T
        by_ball = np.multiply.outer(self.norm, np.linalg.norm(kernel, axis=1))
        deviation = np.minimum(self.radius @ np.abs(kernel).T, by_ball) @ most
        sums = float(np.linalg.norm(most @ np.abs(kernel)))
        whole = min(sums, spectral_norm(kernel) * float(np.linalg.norm(most)))
        reach = np.abs(centre) @ half + np.minimum(deviation, self.norm * whole)
        return centre @ middle - reach, centre @ middle + reach

    def on_active(self) -> Rows:
        """Leave out the elements that no row has a part in."""
        return Rows(self.centre[:, self.active], self.radius[:, self.active], self.norm)

    @property
    def active(self) -> NDArray[np.intp]:
        """The elements that any row has a part in: units that are gone are none of them."""
        return np.flatnonzero(np.any((self.centre != 0.0) | (self.radius != 0.0), axis=0))


@dataclass(frozen=True)
class Norms:
    """The spectral norm of a linear op, and the norms of its columns, again and again."""

    spectral: float
    columns: Array

    @classmethod
    def of_kernel(cls, kernel: Array, overlap: int = 1, taps: int = 1) -> Norms:
        """Bound a kernel (inputs, outputs) that slides over its input."""
        squares = np.sum(kernel**2, axis=1).reshape(taps, -1)
        spectral = math.sqrt(overlap) * spectral_norm(kernel)
        return cls(spectral, np.sqrt(np.sum(squares, axis=0)))


def spectral_norm(kernel: Array) -> float:
    """Bound the largest singular value by Gram iteration, and by sums of absolute weights."""
    sums = [float(np.max(np.sum(np.abs(kernel), axis=axis))) for axis in (0, 1)]
    return min(math.sqrt(sums[0] * sums[1]), chain_jacobian.spectral_norm(kernel))


def overlap(window: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> int:
    """Return in how many windows an input is at most."""
    axes = zip(window, strides, dilation, strict=True)
    return math.prod(
        min(width, -(-((width - 1) * spread + 1) // stride)) for width, stride, spread in axes
    )


def norms_of(node: Node, shape: Sequence[int]) -> Norms:
    """Return the norms of an affine op whose input has this shape."""
    options, kernel = node.options, node.weight("kernel")
    ones = np.ones(1)
    match node.kind:
        case "dense":
            assert kernel is not None
            return Norms.of_kernel(kernel)
        case "conv":
            assert kernel is not None
            window = kernel.shape[:-2]
            times = overlap(window, options["strides"], options["dilation"])
            parts = [
                Norms.of_kernel(part.reshape(-1, part.shape[-1]), times, math.prod(window))
                for part in np.split(kernel, options.get("groups", 1), axis=-1)
            ]
            columns = np.concatenate([part.columns for part in parts])
            return Norms(max(part.spectral for part in parts), columns)
        case "depthwise_conv":
            assert kernel is not None
            window = kernel.shape[:-2]
            times = overlap(window, options["strides"], options["dilation"])
            columns = np.sqrt(np.sum(kernel**2, axis=(*range(len(window)), -1)))
            return Norms(math.sqrt(times) * float(np.max(columns)), columns)
        case "batch_normalization" | "affine":
            scale = np.abs(scale_and_offset(node)[0])
            return Norms(float(np.max(scale)), scale)
        case "average_pool":
            times = overlap(options["window"], options["strides"], [1] * len(options["window"]))
            fewest = float(np.min(np.sum(windows_of(node, shape), axis=1)))
            return Norms(math.sqrt(times / fewest), ones * math.sqrt(times) / fewest)
        case "global_average_pool":
            positions = math.prod(shape[:-1])
            return Norms(1.0 / math.sqrt(positions), ones / positions)
        case _:
            return Norms(1.0, ones)


def windows_of(node: Node, shape: Sequence[int]) -> Array:
    """Return which inputs each element of a pool sees, of shape (elements, inputs)."""
    size = math.prod(shape)
    basis = np.eye(size).reshape(size, *shape)
    if "global" in node.kind:
        seen = np.max(basis, axis=tuple(range(1, basis.ndim - 1)))
    else:
        window = node.options["window"]
        settings = (window, node.options["strides"], [1] * len(window), node.options["padding"])
        seen = np.sum(list(patches(basis, *settings).values()), axis=0)
    return np.asarray(seen.reshape(size, -1).T)


def matrices(node: Node, shapes: Sequence[Sequence[int]], *, magnitude: bool) -> list[Array]:
    """Return what an affine op, or its absolute weights, multiply each of its sources by."""
    found = []
    for place, shape in enumerate(shapes):
        size = math.prod(shape)
        inputs = [np.zeros((size, *other)) for other in shapes]
        inputs[place] = np.eye(size).reshape(size, *shape)
        found.append(linear(node, inputs, magnitude=magnitude).reshape(size, -1).T)
    return found


def slopes_of(node: Node, values: Interval) -> tuple[Interval, bool]:
    """Return the slopes of an activation, and whether they are those over the whole line."""
    kind, parameters = node.options["function"], node.options.get("parameters")
    far = np.full_like(values[0], ANYWHERE)
    with np.errstate(over="ignore", invalid="ignore"):
        anywhere = activation.slope_range(kind, -far, far, parameters)
    if np.all(np.isfinite(anywhere)):
        return anywhere, True
    return activation.slope_range(kind, *values, parameters), False


def pull(node: Node, rows: Rows, sources: Sequence[Interval]) -> list[Rows]:
    """Take rows on a node's output back to each of its sources, whose values are given."""
    shapes = [low.shape[1:] for low, _ in sources]
    if node.kind in AFFINE:
        signed = matrices(node, shapes, magnitude=False)
        absolute = matrices(node, shapes, magnitude=True)
        norms = norms_of(node, shapes[0])
        kernel = node.weight("kernel")
        if node.kind == "dense" and kernel is not None and math.prod(shapes[0]) == len(kernel):
            norms = Norms.of_kernel(kernel[:, rows.active])
        return [rows.through_linear(*pair, norms) for pair in zip(signed, absolute, strict=True)]
    match node.kind:
        case "activation":
            (lower, upper), _ = slopes_of(node, sources[0])
            return [rows.through_slopes(lower.ravel(), upper.ravel())]
        case "max_pool" | "global_max_pool":
            return [rows.through_maxima(windows_of(node, shapes[0]))]
        case "softmax":
            return [rows.through_lipschitz(SOFTMAX_LIPSCHITZ)]
        case "layer_normalization":
            gamma = node.weight("gamma")
            gain = 1.0 if gamma is None else float(np.max(np.abs(gamma)))
            return [rows.through_lipschitz(gain / math.sqrt(node.options["epsilon"]))]
        case _:
            raise ValueError(node.kind)


@dataclass(frozen=True)
class Sensitivity:
    """The rows before and after some nodes; `holds` for whatever merges make of the network."""

    before: Mapping[str, Rows]
    after: Mapping[str, Rows]
    holds: bool

    def moved_by(self, node: Node, change: Interval) -> Interval:
        """Bound the logits' move by the change of what a node reads."""
        lower, upper = change[0].ravel(), change[1].ravel()
        elements = np.flatnonzero((lower != 0.0) | (upper != 0.0))
        change = lower[elements], upper[elements]
        kernel = node.weight("kernel")
        # A dense op on one position, each of whose inputs is a unit: only their rows count.
        if node.kind == "dense" and kernel is not None and lower.size == len(kernel):
            rows = self.after[node.name]
            if not elements.size:
                return np.zeros(len(rows.centre)), np.zeros(len(rows.centre))
            return rows.on_active().through_rows(kernel[np.ix_(elements, rows.active)], change)
        return self.before[node.name].times(elements, change)


def sensitivity(
    graph: Graph, boxes: Mapping[str, Interval], consumers: Iterable[str]
) -> Sensitivity:
    """Enclose the logits' Jacobian with respect to what the consumers read."""
    reached = set(consumers)
    for node in graph.nodes:
        if reached & set(node.sources):
            reached.add(node.name)
    sizes = [boxes[name][0].size for name in graph.logits]
    blocks = np.split(np.eye(sum(sizes)), np.cumsum(sizes)[:-1], axis=1)
    after = {
        name: Rows(block, np.zeros_like(block), np.zeros(len(block)))
        for name, block in zip(graph.logits, blocks, strict=True)
    }
    before: dict[str, Rows] = {}
    holds = True
    for node in reversed(graph.nodes):
        if node.name not in reached or node.name not in after:
            continue
        values = [boxes[name] for name in node.sources]
        if node.kind == "activation":
            holds &= slopes_of(node, values[0])[1]
        for source, rows in zip(node.sources, pull(node, after[node.name], values), strict=True):
            before[node.name] = rows
            after[source] = after[source] + rows if source in after else rows
    return Sensitivity(before, after, holds)
