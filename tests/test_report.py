"""The evaluation report: what it shows, and that a browser needs nothing else for it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import pytest
from jsonschema import Draft202012Validator
from nnprune.report import format as fmt
from nnprune.report.render import load_schema, render
from report_cases import different_attacks, every_document, traced_without_data
from report_documents import (
    EPSILONS,
    Document,
    classification,
    proportion,
    regression,
    without_data,
)
from report_page import Page

EPSILON = "\N{GREEK SMALL LETTER EPSILON}"


@every_document
def test_page_is_well_formed_and_needs_nothing_else(make: Callable[[], Document]) -> None:
    html = render(make())
    page = Page(html)
    assert html.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert not {"script", "link", "img", "iframe", "object", "use", "image"} & set(page.tags)
    assert not re.search(r"https?:|url\(|@import|javascript:|//", html, re.IGNORECASE)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert not {"src", "style", "xlink:href"} & {name for _, name, _ in page.attributes}
    policy = page.values("content")
    assert any(
        value.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
        for value in policy
    )
    html.encode()


@every_document
def test_page_is_accessible(make: Callable[[], Document]) -> None:
    page = Page(render(make()))
    identifiers = page.values("id")
    assert len(set(identifiers)) == len(identifiers)
    named = {name for value in page.values("aria-labelledby") for name in value.split()}
    assert named <= set(identifiers)
    assert {value.removeprefix("#") for value in page.values("href")} <= set(identifiers)
    charts = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "role")]
    assert set(charts) <= {"img"}
    hidden = [tag for tag, name, _ in page.attributes if name == "aria-hidden"]
    assert page.tags.count("svg") == len(charts) + hidden.count("svg")
    assert page.tags.count("desc") == len(charts)
    scoped = [value for tag, name, value in page.attributes if (tag, name) == ("th", "scope")]
    assert len(scoped) == page.tags.count("th")
    assert page.tags.count("caption") == page.tags.count("table")
    levels = [int(tag[1]) for tag in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


@every_document
def test_drawings_stay_within_their_frames(make: Callable[[], Document]) -> None:
    html = render(make())
    for box, content in re.findall(r'<svg class="chart" viewBox="0 0 ([\d. ]+)"(.*?)</svg>', html):
        width, height = map(float, box.split())
        for name, value in re.findall(r' (x|x1|x2|cx|y|y1|y2|cy)="(-?[\d.]+)"', content):
            assert 0 <= float(value) <= (width if name.strip("12c") == "x" else height)
        for points in re.findall(r'points="([^"]*)"', content):
            for pair in points.split():
                x, y = map(float, pair.split(","))
                assert 0 <= x <= width
                assert 0 <= y <= height
    assert "nan" not in re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL).lower().split()


def test_figures_to_decide_by_stand_at_the_top() -> None:
    document = classification()
    summary = Page(render(document)).text.split("Accuracy and robustness", 1)[0]
    original, pruned = document["models"]
    for model in (original, pruned):
        accuracy = model["quality"]["accuracy"]
        assert fmt.percent(accuracy["value"]) in summary
    assert fmt.interval(pruned["quality"]["accuracy"]) in summary
    assert fmt.percent(pruned["quality"]["agreement"]["value"]) in summary
    for attack in pruned["robustness"]:
        robust = fmt.percent(attack["points"][-1]["white_box"]["value"])
        assert f"Robust accuracy {attack['attack']}, {EPSILON} = 0.1 {robust}" in summary
    assert fmt.percent(pruned["calibration"]["ece"]) in summary
    assert "9,178 from 27,562 3.0\N{MULTIPLICATION SIGN} smaller" in summary
    assert "1.82\N{MULTIPLICATION SIGN} faster" in summary
    assert document["warnings"][0] in summary
    assert "B PGD-7: the gradient of 3 samples was exactly zero" in summary
    assert "2 warnings" in summary


def test_robust_accuracy_is_shown_at_the_largest_common_epsilon() -> None:
    document = classification(attacks=("FGSM",))
    document["models"][1]["robustness"][0]["points"].pop()
    summary = Page(render(document)).text.split("Accuracy and robustness", 1)[0]
    assert f"FGSM, {EPSILON} = 0.05" in summary
    assert f"FGSM, {EPSILON} = 0.1" not in summary
    for model, epsilon in zip(document["models"], EPSILONS, strict=False):
        model["robustness"][0]["points"] = [
            {**model["robustness"][0]["points"][0], "epsilon": epsilon}
        ]
    assert "Robust accuracy" not in Page(render(document)).text.split("Accuracy and rob", 1)[0]


def test_every_robust_figure_of_the_table_names_its_attack() -> None:
    document = classification()
    page = Page(render(document))
    for model in document["models"]:
        for attack in model["robustness"]:
            for point in attack["points"]:
                robust = point["white_box"]
                assert f"{robust['count']}/450" in page.text
                told = f"{attack['attack']}, {EPSILON} = {fmt.epsilon(point['epsilon'])}: "
                assert told + fmt.percent(robust["value"]) in page.text
                if point["transfer"]:
                    transfer = f"{attack['attack']}, transfer, {EPSILON} = "
                    assert transfer + fmt.epsilon(point["epsilon"]) in page.text
                    assert f"{point['retention']:.3f}" in page.text
    assert page.text.count("FGSM \N{GREEK SMALL LETTER EPSILON} = 0.0314") == 1
    assert "An attack gives an upper bound on robust accuracy" in page.text


def test_changes_only_count_where_intervals_are_apart() -> None:
    document = classification(attacks=())
    before, after = (model["quality"] for model in document["models"])
    before["accuracy"], after["accuracy"] = proportion(440), proportion(437)
    assert '<span class="change even">' in (html := render(document))
    assert "intervals overlap" in Page(html).text
    after["accuracy"] = proportion(300)
    assert "intervals apart" in Page(html := render(document)).text
    assert '<span class="change worse"><span class="told">\N{MINUS SIGN}31.1 points' in html
    before["accuracy"], after["accuracy"] = proportion(300), proportion(440)
    assert '<span class="change better"><span class="told">+31.1 points' in render(document)


def test_same_warning_of_several_models_is_told_once() -> None:
    text = Page(render(classification(pruned=3))).text
    assert text.count("the gradient of 3 samples was exactly zero") == 1
    assert "B C D PGD-7: the gradient" in text


def test_doubts_that_only_the_figures_tell_are_told() -> None:
    text = Page(render(different_attacks())).text
    assert "C the file was trusted" in text
    assert "bounds of the inputs are assumed" in text
    assert "MACs leave out layers" in text
    assert "its arithmetic is not known" in text
    document = different_attacks()
    document["warnings"] = ["the files were trusted: checks were skipped"]
    assert "the file was trusted" not in Page(render(document)).text


def test_parameters_of_an_attack_are_told_once_unless_they_differ() -> None:
    text = Page(render(different_attacks())).text
    assert "steps 20, step_size none, random_start no (models C)" in text
    assert "steps 7, step_size 0.0125, random_start yes, restarts 1, seed 0 (models B)" in text
    assert Page(render(classification())).text.count("random_start yes") == 1


def test_trajectory_is_over_the_fraction_removed() -> None:
    document = classification(attacks=("FGSM",))
    document["models"][1]["pruning"]["trace"] = trace = [
        {**epoch, "units": {"hidden": left}, "removed": removed}
        for epoch, left, removed in zip(
            document["models"][1]["pruning"]["trace"][:2], (75, 50), (25, 25), strict=True
        )
    ]
    trace[0]["evaluation"] = None
    text = Page(render(document)).text
    accuracy = fmt.percent(trace[1]["evaluation"]["accuracy"]["value"])
    assert f"B, 0.0% removed: {fmt.percent(440 / 450)} (440 of 450)" in text
    assert f"B, 50.0% removed: {accuracy}" in text
    assert "B, 25.0% removed: 0.478" in text  # the energy
    assert "Robust, FGSM, " in text
    assert "Temperature over the pruning" not in text


def test_trajectory_without_data_shows_the_search_alone() -> None:
    text = Page(render(traced_without_data())).text
    assert "No evaluation data were used during the pruning" in text
    for name in ("Energy of the accepted pairs", "Acceptance rate", "Temperature"):
        assert f"{name} over the pruning" in text
    assert "Agreement with the original over the pruning" not in text


def test_an_epoch_taken_back_is_told() -> None:
    document = classification()
    pruning = document["models"][1]["pruning"]
    pruning |= {"stopped_by": "accuracy_floor", "undone": pruning["trace"][-1]}
    Draft202012Validator(load_schema()).validate(document)
    assert "stopped by accuracy floor; the epoch that broke it" in Page(render(document)).text


@pytest.mark.parametrize("pruned", range(1, 6))
def test_comparing_has_a_column_and_a_line_for_each_model(pruned: int) -> None:
    document = classification(pruned=pruned, attacks=("FGSM",))
    page = Page(render(document))
    for model, letter in zip(document["models"], "ABCDEF", strict=False):
        assert f"{letter} {model['label']}, clean: " in page.text
        assert page.text.count(f"Reliability diagram of {model['label']}") == 1
    assert ("models compared" in page.text) == (pruned > 1)


def test_calibration_tells_every_bin_and_what_the_largest_error_rests_on() -> None:
    document = classification()
    page = Page(render(document))
    for model in document["models"]:
        told = model["calibration"]
        assert f"ECE {fmt.percent(told['ece'])} over 15 bins." in page.text
        assert f"{fmt.percent(told['mce'])} bin of 1 sample " in page.text
        for entry in told["reliability"]:
            if entry["count"]:
                assert (
                    f"{entry['count']} samples, accuracy {fmt.percent(entry['accuracy'])},"
                    f" mean confidence {fmt.percent(entry['confidence'])}"
                ) in page.text
    table = page.text.split("Calibration and proper scores", 1)[1].split("Size and latency", 1)[0]
    error = (
        document["models"][1]["calibration"]["ece"] - document["models"][0]["calibration"]["ece"]
    )
    assert fmt.points(error) in table
    for told in ("over-confident", "0.0821", "0.137", "0.0353", "0.0603", "1.67"):
        assert told in table


def test_sizes_and_times_are_told_against_the_original() -> None:
    text = Page(render(classification())).text
    table = text.split("Parameters, arithmetic and files", 1)[1].split("Layers Units", 1)[0]
    times = "\N{MULTIPLICATION SIGN}"
    for told in (
        f"Non-zero parameters 27,550 9,166 3.0{times} smaller",
        f"Compression ratio 1.00{times} 3.01{times}",
        f"FLOPs 2 {times} MACs 54,528 18,048",
        ".keras file 128.2 KiB 131,248 bytes 56.4 KiB",
        "LiteRT file, gzip",
        f"Median latency 12.6 \N{MICRO SIGN}s 6.90 \N{MICRO SIGN}s 1.82{times} faster",
        "Host CPU, not your device. LiteRT 2.3.0 on AMD EPYC 7B13, 1 thread, batch of 1,",
    ):
        assert told in table


def test_layers_tell_what_went_and_why_the_rest_stayed() -> None:
    document = classification()
    document["models"][1]["layers"][0]["units"] = None
    text = Page(render(document)).text.split("Layers before and after", 1)[1]
    arrow = " \N{RIGHTWARDS ARROW}"
    assert f"hidden_2 Dense 96{arrow} 48 12,384{arrow} 3,120 12,288{arrow} 3,072 99.96%" in text
    assert f"digit Dense 10 650{arrow} 330 640{arrow} 320 100.0% its units are outputs" in text
    assert "hidden_1 Dense 128" in text


def test_regression_shows_errors_and_no_attack() -> None:
    page = Page(render(regression()))
    for told in ("10.4", "11.3", "2.21", "2.32", "0.412", "3.90"):
        assert told in page.text
    assert "Robust" not in page.text.replace("Robustness: attacks are for classifiers", "")
    assert "ECE" not in page.text


def test_sections_without_data_say_why() -> None:
    document = without_data()
    page = Page(render(document))
    for what in ("Accuracy", "Robustness", "Calibration"):
        assert f"{what}: not in this evaluation (no evaluation data given)" in page.text
    assert "Latency: not in this evaluation (not asked for; use --latency)" in page.text
    assert "Trajectory: not in this evaluation (the pruning was not recorded" in page.text
    assert "desc" not in page.tags
    document["absent"] = {}
    assert "Latency: not in this evaluation (the evaluation gives no reason)" in (
        Page(render(document)).text
    )
    assert "without evaluation data" in page.text


def test_robustness_without_attacks_keeps_the_accuracy() -> None:
    document = classification(attacks=())
    document["absent"]["robustness"] = "no attack was asked for"
    text = Page(render(document)).text
    assert "Robustness: not in this evaluation (no attack was asked for)" in text
    assert f"no attack {EPSILON} = 0 97.8%" in text


def test_provenance_tells_everything() -> None:
    document = classification()
    text = Page(render(document)).text.rsplit("Provenance", 1)[1]
    origin = document["provenance"]
    for key in ("nnprune", "keras", "backend_version", "numpy", "python", "platform", "command"):
        assert origin[key] in text
    for model in document["models"]:
        assert model["path"] in text
        assert model["sha256"] in text
    for told in ("digits.npz", "5e5e", "450 samples", "8\N{MULTIPLICATION SIGN}8", "0.0625"):
        assert told in text
    assert "2026-11-21 09:00 UTC" in text
    assert "not trusted" in text
    document["models"][1] |= {"trusted": True, "path": None, "sha256": None}
    text = Page(render(document)).text.rsplit("Provenance", 1)[1]
    assert "Trusted: the checks of an unknown file were skipped" in text
    assert "in memory, no file" in text
