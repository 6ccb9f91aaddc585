"""The main job on a small real model and real data that ship in the package."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from nnprune.options import Annealing
from nnprune.pruning import prune
from nnprune.result import PruningResult

__all__ = ["DemoReport", "run_demo"]

_OUTPUT = "digits-pruned.keras"


@dataclass(frozen=True, kw_only=True)
class DemoReport:
    """What the demo measured.

    Attributes
    ----------
    pruning : PruningResult
        The pruning.
    output : Path
        The smaller model's file.
    samples : int
        Images in the test set.
    accuracy_before, accuracy_after : float
        Fraction of the test images classified correctly.
    bytes_before, bytes_after : int
        Size of the model files.
    """

    pruning: PruningResult
    output: Path
    samples: int
    accuracy_before: float
    accuracy_after: float
    bytes_before: int
    bytes_after: int

    def summary(self) -> str:
        """Return a table of before and after."""
        units = [(change.units_before, change.units_after) for change in self.pruning.layers]
        hidden = [
            pair
            for pair, change in zip(units, self.pruning.layers, strict=True)
            if change.reason is None
        ]
        before, after = (sum(pair[side] for pair in hidden) for side in (0, 1))
        rows = [
            ("", "before", "after"),
            ("hidden units", f"{before:,}", f"{after:,}"),
            (
                "parameters",
                f"{self.pruning.before.parameters:,}",
                f"{self.pruning.after.parameters:,}",
            ),
            ("MACs", f"{self.pruning.before.macs:,}", f"{self.pruning.after.macs:,}"),
            ("file, bytes", f"{self.bytes_before:,}", f"{self.bytes_after:,}"),
            ("test accuracy", f"{self.accuracy_before:.2%}", f"{self.accuracy_after:.2%}"),
        ]
        lines = [f"{name:<14}{left:>12}{right:>12}" for name, left, right in rows]
        return "\n".join(
            [
                f"A model of handwritten digits, pruned without data, tested on {self.samples} "
                "images",
                *lines,
                f"engine: {self.pruning.engine_seconds:.3f} s of CPU time",
                f"written to {self.output}",
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "output": str(self.output),
            "samples": self.samples,
            "accuracy_before": self.accuracy_before,
            "accuracy_after": self.accuracy_after,
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "pruning": self.pruning.to_dict(),
        }


def run_demo(folder: Path, *, target: float, seed: int, overwrite: bool) -> DemoReport:
    """Prune the digits model, test both models, write the smaller one into `folder`.

    Parameters
    ----------
    folder : Path
        Where `digits-pruned.keras` goes.
    target : float
        Fraction of each hidden layer's units to remove.
    seed : int
        Seed of the random stream.
    overwrite : bool
        Whether that file may be replaced.

    Raises
    ------
    OutputError
        The file is there already, or cannot be written.
    ConfigError
        An option is out of range.
    """
    from nnprune.keras_io.quiet import quiet_start
    from nnprune.keras_io.save import check_output
    from nnprune.keras_io.scan import look

    output = check_output(folder / _OUTPUT, overwrite=overwrite)
    files = resources.files("nnprune") / "demo_files"
    with resources.as_file(files / "digits.keras") as model_file:
        with quiet_start():
            from nnprune.keras_io.load import load_model

        original = load_model(look(model_file))
        result = prune(model_file, target=target, method=Annealing(), seed=seed, progress=True)
        bytes_before = model_file.stat().st_size
    with resources.as_file(files / "digits.npz") as data_file, np.load(data_file) as data:
        images, labels = data["x_test"], data["y_test"]
    images = images.astype(np.float32) / 16  # 17 grey levels
    written = result.save(output, overwrite=overwrite)
    return DemoReport(
        pruning=result,
        output=written,
        samples=len(labels),
        accuracy_before=_accuracy(original, images, labels),
        accuracy_after=_accuracy(load_model(look(written)), images, labels),
        bytes_before=bytes_before,
        bytes_after=written.stat().st_size,
    )


def _accuracy(model: Any, images: Any, labels: Any) -> float:
    predicted = np.argmax(np.asarray(model(images)), axis=-1)
    return float(np.mean(predicted == labels))
