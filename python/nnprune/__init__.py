"""Data-free, robustness-preserving pruning of Keras models.

`prune` makes a trained model physically smaller without any data; `inspect` tells what could be
pruned. Importing this package imports neither Keras nor TensorFlow.
"""

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
