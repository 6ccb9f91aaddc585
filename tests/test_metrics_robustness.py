"""Retention, and the flags on attacks that were too weak."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from networks import seeds
from nnprune.errors import ConfigError
from nnprune.metrics.classification import Proportion, proportion
from nnprune.metrics.robustness import (
    AttackOutcome,
    RobustPoint,
    reliability_flags,
    retention,
)

SAMPLES = 1000  # the margin is 5 of them
Kind = Literal["fgsm", "pgd", "auto_pgd", "square"]
CLEAN = proportion(950, SAMPLES)


def point(
    epsilon: float,
    count: int,
    *,
    transfer: int | None = None,
    zero: int = 0,
    samples: int = SAMPLES,
) -> RobustPoint:
    return RobustPoint(
        epsilon=epsilon,
        white_box=proportion(count, samples),
        transfer=None if transfer is None else proportion(transfer, samples),
        retention=None,
        zero_gradients=zero,
    )


def attack(
    label: str, kind: Kind, *points: RobustPoint, parameters: Mapping[str, Any] | None = None
) -> AttackOutcome:
    return AttackOutcome(attack=label, kind=kind, parameters=parameters or {}, points=points)


def pgd(steps: int, *points: RobustPoint, restarts: int = 1) -> AttackOutcome:
    parameters = {"steps": steps, "restarts": restarts}
    return attack(f"PGD-{steps} x{restarts}", "pgd", *points, parameters=parameters)


def flags(*outcomes: AttackOutcome, clean: Proportion = CLEAN) -> list[tuple[str, ...]]:
    """Return the flags of each attack."""
    found = reliability_flags(outcomes, clean)
    assert list(found) == [outcome.attack for outcome in outcomes]
    return list(found.values())


def assert_flag(found: Sequence[str], *parts: str) -> None:
    """Check that there is one flag, a sentence, with these parts."""
    assert len(found) == 1
    assert found[0][0].isupper() or found[0][0].isdigit()
    assert found[0].endswith(".")
    for part in parts:
        assert part in found[0]


def test_retention_is_the_ratio_of_the_counts() -> None:
    assert retention(30, 40) == 0.75
    assert retention(50, 40) == 1.25
    assert retention(0, 40) == 0.0
    assert retention(0, 0) is None
    assert retention(3, 0) is None


def test_outcome_as_json() -> None:
    made = RobustPoint(
        epsilon=0.05,
        white_box=proportion(3, 4),
        transfer=None,
        retention=0.75,
        zero_gradients=1,
    )
    plain = replace(pgd(7, made), flags=("One.", "Two.")).to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert list(plain) == ["attack", "kind", "parameters", "points", "flags"]
    assert plain["points"] == [
        {
            "epsilon": 0.05,
            "white_box": proportion(3, 4).to_dict(),
            "transfer": None,
            "retention": 0.75,
            "zero_gradients": 1,
            "certified": None,
        }
    ]
    assert plain["parameters"] == {"steps": 7, "restarts": 1}
    assert plain["flags"] == ["One.", "Two."]


# Flags


@given(seed=seeds)
def test_attacks_as_they_should_be_raise_no_flag(seed: int) -> None:
    # Counts that fall with epsilon and with the attack's strength, Square last but one.
    random = np.random.default_rng(seed)
    epsilons = (0.0, 0.01, 0.05)
    kinds = [("square", {}), ("fgsm", {}), ("pgd", {"steps": 7}), ("pgd", {"steps": 20})]
    kinds.append(("auto_pgd", {"steps": 50}))
    counts = -np.sort(-random.integers(0, 900, (len(kinds), 2)), axis=1)
    counts = np.minimum.accumulate(counts, axis=0)
    outcomes = [
        AttackOutcome(
            attack=str(place),
            kind=kind,  # type: ignore[arg-type]
            parameters=parameters,
            points=tuple(
                point(epsilon, int(count), transfer=int(count) + 20, zero=10)
                for epsilon, count in zip(epsilons, (950, *row), strict=True)
            ),
        )
        for place, ((kind, parameters), row) in enumerate(zip(kinds, counts, strict=True))
    ]
    assert flags(*outcomes) == [()] * len(kinds)


def test_many_zero_gradients() -> None:
    few, many = point(0.01, 800, zero=10), point(0.05, 600, zero=11)
    assert flags(attack("FGSM", "fgsm", few)) == [()]
    (found,) = flags(attack("FGSM", "fgsm", few, many))
    assert_flag(found, "11 of 1000 samples (1.1%)", "epsilon 0.05", "Square")


@pytest.mark.parametrize(
    ("samples", "rise", "flagged"),
    [(1000, 5, False), (1000, 6, True), (100, 2, False), (100, 3, True), (10_000, 50, False)],
)
def test_a_count_that_rises_with_epsilon(samples: int, rise: int, flagged: bool) -> None:
    points = (
        point(0.01, 60, samples=samples),
        point(0.05, 20, samples=samples),
        point(0.1, 20 + rise, samples=samples),
    )
    for order in (points, points[::-1]):
        (found,) = flags(attack("FGSM", "fgsm", *order))
        assert bool(found) == flagged
        if flagged:
            rises = f"{20 + rise} of {samples} robust at epsilon 0.1, 20 at the smaller 0.05"
            assert_flag(found, "rises with epsilon", rises, "as PGD does")


def test_a_rise_in_small_steps_is_one_rise() -> None:
    points = [point(0.01 * place, 700 + 4 * place) for place in range(1, 4)]
    (found,) = flags(attack("PGD", "pgd", *points))
    assert_flag(found, "712 of 1000 robust at epsilon 0.03, 704 at the smaller 0.01")


def test_an_attack_that_changes_nothing() -> None:
    at_zero, same, fewer = point(0.0, 950), point(0.1, 950), point(0.1, 949)
    assert flags(attack("FGSM", "fgsm", at_zero, fewer)) == [()]
    assert flags(attack("FGSM", "fgsm", at_zero)) == [()]
    (found,) = flags(attack("FGSM", "fgsm", at_zero, same))
    assert_flag(found, "Not one of 950 right predictions", "epsilon, 0.1", "the Square attack")
    (found,) = flags(attack("Square", "square", at_zero, same))
    assert_flag(found, "Not one of 950 right predictions", "more queries")


def test_too_few_right_predictions_to_tell_that_nothing_changes() -> None:
    for right, flagged in ((58, False), (59, True)):
        clean = proportion(right, 60)
        unmoved = attack("FGSM", "fgsm", point(0.1, right, samples=60))
        assert bool(flags(unmoved, clean=clean)[0]) == flagged


def test_a_model_no_better_than_chance_may_stay_unchanged() -> None:
    clean = proportion(510, SAMPLES)
    unmoved = attack("FGSM", "fgsm", point(0.1, 510))
    assert reliability_flags([unmoved], clean, chance=0.5) == {"FGSM": ()}
    assert reliability_flags([unmoved], clean, chance=0.1)["FGSM"]


@pytest.mark.parametrize("kind", ["pgd", "auto_pgd"])
def test_an_iterated_attack_weaker_than_fgsm(kind: Kind) -> None:
    fgsm = attack("FGSM", "fgsm", point(0.01, 800), point(0.05, 500))
    assert flags(fgsm, attack("It", kind, point(0.01, 805), point(0.05, 500))) == [(), ()]
    first, second = flags(fgsm, attack("It", kind, point(0.01, 810), point(0.05, 520)))
    assert first == ()
    assert_flag(second, "Weaker than a single step", "520 of 1000", "0.05, 500 against FGSM")


def test_square_may_be_weaker_than_fgsm() -> None:
    fgsm = attack("FGSM", "fgsm", point(0.05, 500))
    assert flags(fgsm, attack("Square", "square", point(0.05, 900))) == [(), ()]


def test_more_steps_that_do_not_help() -> None:
    assert flags(pgd(7, point(0.05, 500)), pgd(20, point(0.05, 505))) == [(), ()]
    fewer, more = flags(pgd(7, point(0.05, 500)), pgd(20, point(0.05, 506)))
    assert fewer == ()
    assert_flag(more, "More steps do not help", "506 of 1000", "500 against PGD-7 x1")


def test_more_steps_are_not_held_to_more_restarts() -> None:
    often = pgd(7, point(0.05, 400), restarts=5)
    assert flags(often, pgd(20, point(0.05, 500))) == [(), ()]
    assert flags(often, pgd(20, point(0.05, 500), restarts=5))[1]


def test_square_stronger_than_the_strongest_gradient_attack() -> None:
    fgsm = attack("FGSM", "fgsm", point(0.01, 800), point(0.05, 600))
    strong = pgd(7, point(0.01, 790), point(0.05, 500))
    within = attack("Square", "square", point(0.01, 785), point(0.05, 495))
    assert flags(fgsm, strong, within) == [(), (), ()]
    beyond = attack("Square", "square", point(0.01, 785), point(0.05, 494))
    first, second, third = flags(fgsm, strong, beyond)
    assert first == third == ()
    assert_flag(second, "without gradients", "500 of 1000 robust at epsilon 0.05, 494 against Sq")
    (alone, _) = flags(fgsm, beyond)
    assert_flag(alone, "without gradients", "600 of 1000 robust at epsilon 0.05")


@pytest.mark.parametrize(("kind", "masked"), [("fgsm", True), ("square", False)])
def test_transfer_stronger_than_the_models_own_gradients(kind: Kind, masked: bool) -> None:
    assert flags(attack("A", kind, point(0.05, 500, transfer=495))) == [()]
    (found,) = flags(attack("A", kind, point(0.05, 500, transfer=494)))
    assert_flag(found, "Inputs made against the original model", "500 of 1000", "494 on those of")
    assert ("masks its gradients" in found[0]) == masked


def test_the_most_pronounced_case_is_told() -> None:
    points = [point(0.01, 800, transfer=700), point(0.05, 500, transfer=200)]
    (found,) = flags(attack("FGSM", "fgsm", *points, point(0.1, 100, transfer=50)))
    assert_flag(found, "500 of 1000 robust at epsilon 0.05, 200 on")


def test_counts_over_other_numbers_of_samples_are_not_compared() -> None:
    fgsm = attack("FGSM", "fgsm", point(0.05, 10, samples=100))
    weak = attack("AutoPGD", "auto_pgd", point(0.05, 900), point(0.1, 99, samples=100))
    square = attack("Square", "square", point(0.05, 80, samples=200))
    assert flags(fgsm, weak, square) == [(), (), ()]
    small = attack("FGSM", "fgsm", point(0.1, 100, samples=100))
    assert flags(small, clean=proportion(100, 1000)) == [()]


def test_the_strongest_attack_is_found_among_those_on_as_many_samples() -> None:
    few = attack("FGSM", "fgsm", point(0.05, 10, samples=100))
    strong, square = pgd(7, point(0.05, 500)), attack("Square", "square", point(0.05, 300))
    first, second, third = flags(few, strong, square)
    assert first == third == ()
    assert_flag(second, "without gradients", "500 of 1000")


def test_other_epsilons_are_not_compared() -> None:
    fgsm = attack("FGSM", "fgsm", point(0.05, 500))
    assert flags(fgsm, pgd(7, point(0.01, 900)), pgd(20, point(0.02, 940))) == [(), (), ()]


def test_an_attack_that_may_leave_the_box_is_not_compared() -> None:
    paper = attack("FGSM (paper's code)", "fgsm", point(0.05, 100), parameters={"paper_code": True})
    strong, square = pgd(7, point(0.05, 500)), attack("Square", "square", point(0.05, 300))
    first, second, third = flags(paper, strong, square)
    assert first == third == ()
    assert_flag(second, "without gradients")  # not hidden by the count of 100, nor weak by it


def test_several_flags_at_once() -> None:
    weak = pgd(7, point(0.01, 600, zero=200), point(0.05, 700, transfer=100))
    _, found = flags(attack("FGSM", "fgsm", point(0.05, 300)), weak)
    assert [sentence.split()[0] for sentence in found] == ["200", "The", "Weaker", "Inputs"]


def test_flags_of_no_attack_and_of_one_without_points() -> None:
    assert reliability_flags([], CLEAN) == {}
    assert flags(attack("FGSM", "fgsm")) == [()]


def test_labels_must_differ() -> None:
    with pytest.raises(ConfigError, match="attacks: each needs a label of its own; got A, A"):
        reliability_flags([attack("A", "fgsm"), attack("A", "pgd")], CLEAN)
