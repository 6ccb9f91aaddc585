"""Configurations become flat lists of calls, whatever the notation; bad ones are refused."""

from __future__ import annotations

import copy
import json
import math
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import keras
import pytest
from keras import layers
from keras_models import ARCHITECTURES
from nnprune.errors import FileFormatError, ModelError, NnpruneError
from nnprune.keras_io.config import LayerCall, ModelCalls, ModelInput, read_config
from nnprune.keras_io.graph import read_network
from nnprune.keras_io.input_box import default_box
from nnprune.keras_io.rebuild import live_config
from nnprune.keras_io.weights import ZeroWeights


def by_name(calls: ModelCalls) -> dict[str, LayerCall]:
    return {call.name: call for call in calls.calls}


def as_file(model: keras.Model) -> Any:
    """Return what `config.json` in a `.keras` file holds."""
    return json.loads(json.dumps(keras.saving.serialize_keras_object(model)))


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_live_and_stored_configurations_agree(name: str) -> None:
    model = ARCHITECTURES[name]()
    live, stored = read_config(live_config(model)), read_config(as_file(model))
    assert [(c.name, c.layer, c.class_name, c.sources, c.shape) for c in live.calls] == [
        (c.name, c.layer, c.class_name, c.sources, c.shape) for c in stored.calls
    ]
    assert (live.inputs, live.outputs, live.nested) == (
        stored.inputs,
        stored.outputs,
        stored.nested,
    )


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_calls_come_after_what_they_read(name: str) -> None:
    calls = read_config(live_config(ARCHITECTURES[name]()))
    seen: set[str] = set()
    for call in calls.calls:
        assert call.name not in seen
        assert seen.issuperset(call.sources)
        seen.add(call.name)
    assert seen.issuperset(calls.outputs)


def test_nested_models_are_flattened_with_their_paths() -> None:
    calls = read_config(live_config(ARCHITECTURES["nested"]()))
    dense = [(call.name, call.sources) for call in calls.calls if call.class_name == "Dense"]
    source = calls.inputs[0].name
    assert dense == [
        ("backbone/dense", (source,)),
        ("backbone/inner/dense", ("backbone/dense",)),
        ("dense", ("backbone/inner/dense",)),
    ]
    assert calls.nested == {"backbone": (source,), "backbone/inner": ("backbone/dense",)}


def test_every_call_of_a_shared_layer_has_a_name() -> None:
    source = keras.Input((3,), name="source")
    dense = layers.Dense(3, name="dense")
    calls = by_name(read_config(live_config(keras.Model(source, dense(dense(dense(source)))))))
    assert list(calls) == ["source", "dense", "dense:1", "dense:2"]
    assert calls["dense:2"].sources == ("dense:1",)
    assert {calls[name].layer for name in ("dense", "dense:1", "dense:2")} == {"dense"}


def test_names_stay_unique() -> None:
    source = keras.Input((3,), name="source")
    twice, other = layers.Dense(3, name="dense"), layers.Dense(3, name="dense:1")
    calls = read_config(live_config(keras.Model(source, twice(other(twice(source))))))
    assert len({call.name for call in calls.calls}) == 4
    assert calls.calls[-1].layer == "dense"


def test_inputs_and_outputs_are_in_the_order_of_keras() -> None:
    model = ARCHITECTURES["several_ends"]()
    calls = read_config(live_config(model))
    names = [tensor.name for tensor in keras.tree.flatten(model.input)]
    assert [one.name for one in calls.inputs] == names == ["extra", "image"]
    assert calls.inputs[1] == ModelInput(name="image", shape=(6, 6, 1))
    assert calls.outputs == ("label", "score")


def test_nested_inputs_go_by_their_keys() -> None:
    calls = by_name(read_config(live_config(ARCHITECTURES["nested_by_name"]())))
    joined = next(call for call in calls.values() if call.class_name == "Concatenate")
    first = next(call for call in calls.values() if call.layer.startswith("inner/dense"))
    assert first.sources == ("source",)
    assert calls[joined.sources[0]].config["units"] == 2
    assert not joined.sources[0].startswith("inner/")


def test_constants_of_operations_are_kept() -> None:
    source = keras.Input((3,), name="source")
    calls = by_name(read_config(live_config(keras.Model(source, 1.0 - source * 2.0))))
    multiply, subtract = list(calls.values())[1:]
    assert (multiply.class_name, multiply.arguments) == ("ops.Multiply", {"args": [None, 2.0]})
    assert (subtract.class_name, subtract.arguments) == ("ops.Subtract", {"args": [1.0, None]})


def test_training_reaches_the_layers_of_a_nested_model() -> None:
    inner_source, source = keras.Input((3,)), keras.Input((3,))
    inner = keras.Model(inner_source, layers.Dropout(0.1, name="drop")(inner_source), name="inner")
    model = keras.Model(source, [inner(source, training=True), inner(source)])
    calls = by_name(read_config(live_config(model)))
    assert calls["inner/drop"].arguments["training"] is True
    assert "training" not in calls["inner/drop:1"].arguments


def test_classes_of_others_are_marked() -> None:
    config = live_config(ARCHITECTURES["mlp"]())
    for layer, module in zip(
        config["config"]["layers"][1:], ("my_layers", "keras_hub.layers", None), strict=True
    ):
        layer["module"] = module
    names = [call.class_name for call in read_config(config).calls]
    assert names == ["InputLayer", "my_layers>Dense", "keras_hub.layers>Dense", "Dense"]


def legacy(name: str, class_name: str, nodes: list[Any], **config: Any) -> dict[str, Any]:
    return {
        "class_name": class_name,
        "config": {"name": name, **config},
        "name": name,
        "inbound_nodes": nodes,
    }


def test_configurations_of_keras_2() -> None:
    inner = {
        "name": "inner",
        "layers": [
            legacy("i", "InputLayer", [], batch_input_shape=[None, 3]),
            legacy("d", "Dense", [[["i", 0, 0, {}]]], units=3, activation="relu"),
        ],
        "input_layers": [["i", 0, 0]],
        "output_layers": [["d", 0, 0]],
    }
    calls_of_inner = [[["x", 0, 0, {}]], [["inner", 1, 0, {}]]]
    outer = {
        "name": "outer",
        "layers": [
            legacy("x", "InputLayer", [], batch_input_shape=[None, 3]),
            {**legacy("inner", "Functional", calls_of_inner), "config": inner},
            legacy("drop", "Dropout", [[["inner", 1, 0, {"scale": 2.0}]]], rate=0.5),
            legacy("sum", "Add", [[["inner", 2, 0, {}], ["drop", 0, 0, {}]]]),
        ],
        "input_layers": [["x", 0, 0]],
        "output_layers": [["sum", 0, 0], ["inner", 1, 0]],
    }
    calls = read_config({"class_name": "Model", "config": outer})
    assert [(call.name, call.sources) for call in calls.calls] == [
        ("x", ()),
        ("inner/d", ("x",)),
        ("inner/d:1", ("inner/d",)),
        ("drop", ("inner/d",)),
        ("sum", ("inner/d:1", "drop")),
    ]
    assert by_name(calls)["drop"].arguments == {"scale": 2.0}
    assert calls.outputs == ("sum", "inner/d")
    assert calls.inputs == (ModelInput(name="x", shape=(3,)),)


@pytest.mark.parametrize("bare_list", [True, False])
def test_sequential_of_keras_2(bare_list: bool) -> None:
    first = {"class_name": "Dense", "config": {"name": "a", "batch_input_shape": [None, 4]}}
    second = {"class_name": "Dense", "config": {"name": "b"}}
    config: Any = [first, second] if bare_list else {"name": "s", "layers": [first, second]}
    calls = read_config({"class_name": "Sequential", "config": config})
    assert [call.sources for call in calls.calls] == [(), ("input",), ("a",)]
    assert calls.inputs == (ModelInput(name="input", shape=(4,)),)


def test_sequential_without_an_input_layer_knows_its_build_shape() -> None:
    model = keras.Sequential([layers.Dense(3), layers.Dense(2)])
    model.build((7, 5))
    calls = read_config(as_file(model))
    assert calls.inputs[0].shape == (5,)
    # Nothing on record but what the layers in it say.
    inner = keras.Sequential([keras.Input((4,), name="start"), layers.Dense(3)])
    config = as_file(keras.Sequential([inner, layers.Dense(2)]))
    config.pop("build_config")
    config["config"].pop("build_input_shape")
    config["config"]["layers"] = config["config"]["layers"][-2:]
    assert read_config(config).inputs == (ModelInput(name="start", shape=(4,)),)


def test_models_without_a_fixed_shape_are_refused() -> None:
    unbuilt = as_file(keras.Sequential([layers.Dense(2)], name="bare"))
    with pytest.raises(ModelError, match=r"'bare' is not built.*keras\.Input"):
        read_config(unbuilt)
    source = keras.Input((None, None, 3), name="photo")
    model = keras.Model(source, layers.GlobalMaxPooling2D()(source))
    with pytest.raises(ModelError, match=r"'photo' has no fixed shape.*keras\.Input\(shape"):
        read_config(as_file(model))


def test_subclassed_models_are_refused() -> None:
    config = {"module": "my_models", "class_name": "Net", "config": {}, "registered_name": "Net"}
    with pytest.raises(ModelError, match=r"'Net'.*keras\.Model\(inputs, outputs\)"):
        read_config(config)


def _broken() -> dict[str, Any]:
    config = as_file(ARCHITECTURES["residual"]())
    functional = config["config"]

    def changed(**entries: Any) -> dict[str, Any]:
        return {"class_name": "Functional", "config": {**copy.deepcopy(functional), **entries}}

    no_nodes = changed()
    no_nodes["config"]["layers"][1].pop("config")
    missing = changed()
    missing["config"]["layers"].pop(1)
    loop = changed()
    history = loop["config"]["layers"][1]["inbound_nodes"][0]["args"][0]["config"]
    history["keras_history"][0] = loop["config"]["layers"][-1]["name"]
    return {
        "empty": {},
        "no layers": changed(layers=None),
        "no outputs": changed(output_layers=[["nowhere", 0, 0]]),
        "too many calls": changed(output_layers=[[functional["layers"][1]["name"], 7, 0]]),
        "no configuration": no_nodes,
        "missing layer": missing,
        "loop": loop,
    }


@pytest.mark.parametrize("name", sorted(_broken()))
def test_malformed_configurations_are_refused(name: str) -> None:
    with pytest.raises(FileFormatError, match="configuration"):
        read_config(_broken()[name])


def test_runaway_nesting_is_refused() -> None:
    source = {"class_name": "InputLayer", "config": {"name": "i", "batch_shape": [None, 2]}}
    model = legacy("m", "Identity", [])
    for depth in range(40):  # a model of two calls of a model of two calls ...
        nodes = [[["i", 0, 0, {}]], [["m", min(depth, 1), 0, {}]]]
        layer = {**model, "name": "m", "inbound_nodes": nodes}
        inner = {
            "name": "m",
            "layers": [{**source, "name": "i", "inbound_nodes": []}, layer],
            "input_layers": [["i", 0, 0]],
            "output_layers": [["m", 1, 0]],
        }
        model = {"class_name": "Functional", "config": inner}
    with pytest.raises(ModelError, match="over 100000 layer calls"):
        read_config(model)


def test_names_cannot_forge_messages() -> None:
    config = as_file(keras.Sequential([layers.Dense(2)]))
    config["config"]["name"] = "x\nerror: all is well\x1b[2J"
    with pytest.raises(ModelError) as caught:
        read_config(config)
    assert str(caught.value).isprintable()


def _places(part: Any) -> Iterator[tuple[Any, Any]]:
    """Find every entry of nested lists and dictionaries, as the container and the key."""
    for key in list(part) if isinstance(part, dict) else range(len(part)):
        yield part, key
        if isinstance(part[key], (dict, list)):
            yield from _places(part[key])


STRANGE: tuple[Any, ...] = (None, -1, 0, 2, 3.5, "x", [], {}, [1, 2], True, 10**30, math.nan)


@pytest.mark.parametrize("name", ["convolution_1d", "nested_by_name", "rescaled", "arithmetic"])
def test_damaged_configurations_end_in_one_of_our_errors(name: str) -> None:
    stored = as_file(ARCHITECTURES[name]())
    choice = random.Random(0)
    outcomes: Counter[str] = Counter()
    messages: list[str] = []
    for _ in range(300):
        config = copy.deepcopy(stored)
        container, key = choice.choice(list(_places(config)))
        container[key] = choice.choice(STRANGE)
        try:
            calls = read_config(config)
            read_network(calls, ZeroWeights())
            default_box(calls, ZeroWeights())
            outcomes["read"] += 1
        except NnpruneError as error:
            messages.append(str(error))
            outcomes[type(error).__name__] += 1
    assert all(message.isprintable() for message in messages)
    assert outcomes["read"] > 100  # initializers and the like do not matter
    assert outcomes["FileFormatError"] > 10
    assert outcomes["ModelError"] > 0
