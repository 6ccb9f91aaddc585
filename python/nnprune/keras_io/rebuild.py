"""A pruned network back to a Keras model of the same layers, physically smaller."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras.src.saving.serialization_lib import SafeModeScope
from numpy.typing import NDArray

from nnprune import _core
from nnprune.errors import ModelError
from nnprune.keras_io.edits import Edits, too_large
from nnprune.keras_io.graph import Graph
from nnprune.keras_io.weights import is_graph_model, named_layers
from nnprune.keras_io.wording import one_line, quoted

__all__ = ["Rebuilt", "live_config", "rebuild", "unbuilt"]


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """A rebuilt model.

    Attributes
    ----------
    model
        The model.
    rounding
        Largest absolute error made by casting changed weights back from float32 to the dtype
        that the layers store them in; 0 unless that is float16 or bfloat16.
    """

    model: keras.Model
    rounding: float


def live_config(model: object) -> dict[str, Any]:
    """Serialize the layers of a live model for `nnprune.keras_io.config.read_config`.

    Raises
    ------
    ModelError
        It is no Keras model, or one that is subclassed, not built, or cannot be serialized.
    """
    if not isinstance(model, keras.Model):
        raise ModelError(f"expected a keras.Model, got {type(model).__name__}")
    named = f"model {quoted(model.name)}"
    if not is_graph_model(model):
        raise ModelError(
            f"{named}: its class {type(model).__name__} has a call method of its own, which "
            "cannot be read layer by layer; rebuild it with keras.Model(inputs, outputs)"
        )
    sequential = isinstance(model, keras.Sequential)
    if not model.built or (sequential and not model.layers):
        raise ModelError(
            f"{named} is not built, its input shape is not known: start it with "
            "keras.Input(shape=...) or call model.build(...)"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about Python code that the file would hold
            config = model.get_config()
            if "layers" not in config:  # a subclass of Functional with a constructor of its own
                config = keras.Model(model.input, model.output, name=model.name).get_config()
    except Exception as error:  # any custom layer's get_config runs here
        raise ModelError(f"{named} cannot be serialized ({one_line(error)})") from error
    return {"class_name": "Sequential" if sequential else "Functional", "config": config}


def rebuild(
    model: keras.Model,
    graph: Graph,
    network: _core.Network,
    kept: Mapping[str, NDArray[np.int64]],
    *,
    compiled: bool = True,
) -> Rebuilt:
    """Make the smaller model; `model` itself is not touched.

    Layer names, dtype policies, trainable flags and compile settings are those of `model`; the
    optimizer starts afresh. A loss that is a function of the user's is kept; metrics that cannot
    be described are not, and a model that cannot be compiled at all comes uncompiled: a UserWarning
    tells either.

    Parameters
    ----------
    model
        The model that `graph` was read from.
    graph
        Its network.
    network
        What a run made of that network.
    kept
        The original numbers of the units left, for every layer that lost some.
    compiled
        Whether the smaller model is compiled as `model` is.

    Raises
    ------
    ModelError
        A layer cannot be rebuilt; the message names it.
    """
    edits = Edits(graph, network, kept)
    cloner = _Cloner(model, edits)
    smaller = cloner.clone_model(model, path="")
    # Top down: to set the flag of a model sets that of every layer in it.
    smaller.trainable = model.trainable
    rounding = 0.0
    for path, layer in named_layers(model):
        clone = cloner.clones.get(id(layer))
        if isinstance(layer, keras.Layer) and clone is not None:
            clone.trainable = layer.trainable
            if not is_graph_model(layer):
                rounding = max(rounding, _fill(path, layer, clone, edits))
    if compiled:
        _compile_like(model, smaller)
    return Rebuilt(model=smaller, rounding=rounding)


class _Cloner:
    """Makes the new layers; the same layer, wherever it is found, has one clone."""

    def __init__(self, model: keras.Model, edits: Edits) -> None:
        self.edits = edits
        self.clones: dict[int, Any] = {}
        self.paths: dict[int, str] = {}
        for path, layer in named_layers(model):
            self.paths.setdefault(id(layer), path)

    def clone_layer(self, layer: Any) -> Any:
        """Clone a layer, a nested model, or an operation without a layer."""
        if id(layer) in self.clones:
            return self.clones[id(layer)]
        path = self.paths[id(layer)]
        if is_graph_model(layer):
            clone = self.clone_model(layer, path)
        else:
            try:
                config = layer.get_config()
                config.update(self.edits.config(path, config))
                # The layer is alive: whatever code it holds has been trusted already.
                with SafeModeScope(safe_mode=False):
                    clone = type(layer).from_config(config)
            except Exception as error:  # any custom layer's code runs here
                raise ModelError(
                    f"layer {quoted(path)} of class {type(layer).__name__} cannot be rebuilt "
                    f"({one_line(error)})"
                ) from error
        self.clones[id(layer)] = clone
        return clone

    def clone_model(self, model: keras.Model, path: str) -> keras.Model:
        """Clone a model on inputs of the new shapes, uncompiled."""
        try:
            inputs = self.new_inputs(model, path)
            if isinstance(model, keras.Sequential):
                layers = [self.clone_layer(layer) for layer in model.layers]
                clone = keras.Sequential([*inputs, *layers], name=model.name)
            else:
                clone = keras.models.clone_model(
                    _uncompiled(model),
                    input_tensors=keras.tree.pack_sequence_as(model.input, inputs),
                    clone_function=self.clone_layer,
                )
        except ModelError:
            raise
        except Exception as error:  # Keras' own checks, and any custom layer's code
            raise ModelError(
                f"model {quoted(path or model.name)} cannot be rebuilt ({one_line(error)})"
            ) from error
        if clone.dtype_policy != model.dtype_policy:
            clone.dtype_policy = model.dtype_policy
        return clone

    def new_inputs(self, model: keras.Model, path: str) -> list[Any]:
        """Make inputs like those of a model, cut where pruned units come in."""
        # The list of a Sequential model's layers leaves its input layer out.
        listed = isinstance(model, keras.Sequential)
        layers = keras.Model(model.inputs, model.outputs).layers if listed else model.layers
        sources = [layer for layer in layers if isinstance(layer, keras.layers.InputLayer)]
        by_tensor = {id(layer.output): layer for layer in sources}
        shapes = self.edits.input_shapes(path)
        inputs = []
        for number, tensor in enumerate(keras.tree.flatten(model.inputs)):
            config = by_tensor[id(tensor)].get_config()
            if shapes is not None:
                config["batch_shape"] = (tensor.shape[0], *shapes[number])
            inputs.append(keras.Input(**config))
        return inputs


def _uncompiled(model: keras.Model) -> keras.Model:
    """Give the same graph of layers as a model without compile settings.

    Keras compiles a clone at once, and gives no clone at all where that fails.
    """
    if not model.compiled:
        return model
    try:
        return type(model)(inputs=model.input, outputs=model.output, name=model.name)
    except TypeError:  # a constructor of its own; Keras' clone is a plain model then
        return keras.Model(inputs=model.input, outputs=model.output, name=model.name)


def _fill(path: str, layer: Any, clone: Any, edits: Edits) -> float:
    """Give a new layer its weights and state; the rounding error of casting them."""
    changed = edits.weights(path)
    if changed:
        rounding = max(_assign(path, weight, layer, changed) for weight in clone.weights)
    else:
        _copy_variables(path, layer, clone)
        rounding = 0.0
    if hasattr(layer, "save_assets"):  # the tables of lookup layers
        with tempfile.TemporaryDirectory(prefix="nnprune-") as folder:
            layer.save_assets(folder)
            clone.load_assets(folder)
    if hasattr(clone, "finalize_state"):  # Normalization computes with copies of its weights
        clone.finalize_state()
    return rounding


def _assign(
    path: str, weight: Any, layer: Any, changed: dict[str, NDArray[np.float32] | None]
) -> float:
    """Set a weight of a new layer, as changed or as in the old layer."""
    new = changed.get(weight.name)
    old = next((one for one in layer.weights if one.name == weight.name), None)
    if old is not None:
        weight.trainable = old.trainable
    if new is None:
        if old is None:
            raise ModelError(f"layer {quoted(path)}: no values for its weight {weight.name}")
        _check_shape(path, weight, old.shape)
        weight.assign(old.value)
        return 0.0
    if new.size != int(np.prod(weight.shape)):
        _check_shape(path, weight, new.shape)
    with np.errstate(over="ignore"):  # looked at right after
        weight.assign(new.reshape(weight.shape))
    stored = np.asarray(weight.numpy()).astype(np.float32)
    if not np.all(np.isfinite(stored)):
        raise too_large(path, weight.name, weight.dtype)
    return float(np.max(np.abs(stored - new.reshape(weight.shape)), initial=0.0))


def _copy_variables(path: str, layer: Any, clone: Any) -> None:
    """Copy weights, and the states of random generators."""
    if len(layer.variables) != len(clone.variables):
        raise ModelError(
            f"layer {quoted(path)} of class {type(layer).__name__} cannot be rebuilt: its clone "
            f"has {len(clone.variables)} variables instead of {len(layer.variables)}"
        )
    for old, new in zip(layer.variables, clone.variables, strict=True):
        _check_shape(path, new, old.shape)
        new.assign(old.value)
        if new.trainable != old.trainable:
            new.trainable = old.trainable


def _check_shape(path: str, weight: Any, shape: tuple[int, ...]) -> None:
    if tuple(weight.shape) != tuple(shape):
        raise ModelError(
            f"layer {quoted(path)} cannot be rebuilt: its weight {weight.name} would have the "
            f"shape {tuple(weight.shape)} instead of {tuple(shape)}"
        )


def _compile_like(model: keras.Model, smaller: keras.Model) -> None:
    if not model.compiled:
        return
    try:
        smaller.compile_from_config(model.get_compile_config())
        if smaller.optimizer is not None:
            # Keras has given it slots of zeros, up to twice the size of the weights in a file.
            smaller.optimizer = unbuilt(smaller.optimizer)
    except Exception as error:  # losses, metrics and optimizers of the user's own
        if _compile_with_own_loss(model, smaller):
            return
        warnings.warn(
            f"model {quoted(model.name)}: left uncompiled, its compile settings cannot be "
            f"restored ({one_line(error)})",
            UserWarning,
            stacklevel=3,
        )


def unbuilt(optimizer: Any) -> Any:
    """Make an optimizer with the same settings that has made no step and has no slots."""
    return keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))


def _compile_with_own_loss(model: keras.Model, smaller: keras.Model) -> bool:
    """Compile with the live model's own loss, which no configuration can describe."""
    if model.loss is None or model.optimizer is None:
        return False
    try:
        smaller.compile(optimizer=unbuilt(model.optimizer), loss=model.loss)
    except Exception:  # the optimizer is the user's own, too
        return False
    if getattr(model, "_compile_metrics", None) is not None:
        warnings.warn(
            f"model {quoted(model.name)}: compiled with its own loss, but without its metrics",
            UserWarning,
            stacklevel=4,
        )
    return True
