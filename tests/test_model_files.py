"""Opening model files: recognized, whole, loaded as they were saved; or an error that says why."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
from model_files import (
    Config,
    layer,
    members_of,
    small_model,
    with_config,
    write_archive,
    write_good_files,
)
from nnprune.errors import FileFormatError, ModelError, NnpruneError
from nnprune.keras_io import scan_hdf5_child, scan_size
from nnprune.keras_io.child import Finished, run_module
from nnprune.keras_io.load import load_model
from nnprune.keras_io.scan import FileKind, look


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_good_files(tmp_path_factory.mktemp("models"))


@pytest.fixture
def archive(folder: Path) -> Path:
    return folder / "good.keras"


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_look_describes_a_good_file(folder: Path, suffix: str) -> None:
    path = folder / f"good.{suffix}"
    file = look(path)
    assert file.path == path.resolve()
    assert file.kind is FileKind(suffix)
    assert file.config is not None
    assert file.config["class_name"] == "Functional"
    assert file.size == path.stat().st_size
    assert file.keras_version == keras.__version__
    assert file.stored_parameters == small_model().count_params()
    assert file.dtype == "float32"
    assert re.fullmatch("[0-9a-f]{64}", file.sha256)


def test_format_is_recognized_by_content_not_by_suffix(folder: Path, tmp_path: Path) -> None:
    data = np.random.default_rng(0).random((3, 6, 6, 1), dtype=np.float32)
    expected = keras.saving.load_model(folder / "good.keras")(data)
    for suffix, other in (("keras", "h5"), ("h5", "keras"), ("h5", "bin")):
        path = tmp_path / f"{suffix}-named.{other}"
        path.write_bytes((folder / f"good.{suffix}").read_bytes())
        file = look(path)
        assert file.kind is FileKind(suffix)
        np.testing.assert_array_equal(load_model(file)(data), expected)


def test_link_is_followed(archive: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.keras"
    link.symlink_to(archive)
    assert look(link).path == archive.resolve()


def test_mixed_dtype_policies_are_told_apart(tmp_path: Path) -> None:
    layers = [
        keras.Input((3,)),
        keras.layers.Dense(2, dtype="mixed_float16"),
        keras.layers.Dense(2, dtype="float32"),
    ]
    keras.Sequential(layers[:2]).save(tmp_path / "one.keras")
    keras.Sequential(layers).save(tmp_path / "two.keras")
    assert look(tmp_path / "two.keras").dtype is None


def test_looking_imports_neither_keras_nor_tensorflow(archive: Path) -> None:
    code = (
        "import sys; from nnprune.keras_io.scan import look; look(sys.argv[1]);"
        "print([name for name in ('h5py', 'keras', 'tensorflow') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(archive)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_compile_settings_come_back(archive: Path) -> None:
    model = load_model(look(archive))
    assert model.compiled
    assert model.loss == "sparse_categorical_crossentropy"


def test_names_of_losses_that_keras_forgets_in_h5_come_back(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.25), "mse", metrics=["mae"])
    model.save(tmp_path / "mse.h5")
    loaded = load_model(look(tmp_path / "mse.h5"))
    assert loaded.loss == "mse"
    assert float(loaded.optimizer.learning_rate.numpy()) == 0.25


def test_compile_settings_that_cannot_be_read_give_a_warning(archive: Path, tmp_path: Path) -> None:
    def change(config: Config) -> None:
        config["compile_config"]["loss"] = "no_such_loss"
        config["compile_config"]["optimizer"] = "no_such_optimizer"

    file = look(with_config(archive, tmp_path / "loss.keras", change))
    with pytest.warns(UserWarning, match="without its compile settings"):
        model = load_model(file)
    assert not model.compiled
    assert model.count_params() == file.stored_parameters


def test_file_that_changed_after_the_look_is_not_loaded(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(archive.read_bytes())
    file = look(path)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(FileFormatError, match="has changed"):
        load_model(file)


def test_old_keras_is_refused(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = look(archive)
    monkeypatch.setattr(keras, "__version__", "3.12.9")
    with pytest.raises(ModelError, match=r"keras>=3\.15\.1"):
        load_model(file)


def test_configuration_that_keras_cannot_build_is_one_line(archive: Path, tmp_path: Path) -> None:
    def change(config: Config) -> None:
        layer(config, "conv")["config"]["padding"] = "no such\npadding"

    file = look(with_config(archive, tmp_path / "bad.keras", change))
    with pytest.raises(ModelError, match="cannot rebuild the model") as caught:
        load_model(file)
    assert str(caught.value).isprintable()


def embedding_and_recurrent() -> keras.Model:
    layers = keras.layers
    inputs = keras.Input((12,))
    x = layers.Embedding(50, 8)(inputs)
    x = layers.Bidirectional(layers.LSTM(5, return_sequences=True))(x)
    x = layers.GRU(4, return_sequences=True)(x)
    x = layers.MultiHeadAttention(2, 3)(x, x)
    x = layers.TimeDistributed(layers.Dense(6))(x)
    x = layers.SeparableConv1D(7, 3)(x)
    x = layers.GlobalAveragePooling1D()(x)
    inner = keras.Sequential([keras.Input((7,)), layers.Dense(9), layers.PReLU()])
    return keras.Model(inputs, layers.Dense(2)(inner(x)))


def convolutional() -> keras.Model:
    layers = keras.layers
    inputs = keras.Input((16, 16, 4))
    x = layers.Conv2D(8, 3, groups=2)(inputs)
    x = layers.Conv2DTranspose(6, 3)(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2)(x)
    x = layers.SeparableConv2D(5, 3, depth_multiplier=3)(x)
    x = layers.SpectralNormalization(layers.Conv2D(3, 2))(x)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("model", [embedding_and_recurrent, convolutional])
def test_genuine_models_never_seem_larger_than_they_are(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    model: Callable[[], keras.Model],
) -> None:
    monkeypatch.setattr(scan_size, "_ALWAYS_ALLOWED", 0)
    monkeypatch.setattr(scan_size, "_LARGEST_RATIO", 1)
    path = tmp_path / f"model.{suffix}"
    model().save(path)
    assert look(path).stored_parameters > 0


def test_path_that_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.keras")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    expected = {
        tmp_path / "missing.keras": "no such file",
        tmp_path: "is a folder without saved_model.pb",
        tmp_path / "pipe.keras": "is no regular file",
        Path("/dev/null"): "is no regular file",
        tmp_path / "loop": "cannot be read",
        tmp_path / "a\0b.keras": "cannot be read",
    }
    for path, message in expected.items():
        with pytest.raises(FileFormatError, match=message) as caught:
            look(path)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("url", ["hf://user/model", "gs://bucket/m.keras", "https://x.org/m.h5"])
def test_remote_path_is_refused(url: str) -> None:
    with pytest.raises(FileFormatError, match=f"{url}: is no local file"):
        look(url)


@pytest.mark.parametrize("contents", [b"", b"model", b"PK", b"GIF89a" + bytes(500)])
def test_other_contents_are_no_model(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(contents)
    with pytest.raises(FileFormatError, match=r"is no Keras model|is empty"):
        look(path)


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    small_model().save_weights(tmp_path / "only.weights.h5")
    with pytest.raises(FileFormatError, match="weights only"):
        look(tmp_path / "only.weights.h5")
    write_archive(tmp_path / "other.keras", {"word/document.xml": b"<a/>"})
    with pytest.raises(FileFormatError, match=r"without config\.json"):
        look(tmp_path / "other.keras")


class Subclassed(keras.Model):  # type: ignore[misc]  # Keras has no types
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.dense = keras.layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_subclassed_model_needs_rebuilding(tmp_path: Path, suffix: str, trust: bool) -> None:
    model = Subclassed()
    model(np.zeros((1, 3), np.float32))
    path = tmp_path / f"subclassed.{suffix}"
    model.save(path)
    with pytest.raises(ModelError, match=r"'Subclassed' .* rebuild it as keras\.Model"):
        look(path, trust=trust)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("part", [0.002, 0.1, 0.5, 0.9, 0.999])
def test_cut_file_is_corrupt(folder: Path, tmp_path: Path, suffix: str, part: float) -> None:
    whole = (folder / f"good.{suffix}").read_bytes()
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(FileFormatError, match="truncated or corrupt; copy or save it again"):
        look(path)


def test_wrong_checksum_is_found(archive: Path, tmp_path: Path) -> None:
    data = bytearray(archive.read_bytes())
    weights = members_of(archive)["model.weights.h5"]
    data[data.find(weights) + len(weights) // 2] ^= 1
    path = tmp_path / "flipped.keras"
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match=r"truncated or corrupt.*CRC"):
        look(path)


@pytest.mark.parametrize(
    "text", [b"[]", b"3", b"{", b"\xff\xfe", b'{"class_name": 3}', b"[" * 200_000, b"1" * 9_999]
)
def test_configuration_that_is_none(archive: Path, tmp_path: Path, text: bytes) -> None:
    path = write_archive(tmp_path / "a.keras", members_of(archive) | {"config.json": text})
    with pytest.raises(FileFormatError, match=r"truncated or corrupt|names no class"):
        look(path)


def outcome(path: Path) -> str:
    """Load a file: how many parameters it has, or the message of our error or warning."""
    try:
        return f"loaded {load_model(look(path)).count_params()}"
    except (NnpruneError, UserWarning) as reason:  # warnings are errors in tests
        return str(reason)


@pytest.mark.parametrize(("suffix", "files"), [("keras", 20), ("h5", 16)])
def test_flipped_bytes_never_lead_to_another_exception(
    folder: Path, tmp_path: Path, suffix: str, files: int
) -> None:
    generator = random.Random(7)
    whole = (folder / f"good.{suffix}").read_bytes()
    path = tmp_path / f"flipped.{suffix}"
    outcomes = set()
    for _ in range(files):
        data = bytearray(whole)
        for _ in range(generator.choice([1, 3, 30])):
            data[generator.randrange(len(data))] = generator.randrange(256)
        path.write_bytes(data)
        outcomes.add(outcome(path))
    refusals = outcomes - {f"loaded {small_model().count_params()}"}
    assert len(refusals) > 1
    for message in refusals:
        assert message.isprintable()
        assert str(path) in message


@pytest.mark.parametrize("status", [None, -11, -9])
def test_end_of_the_hdf5_library_is_an_error_about_the_file(
    archive: Path, monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    def ended(*_: object, **__: object) -> Finished:
        return Finished(status=status, output=b"", last_words="")

    monkeypatch.setattr(scan_hdf5_child, "run_module", ended)
    with pytest.raises(FileFormatError, match="truncated or corrupt"):
        look(archive)


def test_process_that_does_not_end_is_ended() -> None:
    arguments = ["-n", "1", "-r", "1", "-s", "import time", "time.sleep(100)"]
    assert run_module("timeit", arguments, seconds=0.5).status is None


def test_shown_name_replaces_the_path_in_messages(archive: Path) -> None:
    with pytest.raises(FileFormatError, match=r"^the model: no such file"):
        look(archive.with_name("missing.keras"), shown="the model")
    assert look(archive, shown="the model") == look(archive)
