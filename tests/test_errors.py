"""What the core refuses, and with which exception."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from nnprune import _core, errors
from nnprune._core import NetworkBuilder
from numpy.typing import NDArray

Weights = NDArray[np.float32]


def weights(*shape: int) -> Weights:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def small_network(units: int = 4) -> _core.Network:
    builder = NetworkBuilder()
    builder.input("x", (3,))
    builder.dense("hidden", "x", weights(3, units), weights(units))
    builder.activation("act", "hidden", "relu")
    builder.dense("out", "act", weights(units, 2))
    return builder.build(["out"])


BOX = ([np.zeros(3)], [np.ones(3)])


def call_prune(network: _core.Network, **changed: Any) -> _core.Pruning:
    options: dict[str, Any] = {
        "lower": BOX[0],
        "upper": BOX[1],
        "layers": ["hidden"],
        "target": 0.5,
        "step": 0.5,
        "method": {"name": "one_shot"},
        "outgoing": "l2",
        "seed": 0,
    }
    return _core.prune(network, **{**options, **changed})


def test_bounds_of_a_wrong_dtype_are_refused() -> None:
    network = small_network()
    for bad in (np.zeros(3, dtype=np.float32), [0.0, 0.0, 0.0], np.zeros(3, dtype=np.int64)):
        with pytest.raises((TypeError, errors.ConfigError)):
            network.value_intervals([bad], [np.ones(3)])  # type: ignore[list-item]


class TestWeights:
    """What is wrong with a weight is said with the layer's name."""

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("which", ["kernel", "bias"])
    def test_not_finite(self, bad: float, which: str) -> None:
        arrays = {"kernel": weights(3, 2), "bias": weights(2)}
        arrays[which].flat[1] = bad
        builder = NetworkBuilder()
        builder.input("x", (3,))
        with pytest.raises(errors.WeightError, match="fc7.*" + which):
            builder.dense("node", "x", arrays["kernel"], arrays["bias"], layer="fc7")

    @pytest.mark.parametrize("which", ["mean", "variance", "gamma", "beta"])
    def test_not_finite_in_a_normalization(self, which: str) -> None:
        names = ("mean", "variance", "gamma", "beta")
        arrays: dict[str, Any] = {name: np.ones(3, dtype=np.float32) for name in names}
        arrays[which][2] = np.nan
        builder = NetworkBuilder()
        builder.input("x", (3,))
        with pytest.raises(errors.WeightError, match="bn1"):
            builder.batch_normalization("bn1", "x", **arrays, epsilon=1e-3)

    def test_negative_variance(self) -> None:
        builder = NetworkBuilder()
        builder.input("x", (3,))
        ones = np.ones(3, dtype=np.float32)
        with pytest.raises(errors.WeightError, match="bn1"):
            builder.batch_normalization("bn1", "x", mean=ones, variance=-ones, epsilon=1e-3)

    @pytest.mark.parametrize(
        ("kernel", "bias"),
        [
            (weights(4, 2), weights(2)),
            (weights(3, 2), weights(3)),
            (weights(3), None),
            (weights(3, 2, 1), None),
            (weights(0, 2), None),
            (weights(3, 0), None),
            (weights(3, 2), weights(0)),
            (weights(3, 2), weights(1, 2)),
        ],
        ids=lambda array: str(getattr(array, "shape", None)),
    )
    def test_wrong_shape(self, kernel: Weights, bias: Weights | None) -> None:
        builder = NetworkBuilder()
        builder.input("x", (3,))
        with pytest.raises((errors.WeightError, errors.ConfigError), match="fc7"):
            builder.dense("fc7", "x", kernel, bias)

    def test_wrong_shape_of_a_convolution(self) -> None:
        builder = NetworkBuilder()
        builder.input("x", (4, 4, 3))
        window: dict[str, Any] = {"strides": [1, 1], "dilation": [1, 1], "padding": "valid"}
        for kernel in (weights(2, 2, 2, 5), weights(5, 5, 3, 5), weights(3, 5), weights(2, 3, 5)):
            with pytest.raises(errors.NnpruneError, match="conv"):
                builder.conv("conv", "x", kernel, **window)

    def test_the_builder_survives_a_refused_node(self) -> None:
        builder = NetworkBuilder()
        builder.input("x", (3,))
        with pytest.raises(errors.NnpruneError):
            builder.dense("out", "x", weights(9, 2))
        builder.dense("out", "x", weights(3, 2))
        assert builder.build(["out"]).outputs == ["out"]


class TestNames:
    """Names that are unknown or used twice."""

    def test_duplicate(self) -> None:
        builder = NetworkBuilder()
        builder.input("x", (3,))
        with pytest.raises(errors.ModelError, match="'x'"):
            builder.input("x", (3,))

    def test_unknown_source(self) -> None:
        builder = NetworkBuilder()
        builder.input("x", (3,))
        with pytest.raises(errors.ModelError, match="nowhere"):
            builder.dense("out", "nowhere", weights(3, 2))
        with pytest.raises(errors.ModelError, match="nowhere"):
            builder.add("sum", ["x", "nowhere"])
        with pytest.raises(errors.ModelError, match="nowhere"):
            builder.shape("nowhere")

    def test_unknown_output(self) -> None:
        builder = NetworkBuilder()
        builder.input("x", (3,))
        with pytest.raises(errors.ModelError, match="nowhere"):
            builder.build(["nowhere"])

    def test_no_output(self) -> None:
        builder = NetworkBuilder()
        builder.input("x", (3,))
        with pytest.raises(errors.ModelError):
            builder.build([])

    def test_unknown_layer(self) -> None:
        network = small_network()
        with pytest.raises(errors.UnknownLayerError, match=r"nowhere.*hidden"):
            network.saliency("nowhere")
        with pytest.raises(errors.UnknownLayerError, match=r"nowhere.*hidden"):
            network.masked("nowhere", [(0, 1)])
        with pytest.raises(errors.UnknownLayerError, match=r"nowhere.*hidden"):
            call_prune(network, layers=["nowhere"])
        with pytest.raises(errors.ModelError, match="nowhere"):
            network.weights("nowhere")

    def test_a_layer_that_cannot_be_pruned(self) -> None:
        with pytest.raises(errors.UnknownLayerError, match=r"out.*output"):
            call_prune(small_network(), layers=["out"])

    @pytest.mark.parametrize(
        "changed",
        [
            {"method": {"name": "magic"}},
            {"method": {}},
            {"method": {"name": "greedy"}},
            {"method": {"name": "greedy", "impact": "interval", "pool": 0}},
            {"method": {"name": "greedy", "impact": "all", "pool": 4}},
            {"bias": "printed"},
            {"max_output_change": 0.0},
            {"max_output_change": float("inf")},
            {"outgoing": "l3"},
            {"target": 0.0},
            {"target": 1.0},
            {"target": float("nan")},
            {"step": 0.0},
            {"step": 1.5},
        ],
        ids=str,
    )
    def test_options_out_of_range(self, changed: dict[str, Any]) -> None:
        with pytest.raises(errors.ConfigError, match=next(iter(changed)) + "|pool|impact"):
            call_prune(small_network(), **changed)

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("alpha", 1.5),
            ("alpha", float("nan")),
            ("similarity", -0.1),
            ("density", "exclusive"),
            ("normalization", "all"),
            ("impact", "all"),
            ("restart", "always"),
            ("pool", 0),
            ("pool", -1),
            ("rewalks", -1),
        ],
    )
    def test_options_of_annealing_out_of_range(self, option: str, value: Any) -> None:
        method = {
            "name": "annealing",
            "alpha": 0.75,
            "similarity": 0.9,
            "density": "inclusive",
            "normalization": "scaled",
            "impact": "interval",
            "pool": 4,
            "rewalks": 1,
            "restart": "never",
        }
        with pytest.raises(errors.ConfigError, match=option):
            call_prune(small_network(), method={**method, option: value})

    def test_unknown_kinds(self) -> None:
        builder = NetworkBuilder()
        builder.input("x", (4, 3))
        with pytest.raises(errors.ConfigError, match="swoosh"):
            builder.activation("a", "x", "swoosh")
        with pytest.raises(errors.ConfigError, match="median"):
            builder.global_pool("p", "x", "median")
        with pytest.raises(errors.ConfigError, match="loose"):
            builder.pool("p", "x", "max", window=[2], strides=[1], padding="loose")

    def test_pairs_must_be_two_units_of_the_layer(self) -> None:
        network = small_network(4)
        for pairs in ([(0, 0)], [(0, 4)], [(4, 0)], [(0, 1), (0, 2)], [(0, 1), (2, 0)]):
            with pytest.raises(errors.ConfigError):
                network.masked("hidden", pairs)
            with pytest.raises(errors.ConfigError):
                network.joint_impact("hidden", pairs, *BOX)

    def test_a_unit_without_gain_is_no_delegate(self) -> None:
        builder = NetworkBuilder()
        builder.input("x", (3,))
        builder.dense("hidden", "x", weights(3, 3))
        builder.activation("act", "hidden", "relu")
        gamma = np.array([1.0, 0.0, 2.0], dtype=np.float32)
        ones = np.ones(3, dtype=np.float32)
        options: dict[str, Any] = {"mean": ones, "variance": ones, "epsilon": 1e-3}
        builder.batch_normalization("norm", "act", gamma=gamma, beta=ones, **options)
        builder.dense("out", "norm", weights(3, 2))
        network = builder.build(["out"])
        assert np.all(network.saliency("hidden")[:, 1] == np.inf)
        low, high = network.impact("hidden", [(1, 0)], *BOX)
        # Its own value never mattered.
        assert np.all(low == 0.0)
        assert np.all(high == 0.0)
        with pytest.raises(errors.ConfigError):
            network.masked("hidden", [(0, 1)])
        with pytest.raises(errors.ConfigError):
            network.impact("hidden", [(0, 1)], *BOX)
        merges = call_prune(network, target=0.6).merges
        assert [merge["nominee"] for merge in merges][:1] == [1]
        assert all(merge["delegate"] != 1 for merge in merges)


class TestBounds:
    """Input boxes that are no boxes of the input."""

    @pytest.mark.parametrize(
        ("lower", "upper"),
        [
            ([np.ones(3)], [np.zeros(3)]),
            ([np.zeros(3)], [np.array([1.0, np.nan, 1.0])]),
            ([np.array([0.0, -np.inf, 0.0])], [np.ones(3)]),
            ([np.zeros(3)], [np.array([1.0, 1.0, np.inf])]),
            ([np.zeros(2)], [np.ones(2)]),
            ([np.zeros(3)], [np.ones(2)]),
            ([np.zeros(0)], [np.ones(0)]),
            ([np.zeros((1, 3))], [np.ones((1, 3))]),
            ([], []),
            ([np.zeros(3)], []),
            ([np.zeros(3), np.zeros(3)], [np.ones(3), np.ones(3)]),
        ],
        ids=str,
    )
    def test_refused(self, lower: list[Any], upper: list[Any]) -> None:
        network = small_network()
        calls: list[Callable[[], object]] = [
            lambda: network.value_intervals(lower, upper),
            lambda: network.impact("hidden", [(0, 1)], lower, upper),
            lambda: network.joint_impact("hidden", [(0, 1)], lower, upper),
            lambda: call_prune(network, lower=lower, upper=upper),
        ]
        for call in calls:
            with pytest.raises(errors.BoundsError):
                call()

    def test_a_transposed_image_is_refused(self) -> None:
        builder = NetworkBuilder()
        builder.input("x", (2, 3))
        builder.dense("out", "x", weights(3, 2))
        network = builder.build(["out"])
        with pytest.raises(errors.BoundsError):
            network.value_intervals([np.zeros((3, 2))], [np.ones((3, 2))])


def test_every_error_is_of_the_package_family() -> None:
    for error in (errors.ConfigError, errors.ModelError):
        assert issubclass(error, errors.NnpruneError)
        assert issubclass(error, ValueError)


def test_nothing_to_prune_says_why() -> None:
    with pytest.raises(errors.NothingToPruneError, match=r"0\.05"):
        call_prune(small_network(), target=0.05)
    builder = NetworkBuilder()
    builder.input("x", (3,))
    builder.dense("out", "x", weights(3, 2))
    with pytest.raises(errors.NothingToPruneError, match="out"):
        call_prune(builder.build(["out"]), layers=[])
