"""Whether a file may be read and written without Keras: only where Keras would do the same."""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nnprune.keras_io.scan import FileKind, ModelFile

__all__ = ["KNOWN_VERSIONS", "may_do_without_keras"]

#: The versions of Keras that `tests/test_archive.py` has compared with.
KNOWN_VERSIONS = frozenset({"3.15.1"})

# Whoever sets this to anything wants Keras to read and write every file.
_SWITCH = "NNPRUNE_ALWAYS_KERAS"

# With other settings Keras stores other numbers, or other types of numbers.
_SETTINGS = {
    "backend": "tensorflow",
    "floatx": "float32",
    "image_data_format": "channels_last",
}


def may_do_without_keras(file: ModelFile, *, trust: bool) -> bool:
    """Whether Keras is of a version and has settings of which it is known what it writes.

    Where Keras has been imported already there is nothing to win, and it may have been told
    anything: custom classes, other dtype policies.

    Parameters
    ----------
    file
        What `look` has found.
    trust
        Whether the checks of an unknown file were skipped.
    """
    if trust or file.kind is not FileKind.KERAS or os.environ.get(_SWITCH):
        return False
    return not _keras_is_loaded() and _version() in KNOWN_VERSIONS and _has_usual_settings()


def _keras_is_loaded() -> bool:
    return "keras" in sys.modules


def _version() -> str | None:
    try:
        return version("keras")
    except PackageNotFoundError:
        return None


def _has_usual_settings() -> bool:
    """Look where Keras looks: in its settings file, then in the environment."""
    if os.environ.get("KERAS_BACKEND", "") not in ("", _SETTINGS["backend"]):
        return False
    try:
        text = (_settings_folder() / "keras.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    try:
        settings = json.loads(text)
    except ValueError:
        return False
    return isinstance(settings, dict) and all(
        settings.get(key, usual) == usual for key, usual in _SETTINGS.items()
    )


def _settings_folder() -> Path:
    """Find the folder that Keras takes for its own, by the same function: it never fails."""
    if "KERAS_HOME" in os.environ:
        return Path(os.path.expanduser(os.environ["KERAS_HOME"]))
    home = Path(os.path.expanduser("~"))
    return (home if os.access(home, os.W_OK) else Path("/tmp")) / ".keras"
