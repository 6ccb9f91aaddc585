"""Our attacks against what three published libraries made; `oracles/README.md` says how."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
from nnprune.attacks.gradient_sign import Attacker, RandomStarts
from nnprune.keras_io.logits import logits_model

FIXTURE = Path(__file__).with_name("oracles") / "attacks.npz"
ONE_ULP = 2.0**-24  # between 0.5 and 1

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    with np.load(FIXTURE) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def facts(made: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(str(made["facts"]))
    return found


@pytest.fixture(scope="module")
def digits() -> tuple[Floats, Labels]:
    with resources.as_file(resources.files("nnprune") / "demo_files" / "digits.npz") as path:
        data = np.load(path)
        return data["x_test"].astype(np.float32) / 16, data["y_test"].astype(np.int64)


@pytest.fixture(scope="module")
def attacker() -> Attacker:
    with resources.as_file(resources.files("nnprune") / "demo_files" / "digits.keras") as path:
        model = keras.saving.load_model(path, compile=False)
    return Attacker(logits_model(model).model, 0.0, 1.0)


@pytest.fixture(scope="module")
def stored(made: dict[str, Any], digits: tuple[Floats, Labels]) -> tuple[Floats, Labels]:
    """Return the samples whose adversarial inputs are in the fixture."""
    kept = len(made["labels"])
    return digits[0][:kept], digits[1][:kept]


def label_doubt(logits: Floats, labels: Labels) -> NDArray[np.float64]:
    """Return 1 - p(label), free of cancellation."""
    shifted = np.exp(logits.astype(np.float64) - np.max(logits, axis=1, keepdims=True))
    others = shifted.copy()
    others[np.arange(len(labels)), labels] = 0.0
    return np.asarray(np.sum(others, axis=1) / np.sum(shifted, axis=1))


def robust(attacker: Attacker, x: Floats, y: Labels, attacked: Any) -> int:
    before, after = (np.argmax(np.asarray(attacker.logits(z)), axis=1) for z in (x, attacked))
    return int(np.sum((before == y) & (after == y)))


def test_fixture_is_of_this_model_and_these_samples(
    attacker: Attacker, stored: tuple[Floats, Labels], made: dict[str, Any]
) -> None:
    x, y = stored
    np.testing.assert_array_equal(y, made["labels"])
    np.testing.assert_allclose(
        np.asarray(attacker.logits(x)),
        made["logits"],
        atol=1e-4,
        err_msg="the model has changed: run tests/oracles/make_attacks.py again",
    )


@pytest.mark.parametrize("epsilon", [0.05, 0.1])
def test_fgsm_is_that_of_the_libraries(
    attacker: Attacker, stored: tuple[Floats, Labels], made: dict[str, Any], epsilon: float
) -> None:
    (attacked,) = attacker.fgsm(*stored, [epsilon])
    np.testing.assert_array_equal(np.asarray(attacked), made[f"fgsm_{epsilon}_float64"])


def test_one_gradient_serves_all_epsilons(
    attacker: Attacker, stored: tuple[Floats, Labels], made: dict[str, Any]
) -> None:
    attacked = attacker.fgsm(*stored, [0.1, 0.05, 0.0])
    np.testing.assert_array_equal(np.asarray(attacked[0]), made["fgsm_0.1_float64"])
    np.testing.assert_array_equal(np.asarray(attacked[1]), made["fgsm_0.05_float64"])
    np.testing.assert_array_equal(np.asarray(attacked[2]), stored[0])


def test_pgd_without_random_start_is_that_of_the_libraries(
    attacker: Attacker,
    stored: tuple[Floats, Labels],
    made: dict[str, Any],
    facts: dict[str, Any],
) -> None:
    attacked, zero = attacker.pgd(
        *stored, facts["epsilon"], steps=facts["steps"], step_size=facts["step_size"]
    )
    # Theirs projects the difference from the sample, ours the sum: one rounding apart.
    np.testing.assert_allclose(np.asarray(attacked), made["pgd_float64"], rtol=0.0, atol=ONE_ULP)
    assert not np.any(np.asarray(zero))


@pytest.mark.parametrize("name", ["fgsm_0.05", "fgsm_0.1", "pgd"])
def test_libraries_lose_the_gradient_of_confident_samples_in_float32(
    made: dict[str, Any], name: str
) -> None:
    """Why the comparison is with float64, and why our gradient is scaled: p - 1 cancels."""
    apart = np.abs(made[f"{name}_float64"] - made[f"{name}_float32"]) > ONE_ULP
    doubt = label_doubt(made["logits"], made["labels"])
    assert np.count_nonzero(apart) > 100
    assert np.max(doubt[np.any(apart, axis=1)]) < 1e-5
    assert np.count_nonzero(doubt >= 1e-5) > 20  # and there all agree


def test_robust_counts_are_those_of_the_libraries(
    attacker: Attacker, digits: tuple[Floats, Labels], facts: dict[str, Any]
) -> None:
    x, y = digits
    theirs = facts["float64"]
    assert len(x) == facts["samples"]
    assert robust(attacker, x, y, x) == theirs["correct"]
    (one_step,) = attacker.fgsm(x, y, [facts["epsilon"]])
    assert {robust(attacker, x, y, one_step)} == set(theirs["fgsm_robust"].values())
    seven, _ = attacker.pgd(
        x, y, facts["epsilon"], steps=facts["steps"], step_size=facts["step_size"]
    )
    assert {robust(attacker, x, y, seven)} == set(theirs["pgd_robust"].values())


def test_robust_counts_with_random_start_are_among_those_of_the_libraries(
    attacker: Attacker, digits: tuple[Floats, Labels], facts: dict[str, Any]
) -> None:
    x, y = digits
    theirs = np.array(list(facts["float64"]["pgd_robust_random_start"].values()))
    ours = []
    for seed in facts["seeds"]:
        (start,) = RandomStarts(seed, 1).draw(x.shape)
        attacked, _ = attacker.pgd(
            x,
            y,
            facts["epsilon"],
            steps=facts["steps"],
            step_size=facts["step_size"],
            start=start,
        )
        ours.append(robust(attacker, x, y, attacked))
    assert len(set(ours)) > 1
    # Other random numbers: the mean of five lies within three standard errors of theirs.
    error = np.std(theirs, ddof=1) * np.sqrt(1 / len(ours) + 1 / theirs.size)
    assert abs(np.mean(ours) - np.mean(theirs)) < 3 * error


def test_zero_gradient_moves_nothing_as_in_the_libraries(facts: dict[str, Any]) -> None:
    dense = keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((2,)), dense])
    dense.set_weights([np.array([[0.0, 0.0], [1.0, -1.0]]), np.zeros(2)])
    attacker = Attacker(model, 0.0, 1.0)
    x, y = np.full((1, 2), 0.5, np.float32), np.zeros(1, np.int64)
    (attacked,) = attacker.fgsm(x, y, [facts["epsilon"]])
    step = np.asarray(attacked)[0] - 0.5
    assert set(facts["step_of_zero_gradient"].values()) == {float(step[0])}
    assert step[1] == pytest.approx(-facts["epsilon"])


def test_one_logit_is_attacked_as_two_classes() -> None:
    """The cross entropy of one logit z is that of the logits (0, z)."""
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(16, "tanh", kernel_initializer=keras.initializers.GlorotNormal(1))
    last = keras.layers.Dense(1, kernel_initializer=keras.initializers.GlorotNormal(2))
    one = last(hidden(inputs))
    two = keras.layers.Concatenate()([keras.ops.zeros_like(one), one])
    x = np.random.default_rng(3).random((40, 6), dtype=np.float32)
    y = np.arange(40, dtype=np.int64) % 2
    of_one, of_two = (Attacker(keras.Model(inputs, head), 0.0, 1.0) for head in (one, two))
    for ours, theirs in zip(of_one.fgsm(x, y, [0.1]), of_two.fgsm(x, y, [0.1]), strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    ours, _ = of_one.pgd(x, y, 0.1, steps=5)
    theirs, _ = of_two.pgd(x, y, 0.1, steps=5)
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    assert np.max(np.abs(np.asarray(ours) - x)) > 0.09
