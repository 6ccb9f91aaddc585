"""Convert what Keras 2 wrote into an `.h5` file that Keras 3 reads, in a process of its own."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from nnprune.errors import LegacyModelError
from nnprune.keras_io.child import run_module
from nnprune.keras_io.scan import FileKind, ModelFile, look
from nnprune.keras_io.suffix import named
from nnprune.keras_io.wording import one_line, quoted

__all__ = ["REPORT", "convert"]

#: What a line begins with in which `legacy_convert` reports why it failed.
REPORT = "nnprune-legacy: "

_SUFFIX = {FileKind.KERAS2_ARCHIVE: ".keras", FileKind.KERAS2_H5: ".h5"}

# Importing TensorFlow takes ten seconds on a slow machine, a large SavedModel a minute.
_LONGEST_SECONDS = 900


def convert(file: ModelFile, folder: Path, *, trust: bool) -> ModelFile:
    """Convert a file of Keras 2 with the package tf_keras and look at the result.

    tf_keras is run in a separate process: it would otherwise register its own classes, and a
    second copy of TensorFlow's settings, in the user's.

    Parameters
    ----------
    file : ModelFile
        What `look` returned for the file.
    folder : Path
        An existing folder for the converted file.
    trust : bool
        Whether the file may run code.

    Returns
    -------
    ModelFile
        The converted `.h5` file, checked by the same policy.

    Raises
    ------
    LegacyModelError
        tf_keras is missing, or cannot read or convert the model.
    UntrustedModelError
        The converted file asks for something that an unknown file must not do.
    """
    if importlib.util.find_spec("tf_keras") is None:
        raise LegacyModelError(
            f"{file.path}: was written by Keras 2; to read it, "
            'pip install "nnprune-rs[legacy]", or save it anew with Keras 3'
        )
    target = folder / "converted.h5"
    suffix = _SUFFIX.get(file.kind, file.path.suffix)
    with named(file.path, suffix) as source:
        _run(source, target, shown=file.path, trust=trust)
    return look(target, trust=trust, shown=str(file.path))


def _run(source: Path, target: Path, *, shown: Path, trust: bool) -> None:
    try:
        finished = run_module(
            "nnprune.keras_io.legacy_convert",
            [str(source), str(target), *(["--trust"] if trust else [])],
            seconds=_LONGEST_SECONDS,
            # Nothing here is worth waking a GPU for.
            variables={"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
        )
    except OSError as error:
        raise LegacyModelError(f"{shown}: cannot start tf_keras ({one_line(error)})") from error
    if finished.status == 0 and target.exists():
        return
    lines = finished.output.decode("utf-8", errors="replace").splitlines()
    reports = [line.removeprefix(REPORT) for line in lines if line.startswith(REPORT)]
    if finished.status is None:
        reason = f"not done within {_LONGEST_SECONDS} seconds"
    else:
        reason = reports[-1] if reports else quoted(finished.last_words)
    raise LegacyModelError(
        f"{shown}: tf_keras cannot convert it ({reason}); "
        "save it anew as .h5 with the Keras 2 that made it"
    )
