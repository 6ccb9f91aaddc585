"""A folder of images as evaluation data."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from nnprune.datasets.arrays import Rows
from nnprune.datasets.evaluation_data import RawChunk
from nnprune.datasets.expectation import Expectation
from nnprune.datasets.inputs import Scaling
from nnprune.errors import DataError
from nnprune.keras_io.image_folder import ImageFormat, fingerprint_images, list_images, read_images
from nnprune.keras_io.wording import quoted

__all__ = ["FolderSource"]

_LARGEST_PIXEL = 255.0
_CHANNELS = (1, 3, 4)


class FolderSource:
    """Images in a sub-folder for each class; labels count the sub-folders in sorted order."""

    surveyed = False

    def __init__(self, path: Path, label: str) -> None:
        """List a folder; no image is opened yet.

        Parameters
        ----------
        path : Path
            The folder.
        label : str
            How messages name it.
        """
        self.name = path.name
        self.array_names = label, f"labels of {label}"
        self._label = label
        self._images = list_images(path, label)
        self.samples: int | None = len(self._images.files)
        self.warnings = self._images.warnings

    @cached_property
    def sha256(self) -> str | None:
        """Fingerprint over all images; reads them."""
        return fingerprint_images(self._images)

    def prepare(self, expectation: Expectation, *, scaled: bool) -> Scaling | None:
        """Compare classes and shape, and map pixels of 0..255 onto a uniform box.

        Raises
        ------
        DataError
            The folder does not fit the model, or how to scale pixels is not known.
        """
        if expectation.task != "classification":
            raise DataError(
                f"{self._label}: a folder of images gives class labels; for regression give arrays"
            )
        classes = self._images.classes
        if len(classes) != expectation.outputs:
            shown = ", ".join(map(quoted, classes[:5])) + (", ..." if len(classes) > 5 else "")
            raise DataError(
                f"{self._label}: has {len(classes)} sub-folders ({shown}) and the model "
                f"{expectation.outputs} classes; there must be one for each class"
            )
        _image_format(expectation.input_shape, self._label)
        if scaled:
            return None
        box = expectation.uniform_box
        if box is None or expectation.box_source == "assumed":
            raise DataError(
                f"{self._label}: pixels are 0..255 and the model does not say what it takes; give "
                "scale and offset as for training (such as --scale 1/255, or --scale 1 for none)"
            )
        lower, upper = box
        return Scaling((upper - lower) / _LARGEST_PIXEL, lower)

    def rows(self) -> tuple[Rows, Rows] | None:
        """There are no whole arrays."""
        return None

    def chunks(self, expectation: Expectation, size: int) -> Iterator[RawChunk]:
        """Begin to read the images in order."""
        form = _image_format(expectation.input_shape, self._label)
        return (RawChunk(*part) for part in read_images(self._images, form, size))


def _image_format(shape: tuple[int, ...], label: str) -> ImageFormat:
    height, width, channels = (
        shape if len(shape) == 3 else (*shape, 1) if len(shape) == 2 else (0, 0, 0)
    )
    if channels not in _CHANNELS:
        raise DataError(
            f"{label}: the model takes samples of shape {shape}, a folder of images gives (height, "
            "width, channels) with 1, 3 or 4 channels; give arrays instead"
        )
    return ImageFormat(height, width, channels)
