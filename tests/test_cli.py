"""The command line: what it prints, where, and with which status."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import nnprune
import numpy as np
import pytest
from nnprune import cli

MODELS = Path(__file__).resolve().parents[1] / "benches" / "models"
# A shell starts background jobs with Ctrl-C switched off, and so all that they start.
CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
COMMAND = [sys.executable, "-c", CTRL_C + "from nnprune.cli import main; main()"]


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a small model."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,), name="features"),
            keras.layers.Dense(8, activation="relu", name="first"),
            keras.layers.Dense(4, activation="relu", name="second"),
            keras.layers.Dense(3, name="last"),
        ]
    )
    path = tmp_path_factory.mktemp("models") / "model.keras"
    model.save(path)
    return path


def run(*arguments: object) -> int:
    return cli.run([str(argument) for argument in arguments])


class Outcome:
    """What a command did, with everything it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        capsys.readouterr()
        self.status = run(*arguments)
        captured = capsys.readouterr()
        self.out, self.err = captured.out, captured.err

    def assert_fails(self, *words: str) -> None:
        """Check for one clear line on standard error, nothing else, and a status other than 0."""
        assert self.status != 0
        assert self.out == ""
        assert len(self.err.strip().splitlines()) == 1
        assert self.err.startswith("nnprune: error: ")
        for word in words:
            assert word in self.err


def test_prune_writes_a_smaller_model(
    model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small.keras"
    outcome = Outcome(capsys, "prune", model_file, "-o", small, "--target", "1/2")
    assert outcome.status == 0
    assert outcome.err == ""
    assert "first   8 -> 4 units" in outcome.out
    assert [layer.units for layer in keras.saving.load_model(small).layers] == [4, 2, 3]


def test_json_is_all_that_is_printed(
    model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--target", 0.5, "--step", "1/4", "--seed", 3, "--json")
    outcome = Outcome(capsys, "prune", model_file, "-o", tmp_path / "s.h5", *arguments)
    report = json.loads(outcome.out)
    assert report["target"] == 0.5
    assert report["step"] == 0.25
    assert report["seed"] == 3
    assert report["method"]["name"] == "annealing"
    assert report["trusted"] is False
    assert report["input_box"] == "default"
    assert [layer["units_after"] for layer in report["layers"]] == [4, 2, 3]
    assert len(report["merges"]) == 6
    assert len(report["source"]["sha256"]) == 64


def test_every_option_reaches_the_engine(
    model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bounds = tmp_path / "box.npz"
    np.savez(bounds, lower=np.full(6, -1.0), upper=np.linspace(0.5, 2.0, 6))
    options = "--alpha 0.5 --similarity 0.8 --density printed --normalization none --pool 2"
    options += " --rewalks 2 --restart visit --outgoing mean_abs --layers first,second"
    options += " --impact moment --bias relative --max-output-change 1e9"
    options += " --exclude second --target 0.5 --json"
    arguments = [*options.split(), "--input-bounds", bounds]
    outcome = Outcome(capsys, "prune", model_file, "-o", tmp_path / "s.keras", *arguments)
    report = json.loads(outcome.out)
    assert report["method"] == {
        "name": "annealing",
        "alpha": 0.5,
        "similarity": 0.8,
        "density": "printed",
        "normalization": "none",
        "impact": "moment",
        "pool": 2,
        "rewalks": 2,
        "restart": "visit",
    }
    assert report["outgoing"] == "mean_abs"
    assert report["bias"] == "relative"
    assert report["max_output_change"] == 1e9
    assert report["input_box"] == "given"
    assert [layer["units_after"] for layer in report["layers"]] == [4, 4, 3]


def test_two_numbers_as_bounds(
    model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "s.keras"
    for bounds in (["--input-bounds", "-1", "2"], ["--input-bounds=-1,2"]):
        arguments = ["prune", model_file, "-o", small, "--target", 0.5, "--json", "--overwrite"]
        assert json.loads(Outcome(capsys, *arguments, *bounds).out)["input_box"] == "given"


@pytest.mark.parametrize("method", ["greedy", "one-shot"])
def test_other_methods(
    method: str, model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--target", 0.5, "--method", method, "--quiet"]
    outcome = Outcome(capsys, "prune", model_file, "-o", tmp_path / "s.keras", *arguments)
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--target", 0], ["target", "between 0 and 1", "got 0"]),
        (["--target", 1], ["target", "between 0 and 1", "got 1"]),
        (["--target", "nan"], ["target"]),
        (["--target", "many"], ["--target", "'many'"]),
        (["--target", 0.5, "--step", 0], ["step", "(0, 1]"]),
        (["--target", 0.5, "--step", 1.5], ["step", "(0, 1]"]),
        (["--target", 0.5, "--step", "1/0"], ["--step", "'1/0'"]),
        (["--target", 0.001], ["target 0.001", "no unit"]),
        (["--target", 0.5, "--input-bounds", 1, 0], ["input_bounds", "features", "lower"]),
        (["--target", 0.5, "--input-bounds", 0, "inf"], ["features", "finite"]),
        (["--target", 0.5, "--input-bounds", 0, "nan"], ["features"]),
        (["--target", 0.5, "--input-bounds", "half"], ["--input-bounds", "'half'"]),
        (
            ["--target", 0.5, "--input-bounds", "no.npz"],
            ["--input-bounds", "no.npz", "(No such file or directory)"],
        ),
        (["--target", 0.5, "--layers", "third"], ["third", "first, second"]),
        (["--target", 0.5, "--layers", "last"], ["last", "outputs"]),
        (["--target", 0.5, "--exclude", "third"], ["third"]),
        (["--target", 0.5, "--exclude", "first,second"], ["exclude"]),
        (["--target", 0.5, "--alpha", 2], ["alpha"]),
        (["--target", 0.5, "--similarity", -1], ["similarity"]),
        (["--target", 0.5, "--pool", 0], ["pool"]),
        (["--target", 0.5, "--density", "most"], ["density", "most"]),
        (["--target", 0.5, "--method", "best"], ["--method", "'best'"]),
        (["--target", 0.5, "--seed", -1], ["seed"]),
        (["--target", 0.5, "--seed", "x"], ["--seed"]),
        (["--target", 0.5, "--scale", 2], ["--scale", "--evaluate"]),
        (["--target", 0.5, "--offset", 2], ["--offset", "--evaluate"]),
        (["--target", 0.5, "--stop-if-accuracy-below", 0.9], ["stop_if_accuracy", "--evaluate"]),
        (["--traget", 0.5], ["--traget"]),
        ([], ["--target"]),
    ],
)
def test_wrong_options(
    arguments: list[Any],
    words: list[str],
    model_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "small.keras"
    Outcome(capsys, "prune", model_file, "-o", output, *arguments).assert_fails(*words)
    assert list(tmp_path.iterdir()) == []


def test_bounds_of_the_wrong_shape(
    model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bounds = tmp_path / "box.npz"
    np.savez(bounds, lower=np.zeros(5), upper=np.ones(5))
    arguments = ["--target", 0.5, "--input-bounds", bounds]
    outcome = Outcome(capsys, "prune", model_file, "-o", tmp_path / "s.keras", *arguments)
    outcome.assert_fails("features", "5", "6")


def test_a_weight_that_is_not_finite_names_its_layer(
    model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = keras.saving.load_model(model_file)
    for bad in (np.nan, np.inf):
        kernel, bias = model.get_layer("second").get_weights()
        kernel[3, 1] = bad
        model.get_layer("second").set_weights([kernel, bias])
        model.save(tmp_path / "bad.keras", overwrite=True)
        arguments = ["prune", tmp_path / "bad.keras", "-o", tmp_path / "s.keras", "--target", 0.5]
        Outcome(capsys, *arguments).assert_fails("second", "kernel")
        assert not (tmp_path / "s.keras").exists()


def test_a_model_with_nothing_to_prune(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, name="only")])
    model.save(tmp_path / "m.keras")
    arguments = ["prune", tmp_path / "m.keras", "-o", tmp_path / "s.keras", "--target", 0.5]
    Outcome(capsys, *arguments).assert_fails("nothing to prune", "only", "outputs")


def damaged_files(folder: Path) -> dict[str, Path]:
    """Make files that are no model, or no more."""
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]).save(folder / "m.keras")
    whole = (folder / "m.keras").read_bytes()
    files = {name: folder / f"{name}.keras" for name in ("text", "empty", "cut", "zip")}
    files["text"].write_text("no model")
    files["empty"].touch()
    files["cut"].write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(files["zip"], "w") as archive:
        archive.writestr("hello.txt", "hello")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    with h5py.File(folder / "whole.h5", "w") as file:
        file.create_dataset("x", data=np.zeros(1000))
    del model
    files["h5_without_model"] = folder / "whole.h5"
    files["h5_cut"] = folder / "cut.h5"
    files["h5_cut"].write_bytes((folder / "whole.h5").read_bytes()[:3000])
    files["missing"] = folder / "missing.keras"
    files["folder"] = folder / "a_folder"
    files["folder"].mkdir()
    return files


@pytest.mark.parametrize(
    "kind", ["text", "empty", "cut", "zip", "h5_without_model", "h5_cut", "missing", "folder"]
)
def test_files_that_are_no_model(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = damaged_files(tmp_path)[kind]
    output = tmp_path / "small.keras"
    for arguments in (["prune", path, "-o", output, "--target", 0.5], ["inspect", path]):
        Outcome(capsys, *arguments).assert_fails(path.name)
    assert not output.exists()


def test_outputs_that_cannot_be_written(
    model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "there.keras").write_text("kept")
    (tmp_path / "folder.keras").mkdir()
    for output, word in {
        "file/small.keras": "file",
        "nowhere/small.keras": "nowhere",
        "there.keras": "--overwrite",
        "small.onnx": ".keras",
        "folder.keras": "is a folder",
    }.items():
        arguments = ["prune", model_file, "-o", tmp_path / output, "--target", 0.5]
        Outcome(capsys, *arguments).assert_fails(word)
    assert (tmp_path / "there.keras").read_text() == "kept"
    assert (
        run("prune", model_file, "-o", tmp_path / "there.keras", "--target", 0.5, "--overwrite")
        == 0
    )
    assert len(keras.saving.load_model(tmp_path / "there.keras").layers) == 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(
    model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o500)
    arguments = ["prune", model_file, "-o", tmp_path / "s.keras", "--target", 0.5]
    Outcome(capsys, *arguments).assert_fails("s.keras")


def test_a_write_that_fails_half_way_leaves_the_old_file(
    model_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "small.keras"
    output.write_text("kept")

    def half(self: keras.Model, path: Path, *_: Any, **__: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(keras.Model, "save", half)
    arguments = ["prune", model_file, "-o", output, "--target", 0.5, "--overwrite"]
    Outcome(capsys, *arguments).assert_fails("small.keras", "No space left")
    assert output.read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["small.keras"]


def test_inspect_tells_what_can_be_pruned(capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads(Outcome(capsys, "inspect", MODELS / "cifar10.keras", "--json").out)
    assert report["parameters"] == 753_866
    assert report["prunable_units"] == 640
    reasons = {layer["layer"]: layer["reason"] for layer in report["layers"]}
    assert reasons["hidden_1"] is None
    assert "convolution" in reasons["conv_1"]
    assert "outputs" in reasons["class"]
    assert "prunable" in Outcome(capsys, "inspect", MODELS / "cifar10.keras").out


def test_inspect_loads_no_keras() -> None:
    code = (
        "import sys; from nnprune.cli import run;"
        f"run(['inspect', {str(MODELS / 'mnist.keras')!r}]);"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "128" in done.stdout


def test_importing_the_package_loads_no_keras() -> None:
    code = (
        "import sys, nnprune; nnprune.prune, nnprune.Annealing, nnprune.inspect;"
        "assert not {'keras', 'tensorflow', 'rich', 'typer'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_demo_prunes_the_model_that_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    report = json.loads(Outcome(capsys, "demo", "--json").out)
    before, after = report["evaluation"]["models"]
    assert before["quality"]["accuracy"]["value"] > 0.96
    assert after["quality"]["accuracy"]["value"] > 0.8
    assert after["size"]["keras_bytes"] < before["size"]["keras_bytes"] / 2
    assert report["evaluation"]["data"]["samples"] == 450
    assert (tmp_path / "digits-report.html").read_text(encoding="utf-8").startswith("<!")
    smaller = keras.saving.load_model(tmp_path / "digits-pruned.keras")
    assert smaller.count_params() == report["pruning"]["after"]["parameters"]
    Outcome(capsys, "demo").assert_fails("digits-pruned.keras", "--overwrite")
    assert "robust, PGD-7 0.05" in Outcome(capsys, "demo", "--overwrite").out


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    commands = "prune evaluate compare certify verify inspect export report demo"
    for command in commands.split():
        assert f"nnprune {command}" in Outcome(capsys, command, "--help").out
    assert Outcome(capsys, "--version").out.strip() == nnprune.__version__


def test_a_pipe_stays_silent(model_file: Path, tmp_path: Path) -> None:
    arguments = ["prune", str(model_file), "-o", str(tmp_path / "s.keras"), "--target", "0.5"]
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "units" in done.stdout


def test_a_terminal_shows_progress_and_ctrl_c_writes_nothing(tmp_path: Path) -> None:
    model = keras.Sequential(
        [
            keras.Input((512,)),
            keras.layers.Dense(1024, activation="relu"),
            keras.layers.Dense(1024, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    model.save(tmp_path / "large.keras")
    arguments = ["prune", "large.keras", "-o", "small.keras", "--target", "0.9", "--step", "0.0005"]
    reading, terminal = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    ) as process:
        os.close(terminal)
        shown = read_until(reading, b"units")
        process.send_signal(signal.SIGINT)
        shown += read_until(reading, b"interrupted")
        assert process.wait(timeout=60) == 130
        assert process.stdout is not None
        assert process.stdout.read() == b""
    os.close(reading)
    assert b"pruning" in shown
    assert b"nnprune: error: interrupted" in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.keras"]


def read_until(reading: int, words: bytes) -> bytes:
    """Read what a terminal shows until some words come, for two minutes at most."""
    shown = b""
    deadline = time.monotonic() + 120
    while words not in shown and time.monotonic() < deadline:
        if select.select([reading], [], [], 1.0)[0]:
            shown += os.read(reading, 4096)
    return shown


def test_ctrl_c_that_another_library_turns_into_its_own_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """TensorFlow does so when it is hit while it traces a function."""

    def interrupted(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise IndexError from None

    monkeypatch.setattr("nnprune.inspection.inspect", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run("inspect", "model.keras") == 130
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert "interrupted" in capsys.readouterr().err
