"""Size: what is counted, what the files weigh, and the table of layers before and after."""

from __future__ import annotations

import gzip
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
from keras import layers
from keras_helpers import randomize
from keras_models import ARCHITECTURES
from nnprune.errors import DataError, ModelError
from nnprune.keras_io.layer_weights import count_weights, layer_weights
from nnprune.metrics.size import LayerSize, ModelSize, _sizes, layer_table, measure_size
from nnprune.pruning.prune import prune
from pruned_models import PRUNED, shrink

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "python/nnprune/demo_files/digits.keras"
FILES = [DIGITS, *sorted((ROOT / "benches/models").glob("*.keras"))]


def loaded(path: Path) -> keras.Model:
    return keras.saving.load_model(path, compile=False)


# --- the whole model


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_numbers_of_a_file(path: Path) -> None:
    model = loaded(path)
    size = measure_size(model, path=path)
    weights = [np.asarray(weight) for weight in model.get_weights()]
    assert size.parameters == model.count_params() == sum(one.size for one in weights)
    assert size.trainable_parameters == sum(one.numpy().size for one in model.trainable_weights)
    assert size.nonzero_parameters == sum(int((one != 0).sum()) for one in weights)
    assert size.flops == 2 * size.macs > 0
    assert size.uncounted == {}
    data = path.read_bytes()
    assert size.keras_bytes == len(data)
    assert size.keras_gzip_bytes == len(gzip.compress(data, 9, mtime=0))
    assert (size.litert_bytes, size.litert_gzip_bytes) == (None, None)


def test_statistics_of_a_normalization_are_parameters_that_are_not_trained() -> None:
    model = randomize(ARCHITECTURES["batch_normalizations"]())
    counts = count_weights(model)
    assert counts.parameters - counts.trainable == 2 * 5 + 2 * 7 + 2 * 7


@given(data=st.binary(max_size=300), repeats=st.integers(1, 50), cut=st.integers(1, 999))
def test_compressed_size_is_that_of_gzip_however_the_bytes_arrive(
    data: bytes, repeats: int, cut: int
) -> None:
    whole = data * repeats
    parts = [whole[start : start + cut] for start in range(0, len(whole), cut)]
    assert _sizes(parts) == (len(whole), len(gzip.compress(whole, 9, mtime=0)))


def test_a_model_in_memory_is_saved_to_be_weighed(tmp_path: Path) -> None:
    model = loaded(DIGITS)
    model.save(tmp_path / "same.keras")
    size = measure_size(model)
    assert size.keras_bytes == (tmp_path / "same.keras").stat().st_size
    # The date in the file changes what gzip makes of it by a few bytes.
    there = len(gzip.compress((tmp_path / "same.keras").read_bytes(), 9, mtime=0))
    assert size.keras_gzip_bytes is not None
    assert abs(size.keras_gzip_bytes - there) < 100


def test_a_folder_is_not_weighed_but_the_model(tmp_path: Path) -> None:
    model = loaded(DIGITS)
    assert measure_size(model, path=tmp_path).keras_bytes == measure_size(model).keras_bytes


def test_a_model_that_cannot_be_saved_has_no_file_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("no")

    model = loaded(DIGITS)
    monkeypatch.setattr(model, "save", refuse)
    size = measure_size(model)
    assert (size.keras_bytes, size.keras_gzip_bytes) == (None, None)
    assert size.parameters == 27_562


def test_zeros_make_a_file_smaller_only_by_compression(tmp_path: Path) -> None:
    model = loaded(DIGITS)
    full = measure_size(model)
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(weight.numpy() * (random.random(weight.shape) < 0.2))
    sparse = measure_size(model)
    assert sparse.nonzero_parameters < 0.25 * full.nonzero_parameters
    assert sparse.parameters == full.parameters
    assert sparse.keras_bytes == full.keras_bytes
    assert sparse.keras_gzip_bytes is not None
    assert full.keras_gzip_bytes is not None
    assert sparse.keras_gzip_bytes < 0.5 * full.keras_gzip_bytes


def test_bytes_of_an_export_are_weighed_as_they_are() -> None:
    data = bytes(range(256)) * 40
    size = measure_size(loaded(DIGITS), path=DIGITS, litert=data)
    assert size.litert_bytes == len(data)
    assert size.litert_gzip_bytes == len(gzip.compress(data, 9, mtime=0))


def test_a_path_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.keras: cannot be read"):
        measure_size(loaded(DIGITS), path=tmp_path / "gone.keras")


def test_16_bit_weights_are_counted() -> None:
    for dtype in ("float16", "bfloat16"):
        source = keras.Input((4,), dtype=dtype)
        model = keras.Model(source, layers.Dense(3, dtype=dtype)(source))
        kernel, bias = model.weights
        kernel.assign(np.ones((4, 3)))
        bias.assign([0.0, 1.0, 0.0])
        counts = count_weights(model)
        assert (counts.parameters, counts.nonzero) == (15, 13)


def test_what_json_holds() -> None:
    size = measure_size(PRUNED["with_opaque_parts"](), litert=b"")
    plain = json.loads(json.dumps(size.to_dict()))
    assert ModelSize(**plain) == size
    assert set(plain) == {
        "parameters",
        "trainable_parameters",
        "nonzero_parameters",
        "macs",
        "flops",
        "uncounted",
        "keras_bytes",
        "keras_gzip_bytes",
        "litert_bytes",
        "litert_gzip_bytes",
    }
    assert plain["litert_bytes"] == 0


# --- layer by layer


def test_a_pruned_file_beside_its_original() -> None:
    original = loaded(DIGITS)
    result = prune(original, target=0.5)
    reasons = {one.layer: one.reason for one in result.layers if one.reason is not None}
    table = layer_table(result.model, original, reasons)
    assert [one.layer for one in table] == ["hidden_1", "hidden_2", "hidden_3", "digit"]
    assert [(one.units_before, one.units) for one in table] == [
        (128, 64),
        (96, 48),
        (64, 32),
        (10, 10),
    ]
    assert {one.kind for one in table} == {"Dense"}
    assert [one.reason is None for one in table] == [True, True, True, False]
    assert table[3].reason == reasons["digit"]
    # Nothing is lost or counted twice.
    for model, parameters, macs in (
        (original, [one.parameters_before for one in table], [one.macs_before for one in table]),
        (result.model, [one.parameters for one in table], [one.macs for one in table]),
    ):
        size = measure_size(model)
        assert sum(one or 0 for one in parameters) == size.parameters
        assert sum(one or 0 for one in macs) == size.macs


@pytest.mark.parametrize("name", sorted(PRUNED))
def test_the_table_sums_to_the_model(name: str) -> None:
    model = PRUNED[name]()
    _, _, rebuilt = shrink(model)
    table = layer_table(rebuilt.model, model)
    size = measure_size(rebuilt.model)
    assert sum(one.parameters for one in table) == size.parameters
    assert sum(one.macs for one in table) == size.macs
    assert sum(one.parameters_before or 0 for one in table) == model.count_params()
    assert len({one.layer for one in table}) == len(table)


def test_only_layers_with_weights_or_a_reason_are_listed() -> None:
    model = PRUNED["dense_before_convolution"]()
    assert [(one.layer, one.kind, one.units) for one in layer_table(model)] == [
        ("channels", "Dense", 8),
        ("convolution", "Conv2D", 4),
        ("hidden", "Dense", 6),
        ("head", "Dense", 2),
    ]
    flatten = next(one.name for one in model.layers if isinstance(one, layers.Flatten))
    (listed,) = (one for one in layer_table(model, None, {flatten: "why"}) if one.reason)
    assert listed == LayerSize(
        layer=flatten,
        kind="Flatten",
        units_before=None,
        units=None,
        parameters_before=None,
        parameters=0,
        macs_before=None,
        macs=0,
        density=1.0,
        reason="why",
    )
    assert set(listed.to_dict()) == set(vars(listed))


def test_a_layer_without_a_counterpart_has_no_past() -> None:
    table = {one.layer: one for one in layer_table(loaded(DIGITS), ARCHITECTURES["mlp"]())}
    assert table["digit"].units == 10
    assert table["digit"].parameters_before is None
    assert table["digit"].macs_before is None


def test_density_is_the_fraction_of_nonzero_weights() -> None:
    model = ARCHITECTURES["mlp"]()
    kernel = model.layers[0].kernel
    kernel.assign(np.where(np.arange(40).reshape(5, 8) < 10, 1.0, 0.0))
    assert layer_table(model)[0].density == 10 / 48


def test_a_shared_layer_is_listed_once() -> None:
    dense = layers.Dense(5, name="dense")
    one = keras.Sequential([keras.Input((4,)), dense], name="one")
    two = keras.Sequential([keras.Input((4,)), dense], name="two")
    source = keras.Input((4,))
    model = keras.Model(source, [one(source), two(source)])
    assert [entry.layer for entry in layer_weights(model) if entry.counts.parameters] == [
        "one/dense"
    ]
    (only,) = layer_table(model)
    assert (only.parameters, only.macs) == (25, 2 * 20)


def test_a_subclassed_model_is_refused() -> None:
    class Subclassed(keras.Model):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return inputs

    with pytest.raises(ModelError, match="call method of its own"):
        layer_table(Subclassed())


def test_the_file_that_is_weighed_is_a_whole_model(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    from nnprune.metrics import size as module

    whole = module._file_size

    def spy(path: Any) -> tuple[int, int]:
        with zipfile.ZipFile(path) as archive:
            seen.append(sorted(archive.namelist()))
        return whole(path)

    monkeypatch.setattr(module, "_file_size", spy)
    measure_size(loaded(DIGITS))
    assert seen == [["config.json", "metadata.json", "model.weights.h5"]]
