"""The parts of a sweep that need no model: grid, journal, front, tables, page, command line."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnprune import cli
from nnprune.errors import ConfigError, OutputError
from nnprune.metrics.classification import proportion
from nnprune.options import Annealing, Greedy, Method, OneShot
from nnprune.sweeping.front import groups_of, pareto_front, table
from nnprune.sweeping.grid import ORIGINAL, GridPoint, grid_of, method_label
from nnprune.sweeping.identity import fingerprint
from nnprune.sweeping.journal import Journal, header_line
from nnprune.sweeping.page import render
from nnprune.sweeping.record import Cell, cell_from_dict
from nnprune.sweeping.result import SweepResult
from nnprune.trace import RobustInstances
from report_page import Page
from sweep_helpers import DIGITS

PARTS: dict[str, Any] = {
    "nnprune": "0.1.0",
    "model": "0" * 64,
    "data": "1" * 64,
    "scale": None,
    "offset": None,
    "attacks": [{"attack": "FGSM", "kind": "fgsm", "epsilons": [0.05], "parameters": {}}],
    "step": 1 / 32,
    "outgoing": "l2",
    "input_box": {"source": "default", "lower": 0.0, "upper": 1.0, "sha256": "2" * 64},
    "layers": None,
    "exclude": None,
}
ABOUT: dict[str, Any] = {"model": "model.keras", "data": "test.npz", "samples": 20}
SWEEP = fingerprint(PARTS)


def cell_at(point: GridPoint, **figures: Any) -> Cell:
    """Return a record at a place of the grid."""
    values: dict[str, Any] = {"status": "done", "seconds": 0.5, "parameters": 10, **figures}
    return Cell(
        cell=point.identifier(SWEEP),
        target=point.target,
        seed=point.seed,
        method=point.method,
        **values,
    )


def counted(count: int) -> Any:
    return proportion(count, 20)


def measured(point: GridPoint, parameters: int, right: int, *robust: int) -> Cell:
    """Return a record with figures on 20 samples, robust instances for every epsilon."""
    found = tuple(
        RobustInstances(attack="FGSM", epsilon=0.01 * (1 + index), instances=counted(count))
        for index, count in enumerate(robust)
    )
    agreement = None if point.method is None else counted(right)
    return cell_at(
        point,
        parameters=parameters,
        accuracy=counted(right),
        agreement=agreement,
        robust=found,
        impact_width=1.5,
        weights_sha256="3" * 64,
    )


METHODS = st.one_of(
    st.builds(
        Annealing,
        alpha=st.floats(0, 1),
        density=st.sampled_from(["inclusive", "printed"]),
        pool=st.integers(1, 9),
    ),
    st.builds(Greedy, pool=st.integers(1, 9)),
    st.just(OneShot()),
)
POINTS = st.builds(
    GridPoint,
    target=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**64 - 1),
    method=METHODS,
)
FRACTIONS = st.one_of(st.none(), st.integers(0, 20).map(counted))
CELLS = POINTS.flatmap(
    lambda point: st.one_of(
        st.builds(
            lambda **figures: cell_at(point, **figures),
            parameters=st.integers(0, 10**12),
            keras_bytes=st.one_of(st.none(), st.integers(0, 10**12)),
            accuracy=FRACTIONS,
            agreement=FRACTIONS,
            robust=st.lists(
                st.builds(
                    RobustInstances,
                    attack=st.text(),
                    epsilon=st.floats(0, 1),
                    instances=st.integers(0, 20).map(counted),
                ),
                max_size=3,
            ).map(tuple),
            impact_width=st.one_of(st.none(), st.floats(0, 1e30)),
            engine_seconds=st.floats(0, 1e6),
        ),
        st.text().map(lambda error: cell_at(point, status="failed", parameters=None, error=error)),
    )
)


# --- grid ----------------------------------------------------------------------------------------


def test_the_grid_is_by_method_then_target_then_seed() -> None:
    methods: list[Method] = [Annealing(), OneShot()]
    points = grid_of([0.5, 0.25], range(2), methods, step=1 / 32, outgoing="l2")
    assert points == [
        GridPoint(target=target, seed=seed, method=method)
        for method in methods
        for target in (0.5, 0.25)
        for seed in (0, 1)
    ]


@given(st.lists(POINTS, max_size=6, unique_by=repr))
def test_identifiers_are_of_the_place_and_of_the_sweep(points: list[GridPoint]) -> None:
    points = [ORIGINAL, *points]
    found = {point.identifier(sweep) for point in points for sweep in (SWEEP, "4" * 64)}
    assert len(found) == 2 * len(points)
    assert all(re.fullmatch("[0-9a-f]{64}", one) for one in found)


@given(METHODS, METHODS)
def test_methods_that_differ_are_called_differently(one: Any, other: Any) -> None:
    assert (method_label(one) == method_label(other)) == (one == other)


def test_every_part_counts_in_the_fingerprint() -> None:
    changed = [fingerprint({**PARTS, name: "another"}) for name in PARTS]
    assert len({SWEEP, *changed}) == len(PARTS) + 1


# --- journal -------------------------------------------------------------------------------------


@given(CELLS)
def test_a_record_survives_the_journal(cell: Cell) -> None:
    assert cell_from_dict(json.loads(json.dumps(cell.to_dict(), allow_nan=False))) == cell


def test_a_journal_gives_back_what_was_appended(tmp_path: Path) -> None:
    path = tmp_path / "sweep.jsonl"
    points = grid_of([0.5], range(3), [Annealing()], step=1 / 32, outgoing="l2")
    first = [measured(point, 5, 4, 3) for point in points]
    journal = Journal(path, PARTS, ABOUT)
    for cell in first:
        journal.append(cell)
    later = dataclasses.replace(first[1], parameters=6)
    journal.append(later)
    journal.close()
    opened = Journal(path, PARTS, ABOUT)
    opened.close()
    assert list(opened.cells.values()) == [first[0], later, first[2]]
    header, *lines = path.read_text().splitlines()
    assert json.loads(header)["sweep"] == SWEEP
    assert json.loads(header)["about"] == ABOUT
    assert len(lines) == 4


def test_a_journal_that_is_cut_at_any_byte_loses_one_cell_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # thousands of them take their time
    path = tmp_path / "sweep.jsonl"
    points = grid_of([0.5], range(2), [OneShot()], step=1 / 32, outgoing="l2")
    cells = [cell_at(point, error="naïve") for point in points]
    journal = Journal(path, PARTS, ABOUT)
    for cell in cells:
        journal.append(cell)
    journal.close()
    whole = path.read_bytes()
    starts = [0, *(at + 1 for at, byte in enumerate(whole) if byte == ord("\n"))]
    for length in (*range(starts[1] + 1), *range(starts[2], len(whole))):
        path.write_bytes(whole[:length])
        opened = Journal(path, PARTS, ABOUT)
        kept = max(0, sum(start <= length for start in starts[1:]) - 1)
        assert list(opened.cells.values()) == cells[:kept]
        for cell in cells[kept:]:
            opened.append(cell)
        opened.close()
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nonsense",
        b"[" * 100_000,
        b"\xff\xfe",
        b"null",
        b"[]",
        b'{"cell": "a"}',
        b'{"kind": "nnprune-sweep"}',
        b"\0" * 100,
        json.dumps({**cell_at(ORIGINAL).to_dict(), "status": "odd"}).encode(),
        json.dumps({**cell_at(ORIGINAL).to_dict(), "accuracy": 0.5}).encode(),
        json.dumps({**cell_at(ORIGINAL).to_dict(), "method": {"name": "best"}}).encode(),
        json.dumps({**cell_at(ORIGINAL).to_dict(), "robust": [1]}).encode(),
        json.dumps({**cell_at(ORIGINAL).to_dict(), "more": 1}).encode(),
    ],
)
def test_a_line_that_is_no_record_is_told_and_left_alone(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "sweep.jsonl"
    cell = cell_at(ORIGINAL)
    record = json.dumps(cell.to_dict()).encode()
    content = header_line(PARTS, ABOUT) + line + b"\n" + record + b"\n"
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="1 line that no sweep has written"):
        journal = Journal(path, PARTS, ABOUT)
    journal.close()
    assert journal.cells == {cell.cell: cell}
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello", "no journal"),
        (b"hello\n", "no journal"),
        (b"[" * 100_000, "no journal"),
        (b"{}\n", "no journal"),
        (b"[1]\n", "no journal"),
        (b'{"kind": "nnprune-evaluation"}\n', "no journal"),
        (b'{"kind": "nnprune-sweep", "schema_version": 9}\n', "format 9"),
        (b'{"kind": "nnprune-sweep", "schema_version": 1}\n', "another sweep"),
        (header_line({**PARTS, "model": "5" * 64}, ABOUT), "another model"),
        (header_line({**PARTS, "data": "5" * 64}, ABOUT), "another set of samples"),
        (header_line({**PARTS, "data": None}, ABOUT), "data .there null"),
        (header_line({**PARTS, "step": 0.5}, ABOUT), "step .there 0.5, here 0.03125"),
        (header_line({**PARTS, "nnprune": "0.0.9"}, ABOUT), "nnprune .there .0.0.9"),
        (header_line({**PARTS, "step": 0.5}, ABOUT)[:-1], "another sweep"),
    ],
)
def test_another_file_is_refused_and_not_touched(
    content: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "sweep.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        Journal(path, PARTS, ABOUT)
    assert path.read_bytes() == content


def hold(path: Path, held: Any, enough: Any) -> None:
    Journal(path, PARTS, ABOUT)
    held.set()
    enough.wait(30)
    os._exit(0)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_two_sweeps_cannot_share_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "sweep.jsonl"
    context = multiprocessing.get_context("spawn")
    held, enough = context.Event(), context.Event()
    other = context.Process(target=hold, args=(path, held, enough))
    other.start()
    try:
        assert held.wait(30)
        with pytest.raises(OutputError, match="another sweep is writing"):
            Journal(path, PARTS, ABOUT)
    finally:
        enough.set()
        other.join(30)
    Journal(path, PARTS, ABOUT).close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    path = tmp_path / "sweep.jsonl"
    journal = Journal(path, PARTS, ABOUT)
    assert journal._descriptor is not None
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, journal._descriptor)
    os.close(full)
    with pytest.raises(OutputError, match="space"):
        journal.append(cell_at(ORIGINAL))
    journal.close()


def test_places_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "sweep.jsonl"):
        with pytest.raises(OutputError):
            Journal(path, PARTS, ABOUT)


# --- front and tables ----------------------------------------------------------------------------

SMALL = st.integers(0, 4)


@st.composite
def sweeps(draw: st.DrawFn) -> list[Cell]:
    """Draw a sweep's cells with few different figures, so that many are equal."""
    seeds = draw(st.integers(0, 4))
    points = [ORIGINAL]
    known: list[Method] = [Annealing(), OneShot()]
    for method in draw(st.lists(st.sampled_from(known), unique=True)):
        points += [GridPoint(target=0.5, seed=seed, method=method) for seed in range(seeds)]
    robust = draw(st.integers(0, 2))
    cells = []
    for point in points:
        if draw(st.integers(0, 5)) == 0:
            cells.append(cell_at(point, status="failed", parameters=None, error="no room"))
        else:
            figures = [draw(SMALL) for _ in range(robust)]
            cells.append(measured(point, draw(SMALL), draw(SMALL), *figures))
    return cells


def beats(one: Cell, other: Cell) -> bool:
    """Return whether a cell is better in something and worse in nothing; the slow twin."""

    def figures(cell: Cell) -> list[float]:
        assert cell.parameters is not None
        assert cell.accuracy is not None
        least = [one.instances.count for one in cell.robust]
        return [-cell.parameters, cell.accuracy.count, *([min(least)] if least else [])]

    pairs = list(zip(figures(one), figures(other), strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


@given(sweeps())
def test_the_front_is_what_nothing_beats(cells: list[Cell]) -> None:
    done = [cell for cell in cells if cell.done]
    expected = [cell for cell in done if not any(beats(other, cell) for other in done)]
    front = pareto_front(cells)
    assert {cell.cell for cell in front} == {cell.cell for cell in expected}
    assert len(front) == len(expected)
    sizes = [cell.parameters or 0 for cell in front]
    assert sizes == sorted(sizes)
    assert bool(front) == bool(done)


@given(sweeps())
def test_tables_and_pages_hold_for_any_sweep(cells: list[Cell]) -> None:
    result = SweepResult(cells=tuple(cells), parts=PARTS, about=ABOUT)
    text = result.table()
    assert len(text.splitlines()) == 2 + len(groups_of(cells)) + len(result.failed)
    assert ("! the original: no room" in text) == (not cells[0].done)
    document = json.loads(result.to_json())
    assert [cell_from_dict(one) for one in document["cells"]] == cells
    assert document["front"] == [cell.cell for cell in result.front()]
    check_page(render(cells, PARTS, ABOUT))


def check_page(html: str) -> Page:
    """Check that a browser needs nothing else for a page, and that drawings stay inside."""
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>\n")
    assert not {"script", "link", "img", "iframe", "object", "use", "image"} & set(page.tags)
    assert not re.search(r"https?:|url\(|@import|javascript:|//", html, re.IGNORECASE)
    assert "default-src 'none'" in page.values("content")[0]
    identifiers = page.values("id")
    assert len(set(identifiers)) == len(identifiers)
    assert {value.removeprefix("#") for value in page.values("href")} <= set(identifiers)
    assert page.tags.count("caption") == page.tags.count("table")
    for box, content in re.findall(r'<svg class="chart" viewBox="0 0 ([\d. ]+)"(.*?)</svg>', html):
        width, height = map(float, box.split())
        for name, value in re.findall(r' (x|x1|x2|cx|y|y1|y2|cy)="(-?[\d.]+)"', content):
            assert 0 <= float(value) <= (width if name.strip("12c") == "x" else height)
    return page


def test_the_table_tells_medians_and_ranges() -> None:
    points = grid_of([0.5], range(3), [Annealing()], step=1 / 32, outgoing="l2")
    cells = [measured(ORIGINAL, 100, 20, 20, 18)]
    cells += [
        measured(point, 40, right, right - 1, right - 2)
        for point, right in zip(points, (10, 16, 12), strict=True)
    ]
    text = table(cells)
    assert "60.0% (50.0-80.0%)" in text  # accuracy
    assert "50.0% (40.0-70.0%)" in text  # the least robust of two epsilons
    assert text.splitlines()[2].startswith("* annealing")
    page = check_page(render(cells, PARTS, ABOUT))
    assert "60.0% (50.0-80.0%)" in page.text
    assert "annealing, target 0.5, seed 1, on the front: 80.0%" in page.text
    assert "seed 0, on the front" not in page.text
    assert "3 prunings · 20 samples of test.npz" in page.text


def test_names_on_the_page_are_harmless() -> None:
    hostile = '<script>alert("1")</script>\u202e'
    cells = [cell_at(ORIGINAL, status="failed", parameters=None, error=hostile)]
    parts = {**PARTS, "layers": [hostile], "outgoing": hostile}
    page = check_page(render(cells, parts, {**ABOUT, "model": hostile, "data": hostile}))
    assert page.text.count("<script>") >= 5
    assert "\u202e" not in page.text


# --- command line --------------------------------------------------------------------------------


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
        patch.setattr("nnprune.pruning.prune", failing)
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
