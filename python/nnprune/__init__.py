"""Data-free, robustness-preserving pruning of Keras models.

`prune` makes a trained model physically smaller without any data; `inspect` tells what could be
pruned; `evaluate` and `compare` say what that did to accuracy, robustness, calibration and size;
`agreement` says the first without data;
`certify` proves how far the outputs can have moved, and `verify` checks that proof; `sweep` runs a
grid of prunings; `export` writes LiteRT and ONNX, and `export_properties` what a certificate
proves for other verifiers. Importing this package imports
neither Keras nor TensorFlow, and its own parts only when they are used: a deployment script should
not pay for what it does not call.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnprune import errors as errors
    from nnprune._core import __version__ as __version__
    from nnprune.attacks.options import FGSM as FGSM
    from nnprune.attacks.options import PGD as PGD
    from nnprune.attacks.options import AutoPGD as AutoPGD
    from nnprune.attacks.options import Square as Square
    from nnprune.certification.certificate import Certificate as Certificate
    from nnprune.certification.certify import certify as certify
    from nnprune.certification.properties import Properties as Properties
    from nnprune.certification.properties import export_properties as export_properties
    from nnprune.certification.verify import Verification as Verification
    from nnprune.certification.verify import verify as verify
    from nnprune.compensation import LeastSquares as LeastSquares
    from nnprune.compensation import Moments as Moments
    from nnprune.compensation import Polish as Polish
    from nnprune.compensation import Scaled as Scaled
    from nnprune.compensation import Sum as Sum
    from nnprune.evaluation.document import Evaluation as Evaluation
    from nnprune.evaluation.evaluate import compare as compare
    from nnprune.evaluation.evaluate import evaluate as evaluate
    from nnprune.exporting import export as export
    from nnprune.inspection import Inspection as Inspection
    from nnprune.inspection import inspect as inspect
    from nnprune.judge import agreement as agreement
    from nnprune.options import Annealing as Annealing
    from nnprune.options import Elimination as Elimination
    from nnprune.options import Greedy as Greedy
    from nnprune.options import OneShot as OneShot
    from nnprune.parallelism import set_threads as set_threads
    from nnprune.parallelism import threads as threads
    from nnprune.pruning.prune import prune as prune
    from nnprune.result import PruningResult as PruningResult
    from nnprune.sweeping.result import SweepResult as SweepResult
    from nnprune.sweeping.sweep import sweep as sweep
    from nnprune.trace import Epoch as Epoch
    from nnprune.trace import EpochEvaluation as EpochEvaluation

_HOMES = {
    "agreement": "nnprune.judge",
    "Elimination": "nnprune.options",
    "Sum": "nnprune.compensation",
    "Scaled": "nnprune.compensation",
    "Polish": "nnprune.compensation",
    "LeastSquares": "nnprune.compensation",
    "Moments": "nnprune.compensation",
    "Annealing": "nnprune.options",
    "AutoPGD": "nnprune.attacks.options",
    "Certificate": "nnprune.certification.certificate",
    "Epoch": "nnprune.trace",
    "EpochEvaluation": "nnprune.trace",
    "Evaluation": "nnprune.evaluation.document",
    "FGSM": "nnprune.attacks.options",
    "Greedy": "nnprune.options",
    "Inspection": "nnprune.inspection",
    "OneShot": "nnprune.options",
    "PGD": "nnprune.attacks.options",
    "Properties": "nnprune.certification.properties",
    "PruningResult": "nnprune.result",
    "Square": "nnprune.attacks.options",
    "SweepResult": "nnprune.sweeping.result",
    "Verification": "nnprune.certification.verify",
    "__version__": "nnprune._core",
    "certify": "nnprune.certification.certify",
    "compare": "nnprune.evaluation.evaluate",
    "evaluate": "nnprune.evaluation.evaluate",
    "export": "nnprune.exporting",
    "export_properties": "nnprune.certification.properties",
    "inspect": "nnprune.inspection",
    "prune": "nnprune.pruning.prune",
    "set_threads": "nnprune.parallelism",
    "sweep": "nnprune.sweeping.sweep",
    "threads": "nnprune.parallelism",
    "verify": "nnprune.certification.verify",
}

__all__ = [
    "FGSM",
    "PGD",
    "Annealing",
    "AutoPGD",
    "Certificate",
    "Elimination",
    "Epoch",
    "EpochEvaluation",
    "Evaluation",
    "Greedy",
    "Inspection",
    "LeastSquares",
    "Moments",
    "OneShot",
    "Polish",
    "Properties",
    "PruningResult",
    "Scaled",
    "Square",
    "Sum",
    "SweepResult",
    "Verification",
    "__version__",
    "agreement",
    "certify",
    "compare",
    "errors",
    "evaluate",
    "export",
    "export_properties",
    "inspect",
    "prune",
    "set_threads",
    "sweep",
    "threads",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("nnprune.errors")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'nnprune' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
