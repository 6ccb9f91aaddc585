"""Multiply-accumulates of every layer of a live model, also of those the engine does not follow."""

from __future__ import annotations

from typing import Any

from nnprune.keras_io.config import LayerCall, read_config
from nnprune.keras_io.layers.shapes import derived_shape
from nnprune.keras_io.mac_rules import Evaluated, Shape, Uncountable, rule_of
from nnprune.keras_io.rebuild import live_config
from nnprune.keras_io.weights import LiveWeights, named_layers
from nnprune.keras_io.wording import one_line, quoted

__all__ = ["macs_by_layer"]


def macs_by_layer(model: Any) -> tuple[dict[str, int], dict[str, str]]:
    """Count the multiply-accumulates of one evaluation of one sample, layer by layer.

    Elementwise work counts nothing: activations, biases, pooling, normalization (which can be
    folded into the layer before it). A layer that is called twice counts twice. In the layers that
    the engine follows the numbers are the engine's.

    Parameters
    ----------
    model : keras.Model
        A built Sequential or Functional model.

    Returns
    -------
    macs : dict of str to int
        For every layer that was counted; nested models' names in front, as in `inspect`. A layer
        that is found under several paths is listed under the first.
    uncounted : dict of str to str
        Why the work of a layer (or of one of its calls) is not known.

    Raises
    ------
    ModelError
        The model has no layer graph, or an input of it has no fixed shape.
    """
    calls = read_config(live_config(model))
    layers, live = dict(named_layers(model)), LiveWeights(model)
    shapes: dict[str, Shape | None] = {}
    macs: dict[str, int] = {}
    uncounted: dict[str, str] = {}
    for call in calls.calls:
        if call.class_name == "InputLayer":
            shapes[call.name] = call.shape
            continue
        sources = [shapes[source] for source in call.sources]
        known = [shape for shape in sources if shape is not None]
        shapes[call.name] = _output_shape(call, sources, layers[call.layer], live)
        if call.output != 0:  # the same call once more
            continue
        owner = live.owner(call.layer)
        try:
            rule = rule_of(layers[call.layer])
            if len(known) < len(sources):
                raise Uncountable("the shape of what it reads is not known")
            evaluated = Evaluated(
                layer=layers[call.layer],
                sources=tuple(known),
                output=shapes[call.name],
                count_model=_count_inner,
            )
            macs[owner] = macs.get(owner, 0) + rule(evaluated)
        except Uncountable as reason:
            uncounted.setdefault(owner, str(reason))
        except Exception as error:  # Keras' layers were asked in ways they did not expect
            uncounted.setdefault(owner, f"it could not be counted ({one_line(error)})")
    return macs, uncounted


def _count_inner(model: Any) -> int:
    macs, uncounted = macs_by_layer(model)
    for layer, reason in uncounted.items():
        raise Uncountable(f"layer {quoted(layer)} of the model that it wraps: {reason}")
    return sum(macs.values())


def _output_shape(
    call: LayerCall, sources: list[Shape | None], layer: Any, live: LiveWeights
) -> Shape | None:
    """Shape of one output of a call, by its own account or on record."""
    known = [shape for shape in sources if shape is not None]
    if len(known) < len(sources):
        return call.shape
    # Of a shared layer the configuration may record another call. With several tensors, only
    # merging layers take the list of shapes for what it is.
    merging = type(layer).__module__.startswith("keras.src.layers.merging")
    told = live.output_shape(call, known) if len(known) == 1 or merging else None
    if told is not None:
        return told
    return derived_shape(call, known) if call.shape is None else call.shape
