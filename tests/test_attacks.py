"""FGSM and PGD: against the NumPy twin, and by what must hold of every attack."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from nnprune.attacks.gradient_sign import Attacker, RandomStarts
from nnprune.attacks.options import FGSM, PGD, AutoPGD, Square, attack_named
from nnprune.errors import ConfigError
from nnprune.metrics.classification import predictions
from numpy.typing import NDArray
from reference import attacks as reference

FEATURES = 6


def plain_model(classes: int, seed: int) -> tuple[keras.Model, reference.Layers]:
    """Return a small network, and its weights for the twin."""
    random = np.random.default_rng(seed)
    sizes = [FEATURES, 9, 7, classes]
    layers = [
        (random.normal(size=(a, b)).astype(np.float32), random.normal(size=b).astype(np.float32))
        for a, b in itertools.pairwise(sizes)
    ]
    model = keras.Sequential([keras.Input((FEATURES,))])
    for place, (kernel, bias) in enumerate(layers):
        layer = keras.layers.Dense(kernel.shape[1], activation=None if place == 2 else "relu")
        model.add(layer)
        layer.set_weights([kernel, bias])
    return model, [(kernel.astype(np.float64), bias.astype(np.float64)) for kernel, bias in layers]


MODELS = {classes: plain_model(classes, classes) for classes in (1, 2, 5)}
ATTACKERS = {classes: Attacker(model, 0.0, 1.0) for classes, (model, _) in MODELS.items()}


def samples(
    classes: int, seed: int, count: int = 8
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    x = random.random((count, FEATURES)).astype(np.float32)
    return x, random.integers(0, max(classes, 2), count)


@given(classes=st.sampled_from([1, 2, 5]), seed=st.integers(0, 10_000), epsilon=st.floats(0.0, 0.5))
def test_fgsm_is_that_of_the_twin(classes: int, seed: int, epsilon: float) -> None:
    x, y = samples(classes, seed)
    layers = MODELS[classes][1]
    (moved,) = ATTACKERS[classes].fgsm(x, y, [epsilon])
    for sample, label, ours in zip(x.astype(np.float64), y, np.asarray(moved), strict=True):
        gradient = reference.loss_gradient(layers, sample, int(label))
        if np.min(np.abs(gradient)) < 1e-5 * np.max(np.abs(gradient)):
            continue  # float32 may not tell the sign
        theirs = reference.fgsm(layers, sample, int(label), epsilon, 0.0, 1.0)
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@given(
    classes=st.sampled_from([1, 2, 5]),
    seed=st.integers(0, 10_000),
    epsilon=st.floats(0.01, 0.3),
    steps=st.integers(1, 5),
)
def test_pgd_is_that_of_the_twin(classes: int, seed: int, epsilon: float, steps: int) -> None:
    x, y = samples(classes, seed, count=3)
    layers = MODELS[classes][1]
    (start,) = RandomStarts(seed, 1).draw(x.shape)
    moved, _ = ATTACKERS[classes].pgd(
        x, y, epsilon, steps=steps, step_size=epsilon / 3, start=start
    )
    for place, (sample, label) in enumerate(zip(x.astype(np.float64), y, strict=True)):
        theirs = reference.pgd(
            layers,
            sample,
            int(label),
            epsilon,
            0.0,
            1.0,
            steps=steps,
            step_size=epsilon / 3,
            start=start[place].astype(np.float64),
        )
        ours = np.asarray(moved)[place]
        # Near a kink of the network a sign may differ, and then one feature by twice a step.
        assert np.mean(np.abs(ours - theirs) < 1e-5) >= 0.5
        if np.max(np.abs(ours - theirs)) < 1e-5:
            return
    pytest.fail("no sample's iterates are those of the twin")


@given(
    classes=st.sampled_from([1, 2, 5]),
    seed=st.integers(0, 10_000),
    epsilon=st.floats(0.0, 2.0),
    steps=st.integers(1, 4),
)
def test_no_attack_leaves_the_ball_or_the_box(
    classes: int, seed: int, epsilon: float, steps: int
) -> None:
    x, y = samples(classes, seed)
    x[0], x[1] = 0.0, 1.0
    attacker = ATTACKERS[classes]
    (start,) = RandomStarts(seed, 1).draw(x.shape)
    for moved in (
        attacker.fgsm(x, y, [epsilon])[0],
        attacker.pgd(x, y, epsilon, steps=steps, step_size=epsilon)[0],
        attacker.pgd(x, y, epsilon, steps=steps, start=start)[0],
    ):
        found = np.asarray(moved)
        assert found.min() >= 0.0
        assert found.max() <= 1.0
        assert np.max(np.abs(found - x)) <= epsilon * (1 + 1e-6) + 1e-7


@given(classes=st.sampled_from([1, 2, 5]), seed=st.integers(0, 10_000))
def test_many_epsilons_are_those_of_one_at_a_time(classes: int, seed: int) -> None:
    x, y = samples(classes, seed)
    attacker = ATTACKERS[classes]
    together = attacker.fgsm(x, y, [0.0, 0.1, 0.3])
    for epsilon, moved in zip([0.0, 0.1, 0.3], together, strict=True):
        np.testing.assert_array_equal(moved, attacker.fgsm(x, y, [epsilon])[0])
    np.testing.assert_array_equal(together[0], x)


@given(seed=st.integers(0, 10_000), restarts=st.integers(1, 3), cut=st.integers(1, 9))
def test_random_starts_do_not_depend_on_the_batches(seed: int, restarts: int, cut: int) -> None:
    whole = RandomStarts(seed, restarts).draw((10, 3, 5))
    parts = RandomStarts(seed, restarts)
    first, second = parts.draw((cut, 3, 5)), parts.draw((10 - cut, 3, 5))
    for all_at_once, *split in zip(whole, first, second, strict=True):
        np.testing.assert_array_equal(all_at_once, np.concatenate(split))
        assert np.max(np.abs(all_at_once)) <= 1.0
    if restarts > 1:
        assert not np.array_equal(whole[0], whole[1])


def test_a_confident_model_hides_nothing() -> None:
    """The gradient of its plain cross entropy is 0 in float32, although a step would change it."""
    model, _ = plain_model(5, 1)
    for layer in model.layers:
        layer.set_weights([weight * 30 for weight in layer.get_weights()])
    x, _ = samples(5, 4, count=40)
    y = np.argmax(np.asarray(model(x)), axis=1)

    hidden = keras.ops.convert_to_numpy(ops.softmax(model(x)))[np.arange(40), y] > 1.0 - 1e-6
    assert hidden.all()
    attacker = Attacker(model, 0.0, 1.0)
    direction, zero = attacker.direction(x, y)
    dead = ~np.any(np.abs(np.asarray(direction)) > 0, axis=1)
    np.testing.assert_array_equal(dead, zero)
    assert not dead.any()
    moved = attacker.fgsm(x, y, [0.5])[0]
    assert np.mean(np.argmax(np.asarray(model(moved)), axis=1) == y) < 0.8


def test_a_network_that_is_off_gives_no_gradient() -> None:
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, activation="relu"), keras.layers.Dense(2)]
    )
    model.layers[0].set_weights([np.ones((3, 4)), np.full(4, -10.0)])
    attacker = Attacker(model, 0.0, 1.0)
    x = np.full((2, 3), 0.5, np.float32)
    direction, zero = attacker.direction(x, np.zeros(2, np.int64))
    assert np.all(np.asarray(zero))
    np.testing.assert_array_equal(direction, np.zeros((2, 3)))
    # sign(0) = 0: the sample stays; the paper's code takes +1 and clips to [-1, 1].
    np.testing.assert_array_equal(attacker.move(x, direction, 0.75), x)
    np.testing.assert_array_equal(
        attacker.move(x, direction, 0.75, paper_code=True), np.ones((2, 3))
    )
    _, always = attacker.pgd(x, np.zeros(2, np.int64), 0.1, steps=3)
    assert np.all(np.asarray(always))


def test_the_box_is_rounded_inwards() -> None:
    model, _ = plain_model(2, 0)
    attacker = Attacker(model, np.full(FEATURES, 0.1), np.full(FEATURES, 0.3))
    x = np.full((1, FEATURES), 0.2, np.float32)
    moved = np.asarray(attacker.fgsm(x, np.zeros(1, np.int64), [1.0])[0], np.float64)
    assert moved.min() >= 0.1
    assert moved.max() <= 0.3


@pytest.mark.parametrize(
    ("text", "attack"),
    [
        ("fgsm:0.01,0.05", FGSM((0.01, 0.05))),
        ("FGSM:0.05,0.01,0.05", FGSM([0.01, 0.05])),
        ("pgd:8/255,steps=20,restarts=2,seed=3", PGD(8 / 255, steps=20, restarts=2, seed=3)),
        ("pgd:0.1,step_size=0.02,random_start=false", PGD(0.1, step_size=0.02, random_start=False)),
        ("auto-pgd:0.1,loss=dlr", AutoPGD(0.1, loss="dlr")),
        ("square:0.1,queries=7", Square(0.1, queries=7)),
        ("fgsm:0.1,paper_code=true", FGSM(0.1, paper_code=True)),
    ],
)
def test_attacks_are_read_from_text(text: str, attack: object) -> None:
    assert attack_named(text) == attack


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fgsm", "names no epsilon"),
        ("fgsm:", "names no epsilon"),
        ("cw:0.1", "expected fgsm, pgd, auto_pgd, square"),
        ("fgsm:a", "expected a number"),
        ("fgsm:1/0", "expected a number"),
        ("fgsm:-0.1", "not negative"),
        ("fgsm:nan", "finite"),
        ("pgd:0.1,steps=0", "from 1 to"),
        ("pgd:0.1,steps=1.5", "expected an integer"),
        ("pgd:0.1,step=2", "unknown option 'step'"),
        ("pgd:0.1,epsilons=2", "unknown option 'epsilons'"),
        ("pgd:0.1,step_size=0", "above 0"),
        ("pgd:0.1,random_start=no", "expected true or false"),
        ("pgd:0.1,restarts=2,random_start=false", "would all be the same"),
        ("auto_pgd:0.1,loss=mse", "expected 'ce' or 'dlr'"),
        ("pgd:0.1,seed=-1", "seed"),
    ],
)
def test_wrong_attacks_are_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        attack_named(text)


@pytest.mark.parametrize("epsilons", [[], "abc", None, [0.1, float("inf")], [-1]])
def test_wrong_epsilons_are_refused(epsilons: object) -> None:
    with pytest.raises(ConfigError, match="epsilons"):
        FGSM(epsilons)  # type: ignore[arg-type]


@given(classes=st.sampled_from([1, 2, 5]), seed=st.integers(0, 10_000))
def test_predictions_on_the_device_are_those_of_the_metrics(classes: int, seed: int) -> None:
    x, _ = samples(classes, seed)
    attacker = ATTACKERS[classes]
    found, finite = attacker.predictions(x)
    np.testing.assert_array_equal(found, predictions(np.asarray(attacker.logits(x))))
    assert bool(finite)


def test_infinite_logits_are_seen() -> None:
    model, _ = plain_model(2, 0)
    model.layers[-1].set_weights([np.full((7, 2), np.nan), np.zeros(2)])
    _, finite = Attacker(model, 0.0, 1.0).predictions(samples(2, 0)[0])
    assert not bool(finite)
