"""Results on disk: one JSON a stage, written after every measurement, so that a run resumes."""

from __future__ import annotations

import functools
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["Cells", "Clock", "commit", "machine"]

_REPOSITORY = Path(__file__).resolve().parents[2]
# What the results depend on.
_SOURCES = ("rust", "python", "benches", "Cargo.toml", "Cargo.lock", ":!benches/*/results")


@dataclass(frozen=True, kw_only=True)
class Clock:
    """The time limit of a run.

    Attributes
    ----------
    minutes : float
        How long it may begin new measurements.
    """

    minutes: float
    _started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds left; negative when it is over."""
        return self.minutes * 60 - (time.monotonic() - self._started)


@functools.cache
def commit() -> str:
    """Return the commit that is run, with a plus if its sources have been changed since."""
    try:
        known = _git("rev-parse", "--short=12", "HEAD")
        return known + ("+" if _git("status", "--porcelain", "--", *_SOURCES) else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=_REPOSITORY, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


class Cells:
    """The measurements of one stage, by their names.

    Parameters
    ----------
    path : Path
        The file.
    mode : str
        "quick" or "full".
    command : str
        The command that makes the stage's results.
    clock : Clock
        When to stop.
    """

    def __init__(self, path: Path, *, mode: str, command: str, clock: Clock) -> None:
        self._path = path
        self._mode = mode
        self._command = command
        self._clock = clock
        self._cells: dict[str, dict[str, Any]] = {}
        if path.is_file():
            self._cells = json.loads(path.read_text())["cells"]
        self.skipped: list[str] = []

    def measure(
        self, name: str, given: Mapping[str, Any], work: Callable[[], Mapping[str, Any]]
    ) -> dict[str, Any] | None:
        """Return a measurement, made now unless it is there already with the same `given`.

        Parameters
        ----------
        name : str
            Its name, `model/what/number`.
        given : mapping
            What the result depends on besides the code, as JSON has it.
        work : callable
            Makes the result.

        Returns
        -------
        dict or None
            The result; None where the time is over.
        """
        kept = self._cells.get(name)
        if kept is not None and kept["given"] == json.loads(json.dumps(given)):
            result: dict[str, Any] = kept["result"]
            return result
        if self._clock.left <= 0:
            self.skipped.append(name)
            return None
        started, cpu = time.monotonic(), time.process_time()
        found = dict(work())
        self._cells[name] = {
            "given": dict(given),
            "mode": self._mode,
            "command": self._command,
            "commit": commit(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            "wall_seconds": time.monotonic() - started,
            "cpu_seconds": time.process_time() - cpu,
            "result": found,
        }
        self._write()
        return found

    def forget(self, name: str) -> None:
        """Take a measurement out, so that it is made again."""
        self._cells.pop(name, None)

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_suffix(".json.part")
        content = {"schema_version": 1, "cells": dict(sorted(self._cells.items()))}
        unfinished.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
        unfinished.replace(self._path)


@functools.cache
def machine() -> str:
    """Name the processor and how many of it there are."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model n"))
    except (OSError, StopIteration):
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores"
