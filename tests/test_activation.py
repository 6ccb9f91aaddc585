"""Values, slopes and their ranges over an interval."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import PARAMETERS, activations
from nnprune import _core
from reference import activation
from reference.activation import KINDS, Array

CASES = [(kind, parameters) for kind in KINDS for parameters in PARAMETERS.get(kind, ({},))]
JUMPING: list[tuple[str, Mapping[str, float]]] = [
    ("relu", {"threshold": 1.0}),
    ("relu", {"threshold": 0.5, "max_value": 2.0, "negative_slope": 0.25}),
]
Drawn = tuple[str, Mapping[str, float]]

ends = st.floats(-12.0, 12.0, allow_subnormal=False)


def grid(lower: float, upper: float) -> Array:
    return np.linspace(lower, upper, 4001)


def secants(kind: str, points: Array, parameters: Mapping[str, float]) -> Array:
    gaps = np.diff(points)
    rises = np.diff(activation.value(kind, points, parameters))
    # Short secants drown in rounding.
    return np.asarray((rises / np.where(gaps > 1e-7, gaps, np.inf))[gaps > 1e-7])


def core_range(
    kind: str, lower: Array, upper: Array, parameters: Mapping[str, float]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    found = _core.activation_range(kind, lower, upper, parameters=dict(parameters))
    return (found[0], found[1]), (found[2], found[3])


@pytest.mark.parametrize(("kind", "parameters"), CASES)
def test_the_twin_slope_is_the_derivative(kind: str, parameters: Mapping[str, float]) -> None:
    points = np.linspace(-9.7713, 9.8331, 2001)
    nearest = np.array(activation.kinks(kind, parameters) or [np.inf])
    points = points[np.min(np.abs(points[:, None] - nearest), axis=1) > 1e-3]
    step = 1e-6
    rise = activation.value(kind, points + step, parameters) - activation.value(
        kind, points - step, parameters
    )
    slope = activation.slope(kind, points, parameters)
    np.testing.assert_allclose(rise / (2 * step), slope, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("kind", "parameters"), [*CASES, *JUMPING])
def test_the_twin_ranges_are_those_of_dense_samples(
    kind: str, parameters: Mapping[str, float]
) -> None:
    random = np.random.default_rng(1)
    for _ in range(40):
        lower, upper = np.sort(random.uniform(-8.0, 8.0, 2))
        points = grid(lower, upper)
        low, high = activation.value_range(kind, points[:1], points[-1:], parameters)
        values = activation.value(kind, points, parameters)
        steepness = 10.0 + np.max(np.abs(values))
        mesh = (upper - lower) / 4000
        assert 0.0 <= values.min() - low[0] + 1e-12 <= steepness * mesh + 2e-12
        assert 0.0 <= high[0] - values.max() + 1e-12 <= steepness * mesh + 2e-12
        least, most = activation.slope_range(kind, points[:1], points[-1:], parameters)
        slopes = secants(kind, points, parameters)
        assert np.all(least - 1e-9 <= slopes)
        assert np.all(slopes <= most + 1e-9)
        if not activation.jumps(kind, parameters):
            bend = np.max(np.abs(np.diff(slopes))) + 1e-9
            assert slopes.min() - least[0] <= bend
            assert most[0] - slopes.max() <= bend


@given(drawn=activations(), one=ends, other=ends)
def test_ranges_equal_the_twin(drawn: Drawn, one: float, other: float) -> None:
    kind, parameters = drawn
    lower, upper = np.array([min(one, other)]), np.array([max(one, other)])
    value, slope = core_range(kind, lower, upper, parameters)
    twin = activation.value_range(kind, lower, upper, parameters)
    np.testing.assert_allclose(value, twin, rtol=1e-12, atol=1e-12)
    kinks = activation.kinks(kind, parameters)
    if not {float(lower[0]), float(upper[0])} & set(kinks) and lower[0] < upper[0]:
        twin = activation.slope_range(kind, lower, upper, parameters)
        np.testing.assert_allclose(slope, twin, rtol=1e-9, atol=1e-12)


@given(drawn=st.one_of(activations(), st.sampled_from(JUMPING)), one=ends, other=ends)
def test_ranges_contain_dense_samples(drawn: Drawn, one: float, other: float) -> None:
    kind, parameters = drawn
    points = grid(min(one, other), max(one, other))
    value, slope = core_range(kind, points[:1], points[-1:], parameters)
    values = activation.value(kind, points, parameters)
    # The samples themselves are rounded: a few units in the last place.
    pad = 1e-14 * (1.0 + np.abs(values))
    assert np.all(value[0] - pad <= values)
    assert np.all(values <= value[1] + pad)
    slopes = secants(kind, points, parameters)
    assert np.all(slope[0] - 1e-8 <= slopes)
    assert np.all(slopes <= slope[1] + 1e-8)


@pytest.mark.parametrize(("kind", "parameters"), [*CASES, *JUMPING])
def test_kinks_and_turning_points_as_ends(kind: str, parameters: Mapping[str, float]) -> None:
    special = [-3.0, -1.5, -1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 6.0, -1.278464542761074, 2**0.5]
    for lower in special:
        for upper in [value for value in special if value >= lower]:
            points = grid(lower, upper)
            value, slope = core_range(kind, points[:1], points[-1:], parameters)
            values = activation.value(kind, points, parameters)
            assert np.all(value[0] - 1e-14 <= values)
            assert np.all(values <= value[1] + 1e-14)
            slopes = secants(kind, points, parameters)
            assert np.all(slope[0] - 1e-8 <= slopes)
            assert np.all(slopes <= slope[1] + 1e-8)


@pytest.mark.parametrize(("kind", "parameters"), [*CASES, *JUMPING])
def test_far_and_infinite_ends(kind: str, parameters: Mapping[str, float]) -> None:
    far = np.array([-np.inf, -1e300, -800.0, -40.0, 40.0, 800.0, 1e300, np.inf])
    lower, upper = (ends.ravel() for ends in np.meshgrid(far, far))
    ordered = lower <= upper
    value, slope = core_range(kind, lower[ordered], upper[ordered], parameters)
    for low, high in (value, slope):
        assert not np.any(np.isnan(low) | np.isnan(high))
        assert np.all(low <= high)
    near = [np.clip(ends[ordered], -1e300, 1e300) for ends in (lower, upper)]
    inner = activation.value_range(kind, near[0], near[1], parameters)
    pad = 1e-14 * np.where(np.isfinite(inner), np.abs(inner), 0.0) + 1e-14
    finite = (lower[ordered] < np.inf) & (upper[ordered] > -np.inf)
    assert np.all((value[0] <= inner[0] + pad[0])[finite])
    assert np.all((inner[1] - pad[1] <= value[1])[finite])


def test_several_intervals_at_once_keep_their_order() -> None:
    lower = np.array([-2.0, -1.0, 1.0])
    upper = np.array([-1.0, 1.0, 2.0])
    value, slope = core_range("relu", lower, upper, {})
    np.testing.assert_array_equal(value, [[0.0, 0.0, 1.0], [0.0, 1.0, 2.0]])
    np.testing.assert_array_equal(slope, [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]])


@pytest.mark.parametrize(("kind", "parameters"), [*CASES, *JUMPING])
def test_the_definitions_are_those_of_keras(kind: str, parameters: Mapping[str, float]) -> None:
    activations_of_keras = pytest.importorskip("keras").activations
    x = np.linspace(-8.0, 8.0, 641, dtype=np.float32)
    options = dict(parameters)
    if kind.startswith("gelu"):
        options["approximate"] = kind == "gelu_tanh"
    function = getattr(activations_of_keras, kind.removesuffix("_tanh") if "gelu" in kind else kind)
    expected = np.asarray(function(x, **options))
    found = activation.value(kind, x.astype(np.float64), parameters)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)
