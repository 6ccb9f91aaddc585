"""Certificates of refitted and polished models: never wrong, and checked by the second path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import nnprune
import numpy as np
import pytest
from certificates import check_on_probes, tabular
from keras_helpers import randomize
from nnprune import Greedy, LeastSquares, Polish, Scaled
from nnprune.errors import ModelError

layers = keras.layers
BOX = (-1.0, 1.0)
FAST = LeastSquares(source="box", samples=300)
SHORT = Polish(epochs=2, samples=600)


def without_biases() -> keras.Model:
    """Nothing here has a bias: what removed units gave on average needs one."""
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(12, activation="relu", use_bias=False),
            layers.Dense(9, activation="tanh", use_bias=False),
            layers.Dense(3, use_bias=False, activation="softmax"),
        ]
    )
    return randomize(model)


def normalized() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(12),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dense(9, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    return randomize(model)


def convolutional() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(6, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(5, 2, activation="relu"),
            layers.Flatten(),
            layers.Dense(8, activation="relu"),
            layers.Dense(3),
        ]
    )
    return randomize(model)


MODELS = [tabular, without_biases, normalized, convolutional]


@pytest.mark.parametrize("build", MODELS)
@pytest.mark.parametrize(
    "options",
    [
        {"compensation": FAST},
        {"compensation": LeastSquares(source="box", samples=300, loop="open", towards="unchanged")},
        {"compensation": Scaled(), "method": Greedy()},
        {"compensation": FAST, "polish": SHORT},
        {"polish": SHORT},
    ],
)
def test_no_input_breaks_a_promise(build: Any, options: dict[str, Any], tmp_path: Path) -> None:
    f = build()
    result = nnprune.prune(f, target=0.4, input_bounds=BOX, **options)
    small = result.save(tmp_path / "small.keras")
    certificate = nnprune.certify(small, original=f)
    check_on_probes(certificate, f, keras.saving.load_model(small))
    assert np.all(np.isfinite(certificate.output_change.widths))
    assert nnprune.verify(certificate, small, original=f).holds


@pytest.mark.parametrize("options", [{"compensation": FAST}, {"polish": SHORT}])
def test_the_impact_holds_too(options: dict[str, Any]) -> None:
    f = tabular()
    result = nnprune.prune(f, target=0.4, input_bounds=BOX, **options)
    ((lower, upper),) = result.impact.values()
    certificate = nnprune.certify(result, original=f)
    assert np.all(np.array(lower) <= certificate.output_change.lower + 1e-4)
    assert np.all(np.array(upper) >= certificate.output_change.upper - 1e-4)


def test_the_json_of_a_polished_pruning_serves_as_its_record() -> None:
    f = tabular()
    result = nnprune.prune(f, target=0.4, input_bounds=BOX, compensation=FAST, polish=SHORT)
    told = json.loads(result.to_json())
    certificate = nnprune.certify(result.model, original=f, pruning=told)
    check_on_probes(certificate, f, result.model)


def test_only_a_polish_excuses_other_weights(tmp_path: Path) -> None:
    f = tabular()
    result = nnprune.prune(f, target=0.4, input_bounds=BOX, compensation=FAST)
    assert "polished" not in json.loads(result.record.to_json())
    first = result.model.layers[0]
    kernel, bias = first.get_weights()
    first.set_weights([kernel + 0.01, bias])
    with pytest.raises(ModelError, match="trained on"):
        nnprune.certify(result, original=f)


def test_training_after_a_polish_is_bounded_as_it_is() -> None:
    f = tabular()
    result = nnprune.prune(f, target=0.4, input_bounds=BOX, polish=SHORT)
    assert json.loads(result.record.to_json())["polished"] is True
    for layer in result.model.layers:
        layer.set_weights([weight + 0.05 for weight in layer.get_weights()])
    certificate = nnprune.certify(result, original=f)
    check_on_probes(certificate, f, result.model)
