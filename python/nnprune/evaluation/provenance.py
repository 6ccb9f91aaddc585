"""Where an evaluation was made: versions, machine, date."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from typing import Any

from nnprune._core import __version__

__all__ = ["provenance"]

_BACKEND_PACKAGES = {
    "tensorflow": "tensorflow",
    "jax": "jax",
    "torch": "torch",
    "numpy": "numpy",
    "openvino": "openvino",
}


def provenance(*, command: str | None, seconds: float) -> dict[str, Any]:
    """Describe this process and machine, as the JSON section of that name has it.

    Parameters
    ----------
    command : str or None
        The command line, if one was used.
    seconds : float
        Wall-clock time of the evaluation.
    """
    from nnprune.gradients import backend, devices

    name = backend()
    return {
        "nnprune": __version__,
        "keras": importlib.metadata.version("keras"),
        "backend": name,
        "backend_version": importlib.metadata.version(_BACKEND_PACKAGES.get(name, name)),
        "numpy": importlib.metadata.version("numpy"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        "devices": devices(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
        "evaluation_seconds": seconds,
    }
