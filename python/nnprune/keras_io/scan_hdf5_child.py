"""Walk an HDF5 file in a process of its own: on damaged bytes the HDF5 library may never return.

One flipped bit is enough to send HDF5 1.14 into an endless loop, others end it with a signal. The
child reads all that Keras will read; what it survives can be opened in the user's process.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import zipfile
from pathlib import Path

from nnprune.errors import FileFormatError, UntrustedModelError
from nnprune.keras_io.child import can_fork, run_forked, run_module
from nnprune.keras_io.scan_hdf5 import Hdf5Contents, scan_hdf5
from nnprune.keras_io.wording import DAMAGED, one_line, quoted

__all__ = ["main", "scan_hdf5_in_child"]

# A genuine file takes a fifth of a second of the processor. The longer time on the clock is for
# the start of Python and h5py on a busy machine, and a slow disk.
_PROCESSOR_SECONDS = 10
_CLOCK_SECONDS = 120
_SLOWEST_BYTES_PER_SECOND = 5_000_000

# For what damaged bytes may make the HDF5 library ask for.
_SPARE_MEMORY = 4 << 30

_KINDS = {kind.__name__: kind for kind in (FileFormatError, UntrustedModelError)}


def scan_hdf5_in_child(path: Path, *, member: str = "", label: str, size: int) -> Hdf5Contents:
    """Do what `scan_hdf5` does, in a process that may crash or be ended.

    Parameters
    ----------
    path : Path
        An HDF5 file, or a zip file that holds one.
    member : str
        The name of the HDF5 file in the zip file; empty where `path` is it.
    label : str
        How messages name the file.
    size : int
        Bytes of the HDF5 file.

    Returns
    -------
    Hdf5Contents
        The root's texts and every numeric data set's shape.

    Raises
    ------
    FileFormatError
        The file is truncated or corrupt.
    UntrustedModelError
        A link, external storage, a virtual data set or a shape bomb.
    """
    seconds = _CLOCK_SECONDS + size / _SLOWEST_BYTES_PER_SECOND
    arguments = [str(path), member, label, str(size)]
    try:
        if can_fork():
            finished = run_forked(lambda: _answer(*arguments).encode(), seconds=seconds)
        else:
            # NumPy, which h5py brings along, starts no threads for what is never multiplied.
            one = {"OPENBLAS_NUM_THREADS": "1"}
            finished = run_module(__name__, arguments, seconds=seconds, variables=one)
    except OSError as error:
        raise FileFormatError(f"{label}: cannot start Python to read it ({error})") from error
    if finished.status is not None and finished.status > 0:  # Python itself failed, not the file
        raise FileFormatError(
            f"{label}: cannot be read in a process of its own ({quoted(finished.last_words)})"
        )
    if finished.status != 0:
        how = "no end of reading" if finished.status is None else f"status {finished.status}"
        raise FileFormatError(f"{label}: {DAMAGED} (HDF5: {how})")
    answer = json.loads(finished.output)
    if "error" in answer:
        raise _KINDS[answer["error"]](answer["message"])
    return Hdf5Contents(
        attributes=answer["attributes"],
        datasets={name: tuple(shape) for name, shape in answer["datasets"].items()},
    )


def main(arguments: list[str]) -> None:
    """Walk one file and print what was found, or what is wrong with it, as JSON."""
    print(_answer(*arguments))


def _answer(path: str, member: str, label: str, size: str) -> str:
    """Walk one file, within the limits of what a genuine one takes."""
    import h5py  # noqa: F401  (before the limit: libraries reserve much more than they use)

    _limit_resources(int(size))
    answer: dict[str, object]
    try:
        source = io.BytesIO(zipfile.ZipFile(path).read(member)) if member else Path(path)
        contents = scan_hdf5(source, label=label, size=int(size))
        answer = {"attributes": contents.attributes, "datasets": contents.datasets}
    except (FileFormatError, UntrustedModelError) as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    except MemoryError as error:
        message = f"{label}: {DAMAGED} ({one_line(error)})"
        answer = {"error": FileFormatError.__name__, "message": message}
    return json.dumps(answer)


def _limit_resources(size: int) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):  # only Linux has all of them
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        seconds = _PROCESSOR_SECONDS + size // _SLOWEST_BYTES_PER_SECOND
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = own + 4 * size + _SPARE_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main(sys.argv[1:])
