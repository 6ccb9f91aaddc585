"""Run the experiments: ``python benches/paper --help``."""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
_BENCHES = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_BENCHES), str(_BENCHES / "models")]

from paper.run import main  # noqa: E402

main()
