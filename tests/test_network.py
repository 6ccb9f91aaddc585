"""Which units may go, and what is said of those that may not."""

from __future__ import annotations

import numpy as np
import pytest
from nnprune import _core
from nnprune._core import NetworkBuilder
from numpy.typing import NDArray


def weights(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def reasons(network: _core.Network) -> dict[str, str | None]:
    return {group.layer: group.reason for group in network.groups}


def started(width: int = 4) -> NetworkBuilder:
    builder = NetworkBuilder()
    builder.input("x", (3,))
    builder.dense("hidden", "x", weights(3, width), weights(width))
    builder.activation("act", "hidden", "relu")
    return builder


def test_a_plain_layer_may_go_and_the_outputs_stay() -> None:
    builder = started()
    builder.dense("out", "act", weights(4, 2))
    network = builder.build(["out"])
    found = reasons(network)
    assert found["hidden"] is None
    assert "output" in str(found["out"])
    (group, _) = network.groups
    assert group.node == "hidden"
    assert group.units == 4
    assert group.consumers == ["out"]
    assert group.path == ["act"]


def test_nodes_tell_their_shapes_and_costs() -> None:
    builder = started()
    builder.dense("out", "act", weights(4, 2))
    network = builder.build(["out"])
    info = {node.name: node for node in network.nodes}
    assert info["hidden"].kind == "Dense"
    assert info["hidden"].shape == (4,)
    assert info["hidden"].sources == ["x"]
    assert info["hidden"].parameters == 3 * 4 + 4
    assert info["hidden"].macs == 3 * 4
    assert network.inputs == ["x"]
    assert network.outputs == ["out"]


@pytest.mark.parametrize("final", ["softmax", "sigmoid"])
def test_a_final_softmax_or_sigmoid_is_left_out_of_the_logits(final: str) -> None:
    builder = started()
    builder.dense("out", "act", weights(4, 2))
    if final == "softmax":
        builder.softmax("final", "out")
    else:
        builder.activation("final", "out", final)
    builder.identity("last", "final")
    network = builder.build(["last"])
    assert network.logits == ["out"]
    assert reasons(network)["hidden"] is None
    assert "output" in str(reasons(network)["out"])


def test_another_final_activation_is_part_of_the_logits() -> None:
    builder = started()
    builder.dense("out", "act", weights(4, 2))
    builder.activation("final", "out", "tanh")
    assert builder.build(["final"]).logits == ["final"]


def test_units_that_are_also_outputs_stay() -> None:
    builder = started()
    builder.dense("out", "act", weights(4, 2))
    assert "output" in str(reasons(builder.build(["out", "act"]))["hidden"])


def test_shared_layers_stay() -> None:
    builder = started()
    kernel = weights(4, 4)
    builder.dense("once", "act", kernel, layer="shared")
    builder.activation("between", "once", "relu")
    builder.dense("twice", "between", kernel, layer="shared")
    builder.dense("out", "twice", weights(4, 2))
    found = reasons(builder.build(["out"]))
    assert "more than once" in str(found["shared"])
    # Its units would have to be merged in the shared kernel.
    assert "shared" in str(found["hidden"]) or "more than once" in str(found["hidden"])


def test_units_coupled_by_an_addition_or_concatenation_stay() -> None:
    for join in ("add", "concatenate"):
        builder = started(3)
        if join == "add":
            builder.add("join", ["act", "x"])
        else:
            builder.concatenate("join", ["act", "x"])
        builder.dense("out", "join", weights(3 if join == "add" else 6, 2))
        assert "join" in str(reasons(builder.build(["out"]))["hidden"])


@pytest.mark.parametrize("before", [True, False])
def test_nothing_goes_that_an_opaque_op_can_see(before: bool) -> None:
    builder = started()
    source = "act"
    if before:
        builder.dense("between", "act", weights(4, 4))
        source = "between"
    builder.opaque("strange", [source], (4,), "a Lambda layer")
    builder.dense("out", "strange", weights(4, 2))
    reason = str(reasons(builder.build(["out"]))["hidden"])
    assert "strange" in reason
    assert "a Lambda layer" in reason


def test_an_opaque_op_elsewhere_does_no_harm() -> None:
    builder = started()
    builder.opaque("strange", ["x"], (2,), "a Lambda layer")
    builder.dense("middle", "act", weights(4, 2))
    builder.add("sum", ["middle", "strange"])
    builder.dense("out", "sum", weights(2, 2))
    network = builder.build(["out"])
    assert reasons(network)["hidden"] is None
    low, high = network.impact("hidden", [(0, 1)], [np.zeros(3)], [np.ones(3)])
    assert np.all(np.isfinite(low) & np.isfinite(high))


def test_units_mixed_before_their_consumer_stay() -> None:
    builder = started()
    builder.softmax("soft", "act")
    builder.dense("out", "soft", weights(4, 2))
    assert "soft" in str(reasons(builder.build(["out"]))["hidden"])
    builder = started()
    builder.reshape("laid_out", "act", (2, 2))
    builder.dense("out", "laid_out", weights(2, 2))
    assert "laid_out" in str(reasons(builder.build(["out"]))["hidden"])
    builder = started()
    builder.layer_normalization("norm", "act", epsilon=1e-3)
    builder.dense("out", "norm", weights(4, 2))
    assert "norm" in str(reasons(builder.build(["out"]))["hidden"])


def test_units_that_reach_no_output_and_single_units_stay() -> None:
    builder = started()
    builder.dense("one", "act", weights(4, 1))
    builder.dense("out", "one", weights(1, 2))
    builder.dense("lost", "act", weights(4, 3))
    found = reasons(builder.build(["out"]))
    assert found["hidden"] is None
    assert "single" in str(found["one"])
    assert "no output" in str(found["lost"])
