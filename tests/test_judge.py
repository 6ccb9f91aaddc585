"""The data-free judge, what it decides, and restarts."""

from __future__ import annotations

import os
import signal
import threading
import time
from importlib import resources
from pathlib import Path
from typing import Any

import keras
import nnprune
import pytest
from keras_helpers import randomize
from nnprune import LeastSquares
from nnprune.errors import ConfigError, ModelError
from nnprune.judge import judged_on, stream
from nnprune.keras_io.fingerprints import model_sha256
from nnprune.keras_io.opened import input_box_of, open_model
from nnprune.synthetic.draw import draw

DIGITS = Path(str(resources.files("nnprune") / "demo_files" / "digits.keras"))
FAST = LeastSquares(source="box", samples=300)
layers = keras.layers


def classes(model: keras.Model, x: Any) -> Any:
    return model.predict(x, verbose=0).argmax(axis=1)


def test_it_counts_what_both_classify_alike() -> None:
    result = nnprune.prune(DIGITS, target=0.6, compensation=FAST, seed=5)
    found = nnprune.agreement(DIGITS, result, seed=5)
    assert found == result.synthetic_agreement
    opened = open_model(DIGITS, trust=False)
    box = input_box_of(opened, None)
    x = draw(opened, box, judged_on(opened, box), samples=4000, seed=stream(5, "judge")).arrays[0]
    alike = classes(opened.model, x) == classes(result.model, x)
    # Inputs on the edge of a decision may fall to either side by rounding.
    assert abs(found.agreement.count - int(alike.sum())) <= 2
    kinds = [one["name"] for one in found.to_dict()["source"]["sources"]]
    assert kinds == ["gradient", "first_layer"]
    other = nnprune.agreement(DIGITS, result, source="leaves", samples=500, seed=5)
    assert other.agreement.samples == 500
    assert other.to_dict()["source"] == {"name": "leaves", "leaves": 8}


def test_its_inputs_are_none_of_those_that_are_fitted() -> None:
    assert len({stream(0, purpose) for purpose in ("judge", "fit", "polish")}) == 3
    assert stream(0, "judge") != stream(1, "judge")


def test_a_model_agrees_with_itself() -> None:
    found = nnprune.agreement(DIGITS, keras.saving.load_model(DIGITS), samples=200)
    assert found.agreement.value == 1.0


def test_it_judges_layers_that_the_engine_cannot_follow() -> None:
    model = randomize(
        keras.Sequential(
            [
                keras.Input((6,)),
                layers.Dense(12, activation="relu"),
                layers.UnitNormalization(),
                layers.Dense(9, activation="relu"),
                layers.Dense(1, activation="sigmoid"),
            ]
        )
    )
    result = nnprune.prune(model, target=0.5, min_agreement=0.0)
    assert result.synthetic_agreement is not None
    assert [epoch.synthetic_agreement is None for epoch in result.trace] == [False] * len(
        result.trace
    )
    last = result.trace[-1].synthetic_agreement
    assert last == result.synthetic_agreement.agreement.value


@pytest.mark.parametrize("rule", ["sum", FAST])
def test_restarts_keep_the_best_seed(rule: Any) -> None:
    result = nnprune.prune(DIGITS, target=0.6, compensation=rule, seed=4, restarts=4)
    assert [restart.seed for restart in result.restarts] == [4, 5, 6, 7]
    assert result.synthetic_agreement is not None
    best = max(restart.agreement for restart in result.restarts)
    assert result.synthetic_agreement.agreement.value == best
    first = next(one for one in result.restarts if one.agreement == best)
    assert result.seed == first.seed
    alone = nnprune.prune(DIGITS, target=0.6, compensation=rule, seed=result.seed)
    assert model_sha256(alone.model, {}) == model_sha256(result.model, {})
    assert "4 seeds agree" in result.summary()


def test_restarts_do_not_depend_on_the_number_of_threads(monkeypatch: Any) -> None:
    found = []
    for cores in (1, 4):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        results = nnprune.prune(DIGITS, targets=[0.4, 0.7], compensation=FAST, restarts=3)
        found.append([(one.restarts, model_sha256(one.model, {})) for one in results])
    assert found[0] == found[1]


def test_an_interrupted_restart_leaves_no_thread_behind(monkeypatch: Any) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("nnprune.judge.Judge.agreement", interrupted)
    with pytest.raises(KeyboardInterrupt):
        nnprune.prune(DIGITS, target=0.6, restarts=3)
    assert not [one for one in threading.enumerate() if one.name.startswith("nnprune")]


@pytest.mark.parametrize("restarts", [1, 2])
def test_an_endless_search_can_be_interrupted(restarts: int) -> None:
    """By Ctrl-C, also where it runs in threads that no signal reaches."""
    rule = LeastSquares(source="box", samples=300, search_seconds=600.0)
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(4.0, os.kill, [os.getpid(), signal.SIGINT])
    started = time.monotonic()
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            nnprune.prune(DIGITS, target=0.6, compensation=rule, restarts=restarts)
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, previous)
    assert time.monotonic() - started < 60.0
    assert not [one for one in threading.enumerate() if one.name.startswith("nnprune")]


def test_the_first_epoch_below_the_least_agreement_is_taken_back() -> None:
    result = nnprune.prune(DIGITS, target=0.8, min_agreement=0.8)
    assert result.stopped_by == "min_agreement"
    assert result.undone is not None
    assert result.undone.synthetic_agreement is not None
    assert result.undone.synthetic_agreement < 0.8
    assert result.synthetic_agreement is not None
    assert result.synthetic_agreement.agreement.value >= 0.8
    reached = [epoch.synthetic_agreement for epoch in result.trace]
    assert reached[-1] == result.synthetic_agreement.agreement.value
    assert all(value is not None and value >= 0.8 for value in reached)


def test_least_squares_stops_before_the_first_size_below() -> None:
    options: dict[str, Any] = {"compensation": FAST, "step": 1 / 8}
    result = nnprune.prune(DIGITS, target=0.9, min_agreement=0.9, **options)
    assert result.stopped_by == "min_agreement"
    sizes = nnprune.prune(DIGITS, targets=[number / 8 for number in range(1, 8)], **options)
    reached = [one.synthetic_agreement for one in sizes]
    values = [0.0 if one is None else one.agreement.value for one in reached]
    below = next(place for place, value in enumerate(values) if value < 0.9)
    assert below > 0
    expected = sizes[below - 1]
    assert model_sha256(result.model, {}) == model_sha256(expected.model, {})


def test_where_nothing_can_go_the_model_stays_whole() -> None:
    result = nnprune.prune(DIGITS, target=0.9, min_agreement=1.0, step=0.5, compensation=FAST)
    assert (result.stopped_by, result.merges) == ("min_agreement", ())
    assert result.after == result.before
    assert all(value == 0.0 for both in result.impact.values() for one in both for value in one)


def test_a_least_agreement_that_holds_changes_nothing() -> None:
    for rule in ("sum", FAST):
        kept, free = (
            nnprune.prune(DIGITS, target=0.4, compensation=rule, min_agreement=least)
            for least in (0.0, None)
        )
        assert kept.stopped_by == free.stopped_by == "target"
        assert model_sha256(kept.model, {}) == model_sha256(free.model, {})


def regression() -> keras.Model:
    return randomize(
        keras.Sequential([keras.Input((4,)), layers.Dense(8, activation="relu"), layers.Dense(1)])
    )


def test_what_is_no_classifier_is_refitted_but_not_judged() -> None:
    result = nnprune.prune(regression(), target=0.5, compensation=LeastSquares(source="box"))
    assert result.synthetic_agreement is None
    for option in ({"restarts": 2}, {"min_agreement": 0.5}):
        with pytest.raises(ModelError, match=r"one number.*restarts and min_agreement"):
            nnprune.prune(regression(), target=0.5, **option)


def test_models_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ModelError, match="do not belong together"):
        nnprune.agreement(DIGITS, regression())
    with pytest.raises(ConfigError, match="source"):
        nnprune.agreement(DIGITS, DIGITS, source="magic")
    with pytest.raises(ConfigError, match="samples"):
        nnprune.agreement(DIGITS, DIGITS, samples=0)
