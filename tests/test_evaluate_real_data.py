"""Evaluations on the data sets of the paper, where the fixture `data_folder` finds them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import keras
import nnprune
import numpy as np
import pytest
from evaluated import (
    assert_calibration,
    assert_quality,
    checked,
    gradient_sign,
    moved,
    predicted,
    probabilities,
)
from numpy.typing import NDArray

MODELS = Path(__file__).resolve().parents[1] / "benches" / "models"
layers = keras.layers


@functools.cache
def arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read a data set, which must be there."""
    if not path.is_file():
        pytest.skip(f"no data set {path}")
    with np.load(path) as data:
        return {name: data[name] for name in ("x_train", "y_train", "x_test", "y_test")}


def points(document: dict[str, Any], number: int) -> dict[float, dict[str, Any]]:
    """Return what the first attack did to a model, by epsilon."""
    outcome = document["models"][number]["robustness"][0]
    return {point["epsilon"]: point for point in outcome["points"]}


def assert_robust_instances(
    document: dict[str, Any],
    number: int,
    model: keras.Model,
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    box: tuple[Any, Any],
) -> None:
    """Compare FGSM at the largest epsilon with a direct computation."""
    epsilon, point = max(points(document, number).items())
    adversarial = moved(x, gradient_sign(model, x, y), epsilon, box)
    robust = (predicted(model, x) == y) & (predicted(model, adversarial) == y)
    # Where a gradient is all but zero, float32 and float64 may disagree about its sign.
    assert abs(point["white_box"]["count"] - robust.sum()) <= max(1, len(y) // 200)


@pytest.mark.parametrize(
    ("data", "name", "accuracy"),
    [("mnist", "mnist", 0.97), ("fashion_mnist", "fashion_batchnorm", 0.85)],
)
def test_images_of_28_by_28(data: str, name: str, accuracy: float, data_folder: Path) -> None:
    sets = arrays(data_folder / f"{data}.npz")
    x, y = sets["x_test"][:1000], sets["y_test"][:1000]
    model = keras.models.load_model(MODELS / f"{name}.keras", compile=False)
    small = nnprune.prune(MODELS / f"{name}.keras", target=0.25, step=1 / 4)
    document = checked(
        nnprune.evaluate(
            small,
            x,
            y,
            scale=1 / 255,
            original=MODELS / f"{name}.keras",
            attacks=[nnprune.FGSM((0.0, 0.01, 0.05))],
        )
    )
    assert document["data"]["samples"] == 1000
    assert document["warnings"] == []
    scaled, labels = (x / 255).astype(np.float32), y.astype(np.int64)
    scaled = scaled.reshape(-1, *model.input_shape[1:])
    for number, one in enumerate((model, small.model)):
        section = document["models"][number]
        assert_quality(section, one, model if number else None, scaled, labels)
        assert_calibration(section, probabilities(one, scaled), labels, 15)
        clean = section["quality"]["accuracy"]["count"]
        counts = [point["white_box"]["count"] for point in points(document, number).values()]
        assert counts[0] == clean > counts[1] > counts[2]
        assert_robust_instances(document, number, one, scaled, labels, (0.0, 1.0))
    assert document["models"][0]["quality"]["accuracy"]["value"] > accuracy
    # Inputs made for another model are weaker than the model's own.
    last = points(document, 1)[0.05]
    assert last["white_box"]["count"] <= last["transfer"]["count"]
    assert 0.0 < last["retention"] <= 1.05
    assert [section["robustness"][0]["flags"] for section in document["models"]] == [[], []]


def test_raw_images_are_refused_with_the_remedy(data_folder: Path) -> None:
    x, y = (arrays(data_folder / "mnist.npz")[name][:100] for name in ("x_test", "y_test"))
    with pytest.raises(nnprune.errors.DataError) as caught:
        nnprune.evaluate(MODELS / "mnist.keras", x, y)
    outside = int(np.sum(x > 1))
    assert f"{outside} values are outside the input box [0, 1]" in str(caught.value)
    assert "--scale 1/255" in str(caught.value)


def test_cifar10(data_folder: Path) -> None:
    """CIFAR-10 (JPEG), on which this model is right half the time."""
    sets = arrays(data_folder / "cifar10.npz")
    x, y = sets["x_test"][:100], sets["y_test"][:100]
    model = keras.models.load_model(MODELS / "cifar10.keras", compile=False)
    attacks: list[Any] = [nnprune.FGSM((0.0, 2 / 255)), nnprune.PGD(2 / 255)]
    document = checked(
        nnprune.evaluate(MODELS / "cifar10.keras", x, y, scale=1 / 255, attacks=attacks)
    )
    scaled, labels = (x / 255).astype(np.float32), y.astype(np.int64)
    (section,) = document["models"]
    assert_quality(section, model, None, scaled, labels)
    assert_calibration(section, probabilities(model, scaled), labels, 15)
    assert_robust_instances(document, 0, model, scaled, labels, (0.0, 1.0))
    assert section["quality"]["accuracy"]["value"] > 0.4
    assert section["calibration"]["sign"] == "over-confident"
    by_fgsm = points(document, 0)[2 / 255]["white_box"]["count"]
    by_pgd = section["robustness"][1]["points"][0]["white_box"]["count"]
    assert by_pgd <= by_fgsm < section["quality"]["accuracy"]["count"]


def trained(
    x: NDArray[np.float32], y: NDArray[Any], outputs: int, activation: str, loss: str
) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            layers.Dense(32, activation="relu"),
            layers.Dense(16, activation="relu"),
            layers.Dense(outputs, activation=activation),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(x, y, epochs=1, batch_size=128, verbose=0)
    model.compile("sgd", loss)  # without what Adam kept
    return model


def test_credit_card_frauds(data_folder: Path) -> None:
    """Two classes by one sigmoid, of which one has a fortieth of the samples."""
    sets = arrays(data_folder / "creditcard.npz")
    model = trained(sets["x_train"], sets["y_train"], 1, "sigmoid", "binary_crossentropy")
    x, y = sets["x_test"][:3000], sets["y_test"][:3000].astype(np.int64)
    bounds = (-5.0, 5.0)
    small = nnprune.prune(model, target=0.5, step=1 / 8, input_bounds=bounds)
    document = checked(
        nnprune.evaluate(
            small,
            x,
            sets["y_test"][:3000, None],
            original=model,
            input_bounds=bounds,
            attacks=[nnprune.FGSM((0.0, 0.1, 0.5))],
        )
    )
    layer = model.layers[-1].name
    assert document["head"] == {"kind": "sigmoid", "layer": layer, "outputs": 1}
    assert document["input_box"] == {"source": "given", "lower": -5.0, "upper": 5.0}
    for number, one in enumerate((model, small.model)):
        section = document["models"][number]
        assert_quality(section, one, model if number else None, x, y)
        assert_calibration(section, probabilities(one, x), y, 15)
        assert_robust_instances(document, number, one, x, y, bounds)
    assert document["models"][0]["quality"]["accuracy"]["value"] > 0.95
    with pytest.raises(nnprune.errors.DataError, match=r"outside the input box \[0, 1\]"):
        nnprune.evaluate(model, x, y)


def test_network_intrusions(data_folder: Path) -> None:
    """23 classes; 33 numbers, clipped, and 87 columns of 0 and 1: a box for each feature."""
    sets = arrays(data_folder / "kddcup99.npz")
    lower = np.where(np.arange(120) < 33, -10.0, 0.0)
    upper = np.where(np.arange(120) < 33, 10.0, 1.0)
    x_train, x_test = (
        np.clip(sets[name], lower, upper).astype(np.float32) for name in ("x_train", "x_test")
    )
    model = trained(
        x_train[:20000], sets["y_train"][:20000], 23, "softmax", "sparse_categorical_crossentropy"
    )
    x, y = x_test[:2000], sets["y_test"][:2000].astype(np.int64)
    bounds = (lower, upper)
    small = nnprune.prune(model, target=0.5, step=1 / 8, input_bounds=bounds)
    document = checked(
        nnprune.evaluate(
            small,
            x,
            y,
            original=model,
            input_bounds={"lower": lower, "upper": upper},
            attacks=[nnprune.FGSM((0.0, 0.05))],
        )
    )
    assert document["input_box"] == {"source": "given", "lower": -10.0, "upper": 10.0}
    assert document["head"]["outputs"] == 23
    for number, one in enumerate((model, small.model)):
        section = document["models"][number]
        assert_quality(section, one, model if number else None, x, y)
        assert_calibration(section, probabilities(one, x), y, 15)
        assert_robust_instances(document, number, one, x, y, bounds)
    assert document["models"][0]["quality"]["accuracy"]["value"] > 0.9
    # Not clipped, single values are far outside.
    with pytest.raises(nnprune.errors.DataError, match="which is narrower for some features"):
        nnprune.evaluate(model, sets["x_test"], sets["y_test"], input_bounds=bounds)
