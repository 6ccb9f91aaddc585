"""The options of a pruning, judged before a model is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from nnprune import _core
from nnprune.compensation import Compensation, LeastSquares, Polish, Sum
from nnprune.errors import ConfigError
from nnprune.options import Annealing, Elimination, Greedy, Method, OneShot, method_to_dict

__all__ = [
    "LOSSLESS",
    "bias_or_default",
    "check_combination",
    "check_options",
    "fraction_for_core",
    "method_or_default",
    "targets_of",
]

LOSSLESS = "lossless"
"""The target that asks for what costs nothing, and all of it."""

_MOST_RESTARTS = 10_000


def targets_of(target: Any, targets: Any) -> list[Any]:
    """Return the one target, or the several.

    Raises
    ------
    ConfigError
        There is none, or both are given, or one of several is there twice.
    """
    if (target is None) == (targets is None):
        got = "neither" if target is None else "both"
        raise ConfigError(f"target: expected either target or targets, got {got}")
    if targets is None:
        return [float(target) if isinstance(target, np.floating) else target]
    if isinstance(targets, str | int | float) or not isinstance(targets, Sequence | np.ndarray):
        raise ConfigError(f"targets: expected a list of fractions, got {targets!r}")
    listed = list(targets)
    if not listed:
        raise ConfigError("targets: expected at least one fraction, got none")
    for one in listed:
        if isinstance(one, str):
            raise ConfigError(f"targets: expected numbers, got {one!r}")
        if listed.count(one) > 1:
            raise ConfigError(f"targets: {one} is there twice")
    return [float(one) if isinstance(one, np.floating) else one for one in listed]


def method_or_default(method: Method | None, compensation: Compensation) -> Method:
    """Return how units are chosen: by default as goes best with the compensation."""
    if method is not None:
        return method
    if isinstance(compensation, LeastSquares) and not compensation.searches:
        return Elimination()
    return Annealing()


def check_options(
    *,
    target: float | Literal["lossless"],
    step: float,
    method: Method,
    outgoing: str,
    seed: int,
    bias: str | None = None,
    max_output_change: float | None = None,
    compensation: Compensation | None = None,
    width_multiple: int = 1,
) -> None:
    """Let the core judge the options before a model is opened."""
    compensation = Sum() if compensation is None else compensation
    if not isinstance(method, Annealing | Greedy | OneShot | Elimination):
        raise ConfigError(
            f"method: expected nnprune.Annealing(), Greedy(), OneShot() or Elimination(), "
            f"got {method!r}"
        )
    if isinstance(target, str) and target != LOSSLESS:
        raise ConfigError(f"target: expected a number or '{LOSSLESS}', got {target!r}")
    numbers = {"target": fraction_for_core(target), "step": step}
    if max_output_change is not None:
        numbers["max_output_change"] = max_output_change
    for option, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int | float | np.floating):
            raise ConfigError(f"{option}: expected a number, got {number!r}")
    counts = {name: getattr(method, name) for name in ("pool", "rewalks") if hasattr(method, name)}
    for option, count in {**counts, "seed": seed, "width_multiple": width_multiple}.items():
        whole = isinstance(count, int | np.integer) and not isinstance(count, bool)
        if not whole or not 0 <= count < 2**64:
            raise ConfigError(f"{option}: expected an integer from 0 to 2**64 - 1, got {count!r}")
    if not isinstance(outgoing, str):
        raise ConfigError(f"outgoing: expected 'l2' or 'mean_abs', got {outgoing!r}")
    if bias is not None and not isinstance(bias, str):
        raise ConfigError(f"bias: expected 'absolute' or 'relative', got {bias!r}")
    _core.check_options(
        target=numbers["target"],
        step=step,
        method=method_to_dict(OneShot() if isinstance(method, Elimination) else method),
        outgoing=outgoing,
        bias=bias_or_default(bias, method),
        max_output_change=max_output_change,
        width_multiple=width_multiple,
    )
    _check_method(method, compensation)
    _check_budget(target, method, max_output_change, compensation)


def _check_method(method: Method, compensation: Compensation) -> None:
    if isinstance(method, Elimination) and not isinstance(compensation, LeastSquares):
        raise ConfigError(
            "method: Elimination() weighs what least squares would leave; give "
            "compensation='least_squares', or another method"
        )
    if not isinstance(compensation, LeastSquares) or isinstance(method, Annealing):
        return
    for option in ("moves", "search_seconds"):
        if getattr(compensation, option):
            raise ConfigError(
                f"{option}: {type(method).__name__}() does not search; use Annealing(), or leave "
                f"{option} out"
            )


def _check_budget(
    target: float | str,
    method: Method,
    max_output_change: float | None,
    compensation: Compensation,
) -> None:
    """Refuse what a run with a certified budget, or one that costs nothing, cannot have."""
    if target == LOSSLESS and not isinstance(compensation, Sum):
        raise ConfigError(
            f"compensation: target '{LOSSLESS}' leaves nothing to make up for; use 'sum'"
        )
    if max_output_change is None:
        return
    if target == LOSSLESS:
        raise ConfigError(
            f"max_output_change: target '{LOSSLESS}' changes nothing; give one of them"
        )
    if not isinstance(compensation, Sum):
        raise ConfigError(
            f"max_output_change: compensation='{compensation.name}' changes all weights at once "
            "and keeps to no budget; use 'sum'"
        )
    if isinstance(method, OneShot):
        raise ConfigError(
            "max_output_change: OneShot() chooses all pairs at once and keeps to no budget; "
            "use Annealing() or Greedy()"
        )


def check_combination(
    *,
    target: float | str,
    method: Method,
    compensation: Compensation,
    allocation: str,
    restarts: int,
    min_agreement: float | None,
    representative_inputs: Any,
    polish: Polish | None,
    watched: Mapping[str, object] | None = None,
) -> None:
    """Refuse options that are out of range, or do not go together.

    Parameters
    ----------
    watched
        The options that follow a run epoch by epoch, by name; None for those left out.

    Raises
    ------
    ConfigError
        The message names the option and what to do.
    """
    _check_ranges(allocation, restarts, min_agreement)
    refitted = isinstance(compensation, LeastSquares)
    if allocation == "propagated" and not (refitted and not isinstance(method, Greedy | OneShot)):
        raise ConfigError(
            "allocation: 'propagated' compares refitted sizes; it needs "
            "compensation='least_squares' and Elimination() or Annealing()"
        )
    polished_on_them = polish is not None and polish.source is None
    if representative_inputs is not None and not refitted and not polished_on_them:
        raise ConfigError(
            "representative_inputs: only compensation='least_squares', and a polish without a "
            "source of its own, read them; give one of these, or leave them out"
        )
    if target == LOSSLESS:
        asked: dict[str, object] = {
            "restarts": restarts > 1,
            "min_agreement": min_agreement,
            "polish": polish,
        }
        for option, value in asked.items():
            if value:
                raise ConfigError(f"{option}: target '{LOSSLESS}' changes nothing; leave it out")
    for option, value in (watched or {}).items():
        if value is not None and not isinstance(compensation, Sum):
            raise ConfigError(
                f"{option}: only compensation='sum' has epochs to follow; leave it out, and "
                "measure the result with nnprune.evaluate"
            )
        if value is not None and restarts > 1:
            raise ConfigError(
                f"{option}: restarts run side by side, and the judge decides between them; leave "
                f"{option} out, or restarts"
            )


def _check_ranges(allocation: object, restarts: object, min_agreement: object) -> None:
    if not isinstance(allocation, str) or allocation not in ("uniform", "propagated"):
        raise ConfigError(f"allocation: expected 'uniform' or 'propagated', got {allocation!r}")
    whole = isinstance(restarts, int | np.integer) and not isinstance(restarts, bool)
    if not whole or not 1 <= restarts <= _MOST_RESTARTS:  # type: ignore[operator]
        raise ConfigError(
            f"restarts: expected an integer from 1 to {_MOST_RESTARTS}, got {restarts!r}"
        )
    if min_agreement is None:
        return
    number = isinstance(min_agreement, int | float | np.floating)
    if isinstance(min_agreement, bool) or not number or not 0.0 <= min_agreement <= 1.0:  # type: ignore[operator]
        raise ConfigError(f"min_agreement: expected a fraction from 0 to 1, got {min_agreement!r}")


def bias_or_default(bias: str | None, method: Method) -> str:
    """Return the bias term; the baseline has the paper's."""
    if bias is not None:
        return bias
    return "relative" if isinstance(method, OneShot) else "absolute"


def fraction_for_core(target: float | str) -> float:
    """Return a target that the core accepts; it does not read that of a lossless run."""
    return 0.5 if isinstance(target, str) else target
