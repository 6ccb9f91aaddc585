"""The papers' experiments: the stages on the digits model, and the page from small results."""

from __future__ import annotations

import base64
import io
import json
import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

import keras
import nnprune
import numpy as np
import pytest

_BENCHES = Path(__file__).resolve().parents[1] / "benches"
if not _BENCHES.is_dir():
    pytest.skip("needs the benchmarks of the repository", allow_module_level=True)
sys.path[:0] = [str(_BENCHES), str(_BENCHES / "models")]

from paper import ablation, curves, differences, run  # noqa: E402
from paper.demonstration import show  # noqa: E402
from paper.page import build_page  # noqa: E402
from paper.picture import picture  # noqa: E402
from paper.png import data_url, png  # noqa: E402
from paper.recorded import Recorded, Spread  # noqa: E402
from paper.results import Cells, Clock  # noqa: E402
from paper.settings import QUICK, model_named  # noqa: E402
from paper.timing import time_pruning  # noqa: E402
from paper.verdicts import standing  # noqa: E402
from paper.workbench import Workbench, shares_to  # noqa: E402

STEP = Fraction(1, 8)
MODEL = replace(model_named("mnist"), layers="64-128-96-64-10", step=STEP)
TINY = replace(QUICK, seeds=2, every=0.4, ablation_models=("mnist",), ablation_seeds=1)


@pytest.fixture(scope="module")
def bench() -> Workbench:
    """Return the digits model on the bench, with a hundred images."""
    files = resources.files("nnprune") / "demo_files"
    with (
        resources.as_file(files / "digits.keras") as path,
        resources.as_file(files / "digits.npz") as data,
        np.load(data) as samples,
    ):
        model = keras.saving.load_model(path)
        x, y = samples["x_test"][:100] / 16, samples["y_test"][:100]
    return Workbench(model, x, y, np.zeros(x.shape[1:]), np.ones(x.shape[1:]), batch=64)


def cells_in(folder: Path, *, minutes: float = 10.0, stage: str = "curves") -> Cells:
    """Return the results of a stage of a quick run in a folder."""
    path = folder / "quick" / f"{stage}.json"
    return Cells(path, mode="quick", command="make paper", clock=Clock(minutes=minutes))


@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
def test_replayed_merges_compute_what_the_pruned_model_computes(
    bench: Workbench, share: float
) -> None:
    result = bench.prune(nnprune.Annealing(), step=STEP, target=share, seed=3)
    bench.replay(result.merges, bench.removed(share))
    logits = bench.logits(bench.x).astype(np.float64)
    expected = result.model.predict(bench.x, verbose=0)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        shares / shares.sum(axis=1, keepdims=True), expected, rtol=1e-3, atol=1e-5
    )


def test_the_bench_counts_what_supervised_pruning_counts(bench: Workbench) -> None:
    result = nnprune.prune(
        bench.model, target=0.5, step=0.25, evaluate=(bench.x, bench.y), input_bounds=bench.box
    )
    for share, evaluation in (
        (0.0, result.original_evaluation),
        (0.5, result.trace[-1].evaluation),
    ):
        assert evaluation is not None
        bench.replay(result.merges, bench.removed(share))
        measured = bench.measure()
        assert measured["correct"] == evaluation.accuracy.count
        robust = [point.instances.count for point in evaluation.robust]
        assert list(measured["robust"].values()) == robust


def test_mean_recall_weighs_every_class_alike(bench: Workbench) -> None:
    bench.replay((), {})
    said = bench.classes(bench.x)
    recall = [np.mean(said[bench.y == label] == label) for label in range(10)]
    assert bench.measure()["balanced"] == pytest.approx(np.mean(recall))


def test_the_original_comes_back_after_other_weights(bench: Workbench) -> None:
    bench.replay((), {})
    before = bench.logits(bench.x)
    last = bench.dense[-1]
    weights = {
        f"{layer.name}/{index}": weight
        for layer in bench.dense
        for index, weight in enumerate(layer.get_weights())
    }
    bench.take(weights | {f"{last.name}/1": weights[f"{last.name}/1"] + 1})
    np.testing.assert_allclose(bench.logits(bench.x), before + 1, rtol=1e-5, atol=1e-5)
    bench.replay((), {})
    np.testing.assert_array_equal(bench.logits(bench.x), before)


def test_points_end_at_the_target() -> None:
    assert shares_to(0.25) == [0.25, 0.5, 0.75, 0.8]
    assert shares_to(0.1) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]


def test_curves_are_measured_for_every_method_and_seed(bench: Workbench, tmp_path: Path) -> None:
    curves.measure_model(MODEL, TINY, cells_in(tmp_path), bench)
    found = Recorded(tmp_path).curves("mnist")
    assert {name: len(curve.runs) for name, curve in found.items()} == {
        "annealing": 2,
        "greedy": 1,
        "one_shot": 1,
    }
    curve = found["annealing"]
    assert curve.shares() == [0.4, 0.8]
    assert curve.index_at(0.8) == 1
    assert curve.index_at(0.5) is None
    # What was counted is what a pruning to the same end gives.
    result = bench.prune(nnprune.OneShot(), step=STEP, target=0.8)
    right = np.argmax(result.model.predict(bench.x, verbose=0), axis=1) == bench.y
    assert found["one_shot"].values(1, "accuracy") == [np.mean(right)]


def test_a_stopped_run_resumes_where_it_was(tmp_path: Path) -> None:
    cells = cells_in(tmp_path)
    assert cells.measure("mnist/a", {"seed": 1}, lambda: {"found": 1}) == {"found": 1}
    again = cells_in(tmp_path)
    assert again.measure("mnist/a", {"seed": 1}, lambda: {"found": 2}) == {"found": 1}
    # Other settings, another measurement.
    assert again.measure("mnist/a", {"seed": 2}, lambda: {"found": 3}) == {"found": 3}
    assert not list(tmp_path.rglob("*.part"))


def test_nothing_is_begun_when_the_time_is_over(tmp_path: Path) -> None:
    cells = cells_in(tmp_path, minutes=0.0)
    assert cells.measure("mnist/a", {}, lambda: {"found": 1}) is None
    assert cells.skipped == ["mnist/a"]
    assert not list(tmp_path.rglob("*.json"))


def test_the_ablation_measures_every_variant(bench: Workbench, tmp_path: Path) -> None:
    ablation.measure_variants(MODEL, TINY, cells_in(tmp_path, stage="ablation"), bench)
    found = Recorded(tmp_path).cells("ablation", "mnist")
    assert {name.partition("/")[0] for name in found} == set(ablation.VARIANTS)
    counts = {name: cell["result"]["0.8"]["correct"] for name, cell in found.items()}
    assert len(set(counts.values())) > 3  # the options matter


def test_the_loop_with_both_sources_is_the_engines_greedy(bench: Workbench) -> None:
    found = differences.compare_sources(bench, STEP)
    assert found["same_as_engine"] > 0.95
    # Each alone encloses what both enclose together.
    assert all(
        quartile >= 1 - 1e-9 for quartiles in found["wider"].values() for quartile in quartiles
    )
    assert set(found["at"]) == {"intervals", "affine", "both"}


def test_timing_leaves_the_first_call_out(bench: Workbench) -> None:
    timed = time_pruning(bench, MODEL, 2)
    assert [len(timed[name]) for name in ("elapsed", "cpu", "engine")] == [2, 2, 2]
    assert timed["merges"] == 230
    assert all(0 < engine < cpu for engine, cpu in zip(timed["engine"], timed["cpu"], strict=True))


@pytest.mark.parametrize("shape", [(5, 7), (4, 6, 3)])
def test_png_files_hold_the_pixels(shape: tuple[int, ...]) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    pixels = np.random.default_rng(0).random(shape)
    with image.open(io.BytesIO(png(pixels))) as opened:
        np.testing.assert_array_equal(np.asarray(opened), np.rint(pixels * 255).astype(np.uint8))
    assert base64.b64decode(data_url(pixels).partition(",")[2]) == png(pixels)


def test_the_demonstration_is_one_valid_picture(bench: Workbench) -> None:
    names = [str(digit) for digit in range(10)]
    shown = show(bench, MODEL, 3, names, shape=(8, 8))["images"]
    assert len({image["label"] for image in shown}) == 3
    assert all(image["clean"] != image["adversarial"] for image in shown)
    for image in shown:
        label, adversarial = image["says"]["original"]
        assert label["label"] == image["label"]
        assert label["confidence"] > adversarial["confidence"] or label != adversarial
    drawn = ET.fromstring(picture([("Digits & <more>", shown)], title="Digits"))
    space = "{http://www.w3.org/2000/svg}"
    assert len(drawn.findall(f"{space}image")) == 6
    assert "Digits & <more>: test image" in "".join(drawn.itertext())


def measured(correct: int, robust: int, balanced: float = 0.9) -> dict[str, Any]:
    """Return a measurement of 1000 samples."""
    return {
        "samples": 1000,
        "correct": correct,
        "balanced": balanced,
        "robust": {"0.01": robust, "0.05": robust},
    }


def write(folder: Path, stage: str, results: Mapping[str, Any], mode: str = "quick") -> None:
    """Write results as a stage does."""
    cells = {
        name: {
            "mode": mode,
            "command": f"make paper PAPER_ARGS='--only {stage}'",
            "commit": "abc123",
            "date": "2026-11-21T10:00:00+00:00",
            "result": result,
        }
        for name, result in results.items()
    }
    path = folder / mode / f"{stage}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": cells}))


def write_curves(
    folder: Path, model: str, ours: list[int], theirs: int, mode: str = "quick"
) -> None:
    """Write curves that are flat from 20 % on: a count for each seed, one for the others."""

    def run_of(count: int) -> dict[str, Any]:
        return {"points": [{"share": share, **measured(count, count - 100)} for share in SHARES]}

    results = {f"{model}/annealing/{seed}": run_of(count) for seed, count in enumerate(ours)}
    results |= {f"{model}/{name}/0": run_of(theirs) for name in ("greedy", "one_shot")}
    write(folder, "curves", results | {f"{model}/original": measured(950, 900)}, mode)


SHARES = (0.2, 0.5, 0.7, 0.8)


@pytest.mark.parametrize(
    ("ours", "theirs", "word"),
    [
        ([910, 920, 930], 900, "above at 20, 50, 70 and 80 %"),
        ([890, 920, 930], 900, "above in the median at 20, 50, 70 and 80 %"),
        ([900, 900, 900], 900, "level at 20, 50, 70 and 80 %"),
        ([880, 890, 930], 900, "below in the median at 20, 50, 70 and 80 %"),
        ([880, 890, 895], 900, "below at 20, 50, 70 and 80 %"),
    ],
)
def test_sentences_are_chosen_by_the_numbers(
    tmp_path: Path, ours: list[int], theirs: int, word: str
) -> None:
    write_curves(tmp_path, "mnist", ours, theirs)
    page, _ = build_page(Recorded(tmp_path))
    assert f"Annealing's accuracy: against one-shot {word}; against greedy {word}." in page
    ahead = "in the median at 4 of 4 places" if "above" in word else "at 0 of 4 places"
    assert ahead in page
    assert ("points from one-shot" in page) == ("above" not in word)


def test_the_page_says_what_it_has_not(tmp_path: Path) -> None:
    page, figures = build_page(Recorded(tmp_path))
    assert "Nothing has been measured yet." in page
    assert "Not run: `.venv-peer` was not there." in page
    assert not figures


def test_tables_name_range_command_and_commit(tmp_path: Path) -> None:
    write_curves(tmp_path, "mnist", [910, 925, 930], 900)
    page, figures = build_page(Recorded(tmp_path))
    assert "| accuracy: annealing | 95.0 | 92.5 [91.0, 93.0] |" in page
    assert "| accuracy: one-shot | 95.0 | 90.0 |" in page
    assert "commit abc123, quick settings, 2026-11-21" in page
    assert set(figures) == {"curves-mnist", "improvement"}
    for drawn in figures.values():
        assert ET.fromstring(drawn).tag == "{http://www.w3.org/2000/svg}svg"


def test_the_full_run_is_shown_once_it_has_what_the_quick_one_has(tmp_path: Path) -> None:
    write_curves(tmp_path, "mnist", [910, 912], 900)
    write_curves(tmp_path, "mnist", [820], 800, mode="full")
    page, _ = build_page(Recorded(tmp_path))
    assert "91.1 [91.0, 91.2]" in page
    assert "82.0" not in page
    write_curves(tmp_path, "mnist", [820, 821, 822], 800, mode="full")
    page, _ = build_page(Recorded(tmp_path))
    assert "82.1 [82.0, 82.2]" in page
    assert "91.1" not in page
    assert "full settings" in page


def test_a_model_that_answers_always_the_same_is_called_that(tmp_path: Path) -> None:
    write_curves(tmp_path, "creditcard", [980], 980)
    page, _ = build_page(Recorded(tmp_path))
    assert "no longer tells the classes apart" not in page
    path = tmp_path / "quick" / "curves.json"
    path.write_text(path.read_text().replace('"balanced": 0.9', '"balanced": 0.5'))
    page, _ = build_page(Recorded(tmp_path))
    assert "no longer tells the classes apart after annealing (1 of 1 runs)" in page


def peer_run(seconds: float | None, correct: int = 800) -> dict[str, Any]:
    """Return a pair of runs at 50 %; the public implementation falls short if seconds is None."""
    point = {
        "target": 0.5,
        "cpu_seconds": seconds,
        "removed": 160,
        "measured": measured(correct, 300),
    }
    return {
        "theirs": {
            "stopped_by": "limit" if seconds is None else "target",
            "cpu_seconds": 400.0 if seconds is None else seconds,
            "points": [] if seconds is None else [point],
        },
        "ours": [
            {
                "target": 0.5,
                "engine_seconds": 0.1,
                "removed": 160,
                "measured": measured(820, 320),
                "one_shot": measured(700, 200),
            }
        ],
    }


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        ([peer_run(100.0)], "1,000 times the CPU time of our engine, at least 500 times as fast"),
        ([peer_run(100.0), peer_run(20.0)], "600 [200, 1,000] times"),
        ([peer_run(100.0), peer_run(20.0)], "NOT 500 times as fast in every pair"),
        ([peer_run(None)], "more than 4,000 times our engine's time for all of it"),
        ([peer_run(100.0)], "Our accuracy is above (+2.0 points)"),
        ([peer_run(100.0, correct=840)], "Our accuracy is below (-2.0 points)"),
    ],
)
def test_the_public_implementation_is_set_against_ours(
    tmp_path: Path, runs: list[dict[str, Any]], told: str
) -> None:
    write(tmp_path, "peer", {f"mnist/{number}": run for number, run in enumerate(runs)})
    page, _ = build_page(Recorded(tmp_path))
    assert told in page


def test_both_bars_of_half_pruned_are_checked(tmp_path: Path) -> None:
    write_curves(tmp_path, "mnist", [910], 900)
    write(tmp_path, "peer", {"mnist/0": peer_run(100.0, correct=840)})
    page, _ = build_page(Recorded(tmp_path))
    assert "not met on MNIST (below the public implementation)" in page
    write(tmp_path, "peer", {"mnist/0": peer_run(100.0, correct=810)})
    page, _ = build_page(Recorded(tmp_path))
    assert "met on MNIST (one-shot and the public implementation)" in page


def test_standing_and_spread() -> None:
    assert standing([0.5, 0.5002], 0.5) == "level"
    assert Spread.of([3.0, 1.0, 2.0]).text(".1f") == "2.0 [1.0, 3.0]"
    assert Spread.of([1.0]).text(".1f") == "1.0"


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_curves(tmp_path / "results", "mnist", [910], 900)
    arguments = ["--page-only", "--results", str(tmp_path / "results"), "--out", str(tmp_path)]
    run.main(arguments)
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert written[0] == tmp_path / "experiments.md"
    for figure in written[1:]:
        ET.parse(figure)
        assert f"experiments/{figure.name}" in written[0].read_text()
