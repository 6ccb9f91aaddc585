"""The main job on a small real model and real data that ship in the package."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from nnprune.attacks.options import FGSM, PGD
from nnprune.evaluation.document import Evaluation
from nnprune.evaluation.evaluate import evaluate
from nnprune.options import Annealing
from nnprune.pruning.prune import prune
from nnprune.result import PruningResult

__all__ = ["DemoReport", "run_demo"]

_OUTPUT = "digits-pruned.keras"
_REPORT = "digits-report.html"
# Those of the main paper's figures, and a stronger attack beside the larger of them.
_ATTACKS = (FGSM((0.01, 0.05)), PGD(0.05))


@dataclass(frozen=True, kw_only=True)
class DemoReport:
    """What the demo measured.

    Attributes
    ----------
    pruning : PruningResult
        The pruning.
    evaluation : Evaluation
        Both models on the test images.
    output : Path
        The smaller model's file.
    report : Path
        The report's file.
    """

    pruning: PruningResult
    evaluation: Evaluation
    output: Path
    report: Path

    def summary(self) -> str:
        """Return a table of before and after."""
        return "\n".join(
            [
                "A model of handwritten digits, pruned without data, tested on images it has not "
                "seen",
                self.evaluation.summary(),
                f"engine: {self.pruning.engine_seconds:.3f} s of CPU time",
                f"written to {self.output}",
                f"open {self.report} in a browser",
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "output": str(self.output),
            "report": str(self.report),
            "pruning": self.pruning.to_dict(),
            "evaluation": self.evaluation.to_dict(),
        }


def run_demo(folder: Path, *, target: float, seed: int, overwrite: bool) -> DemoReport:
    """Prune the digits model, evaluate both, write the smaller one and a report into `folder`.

    Parameters
    ----------
    folder : Path
        Where `digits-pruned.keras` and `digits-report.html` go.
    target : float
        Fraction of each hidden layer's units to remove.
    seed : int
        Seed of the random stream.
    overwrite : bool
        Whether these files may be replaced.

    Raises
    ------
    OutputError
        A file is there already, or cannot be written.
    ConfigError
        An option is out of range.
    """
    from nnprune.keras_io.save import check_output

    output = check_output(folder / _OUTPUT, overwrite=overwrite)
    report = check_output(folder / _REPORT, overwrite=overwrite, suffixes=(".html",))
    files = resources.files("nnprune") / "demo_files"
    with resources.as_file(files / "digits.npz") as data_file, np.load(data_file) as data:
        images, labels = data["x_test"].astype(np.float32) / 16, data["y_test"]  # 17 grey levels
    with resources.as_file(files / "digits.keras") as original:
        result = prune(
            original,
            target=target,
            method=Annealing(),
            seed=seed,
            evaluate=(images, labels),
            attacks=_ATTACKS,
            progress=True,
        )
        result.save(output, overwrite=overwrite)
        evaluation = evaluate(
            output,
            images,
            labels,
            original=original,
            attacks=_ATTACKS,
            pruning=result.to_dict(),
            progress=True,
        )
    evaluation.save_report(report, overwrite=overwrite)
    return DemoReport(pruning=result, evaluation=evaluation, output=output, report=report)
