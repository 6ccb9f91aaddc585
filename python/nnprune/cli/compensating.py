"""What `nnprune prune` takes for compensation, as `prune` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnprune.compensation import Compensation, LeastSquares
from nnprune.compensation import compensation_of as named
from nnprune.errors import ConfigError, DataError
from nnprune.keras_io.wording import reason_of

__all__ = ["compensation_of", "inputs_of"]

_OPTION = "--representative-inputs"


def compensation_of(name: str, **parameters: Any) -> Compensation:
    """Return the rule; parameters that are None are as usual.

    Raises
    ------
    ConfigError
        There is no such rule, or it has no such parameter.
    """
    try:
        rule = named(name)
    except ConfigError:
        raise ConfigError(
            f"--compensation: expected sum, scaled or least-squares, got '{name}'"
        ) from None
    given = {option: value for option, value in parameters.items() if value is not None}
    if not given or isinstance(rule, LeastSquares):
        return LeastSquares(**given) if given else rule
    option = next(iter(given)).replace("_", "-")
    raise ConfigError(f"--{option}: is for --compensation least-squares; give it too")


def inputs_of(path: Path | None) -> Any:
    """Read unlabelled inputs from an `.npy` or `.npz` file.

    Raises
    ------
    DataError
        It cannot be read, or is something else.
    """
    if path is None:
        return None
    import zipfile

    import numpy as np

    try:
        arrays = np.load(path, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            return arrays
        with arrays:
            found = {name: arrays[name] for name in arrays.files}
        if not all(isinstance(one, np.ndarray) for one in found.values()):
            raise ValueError("another kind of archive")
    except OSError as error:
        raise DataError(f"{_OPTION}: {path}: cannot be read ({reason_of(error)})") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{_OPTION}: {path}: is no .npy or .npz file of plain numbers; make it with np.save"
        ) from error
    # One array needs no name.
    return next(iter(found.values())) if len(found) == 1 else found
