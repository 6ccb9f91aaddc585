"""Numbers, axes and colours of the report."""

from __future__ import annotations

import itertools
import re
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnprune.report import format as fmt
from nnprune.report.scales import Scale, nice_range, nice_ticks, spaced
from report_documents import proportion


def test_numbers_as_a_reader_wants_them() -> None:
    minus, dash = "\N{MINUS SIGN}", "\N{EN DASH}"
    assert fmt.epsilon(8 / 255) == "0.0314"
    assert [fmt.epsilon(size) for size in (0.0, 0.01, 1 / 255, 1.0, 4e-5)] == [
        "0", "0.01", "0.00392", "1", f"4e{minus}5",
    ]  # fmt: skip
    assert [fmt.percent(v) for v in (0.0, 1.0, 0.978, 0.9999, 1e-4, 0.9996, 1e-9)] == [
        "0.0%", "100.0%", "97.8%", "99.99%", "0.01%", "99.96%", "0.0000%",
    ]  # fmt: skip
    assert fmt.interval(proportion(437)) == f"95.1{dash}98.3%"
    assert [fmt.points(v) for v in (-0.0137, 0.2, 1e-5)] == [
        f"{minus}1.4 points", "+20.0 points", "\N{PLUS-MINUS SIGN}0.0 points",
    ]  # fmt: skip
    assert fmt.relative(0.033, 0.046) == "+39%"
    assert fmt.relative(0.0, 0.046) == fmt.relative(0.5, 0.5001) == ""
    assert [fmt.byte_size(v) for v in (0, 1023, 131248, 3 * 2**20, 5 * 2**40)] == [
        "0 B", "1023 B", "128.2 KiB", "3.0 MiB", "5120.0 GiB",
    ]  # fmt: skip
    assert [fmt.duration(v) for v in (0.0, 3e-9, 6.9e-6, 0.0125, 12.34, 4000.0)] == [
        "0 ns", "3.00 ns", "6.90 \N{MICRO SIGN}s", "12.5 ms", "12.3 s", "4,000 s",
    ]  # fmt: skip
    assert [fmt.number(v) for v in (0.0, -0.5, 0.12345, 1234.5, 1.5e7, -2e-9)] == [
        "0", f"{minus}0.5", "0.123", "1,234", "1.5e7", f"{minus}2e{minus}9",
    ]  # fmt: skip
    assert [fmt.compact(v) for v in (0.5, 200.0, 1500.0, 2e6)] == ["0.5", "200", "1.5k", "2M"]
    assert [fmt.rounded(v) for v in (0.1, 12.0, 123.0, 1e5)] == ["0.100", "12.0", "123", "100,000"]
    for show in (fmt.percent, fmt.interval, fmt.points, fmt.count, fmt.number, fmt.rounded):
        assert show(None) == dash
    assert fmt.byte_size(None) == fmt.duration(None) == dash


def test_ratios_say_the_direction() -> None:
    times = "\N{MULTIPLICATION SIGN}"

    def told(before: float | None, after: float | None) -> str | None:
        return fmt.ratio(before, after, less="smaller", more="larger")

    assert told(27562, 9178) == f"3.0{times} smaller"
    assert told(10.0, 11.0) == f"1.10{times} larger"
    assert told(7, 7) == "unchanged"
    assert told(1000.0, 999.9) == "barely smaller"
    assert told(1e6, 1.0) == f"1,000,000{times} smaller"
    assert told(0, 5) is told(5, 0) is told(None, 5) is None


@given(
    st.floats(-1e6, 1e6),
    st.floats(1e-6, 1e6),
    st.integers(2, 8),
)
def test_ticks_are_round_even_and_within(low: float, length: float, most: int) -> None:
    high = low + length
    ticks = nice_ticks(low, high, most)
    if not high > low:
        return
    assert 1 <= len(ticks) <= most + 2
    assert len(nice_ticks(0.0, length, max(most, 3))) >= 2  # an axis from 0 tells its scale
    assert all(low - 1e-6 * length <= tick <= high + 1e-6 * length for tick in ticks)
    steps = [after - before for before, after in itertools.pairwise(ticks)]
    assert all(step == pytest.approx(steps[0], rel=1e-3) for step in steps)


def test_ticks_of_counts_are_whole() -> None:
    assert nice_ticks(0.0, 3.0, 5, whole=True) == [0, 1, 2, 3]
    assert nice_ticks(0.0, 1.0, 2, whole=True) == [0, 1]
    assert nice_ticks(0.0, 0.3) == [0.0, 0.1, 0.2, 0.3]
    assert nice_ticks(1.0, 1.0) == [1.0]


@given(st.lists(st.floats(0.0, 1.0), max_size=20))
def test_ranges_hold_the_values_and_do_not_zoom_too_far(values: list[float]) -> None:
    low, high = nice_range(values, least=0.1, floor=0.0, ceiling=1.0)
    assert 0.0 <= low < high <= 1.0
    assert high - low >= 0.1 - 1e-9
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in values)
    ticks = nice_ticks(low, high)
    assert ticks[0] == pytest.approx(low)
    assert ticks[-1] == pytest.approx(high)


@given(st.lists(st.floats(0.0, 100.0), max_size=12))
def test_labels_are_moved_apart_in_order(positions: list[float]) -> None:
    moved = spaced(positions, least=8.0, low=0.0, high=100.0)
    order = sorted(range(len(positions)), key=positions.__getitem__)
    heights = [moved[index] for index in order]
    assert all(-1e-6 <= height <= 100.0 + 1e-6 for height in heights)
    assert all(b - a >= 8.0 - 1e-6 for a, b in itertools.pairwise(heights))
    if all(positions[b] - positions[a] >= 8.0 for a, b in itertools.pairwise(order)):
        assert moved == pytest.approx(positions)


def test_labels_without_room_share_it() -> None:
    assert spaced([5.0] * 11, least=12.0, low=0.0, high=10.0) == pytest.approx(range(11))
    assert spaced([50.0, 50.0], least=10.0, low=0.0, high=100.0) == [45.0, 55.0]
    assert spaced([], least=10.0, low=0.0, high=100.0) == []


def test_positions_beyond_an_axis_land_on_its_end() -> None:
    up = Scale(low=0.0, high=2.0, start=100.0, end=0.0)
    assert [up(value) for value in (-1.0, 0.0, 0.5, 2.0, 9.0)] == [100.0, 100.0, 75.0, 0.0, 0.0]
    assert Scale(low=1.0, high=1.0, start=0.0, end=10.0)(1.0) == 5.0


# --- colours -------------------------------------------------------------------------------------


def colours(scheme: str) -> dict[str, str]:
    """Return the variables of a colour scheme of the style sheet."""
    style = resources.files("nnprune.report").joinpath("templates/style.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", blocks[0]))
    if scheme != "light":
        other = blocks[1 if scheme == "dark" else 2]
        found |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", other))
    return found


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of WCAG 2.2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_contrast_is_enough_to_read(scheme: str) -> None:
    named = colours(scheme)
    pairs = [
        *((text, back) for text in ("ink", "muted", "link") for back in ("paper", "sheet")),
        ("ink", "warn-back"), ("ink", "even-back"),
        ("better", "better-back"), ("worse", "worse-back"),
    ]  # fmt: skip
    pairs += [("on-chip", f"c{number}" if number else "c0-chip") for number in range(8)]
    pairs += [(f"c{number}" if number else "c0-chip", "sheet") for number in range(8)]
    for text, back in pairs:
        assert contrast(named[text], named[back]) >= 4.5, (text, back)
    for number in range(8):
        assert contrast(named[f"c{number}"], named["sheet"]) >= 3.0, number
