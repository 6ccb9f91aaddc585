"""The data-free judge: how often two models agree on inputs that no data were needed for.

In trials this went with true accuracy from one pruning to the next, and so tells the better of two
prunings without samples; `docs/compensation.md` has the figures.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnprune import _core
from nnprune.compensation import require_count, source_of
from nnprune.compensation_trace import SyntheticAgreement
from nnprune.errors import ModelError
from nnprune.keras_io.input_box import InputBox
from nnprune.keras_io.opened import OpenedModel, input_box_of, open_model
from nnprune.metrics.classification import Proportion, predictions, proportion
from nnprune.result import PruningResult
from nnprune.synthetic.draw import draw
from nnprune.synthetic.scene import Scene
from nnprune.synthetic.sources import (
    FirstLayer,
    GradientFound,
    Mixture,
    Source,
    source_to_dict,
)

if TYPE_CHECKING:
    import keras

__all__ = ["JUDGED_SAMPLES", "Judge", "agreement", "judgeable", "stream"]

#: Inputs that the judge looks at: the standard error of an agreement of 0.9 is 0.005.
JUDGED_SAMPLES = 4000

# Keras' naming of layers is one for all threads.
_one_at_a_time = threading.Lock()


def agreement(
    original: str | os.PathLike[str] | keras.Model,
    pruned: str | os.PathLike[str] | keras.Model | PruningResult,
    *,
    source: str | Source | None = None,
    samples: int = JUDGED_SAMPLES,
    seed: int = 0,
    input_bounds: Any = None,
    trust: bool = False,
) -> SyntheticAgreement:
    """Tell without data on how many inputs a smaller model classifies as its original does.

    Parameters
    ----------
    original, pruned : path-like, keras.Model or PruningResult
        The models.
    source : str or a source of `nnprune.synthetic`, optional
        Where the inputs come from; by default one half by gradient towards the original's classes,
        the other with the covariance of its first layers' weights.
    samples : int, default 4000
        Number of inputs.
    seed : int, default 0
        Seed of the inputs; they are those that a pruning with this seed is judged on.
    input_bounds : optional
        The original's legitimate inputs, as for `prune`.
    trust : bool, default False
        Open files although they could run code: only for files whose author you trust.

    Returns
    -------
    SyntheticAgreement
        The inputs classified alike.

    Raises
    ------
    ConfigError
        An option is out of range, or the bounds are wrong (`BoundsError`).
    ModelError
        The models are no classifiers with one output, or do not belong together.
    FileFormatError, UntrustedModelError
        A file is no model, damaged, or does what an unknown file must not do.
    """
    require_count("samples", samples, least=1, most=10**7)
    require_count("seed", seed, least=0, most=2**64 - 1)
    chosen = None if source is None else source_of(source)
    smaller = pruned.model if isinstance(pruned, PruningResult) else pruned
    whole, small = open_model(original, trust=trust), open_model(smaller, trust=trust)
    shapes = [[one.shape for one in opened.graph.inputs] for opened in (whole, small)]
    if shapes[0] != shapes[1]:
        raise ModelError(
            f"the original takes inputs of shape {shapes[0]}, the pruned model {shapes[1]}: they "
            "do not belong together"
        )
    given = [_shapes_of_logits(opened) for opened in (whole, small)]
    if given[0] != given[1]:
        raise ModelError(
            f"the original gives logits of shape {given[0]}, the pruned model {given[1]}: they do "
            "not belong together"
        )
    box = input_box_of(whole, input_bounds)
    judge = Judge(whole, box, source=chosen, samples=samples, seed=seed)
    return judge.told(judge.agreement_of(small))


class Judge:
    """Compares smaller networks with their original on inputs drawn once.

    Parameters
    ----------
    opened : OpenedModel
        The original.
    box : InputBox
        Its legitimate inputs.
    source : Source or None
        Where the inputs come from; None for the usual mixture.
    samples : int
        Number of inputs.
    seed : int
        The run's seed; the judge draws from a stream of its own.

    Raises
    ------
    ModelError
        The model is no classifier with one output.
    """

    def __init__(
        self, opened: OpenedModel, box: InputBox, *, source: Source | None, samples: int, seed: int
    ) -> None:
        reason = not_judgeable(opened)
        if reason is not None:
            raise ModelError(
                f"model '{opened.name}': {reason}, and agreement is of classes; "
                "restarts and min_agreement have nothing to go by"
            )
        self._opened = opened
        self._source = judged_on(opened, box) if source is None else source
        self._seed = stream(seed, "judge")
        self._inputs = draw(opened, box, self._source, samples=samples, seed=self._seed).arrays
        self._expected = self._classes(opened)

    def agreement(
        self, network: _core.Network, kept: Mapping[str, NDArray[np.int64]]
    ) -> Proportion:
        """Count the inputs that a network in or after its pruning classifies as the original.

        Parameters
        ----------
        network
            The network: smaller, or of the original's shape with units masked.
        kept
            The original numbers of the units left, for every layer that lost some.
        """
        if not self._opened.graph.opaque:
            return self._compared(_classes_of(network, self._inputs))
        from nnprune.keras_io.rebuild import rebuild

        with _one_at_a_time:
            opened = self._opened
            rebuilt = rebuild(opened.model, opened.graph, network, kept, compiled=False)
            return self._compared(_keras_classes(rebuilt.model, self._inputs))

    def agreement_of(self, opened: OpenedModel) -> Proportion:
        """Count the inputs that another model classifies as the original."""
        return self._compared(self._classes(opened))

    def told(self, found: Proportion) -> SyntheticAgreement:
        """Say what an agreement was measured on."""
        plain = source_to_dict(self._source)
        return SyntheticAgreement(agreement=found, source=plain, seed=self._seed)

    def _classes(self, opened: OpenedModel) -> NDArray[np.int64]:
        if self._opened.graph.opaque:
            return _keras_classes(opened.model, self._inputs)
        return _classes_of(opened.graph.network, self._inputs)

    def _compared(self, found: NDArray[np.int64]) -> Proportion:
        return proportion(int(np.sum(found == self._expected)), len(found))


def judged_on(opened: OpenedModel, box: InputBox) -> Source:
    """Return the usual source of a model's judge.

    Two kinds, since one alone favours what was fitted on it.
    """
    images = Scene.of(opened.graph.network, box).has_images
    first = FirstLayer(mean=0.0, contrast=0.4) if images else FirstLayer()
    return Mixture(sources=(GradientFound(), first))


def judgeable(opened: OpenedModel) -> bool:
    """Whether the judge can compare prunings of a model."""
    return not_judgeable(opened) is None


def not_judgeable(opened: OpenedModel) -> str | None:
    """Say why a model is nothing for the judge; None if it is."""
    network, outputs = opened.graph.network, _shapes_of_logits(opened)
    if len(outputs) != 1 or len(outputs[0]) != 1:
        return f"it gives outputs of shape {outputs}"
    if opened.graph.opaque and len(opened.graph.inputs) != 1:
        return "it has several inputs and layers that the engine cannot follow"
    linear = network.logits == network.outputs
    if opened.loss_task == "regression":
        return "its loss is that of a regression"
    return "it gives one number" if linear and outputs[0] == (1,) and not _binary(opened) else None


def stream(seed: int, purpose: str) -> int:
    """Return the seed of a stream of its own for a part of a run: 64 bits of a SHA-256."""
    digest = hashlib.sha256(f"{purpose} {seed}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


def _binary(opened: OpenedModel) -> bool:
    return opened.loss_task == "classification"


def _classes_of(network: _core.Network, inputs: Sequence[NDArray[np.float32]]) -> NDArray[np.int64]:
    given = dict(zip(network.inputs, inputs, strict=True))
    return predictions(network.forward(given, network.logits)[0])


def _keras_classes(model: keras.Model, inputs: Sequence[NDArray[np.float32]]) -> NDArray[np.int64]:
    from nnprune.keras_io.forward import outputs_of
    from nnprune.keras_io.logits import logits_model

    return predictions(outputs_of(logits_model(model).model, inputs[0]))


def _shapes_of_logits(opened: OpenedModel) -> list[tuple[int, ...]]:
    network = opened.graph.network
    shapes = {node.name: node.shape for node in network.nodes}
    return [shapes[name] for name in network.logits]
