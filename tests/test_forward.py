"""Values of nodes for many samples: against the twin, Keras, point evaluation and bad input."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras_helpers import graph_of, keras_outputs, randomize, samples
from keras_models import ARCHITECTURES
from networks import Box, any_networks, build, evaluate_each, wide_network
from nnprune import _core
from nnprune.errors import ConfigError, ModelError
from numpy.typing import NDArray
from reference import Graph
from reference.bounds import evaluate, sample

FloatArray = NDArray[np.float32]


def assert_close(found: FloatArray, expected: NDArray[np.float64], name: str) -> None:
    """Compare float32 results with exact ones, relative to the largest value of the array."""
    scale = max(1.0, float(np.max(np.abs(expected))))
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5 * scale, err_msg=name)


@given(drawn=any_networks(), count=st.integers(1, 9))
def test_every_node_equals_the_twin(drawn: tuple[Graph, Box], count: int) -> None:
    graph, (lower, upper) = drawn
    points = [
        point.astype(np.float32) for point in sample(np.random.default_rng(0), lower, upper, count)
    ]
    names = [node.name for node in graph.nodes]
    inputs = dict(zip((n.name for n in graph.nodes if n.kind == "input"), points, strict=True))
    found = build(graph).forward(inputs, names)
    expected = evaluate(graph, [point.astype(np.float64) for point in points])
    for name, values in zip(names, found, strict=True):
        assert values.dtype == np.float32
        assert values.shape == expected[name].shape
        assert_close(values, expected[name], name)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_outputs_equal_those_of_keras(name: str) -> None:
    model = randomize(ARCHITECTURES[name]())
    graph = graph_of(model)
    batches = samples(model, count=4)
    inputs = {one.name: batch for one, batch in zip(graph.inputs, batches, strict=True)}
    found = graph.network.forward(inputs, graph.outputs)
    for ours, theirs in zip(found, keras_outputs(model, batches), strict=True):
        scale = max(1.0, float(np.max(np.abs(theirs))))
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * scale)


def test_chunks_fit_together() -> None:
    network, count = wide_network()
    points = np.random.default_rng(2).random((count, 12, 11, 4)).astype(np.float32)
    (found,) = network.forward({"input_0": points}, network.outputs)
    chosen = [0, 1, 500, 511, 512, 513, count - 1]
    expected = evaluate_each(network, [points[chosen].astype(np.float64)])[0]
    assert_close(found[chosen], expected, "out")


SCRIPT = """
import hashlib, sys
sys.path.insert(0, TESTS)
import numpy as np
from networks import wide_network
network, count = wide_network()
points = np.random.default_rng(2).random((count, 12, 11, 4)).astype(np.float32)
found = network.forward({"input_0": points}, [node.name for node in network.nodes])
print(hashlib.sha256(b"".join(values.tobytes() for values in found)).hexdigest())
"""


def test_the_number_of_threads_changes_no_byte(tmp_path: Path) -> None:
    folder = str(Path(__file__).resolve().parent)
    digests = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT.replace("TESTS", repr(folder))],
            env={**os.environ, "RAYON_NUM_THREADS": threads},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2", "3")
    ]
    assert len(digests[0].strip()) == 2 * hashlib.sha256().digest_size
    assert digests[0] == digests[1] == digests[2]


def with_opaque() -> _core.Network:
    builder = _core.NetworkBuilder()
    builder.input("x", (3,))
    builder.opaque("strange", ["x"], (2,), "layer 'strange' (Lambda)")
    builder.dense("out", "strange", np.array([[1.0], [2.0]], np.float32))
    return builder.build(["out"])


def test_given_values_of_an_opaque_node_are_taken() -> None:
    x = np.zeros((2, 3), np.float32)
    strange = np.array([[1.0, 10.0], [2.0, 20.0]], np.float32)
    (found,) = with_opaque().forward({"x": x, "strange": strange}, ["out"])
    np.testing.assert_array_equal(found, [[21.0], [42.0]])


def test_an_opaque_node_without_values_is_named_where_it_is_needed() -> None:
    network = with_opaque()
    x = np.ones((1, 3), np.float32)
    (found,) = network.forward({"x": x}, ["x"])
    np.testing.assert_array_equal(found, x)
    with pytest.raises(ModelError, match=r"'strange'.*Lambda.*give them beside"):
        network.forward({"x": x}, ["out"])


def _bad_inputs() -> dict[str, tuple[dict[str, FloatArray], str]]:
    good = np.ones((2, 3), np.float32)
    broken = {value: good.copy() for value in (np.nan, np.inf)}
    for value, array in broken.items():
        array[1, 2] = value
    opaque = np.ones((2, 2), np.float32)
    return {
        "missing": ({}, "no values for input 'x'"),
        "nan": ({"x": broken[np.nan]}, "'x': sample 1 holds NaN at element 2"),
        "inf": ({"x": broken[np.inf]}, "'x': sample 1 holds inf at element 2"),
        "shape": ({"x": good[:, :2]}, r"'x': expected shape \(samples, \*\[3\]\), got \[2, 2\]"),
        "flat": ({"x": good[0]}, r"'x': expected shape \(samples, \*\[3\]\), got \[3\]"),
        "empty": ({"x": good[:0]}, "'x': expected at least one sample"),
        "counts": ({"x": good, "strange": opaque[:1]}, "'x': got 2 samples, others have 1"),
        "computed": ({"x": good, "out": opaque[:, :1]}, "'out': only inputs and opaque nodes"),
    }


@pytest.mark.parametrize("case", sorted(_bad_inputs()))
def test_bad_values_are_refused_by_name(case: str) -> None:
    inputs, message = _bad_inputs()[case]
    with pytest.raises(ConfigError, match=message):
        with_opaque().forward(inputs, ["out"])


def test_unknown_nodes_are_refused_by_name() -> None:
    x = np.ones((1, 3), np.float32)
    with pytest.raises(ModelError, match="'nowhere': no node has this name"):
        with_opaque().forward({"x": x}, ["nowhere"])
    with pytest.raises(ModelError, match="'y': no node has this name"):
        with_opaque().forward({"x": x, "y": x}, ["x"])


def test_fortran_ordered_and_strided_inputs_mean_what_they_show() -> None:
    network, _ = wide_network()
    points = np.random.default_rng(3).random((4, 12, 11, 4)).astype(np.float32)
    (plain,) = network.forward({"input_0": points}, network.outputs)
    for odd in (np.asfortranarray(points), np.repeat(points, 2, axis=0)[::2]):
        np.testing.assert_array_equal(network.forward({"input_0": odd}, network.outputs)[0], plain)
