"""Counting robust instances: against a slow count, and models and data that are unlike others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import nnprune
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops
from nnprune.attacks.campaign import Campaign
from nnprune.attacks.gradient_sign import Attacker
from nnprune.errors import DataError
from nnprune.evaluation.robustness import RobustCounts
from nnprune.evaluation.subject import Subject
from nnprune.keras_io.logits import logits_model
from numpy.typing import NDArray

SAMPLES, FEATURES, CLASSES = 60, 6, 3


def filled(model: keras.Model, seed: int = 0) -> keras.Model:
    """Give a model random weights, and variances that are positive."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        spread = random.uniform(0.5, 1.0, weight.shape)
        plain = random.normal(size=weight.shape)
        weight.assign(spread if weight.name == "moving_variance" else plain)
    return model


def plain(seed: int = 0) -> keras.Model:
    return filled(
        keras.Sequential(
            [
                keras.Input((FEATURES,)),
                layers.Dense(8, activation="relu"),
                layers.Dense(CLASSES, activation="softmax"),
            ]
        ),
        seed,
    )


def drawn(classes: int = CLASSES, seed: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    x = random.random((SAMPLES, FEATURES)).astype(np.float32)
    return x, random.integers(0, classes, SAMPLES)


def subject(model: keras.Model) -> Subject:
    logits = logits_model(model)
    return Subject(logits=logits, attacker=Attacker(logits.model, 0.0, 1.0))


def points(model: dict[str, Any]) -> list[tuple[int, int | None, int]]:
    """Return white-box and transferred counts, and how many had no gradient, point by point."""
    return [
        (
            point["white_box"]["count"],
            None if point["transfer"] is None else point["transfer"]["count"],
            point["zero_gradients"],
        )
        for outcome in model["robustness"]
        for point in outcome["points"]
    ]


MODELS = {"original": plain(0), "pruned": plain(1)}
SUBJECTS = {label: subject(model) for label, model in MODELS.items()}
ATTACKS = (
    nnprune.FGSM((0.0, 0.03, 0.2)),
    nnprune.PGD((0.0, 0.1), steps=3, restarts=2, seed=4),
    nnprune.PGD(0.1, steps=2, random_start=False),
)


@settings(max_examples=8)
@given(
    attack=st.sampled_from(ATTACKS),
    cuts=st.lists(st.integers(1, SAMPLES - 1), max_size=4, unique=True),
)
def test_counts_are_those_of_one_sample_at_a_time(attack: Any, cuts: list[int]) -> None:
    """And so do not depend on the batches, nor on which samples are left out of the attack."""
    x, y = drawn()
    counts = RobustCounts(attack, SUBJECTS, "original")
    clean = {label: one.predictions(x) for label, one in SUBJECTS.items()}
    for rows in np.split(np.arange(SAMPLES), sorted(cuts)):
        counts.add(x[rows], y[rows], {label: clean[label][rows] for label in clean})

    starts: list[NDArray[np.float32]] = []
    if isinstance(attack, nnprune.PGD) and attack.random_start:
        streams = [np.random.default_rng([4, restart]) for restart in range(2)]
        starts = [2 * stream.random(x.shape, dtype=np.float32) - 1 for stream in streams]
    campaigns = {
        label: Campaign(attack, one.attacker, one.logits) for label, one in SUBJECTS.items()
    }
    for place, epsilon in enumerate(attack.epsilons):
        robust = {(one, two): 0 for one in MODELS for two in MODELS}
        for row in range(SAMPLES):
            only = slice(row, row + 1)
            for source, campaign in campaigns.items():
                campaign.begin(x[only], y[only], [start[only] for start in starts])
                moved = [found for found, _ in campaign.adversarial(epsilon)]
                for label, victim in SUBJECTS.items():
                    classes = [int(victim.predictions(found)[0]) for found in moved]
                    right = clean[label][row] == y[row]
                    robust[source, label] += right and all(one == y[row] for one in classes)
        for label in MODELS:
            point = counts.outcome(label, "it").points[place]
            assert point.white_box.count == robust[label, label]
            if epsilon == 0.0:
                assert point.white_box.count == np.sum(clean[label] == y)
            if label == "pruned":
                assert point.transfer is not None
                assert point.transfer.count == robust["original", label]


@pytest.mark.parametrize("batch_size", [1, 7, SAMPLES])
def test_the_batch_size_changes_no_count(batch_size: int) -> None:
    found = nnprune.evaluate(
        MODELS["pruned"],
        *drawn(),
        original=MODELS["original"],
        attacks=ATTACKS,
        batch_size=batch_size,
    )
    whole = nnprune.evaluate(
        MODELS["pruned"], *drawn(), original=MODELS["original"], attacks=ATTACKS
    )
    for one, other in zip(found.models, whole.models, strict=True):
        assert points(dict(one)) == points(dict(other))


@pytest.mark.parametrize("tail", ["reshape", "squeeze", "item"])
def test_one_logit_may_have_no_axis_of_its_own(tail: str) -> None:
    """The same network with outputs of shape (samples,) and (samples, 1)."""
    x, y = drawn(classes=2)
    inputs = keras.Input((FEATURES,))
    logit = layers.Dense(1)(layers.Dense(5, activation="relu")(inputs))
    flat = {
        "reshape": lambda: layers.Reshape(())(ops.sigmoid(logit)),
        "squeeze": lambda: ops.squeeze(ops.sigmoid(logit), -1),
        "item": lambda: ops.sigmoid(logit[:, 0]),
    }[tail]()
    usual = filled(keras.Model(inputs, ops.sigmoid(logit)))
    unusual = keras.Model(inputs, flat)
    assert unusual(x).shape == (SAMPLES,)
    found = [
        nnprune.evaluate(model, x, y, attacks=ATTACKS, task="classification").models[0]
        for model in (unusual, usual)
    ]
    assert found[0]["quality"] == found[1]["quality"]
    assert points(dict(found[0])) == points(dict(found[1]))
    if tail == "item":  # the engine cannot follow it
        return
    watched = nnprune.prune(unusual, target=0.4, evaluate=(x, y), attacks=ATTACKS)
    assert watched.original_evaluation is not None
    assert watched.original_evaluation.accuracy.count == found[1]["quality"]["accuracy"]["count"]


def test_a_gradient_of_nan_is_none() -> None:
    """That of a square root is infinite at 0, and NaN behind a ReLU that is off."""
    x, y = drawn()
    inputs = keras.Input((FEATURES,))
    root = ops.sqrt(ops.relu(layers.Dense(5)(inputs)))
    model = filled(keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(root)))
    found = nnprune.evaluate(model, x, y, attacks=ATTACKS).models[0]
    right = found["quality"]["accuracy"]["count"]
    assert right > 0
    assert any(zero > 0 for _, _, zero in points(dict(found)))
    assert all(robust <= right for robust, _, _ in points(dict(found)))
    assert any("gradient" in flag for one in found["robustness"] for flag in one["flags"])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_other_precisions_are_attacked(policy: str) -> None:
    x, y = drawn()
    precision = keras.DTypePolicy(policy)
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(8, activation="relu", dtype=precision),
            layers.Dense(CLASSES, activation="softmax", dtype=precision),
        ]
    )
    model.set_weights(MODELS["original"].get_weights())
    attacker = subject(model).attacker
    (moved,) = attacker.fgsm(x, y, [0.1])
    assert np.asarray(moved).dtype == np.float32
    (expected,) = SUBJECTS["original"].attacker.fgsm(x, y, [0.1])
    # Half precision may turn the sign of a small gradient.
    assert np.mean(np.abs(np.asarray(moved) - np.asarray(expected)) > 1e-6) < 0.05
    counts = points(dict(nnprune.evaluate(model, x, y, attacks=ATTACKS).models[0]))
    other = points(dict(nnprune.evaluate(MODELS["original"], x, y, attacks=ATTACKS).models[0]))
    for one, two in zip(counts, other, strict=True):
        assert abs(one[0] - two[0]) <= 2


def test_models_are_attacked_as_they_infer() -> None:
    """Batch normalisation with its moving averages, Dropout off, and no state touched."""
    x, y = drawn()
    model = filled(
        keras.Sequential(
            [
                keras.Input((FEATURES,)),
                layers.Dense(8),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Dropout(0.5),
                layers.Dense(CLASSES, activation="softmax"),
            ]
        )
    )
    kernel, bias, gamma, beta, mean, variance, last, offset = model.get_weights()
    factor = gamma / np.sqrt(variance + model.layers[1].epsilon)
    folded = plain()
    folded.set_weights([kernel * factor, (bias - mean) * factor + beta, last, offset])
    before = model.get_weights()
    found, expected = (
        nnprune.evaluate(one, x, y, attacks=ATTACKS).models[0] for one in (model, folded)
    )
    assert points(dict(found)) == points(dict(expected))
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_samples_of_any_memory_layout_are_the_same() -> None:
    x, y = drawn()
    expected = nnprune.evaluate(MODELS["original"], x, y, attacks=ATTACKS).models[0]
    wide = np.zeros((SAMPLES, 2 * FEATURES), np.float64)
    wide[:, ::2] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    for other in (np.asfortranarray(x), wide[:, ::2], x[::-1].copy()[::-1], read_only):
        found = nnprune.evaluate(MODELS["original"], other, y, attacks=ATTACKS).models[0]
        assert points(dict(found)) == points(dict(expected))


class Shrinking:
    """Samples that lose their last batches after the first pass."""

    def __init__(self) -> None:
        self.passes = 0

    def __iter__(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        self.passes += 1
        random = np.random.default_rng(0)
        x = random.random((512, FEATURES)).astype(np.float32)
        y = random.integers(0, CLASSES, 512)
        yield x[:256], y[:256]
        if self.passes == 1:
            yield x[256:], y[256:]


def test_samples_that_are_missing_later_are_noticed() -> None:
    with pytest.raises(DataError, match="not the same, or not in the same order"):
        nnprune.prune(plain(), target=0.5, step=0.1, evaluate=Shrinking(), attacks=())
