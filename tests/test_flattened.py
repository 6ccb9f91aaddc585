"""Vectors that are images in a row, told by the first layer's weights."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import keras
import numpy as np
import pytest
from nnprune.keras_io.opened import open_model
from nnprune.synthetic.flattened import flattened_image

MODELS = Path(__file__).resolve().parents[1] / "benches" / "models"
DIGITS = Path(str(resources.files("nnprune") / "demo_files" / "digits.keras"))


def found(model: keras.Model | Path) -> tuple[int, int, int] | None:
    network = open_model(model, trust=False).graph.network
    length = int(np.prod(network.nodes[0].shape))
    return flattened_image(network, network.inputs[0], length)


def dense(kernel: np.ndarray) -> keras.Model:
    model = keras.Sequential([keras.Input((len(kernel),)), keras.layers.Dense(kernel.shape[1])])
    model.layers[0].set_weights([kernel, np.zeros(kernel.shape[1])])
    return model


def first_kernel(path: Path) -> np.ndarray:
    model = keras.saving.load_model(path, compile=False)
    layer = next(layer for layer in model.layers if isinstance(layer, keras.layers.Dense))
    return np.asarray(layer.get_weights()[0])


@pytest.mark.parametrize(
    ("path", "side"),
    [
        (DIGITS, 8),
        (MODELS / "mnist.keras", 28),
        (MODELS / "lenet300.keras", 28),
        (MODELS / "fashion_batchnorm.keras", 28),
    ],
    ids=lambda value: getattr(value, "stem", str(value)),
)
def test_pixels_are_known_by_their_neighbours(path: Path, side: int) -> None:
    kernel = first_kernel(path)
    assert found(dense(kernel)) == (side, side, 1)
    shuffled = np.random.default_rng(0).permutation(kernel)
    assert found(dense(shuffled)) is None


def test_colours_are_channels() -> None:
    random = np.random.default_rng(1)
    smooth = random.standard_normal((12, 12, 1, 40)).cumsum(axis=0).cumsum(axis=1)
    kernel = np.broadcast_to(smooth, (12, 12, 3, 40)) + random.standard_normal((12, 12, 3, 40))
    assert found(dense(kernel.reshape(-1, 40))) == (12, 12, 3)


@pytest.mark.parametrize("seed", range(20))
def test_untrained_weights_are_no_image(seed: int) -> None:
    kernel = np.random.default_rng(seed).uniform(-0.1, 0.1, (144, 32))
    assert found(dense(kernel)) is None


@pytest.mark.parametrize("name", ["creditcard", "kdd"])
def test_tables_are_no_images(name: str) -> None:
    assert found(MODELS / f"{name}.keras") is None


def test_constant_and_zero_weights_are_no_image() -> None:
    assert found(dense(np.zeros((64, 4)))) is None
    assert found(dense(np.ones((64, 4)))) is None


def test_convolutions_do_not_tell() -> None:
    assert found(MODELS / "cifar10.keras") is None
