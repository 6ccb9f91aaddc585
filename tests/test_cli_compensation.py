"""`nnprune prune` with compensation: options, several files, and errors of one line."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import keras
import nnprune
import numpy as np
import pytest
from nnprune import cli
from nnprune.keras_io.fingerprints import model_sha256

DIGITS = Path(str(resources.files("nnprune") / "demo_files" / "digits.keras"))
FAST = ["--compensation", "least-squares", "--source", "box", "--samples", "300"]
Capture = pytest.CaptureFixture[str]


def run(*arguments: object) -> int:
    return cli.run([str(argument) for argument in ("prune", DIGITS, *arguments)])


def same_weights(path: Path, other: keras.Model) -> bool:
    pairs = zip(keras.saving.load_model(path).get_weights(), other.get_weights(), strict=True)
    return all(np.array_equal(*pair) for pair in pairs)


def test_least_squares_is_that_of_the_library(tmp_path: Path, capsys: Capture) -> None:
    small = tmp_path / "small.keras"
    assert run("-o", small, "--target", "1/2", *FAST) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "compensated by least squares on 300 synthetic inputs" in captured.out
    rule = nnprune.LeastSquares(source="box", samples=300)
    assert same_weights(small, nnprune.prune(DIGITS, target=0.5, compensation=rule).model)


def test_several_targets_become_several_files(tmp_path: Path, capsys: Capture) -> None:
    small = tmp_path / "small.keras"
    assert run("-o", small, "--target", "0.3,0.5,0.725", *FAST, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    names = ["small-30.keras", "small-50.keras", "small-72.5.keras"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert [one["target"] for one in told] == [0.3, 0.5, 0.725]
    rule = nnprune.LeastSquares(source="box", samples=300)
    for name, one in zip(names, told, strict=True):
        alone = nnprune.prune(DIGITS, target=one["target"], compensation=rule)
        assert same_weights(tmp_path / name, alone.model)
        assert nnprune.certify(tmp_path / name, original=DIGITS).merges == alone.record.merges


def test_nothing_is_overwritten_unasked(tmp_path: Path, capsys: Capture) -> None:
    small = tmp_path / "small.keras"
    (tmp_path / "small-50.keras").write_text("mine")
    assert run("-o", small, "--target", "0.3,0.5", *FAST) != 0
    assert "small-50.keras" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["small-50.keras"]
    assert (tmp_path / "small-50.keras").read_text() == "mine"
    assert run("-o", small, "--target", "0.3,0.5", *FAST, "--overwrite", "-q") == 0
    assert keras.saving.load_model(tmp_path / "small-50.keras")


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_unlabelled_inputs_come_from_a_file(suffix: str, tmp_path: Path, capsys: Capture) -> None:
    with np.load(DIGITS.with_name("digits.npz")) as data:
        x = data["x_test"][:32].astype(np.float32) / 16
    path = tmp_path / f"x{suffix}"
    if suffix == ".npy":
        np.save(path, x)
    else:
        np.savez(path, x)
    small = tmp_path / "small.keras"
    given = ["--representative-inputs", path]
    assert run("-o", small, "--target", "0.5", *FAST[:2], *given, "--json") == 0
    told = json.loads(capsys.readouterr().out)["compensation"]
    assert (told["inputs"], told["given"]) == ("representative", 32)


def test_every_option_reaches_the_library(tmp_path: Path, capsys: Capture) -> None:
    small = tmp_path / "small.keras"
    more = ["--restarts", 2, "--min-agreement", 0.1, "--polish", "--allocation", "propagated"]
    more += ["--width-multiple", 4]
    assert run("-o", small, "--target", "0.4", "--step", "1/4", *FAST, *more, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["restarts"]) == 2
    assert told["min_agreement"] == 0.1
    assert told["polish"]["options"]["epochs"] == nnprune.Polish().epochs
    assert (told["allocation"], told["width_multiple"]) == ("propagated", 4)


def test_a_search_is_annealing(tmp_path: Path, capsys: Capture) -> None:
    small = tmp_path / "small.keras"
    assert run("-o", small, "--target", "0.5", *FAST, "--search-seconds", 0.2, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["method"]["name"] == "annealing"
    assert told["compensation"]["options"]["search_seconds"] == 0.2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--target", "0.5", "--compensation", "magic"], ["--compensation", "least-squares"]),
        (["--target", "0.5", "--source", "leaves"], ["--source", "least-squares"]),
        (["--target", "0.5", "--samples", "10"], ["--samples", "least-squares"]),
        (["--target", "0.5", *FAST[:2], "--source", "magic"], ["source", "magic", "leaves"]),
        (["--target", "0.5,0.5"], ["--target", "small-50.keras"]),
        (["--target", "0.5,half"], ["--target", "half"]),
        (["--target", "0.5,lossless"], ["--target", "lossless"]),
        (["--target", "0.5", "--method", "elimination"], ["least_squares"]),
        (["--target", "0.5", "--method", "magic"], ["--method", "elimination"]),
        (
            ["--target", "0.5", *FAST[:2], "--representative-inputs", "missing.npy"],
            ["--representative-inputs", "missing.npy", "cannot be read"],
        ),
        (
            ["--target", "0.5", *FAST[:2], "--representative-inputs", str(DIGITS)],
            ["--representative-inputs"],
        ),
    ],
)
def test_errors_are_one_line(
    arguments: list[Any], words: list[str], tmp_path: Path, capsys: Capture
) -> None:
    assert run("-o", tmp_path / "small.keras", *arguments) != 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1
    for word in words:
        assert word in captured.err
    assert not list(tmp_path.iterdir())


def test_a_sweep_compensates_every_cell(tmp_path: Path, capsys: Capture) -> None:
    journal = tmp_path / "sweep.jsonl"
    grid = ["sweep", DIGITS, "--targets", "0.3,0.6", "--jobs", 1, "--journal", journal, "--json"]
    found = {}
    for rule in ("sum", "least-squares"):
        capsys.readouterr()
        more = ["--compensation", rule]
        status = cli.run([str(one) for one in (*grid, *more)])
        if rule == "least-squares":  # the journal is of another sweep
            assert status != 0
            assert "compensation" in capsys.readouterr().err
            journal.unlink()
            assert cli.run([str(one) for one in (*grid, *more)]) == 0
        found[rule] = json.loads(capsys.readouterr().out)
    methods = {cell["method"]["name"] for cell in found["least-squares"]["cells"] if cell["method"]}
    assert methods == {"elimination"}
    alone = nnprune.prune(DIGITS, target=0.3, compensation="least_squares")
    cell = next(one for one in found["least-squares"]["cells"] if one["target"] == 0.3)
    assert cell["weights_sha256"] == model_sha256(alone.model, {})
