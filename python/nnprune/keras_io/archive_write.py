"""A `.keras` file written without Keras: the same members, groups and arrays in the same order."""

from __future__ import annotations

import datetime
import io
import json
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

from nnprune.keras_io.archive_compile import learning_rate
from nnprune.keras_io.archive_read import ArchivedModel
from nnprune.keras_io.scan_archive import CONFIG, METADATA, WEIGHTS

__all__ = ["write_archive"]


def write_archive(model: ArchivedModel, path: Path) -> None:
    """Write a model as `keras.Model.save` would.

    Parameters
    ----------
    model
        The model; its optimizer, if it is compiled, has made no step.
    path
        The file, which is overwritten.
    """
    now = datetime.datetime.now()  # without a time zone, as Keras
    metadata = {
        "keras_version": version("keras"),
        "date_saved": now.strftime("%Y-%m-%d@%H:%M:%S"),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in ((METADATA, metadata), (CONFIG, model.described)):
            with archive.open(name, "w") as member:
                member.write(json.dumps(value).encode())
        archive.writestr(WEIGHTS, _weights_image(model))


def _weights_image(model: ArchivedModel) -> bytes:
    """Write the HDF5 file in memory, as Keras does: its size is not known before."""
    import h5py

    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        file.create_group("vars").attrs["name"] = model.name
        for layer in model.layers:
            if layer.group is None:
                continue
            held = file.create_group(layer.group).create_group("vars")
            held.attrs["name"] = layer.name
            for number, array in enumerate(layer.weights.values()):
                held[str(number)] = array
        settings = model.described["compile_config"]
        if settings:
            held = file.create_group("optimizer").create_group("vars")
            held.attrs["name"] = settings["optimizer"]["config"]["name"]
            held["0"] = np.int64(0)  # steps made
            held["1"] = np.float32(learning_rate(settings))
    return image.getvalue()
