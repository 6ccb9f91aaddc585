"""Files written without Keras against those that Keras writes: the same to the last bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import keras
import nnprune
import numpy as np
import pytest
from archive_models import OTHER, PLAIN
from archives import differences
from keras_helpers import METHOD, keras_outputs, randomize, samples
from keras_models import ARCHITECTURES, Build
from nnprune import _core
from nnprune.keras_io import archive_choice
from nnprune.keras_io.graph import Graph
from nnprune.keras_io.opened import OpenedModel, open_model, smaller_model
from nnprune.keras_io.save import save_model
from pruned_models import PRUNED

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = sorted((ROOT / "benches" / "models").glob("*.keras"))
SHIPPED += [ROOT / "python" / "nnprune" / "demo_files" / "digits.keras"]

#: What of the other tests' models needs Keras, and what for.
NEED_KERAS = {
    "across_nested": "models in it",
    "activation_layers": "an activation with parameters",
    "arithmetic": "operations without a layer",
    "nested": "models in it",
    "nested_by_name": "models in it",
    "rescaled": "Normalization",
    "rescaled_between": "Normalization",
    "shared": "a layer called twice",
    "siamese": "models in it",
    "with_opaque_parts": "layers that the engine cannot follow",
}
BUILT: dict[str, Build] = {**ARCHITECTURES, **PRUNED}
COVERED: dict[str, Build] = {
    name: build for name, build in BUILT.items() if name not in NEED_KERAS
} | PLAIN
UNCOVERED: dict[str, Build] = {name: BUILT[name] for name in NEED_KERAS} | OTHER


@pytest.fixture(autouse=True)
def _as_if_keras_were_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_choice, "_keras_is_loaded", lambda: False)


def saved(build: Build, folder: Path) -> Path:
    model = build()
    path = folder / "model.keras"
    (model if model.compiled else randomize(model)).save(path)
    return path


def pruned(graph: Graph) -> tuple[_core.Network, Any]:
    """Prune what can be pruned, if there is anything."""
    layers = [group.layer for group in graph.network.groups if group.reason is None]
    if not layers:
        return graph.network, {}
    dear = sum(node.macs for node in graph.network.nodes) > 10**6
    pruning = _core.prune(
        graph.network,
        [-np.ones(one.shape) for one in graph.inputs],
        [np.ones(one.shape) for one in graph.inputs],
        layers=layers,
        target=0.5,
        step=0.25,
        method={"name": "one_shot"} if dear else METHOD,
        outgoing="l2",
        seed=0,
    )
    return pruning.network, pruning.kept


def opened_both_ways(path: Path) -> tuple[OpenedModel, OpenedModel]:
    own = open_model(path, trust=False, without_keras=True)
    assert own.archived is not None, "Keras was needed"
    return own, open_model(path, trust=False)


def assert_written_alike(path: Path, folder: Path) -> None:
    """Make the smaller model in both ways, and compare all there is."""
    own, by_keras = opened_both_ways(path)
    assert own.name == by_keras.name
    assert own.parameters == by_keras.parameters
    assert own.weights_sha256 == by_keras.weights_sha256
    assert own.loss_task == by_keras.loss_task
    network, kept = pruned(own.graph)
    small, expected = (smaller_model(one, network, kept) for one in (own, by_keras))
    assert (small.parameters, small.rounding) == (expected.parameters, expected.rounding)
    files = [folder / "own.keras", folder / "keras.keras"]
    for one, file in zip((small, expected), files, strict=True):
        save_model(one.model, file, record="the record")
    assert differences(*files) == []
    loaded = keras.saving.load_model(files[0])
    batches = samples(loaded)
    for found, wanted in zip(
        keras_outputs(loaded, batches), keras_outputs(expected.model, batches), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", sorted(COVERED))
def test_models_of_the_tests_are_written_as_by_keras(name: str, tmp_path: Path) -> None:
    assert_written_alike(saved(COVERED[name], tmp_path), tmp_path)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_models_that_ship_are_written_as_by_keras(path: Path, tmp_path: Path) -> None:
    assert_written_alike(path, tmp_path)


def test_what_was_pruned_can_be_pruned_again(tmp_path: Path) -> None:
    path = saved(PLAIN["trained_adam"], tmp_path)
    small = tmp_path / "small.keras"
    nnprune.prune(path, target=0.5).save(small)
    assert_written_alike(small, tmp_path)


@pytest.mark.parametrize("name", sorted(UNCOVERED))
def test_other_models_are_left_to_keras(name: str, tmp_path: Path) -> None:
    model = randomize(UNCOVERED[name]())
    model.save(tmp_path / "model.keras")
    assert open_model(tmp_path / "model.keras", trust=False, without_keras=True).archived is None


COMMAND = [sys.executable, "-c", "from nnprune.cli import main; main()", "prune"]


@pytest.mark.parametrize("compensation", ["sum", "least-squares"])
def test_the_command_needs_no_keras_and_comes_to_the_same(
    compensation: str, tmp_path: Path
) -> None:
    model = SHIPPED[-1]
    told = []
    for name, environment in {"own": {}, "keras": {"NNPRUNE_ALWAYS_KERAS": "1"}}.items():
        output = tmp_path / f"{name}.keras"
        # A Keras that cannot be imported: any use of it would be an error.
        blocked = tmp_path / name
        blocked.mkdir()
        if name == "own":
            (blocked / "keras.py").write_text("raise ImportError('Keras was imported')")
        path = os.pathsep.join([str(blocked), *filter(None, [os.environ.get("PYTHONPATH")])])
        arguments = [str(model), "-o", str(output), "--target", "1/2", "--json"]
        done = subprocess.run(
            [*COMMAND, *arguments, "--compensation", compensation],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **environment, "PYTHONPATH": path},
        )
        assert done.returncode == 0, done.stderr
        plain = json.loads(done.stdout)
        told.append({key: value for key, value in plain.items() if "seconds" not in key})
    assert differences(tmp_path / "own.keras", tmp_path / "keras.keras") == []
    assert _without_times(told[0]) == _without_times(told[1])


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(one) for key, one in value.items() if "seconds" not in key}
    return [_without_times(one) for one in value] if isinstance(value, list) else value


def test_weights_that_grow_too_large_are_named(tmp_path: Path) -> None:
    """The same words whoever finds them."""
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((2,)), layers.Dense(4, name="first"), layers.Dense(1, name="second")]
    )
    model.save(tmp_path / "model.keras")
    own, by_keras = opened_both_ways(tmp_path / "model.keras")
    network, kept = pruned(own.graph)
    said = []
    for opened in (own, by_keras):
        with pytest.raises(nnprune.errors.WeightError) as caught:
            smaller_model(opened, _Overflown(network), kept)  # type: ignore[arg-type]
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "second" in said[0]


class _Overflown:
    """A network whose merged kernels hold an infinite number."""

    def __init__(self, network: _core.Network) -> None:
        self._network = network
        self.nodes = network.nodes

    def weights(self, name: str) -> dict[str, Any]:
        weights = self._network.weights(name)
        if name == "second":
            weights["kernel"] = np.full_like(weights["kernel"], np.inf)
        return weights


def test_a_difference_in_a_file_is_found(tmp_path: Path) -> None:
    """The comparison can fail: one number, one attribute, one entry."""
    path = saved(PLAIN["trained_adam"], tmp_path)
    changed = tmp_path / "changed.keras"
    model = keras.saving.load_model(path)
    model.layers[0].bias.assign_add([0, 0, 0, 1e-6, 0, 0])
    model.save(changed)
    assert "layers/dense/vars/1" in differences(path, changed)
    with zipfile.ZipFile(changed, "a") as archive:
        archive.writestr("more", "")
    assert "members" in differences(path, changed)
