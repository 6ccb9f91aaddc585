"""To ONNX, and evaluation there."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnprune.errors import MissingExtraError
from nnprune.keras_io.export_trace import Traced, Unexportable
from nnprune.keras_io.silence import silenced
from nnprune.keras_io.wording import one_line

__all__ = ["check_onnx_installed", "evaluate_onnx", "to_onnx"]

_PACKAGES = ("tf2onnx", "onnx", "onnxruntime")

# Outputs of this many samples are compared at a time, after a first one alone.
_BATCH = 16


def check_onnx_installed() -> None:
    """Find out, before any long work, whether what ONNX needs is there.

    Raises
    ------
    MissingExtraError
        A package is not installed.
    """
    try:
        with silenced():
            for package in _PACKAGES:
                importlib.import_module(package)
    except ImportError as error:
        raise MissingExtraError(
            "ONNX models need the packages tf2onnx, onnx and onnxruntime: "
            f"pip install 'nnprune-rs[onnx]' ({one_line(error)})"
        ) from error


def to_onnx(traced: Traced) -> bytes:
    """Convert a traced model; the axis of samples is called `batch`.

    tf2onnx 1.17 on its own turns constants that layers hold (such as Normalization's mean) into
    further inputs, and leaves operations that it does not know in the file without an error.

    Raises
    ------
    Unexportable
        ONNX has no equivalent for an operation of the model.
    """
    with silenced():
        import tf2onnx

        try:
            # It asks a tf.function for its concrete function, which is there already.
            given = _Ready(traced.function)
            proto, _ = tf2onnx.convert.from_function(
                given, given.signature, custom_op_handlers=_handlers()
            )
        except Exception as error:  # the converter raises many kinds
            raise Unexportable(one_line(error)) from error
        proto.graph.name = traced.model.name  # not a counter, as TensorFlow's names are
        _keep_constants(proto, traced)
        _name_axes(proto, traced)
        unknown = _unknown_operations(proto)
        if unknown:
            raise Unexportable(f"no equivalent for {', '.join(unknown)}")
        try:
            data: bytes = proto.SerializeToString()
        except Exception as error:  # over 2 GiB
            raise Unexportable(one_line(error)) from error
    return data


class _Ready:
    """Stands in for a tf.function that has been traced."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.signature = list(function.structured_input_signature[0])

    def get_concrete_function(self, *_: Any) -> Any:
        """Give the traced function."""
        return self.function


def _handlers() -> dict[str, tuple[Any, list[Any]]]:
    """Give what tf2onnx lacks: the operations of GELU and CELU."""
    import tf2onnx

    def erfc(graph: Any, node: Any, *_: Any) -> None:
        replace(graph, node, "Erf", minuend_is_one=True)

    def expm1(graph: Any, node: Any, *_: Any) -> None:
        replace(graph, node, "Exp", minuend_is_one=False)

    def replace(graph: Any, node: Any, function: str, *, minuend_is_one: bool) -> None:
        """Put 1 - function(x), or function(x) - 1, for a node."""
        shapes, dtypes = [graph.get_shape(node.output[0])], [graph.get_dtype(node.output[0])]
        source, outputs, name = node.input[0], node.output, node.name
        inner = graph.make_node(function, [source], shapes=shapes, dtypes=dtypes)
        dtype = tf2onnx.utils.map_onnx_to_numpy_type(dtypes[0])
        one = graph.make_const(tf2onnx.utils.make_name("one"), np.ones((), dtype))
        terms = [inner.output[0], one.output[0]]
        graph.remove_node(name)
        graph.make_node(
            "Sub",
            terms[::-1] if minuend_is_one else terms,
            outputs=outputs,
            shapes=shapes,
            dtypes=dtypes,
            name=name,
        )

    return {"Erfc": (erfc, []), "Expm1": (expm1, [])}


def _keep_constants(proto: Any, traced: Traced) -> None:
    """Store tensors that the function has captured, and leave the model's inputs."""
    import onnx

    captured = {inner.name: outside for outside, inner in traced.function.graph.captures}
    for value in list(proto.graph.input):
        if value.name in captured:
            array = np.asarray(captured[value.name])
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
            proto.graph.input.remove(value)


def _name_axes(proto: Any, traced: Traced) -> None:
    """Bring the outputs to Keras' order, and state their shapes."""
    by_name = {value.name: value for value in proto.graph.output}
    ordered = [by_name[name] for name in traced.outputs]
    del proto.graph.output[:]
    proto.graph.output.extend(ordered)
    for value, shape in zip(proto.graph.output, traced.output_shapes, strict=True):
        axes = value.type.tensor_type.shape.dim
        if len(axes) == len(shape):
            for axis, size in zip(axes, shape, strict=True):
                if size is not None:
                    axis.dim_value = size
    for value in (*proto.graph.input, *proto.graph.output):
        axes = value.type.tensor_type.shape.dim
        if axes and not axes[0].dim_value:
            axes[0].dim_param = "batch"


def _unknown_operations(proto: Any) -> list[str]:
    """Name the operations that are none of ONNX's own."""
    import onnx

    version = max(one.version for one in proto.opset_import if one.domain in ("", "ai.onnx"))
    kinds = {node.op_type for node in proto.graph.node if node.domain in ("", "ai.onnx")}
    foreign = {node.op_type for node in proto.graph.node if node.domain not in ("", "ai.onnx")}
    return sorted(foreign | {kind for kind in kinds if not onnx.defs.has(kind, version)})


def evaluate_onnx(
    data: bytes, traced: Traced, inputs: Sequence[NDArray[Any]]
) -> list[NDArray[np.float64]]:
    """Run a converted model: on the first sample alone, then on several at a time.

    Parameters
    ----------
    data : bytes
        The model.
    traced : Traced
        What it was converted from.
    inputs : sequence of array of shape (samples, ...)
        In Keras' order.

    Returns
    -------
    list of array of shape (samples, ...)
        The outputs in Keras' order.
    """
    with silenced():
        import onnxruntime

        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        parts = []
        starts = [0, *range(1, len(inputs[0]), _BATCH), len(inputs[0])]
        for start, end in itertools.pairwise(starts):
            given = {name: one[start:end] for name, one in zip(traced.inputs, inputs, strict=True)}
            parts.append(session.run(list(traced.outputs), given))
    return [
        np.concatenate([np.asarray(one, np.float64) for one in part])
        for part in zip(*parts, strict=True)
    ]
