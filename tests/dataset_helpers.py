"""What the tests of evaluation data share: what a model expects, samples, and how they are read."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from nnprune.datasets.evaluation_data import EvaluationData
from nnprune.datasets.expectation import Expectation
from nnprune.datasets.sources import open_data
from nnprune.errors import DataError

BoxSource = Literal["given", "default", "rescaling", "assumed"]


def classifier(
    shape: tuple[int, ...] = (4,),
    classes: int = 3,
    box: tuple[Any, Any] = (0.0, 1.0),
    source: BoxSource = "default",
) -> Expectation:
    """Return what a classifier expects."""
    lower, upper = (np.broadcast_to(np.asarray(end, np.float64), shape) for end in box)
    return Expectation(
        input_shape=shape,
        outputs=classes,
        task="classification",
        output_shape=(classes,),
        lower=lower,
        upper=upper,
        box_source=source,
    )


def regressor(output_shape: tuple[int, ...] = (1,)) -> Expectation:
    """Return what a model of four features expects that predicts values."""
    return Expectation(
        input_shape=(4,),
        outputs=2,
        task="regression",
        output_shape=output_shape,
        lower=np.zeros(4),
        upper=np.ones(4),
        box_source="default",
    )


def drawn(count: int = 20, shape: tuple[int, ...] = (4,), classes: int = 3) -> tuple[Any, Any]:
    """Return random samples and labels."""
    random = np.random.default_rng(count)
    return random.random((count, *shape), np.float32), random.integers(0, classes, count)


def whole(data: EvaluationData, expectation: Expectation, size: int = 8) -> tuple[Any, Any]:
    """Read all, and check the form of every batch."""
    batches = list(data.batches(expectation, size))
    for batch in batches:
        assert batch.x.dtype == np.float32
        assert batch.x.flags.c_contiguous
        assert batch.x.shape == (len(batch.y), *expectation.input_shape)
        assert batch.y.dtype == (np.int64 if expectation.task == "classification" else np.float32)
    assert [len(batch.y) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert 0 < len(batches[-1].y) <= size
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    assert data.description().samples == len(x)
    return x, y


def refused(
    x: Any, y: Any = None, expectation: Expectation | None = None, size: int = 8, **scaling: float
) -> str:
    """Return the message for data that must not pass."""
    with pytest.raises(DataError) as caught:
        list(open_data(x, y, **scaling).batches(expectation or classifier(), size))
    assert str(caught.value).isprintable()
    return str(caught.value)
