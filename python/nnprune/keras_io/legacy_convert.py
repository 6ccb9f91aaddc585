"""Read a model with tf_keras and write it as `.h5`: `python -m ... SOURCE TARGET.h5 [--trust]`.

Run by `legacy.convert` only, in a process that ends afterwards.
"""

from __future__ import annotations

import sys

from nnprune.keras_io.legacy import REPORT
from nnprune.keras_io.wording import one_line

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Convert one file; return the exit status, and say on the standard output why it failed."""
    source, target, *flags = arguments
    try:
        import tf_keras

        safe = "--trust" not in flags
        try:
            model = tf_keras.models.load_model(source, compile=True, safe_mode=safe)
        except Exception:  # compile settings of older versions; the layers are what matters
            model = tf_keras.models.load_model(source, compile=False, safe_mode=safe)
        model.save(target, save_format="h5")
    except Exception as error:
        print(f"{REPORT}{one_line(error)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
