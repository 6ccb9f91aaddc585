"""Settings and fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples on every run: a failure on one machine is a failure on all.
settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    max_examples=36,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "explore", settings.get_profile("ci"), derandomize=False, max_examples=400
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Return the folder of data sets: NNPRUNE_DATA, or ../shared/data beside the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("NNPRUNE_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no data sets in {folder}; set NNPRUNE_DATA to a folder that has them")
    return folder
