"""The authors' demonstration: what the models say about a few images and their adversaries."""

from __future__ import annotations

from typing import Any

import nnprune
import numpy as np
from nnprune.gradients import to_numpy
from numpy.typing import NDArray

from paper.png import data_url
from paper.results import Cells
from paper.settings import TARGET, PaperModel, Settings
from paper.workbench import Workbench, open_workbench

__all__ = ["EPSILON", "SHARES", "measure_demonstration", "show"]

EPSILON = 0.05
SHARES = (0.25, 0.5)
_METHODS: dict[str, nnprune.options.Method] = {
    "one_shot": nnprune.OneShot(),
    "annealing": nnprune.Annealing(),
}
_SHOWN = ("mnist", "cifar10")
_NAMES = {
    "cifar10": [
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ],
    "mnist": [str(digit) for digit in range(10)],
}


def measure_demonstration(model: PaperModel, settings: Settings, cells: Cells) -> None:
    """Show one of the image models the first test images that the original gets right."""
    if model.name not in _SHOWN:
        return
    bench = open_workbench(model, settings)
    cells.measure(
        model.name,
        bench.given | {"pictures": settings.pictures, "step": str(model.step)},
        lambda: show(bench, model, settings.pictures, _NAMES[model.name]),
    )


def show(
    bench: Workbench,
    model: PaperModel,
    count: int,
    names: list[str],
    *,
    shape: tuple[int, ...] | None = None,
) -> dict[str, Any]:
    """Return images, their adversaries and what each model says.

    The images are the first of the test set, one of each class, that the original classifies
    correctly: none is chosen for what the others say. One adversarial image, made against the
    original, is shown to all models. `shape` is that of a picture, where the inputs are flat.

    Returns
    -------
    dict
        `images`: for each its `label`, `clean` and `adversarial` (addresses that hold a PNG), and
        `says`: for each model's name the label and the confidence for both.
    """
    bench.replay((), {})
    chosen = _first_right(bench, count)
    clean, labels = bench.x[chosen], bench.y[chosen]
    adversarial = to_numpy(bench.attacker.fgsm(clean, labels, [EPSILON])[0])
    shape = clean.shape[1:] if shape is None else shape
    said = {"original": [_say(bench, x, names) for x in (clean, adversarial)]}
    for name, method in _METHODS.items():
        result = bench.prune(method, step=model.step, target=TARGET)
        for share in SHARES:
            bench.replay(result.merges, bench.removed(share))
            said[f"{name} {share:g}"] = [_say(bench, x, names) for x in (clean, adversarial)]
    return {
        "images": [
            {
                "index": int(chosen[row]),
                "label": names[int(labels[row])],
                "clean": data_url(clean[row].reshape(shape)),
                "adversarial": data_url(adversarial[row].reshape(shape)),
                "says": {who: [both[0][row], both[1][row]] for who, both in said.items()},
            }
            for row in range(len(chosen))
        ]
    }


def _first_right(bench: Workbench, count: int) -> NDArray[np.int64]:
    few = bench.x[:100]
    right = np.flatnonzero(bench.classes(few) == bench.y[: len(few)])
    _, first = np.unique(bench.y[right], return_index=True)
    return np.sort(right[first])[:count]


def _say(bench: Workbench, x: NDArray[np.float32], names: list[str]) -> list[dict[str, Any]]:
    """Return the label and the confidence for every input."""
    logits = bench.logits(x).astype(np.float64)
    if logits.shape[1] == 1:
        logits = np.hstack([np.zeros_like(logits), logits])
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = weights / weights.sum(axis=1, keepdims=True)
    return [{"label": names[int(row.argmax())], "confidence": float(row.max())} for row in shares]
