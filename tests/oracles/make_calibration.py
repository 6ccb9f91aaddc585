"""Make `calibration.json`: random outputs of classifiers, and their errors by torchmetrics.

Needs torch (2.15.0 was used), torchmetrics (1.9.0) and NumPy (2.4.6). The tests read only the file
written.

    python tests/oracles/make_calibration.py

The file has logits as whole numbers of 64ths, which every float type holds exactly. torchmetrics
takes bins closed on the left and gives confidence 1 a bin of its own; that matters for confidences
at the very ends of bins only, and this script refuses those.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchmetrics
from numpy.typing import NDArray
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_calibration_error,
)

FIXTURE = Path(__file__).with_name("calibration.json")
BINS = (10, 15, 20)
# Seed, samples, classes (1: a single logit) and how much the logit of the label is raised at most.
CASES = ((1, 200, 10, 6.0), (2, 200, 3, 2.0), (3, 80, 2, 4.0), (4, 200, 1, 4.0), (6, 60, 1, 0.5))
LEAST_DISTANCE = 1e-6


def draw(
    seed: int, samples: int, classes: int, raised: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return logits [samples, classes] in 64ths and labels [samples]."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, max(classes, 2), samples)
    logits = random.uniform(-4.0, 4.0, (samples, classes))
    gain = random.uniform(0.0, raised, samples)
    if classes == 1:
        logits[:, 0] += np.where(labels == 1, gain, -gain)
    else:
        logits[np.arange(samples), labels] += gain
    return np.round(64.0 * logits).astype(np.int64), labels


def errors(outputs: torch.Tensor, labels: torch.Tensor, bins: int) -> dict[str, Any]:
    """Return the expected and the maximum calibration error; of class 1 for a single logit."""
    classes = outputs.shape[1]
    shares = torch.sigmoid(outputs[:, 0]) if classes == 1 else torch.softmax(outputs, dim=1)
    confidences = (shares if classes == 1 else shares.max(dim=1).values).numpy()
    if np.min(np.abs(confidences[:, None] - np.linspace(0.0, 1.0, bins + 1))) < LEAST_DISTANCE:
        raise SystemExit("a confidence is at the end of a bin; take another seed")

    def error(norm: str) -> float:
        if classes == 1:
            return float(binary_calibration_error(shares, labels, n_bins=bins, norm=norm))
        return float(
            multiclass_calibration_error(
                shares, labels, num_classes=classes, n_bins=bins, norm=norm
            )
        )

    return {"bins": bins, "ece": error("l1"), "mce": error("max")}


def main() -> None:
    """Write the fixture, one case a line."""
    lines = []
    for seed, samples, classes, raised in CASES:
        logits, labels = draw(seed, samples, classes, raised)
        outputs, truth = torch.from_numpy(logits).double() / 64.0, torch.from_numpy(labels)
        case = {
            "name": f"{samples} samples, {classes} logits",
            "errors": [errors(outputs, truth, bins) for bins in BINS],
            "labels": labels.tolist(),
            "logits_in_64ths": logits.tolist(),
        }
        lines.append(json.dumps(case, separators=(",", ":")))
    made_with = {
        "torch": torch.__version__.split("+")[0],
        "torchmetrics": torchmetrics.__version__,
        "numpy": np.__version__,
    }
    cases = ",\n".join(lines)
    FIXTURE.write_text(f'{{"made_with":{json.dumps(made_with)},"cases":[\n{cases}\n]}}\n')


if __name__ == "__main__":
    main()
