"""Two models up to their logits, and the difference of these as one graph, in ONNX."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import keras

from nnprune.errors import ModelError
from nnprune.keras_io.export import Export, export_onnx
from nnprune.keras_io.export_check import largest_value
from nnprune.keras_io.input_box import InputBox
from nnprune.keras_io.logits import logits_model
from nnprune.keras_io.wording import quoted

__all__ = ["Difference", "export_difference"]

_CHECKED = 32
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Both models and their difference as ONNX, each compared with what Keras computes.

    All take one input and give one row of logits a sample, in row-major order.

    Attributes
    ----------
    original, pruned, difference : Export
        `f`, `g` and `g - f`, up to their logits.
    """

    original: Export = field(repr=False)
    pruned: Export = field(repr=False)
    difference: Export = field(repr=False)


def export_difference(
    original: keras.Model, pruned: keras.Model, *, input_box: InputBox, stripped: bool
) -> Difference:
    """Convert two models and their difference to ONNX.

    Parameters
    ----------
    original, pruned : keras.Model
        Models with one input and one output, of the same shapes.
    input_box : InputBox
        Where the inputs to compare with Keras are drawn from.
    stripped : bool
        Whether the models end in a softmax or sigmoid, which is left out.

    Raises
    ------
    MissingExtraError, BackendError
        ONNX cannot be written here.
    ModelError
        A model has several inputs or outputs or takes no real numbers, its head is another one, or
        ONNX cannot hold it.
    """
    before = _logits(original, "original", stripped=stripped)
    after = _logits(pruned, "pruned", stripped=stripped)
    given = before.inputs[0]
    shared = keras.Input(given.shape[1:], name="X", dtype=given.dtype)
    subtract = keras.layers.Subtract(name="difference", dtype=before.outputs[0].dtype)
    change = subtract([after(shared), before(shared)])
    scale = max(
        largest_value(one, input_box, samples=_CHECKED, seed=_SEED) for one in (before, after)
    )
    made = [
        export_onnx(one, input_box=input_box, check_samples=_CHECKED, seed=_SEED, scale=size)
        for one, size in (
            (before, 0.0),
            (after, 0.0),
            (keras.Model(shared, change, name="difference"), scale),
        )
    ]
    return Difference(original=made[0], pruned=made[1], difference=made[2])


def _logits(model: keras.Model, role: str, *, stripped: bool) -> keras.Model:
    """Give the model up to its logits, side by side, under the name of its role."""
    named = f"{role} model {quoted(model.name)}"
    for kind, tensors in (("input", model.inputs), ("output", model.outputs)):
        if len(tensors) != 1:
            raise ModelError(
                f"{named} has {len(tensors)} {kind}s; properties are exported for models of one"
            )
    given = model.inputs[0]
    if "float" not in str(given.dtype):
        raise ModelError(
            f"{named} takes {given.dtype}; verifiers reason about real numbers: rebuild it with an "
            "input of float32"
        )
    found = logits_model(model, every_head=True)
    if (found.head in ("softmax", "sigmoid")) != stripped:
        raise ModelError(
            f"{named}: its last layer {quoted(found.layer)} is not the softmax or sigmoid that the "
            "certificate leaves out; make the model end in one such layer, or in none"
        )
    source, tensor = found.model.inputs[0], found.model.outputs[0]
    row = keras.layers.Reshape((math.prod(tensor.shape[1:]),), name="logits", dtype=tensor.dtype)
    return keras.Model(source, row(tensor), name=role)
