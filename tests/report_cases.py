"""Evaluation documents of every kind that the report must be able to show."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from report_documents import Document, classification, proportion, regression, without_data


def one_epsilon() -> Document:
    document = classification()
    for model in document["models"]:
        for attack in model["robustness"]:
            attack["points"] = attack["points"][-1:]
        model["quality"] = None
    return document


def all_the_same() -> Document:
    document = classification()
    for model in document["models"]:
        same = proportion(300)
        model["quality"]["accuracy"] = same
        for attack in model["robustness"]:
            for point in attack["points"]:
                point["white_box"] = same
    return document


def nothing_right() -> Document:
    document = classification()
    for model in document["models"]:
        none = proportion(0)
        model["quality"] |= {"accuracy": none, "nll": 0.0, "brier": 0.0}
        for size in model["size"]:
            if size != "uncounted":
                model["size"][size] = 0
        for attack in model["robustness"]:
            for point in attack["points"]:
                point |= {"white_box": none, "transfer": none, "retention": None}
        for layer in model["layers"]:
            layer |= {"units_before": 0, "units": 0, "parameters_before": 0, "macs_before": 0}
        model["calibration"] |= {"ece": 0.0, "mce": 0.0}
        for entry in model["calibration"]["reliability"]:
            entry |= {"count": 0, "accuracy": None, "confidence": None, "gap": None}
        model["latency"] |= {"p50_seconds": 0.0, "p90_seconds": 0.0, "min_seconds": 0.0}
        for epoch in (model["pruning"] or {}).get("trace", ()):
            epoch |= {"removed": 0, "units": {}, "energy": 0.0, "accepted": 0}
            epoch |= {"accepted_by_chance": 0, "rejected": 0}
    return document


def only_epsilon_zero() -> Document:
    document = one_epsilon()
    for model in document["models"]:
        for attack in model["robustness"]:
            attack["points"][0]["epsilon"] = 0.0
    return document


def no_points() -> Document:
    document = classification()
    for model in document["models"]:
        for attack in model["robustness"]:
            attack["points"] = []
        model["layers"] = []
        if model["pruning"]:
            model["pruning"]["trace"] = []
    return document


def different_attacks() -> Document:
    """Return models that were put to other attacks, of other sizes, with other parameters."""
    document = classification(pruned=2)
    first, second, third = (model["robustness"] for model in document["models"])
    del first[1], second[0]
    second[0]["points"] = second[0]["points"][:2]
    third[1]["points"] = third[1]["points"][2:]
    third[1]["parameters"] = {"steps": 20, "step_size": None, "random_start": False}
    document["models"][1]["latency"] = None
    document["models"][2]["latency"]["threads"] = 4
    document["models"][2]["size"]["uncounted"] = {"attention": "its arithmetic is not known"}
    document["models"][2]["trusted"] = True
    document["input_box"]["source"] = "assumed"
    return document


def traced_without_data() -> Document:
    document = classification()
    for epoch in document["models"][1]["pruning"]["trace"]:
        epoch["evaluation"] = None
    document["models"][1]["pruning"]["original_evaluation"] = None
    return document


DOCUMENTS: dict[str, Callable[[], Document]] = {
    "pair": classification,
    "one model": lambda: classification(original=False, traced=False),
    "original alone": lambda: classification(pruned=0),
    "no original": lambda: classification(original=False, pruned=3),
    "three": lambda: classification(pruned=2, attacks=("FGSM", "PGD-7", "APGD-CE", "Square")),
    "six": lambda: classification(pruned=5, attacks=("FGSM",)),
    "ten": lambda: classification(pruned=9),
    "no attacks": lambda: classification(attacks=()),
    "regression": regression,
    "regressions": lambda: regression(pruned=3),
    "no data": without_data,
    "no data, three": lambda: without_data(pruned=2),
    "one epsilon": one_epsilon,
    "only epsilon zero": only_epsilon_zero,
    "no points": no_points,
    "all the same": all_the_same,
    "nothing right": nothing_right,
    "different attacks": different_attacks,
    "traced without data": traced_without_data,
}

every_document = pytest.mark.parametrize("make", DOCUMENTS.values(), ids=list(DOCUMENTS))
