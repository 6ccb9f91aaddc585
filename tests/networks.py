"""Random networks, both as a twin and as a network of the compiled core."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from nnprune import _core
from numpy.typing import NDArray
from reference import Graph, Node
from reference.activation import KINDS, Array
from reference.bounds import evaluate

Box = tuple[list[Array], list[Array]]

# Small negative slopes and odd alphas too, not only the defaults.
PARAMETERS: Mapping[str, Sequence[Mapping[str, float]]] = {
    "relu": ({}, {"negative_slope": 0.25}, {"max_value": 1.5}, {"max_value": 6.0}),
    "leaky_relu": ({}, {"negative_slope": 0.01}),
    "elu": ({}, {"alpha": 0.5}, {"alpha": 1.75}),
    "celu": ({}, {"alpha": 0.5}),
}


class Sketch:
    """Collect nodes with random weights; every method returns the new node's name."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Node] = []
        self.shapes: dict[str, tuple[int, ...]] = {}

    def add(self, kind: str, sources: Sequence[str] = (), **options: Any) -> str:
        """Add a node under the next free name."""
        number = sum(node.kind == kind for node in self.nodes)
        node = Node(f"{kind}_{number}", kind, tuple(sources), options)
        self.nodes.append(node)
        if kind == "input":
            self.shapes[node.name] = tuple(options["shape"])
        else:
            one = Graph((*self._stubs(sources), node), (node.name,))
            points = [np.zeros((1, *self.shapes[name])) for name in dict.fromkeys(sources)]
            self.shapes[node.name] = evaluate(one, points)[node.name].shape[1:]
        return node.name

    def _stubs(self, sources: Sequence[str]) -> list[Node]:
        return [Node(name, "input") for name in dict.fromkeys(sources)]

    def weights(self, *shape: int, scale: float = 1.0) -> NDArray[np.float32]:
        """Return normal float32 weights."""
        return (scale * self.random.standard_normal(shape)).astype(np.float32)

    def input(self, *shape: int) -> str:
        """Add an input."""
        return self.add("input", shape=shape)

    def dense(self, source: str, units: int, *, bias: bool = True) -> str:
        """Add a Dense op."""
        rows = self.shapes[source][-1]
        options = {"kernel": self.weights(rows, units, scale=rows**-0.5)}
        if bias:
            options["bias"] = self.weights(units, scale=0.3)
        return self.add("dense", [source], **options)

    def conv(self, source: str, filters: int, **options: Any) -> str:
        """Add a convolution; `options` give the window."""
        channels = self.shapes[source][-1] // options["groups"]
        window = options.pop("window")
        rows = int(np.prod(window)) * channels
        kernel = self.weights(*window, channels, filters, scale=rows**-0.5)
        bias = self.weights(filters, scale=0.3)
        return self.add("conv", [source], kernel=kernel, bias=bias, **options)

    def depthwise_conv(self, source: str, multiplier: int, **options: Any) -> str:
        """Add a depthwise convolution."""
        channels = self.shapes[source][-1]
        window = options.pop("window")
        kernel = self.weights(*window, channels, multiplier, scale=float(np.prod(window)) ** -0.5)
        return self.add(
            "depthwise_conv",
            [source],
            kernel=kernel,
            bias=self.weights(channels * multiplier, scale=0.3),
            **options,
        )

    def norm(self, source: str) -> str:
        """Add a batch normalization; some of its scales are negative."""
        size = self.shapes[source][-1]
        return self.add(
            "batch_normalization",
            [source],
            mean=self.weights(size, scale=0.3),
            variance=self.random.uniform(0.5, 2.0, size).astype(np.float32),
            gamma=self.weights(size),
            beta=self.weights(size, scale=0.3),
            epsilon=1e-3,
        )

    def activation(self, source: str, kind: str, parameters: Mapping[str, float]) -> str:
        """Add an activation."""
        return self.add("activation", [source], function=kind, parameters=dict(parameters))

    def flatten(self, source: str) -> str:
        """Add a Reshape to one axis."""
        return self.add("reshape", [source], shape=(int(np.prod(self.shapes[source])),))

    def graph(self, *outputs: str) -> Graph:
        """Finish."""
        return Graph(tuple(self.nodes), outputs)

    def box(self, width: float = 1.0) -> Box:
        """Return a random box for every input, some of its sides of zero length."""
        lower, upper = [], []
        for shape in [node.options["shape"] for node in self.nodes if node.kind == "input"]:
            centre = np.asarray(self.random.standard_normal(shape))
            sides = width * self.random.random(centre.shape)
            sides = np.where(self.random.random(sides.shape) < 0.1, 0.0, sides)
            # On a box of one point every NORM is rounding: no two programs rank by it alike.
            sides.flat[0] = max(sides.flat[0], 0.1 * width)
            lower.append(centre - sides)
            upper.append(centre + sides)
        return lower, upper


def _window(options: Mapping[str, Any], rank: int) -> dict[str, Any]:
    return {
        "strides": options["strides"],
        "dilation": options.get("dilation", [1] * rank),
        "padding": options["padding"],
    }


def build(graph: Graph) -> _core.Network:
    """Build the core's network of a twin."""
    builder = _core.NetworkBuilder()
    for node in graph.nodes:
        _add(builder, node)
    return builder.build(list(graph.outputs))


def _add(builder: _core.NetworkBuilder, node: Node) -> None:
    name, options = node.name, dict(node.options)
    source = node.sources[0] if node.sources else ""
    match node.kind:
        case "input":
            builder.input(name, options["shape"])
        case "dense":
            builder.dense(name, source, options["kernel"], options.get("bias"))
        case "conv":
            kernel = options["kernel"]
            window = _window(options, kernel.ndim - 2)
            groups = options.get("groups", 1)
            builder.conv(name, source, kernel, options.get("bias"), groups=groups, **window)
        case "depthwise_conv":
            kernel = options["kernel"]
            window = _window(options, kernel.ndim - 2)
            builder.depthwise_conv(name, source, kernel, options.get("bias"), **window)
        case "batch_normalization":
            builder.batch_normalization(name, source, **options)
        case "layer_normalization":
            builder.layer_normalization(name, source, **options)
        case "affine":
            builder.affine(name, source, scale=options["scale"], offset=options["offset"])
        case "activation":
            parameters = options.get("parameters")
            builder.activation(name, source, options["function"], parameters=parameters)
        case "softmax":
            builder.softmax(name, source)
        case "average_pool" | "max_pool":
            builder.pool(name, source, node.kind.removesuffix("_pool"), **options)
        case "global_average_pool" | "global_max_pool":
            kind = node.kind.removeprefix("global_").removesuffix("_pool")
            builder.global_pool(name, source, kind, keepdims=options.get("keepdims", False))
        case "zero_padding":
            builder.zero_padding(name, source, options["padding"])
        case "reshape":
            builder.reshape(name, source, options["shape"])
        case "add":
            builder.add(name, node.sources)
        case "concatenate":
            builder.concatenate(name, node.sources, axis=options.get("axis", -1))
        case "identity":
            builder.identity(name, source)
        case _:
            raise ValueError(node.kind)


def with_weights(graph: Graph, network: _core.Network) -> Graph:
    """Return the twin with the weights (and so the shapes) that the core's network has now."""
    shapes = {node.name: node.shape for node in network.nodes}
    changed: dict[str, dict[str, Any]] = {}
    for node in graph.nodes:
        if node.kind in ("dense", "conv", "depthwise_conv", "batch_normalization"):
            changed[node.name] = dict(network.weights(node.name))
            if node.kind == "conv":
                *window, _, filters = node.options["kernel"].shape
                kernel = changed[node.name]["kernel"]
                # The core returns kernels with all axes but the last merged.
                changed[node.name]["kernel"] = kernel.reshape(*window, -1, filters)
            elif node.kind == "depthwise_conv":
                changed[node.name]["kernel"] = node.options["kernel"]
        elif node.kind == "reshape":
            changed[node.name] = {"shape": shapes[node.name]}
    return graph.replace(changed)


def evaluate_each(network: _core.Network, points: Sequence[Array]) -> list[Array]:
    """Evaluate the core's network on a batch of points, one by one."""
    rows = [network.evaluate([*point]) for point in zip(*points, strict=True)]
    return [np.stack(head) for head in zip(*rows, strict=True)]


def logits(graph: Graph, points: Sequence[Array]) -> Array:
    """Evaluate the logits of a twin, the heads side by side."""
    values = evaluate(graph, points)
    return np.concatenate([values[name].reshape(len(points[0]), -1) for name in graph.logits], 1)


def wide_network(*, norms: bool = False) -> tuple[_core.Network, int]:
    """Return a network whose products are shared out, and of more samples than a chunk has."""
    sketch = Sketch(5)
    at = sketch.input(12, 11, 4)
    at = sketch.conv(
        at, 24, window=[3, 3], strides=[1, 1], dilation=[1, 1], padding="same", groups=2
    )
    at = sketch.activation(sketch.norm(at) if norms else at, "relu", {})
    at = sketch.depthwise_conv(
        at, 1, window=[3, 3], strides=[2, 2], dilation=[1, 1], padding="same"
    )
    at = sketch.add("max_pool", [at], window=[2, 2], strides=[2, 2], padding="valid")
    at = sketch.dense(sketch.flatten(at), 300)
    at = sketch.dense(sketch.activation(sketch.norm(at) if norms else at, "tanh", {}), 10)
    return build(sketch.graph(at)), 1500


# Two exponentials on top of each other leave the range of float64.
STACKABLE = tuple(kind for kind in KINDS if kind != "exponential")


@st.composite
def activations(draw: st.DrawFn, kinds: Sequence[str] = KINDS) -> tuple[str, Mapping[str, float]]:
    """Draw an activation and its parameters."""
    kind = draw(st.sampled_from(list(kinds)))
    return kind, draw(st.sampled_from(list(PARAMETERS.get(kind, ({},)))))


seeds = st.integers(0, 2**32 - 1)


@st.composite
def mlps(
    draw: st.DrawFn,
    *,
    norms: bool = True,
    biased: bool = False,
    heads: int = 2,
    units: tuple[int, int] = (3, 7),
    kinds: Sequence[str] = KINDS,
) -> tuple[Graph, Box, list[str]]:
    """Draw an MLP, a box for its input, and the names of its hidden layers.

    Without biases an interval may end exactly at a kink, where the core's rounding pad, and
    nothing else, decides which slopes it touches: `biased` is for comparisons of impacts.
    """
    sketch = Sketch(draw(seeds))
    at = sketch.input(draw(st.integers(2, 6)))
    layers: list[str] = []
    for _ in range(draw(st.integers(1, 3))):
        kinds = [kind for kind in kinds if kind in STACKABLE or not layers]
        at = sketch.dense(at, draw(st.integers(*units)), bias=biased or draw(st.booleans()))
        layers.append(at)
        if norms and draw(st.booleans()):
            at = sketch.norm(at)
        at = sketch.activation(at, *draw(activations(kinds)))
        if norms and draw(st.booleans()):
            at = sketch.norm(at)
    outputs = []
    for _ in range(draw(st.integers(1, heads))):
        head = sketch.dense(at, draw(st.integers(1, 4)))
        final = draw(st.sampled_from(["none", "softmax", "sigmoid"]))
        if final == "softmax":
            head = sketch.add("softmax", [head])
        elif final == "sigmoid":
            head = sketch.activation(head, "sigmoid", {})
        outputs.append(head)
    return sketch.graph(*outputs), sketch.box(), layers


def _sizes(draw: st.DrawFn, rank: int, low: int, high: int) -> list[int]:
    return [draw(st.integers(low, high)) for _ in range(rank)]


def _sliding(draw: st.DrawFn, shape: Sequence[int], *, causal: bool) -> dict[str, Any]:
    rank = len(shape) - 1
    paddings = ["valid", "same", *(["causal"] if causal and rank == 1 else [])]
    padding = draw(st.sampled_from(paddings))
    dilation = _sizes(draw, rank, 1, 2)
    # Keras forbids strides together with dilation.
    strides = _sizes(draw, rank, 1, 3) if max(dilation) == 1 else [1] * rank
    room = [size if padding == "valid" else 3 for size in shape[:-1]]
    window = [
        draw(st.integers(1, max(1, min(3, (cells - 1) // spread + 1))))
        for cells, spread in zip(room, dilation, strict=True)
    ]
    return {"window": window, "strides": strides, "dilation": dilation, "padding": padding}


def _spatial_step(draw: st.DrawFn, sketch: Sketch, at: str) -> str:
    shape = sketch.shapes[at]
    rank, channels = len(shape) - 1, shape[-1]
    match draw(st.sampled_from(["conv", "depthwise", "pool", "global", "pad"])):
        case "conv":
            groups = draw(st.sampled_from([g for g in (1, 2) if channels % g == 0]))
            window = _sliding(draw, shape, causal=True)
            filters = groups * draw(st.integers(1, 2))
            return sketch.conv(at, filters, groups=groups, **window)
        case "depthwise":
            window = _sliding(draw, shape[-3:] if rank < 3 else shape, causal=False)
            return sketch.depthwise_conv(at, draw(st.integers(1, 2)), **window)
        case "pool":
            window = _sliding(draw, shape, causal=False)
            window.pop("dilation")
            room = [size if window["padding"] == "valid" else 3 for size in shape[:-1]]
            window["window"] = [min(a, b) for a, b in zip(window["window"], room, strict=True)]
            return sketch.add(draw(st.sampled_from(["max_pool", "average_pool"])), [at], **window)
        case "global":
            kind = draw(st.sampled_from(["global_max_pool", "global_average_pool"]))
            return sketch.add(kind, [at], keepdims=draw(st.booleans()))
        case _:
            amounts = [(draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(rank)]
            return sketch.add("zero_padding", [at], padding=amounts)


def _flat_step(draw: st.DrawFn, sketch: Sketch, at: str) -> str:
    size = sketch.shapes[at][-1]
    grown = any(node.options.get("function") == "exponential" for node in sketch.nodes)
    acts = activations(STACKABLE if grown else KINDS)
    steps: dict[str, Callable[[], str]] = {
        "dense": lambda: sketch.dense(at, draw(st.integers(1, 5)), bias=draw(st.booleans())),
        "norm": lambda: sketch.norm(at),
        "activation": lambda: sketch.activation(at, *draw(acts)),
        "softmax": lambda: sketch.add("softmax", [at]),
        "affine": lambda: sketch.add(
            "affine",
            [at],
            scale=sketch.random.standard_normal(size),
            offset=sketch.random.standard_normal(size),
        ),
        "identity": lambda: sketch.add("identity", [at]),
        "add": lambda: sketch.add("add", [at, sketch.activation(at, *draw(acts))]),
        "concatenate": lambda: sketch.add(
            "concatenate", [at, sketch.dense(at, draw(st.integers(1, 3)))], axis=-1
        ),
        "stack": lambda: sketch.add(
            "concatenate", [at, sketch.activation(at, *draw(acts))], axis=0
        ),
        "reshape": lambda: sketch.flatten(at),
        "turn": lambda: sketch.add("reshape", [at], shape=sketch.shapes[at][::-1]),
    }
    return steps[draw(st.sampled_from(sorted(steps)))]()


@st.composite
def any_networks(draw: st.DrawFn) -> tuple[Graph, Box]:
    """Draw a network over all supported ops, of input rank 1 to 4, and a box for its input."""
    sketch = Sketch(draw(seeds))
    rank = draw(st.integers(0, 3))
    at = sketch.input(*_sizes(draw, rank, 1, 6 - rank), draw(st.integers(1, 4)))
    for _ in range(draw(st.integers(1, 5))):
        spatial = len(sketch.shapes[at]) > 1 and draw(st.booleans())
        at = _spatial_step(draw, sketch, at) if spatial else _flat_step(draw, sketch, at)
    return sketch.graph(at), sketch.box()
