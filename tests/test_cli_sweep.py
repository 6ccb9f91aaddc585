"""`nnprune sweep` on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from nnprune import cli
from report_page import check_page
from sweep_helpers import DIGITS


def run(*arguments: object) -> int:
    return cli.run(["sweep", *map(str, arguments)])


def test_the_command_line_sweeps_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: list[object] = [
        "--targets",
        "1/2",
        "--seeds",
        "0-1,4",
        "--methods",
        "annealing,one-shot",
    ]
    options += ["--step", "1/8", "--input-bounds", "0", "1", "--jobs", "1"]
    options += ["--journal", tmp_path / "sweep.jsonl", "--report", tmp_path / "sweep.html"]
    assert run(DIGITS, *options, "--json") == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert captured.err == ""
    assert len(document["cells"]) == 7
    assert [cell["seed"] for cell in document["cells"][1:4]] == [0, 1, 4]
    assert {cell["method"]["name"] for cell in document["cells"][1:]} == {"annealing", "one_shot"}
    assert (document["step"], document["input_box"]["source"]) == (0.125, "given")
    check_page((tmp_path / "sweep.html").read_text())

    assert run(DIGITS, *options) == 1
    assert "--overwrite" in capsys.readouterr().err
    size = (tmp_path / "sweep.jsonl").stat().st_size
    assert run(DIGITS, *options, "--overwrite") == 0
    assert (tmp_path / "sweep.jsonl").stat().st_size == size
    printed = capsys.readouterr().out
    assert "one-shot" in printed
    assert "report written to" in printed


def test_a_failed_cell_makes_the_command_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise MemoryError("no room")

    options = ["--targets", "0.5", "--jobs", "1", "--journal", tmp_path / "sweep.jsonl"]
    with monkeypatch.context() as patch:
        patch.setattr("nnprune.pruning.prune.prune", failing)
        assert run(DIGITS, *options) == 1
    assert "! annealing, target 0.5, seed 0: MemoryError: no room" in capsys.readouterr().out
    assert run(DIGITS, *options, "--quiet") == 1
    assert run(DIGITS, *options, "--quiet", "--retry-failed") == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--targets", "many"], "--targets"),
        (["--targets", ","], "targets"),
        (["--targets", "0.5", "--seeds", "-1"], "--seeds"),
        (["--targets", "0.5", "--seeds", "5-1"], "5-1"),
        (["--targets", "0.5", "--seeds", "0-9999999999"], "0-9999999999"),
        (["--targets", "0.5", "--seeds", "1.5"], "1.5"),
        (["--targets", "0.5", "--methods", "best"], "best"),
        (["--targets", "0.5", "--report", "sweep.pdf"], ".html"),
        (["--targets", "0.5", "--jobs", "0"], "jobs"),
        (["--targets", "0.5", "--scale", "1/255"], "scale"),
    ],
)
def test_wrong_usage_is_one_clear_line(
    options: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(DIGITS, *options) != 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1
    assert word in captured.err
