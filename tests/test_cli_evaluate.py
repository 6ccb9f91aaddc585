"""`nnprune evaluate | compare | export | report`, and watched pruning, on the command line."""

from __future__ import annotations

import importlib.util
import json
import os
import pty
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import nnprune
import numpy as np
import pytest
from evaluated import VALIDATOR, digits, write_files
from nnprune import cli
from nnprune.attacks.options import Attack
from PIL import Image

# A shell starts background jobs with Ctrl-C switched off, and so all that they start.
CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
COMMAND = [sys.executable, "-c", CTRL_C + "from nnprune.cli import main; main()"]
DATA = ("--data", "bytes.npz", "--scale", "1/16")
FAST = (*DATA, "--no-attacks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("cli"))


@pytest.fixture(autouse=True)
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test where the files are."""
    monkeypatch.chdir(folder)


class Outcome:
    """What a command did, with everything it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        capsys.readouterr()
        self.status = cli.run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        self.out, self.err = captured.out, captured.err

    def document(self) -> dict[str, Any]:
        """Return the JSON, which must be all that was printed."""
        assert (self.status, self.err) == (0, "")
        found: dict[str, Any] = json.loads(self.out)
        VALIDATOR.validate(found)
        return found

    def assert_fails(self, *words: str, status: int = 1) -> None:
        """Check for one clear line on standard error, nothing else, and the status."""
        assert (self.status, self.out) == (status, "")
        assert len(self.err.strip().splitlines()) == 1
        assert self.err.startswith("nnprune: error: ")
        for word in words:
            assert word in self.err


def test_the_whole_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    arguments = ["evaluate", "small.keras", "--original", "model.keras", "--data", "test.npz"]
    arguments += ["--attack", "fgsm:0.01,0.05", "--attack", "pgd:0.0314"]
    outcome = Outcome(capsys, *arguments, "--report", report)
    assert (outcome.status, outcome.err) == (0, "")
    for words in ("accuracy", "robust, FGSM 0.05, transferred", "robust, PGD-7 0.0314", "ECE"):
        assert words in outcome.out
    assert "on 450 samples of test.npz" in outcome.out
    assert f"report written to {report}" in outcome.out
    page = report.read_text(encoding="utf-8")
    assert "PGD-7" in page
    document = Outcome(capsys, *arguments, "--json").document()
    assert document["provenance"]["command"] == shlex.join(["nnprune", *arguments, "--json"])
    x, y = digits()
    attacks: list[Attack] = [nnprune.FGSM((0.01, 0.05)), nnprune.PGD(0.0314)]
    same = nnprune.evaluate("small.keras", x, y, original="model.keras", attacks=attacks)
    assert document["models"] == same.models
    for section in document["models"]:
        share = f"{section['quality']['accuracy']['value']:.2%}"
        assert share in outcome.out


def test_json_is_all_that_is_printed_beside_a_report(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report = tmp_path / "report.html"
    for quiet in ([], ["--quiet"]):
        options = [*FAST, "--json", "--report", report, "--overwrite", *quiet]
        document = Outcome(capsys, "evaluate", "small.keras", *options).document()
        assert document["absent"]["robustness"] == "no attack was asked for"
        assert report.exists()
    quiet_outcome = Outcome(capsys, "evaluate", "small.keras", *FAST, "--quiet")
    assert (quiet_outcome.status, quiet_outcome.out, quiet_outcome.err) == (0, "", "")


def test_a_report_from_the_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = [*FAST, "--report", tmp_path / "one.html", "--json"]
    printed = Outcome(capsys, "evaluate", "small.keras", *options).out
    (tmp_path / "found.json").write_text(printed)
    outcome = Outcome(capsys, "report", tmp_path / "found.json", "-o", tmp_path / "two.html")
    assert (outcome.status, outcome.err) == (0, "")
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    again = ["report", tmp_path / "found.json", "-o", tmp_path / "two.html"]
    Outcome(capsys, *again).assert_fails("two.html: exists already", "--overwrite")
    assert Outcome(capsys, *again, "--overwrite").status == 0
    pdf = ["report", tmp_path / "found.json", "-o", tmp_path / "two.pdf"]
    Outcome(capsys, *pdf).assert_fails("two.pdf", ".html")
    for name, text in {
        "list": "[1]",
        "other": "{}",
        "cut": printed[:500],
        "deep": "[" * 10**5,
    }.items():
        (tmp_path / f"{name}.json").write_text(text)
        wrong = Outcome(capsys, "report", tmp_path / f"{name}.json", "-o", tmp_path / "no.html")
        wrong.assert_fails("JSON" if name in ("cut", "deep") else "no evaluation of nnprune")
    Outcome(capsys, "report", "run.json", "-o", tmp_path / "no.html").assert_fails("no evaluation")
    assert not (tmp_path / "no.html").exists()


def test_a_trace(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = [*FAST, "--original", "model.keras", "--trace", "run.json"]
    document = Outcome(capsys, "evaluate", "small.keras", *options, "--json").document()
    assert document["models"][1]["pruning"] == json.loads(Path("run.json").read_text())
    assert document["warnings"] == []
    (tmp_path / "empty.json").write_text('{"trace": []}')
    (tmp_path / "list.json").write_text("[]")
    for wrong in (tmp_path / "empty.json", tmp_path / "list.json", "missing.json", "x.npy"):
        outcome = Outcome(capsys, "evaluate", "small.keras", *FAST, "--trace", wrong)
        outcome.assert_fails("--trace")


def test_scale_and_offset(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", "bytes.npz", "--scale", "1/8", "--offset", -1, "--no-attacks"]
    document = Outcome(
        capsys, "evaluate", "small.keras", *options, "--input-bounds", -1, 1, "--json"
    ).document()
    assert document["data"]["scale"] == 0.125
    assert document["data"]["offset"] == -1.0
    assert document["input_box"] == {"source": "given", "lower": -1.0, "upper": 1.0}
    Outcome(capsys, "evaluate", "small.keras", *options).assert_fails(
        "bytes.npz: x: ", "scaled as asked for", "range from -1 to 1", "--input-bounds"
    )


def test_data_in_other_forms(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = ["--attack", "fgsm:0.05", "--json"]
    first = Outcome(capsys, "evaluate", "small.keras", *DATA, *options).document()
    pair = ["--data", "x.npy,y.npy"]
    second = Outcome(capsys, "evaluate", "small.keras", *pair, *options).document()
    assert first["models"] == second["models"]
    assert second["data"]["source"] == "x.npy,y.npy"
    flat = keras.models.load_model("model.keras")
    keras.Sequential([keras.Input((8, 8)), keras.layers.Flatten(), *flat.layers]).save(
        tmp_path / "images.keras"
    )
    x, y = digits()
    for number in range(60):
        place = tmp_path / "Ziffern — ✓" / str(y[number])
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.rint(255 * x[number]).astype(np.uint8).reshape(8, 8)
        Image.fromarray(pixels).save(place / f"{number}.png")
    images = ["--data", tmp_path / "Ziffern — ✓", *options]
    third = Outcome(capsys, "evaluate", tmp_path / "images.keras", *images).document()
    assert third["data"]["source"] == "Ziffern — ✓"
    assert third["data"]["samples"] == 60
    right = np.argmax(flat.predict(x[:60], verbose=0), axis=1) == y[:60]
    assert third["models"][0]["quality"]["accuracy"]["count"] == right.sum()


def test_a_task(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(1)])
    model.save(tmp_path / "line.keras")
    line = ["evaluate", tmp_path / "line.keras", *DATA, "--json"]
    Outcome(capsys, *line).assert_fails("neither softmax nor sigmoid", "--task")
    document = Outcome(capsys, *line, "--task", "regression").document()
    assert document["task"] == "regression"
    x, y = digits()
    error = model.predict(x, verbose=0)[:, 0].astype(np.float64) - y
    mse = document["models"][0]["quality"]["mse"]
    assert mse == pytest.approx(float(np.mean(error**2)), rel=1e-5)
    outcome = Outcome(capsys, *line[:-1], "--task", "regression")
    assert "mean squared error" in outcome.out
    Outcome(capsys, *line, "--task", "ranking").assert_fails("task", "'ranking'")


def test_litert(capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("ai_edge_litert") is None:
        pytest.skip("needs the extra litert (ai-edge-litert)")
    document = Outcome(capsys, "evaluate", "small.keras", "--litert", "--json").document()
    assert document["models"][0]["latency"]["p50_seconds"] > 0.0
    assert document["models"][0]["size"]["litert_bytes"] > 0


@pytest.mark.parametrize("count", [1, 3])
def test_compare(count: int, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    small = tmp_path / "kleiner — ✓.keras"
    shutil.copy("small.keras", small)
    models = [small, "small.keras", "model.keras"][:count]
    report = tmp_path / "report.html"
    options = ["--original", "model.keras", *DATA, "--attack", "fgsm:0.05"]
    document = Outcome(
        capsys, "compare", *models, *options, "--json", "--report", report
    ).document()
    assert len(document["models"]) == count + 1
    assert document["models"][1]["label"] == "kleiner — ✓.keras"
    assert document["models"][1]["robustness"][0]["points"][0]["retention"] < 1.0
    assert "kleiner — ✓.keras" in report.read_text(encoding="utf-8")


def test_export(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    if importlib.util.find_spec("ai_edge_litert") is None:
        pytest.skip("needs the extra litert (ai-edge-litert)")
    path = tmp_path / "small.tflite"
    found = json.loads(Outcome(capsys, "export", "small.keras", "-o", path, "--json").out)
    assert found["bytes"] == path.stat().st_size
    assert found["largest_difference"] < 1e-5
    export = ["export", "small.keras", "-o", path]
    Outcome(capsys, *export).assert_fails("small.tflite: exists already")
    assert "its outputs differ" in Outcome(capsys, *export, "--overwrite").out
    Outcome(capsys, "export", "small.keras", "-o", "small.bin").assert_fails(".tflite or .onnx")


def test_pruning_stops_at_a_floor(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    small, trace = tmp_path / "small.keras", tmp_path / "run.json"
    arguments = ["prune", "model.keras", "-o", small, "--target", 0.9, "--step", "1/8"]
    arguments += ["--evaluate", *DATA[1:], "--attack", "fgsm:0.05", "--trace", trace]
    outcome = Outcome(capsys, *arguments, "--stop-if-robust-accuracy-below", 0.5, "--json")
    result = json.loads(outcome.out)
    assert result["stopped_by"] == "robust_accuracy_floor"
    assert json.loads(trace.read_text()) == result
    robust = [epoch["evaluation"]["robust"][0]["instances"]["value"] for epoch in result["trace"]]
    assert min(robust) >= 0.5
    assert result["undone"]["evaluation"]["robust"][0]["instances"]["value"] < 0.5
    options = ["--original", "model.keras", *DATA, "--attack", "fgsm:0.05", "--trace", trace]
    document = Outcome(capsys, "evaluate", small, *options, "--json").document()
    (point,) = document["models"][1]["robustness"][0]["points"]
    assert abs(point["white_box"]["value"] - robust[-1]) <= 1 / 450
    for option, words in {
        "--stop-if-accuracy-below": "the original itself is below",
        "--stop-if-agreement-below": "fraction from 0 to 1",
    }.items():
        value = 1.0 if "accuracy" in option else 95
        again = [*arguments, "--overwrite", option, value]
        Outcome(capsys, *again).assert_fails(option.strip("-").replace("-", "_"), words)
    alone = ["prune", "model.keras", "-o", tmp_path / "no.keras", "--target", 0.5]
    Outcome(capsys, *alone, "--stop-if-accuracy-below", 0.5).assert_fails("needs data")
    Outcome(capsys, *alone, "--scale", "1/16").assert_fails("--scale", "--evaluate")
    assert not (tmp_path / "no.keras").exists()


WRONG: dict[str, tuple[Sequence[object], tuple[str, ...]]] = {
    "no data file": (["--data", "missing.npz"], ("missing.npz: no such file",)),
    "no labels": (["--data", "x.npy"], ("x.npy: is one array", "LABELS.npy")),
    "other labels": (["--data", "wrong.npz"], ("wrong.npz: y: 45 of 450 labels", "subtract 1")),
    "other features": (["--data", "narrow.npz"], ("narrow.npz: x: ", "(60,)", "(64,)")),
    "empty": (["--data", "empty.npz"], ("empty.npz: x: there are no samples",)),
    "bytes": (["--data", "bytes.npz"], ("13667 values are outside the input box [0, 1]",)),
    "a model": (["--data", "model.keras"], ("model.keras: needs arrays named 'x' and 'y'",)),
    "no original": ([*FAST, "--original", "missing.keras"], ("missing.keras: no such file",)),
    "no attack": ([*DATA, "--attack", "fsgm:0.1"], ("expected fgsm, pgd", "'fsgm:0.1'")),
    "no epsilon": ([*DATA, "--attack", "fgsm"], ("names no epsilon",)),
    "a negative one": ([*DATA, "--attack", "fgsm:-1"], ("must be finite and not negative",)),
    "both": ([*FAST, "--attack", "fgsm:0.1"], ("--no-attacks",)),
    "attack without data": (["--attack", "fgsm:0.1"], ("attacks: needs samples", "--data")),
    "scale without data": (["--scale", "1/255"], ("scale: needs samples", "--data")),
    "scale": (["--data", "bytes.npz", "--scale", "many"], ("--scale", "'many'")),
    "bounds": ([*FAST, "--input-bounds", 1, 0], ("lower bound is above",)),
    "bins": ([*FAST, "--bins", 0], ("bins", "got 0")),
    "batch size": ([*FAST, "--batch-size", 0], ("batch_size", "got 0")),
    "report there": ([*FAST, "--report", "there.html"], ("exists already", "--overwrite")),
    "report nowhere": ([*FAST, "--report", "nowhere/r.html"], ("there is no folder",)),
    "report in a file": ([*FAST, "--report", "x.npy/r.html"], ("is a file, no folder",)),
    "report as text": ([*FAST, "--report", "report.txt"], (".html",)),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_are_one_line(
    case: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = digits()
    np.savez(folder / "wrong.npz", x=x, y=y + 1)
    np.savez(folder / "narrow.npz", x=x[:, :60], y=y)
    np.savez(folder / "empty.npz", x=x[:0], y=y[:0])
    (folder / "there.html").write_text("kept")
    before = sorted(folder.iterdir())

    def never(*_: Any, **__: Any) -> None:
        pytest.fail("the models were measured before the error was found")

    monkeypatch.setattr("nnprune.evaluation.evaluate.classify", never)
    arguments, words = WRONG[case]
    Outcome(capsys, "evaluate", "small.keras", *arguments).assert_fails(*words)
    assert (folder / "there.html").read_text() == "kept"
    assert sorted(folder.iterdir()) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tmp_path.chmod(0o500)
    outcome = Outcome(capsys, "evaluate", "small.keras", *FAST, "--report", tmp_path / "r.html")
    outcome.assert_fails("r.html: cannot be written")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["evaluate", *FAST], "MODEL"),
        (["compare", *FAST], "MODEL"),
        (["evaluate", "small.keras", "model.keras"], "model.keras"),
        (["evaluate", "small.keras", "--bins", "many"], "--bins"),
        (["evaluate", "small.keras", "--epsilon", "1"], "--epsilon"),
    ],
)
def test_wrong_usage(
    arguments: Sequence[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Outcome(capsys, *arguments).assert_fails(word, status=2)


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("evaluate", "compare", "export", "report"):
        assert f"nnprune {command}" in Outcome(capsys, command, "--help").out


def test_names_of_any_bytes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """File names need not be text in any encoding."""
    try:
        name = os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.keras")
        shutil.copy("small.keras", name)
    except (OSError, UnicodeError):
        pytest.skip("the file system takes no such names")
    report = tmp_path / "r.html"
    document = Outcome(capsys, "evaluate", name, *FAST, "--json", "--report", report).document()
    assert document["models"][0]["quality"]["accuracy"]["samples"] == 450
    assert "bad" in report.read_text(encoding="utf-8")


def test_a_pipe_gets_json_and_no_chatter(tmp_path: Path) -> None:
    arguments = ["evaluate", "small.keras", "--original", "model.keras", *DATA, "--json"]
    arguments += ["--attack", "fgsm:0.05", "--report", str(tmp_path / "r.html")]
    if importlib.util.find_spec("ai_edge_litert") is not None:
        arguments.append("--litert")
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    document = json.loads(done.stdout)
    VALIDATOR.validate(document)
    assert document["provenance"]["command"] == shlex.join(["nnprune", *arguments])


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(32, 5, activation="relu"),
            keras.layers.Conv2D(32, 5, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    ).save(tmp_path / "large.keras")
    random = np.random.default_rng(0)
    np.savez(
        tmp_path / "data.npz",
        x=random.random((1000, 32, 32, 3), np.float32),
        y=random.integers(0, 2, 1000),
    )
    arguments = ["evaluate", "large.keras", "--data", "data.npz", "--attack", "pgd:0.1,steps=500"]
    arguments += ["--batch-size", "16", "--report", "report.html", "--json"]
    reading, terminal = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    ) as process:
        os.close(terminal)
        shown = read_until(reading, b"samples")
        process.send_signal(signal.SIGINT)
        asked = time.monotonic()
        shown += read_until(reading, b"interrupted")
        assert process.wait(timeout=60) == 130
        assert time.monotonic() - asked < 30.0
        assert process.stdout is not None
        assert process.stdout.read() == b""
    os.close(reading)
    assert b"evaluating" in shown
    assert b"nnprune: error: interrupted" in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.npz", "large.keras"]


def read_until(reading: int, words: bytes) -> bytes:
    """Read what a terminal shows until some words come, for two minutes at most."""
    shown = b""
    deadline = time.monotonic() + 120
    while words not in shown and time.monotonic() < deadline:
        if select.select([reading], [], [], 1.0)[0]:
            try:
                shown += os.read(reading, 4096)
            except OSError:  # the process has ended: what it showed is all there is
                break
    return shown
