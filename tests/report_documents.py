"""Evaluation documents for the tests of the report: made up, but such as a real one could be.

Every number comes from a formula, so that the documents are the same on every run and hold
together: counts fit shares, curves fall, smaller models have fewer parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nnprune.report.schema import KIND, SCHEMA_VERSION

Document = dict[str, Any]

SAMPLES = 450
EPSILONS = (0.01, 8 / 255, 0.05, 0.1)
#: Each attack with its kind, strength (how fast robust accuracy falls) and parameters.
ATTACKS: dict[str, tuple[str, float, dict[str, Any]]] = {
    "FGSM": ("fgsm", 9.0, {}),
    "PGD-7": (
        "pgd",
        11.5,
        {"steps": 7, "step_size": 0.0125, "random_start": True, "restarts": 1, "seed": 0},
    ),
    "APGD-CE": ("auto_pgd", 12.4, {"steps": 100, "loss": "cross_entropy", "seed": 0}),
    "Square": ("square", 7.0, {"queries": 1000, "seed": 0}),
}
NAMES = (
    "annealing-50.keras",
    "greedy-50.keras",
    "one-shot-50.keras",
    "annealing-75.keras",
    "greedy-75.keras",
)
_LAYERS = (("hidden_1", 64, 128), ("hidden_2", 128, 96), ("hidden_3", 96, 64), ("digit", 64, 10))


def proportion(count: float, samples: int = SAMPLES) -> Document:
    """Return a share of the samples with its Wilson interval."""
    count = round(min(max(count, 0), samples))
    share, z = count / samples, 1.959963984540054
    scale = 1 + z * z / samples
    middle = (share + z * z / (2 * samples)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / samples + (z / (2 * samples)) ** 2)
    return {
        "count": count,
        "samples": samples,
        "value": share,
        "lower": max(0.0, min(share, middle - half)),
        "upper": min(1.0, max(share, middle + half)),
    }


def classification(
    *,
    pruned: int = 1,
    original: bool = True,
    attacks: Sequence[str] = ("FGSM", "PGD-7"),
    traced: bool = True,
) -> Document:
    """Return the evaluation of a classifier of digits and of what was pruned from it."""
    models = [model("original", "digits.keras", 0.0, attacks)] if original else []
    for index in range(pruned):
        label = "digits-pruned.keras" if pruned == 1 else NAMES[index % len(NAMES)]
        damage = min(0.5 + 0.07 * index, 0.9)
        models.append(model("pruned", label, damage, attacks, traced=traced, alone=not original))
    return {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "provenance": provenance(),
        "task": "classification",
        "head": {"kind": "softmax", "layer": "digit", "outputs": 10},
        "input_box": {"source": "default", "lower": 0.0, "upper": 1.0},
        "data": {
            "source": "digits.npz",
            "sha256": "5e" * 32,
            "samples": SAMPLES,
            "labels": "integers",
            "reshaped_from": [8, 8],
            "scale": 0.0625,
            "offset": None,
        },
        "models": models,
        "absent": {"litert": "the extra `litert` is not installed"},
        "warnings": ["only 450 samples: differences below about 3 points are within the noise"],
    }


def regression(*, pruned: int = 1) -> Document:
    """Return the evaluation of a regression."""
    document = classification(pruned=pruned, attacks=())
    document["task"] = "regression"
    document["head"] = {"kind": "values", "layer": "price", "outputs": 1}
    document["input_box"] = None
    document["data"]["labels"] = "values"
    document["absent"] = {
        "robustness": "attacks are for classifiers",
        "calibration": "calibration is for classifiers",
    }
    document["warnings"] = []
    for index, entry in enumerate(document["models"]):
        entry["robustness"] = entry["calibration"] = None
        entry["quality"] = {
            "mse": 10.41 + 0.9 * index,
            "mae": 2.207 + 0.11 * index,
            "mean_change": 0.412 * index if index else None,
            "largest_change": 3.9 * index if index else None,
        }
        for epoch in (entry["pruning"] or {}).get("trace", ()):
            epoch["evaluation"] = None
        if entry["pruning"]:
            entry["pruning"]["original_evaluation"] = None
    return document


def without_data(*, pruned: int = 1) -> Document:
    """Return an evaluation without data: sizes and layers only."""
    document = classification(pruned=pruned, traced=False)
    document["task"] = document["head"] = document["input_box"] = document["data"] = None
    document["warnings"] = []
    why = "no evaluation data given"
    document["absent"] = dict.fromkeys(("quality", "robustness", "calibration"), why)
    document["absent"] |= {
        "latency": "not asked for; use --latency",
        "trajectory": "the pruning was not recorded: the models came as files",
    }
    for entry in document["models"]:
        for section in ("quality", "robustness", "calibration", "latency", "pruning"):
            entry[section] = None
        for key in ("litert_bytes", "litert_gzip_bytes"):
            entry["size"][key] = None
    return document


def provenance() -> Document:
    """Return what could have made a document."""
    return {
        "nnprune": "0.1.0",
        "keras": "3.15.1",
        "backend": "tensorflow",
        "backend_version": "2.21.0",
        "numpy": "2.4.6",
        "python": "3.11.7",
        "platform": "Linux-6.8.0-45-generic-x86_64-with-glibc2.36",
        "processors": 8,
        "devices": ["CPU"],
        "date": "2026-11-21T09:00:00+00:00",
        "command": "nnprune evaluate digits-pruned.keras --original digits.keras"
        " --data digits.npz --attack fgsm --attack pgd --report report.html",
        "evaluation_seconds": 12.34,
    }


def model(
    role: str,
    label: str,
    damage: float,
    attacks: Sequence[str],
    *,
    traced: bool = True,
    alone: bool = False,
) -> Document:
    """Return one model, from which a fraction `damage` of the units was taken."""
    layers = _layers(damage)
    parameters = sum(layer["parameters"] for layer in layers)
    macs = sum(layer["macs"] for layer in layers)
    accurate = 0.978 - 0.03 * damage**2 - 0.06 * max(0.0, damage - 0.5)
    compared = role == "pruned" and not alone
    return {
        "role": role,
        "label": label,
        "path": f"/home/ada/models/{label}",
        "sha256": f"{round(1000 * damage) + 10:04x}" * 16,
        "trusted": False,
        "size": {
            "parameters": parameters,
            "trainable_parameters": parameters,
            "nonzero_parameters": parameters - 12,
            "macs": macs,
            "flops": 2 * macs,
            "uncounted": {},
            "keras_bytes": 4 * parameters + 21_000,
            "keras_gzip_bytes": round(3.6 * parameters) + 6_000,
            "litert_bytes": 4 * parameters + 2_400,
            "litert_gzip_bytes": round(3.7 * parameters) + 1_300,
        },
        "latency": {
            "runtime": "LiteRT 2.3.0",
            "device": "AMD EPYC 7B13",
            "threads": 1,
            "batch": 1,
            "warmup": 20,
            "runs": 200,
            "p50_seconds": 4.1e-6 + macs * 3.1e-10,
            "p90_seconds": 4.9e-6 + macs * 3.6e-10,
            "min_seconds": 3.8e-6 + macs * 3.0e-10,
        },
        "quality": {
            "accuracy": proportion(accurate * SAMPLES),
            "top5": proportion((0.998 - 0.002 * damage) * SAMPLES),
            "agreement": proportion((0.995 - 0.06 * damage) * SAMPLES) if compared else None,
            "nll": 0.0821 + 0.11 * damage,
            "brier": 0.0353 + 0.05 * damage,
        },
        "robustness": [attack(name, accurate, damage, compared=compared) for name in attacks]
        or None,
        "calibration": calibration(accurate, damage),
        "layers": layers,
        "pruning": pruning(damage, attacks) if role == "pruned" and traced else None,
    }


def attack(name: str, accurate: float, damage: float, *, compared: bool) -> Document:
    """Return one attack on one model."""
    kind, strength, parameters = ATTACKS.get(name, ("fgsm", 9.0, {}))
    points = []
    for epsilon in EPSILONS:
        robust = proportion(_robust(accurate, damage, strength, epsilon) * SAMPLES)
        transfer = proportion((_robust(accurate, damage, strength, epsilon) + 0.06) * SAMPLES)
        before = round(_robust(0.978, 0.0, strength, epsilon) * SAMPLES)
        points.append(
            {
                "epsilon": epsilon,
                "white_box": robust,
                "transfer": transfer if compared else None,
                "retention": robust["count"] / before if compared and before else None,
                "zero_gradients": 3 if compared and kind == "pgd" and epsilon > 0.05 else 0,
            }
        )
    flags = ["the gradient of 3 samples was exactly zero: the attack could not move them"]
    return {
        "attack": name,
        "kind": kind,
        "parameters": parameters,
        "points": points,
        "flags": flags if compared and kind == "pgd" else [],
    }


def _robust(accurate: float, damage: float, strength: float, epsilon: float) -> float:
    """Return a robust accuracy that falls with everything that is bad for it."""
    return accurate * math.exp(-((strength * epsilon * (1 + 0.25 * damage)) ** 1.6) / 1.7)


def calibration(accurate: float, damage: float, bins: int = 15) -> Document:
    """Return a calibration whose samples crowd in the bins of high confidence."""
    weights = [math.exp(9 * (index / (bins - 1) - 1)) for index in range(bins)]
    reliability: list[Document] = []
    for index in range(bins):
        lower, upper = index / bins, (index + 1) / bins
        count = round(SAMPLES * weights[index] / sum(weights))
        confidence = lower + (0.93 if index == bins - 1 else 0.55) / bins
        wanted = min(1.0, max(0.0, confidence - 0.04 * math.sin(5 * index) - 0.05 * damage))
        right = round(wanted * count) / count if count else None
        reliability.append(
            {
                "lower": lower,
                "upper": upper,
                "center": (lower + upper) / 2,
                "count": count,
                "accuracy": right,
                "confidence": confidence if count else None,
                "gap": None if right is None else right - confidence,
            }
        )
    filled = [entry for entry in reliability if entry["count"]]
    total = sum(entry["count"] for entry in filled)
    worst = max(filled, key=lambda entry: abs(entry["gap"]))
    centred = [abs(entry["accuracy"] - entry["center"]) for entry in filled]
    return {
        "bins": bins,
        "ece": sum(entry["count"] * abs(entry["gap"]) for entry in filled) / total,
        "mce": abs(worst["gap"]),
        "mce_count": worst["count"],
        "ece_center": sum(entry["count"] * gap for entry, gap in zip(filled, centred, strict=True))
        / total,
        "mce_center": max(centred),
        "accuracy": accurate,
        "mean_confidence": min(1.0, accurate + 0.004 + 0.02 * damage),
        "sign": "over-confident",
        "reliability": reliability,
    }


def _layers(damage: float) -> list[Document]:
    """Return the layers of a small network of dense layers."""
    found: list[Document] = []
    inputs_left = 64
    for name, inputs, units in _LAYERS:
        last = name == "digit"
        left = units if last else round(units * (1 - damage))
        found.append(
            {
                "layer": name,
                "kind": "Dense",
                "units_before": units,
                "units": left,
                "parameters_before": (inputs + 1) * units,
                "parameters": (inputs_left + 1) * left,
                "macs_before": inputs * units,
                "macs": inputs_left * left,
                "density": 1.0 if last else 0.9996,
                "reason": "its units are outputs of the model" if last else None,
            }
        )
        inputs_left = left
    return found


def pruning(damage: float, attacks: Sequence[str], epochs: int = 16) -> Document:
    """Return the record of a pruning that was evaluated after every second epoch."""
    sizes = {name: units for name, _, units in _LAYERS if name != "digit"}
    trace: list[Document] = []
    left = dict(sizes)
    for index in range(epochs):
        gone = damage * (index + 1) / epochs
        after = {name: round(units * (1 - gone)) for name, units in sizes.items()}
        removed = sum(left.values()) - sum(after.values())
        accurate = 0.978 - 0.03 * gone**2
        trace.append(
            {
                "epoch": index,
                "temperature": 1 - index / epochs,
                "units": after,
                "removed": removed,
                "energy": 0.478 + 0.004 * index + 0.01 * math.sin(1.7 * index),
                "energy_scale": 0.066 - 0.002 * index,
                "candidates": 4 * removed,
                "accepted": 6 - index // 4,
                "accepted_by_chance": 3 if index < 4 else 1,
                "rejected": 1 + 2 * index,
                "taken": index // 3,
                "impact_lower": [-150.0 * (index + 1)] * 10,
                "impact_upper": [155.0 * (index + 1)] * 10,
                "evaluation": _trace_evaluation(accurate, gone, attacks) if index % 2 else None,
            }
        )
        left = after
    return {
        "target": damage,
        "step": damage / epochs,
        "method": {"name": "annealing", "alpha": 0.75, "pool": 4, "restart": "never"},
        "seed": 0,
        "stopped_by": "target",
        "original_evaluation": _trace_evaluation(0.978, 0.0, attacks),
        "undone": None,
        "trace": trace,
    }


def _trace_evaluation(accurate: float, gone: float, attacks: Sequence[str]) -> Document:
    """Return what was measured on the way."""
    return {
        "samples": SAMPLES,
        "accuracy": proportion(accurate * SAMPLES),
        "agreement": proportion((1 - 0.06 * gone) * SAMPLES),
        "robust": [
            {
                "attack": name,
                "epsilon": 0.05,
                "instances": proportion(
                    _robust(accurate, gone, ATTACKS.get(name, ("", 9.0, {}))[1], 0.05) * SAMPLES
                ),
            }
            for name in attacks
        ],
    }
