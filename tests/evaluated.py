"""What an evaluation should say, computed another way; models and samples to try it on."""

from __future__ import annotations

import functools
import json
import statistics
from importlib import resources
from pathlib import Path
from typing import Any

import keras
import nnprune
import numpy as np
import pytest
import tensorflow as tf
from jsonschema import Draft202012Validator
from nnprune.report.render import render
from nnprune.report.schema import load_schema
from numpy.typing import NDArray

DIGITS = Path(str(resources.files("nnprune") / "demo_files" / "digits.keras"))
EPSILONS = (0.01, 0.05, 0.1)
VALIDATOR = Draft202012Validator(load_schema(), format_checker=Draft202012Validator.FORMAT_CHECKER)
layers = keras.layers

Floats = NDArray[np.float64]
Samples = tuple[NDArray[np.float32], NDArray[np.int64]]
Models = tuple[keras.Model, keras.Model]


def checked(found: nnprune.Evaluation) -> dict[str, Any]:
    """Return a document that fits the schema, comes back from JSON, and can be shown."""
    document: dict[str, Any] = json.loads(found.to_json())
    assert document == found.to_dict()
    VALIDATOR.validate(document)
    assert found.summary()
    assert "<html" in render(document)
    return document


@functools.cache
def digits() -> Samples:
    with np.load(DIGITS.with_name("digits.npz")) as data:
        return data["x_test"].astype(np.float32) / 16, data["y_test"].astype(np.int64)


@functools.cache
def pruned() -> nnprune.PruningResult:
    return nnprune.prune(DIGITS, target=0.5, step=1 / 8)


@functools.cache
def softmax() -> Models:
    """Return the original and the smaller model."""
    return keras.models.load_model(DIGITS), pruned().model


@functools.cache
def binary() -> Models:
    """Return two models that tell digits below 5 from the others, by one sigmoid.

    Their hidden units are random; the last layer is fitted by least squares.
    """
    x, y = digits()
    found = []
    for units in (48, 24):
        keras.utils.set_random_seed(units)
        hidden = layers.Dense(units, activation="relu")
        model = keras.Sequential(
            [keras.Input((64,)), hidden, layers.Dense(1, activation="sigmoid")], name="binary"
        )
        features = np.maximum(x @ hidden.kernel.numpy(), 0.0)
        slopes = np.linalg.lstsq(features, np.where(y > 4, 3.0, -3.0), rcond=None)[0]
        model.layers[-1].set_weights([slopes[:, None], np.zeros(1)])
        model.compile("sgd", "binary_crossentropy")
        found.append(model)
    return found[0], found[1]


def write_files(folder: Path) -> Path:
    """Write models, trace and samples as files, and return their folder."""
    (folder / "model.keras").write_bytes(DIGITS.read_bytes())
    pruned().save(folder / "small.keras")
    (folder / "run.json").write_text(pruned().to_json())
    x, y = digits()
    np.savez(folder / "test.npz", x=x, y=y)
    np.savez(folder / "bytes.npz", x=(16 * x).astype(np.uint8), y=y)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    return folder


def with_head(model: keras.Model, activation: str | None, loss: Any = None) -> keras.Model:
    """Copy a model of layers in a row, but for the activation of its last one."""
    copies = [
        type(layer).from_config(layer.get_config())
        for layer in model.layers
        if not isinstance(layer, layers.InputLayer)
    ]
    copies[-1].activation = keras.activations.get(activation)
    copy = keras.Sequential([keras.Input(model.input_shape[1:]), *copies], name=model.name)
    copy.set_weights(model.get_weights())
    if loss is not None:
        copy.compile("sgd", loss)
    return copy


def is_binary(model: keras.Model) -> bool:
    return bool(model.output_shape[-1] == 1)


def probabilities(model: keras.Model, x: NDArray[Any]) -> Floats:
    """Return a probability for every class, two of them for a sigmoid."""
    given = np.asarray(model.predict(x, verbose=0, batch_size=500), np.float64)
    if not is_binary(model):
        return given
    return np.concatenate([1.0 - given, given], axis=1)


def predicted(model: keras.Model, x: NDArray[Any]) -> NDArray[np.int64]:
    given = model.predict(x, verbose=0, batch_size=500)
    if is_binary(model):
        return np.asarray(given[:, 0] >= 0.5, np.int64)
    return np.asarray(np.argmax(given, axis=1))


def proportion(hits: NDArray[np.bool_]) -> dict[str, Any]:
    """Count, with Wilson's interval: where (share - p)**2 = z**2 p (1 - p) / samples."""
    samples, share = len(hits), float(np.mean(hits))
    z = statistics.NormalDist().inv_cdf(0.975)
    square = z * z / samples
    lower, upper = sorted(np.roots([1 + square, -(2 * share + square), share**2]).real)
    return {
        "count": int(hits.sum()),
        "samples": samples,
        "value": pytest.approx(share),
        "lower": pytest.approx(lower, abs=1e-6),
        "upper": pytest.approx(upper, abs=1e-6),
    }


def gradient_sign(model: keras.Model, x: NDArray[np.float32], y: NDArray[np.int64]) -> Floats:
    """Compute in float64, where a confident model's gradient does not vanish."""
    config = with_head(model, None).get_config()
    for layer in config["layers"]:
        layer["config"]["dtype"] = "float64"
    twin = keras.Sequential.from_config(config)
    twin.set_weights([np.asarray(weight, np.float64) for weight in model.get_weights()])
    moving = tf.Variable(np.asarray(x, np.float64))
    with tf.GradientTape() as tape:
        logits = twin(moving, training=False)
        if is_binary(model):
            wanted = tf.constant(y[:, None], tf.float64)
            loss = tf.nn.sigmoid_cross_entropy_with_logits(labels=wanted, logits=logits)
        else:
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
    return np.asarray(np.sign(tape.gradient(loss, moving).numpy()))


def moved(
    x: NDArray[np.float32], sign: Floats, epsilon: float, box: tuple[Any, Any] = (0.0, 1.0)
) -> NDArray[np.float32]:
    """Take the step of FGSM."""
    return np.asarray(np.clip(x + epsilon * sign, *box), np.float32)


def reliability(shares: Floats, y: NDArray[np.int64], bins: int) -> list[tuple[int, float, float]]:
    """Return for each bin (lower, upper] how many are in it, their accuracy and confidence."""
    confidence = shares.max(axis=1)
    correct = shares.argmax(axis=1) == y
    table = []
    for number in range(bins):
        inside = (confidence > number / bins) & (confidence <= (number + 1) / bins)
        count = int(inside.sum())
        means = [float(np.mean(part[inside])) if count else 0.0 for part in (correct, confidence)]
        table.append((count, means[0], means[1]))
    return table


def assert_quality(
    section: dict[str, Any],
    model: keras.Model,
    original: keras.Model | None,
    x: NDArray[Any],
    y: NDArray[np.int64],
) -> None:
    """Compare accuracy, top-5, agreement, NLL and Brier score."""
    quality, shares = section["quality"], probabilities(model, x)
    classes = shares.shape[1]
    one_hot = np.eye(classes)[y]
    assert quality["accuracy"] == proportion(predicted(model, x) == y)
    if classes > 5:
        best = np.argsort(-shares, axis=1)[:, :5]
        assert quality["top5"] == proportion(np.any(best == y[:, None], axis=1))
    else:
        assert quality["top5"] is None
    if original is None:
        assert quality["agreement"] is None
    else:
        assert quality["agreement"] == proportion(predicted(model, x) == predicted(original, x))
    likelihoods = np.sum(shares * one_hot, axis=1)
    assert quality["nll"] == pytest.approx(float(-np.log(likelihoods).mean()), rel=1e-4)
    squares = (shares - one_hot) ** 2
    brier = squares[:, 1] if classes == 2 else squares.sum(axis=1)
    assert quality["brier"] == pytest.approx(float(brier.mean()), rel=1e-4)


def assert_calibration(
    section: dict[str, Any], shares: Floats, y: NDArray[np.int64], bins: int
) -> None:
    """Compare ECE, MCE, both of their variants, and the reliability diagram."""
    found = section["calibration"]
    table = reliability(shares, y, bins)
    assert found["bins"] == len(found["reliability"]) == bins
    gaps, centre_gaps = [], []
    for number, (one, (count, accuracy, mean)) in enumerate(
        zip(found["reliability"], table, strict=True)
    ):
        centre = (number + 0.5) / bins
        assert one["center"] == pytest.approx(centre)
        assert (one["lower"], one["upper"]) == pytest.approx((number / bins, (number + 1) / bins))
        assert one["count"] == count
        if count:
            assert (one["accuracy"], one["confidence"]) == pytest.approx((accuracy, mean), abs=1e-6)
            assert one["gap"] == pytest.approx(accuracy - mean, abs=1e-6)
        else:
            assert (one["accuracy"], one["confidence"], one["gap"]) == (None, None, None)
        gaps.append((count, abs(accuracy - mean)))
        centre_gaps.append((count, abs(accuracy - centre)))
    for name, pairs in (("", gaps), ("_center", centre_gaps)):
        expected = sum(count * gap for count, gap in pairs) / len(y)
        assert found[f"ece{name}"] == pytest.approx(expected, abs=1e-6)
        largest, count = max((gap, count) for count, gap in pairs if count)
        assert found[f"mce{name}"] == pytest.approx(largest, abs=1e-6)
        if not name:
            assert found["mce_count"] == count
    assert found["accuracy"] == pytest.approx(float(np.mean(shares.argmax(axis=1) == y)))
    assert found["mean_confidence"] == pytest.approx(float(shares.max(axis=1).mean()), abs=1e-6)


def assert_robustness(
    document: dict[str, Any], models: list[keras.Model], x: NDArray[Any], y: NDArray[np.int64]
) -> None:
    """Compare robust instances by FGSM, white-box and transferred, and retention."""
    first = document["models"][0]["robustness"][0]["points"]
    signs = [gradient_sign(model, x, y) for model in models]
    for section, model, sign in zip(document["models"], models, signs, strict=True):
        outcome = section["robustness"][0]
        assert (outcome["attack"], outcome["kind"]) == ("FGSM", "fgsm")
        right = predicted(model, x) == y
        for point, whole in zip(outcome["points"], first, strict=True):
            epsilon = point["epsilon"]
            own = right & (predicted(model, moved(x, sign, epsilon)) == y)
            # Where a gradient is all but zero, float32 and float64 may disagree about its sign.
            assert abs(point["white_box"]["count"] - own.sum()) <= 1
            assert point["white_box"]["samples"] == len(y)
            assert point["zero_gradients"] == 0
            if section["role"] == "original":
                assert (point["transfer"], point["retention"]) == (None, None)
                continue
            transferred = right & (predicted(model, moved(x, signs[0], epsilon)) == y)
            assert abs(point["transfer"]["count"] - transferred.sum()) <= 1
            assert point["retention"] == pytest.approx(
                point["white_box"]["count"] / whole["white_box"]["count"]
            )


def assert_figures(
    document: dict[str, Any],
    models: list[keras.Model],
    x: NDArray[Any],
    y: NDArray[np.int64],
    *,
    bins: int = 15,
) -> None:
    """Compare everything that is measured on data; the first model is the original."""
    for number, (section, model) in enumerate(zip(document["models"], models, strict=True)):
        assert_quality(section, model, models[0] if number else None, x, y)
        assert_calibration(section, probabilities(model, x), y, bins)
    assert_robustness(document, models, x, y)


def assert_same_figures(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Compare what was measured; batches of another size may add up in another order."""
    for one, other in zip(ours["models"], theirs["models"], strict=True):
        for name in ("accuracy", "top5", "agreement"):
            assert one["quality"][name] == other["quality"][name]
        for name in ("nll", "brier"):
            assert one["quality"][name] == pytest.approx(other["quality"][name], rel=1e-5)
        for name in ("ece", "mce", "ece_center", "mce_center"):
            assert one["calibration"][name] == pytest.approx(other["calibration"][name], abs=1e-5)
        pairs = zip(one["robustness"], other["robustness"], strict=True)
        for first, second in pairs:
            assert first["parameters"] == second["parameters"]
            for left, right in zip(first["points"], second["points"], strict=True):
                assert left["epsilon"] == right["epsilon"]
                assert abs(left["white_box"]["count"] - right["white_box"]["count"]) <= 1
