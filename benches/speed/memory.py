"""Memory that this process holds, and the most that it held since a moment ago."""

from __future__ import annotations

from pathlib import Path

__all__ = ["Growth", "peak", "resident"]


def resident() -> int:
    """Return the bytes of this process that are in memory now."""
    return _status("VmRSS")


def peak() -> int:
    """Return the most bytes of this process that were in memory since `Growth` was made."""
    return _status("VmHWM")


class Growth:
    """The most memory that this process takes from now on, beyond what it holds already.

    Linux only: elsewhere `bytes` is None.
    """

    def __init__(self) -> None:
        self._before: int | None = None
        try:
            Path("/proc/self/clear_refs").write_text("5")
            self._before = resident()
        except OSError:
            pass

    @property
    def bytes(self) -> int | None:
        """The growth so far."""
        return None if self._before is None else peak() - self._before


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
