"""What drives the public implementation: handing over, noting epochs, scoring; all without it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

_BENCHES = Path(__file__).resolve().parents[1] / "benches"
if not _BENCHES.is_dir():
    pytest.skip("needs the benchmarks of the repository", allow_module_level=True)
sys.path[:0] = [str(_BENCHES / "peer"), str(_BENCHES / "models")]

with patch.dict(os.environ):  # the driver keeps its own process off the GPU
    import hand_over
    import run_peer
    import score

BOX = (np.zeros((6, 5, 1)), np.full((6, 5, 1), 2.0))


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Take the handlers back that `limited` leaves behind."""
    before = {number: signal.getsignal(number) for number in (signal.SIGPROF, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def small_model(seed: int = 0) -> keras.Model:
    """Return a network with a layer of every kind that can be handed over."""
    keras.utils.set_random_seed(seed)
    layers = [
        keras.Input((6, 5, 1), name="image"),
        keras.layers.Conv2D(2, 3, activation="relu", name="filters"),
        keras.layers.MaxPooling2D((2, 1), name="pool"),
        keras.layers.Flatten(name="flatten"),
        keras.layers.Dense(4, activation="relu", name="hidden_1"),
        keras.layers.Dense(4, activation="relu", name="hidden_2"),
        keras.layers.Dense(3, activation="softmax", name="class"),
    ]
    return keras.Sequential(layers, name="small")


def description(model: keras.Model) -> dict[str, Any]:
    """Return a model's description as the other side reads it."""
    found = {
        "name": "small",
        "input_shape": model.input_shape[1:],
        "layers": hand_over.layers_of(model),
    }
    read: dict[str, Any] = json.loads(json.dumps(found))
    return read


# Handing over


def test_layers_and_weights_rebuild_the_network() -> None:
    model = small_model()
    arrays = hand_over.arrays_of(model, *BOX)
    rebuilt, difference = run_peer.rebuild(description(model), arrays)
    assert difference < 1e-6
    assert [layer.name for layer in rebuilt.layers] == [
        "conv2d_0",
        "max_pooling2d_1",
        "flatten_2",
        "dense_3",
        "dense_4",
        "dense_5",
    ]
    for ours, theirs in zip(model.get_weights(), rebuilt.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_another_network_is_refused() -> None:
    arrays = hand_over.arrays_of(small_model(), *BOX)
    arrays["hidden_2/1"] = arrays["hidden_2/1"] + 0.1
    with pytest.raises(SystemExit, match="small: the rebuilt network differs by"):
        run_peer.rebuild(description(small_model()), arrays)


def test_checks_are_from_the_box_and_of_all_strengths() -> None:
    inputs = hand_over.arrays_of(small_model(), *BOX)["check/inputs"]
    assert inputs.shape == (hand_over.CHECKS, 6, 5, 1)
    assert inputs.dtype == np.float32
    assert inputs.min() == 0.0
    assert 1.5 < inputs.max() <= 2.0
    largest = inputs.reshape(len(inputs), -1).max(axis=1)
    assert largest[:10].max() < 0.3 < largest[-10:].min()


def test_what_cannot_be_handed_over_is_named() -> None:
    source = keras.Input((4,))
    functional = keras.Model(source, keras.layers.Dense(2)(source), name="functional")
    with pytest.raises(ValueError, match="functional: only Sequential"):
        hand_over.layers_of(functional)
    layers = [source, keras.layers.Dropout(0.5, name="odd")]
    with pytest.raises(ValueError, match="layer odd: a Dropout cannot be handed over"):
        hand_over.layers_of(keras.Sequential(layers))


def test_the_files_hold_the_model(tmp_path: Path) -> None:
    hand_over.hand_over("creditcard", tmp_path / "new")
    path = hand_over.MODELS / "creditcard.keras"
    model = keras.saving.load_model(path, compile=False)
    found = json.loads((tmp_path / "new" / "creditcard.json").read_text())
    assert found["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found["parameters"] == model.count_params()
    assert found["input_shape"] == [29]
    with np.load(tmp_path / "new" / "creditcard.npz") as arrays:
        np.testing.assert_array_equal(arrays["fraud/0"], model.layers[-1].get_weights()[0])
        run_peer.rebuild(found, arrays)


# Noting what an epoch did


class Layer:
    """A dense layer, as far as the notes go."""

    def __init__(self, *weights: NDArray[np.float32]) -> None:
        self.weights = weights

    def get_weights(self) -> tuple[NDArray[np.float32], ...]:
        """Return the weights."""
        return self.weights


class Package:
    """Does as the package's sampler and pruner: each epoch, b of the next pair goes."""

    def __init__(self, epochs: int, error: BaseException | None = None) -> None:
        self.epochs = epochs
        self.error = error
        outgoing = np.ones((8, 2), np.float32)
        self.model = SimpleNamespace(layers=[Layer(np.ones((3, 8), np.float32)), Layer(outgoing)])
        self.sampler = SimpleNamespace(nominate=self.nominate)

    def nominate(self, model: Any, big_map: int) -> dict[str, Any]:
        """Merge a pair."""
        if big_map >= self.epochs:
            return {"model": model, "pruned_pairs": None}
        outgoing = model.layers[1].weights[0]
        outgoing[(2 * big_map + 1) % 8] = 0.0
        return {"model": model, "pruned_pairs": [[(2 * big_map, 2 * big_map + 1)], []]}

    def prune_fc(self, **_: Any) -> None:
        """Run epochs until none finds a pair, or five."""
        for epoch in range(5):
            result = self.sampler.nominate(self.model, big_map=epoch)
            if result["pruned_pairs"] is None:
                break
        if self.error is not None:
            raise self.error


def noted(package: Package, folder: Path, targets: list[float]) -> tuple[run_peer.Recorder, str]:
    """Run the pruning loop of a package; return the notes and what stopped it."""
    recorder = run_peer.Recorder(
        nominate=package.nominate,
        names=["first", "last"],
        targets=targets,
        step=0.125,
        stem=folder / "small-stochastic-s0",
    )
    return recorder, run_peer.prune(package, recorder, None)


def test_every_epoch_and_target_is_noted(tmp_path: Path) -> None:
    recorder, stopped_by = noted(Package(4), tmp_path, [0.25, 0.5])
    assert stopped_by == "target"
    assert [epoch["pairs"] for epoch in recorder.epochs] == [1, 1, 1, 1, 0]
    assert [(point.target, point.epoch) for point in recorder.points] == [(0.25, 2), (0.5, 4)]
    half = recorder.points[1]
    assert half.layers == [{"layer": "first", "units": 8, "pairs": 4, "different": 4, "silent": 4}]
    assert half.file == "small-stochastic-s0-50.npz"
    assert 0.0 <= recorder.points[0].cpu_seconds <= half.cpu_seconds
    with np.load(tmp_path / half.file) as arrays:
        assert arrays["merged/first"].tolist() == arrays["silent/first"].tolist() == [1, 3, 5, 7]
        np.testing.assert_array_equal(arrays["last/0"].any(axis=1), [True, False] * 4)


def test_time_spent_on_notes_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = run_peer.Recorder.save

    def slow(*arguments: Any) -> None:
        time.sleep(0.5)
        save(*arguments)

    monkeypatch.setattr(run_peer.Recorder, "save", slow)
    started = time.perf_counter()
    recorder, _ = noted(Package(4), tmp_path, [0.25, 0.5])
    _, seconds = recorder.elapsed()
    assert time.perf_counter() - started - seconds >= 1.0


@pytest.mark.parametrize(
    ("package", "words"),
    [
        (Package(2), "no pair left"),
        (Package(9), "the package's own limit"),
        (Package(2, ValueError("odd")), "ValueError: odd"),
        (Package(2, run_peer.LimitReached()), "limit"),
    ],
)
def test_what_stopped_a_run_is_told(package: Package, words: str, tmp_path: Path) -> None:
    recorder, stopped_by = noted(package, tmp_path, [0.75])
    assert stopped_by == words
    assert recorder.points == []
    assert recorder.epochs_since_point == len(recorder.epochs)


def test_a_run_ends_after_its_cpu_time() -> None:
    started = time.process_time()

    def work() -> None:
        with run_peer.limited(0.05):
            while time.process_time() - started < 30.0:
                pass

    with pytest.raises(run_peer.LimitReached):
        work()
    assert time.process_time() - started < 10.0


# Scoring


def test_weights_go_back_into_the_original_network(tmp_path: Path) -> None:
    original, other = small_model(), small_model(1)
    np.savez(tmp_path / "other.npz", **hand_over.arrays_of(other, *BOX))
    before = original.get_weights()
    found = score.restored(original, tmp_path / "other.npz")
    assert [layer.name for layer in found.layers] == [layer.name for layer in original.layers]
    for ours, theirs in zip(found.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for now, then in zip(original.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_run_is_measured_beside_its_original(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over.hand_over("creditcard", tmp_path)
    with np.load(tmp_path / "creditcard.npz") as arrays:
        x, outputs = arrays["check/inputs"], arrays["check/outputs"]
    y = (outputs[:, 0] > 0.5).astype(np.int64)
    data = SimpleNamespace(x_test=x, y_test=y)
    monkeypatch.setattr("datasets.load_for", {"creditcard": data}.__getitem__)
    counts = {"layer": "hidden_1", "units": 64, "pairs": 5, "different": 5, "silent": 4}
    point = {"file": "creditcard.npz", "target": 0.25, "cpu_seconds": 7.5, "layers": [counts]}
    run = {
        "model": "creditcard",
        "package": "paoding-dl 1.0.0",
        "strategy": "stochastic",
        "step": 0.03125,
        "seed": 0,
        "cpu_seconds": 9.5,
        "stopped_by": "target",
        "points": [point],
    }
    original, same = score.measured(run, tmp_path)
    assert (original["point"], original["agreement"], original["accuracy"]) == (None, None, 1.0)
    assert (same["point"], same["agreement"], same["accuracy"]) == (point, 1.0, 1.0)
    assert set(original["robust"]) == {"0.01", "0.05"}
    assert same["robust"] == original["robust"]
    first, *lines = score.told(run, [original, same]).splitlines()
    assert first.startswith("creditcard: paoding-dl 1.0.0, stochastic, step 0.03125, seed 0; 9.5 s")
    assert lines[0].split()[:3] == ["original", "accuracy", "1.0000"]
    assert lines[1].split()[:4] == ["4/64", "units", "accuracy", "1.0000"]
    assert lines[1].endswith("7.5 s CPU")
