"""Evaluations on data of every form: the form makes no difference, nor does how they are cut."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import nnprune
import numpy as np
import pytest
import tensorflow as tf
from evaluated import DIGITS, EPSILONS, assert_same_figures, checked, digits, write_files
from nnprune.attacks.options import Attack
from numpy.typing import NDArray
from PIL import Image

layers = keras.layers

ATTACKS: list[Attack] = [nnprune.FGSM((0.0, *EPSILONS)), nnprune.PGD(0.05, steps=5)]


def bare(document: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is different every time."""
    provenance = {**document["provenance"], "date": "", "evaluation_seconds": 0.0}
    return {**document, "provenance": provenance}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("evaluate"))


def attacked(model: Any, *data: Any, **options: Any) -> dict[str, Any]:
    return checked(nnprune.evaluate(model, *data, attacks=ATTACKS, **options))


def test_batches_make_no_difference(folder: Path) -> None:
    x, y = digits()[0][:30], digits()[1][:30]
    options: dict[str, Any] = {"original": folder / "model.keras"}
    whole = attacked(folder / "small.keras", x, y, **options)
    for size in (1, 7):
        found = attacked(folder / "small.keras", x, y, batch_size=size, **options)
        assert_same_figures(found, whole)


def test_the_same_figures_twice(folder: Path) -> None:
    options: dict[str, Any] = {"original": folder / "model.keras"}
    first, second = (
        attacked(folder / "small.keras", folder / "test.npz", **options) for _ in range(2)
    )
    assert bare(first) == bare(second)
    assert first["data"]["source"] == "test.npz"
    assert first["data"]["sha256"] == hashlib.sha256((folder / "test.npz").read_bytes()).hexdigest()


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Samples as Keras takes them."""

    def __init__(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        super().__init__()
        self.x, self.y = x, y

    def __len__(self) -> int:
        return math.ceil(len(self.x) / 100)

    def __getitem__(self, number: int) -> tuple[NDArray[Any], NDArray[Any]]:
        part = slice(100 * number, 100 * (number + 1))
        return self.x[part], self.y[part]


def test_the_form_of_the_data_makes_no_difference(folder: Path) -> None:
    x, y = digits()

    def generated() -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        for start in range(0, len(x), 37):
            yield x[start : start + 37], y[start : start + 37]

    forms: dict[str, tuple[Any, ...]] = {
        "npz": (folder / "test.npz",),
        "npy": (f"{folder / 'x.npy'},{folder / 'y.npy'}",),
        "generator": (generated(),),
        "tf.data": (tf.data.Dataset.from_tensor_slices((x, y)).batch(64),),
        "keras": (Batches(x, y),),
        "images": (x.reshape(-1, 8, 8, 1), y[:, None]),
        "double": (x.astype(np.float64), y.astype(np.float64)),
        "small": (x.astype(np.float16), np.eye(10, dtype=bool)[y]),  # sixteenths fit
    }
    whole = attacked(folder / "small.keras", x, y)
    for name, data in forms.items():
        found = attacked(folder / "small.keras", *data)
        assert found["models"] == whole["models"], name
        assert found["data"]["samples"] == 450


def test_a_folder_of_images(tmp_path: Path) -> None:
    x, y = digits()
    order = np.argsort(y, kind="stable")[::3]
    pixels, labels = np.rint(255 * x[order]).astype(np.uint8).reshape(-1, 8, 8), y[order]
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        (tmp_path / str(label)).mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / str(label) / f"{number:04}.png")
    flat = keras.models.load_model(DIGITS)
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), *flat.layers])
    found = attacked(model, tmp_path)
    assert found["data"]["source"] == tmp_path.name
    assert found["data"]["scale"] == pytest.approx(1 / 255)
    assert_same_figures(found, attacked(model, pixels, labels, scale=1 / 255))


def test_scale_and_offset(folder: Path) -> None:
    x, y = digits()
    raw = (x * 16).astype(np.uint8)
    found = attacked(folder / "small.keras", raw, y, scale=1 / 16)
    assert found["models"] == attacked(folder / "small.keras", x, y)["models"]
    assert (found["data"]["scale"], found["data"]["offset"]) == (1 / 16, None)
    moved = attacked(folder / "small.keras", raw, y, scale=1 / 8, offset=-1, input_bounds=(-1, 1))
    assert moved["input_box"] == {"source": "given", "lower": -1.0, "upper": 1.0}
    assert moved["data"]["offset"] == -1.0
    centred = attacked(folder / "small.keras", 2 * x - 1, y, input_bounds=(-1, 1))
    assert moved["models"] == centred["models"]


def test_memory_does_not_grow_with_the_data() -> None:
    code = """
import resource
import keras, nnprune, numpy as np

model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10, activation="softmax")])
random = np.random.default_rng(0)

def batches(count):
    for _ in range(count):
        yield random.random((256, 784), np.float32), random.integers(0, 10, 256)

def peak(count):
    found = nnprune.evaluate(model, batches(count), original=model, attacks=[nnprune.FGSM(0.1)])
    assert found.document["data"]["samples"] == 256 * count
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

few = peak(20)
print(peak(150) - few)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # 120 MB of samples went through.
    assert float(done.stdout.splitlines()[-1]) < 40.0
