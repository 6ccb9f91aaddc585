"""Walk a model's configuration before Keras does: nothing but Keras' own layers and functions.

Keras builds whatever a configuration names, so a file is a program in the language of its class
names. The walk visits every object of the JSON text, at any depth, and allows only what a model
is made of; it is an allow-list, because every deny-list so far was found to be too short.
"""

from __future__ import annotations

import builtins
import json
import re
from collections.abc import Iterator
from typing import Any

from nnprune.errors import FileFormatError, ModelError, UntrustedModelError
from nnprune.keras_io.wording import DAMAGED, TRUST, one_line, quoted

__all__ = ["check_model", "check_objects", "parse_json", "whole_model_dtype"]

_MODEL_CLASSES = frozenset({"Functional", "Model", "Sequential"})

# Not classes but values, in the spelling of Keras' JSON format.
_VALUES = frozenset(
    {
        "__bytes__",
        "__ellipsis__",
        "__keras_tensor__",
        "__numpy__",
        "__slice__",
        "__tensor__",
        "__tuple__",
        "TensorShape",
    }
)

# They run code that the file (or another file) holds, or read files named in it.
_CODE_CLASSES = frozenset(
    {
        "CompositeTensor",
        "DenseFeatures",
        "FlaxLayer",
        "JaxLayer",
        "Lambda",
        "SequenceFeatures",
        "TFSMLayer",
        "TorchModuleWrapper",
        "__lambda__",
        "__typespec__",
    }
)

# Keras 2 wrapped TensorFlow functions, named by a string, as layers; Keras 3 has no such layers.
_TENSORFLOW_OP_CLASSES = frozenset(
    {
        "ClassMethod",
        "InstanceMethod",
        "InstanceProperty",
        "SlicingOpLambda",
        "TFOpLambda",
        "TensorFlowOpLayer",
    }
)

# Packages of keras (and keras.src) whose classes make up models. Not among them, for a reason:
# utils, saving, config, datasets, applications, preprocessing, callbacks, export, backend.
_CLASS_PACKAGES = frozenset(
    {
        "",
        "activations",
        "constraints",
        "dtype_policies",
        "engine",
        "initializers",
        "layers",
        "losses",
        "metrics",
        "mixed_precision",
        "models",
        "ops",
        "optimizers",
        "quantizers",
        "random",
        "regularizers",
    }
)
_FUNCTION_PACKAGES = frozenset({"activations", "losses", "metrics", "ops"})
_NO_FUNCTIONS = frozenset({"deserialize", "get", "serialize"})

_CLASS_NAME = re.compile(r"[A-Z][A-Za-z0-9_]*")
_FUNCTION_NAME = re.compile(r"[a-z][a-z0-9_]*")
# TensorFlow 2.11 to 2.15 wrote its own optimizers in this way.
_KERAS2_OPTIMIZER = re.compile(
    r"Custom>(Adadelta|Adafactor|Adagrad|Adam|AdamW|Adamax|Ftrl|Lion|Nadam|RMSprop|SGD)"
)

# Words in a SavedModel's metadata for specifications of tensors; harmless there.
_SAVED_MODEL_VALUES = frozenset({"InputSpec", "TypeSpec"})

_SETTINGS_KEYS = frozenset({"compile_config", "training_config"})
_SETTINGS = "the compile settings"


def parse_json(text: bytes | str, *, label: str, part: str) -> dict[str, Any]:
    """Parse a JSON object, as Keras will (it uses the same parser).

    Raises
    ------
    FileFormatError
        The text is no JSON object, or is nested too deeply to be one of Keras'.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{label}: {DAMAGED} ({part}: {one_line(error)})") from error
    if not isinstance(value, dict):
        raise FileFormatError(f"{label}: {DAMAGED} ({part} is no JSON object)")
    return value


def check_model(config: dict[str, Any], *, label: str, trust: bool) -> None:
    """Check a whole model's configuration: a Functional or Sequential model of Keras' own parts.

    Parameters
    ----------
    config : dict
        The serialized model, with `class_name` and `config`.
    label : str
        How messages name the file.
    trust : bool
        Whether code and custom classes are allowed. A layer graph is needed all the same.

    Raises
    ------
    FileFormatError
        The configuration is not that of a model.
    ModelError
        The model has no layer graph, or has layers that Keras 3 does not know.
    UntrustedModelError
        It asks for code, files or classes that are not Keras' own.
    """
    class_name, inner = config.get("class_name"), config.get("config")
    if not isinstance(class_name, str) or not isinstance(inner, dict | list):
        raise FileFormatError(f"{label}: is no Keras model: its configuration names no class")
    layers = inner.get("layers") if isinstance(inner, dict) else inner
    if not isinstance(layers, list):
        raise ModelError(
            f"{label}: {quoted(class_name)} has no layer graph (a subclassed model); rebuild it "
            "as keras.Model(inputs, outputs) or keras.Sequential and copy the weights with "
            "set_weights"
        )
    if not trust and class_name not in _MODEL_CLASSES:
        raise UntrustedModelError(
            f"{label}: the model's class {quoted(class_name)} is custom; rebuild it as "
            f"keras.Model(inputs, outputs) or import its class and, {TRUST}"
        )
    check_objects(config, label=label, trust=trust)


def check_objects(root: object, *, label: str, trust: bool, saved_model: bool = False) -> None:
    """Check every object of a configuration, at any depth.

    Parameters
    ----------
    root : object
        Parsed JSON.
    label : str
        How messages name the file.
    trust : bool
        Whether code and custom classes are allowed.
    saved_model : bool
        Whether this is metadata of a SavedModel, which also describes tensors.

    Raises
    ------
    ModelError
        A layer is one that Keras 3 does not know.
    UntrustedModelError
        An object asks for code, files or classes that are not Keras' own.
    """
    for node, owner in _walk(root):
        if "class_name" in node:
            class_name = str(node["class_name"])  # anything but a text is complained about below
            if class_name in _TENSORFLOW_OP_CLASSES:
                raise ModelError(
                    f"{label}: {owner} is a TensorFlow function ({class_name}), which Keras 3 "
                    "cannot load; rebuild the model with Keras layers"
                )
            values = _VALUES | _SAVED_MODEL_VALUES if saved_model else _VALUES
            complaint = None if class_name in values else _complaint(node)
            if complaint and not trust:
                raise UntrustedModelError(f"{label}: {owner} {complaint}; {TRUST}")
        for key in ("vocabulary", "vocabulary_file", "initial_vocabulary"):
            if not trust and isinstance(node.get(key), str):
                raise UntrustedModelError(
                    f"{label}: {owner} reads its vocabulary from the file {quoted(node[key])}; "
                    f"{TRUST}"
                )


def _walk(root: object) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield every dictionary with the words for the layer that it belongs to."""
    waiting: list[tuple[object, str]] = [(root, "the model")]
    while waiting:
        value, owner = waiting.pop()
        if isinstance(value, list):
            waiting.extend((item, owner) for item in value)
        elif isinstance(value, dict):
            name = _layer_name(value)
            if name is not None and owner != _SETTINGS:
                owner = f"layer {quoted(name)}"
            yield value, owner
            for key, item in value.items():
                waiting.append((item, _SETTINGS if key in _SETTINGS_KEYS else owner))


def _layer_name(node: dict[str, Any]) -> str | None:
    if "class_name" not in node or "Policy" in str(node["class_name"]):  # a dtype has a name too
        return None
    inner = node.get("config")
    name = inner.get("name") if isinstance(inner, dict) else node.get("name")
    return name if isinstance(name, str) else None


def _complaint(node: dict[str, Any]) -> str | None:
    """Say what is wrong with one serialized object, or return nothing."""
    class_name, module = node["class_name"], node.get("module")
    if not isinstance(class_name, str):
        return "has a class name that is no text"
    if class_name in _CODE_CLASSES:
        return f"is of the class {quoted(class_name)}, which can run code from the file"
    if class_name == "function":
        return _function_complaint(node)
    if _KERAS2_OPTIMIZER.fullmatch(class_name) and module is None:
        return None
    registered = node.get("registered_name")
    if registered not in (None, class_name):
        return f"is of the custom class {quoted(registered)}"
    # Where a module is given as nothing, Keras found none when it saved: a class of one's own.
    if ("module" in node and module is None) or not _is_class_of_keras(class_name, module):
        return f"is of the class {quoted(class_name)} of {_of_module(module)}, no class of Keras"
    return None


def _function_complaint(node: dict[str, Any]) -> str | None:
    name, module = node.get("config"), node.get("module")
    registered = node.get("registered_name")
    refusal = f"calls the function {quoted(name)} of {_of_module(module)}, no part of a model"
    if not isinstance(name, str) or registered not in (None, name, "function"):
        return refusal
    if not _FUNCTION_NAME.fullmatch(name) or name in _NO_FUNCTIONS:
        return refusal
    if module == "builtins":  # what Keras writes for its own; Keras 2 would also take Python's
        return refusal if hasattr(builtins, name) else None
    parts = module.split(".") if isinstance(module, str) else []
    known = len(parts) > 1 and parts[0] == "keras" and parts[1] in _FUNCTION_PACKAGES
    return None if known else refusal


def _is_class_of_keras(class_name: str, module: object) -> bool:
    # Functions of Keras (get_file, load_model, ...) can be named as classes too: they are all in
    # small letters. A dot would reach into another module.
    if not _CLASS_NAME.fullmatch(class_name):
        return False
    if module is None:  # the .h5 format names no modules; Keras then only looks at its own classes
        return True
    if not isinstance(module, str):
        return False
    package, *parts = module.split(".")
    if package not in ("keras", "tf_keras") or not all(part.isidentifier() for part in parts):
        return False
    if parts[:1] == ["src"]:
        parts = parts[1:]
    return (parts[0] if parts else "") in _CLASS_PACKAGES


def _of_module(module: object) -> str:
    return f"the module {quoted(module)}" if module is not None else "no known module"


def whole_model_dtype(config: dict[str, Any]) -> str | None:
    """Return the dtype policy that all layers share, or nothing where they differ."""
    policies = set()
    for node, _ in _walk(config.get("config")):
        inner = node.get("config")
        if not isinstance(inner, dict) or "dtype" not in inner or "trainable" not in inner:
            continue  # inputs, initializers and tensors have a dtype, but no policy
        policy = inner["dtype"]
        if isinstance(policy, dict):
            settings = policy.get("config")
            policy = settings.get("name") if isinstance(settings, dict) else None
        policies.add(policy if isinstance(policy, str) else None)
    return policies.pop() if len(policies) == 1 else None
