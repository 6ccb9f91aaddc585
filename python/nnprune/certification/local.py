"""Local certificates: what holds all around each of given samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnprune import _core
from nnprune.certification.samples import Samples, classifies, compute
from nnprune.errors import ConfigError, ModelError
from nnprune.keras_io.opened import OpenedModel
from nnprune.keras_io.wording import quoted
from nnprune.metrics.classification import predictions

__all__ = ["LocalCounts", "ball", "certified", "checked_epsilons", "measure_local"]

# So many boxes go to the core at once: between two such calls the progress bar moves.
_CHUNK = 16

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class LocalCounts:
    """On how many samples something is proved for the whole ball around them.

    The ball has radius `epsilon` in the maximum norm, in the input's own units, cut to the box.

    Attributes
    ----------
    epsilon : float
        The radius.
    samples : int
        How many samples there were.
    labelled : bool
        Whether their classes were known: then robust means certified to that class (eq. 1), else
        to the one that the model predicts.
    robust_original, robust_pruned : int
        How many are certified robust.
    agree : int
        Around how many both models are certified to the same class.
    """

    epsilon: float
    samples: int
    labelled: bool
    robust_original: int
    robust_pruned: int
    agree: int


def checked_epsilons(eps: Any) -> tuple[float, ...]:
    """Take one radius or several.

    Raises
    ------
    ConfigError
        One is no positive number.
    """
    if eps is None:
        return ()
    if isinstance(eps, str):
        raise ConfigError(f"eps: expected positive numbers, got {eps!r}")
    given = list(eps) if isinstance(eps, Sequence | np.ndarray) else [eps]
    if not given:
        raise ConfigError("eps: expected at least one radius, got none")
    for one in given:
        number = isinstance(one, int | float | np.integer | np.floating)
        if not number or isinstance(one, bool) or not (np.isfinite(one) and one > 0):
            raise ConfigError(f"eps: expected positive numbers, got {one!r}")
    return tuple(float(one) for one in given)


def measure_local(
    original: OpenedModel,
    pruned: OpenedModel,
    lower: Array,
    upper: Array,
    samples: Samples,
    epsilons: Sequence[float],
    advance: Callable[[int], None],
) -> tuple[LocalCounts, ...]:
    """Certify both models in the ball around every sample, for every radius.

    Parameters
    ----------
    original, pruned : OpenedModel
        The models.
    lower, upper : float64 array of the input's shape
        The box.
    samples : Samples
        The samples.
    epsilons : sequence of float
        The radii.
    advance : callable
        Told how many balls of one model are done.

    Raises
    ------
    ModelError
        The models do not predict classes.
    """
    if not classifies(original):
        raise ModelError(
            f"eps: model {quoted(original.model.name)} does not predict classes; local "
            "certificates are about one class an input"
        )
    classes = [
        np.concatenate([predictions(logits) for logits in compute(opened, samples.x)])
        for opened in (original, pruned)
    ]
    found = []
    for epsilon in epsilons:
        sure = [
            certified(opened, predicted, lower, upper, samples.x, epsilon, advance)
            for opened, predicted in zip((original, pruned), classes, strict=True)
        ]
        right = [True if samples.y is None else one == samples.y for one in classes]
        found.append(
            LocalCounts(
                epsilon=epsilon,
                samples=len(samples.x),
                labelled=samples.y is not None,
                robust_original=int(np.sum(sure[0] & right[0])),
                robust_pruned=int(np.sum(sure[1] & right[1])),
                agree=int(np.sum(sure[0] & sure[1] & (classes[0] == classes[1]))),
            )
        )
    return tuple(found)


def certified(
    opened: OpenedModel,
    classes: NDArray[np.int64],
    lower: Array,
    upper: Array,
    x: NDArray[np.float32],
    epsilon: float,
    advance: Callable[[int], None],
) -> Mask:
    """Tell around which samples a model is proved to predict the class given.

    Parameters
    ----------
    opened : OpenedModel
        The model.
    classes : int64 array [samples]
        The class to prove.
    lower, upper : float64 array of the input's shape
        The box.
    x : float32 array [samples, *input_shape]
        The samples.
    epsilon : float
        The radius.
    advance : callable
        Told how many are done.
    """
    parts = []
    for start in range(0, len(x), _CHUNK):
        stop = start + _CHUNK
        low, high = ball(x[start:stop], epsilon, lower, upper)
        margins = _core.certified_margins(opened.graph.network, low, high, classes[start:stop])
        parts.append(np.all(margins > 0.0, axis=1))
        advance(len(low))
    return np.concatenate(parts)


def ball(x: NDArray[np.float32], epsilon: float, lower: Array, upper: Array) -> tuple[Array, Array]:
    """Enclose the balls around samples, cut to the box: [samples, *input_shape] each.

    A sample that rounding has put just outside the box counts for the nearest point in it.
    """
    centre = np.clip(x.astype(np.float64), lower, upper)
    low = np.maximum(np.nextafter(centre - epsilon, -np.inf), lower)
    high = np.minimum(np.nextafter(centre + epsilon, np.inf), upper)
    return low, high
