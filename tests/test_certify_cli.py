"""`nnprune certify` and `nnprune verify`: what they print, write, and end with."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from certificates import core_parts, tabular
from nnprune import Certificate, cli

__all__ = ["core_parts"]  # a fixture for every test here


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model, what pruning made of it, and samples."""
    folder = tmp_path_factory.mktemp("cli")
    tabular().save(folder / "model.keras")
    arguments = ["--target", "0.25", "--input-bounds", "-1", "1", "--quiet"]
    small, model = str(folder / "small.keras"), str(folder / "model.keras")
    assert (
        cli.run(["prune", model, "-o", small, *arguments, "--trace", str(folder / "run.json")]) == 0
    )
    x = np.random.default_rng(0).uniform(-1.0, 1.0, (50, 4)).astype(np.float32)
    y = np.asarray(keras.saving.load_model(folder / "model.keras")(x)).argmax(axis=1)
    np.savez(folder / "test.npz", x=x, y=y)
    return folder


def outcome(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    status = cli.run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_from_certifying_to_verifying(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, original = folder / "small.keras", folder / "model.keras"
    status, out, err = outcome(capsys, "certify", small, "--original", original)
    assert (status, err) == (0, "")
    assert "change of the logits" in out
    path = folder / "small.certificate.json"
    assert f"written to {path}" in out
    assert Certificate.load(path).pruned.name == "small.keras"
    status, out, err = outcome(capsys, "certify", small, "--original", original)
    assert status == 1
    assert "--overwrite" in err

    status, out, err = outcome(capsys, "verify", path, "--original", original)
    assert (status, err) == (0, "")
    assert "the certificate holds" in out

    plain = json.loads(path.read_text())
    plain["output_change"]["upper"][1] *= 0.5
    tampered = folder / "tampered.json"
    tampered.write_text(json.dumps(plain))
    status, out, err = outcome(capsys, "verify", tampered, "--model", small, "--original", original)
    assert status == 1
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert "does not hold: output last[1]:" in err
    status, out, err = outcome(capsys, "verify", tampered, "--original", original, "--json")
    assert status == 1
    assert json.loads(out)["holds"] is False


def test_json_samples_and_radii(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "a.json"
    arguments = ["--data", folder / "test.npz", "--eps", "0.001,1/255", "-o", written, "--json"]
    status, out, err = outcome(
        capsys, "certify", folder / "small.keras", "--original", folder / "model.keras", *arguments
    )
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert json.loads(written.read_text()) == found
    assert found["coverage"]["samples"] == 50
    assert [one["epsilon"] for one in found["local"]] == [0.001, 1 / 255]
    assert found["input_box"] == "given"


def test_a_model_saved_anew_needs_the_json_of_its_pruning(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    anew = tmp_path / "anew.keras"
    keras.saving.load_model(folder / "small.keras").save(anew)
    arguments = ["certify", anew, "--original", folder / "model.keras", "--quiet"]
    status, out, err = outcome(capsys, *arguments)
    assert (status, out) == (1, "")
    assert "anew.keras: says nothing of its pruning" in err
    assert "--pruning run.json" in err
    status, out, err = outcome(capsys, *arguments, "--pruning", folder / "run.json")
    assert (status, out, err) == (0, "", "")
    assert (tmp_path / "anew.certificate.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--eps", "0.1"], "--eps: is for the samples of --data"),
        (["--eps", "0", "--data", "test.npz"], "eps: expected positive numbers, got 0.0"),
        (["--eps", "few", "--data", "test.npz"], "--eps"),
        (["--scale", "1/255"], "--scale: is for the samples"),
        (["-o", "certificate.txt"], "must end in .json"),
        (["--input-bounds", "0", "inf"], "no finite bound"),
        (["--pruning", "nowhere.json"], "--pruning: nowhere.json: cannot be read"),
        (["--data", "nowhere.npz"], "nowhere.npz"),
    ],
)
def test_errors_are_one_line(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(folder / "test.npz") if one == "test.npz" else one for one in arguments]
    small, original = folder / "small.keras", folder / "model.keras"
    output = [] if "-o" in given else ["-o", tmp_path / "a.json"]
    status, out, err = outcome(capsys, "certify", small, "--original", original, *output, *given)
    assert status == 1
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert words in err
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_certificate_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = outcome(
        capsys, "verify", folder / "run.json", "--original", folder / "model.keras"
    )
    assert (status, out) == (1, "")
    assert "is no certificate" in err
    status, out, err = outcome(capsys, "verify", folder / "run.json")
    assert status == 2
    assert "--original" in err


def test_an_evaluation_is_bracketed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--original", folder / "model.keras", "--data", folder / "test.npz"]
    arguments = [*common, "--input-bounds", "-1", "1", "--certified"]
    attacks = ["--attack", "fgsm:0,0.001,1", "--attack", "pgd:0.1"]
    status, out, err = outcome(
        capsys, "evaluate", folder / "small.keras", *arguments, *attacks, "--json"
    )
    assert (status, err) == (0, "")
    for model in json.loads(out)["models"]:
        for attack in model["robustness"]:
            for point in attack["points"]:
                assert point["certified"]["count"] <= point["white_box"]["count"]
                assert point["certified"]["samples"] == 50
        first, second, third = model["robustness"][0]["points"]
        assert first["certified"] == first["white_box"]
        assert second["certified"]["count"] > third["certified"]["count"]
    report = folder / "report.html"
    status, out, err = outcome(
        capsys, "evaluate", folder / "small.keras", *arguments, *attacks, "--report", report
    )
    assert (status, err) == (0, "")
    assert "robust, FGSM 0.001, certified" in out
    assert ">certified</th>" in report.read_text()
    status, out, err = outcome(
        capsys, "evaluate", folder / "small.keras", *arguments, "--no-attacks"
    )
    assert (status, out) == (1, "")
    assert "certified: needs the sizes of FGSM or PGD" in err
