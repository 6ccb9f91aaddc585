"""Samples drawn some at a time, so that only the inputs themselves grow with their number."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["blocks"]

# Elements in a block: 8 MiB in float64, and a few arrays of it side by side. With far fewer,
# NumPy's threads wait for each other longer than they multiply.
_ELEMENTS = 1 << 20


def blocks(samples: int, elements: int, *, multiple: int = 1) -> Iterator[slice]:
    """Share samples out.

    Parameters
    ----------
    samples : int
        How many.
    elements : int
        Of each.
    multiple : int, default 1
        The number of samples in every block but the last is a multiple of this.

    Yields
    ------
    slice
        Consecutive samples, from the first to the last.
    """
    size = max(1, _ELEMENTS // (elements * multiple)) * multiple
    for first in range(0, samples, size):
        yield slice(first, min(first + size, samples))
