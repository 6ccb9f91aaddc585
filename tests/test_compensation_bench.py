"""benches/compensation: its judge against `nnprune.compare`, its journal, goals and page."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import nnprune
import numpy as np
import pytest

_BENCHES = Path(__file__).resolve().parents[1] / "benches"
if not _BENCHES.is_dir():
    pytest.skip("needs the benchmarks of the repository", allow_module_level=True)
sys.path[:0] = [str(_BENCHES), str(_BENCHES / "models")]

from compensation import ours, run  # noqa: E402
from compensation.chain import read_chain  # noqa: E402
from compensation.goals import fixed_goals, rival_goals  # noqa: E402
from compensation.journal import Journal  # noqa: E402
from compensation.judged import judge_table, judged_runs  # noqa: E402
from compensation.methods import Method, methods  # noqa: E402
from compensation.page import model_table, write_page  # noqa: E402
from compensation.recorded import Recorded, Values  # noqa: E402
from compensation.run import ORIGINAL, measure_model  # noqa: E402
from compensation.settings import MODELS, QUICK  # noqa: E402
from compensation.subjects import Subject  # noqa: E402

SETTINGS = replace(QUICK, samples=400, runs=2)
MNIST = next(model for model in MODELS if model.name == "mnist")
CREDIT = next(model for model in MODELS if model.name == "creditcard")


def cell(method: str, ratio: float | None, correct: int, *, seed: int = 0) -> dict[str, Any]:
    """Return a cell of the MNIST model with so many of a thousand samples right."""
    robust = {"0.01": correct - 100, "0.05": correct - 200}
    measured = {"samples": 1000, "attacked": 1000, "correct": correct, "balanced": correct / 1000}
    return {
        "model": "mnist",
        "method": method,
        "seed": seed,
        "ratio": ratio,
        "given": {"model": "fingerprint", "samples": 1000},
        "measured": measured | {"robust": robust},
    }


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Return a journal with the original, a rival and ours."""
    found = Journal(tmp_path / "results" / "full.jsonl")
    found.add(cell(ORIGINAL, None, 980))
    for seed, correct in enumerate((940, 960)):
        found.add(cell("ours", 0.5, correct, seed=seed))
    found.add(cell("neuron_merging", 0.5, 955))
    found.add(cell("folding", 0.5, 900))
    found.add(cell("folding", 0.7, 800))
    return found


@pytest.mark.parametrize("method", [nnprune.OneShot(), nnprune.Annealing()])
def test_the_judge_counts_what_compare_counts(
    data_folder: Path, method: nnprune.options.Method
) -> None:
    subject = Subject(CREDIT, SETTINGS)
    smaller = nnprune.prune(
        subject.model, target=0.7, method=method, input_bounds=subject.box
    ).model
    evaluation = nnprune.compare(
        {"smaller": smaller},
        subject.data.x_test[:400],
        subject.data.y_test[:400],
        original=subject.model,
        attacks=[nnprune.FGSM((0.01, 0.05))],
        input_bounds=subject.box,
        task="classification",
    )
    for chain, model in zip((subject.chain, read_chain(smaller)), evaluation.models, strict=True):
        found = subject.measure(chain)
        assert found["correct"] / 400 == pytest.approx(model["quality"]["accuracy"]["value"])
        expected = [at["white_box"]["value"] for at in model["robustness"][0]["points"]]
        assert [count / 400 for count in found["robust"].values()] == pytest.approx(expected)
        frauds = subject.data.y_test[:400] == 1
        said = chain.logits(subject.data.x_test[:400])[:, 0] >= 0
        assert found["recall"] == pytest.approx(said[frauds].mean())


def test_a_run_that_was_stopped_goes_on(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "quick.jsonl"
    chosen = [method for method in methods(SETTINGS) if method.name in ("lbyl", "folding")]
    measure_model(CREDIT, chosen, SETTINGS, Journal(path))
    lines = path.read_text().splitlines()
    assert len(lines) == 1 + 3 + 2 * 3  # the original; a method that draws nothing; one that does
    path.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:20])
    begun: list[tuple[str, int]] = []
    measure_run = run._measure_run

    def counted(subject: Subject, method: Method, seed: int, known: Journal) -> None:
        before = path.read_text()
        measure_run(subject, method, seed, known)
        if path.read_text() != before:
            begun.append((method.name, seed))

    monkeypatch.setattr(run, "_measure_run", counted)
    measure_model(CREDIT, chosen, SETTINGS, Journal(path))
    assert begun == [("folding", 1)]
    again = [json.loads(line) for line in path.read_text().splitlines()]
    assert again[:-1] == [json.loads(line) for line in lines[:-1]]
    assert again[-1]["measured"] == json.loads(lines[-1])["measured"]


def test_training_inputs_are_drawn_from_the_training_set(data_folder: Path) -> None:
    subject = Subject(CREDIT, SETTINGS)
    known = {row.tobytes() for row in subject.data.x_train}
    first, again, other = (subject.training_inputs(128, seed) for seed in (0, 0, 1))
    assert first.shape == (128, *subject.model.input_shape[1:])
    assert {row.tobytes() for row in first} <= known
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_restarts_of_two_runs_share_no_seed(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = Subject(CREDIT, SETTINGS)
    smaller = nnprune.prune(subject.model, target=0.5, method=nnprune.OneShot())
    asked: list[dict[str, Any]] = []

    def prune(model: object, **options: Any) -> list[Any]:
        assert model is subject.model
        asked.append(options)
        return [smaller] * len(options["targets"])

    monkeypatch.setattr(nnprune, "prune", prune)
    for seed in (0, 1):
        chains = ours.compensated(subject, (0.5, 0.7), seed, restarts=8, inputs=16)
        assert [chain.widths for chain in chains] == [(32, 32)] * 2
    seeds = [set(range(one["seed"], one["seed"] + one["restarts"])) for one in asked]
    assert not seeds[0] & seeds[1]
    assert [len(one["representative_inputs"]) for one in asked] == [16, 16]
    assert asked[0]["layers"] == ["hidden_1", "hidden_2"]


def test_a_cell_holds_for_what_it_was_given(journal: Journal) -> None:
    names = {"model": "mnist", "method": "folding", "seed": 0, "ratio": 0.7}
    given = {"model": "fingerprint", "samples": 1000}
    assert journal.find(names, given) is not None
    assert journal.find(names, given | {"samples": 999}) is None
    assert journal.find(names | {"seed": 1}, given) is None


def test_a_later_cell_supersedes(journal: Journal, tmp_path: Path) -> None:
    journal.add(cell("folding", 0.7, 810))
    again = Journal(tmp_path / "results" / "full.jsonl")
    assert [one["measured"]["correct"] for one in again.of("mnist", "folding", 0.7)] == [810]


def test_mean_and_deviation_over_seeds() -> None:
    values = Values([0.9, 0.92, 0.97])
    assert values.mean == pytest.approx(0.93)
    assert values.deviation == pytest.approx(0.036055512)
    assert values.text() == "93.0 ± 3.6"
    assert Values([0.5]).text() == "50.0"


def test_goals_are_judged_by_the_mean(journal: Journal) -> None:
    recorded = Recorded(journal)
    accuracy, robust = fixed_goals(recorded)
    assert (accuracy.needed, accuracy.reached) == pytest.approx((0.95, 0.95))
    assert (accuracy.verdict, accuracy.polished) == ("met", None)
    assert (robust.needed, robust.reached) == pytest.approx((0.75 * 0.78, 0.75))
    (rival,) = rival_goals(recorded, MNIST, methods(SETTINGS), "accuracy")
    assert (rival.by, rival.needed, rival.verdict) == ("Neuron Merging", 0.955, "missed")


def test_a_polish_may_meet_what_a_refit_misses(journal: Journal) -> None:
    journal.add(cell("ours_polished", 0.5, 970))
    (rival,) = rival_goals(Recorded(journal), MNIST, methods(SETTINGS), "accuracy")
    assert (rival.polished, rival.verdict) == (0.97, "met, polished")


def test_the_judge_is_held_to_the_truth(journal: Journal) -> None:
    for seed, (correct, agreement) in enumerate([(700, 0.6), (800, 0.7), (900, 0.8), (890, 0.81)]):
        found = cell("ours", 0.8, correct, seed=seed)
        found["measured"]["agreement"] = agreement
        journal.add(found)
    recorded = Recorded(journal)
    runs = judged_runs(recorded, MNIST, 0.8, methods(SETTINGS))
    expected = np.corrcoef([[run.agreement, run.accuracy] for run in runs], rowvar=False)[0, 1]
    (line,) = judge_table(recorded, [MNIST], methods(SETTINGS)).splitlines()[2:]
    cells = [each.strip() for each in line.strip("|").split("|")]
    assert cells[:4] == ["MNIST", "80%", "4", f"{expected:.2f}"]
    assert cells[-3:] == ["89.0", "82.2", "90.0"]


def test_the_table_shows_what_is_there(journal: Journal, tmp_path: Path) -> None:
    peer = tmp_path / "peer.json"
    points = [{"target": 0.5, "measured": cell("", 0.5, 600)["measured"]}]
    theirs = {"given": {"model": "fingerprint"}, "result": {"theirs": {"points": points}}}
    peer.write_text(json.dumps({"cells": {"mnist/0": theirs}}))
    recorded = Recorded(journal, peer)
    table = model_table(recorded, MNIST, methods(SETTINGS), ("accuracy", "robust 0.05"))
    lines = table.splitlines()
    assert lines[0] == "| method | runs | 50% | 70% | 80% | CPU s |"
    assert lines[2].startswith("| original |  | 98.0 / 78.0 |")
    public = "| the public implementation | 1 | 60.0 / 40.0 | not reached | not reached |"
    assert any(line.startswith(public) for line in lines)
    assert "| Model Folding | 1 | 90.0 / 70.0 | 80.0 / 60.0 | – | – |" in lines  # noqa: RUF001
    assert not any(line.startswith("| LBYL") for line in lines)


def test_the_page_is_written_from_the_journal(journal: Journal, tmp_path: Path) -> None:
    recorded = Recorded(journal, tmp_path / "none.json")
    page, figure = write_page(recorded, methods(SETTINGS), tmp_path)
    text = page.read_text()
    assert "| MNIST, no data | 50% | 95.0 | 95.0 | – | met |" in text  # noqa: RUF001
    assert "not reached | not reached | not reached" in text
    assert "## Credit card" not in text
    assert "(compensation/accuracy.svg)" in text
    assert figure == tmp_path / "compensation" / "accuracy.svg"
    assert "Folding at 70 %: 80.0 %" in figure.read_text()
