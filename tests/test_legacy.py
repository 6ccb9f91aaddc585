"""What Keras 2 wrote: weights bit for bit, through a separate process; refused where due."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
from nnprune.errors import FileFormatError, LegacyModelError, ModelError, UntrustedModelError
from nnprune.keras_io import legacy, load
from nnprune.keras_io.child import Finished
from nnprune.keras_io.load import load_model
from nnprune.keras_io.scan import FileKind, ModelFile, look

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tf_keras") is None,
    reason='tf_keras is not installed (pip install "nnprune-rs[legacy]")',
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with one model in all formats of Keras 2, and some that are refused."""
    path = tmp_path_factory.mktemp("keras2")
    script = Path(__file__).with_name("legacy_models.py")
    done = subprocess.run([sys.executable, script, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return path


def assert_same_model(model: keras.Model, folder: Path) -> None:
    with np.load(folder / "expected.npz") as expected:
        # A list: Keras 2 writes one where there is a single input, and Keras 3 warns otherwise.
        np.testing.assert_allclose(model([expected["data"]]), expected["scores"], rtol=1e-6)
        weights = [expected[f"weight{number}"] for number in range(len(expected) - 2)]
    for ours, theirs in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    names = [layer.name for layer in model.layers]
    assert names == ["image", "conv", "norm", "flat", "hidden", "scores"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.h5", FileKind.KERAS2_H5),
        ("model.keras", FileKind.KERAS2_ARCHIVE),
        ("saved", FileKind.SAVED_MODEL),
    ],
)
def test_model_of_keras_2_loads_bit_for_bit(folder: Path, name: str, kind: FileKind) -> None:
    file = look(folder / name)
    assert file.kind is kind
    if kind is not FileKind.SAVED_MODEL:
        assert str(file.keras_version).startswith("2.")
        assert file.dtype == "float32"
    before = "tf_keras" in sys.modules
    model = load_model(file)
    assert ("tf_keras" in sys.modules) == before
    assert_same_model(model, folder)
    assert model.compiled
    if kind is not FileKind.SAVED_MODEL:
        assert file.stored_parameters == model.count_params()


def test_h5_that_keras_3_cannot_read_goes_through_keras_2(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = look(folder / "model.h5")
    convert = legacy.convert
    seen: list[Path] = []

    def fail_on_the_original(path: Path, **settings: bool) -> keras.Model:
        if not seen:
            raise ValueError("too old")
        return keras.saving.load_model(path, compile=settings["compiled"])

    def converted(file: ModelFile, folder: Path, *, trust: bool) -> ModelFile:
        seen.append(file.path)
        return convert(file, folder, trust=trust)

    monkeypatch.setattr(load, "_load_with_keras", fail_on_the_original)
    monkeypatch.setattr(load, "convert", converted)
    assert_same_model(load_model(file), folder)
    assert seen == [file.path]


@pytest.mark.parametrize("name", ["model.keras", "saved"])
def test_without_tf_keras_the_message_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file = look(folder / name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    with pytest.raises(LegacyModelError, match=r'pip install "nnprune-rs\[legacy\]"'):
        load_model(file)


@pytest.mark.parametrize(
    ("finished", "message"),
    [
        (Finished(status=None, output=b"", last_words=""), "not done within"),
        (Finished(status=-9, output=b"", last_words="Killed"), "Killed"),
        (
            Finished(status=1, output=b"x\nnnprune-legacy: ValueError: bad\n", last_words="y"),
            "ValueError: bad",
        ),
    ],
)
def test_failed_conversion_says_why(
    folder: Path, monkeypatch: pytest.MonkeyPatch, finished: Finished, message: str
) -> None:
    monkeypatch.setattr(legacy, "run_module", lambda *_, **__: finished)
    with pytest.raises(LegacyModelError, match=message) as caught:
        load_model(look(folder / "saved"))
    assert str(folder / "saved") in str(caught.value)
    assert str(caught.value).isprintable()


def test_metadata_in_the_graph_file_is_read(folder: Path) -> None:
    assert not (folder / "saved24" / "keras_metadata.pb").exists()
    assert look(folder / "saved24").kind is FileKind.SAVED_MODEL


def test_model_without_a_layer_graph(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"'Subclassed' .* rebuild it"):
        look(folder / "subclassed")
    with pytest.raises(ModelError, match="without Keras metadata"):
        look(folder / "plain")
    with pytest.raises(ModelError, match=r"'tf\.nn\.relu' is a TensorFlow function"):
        look(folder / "op.h5")


@pytest.fixture
def saved(folder: Path, tmp_path: Path) -> Path:
    """Return a copy of the SavedModel, to be spoilt."""
    return Path(shutil.copytree(folder / "saved", tmp_path / "saved"))


def refused(path: Path) -> str:
    with pytest.raises(UntrustedModelError) as caught:
        look(path)
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("file", ["keras_metadata.pb", "saved_model.pb"])
def test_foreign_class_in_the_metadata_is_refused(folder: Path, tmp_path: Path, file: str) -> None:
    source = "saved" if file == "keras_metadata.pb" else "saved24"
    saved = Path(shutil.copytree(folder / source, tmp_path / "spoilt"))
    data = (saved / file).read_bytes()
    before, after = b'"class_name": "Flatten"', b'"class_name": "my>Flat"'
    assert before in data
    (saved / file).write_bytes(data.replace(before, after))
    assert "'my>Flat'" in refused(saved)
    assert look(saved, trust=True).kind is FileKind.SAVED_MODEL


@pytest.mark.parametrize("op", ["PyFunc", "EagerPyFunc", "ReadFile", "WriteFile", "ImmutableConst"])
def test_op_that_touches_files_or_runs_python_is_refused(saved: Path, op: str) -> None:
    path = saved / "saved_model.pb"
    data = path.read_bytes()
    # As a field of unknown number at the end: the message stays well formed.
    path.write_bytes(data + b"\x7a" + bytes([len(op)]) + op.encode())
    assert "its graph has the op" in refused(saved)
    assert look(saved, trust=True).kind is FileKind.SAVED_MODEL


def test_other_files_in_the_folder(saved: Path) -> None:
    (saved / "assets" / "words.txt").write_text("a")
    assert "the asset 'assets/words.txt'" in refused(saved)
    assert look(saved, trust=True).kind is FileKind.SAVED_MODEL
    (saved / "assets" / "words.txt").unlink()
    look(saved)
    (saved / "saved_model.cpb").write_bytes(b"")
    assert "second graph" in refused(saved)
    (saved / "saved_model.cpb").unlink()
    (saved / "variables" / "more").symlink_to("/etc/passwd")
    assert "is a link" in refused(saved)


@pytest.mark.parametrize("length", [1, 100, -1])
def test_cut_metadata_is_corrupt(saved: Path, length: int) -> None:
    path = saved / "keras_metadata.pb"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(FileFormatError, match="truncated or corrupt"):
        look(saved)


def test_fingerprint_covers_every_file(saved: Path) -> None:
    before = look(saved)
    weights = next((saved / "variables").glob("*.data-*"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    after = look(saved)
    assert before.size == after.size
    assert before.sha256 != after.sha256
