"""Write models and reports so that a file is either whole or, whatever happens, as it was."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnprune.errors import OutputError
from nnprune.keras_io.archive_smaller import SmallerArchive
from nnprune.keras_io.scan_archive import RECORD as RECORD_OF_ARCHIVE
from nnprune.keras_io.scan_hdf5 import RECORD as RECORD_OF_HDF5
from nnprune.keras_io.wording import one_line, reason_of, shown_path

if TYPE_CHECKING:
    import keras

__all__ = [
    "MODEL_SUFFIXES",
    "cannot_be_written",
    "check_output",
    "save_model",
    "write_atomically",
    "write_text_atomically",
]

#: The formats that a model can be written in, by suffix.
MODEL_SUFFIXES = (".keras", ".h5")

_ROOM = "; make room on the disk or give a folder on another one"
_RIGHT = "; give a folder that you may write to"
_REMEDIES = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EACCES: _RIGHT,
    errno.EPERM: _RIGHT,
    errno.EROFS: _RIGHT,
}


def check_output(
    path: str | os.PathLike[str],
    *,
    overwrite: bool,
    suffixes: tuple[str, ...] | None = MODEL_SUFFIXES,
) -> Path:
    """Find out, before any long work, whether a file can be written.

    Parameters
    ----------
    path : str or path-like
        Where to write.
    overwrite : bool
        Whether a file that is there may be replaced.
    suffixes : tuple of str or None
        The suffixes allowed; None allows any.

    Returns
    -------
    Path
        The absolute path, with links followed: a link stays one, its target is written.

    Raises
    ------
    OutputError
        It cannot be written; the message says why and what to do.
    """
    label = shown_path(path)
    try:
        target = Path(path).resolve()
        if suffixes is not None and target.suffix not in suffixes:
            raise OutputError(f"{label}: the name must end in {' or '.join(suffixes)}")
        if target.is_dir():
            raise OutputError(f"{label}: is a folder; give the name of a file")
        if not target.parent.exists():
            raise OutputError(f"{label}: there is no folder {target.parent}; make it first")
        if not target.parent.is_dir():
            raise OutputError(f"{label}: {target.parent} is a file, no folder")
        _check_existing(target, label, overwrite=overwrite)
        # Permissions, read-only file systems and quotas: only trying tells.
        _new_file_beside(target).unlink()
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, OutputError):  # an OSError too
            raise
        raise cannot_be_written(label, error) from error
    return target


def save_model(
    model: keras.Model | SmallerArchive,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    record: str | None = None,
) -> Path:
    """Write a Keras model to a `.keras` or `.h5` file, wholly or not at all.

    Parameters
    ----------
    model : keras.Model or SmallerArchive
        The model; one that no Keras has seen is only shown to Keras for an `.h5` file.
    path : str or path-like
        Where to write; the suffix decides the format.
    overwrite : bool, default False
        Whether a file that is there may be replaced.
    record : str, optional
        A text to keep in the file where Keras does not look: a member of the `.keras` archive, an
        attribute at the root of the `.h5` file.

    Returns
    -------
    Path
        The file written, absolute.

    Raises
    ------
    OutputError
        It cannot be written; what was there before is untouched.
    """
    target = check_output(path, overwrite=overwrite)
    if target.suffix == ".h5":
        model = model.load() if isinstance(model, SmallerArchive) else model
        _check_fits_h5(model, shown_path(path))

    def write(temporary: Path) -> None:
        if target.suffix == ".h5":
            with _no_advice_on_h5(), _settings_for_h5(model):
                temporary.write_bytes(_h5_image(model, record))
            _check_reads_back(model, temporary, shown_path(path))
            return
        if isinstance(model, SmallerArchive):
            model.write(temporary)
        else:
            model.save(temporary)
        if record is not None:
            _append_record(temporary, record)

    return write_atomically(target, write, label=shown_path(path), overwrite=overwrite)


def write_text_atomically(
    path: str | os.PathLike[str], text: str, *, overwrite: bool = False
) -> Path:
    """Write a text file (UTF-8), as `save_model` writes a model: wholly or not at all."""
    target = check_output(path, overwrite=overwrite, suffixes=None)

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8", newline="\n")

    return write_atomically(target, write, label=shown_path(path), overwrite=overwrite)


def write_atomically(
    target: Path, write: Callable[[Path], None], *, label: str, overwrite: bool
) -> Path:
    """Let `write` fill a new file beside `target`, then put it there in one step.

    Parameters
    ----------
    target : Path
        The file, as `check_output` gives it.
    write : callable
        Fills the file whose path it is given.
    label : str
        The name that messages use.
    overwrite : bool
        Whether a file that is there may be replaced.

    Raises
    ------
    OutputError
        It cannot be written; what was there before is untouched.
    """
    temporary: Path | None = None
    try:
        temporary = _new_file_beside(target)
        write(temporary)
        if target.exists():
            shutil.copymode(target, temporary)
        _flush_to_disk(temporary)
        _check_existing(target, label, overwrite=overwrite)  # it may have come up meanwhile
        os.replace(temporary, target)
    except OutputError:
        raise
    except Exception as error:  # Keras raises many kinds for what a format cannot hold
        raise cannot_be_written(label, error, _advice(target, error)) from error
    finally:  # after success the temporary name is gone; this also runs on Ctrl-C
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not every system can flush a folder
        _flush_to_disk(target.parent)
    return target


def cannot_be_written(label: str, error: Exception, advice: str = "") -> OutputError:
    """Word the failure to write a file: what the system says, and what to do about it.

    Parameters
    ----------
    label : str
        The name that the message uses.
    error : Exception
        The failure.
    advice : str, default ""
        What to do where the system's error does not tell.
    """
    number = error.errno if isinstance(error, OSError) else None
    remedy = _REMEDIES.get(number, advice) if number is not None else advice
    return OutputError(f"{label}: cannot be written ({reason_of(error)}){remedy}")


def _append_record(path: Path, record: str) -> None:
    # Without a date of its own the member is the same for the same text.
    member = zipfile.ZipInfo(RECORD_OF_ARCHIVE)
    member.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, record.encode())


def _h5_image(model: keras.Model, record: str | None) -> bytes:
    """Let Keras write an `.h5` file in memory.

    On a full disk the HDF5 library would fail again, without words, when the process ends.
    """
    import h5py
    from keras.src.legacy.saving.legacy_h5_format import save_model_to_hdf5

    with h5py.File("model.h5", "w", driver="core", backing_store=False) as file:
        save_model_to_hdf5(model, file)
        if record is not None:
            file.attrs[RECORD_OF_HDF5] = record
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def _check_fits_h5(model: keras.Model, label: str) -> None:
    # Keras 3.15 writes these without complaint and cannot read them again.
    for variable in model.variables:
        if str(variable.dtype).startswith(("bfloat16", "float8")):
            raise OutputError(
                f"{label}: the .h5 format cannot hold {variable.dtype} ({variable.path}); "
                "use .keras"
            )


def _advice(target: Path, error: Exception) -> str:
    # A full disk is no fault of the format.
    if target.suffix != ".h5" or isinstance(error, OSError):
        return ""
    return "; the .h5 format cannot hold every model, try .keras"


def _check_reads_back(model: keras.Model, path: Path, label: str) -> None:
    """Refuse an `.h5` file that Keras has written and cannot read.

    It records operations without a layer under names that it does not know again, and weights of
    partly frozen layers in another order than it expects. Models with classes of other packages
    need their classes to be read, and are not tried.
    """
    import keras

    classes = {type(layer).__module__.split(".")[0] for layer in model._flatten_layers()}
    if classes - {"keras"}:
        return
    try:
        keras.models.load_model(path, compile=False, safe_mode=False)
    except Exception as error:  # Keras raises almost any kind here
        raise OutputError(
            f"{label}: Keras cannot read this model back from .h5 ({one_line(error)}); use .keras"
        ) from error


def _check_existing(target: Path, label: str, *, overwrite: bool) -> None:
    if not target.exists():
        return
    if not target.is_file():
        raise OutputError(f"{label}: is no regular file; give another name")
    if not overwrite:
        raise OutputError(
            f"{label}: exists already; use --overwrite (Python: overwrite=True) or another name"
        )


def _new_file_beside(target: Path) -> Path:
    """Create an empty file in the same folder, with the same suffix and the usual permissions.

    Not by `tempfile`, whose files only their owner may read.
    """
    path = target.with_name(f".nnprune-{secrets.token_hex(8)}{target.suffix}")
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return path


def _flush_to_disk(path: Path) -> None:
    # Without this, a crash soon after the renaming could leave an empty file under the new name.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _no_advice_on_h5() -> Iterator[None]:
    """Keep back Keras' advice against the `.h5` format, which the user has asked for."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _settings_for_h5(model: keras.Model) -> Iterator[None]:
    """Get round two errors of Keras 3.15 in writing compile settings to `.h5`, then undo it.

    It takes the optimizer out of the model's own settings (`saving_utils.model_metadata`), so that
    a `.keras` file saved later would silently come back with another one; and it cannot read the
    short names of losses ("mse") that it writes.
    """
    settings = getattr(getattr(model, "_compile_config", None), "config", None)
    if not isinstance(settings, dict):
        yield
        return
    kept = dict(settings)
    settings["loss"] = _long_names(settings.get("loss"))
    try:
        yield
    finally:
        settings.update(kept)


def _long_names(loss: Any) -> Any:
    if isinstance(loss, list | tuple):
        return [_long_names(item) for item in loss]
    if isinstance(loss, dict) and "class_name" not in loss:
        return {key: _long_names(item) for key, item in loss.items()}
    if not isinstance(loss, str):
        return loss
    import keras

    try:
        return getattr(keras.losses.get(loss), "__name__", loss)
    except ValueError:  # a custom one
        return loss
