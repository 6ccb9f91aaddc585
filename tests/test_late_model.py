"""Models that are made when they are first asked for, and all that a result can do before."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import nnprune
import numpy as np
import pytest
from archive_models import PLAIN
from archives import differences
from nnprune.keras_io import archive_choice
from nnprune.keras_io.fingerprints import model_sha256
from nnprune.keras_io.late_model import LateModel, Pending


class Maker(Pending):
    """Makes a text, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def load(self) -> Any:
        self.calls += 1
        return "a model"


@dataclass(frozen=True)
class Holder:
    model: LateModel = field(default=LateModel(), repr=False)


def test_it_is_made_once_and_only_when_it_is_read() -> None:
    maker = Maker()
    holder = Holder(maker)
    assert repr(holder).endswith("Holder()")
    assert LateModel.held(holder, "model") is maker
    assert maker.calls == 0
    assert holder.model == "a model"
    assert holder.model == "a model"
    assert maker.calls == 1
    assert LateModel.held(holder, "model") == "a model"


def test_a_model_is_held_as_it_is() -> None:
    assert Holder("another").model == "another"


def test_the_field_must_be_given_and_stays() -> None:
    with pytest.raises(TypeError, match="'model'"):
        Holder()
    with pytest.raises(AttributeError):
        Holder("one").model = "two"  # type: ignore[misc]


@pytest.fixture
def pending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nnprune.PruningResult:
    """Return a result that no Keras has seen."""
    path = tmp_path / "model.keras"
    PLAIN["trained_adam"]().save(path)
    with monkeypatch.context() as patched:
        patched.setattr(archive_choice, "_keras_is_loaded", lambda: False)
        result = nnprune.prune(path, target=0.5)
    assert isinstance(LateModel.held(result, "model"), Pending)
    return result


@pytest.fixture
def usual(pending: nnprune.PruningResult) -> nnprune.PruningResult:
    """Return the result of the same pruning with Keras."""
    assert pending.source.path is not None
    return nnprune.prune(pending.source.path, target=0.5)


def same(value: dict[str, Any]) -> dict[str, Any]:
    return {key: one for key, one in value.items() if "seconds" not in key and key != "trace"}


def test_results_are_the_same_and_so_are_their_models(
    pending: nnprune.PruningResult, usual: nnprune.PruningResult
) -> None:
    assert same(pending.to_dict()) == same(usual.to_dict())
    assert pending.summary() == usual.summary()
    assert pending.record.to_json() == usual.record.to_json()
    assert isinstance(LateModel.held(pending, "model"), Pending)  # nothing of this made it
    model, expected = pending.model, usual.model
    assert isinstance(model, keras.Sequential)
    assert pending.model is model
    configs = [one.get_config() for one in (model, expected)]
    assert json.dumps(configs[0]) == json.dumps(configs[1])  # tuples or lists
    assert model.get_compile_config() == expected.get_compile_config()
    assert model_sha256(model, {}) == model_sha256(expected, {})
    assert len(model.optimizer.variables) == len(expected.optimizer.variables)
    model.fit(np.zeros((4, 5)), np.zeros(4), verbose=0)


def test_files_are_the_same_before_and_after_the_model_is_made(
    pending: nnprune.PruningResult, usual: nnprune.PruningResult, tmp_path: Path
) -> None:
    before, after, expected = (tmp_path / f"{name}.keras" for name in ("before", "after", "usual"))
    pending.save(before)
    assert pending.model.built
    pending.save(after)
    usual.save(expected)
    assert differences(before, expected) == []
    assert differences(after, expected) == []


def test_what_was_done_to_the_model_is_saved(
    pending: nnprune.PruningResult, tmp_path: Path
) -> None:
    pending.model.layers[0].bias.assign([7.0, 8.0, 9.0])
    loaded = keras.saving.load_model(pending.save(tmp_path / "small.keras"))
    np.testing.assert_array_equal(loaded.layers[0].bias, [7.0, 8.0, 9.0])


def test_h5_files_are_written_by_keras(pending: nnprune.PruningResult, tmp_path: Path) -> None:
    loaded = keras.saving.load_model(pending.save(tmp_path / "small.h5"), compile=False)
    assert model_sha256(loaded, {}) == model_sha256(pending.model, {})


def test_results_go_on_to_other_commands(pending: nnprune.PruningResult, tmp_path: Path) -> None:
    assert pending.source.path is not None
    certificate = nnprune.certify(pending, original=pending.source.path)
    assert certificate.to_dict()
    x, y = np.random.default_rng(0).random((20, 5)), np.arange(20) % 3
    report = nnprune.evaluate(pending, x, y, original=pending.source.path, attacks=())
    assert report.to_dict()


def test_results_are_copied_with_and_without_a_model(pending: nnprune.PruningResult) -> None:
    copied = pickle.loads(pickle.dumps(pending))
    shallow = copy.copy(pending)
    assert isinstance(LateModel.held(copied, "model"), Pending)
    assert model_sha256(copied.model, {}) == model_sha256(pending.model, {})
    assert model_sha256(shallow.model, {}) == model_sha256(pending.model, {})
    assert replace(pending, seed=5).model is pending.model


def test_several_targets_come_from_one_reading(
    pending: nnprune.PruningResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pending.source.path is not None
    usual = nnprune.prune(pending.source.path, targets=[0.25, 0.5])
    monkeypatch.setattr(archive_choice, "_keras_is_loaded", lambda: False)
    results = nnprune.prune(pending.source.path, targets=[0.25, 0.5])
    for number, (one, expected) in enumerate(zip(results, usual, strict=True)):
        files = [tmp_path / f"{number}-{name}.keras" for name in ("own", "keras")]
        one.save(files[0])
        expected.save(files[1])
        assert differences(*files) == []


def test_samples_and_a_polish_bring_keras_in(
    pending: nnprune.PruningResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What computes with the model has it, whoever has read the file."""
    assert pending.source.path is not None
    monkeypatch.setattr(archive_choice, "_keras_is_loaded", lambda: False)
    samples = np.random.default_rng(0).random((20, 5)), np.arange(20) % 3
    watched = nnprune.prune(pending.source.path, target=0.5, evaluate=samples, attacks=())
    assert watched.trace[-1].evaluation is not None
    assert model_sha256(watched.model, {}) == model_sha256(pending.model, {})
    polish = nnprune.Polish(epochs=1, samples=200)
    polished = nnprune.prune(pending.source.path, target=0.5, polish=polish)
    assert isinstance(LateModel.held(polished, "model"), keras.Model)
