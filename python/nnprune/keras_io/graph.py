"""Layer calls to the network that the engine works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from nnprune import _core
from nnprune.errors import ConfigError, FileFormatError, NnpruneError
from nnprune.keras_io.config import LayerCall, ModelCalls, ModelInput
from nnprune.keras_io.layers import CONVERTERS, Conversion, Unfollowable
from nnprune.keras_io.weights import WeightProvider
from nnprune.keras_io.wording import one_line, quoted

__all__ = ["Graph", "read_network"]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A model as the engine sees it, and how that corresponds to its layers.

    Attributes
    ----------
    network
        The network.
    calls
        The layer calls it was made of.
    nodes
        The node that stands for each call's output, by the call's name.
    inputs
        The model's inputs, in Keras' order.
    outputs
        The nodes that are the model's outputs, in Keras' order.
    opaque
        Why the engine cannot follow a layer, by layer; one that it can is not in here.
    """

    network: _core.Network
    calls: ModelCalls
    nodes: Mapping[str, str]
    inputs: tuple[ModelInput, ...]
    outputs: tuple[str, ...]
    opaque: Mapping[str, str]


def read_network(calls: ModelCalls, weights: WeightProvider) -> Graph:
    """Build the network of a model.

    What the engine cannot follow becomes an opaque node with a reason; it is no error.

    Parameters
    ----------
    calls
        The model, see `nnprune.keras_io.config.read_config`.
    weights
        Gives the layers' weights.

    Raises
    ------
    WeightError
        A weight is NaN, infinite or of the wrong shape.
    ModelError
        The layers do not fit together.
    FileFormatError
        A layer's configuration is malformed.
    """
    conversion = Conversion(builder=_core.NetworkBuilder(), weights=weights)
    for call in calls.calls:
        conversion.nodes[call.name] = _convert(call, conversion)
        if _may_carry_mask(call, conversion):
            conversion.masked.add(call.name)
    outputs = tuple(conversion.nodes[name] for name in calls.outputs)
    return Graph(
        network=conversion.builder.build(outputs),
        calls=calls,
        nodes=MappingProxyType(conversion.nodes),
        inputs=calls.inputs,
        outputs=outputs,
        opaque=MappingProxyType(conversion.opaque),
    )


def _convert(call: LayerCall, conversion: Conversion) -> str:
    sources = conversion.sources(call)
    converter = CONVERTERS.get(call.class_name)
    try:
        if any(source in conversion.unknown for source in sources):
            raise Unfollowable("the shape of what it reads is not known")
        if converter is None or call.output != 0:
            raise Unfollowable("the engine does not know this kind of layer")
        return converter(call, conversion)
    except Unfollowable as reason:
        return conversion.add_opaque(call, str(reason))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, NnpruneError) and not isinstance(error, ConfigError):
            raise
        raise FileFormatError(
            f"layer {quoted(call.layer)}: its configuration is malformed ({one_line(error)})"
        ) from error


def _may_carry_mask(call: LayerCall, conversion: Conversion) -> bool:
    starts = call.class_name == "Masking" or bool(call.config.get("mask_zero"))
    return starts or any(source in conversion.masked for source in call.sources)
