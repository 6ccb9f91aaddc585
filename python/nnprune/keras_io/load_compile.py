"""Compile a model loaded from `.h5` by the names in the file, where Keras cannot.

Keras 3.15 saves the loss `"mse"` to an `.h5` file and then fails to read it (it looks for a class
of that name). Names are all that most files hold, and `compile` understands every one of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import keras

__all__ = ["compile_by_names"]

# What optimizers had in Keras 2 only.
_KERAS2_SETTINGS = frozenset({"decay", "is_legacy_optimizer", "jit_compile"})


def compile_by_names(model: keras.Model, path: Path) -> None:
    """Compile `model` as the `.h5` file at `path` says, in names only.

    Raises
    ------
    Exception
        The settings are not all names, or Keras does not know them.
    """
    with h5py.File(path, "r") as file:
        settings = json.loads(file.attrs["training_config"])
    kind = str(settings["optimizer_config"]["class_name"]).removeprefix("Custom>")
    numbers = settings["optimizer_config"]["config"]
    optimizer = {key: numbers[key] for key in numbers if key not in _KERAS2_SETTINGS}
    loss = _names(settings.get("loss"))
    for name in keras.tree.flatten(loss):
        keras.losses.get(name)  # Keras would only complain when the model is trained
    model.compile(
        optimizer=keras.optimizers.deserialize({"class_name": kind, "config": optimizer}),
        loss=loss,
        metrics=_names(settings.get("metrics")),
        weighted_metrics=_names(settings.get("weighted_metrics")),
        loss_weights=settings.get("loss_weights"),
    )


def _names(value: Any) -> Any:
    """Return names as they are, and those inside the wrappers that Keras 2 puts around metrics."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return [_names(item) for item in value]
    if isinstance(value, dict) and value.get("class_name") == "MeanMetricWrapper":
        return _names(value["config"]["fn"])
    if isinstance(value, dict) and "class_name" not in value:
        return {key: _names(item) for key, item in value.items()}
    raise TypeError("a setting is no name")
