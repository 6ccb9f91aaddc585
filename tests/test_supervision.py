"""Pruning watched with data: the figures of every epoch, and floors."""

from __future__ import annotations

import dataclasses
from importlib import resources
from pathlib import Path
from typing import Any

import keras
import nnprune
import numpy as np
import pytest
from nnprune.errors import ConfigError, DataError, ModelError
from numpy.typing import NDArray

DIGITS = Path(str(resources.files("nnprune") / "demo_files" / "digits.keras"))


@pytest.fixture(scope="module")
def digits() -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    with np.load(DIGITS.with_name("digits.npz")) as data:
        return data["x_test"].astype(np.float32) / 16, data["y_test"]


@pytest.fixture(scope="module")
def watched(digits: Any) -> nnprune.PruningResult:
    return nnprune.prune(
        DIGITS,
        target=0.6,
        step=1 / 16,
        evaluate=digits,
        attacks=[nnprune.FGSM((0.0, 0.05)), nnprune.PGD(0.05, steps=3)],
    )


def test_every_epoch_is_measured(watched: nnprune.PruningResult) -> None:
    assert watched.original_evaluation is not None
    for epoch in watched.trace:
        assert epoch.evaluation is not None
        assert epoch.evaluation.samples == 450
        robust = {(one.attack, one.epsilon): one.instances for one in epoch.evaluation.robust}
        assert set(robust) == {("FGSM", 0.0), ("FGSM", 0.05), ("PGD-3", 0.05)}
        accuracy = epoch.evaluation.accuracy
        # FGSM with epsilon 0 equals clean, and no attack leaves more than there were.
        assert robust["FGSM", 0.0] == accuracy
        assert all(instances.count <= accuracy.count for instances in robust.values())
    assert watched.original_evaluation.agreement.value == 1.0
    assert watched.evaluation_seconds > watched.engine_seconds > 0.0


def test_the_last_epoch_is_the_model_returned(watched: nnprune.PruningResult, digits: Any) -> None:
    x, y = digits
    last = watched.trace[-1].evaluation
    assert last is not None
    found = nnprune.evaluate(
        watched,
        x,
        y,
        original=DIGITS,
        attacks=[nnprune.FGSM((0.0, 0.05)), nnprune.PGD(0.05, steps=3)],
    )
    small = found.models[1]
    assert small["quality"]["accuracy"]["count"] == last.accuracy.count
    assert small["quality"]["agreement"]["count"] == last.agreement.count
    counts = {
        (outcome["attack"], point["epsilon"]): point["white_box"]["count"]
        for outcome in small["robustness"]
        for point in outcome["points"]
    }
    for one in last.robust:
        # The masked and the smaller model add in another order: a sample at the edge may differ.
        assert abs(counts[one.attack, one.epsilon] - one.instances.count) <= 1
    assert small["pruning"]["trace"][-1]["evaluation"]["samples"] == 450


def test_the_data_decide_nothing(watched: nnprune.PruningResult) -> None:
    alone = nnprune.prune(DIGITS, target=0.6, step=1 / 16)
    assert alone.merges == watched.merges
    for ours, theirs in zip(alone.model.get_weights(), watched.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    bare = [dataclasses.replace(epoch, evaluation=None) for epoch in watched.trace]
    assert list(alone.trace) == bare


@pytest.mark.parametrize(
    ("floor", "value", "read"),
    [
        ("accuracy", 0.95, lambda found: found.accuracy.value),
        ("agreement", 0.97, lambda found: found.agreement.value),
        ("robust_accuracy", 0.7, lambda found: min(one.instances.value for one in found.robust)),
    ],
)
def test_a_floor_takes_the_epoch_back(floor: str, value: float, read: Any, digits: Any) -> None:
    options: Any = {f"stop_if_{floor}_below": value}
    attacks = [nnprune.FGSM(0.05)] if floor == "robust_accuracy" else []
    result = nnprune.prune(
        DIGITS, target=0.8, step=1 / 32, evaluate=digits, attacks=attacks, **options
    )
    assert result.stopped_by == f"{floor}_floor"
    assert result.undone is not None
    assert read(result.undone.evaluation) < value
    assert all(read(epoch.evaluation) >= value for epoch in result.trace)
    assert result.undone.epoch == len(result.trace)
    x, y = digits
    correct = np.argmax(np.asarray(result.model(x)), axis=1) == y
    last = result.trace[-1].evaluation
    assert last is not None
    assert int(correct.sum()) == last.accuracy.count
    units = {change.layer: change.units_after for change in result.layers}
    assert all(units[layer] == count for layer, count in result.trace[-1].units.items())
    assert all(merge.epoch < len(result.trace) for merge in result.merges)
    assert result.to_dict()["undone"]["evaluation"]["samples"] == 450


def test_a_first_step_too_far_gives_the_original_back(digits: Any) -> None:
    result = nnprune.prune(
        DIGITS, target=0.9, step=1.0, evaluate=digits, attacks=[], stop_if_accuracy_below=0.95
    )
    assert result.stopped_by == "accuracy_floor"
    assert (result.trace, result.merges) == ((), ())
    assert result.after == result.before
    original = keras.models.load_model(DIGITS, compile=False)
    for ours, theirs in zip(result.model.get_weights(), original.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_callback_sees_the_figures_and_may_stop(digits: Any) -> None:
    seen = []

    def look(epoch: nnprune.Epoch) -> bool:
        seen.append(epoch)
        return len(seen) < 2

    result = nnprune.prune(
        DIGITS, target=0.5, step=1 / 16, evaluate=digits, attacks=[], on_epoch=look
    )
    assert result.stopped_by == "callback"
    assert len(result.trace) == 2
    assert all(epoch.evaluation is not None for epoch in seen)


def test_models_that_gain_a_bias_are_followed(digits: Any) -> None:
    """A merge behind a BatchNormalization moves a constant into the next layer's bias."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(24, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(16, activation="relu", use_bias=False),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    x, y = digits
    model.fit(x, y, epochs=3, verbose=0)
    result = nnprune.prune(model, target=0.5, step=1 / 8, evaluate=(x, y), attacks=[])
    last = result.trace[-1].evaluation
    assert last is not None
    correct = np.argmax(np.asarray(result.model(x)), axis=1) == y
    assert abs(int(correct.sum()) - last.accuracy.count) <= 1


def test_wrong_options_are_refused_before_any_work(digits: Any) -> None:
    x, y = digits

    def refused(error: type[Exception], words: str, **options: Any) -> None:
        with pytest.raises(error, match=words):
            nnprune.prune(DIGITS, target=0.5, **options)

    refused(ConfigError, "stop_if_accuracy_below: needs data", stop_if_accuracy_below=0.5)
    refused(ConfigError, "attacks: needs data", attacks=[nnprune.FGSM(0.1)])
    refused(
        ConfigError,
        "needs an attack",
        evaluate=(x, y),
        attacks=(),
        stop_if_robust_accuracy_below=0.1,
    )
    refused(ConfigError, "fraction from 0 to 1", evaluate=(x, y), stop_if_agreement_below=95)
    refused(ConfigError, "fraction from 0 to 1", evaluate=(x, y), stop_if_accuracy_below="high")
    refused(
        ConfigError, "the original itself is below", evaluate=(x, y), stop_if_accuracy_below=1.0
    )
    refused(ConfigError, "attacks: expected nnprune", evaluate=(x, y), attacks=[0.1])
    refused(DataError, r"x: samples have shape \(60,\)", evaluate=(x[:, :60], y))
    numbers = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)]
    )
    numbers.compile("adam", "mse")
    with pytest.raises(ModelError, match="only classifiers can be watched"):
        nnprune.prune(numbers, target=0.5, evaluate=(x, y))
