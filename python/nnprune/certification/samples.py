"""Samples for a certificate: read, checked against the box, and computed with."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnprune.certification.outputs import outputs_of, single_label
from nnprune.certification.pair import Pair
from nnprune.datasets.arrays import ArrayRows
from nnprune.datasets.evaluation_data import EvaluationData
from nnprune.datasets.expectation import Expectation
from nnprune.datasets.inputs import InputReader
from nnprune.datasets.sources import open_data
from nnprune.errors import DataError, ModelError
from nnprune.keras_io.fingerprints import array_sha256
from nnprune.keras_io.wording import quoted

if TYPE_CHECKING:
    from nnprune.keras_io.opened import OpenedModel

__all__ = ["Samples", "classifies", "compute", "read_samples"]

_BATCH = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Samples within the box.

    Attributes
    ----------
    x : float32 array [samples, *input_shape]
        The inputs.
    y : int64 array [samples] or None
        Their classes, where they are known.
    """

    x: NDArray[np.float32] = field(repr=False)
    y: NDArray[np.int64] | None = field(repr=False)

    @property
    def sha256(self) -> str:
        """Fingerprint of the inputs and classes as they are computed with."""
        parts = [array_sha256(self.x), "" if self.y is None else array_sha256(self.y)]
        return hashlib.sha256("".join(parts).encode()).hexdigest()


def read_samples(samples: Any, pair: Pair) -> Samples:
    """Take samples as `nnprune.evaluate` does, or inputs without classes.

    Parameters
    ----------
    samples : array, pair (x, y) or what else `nnprune.evaluate` takes
        The samples; y may be None.
    pair : Pair
        The models, and the box.

    Raises
    ------
    DataError
        They cannot be read, do not fit the model, or are outside the box; the first is named.
    ModelError
        The model has several inputs or outputs.
    """
    opened = pair.original
    _check_ends(opened)
    outputs = outputs_of(opened.graph.network)
    expectation = Expectation(
        input_shape=opened.graph.inputs[0].shape,
        outputs=max(outputs[0].classes, 2),
        task="classification" if classifies(opened) else "regression",
        output_shape=tuple(opened.model.outputs[0].shape[1:]),
        lower=pair.lower[0],
        upper=pair.upper[0],
        # Also one that was only assumed is what the certificate holds over.
        box_source="given",
    )
    data = _data(samples)
    if isinstance(data, EvaluationData):
        batches = list(data.batches(expectation, _BATCH))
        x = np.concatenate([batch.x for batch in batches])
        y = np.concatenate([batch.y for batch in batches])
        return Samples(x=x, y=y.astype(np.int64) if expectation.task == "classification" else None)
    reader = InputReader("samples", expectation, None)
    rows = ArrayRows("samples", data)
    if not rows.shape or not rows.shape[0]:
        raise DataError(f"samples: there are none (shape {rows.shape})")
    reader.meet(rows.shape[1:], rows.dtype)
    parts = []
    for chunk in rows.chunks(_BATCH):
        parts.append(reader.convert(chunk))
        reader.survey(parts[-1])
    reader.verdict("")
    return Samples(x=np.concatenate(parts), y=None)


def classifies(opened: OpenedModel) -> bool:
    """Whether the model names one class of an input, as far as its head and loss tell."""
    from nnprune.keras_io.loss_task import loss_task

    outputs = outputs_of(opened.graph.network)
    return single_label(outputs) and (
        outputs[0].head != "logits" or loss_task(opened.model) != "regression"
    )


def compute(opened: OpenedModel, x: NDArray[np.float32]) -> Iterator[NDArray[np.float64]]:
    """Compute the logits of samples as Keras does, batch by batch: [samples, logits].

    Raises
    ------
    ModelError
        They are NaN or infinite.
    """
    from nnprune.gradients import to_numpy
    from nnprune.keras_io.batches import batch_size_of
    from nnprune.keras_io.logits import logits_model

    model = logits_model(opened.model).model
    size = batch_size_of(model)
    for start in range(0, len(x), size):
        logits = to_numpy(model(x[start : start + size], training=False)).astype(np.float64)
        if not np.isfinite(logits).all():
            raise ModelError(
                f"model {quoted(opened.model.name)}: gives NaN or infinite logits on the samples"
            )
        yield logits.reshape(len(logits), -1)


def _data(samples: Any) -> Any:
    """Open labelled data; an array is left as it is."""
    if isinstance(samples, EvaluationData):
        return samples
    pair = isinstance(samples, tuple) and len(samples) == 2
    if pair and samples[1] is None:
        return samples[0]
    if pair or isinstance(samples, str | os.PathLike) or not hasattr(samples, "__array__"):
        return open_data(samples)
    return samples


def _check_ends(opened: OpenedModel) -> None:
    name = quoted(opened.model.name)
    if len(opened.graph.inputs) != 1 or len(opened.model.outputs) != 1:
        raise ModelError(
            f"samples: model {name} has {len(opened.graph.inputs)} inputs and "
            f"{len(opened.model.outputs)} outputs; samples need one of each"
        )
    outputs = outputs_of(opened.graph.network)
    if outputs[0].head != "logits" and not single_label(outputs):
        raise ModelError(
            f"samples: model {name} gives several labels an input (layer "
            f"{quoted(outputs[0].name)}, {outputs[0].head} of shape {outputs[0].shape}); samples "
            "need a single one"
        )
