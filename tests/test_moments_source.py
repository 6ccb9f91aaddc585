"""Least squares on moments that come from the input box, through the whole of `prune`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import keras
import nnprune
import numpy as np
import pytest
from nnprune import LeastSquares, Moments
from nnprune.errors import ConfigError, ModelError

MODELS = Path(__file__).resolve().parents[1] / "benches" / "models"
DIGITS = Path(str(resources.files("nnprune") / "demo_files" / "digits.keras"))


def test_no_input_is_drawn_and_the_model_is_smaller() -> None:
    compensation = LeastSquares(source="moments")
    first, second = (nnprune.prune(DIGITS, target=0.5, compensation=compensation) for _ in range(2))
    trace = first.compensation
    assert (trace.inputs, trace.samples, trace.given) == ("moments", 0, None)
    assert first.to_dict()["compensation"]["options"]["source"] == {
        "name": "moments",
        "correlation": 0.0,
    }
    assert "moments that the input box gives" in first.summary()
    assert first.model.count_params() < 0.5 * keras.saving.load_model(DIGITS).count_params()
    for one, other in zip(first.model.get_weights(), second.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_correlation_is_that_of_images() -> None:
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dense(3),
        ]
    )
    plain, correlated = (
        nnprune.prune(model, target=0.5, compensation=LeastSquares(source=source))
        for source in (Moments(), Moments(correlation=1.5))
    )
    weights = [one.model.layers[-1].get_weights()[0] for one in (plain, correlated)]
    assert not np.array_equal(weights[0], weights[1])


def test_other_layers_are_refused_by_name() -> None:
    with pytest.raises(ModelError, match="conv"):
        nnprune.prune(
            MODELS / "cifar10.keras", target=0.5, compensation=LeastSquares(source="moments")
        )


@pytest.mark.parametrize("correlation", [-1.0, float("nan"), "wide"])
def test_a_correlation_out_of_range_is_refused(correlation: object) -> None:
    source = Moments(correlation=correlation)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="correlation"):
        nnprune.prune(DIGITS, target=0.5, compensation=LeastSquares(source=source))


def test_a_polish_needs_inputs() -> None:
    with pytest.raises(ConfigError, match="source"):
        nnprune.prune(DIGITS, target=0.5, polish=nnprune.Polish(source="moments"))
