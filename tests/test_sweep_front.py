"""What a sweep shows: the front that nothing beats, the table and the page."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from nnprune.options import Annealing, Method, OneShot
from nnprune.sweeping.front import groups_of, pareto_front, table
from nnprune.sweeping.grid import ORIGINAL, GridPoint, grid_of
from nnprune.sweeping.page import render
from nnprune.sweeping.record import Cell, cell_from_dict
from nnprune.sweeping.result import SweepResult
from report_page import check_page
from sweep_helpers import ABOUT, PARTS, cell_at, measured

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
