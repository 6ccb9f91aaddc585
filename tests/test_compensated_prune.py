"""`prune` with compensation: every rule, method and size, on models as they are used."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import keras
import nnprune
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from keras_helpers import randomize
from nnprune import Annealing, Elimination, Greedy, LeastSquares, OneShot, Polish, Scaled
from nnprune.errors import ConfigError, NothingToPruneError
from nnprune.keras_io.fingerprints import model_sha256
from nnprune.report.schema import load_schema
from numpy.typing import NDArray

DIGITS = Path(str(resources.files("nnprune") / "demo_files" / "digits.keras"))
FAST = LeastSquares(source="box", samples=400)
layers = keras.layers


@pytest.fixture(scope="module")
def digits() -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    with np.load(DIGITS.with_name("digits.npz")) as data:
        return data["x_test"].astype(np.float32) / 16, data["y_test"]


def accuracy(model: keras.Model, digits: Any) -> float:
    x, y = digits
    return float(np.mean(model.predict(x, verbose=0).argmax(axis=1) == y))


def weights(result: nnprune.PruningResult) -> str:
    return model_sha256(result.model, {})


def units(result: nnprune.PruningResult) -> list[int]:
    return [change.units_after for change in result.layers if change.reason is None]


def plain(result: nnprune.PruningResult) -> dict[str, Any]:
    """Return all that a result says but for times."""
    found = result.to_dict()
    for key in ("engine_seconds", "evaluation_seconds"):
        del found[key]
    del found["compensation"]["seconds"]
    return found


def test_least_squares_keeps_more_accuracy_than_the_paper_and_scaling(digits: Any) -> None:
    # Annealing is led by chance: one seed alone may do as well.
    def mean(rule: str) -> float:
        runs = (
            nnprune.prune(DIGITS, target=0.6, compensation=rule, seed=seed) for seed in range(3)
        )
        return float(np.mean([accuracy(run.model, digits) for run in runs]))

    reached = {rule: mean(rule) for rule in ("sum", "scaled", "least_squares")}
    assert reached["least_squares"] > max(reached["sum"], reached["scaled"]) + 0.05


def test_a_few_unlabelled_inputs_help(digits: Any) -> None:
    free, fed = (
        nnprune.prune(DIGITS, target=0.7, compensation=FAST, representative_inputs=given)
        for given in (None, digits[0][:64])
    )
    assert accuracy(fed.model, digits) > accuracy(free.model, digits)
    assert (fed.compensation.inputs, fed.compensation.given) == ("representative", 64)
    assert fed.compensation.samples == 400
    assert len(fed.compensation.sha256 or "") == 64
    assert (free.compensation.inputs, free.compensation.samples) == ("synthetic", 400)
    assert free.compensation.given is None
    assert free.compensation.sha256 is None


@pytest.mark.parametrize("rule", [LeastSquares(source="box", samples=300), Scaled()])
@pytest.mark.parametrize("method", [Annealing(), Greedy(), OneShot()])
def test_units_stay_as_without_compensation(rule: Any, method: Any) -> None:
    if isinstance(rule, LeastSquares) and isinstance(method, Annealing):
        return  # it searches
    summed = nnprune.prune(DIGITS, target=0.4, method=method, seed=3)
    other = nnprune.prune(DIGITS, target=0.4, method=method, seed=3, compensation=rule)
    gone = [{(m.layer, m.nominee) for m in result.merges} for result in (summed, other)]
    assert gone[0] == gone[1]
    assert units(summed) == units(other)
    assert weights(summed) != weights(other)


def test_scaling_names_delegates_and_least_squares_none() -> None:
    scaled = nnprune.prune(DIGITS, target=0.3, compensation="scaled", method=Greedy())
    kept = {(m.layer, m.nominee) for m in scaled.merges}
    assert any(merge.delegate is not None for merge in scaled.merges)
    assert all((m.layer, m.delegate) not in kept for m in scaled.merges)
    refitted = nnprune.prune(DIGITS, target=0.3, compensation=FAST)
    assert {merge.delegate for merge in refitted.merges} == {None}
    assert refitted.method == Elimination()
    assert refitted.trace == ()


@pytest.mark.parametrize(
    ("rule", "method"),
    [
        ("sum", None),
        ("scaled", Greedy()),
        (FAST, None),
        (LeastSquares(source="box", samples=300, moves=50, chains=2), Annealing()),
    ],
)
def test_several_sizes_are_those_of_single_runs(rule: Any, method: Any) -> None:
    targets = [0.7, 0.3, 0.5]
    together = nnprune.prune(DIGITS, targets=targets, compensation=rule, method=method, seed=2)
    assert [result.target for result in together] == targets
    for result in together:
        alone = nnprune.prune(
            DIGITS, target=float(result.target), compensation=rule, method=method, seed=2
        )
        assert weights(alone) == weights(result)
        assert plain(alone) == plain(result)


def test_smaller_sizes_keep_a_part_of_larger_ones() -> None:
    large, small = nnprune.prune(DIGITS, targets=[0.3, 0.6], compensation=FAST)
    gone = [{(m.layer, m.nominee) for m in result.merges} for result in (large, small)]
    assert gone[0] < gone[1]


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    first, again, other = (
        nnprune.prune(DIGITS, target=0.5, compensation=FAST, seed=seed) for seed in (1, 1, 2)
    )
    assert weights(first) == weights(again) != weights(other)
    assert plain(first) == plain(again)


def test_a_search_lowers_the_loss_and_tells_its_moves() -> None:
    rule = LeastSquares(source="box", samples=400, moves=400, chains=2)
    searched = nnprune.prune(DIGITS, target=0.6, compensation=rule)
    assert searched.method == Annealing()
    assert all(fit.moves >= 400 for fit in searched.compensation.layers)
    timed = nnprune.prune(
        DIGITS, target=0.6, compensation=LeastSquares(samples=400, search_seconds=0.3)
    )
    assert timed.method == Annealing()
    assert sum(fit.moves for fit in timed.compensation.layers) > 0


def test_the_result_tells_all_of_it() -> None:
    result = nnprune.prune(DIGITS, target=0.5, compensation=FAST)
    told = json.loads(result.to_json())
    compensation = told["compensation"]
    assert compensation["options"]["name"] == "least_squares"
    assert compensation["options"]["source"]["name"] == "box"
    assert compensation["options"]["ridge"] == 1e-2
    assert compensation["samples"] == 400
    assert set(compensation["seconds"]) == {"inputs", "fit"}
    assert [fit["layer"] for fit in compensation["layers"]] == [
        change.layer for change in result.layers if change.reason is None
    ]
    assert all(
        0.0 <= fit["loss"] < 1.0 and fit["fallback"] is None for fit in compensation["layers"]
    )
    assert 0.0 < compensation["loss"] < 1.0
    assert told["synthetic_agreement"]["samples"] == 4000
    assert told["method"] == {"name": "elimination"}
    text = result.summary()
    assert "compensated by least squares on 400 synthetic inputs" in text
    assert "of 4,000 synthetic inputs are classified as by the original" in text


@pytest.mark.parametrize("options", [{"compensation": FAST}, {"min_agreement": 0.1}])
def test_an_evaluation_takes_the_record_and_its_schema_knows_it(
    options: dict[str, Any], digits: Any, tmp_path: Path
) -> None:
    result = nnprune.prune(DIGITS, target=0.4, **options)
    document = nnprune.evaluate(
        result, *digits, original=DIGITS, attacks=(), pruning=result.to_dict()
    )
    Draft202012Validator(load_schema()).validate(document.document)
    assert document.save_report(tmp_path / "report.html").exists()


def test_the_default_is_the_paper_and_says_so() -> None:
    result = nnprune.prune(DIGITS, target=0.5)
    assert result.method == Annealing()
    assert result.compensation.to_dict()["options"] == {"name": "sum"}
    assert result.synthetic_agreement is None
    assert "compensated" not in result.summary()
    assert weights(result) == weights(nnprune.prune(DIGITS, target=0.5, compensation=nnprune.Sum()))


def test_widths_are_rounded_up() -> None:
    for rule in ("sum", FAST):
        result = nnprune.prune(DIGITS, target=0.6, compensation=rule, width_multiple=8)
        assert all(count % 8 == 0 for count in units(result))
        assert result.to_dict()["width_multiple"] == 8


def test_a_shared_out_budget_saves_as_much() -> None:
    even, uneven = (
        nnprune.prune(DIGITS, target=0.5, compensation=FAST, allocation=allocation)
        for allocation in ("uniform", "propagated")
    )
    assert uneven.allocation == "propagated"
    assert uneven.after.parameters <= 1.1 * even.after.parameters


def test_stock_keras_loads_and_trains_what_was_written(tmp_path: Path, digits: Any) -> None:
    result = nnprune.prune(DIGITS, target=0.5, compensation=FAST, polish=Polish(epochs=1))
    path = result.save(tmp_path / "small.keras")
    model = keras.saving.load_model(path)
    assert accuracy(model, digits) == accuracy(result.model, digits)
    original = keras.saving.load_model(DIGITS)
    assert model.loss == original.loss
    assert [layer.trainable for layer in model.layers] == [
        layer.trainable for layer in original.layers
    ]
    model.fit(digits[0][:32], digits[1][:32], verbose=0)


def test_a_model_that_the_engine_cannot_follow_is_refitted_through_keras() -> None:
    model = randomize(
        keras.Sequential(
            [
                keras.Input((6,)),
                layers.Dense(12, activation="relu"),
                layers.UnitNormalization(),
                layers.Dense(10, activation="relu"),
                layers.Dense(3, activation="softmax"),
            ]
        )
    )
    rule = LeastSquares(source="box", samples=300)
    result = nnprune.prune(model, target=0.3, compensation=rule)
    assert result.opaque
    assert result.synthetic_agreement is not None
    assert result.synthetic_agreement.agreement.value > 0.5


def test_a_layer_whose_readers_have_no_bias_is_refitted() -> None:
    model = randomize(
        keras.Sequential(
            [
                keras.Input((6,)),
                layers.Dense(12, activation="relu"),
                layers.Dense(10, activation="relu", use_bias=False),
                layers.Dense(3, use_bias=False),
            ]
        )
    )
    result = nnprune.prune(model, target=0.3, compensation=LeastSquares(source="box", samples=300))
    assert all(layer.use_bias for layer in result.model.layers)
    x = np.random.default_rng(0).random((200, 6), np.float32)
    summed = nnprune.prune(model, target=0.3)
    wanted = model.predict(x, verbose=0)
    errors = [np.mean((one.model.predict(x, verbose=0) - wanted) ** 2) for one in (result, summed)]
    assert errors[0] < errors[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ["target", "neither"]),
        ({"target": 0.5, "targets": [0.5]}, ["target", "both"]),
        ({"targets": []}, ["targets", "at least one"]),
        ({"targets": 0.5}, ["targets", "list"]),
        ({"targets": [0.5, 0.5]}, ["targets", "twice"]),
        ({"targets": [0.5, "lossless"]}, ["targets", "lossless"]),
        ({"targets": [0.5, 1.5]}, ["target", "1.5"]),
        ({"target": 0.5, "compensation": "magic"}, ["compensation", "'magic'", "least_squares"]),
        ({"target": 0.5, "compensation": 3}, ["compensation", "3"]),
        ({"target": 0.5, "compensation": LeastSquares(source="magic")}, ["source", "magic"]),
        ({"target": 0.5, "compensation": LeastSquares(source=3)}, ["source", "3"]),  # type: ignore[arg-type]
        ({"target": 0.5, "compensation": LeastSquares(samples=1)}, ["samples", "1"]),
        ({"target": 0.5, "compensation": LeastSquares(ridge=-1.0)}, ["ridge", "-1"]),
        ({"target": 0.5, "compensation": LeastSquares(ridge=float("nan"))}, ["ridge", "nan"]),
        ({"target": 0.5, "compensation": LeastSquares(loop="shut")}, ["loop", "shut"]),  # type: ignore[arg-type]
        ({"target": 0.5, "compensation": LeastSquares(towards="up")}, ["towards", "up"]),  # type: ignore[arg-type]
        ({"target": 0.5, "compensation": LeastSquares(moves=0)}, ["moves", "0"]),
        ({"target": 0.5, "compensation": LeastSquares(chains=0)}, ["chains", "0"]),
        ({"target": 0.5, "compensation": LeastSquares(heat=-1.0)}, ["heat", "-1"]),
        ({"target": 0.5, "compensation": LeastSquares(search_seconds=-1.0)}, ["search_seconds"]),
        ({"target": 0.5, "compensation": Scaled(threshold=2.0)}, ["threshold", "2.0"]),
        ({"target": 0.5, "method": Elimination()}, ["method", "least_squares"]),
        (
            {"target": 0.5, "compensation": LeastSquares(moves=5), "method": Greedy()},
            ["moves", "Annealing()"],
        ),
        ({"target": "lossless", "compensation": FAST}, ["compensation", "lossless"]),
        ({"target": "lossless", "restarts": 2}, ["restarts", "lossless"]),
        ({"target": "lossless", "polish": True}, ["polish", "lossless"]),
        ({"target": 0.5, "compensation": FAST, "max_output_change": 1.0}, ["max_output_change"]),
        ({"target": 0.5, "compensation": FAST, "on_epoch": print}, ["on_epoch", "evaluate"]),
        ({"target": 0.5, "compensation": "scaled", "evaluate": (1, 2)}, ["evaluate"]),
        ({"target": 0.5, "restarts": 2, "on_epoch": print}, ["on_epoch", "restarts"]),
        ({"target": 0.5, "allocation": "even"}, ["allocation", "even"]),
        ({"target": 0.5, "allocation": "propagated"}, ["allocation", "least_squares"]),
        (
            {"target": 0.5, "allocation": "propagated", "compensation": FAST, "method": Greedy()},
            ["allocation", "Elimination()"],
        ),
        ({"target": 0.5, "width_multiple": 0}, ["width_multiple"]),
        ({"target": 0.5, "width_multiple": 1.5}, ["width_multiple", "1.5"]),
        ({"target": 0.5, "restarts": 0}, ["restarts", "0"]),
        ({"target": 0.5, "restarts": 2.5}, ["restarts", "2.5"]),
        ({"target": 0.5, "min_agreement": 1.5}, ["min_agreement", "1.5"]),
        ({"target": 0.5, "representative_inputs": [[0.0]]}, ["representative_inputs", "polish"]),
    ],
)
def test_wrong_options_are_named_before_any_work(
    options: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as error:
        nnprune.prune(tmp_path / "missing.keras", **options)
    for word in words:
        assert word in str(error.value)


def test_a_target_too_small_for_any_unit_is_an_error() -> None:
    with pytest.raises(NothingToPruneError):
        nnprune.prune(DIGITS, target=0.001, compensation=FAST)
