"""Data-free, robustness-preserving pruning of Keras models.

`prune` makes a trained model physically smaller without any data; `inspect` tells what could be
pruned. Importing this package imports neither Keras nor TensorFlow, and its own parts only when
they are used: a deployment script should not pay for what it does not call.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnprune import errors as errors
    from nnprune._core import __version__ as __version__
    from nnprune.inspection import Inspection as Inspection
    from nnprune.inspection import inspect as inspect
    from nnprune.options import Annealing as Annealing
    from nnprune.options import Greedy as Greedy
    from nnprune.options import OneShot as OneShot
    from nnprune.pruning import prune as prune
    from nnprune.result import Epoch as Epoch
    from nnprune.result import PruningResult as PruningResult

_HOMES = {
    "Annealing": "nnprune.options",
    "Epoch": "nnprune.result",
    "Greedy": "nnprune.options",
    "Inspection": "nnprune.inspection",
    "OneShot": "nnprune.options",
    "PruningResult": "nnprune.result",
    "__version__": "nnprune._core",
    "inspect": "nnprune.inspection",
    "prune": "nnprune.pruning",
}

__all__ = [
    "Annealing",
    "Epoch",
    "Greedy",
    "Inspection",
    "OneShot",
    "PruningResult",
    "__version__",
    "errors",
    "inspect",
    "prune",
]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("nnprune.errors")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'nnprune' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
