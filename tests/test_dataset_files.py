"""Evaluation data in .npz and .npy files: read piece by piece, and refused where damaged."""

from __future__ import annotations

import hashlib
import io
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_helpers import classifier, drawn
from hypothesis import given
from hypothesis import strategies as st
from nnprune.datasets.evaluation_data import EvaluationData
from nnprune.datasets.expectation import Expectation
from nnprune.datasets.sources import open_data
from nnprune.errors import DataError

FOUR = classifier((4,), 3)


def whole(data: EvaluationData, expectation: Expectation = FOUR, size: int = 8) -> tuple[Any, Any]:
    x, y = zip(*data.batches(expectation, size), strict=True)
    return np.concatenate(x), np.concatenate(y)


def refused(path: Any, y: Any = None) -> str:
    """Return the message for files that must not pass; it names the file."""
    with pytest.raises(DataError) as caught:
        whole(open_data(path, y))
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("names", [("x", "y"), ("x_test", "y_test")])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path: Path, names: tuple[str, str], save: Callable[..., None]) -> None:
    x, y = drawn()
    path = tmp_path / "some data.npz"
    save(path, **dict(zip(names, (x, y), strict=True)), other=np.array(["text"]))
    data = open_data(str(path))
    assert data.samples == 20
    for _ in range(2):
        got_x, got_y = whole(data)
        np.testing.assert_array_equal(got_x, x)
        np.testing.assert_array_equal(got_y, y)
    described = data.description().to_dict()
    assert described == {
        "source": "some data.npz",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "samples": 20,
        "labels": "integers",
        "reshaped_from": None,
        "scale": None,
        "offset": None,
    }


def test_x_and_y_come_before_the_test_set(tmp_path: Path) -> None:
    x, y = drawn()
    np.savez(tmp_path / "a.npz", x_test=x[:3], y_test=y[:3], x=x, y=y)
    assert open_data(tmp_path / "a.npz").samples == 20


@given(
    count=st.integers(1, 12),
    size=st.integers(1, 14),
    dtype=st.sampled_from(["u1", "<f4", ">f8", "?", "<f2", ">i4"]),
    order=st.sampled_from("CF"),
)
def test_npz_is_read_as_numpy_reads_it(
    tmp_path_factory: pytest.TempPathFactory, count: int, size: int, dtype: str, order: Any
) -> None:
    values = np.random.default_rng(count).integers(0, 2, (count, 2, 3)).astype(dtype, order)
    path = tmp_path_factory.getbasetemp() / "any.npz"
    np.savez_compressed(path, x=values, y=np.zeros(count, np.uint8))
    got, _ = whole(open_data(path), classifier((2, 3), 2), size)
    np.testing.assert_array_equal(got, values.astype(np.float32))


@pytest.mark.parametrize(
    "form", [lambda x, y: (f"{x},{y}", None), lambda x, y: (x, y), lambda x, y: ((str(x), y), None)]
)
def test_pair_of_npy(tmp_path: Path, form: Callable[[Path, Path], tuple[Any, Any]]) -> None:
    x, y = drawn()
    paths = tmp_path / "x.npy", tmp_path / "y.npy"
    np.save(paths[0], np.asfortranarray(x))
    np.save(paths[1], y)
    data = open_data(*form(*paths))
    got_x, got_y = whole(data)
    np.testing.assert_array_equal(got_x, x)
    np.testing.assert_array_equal(got_y, y)
    assert data.source == "x.npy,y.npy"
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths]
    assert data.sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_comma_in_the_name_of_one_file(tmp_path: Path) -> None:
    x, y = drawn()
    np.savez(tmp_path / "a,b.npz", x=x, y=y)
    assert open_data(tmp_path / "a,b.npz").samples == 20


@pytest.mark.parametrize("kind", ["npy", "npz", "npz of pixels"])
def test_memory_does_not_grow_with_the_data(tmp_path: Path, kind: str) -> None:
    """32 MiB of samples are read with an eighth of that, the batches included."""
    count = 1 << 13
    values = np.random.default_rng(0).random((count, 1024), np.float32)
    labels = np.zeros(count, np.int64)
    if kind == "npy":
        np.save(tmp_path / "x.npy", values)
        np.save(tmp_path / "y.npy", labels)
        path, size = f"{tmp_path}/x.npy,{tmp_path}/y.npy", values.nbytes
    else:
        path, size = f"{tmp_path}/a.npz", values.nbytes
        stored = values if kind == "npz" else np.tile((values * 255).astype(np.uint8), (4, 1))
        np.savez(path, x=stored, y=np.zeros(len(stored), np.int64))
        del stored
    del values
    expectation = classifier((1024,), 2, (0.0, 255.0))
    tracemalloc.start()
    try:
        data = open_data(path)
        taken = sum(float(batch.x.sum(dtype=np.float64)) for batch in data.batches(expectation, 64))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken > 0
    assert size >= 32 << 20
    assert peak < 4 << 20


# What is refused, and with what words.


def test_no_such_file(tmp_path: Path) -> None:
    assert refused(tmp_path / "a.npz") == f"{tmp_path}/a.npz: no such file or folder"
    np.save(tmp_path / "x.npy", drawn()[0])
    text = refused(f"{tmp_path}/x.npy,{tmp_path}/y.npy")
    assert text == f"{tmp_path}/y.npy: no such file or folder"
    assert "is no local file; download it" in refused("https://example.org/a.npz")
    assert "cannot be read" in refused("a\0b.npz")
    assert "cannot be read" in refused(f"{'a' * 300},b")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "loop: cannot be read" in refused(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    assert "is no regular file; give an .npz file" in refused(tmp_path / "pipe")


def test_other_formats(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("1,2,3\n")
    assert "a.csv: is no .npz or .npy file; give an .npz file with x and y" in refused(path)
    path.write_bytes(b"")
    assert "a.csv: the file is empty" in refused(path)
    np.save(tmp_path / "x.npy", np.ones((2, 4)))
    text = refused(tmp_path / "x.npy")
    assert "x.npy: is one array, labels are missing" in text
    assert "x.npy,LABELS.npy" in text
    np.savez(tmp_path / "a.npz", x=[[0.0]], y=[0])
    text = refused(tmp_path / "a.npz", tmp_path / "x.npy")
    assert "a.npz: is no .npy file" in text
    assert "x and y must both be paths or both be arrays" in refused(tmp_path / "x.npy", [0, 1])


def test_missing_names_are_listed(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=[0], x_train=[0], y_test=[0])
    text = refused(tmp_path / "a.npz")
    assert "a.npz: needs arrays named 'x' and 'y', or 'x_test' and 'y_test'" in text
    assert "it has 'images', 'x_train', 'y_test'" in text
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("config.json", "{}")
    assert "it has no arrays" in refused(tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        for number in range(50):
            archive.writestr(f"{number}\n.npy", "")
    assert refused(tmp_path / "c.zip").endswith("'19\\n', ...")


def test_pickles_are_not_read(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}, None], dtype=object)
    np.save(tmp_path / "x.npy", objects, allow_pickle=True)
    np.save(tmp_path / "y.npy", [0, 1])
    text = refused(tmp_path / "x.npy", tmp_path / "y.npy")
    assert "x.npy: holds pickled Python objects, which could run code and are not read" in text
    assert "numpy.save" in text
    np.savez(tmp_path / "a.npz", allow_pickle=True, x=objects, y=[0, 1])
    assert "a.npz: x: holds pickled Python objects" in refused(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(b"\x80\x04N.")
    assert "b.npz: holds pickled Python objects" in refused(tmp_path / "b.npz")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name", ["a.npz", "x.npy"])
def test_truncated_files(tmp_path: Path, name: str, share: float) -> None:
    x, y = drawn(400)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    path = tmp_path / name
    contents = path.read_bytes()
    path.write_bytes(contents[: int(len(contents) * share)])
    text = refused(path, None if name == "a.npz" else tmp_path / "y.npy")
    assert f"{name}: is truncated or corrupt; copy or save it again" in text


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_flipped_bytes_in_an_archive(tmp_path: Path, save: Callable[..., None]) -> None:
    x, y = drawn(400)
    save(tmp_path / "a.npz", x=x, y=y)
    contents = bytearray((tmp_path / "a.npz").read_bytes())
    contents[len(contents) // 3] ^= 0xFF
    (tmp_path / "a.npz").write_bytes(contents)
    assert "a.npz: x: is truncated or corrupt" in refused(tmp_path / "a.npz")


def test_header_that_promises_more_than_there_is(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (1, 1 << 40)}
    )
    y = io.BytesIO()
    np.save(y, [0])
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(64))
        archive.writestr("y.npy", y.getvalue())
    assert "a.npz: x: is truncated or corrupt" in refused(tmp_path / "a.npz")


def test_member_shorter_than_its_archive_says(tmp_path: Path) -> None:
    np.savez(tmp_path / "whole.npz", x=np.zeros((9, 4)), y=np.zeros(9, int))
    with (
        zipfile.ZipFile(tmp_path / "whole.npz") as whole_one,
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        x = whole_one.read("x.npy")
        archive.writestr("x.npy", x[:-32])
        archive.filelist[0].file_size = len(x)
        archive.writestr("y.npy", whole_one.read("y.npy"))
    assert "a.npz: x: is truncated or corrupt" in refused(tmp_path / "a.npz")


@given(place=st.integers(0, 127), value=st.integers(0, 255))
def test_any_byte_of_a_header_may_be_wrong(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    x, y = drawn(3)
    np.save(folder / "y.npy", y)
    file = io.BytesIO()
    np.save(file, x)
    contents = bytearray(file.getvalue())
    contents[place] = value
    (folder / "x.npy").write_bytes(contents)
    try:
        whole(open_data(folder / "x.npy", folder / "y.npy"))
    except DataError as error:
        assert "x.npy" in str(error)  # noqa: PT017 (most wrong bytes are errors, not all)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=[[0.0]], y=[0])
    (tmp_path / "a.npz").chmod(0)
    assert "a.npz: cannot be read (PermissionError" in refused(tmp_path / "a.npz")


# Real data.


@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [
        ("mnist", (28, 28), 10000),
        ("mnist", (784,), 10000),
        ("mnist", (28, 28, 1), 10000),
        ("fashion_mnist", (28, 28, 1), 10000),
        ("cifar10", (32, 32, 3), 5000),
    ],
)
def test_images_of_the_archives(
    data_folder: Path, name: str, shape: tuple[int, ...], count: int
) -> None:
    path = data_folder / f"{name}.npz"
    data = open_data(path, scale=1 / 255)
    got_x, got_y = whole(data, classifier(shape, 10), 256)
    with np.load(path) as arrays:
        x, y = arrays["x_test"], arrays["y_test"]
    np.testing.assert_allclose(got_x.reshape(x.shape), x / np.float32(255), rtol=1e-6)
    np.testing.assert_array_equal(got_y, y)
    described = data.description()
    assert described.samples == count
    assert described.reshaped_from == (None if shape == x.shape[1:] else x.shape[1:])
    assert data.warnings == []
    with pytest.raises(DataError, match=r"of 10000|of 5000") as caught:
        open_data(path).check(classifier(shape, 10))
    assert f"{name}.npz: x_test: {np.count_nonzero(x > 1)} values are outside" in str(caught.value)
    assert "--scale 1/255" in str(caught.value)


def test_credit_card_rows_are_in_their_box(data_folder: Path) -> None:
    data = open_data(data_folder / "creditcard.npz")
    x, y = whole(data, classifier((29,), 2, (-5.0, 5.0)), 1000)
    assert x.shape == (5167, 29)
    assert np.count_nonzero(y) == 123
    with pytest.raises(DataError, match=r"values are outside the input box \[0, 1\]"):
        data.check(classifier((29,), 2))


def test_kdd_rows_are_not(data_folder: Path) -> None:
    path = data_folder / "kddcup99.npz"
    with np.load(path) as arrays:
        x = arrays["x_test"]
    outside = np.abs(x) > 10
    with pytest.raises(DataError) as caught:
        open_data(path).check(classifier((120,), 23, (-10.0, 10.0)))
    assert (
        f"x_test: {outside.sum()} values are outside the input box [-10, 10], in "
        f"{outside.any(axis=1).sum()} of 20000 samples" in str(caught.value)
    )
    assert f"range from {x.min():.6g} to {x.max():.6g}" in str(caught.value)
    wide = classifier((120,), 23, (-10.0, 400.0))
    assert len(whole(open_data(path), wide, 512)[1]) == 20000
