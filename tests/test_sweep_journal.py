"""The grid of a sweep, and its journal: what is recorded, cut off, damaged or another's."""

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
from nnprune.errors import ConfigError, OutputError
from nnprune.options import Annealing, Greedy, Method, OneShot
from nnprune.sweeping.grid import ORIGINAL, GridPoint, grid_of, method_label
from nnprune.sweeping.identity import fingerprint
from nnprune.sweeping.journal import Journal, header_line
from nnprune.sweeping.record import Cell, cell_from_dict
from nnprune.trace import RobustInstances
from sweep_helpers import ABOUT, PARTS, SWEEP, cell_at, counted, measured

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
