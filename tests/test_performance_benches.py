"""What the benchmarks of speed count, fit and make: nothing here is timed."""

from __future__ import annotations

import math
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnprune import _core

_BENCHES = Path(__file__).resolve().parents[1] / "benches"
if not _BENCHES.is_dir():
    pytest.skip("needs the benchmarks of the repository", allow_module_level=True)
sys.path.insert(0, str(_BENCHES))

import growth  # noqa: E402
import head  # noqa: E402
import paper_pace  # noqa: E402
import products  # noqa: E402
from paper_pace import Epoch, Shapes  # noqa: E402
from speed.dense import layer_names, network_of, size_of, warm_up, weights_out  # noqa: E402
from speed.memory import Growth  # noqa: E402

SMALL = Fraction(1, 64)


def answer(seconds: float, elements: tuple[float, ...] = (1.0, 2.0, 3.0)) -> dict[str, Any]:
    """Return what a process answers that took so long."""
    return {"wall": seconds, "cpu": 2 * seconds, "elements": list(elements), "bytes": "a"}


def test_a_product_counts_its_multiplications_and_additions_and_one_triangle_of_a_gram() -> None:
    assert products.operations("product:3x5x7") == 2 * 3 * 5 * 7
    # Each of the 4 * 5 / 2 elements of the triangle is a sum of 6 products.
    assert products.operations("gram:6x4") == 10 * 2 * 6
    for wrong in ("gram:6x4x2", "product:3x5", "sum:3x5"):
        with pytest.raises(ValueError, match="expected gram"):
            products.operations(wrong)


def test_rates_are_compared_with_numpy_on_as_many_threads() -> None:
    taken = {("numpy", 1): 4.0, ("numpy", 2): 2.0, ("gemm", 1): 8.0, ("gemm", 2): 5.0}
    rows = [
        products.row_of("gram:6x4", "f64", engine, threads, [answer(seconds), answer(2 * seconds)])
        for (engine, threads), seconds in taken.items()
    ]
    found = {(row["engine"], row["threads"]): row for row in products.compared(rows)}
    assert found["gemm", 1]["gflops"] == pytest.approx(120 / 8 / 1e9)
    assert found["gemm", 1]["of_numpy"] == pytest.approx(4 / 8)
    assert found["gemm", 2]["of_numpy"] == pytest.approx(2 / 5)
    assert found["gemm", 2]["speed_up"] == pytest.approx(8 / 5)
    assert found["gemm", 2]["same_bytes"]
    assert "0.40" in products.table([found["gemm", 2]])
    (alone,) = (row for row in products.compared(rows[1::2]) if row["engine"] == "gemm")
    assert alone["of_numpy"] == pytest.approx(2 / 5)
    assert alone["speed_up"] is None


def test_a_wrong_product_has_no_rate() -> None:
    right = products.row_of("gram:6x4", "f64", "numpy", 1, [answer(1.0)])
    wrong = products.row_of("gram:6x4", "f64", "gemm", 1, [answer(1.0, (1.0, 2.0, 3.001))])
    products.check_elements([right, right], "f64")
    with pytest.raises(SystemExit, match="gemm on gram:6x4"):
        products.check_elements([right, wrong], "f64")


def test_a_head_is_the_same_each_time_and_of_the_scale() -> None:
    arrays, again = head.head_of(SMALL), head.head_of(SMALL)
    widths = head.widths_at(SMALL)
    assert widths == (392, 64, 64, 15)
    for number, shape in enumerate(pairwise(widths)):
        assert arrays[f"kernel{number}"].shape == shape
        assert arrays[f"bias{number}"].shape == shape[1:]
    assert all(array.dtype == np.float32 for array in arrays.values())
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)


def test_a_head_has_uneven_units_near_copies_and_a_decaying_spectrum() -> None:
    kernel = head.head_of(SMALL)["kernel0"].astype(np.float64)
    norms = np.linalg.norm(kernel, axis=0)
    assert np.std(np.log(norms)) > 0.3
    cosines = (kernel / norms).T @ (kernel / norms) - np.eye(len(norms))
    assert np.sum(cosines.max(axis=0) > 0.99) >= 2 * (len(norms) // head.COPIES) - 2
    assert np.sum(cosines.max(axis=0) > 0.99) < len(norms) / 2
    values = np.linalg.svd(kernel / norms, compute_uv=False)
    assert values[0] > 2 * np.median(values)


def test_samples_of_a_head_are_sparse_and_in_the_box() -> None:
    upper = head.head_of(SMALL)["upper"]
    drawn = head.samples_of(upper, 200)
    assert drawn.shape == (200, len(upper))
    assert drawn.dtype == np.float32
    assert np.all((drawn >= 0) & (drawn <= upper))
    assert 0.55 < np.mean(drawn == 0) < 0.65


def test_a_head_is_made_once_and_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "CACHE", tmp_path)
    folder = head.cached(SMALL)
    made = head.head_of(SMALL)

    def written(*_: object) -> None:
        raise AssertionError("made a second time")

    monkeypatch.setattr(np, "save", written)
    assert head.cached(SMALL) == folder
    read = head.read(folder)
    assert read.keys() == made.keys()
    assert all(np.array_equal(read[name], made[name]) for name in made)


def test_a_time_is_compared_with_the_median_of_numpys() -> None:
    grams = {"float32": [{"wall": wall, "cpu": 2 * wall} for wall in (1.0, 9.0, 2.0)]}
    found = head.ratios({"wall": 6.0, "cpu": 6.0}, grams)
    assert found == {"float32": {"wall": 3.0, "cpu": 1.5}}


@given(power=st.floats(-3, 3), factor=st.floats(1e-6, 1e6), count=st.integers(2, 8))
def test_the_slope_of_a_power_is_its_exponent(power: float, factor: float, count: int) -> None:
    sizes = [10.0 * 2**number for number in range(count)]
    values = [factor * size**power for size in sizes]
    assert growth.slope(sizes, values) == pytest.approx(power, abs=1e-6)


def test_a_slope_leaves_out_what_has_no_logarithm() -> None:
    assert growth.slope([1, 2, 4], [3.0, -1.0, 12.0]) == pytest.approx(1.0)
    assert math.isnan(growth.slope([1, 2, 4], [0.0, -1.0, 12.0]))


def test_slopes_are_fitted_over_the_larger_sizes() -> None:
    assert list(growth.larger_half([1, 2, 3, 4, 5, 6, 7, 8])) == [5, 6, 7, 8]
    assert list(growth.larger_half([1, 2, 3, 4])) == [2, 3, 4]
    assert list(growth.larger_half([1, 2])) == [1, 2]


def test_costs_are_differences_over_merges_and_candidates_between() -> None:
    found = growth.costs(growth.Sizes(inputs=6, width=32, depth=2, outputs=3), repeat=1)
    assert found["merges"] == 2 * (16 - 8)
    assert found["candidates"] > 0


def test_memory_may_grow_as_the_trace_does() -> None:
    row = {"peak": 1 << 24, "trace": 0}
    page = growth.PAGES
    assert growth.within_trace([row, row | {"peak": (1 << 24) + page}])
    assert not growth.within_trace([row, row | {"peak": (1 << 24) + page + 1}])
    assert growth.within_trace([row, {"peak": (1 << 24) + 2 * page, "trace": page}])
    assert growth.within_trace([row, row | {"peak": None}]) is None


def test_a_trace_is_as_large_as_its_numbers_and_names() -> None:
    trace = [{"units": {"dense": 3}, "impact_lower": np.zeros(5), "energy": 0.5}]
    names = len("units" + "dense" + "impact_lower" + "energy")
    assert growth.trace_bytes(trace) == names + 8 * (1 + 5 + 1)


def chain(*widths: int) -> list[Any]:
    """Return weights of a chain of dense layers."""
    return growth.weights_of(growth.Sizes(widths[0], widths[1], len(widths) - 2, widths[-1]))


def test_a_run_is_counted_by_its_live_units() -> None:
    shapes = Shapes(widths=(5, 4, 3, 2), before=7)
    epochs = [
        Epoch(live=(4, 3), removed=(1, 1), candidates=8),
        Epoch(live=(3, 2), removed=(0, 1), candidates=4),
    ]
    count = paper_pace.operations(shapes, epochs)
    assert count["gram"] == 4 * 5 * 5 + 3 * 4 * 4
    # One merge in front of the second layer, which had three units.
    assert count["updates"] == 2 * 3 * 4
    # Of the second epoch nothing: the last kernel is the Jacobian's beginning.
    assert count["jacobian"] == 4 * 2 * (4 * 3)
    first = 4 * (6 * 5 + 4 * 2) + 4 * (6 * 4 + 4 * 2)
    assert count["candidates"] == first + 4 * (6 * 3 + 4 * 2)
    behind = 4 * (4 * 3 + 3 * 2) + 4 * (3 * 2) + 4 * (2 * 2)
    assert count["bounds"] == 4 * (7 + 5 * 4 + 4 * 3 + 3 * 2) + behind
    assert count["impact"] == behind
    passes = (5 * 4 + 4 * 3 + 3 * 2) + (5 * 3 + 3 * 2 + 2 * 2)
    assert paper_pace.weight_bytes(shapes, epochs) == 4 * passes
    found = paper_pace.bound(shapes, epochs, {"operations": 1e3, "bytes": 1e2})
    assert found["seconds"] == pytest.approx(sum(count.values()) / 1e3 + 4 * passes / 1e2)


def test_epochs_and_shapes_are_read_from_a_run() -> None:
    network = network_of(chain(6, 8, 8, 3))
    shapes = paper_pace.shapes_of(network)
    assert shapes == Shapes(widths=(6, 8, 8, 3), before=0)
    pruning = growth.pruned(network, 6, growth.Case(target=0.5, step=0.25, pool=4))
    epochs = paper_pace.epochs_of(shapes.widths[1:-1], pruning.trace)
    assert [epoch.live for epoch in epochs] == [(8, 8), (6, 6)]
    assert [epoch.removed for epoch in epochs] == [(2, 2), (2, 2)]
    assert [epoch.candidates for epoch in epochs] == [e["candidates"] for e in pruning.trace]


def test_only_a_chain_is_counted() -> None:
    builder = _core.NetworkBuilder()
    builder.input("x", [3])
    builder.dense("hidden", "x", np.ones((3, 4), np.float32))
    builder.dense("left", "hidden", np.ones((4, 2), np.float32))
    builder.dense("right", "hidden", np.ones((4, 2), np.float32))
    builder.add("sum", ["left", "right"])
    with pytest.raises(ValueError, match="layer hidden: expected a chain"):
        paper_pace.shapes_of(builder.build(["sum"]))


def document(**changes: Any) -> dict[str, Any]:
    """Return what a run of the public implementation wrote that was cut off in its third epoch."""
    epochs = [{"cpu_seconds": 3.0}, {"cpu_seconds": 8.0}]
    written = {"step": 1 / 32, "bounded": True, "cpu_seconds": 10.0, "epochs": epochs}
    return written | {"stopped_by": "limit"} | changes


def test_a_run_that_was_cut_off_is_extrapolated_and_says_so() -> None:
    found = paper_pace.run_of(document())
    assert (found["epochs"], found["epochs_done"]) == (26, 2)
    assert found["seconds"] == pytest.approx(8 / 2 * 26)
    assert found["extrapolated"]
    whole = paper_pace.run_of(document(bounded=False))
    assert (whole["seconds"], whole["extrapolated"], whole["at_least"]) == (10.0, False, False)
    none = paper_pace.run_of(document(epochs=[]))
    assert (none["seconds"], none["extrapolated"], none["at_least"]) == (10.0, False, True)


def test_a_chain_of_arrays_is_the_network() -> None:
    weights = chain(4, 5, 5, 3)
    network = network_of(weights)
    values = np.random.default_rng(0).random((1, 4))
    expected = values
    for number, (kernel, bias) in enumerate(weights):
        expected = expected @ kernel + bias
        if number < 2:
            expected = np.maximum(expected, 0)
    np.testing.assert_allclose(network.evaluate([values[0]])[0], expected[0], rtol=1e-6)
    assert [group.layer for group in network.groups] == layer_names(3)
    out = weights_out(network)
    assert sum(array.nbytes for arrays in out for array in arrays.values()) == size_of(weights)
    warm_up()


def test_growth_of_memory_sees_what_was_held_in_between() -> None:
    grown = Growth()
    np.ones(4 << 20)
    if grown.bytes is None:
        pytest.skip("this system does not tell the peak of a process")
    assert grown.bytes >= 0.9 * (32 << 20)
