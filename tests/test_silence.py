"""Silence: nothing that other packages print gets out, and all of it does again afterwards."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings

import pytest
from nnprune.keras_io.silence import silenced


def test_silence_ends_with_its_block(capfd: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("tf2onnx")
    level = logger.level

    def talk() -> None:
        with silenced():
            print("to nobody")
            os.write(1, b"to nobody")
            os.write(2, b"to nobody")
            warnings.warn("to nobody", UserWarning, stacklevel=1)
            logging.getLogger("tf2onnx.inner").error("to nobody")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        talk()
    print("to all")
    os.write(2, b"to all")
    assert capfd.readouterr() == ("to all\n", "to all")
    assert logger.level == level


def test_silence_without_any_outputs() -> None:
    script = (
        "import os\nos.close(1)\nos.close(2)\nimport sys\nsys.stdout = sys.stderr = None\n"
        "from nnprune.keras_io.silence import silenced\n"
        "with silenced():\n    pass\nos._exit(7)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 7
