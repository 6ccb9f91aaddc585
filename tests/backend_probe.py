"""What one backend of Keras computes; `KERAS_BACKEND=jax python backend_probe.py FOLDER`.

Run with the backend `numpy` it writes what that can do instead: it computes no gradients.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import nnprune
import numpy as np
from keras import ops
from nnprune import gradients
from nnprune.attacks.gradient_sign import Attacker, RandomStarts
from nnprune.errors import BackendError
from nnprune.keras_io.logits import logits_model
from numpy.typing import NDArray

__all__ = ["ARRAYS", "EPSILON", "FINDINGS", "IMAGES", "digits", "measure"]

DIGITS = Path(str(resources.files("nnprune") / "demo_files" / "digits.keras"))
ARRAYS, FINDINGS = "arrays.npz", "findings.json"
EPSILON = 0.05
IMAGES = 64
ATTACKS = (
    nnprune.FGSM((0.0, 0.01, EPSILON)),
    nnprune.PGD(EPSILON, seed=3),
    nnprune.PGD(EPSILON, steps=4, random_start=False),
)

Arrays = dict[str, NDArray[Any]]


def digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the test images and labels that ship in the package."""
    with np.load(DIGITS.with_name("digits.npz")) as data:
        return data["x_test"].astype(np.float32) / 16, data["y_test"].astype(np.int64)


def measure() -> tuple[Arrays, dict[str, Any]]:
    """Compute all that is compared between the backends that differentiate."""
    return {**products(), **attacked()}, {"evaluation": evaluated(), "pruning": pruned()}


def products() -> Arrays:
    """Differentiate a network whose training and inference differ, before and after a change."""
    random = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            keras.layers.Conv2D(3, 3, padding="same", activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.MaxPooling2D(),
            keras.layers.Dropout(0.5),
            keras.layers.Flatten(),
            keras.layers.Dense(5, activation="softplus"),
        ]
    )
    for weight in model.weights:
        least = 0.1 if weight.name == "moving_variance" else -0.5
        weight.assign(random.uniform(least, 0.5, weight.shape))
    x = ops.convert_to_tensor(random.normal(size=(4, 8, 8, 2)), dtype="float32")
    vector = ops.convert_to_tensor(random.normal(size=(4, 5)), dtype="float32")

    def product(x: Any, vector: Any) -> Any:
        return gradients.vjp(lambda at: model(at, training=False), x, vector)

    value, gradient = product(x, vector)
    compiled = gradients.compiled(product, model)
    compiled_value, compiled_gradient = compiled(x, vector)
    model.layers[-1].set_weights([0.5 * weight for weight in model.layers[-1].get_weights()])
    changed_value, changed_gradient = compiled(x, vector)
    found = {
        "value": value,
        "gradient": gradient,
        "compiled_value": compiled_value,
        "compiled_gradient": compiled_gradient,
        "changed_value": changed_value,
        "changed_gradient": changed_gradient,
    }
    return {name: gradients.to_numpy(tensor) for name, tensor in found.items()}


def attacked() -> Arrays:
    """Attack images where the inputs are moved by NumPy, and where by the backend."""
    x, y = (part[:IMAGES] for part in digits())
    model = logits_model(keras.saving.load_model(DIGITS, compile=False)).model
    (start,) = RandomStarts(5, 1).draw(x.shape)
    found: Arrays = {}
    for place, kind in {"host": "CPU", "device": "GPU"}.items():
        with patch("nnprune.attacks.gradient_sign.devices", return_value=[kind]):
            attacker = Attacker(model, 0.0, 1.0)
        made = {
            "fgsm": attacker.fgsm(x, y, [EPSILON])[0],
            "pgd": attacker.pgd(x, y, EPSILON, steps=7)[0],
            "pgd_random": attacker.pgd(x, y, EPSILON, steps=7, start=start)[0],
            "predicted": attacker.predictions(x)[0],
        }
        found |= {f"{place}_{name}": gradients.to_numpy(moved) for name, moved in made.items()}
    return found


def evaluated() -> dict[str, Any]:
    """Evaluate a model that was pruned without being watched, in batches that do not divide."""
    small = nnprune.prune(DIGITS, target=0.5)
    found = nnprune.evaluate(small, *digits(), original=DIGITS, attacks=ATTACKS, batch_size=128)
    return found.to_dict()


def pruned() -> dict[str, Any]:
    """Watch a pruning."""
    result = nnprune.prune(DIGITS, target=0.5, step=1 / 8, evaluate=digits(), attacks=ATTACKS[:2])
    x, y = digits()
    correct = np.argmax(gradients.to_numpy(result.model(x)), axis=1) == y
    return {**result.to_dict(), "correct": int(correct.sum())}


class Batches:
    """Samples that count how often they are read."""

    def __init__(self) -> None:
        self.reads = 0

    def __iter__(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        self.reads += 1
        x, y = digits()
        yield x[:300], y[:300]
        yield x[300:], y[300:]


def without_gradients() -> dict[str, Any]:
    """Do what needs no gradients; what does must be refused before the samples are read."""
    watched = nnprune.prune(DIGITS, target=0.5, step=1 / 8, evaluate=Batches(), attacks=())
    evaluation = nnprune.evaluate(watched, *digits(), original=DIGITS, attacks=())
    samples, epochs = Batches(), list[Any]()
    refused = []
    for attacks in (ATTACKS[:1], ATTACKS[1:], None):
        for work in (
            lambda attacks=attacks: nnprune.evaluate(DIGITS, samples, attacks=attacks),
            lambda attacks=attacks: nnprune.prune(
                DIGITS, target=0.5, evaluate=samples, attacks=attacks, on_epoch=epochs.append
            ),
        ):
            try:
                work()
            except BackendError as error:
                refused.append(str(error))
    return {
        "evaluation": evaluation.to_dict(),
        "pruning": watched.to_dict(),
        "refused": refused,
        "reads": samples.reads,
        "epochs": len(epochs),
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    if keras.config.backend() == "numpy":
        findings = without_gradients()
    else:
        arrays, findings = measure()
        with (folder / ARRAYS).open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
    (folder / FINDINGS).write_text(json.dumps(findings, allow_nan=False))
