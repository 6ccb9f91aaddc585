"""The box of inputs over which every bound holds: as given, or as the first layers suggest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnprune.errors import BoundsError
from nnprune.keras_io.config import LayerCall, ModelCalls, ModelInput
from nnprune.keras_io.layers.context import Unfollowable
from nnprune.keras_io.layers.preprocessing import normalization, rescaling
from nnprune.keras_io.layers.structural import resolved_shape
from nnprune.keras_io.weights import WeightProvider
from nnprune.keras_io.wording import quoted

__all__ = ["Bounds", "InputBox", "Source", "default_box", "given_box"]

Source = Literal["default", "rescaling", "assumed", "given"]

Bounds = (
    tuple[ArrayLike, ArrayLike]
    | Sequence[tuple[ArrayLike, ArrayLike]]
    | Mapping[str, ArrayLike | tuple[ArrayLike, ArrayLike]]
)
"""Two numbers or arrays; or such a pair for every input, in a list or by the input's name; or
`lower` and `upper` by name, as `np.load` gives them for an `.npz` file."""

# A Normalization layer tells how its input is spread, not where it ends.
_DEVIATIONS = 4.0

# They pass every value on as it is, in the same order.
_PASSING = frozenset(
    {
        "ActivityRegularization",
        "AlphaDropout",
        "Dropout",
        "GaussianDropout",
        "GaussianNoise",
        "Identity",
    }
)


@dataclass(frozen=True, kw_only=True, eq=False)
class InputBox:
    """Least and largest value of every input feature.

    Attributes
    ----------
    lower, upper
        One float64 array for each input, of the input's shape without the batch axis.
    source
        `"default"`: [0, 1]. `"rescaling"`: what a leading Rescaling layer is meant for.
        `"assumed"`: mean +- 4 deviations of a leading Normalization layer. `"given"`.
    """

    lower: tuple[NDArray[np.float64], ...]
    upper: tuple[NDArray[np.float64], ...]
    source: Source


class _Interval(NamedTuple):
    """Bounds of one input, of its shape or broadcast to it, and where they are from."""

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    source: Source


_UNIT = _Interval(np.zeros(()), np.ones(()), "default")


def default_box(calls: ModelCalls, weights: WeightProvider) -> InputBox:
    """Bounds to take where none are given: [0, 1], or what the first layers suggest.

    Behind a leading Rescaling layer it is what that maps to [0, 1], or to [-c, c] where it adds
    -c: [0, 255] for a scale of 1/255, and for a scale of 1/127.5 with an offset of -1. Behind a
    leading Normalization layer it is the mean +- 4 deviations, marked as assumed.

    Parameters
    ----------
    calls
        The model.
    weights
        Gives the mean and variance of a Normalization layer.
    """
    found = [_suggested(model_input, calls, weights) for model_input in calls.inputs]
    sources = {interval.source for interval in found}
    order: tuple[Source, ...] = ("assumed", "rescaling", "default")
    return _box(calls.inputs, found, next(source for source in order if source in sources))


def given_box(
    inputs: Sequence[ModelInput], bounds: Bounds, *, infinity: float | None = None
) -> InputBox:
    """Check bounds and bring them to the inputs' shapes.

    Parameters
    ----------
    inputs
        The model's inputs.
    bounds
        `(lower, upper)`, numbers or arrays that broadcast to the input's shape. With several
        inputs: two numbers for all of them, a list with a pair for each, or a mapping from
        their names to pairs. Or a mapping with `lower` and `upper`, as from an `.npz` file;
        with several inputs, these or `<name>_lower` and `<name>_upper` for each.
    infinity
        Taken for an infinite side; by default that is an error.

    Raises
    ------
    BoundsError
        They are inverted, not finite, not numbers, or do not fit; the message names the input.
    """
    pairs = _pairs(inputs, bounds)
    found = [_checked(one, pair, infinity) for one, pair in zip(inputs, pairs, strict=True)]
    return _box(inputs, found, "given")


def _suggested(model_input: ModelInput, calls: ModelCalls, weights: WeightProvider) -> _Interval:
    """Find what the layers that read an input suggest for it, if they agree."""
    suggestions = []
    for call, shape in _first_readers(model_input, calls):
        interval = _suggested_by(call, shape, weights)
        # Numbers along the last axis mean something only for the input as it was.
        fits = interval.lower.size == interval.upper.size == 1 or shape == model_input.shape
        suggestions.append(interval if fits else _UNIT)
    first, *others = suggestions or [_UNIT]
    agreed = all(
        np.array_equal(first.lower, other.lower) and np.array_equal(first.upper, other.upper)
        for other in others
    )
    return first if agreed else _UNIT


def _first_readers(
    model_input: ModelInput, calls: ModelCalls
) -> list[tuple[LayerCall, tuple[int, ...]]]:
    """Find the calls that read an input's values as they are, and the shape they see."""
    same: dict[str, tuple[int, ...]] = {model_input.name: model_input.shape}
    readers: list[tuple[LayerCall, tuple[int, ...]]] = []
    for call in calls.calls:
        seen = next((same[source] for source in call.sources if source in same), None)
        if seen is None:
            continue
        if call.class_name == "Flatten":
            same[call.name] = (math.prod(seen),)
        elif call.class_name == "Reshape":
            same[call.name] = resolved_shape(call.config["target_shape"], seen)
        elif call.class_name in _PASSING:
            same[call.name] = seen
        else:
            readers.append((call, seen))
    return readers


def _suggested_by(call: LayerCall, shape: tuple[int, ...], weights: WeightProvider) -> _Interval:
    try:
        if call.class_name == "Rescaling":
            return _before_rescaling(*rescaling(call.config, shape))
        if call.class_name == "Normalization":
            mean, deviation = normalization(call, shape, weights)
            if call.config.get("invert"):  # it reads what another one has normalized
                mean, deviation = np.zeros(1), np.ones(1)
            spread = _DEVIATIONS * deviation
            return _Interval(mean - spread, mean + spread, "assumed")
    except Unfollowable:
        pass  # bounds along another axis: nothing to go by
    return _UNIT


def _before_rescaling(scale: NDArray[np.float64], offset: NDArray[np.float64]) -> _Interval:
    if np.any(scale == 0.0):
        return _UNIT
    # A negative offset centres the values around 0: [0, 255] becomes [-1, 1] by 1/127.5 and -1.
    lower, upper = np.where(offset < 0.0, offset, 0.0), np.where(offset < 0.0, -offset, 1.0)
    ends = (lower - offset) / scale, (upper - offset) / scale
    return _Interval(np.minimum(*ends), np.maximum(*ends), "rescaling")


def _pairs(inputs: Sequence[ModelInput], bounds: Any) -> list[Any]:
    """Sort bounds by input; each is what should be a pair."""
    names = [one.name for one in inputs]
    if isinstance(bounds, Mapping):
        return [_named_pair(name, bounds, alone=len(inputs) == 1) for name in names]
    try:
        parts = list(bounds)
    except TypeError:
        raise BoundsError(
            f"input_bounds: bounds must be a pair (lower, upper), got {bounds!r}"
        ) from None
    if len(inputs) == 1 or (len(parts) == 2 and all(np.ndim(part) == 0 for part in parts)):
        return [parts] * len(inputs)
    if len(parts) != len(inputs):
        raise BoundsError(
            f"input_bounds: {len(parts)} bounds for {len(inputs)} inputs "
            f"({', '.join(map(quoted, names))})"
        )
    return parts


def _named_pair(name: str, bounds: Mapping[str, Any], *, alone: bool) -> Any:
    keys = set(bounds)
    if name in keys:
        return bounds[name]
    for lower, upper in ((f"{name}_lower", f"{name}_upper"), ("lower", "upper")):
        if lower in keys and upper in keys:
            return bounds[lower], bounds[upper]
    wanted = "'lower' and 'upper'" if alone else f"{quoted(name)}, or 'lower' and 'upper'"
    raise BoundsError(f"input_bounds: no bounds for input {quoted(name)}: they must hold {wanted}")


def _checked(model_input: ModelInput, pair: Any, infinity: float | None) -> _Interval:
    named = f"input_bounds: input {quoted(model_input.name)} of shape {model_input.shape}"
    try:
        lower, upper = (np.asarray(end, np.float64) for end in pair)
    except (TypeError, ValueError):
        raise BoundsError(
            f"{named}: bounds must be a pair (lower, upper) of numbers or arrays"
        ) from None
    for end in (lower, upper):
        try:
            np.broadcast_to(end, model_input.shape)
        except ValueError:
            raise BoundsError(
                f"{named}: bounds of shape {end.shape} do not fit; give numbers, or arrays of the "
                "input's shape"
            ) from None
        if np.any(np.isnan(end)):
            raise BoundsError(f"{named}: bounds must be finite")
    if np.any(lower > upper):
        raise BoundsError(f"{named}: a lower bound is above its upper bound")
    if not np.all(np.isfinite(lower)) or not np.all(np.isfinite(upper)):
        if infinity is None:
            raise BoundsError(f"{named}: bounds must be finite")
        lower, upper = (np.clip(end, -infinity, infinity) for end in (lower, upper))
    return _Interval(lower, upper, "given")


def _box(inputs: Sequence[ModelInput], intervals: Sequence[_Interval], source: Source) -> InputBox:
    def filled(end: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
        return np.broadcast_to(end.reshape(()) if end.size == 1 else end, shape).copy()

    pairs = list(zip(intervals, inputs, strict=True))
    return InputBox(
        lower=tuple(filled(interval.lower, one.shape) for interval, one in pairs),
        upper=tuple(filled(interval.upper, one.shape) for interval, one in pairs),
        source=source,
    )
