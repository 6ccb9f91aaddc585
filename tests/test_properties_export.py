"""What is exported for other verifiers: the same networks, the same box, the same bounds."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import nnprune
import numpy as np
import pytest
from certificates import core_parts, tabular
from keras import layers
from keras_helpers import randomize
from nnprune import Certificate, PruningResult, cli
from nnprune.certification.outputs import Output
from nnprune.certification.properties import decimal
from nnprune.errors import ConfigError, ModelError, OutputError
from nnprune.keras_io.logits import logits_model
from numpy.typing import NDArray

__all__ = ["core_parts"]  # a fixture for every test here

for package in ("tf2onnx", "onnx", "onnxruntime"):
    pytest.importorskip(package, reason="the extra onnx is not installed")
if keras.backend.backend() != "tensorflow":
    pytest.skip("only the TensorFlow backend exports", allow_module_level=True)


def image() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((6, 5, 2), name="image"),
            layers.Conv2D(3, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(10, activation="relu"),
            layers.Dense(4, activation="softmax"),
        ],
        name="image",
    )
    return randomize(model)


def flags() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(8, activation="relu"),
            layers.Dense(3),
            layers.Activation("sigmoid"),
        ]
    )
    return randomize(model)


def rows() -> keras.Model:
    model = keras.Sequential(
        [keras.Input((2, 4)), layers.Dense(6, activation="relu"), layers.Dense(3)]
    )
    return randomize(model)


MODELS = {
    "tabular": tabular,
    "one sigmoid": lambda: tabular("sigmoid", 1),
    "image": image,
    "several sigmoids": flags,
    "logits at every position": rows,
}


@dataclass
class Case:
    original: keras.Model
    result: PruningResult
    certificate: Certificate
    folder: Path
    written: nnprune.Properties

    @property
    def box(self) -> tuple[NDArray[Any], NDArray[Any]]:
        shape = self.original.inputs[0].shape[1:]
        low, high = next(iter(self.certificate.input_bounds.values()))
        return np.broadcast_to(low, shape), np.broadcast_to(high, shape)

    def inputs(self, count: int = 200) -> NDArray[np.float32]:
        random = np.random.default_rng(1)
        low, high = self.box
        drawn: NDArray[np.float32] = random.uniform(low, high, (count, *low.shape)).astype("f4")
        return drawn

    def run(self, name: str, x: NDArray[Any]) -> NDArray[np.float64]:
        import onnxruntime

        session = onnxruntime.InferenceSession(
            self.folder / name, providers=["CPUExecutionProvider"]
        )
        (given,), (wanted,) = session.get_inputs(), session.get_outputs()
        assert tuple(given.shape[1:]) == x.shape[1:]
        found = session.run([wanted.name], {given.name: x})[0]
        assert found.ndim == 2
        return np.asarray(found, np.float64)


@pytest.fixture(scope="module", params=sorted(MODELS))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    f = MODELS[request.param]()
    shape = f.inputs[0].shape[1:]
    upper = 1.0 + np.arange(np.prod(shape)).reshape(shape) / 7.0  # another in every place
    result = nnprune.prune(f, target=0.25, input_bounds=(-0.1, upper))
    certificate = nnprune.certify(result, original=f)
    folder = tmp_path_factory.mktemp("properties") / "new"
    written = nnprune.export_properties(certificate, result, original=f, output=folder)
    return Case(f, result, certificate, folder, written)


# --- a parser of what is there of VNN-LIB

DECLARATION = re.compile(r"\(declare-const ([XY])_(\d+) Real\)")
ASSERTION = re.compile(r"\(assert \((<=|>=) ([XY])_(\d+) (-?\d+\.\d+)\)\)")


@dataclass
class Query:
    declared: list[tuple[str, int]]
    inputs: dict[tuple[str, int], float]
    outputs: list[tuple[str, int, float]]


def parsed(path: Path) -> Query:
    query = Query([], {}, [])
    for line in path.read_text(encoding="ascii").splitlines():
        if not line or line.startswith(";"):
            continue
        if declared := DECLARATION.fullmatch(line):
            query.declared.append((declared[1], int(declared[2])))
            continue
        found = ASSERTION.fullmatch(line)
        assert found, line
        sign, kind, index, value = found.groups()
        if kind == "X":
            assert (sign, int(index)) not in query.inputs
            query.inputs[sign, int(index)] = float(value)
        else:
            query.outputs.append((sign, int(index), float(value)))
    return query


def test_the_files_are_there(case: Case) -> None:
    outputs = sum(one.size for one in case.certificate.outputs)
    queries = [f"output_{k}_{side}.vnnlib" for k in range(outputs) for side in ("upper", "lower")]
    networks = ["original.onnx", "pruned.onnx", "difference.onnx"]
    assert set(os.listdir(case.folder)) == {*networks, *queries, "instances.csv", "README.txt"}
    assert set(case.written.files) == set(os.listdir(case.folder))
    assert case.written.folder == case.folder.resolve()
    assert case.written.properties == 2 * outputs
    assert case.written.largest_difference < 1e-4
    lines = (case.folder / "instances.csv").read_text().splitlines()
    assert [line.split(",") for line in lines] == [["difference.onnx", q, "300"] for q in queries]
    readme = (case.folder / "README.txt").read_text()
    assert case.certificate.pruned.weights_sha256 in readme
    assert "unsat" in readme


def test_the_networks_compute_the_logits_and_their_difference(case: Case) -> None:
    x = case.inputs()
    models = (case.original, case.result.model)
    f, g = (
        np.asarray(logits_model(one, every_head=True).model(x), np.float64).reshape(len(x), -1)
        for one in models
    )
    slack = 1e-5 * (1.0 + np.abs(f).max())
    np.testing.assert_allclose(case.run("original.onnx", x), f, atol=slack)
    np.testing.assert_allclose(case.run("pruned.onnx", x), g, atol=slack)
    np.testing.assert_allclose(case.run("difference.onnx", x), g - f, atol=slack)
    one = case.run("difference.onnx", x[:1])
    np.testing.assert_allclose(one, (g - f)[:1], atol=slack)


def test_the_queries_hold_the_box_and_the_bounds_to_the_last_bit(case: Case) -> None:
    low, high = (end.reshape(-1) for end in case.box)
    outputs = sum(one.size for one in case.certificate.outputs)
    change = case.certificate.output_change
    for k in range(outputs):
        for side, sign, end in (("upper", ">=", change.upper), ("lower", "<=", change.lower)):
            query = parsed(case.folder / f"output_{k}_{side}.vnnlib")
            expected = [("X", i) for i in range(len(low))] + [("Y", i) for i in range(outputs)]
            assert query.declared == expected
            assert [query.inputs[">=", i] for i in range(len(low))] == low.tolist()
            assert [query.inputs["<=", i] for i in range(len(low))] == high.tolist()
            assert query.outputs == [(sign, k, float(end[k]))]


def test_no_input_drawn_satisfies_a_query(case: Case) -> None:
    y = case.run("difference.onnx", case.inputs(2000))
    for path in case.folder.glob("*.vnnlib"):
        ((sign, k, value),) = parsed(path).outputs
        assert not np.any(y[:, k] >= value if sign == ">=" else y[:, k] <= value)


# --- what is asked, and what is refused


@pytest.fixture(scope="module")
def small() -> tuple[keras.Model, PruningResult, Certificate]:
    f = tabular()
    result = nnprune.prune(f, target=0.25, input_bounds=(-1.0, 1.0))
    return f, result, nnprune.certify(result, original=f)


Small = tuple[keras.Model, PruningResult, Certificate]


def test_files_that_are_there_are_replaced_only_on_demand(small: Small, tmp_path: Path) -> None:
    f, result, certificate = small
    (tmp_path / "output_1_lower.vnnlib").write_text("here before")
    with pytest.raises(OutputError, match=r"output_1_lower\.vnnlib.*exists already"):
        nnprune.export_properties(certificate, result, original=f, output=tmp_path)
    assert os.listdir(tmp_path) == ["output_1_lower.vnnlib"]
    certificate.save(tmp_path / "certificate.json")
    nnprune.export_properties(
        tmp_path / "certificate.json", result.model, original=f, output=tmp_path, overwrite=True
    )
    query = parsed(tmp_path / "output_1_lower.vnnlib")
    assert query.outputs == [("<=", 1, float(certificate.output_change.lower[1]))]


def test_a_tolerance_moves_every_bound_outward(small: Small, tmp_path: Path) -> None:
    f, result, certificate = small
    nnprune.export_properties(certificate, result, original=f, output=tmp_path, tolerance=0.5)
    change = certificate.output_change
    for side, sign, end in (("upper", 1.0, change.upper), ("lower", -1.0, change.lower)):
        ((_, _, value),) = parsed(tmp_path / f"output_0_{side}.vnnlib").outputs
        assert 0.5 <= sign * (value - float(end[0])) < 0.5 + 1e-12
    for wrong in (-1.0, np.nan, np.inf, "1"):
        with pytest.raises(ConfigError, match="tolerance"):
            nnprune.export_properties(
                certificate,
                result,
                original=f,
                output=tmp_path,
                tolerance=wrong,  # type: ignore[arg-type]
            )


def test_an_output_without_a_bound_has_no_query(small: Small, tmp_path: Path) -> None:
    f, result, certificate = small
    upper = certificate.output_change.upper.copy()
    upper[1] = np.inf
    odd = replace(certificate, output_change=replace(certificate.output_change, upper=upper))
    written = nnprune.export_properties(odd, result, original=f, output=tmp_path)
    assert written.properties == 5
    assert not (tmp_path / "output_1_upper.vnnlib").exists()
    assert (tmp_path / "output_1_lower.vnnlib").exists()


def test_what_does_not_fit_is_refused_and_leaves_nothing(small: Small, tmp_path: Path) -> None:
    f, result, certificate = small
    other = tmp_path / "other"
    with pytest.raises(ModelError, match="is not the model of the certificate"):
        nnprune.export_properties(certificate, result, original=tabular(seed=1), output=other)
    huge = replace(certificate, outputs=(Output(name="last", shape=(1001,), head="logits"),))
    with pytest.raises(ModelError, match=r"1,001 outputs.*at most 1,000"):
        nnprune.export_properties(huge, result, original=f, output=other)
    with pytest.raises(ConfigError, match="certificate"):
        nnprune.export_properties(7, result, original=f, output=other)  # type: ignore[arg-type]
    with pytest.raises(OutputError, match="there is no folder"):
        nnprune.export_properties(certificate, result, original=f, output=other / "inner")
    assert not other.exists()


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (
            lambda: keras.Sequential(
                [keras.Input((400, 300)), layers.Flatten(), layers.Dense(3), layers.Dense(2)]
            ),
            r"120,000 inputs.*at most 100,000",
        ),
        (
            lambda: keras.Sequential(
                [
                    keras.Input((4,), dtype="uint8"),
                    layers.Rescaling(1 / 255),
                    layers.Dense(4),
                    layers.Dense(2),
                ]
            ),
            "takes uint8",
        ),
    ],
)
def test_inputs_that_no_verifier_takes(build: Any, reason: str, tmp_path: Path) -> None:
    f = randomize(build())
    result = nnprune.prune(f, target=0.5, method=nnprune.OneShot())
    certificate = nnprune.certify(result, original=f)
    with pytest.raises(ModelError, match=reason):
        nnprune.export_properties(certificate, result, original=f, output=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_several_inputs_are_refused(tmp_path: Path) -> None:
    inputs = [keras.Input((3,), name="a"), keras.Input((2,), name="b")]
    hidden = layers.Dense(8, "relu")(layers.Concatenate()(inputs))
    f = randomize(keras.Model(inputs, layers.Dense(2)(hidden)))
    result = nnprune.prune(f, target=0.5)
    certificate = nnprune.certify(result, original=f)
    with pytest.raises(ModelError, match="has 2 inputs"):
        nnprune.export_properties(certificate, result, original=f, output=tmp_path / "new")


def test_a_difference_of_nothing_but_rounding_is_exported(tmp_path: Path) -> None:
    f = tabular()
    kernel, bias = f.get_layer("first").get_weights()
    kernel[:, 6:], bias[6:] = 0.0, -1.0
    f.get_layer("first").set_weights([1e4 * kernel, bias])
    result = nnprune.prune(f, target="lossless", input_bounds=(-1.0, 1.0))
    certificate = nnprune.certify(result, original=f)
    assert np.all(np.abs(certificate.output_change.upper) < 1e-6)
    written = nnprune.export_properties(certificate, result, original=f, output=tmp_path)
    assert written.properties == 6
    found = parsed(tmp_path / "output_0_upper.vnnlib").outputs
    assert found == [(">=", 0, float(certificate.output_change.upper[0]))]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, "0.1"), (-2.0, "-2.0"), (1e-7, "0.0000001"), (1e22, "1" + "0" * 22 + ".0")],
)
def test_numbers_without_an_exponent(value: float, text: str) -> None:
    assert decimal(value) == text


@pytest.mark.parametrize("value", [5e-324, 1.7976931348623157e308, -1 / 3, 2.0**-60])
def test_numbers_are_read_back_as_they_were(value: float) -> None:
    assert float(decimal(value)) == value
    assert "e" not in decimal(value)


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, small, folder = (str(tmp_path / n) for n in ("model.keras", "small.keras", "folder"))
    tabular().save(model)
    prune = ["prune", model, "-o", small, "--target", "0.25", "--input-bounds", "-1", "1"]
    assert cli.run([*prune, "--quiet"]) == 0
    certify = ["certify", small, "--original", model, "--properties", folder]
    assert cli.run(certify) == 0
    captured = capsys.readouterr()
    assert "6 properties written to" in captured.out
    assert captured.err == ""
    certificate = Certificate.load(tmp_path / "small.certificate.json")
    ((_, _, value),) = parsed(tmp_path / "folder" / "output_2_upper.vnnlib").outputs
    assert value == certificate.output_change.upper[2]

    (tmp_path / "small.certificate.json").unlink()
    assert cli.run(certify) == 1
    assert "exists already" in capsys.readouterr().err
    assert not (tmp_path / "small.certificate.json").exists()
    assert cli.run([*certify, "--overwrite", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
