"""The polish: what it matches, what it leaves alone, and when it stops."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import keras
import nnprune
import numpy as np
import pytest
from keras_helpers import randomize
from nnprune import LeastSquares, Polish
from nnprune.errors import ConfigError, ModelError
from nnprune.keras_io.fingerprints import model_sha256
from numpy.typing import NDArray

DIGITS = Path(str(resources.files("nnprune") / "demo_files" / "digits.keras"))
FAST = LeastSquares(source="box", samples=400)
SHORT = Polish(epochs=3, samples=1000, source="box")
layers = keras.layers


@pytest.fixture(scope="module")
def rough() -> nnprune.PruningResult:
    return nnprune.prune(DIGITS, target=0.8, compensation=FAST)


@pytest.fixture(scope="module")
def polished() -> nnprune.PruningResult:
    return nnprune.prune(DIGITS, target=0.8, compensation=FAST, polish=SHORT)


def digits() -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    with np.load(DIGITS.with_name("digits.npz")) as data:
        return data["x_test"].astype(np.float32) / 16, data["y_test"]


def distance(model: keras.Model) -> float:
    """Mean squared difference from the original's probabilities on real images."""
    x, _ = digits()
    wanted = keras.saving.load_model(DIGITS).predict(x, verbose=0)
    return float(np.mean((model.predict(x, verbose=0) - wanted) ** 2))


def test_it_brings_the_smaller_model_nearer_to_the_original(rough: Any, polished: Any) -> None:
    assert distance(polished.model) < distance(rough.model)
    trace = polished.polish
    assert len(trace.losses) == 4
    assert trace.best == int(np.argmin(trace.losses)) > 0
    assert trace.losses[trace.best] < 0.95 * trace.losses[0]
    assert (trace.samples, trace.held_out, trace.inputs) == (900, 100, "synthetic")
    assert (trace.stopped_by, trace.seconds > 0.0) == ("epochs", True)
    told = polished.synthetic_agreement.agreement.value
    assert told == nnprune.agreement(DIGITS, polished).agreement.value
    assert "polished" in polished.summary()


def test_the_structure_and_the_compile_state_stay(rough: Any, polished: Any) -> None:
    assert polished.model.get_config() == rough.model.get_config()
    assert polished.model.get_compile_config() == rough.model.get_compile_config()
    flags = [[layer.trainable for layer in one.model.layers] for one in (rough, polished)]
    assert flags[0] == flags[1]
    assert polished.after == rough.after
    assert polished.merges == rough.merges


def test_the_same_seed_gives_the_same_weights(polished: Any) -> None:
    again = nnprune.prune(DIGITS, target=0.8, compensation=FAST, polish=SHORT)
    assert model_sha256(again.model, {}) == model_sha256(polished.model, {})
    assert again.polish is not None
    assert again.polish.losses == polished.polish.losses


def test_the_original_is_not_touched() -> None:
    model = keras.saving.load_model(DIGITS)
    before = model_sha256(model, {})
    nnprune.prune(model, target=0.7, compensation=FAST, polish=Polish(epochs=1, samples=300))
    assert model_sha256(model, {}) == before
    assert all(layer.trainable for layer in model.layers)


def test_moved_inputs_are_matched_too() -> None:
    """Robust instances of the clean and of the mixed polish, attacked alike."""
    x, y = digits()
    robust = []
    for epsilon in (0.0, 0.05):
        polish = Polish(epochs=6, samples=4000, epsilon=epsilon)
        result = nnprune.prune(DIGITS, target=0.5, compensation=FAST, polish=polish)
        found = nnprune.evaluate(result, x, y, attacks=[nnprune.FGSM(0.05)])
        (model,) = found.document["models"]
        robust.append(model["robustness"][0]["points"][0]["white_box"]["value"])
    assert robust[1] > robust[0]


def test_normalizations_keep_their_statistics_and_dropout_rests() -> None:
    model = randomize(
        keras.Sequential(
            [
                keras.Input((5,)),
                layers.Dense(16),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Dropout(0.5),
                layers.Dense(12, activation="relu"),
                layers.Dense(3, activation="softmax"),
            ]
        )
    )
    polish = Polish(epochs=4, samples=2000, source="box")
    rough, fine = (nnprune.prune(model, target=0.6, polish=one) for one in (None, polish))
    for before, after in zip(rough.model.layers, fine.model.layers, strict=True):
        pairs = zip(before.get_weights(), after.get_weights(), strict=True)
        changed = [not np.array_equal(*pair) for pair in pairs]
        assert any(changed) == isinstance(before, layers.Dense)
    assert fine.polish is not None
    assert fine.polish.best > 0


def test_time_ends_it() -> None:
    polish = Polish(epochs=1000, samples=400, seconds=1e-6)
    result = nnprune.prune(DIGITS, target=0.5, polish=polish)
    assert result.polish is not None
    assert result.polish.stopped_by == "seconds"
    assert len(result.polish.losses) == 2


def test_representative_inputs_are_trained_on() -> None:
    x, _ = digits()
    result = nnprune.prune(
        DIGITS, target=0.5, polish=Polish(epochs=1, samples=1000), representative_inputs=x[:100]
    )
    assert result.polish is not None
    assert (result.polish.samples, result.polish.held_out) == (900, 100)
    assert result.polish.inputs == "representative"


def test_what_is_held_out_is_made_of_other_inputs(monkeypatch: Any) -> None:
    seen: dict[str, Any] = {}

    def polish_model(*given: Any, **_: Any) -> Any:
        seen["x"], seen["held_out"] = given[3], given[4]
        raise InterruptedError

    monkeypatch.setattr("nnprune.polishing.polish_model", polish_model)
    x, _ = digits()
    with pytest.raises(InterruptedError):
        nnprune.prune(DIGITS, target=0.5, polish=Polish(samples=1000), representative_inputs=x[:20])
    rows = {name: {row.tobytes() for row in part[: len(part) // 2]} for name, part in seen.items()}
    assert (len(rows["x"]), len(rows["held_out"])) == (18, 2)
    assert not rows["x"] & rows["held_out"]
    for part in seen.values():
        assert part.dtype == np.float32
        assert part.min() >= 0.0
        assert part.max() <= 1.0


def test_the_source_may_be_chosen() -> None:
    polish = Polish(epochs=1, samples=300, source="box")
    result = nnprune.prune(DIGITS, target=0.5, polish=polish)
    told = result.to_dict()["polish"]
    assert told["options"]["source"] == {"name": "box"}
    with pytest.raises(ConfigError, match="magic"):
        nnprune.prune(DIGITS, target=0.5, polish=Polish(source="magic"))


def test_a_polish_that_only_harms_changes_nothing() -> None:
    polish = Polish(epochs=1, samples=200, learning_rate=1.0)
    plain, harmed = (nnprune.prune(DIGITS, target=0.1, polish=one) for one in (None, polish))
    assert harmed.polish is not None
    assert harmed.polish.best == 0
    assert model_sha256(plain.model, {}) == model_sha256(harmed.model, {})


@pytest.mark.parametrize(
    ("polish", "words"),
    [
        (3, ["polish", "3"]),
        (Polish(epochs=0), ["epochs", "0"]),
        (Polish(samples=5), ["samples", "5"]),
        (Polish(epsilon=-0.1), ["epsilon", "-0.1"]),
        (Polish(learning_rate=0.0), ["learning_rate", "0.0"]),
        (Polish(batch_size=1), ["batch_size", "1"]),
        (Polish(seconds=0.0), ["seconds", "0.0"]),
    ],
)
def test_wrong_options_are_named(polish: Any, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        nnprune.prune(DIGITS, target=0.5, polish=polish)
    for word in words:
        assert word in str(error.value)


def test_what_cannot_be_polished_is_said_before_any_work() -> None:
    number = randomize(
        keras.Sequential([keras.Input((4,)), layers.Dense(8, activation="relu"), layers.Dense(1)])
    )
    with pytest.raises(ConfigError, match=r"Polish\(epsilon=0\)"):
        nnprune.prune(number, target=0.5, polish=True)
    result = nnprune.prune(number, target=0.5, polish=Polish(epsilon=0, samples=300, epochs=2))
    assert result.polish is not None
    inputs = [keras.Input((4,)), keras.Input((2,))]
    hidden = layers.Dense(8, activation="relu")(layers.Concatenate()(inputs))
    two = randomize(keras.Model(inputs, layers.Dense(3)(hidden)))
    with pytest.raises(ModelError, match="2 inputs"):
        nnprune.prune(two, target=0.5, polish=True)
