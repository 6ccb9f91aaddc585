"""A network as a plain list of nodes, and the linear part of every op.

Arrays carry a leading batch axis throughout; weights are float64.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reference.activation import Array

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Node:
    """One op: its name, kind, the names of its sources, its weights and settings."""

    name: str
    kind: str
    sources: tuple[str, ...] = ()
    options: Options = field(default_factory=dict)

    def weight(self, name: str) -> Array | None:
        """Return a weight in float64, or None where the op has none of this name."""
        found = self.options.get(name)
        return None if found is None else np.asarray(found, dtype=np.float64)


@dataclass(frozen=True, repr=False)
class Graph:
    """Nodes in topological order, and the names of the outputs."""

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]

    def __repr__(self) -> str:
        """Leave the weights out: failing examples are to be read by people."""
        lines = []
        for node in self.nodes:
            plain = {k: v for k, v in node.options.items() if not isinstance(v, np.ndarray)}
            shapes = {k: v.shape for k, v in node.options.items() if isinstance(v, np.ndarray)}
            lines.append(f"  {node.name} <- {', '.join(node.sources)} {plain} {shapes}")
        return "\n".join([f"Graph to {self.outputs}:", *lines])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))

    def __getitem__(self, name: str) -> Node:
        """Return the node of this name."""
        return next(node for node in self.nodes if node.name == name)

    def consumers(self, name: str) -> list[Node]:
        """Return the nodes that read this one."""
        return [node for node in self.nodes if name in node.sources]

    def replace(self, changed: Mapping[str, Mapping[str, Any]]) -> Graph:
        """Return the graph with some options of some nodes replaced."""
        nodes = tuple(
            Node(node.name, node.kind, node.sources, {**node.options, **changed[node.name]})
            if node.name in changed
            else node
            for node in self.nodes
        )
        return Graph(nodes, self.outputs)

    @property
    def logits(self) -> tuple[str, ...]:
        """The outputs, a final softmax or sigmoid left out."""
        names = []
        for name in self.outputs:
            node = self[name]
            last = node.kind == "softmax" or node.options.get("function") == "sigmoid"
            names.append(node.sources[0] if last else name)
        return tuple(names)


AFFINE = frozenset(
    {
        "dense",
        "conv",
        "depthwise_conv",
        "batch_normalization",
        "affine",
        "average_pool",
        "global_average_pool",
        "zero_padding",
        "reshape",
        "identity",
        "add",
        "concatenate",
    }
)


def _window(size: int, dilation: int) -> int:
    return (size - 1) * dilation + 1


def paddings(
    shape: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
    padding: str,
) -> list[tuple[int, int]]:
    """Return how many cells are added before and after each spatial axis."""
    result = []
    for size, width, stride, spread in zip(shape, window, strides, dilation, strict=True):
        reach = _window(width, spread)
        if padding == "valid":
            result.append((0, 0))
        elif padding == "causal":
            result.append((reach - 1, 0))
        else:
            cells = -(-size // stride)
            total = max((cells - 1) * stride + reach - size, 0)
            result.append((total // 2, total - total // 2))
    return result


def patches(
    x: Array,
    window: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
    padding: str,
    fill: float = 0.0,
) -> dict[tuple[int, ...], Array]:
    """Return, for every place inside the window, the input under it at all output positions."""
    pads = paddings(x.shape[1:-1], window, strides, dilation, padding)
    padded = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=fill)
    result = {}
    for place in itertools.product(*(range(width) for width in window)):
        cuts = [slice(None)]
        for axis, offset in enumerate(place):
            start = offset * dilation[axis]
            room = padded.shape[1 + axis] - _window(window[axis], dilation[axis])
            stop = start + room // strides[axis] * strides[axis] + 1
            cuts.append(slice(start, stop, strides[axis]))
        result[place] = padded[tuple(cuts)]
    return result


def _convolve(x: Array, kernel: Array, options: Options) -> Array:
    groups = options.get("groups", 1)
    window = kernel.shape[:-2]
    parts = []
    for part, filters in zip(
        np.split(x, groups, axis=-1), np.split(kernel, groups, axis=-1), strict=True
    ):
        under = patches(part, window, options["strides"], options["dilation"], options["padding"])
        parts.append(np.sum([cells @ filters[place] for place, cells in under.items()], axis=0))
    return np.concatenate(parts, axis=-1)


def _convolve_depthwise(x: Array, kernel: Array, options: Options) -> Array:
    under = patches(
        x, kernel.shape[:-2], options["strides"], options["dilation"], options["padding"]
    )
    total = np.sum([cells[..., None] * kernel[place] for place, cells in under.items()], axis=0)
    return np.reshape(total, (*total.shape[:-2], -1))


def _average(x: Array, options: Options) -> Array:
    ones = [1] * len(options["window"])
    settings = (options["window"], options["strides"], ones, options["padding"])
    total = np.sum(list(patches(x, *settings).values()), axis=0)
    # Keras divides by the number of real cells: padding does not count.
    count = np.sum(list(patches(np.ones_like(x), *settings).values()), axis=0)
    return np.asarray(total / count)


def batch_normalization(node: Node) -> tuple[Array, Array]:
    """Return scale and offset per channel."""
    mean, variance = node.weight("mean"), node.weight("variance")
    assert mean is not None
    assert variance is not None
    gamma, beta = node.weight("gamma"), node.weight("beta")
    scale = 1.0 / np.sqrt(variance + node.options["epsilon"])
    if gamma is not None:
        scale = scale * gamma
    offset = -mean * scale
    return scale, offset if beta is None else offset + beta


def linear(node: Node, inputs: Sequence[Array], *, magnitude: bool = False) -> Array:
    """Apply an affine op without its offset; `magnitude` takes the weights' absolute values."""
    x = inputs[0]
    options = node.options
    kernel = node.weight("kernel")
    if kernel is not None and magnitude:
        kernel = np.abs(kernel)
    match node.kind:
        case "dense":
            assert kernel is not None
            return np.asarray(x @ kernel)
        case "conv":
            assert kernel is not None
            return _convolve(x, kernel, options)
        case "depthwise_conv":
            assert kernel is not None
            return _convolve_depthwise(x, kernel, options)
        case "batch_normalization" | "affine":
            scale = scale_and_offset(node)[0]
            return x * (np.abs(scale) if magnitude else scale)
        case "average_pool":
            return _average(x, options)
        case "global_average_pool":
            axes = tuple(range(1, x.ndim - 1))
            return np.asarray(np.mean(x, axis=axes, keepdims=options.get("keepdims", False)))
        case "zero_padding":
            return np.pad(x, [(0, 0), *options["padding"], (0, 0)])
        case "reshape":
            return np.reshape(x, (len(x), *options["shape"]))
        case "identity":
            return x
        case "add":
            return np.asarray(np.sum(np.broadcast_arrays(*inputs), axis=0))
        case "concatenate":
            axis = options.get("axis", -1)
            # The option leaves the batch axis out.
            return np.concatenate(inputs, axis=axis if axis < 0 else axis + 1)
        case _:
            raise ValueError(node.kind)


def scale_and_offset(node: Node) -> tuple[Array, Array]:
    """Return what an elementwise affine op multiplies by and adds."""
    if node.kind == "batch_normalization":
        return batch_normalization(node)
    scale, offset = node.weight("scale"), node.weight("offset")
    assert scale is not None
    assert offset is not None
    return scale, offset


def offset(node: Node) -> Array:
    """Return what an affine op adds to its linear part."""
    if node.kind in ("batch_normalization", "affine"):
        return scale_and_offset(node)[1]
    bias = node.weight("bias")
    return np.zeros(()) if bias is None else bias
