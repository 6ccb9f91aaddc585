"""Writing: wholly or not at all, and said before the long work where it cannot be done."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
from nnprune.errors import OutputError
from nnprune.keras_io.save import check_output, save_model, write_text_atomically


@pytest.fixture
def model() -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu", name="hidden")])
    model.compile(keras.optimizers.SGD(0.25), "mae")
    return model


def refused(path: Path | str, *, overwrite: bool = False) -> str:
    with pytest.raises(OutputError) as caught:
        check_output(path, overwrite=overwrite)
    assert str(caught.value).isprintable()
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_saved_model_loads_and_nothing_else_is_left(
    model: keras.Model, tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"small{suffix}"
    assert save_model(model, str(path)) == path.resolve()
    assert os.listdir(tmp_path) == [path.name]
    assert "legacy" not in capfd.readouterr().err  # Keras' advice against the format
    loaded = keras.saving.load_model(path)
    data = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(loaded(data), model(data))
    assert loaded.get_layer("hidden").units == 4


@pytest.mark.parametrize(
    ("loss", "outputs"), [("mse", 1), (["mae", "mse"], 2), ({"a": "kld", "b": "mse"}, 2)]
)
def test_short_names_of_losses_load_from_h5_in_stock_keras(
    tmp_path: Path, loss: Any, outputs: int
) -> None:
    inputs = keras.Input((3,))
    heads = [keras.layers.Dense(2, name=name)(inputs) for name in "ab"[:outputs]]
    named = dict(zip("ab", heads, strict=False)) if isinstance(loss, dict) else heads
    model = keras.Model(inputs, named if outputs > 1 else heads[0])
    model.compile("sgd", loss)
    save_model(model, tmp_path / "a.h5")
    assert keras.saving.load_model(tmp_path / "a.h5").compiled
    assert model.get_compile_config()["loss"] == loss  # the model itself is unchanged


def test_saving_as_h5_leaves_the_compile_settings_alone(model: keras.Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "a.h5")
    save_model(model, tmp_path / "a.keras")
    loaded = keras.saving.load_model(tmp_path / "a.keras")
    assert type(loaded.optimizer) is keras.optimizers.SGD


@pytest.mark.parametrize("name", ["model", "model.onnx", "model.keras.txt", "model.H5"])
def test_other_suffix_names_the_possible_ones(tmp_path: Path, name: str) -> None:
    assert "must end in .keras or .h5" in refused(tmp_path / name)


def test_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.keras").mkdir()
    os.mkfifo(tmp_path / "pipe.keras")
    assert "there is no folder" in refused(tmp_path / "none" / "a.keras")
    assert "is a file, no folder" in refused(tmp_path / "file" / "a.keras")
    assert "is a folder" in refused(tmp_path / "folder.keras", overwrite=True)
    assert "is no regular file" in refused(tmp_path / "pipe.keras", overwrite=True)
    assert "cannot be written" in refused(tmp_path / f"{'x' * 300}.keras")


def test_existing_file_needs_overwrite(model: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / "a.keras"
    path.write_bytes(b"old")
    assert "--overwrite (Python: overwrite=True)" in refused(path)
    with pytest.raises(OutputError, match="exists already"):
        save_model(model, path)
    assert path.read_bytes() == b"old"
    save_model(model, path, overwrite=True)
    assert zipfile.is_zipfile(path)


def test_check_leaves_no_trace(tmp_path: Path) -> None:
    assert check_output(tmp_path / "a.keras", overwrite=False) == (tmp_path / "a.keras").resolve()
    assert os.listdir(tmp_path) == []


@pytest.fixture
def foreign_folder() -> Iterator[Path]:
    """Yield a folder that this process may read but not write, root or not."""
    folder = Path(tempfile.mkdtemp())  # outside pytest's folder, which only its owner may enter
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_folder_without_permission(foreign_folder: Path) -> None:
    words = "cannot be written (Permission denied); give a folder that you may write to"
    assert words in refused(foreign_folder / "a.keras")


def half(path: str | os.PathLike[str], error: BaseException) -> None:
    Path(path).write_bytes(b"half a file")
    raise error


ERRORS = [
    (OSError(errno.ENOSPC, "No space left on device"), OutputError),
    (ValueError("many\nlines"), OutputError),
    (KeyboardInterrupt(), KeyboardInterrupt),
]


@pytest.mark.parametrize("before", [None, b"old"])
@pytest.mark.parametrize(
    ("error", "seen"), ERRORS, ids=lambda value: getattr(value, "__name__", "")
)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_write_that_fails_half_way_changes_nothing(
    model: keras.Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: bytes | None,
    error: BaseException,
    seen: type[BaseException],
    suffix: str,
) -> None:
    path = tmp_path / f"a{suffix}"
    if before is not None:
        path.write_bytes(before)
    write_bytes = Path.write_bytes

    def half_of(file: Path, data: bytes) -> None:
        write_bytes(file, data[: len(data) // 2])
        raise error

    # Keras writes .keras files itself, and .h5 files into memory.
    monkeypatch.setattr(type(model), "save", lambda _, to, *__, **___: half(to, error))
    if suffix == ".h5":
        monkeypatch.setattr(Path, "write_bytes", half_of)
    with pytest.raises(seen) as caught:
        save_model(model, path, overwrite=True)
    assert str(caught.value).isprintable()
    if isinstance(error, OSError):
        assert "cannot be written (No space left on device); make room on the disk" in str(
            caught.value
        )
    assert {name.name: name.read_bytes() for name in tmp_path.iterdir()} == (
        {} if before is None else {path.name: before}
    )


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_last_step_that_fails_changes_nothing(
    model: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "a.keras"
    path.write_bytes(b"old")

    def fail(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OutputError, match="Input/output error"):
        save_model(model, path, overwrite=True)
    assert {name.name: name.read_bytes() for name in tmp_path.iterdir()} == {"a.keras": b"old"}


def test_file_that_came_up_during_the_writing_is_kept(
    model: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.keras"
    save: Callable[..., None] = type(model).save

    def slow(self: keras.Model, to: Path) -> None:
        path.write_bytes(b"another program's")
        save(self, to)

    monkeypatch.setattr(type(model), "save", slow)
    with pytest.raises(OutputError, match="exists already"):
        save_model(model, path)
    assert os.listdir(tmp_path) == ["a.keras"]
    assert path.read_bytes() == b"another program's"


def test_permissions_are_the_usual_or_the_old_ones(model: keras.Model, tmp_path: Path) -> None:
    usual, old = tmp_path / "usual.keras", tmp_path / "old.keras"
    (tmp_path / "plain").touch()
    save_model(model, usual)
    assert usual.stat().st_mode == (tmp_path / "plain").stat().st_mode
    old.touch()
    old.chmod(0o640)
    save_model(model, old, overwrite=True)
    assert stat.S_IMODE(old.stat().st_mode) == 0o640


def test_link_stays_a_link(model: keras.Model, tmp_path: Path) -> None:
    (tmp_path / "real.keras").write_bytes(b"old")
    link = tmp_path / "link.keras"
    link.symlink_to("real.keras")
    assert save_model(model, link, overwrite=True) == (tmp_path / "real.keras").resolve()
    assert link.is_symlink()
    assert zipfile.is_zipfile(tmp_path / "real.keras")


def test_dtype_that_h5_cannot_hold_is_said(tmp_path: Path) -> None:
    layer = keras.layers.Dense(2, dtype="bfloat16", name="brief")
    model = keras.Sequential([keras.Input((3,)), layer])
    with pytest.raises(OutputError, match=r"cannot hold bfloat16 \(.*brief/kernel\); use \.keras"):
        save_model(model, tmp_path / "a.h5")
    save_model(model, tmp_path / "a.keras")
    loaded = keras.saving.load_model(tmp_path / "a.keras")
    assert str(loaded.get_layer("brief").kernel.dtype) == "bfloat16"


def test_text_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.json"
    text = '{"name": "Prüfung"}\n'
    assert write_text_atomically(path, text) == path.resolve()
    assert path.read_bytes() == text.encode()
    with pytest.raises(OutputError, match="exists already"):
        write_text_atomically(path, "{}")
    with pytest.raises(OutputError, match="UnicodeEncodeError"):
        write_text_atomically(path, "\ud800", overwrite=True)
    assert path.read_bytes() == text.encode()
    write_text_atomically(path, "{}", overwrite=True)
    assert path.read_bytes() == b"{}"
    assert os.listdir(tmp_path) == ["report.json"]
