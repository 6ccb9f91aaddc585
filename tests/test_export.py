"""Export to LiteRT and ONNX: same outputs, any order of inputs, nothing said, nothing half done."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import tensorflow as tf
from keras import layers, ops
from keras_helpers import keras_outputs, randomize
from keras_models import ARCHITECTURES, Build
from nnprune.errors import BackendError, ConfigError, MissingExtraError, ModelError, OutputError
from nnprune.keras_io import export as export_module
from nnprune.keras_io.box_samples import inside
from nnprune.keras_io.config import read_config
from nnprune.keras_io.export import Export, export_litert, export_onnx, save_export
from nnprune.keras_io.export_check import _difference
from nnprune.keras_io.export_onnx import to_onnx
from nnprune.keras_io.export_trace import trace
from nnprune.keras_io.input_box import given_box
from nnprune.keras_io.rebuild import live_config
from nnprune.keras_io.silence import silenced
from pruned_models import PRUNED, shrink

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "python/nnprune/demo_files/digits.keras"
FILES = [DIGITS, *sorted((ROOT / "benches/models").glob("*.keras"))]

Arrays = Sequence[NDArray[Any]]
Run = Callable[[Export, Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]]


def run_litert(exported: Export, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Run by hand: resize, set, invoke, get."""
    with silenced():
        from ai_edge_litert.interpreter import Interpreter

        opened = Interpreter(model_content=exported.data)
        # The names of the file's only signature, as its users know them.
        runner = opened.get_signature_runner("serving_default")
        assert set(runner.get_input_details()) == set(inputs)
        outputs: dict[str, NDArray[Any]] = runner(**inputs)
    return outputs


def run_onnx(exported: Export, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    import onnxruntime

    with silenced():
        session = onnxruntime.InferenceSession(exported.data, providers=["CPUExecutionProvider"])
    assert {one.name for one in session.get_inputs()} == set(inputs)
    assert {one.shape[0] for one in (*session.get_inputs(), *session.get_outputs())} == {"batch"}
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


@pytest.fixture
def litert() -> None:
    pytest.importorskip("ai_edge_litert", reason="the extra litert is not installed")


@pytest.fixture
def onnx() -> None:
    for package in ("tf2onnx", "onnx", "onnxruntime"):
        pytest.importorskip(package, reason="the extra onnx is not installed")


@pytest.fixture(params=["litert", "onnx"])
def convert(request: pytest.FixtureRequest) -> Callable[..., Export]:
    request.getfixturevalue(request.param)
    return export_litert if request.param == "litert" else export_onnx


def run(exported: Export, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return (run_litert if exported.format == "litert" else run_onnx)(exported, inputs)


def loaded(path: Path) -> keras.Model:
    return keras.saving.load_model(path, compile=False)


def stack(shape: tuple[int, ...], *body: Any, **options: Any) -> keras.Model:
    return keras.Sequential([keras.Input(shape, **options), *body])


def traced_names(model: keras.Model) -> tuple[Sequence[str], Sequence[str]]:
    traced = trace(model, read_config(live_config(model)))
    return traced.inputs, traced.outputs


def check_same(model: keras.Model, exported: Export, batches: Arrays) -> None:
    """Compare with Keras on a batch of several samples, or on each alone."""
    inputs, outputs = traced_names(model)
    expected = keras_outputs(model, batches)
    if exported.any_batch:
        found = run(exported, dict(zip(inputs, batches, strict=True)))
    else:
        rows = [
            run(exported, {n: b[at : at + 1] for n, b in zip(inputs, batches, strict=True)})
            for at in range(len(batches[0]))
        ]
        found = {name: np.concatenate([row[name] for row in rows]) for name in outputs}
    assert set(found) == set(outputs)
    for name, one in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(found[name], one, rtol=1e-4, atol=1e-5)


def drawn(model: keras.Model, count: int = 5) -> list[NDArray[Any]]:
    random = np.random.default_rng(3)
    tensors = model.inputs if isinstance(model, keras.Sequential) else model.input
    return [
        inside(
            np.zeros(one.shape[1:]),
            np.full(one.shape[1:], 8.0 if "int" in one.dtype else 1.0),
            count=count,
            dtype=one.dtype,
            random=random,
        )
        for one in keras.tree.flatten(tensors)
    ]


# --- the same outputs


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_and_their_prunings(path: Path, convert: Callable[..., Export]) -> None:
    original = loaded(path)
    _, _, rebuilt = shrink(original)
    sizes = []
    for model in (original, rebuilt.model):
        exported = convert(model, check_samples=8)
        assert exported.samples == 8
        assert exported.any_batch
        assert exported.largest_difference < 1e-4
        check_same(model, exported, drawn(model))
        sizes.append(len(exported.data))
    assert sizes[1] < 0.9 * sizes[0]


# LiteRT has no pooling of three axes.
@pytest.mark.parametrize("name", sorted(ARCHITECTURES.keys() - {"convolution_3d"}))
def test_kinds_of_models(name: str, convert: Callable[..., Export]) -> None:
    model = randomize(ARCHITECTURES[name]())
    exported = convert(model, check_samples=4)
    check_same(model, exported, drawn(model))


def attention() -> keras.Model:
    source = keras.Input((7, 6))
    return keras.Model(source, layers.MultiHeadAttention(2, 3)(source, source))


MORE: dict[str, Build] = {
    "exact gelu": lambda: stack((5,), layers.Dense(8, "gelu"), layers.Dense(2)),
    "celu": lambda: stack((5,), layers.Dense(8, "celu"), layers.Dense(2)),
    "in groups": lambda: stack((8, 8, 4), layers.Conv2D(6, 3, groups=2, activation="relu")),
    "idle when not trained": lambda: stack(
        (8, 8, 3), layers.RandomFlip(), layers.Dropout(0.5), layers.Conv2D(4, 3), layers.Flatten()
    ),
    "resized": lambda: stack((8, 8, 3), layers.Resizing(6, 6), layers.Conv2DTranspose(4, 3)),
    "scalar": lambda: stack((5,), layers.Dense(1), layers.Reshape(())),
    "bytes": lambda: stack((5,), layers.Rescaling(1 / 255), layers.Dense(3), dtype="uint8"),
    "attention": attention,
}


@pytest.mark.parametrize("name", sorted(MORE))
def test_more_kinds_of_layers(name: str, convert: Callable[..., Export]) -> None:
    model = randomize(MORE[name]())
    check_same(model, convert(model, check_samples=4), drawn(model))


@pytest.mark.parametrize("name", ["lstm", "tokens"])
def test_recurrent_layers_take_one_sample_in_litert_and_any_number_in_onnx(
    name: str, convert: Callable[..., Export]
) -> None:
    build = PRUNED["with_opaque_parts"]
    model = randomize(build() if name == "tokens" else stack((7, 6), layers.LSTM(5)))
    exported = convert(model, check_samples=4)
    assert exported.any_batch == (exported.format == "onnx")
    check_same(model, exported, drawn(model))


def test_the_default_box_is_that_of_a_leading_rescaling(onnx: None) -> None:
    # Only within [0, 1] is the output a number; in [0, 255] both sides agree that it is not.
    model = stack((3,), layers.Rescaling(1 / 255), layers.Lambda(lambda x: ops.log(1.0 - x)))
    assert export_onnx(model).largest_difference < 1e-4
    box = given_box(read_config(live_config(model)).inputs, (300.0, 400.0))
    assert export_onnx(model, input_box=box).largest_difference == 0.0


def test_16_bits_in_onnx(onnx: None) -> None:
    policy = keras.DTypePolicy("mixed_float16")
    model = stack((5,), layers.Dense(8, "relu", dtype=policy), layers.Dense(3, dtype=policy))
    exported = export_onnx(randomize(model))
    assert 1e-6 < exported.largest_difference < 0.05


# --- names, order, contents


def test_inputs_and_outputs_have_the_models_names(convert: Callable[..., Export]) -> None:
    exported = convert(loaded(DIGITS), check_samples=2)
    found = run(exported, {"pixels": np.zeros((3, 64), np.float32)})
    assert {name: one.shape for name, one in found.items()} == {"digit": (3, 10)}


def test_names_that_formats_cannot_hold_are_changed_and_kept_apart() -> None:
    left, right = keras.Input((2,), name="in put"), keras.Input((2,), name="in-put")
    hidden = layers.Dense(3, name="in_put")(left)
    model = keras.Model([left, right], [hidden, layers.Dense(2, name="9")(right)])
    assert traced_names(model) == (("in_put", "in_put_1"), ("in_put_2", "output_9"))


def test_onnx_lists_outputs_in_keras_order_with_their_shapes(onnx: None) -> None:
    import onnx as package

    source = keras.Input((4,), name="source")
    ends = [layers.Dense(units, name=name)(source) for name, units in (("z", 3), ("a", 2))]
    exported = export_onnx(keras.Model(source, ends), check_samples=2)
    proto = package.load_from_string(exported.data)
    package.checker.check_model(proto)
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in proto.graph.output
    }
    assert list(shapes.items()) == [("z", ["batch", 3]), ("a", ["batch", 2])]


def test_an_export_of_the_same_model_is_the_same_file(litert: None) -> None:
    assert export_litert(loaded(DIGITS)).data == export_litert(loaded(DIGITS)).data


def test_the_model_and_tensorflows_settings_are_as_before(convert: Callable[..., Export]) -> None:
    model = loaded(DIGITS)
    before = [weight.numpy().copy() for weight in model.weights]
    filters = list(warnings.filters)
    convert(model, check_samples=2)
    for weight, was in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), was)
    assert not tf.config.functions_run_eagerly()
    assert warnings.filters == filters
    assert "object" not in vars(np)  # what Keras' own ONNX export leaves there


# --- what cannot be exported


def test_operations_that_litert_does_not_have_are_named(litert: None) -> None:
    with pytest.raises(ModelError, match=r"LiteRT cannot hold it, .* AvgPool3D, MaxPool3D$"):
        export_litert(ARCHITECTURES["convolution_3d"]())


def test_operations_that_onnx_does_not_have_are_named(onnx: None) -> None:
    model = stack((4,), layers.Dense(3), layers.Lambda(lambda x: ops.erfinv(ops.tanh(x))))
    with pytest.raises(ModelError, match=r"ONNX cannot hold it, no equivalent for Erfinv$"):
        export_onnx(model)


def test_16_bits_that_litert_cannot_compute_in(litert: None) -> None:
    model = stack((5,), layers.Dense(3, dtype=keras.DTypePolicy("mixed_float16")))
    with pytest.raises(ModelError, match="it computes in float16: rebuild it in float32"):
        export_litert(model)


def test_strings_are_no_input(convert: Callable[..., Export]) -> None:
    source = keras.Input((2,), dtype="string", name="words")
    model = keras.Model(source, layers.Hashing(5)(source))
    with pytest.raises(ModelError, match="'words' holds strings"):
        convert(model)


def test_a_layer_that_cannot_be_traced(convert: Callable[..., Export]) -> None:
    class Eager(layers.Layer):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return inputs * float(inputs.numpy()[0, 0])

        def compute_output_spec(self, inputs: Any) -> Any:
            return keras.KerasTensor(inputs.shape)

    with pytest.raises(ModelError, match="cannot be exported"):
        convert(stack((2,), Eager(name="eager")))


def test_another_result_than_keras_is_refused(monkeypatch: pytest.MonkeyPatch, onnx: None) -> None:
    model = loaded(DIGITS)
    other = loaded(DIGITS)
    other.layers[-1].bias.assign_add(np.linspace(0.0, 0.01, 10))

    def swapped(_: Any) -> bytes:
        return to_onnx(trace(other, read_config(live_config(other))))

    monkeypatch.setattr(export_module, "to_onnx", swapped)
    with pytest.raises(ModelError, match="output 'digit' of its onnx file differs from Keras'"):
        export_onnx(model)


def test_a_model_that_fails_on_the_box_is_refused(onnx: None) -> None:
    model = stack((2,), layers.Embedding(4, 3), dtype="int32")
    box = given_box(read_config(live_config(model)).inputs, (0.0, 9.0))
    with pytest.raises(ModelError, match="cannot be checked on inputs from the input box"):
        export_onnx(model, input_box=box)


@pytest.mark.parametrize(
    ("found", "allowed"),
    [
        ([1.0, 100.0], True),
        ([1.009, 100.0], True),  # within 1e-4 of the largest value
        ([1.02, 100.0], False),
        ([np.nan, 100.0], False),
        ([np.inf, 100.0], False),
        ([1.0], False),
    ],
)
def test_what_counts_as_the_same(found: list[float], *, allowed: bool) -> None:
    expected, compared = np.array([1.0, 100.0]), np.array(found)
    model = ARCHITECTURES["mlp"]()
    if allowed:
        largest = _difference(model, "onnx", "out", expected, compared)
        assert largest == float(np.max(np.abs(expected - compared)))
    else:
        with pytest.raises(ModelError, match="'out'"):
            _difference(model, "onnx", "out", expected, compared)


def test_infinities_and_nan_on_both_sides_are_the_same() -> None:
    values = np.array([np.inf, -np.inf, np.nan, 2.0])
    assert _difference(ARCHITECTURES["mlp"](), "onnx", "out", values, values.copy()) == 0.0


def test_too_few_samples(convert: Callable[..., Export]) -> None:
    with pytest.raises(ConfigError, match="check_samples: expected at least 2, got 1"):
        convert(ARCHITECTURES["mlp"](), check_samples=1)


def test_another_backend(convert: Callable[..., Export], monkeypatch: pytest.MonkeyPatch) -> None:
    model = ARCHITECTURES["mlp"]()
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(BackendError, match="TensorFlow backend only, not with jax"):
        convert(model)


@pytest.mark.parametrize(
    ("package", "convert", "extra"),
    [
        ("ai_edge_litert.interpreter", export_litert, "litert"),
        ("tf2onnx", export_onnx, "onnx"),
        ("onnx", export_onnx, "onnx"),
        ("onnxruntime", export_onnx, "onnx"),
    ],
)
def test_a_missing_package_names_the_extra(
    package: str, convert: Callable[..., Export], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'nnprune-rs\[{extra}\]'"):
        convert(ARCHITECTURES["mlp"]())


# --- files


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_the_suffix_decides_the_format(
    suffix: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    form = {".tflite": "litert", ".onnx": "onnx"}[suffix]
    request.getfixturevalue(form)
    saved = save_export(loaded(DIGITS), tmp_path / f"small{suffix}")
    assert saved.path == (tmp_path / f"small{suffix}").resolve()
    assert (saved.format, saved.samples, saved.any_batch) == (form, 64, True)
    assert saved.bytes == saved.path.stat().st_size > 100_000
    assert saved.largest_difference < 1e-5
    assert os.listdir(tmp_path) == [f"small{suffix}"]


def test_a_file_that_is_there_is_replaced_only_on_demand(tmp_path: Path, onnx: None) -> None:
    path = tmp_path / "small.onnx"
    path.write_text("here before")
    with pytest.raises(OutputError, match="exists already"):
        save_export(loaded(DIGITS), path)
    assert path.read_text() == "here before"
    assert save_export(loaded(DIGITS), path, overwrite=True).bytes == path.stat().st_size


def test_where_it_cannot_be_written_is_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "export_onnx", lambda *_, **__: pytest.fail("converted"))
    for name, reason in (("small.h5", "must end in .tflite or .onnx"), ("no/small.onnx", "no/*")):
        with pytest.raises(OutputError, match=reason):
            save_export(ARCHITECTURES["mlp"](), tmp_path / name)


def test_a_failed_export_leaves_the_old_file(tmp_path: Path, onnx: None) -> None:
    path = tmp_path / "small.onnx"
    path.write_text("here before")
    model = stack((4,), layers.Lambda(ops.erfinv))
    with pytest.raises(ModelError, match="Erfinv"):
        save_export(model, path, overwrite=True)
    assert path.read_text() == "here before"
    assert os.listdir(tmp_path) == ["small.onnx"]


# --- nothing said

SCRIPT = """
import os, sys
import keras
from nnprune.keras_io.export import export_litert, export_onnx
from nnprune.metrics.latency import measure_latency
model = keras.saving.load_model(sys.argv[1], compile=False)
model.predict(keras.ops.zeros((1, 64)), verbose=0)
os.write(2, b"<start>")
data = export_litert(model).data
export_onnx(model)
measure_latency(data, runs=2)
os.write(2, b"<end>")
"""


def test_nothing_is_printed_at_tensorflows_most_talkative(litert: None, onnx: None) -> None:
    talkative = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"}
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", SCRIPT, str(DIGITS)],
        env=talkative,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
    assert done.stderr.endswith("<start><end>")
