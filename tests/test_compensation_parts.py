"""The steps of a compensation by themselves: systems, orders, searches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from compensations import SEARCH
from hypothesis import given
from hypothesis import strategies as st
from networks import seeds
from nnprune import _core, errors
from reference.activation import Array
from reference.compensation import eliminate, losses, with_ridge

Consumers = tuple[list[Array], list[Array]]


def consumers(seed: int, units: int, rank: int, count: int = 1) -> Consumers:
    """Draw covariances of some rank, and weights, for consumers of one layer's units."""
    random = np.random.default_rng(seed)
    roots = [random.standard_normal((units, rank)) for _ in range(count)]
    covariances = [root @ root.T / rank for root in roots]
    outputs = random.integers(1, 6, count)
    return covariances, [random.standard_normal((units, n)) for n in outputs]


@given(seed=seeds, units=st.integers(1, 150), rows=st.integers(1, 70))
def test_a_regular_system_is_solved_without_a_ridge(seed: int, units: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    (matrix,), _ = consumers(seed, units, 2 * units)
    matrix = matrix + 0.1 * np.eye(units)
    right = random.standard_normal((rows, units))
    solved, ridge = _core.solve_regularised(matrix, right, 0.0)
    assert ridge == 0.0
    np.testing.assert_allclose(solved, np.linalg.solve(matrix, right.T).T, rtol=1e-7, atol=1e-9)


@given(seed=seeds, units=st.integers(3, 150), ridge=st.sampled_from([1e-6, 1e-3, 1.0]))
def test_the_ridge_is_relative_to_the_mean_diagonal_element(
    seed: int, units: int, ridge: float
) -> None:
    (matrix,), _ = consumers(seed, units, max(1, units // 3))
    right = np.eye(units)[:2]
    solved, used = _core.solve_regularised(matrix, right, ridge)
    assert used == ridge
    expected = np.linalg.solve(with_ridge(matrix, ridge), right.T).T
    np.testing.assert_allclose(solved, expected, rtol=1e-6, atol=1e-6 / ridge)


@given(seed=seeds, units=st.integers(3, 100))
def test_a_singular_system_is_regularised_and_says_so(seed: int, units: int) -> None:
    (matrix,), _ = consumers(seed, units, units // 2)
    right = np.random.default_rng(seed).standard_normal((2, units)) @ matrix
    solved, used = _core.solve_regularised(matrix, right, 0.0)
    assert 0.0 < used < 1e-6
    np.testing.assert_allclose(solved @ matrix, right, atol=1e-3 * np.abs(right).max())


def test_nothing_but_zeros_is_regularised_too() -> None:
    solved, used = _core.solve_regularised(np.zeros((3, 3)), np.zeros((1, 3)), 0.0)
    assert used > 0.0
    assert np.all(solved == 0.0)


@given(
    seed=seeds,
    units=st.integers(1, 90),
    count=st.integers(1, 3),
    ridge=st.sampled_from([1e-4, 1e-2]),
)
def test_the_order_and_its_losses_equal_the_twin(
    seed: int, units: int, count: int, ridge: float
) -> None:
    covariances, weights = consumers(seed, units, 2 * units, count)
    order, lost = _core.eliminate(covariances, weights, ridge)
    expected_order, expected = eliminate(covariances, weights, ridge)
    assert list(order) == expected_order
    np.testing.assert_allclose(lost, expected, rtol=1e-6, atol=1e-9 * expected[-1])


@given(seed=seeds, units=st.integers(2, 300), rank=st.integers(1, 200))
def test_every_loss_is_that_of_solving_for_what_is_kept(seed: int, units: int, rank: int) -> None:
    covariances, weights = consumers(seed, units, rank, 2)
    order, lost = _core.eliminate(covariances, weights, 1e-3)
    assert sorted(order) == list(range(units))
    for gone in {0, 1, units // 2, units - 1, units}:
        pairs = zip(covariances, weights, strict=True)
        direct = sum(losses(c, w, np.sort(order[gone:]), 1e-3).sum() for c, w in pairs)
        np.testing.assert_allclose(lost[gone], direct, rtol=1e-5, atol=1e-8 * lost[-1])


@given(seed=seeds, units=st.integers(3, 80))
def test_combinations_of_other_units_go_first_and_cost_nothing(seed: int, units: int) -> None:
    random = np.random.default_rng(seed)
    values = random.standard_normal((4 * units, units))
    spare = random.choice(units, units // 3, replace=False)
    rest = np.setdiff1d(np.arange(units), spare)
    values[:, spare] = values[:, rest] @ random.standard_normal((len(rest), len(spare)))
    covariance = values.T @ values / len(values)
    weights = random.standard_normal((units, 3))
    _, lost = _core.eliminate([covariance], [weights], 1e-10)
    assert lost[len(spare)] <= 1e-5 * lost[-1]


def kept_by_elimination(covariances: list[Array], weights: list[Array], count: int) -> list[int]:
    order, _ = _core.eliminate(covariances, weights, 1e-3)
    return sorted(int(unit) for unit in order[len(order) - count :])


@given(
    seed=seeds,
    units=st.integers(4, 150),
    count=st.integers(1, 2),
    alpha=st.sampled_from([0.5, 1.0]),
)
def test_a_search_ends_no_worse_than_it_began_and_tells_its_true_loss(
    seed: int, units: int, count: int, alpha: float
) -> None:
    covariances, weights = consumers(seed, units, 2 * units, count)
    start = kept_by_elimination(covariances, weights, units // 2)
    options = {**SEARCH, "moves": 600, "alpha": alpha}
    kept, loss, moves = _core.search_units(covariances, weights, start, 1e-3, options, seed)
    again = _core.search_units(covariances, weights, start, 1e-3, options, seed)
    assert list(kept) == list(again[0])
    assert moves == 1200
    assert len(set(kept)) == len(start)

    def direct(units_kept: list[int]) -> float:
        pairs = zip(covariances, weights, strict=True)
        return float(sum(losses(c, w, units_kept, 1e-3).sum() for c, w in pairs))

    np.testing.assert_allclose(loss, direct(list(kept)), rtol=1e-6)
    if alpha == 1.0:
        assert loss <= direct(start) * (1.0 + 1e-9)


@given(seed=seeds)
def test_a_long_search_finds_the_best_of_all_sets(seed: int) -> None:
    units = 8
    covariances, weights = consumers(seed, units, 5)
    start = kept_by_elimination(covariances, weights, 4)
    options = {**SEARCH, "moves": 2000, "chains": 4, "heat": 1.0}
    _, loss, _ = _core.search_units(covariances, weights, start, 1e-2, options, 0)
    sets = itertools.combinations(range(units), 4)
    best = min(losses(covariances[0], weights[0], kept, 1e-2).sum() for kept in sets)
    np.testing.assert_allclose(loss, best, rtol=1e-6)


def test_seeds_walk_differently() -> None:
    covariances, weights = consumers(0, 60, 90)
    options = {**SEARCH, "moves": 30, "chains": 1}
    start = list(range(30))
    found = [_core.search_units(covariances, weights, start, 1e-3, options, s) for s in (0, 1)]
    assert list(found[0][0]) != list(found[1][0])


def test_bad_statistics_are_named() -> None:
    matrix = np.eye(3)
    with pytest.raises(errors.ConfigError, match="rows: expected finite values with 3 columns"):
        _core.solve_regularised(matrix, np.zeros((1, 2)), 0.0)
    with pytest.raises(errors.ConfigError, match="covariance: expected a square matrix"):
        _core.eliminate([matrix[:2]], [np.zeros((3, 1))], 0.0)
    with pytest.raises(errors.ConfigError, match="covariance: expected a square matrix"):
        _core.solve_regularised(matrix * np.nan, matrix, 0.0)
    with pytest.raises(errors.ConfigError, match="weights: expected finite values"):
        _core.eliminate([matrix], [np.zeros((2, 1))], 0.0)
    with pytest.raises(errors.ConfigError, match="expected one for each"):
        _core.eliminate([matrix], [], 0.0)
    with pytest.raises(errors.ConfigError, match="start: expected different units below 3"):
        _core.search_units([matrix], [matrix], [1, 1], 0.0, SEARCH, 0)
