"""Folders of images: read as Keras reads them, and refused where they do not fit."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import tensorflow as tf
from nnprune.datasets.expectation import Expectation
from nnprune.datasets.sources import open_data
from nnprune.errors import DataError


def classifier(
    shape: tuple[int, ...],
    classes: int = 2,
    box: tuple[Any, Any] = (0.0, 255.0),
    source: Literal["default", "assumed"] = "default",
) -> Expectation:
    lower, upper = (np.broadcast_to(np.asarray(end, np.float64), shape) for end in box)
    return Expectation(
        input_shape=shape,
        outputs=classes,
        task="classification",
        output_shape=(classes,),
        lower=lower,
        upper=upper,
        box_source=source,
    )


def image(shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.uint8]:
    """Return a smooth image with some noise, as photographs are."""
    random = np.random.default_rng(seed)
    height, width, channels = shape
    ramp = np.add.outer(np.linspace(0, 120, height), np.linspace(0, 90, width))
    tint = random.integers(0, 35, (1, 1, channels))
    return np.add(ramp[..., np.newaxis] + tint, random.integers(0, 9, shape)).astype(np.uint8)


def write(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write an image in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encode = tf.io.encode_png if path.suffix.lower() == ".png" else tf.io.encode_jpeg
    path.write_bytes(encode(pixels).numpy())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of two classes with images of many kinds, 3 and 2 of them."""
    root = tmp_path / "pets"
    write(root / "cat" / "b.png", image((6, 5, 3), 1))
    write(root / "cat" / "a.jpg", image((9, 14, 3), 2))
    write(root / "cat" / "more" / "0.JPEG", image((12, 8, 1), 3))
    write(root / "dog" / "9.png", image((6, 5, 1), 4))
    write(root / "dog" / "10.png", image((7, 7, 3), 5))
    return root


def whole(path: Path, expectation: Expectation, size: int = 2, **scaling: float) -> Any:
    """Return all pixels and labels, and the data."""
    data = open_data(path, **scaling)
    x, y = zip(*data.batches(expectation, size), strict=True)
    return np.concatenate(x), np.concatenate(y), data


def refused(path: Path, expectation: Expectation) -> str:
    with pytest.raises(DataError) as caught:
        whole(path, expectation)
    assert str(caught.value).isprintable()
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("mode", ["rgb", "grayscale"])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_pixels_and_order_are_those_of_keras(folder: Path, mode: str, size: int) -> None:
    dataset = keras.utils.image_dataset_from_directory(
        folder, color_mode=mode, image_size=(6, 5), shuffle=False, batch_size=5, verbose=False
    )
    ((pixels, labels),) = dataset.as_numpy_iterator()
    x, y, data = whole(folder, classifier((6, 5, 3 if mode == "rgb" else 1)), size)
    np.testing.assert_array_equal(x, pixels)
    np.testing.assert_array_equal(y, labels)
    assert y.tolist() == [0, 0, 0, 1, 1]
    assert data.samples == 5
    assert data.warnings == []


def test_folders_within_classes_are_in_the_order_of_keras(tmp_path: Path) -> None:
    names = ["m", "z/b", "z", "a-b", "a/q", "a", "k", "Z", "0"]
    for number, name in enumerate(names):
        write(tmp_path / "cat" / name / "0.png", np.full((2, 2, 1), number, np.uint8))
    write(tmp_path / "dog" / "0.png", np.full((2, 2, 1), 99, np.uint8))
    dataset = keras.utils.image_dataset_from_directory(
        tmp_path, color_mode="grayscale", image_size=(2, 2), shuffle=False, verbose=False
    )
    ((pixels, _),) = dataset.as_numpy_iterator()
    np.testing.assert_array_equal(whole(tmp_path, classifier((2, 2, 1)))[0], pixels)


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    black, white = (b",\0\0\0\0\x01\0\x01\0\0\x02\x02" + code + b"\x01\0" for code in (b"D", b"L"))
    start = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff"
    for name, frames in (("a", [black, white]), ("b", [white, black])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.gif").write_bytes(start + b"".join(frames) + b";")
    assert whole(tmp_path, classifier((1, 1, 3)))[0][:, 0, 0].tolist() == [[0.0] * 3, [255.0] * 3]


def test_images_of_the_right_size_are_exact(tmp_path: Path) -> None:
    pixels = [image((6, 5, 4), seed) for seed in range(4)]
    for number, one in enumerate(pixels):
        write(tmp_path / "ab"[number % 2] / f"{number}.png", one)
    x, y, _ = whole(tmp_path, classifier((6, 5, 4)))
    np.testing.assert_array_equal(x, [pixels[number] for number in (0, 2, 1, 3)])
    np.testing.assert_array_equal(y, [0, 0, 1, 1])


def test_description(folder: Path) -> None:
    *_, data = whole(folder, classifier((6, 5, 3), box=(-1.0, 1.0)))
    files = ["cat/a.jpg", "cat/b.png", "cat/more/0.JPEG", "dog/10.png", "dog/9.png"]
    lines = [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in files
    ]
    assert data.description().to_dict() == {
        "source": "pets",
        "sha256": hashlib.sha256("".join(lines).encode()).hexdigest(),
        "samples": 5,
        "labels": "integers",
        "reshaped_from": None,
        "scale": 2 / 255,
        "offset": -1.0,
    }


@pytest.mark.parametrize("box", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (1000.0, 1001.0)])
def test_pixels_are_mapped_onto_the_box(tmp_path: Path, box: tuple[float, float]) -> None:
    extremes = np.array([[[0], [255]], [[51], [255]]], np.uint8)
    for name in "ab":
        write(tmp_path / name / "0.png", extremes)
    x, _, _ = whole(tmp_path, classifier((2, 2, 1), box=box))
    expected = box[0] + (box[1] - box[0]) * extremes / 255
    np.testing.assert_allclose(x[0], expected, rtol=1e-6, atol=1e-7)


def test_given_scale_goes_before_the_box(folder: Path) -> None:
    plain, _, _ = whole(folder, classifier((6, 5, 3)))
    x, _, data = whole(folder, classifier((6, 5, 3)), scale=0.5, offset=3.0)
    np.testing.assert_array_equal(x, plain * np.float32(0.5) + np.float32(3))
    assert (data.description().scale, data.description().offset) == (0.5, 3.0)
    uneven = classifier((6, 5, 3), box=([0.0, 0.0, 0.0], [1.0, 1.0, 2.0]))
    assert len(whole(folder, uneven, scale=1 / 255)[1]) == 5


def test_grey_images_for_a_model_without_a_channel_axis(folder: Path) -> None:
    x, _, data = whole(folder, classifier((6, 5)))
    np.testing.assert_array_equal(x[..., np.newaxis], whole(folder, classifier((6, 5, 1)))[0])
    assert data.description().reshaped_from == (6, 5, 1)


def test_hidden_and_other_files(folder: Path) -> None:
    before = whole(folder, classifier((6, 5, 3)))[0]
    for name in ("cat/._a.jpg", "cat/.DS_Store", ".git/x.png", "dog/.thumbs/9.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"no image")
    x, _, data = whole(folder, classifier((6, 5, 3)))
    np.testing.assert_array_equal(x, before)
    assert data.warnings == []
    for name in ("cat/Thumbs.db", "cat/a.webp", "dog/b.webp", "list.txt"):
        (folder / name).write_bytes(b"no image")
    x, _, data = whole(folder, classifier((6, 5, 3)))
    np.testing.assert_array_equal(x, before)
    (warning,) = data.warnings
    assert "3 files were left out" in warning
    assert "'.db', '.webp'" in warning


def test_links(folder: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "cat").symlink_to(folder / "cat")
    (linked / "dog").mkdir()
    for name in ("9.png", "10.png"):
        (linked / "dog" / name).symlink_to(folder / "dog" / name)
    (linked / "dog" / "again").symlink_to(linked)  # a loop
    np.testing.assert_array_equal(
        whole(linked, classifier((6, 5, 3)))[0], whole(folder, classifier((6, 5, 3)))[0]
    )
    (linked / "dog" / "11.png").symlink_to(tmp_path / "nothing")
    assert "dog/11.png: is no regular file, or a link to nothing" in refused(
        linked, classifier((6, 5, 3))
    )


def test_numbered_classes_are_in_alphabetical_order_with_a_word(tmp_path: Path) -> None:
    for number in range(11):
        write(tmp_path / str(number) / "0.png", np.full((2, 2, 1), number, np.uint8))
    x, y, data = whole(tmp_path, classifier((2, 2, 1), 11))
    assert x[:, 0, 0, 0].tolist() == [0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9]
    assert y.tolist() == list(range(11))
    assert "'10' is label 2" in data.warnings[0]
    (tmp_path / "10").rename(tmp_path / "a")
    assert not open_data(tmp_path).warnings


# What is refused, and with what words.


def test_no_classes_or_no_images(tmp_path: Path) -> None:
    shape = classifier((6, 5, 3))
    assert "has no sub-folders; a folder must have a sub-folder of images" in refused(
        tmp_path, shape
    )
    write(tmp_path / "0.png", image((6, 5, 3)))
    assert "has no sub-folders" in refused(tmp_path, shape)
    write(tmp_path / "cat" / "0.png", image((6, 5, 3)))
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "a.txt").touch()
    assert "the sub-folder 'dog' has no images (.bmp, .gif, .jpeg, .jpg, .png)" in refused(
        tmp_path, shape
    )


def test_other_number_of_classes(folder: Path) -> None:
    text = refused(folder, classifier((6, 5, 3), 10))
    assert "has 2 sub-folders ('cat', 'dog') and the model 10 classes" in text


@pytest.mark.parametrize("shape", [(90,), (3, 6, 5), (6, 5, 2), (4, 6, 5, 3)])
def test_model_that_takes_no_images(folder: Path, shape: tuple[int, ...]) -> None:
    text = refused(folder, classifier(shape))
    assert f"the model takes samples of shape {shape}" in text
    assert "give arrays instead" in text


def test_regression(folder: Path) -> None:
    model = Expectation(
        input_shape=(6, 5, 3),
        outputs=2,
        task="regression",
        output_shape=(1,),
        lower=np.zeros((6, 5, 3)),
        upper=np.ones((6, 5, 3)),
        box_source="default",
    )
    assert "for regression give arrays" in refused(folder, model)


@pytest.mark.parametrize(
    "model",
    [
        classifier((6, 5, 3), source="assumed"),
        classifier((6, 5, 3), box=([0.0, 0.0, 0.0], [1.0, 1.0, 2.0])),
    ],
)
def test_box_that_does_not_say_how_to_scale(folder: Path, model: Expectation) -> None:
    text = refused(folder, model)
    assert "pixels are 0..255 and the model does not say what it takes; give scale" in text
    assert "--scale 1/255" in text


@pytest.mark.parametrize("name", ["cat/b.png", "cat/a.jpg"])
@pytest.mark.parametrize("kept", [0, 10, 60, 200])
def test_truncated_image_is_named(folder: Path, name: str, kept: int) -> None:
    path = folder / name
    write(path, image((40, 40, 3)))
    path.write_bytes(path.read_bytes()[:kept])
    text = refused(folder, classifier((6, 5, 3)))
    assert f"{folder}/{name}: cannot be read as an image with 3 channels" in text
    assert "it may be truncated" in text


def test_first_broken_image_comes_up_in_its_batch(folder: Path) -> None:
    (folder / "dog" / "9.png").write_bytes(b"no image")
    data = open_data(folder)
    model = classifier((6, 5, 3))
    data.check(model)
    batches = data.batches(model, 2)
    assert len(next(batches).y) == 2
    assert len(next(batches).y) == 2
    with pytest.raises(DataError, match=r"dog/9\.png: cannot be read"):
        next(batches)


def test_image_without_the_channels_wanted(folder: Path) -> None:
    text = refused(folder, classifier((6, 5, 4)))
    assert "a.jpg: cannot be read as an image with 4 channels" in text


def test_images_scaled_out_of_the_box(folder: Path) -> None:
    with pytest.raises(DataError) as caught:
        whole(folder, classifier((6, 5, 3), box=(0.0, 1.0)), scale=0.5)
    assert f"{folder} in samples 0 to 1: " in str(caught.value)
    assert "values, scaled as asked for, range" in str(caught.value)


def test_listing_needs_neither_keras_nor_tensorflow(folder: Path) -> None:
    code = (
        "import sys\n"
        "from nnprune.datasets.sources import open_data\n"
        f"print(open_data({str(folder)!r}).samples)\n"
        "print({'keras', 'tensorflow', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "5\nset()\n"
