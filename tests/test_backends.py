"""JAX, PyTorch and NumPy as Keras' backend, each in a process of its own, against this one's.

Float32 sums differ in their order between backends: where a gradient is rounding its sign may
differ, and a sample at the edge of two classes may fall to either side.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
from backend_probe import ARRAYS, DIGITS, EPSILON, FINDINGS, IMAGES, Arrays, digits, measure
from reference import attacks as twin

pytestmark = pytest.mark.backends

# What Keras needs beside itself, by backend.
PACKAGES = {"jax": ("jax",), "torch": ("torch",), "numpy": ("jax", "scipy")}


class Probed(NamedTuple):
    """What a backend computed."""

    backend: str
    arrays: Arrays
    findings: dict[str, Any]


def probe(backend: str, folder: Path) -> Probed:
    missing = [name for name in PACKAGES[backend] if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"the Keras backend '{backend}' needs {' and '.join(missing)} to be installed")
    script = Path(__file__).with_name("backend_probe.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder)],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    arrays: Arrays = {}
    if (folder / ARRAYS).exists():
        with np.load(folder / ARRAYS) as stored:
            arrays = dict(stored)
    return Probed(backend, arrays, json.loads((folder / FINDINGS).read_text()))


@pytest.fixture(scope="module", params=["jax", "torch"])
def probed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Probed:
    return probe(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def expected() -> Probed:
    arrays, findings = measure()
    return Probed(keras.config.backend(), arrays, json.loads(json.dumps(findings)))


@pytest.fixture(scope="module")
def layers() -> twin.Layers:
    """Return the weights of the digits model, whose gradients the twin computes in float64."""
    weights = keras.saving.load_model(DIGITS, compile=False).get_weights()
    wide = [weight.astype(np.float64) for weight in weights]
    return list(zip(wide[::2], wide[1::2], strict=True))


def counts(found: Any, path: str = "") -> Iterator[tuple[str, int]]:
    """Give every count of samples in a document, with where it is."""
    if isinstance(found, dict) and found.keys() >= {"count", "samples"}:
        yield path, found["count"]
    elif isinstance(found, dict | list):
        entries = found.items() if isinstance(found, dict) else enumerate(found)
        for key, entry in entries:
            yield from counts(entry, f"{path}/{key}")


def assert_counts_alike(found: Any, expected: Any) -> None:
    ours, theirs = dict(counts(found)), dict(counts(expected))
    assert ours.keys() == theirs.keys()
    assert ours
    apart = {path: (count, theirs[path]) for path, count in ours.items()}
    assert {path: two for path, two in apart.items() if abs(two[0] - two[1]) > 1} == {}


@pytest.mark.parametrize("state", ["", "compiled_", "changed_"])
def test_products_are_alike(probed: Probed, expected: Probed, state: str) -> None:
    """Compiled functions compute with the weights of now, not with those of their first call."""
    for name in (f"{state}value", f"{state}gradient"):
        found, other = probed.arrays[name], expected.arrays[name]
        np.testing.assert_allclose(found, other, rtol=1e-4, atol=1e-5 * np.max(np.abs(other)))
    assert np.max(np.abs(expected.arrays["changed_value"] - expected.arrays["value"])) > 0.01


@pytest.mark.parametrize("place", ["host", "device"])
def test_fgsm_differs_only_where_the_gradient_is_rounding(
    probed: Probed, expected: Probed, layers: twin.Layers, place: str
) -> None:
    found, other = probed.arrays[f"{place}_fgsm"], expected.arrays["host_fgsm"]
    apart = np.abs(found - other) > 1e-6
    assert np.mean(apart) < 0.01
    x, y = digits()
    for sample in np.flatnonzero(apart.any(axis=1)):
        gradient = np.abs(twin.loss_gradient(layers, x[sample].astype(np.float64), int(y[sample])))
        assert np.max(gradient[apart[sample]]) < 1e-4 * np.max(gradient)


@pytest.mark.parametrize("place", ["host", "device"])
@pytest.mark.parametrize("attack", ["pgd", "pgd_random"])
def test_pgd_ends_at_the_same_inputs(
    probed: Probed, expected: Probed, place: str, attack: str
) -> None:
    found, other = probed.arrays[f"{place}_{attack}"], expected.arrays[f"host_{attack}"]
    # From a sign that differs on, a sample goes another way.
    assert np.sum((np.abs(found - other) > 1e-6).any(axis=1)) <= IMAGES // 16
    images = digits()[0][:IMAGES]
    assert np.max(np.abs(found - images)) <= EPSILON * (1 + 1e-6)
    assert found.min() >= 0.0
    assert found.max() <= 1.0
    assert np.max(np.abs(found - images)) > 0.9 * EPSILON


def test_predictions_are_the_same(probed: Probed, expected: Probed) -> None:
    for place in ("host", "device"):
        found = probed.arrays[f"{place}_predicted"]
        np.testing.assert_array_equal(found, expected.arrays["host_predicted"])


def test_evaluations_are_alike(probed: Probed, expected: Probed) -> None:
    found, other = probed.findings["evaluation"], expected.findings["evaluation"]
    assert found["provenance"]["backend"] == probed.backend
    version = importlib.metadata.version(probed.backend)
    assert found["provenance"]["backend_version"] == version
    assert_counts_alike(found, other)
    for key in ("task", "head", "input_box", "data", "absent", "warnings"):
        assert found[key] == other[key]
    for model, same in zip(found["models"], other["models"], strict=True):
        assert model["layers"] == same["layers"]
        assert model["size"]["macs"] == same["size"]["macs"]
        for score in ("nll", "brier"):
            assert model["quality"][score] == pytest.approx(same["quality"][score], rel=1e-4)
        assert model["calibration"]["ece"] == pytest.approx(same["calibration"]["ece"], abs=0.005)
        for outcome in model["robustness"]:
            assert all(point["zero_gradients"] == 0 for point in outcome["points"])


def test_a_pruning_is_followed_epoch_by_epoch(probed: Probed, expected: Probed) -> None:
    found, other = probed.findings["pruning"], expected.findings["pruning"]
    for key in ("merges", "impact", "layers", "before", "after", "stopped_by"):
        assert found[key] == other[key]
    assert len(found["trace"]) == len(other["trace"]) == 4
    for epoch, same in zip(found["trace"], other["trace"], strict=True):
        assert {**epoch, "evaluation": None} == {**same, "evaluation": None}
    assert_counts_alike(found, other)
    accuracies = [epoch["evaluation"]["accuracy"]["count"] for epoch in found["trace"]]
    assert accuracies[-1] < accuracies[0] - 5  # so that standing still would be seen
    assert abs(accuracies[-1] - found["correct"]) <= 1


def test_without_gradients_all_but_attacks_works(tmp_path: Path, expected: Probed) -> None:
    found = probe("numpy", tmp_path).findings
    evaluation, other = found["evaluation"], expected.findings["evaluation"]
    assert evaluation["provenance"]["backend"] == "numpy"
    assert evaluation["absent"]["robustness"]
    original, pruned = evaluation["models"]
    assert (
        abs(
            original["quality"]["accuracy"]["count"]
            - other["models"][0]["quality"]["accuracy"]["count"]
        )
        <= 1
    )
    assert original["robustness"] is pruned["robustness"] is None
    for key in ("merges", "impact", "layers"):
        assert found["pruning"][key] == expected.findings["pruning"][key]
    for epoch, same in zip(
        found["pruning"]["trace"], expected.findings["pruning"]["trace"], strict=True
    ):
        assert epoch["evaluation"]["robust"] == []
        for figure in ("accuracy", "agreement"):
            apart = epoch["evaluation"][figure]["count"] - same["evaluation"][figure]["count"]
            assert abs(apart) <= 1
    # Two ways to ask for attacks, and the default, of `evaluate` and of `prune`.
    assert len(found["refused"]) == 6
    assert all("KERAS_BACKEND to tensorflow, jax or torch" in words for words in found["refused"])
    assert (found["reads"], found["epochs"]) == (0, 0)
