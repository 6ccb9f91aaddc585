"""The models of the papers' experiments, kept in benches/models: what their README says holds."""

from __future__ import annotations

import hashlib
import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import nnprune
import numpy as np
import pytest
from numpy.typing import NDArray

MODELS = Path(__file__).resolve().parents[1] / "benches" / "models"
README = (MODELS / "README.md").read_text(encoding="utf-8")

# name: the data set, and the box of its features
DATA = {
    "mnist": "mnist",
    "cifar10": "cifar10",
    "creditcard": "creditcard",
    "kdd": "kddcup99",
    "lenet300": "fashion_mnist",
}
# What the papers state: units of each hidden Dense layer, outputs, parameters.
STATED = {
    "mnist": ([128, 128, 64], 10, 125_898),
    "cifar10": ([512, 128], 10, 753_866),
    "creditcard": ([64, 64], 1, 6_145),
    "kdd": ([512, 256, 128, 64], 23, 235_927),
    "lenet300": ([300, 100], 10, 266_610),
}
NEW = ("creditcard", "kdd", "lenet300")


@dataclass(frozen=True, kw_only=True)
class Row:
    """What the README says of a file."""

    parameters: int
    bytes: int
    accuracy: float
    sha256: str
    weights_sha256: str


def row(name: str) -> Row:
    figures = re.search(
        rf"^\| `{name}\.keras` \|.*\| ([\d,]+) \| ([\d,]+) \| (0\.\d{{4}}) \|$", README, re.M
    )
    digests = re.search(
        rf"^\| `{name}\.keras` \| `([0-9a-f]{{64}})` \| `([0-9a-f]{{64}})` \|$", README, re.M
    )
    assert figures is not None, f"the README has no figures of {name}.keras"
    assert digests is not None, f"the README has no digests of {name}.keras"
    return Row(
        parameters=int(figures[1].replace(",", "")),
        bytes=int(figures[2].replace(",", "")),
        accuracy=float(figures[3]),
        sha256=digests[1],
        weights_sha256=digests[2],
    )


def loaded(name: str) -> keras.Model:
    return keras.saving.load_model(MODELS / f"{name}.keras")


def box(name: str) -> dict[str, NDArray[Any]]:
    with np.load(MODELS / f"{name}_box.npz") as arrays:
        return {end: arrays[end] for end in arrays.files}


def samples(name: str, folder: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the model's test samples within its box, and their labels."""
    path = folder / f"{DATA[name]}.npz"
    if not path.is_file():
        pytest.skip(f"no data set {path}")
    with np.load(path) as arrays:
        x, y = arrays["x_test"], arrays["y_test"]
    if x.dtype == np.uint8:
        x = x.astype(np.float32) / 255
    ends = box(name)
    return np.clip(x, ends["lower"], ends["upper"]), y


@pytest.mark.parametrize("name", STATED)
def test_the_file_is_what_the_readme_says(name: str) -> None:
    path, said = MODELS / f"{name}.keras", row(name)
    assert path.stat().st_size == said.bytes
    assert hashlib.sha256(path.read_bytes()).hexdigest() == said.sha256
    model = loaded(name)
    weights = hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights()))
    assert weights.hexdigest() == said.weights_sha256
    assert model.count_params() == said.parameters


@pytest.mark.parametrize("name", STATED)
def test_the_network_is_the_papers(name: str) -> None:
    hidden, outputs, parameters = STATED[name]
    model = loaded(name)
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert [layer.units for layer in dense] == [*hidden, outputs]
    assert {layer.activation.__name__ for layer in dense[:-1]} == {"relu"}
    assert dense[-1].activation.__name__ == ("sigmoid" if outputs == 1 else "softmax")
    assert model.count_params() == parameters
    assert model.compiled
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.001)
    loss = "binary_crossentropy" if outputs == 1 else "sparse_categorical_crossentropy"
    assert model.loss == loss


@pytest.mark.parametrize("name", NEW)
def test_there_are_no_optimizer_slots_in_the_file(name: str) -> None:
    said = row(name)
    assert said.bytes < 4 * said.parameters + 32_000


@pytest.mark.parametrize("name", STATED)
def test_the_box_has_the_shape_of_the_input(name: str) -> None:
    ends = box(name)
    assert set(ends) == {"lower", "upper"}
    assert ends["lower"].shape == ends["upper"].shape == loaded(name).input_shape[1:]
    widest = {"creditcard": (-5.0, 5.0), "kdd": (-10.0, 10.0)}.get(name, (0.0, 1.0))
    assert (ends["lower"].min(), ends["upper"].max()) == widest
    if name == "kdd":
        assert np.array_equal(ends["lower"] < 0, np.arange(120) < 33)
        assert np.array_equal(ends["upper"] > 1, np.arange(120) < 33)


@pytest.mark.parametrize("name", STATED)
def test_it_is_pruned_over_its_box(name: str) -> None:
    result = nnprune.prune(MODELS / f"{name}.keras", target=0.1, input_bounds=box(name))
    assert result.input_box == "given"
    hidden, _, parameters = STATED[name]
    gone = {units: int(0.1 * units + 0.5) for units in hidden}
    changes = [change for change in result.layers if change.reason is None]
    assert [change.units_before for change in changes] == hidden
    assert [change.units_after for change in changes] == [units - gone[units] for units in hidden]
    assert result.model.count_params() < parameters


def test_a_box_that_is_not_the_models_is_refused() -> None:
    with pytest.raises(nnprune.errors.BoundsError, match="do not fit"):
        nnprune.prune(MODELS / "kdd.keras", target=0.1, input_bounds=box("creditcard"))


@pytest.mark.parametrize("name", STATED)
def test_the_accuracy_is_the_readmes(name: str, data_folder: Path) -> None:
    x, y = samples(name, data_folder)
    scores = loaded(name).predict(x, batch_size=256, verbose=0)
    predicted = scores[:, 0] > 0.5 if scores.shape[1] == 1 else np.argmax(scores, axis=1)
    # 4 digits, and room for what another processor rounds differently
    assert np.mean(predicted == y) == pytest.approx(row(name).accuracy, abs=0.002)


@pytest.mark.parametrize(("name", "widest"), [("creditcard", 5.0), ("kdd", 398.0)])
def test_tables_are_read_clipped_to_the_box(
    name: str, widest: float, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (data_folder / f"{DATA[name]}.npz").is_file():
        pytest.skip(f"no data set {DATA[name]} in {data_folder}")
    monkeypatch.syspath_prepend(MODELS)
    monkeypatch.setenv("NNPRUNE_DATA", str(data_folder))
    table = importlib.import_module("datasets").load_for(name)
    ends = box(name)
    assert np.array_equal(table.lower, ends["lower"])
    assert np.array_equal(table.upper, ends["upper"])
    with np.load(data_folder / f"{DATA[name]}.npz") as arrays:
        raw = {key: arrays[key] for key in ("x_train", "y_train", "x_test", "y_test")}
    assert max(raw["x_train"].max(), raw["x_test"].max()) == pytest.approx(widest, abs=1)
    for part in ("train", "test"):
        x = getattr(table, f"x_{part}")
        assert x.dtype == np.float32
        assert np.all((x >= ends["lower"]) & (x <= ends["upper"]))
        moved = x != raw[f"x_{part}"]
        assert moved.mean() < 0.001
        assert not moved[:, 33:].any()  # one-hot, or nothing to clip
        assert np.array_equal(getattr(table, f"y_{part}"), raw[f"y_{part}"])


def test_frauds_are_found_as_the_readme_says(data_folder: Path) -> None:
    x, y = samples("creditcard", data_folder)
    scores = loaded("creditcard").predict(x, batch_size=256, verbose=0)[:, 0]
    fraud = y == 1
    above = scores[fraud][:, None] - scores[~fraud][None]
    auc = np.mean(above > 0) + np.mean(above == 0) / 2
    found, alarms = np.sum(fraud & (scores > 0.5)), np.sum(scores > 0.5)
    said = re.search(
        r"finds (\d+) of the (\d+) frauds.*?raises (\d+) false alarms.*?ROC AUC (0\.\d+)",
        README,
        re.S,
    )
    assert said is not None
    assert int(said[2]) == np.sum(fraud)
    assert found == pytest.approx(int(said[1]), abs=2)
    assert alarms - found == pytest.approx(int(said[3]), abs=2)
    assert auc == pytest.approx(float(said[4]), abs=0.002)


def test_a_classifier_is_trained_and_saved_beside_the_scripts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(MODELS))
    training = importlib.import_module("training")
    monkeypatch.setattr(training, "HERE", tmp_path)
    x = np.random.default_rng(0).random((96, 28, 28)).astype(np.float32)
    y = (x[:, 0, 0] > 0.5).astype(np.uint8)
    images = training.Images(x_train=x[:64], y_train=y[:64], x_test=x[64:], y_test=y[64:])
    training.train(importlib.import_module("train_mnist").build(), images, epochs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mnist.keras"]
    assert "parameters      125,898" in capsys.readouterr().out
