"""`evaluate` and `compare`: every figure against a direct computation."""

from __future__ import annotations

import datetime
import gzip
import hashlib
import importlib.util
import json
import platform
from pathlib import Path
from typing import Any

import keras
import nnprune
import numpy as np
import pytest
from evaluated import (
    DIGITS,
    EPSILONS,
    assert_figures,
    binary,
    checked,
    digits,
    softmax,
    with_head,
    write_files,
)
from nnprune.attacks.options import Attack

layers = keras.layers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("evaluate"))


def test_figures_of_a_softmax_head(folder: Path) -> None:
    document = checked(
        nnprune.evaluate(
            folder / "small.keras",
            *digits(),
            original=folder / "model.keras",
            attacks=[nnprune.FGSM(EPSILONS)],
            bins=10,
        )
    )
    assert document["task"] == "classification"
    assert document["head"] == {"kind": "softmax", "layer": "digit", "outputs": 10}
    assert document["input_box"] == {"source": "default", "lower": 0.0, "upper": 1.0}
    assert document["warnings"] == []
    assert set(document["absent"]) == {"latency", "trajectory"}
    assert document["data"] == {
        "source": "arrays in memory",
        "sha256": None,
        "samples": 450,
        "labels": "integers",
        "reshaped_from": None,
        "scale": None,
        "offset": None,
    }
    assert_figures(document, list(softmax()), *digits(), bins=10)


def test_figures_of_logits() -> None:
    """The outputs are logits; the figures are those of the same model with a softmax."""
    x, y = digits()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    original, small = (with_head(model, None, loss) for model in softmax())
    options: dict[str, Any] = {"original": original, "attacks": [nnprune.FGSM(EPSILONS)]}
    document = checked(nnprune.evaluate(small, x, np.eye(10)[y], **options))
    assert document["head"] == {"kind": "logits", "layer": "digit", "outputs": 10}
    assert document["data"]["labels"] == "one_hot"
    assert [model["label"] for model in document["models"]] == ["digits", "digits (pruned)"]
    assert_figures(document, list(softmax()), x, y)
    options |= {"task": "classification", "attacks": ()}
    uncompiled = checked(nnprune.evaluate(with_head(small, None), x, y, **options))
    assert uncompiled["models"][1]["quality"] == document["models"][1]["quality"]


@pytest.mark.parametrize("form", ["sigmoid", "logit"])
def test_figures_of_a_binary_head(form: str) -> None:
    x, y = digits()[0], (digits()[1] > 4).astype(np.int64)
    given = list(binary())
    if form == "logit":
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        given = [with_head(model, None, loss) for model in binary()]
    document = checked(
        nnprune.evaluate(
            given[1],
            x,
            # as Keras' own examples have them
            y[:, None].astype(np.float32) if form == "sigmoid" else np.eye(2)[y],
            original=given[0],
            attacks=[nnprune.FGSM(EPSILONS)],
        )
    )
    assert document["head"]["kind"] == ("sigmoid" if form == "sigmoid" else "logits")
    assert document["head"]["outputs"] == 1
    assert_figures(document, list(binary()), x, y)


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_figures_of_a_regression(activation: str | None) -> None:
    """A sigmoid belongs to the outputs of a regression, not to its head."""
    x, target = digits()[0], digits()[1].astype(np.float32) / 10
    keras.utils.set_random_seed(1)
    models = [
        keras.Sequential(
            [
                keras.Input((64,)),
                layers.Dense(units, "relu"),
                layers.Dense(1, activation=activation),
            ]
        )
        for units in (16, 8)
    ]
    for model in models:
        model.compile("sgd", "mse")
    document = checked(nnprune.evaluate(models[1], x, target, original=models[0]))
    assert document["task"] == "regression"
    assert document["head"]["kind"] == "values"
    assert document["data"]["labels"] == "values"
    assert {"robustness", "calibration"} <= set(document["absent"])
    outputs = [model.predict(x, verbose=0)[:, 0].astype(np.float64) for model in models]
    for number, (section, values) in enumerate(zip(document["models"], outputs, strict=True)):
        change = np.abs(values - outputs[0])
        assert section["quality"] == {
            "mse": pytest.approx(np.mean((values - target) ** 2), rel=1e-5),
            "mae": pytest.approx(np.mean(np.abs(values - target)), rel=1e-5),
            "mean_change": pytest.approx(change.mean(), rel=1e-4) if number else None,
            "largest_change": pytest.approx(change.max(), rel=1e-4) if number else None,
        }
        assert (section["robustness"], section["calibration"]) == (None, None)


def test_a_regression_of_several_values() -> None:
    """An autoencoder: sigmoids on all outputs, compared with images."""
    x = digits()[0][:100]
    model = keras.Sequential(
        [keras.Input((64,)), layers.Dense(8, "relu"), layers.Dense(64, activation="sigmoid")]
    )
    model.compile("sgd", "binary_crossentropy")  # says nothing about the task here
    document = checked(nnprune.evaluate(model, x, x, task="regression"))
    error = model.predict(x, verbose=0).astype(np.float64) - x
    assert document["models"][0]["quality"]["mse"] == pytest.approx(np.mean(error**2), rel=1e-5)


def test_sizes_and_layers(folder: Path) -> None:
    document = checked(nnprune.evaluate(folder / "small.keras", original=folder / "model.keras"))
    for section, model in zip(document["models"], softmax(), strict=True):
        data = Path(section["path"]).read_bytes()
        macs = {
            layer.name: int(np.prod(layer.kernel.shape))
            for layer in model.layers
            if isinstance(layer, layers.Dense)
        }
        weights = model.get_weights()
        assert section["sha256"] == hashlib.sha256(data).hexdigest()
        assert section["size"] == {
            "parameters": model.count_params(),
            "trainable_parameters": model.count_params(),
            "nonzero_parameters": sum(int(np.count_nonzero(weight)) for weight in weights),
            "macs": sum(macs.values()),
            "flops": 2 * sum(macs.values()),
            "uncounted": {},
            "keras_bytes": len(data),
            "keras_gzip_bytes": len(gzip.compress(data, 9)),
            "litert_bytes": None,
            "litert_gzip_bytes": None,
        }
        assert {row["layer"]: row["macs"] for row in section["layers"]} == macs
    rows = {row["layer"]: row for row in document["models"][1]["layers"]}
    assert (rows["hidden_1"]["units_before"], rows["hidden_1"]["units"]) == (128, 64)
    assert rows["hidden_1"]["parameters_before"] == 65 * 128
    assert rows["digit"]["reason"] == "its units are outputs of the model"
    kernel = softmax()[1].get_layer("hidden_2").get_weights()
    nonzero = sum(int(np.count_nonzero(weight)) for weight in kernel)
    assert rows["hidden_2"]["density"] == pytest.approx(nonzero / rows["hidden_2"]["parameters"])


def test_provenance(folder: Path) -> None:
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    document = checked(nnprune.evaluate(folder / "small.keras", command="nnprune évaluate"))
    provenance = document["provenance"]
    assert provenance["nnprune"] == nnprune.__version__
    assert provenance["keras"] == keras.__version__
    assert provenance["numpy"] == np.__version__
    assert provenance["backend"] == keras.config.backend()
    assert provenance["python"] == platform.python_version()
    assert provenance["command"] == "nnprune évaluate"
    assert provenance["devices"] in (["CPU"], ["GPU"])
    date = datetime.datetime.fromisoformat(provenance["date"])
    assert before <= date <= datetime.datetime.now(datetime.UTC)
    assert provenance["evaluation_seconds"] > 0.0


def test_without_data_nothing_is_made_up(folder: Path) -> None:
    document = checked(nnprune.evaluate(folder / "small.keras"))
    (section,) = document["models"]
    assert section["role"] == "pruned"
    for name in ("quality", "robustness", "calibration"):
        assert section[name] is None
        assert document["absent"][name] == "no evaluation data given"
    assert section["latency"] is None
    assert section["pruning"] is None
    assert document["data"] is None
    assert {"original", "latency", "trajectory"} < set(document["absent"])


def test_without_attacks(folder: Path) -> None:
    document = checked(nnprune.evaluate(folder / "small.keras", *digits(), attacks=()))
    assert document["models"][0]["robustness"] is None
    assert document["absent"]["robustness"] == "no attack was asked for"
    assert document["models"][0]["calibration"] is not None


def test_attacks_by_default(folder: Path) -> None:
    document = checked(nnprune.evaluate(folder / "small.keras", *digits()))
    (outcome,) = document["models"][0]["robustness"]
    assert outcome["attack"] == "FGSM"
    assert [point["epsilon"] for point in outcome["points"]] == [0.01, 8 / 255, 0.05]


def test_every_attack_has_a_name_of_its_own(folder: Path) -> None:
    x, y = digits()
    fgsm_twice = [nnprune.FGSM(0.1), nnprune.FGSM(0.05), nnprune.FGSM(0.1)]
    pgd_twice = [nnprune.PGD(0.05, steps=2), nnprune.PGD(0.05, steps=2, seed=1)]
    attacks: list[Attack] = [*fgsm_twice, *pgd_twice]
    document = checked(nnprune.evaluate(folder / "small.keras", x[:90], y[:90], attacks=attacks))
    found = {
        outcome["attack"]: [point["epsilon"] for point in outcome["points"]]
        for outcome in document["models"][0]["robustness"]
    }
    # Those that differ in epsilon only are one attack.
    assert found == {"FGSM": [0.05, 0.1], "PGD-2": [0.05], "PGD-2 (2)": [0.05]}
    parameters = document["models"][0]["robustness"][2]["parameters"]
    assert (parameters["steps"], parameters["seed"]) == (2, 1)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_comparisons(count: int, folder: Path) -> None:
    x, y = digits()[0][:100], digits()[1][:100]
    models = [folder / "small.keras", folder / "model.keras", folder / "small.keras"][:count]
    document = checked(nnprune.compare(models, x, y, original=folder / "model.keras"))
    sections = document["models"]
    assert [section["role"] for section in sections] == ["original"] + ["pruned"] * count
    assert len({section["label"] for section in sections}) == count + 1
    assert sections[1]["quality"]["agreement"]["value"] < 1.0
    same = [warning for warning in document["warnings"] if "are the same file" in warning]
    assert len(same) == count - 1
    if count == 3:
        assert sections[1]["quality"] == sections[3]["quality"]
        assert sections[2]["quality"]["agreement"]["value"] == 1.0


def test_comparison_without_an_original() -> None:
    x, y = digits()[0][:100], digits()[1][:100]
    document = checked(nnprune.compare({"ganz": softmax()[0], "klein ✓": softmax()[1]}, x, y))
    assert [section["label"] for section in document["models"]] == ["ganz", "klein ✓"]
    for section in document["models"]:
        assert section["quality"]["agreement"] is None
        for point in section["robustness"][0]["points"]:
            assert (point["transfer"], point["retention"]) == (None, None)
    assert "original" in document["absent"]


def test_files_of_one_name_are_told_apart(folder: Path, tmp_path: Path) -> None:
    for name in ("half", "third"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.keras").write_bytes((folder / "small.keras").read_bytes())
    files = [tmp_path / name / "model.keras" for name in ("half", "third")]
    document = checked(nnprune.compare(files, original=folder / "model.keras"))
    labels = [section["label"] for section in document["models"]]
    assert labels == ["model.keras", "half/model.keras", "third/model.keras"]


def test_the_trace_of_the_pruning(folder: Path) -> None:
    record = json.loads((folder / "run.json").read_text())
    document = checked(
        nnprune.evaluate(folder / "small.keras", original=folder / "model.keras", pruning=record)
    )
    assert document["models"][1]["pruning"] == record
    assert document["models"][0]["pruning"] is None
    assert "trajectory" not in document["absent"]
    assert document["warnings"] == []
    other = checked(
        nnprune.evaluate(folder / "model.keras", original=folder / "small.keras", pruning=record)
    )
    assert len(other["warnings"]) == 2
    assert "has 27562 parameters" in other["warnings"][0]
    assert "started from another file than small.keras" in other["warnings"][1]


def test_a_pruning_result_brings_its_trace() -> None:
    x, y = digits()[0][:100], digits()[1][:100]
    result = nnprune.prune(
        DIGITS, target=0.4, step=1 / 4, evaluate=(x, y), attacks=[nnprune.FGSM(0.05)]
    )
    document = checked(nnprune.evaluate(result, x, y, original=DIGITS))
    section = document["models"][1]
    assert section["pruning"]["trace"][0]["evaluation"]["samples"] == 100
    assert (section["path"], section["sha256"]) == (None, None)


def test_litert(folder: Path) -> None:
    if importlib.util.find_spec("ai_edge_litert") is None:
        pytest.skip("needs the extra litert (ai-edge-litert)")
    document = checked(nnprune.evaluate(folder / "small.keras", litert=True))
    (section,) = document["models"]
    latency = section["latency"]
    assert 0.0 < latency["min_seconds"] <= latency["p50_seconds"] <= latency["p90_seconds"] < 0.1
    assert (latency["threads"], latency["batch"], latency["warmup"]) == (1, 1, 20)
    assert latency["runs"] >= 100
    size = section["size"]
    assert 4 * size["parameters"] < size["litert_bytes"] < size["keras_bytes"]
    assert 0 < size["litert_gzip_bytes"] < size["litert_bytes"]
    assert "latency" not in document["absent"]


def test_a_document_is_written_whole_or_not_at_all(folder: Path, tmp_path: Path) -> None:
    found = nnprune.evaluate(folder / "small.keras", *digits(), attacks=())
    path = found.save_json(tmp_path / "found.json")
    assert json.loads(path.read_text()) == found.to_dict()
    page = found.save_report(tmp_path / "bericht — ✓.html")
    assert "small.keras" in page.read_text(encoding="utf-8")
    with pytest.raises(nnprune.errors.OutputError, match="exists already"):
        found.save_report(page)
    with pytest.raises(nnprune.errors.OutputError, match="there is no folder"):
        found.save_json(tmp_path / "nowhere" / "found.json")
    assert found.save_report(page, overwrite=True) == page
    assert sorted(one.name for one in tmp_path.iterdir()) == ["bericht — ✓.html", "found.json"]
