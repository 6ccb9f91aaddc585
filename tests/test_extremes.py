"""Numbers at the edge: overflow, tiny gains, boundless options. Found by review, kept as tests."""

from __future__ import annotations

from typing import Any

import nnprune
import numpy as np
import pytest
from nnprune import _core, errors
from reference.prune import DEFAULTS

METHODS: list[dict[str, Any]] = [
    {**DEFAULTS, "name": "annealing"},
    {"name": "greedy", "impact": "interval", "pool": 4},
    {"name": "one_shot"},
]


def prune(network: _core.Network, method: dict[str, Any], width: int) -> _core.Pruning:
    box = [np.zeros(width)], [np.ones(width)]
    return _core.prune(
        network, *box, layers=[], target=0.25, step=1.0, method=method, outgoing="l2", seed=0
    )


def with_tiny_gain() -> _core.Network:
    """Return a network whose units 0 and 1 are alike, but that 1 is scaled to almost nothing."""
    random = np.random.default_rng(0)
    kernel = random.standard_normal((3, 4)).astype(np.float32)
    kernel[:, 1] = kernel[:, 0]
    builder = _core.NetworkBuilder()
    builder.input("x", (3,))
    builder.dense("hidden", "x", kernel)
    builder.activation("relu", "hidden", "relu")
    builder.batch_normalization(
        "norm",
        "relu",
        mean=np.zeros(4, np.float32),
        variance=np.ones(4, np.float32),
        epsilon=1e-3,
        gamma=np.array([1, 1e-38, 1, 1], np.float32),
    )
    builder.dense("out", "norm", random.standard_normal((4, 2)).astype(np.float32))
    return builder.build(["out"])


@pytest.mark.parametrize("method", METHODS, ids=lambda method: str(method["name"]))
def test_a_tiny_gain_does_not_blow_weights_up(method: dict[str, Any]) -> None:
    pruning = prune(with_tiny_gain(), method, 3)
    assert all(merge["delegate"] != 1 for merge in pruning.merges)
    assert np.all(np.isfinite(pruning.network.weights("out")["kernel"]))
    assert np.all(np.isfinite(pruning.impact))


def test_weights_too_large_to_be_added_are_refused() -> None:
    builder = _core.NetworkBuilder()
    builder.input("x", (2,))
    builder.dense("hidden", "x", np.eye(2, 4, dtype=np.float32))
    builder.dense("out", "hidden", np.full((4, 2), 3e38, np.float32))
    network = builder.build(["out"])
    for method in METHODS:
        with pytest.raises(errors.WeightError, match=r"'out'.*'hidden'.*float32"):
            prune(network, method, 2)


def test_sums_that_overflow_are_unbounded_and_not_a_point() -> None:
    builder = _core.NetworkBuilder()
    builder.input("x", (1,))
    builder.dense("big", "x", np.array([[10.0]], np.float32))
    builder.activation("tanh", "big", "tanh")
    network = builder.build(["tanh"])
    lower, upper = network.value_intervals([np.zeros(1)], [np.array([1e308])])["tanh"]
    assert lower[0] <= 0.0
    assert upper[0] >= 1.0


def test_a_value_behind_an_opaque_op_is_not_made_up() -> None:
    builder = _core.NetworkBuilder()
    builder.input("x", (2,))
    builder.opaque("unknown", ["x"], (2,), "no rule")
    with pytest.raises(errors.ModelError, match="unknown"):
        builder.build(["unknown"]).evaluate([np.zeros(2)])


@pytest.mark.parametrize("pool", [0, 2**40, 2**63])
def test_boundless_pools_and_walks_are_refused(pool: int) -> None:
    with pytest.raises(errors.ConfigError, match="pool"):
        nnprune.prune("nowhere.keras", target=0.5, method=nnprune.Greedy(pool=pool))
    with pytest.raises(errors.ConfigError, match="rewalks"):
        nnprune.prune("nowhere.keras", target=0.5, method=nnprune.Annealing(rewalks=pool or 2**33))


def test_a_unit_behind_an_opaque_op_is_ranked_by_saliency_alone() -> None:
    random = np.random.default_rng(1)
    builder = _core.NetworkBuilder()
    builder.input("x", (3,))
    builder.opaque("unknown", ["x"], (5,), "no rule")
    builder.dense("hidden", "unknown", random.standard_normal((5, 8)).astype(np.float32))
    builder.activation("relu", "hidden", "relu")
    builder.dense("out", "relu", random.standard_normal((8, 2)).astype(np.float32))
    network = builder.build(["out"])
    for method in METHODS:
        pruning = prune(network, method, 3)
        assert len(pruning.merges) == 2
        assert np.all(np.isinf(pruning.impact))
