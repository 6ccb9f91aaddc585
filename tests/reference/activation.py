"""Activations: value and slope in closed form, and their ranges over an interval.

The definitions are those of Keras 3. A range is found from the end points, the kinks (where the
left and the right limit differ) and the stationary points inside the interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Parameters = Mapping[str, float]

KINDS = (
    "linear",
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "celu",
    "selu",
    "sigmoid",
    "tanh",
    "softplus",
    "softsign",
    "exponential",
    "gelu",
    "gelu_tanh",
    "silu",
    "mish",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "log_sigmoid",
)

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946

# Where the derivative vanishes: where a smooth, non-monotone value is extreme.
_VALUE_STATIONARY = {
    "gelu": (-0.7517915246935645,),
    "gelu_tanh": (-0.7524614220710162,),
    "silu": (-1.278464542761074,),
    "mish": (-1.192431214515495,),
    "hard_silu": (-1.5,),
}
# Where the second derivative vanishes and changes its sign.
_SLOPE_STATIONARY = {
    "sigmoid": (0.0,),
    "tanh": (0.0,),
    "softsign": (0.0,),
    "gelu": (-math.sqrt(2.0), math.sqrt(2.0)),
    "gelu_tanh": (-1.4185040087908287, 1.4185040087908287),
    "silu": (-2.3993572805154675, 2.3993572805154675),
    "mish": (-2.256376396360793, 1.4905711794854293),
}
_KINKS = {
    "relu6": (0.0, 6.0),
    "leaky_relu": (0.0,),
    "elu": (0.0,),
    "celu": (0.0,),
    "selu": (0.0,),
    "hard_sigmoid": (-3.0, 3.0),
    "hard_silu": (-3.0, 3.0),
    "hard_tanh": (-1.0, 1.0),
}


def _parameter(parameters: Parameters | None, name: str, default: float) -> float:
    return float((parameters or {}).get(name, default))


def _relu_parameters(parameters: Parameters | None) -> tuple[float, float, float]:
    return (
        _parameter(parameters, "negative_slope", 0.0),
        _parameter(parameters, "max_value", math.inf),
        _parameter(parameters, "threshold", 0.0),
    )


def _sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0.0, 1.0 / (1.0 + small), small / (1.0 + small))


def _normal_cdf(x: Array) -> Array:
    # 1 + erf loses every digit in the far left tail, erfc does not.
    return np.asarray(0.5 * np.vectorize(math.erfc, otypes=[np.float64])(-x / math.sqrt(2.0)))


def _gelu_tanh_inner(x: Array) -> tuple[Array, Array]:
    scale = math.sqrt(2.0 / math.pi)
    return scale * (x + 0.044715 * x**3), scale * (1.0 + 3.0 * 0.044715 * x**2)


def value(kind: str, x: Array, parameters: Parameters | None = None, side: str = "at") -> Array:
    """Value of the activation; `side` ("left", "right") takes the one-sided limit at a jump."""
    x = np.asarray(x, dtype=np.float64)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return _value(kind, x, parameters, side)


def _value(kind: str, x: Array, parameters: Parameters | None, side: str) -> Array:
    match kind:
        case "linear":
            return x.copy()
        case "relu":
            negative_slope, max_value, threshold = _relu_parameters(parameters)
            above = x >= threshold if side == "right" else x > threshold
            passed = np.clip(
                np.where(above, x, 0.0), 0.0 if _clips(parameters) else None, max_value
            )
            return np.where(above, passed, 0.0) - negative_slope * np.maximum(threshold - x, 0.0)
        case "relu6":
            return np.clip(x, 0.0, 6.0)
        case "leaky_relu":
            return np.where(x >= 0.0, x, _parameter(parameters, "negative_slope", 0.2) * x)
        case "elu":
            return np.where(x >= 0.0, x, _parameter(parameters, "alpha", 1.0) * np.expm1(x))
        case "celu":
            alpha = _parameter(parameters, "alpha", 1.0)
            return np.where(x >= 0.0, x, alpha * np.expm1(x / alpha))
        case "selu":
            return SELU_SCALE * np.where(x >= 0.0, x, SELU_ALPHA * np.expm1(x))
        case "sigmoid":
            return _sigmoid(x)
        case "tanh":
            return np.tanh(x)
        case "softplus":
            return np.logaddexp(x, 0.0)
        case "softsign":
            return x / (1.0 + np.abs(x))
        case "exponential":
            return np.exp(x)
        case "gelu":
            return x * _normal_cdf(x)
        case "gelu_tanh":
            return x * 0.5 * (1.0 + np.tanh(_gelu_tanh_inner(x)[0]))
        case "silu":
            return x * _sigmoid(x)
        case "mish":
            return x * np.tanh(np.logaddexp(x, 0.0))
        case "hard_sigmoid":
            return np.clip(x / 6.0 + 0.5, 0.0, 1.0)
        case "hard_silu":
            return x * np.clip(x / 6.0 + 0.5, 0.0, 1.0)
        case "hard_tanh":
            return np.clip(x, -1.0, 1.0)
        case "log_sigmoid":
            return -np.logaddexp(-x, 0.0)
        case _:
            raise ValueError(kind)


def _clips(parameters: Parameters | None) -> bool:
    """Whether values above the threshold are cut at 0: with a maximum, or without a threshold."""
    return "max_value" in (parameters or {}) or _parameter(parameters, "threshold", 0.0) == 0.0


def slope(
    kind: str, x: Array, parameters: Parameters | None = None, *, side: str = "right"
) -> Array:
    """Return the derivative of the activation; at a kink the one of the given side."""
    x = np.asarray(x, dtype=np.float64)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return _slope(kind, x, parameters, side)


def _slope(kind: str, x: Array, parameters: Parameters | None, side: str) -> Array:
    def above(point: float) -> NDArray[np.bool_]:
        return x >= point if side == "right" else x > point

    match kind:
        case "linear":
            return np.ones_like(x)
        case "relu":
            negative_slope, max_value, threshold = _relu_parameters(parameters)
            inside = ~above(max_value)
            if _clips(parameters):
                inside &= above(0.0)
            return np.where(above(threshold), np.where(inside, 1.0, 0.0), negative_slope)
        case "relu6":
            return np.where(above(0.0) & ~above(6.0), 1.0, 0.0)
        case "leaky_relu":
            return np.where(above(0.0), 1.0, _parameter(parameters, "negative_slope", 0.2))
        case "elu":
            return np.where(above(0.0), 1.0, _parameter(parameters, "alpha", 1.0) * np.exp(x))
        case "celu":
            return np.where(above(0.0), 1.0, np.exp(x / _parameter(parameters, "alpha", 1.0)))
        case "selu":
            return SELU_SCALE * np.where(above(0.0), 1.0, SELU_ALPHA * np.exp(x))
        case "sigmoid":
            return _sigmoid(x) * _sigmoid(-x)
        case "tanh":
            # 1 - tanh^2 loses every digit in the tails.
            return 4.0 * _sigmoid(2.0 * x) * _sigmoid(-2.0 * x)
        case "softplus":
            return _sigmoid(x)
        case "softsign":
            return 1.0 / (1.0 + np.abs(x)) ** 2
        case "exponential":
            return np.exp(x)
        case "gelu":
            density = np.exp(-0.5 * x**2) / math.sqrt(2.0 * math.pi)
            return _normal_cdf(x) + x * density
        case "gelu_tanh":
            inner, inner_slope = _gelu_tanh_inner(x)
            t = np.tanh(inner)
            return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner_slope
        case "silu":
            return _sigmoid(x) + x * _sigmoid(x) * _sigmoid(-x)
        case "mish":
            t = np.tanh(np.logaddexp(x, 0.0))
            return t + x * (1.0 - t * t) * _sigmoid(x)
        case "hard_sigmoid":
            return np.where(above(-3.0) & ~above(3.0), 1.0 / 6.0, 0.0)
        case "hard_silu":
            return np.where(above(3.0), 1.0, np.where(above(-3.0), (2.0 * x + 3.0) / 6.0, 0.0))
        case "hard_tanh":
            return np.where(above(-1.0) & ~above(1.0), 1.0, 0.0)
        case "log_sigmoid":
            return _sigmoid(-x)
        case _:
            raise ValueError(kind)


def kinks(kind: str, parameters: Parameters | None = None) -> tuple[float, ...]:
    """Return the points where the value or the slope may jump."""
    if kind != "relu":
        return _KINKS.get(kind, ())
    _, max_value, threshold = _relu_parameters(parameters)
    points = {threshold}
    if math.isfinite(max_value):
        points |= {0.0, max_value}
    return tuple(sorted(points))


def jumps(kind: str, parameters: Parameters | None = None) -> tuple[float, ...]:
    """Return the points where the value itself jumps (a ReLU with a threshold)."""
    found = []
    for point in kinks(kind, parameters):
        left, right = (value(kind, np.array(point), parameters, side) for side in ("left", "right"))
        if left != right:
            found.append(point)
    return tuple(found)


def _range(low: Array, high: Array, candidates: list[Array]) -> tuple[Array, Array]:
    return np.fmin.reduce([low, high, *candidates]), np.fmax.reduce([low, high, *candidates])


def value_range(
    kind: str, lower: Array, upper: Array, parameters: Parameters | None = None
) -> tuple[Array, Array]:
    """Smallest interval that holds every value over `[lower, upper]`."""
    candidates = []
    for point in (*kinks(kind, parameters), *_VALUE_STATIONARY.get(kind, ())):
        inside = (lower <= point) & (point <= upper)
        limits = [("at", inside), ("left", inside & (lower < point))]
        limits.append(("right", inside & (point < upper)))
        for side, reached in limits:
            at_point = value(kind, np.array(point), parameters, side)
            candidates.append(np.where(reached, at_point, np.nan))
    return _range(value(kind, lower, parameters), value(kind, upper, parameters), candidates)


def slope_range(
    kind: str, lower: Array, upper: Array, parameters: Parameters | None = None
) -> tuple[Array, Array]:
    """Smallest interval that holds every secant slope over `[lower, upper]`."""
    candidates = []
    for point in (*kinks(kind, parameters), *_SLOPE_STATIONARY.get(kind, ())):
        inside = (lower <= point) & (point <= upper)
        for side, reached in (
            ("left", inside & (lower < point)),
            ("right", inside & (point < upper)),
        ):
            at_point = slope(kind, np.array(point), parameters, side=side)
            candidates.append(np.where(reached, at_point, np.nan))
    for point in jumps(kind, parameters):
        # Secants across a jump are as steep as one likes.
        right, left = (value(kind, np.array(point), parameters, side) for side in ("right", "left"))
        reached = (lower <= point) & (point <= upper) & (lower < upper)
        candidates.append(np.where(reached, math.copysign(math.inf, right - left), np.nan))
    return _range(
        slope(kind, lower, parameters, side="right"),
        slope(kind, upper, parameters, side="left"),
        candidates,
    )


Ends = tuple[Array, Array]

_CONVEX = ("linear", "leaky_relu", "elu", "celu", "softplus", "exponential")
_EVEN_SLOPE = ("sigmoid", "tanh", "softsign")


def _gap(old: Ends, new: Ends) -> Ends:
    with np.errstate(invalid="ignore"):
        lower, upper = new[0] - old[1], new[1] - old[0]
    return np.where(np.isnan(lower), -np.inf, lower), np.where(np.isnan(upper), np.inf, upper)


def product(first: Ends, second: Ends) -> Ends:
    """Multiply two intervals; an infinite end times 0 is 0."""
    with np.errstate(invalid="ignore"):
        corners = [np.where((a == 0.0) | (b == 0.0), 0.0, a * b) for a in first for b in second]
    return np.min(corners, axis=0), np.max(corners, axis=0)


def _narrowed(first: Ends, second: Ends) -> Ends:
    lower, upper = np.maximum(first[0], second[0]), np.minimum(first[1], second[1])
    # Two enclosures of one number meet; rounding alone can part them.
    apart = lower > upper
    return np.where(apart, first[0], lower), np.where(apart, first[1], upper)


def consistent(old: Ends, new: Ends, change: Ends) -> tuple[Ends, Ends, Ends]:
    """Cut each of three intervals to what the others leave possible for it."""
    change = _narrowed(change, _gap(old, new))
    new = _narrowed(new, (old[0] + change[0], old[1] + change[1]))
    old = _narrowed(old, _gap(change, new))
    return old, new, change


def _bend(kind: str, parameters: Parameters | None) -> str:
    """Return how the slope of a kind that never falls runs along the real line."""
    alpha = _parameter(parameters, "alpha", 1.0)
    if kind == "relu":
        negative_slope, max_value, threshold = _relu_parameters(parameters)
        if threshold != 0.0 or negative_slope < 0.0:
            return "other"
        if negative_slope > 1.0:
            return "falling"
        return "rising" if max_value == math.inf else "ramp"
    if kind == "leaky_relu":
        negative_slope = _parameter(parameters, "negative_slope", 0.2)
        return "other" if negative_slope < 0.0 else "rising" if negative_slope <= 1.0 else "falling"
    if kind == "selu" or (kind == "elu" and alpha > 1.0):
        return "step down"
    if kind in _CONVEX:
        return "rising"
    if kind in _EVEN_SLOPE:
        return "even"
    if kind in ("relu6", "hard_sigmoid", "hard_tanh"):
        return "ramp"
    return "falling" if kind == "log_sigmoid" else "other"


def _steepest_start(kind: str, gap: Array, parameters: Parameters | None) -> Array:
    """Return where a step of `gap >= 0` rises most, for a slope that rises and then falls."""
    bend = _bend(kind, parameters)
    if bend == "even":
        return -gap / 2.0
    if bend == "ramp":
        points = kinks(kind, parameters)
        return np.minimum(points[0], points[-1] - gap)
    steepest = SELU_ALPHA if kind == "selu" else _parameter(parameters, "alpha", 1.0)
    return np.maximum(-gap, -math.log(steepest))


def _largest_rise(
    kind: str, start: Ends, end: Ends, gap: Array, parameters: Parameters | None
) -> Array:
    """Largest `s(v) - s(u)`, for u in `start`, v in `end`, `v - u <= gap`, all consistent."""

    def rise(u: Array, v: Array) -> Array:
        found = value(kind, v, parameters) - value(kind, u, parameters)
        return np.where(np.isnan(found), np.inf, found)

    def rise_from(u: Array) -> Array:
        return rise(u, u + gap)

    bend = _bend(kind, parameters)
    with np.errstate(invalid="ignore"):
        if bend == "other":
            return np.full_like(gap, np.inf)
        if bend in ("rising", "falling"):
            last = (gap >= 0.0) == (bend == "rising")
            return np.where(last, rise(end[1] - gap, end[1]), rise_from(start[0]))
        first, last = np.maximum(start[0], end[0] - gap), np.minimum(start[1], end[1] - gap)
        inside = np.maximum(first, np.minimum(_steepest_start(kind, gap, parameters), last))
        ends = np.maximum(rise_from(first), rise_from(last))
        return np.where(gap >= 0.0, rise_from(inside), ends)


def difference(
    kind: str, old: Ends, new: Ends, change: Ends, parameters: Parameters | None = None
) -> Ends:
    """Interval of `s(v) - s(u)` for u in `old`, v in `new`, `v - u` in `change`."""
    old, new, change = consistent(old, new, change)
    hull = (np.minimum(old[0], new[0]), np.maximum(old[1], new[1]))
    by_slope = product(slope_range(kind, *hull, parameters), change)
    by_value = _gap(value_range(kind, *old, parameters), value_range(kind, *new, parameters))
    exact = (
        -_largest_rise(kind, new, old, -change[0], parameters),
        _largest_rise(kind, old, new, change[1], parameters),
    )
    return _narrowed(_narrowed(by_slope, by_value), exact)
