"""Numbers as a reader wants them: rounded to what they mean, with their unit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = [
    "MISSING",
    "byte_size",
    "compact",
    "count",
    "duration",
    "epsilon",
    "interval",
    "number",
    "percent",
    "percent_tick",
    "points",
    "ratio",
    "relative",
    "rounded",
]

#: What stands where there is no number.
MISSING = "\N{EN DASH}"

_MINUS = "\N{MINUS SIGN}"
_TIMES = "\N{MULTIPLICATION SIGN}"
_DASH = "\N{EN DASH}"
_MOST_DECIMALS = 4


def percent(value: float | None, decimals: int = 1) -> str:
    """Return a fraction in percent; never 100% or 0% for what is a little less or more."""
    if value is None:
        return MISSING
    for places in range(decimals, _MOST_DECIMALS + 1):
        text = f"{100 * value:.{places}f}"
        if float(text) not in (0.0, 100.0) or value in (0.0, 1.0):
            break
    return f"{_signed(text)}%"


def percent_tick(value: float) -> str:
    """Return a round fraction in percent, with no more decimals than it needs."""
    return f"{round(100 * value, 6):g}%"


def interval(proportion: Mapping[str, Any] | None) -> str:
    """Return the bounds of a proportion, such as "95.1 to 98.4%"."""
    if proportion is None:
        return MISSING
    lower, upper = 100 * proportion["lower"], 100 * proportion["upper"]
    return f"{lower:.1f}{_DASH}{upper:.1f}%"


def points(difference: float | None) -> str:
    """Return a difference of two fractions in percentage points, with its sign."""
    if difference is None:
        return MISSING
    size = f"{abs(100 * difference):.1f}"
    if float(size) == 0.0:
        return "\N{PLUS-MINUS SIGN}0.0 points"
    return f"{_MINUS if difference < 0 else '+'}{size} points"


def relative(before: float, after: float) -> str:
    """Return the relative change in percent, with its sign; empty where there is none."""
    change = round(100 * (after - before) / before) if before > 0 else 0
    if change == 0:
        return ""
    return f"{_MINUS if change < 0 else '+'}{abs(change):,}%"


def ratio(before: float | None, after: float | None, *, less: str, more: str) -> str | None:
    """Return by how much `after` is smaller or larger, such as "3.0x smaller"; None without."""
    if before is None or after is None or before <= 0 or after <= 0:
        return None
    if before == after:
        return "unchanged"
    factor = max(before, after) / min(before, after)
    text = f"{factor:.2f}" if factor < 2 else f"{factor:.1f}" if factor < 100 else f"{factor:,.0f}"
    if float(text.replace(",", "")) == 1.0:
        return f"barely {less}" if after < before else f"barely {more}"
    return f"{text}{_TIMES} {less if after < before else more}"


def count(value: float | None) -> str:
    """Return a whole number with its thousands apart."""
    return MISSING if value is None else f"{value:,.0f}"


def compact(value: float) -> str:
    """Return a number in the few characters that an axis has room for."""
    for size, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{_signed(f'{value / size:.3g}')}{suffix}"
    return number(value)


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with `digits` significant digits."""
    if value is None:
        return MISSING
    if value == 0 or not math.isfinite(value):
        return _signed(f"{value:g}").replace(f"{_MINUS}0", "0")
    if 1e-4 <= abs(value) < 10**digits:
        return _signed(f"{value:.{digits}g}")
    if 10**digits <= abs(value) < 1e6:
        return _signed(f"{value:,.0f}")
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return _signed(f"{mantissa}e{int(exponent)}")


def rounded(value: float | None) -> str:
    """Return a number with exactly three significant digits, so that columns line up."""
    if value is None or not 1e-4 <= abs(value) < 1e3:
        return number(value)
    return _signed(f"{value:#.3g}".rstrip("."))


def epsilon(value: float) -> str:
    """Return the size of a perturbation: 8/255 prints as 0.0314."""
    return number(value, 3)


def byte_size(value: int | None) -> str:
    """Return a file's size in the unit that suits it."""
    if value is None:
        return MISSING
    if value < 1024:
        return f"{value} B"
    units = ("KiB", "MiB", "GiB")
    power = next((p for p in (2, 1) if value >= 1024 ** (p + 1)), 0)
    return f"{value / 1024 ** (power + 1):.1f} {units[power]}"


def duration(value: float | None) -> str:
    """Return a time in the unit that suits it."""
    if value is None:
        return MISSING
    for size, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "\N{MICRO SIGN}s")):
        if value >= size:
            return f"{rounded(value / size)} {unit}"
    return f"{rounded(value * 1e9)} ns"


def _signed(text: str) -> str:
    """Return a number's text with a proper minus sign in front (not in the exponent)."""
    return text.replace("-", _MINUS)
