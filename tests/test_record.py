"""The record of a pruning travels in the smaller model's file."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import h5py
import keras
import nnprune
import numpy as np
import pytest
from keras_helpers import randomize
from keras_models import mlp
from nnprune import errors
from nnprune.keras_io.opened import input_box_of, open_model
from nnprune.keras_io.scan import look
from nnprune.record import Record, bounds_from_plain, bounds_to_plain


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> nnprune.PruningResult:
    path = tmp_path_factory.mktemp("models") / "model.keras"
    randomize(mlp()).save(path)
    return nnprune.prune(path, target=0.5, input_bounds=(-1.0, 1.0))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_it_is_in_the_file_and_stock_keras_loads_that(
    result: nnprune.PruningResult, tmp_path: Path, suffix: str
) -> None:
    path = result.save(tmp_path / f"small{suffix}")
    x = np.ones((2, 5), np.float32)
    np.testing.assert_array_equal(keras.saving.load_model(path)(x), result.model(x))
    text = open_model(path, trust=False).record
    assert text == result.record.to_json()
    record = Record.from_json(text, label="small")
    assert record.sha256 == result.source.sha256
    assert record.weights_sha256 == result.source.weights_sha256
    assert record.input_source == "given"
    pairs = [(layer, *pair) for layer, found in record.merges.items() for pair in found]
    merges = [(merge.layer, merge.nominee, merge.delegate) for merge in result.merges]
    assert sorted(pairs) == sorted(merges)
    after = {change.layer: change.units_after for change in result.layers}
    assert {layer: len(kept) for layer, kept in record.kept.items()} == {
        layer: after[layer] for layer in record.units
    }


def test_it_is_where_keras_does_not_look(result: nnprune.PruningResult, tmp_path: Path) -> None:
    result.save(tmp_path / "small.keras")
    with zipfile.ZipFile(tmp_path / "small.keras") as archive:
        first = archive.getinfo("nnprune.json")
        assert first.compress_size < 400
        assert json.loads(archive.read("nnprune.json"))["kind"] == "nnprune-record"
    result.save(tmp_path / "again.keras")
    with zipfile.ZipFile(tmp_path / "again.keras") as archive:
        second = archive.getinfo("nnprune.json")
    assert (first.CRC, first.date_time) == (second.CRC, second.date_time)
    result.save(tmp_path / "small.h5")
    with h5py.File(tmp_path / "small.h5") as file:
        assert json.loads(file.attrs["nnprune"])["schema_version"] == 1


def test_what_keras_saves_anew_has_none(result: nnprune.PruningResult, tmp_path: Path) -> None:
    result.save(tmp_path / "small.keras")
    keras.saving.load_model(tmp_path / "small.keras").save(tmp_path / "anew.keras")
    assert look(tmp_path / "anew.keras").record is None


def test_the_weights_have_one_fingerprint_in_every_format(tmp_path: Path) -> None:
    model = randomize(mlp())
    found = {nnprune.prune(model, target=0.5).source.weights_sha256}
    for name in ("a.keras", "a.h5"):
        model.save(tmp_path / name)
        found.add(nnprune.prune(tmp_path / name, target=0.5).source.weights_sha256)
    assert len(found) == 1


def test_the_json_of_a_pruning_gives_the_same_record(result: nnprune.PruningResult) -> None:
    plain = json.loads(result.to_json())
    assert Record.of_pruning(plain, label="run.json").to_json() == result.record.to_json()


@pytest.mark.parametrize(
    ("lower", "shortest"),
    [
        (np.full((4, 3, 2), -1.5), -1.5),
        (np.broadcast_to([0.0, 1.0], (4, 3, 2)).copy(), [0.0, 1.0]),
        (np.arange(6.0).reshape(3, 2), [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]),
        (np.array([0.1, 0.2]), [0.1, 0.2]),
    ],
)
def test_boxes_are_written_shortly(lower: np.ndarray, shortest: object) -> None:
    plain = bounds_to_plain({"x": (lower, lower + 1.0)})
    assert plain[0]["lower"] == shortest
    first, second = bounds_from_plain(json.loads(json.dumps(plain)))["x"]
    np.testing.assert_array_equal(np.broadcast_to(first, lower.shape), lower)
    np.testing.assert_array_equal(np.broadcast_to(second, lower.shape), lower + 1.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"kind": "nnprune-record"}',
        '{"kind": "nnprune-record", "schema_version": 1}',
        '{"kind": "nnprune-record", "schema_version": 9}',
        "[" * 100_000,
    ],
)
def test_a_damaged_record_is_said(text: str) -> None:
    with pytest.raises(errors.DataError, match=r"small.keras: its record"):
        Record.from_json(text, label="small.keras")


@pytest.mark.parametrize(
    "change", [{"merges": {"dense": [[0, -1]]}}, {"units": {}}, {"input_bounds": 3}]
)
def test_a_tampered_record_is_said(
    result: nnprune.PruningResult, change: dict[str, object]
) -> None:
    text = json.dumps({**json.loads(result.record.to_json()), **change})
    with pytest.raises(errors.DataError, match="damaged"):
        Record.from_json(text, label="small.keras")


def test_other_members_are_still_refused(result: nnprune.PruningResult, tmp_path: Path) -> None:
    path = result.save(tmp_path / "small.keras")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other.json", "{}")
    with pytest.raises(errors.UntrustedModelError, match=r"other\.json"):
        look(path)


def test_infinite_sides_name_the_layers_without_a_bound() -> None:
    opened = open_model(randomize(mlp()), trust=False)
    first, second, third = (layer.name for layer in opened.model.layers)
    with pytest.raises(errors.BoundsError, match="must be finite") as caught:
        input_box_of(opened, (0.0, np.inf))
    assert f"no finite bound: '{first}', '{second}'" in str(caught.value)
    assert third not in str(caught.value)  # it reads a tanh
    with pytest.raises(errors.BoundsError, match=r"finite$"):
        input_box_of(opened, (0.0, np.nan))
