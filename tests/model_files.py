"""Real model files, and copies of them with one thing changed."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import pytest
from nnprune.errors import UntrustedModelError
from nnprune.keras_io.scan import look

Config = dict[str, Any]


def small_model() -> keras.Model:
    inputs = keras.Input((6, 6, 1), name="image")
    x = keras.layers.Conv2D(2, 3, activation="relu", name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Flatten(name="flat")(x)
    x = keras.layers.Dropout(0.1, seed=3, name="drop")(x)
    x = keras.layers.Dense(4, activation="relu", name="hidden")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="scores")(x))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def write_good_files(folder: Path) -> Path:
    """Write one model to `good.keras` and `good.h5` in a folder, and return that."""
    model = small_model()
    model.save(folder / "good.keras")
    model.save(folder / "good.h5")
    return folder


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def write_archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, contents in members.items():
            file.writestr(name, contents)
    return path


def with_config(archive: Path, path: Path, change: Callable[[Config], None]) -> Path:
    """Write a copy of a `.keras` file with another configuration."""
    members = members_of(archive)
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    return write_archive(path, members)


def with_attribute(hdf5: Path, path: Path, name: str, change: Callable[[Config], None]) -> Path:
    """Write a copy of an `.h5` file with another `model_config` or `training_config`."""
    path.write_bytes(hdf5.read_bytes())
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs[name])
        change(config)
        file.attrs[name] = json.dumps(config)
    return path


def with_weights(archive: Path, path: Path, change: Callable[[h5py.File], None]) -> Path:
    """Write a copy of a `.keras` file with other weights."""
    members = members_of(archive)
    buffer = io.BytesIO(members["model.weights.h5"])
    with h5py.File(buffer, "r+") as file:
        change(file)
    members["model.weights.h5"] = buffer.getvalue()
    return write_archive(path, members)


def layer(config: Config, name: str) -> Config:
    layers: list[Config] = config["config"]["layers"]
    return next(item for item in layers if item["config"]["name"] == name)


def refused(path: Path, *, trust: bool = False) -> str:
    """Return the message of the refusal, which must be one line that names the file."""
    with pytest.raises(UntrustedModelError) as caught:
        look(path, trust=trust)
    message = str(caught.value)
    assert message.isprintable()
    assert str(path) in message
    return message
