"""The rivals of benches/compensation: where each is exact, and its rule computed another way."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import keras
import nnprune
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

_BENCHES = Path(__file__).resolve().parents[1] / "benches"
if not _BENCHES.is_dir():
    pytest.skip("needs the benchmarks of the repository", allow_module_level=True)
sys.path[:0] = [str(_BENCHES), str(_BENCHES / "models")]

from compensation.chain import Chain, Layer, Normalization, kept_units, read_chain  # noqa: E402
from compensation.rivals.lbyl import PENALTIES, leave_shares, sharing_matrix  # noqa: E402
from compensation.rivals.model_folding import fold_layer, fold_model, repair  # noqa: E402
from compensation.rivals.neuron_merging import merge_neurons, merging_matrix  # noqa: E402
from compensation.rivals.restoration import largest, restored  # noqa: E402

Array = NDArray[np.float64]


def computed(chain: Chain, inputs: Array) -> Array:
    """Compute a chain's logits unit by unit, BatchNormalization as it is defined."""
    values = inputs
    for number, layer in enumerate(chain.layers):
        before = np.stack([values @ weights for weights in layer.kernel.T], axis=1) + layer.bias
        norm = layer.normalization
        if norm is not None:
            before = norm.gamma * (before - norm.mean) / norm.deviation + norm.beta
        last = number == len(chain.layers) - 1
        values = before if last else np.where(before > 0, before, 0.0)
    return values


def random_chain(
    random: np.random.Generator, sizes: Sequence[int], *, normalized: bool = False
) -> Chain:
    """Return a chain of these sizes, inputs first."""
    layers = []
    for number, (inputs, units) in enumerate(pairwise(sizes)):
        norm = Normalization(
            gamma=random.uniform(0.5, 2, units) * random.choice([-1, 1], units),
            beta=random.normal(size=units),
            mean=random.normal(size=units),
            deviation=random.uniform(0.5, 2, units),
        )
        hidden = number < len(sizes) - 2
        layers.append(
            Layer(
                kernel=random.normal(size=(inputs, units)),
                bias=random.normal(size=units),
                normalization=norm if normalized and hidden else None,
            )
        )
    return Chain(layers=tuple(layers))


def duplicated(chain: Chain, scales: Sequence[float]) -> Chain:
    """Return a chain in which every hidden unit comes once more for each scale, so much larger."""
    layers = [*chain.layers]
    for index in range(len(layers) - 1):
        here, reader = layers[index], layers[index + 1]
        norm = here.normalization
        assert norm is None or set(scales) == {1.0}
        layers[index] = Layer(
            kernel=np.hstack([here.kernel * scale for scale in scales]),
            bias=np.concatenate([here.bias * scale for scale in scales]),
            normalization=norm
            and Normalization(
                gamma=np.tile(norm.gamma, len(scales)),
                beta=np.tile(norm.beta, len(scales)),
                mean=np.tile(norm.mean, len(scales)),
                deviation=np.tile(norm.deviation, len(scales)),
            ),
        )
        parts = [reader.kernel * (number + 1.0) for number in range(len(scales))]
        layers[index + 1] = Layer(
            kernel=np.vstack(parts), bias=reader.bias, normalization=reader.normalization
        )
    return Chain(layers=tuple(layers))


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(3)


def test_a_chain_computes_what_the_keras_model_does(random: np.random.Generator) -> None:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((3, 4)),
            layers.Flatten(),
            layers.Dense(9, use_bias=False),
            layers.BatchNormalization(epsilon=0.1),
            layers.ReLU(),
            layers.Dropout(0.5),
            layers.Dense(8, activation="relu"),
            layers.BatchNormalization(scale=False),
            layers.Dense(7),
            layers.Activation("relu"),
            layers.BatchNormalization(center=False),
            layers.Dense(5, activation="softmax"),
        ]
    )
    model.set_weights([random.uniform(0.2, 2, weight.shape) for weight in model.get_weights()])
    for layer in model.layers:
        if isinstance(layer, layers.Dense):
            layer.kernel.assign(random.normal(size=layer.kernel.shape))
    x = random.normal(size=(50, 3, 4))
    chain = read_chain(model)
    assert chain.widths == (9, 8, 7)
    assert [layer.normalization is None for layer in chain.layers] == [False, True, True, True]
    logits = chain.logits(x)
    np.testing.assert_allclose(logits, computed(chain, x.reshape(50, -1)), rtol=1e-12, atol=1e-12)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, model.predict(x, verbose=0), atol=1e-4)


def test_what_is_no_chain_is_refused() -> None:
    layers = keras.layers
    for wrong in (
        [layers.Dense(3, activation="tanh"), layers.Dense(2)],
        [layers.Dense(3), layers.Dense(2)],
        [layers.Dense(3), layers.LayerNormalization(), layers.ReLU(), layers.Dense(2)],
    ):
        with pytest.raises(ValueError, match="layer "):
            read_chain(keras.Sequential([keras.Input((4,)), *wrong]))


def test_padding_adds_units_that_pass_nothing_on(random: np.random.Generator) -> None:
    chain = random_chain(random, [6, 5, 4, 3], normalized=True)
    wide = Chain(
        layers=tuple(Layer(kernel=kernel, bias=bias) for kernel, bias in chain.padded([9, 4]))
    )
    assert wide.widths == (9, 4)
    x = random.normal(size=(20, 6))
    np.testing.assert_allclose(wide.logits(x), computed(chain, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ratio", [0.5, 0.6, 0.7, 0.8])
def test_as_many_units_stay_as_prune_leaves(ratio: float) -> None:
    layers = keras.layers
    hidden = [layers.Dense(units, activation="relu") for units in (13, 8, 5, 2)]
    model = keras.Sequential([keras.Input((4,)), *hidden, layers.Dense(2)])
    widths = read_chain(nnprune.prune(model, target=ratio, method=nnprune.OneShot()).model).widths
    assert widths == tuple(kept_units(units, ratio) for units in (13, 8, 5, 2))


def test_neuron_merging_is_exact_for_scaled_copies(random: np.random.Generator) -> None:
    chain = duplicated(random_chain(random, [7, 6, 5, 3]), [0.05, 1.0])
    merged = merge_neurons(chain, 0.5)
    assert merged.widths == (6, 5)
    x = random.normal(size=(100, 7))
    np.testing.assert_allclose(merged.logits(x), computed(chain, x), rtol=1e-9, atol=1e-9)


def test_neuron_merging_sees_through_normalization(random: np.random.Generator) -> None:
    """Copies of a unit whose normalizations differ, but so that one is a multiple of the other."""
    chain = random_chain(random, [7, 6, 3], normalized=True)
    hidden, reader = chain.layers
    norm = hidden.normalization
    assert norm is not None
    factor, stretch = 0.02, 3.0
    twice = Normalization(
        gamma=np.concatenate([norm.gamma, factor * norm.gamma]),
        beta=np.concatenate([norm.beta, factor * norm.beta]),
        mean=np.concatenate([norm.mean, stretch * norm.mean]),
        deviation=np.concatenate([norm.deviation, stretch * norm.deviation]),
    )
    wide = Layer(
        kernel=np.hstack([hidden.kernel, stretch * hidden.kernel]),
        bias=np.concatenate([hidden.bias, stretch * hidden.bias]),
        normalization=twice,
    )
    chain = Chain(layers=(wide, Layer(kernel=random.normal(size=(12, 3)), bias=reader.bias)))
    merged = merge_neurons(chain, 0.5)
    assert merged.widths == (6,)
    x = random.normal(size=(100, 7))
    np.testing.assert_allclose(merged.logits(x), computed(chain, x), rtol=1e-9, atol=1e-9)


@given(seed=st.integers(0, 2**32 - 1), units=st.integers(2, 9), threshold=st.floats(-1, 1))
def test_merging_matrix_unit_by_unit(seed: int, units: int, threshold: float) -> None:
    random = np.random.default_rng(seed)
    incoming = random.normal(size=(units, 3))
    kept = np.sort(random.permutation(units)[: random.integers(1, units + 1)])
    matrix = merging_matrix(incoming, kept, threshold)
    for i in range(units):
        expected = [0.0] * len(kept)
        if i in kept:
            expected[list(kept).index(i)] = 1.0
        else:
            cosines = [
                sum(a * b for a, b in zip(incoming[i], incoming[j], strict=True))
                / np.sqrt(sum(incoming[i] ** 2) * sum(incoming[j] ** 2))
                for j in kept
            ]
            best = cosines.index(max(cosines))
            if cosines[best] >= threshold:
                expected[best] = np.sqrt(sum(incoming[i] ** 2) / sum(incoming[kept[best]] ** 2))
        np.testing.assert_allclose(matrix[i], expected, rtol=1e-9, atol=1e-12)


def test_below_the_threshold_neuron_merging_only_prunes(random: np.random.Generator) -> None:
    chain = random_chain(random, [7, 6, 5, 3])
    pruned = merge_neurons(chain, 0.5, threshold=1.1)
    layers = [*chain.layers]
    for index in (0, 1):
        norms = np.abs(chain.layers[index].incoming).sum(axis=1)
        kept = sorted(sorted(range(len(norms)), key=lambda unit: -norms[unit])[: (3, 2)[index]])
        here, reader = layers[index], layers[index + 1]
        layers[index] = Layer(kernel=here.kernel[:, kept], bias=here.bias[kept])
        layers[index + 1] = Layer(kernel=reader.kernel[kept], bias=reader.bias)
    x = random.normal(size=(20, 7))
    expected = computed(Chain(layers=tuple(layers)), x)
    np.testing.assert_allclose(pruned.logits(x), expected, rtol=1e-12, atol=1e-12)


def test_lbyl_is_exact_in_the_span_where_units_are_linear(random: np.random.Generator) -> None:
    basis = random.normal(size=(4, 9))
    basis[:, -1] += 40.0  # biases: no unit is ever off for inputs below
    mixed = random.dirichlet(np.ones(4), size=5) @ basis * 0.5
    hidden = Layer(
        kernel=np.vstack([basis, mixed])[:, :-1].T, bias=np.vstack([basis, mixed])[:, -1]
    )
    reader = Layer(kernel=random.normal(size=(9, 3)), bias=random.normal(size=3))
    chain = Chain(layers=(hidden, reader))
    x = random.uniform(-1, 1, size=(50, 8))
    assert np.all(x @ hidden.kernel + hidden.bias > 0)
    spread = restored(
        chain,
        5 / 9,
        order=2,
        scaling=lambda incoming, kept: sharing_matrix(incoming, kept, 1e-10),
    )
    np.testing.assert_array_equal(largest(hidden.incoming, 4, 2), range(4))
    np.testing.assert_allclose(spread.logits(x), computed(chain, x), rtol=1e-6, atol=1e-6)


@given(seed=st.integers(0, 2**32 - 1), units=st.integers(2, 9), penalty=st.floats(1e-3, 10))
def test_sharing_matrix_is_the_ridge_regression(seed: int, units: int, penalty: float) -> None:
    random = np.random.default_rng(seed)
    incoming = random.normal(size=(units, 4))
    kept = np.sort(random.permutation(units)[: random.integers(1, units + 1)])
    matrix = sharing_matrix(incoming, kept, penalty)
    # Least squares with the penalty as further equations, whose right-hand sides are zero.
    stacked = np.vstack([incoming[kept].T, np.sqrt(penalty) * np.eye(len(kept))])
    for i in set(range(units)) - set(kept.tolist()):
        target = np.concatenate([incoming[i], np.zeros(len(kept))])
        expected = np.linalg.lstsq(stacked, target, rcond=None)[0]
        np.testing.assert_allclose(matrix[i], expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(matrix[kept], np.eye(len(kept)))


def test_lbyl_has_a_penalty_for_every_published_ratio(random: np.random.Generator) -> None:
    chain = random_chain(random, [6, 10, 10, 3])
    for ratio, penalty in PENALTIES.items():
        expected = restored(
            chain,
            ratio,
            order=2,
            scaling=lambda incoming, kept, penalty=penalty: sharing_matrix(  # type: ignore[misc]
                incoming, kept, penalty
            ),
        )
        found = leave_shares(chain, ratio)
        assert found.widths == (kept_units(10, ratio),) * 2
        for one, other in zip(found.layers, expected.layers, strict=True):
            np.testing.assert_array_equal(one.kernel, other.kernel)


@pytest.mark.parametrize("normalized", [False, True])
def test_folding_identical_units_is_exact(random: np.random.Generator, *, normalized: bool) -> None:
    chain = random_chain(random, [7, 6, 5, 3], normalized=normalized)
    twice = duplicated(chain, [1.0, 1.0])
    # Their outgoing weights differ, so that clustering alone need not find them.
    layers = [*twice.layers]
    for index, units in enumerate((6, 5)):
        labels = np.tile(np.arange(units), 2)
        layers[index], layers[index + 1] = fold_layer(layers[index], layers[index + 1], labels)
    folded = Chain(layers=tuple(layers))
    assert folded.widths == (6, 5)
    x = random.normal(size=(100, 7))
    np.testing.assert_allclose(folded.logits(x), computed(twice, x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("normalized", [False, True])
def test_clustering_finds_units_that_are_equal_all_round(
    random: np.random.Generator, *, normalized: bool
) -> None:
    hidden, reader = random_chain(random, [7, 6, 3], normalized=normalized).layers
    wide = duplicated(Chain(layers=(hidden, reader)), [1.0, 1.0]).layers[0]
    chain = Chain(layers=(wide, Layer(kernel=np.tile(reader.kernel, (2, 1)), bias=reader.bias)))
    x = random.normal(size=(100, 7))
    for seed in range(3):
        folded = fold_model(chain, 0.5, seed)
        assert folded.widths == (6,)
        np.testing.assert_allclose(folded.logits(x), computed(chain, x), rtol=1e-9, atol=1e-9)


def test_folding_averages_in_and_sums_out(random: np.random.Generator) -> None:
    here, reader = random_chain(random, [4, 5, 3], normalized=True).layers
    labels = np.array([0, 1, 0, 2, 0])
    folded, following = fold_layer(here, reader, labels)
    norm, found = here.normalization, folded.normalization
    assert norm is not None
    assert found is not None
    for cluster, members in enumerate(([0, 2, 4], [1], [3])):
        standard = [here.kernel[:, unit] / norm.deviation[unit] for unit in members]
        np.testing.assert_allclose(folded.kernel[:, cluster], sum(standard) / len(members))
        shifts = [(here.bias[unit] - norm.mean[unit]) / norm.deviation[unit] for unit in members]
        assert folded.bias[cluster] == pytest.approx(sum(shifts) / len(members))
        assert found.beta[cluster] == pytest.approx(norm.beta[members].mean())
        np.testing.assert_allclose(following.kernel[cluster], reader.kernel[members].sum(axis=0))
    factors = repair((here.kernel / norm.deviation).T, labels)
    np.testing.assert_allclose(factors[1:], 1.0)
    np.testing.assert_allclose(found.gamma[1:], norm.gamma[[1, 3]])
    assert found.gamma[0] == pytest.approx(factors[0] * norm.gamma[[0, 2, 4]].mean())


def test_repair_gives_the_variance_back(random: np.random.Generator) -> None:
    common = random.normal(size=8)
    weights = common + random.normal(size=(6, 8))
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)  # variance 1 for white inputs
    labels = np.array([0, 0, 0, 1, 1, 2])
    factors = repair(weights, labels)
    values = random.normal(size=(400_000, 8)) @ weights.T
    for cluster in range(3):
        average = values[:, labels == cluster].mean(axis=1)
        assert (factors[cluster] * average).std() == pytest.approx(1.0, abs=0.005)
    assert values[:, :3].mean(axis=1).std() < 0.95  # what there is to repair
    # The formula as printed.
    cosines = weights[:3] @ weights[:3].T
    mean = (cosines.sum() - 3) / 6
    assert factors[0] == pytest.approx(3 / np.sqrt(3 + (9 - 3) * mean))


def test_folding_repeats_itself(random: np.random.Generator) -> None:
    chain = random_chain(random, [7, 12, 9, 3], normalized=True)
    first, second, other = (fold_model(chain, 0.7, seed) for seed in (5, 5, 6))
    x = random.normal(size=(10, 7))
    np.testing.assert_array_equal(first.logits(x), second.logits(x))
    assert np.any(first.logits(x) != other.logits(x))
