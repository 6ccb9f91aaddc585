"""Entropy and energy of output intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import seeds
from nnprune import _core
from reference import energy
from reference.activation import Array

DENSITIES = ["inclusive", "printed"]
Intervals = tuple[Array, Array]


@st.composite
def intervals(draw: st.DrawFn, size: int | None = None) -> Intervals:
    """Draw intervals, some of them equal, some of no width."""
    size = draw(st.integers(1, 12)) if size is None else size
    random = np.random.default_rng(draw(seeds))
    lower = random.standard_normal(size) * draw(st.sampled_from([1e-3, 1.0, 1e3]))
    upper = lower + random.random(size) * draw(st.sampled_from([0.0, 1.0, 1e3]))
    copied = random.integers(0, size, size)
    alike = random.random(size) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    return np.where(alike, lower[copied], lower), np.where(alike, upper[copied], upper)


def alike(size: int) -> Intervals:
    return np.full(size, -1.0), np.full(size, 2.0)


def unlike(size: int) -> Intervals:
    """Return intervals no two of which are 0.9 similar."""
    ends = np.arange(size, dtype=np.float64)
    return ends, ends + 0.5


@pytest.mark.parametrize("size", [1, 2, 10])
def test_inclusive_entropy_is_0_for_all_alike_and_ln_m_for_none(size: int) -> None:
    assert _core.entropy(*alike(size), density="inclusive") == 0.0
    found = _core.entropy(*unlike(size), density="inclusive")
    assert found == pytest.approx(math.log(size), abs=1e-12)


@pytest.mark.parametrize("size", [1, 2, 10])
def test_printed_entropy_is_0_for_none_alike_and_more_for_all(size: int) -> None:
    assert _core.entropy(*unlike(size), density="printed") == 0.0
    share = (size - 1) / size
    expected = -size * share * math.log(share) if share else 0.0
    found = _core.entropy(*alike(size), density="printed")
    assert found == pytest.approx(expected, abs=1e-12)
    assert found > 0.0 or size == 1


@given(drawn=intervals(), density=st.sampled_from(DENSITIES), phi=st.floats(0.0, 1.0))
def test_entropy_equals_the_twin(drawn: Intervals, density: str, phi: float) -> None:
    found = _core.entropy(*drawn, similarity=phi, density=density)
    expected = energy.entropy(*drawn, threshold=phi, density=density)
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert found >= 0.0


@given(
    data=st.data(),
    size=st.integers(1, 10),
    density=st.sampled_from(DENSITIES),
    normalization=st.sampled_from(["scaled", "none"]),
    alpha=st.floats(0.0, 1.0),
    reference=st.floats(1e-6, 1e6),
)
def test_energy_equals_the_twin(
    data: st.DataObject, size: int, density: str, normalization: str, alpha: float, reference: float
) -> None:
    delta, base = data.draw(intervals(size)), data.draw(intervals(size))
    found = _core.energy(
        *delta,
        *base,
        reference=reference,
        alpha=alpha,
        density=density,
        normalization=normalization,
    )
    expected = energy.energy(
        delta,
        base,
        reference=reference,
        alpha=alpha,
        density=density,
        normalization=normalization,
    )
    assert found == pytest.approx(expected, rel=1e-12)
    assert 0.0 <= found <= 1.0


@pytest.mark.parametrize("density", DENSITIES)
def test_a_range_of_no_length_or_no_end_makes_all_alike(density: str) -> None:
    everywhere = (np.full(3, -np.inf), np.full(3, np.inf))
    half = (np.array([0.0, -np.inf, 1.0]), np.array([1.0, 2.0, np.inf]))
    point = (np.full(3, 7.0), np.full(3, 7.0))
    expected = _core.entropy(*alike(3), density=density)
    for found in (everywhere, half, point):
        assert _core.entropy(*found, density=density) == expected


def test_an_infinite_impact_has_the_greatest_size_term() -> None:
    base = alike(2)
    infinite = (np.array([-np.inf, 0.0]), np.array([0.0, 1.0]))
    found = _core.energy(*infinite, *base, reference=3.0, alpha=1.0)
    assert found == 1.0
    mixed = _core.energy(*infinite, *base, reference=3.0, alpha=0.75)
    # All outputs count as alike, so that ENT is 0 and its logistic one half.
    assert mixed == pytest.approx(0.75 + 0.25 * 0.5)
    none = _core.energy(*infinite, *base, reference=3.0, alpha=1.0, normalization="none")
    assert none == 1.0


def test_no_impact_has_the_least_size_term() -> None:
    zero = (np.zeros(2), np.zeros(2))
    assert _core.energy(*zero, *alike(2), reference=3.0, alpha=1.0) == 0.0


def test_the_size_term_is_that_of_the_candidate_alone() -> None:
    delta, small, large = alike(4), alike(4), (np.full(4, -1e3), np.full(4, 1e3))
    for base in (small, large):
        assert _core.energy(*delta, *base, reference=12.0, alpha=1.0) == pytest.approx(0.5)
