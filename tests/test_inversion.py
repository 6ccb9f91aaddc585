"""Inputs found by gradient: against the twin, in the box, towards their classes, the same again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Sketch, build, seeds
from nnprune import _core
from nnprune.errors import BoundsError, ConfigError, ModelError
from numpy.typing import NDArray
from reference import Graph
from reference.bounds import sample
from reference.inversion import draw_targets, invert, log_likelihood, mismatch

DEFAULTS: dict[str, Any] = {
    "steps": 3,
    "step_size": 0.2,
    "vary_steps": True,
    "confidence": 1.0,
    "temperature": 5.0,
    "smoothing": 1.0,
    "batch_statistics": True,
}


def smooth_network(
    seed: int, classes: int, *, second: bool = False, norms: bool = False
) -> tuple[Sketch, Graph]:
    """Return a network without kinks, on which differences are gradients, of an image.

    Norms are after the convolution, after a Dense layer, and of the second input as it is.
    """
    sketch = Sketch(seed)
    at = sketch.input(4, 3, 2)
    at = sketch.conv(
        at, 3, window=[2, 2], strides=[1, 1], dilation=[1, 1], padding="same", groups=1
    )
    at = sketch.flatten(sketch.activation(sketch.norm(at) if norms else at, "tanh", {}))
    if norms:
        at = sketch.norm(sketch.dense(at, 5))
    if second:
        other = sketch.input(3)
        other = sketch.dense(sketch.norm(other) if norms else other, 4)
        other = sketch.activation(other, "softplus", {})
        at = sketch.add("concatenate", [at, other], axis=-1)
    heads = [sketch.dense(at, classes)]
    if second:
        heads.append(sketch.add("softmax", [sketch.dense(at, 2)]))
    return sketch, sketch.graph(*heads)


@settings(max_examples=25)  # the twin differentiates element by element
@given(
    seed=seeds,
    classes=st.integers(1, 4),
    second=st.booleans(),
    norms=st.booleans(),
    batch_statistics=st.booleans(),
    vary_steps=st.booleans(),
    confidence=st.floats(0.5, 1.0),
    temperature=st.floats(0.5, 10.0),
    smoothing=st.sampled_from([0.0, 0.6, 1.5]),
)
def test_the_inputs_are_those_of_the_twin(
    seed: int, classes: int, second: bool, norms: bool, **options: Any
) -> None:
    sketch, graph = smooth_network(seed, classes, second=second, norms=norms)
    lower, upper = sketch.box()
    starts = sample(sketch.random, lower, upper, 4)
    images = [(4, 3, 2), None][: len(starts)]
    chosen = {**DEFAULTS, **options, "images": images}
    names = [node.name for node in graph.nodes if node.kind == "input"]
    fed = {n: start.astype(np.float32) for n, start in zip(names, starts, strict=True)}
    found = build(graph).invert(fed, lower, upper, seed=seed, **chosen)
    draws = _core.uniform_draws(seed, 20)
    expected = invert(graph, lower, upper, starts, draws=draws, **chosen)
    for ours, theirs, low, high in zip(found, expected, lower, upper, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, atol=2e-3)
        assert np.all((ours >= low) & (ours <= high) | (np.abs(ours - low) <= 1e-6))


def likelihoods(network: _core.Network, points: NDArray[np.float32], classes: Any) -> list[float]:
    (logits,) = network.forward({"input_0": points}, network.logits)
    return [
        log_likelihood(row.astype(np.float64), chosen[0], 1.0, 1.0)
        for row, chosen in zip(logits, classes, strict=True)
    ]


@given(seed=seeds, classes=st.integers(1, 5))
def test_the_drawn_class_becomes_likelier(seed: int, classes: int) -> None:
    sketch, graph = smooth_network(seed, classes)
    network = build(graph)
    lower, upper = (np.full((4, 3, 2), end) for end in (-1.0, 1.0))
    starts = sketch.random.uniform(-0.9, 0.9, (20, 4, 3, 2)).astype(np.float32)
    chosen = {**DEFAULTS, "vary_steps": False, "smoothing": 0.0, "step_size": 0.01}
    (found,) = network.invert(
        {"input_0": starts}, [lower], [upper], images=[None], seed=seed, **chosen
    )
    drawn, _ = draw_targets(graph, [(classes,)], 20, None, _core.uniform_draws(seed, 40))
    before, after = (likelihoods(network, points, drawn) for points in (starts, found))
    assert np.all(np.asarray(after) > np.asarray(before) - 1e-5)
    assert np.mean(after) > np.mean(before)


@given(seed=seeds)
def test_the_statistics_of_the_batch_approach_those_kept(seed: int) -> None:
    sketch, graph = smooth_network(seed, 3, norms=True)
    box = [np.full((4, 3, 2), -3.0)], [np.full((4, 3, 2), 3.0)]
    starts = sketch.random.uniform(-0.5, 0.5, (40, 4, 3, 2)).astype(np.float32)
    chosen = {**DEFAULTS, "smoothing": 0.0, "step_size": 0.02, "vary_steps": False, "steps": 10}
    distances = [mismatch(graph, [starts.astype(np.float64)])]
    for batch_statistics in (False, True):
        chosen["batch_statistics"] = batch_statistics
        (found,) = build(graph).invert(
            {"input_0": starts}, *box, images=[None], seed=seed, **chosen
        )
        distances.append(mismatch(graph, [found.astype(np.float64)]))
    at_start, without, with_statistics = distances
    assert with_statistics < min(at_start, without)


def test_without_batch_normalization_there_are_no_statistics_to_approach() -> None:
    sketch, graph = smooth_network(3, 4, second=True)
    lower, upper = sketch.box()
    starts = sample(sketch.random, lower, upper, 30)
    fed = {f"input_{n}": start.astype(np.float32) for n, start in enumerate(starts)}
    without, with_statistics = (
        build(graph).invert(
            fed,
            lower,
            upper,
            images=[(4, 3, 2), None],
            seed=1,
            **{**DEFAULTS, "batch_statistics": batch_statistics},
        )
        for batch_statistics in (False, True)
    )
    for ours, theirs in zip(without, with_statistics, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("samples", [1, 7])
def test_values_that_are_all_the_same_are_moved_to_the_mean(samples: int) -> None:
    builder = _core.NetworkBuilder()
    builder.input("x", (2,))
    builder.batch_normalization(
        "norm",
        "x",
        mean=np.array([0.5, -0.25], np.float32),
        variance=np.array([0.0, 4.0], np.float32),
        epsilon=1e-3,
    )
    builder.dense("logits", "norm", np.zeros((2, 3), np.float32), None)
    (found,) = builder.build(["logits"]).invert(
        {"x": np.full((samples, 2), (0.25, -0.25), np.float32)},
        [np.full(2, -1.0)],
        [np.full(2, 1.0)],
        images=[None],
        seed=0,
        **{**DEFAULTS, "vary_steps": False, "steps": 1, "step_size": 0.125},
    )
    # Classes do not pull; the second channel has its mean, and no sample differs from another.
    np.testing.assert_array_equal(found, np.full((samples, 2), (0.5, -0.25)))


SCRIPT = """
import hashlib, sys
sys.path.insert(0, TESTS)
import numpy as np
from networks import wide_network
network, count = wide_network(norms=NORMS)
starts = np.random.default_rng(2).random((600, 12, 11, 4)).astype(np.float32)
box = [np.zeros((12, 11, 4))], [np.ones((12, 11, 4))]
(found,) = network.invert({"input_0": starts}, *box, images=[(12, 11, 4)], seed=SEED, **OPTIONS)
(slope,) = network.gradient({"input_0": starts}, {"dense_1": np.ones((600, 10), np.float32)})
print(hashlib.sha256(found.tobytes() + slope.tobytes()).hexdigest())
"""


@pytest.mark.parametrize("norms", [False, True])
def test_the_number_of_threads_changes_no_byte_and_the_seed_does(
    tmp_path: Path, *, norms: bool
) -> None:
    folder = str(Path(__file__).resolve().parent)
    script = SCRIPT.replace("TESTS", repr(folder)).replace("OPTIONS", repr(DEFAULTS))
    script = script.replace("NORMS", repr(norms))
    digests = [
        subprocess.run(
            [sys.executable, "-c", script.replace("SEED", seed)],
            env={**os.environ, "RAYON_NUM_THREADS": threads},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads, seed in (("1", "7"), ("3", "7"), ("3", "8"))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_starts_outside_the_box_are_brought_into_it_and_points_stay() -> None:
    _, graph = smooth_network(0, 3)
    lower, upper = np.zeros((4, 3, 2)), np.ones((4, 3, 2))
    lower[0], upper[0] = 0.25, 0.25
    starts = np.full((5, 4, 3, 2), 7.0, np.float32)
    (found,) = build(graph).invert(
        {"input_0": starts}, [lower], [upper], images=[(4, 3, 2)], seed=0, **DEFAULTS
    )
    assert np.all((found >= lower) & (found <= upper))
    np.testing.assert_array_equal(found[:, 0], 0.25)
    assert np.ptp(found[:, 1:]) > 0.0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"steps": 0}, "steps: expected a whole number"),
        ({"step_size": 0.0}, "step_size: expected a share"),
        ({"step_size": float("nan")}, "step_size"),
        ({"confidence": 1.1}, "confidence: expected a probability"),
        ({"temperature": 0.0}, "temperature: expected a positive"),
        ({"temperature": float("inf")}, "temperature: expected a positive"),
        ({"smoothing": -1.0}, "smoothing: expected a number of pixels"),
        ({"images": [(4, 3, 1)]}, "'input_0'.*no image of 24 elements"),
        ({"images": []}, "0 images are said of 1 inputs"),
    ],
)
def test_bad_parameters_are_refused_by_name(changed: dict[str, Any], message: str) -> None:
    _, graph = smooth_network(0, 3)
    box = [np.zeros((4, 3, 2))], [np.ones((4, 3, 2))]
    starts = {"input_0": np.zeros((2, 4, 3, 2), np.float32)}
    with pytest.raises(ConfigError, match=message):
        build(graph).invert(
            starts, *box, **{"images": [(4, 3, 2)], "seed": 0, **DEFAULTS, **changed}
        )


def test_a_box_too_wide_for_float32_and_an_opaque_node_are_refused() -> None:
    _, graph = smooth_network(0, 3)
    box = [np.full((4, 3, 2), -3e38)], [np.full((4, 3, 2), 3e38)]
    starts = {"input_0": np.zeros((2, 4, 3, 2), np.float32)}
    with pytest.raises(BoundsError, match=r"'input_0'.*too wide for float32"):
        build(graph).invert(starts, *box, images=[None], seed=0, **DEFAULTS)
    builder = _core.NetworkBuilder()
    builder.input("x", (3,))
    builder.opaque("strange", ["x"], (2,), "layer 'strange' (Lambda)")
    with pytest.raises(ModelError, match=r"'strange'.*Lambda"):
        builder.build(["strange"]).invert(
            {"x": np.ones((2, 3), np.float32)},
            [np.zeros(3)],
            [np.ones(3)],
            images=[None],
            seed=0,
            **DEFAULTS,
        )
