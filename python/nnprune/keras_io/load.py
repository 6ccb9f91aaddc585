"""Load a model file with Keras, after `scan.look` has found nothing against it."""

from __future__ import annotations

import contextlib
import logging
import re
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras

from nnprune.errors import LegacyModelError, ModelError
from nnprune.keras_io.legacy import convert
from nnprune.keras_io.load_compile import compile_by_names
from nnprune.keras_io.rebuild import unbuilt
from nnprune.keras_io.scan import FileKind, ModelFile, check_unchanged
from nnprune.keras_io.suffix import named
from nnprune.keras_io.wording import one_line

__all__ = ["load_model", "load_own"]

# The first version without any of the known holes in reading `.keras` and `.h5` files.
_OLDEST_KERAS = (3, 15, 1)


def load_model(file: ModelFile, *, trust: bool = False) -> keras.Model:
    """Load the model that `look` has described.

    Parameters
    ----------
    file : ModelFile
        What `look` returned, with the same `trust`.
    trust : bool, default False
        Let the file run code (Lambda layers). Keras' safe mode is on without it.

    Returns
    -------
    keras.Model
        The model, compiled as it was saved. Where only that fails, a UserWarning is given and
        the model comes uncompiled.

    Raises
    ------
    FileFormatError
        The file has changed since it was looked at.
    LegacyModelError
        Keras 2 wrote it, and tf_keras is missing or cannot read it.
    ModelError
        Keras cannot rebuild the model, or is too old.
    """
    _check_keras_version()
    if file.kind is not FileKind.SAVED_MODEL:
        check_unchanged(file)
    if file.kind in (FileKind.KERAS, FileKind.H5):
        loaded = _load(file, trust=trust)
    elif file.kind is FileKind.KERAS2_H5:
        try:
            loaded = _load(file, trust=trust)
        except ModelError as error:
            loaded = _load_converted(file, trust=trust, first_error=error)
    else:
        loaded = _load_converted(file, trust=trust)
    if loaded.failure is not None:
        warnings.warn(
            f"{file.path}: loaded without its compile settings ({one_line(loaded.failure)})",
            UserWarning,
            stacklevel=2,
        )
    return loaded.model


def load_own(path: Path) -> keras.Model:
    """Load a `.keras` file that this package has just written; its optimizer starts afresh."""
    with _quiet():
        model = _load_with_keras(path, trust=False, compiled=True)
    if model.compiled and model.optimizer is not None:
        # Keras has given it slots of zeros, up to twice the size of the weights in a file.
        model.optimizer = unbuilt(model.optimizer)
    return model


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    """A model, and why it is not compiled although it was saved so."""

    model: keras.Model
    failure: Exception | None


def _check_keras_version() -> None:
    numbers = keras.__version__.split(".")[:3]
    version = tuple(int(re.sub("[^0-9]", "", number) or 0) for number in numbers)
    if version < _OLDEST_KERAS:
        needed = ".".join(map(str, _OLDEST_KERAS))
        raise ModelError(
            f"Keras {keras.__version__} is too old to open unknown files safely; "
            f"pip install 'keras>={needed}'"
        )


def _load_converted(
    file: ModelFile, *, trust: bool, first_error: ModelError | None = None
) -> _Loaded:
    with tempfile.TemporaryDirectory(prefix="nnprune-") as folder:
        try:
            converted = convert(file, Path(folder), trust=trust)
        except LegacyModelError as error:
            raise (first_error or error) from error
        return _load(converted, trust=trust, shown=file.path)


def _load(file: ModelFile, *, trust: bool, shown: Path | None = None) -> _Loaded:
    """Load with Keras 3; `shown` is the file that messages name."""
    shown = shown or file.path
    suffix = ".keras" if file.kind is FileKind.KERAS else ".h5"
    failure: Exception | None = None
    with named(file.path, suffix) as path, _quiet():
        try:
            model = _load_with_keras(path, trust=trust, compiled=True)
        except Exception as error:  # custom losses, optimizers of older versions, ...
            failure = error
            try:
                model = _load_with_keras(path, trust=trust, compiled=False)
            except Exception as second:  # Keras raises almost any kind on files it cannot read
                raise ModelError(
                    f"{shown}: Keras {keras.__version__} cannot rebuild the model "
                    f"({one_line(second)}); custom layers must be imported and registered first"
                ) from second
            if suffix == ".h5":
                with contextlib.suppress(Exception):  # then it stays uncompiled
                    compile_by_names(model, path)
                    failure = None
    if not isinstance(model, keras.Model):
        raise ModelError(f"{shown}: holds a {type(model).__name__}, no keras.Model")
    return _Loaded(model=model, failure=failure)


def _load_with_keras(path: Path, *, trust: bool, compiled: bool) -> keras.Model:
    return keras.saving.load_model(path, custom_objects=None, compile=compiled, safe_mode=not trust)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what Keras says about optimizer state, which no pruned model could take over."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Skipping variable loading for optimizer")
            yield
    finally:
        logger.setLevel(level)
