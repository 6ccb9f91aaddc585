"""A model of the table: the Keras model, its chain, its samples, and what judges a smaller chain.

Every pruned model is read back as a chain and judged alike: its weights are put into one compiled
network of the original's widths, in which units that are gone have only zeros. That computes what
the smaller network computes, so that FGSM goes by the pruned model's own gradients.
"""

from __future__ import annotations

import hashlib
import warnings
from functools import cached_property
from typing import Any

import datasets
import keras
import numpy as np
from nnprune.judge import judged_on
from nnprune.keras_io.opened import input_box_of, open_model
from nnprune.synthetic.draw import draw
from numpy.typing import NDArray
from paper.workbench import FOLDER, Workbench

from compensation.chain import Chain, read_chain
from compensation.settings import EPSILONS, BenchModel, Settings

__all__ = ["Subject"]

_TOLERANCE = 1e-4
_CHECKED = 256
# The judge's inputs here are those of no run.
_JUDGE_SEED = 2**40


class Subject:
    """A model with its samples.

    Parameters
    ----------
    described : BenchModel
        Which.
    settings : Settings
        How many samples.

    Raises
    ------
    FileNotFoundError
        The model or its data set is not there.
    ValueError
        The chain read from the model does not compute what the model does.
    """

    def __init__(self, described: BenchModel, settings: Settings) -> None:
        path = FOLDER / f"{described.name}.keras"
        self.described = described
        self.settings = settings
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        with warnings.catch_warnings():
            # Saved without optimizer slots, to keep the files small.
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            self.model = keras.saving.load_model(path)
        self.box = _box(described.name)
        self.data = datasets.load_for(described.name)
        shown = slice(settings.samples)
        self._x, self._y = self._shaped(self.data.x_test[shown]), self.data.y_test[shown]
        self.chain = read_chain(self.model)
        self.body = _body(self.model)
        self._features = self._x if self.body is None else _predicted(self.body, self._x)
        self._check()

    @property
    def attacked(self) -> int:
        """How many samples are attacked."""
        limit = len(self._y) if self.body is None else self.settings.attacked_convolutional
        return min(limit, len(self._y))

    @property
    def given(self) -> dict[str, Any]:
        """What its measurements depend on, as JSON has it."""
        return {
            "model": self.sha256,
            "samples": len(self._y),
            "attacked": self.attacked,
            "judged": self.judged,
        }

    @property
    def judged(self) -> int:
        """How many synthetic inputs the judge looks at."""
        return self.settings.judged if self.body is None else self.settings.judged_convolutional

    @property
    def layers(self) -> list[str]:
        """Names of the layers that are pruned."""
        dense = [layer for layer in self.model.layers if isinstance(layer, keras.layers.Dense)]
        return [layer.name for layer in dense[:-1]]

    def training_inputs(self, count: int, seed: int) -> NDArray[np.float32]:
        """Draw training inputs, without labels, in the shape that the model takes."""
        drawn = np.random.default_rng(seed).permutation(len(self.data.x_train))[:count]
        return self._shaped(self.data.x_train[np.sort(drawn)])

    def measure(self, chain: Chain) -> dict[str, Any]:
        """Count what a chain gets right, alone and under FGSM on its own gradients.

        Returns
        -------
        dict
            `agreement`: the share of the judge's synthetic inputs that are classified as by the
            original; `samples`, `correct`, `balanced`: the mean over the classes of the share that
            is right; where there are two classes `recall`, the share of frauds found; `attacked`
            and `robust`: for each epsilon how many of those are right both times.
        """
        weights = self._weights(chain)
        clean, expected = self._clean, self._expected
        clean.take(weights)
        agreement = float(np.mean(clean.classes(self._synthetic) == expected))
        found = clean.measure(EPSILONS if self.body is None else ()) | {"agreement": agreement}
        if self.chain.layers[-1].units == 1:
            found["recall"] = float(np.mean(clean.classes(clean.x)[clean.y == 1] == 1))
        if self.body is not None:
            self._whole.take(weights)
            found["robust"] = self._whole.measure(EPSILONS)["robust"]
        return found | {"attacked": self.attacked}

    @cached_property
    def _synthetic(self) -> NDArray[np.float32]:
        """What the judge looks at, behind the layers that stay."""
        opened = open_model(self.model, trust=False)
        box = input_box_of(opened, self.box)
        source = judged_on(opened, box)
        x = draw(opened, box, source, samples=self.judged, seed=_JUDGE_SEED).arrays[0]
        return x if self.body is None else _predicted(self.body, x)

    @cached_property
    def _expected(self) -> NDArray[np.int64]:
        """How the original classifies that; the chain that is being measured makes room for it."""
        self._clean.take(self._weights(self.chain))
        return np.asarray(self._clean.classes(self._synthetic))

    @cached_property
    def _clean(self) -> Workbench:
        """The chain alone."""
        inputs = keras.Input(self._features.shape[1:])
        model = self._behind(inputs, keras.layers.Flatten()(inputs))
        box = self.box if self.body is None else (np.zeros(()), np.full((), np.inf))
        return Workbench(model, self._features, self._y, *box)

    @cached_property
    def _whole(self) -> Workbench:
        """The chain behind the layers before it."""
        assert self.body is not None
        model = self._behind(self.body.inputs[0], self.body.outputs[0])
        shown = slice(self.attacked)
        return Workbench(model, self._x[shown], self._y[shown], *self.box, batch=100)

    def _behind(self, inputs: Any, values: Any) -> keras.Model:
        """Return a network of the original's widths behind some values."""
        for number, units in enumerate(self.chain.widths):
            values = keras.layers.Dense(units, activation="relu", name=f"hidden_{number}")(values)
        outputs = self.chain.layers[-1].units
        return keras.Model(inputs, keras.layers.Dense(outputs, name="logits")(values))

    def _weights(self, chain: Chain) -> dict[str, NDArray[np.float32]]:
        names = [f"hidden_{number}" for number in range(len(self.chain.widths))]
        weights = {}
        padded = chain.padded(self.chain.widths)
        for name, (kernel, bias) in zip([*names, "logits"], padded, strict=True):
            weights[f"{name}/0"] = kernel.astype(np.float32)
            weights[f"{name}/1"] = bias.astype(np.float32)
        return weights

    def _shaped(self, x: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(x, np.float32).reshape(len(x), *self.model.input_shape[1:])

    def _check(self) -> None:
        """Make sure that the chain computes what the model does."""
        logits = self.chain.logits(self._features[:_CHECKED])
        expected = _predicted(self.model, self._x[:_CHECKED])
        if logits.shape[1] == 1:
            outputs = 1 / (1 + np.exp(-logits))
        else:
            outputs = np.exp(logits - logits.max(axis=1, keepdims=True))
            outputs /= outputs.sum(axis=1, keepdims=True)
        worst = np.abs(outputs - expected).max()
        if not worst <= _TOLERANCE:
            raise ValueError(f"{self.described.name}: its chain is off by {worst:g}")


def _box(name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the input box of a model; pixels where none is on disk."""
    path = FOLDER / f"{name}_box.npz"
    if not path.is_file():
        return np.zeros(()), np.ones(())
    with np.load(path) as box:
        return box["lower"], box["upper"]


def _body(model: keras.Model) -> keras.Model | None:
    """Return what comes before the head of a convolutional model."""
    if not any(isinstance(layer, keras.layers.Conv2D) for layer in model.layers):
        return None
    flatten = next(x for x in model.layers if isinstance(x, keras.layers.Flatten))
    return keras.Model(model.inputs, flatten.output)


def _predicted(model: keras.Model, x: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = model.predict(x, batch_size=200, verbose=0)
    return found
