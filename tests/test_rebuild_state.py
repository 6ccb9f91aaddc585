"""What a rebuilt model keeps besides its layers: settings, dtypes, flags, custom parts."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from keras_helpers import graph_of, randomize, samples
from nnprune import _core
from nnprune.errors import ModelError
from nnprune.keras_io.rebuild import rebuild
from pruned_models import PRUNED, across_nested, dense, shrink


def test_compile_settings_survive() -> None:
    model = randomize(PRUNED["mlp"]())
    model.compile(
        optimizer=keras.optimizers.SGD(0.125, momentum=0.5),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=0.25),
        metrics=["accuracy"],
    )
    smaller = shrink(model)[2].model
    assert smaller.compiled
    assert smaller.get_compile_config() == model.get_compile_config()
    assert float(smaller.optimizer.learning_rate) == 0.125
    batches = samples(smaller, count=8)
    labels = np.eye(3, dtype=np.float32)[np.arange(8) % 3]
    smaller.fit(batches[0], labels, epochs=1, verbose=0)
    assert set(smaller.evaluate(batches[0], labels, verbose=0, return_dict=True)) == {
        "loss",
        "accuracy",
    }


def test_uncompiled_models_stay_so() -> None:
    assert not shrink(randomize(PRUNED["across_nested"]()))[2].model.compiled


def own_loss(wanted: Any, found: Any) -> Any:
    """Punish errors; Keras cannot find this by its name."""
    return keras.ops.mean(keras.ops.square(wanted - found))


@pytest.mark.parametrize("name", ["mlp", "several_readers", "across_nested"])
def test_a_loss_of_the_users_own_is_kept_and_odd_metrics_are_named(name: str) -> None:
    model = randomize(PRUNED[name]())
    model.compile(optimizer="sgd", loss=own_loss)
    smaller = shrink(model)[2].model
    assert smaller.compiled
    assert smaller.loss is own_loss
    model.compile(optimizer="sgd", loss=own_loss, metrics=["mae"])
    with pytest.warns(UserWarning, match=f"'{model.name}': .*without its metrics"):
        assert shrink(model)[2].model.compiled


def test_trainable_flags_survive() -> None:
    model = randomize(across_nested())
    model.get_layer("both").get_layer("left").trainable = False
    model.get_layer("head").trainable = False
    smaller = shrink(model)[2].model
    assert smaller.trainable
    assert not smaller.get_layer("both").get_layer("left").trainable
    assert smaller.get_layer("both").get_layer("right").trainable
    assert [w.path for w in smaller.trainable_weights] == [w.path for w in model.trainable_weights]
    frozen = randomize(PRUNED["mlp"]())
    frozen.trainable = False
    assert shrink(frozen)[2].model.trainable_weights == []


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_kept_and_its_rounding_told(dtype: str) -> None:
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(8, activation="relu", dtype=dtype),
            layers.Dense(6, activation="relu", dtype=dtype),
            layers.Dense(2, dtype="float32"),
        ]
    )
    randomize(model)
    _, pruning, rebuilt = shrink(model)
    worst = 0.0
    for layer in rebuilt.model.layers:
        node = pruning.network.weights(layer.name)
        assert layer.dtype_policy.name == model.get_layer(layer.name).dtype_policy.name
        for weight in layer.weights:
            assert weight.dtype == layer.dtype_policy.variable_dtype
            stored = np.asarray(weight.numpy()).astype(np.float64)
            worst = max(worst, float(np.max(np.abs(stored - node[weight.name]))))
    assert 0.0 < rebuilt.rounding < 0.01
    assert rebuilt.rounding == pytest.approx(worst, rel=1e-3)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_other_policies_are_kept(policy: str) -> None:
    model = randomize(
        keras.Sequential(
            [keras.Input((5,)), layers.Dense(8, "relu", dtype=policy), layers.Dense(2)]
        )
    )
    rebuilt = shrink(model)[2]
    first = rebuilt.model.layers[0]
    assert first.dtype_policy.name == policy
    assert first.kernel.dtype == ("float64" if policy == "float64" else "float32")
    assert rebuilt.rounding == 0.0


def test_policies_of_the_models_themselves_are_kept() -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = across_nested()
    finally:
        keras.config.set_dtype_policy("float32")
    randomize(model).compile(optimizer="adam", loss="mse")
    smaller = shrink(model)[2].model
    both = smaller.get_layer("both")
    for part in (smaller, both, both.get_layer("left"), both.get_layer("right")):
        assert part.dtype_policy.name == "mixed_float16"
    assert smaller.output.dtype == model.output.dtype == "float16"
    assert type(smaller.optimizer) is type(model.optimizer)


def test_weights_that_do_not_change_keep_every_bit() -> None:
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(8, activation="relu", dtype="float64"),
            layers.Dense(3, dtype="float64", name="reader"),
            layers.Dense(2, dtype="float64", name="end"),
        ]
    )
    randomize(model)
    graph = graph_of(model)
    pruning = _core.prune(
        graph.network,
        [-np.ones(5)],
        [np.ones(5)],
        layers=[model.layers[0].name],
        target=0.5,
        step=0.25,
        method={"name": "one_shot"},
        outgoing="l2",
        seed=0,
    )
    smaller = rebuild(model, graph, pruning.network, pruning.kept).model
    np.testing.assert_array_equal(
        np.array(smaller.get_layer("end").kernel), np.array(model.get_layer("end").kernel)
    )
    np.testing.assert_array_equal(
        np.array(smaller.get_layer("reader").bias), np.array(model.get_layer("reader").bias)
    )


def test_a_shared_layer_stays_shared() -> None:
    both = layers.Dense(4, activation="relu", name="both")
    inner_source, source = keras.Input((4,)), keras.Input((4,))
    inner = keras.Model(inner_source, both(inner_source), name="inner")
    hidden = dense(8, "hidden")(inner(both(source)))
    model = randomize(keras.Model(source, layers.Dense(2)(hidden)))
    smaller = shrink(model)[2].model
    assert smaller.get_layer("both") is smaller.get_layer("inner").get_layer("both")
    assert smaller.get_layer("both") is not both
    assert len(smaller.weights) == len(model.weights)


@keras.saving.register_keras_serializable(package="nnprune_tests")
class Scaling(keras.layers.Layer):  # type: ignore[misc]
    """A layer of the user's own, with a weight and a setting."""

    def __init__(self, start: float, **options: Any) -> None:
        super().__init__(**options)
        self.start = start
        self.factor = self.add_weight(shape=(), name="factor")

    def call(self, inputs: Any) -> Any:
        """Scale."""
        return self.start * self.factor * inputs

    def get_config(self) -> Any:
        """Return the settings."""
        return {**super().get_config(), "start": self.start}


class Forgetful(keras.layers.Layer):  # type: ignore[misc]
    """A layer that cannot be made again."""

    def __init__(self, start: float, **options: Any) -> None:
        super().__init__(**options)
        self.start = start

    def call(self, inputs: Any) -> Any:
        """Scale."""
        return self.start * inputs

    def get_config(self) -> Any:
        """Forget the setting."""
        return super().get_config()


def _custom(layer: Any) -> keras.Model:
    source = keras.Input((4,), name="source")
    hidden = dense(8, "hidden")(layer(source))
    return randomize(keras.Model(source, dense(2, "head")(hidden), name="custom"))


def test_custom_layers_are_copied() -> None:
    model = _custom(Scaling(3.0, name="scaling"))
    smaller = shrink(model)[2].model
    copied = smaller.get_layer("scaling")
    assert copied.start == 3.0
    assert float(copied.factor) == float(model.get_layer("scaling").factor)
    assert smaller.get_layer("hidden").units == 4


def test_a_layer_that_cannot_be_rebuilt_is_named() -> None:
    with pytest.raises(ModelError, match="layer 'forgetful' of class Forgetful"):
        shrink(_custom(Forgetful(3.0, name="forgetful")))


def test_tables_of_lookup_layers_are_copied() -> None:
    source = keras.Input((3,), dtype="int64", name="source")
    lookup = layers.IntegerLookup(output_mode="multi_hot", name="lookup")
    lookup.adapt(np.array([7, 7, 9, 11]))
    model = randomize(keras.Model(source, dense(2, "head")(dense(8, "hidden")(lookup(source)))))
    smaller = shrink(model)[2].model
    assert smaller.get_layer("lookup").get_vocabulary() == lookup.get_vocabulary()


def test_functional_subclasses_keep_their_class_where_they_can() -> None:
    class Trainer(keras.Model):  # type: ignore[misc]
        """A Functional model with its own way of training."""

        def train_step(self, data: Any) -> Any:
            """Train on nothing."""
            return {"loss": 0.0}

    source = keras.Input((4,), name="source")
    outputs = dense(2, "head")(dense(8, "hidden")(source))
    model = randomize(Trainer(inputs=source, outputs=outputs, name="trainer"))
    model.compile(optimizer="sgd", loss="mse")
    smaller = shrink(model)[2].model
    assert type(smaller) is Trainer
    assert smaller.compiled
    assert smaller.get_layer("hidden").units == 4


def test_names_of_inputs_and_static_batches_survive() -> None:
    source = keras.Input(batch_shape=(2, 4), name="source")
    model = randomize(keras.Model(source, dense(2, "head")(dense(8, "hidden")(source))))
    smaller = shrink(model)[2].model
    assert smaller.input.shape == (2, 4)
    assert smaller.input.name == "source"
    ends = shrink(randomize(PRUNED["several_ends"]()))[2].model
    assert sorted(ends.input) == ["extra", "image"]
    assert sorted(ends.output) == ["label", "score"]
