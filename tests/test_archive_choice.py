"""Which files are read without Keras: those of which all is known, and no others."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import keras
import nnprune
import numpy as np
import pytest
from archive_models import PLAIN
from archives import differences
from keras_helpers import randomize
from keras_models import ARCHITECTURES
from nnprune.keras_io import archive_choice
from nnprune.keras_io.archive_choice import KNOWN_VERSIONS, may_do_without_keras
from nnprune.keras_io.archive_graph import is_plain_model
from nnprune.keras_io.archive_read import ArchivedWeights, read_archived_model
from nnprune.keras_io.config import read_config
from nnprune.keras_io.graph import read_network
from nnprune.keras_io.opened import OpenedModel, open_model, smaller_model
from nnprune.keras_io.save import save_model
from nnprune.keras_io.scan import ModelFile, fingerprint, look

DIGITS = Path(nnprune.__file__).parent / "demo_files" / "digits.keras"


@pytest.fixture(autouse=True)
def _as_if_keras_were_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(archive_choice, "_keras_is_loaded", lambda: False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)


def opened(path: Path, *, trust: bool = False) -> OpenedModel:
    return open_model(path, trust=trust, without_keras=True)


def chosen(path: Path = DIGITS, *, trust: bool = False) -> bool:
    return may_do_without_keras(look(path, trust=trust), trust=trust)


def test_the_version_installed_is_one_that_was_compared_with() -> None:
    """Add it to KNOWN_VERSIONS once `tests/test_archive.py` passes with it."""
    assert version("keras") in KNOWN_VERSIONS
    assert chosen()


def test_other_versions_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_choice, "version", lambda _: "3.16.0")
    assert not chosen()


def test_a_home_that_nobody_has_is_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", "~nobody-of-this-name/keras")
    assert chosen()  # as for Keras: there are no settings at that place


def test_keras_does_it_where_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert keras.__version__
    assert not chosen()


def test_trusted_files_and_other_formats_are_left_to_keras(tmp_path: Path) -> None:
    assert not chosen(trust=True)
    path = tmp_path / "model.h5"
    randomize(ARCHITECTURES["mlp"]()).save(path)
    assert not chosen(path)
    assert opened(path).archived is None


def test_the_switch_asks_for_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNPRUNE_ALWAYS_KERAS", "1")
    assert not chosen()
    monkeypatch.setenv("NNPRUNE_ALWAYS_KERAS", "")
    assert chosen()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"backend": "tensorflow", "floatx": "float32"}', True),
        ("{}", True),
        ('{"floatx": "float64"}', False),
        ('{"backend": "jax"}', False),
        ('{"image_data_format": "channels_first"}', False),
        ("not JSON", False),
        ("[]", False),
    ],
)
def test_settings_of_keras_that_change_what_it_writes(
    text: str, expected: bool, tmp_path: Path
) -> None:
    (tmp_path / "keras.json").write_text(text)
    assert chosen() is expected


def test_other_backends_store_other_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert not chosen()
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert chosen()


def repacked(
    path: Path,
    target: Path,
    *,
    config: dict[str, Any] | None = None,
    weights: Callable[[h5py.File], None] | None = None,
) -> Path:
    """Write a file with another configuration, or with changed weights."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json" and config is not None:
                content = json.dumps(config).encode()
            if name == "model.weights.h5" and weights is not None:
                image = io.BytesIO(content)
                with h5py.File(image, "a") as stored:
                    weights(stored)
                content = image.getvalue()
            new.writestr(name, content)
    return target


def _replace(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(stored: h5py.File) -> None:
        del stored[name]
        stored[name] = value

    return change


def _emptied(name: str) -> Callable[[h5py.File], None]:
    def change(stored: h5py.File) -> None:
        del stored[name]
        stored.create_group(name)

    return change


STORED: dict[str, Callable[[h5py.File], None]] = {
    "a weight too many": lambda stored: stored.create_dataset("layers/dense/vars/2", data=[1.0]),
    "a group too many": lambda stored: stored.create_group("layers/dense_9"),
    "something beside the layers": lambda stored: stored.create_group("metrics"),
    "something within a layer": lambda stored: stored.create_group("layers/dense/lora"),
    "no weights of a layer": lambda stored: stored.__delitem__("layers/dense_1"),
    "no weights": lambda stored: stored.__delitem__("layers"),
    "a weight too few": lambda stored: stored.__delitem__("layers/dense/vars/1"),
    "float64": _replace("layers/dense/vars/1", np.zeros(128)),
    "float16": _replace("layers/dense/vars/1", np.zeros(128, np.float16)),
    "other bytes": _replace("layers/dense/vars/1", np.zeros(128, ">f4")),
    "no values": _replace("layers/dense/vars/1", h5py.Empty("<f4")),
    "another shape": _replace("layers/dense/vars/1", np.zeros(127, np.float32)),
    "an attribute": lambda stored: stored["layers/dense/vars/0"].attrs.update(dtype="bfloat16"),
    "another learning rate": _replace("optimizer/vars/1", np.float32(0.5)),
    "no learning rate": lambda stored: stored.__delitem__("optimizer/vars/1"),
    "a data set where weights are": _replace("layers/dense/vars", np.zeros(3, np.float32)),
    "a data set where a layer is": _replace("layers/dense", np.zeros(3, np.float32)),
    "a data set where the optimizer is": _replace("optimizer", np.zeros(3, np.float32)),
    "a data set where its variables are": _replace("optimizer/vars", np.zeros(3, np.float32)),
    "a group where the learning rate is": _emptied("optimizer/vars/1"),
    "a group where a weight is": _emptied("layers/dense/vars/1"),
    "weights of the model itself": lambda stored: stored.create_dataset("vars/0", data=[1.0]),
    "more of the optimizer": lambda stored: stored.create_group("optimizer/inner"),
}


@pytest.mark.parametrize("what", sorted(STORED))
def test_unusual_weights_are_left_to_keras(what: str, tmp_path: Path) -> None:
    file = look(repacked(DIGITS, tmp_path / "changed.keras", weights=STORED[what]))
    archived = read_archived_model(file)
    if archived is not None and file.config is not None:
        graph = read_network(read_config(file.config), ArchivedWeights(archived))
        assert not archived.fits(graph)


def test_a_model_without_its_optimizer_has_a_new_one(tmp_path: Path) -> None:
    path = repacked(
        DIGITS, tmp_path / "changed.keras", weights=lambda stored: stored.__delitem__("optimizer")
    )
    assert rewritten_differences(path, tmp_path) == []


def test_a_file_that_changes_meanwhile_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    shutil.copy(DIGITS, path)
    file = look(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("nnprune.json", "{}")
    with pytest.raises(nnprune.errors.FileFormatError, match="changed since"):
        read_archived_model(file)


# Every entry of a configuration in turn becomes each of these.
_VALUES: tuple[Any, ...] = (None, True, False, 0, 2, -1, 0.5, 1.5, "other", "same", [2, 2])


@dataclass(frozen=True)
class Change:
    """Another value for one entry of a configuration; `_GONE` leaves it out."""

    where: str
    place: tuple[Any, ...]
    value: Any

    def made(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the configuration with this change."""
        changed = copy.deepcopy(config)
        owner = _at(changed, self.place[:-1])
        if self.value is _GONE:
            del owner[self.place[-1]]
        else:
            owner[self.place[-1]] = self.value
        return changed


_GONE = object()


def changes(config: dict[str, Any]) -> Iterator[list[Change]]:
    """Give for one entry after the other what else might stand there, in any file.

    What all layers of a class have in common, or all layers, is changed in one of them only.
    """
    seen = set()
    for place in _places(config, ()):
        where = _in_general(config, place)
        if where in seen:
            continue
        seen.add(where)
        old = _at(config, place)
        values = [one for one in _VALUES if type(one) is not type(old) or one != old]
        found = [Change(where, place, value) for value in (*values, _GONE)]
        if isinstance(old, dict):
            found.append(Change(f"{where}/more", (*place, "more"), None))
        yield found


def _places(value: Any, place: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, entry in entries:
        yield (*place, key)
        if isinstance(entry, dict | list):
            yield from _places(entry, (*place, key))


def _at(config: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        config = config[key]
    return config


def _in_general(config: dict[str, Any], place: tuple[Any, ...]) -> str:
    """Name a place; of layers by their class, or without it what they all have alike."""
    if len(place) > 3 and place[:2] == ("config", "layers"):
        kind, inside = _at(config, place[:3])["class_name"], place[3:]
        alike = inside[0] == "inbound_nodes" or any(
            inside[1:2] == (f"{part}{what}",)
            for part in ("", "kernel_", "bias_", "beta_", "gamma_")
            for what in ("dtype", "initializer", "regularizer")
        )
        place = ("layer" if alike and len(inside) > 2 else kind, *inside)
    return "/".join(map(str, place))


def read_without_keras(file: ModelFile, changed: Path, config: dict[str, Any]) -> bool:
    """Whether the package would read the file that has another configuration."""
    if not is_plain_model(config):
        return False
    repacked(file.path, changed, config=config)
    archived = read_archived_model(
        replace(file, path=changed, config=copy.deepcopy(config), sha256=fingerprint(changed))
    )
    if archived is None:
        return False
    with contextlib.suppress(nnprune.errors.NnpruneError):  # Keras finds it, too
        return archived.fits(read_network(read_config(config), ArchivedWeights(archived)))
    return False


def rewritten_differences(path: Path, folder: Path) -> list[str]:
    """Write a file again, that the package must read, and compare with what Keras writes."""
    own = opened(path)
    assert own.archived is not None
    by_keras = open_model(path, trust=False)
    files = [folder / "own.keras", folder / "keras.keras"]
    for one, file in zip((own, by_keras), files, strict=True):
        save_model(smaller_model(one, own.graph.network, {}).model, file, overwrite=True)
    return differences(*files)


def everything() -> keras.Model:
    """Build a small model of most that is known, compiled."""
    layers = keras.layers
    source, other = keras.Input((6, 4), name="source"), keras.Input((3,), name="other")
    hidden = layers.Conv1D(3, 2, name="conv")(layers.ZeroPadding1D(1)(source))
    hidden = layers.BatchNormalization()(hidden)
    hidden = layers.Flatten()(layers.MaxPooling1D(2)(hidden))
    joined = layers.Concatenate()(
        [hidden, layers.Dropout(0.1)(layers.Dense(2)(other), training=False)]
    )
    joined = layers.LayerNormalization()(layers.Dense(4, kernel_regularizer="l2")(joined))
    model = keras.Model([source, other], layers.Dense(2, activation="softmax")(joined))
    model.compile("sgd", keras.losses.CategoricalCrossentropy(), metrics=["accuracy"])
    return model


@pytest.mark.parametrize("name", ["functional", "sequential"])
def test_every_other_entry_is_either_left_to_keras_or_written_alike(
    name: str, tmp_path: Path
) -> None:
    """Change the description of a model in every place; Keras has the last word on what is kept."""
    model = everything() if name == "functional" else PLAIN["trained_sgd"]()
    path = tmp_path / "model.keras"
    randomize(model).save(path)
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    assert is_plain_model(config)
    file, changed = look(path), tmp_path / "changed.keras"
    accepted = [
        [one for one in each if read_without_keras(file, changed, one.made(config))]
        for each in changes(config)
    ]
    assert sum(map(len, accepted)) > 20  # else there is nothing to see
    for number in range(max(map(len, accepted))):
        # As many changes at once as go together: Keras takes its time for every model.
        several, made = config, []
        for each in accepted:
            for one in each[number : number + 1]:
                # What it changes may have gone with another change.
                with contextlib.suppress(LookupError, TypeError):
                    if read_without_keras(file, changed, one.made(several)):
                        several = one.made(several)
                        made.append(f"{one.where} = {one.value!r}")
        repacked(path, changed, config=several)
        assert rewritten_differences(changed, tmp_path) == [], made
