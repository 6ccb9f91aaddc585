"""Give a file a name with the suffix that a library recognizes the format by."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["named"]


@contextlib.contextmanager
def named(path: Path, suffix: str) -> Iterator[Path]:
    """Yield a name of the file `path` that ends in `suffix`: its own, or that of a link to it.

    Formats are recognized by content here, but by suffix in Keras.
    """
    if path.suffix == suffix:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="nnprune-") as folder:
        link = Path(folder, f"model{suffix}")
        try:
            link.symlink_to(path)
        except OSError:  # Windows, without the right to make links
            shutil.copyfile(path, link)
        yield link
