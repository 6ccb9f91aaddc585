"""A model on the bench: prune it once, then measure it at any share of the merges.

A pruning is a list of merges, so that one run to 80 % holds the whole curve: at a share of the
units each layer's first merges, up to that share, are replayed on a copy of the model, in which a
removed unit stays with outgoing weights of zero. One compiled function measures all of them. Only
for chains of Dense layers with their activations, behind whatever comes before: what the papers'
models are.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import datasets
import keras
import nnprune
import numpy as np
from nnprune.attacks.gradient_sign import Attacker
from nnprune.gradients import to_numpy
from nnprune.keras_io.logits import logits_model
from nnprune.result import PruningResult
from nnprune.trace import Merge
from numpy.typing import NDArray

from paper.settings import EPSILONS, TARGET, PaperModel, Settings

__all__ = ["FOLDER", "Workbench", "open_workbench", "shares_to"]

FOLDER = Path(__file__).resolve().parents[1] / "models"
_BATCH = 1000
_CONVOLUTIONAL_BATCH = 100


def open_workbench(model: PaperModel, settings: Settings, *, whole: bool = False) -> Workbench:
    """Put a model of the papers on the bench, with its test samples.

    Parameters
    ----------
    model : PaperModel
        Which.
    settings : Settings
        How many samples.
    whole : bool, default False
        Take the whole test set.

    Raises
    ------
    FileNotFoundError
        The model or its data set is not there.
    """
    path = FOLDER / f"{model.name}.keras"
    if not path.is_file():
        raise FileNotFoundError(f"no model {path}: run benches/models/train_{model.name}.py")
    data = datasets.load_for(model.name)
    original = _loaded(path)
    convolutional = any(isinstance(layer, keras.layers.Conv2D) for layer in original.layers)
    count = settings.convolutional_samples if convolutional else settings.samples
    shown = slice(None if whole else count)
    with np.load(FOLDER / f"{model.name}_box.npz") as box:
        lower, upper = box["lower"], box["upper"]
    return Workbench(
        original,
        data.x_test[shown],
        data.y_test[shown],
        lower,
        upper,
        batch=_CONVOLUTIONAL_BATCH if convolutional else _BATCH,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        convolutional=convolutional,
    )


def _loaded(path: Path) -> keras.Model:
    with warnings.catch_warnings():
        # Saved without optimizer slots, to keep the files small.
        warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
        return keras.saving.load_model(path)


def shares_to(every: float, target: float = TARGET) -> list[float]:
    """Return the shares of units removed at which a curve has its points, the target the last."""
    distance, end = Fraction(str(every)), Fraction(str(target))
    inner = [k * distance for k in range(1, math.ceil(end / distance))]
    return [float(share) for share in (*inner, end)]


class Workbench:
    """A model, its test samples, and a copy that replays merges.

    Parameters
    ----------
    model : keras.Model
        The original; not changed.
    x : ndarray, shape (samples, *input_shape)
        Test samples, within the box.
    y : ndarray of integers, shape (samples,)
        Labels.
    lower, upper : ndarray
        The input box.
    batch : int, default 1000
        Samples computed at once.
    sha256 : str, optional
        Fingerprint of the model's file.
    convolutional : bool, default False
        Whether a sample is dear.
    """

    def __init__(
        self,
        model: keras.Model,
        x: NDArray[Any],
        y: NDArray[Any],
        lower: NDArray[Any],
        upper: NDArray[Any],
        *,
        batch: int = _BATCH,
        sha256: str | None = None,
        convolutional: bool = False,
    ) -> None:
        self.model = model
        self.x = np.asarray(x, np.float32).reshape(len(x), *model.input_shape[1:])
        self.y = np.asarray(y).astype(np.int64)
        self.box = (lower, upper)
        self.sha256 = sha256
        self.convolutional = convolutional
        self._batch = batch
        self.dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
        self._kernels = {layer.name: to_numpy(layer.kernel) for layer in self.dense}
        self._biases = {layer.name: to_numpy(layer.bias) for layer in self.dense if layer.use_bias}
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        logits = logits_model(copy)
        self._copies = {layer.name: layer for layer in copy.layers}
        if logits.last is not None:
            self._copies[logits.layer] = logits.last
        self.attacker = Attacker(logits.model, lower, upper)

    @property
    def given(self) -> dict[str, Any]:
        """What its measurements depend on, as JSON has it."""
        return {"model": self.sha256, "samples": len(self.x)}

    @property
    def units(self) -> dict[str, int]:
        """Units of each hidden Dense layer."""
        return {layer.name: layer.units for layer in self.dense[:-1]}

    def prune(
        self,
        method: nnprune.options.Method,
        *,
        step: Fraction,
        target: float,
        seed: int = 0,
        bias: str | None = None,
    ) -> PruningResult:
        """Prune the original; one-shot with the bias term as printed, if none is given."""
        return nnprune.prune(
            self.model,
            target=target,
            step=float(step),
            method=method,
            seed=seed,
            bias=bias,
            input_bounds=self.box,
        )

    def removed(self, share: float) -> dict[str, int]:
        """Return how many units of each layer are gone at a share, as `prune` rounds it."""
        return {
            name: min(math.floor(share * units + 0.5), units - 1)
            for name, units in self.units.items()
        }

    def replay(self, merges: Sequence[Merge], removed: Mapping[str, int]) -> None:
        """Put the copy into the state after each layer's first `removed` merges."""
        kernels = {name: kernel.copy() for name, kernel in self._kernels.items()}
        reader = {
            layer.name: following.name
            for layer, following in zip(self.dense, self.dense[1:], strict=False)
        }
        left = dict(removed)
        for merge in merges:
            if left[merge.layer] > 0:
                left[merge.layer] -= 1
                outgoing = kernels[reader[merge.layer]]
                if merge.delegate is not None:
                    outgoing[merge.delegate] += outgoing[merge.nominee]
                outgoing[merge.nominee] = 0.0
        weights = {f"{name}/0": kernel for name, kernel in kernels.items()}
        self.take(weights | {f"{name}/1": bias for name, bias in self._biases.items()})

    def take(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Give the copy's Dense layers other weights, named `layer/0` (kernel) and `layer/1`."""
        for layer in self.dense:
            self._copies[layer.name].kernel.assign(weights[f"{layer.name}/0"])
            if layer.use_bias:
                self._copies[layer.name].bias.assign(weights[f"{layer.name}/1"])

    def logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the copy's logits, shape (samples, classes), or (samples, 1) for two classes."""
        return to_numpy(self.attacker.logits(x))

    def measure(self, epsilons: Sequence[float] = EPSILONS) -> dict[str, Any]:
        """Count what the copy gets right, without and with FGSM on its own gradients.

        Returns
        -------
        dict
            `samples`, `correct`, `balanced` (the mean over the classes of the share that is
            right: what an accuracy hides where one class prevails) and `robust`, for each epsilon
            the samples that are right both without and under attack.
        """
        right = np.zeros(len(self.y), np.bool_)
        robust = np.zeros((len(epsilons), len(self.y)), np.bool_)
        for start in range(0, len(self.y), self._batch):
            part = slice(start, start + self._batch)
            x, y = self.x[part], self.y[part]
            right[part] = self.classes(x) == y
            for row, moved in enumerate(self.attacker.fgsm(x, y, epsilons)):
                robust[row, part] = right[part] & (self.classes(to_numpy(moved)) == y)
        shares = [np.mean(right[self.y == label]) for label in np.unique(self.y)]
        return {
            "samples": len(self.y),
            "correct": int(right.sum()),
            "balanced": float(np.mean(shares)),
            "robust": {
                f"{epsilon:g}": int(row.sum())
                for epsilon, row in zip(epsilons, robust, strict=True)
            },
        }

    def classes(self, x: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the classes that the copy predicts."""
        logits = self.logits(x)
        if logits.shape[1] == 1:
            return (logits[:, 0] >= 0).astype(np.int64)
        classes: NDArray[np.int64] = np.argmax(logits, axis=1)
        return classes
