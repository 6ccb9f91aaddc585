"""Synthetic inputs: in the box, as their sources say, the same again; and bad arguments."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_helpers import graph_outputs
from networks import Sketch, any_networks, build, mlps, seeds
from nnprune import _core
from nnprune.errors import BoundsError, ConfigError, ModelError
from nnprune.keras_io.input_box import InputBox
from nnprune.keras_io.opened import OpenedModel, input_box_of, open_model
from nnprune.synthetic import blocks
from nnprune.synthetic.draw import SyntheticInputs, draw
from nnprune.synthetic.images import dead_leaves, smooth_fields, smoothing_weights
from nnprune.synthetic.sources import (
    DEFAULT,
    BoxNoise,
    ConvexCombinations,
    DeadLeaves,
    FirstLayer,
    GradientFound,
    Mixture,
    NearZero,
    SmoothFields,
    Source,
    source_named,
    source_to_dict,
)
from numpy.typing import NDArray
from opaque_keras_models import opaque_model, plain_model
from reference.inversion import smooth

SOURCES: list[Source] = [
    BoxNoise(),
    SmoothFields(),
    DeadLeaves(leaves=3),
    FirstLayer(),
    NearZero(),
    GradientFound(steps=2),
    GradientFound(start=FirstLayer(mean=0.0, contrast=0.4), steps=2),
    Mixture(sources=[BoxNoise(), GradientFound(steps=1), FirstLayer()]),
    ConvexCombinations(source=Mixture(sources=[BoxNoise(), DeadLeaves()]), points=3),
]
NAMES = [json.dumps(source_to_dict(source))[:60] for source in SOURCES]


def box_of(lower: Sequence[Any], upper: Sequence[Any]) -> InputBox:
    return InputBox(lower=tuple(lower), upper=tuple(upper), source="given")


def image_network(seed: int = 0, classes: int = 3) -> _core.Network:
    sketch = Sketch(seed)
    at = sketch.input(8, 9, 2)
    at = sketch.conv(
        at, 3, window=[3, 3], strides=[1, 1], dilation=[1, 1], padding="same", groups=1
    )
    at = sketch.activation(at, "relu", {})
    return build(sketch.graph(sketch.dense(sketch.flatten(at), classes)))


IMAGE_BOX = box_of([np.full((8, 9, 2), -2.0)], [np.full((8, 9, 2), 6.0)])


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
@settings(max_examples=8)
@given(drawn=any_networks(), samples=st.integers(1, 7))
def test_inputs_lie_in_the_box_and_come_again(source: Source, drawn: Any, samples: int) -> None:
    graph, (lower, upper) = drawn
    network, box = build(graph), box_of(lower, upper)
    first = draw(network, box, source, samples=samples, seed=3)
    again = draw(network, box, source, samples=samples, seed=3)
    other = draw(network, box, source, samples=samples, seed=4)
    for ours, theirs, changed, low, high in zip(
        first.arrays, again.arrays, other.arrays, lower, upper, strict=True
    ):
        assert ours.dtype == np.float32
        assert ours.shape == (samples, *low.shape)
        wide = high - low > 1e-5 * np.abs(low)
        assert np.all((ours >= low) & (ours <= high) | ~wide)
        assert ours.tobytes() == theirs.tobytes()
        assert ours.shape == changed.shape
    assert any(
        not np.array_equal(a, b) for a, b in zip(first.arrays, other.arrays, strict=True)
    ) or isinstance(source, FirstLayer | GradientFound | DeadLeaves)
    assert json.loads(json.dumps(first.source)) == first.source


def test_box_noise_is_even_over_the_box() -> None:
    found = draw(image_network(), IMAGE_BOX, BoxNoise(), samples=4000).arrays[0]
    # Mean and variance of 576,000 uniform numbers on [-2, 6].
    assert np.mean(found) == pytest.approx(2.0, abs=0.02)
    assert np.var(found) == pytest.approx(64.0 / 12.0, abs=0.03)
    assert found.min() >= -2.0
    assert found.max() <= 6.0


@given(
    axes=st.tuples(st.integers(4, 9), st.integers(4, 9), st.integers(1, 3)),
    deviation=st.floats(0.3, 6.0),
    seed=seeds,
)
def test_smoothing_equals_the_twin(axes: tuple[int, int, int], deviation: float, seed: int) -> None:
    image = np.random.default_rng(seed).standard_normal(axes)
    down, across = (smoothing_weights(n, deviation) for n in axes[:2])
    found = np.einsum("ab,cd,bde->ace", down, across, image)
    np.testing.assert_allclose(found, smooth(image, deviation), atol=1e-12)


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_inputs_drawn_block_by_block_are_the_same(
    monkeypatch: pytest.MonkeyPatch, source: Source
) -> None:
    network = image_network()
    box = box_of([np.zeros((8, 9, 2))], [np.ones((8, 9, 2))])
    [whole] = draw(network, box, source, samples=23, seed=5).arrays
    monkeypatch.setattr(blocks, "_ELEMENTS", 1000)  # six or fewer images of 144
    [parts] = draw(network, box, source, samples=23, seed=5).arrays
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-6)  # products of matrices may round


def joined(parts: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate(list(parts))


@pytest.mark.parametrize("deviation", [1.0, 3.0])
def test_smooth_fields_have_their_variance_and_correlation(deviation: float) -> None:
    random = np.random.default_rng(0)
    found = joined(
        smooth_fields(
            (12, 11, 2), samples=6000, deviations=[deviation], contrast=0.25, random=random
        )
    )
    assert np.mean(found) == pytest.approx(0.5, abs=0.01)
    np.testing.assert_allclose(np.std(found, axis=0), 0.25, rtol=0.06)
    # A smoothed white field correlates as exp(-d^2 / 4 deviation^2), away from the border.
    pixels = (found[:, 5, 5, 0], found[:, 5, 6, 0])
    expected = np.exp(-1.0 / (4.0 * deviation**2))
    assert np.corrcoef(*pixels)[0, 1] == pytest.approx(expected, abs=0.04)
    assert abs(np.corrcoef(found[:, 5, 5, 0], found[:, 5, 5, 1])[0, 1]) < 0.05


@given(
    axes=st.tuples(st.integers(4, 12), st.integers(4, 12), st.integers(1, 3)),
    leaves=st.integers(1, 9),
    seed=seeds,
)
def test_leaves_are_opaque_on_a_dark_ground(
    axes: tuple[int, int, int], leaves: int, seed: int
) -> None:
    found = joined(dead_leaves(axes, samples=5, leaves=leaves, random=np.random.default_rng(seed)))
    assert found.shape == (5, *axes)
    assert found.min() >= 0.0
    assert found.max() <= 1.0
    one = joined(dead_leaves(axes, samples=40, leaves=1, random=np.random.default_rng(seed)))
    # A single leaf: all pixels of an image are shares of one value for each channel.
    flat = one.reshape(40, -1, axes[2])
    for image in flat:
        assert np.linalg.matrix_rank(image, tol=1e-9) <= 1
    assert np.any(one > 0.0)
    assert np.any(np.all(flat == 0.0, axis=(1, 2)))


@settings(max_examples=15)
@given(seed=seeds, units=st.integers(1, 30))
def test_the_first_layer_gives_its_covariance_above_the_noise(seed: int, units: int) -> None:
    random = np.random.default_rng(seed)
    kernel = random.standard_normal((6, units)) * np.sqrt(2.0 / (6 + units))
    kernel += 3.0 * np.outer(random.standard_normal(6), random.standard_normal(units))
    builder = _core.NetworkBuilder()
    builder.input("x", (6,))
    builder.dense("first", "x", kernel.astype(np.float32))
    network = builder.build(["first"])
    # So wide a box that nothing is clipped.
    box = box_of([np.full(6, -50.0)], [np.full(6, 50.0)])
    source = FirstLayer(contrast=0.01)
    (found,) = draw(network, box, source, samples=20_000, seed=seed % 1000).arrays
    values, vectors = np.linalg.eigh(kernel @ kernel.T / units)
    edge = 2.0 / (6 + units) * (1.0 + np.sqrt(6 / units)) ** 2
    kept = np.maximum(values - edge, 0.0)
    kept = kept if np.any(kept > 0.0) else values
    expected = vectors * kept @ vectors.T
    expected /= np.trace(expected) / 6
    ours = np.cov(found.astype(np.float64).T)
    ours /= np.trace(ours) / 6
    assert np.linalg.norm(ours - expected) < 0.06 * np.linalg.norm(expected)
    assert np.sqrt(np.mean(np.var(found, axis=0))) == pytest.approx(1.0, rel=0.05)
    assert np.max(np.abs(np.mean(found, axis=0))) < 0.1


def test_inputs_without_images_or_first_layers_say_so() -> None:
    graph, (lower, upper) = image_less()
    network, box = build(graph), box_of(lower, upper)
    for source in (SmoothFields(), DeadLeaves()):
        found = draw(network, box, source, samples=3)
        assert "'input_0' of shape (4,) is no image" in found.remarks[0]
        assert len(found.remarks) == 1
    assert draw(network, box, FirstLayer(), samples=3).remarks == ()
    assert draw(image_network(), IMAGE_BOX, DEFAULT, samples=3).remarks == ()
    builder = _core.NetworkBuilder()
    builder.input("x", (4,))
    builder.activation("act", "x", "relu")
    builder.dense("out", "act", np.ones((4, 2), np.float32))
    unread = builder.build(["out"])
    remarks = draw(unread, box_of([np.zeros(4)], [np.ones(4)]), FirstLayer(), samples=2).remarks
    assert "'x' is read by no Dense or convolutional layer first" in remarks[0]


def image_less() -> Any:
    sketch = Sketch(1)
    at = sketch.dense(sketch.input(4), 3)
    return sketch.graph(at), sketch.box()


def test_a_matrix_is_an_image_only_where_it_is_flattened() -> None:
    sketch = Sketch(2)
    rows = sketch.input(9, 8)
    flat = build(sketch.graph(sketch.dense(sketch.flatten(rows), 2)))
    sequence = Sketch(2)
    at = sequence.dense(sequence.input(9, 8), 2)
    box = box_of([np.zeros((9, 8))], [np.ones((9, 8))])
    assert draw(flat, box, DeadLeaves(), samples=2).remarks == ()
    assert draw(build(sequence.graph(at)), box, DeadLeaves(), samples=2).remarks


@settings(max_examples=10)
@given(drawn=mlps())
def test_convex_combinations_lie_between_what_is_mixed(drawn: Any) -> None:
    graph, (lower, upper), _ = drawn
    source = ConvexCombinations(source=BoxNoise())
    found = draw(build(graph), box_of(lower, upper), source, samples=500).arrays[0]
    width = upper[0] - lower[0]
    wide = width > 0.0
    # Of two points with weights even on the simplex: a third less variance than the box's.
    shares = (found[:, wide] - lower[0][wide]) / width[wide]
    assert np.mean(np.var(shares, axis=0)) == pytest.approx(2.0 / 3.0 / 12.0, rel=0.2)


def test_a_mixture_has_equal_parts_of_all_sources() -> None:
    dark = DeadLeaves(leaves=1)
    found = draw(
        image_network(), IMAGE_BOX, Mixture(sources=[BoxNoise(), dark, dark]), samples=11
    ).arrays[0]
    assert len(found) == 11
    noisy = [len(np.unique(each)) > 100 for each in found]
    assert noisy == [True] * 3 + [False] * 8


def test_long_searches_by_gradient_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    network, source = image_network(), GradientFound(steps=3)
    macs = sum(node.macs for node in network.nodes)
    monkeypatch.setattr("nnprune.synthetic.draw._DEAR", 5 * 4 * macs)
    (remark,) = draw(network, IMAGE_BOX, source, samples=5).remarks
    assert "5 inputs" in remark
    assert "3 gradient steps" in remark
    assert draw(network, IMAGE_BOX, source, samples=4).remarks == ()


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("vary_steps", [False, True])
def test_through_opaque_layers_keras_finds_what_the_engine_finds(
    classes: int, *, vary_steps: bool
) -> None:
    source = GradientFound(steps=3, vary_steps=vary_steps, confidence=0.9)
    found: list[SyntheticInputs] = []
    for model in (opaque_model(classes=classes), plain_model(classes=classes)):
        opened = open_model(model, trust=True)
        box = input_box_of(opened, (0, 1))
        found.append(draw(opened, box, source, samples=300, seed=5))
    (by_keras,), (by_engine,) = (each.arrays for each in found)
    np.testing.assert_allclose(by_keras, by_engine, atol=2e-3)
    assert "gradients are those of Keras" in found[0].remarks[0]
    assert found[1].remarks == ()


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_through_opaque_layers_statistics_are_left_out_and_it_is_said(
    *, batch_statistics: bool
) -> None:
    model = opaque_model()
    source = keras.Input((8, 9, 1))
    normalized = keras.Model(source, model(keras.layers.BatchNormalization()(source)))
    opened = open_model(normalized, trust=True)
    found = draw(
        opened,
        input_box_of(opened, (0, 1)),
        GradientFound(steps=1, batch_statistics=batch_statistics),
        samples=3,
    )
    said = [remark for remark in found.remarks if "BatchNormalization" in remark]
    assert len(said) == int(batch_statistics)


def test_a_network_alone_says_what_it_needs_for_opaque_layers() -> None:
    opened = open_model(opaque_model(), trust=True)
    box = input_box_of(opened, (0, 1))
    with pytest.raises(ModelError, match="draw for the opened model"):
        draw(opened.graph.network, box, samples=2)
    assert draw(opened.graph.network, box, DeadLeaves(), samples=2).remarks == ()


BAD_PARAMETERS: list[tuple[Any, dict[str, Any], str]] = [
    (SmoothFields, {"deviations": ()}, "smooth: deviations: expected at least one"),
    (SmoothFields, {"deviations": (0.0,)}, "smooth: deviations: expected a finite number"),
    (SmoothFields, {"deviations": "12"}, "smooth: deviations: expected numbers"),
    (SmoothFields, {"contrast": float("nan")}, "smooth: contrast"),
    (DeadLeaves, {"leaves": 0}, "leaves: leaves: expected an integer from 1"),
    (DeadLeaves, {"leaves": True}, "leaves: leaves"),
    (FirstLayer, {"mean": 1.5}, "first_layer: mean: expected a finite number from 0 up to"),
    (FirstLayer, {"contrast": 0.0}, "first_layer: contrast"),
    (GradientFound, {"start": "leaves"}, "gradient: start: expected one of BoxNoise"),
    (GradientFound, {"steps": 2.5}, "gradient: steps"),
    (GradientFound, {"step_size": 2.0}, "gradient: step_size: .* above 0 up to 1"),
    (GradientFound, {"confidence": 0.0}, "gradient: confidence"),
    (GradientFound, {"temperature": float("inf")}, "gradient: temperature"),
    (GradientFound, {"smoothing": -1.0}, "gradient: smoothing"),
    (Mixture, {"sources": [BoxNoise()]}, "mixture: sources: expected at least two"),
    (Mixture, {"sources": [BoxNoise(), "x"]}, "mixture: sources: expected one of"),
    (ConvexCombinations, {"points": 0}, "convex: points"),
    (ConvexCombinations, {"source": None}, "convex: source"),
]


@pytest.mark.parametrize(("kind", "parameters", "message"), BAD_PARAMETERS)
def test_bad_parameters_are_refused_by_name(
    kind: Any, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**parameters)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="source: expected one of box, smooth, leaves"):
        source_named("noise")


def test_sources_have_names_and_dictionaries() -> None:
    for name in ("box", "smooth", "leaves", "first_layer", "near_zero", "gradient", "convex"):
        source = source_named(name)
        assert source.name == name
        assert source_to_dict(source)["name"] == name
    assert source_to_dict(DEFAULT) == {
        "name": "gradient",
        "start": None,
        "steps": 10,
        "step_size": None,
        "vary_steps": True,
        "confidence": 1.0,
        "temperature": None,
        "smoothing": 1.0,
        "batch_statistics": True,
    }


@pytest.mark.parametrize("images", [False, True])
def test_what_is_not_given_is_settled_by_the_kind_of_input(*, images: bool) -> None:
    if images:
        network, box = image_network(), IMAGE_BOX
        explicit = GradientFound(start=DeadLeaves(), step_size=0.2, temperature=5.0)
    else:
        graph, (lower, upper) = image_less()
        network, box = build(graph), box_of(lower, upper)
        explicit = GradientFound(start=NearZero(), step_size=0.03, temperature=1.0)
    (found,) = draw(network, box, DEFAULT, samples=5).arrays
    (same,) = draw(network, box, explicit, samples=5).arrays
    np.testing.assert_array_equal(found, same)


def test_near_zero_is_normal_around_the_nearest_point_of_the_box() -> None:
    graph, _ = image_less()
    lower, upper = np.array([-10.0, 2.0, -9.0, 0.0]), np.array([10.0, 12.0, -4.0, 5.0])
    (found,) = draw(build(graph), box_of([lower], [upper]), NearZero(), samples=20_000).arrays
    assert np.std(found[:, 0]) == pytest.approx(0.6, rel=0.03)
    assert abs(np.mean(found[:, 0])) < 0.02
    # At an end of the box half of the samples are clipped.
    for element, end in ((1, 2.0), (2, -4.0), (3, 0.0)):
        assert np.mean(found[:, element] == np.float32(end)) == pytest.approx(0.5, abs=0.02)


def _bad_boxes() -> dict[str, tuple[InputBox, str]]:
    zero, one = np.zeros((8, 9, 2)), np.ones((8, 9, 2))
    return {
        "point": (box_of([zero], [zero]), "a single point"),
        "infinite": (box_of([zero], [one * np.inf]), "drawn between finite bounds"),
        "nan": (box_of([zero * np.nan], [one]), "drawn between finite bounds"),
        "inverted": (box_of([one], [zero]), "drawn between finite bounds"),
        "wide": (box_of([one * -3e38], [one * 3e38]), "within the range of float32"),
        "shape": (box_of([zero[0]], [one[0]]), r"got bounds of shapes \(9, 2\)"),
        "count": (box_of([zero, zero], [one, one]), "has 1 inputs, got bounds for 2"),
    }


@pytest.mark.parametrize("name", sorted(_bad_boxes()))
def test_bad_boxes_are_refused(name: str) -> None:
    box, message = _bad_boxes()[name]
    with pytest.raises(BoundsError, match=message):
        draw(image_network(), box, BoxNoise(), samples=2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"samples": 0}, "samples: expected an integer from 1"),
        ({"samples": 2.0}, "samples: expected"),
        ({"seed": -1}, "seed: expected an integer from 0"),
        ({"seed": 2**64}, "seed: expected"),
        ({"source": "gradient"}, "source: expected one of"),
    ],
)
def test_bad_arguments_are_refused_by_name(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        draw(image_network(), IMAGE_BOX, **{"samples": 2, **changed})


def test_an_element_without_width_stays_where_it_is() -> None:
    lower, upper = np.zeros((8, 9, 2)), np.ones((8, 9, 2))
    lower[2], upper[2] = 0.3, 0.3
    for source in SOURCES:
        (found,) = draw(image_network(), box_of([lower], [upper]), source, samples=4).arrays
        np.testing.assert_array_equal(found[:, 2], np.float32(0.3))


def _values(found: SyntheticInputs) -> NDArray[np.float32]:
    return found.arrays[0]


def test_gradient_found_inputs_are_told_apart_better_than_where_they_start() -> None:
    opened: OpenedModel = open_model(plain_model(classes=3), trust=True)
    box = input_box_of(opened, (0, 1))
    spread = []
    for source in (DeadLeaves(), DEFAULT):
        batch = _values(draw(opened, box, source, samples=400))
        (outputs,) = graph_outputs(opened.graph, [batch])
        spread.append(float(np.mean(np.max(outputs, axis=1))))
    assert spread[1] > spread[0]
