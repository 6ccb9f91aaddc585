"""Whole prunings of real trained models, kept in benches/models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import nnprune
import numpy as np
import pytest

MODELS = Path(__file__).resolve().parents[1] / "benches" / "models"
METHODS = [nnprune.Annealing(), nnprune.Greedy(), nnprune.OneShot()]


def labelled_images(folder: Path, name: str, count: int, model: keras.Model) -> tuple[Any, Any]:
    """Return test images in the model's shape, in [0, 1], and their labels."""
    with np.load(folder / f"{name}.npz") as data:
        images, labels = data["x_test"][:count], data["y_test"][:count]
    images = (images / np.float32(255)).astype(np.float32)
    return images.reshape(len(images), *model.input_shape[1:]), labels


def accuracy(model: keras.Model, images: Any, labels: Any) -> float:
    predicted = np.argmax(model.predict(images, batch_size=500, verbose=0), axis=-1)
    return float(np.mean(predicted == labels))


def logits_of(model: keras.Model) -> keras.Model:
    """Return the model with its final softmax left out."""
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    clone.layers[-1].activation = keras.activations.linear
    return clone


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_the_mnist_model_is_halved_from_file_to_file(
    method: nnprune.options.Method, tmp_path: Path, data_folder: Path
) -> None:
    original = keras.saving.load_model(MODELS / "mnist.keras")
    images, labels = labelled_images(data_folder, "mnist", 2000, original)
    result = nnprune.prune(MODELS / "mnist.keras", target=0.5, step=1 / 64, method=method)
    smaller = keras.saving.load_model(result.save(tmp_path / "small.keras"))
    hidden = [layer.units for layer in smaller.layers if isinstance(layer, keras.layers.Dense)]
    assert hidden == [64, 64, 32, 10]
    assert [layer.name for layer in smaller.layers] == [layer.name for layer in original.layers]
    assert accuracy(original, images, labels) > 0.95
    assert accuracy(smaller, images, labels) > 0.6
    assert (tmp_path / "small.keras").stat().st_size < 0.6 * (MODELS / "mnist.keras").stat().st_size
    assert smaller.compiled == original.compiled


def test_sampled_differences_lie_in_the_reported_impact(data_folder: Path) -> None:
    original = keras.saving.load_model(MODELS / "mnist.keras")
    images, _ = labelled_images(data_folder, "mnist", 1000, original)
    result = nnprune.prune(original, target=0.25, step=1 / 64, input_bounds=(0, 1))
    ((lower, upper),) = result.impact.values()
    moved = logits_of(result.model).predict(images, verbose=0) - logits_of(original).predict(
        images, verbose=0
    )
    assert np.all(moved >= np.array(lower) - 1e-3)
    assert np.all(moved <= np.array(upper) + 1e-3)


def test_the_head_of_the_cifar10_network_is_halved(tmp_path: Path, data_folder: Path) -> None:
    original = keras.saving.load_model(MODELS / "cifar10.keras")
    assert original.count_params() == 753_866
    images, labels = labelled_images(data_folder, "cifar10", 500, original)
    result = nnprune.prune(MODELS / "cifar10.keras", target=0.5)
    smaller = keras.saving.load_model(result.save(tmp_path / "small.h5"))
    changed = {change.layer: change for change in result.layers}
    assert changed["hidden_1"].units_after == 256
    assert changed["hidden_2"].units_after == 64
    reasons = [change.reason for change in result.layers if change.layer.startswith("conv")]
    assert reasons == ["channels of convolutions are not pruned yet"] * 5
    before, after = accuracy(original, images, labels), accuracy(smaller, images, labels)
    assert after > 0.75 * before
    assert result.opaque == {}


def test_a_functional_model_with_batch_normalization(tmp_path: Path, data_folder: Path) -> None:
    original = keras.saving.load_model(MODELS / "fashion_batchnorm.keras")
    images, labels = labelled_images(data_folder, "fashion_mnist", 2000, original)
    result = nnprune.prune(MODELS / "fashion_batchnorm.keras", target=0.3, seed=1)
    smaller = keras.saving.load_model(result.save(tmp_path / "small.keras"))
    for change in result.layers:
        expected = change.units_before
        if change.reason is None:
            expected -= int(0.3 * change.units_before + 0.5)
        assert change.units_after == expected
    before, after = accuracy(original, images, labels), accuracy(smaller, images, labels)
    assert before > 0.85
    assert after > 0.6 * before


def test_the_trace_tells_what_annealing_did() -> None:
    result = nnprune.prune(MODELS / "mnist.keras", target=0.5, step=1 / 32, seed=3)
    removed = sum(epoch.removed for epoch in result.trace)
    assert removed == len(result.merges) == 64 + 64 + 32
    assert [epoch.temperature for epoch in result.trace] == sorted(
        (epoch.temperature for epoch in result.trace), reverse=True
    )
    # Candidates differ, so that annealing decides something: draws accept and refuse.
    assert sum(epoch.accepted_by_chance for epoch in result.trace) > 0
    assert sum(epoch.rejected for epoch in result.trace) > 0
    widths = [np.sum(np.subtract(epoch.impact_upper, epoch.impact_lower)) for epoch in result.trace]
    assert widths == sorted(widths)


def test_same_seed_same_model_other_seed_another() -> None:
    runs = [
        nnprune.prune(MODELS / "mnist.keras", target=0.5, seed=seed).model.get_weights()
        for seed in (0, 0, 1)
    ]
    same = [np.array_equal(a, b) for a, b in zip(runs[0], runs[1], strict=True)]
    other = [np.array_equal(a, b) for a, b in zip(runs[0], runs[2], strict=True)]
    assert all(same)
    assert not all(other)
