"""How many multiply-accumulates each kind of Keras layer does in one call on one sample.

One multiplication of an input by a weight, or by another input, together with the addition of the
product to a sum. Whatever works on each value by itself (activations, normalization by statistics
on record, pooling, adding a bias) does none. Convolutions count every window in full, also where
padding fills a part of it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras

__all__ = ["Evaluated", "Rule", "Shape", "Uncountable", "rule_of", "sizes_in_einsum"]

Shape = tuple[int, ...]


class Uncountable(Exception):  # noqa: N818 (no error: the layer is listed with the reason)
    """The multiply-accumulates of this call are not known; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """One call of a layer on one sample.

    Attributes
    ----------
    layer
        The live layer or operation.
    sources
        Shapes of the tensors it reads, without the batch axis.
    output
        Shape of its (first) output, without the batch axis; None if it is not known.
    count_model
        Counts a whole model on inputs of its own shapes, for layers that wrap one.
    """

    layer: Any
    sources: tuple[Shape, ...]
    output: Shape | None
    count_model: Callable[[Any], int]

    @property
    def source(self) -> Shape:
        """Shape of the tensor that a layer reads first."""
        return self.sources[0]

    def positions(self, channels: int) -> int:
        """Count the places in the output at which there are so many channels."""
        if self.output is None:
            raise Uncountable("its output shape is not known")
        return math.prod(self.output) // channels


Rule = Callable[[Evaluated], int]


def rule_of(layer: Any) -> Rule:
    """Find how to count a layer or operation.

    Raises
    ------
    Uncountable
        It is not one of Keras' own, or of a kind that is not known here.
    """
    kind = type(layer)
    if not kind.__module__.startswith("keras."):
        raise Uncountable(f"{kind.__name__} is not one of Keras' own layers")
    # "keras.src.layers.pooling.max_pooling2d" and "keras.src.ops.numpy"
    _, _, family, *rest = [*kind.__module__.split("."), "", ""]
    if family == "ops":
        return _rule_of_operation(kind.__name__, rest[0])
    rule = _LAYERS.get(kind.__name__)
    if rule is not None:
        return rule
    if kind.__name__ not in _UNKNOWN and (rest[0] in _FREE_FAMILIES or kind.__name__ in _FREE):
        return _nothing
    raise Uncountable(f"how {kind.__name__} layers compute is not known")


def _rule_of_operation(name: str, family: str) -> Rule:
    if name in {"Matmul", "Einsum"}:
        return _matmul if name == "Matmul" else _einsum
    if name in _SUMMING_OPERATIONS or family not in _FREE_OPERATIONS:
        raise Uncountable(f"how the operation {name} computes is not known")
    return _nothing


def _nothing(_: Evaluated) -> int:
    return 0


def _dense(call: Evaluated) -> int:
    return math.prod(call.source) * int(call.layer.units)


def _conv(call: Evaluated) -> int:
    layer = call.layer
    taps = _taps(layer) * _channels(call) // int(layer.groups)
    return call.positions(1) * taps


def _conv_transpose(call: Evaluated) -> int:
    return math.prod(call.source) * _taps(call.layer) * int(call.layer.filters)


def _depthwise_conv(call: Evaluated) -> int:
    return call.positions(1) * _taps(call.layer)


def _separable_conv(call: Evaluated) -> int:
    layer = call.layer
    filters, middle = int(layer.filters), _channels(call) * int(layer.depth_multiplier)
    return call.positions(filters) * middle * (_taps(layer) + filters)


def _taps(layer: Any) -> int:
    return math.prod(int(size) for size in layer.kernel_size)


def _channels(call: Evaluated) -> int:
    rank = len(call.layer.kernel_size)
    first = call.layer.data_format == "channels_first"
    return call.source[-1 - rank if first else -1]


def _reversible_embedding(call: Evaluated) -> int:
    # Called in reverse it is a matrix product with the transposed table.
    layer = call.layer
    if call.output == (*call.source, layer.output_dim):
        return 0
    return math.prod(call.source) * int(layer.input_dim)


def _dot(call: Evaluated) -> int:
    axes = call.layer.axes
    left, right = call.sources
    axis = axes if isinstance(axes, int) else axes[0]
    contracted = (0, *left)[axis]
    return math.prod(left) * math.prod(right) // contracted


def _einsum_dense(call: Evaluated) -> int:
    kernel = tuple(int(axis) for axis in call.layer.kernel.shape)
    return _products(call.layer.equation, [(1, *call.source), kernel])


def _einsum(call: Evaluated) -> int:
    return _products(call.layer.subscripts, [(1, *shape) for shape in call.sources])


def _matmul(call: Evaluated) -> int:
    if len(call.sources) != 2 or min(map(len, call.sources)) < 2:
        raise Uncountable("it multiplies by a constant, or across the batch")
    left, right = call.sources
    stack = _broadcast(left[:-2], right[:-2])
    return math.prod(stack) * left[-2] * left[-1] * right[-1]


def _broadcast(left: Shape, right: Shape) -> Shape:
    length = max(len(left), len(right))
    pairs = zip(
        (1,) * (length - len(left)) + left, (1,) * (length - len(right)) + right, strict=True
    )
    return tuple(max(pair) for pair in pairs)


def _products(equation: str, shapes: Sequence[Shape]) -> int:
    """Count the products of an einsum: one for every combination of its labels."""
    if len(shapes) > 2:
        raise Uncountable("it contracts more than two tensors, in an order that is not known")
    sizes, terms, output = sizes_in_einsum(equation, shapes)
    for term, other in zip(terms, terms[::-1], strict=True):
        if set(term) - set(other) - set(output) and len(terms) == 2:
            raise Uncountable("it sums a tensor before it multiplies")
    return math.prod(sizes.values()) if len(terms) == 2 else 0


def sizes_in_einsum(
    equation: str, shapes: Sequence[Shape]
) -> tuple[dict[str, int], list[str], str]:
    """Read an einsum equation.

    Parameters
    ----------
    equation
        Such as `"abc,cd->abd"`; an ellipsis stands for further axes, upper-case letters of the
        end of the alphabet must then not be labels.
    shapes
        The operands' shapes.

    Returns
    -------
    sizes, terms, output
        Size of every label; the labels of each operand, and of the output.
    """
    left, arrow, output = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow or len(terms) != len(shapes):
        raise Uncountable(f"its equation {equation!r} is not of a known form")
    sizes: dict[str, int] = {}
    spelled = []
    for term, shape in zip(terms, shapes, strict=True):
        open_axes = len(shape) - len(term.replace("...", ""))
        labels = term.replace("...", "ZYXWVUTS"[:open_axes][::-1]) if "..." in term else term
        if len(labels) != len(shape):
            raise Uncountable(f"its equation {equation!r} does not fit what it reads")
        for label, size in zip(labels, shape, strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
        spelled.append(labels)
    dots = "".join(label for label in "STUVWXYZ" if label in sizes)
    return sizes, spelled, output.replace("...", dots)


def _multi_head_attention(call: Evaluated) -> int:
    options = call.layer.get_config()
    heads, key_size = int(options["num_heads"]), int(options["key_dim"])
    value_size = int(options["value_dim"] or key_size)
    query, key, value = _attended(call)
    output = options["output_shape"] or query[-1]
    outputs = math.prod([output] if isinstance(output, int) else [int(axis) for axis in output])
    projected = heads * (
        math.prod(query) * (key_size + (value_size if options.get("use_gate") else 0))
        + math.prod(key) * key_size
        + math.prod(value) * value_size
        + math.prod(query[:-1]) * value_size * outputs
    )
    # Every place along the axes attended over looks at every other one; the rest go side by side.
    axes = [int(axis) - 1 for axis in call.layer.attention_axes]
    looked_at = math.prod(key[axis] for axis in axes)
    return projected + heads * math.prod(query[:-1]) * looked_at * (key_size + value_size)


def _grouped_query_attention(call: Evaluated) -> int:
    layer = call.layer
    heads, groups = int(layer.num_query_heads), int(layer.num_key_value_heads)
    size = int(layer.head_dim)
    query, key, value = _attended(call)
    gates = 2 if layer.get_config().get("use_gate") else 1
    projected = size * (
        math.prod(query) * heads * (gates + 1) + (math.prod(key) + math.prod(value)) * groups
    )
    return projected + 2 * heads * size * query[0] * key[0]


def _attention(call: Evaluated) -> int:
    query, key, value = _attended(call)
    return math.prod(query) * key[-2] + math.prod(query[:-1]) * math.prod(value[-2:])


def _attended(call: Evaluated) -> tuple[Shape, Shape, Shape]:
    """Tell query, key and value apart, which may have been given by position or by name."""
    found = {shapes for node in call.layer._inbound_nodes if (shapes := _of_node(call, node))}
    if len(found) != 1:
        raise Uncountable("which tensors are its query, key and value is not known")
    return found.pop()


def _of_node(call: Evaluated, node: Any) -> tuple[Shape, Shape, Shape] | None:
    """Shapes of query, key and value of a recorded call, if it reads what `call` reads."""
    given = node.arguments
    named = [given.kwargs[name] for name in sorted(given.kwargs)]
    if [_shape(tensor) for tensor in _tensors((given.args, named))] != list(call.sources):
        return None
    bound = inspect.signature(call.layer.call).bind(*given.args, **given.kwargs).arguments
    if "inputs" in bound:  # Attention takes a list of query, value and perhaps key
        query, value, *more = bound["inputs"]
        key = more[0] if more else value
    else:
        query, value = bound["query"], bound["value"]
        key = value if bound.get("key") is None else bound["key"]
    return _shape(query), _shape(key), _shape(value)


def _tensors(structure: Any) -> list[Any]:
    return [leaf for leaf in keras.tree.flatten(structure) if isinstance(leaf, keras.KerasTensor)]


def _shape(tensor: Any) -> Shape:
    return tuple(tensor.shape[1:])


def _recurrent(call: Evaluated) -> int:
    steps, *features = call.source
    return steps * _of_cell(call.layer.cell, math.prod(features))


def _of_cell(cell: Any, features: int) -> int:
    """Count one step of a recurrent cell."""
    if type(cell) is keras.layers.StackedRNNCells:
        macs = 0
        for one in cell.cells:
            macs += _of_cell(one, features)
            features = int(one.units)
        return macs
    gates = next((gates for kind, gates in _CELLS.items() if type(cell) is kind), None)
    if gates is None:
        raise Uncountable(f"how {type(cell).__name__} cells compute is not known")
    return gates * int(cell.units) * (features + int(cell.units))


def _recurrent_conv(call: Evaluated) -> int:
    cell = call.layer.cell
    rank, filters = len(cell.kernel_size), int(cell.filters)
    steps, *frame = call.source
    channels = frame[0 if cell.data_format == "channels_first" else -1]
    if call.output is None:
        raise Uncountable("its output shape is not known")
    places = math.prod(call.output[-rank - 1 :]) // filters
    return steps * 4 * filters * _taps(cell) * (channels + filters) * places


def _bidirectional(call: Evaluated) -> int:
    both = (call.layer.forward_layer, call.layer.backward_layer)
    return sum(_of_inner(one, call.source, call) for one in both)


def _time_distributed(call: Evaluated) -> int:
    return call.source[0] * _of_inner(call.layer.layer, call.source[1:], call)


def _wrapped(call: Evaluated) -> int:
    return _of_inner(call.layer.layer, call.source, call)


def _of_inner(layer: Any, source: Shape, call: Evaluated) -> int:
    """Count a layer inside another one, or a model."""
    if isinstance(layer, keras.Model):
        if [_shape(tensor) for tensor in layer.inputs] != [source]:
            raise Uncountable("it wraps a model whose input has no fixed shape")
        return call.count_model(layer)
    try:
        shape = layer.compute_output_shape((None, *source))
        output = tuple(int(axis) for axis in shape[1:])
    except Exception:  # layers inside may be the user's own
        output = None
    return rule_of(layer)(replace(call, layer=layer, sources=(source,), output=output))


# Gates of each cell: as many matrix products of the input and of the state.
_CELLS: Mapping[type, int] = {
    keras.layers.SimpleRNNCell: 1,
    keras.layers.GRUCell: 3,
    keras.layers.LSTMCell: 4,
}

_LAYERS: Mapping[str, Rule] = {
    "Attention": _attention,
    "Bidirectional": _bidirectional,
    "Dense": _dense,
    "Dot": _dot,
    "EinsumDense": _einsum_dense,
    "GroupedQueryAttention": _grouped_query_attention,
    "MultiHeadAttention": _multi_head_attention,
    "ReversibleEmbedding": _reversible_embedding,
    "SpectralNormalization": _wrapped,
    "TimeDistributed": _time_distributed,
    **dict.fromkeys(("GRU", "LSTM", "RNN", "SimpleRNN"), _recurrent),
    **{f"Conv{rank}D": _conv for rank in (1, 2, 3)},
    **{f"Conv{rank}DTranspose": _conv_transpose for rank in (1, 2, 3)},
    **{f"ConvLSTM{rank}D": _recurrent_conv for rank in (1, 2, 3)},
    **{f"DepthwiseConv{rank}D": _depthwise_conv for rank in (1, 2)},
    **{f"SeparableConv{rank}D": _separable_conv for rank in (1, 2)},
}

# Folders of keras.src.layers whose layers work value by value, move values, or are idle here.
_FREE_FAMILIES = frozenset(
    {"activations", "merging", "normalization", "pooling", "preprocessing", "regularization"}
    | {"reshaping"}
)
_FREE = frozenset({"Embedding", "Identity", "InputLayer", "LayerScale", "Masking"})
_UNKNOWN = frozenset({"MelSpectrogram", "Pipeline", "STFTSpectrogram"})

_FREE_OPERATIONS = frozenset({"core", "einops", "image", "math", "nn", "numpy"})
_SUMMING_OPERATIONS = frozenset(
    # numpy
    {"Corrcoef", "Correlate", "Dot", "Inner", "Kron", "Tensordot", "Vdot"}
    # nn
    | {"CTCDecode", "CTCLoss", "Conv", "ConvTranspose", "DepthwiseConv", "DotProductAttention"}
    | {"SeparableConv"}
    # core: they call a function
    | {"AssociativeScan", "Cond", "ForiLoop", "Map", "Scan", "Switch", "VectorizedMap", "WhileLoop"}
    # math
    | {"CDist", "FFT", "FFT2", "IFFT2", "IRFFT", "ISTFT", "Logdet", "RFFT", "STFT"}
    # image
    | {"GaussianBlur", "SSIM", "SobelEdges"}
)
