"""Evaluations of models of every kind, and what holds for all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import nnprune
import numpy as np
import pytest
from evaluated import (
    DIGITS,
    EPSILONS,
    assert_same_figures,
    binary,
    checked,
    digits,
    gradient_sign,
    moved,
    predicted,
    softmax,
    write_files,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from nnprune.attacks.options import Attack

layers = keras.layers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("evaluate"))


# What must always hold


@settings(max_examples=6)
@given(
    head=st.sampled_from(["softmax", "sigmoid"]),
    seed=st.integers(0, 2**32 - 1),
    samples=st.integers(1, 40),
    epsilon=st.floats(0.0, 0.4),
    bins=st.integers(1, 30),
)
def test_invariants(
    head: str,
    seed: int,
    samples: int,
    epsilon: float,
    bins: int,
) -> None:
    random = np.random.default_rng(seed)
    original, small = softmax() if head == "softmax" else binary()
    chosen = random.integers(0, len(digits()[1]), samples)
    x, y = digits()[0][chosen], digits()[1][chosen]
    if head == "sigmoid":
        y = (y > 4).astype(np.int64)
    # Wrong labels, too: what is predicted wrong is never robust.
    y = np.where(random.random(samples) < 0.2, 1 - y if head == "sigmoid" else (y + 1) % 10, y)
    attacks: list[Attack] = [
        nnprune.FGSM((0.0, epsilon)),
        nnprune.PGD(epsilon, steps=2, random_start=False),
    ]
    found = nnprune.evaluate(
        small, x, y, original=original, attacks=attacks, bins=bins, batch_size=16
    )
    document = checked(found)
    first = document["models"][0]
    for section in document["models"]:
        clean = section["quality"]["accuracy"]
        for outcome in section["robustness"]:
            for point in outcome["points"]:
                assert point["white_box"]["count"] <= clean["count"]
                if point["transfer"] is not None:
                    assert point["transfer"]["count"] <= clean["count"]
        assert section["robustness"][0]["points"][0]["white_box"] == clean
        for name in ("accuracy", "top5", "agreement"):
            share = section["quality"][name]
            if share is not None:
                assert 0.0 <= share["lower"] <= share["value"] <= share["upper"] <= 1.0
        calibration = section["calibration"]
        assert calibration["ece"] <= calibration["mce"] + 1e-12 <= 1.0 + 1e-12
        excess = calibration["mean_confidence"] - calibration["accuracy"]
        assert calibration["ece"] >= abs(excess) - 1e-12
        assert sum(one["count"] for one in calibration["reliability"]) == samples
        assert calibration["accuracy"] == pytest.approx(clean["value"])
    assert first["quality"]["agreement"] is None
    twin = nnprune.evaluate(original, x, y, original=original, attacks=attacks[:1]).models[1]
    assert twin["quality"]["agreement"]["value"] == 1.0
    assert twin["quality"]["accuracy"] == first["quality"]["accuracy"]
    for point in twin["robustness"][0]["points"]:
        assert point["white_box"] == point["transfer"]
        assert point["retention"] in (None, 1.0)


def test_the_order_of_the_samples_makes_no_difference(folder: Path) -> None:
    x, y = digits()
    order = np.random.default_rng(0).permutation(len(y))
    options: dict[str, Any] = {"attacks": [nnprune.FGSM(EPSILONS)], "original": DIGITS}
    straight = checked(nnprune.evaluate(folder / "small.keras", x, y, **options))
    mixed = checked(nnprune.evaluate(folder / "small.keras", x[order], y[order], **options))
    assert_same_figures(mixed, straight)


# Models of all kinds


def conv() -> keras.Model:
    source = keras.Input((8, 8, 1), name="image")
    hidden = layers.Conv2D(4, 3, activation="relu")(source)
    hidden = layers.BatchNormalization()(hidden)
    hidden = layers.Flatten()(layers.MaxPooling2D()(hidden))
    return keras.Model(source, layers.Dense(10, activation="softmax")(hidden), name="conv")


def nested() -> keras.Model:
    inner = keras.Sequential([keras.Input((64,)), layers.Dense(10, "softmax")], name="inner")
    return keras.Sequential([keras.Input((64,)), layers.Dense(64, "relu"), inner], name="outer")


def half_precision() -> keras.Model:
    source = keras.Input((64,), dtype="float16")
    hidden = layers.Dense(12, activation="relu", dtype="float16")(source)
    return keras.Model(source, layers.Dense(10, activation="softmax", dtype="float16")(hidden))


def softmax_layer() -> keras.Model:
    return keras.Sequential(
        [keras.Input((64,)), layers.Dense(10), layers.Dropout(0.5), layers.Softmax()]
    )


@pytest.mark.parametrize("build", [conv, nested, half_precision, softmax_layer])
def test_models_that_were_never_compiled(build: Any) -> None:
    keras.utils.set_random_seed(3)
    x, y = digits()
    model = build()
    document = checked(nnprune.evaluate(model, x, y, original=model))
    shaped = x.reshape(-1, *model.input_shape[1:])
    assert document["head"]["kind"] == "softmax"
    accuracy = document["models"][0]["quality"]["accuracy"]
    assert accuracy["count"] == int(np.sum(predicted(model, shaped) == y))
    assert document["models"][1]["quality"]["agreement"]["value"] == 1.0


def test_inputs_in_the_units_of_bytes() -> None:
    """Behind Rescaling(1/255) epsilons are small numbers by mistake."""
    x, y = digits()
    flat = keras.models.load_model(DIGITS)
    model = keras.Sequential([keras.Input((64,)), layers.Rescaling(1 / 255), *flat.layers])
    pixels = (255 * x).astype(np.float32)
    document = checked(nnprune.evaluate(model, pixels, y))
    assert document["input_box"] == {"source": "rescaling", "lower": 0.0, "upper": 255.0}
    (warning,) = document["warnings"]
    assert "epsilon 0.01, 0.03137, 0.05 is less than a thousandth" in warning
    assert "(255)" in warning
    scaled = checked(nnprune.evaluate(model, pixels, y, attacks=[nnprune.FGSM(0.05 * 255)]))
    plain = checked(nnprune.evaluate(flat, x, y, attacks=[nnprune.FGSM(0.05)]))
    ours, theirs = (
        document["models"][0]["robustness"][0]["points"][0]["white_box"]["count"]
        for document in (scaled, plain)
    )
    assert abs(ours - theirs) <= 1
    assert scaled["warnings"] == []


def test_epsilons_in_the_units_of_bytes(folder: Path) -> None:
    document = checked(
        nnprune.evaluate(folder / "small.keras", *digits(), attacks=[nnprune.FGSM(8)])
    )
    (warning,) = document["warnings"]
    assert "epsilon 8 is half or more of the input box's width (1)" in warning


def test_bounds_of_every_feature_hold() -> None:
    """Features that may not move do not."""
    x, y = digits()
    upper = np.ones(64)
    upper[32:] = 0.0
    half = np.where(np.arange(64) < 32, x, np.float32(0.0))
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((64,)), layers.Dense(10, activation="softmax")])
    point = checked(
        nnprune.evaluate(
            model, half, y, input_bounds=(np.zeros(64), upper), attacks=[nnprune.FGSM(0.1)]
        )
    )["models"][0]["robustness"][0]["points"][0]
    adversarial = moved(half, gradient_sign(model, half, y), 0.1, (np.zeros(64), upper))
    robust = (predicted(model, half) == y) & (predicted(model, adversarial) == y)
    assert abs(point["white_box"]["count"] - robust.sum()) <= 1


def test_the_optimizers_state_in_a_file(folder: Path, tmp_path: Path) -> None:
    model = keras.models.load_model(DIGITS, compile=False)
    for optimizer, kept in (("adam", True), ("sgd", False)):
        model.compile(optimizer, "sparse_categorical_crossentropy", run_eagerly=True)
        model.train_on_batch(*digits())
        model.save(tmp_path / f"{optimizer}.keras")
        document = checked(
            nnprune.evaluate(folder / "small.keras", original=tmp_path / f"{optimizer}.keras")
        )
        told = [warning for warning in document["warnings"] if "optimizer's state" in warning]
        assert len(told) == kept
        size = document["models"][0]["size"]
        assert (size["keras_bytes"] > 10 * size["parameters"]) == kept


def test_an_h5_file(folder: Path) -> None:
    from nnprune.keras_io.save import save_model

    path = save_model(softmax()[1], folder / "small — größer.h5", overwrite=True)
    document = checked(nnprune.evaluate(path, *digits(), original=folder / "model.keras"))
    assert document["models"][1]["label"] == "small — größer.h5"
    same = checked(nnprune.evaluate(folder / "small.keras", *digits(), original=DIGITS))
    assert document["models"][1]["quality"] == same["models"][1]["quality"]
    assert document["models"][1]["robustness"] == same["models"][1]["robustness"]


def test_a_model_that_hides_its_gradients_is_flagged() -> None:
    """Rounding has no gradient, so that no attack by gradients finds anything."""
    x, y = digits()
    flat = keras.models.load_model(DIGITS)
    source = keras.Input((64,))
    rounded = keras.ops.floor(source * 16.0) / 16.0
    hidden = rounded
    for layer in flat.layers:
        hidden = layer(hidden)
    model = keras.Model(source, hidden)
    attacks: list[Attack] = [
        nnprune.FGSM((0.05, 0.2)),
        nnprune.PGD(0.2, steps=2, random_start=False),
    ]
    document = checked(nnprune.evaluate(model, x, y, original=DIGITS, attacks=attacks))
    section = document["models"][1]
    clean = section["quality"]["accuracy"]["count"]
    for outcome in section["robustness"]:
        assert outcome["points"][-1]["white_box"]["count"] == clean
        assert outcome["points"][-1]["zero_gradients"] == clean
        text = " ".join(outcome["flags"])
        assert "input gradient of exactly zero" in text
        assert "Not one of" in text
        assert "Inputs made against the original model are stronger" in text
    assert document["models"][0]["robustness"][0]["flags"] == []
