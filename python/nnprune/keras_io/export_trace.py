"""A Keras model as one TensorFlow function with flat, named inputs and outputs, to be exported."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras

from nnprune.errors import BackendError, ModelError
from nnprune.keras_io.config import ModelCalls
from nnprune.keras_io.silence import silenced
from nnprune.keras_io.wording import one_line, quoted

__all__ = ["Traced", "Unexportable", "trace"]


class Unexportable(Exception):  # noqa: N818 (turned into a ModelError where the format is known)
    """The format cannot hold the model; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Traced:
    """One evaluation of a model as a graph of TensorFlow operations.

    Attributes
    ----------
    model
        The model.
    function
        The concrete function: takes the inputs in order, returns the outputs by name.
    inputs, outputs
        Names in Keras' order.
    output_shapes
        Shapes of the outputs, None for the batch axis.
    batch
        The number of samples that it takes; None for any.
    """

    model: keras.Model
    function: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    output_shapes: tuple[tuple[int | None, ...], ...]
    batch: int | None


def trace(model: keras.Model, calls: ModelCalls, *, batch: int | None = None) -> Traced:
    """Trace a model as it computes when it is not trained.

    Keras' own export names inputs and outputs after counters that differ from run to run, and
    leaves functions in the graph that no converter can look into.

    Parameters
    ----------
    model : keras.Model
        A built Sequential or Functional model.
    calls : ModelCalls
        What `read_config` makes of it.
    batch : int, optional
        Number of samples that the function takes; any by default.

    Raises
    ------
    BackendError
        Keras runs on another backend than TensorFlow.
    ModelError
        An input holds no numbers, or the model cannot be traced.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise BackendError(
            f"models can be exported with Keras' TensorFlow backend only, not with {backend}: "
            "save the model, and export it with KERAS_BACKEND=tensorflow"
        )
    import tensorflow as tf

    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    tensors = keras.tree.flatten(structure)
    used: set[str] = set()
    inputs = _names((one.name for one in calls.inputs), "input", used)
    outputs = _names(_output_names(model, calls), "output", used)
    specs = []
    for name, tensor in zip(inputs, tensors, strict=True):
        if str(tensor.dtype) == "string":
            raise ModelError(f"input {quoted(name)} holds strings; such models are not exported")
        specs.append(tf.TensorSpec((batch, *tensor.shape[1:]), tensor.dtype, name=name))

    def evaluate(*given: Any) -> dict[str, Any]:
        results = model(keras.tree.pack_sequence_as(structure, list(given)), training=False)
        flat = keras.tree.flatten(results)
        return {name: tf.identity(one) for name, one in zip(outputs, flat, strict=True)}

    eager = tf.config.functions_run_eagerly()
    # Functions inside (Keras compiles convolutions in groups) then become part of the graph.
    tf.config.run_functions_eagerly(True)  # noqa: FBT003 (TensorFlow has no other name for it)
    try:
        with silenced():
            function = tf.function(evaluate).get_concrete_function(*specs)
    except Exception as error:  # any layer's code runs here
        raise ModelError(
            f"model {quoted(model.name)} cannot be exported ({one_line(error)})"
        ) from error
    finally:
        tf.config.run_functions_eagerly(eager)
    return Traced(
        model=model,
        function=function,
        inputs=inputs,
        outputs=outputs,
        output_shapes=tuple(tuple(one.shape) for one in keras.tree.flatten(model.outputs)),
        batch=batch,
    )


def _output_names(model: keras.Model, calls: ModelCalls) -> list[str]:
    """Name outputs by the keys of the dictionary that they come in, or by their layers."""
    structure = None if isinstance(model, keras.Sequential) else model.output
    if isinstance(structure, dict):
        keys = sorted(structure)
        if all(not keras.tree.is_nested(structure[key]) for key in keys):
            return keys
    return list(calls.outputs)


def _names(wanted: Iterable[str], otherwise: str, used: set[str]) -> tuple[str, ...]:
    """Make names that every format takes, each of them once."""
    names = []
    for name in wanted:
        plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
        start = plain if plain[:1].isalpha() else f"{otherwise}_{plain}".rstrip("_")
        free, number = start, 1
        while free in used:
            free, number = f"{start}_{number}", number + 1
        used.add(free)
        names.append(free)
    return tuple(names)
