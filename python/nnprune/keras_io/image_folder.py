"""Images of a folder as arrays, decoded and resized just as Keras does for training.

`keras.utils.image_dataset_from_directory` is what models are trained with. The same TensorFlow
operations are used here (whatever backend Keras runs on), so that a model is evaluated on the
pixels that it knows; Pillow's JPEG decoder and its smoothed resizing give others. Keras' function
itself cannot say which image is broken, and takes the hidden files that macOS leaves for images.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nnprune.errors import DataError
from nnprune.keras_io.quiet import quiet_start
from nnprune.keras_io.wording import one_line, quoted, shown_path

__all__ = ["ImageFolder", "ImageFormat", "fingerprint_images", "list_images", "read_images"]

_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")  # those that Keras takes
_LAYOUT = "a folder must have a sub-folder of images for each class"


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """The images of a folder, class by class, each class in sorted order.

    Attributes
    ----------
    path : Path
        The folder.
    label : str
        How messages name it.
    classes : tuple of str
        Its sub-folders in sorted order, as Keras numbers classes.
    files : tuple of str
        Paths of the images in the folder.
    labels : tuple of int
        Class index of each.
    warnings : tuple of str
        What is odd about it.
    """

    path: Path
    label: str
    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: tuple[int, ...]
    warnings: tuple[str, ...]


class ImageFormat(NamedTuple):
    """The images that a model takes; 1 channel is grey, 3 are RGB, 4 RGBA."""

    height: int
    width: int
    channels: int


class _Pixels(NamedTuple):
    x: NDArray[np.float32]
    y: NDArray[np.int64]


def list_images(path: Path, label: str) -> ImageFolder:
    """Find the classes and images of a folder, without opening any image.

    Sub-folders of classes are searched too, but links to folders in them are not followed. Hidden
    files and folders are left out.

    Parameters
    ----------
    path : Path
        The folder.
    label : str
        How messages name it.

    Raises
    ------
    DataError
        It has no sub-folders, or one of them has no images.
    """
    try:
        classes = sorted(
            entry.name for entry in path.iterdir() if entry.is_dir() and entry.name[0] != "."
        )
        found = [list(_files_below(path / name)) for name in classes]
    except OSError as error:
        raise DataError(f"{label}: cannot be read ({one_line(error)})") from error
    if not classes:
        raise DataError(f"{label}: has no sub-folders; {_LAYOUT}")
    files: list[str] = []
    labels: list[int] = []
    others: Counter[str] = Counter()
    for index, (name, names) in enumerate(zip(classes, found, strict=True)):
        images = [file for file in names if file.lower().endswith(_SUFFIXES)]
        others.update(Path(file).suffix for file in set(names) - set(images))
        if not images:
            raise DataError(
                f"{label}: the sub-folder {quoted(name)} has no images "
                f"({', '.join(_SUFFIXES)}); {_LAYOUT}"
            )
        files += [os.path.relpath(file, path) for file in images]
        labels += [index] * len(images)
    return ImageFolder(
        path=path,
        label=label,
        classes=tuple(classes),
        files=tuple(files),
        labels=tuple(labels),
        warnings=tuple(_oddities(label, classes, others)),
    )


def fingerprint_images(folder: ImageFolder) -> str:
    """Return the SHA-256 over the lines that `sha256sum` prints for the images in order.

    Raises
    ------
    DataError
        An image cannot be read; the message names it.
    """
    digest = hashlib.sha256()
    for name in folder.files:
        contents = hashlib.sha256(_contents(folder, name)).hexdigest()
        digest.update(f"{contents}  {shown_path(Path(name).as_posix())}\n".encode())
    return digest.hexdigest()


def read_images(folder: ImageFolder, form: ImageFormat, size: int) -> Iterator[_Pixels]:
    """Read all images in order, `size` at a time.

    Parameters
    ----------
    folder : ImageFolder
        From `list_images`.
    form : ImageFormat
        What to make of every image: bilinear resizing, without smoothing, where the size differs.
    size : int
        Images a batch.

    Yields
    ------
    pixels : float32 array [n, height, width, channels]
        From 0 to 255.
    labels : int64 array [n]
        Class indices.

    Raises
    ------
    DataError
        An image cannot be read or has no such number of channels; the message names it.
    """
    tf = _tensorflow()
    for start in range(0, len(folder.files), size):
        names = folder.files[start : start + size]
        pixels = np.stack([_decoded(tf, folder, name, form) for name in names])
        yield _Pixels(pixels, np.array(folder.labels[start : start + size], np.int64))


def _files_below(folder: Path) -> Iterator[str]:
    def fail(error: OSError) -> None:
        raise error

    for parent, folders, names in sorted(os.walk(folder, onerror=fail)):
        hidden = any(part.startswith(".") for part in Path(parent).relative_to(folder).parts)
        del folders
        if not hidden:
            yield from (
                os.path.join(parent, name) for name in sorted(names) if not name.startswith(".")
            )


def _oddities(label: str, classes: list[str], others: Counter[str]) -> Iterator[str]:
    if others:
        kinds = ", ".join(sorted(quoted(suffix) for suffix in others))
        yield (
            f"{label}: {others.total()} files were left out, their names do not end as images do "
            f"({kinds}); {', '.join(_SUFFIXES)} are read"
        )
    if all(name.isdecimal() for name in classes) and classes != sorted(classes, key=int):
        moved = next(index for index, name in enumerate(classes) if int(name) != index)
        yield (
            f"{label}: the classes are numbered in alphabetical order, as Keras does, so that "
            f"{quoted(classes[moved])} is label {moved}; if the model was trained otherwise, pad "
            "the names with zeros"
        )


def _contents(folder: ImageFolder, name: str) -> bytes:
    path = folder.path / name
    try:
        if path.is_file():
            return path.read_bytes()
    except OSError as error:
        raise DataError(f"{_shown(folder, name)}: cannot be read ({one_line(error)})") from error
    raise DataError(f"{_shown(folder, name)}: is no regular file, or a link to nothing; remove it")


def _decoded(tf: Any, folder: ImageFolder, name: str, form: ImageFormat) -> NDArray[np.float32]:
    contents = _contents(folder, name)
    try:
        with tf.device("CPU:0"):
            image = tf.io.decode_image(contents, channels=form.channels, expand_animations=False)
            resized = tf.image.resize(image, (form.height, form.width), "bilinear")
        pixels: NDArray[np.float32] = resized.numpy()
    except (tf.errors.OpError, ValueError) as error:
        raise DataError(
            f"{_shown(folder, name)}: cannot be read as an image with {form.channels} channels "
            f"({one_line(error)}); it may be truncated: replace or remove it"
        ) from error
    return pixels


def _shown(folder: ImageFolder, name: str) -> str:
    return shown_path(Path(folder.label) / name)


def _tensorflow() -> Any:
    """Import TensorFlow, which on other backends must leave the GPU's memory alone."""
    fresh = "tensorflow" not in sys.modules
    with quiet_start():
        import keras
        import tensorflow as tf
    if fresh and keras.backend.backend() != "tensorflow":
        with contextlib.suppress(RuntimeError):  # its devices are in use already
            tf.config.set_visible_devices([], "GPU")
    return tf
