"""Latency: what is timed, with which inputs, and what the numbers are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nnprune.errors import ConfigError, MissingExtraError, ModelError
from nnprune.keras_io import litert_runtime
from nnprune.keras_io.input_box import InputBox
from nnprune.metrics import latency
from nnprune.metrics.latency import Latency, measure_latency
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "python/nnprune/demo_files/digits.keras"


@pytest.fixture(scope="module")
def exported() -> dict[str, bytes]:
    pytest.importorskip("ai_edge_litert", reason="the extra litert is not installed")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    from nnprune.keras_io.export import export_litert

    return {
        path.stem: export_litert(keras.saving.load_model(path, compile=False)).data
        for path in (DIGITS, ROOT / "benches/models/cifar10.keras")
    }


def box(*bounds: tuple[Any, Any]) -> InputBox:
    pairs = [(np.asarray(low, float), np.asarray(high, float)) for low, high in bounds]
    return InputBox(
        lower=tuple(low for low, _ in pairs), upper=tuple(high for _, high in pairs), source="given"
    )


class Runtime:
    """Stands in for an interpreter and the clock: each evaluation takes a known time."""

    def __init__(self, *shapes: tuple[int, ...], dtype: Any = np.float32) -> None:
        self.details = [
            {"index": 7 + place, "shape": np.array([1, *shape]), "dtype": dtype}
            for place, shape in enumerate(shapes)
        ]
        self.now = 0
        self.evaluations = 0
        self.given: dict[int, list[NDArray[Any]]] = {}

    def get_input_details(self) -> list[dict[str, Any]]:
        return self.details

    def set_tensor(self, index: int, value: NDArray[Any]) -> None:
        self.now += 1_000_000  # not to be counted
        self.given.setdefault(index, []).append(value)

    def invoke(self) -> None:
        self.now += 1000 * (self.evaluations + 1)
        self.evaluations += 1


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    return installed(Runtime((2, 3)), monkeypatch)


def installed(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    monkeypatch.setattr(litert_runtime, "interpreter", lambda _: runtime)
    monkeypatch.setattr(litert_runtime, "litert_version", lambda: "1.2.3")
    monkeypatch.setattr("nnprune.metrics.latency.time.perf_counter_ns", lambda: runtime.now)
    return runtime


def test_quantiles_are_of_the_evaluations_after_the_warm_up(runtime: Runtime) -> None:
    measured = measure_latency(b"", runs=11, warmup=4)
    # The fifth evaluation takes 5 microseconds, the last one 15.
    assert runtime.evaluations == 15
    assert measured.min_seconds == pytest.approx(5e-6)
    assert measured.p50_seconds == pytest.approx(10e-6)
    assert measured.p90_seconds == pytest.approx(14e-6)
    assert (measured.warmup, measured.runs) == (4, 11)
    assert (measured.threads, measured.batch) == (1, 1)
    assert measured.runtime == "LiteRT 1.2.3"


def test_one_run_without_warm_up(runtime: Runtime) -> None:
    measured = measure_latency(b"", runs=1, warmup=0)
    assert runtime.evaluations == 1
    assert measured.min_seconds == measured.p50_seconds == measured.p90_seconds


def test_inputs_are_single_samples_from_the_box(runtime: Runtime) -> None:
    lower = np.arange(6.0).reshape(2, 3)
    measure_latency(b"", input_box=box((lower, lower + 0.5)), runs=30, warmup=2)
    (given,) = runtime.given.values()
    assert len(given) == 32
    for one in given:
        assert one.shape == (1, 2, 3)
        assert one.dtype == np.float32
        assert np.all((one[0] >= lower) & (one[0] <= lower + 0.5))
    assert len({one.tobytes() for one in given}) == 16


def test_inputs_depend_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def inputs(seed: int) -> list[bytes]:
        runtime = installed(Runtime((4,)), monkeypatch)
        measure_latency(b"", runs=3, warmup=0, seed=seed)
        return [one.tobytes() for one in runtime.given[7]]

    assert inputs(1) == inputs(1) != inputs(2)


def test_without_a_box_inputs_are_between_0_and_1(runtime: Runtime) -> None:
    measure_latency(b"", runs=16)
    given = np.concatenate(runtime.given[7])
    assert 0.0 <= given.min() < 0.1
    assert 0.9 < given.max() <= 1.0


def test_whole_numbers_for_whole_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = installed(Runtime((5,), dtype=np.int32), monkeypatch)
    measure_latency(b"", input_box=box((np.zeros(5), np.full(5, 3.0))), runs=20)
    given = np.concatenate(runtime.given[7])
    assert given.dtype == np.int32
    assert set(given.ravel().tolist()) == {0, 1, 2, 3}


def test_bounds_go_to_the_input_of_their_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = installed(Runtime((2,), (3,), (2,)), monkeypatch)
    bounds = box(
        (np.full(3, 10.0), np.full(3, 11.0)),
        (np.full(2, 20.0), np.full(2, 21.0)),
        (np.full(2, 30.0), np.full(2, 31.0)),
    )
    measure_latency(b"", input_box=bounds, runs=1)
    assert {index: int(given[0].min()) for index, given in runtime.given.items()} == {
        7: 20,
        8: 10,
        9: 30,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runs": 0}, "runs: expected at least 1, got 0"),
        ({"warmup": -1}, "warmup: expected at least 0, got -1"),
        ({"input_box": box(([0.0], [1.0]))}, r"no bounds for an input of shape \(2, 3\)"),
    ],
)
def test_options_out_of_range(runtime: Runtime, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        measure_latency(b"", **options)
    assert runtime.evaluations == 0


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor\t: 0\nmodel name\t: Fast One\nmodel name\t: Other\n", "Fast One"),
        ("model name\t:\n", "fallback"),
        (None, "fallback"),
    ],
)
def test_name_of_the_processor(
    text: str | None, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(latency, "_CPU_INFO", path)
    monkeypatch.setattr("nnprune.metrics.latency.platform.processor", lambda: "fallback")
    assert latency._processor() == name


# --- the runtime itself


def test_real_models(exported: dict[str, bytes], capfd: pytest.CaptureFixture[str]) -> None:
    measured = {name: measure_latency(data, runs=60) for name, data in exported.items()}
    for one in measured.values():
        assert 0.0 < one.min_seconds <= one.p50_seconds <= one.p90_seconds < 1.0
        assert one.runtime.startswith("LiteRT 2.")
        assert Latency(**json.loads(json.dumps(one.to_dict()))) == one
    # Hundreds of times the work; the least time of many is hardly disturbed by other programs.
    assert measured["cifar10"].min_seconds > 5 * measured["digits"].min_seconds
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("data", [b"", b"no model at all, not even a little"])
def test_bytes_that_are_no_model(data: bytes) -> None:
    pytest.importorskip("ai_edge_litert", reason="the extra litert is not installed")
    with pytest.raises(ModelError, match="LiteRT cannot run the model"):
        measure_latency(data)


def test_a_missing_runtime_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nnprune-rs\[litert\]'"):
        measure_latency(b"")


def test_neither_keras_nor_tensorflow_is_needed(exported: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "digits.tflite"
    path.write_bytes(exported["digits"])
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from nnprune.metrics.latency import measure_latency\n"
        "measure_latency(Path(sys.argv[1]).read_bytes(), runs=1)\n"
        "assert not {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
