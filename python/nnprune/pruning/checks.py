"""The options of a pruning, judged before a model is opened."""

from __future__ import annotations

from typing import Literal

import numpy as np

from nnprune import _core
from nnprune.errors import ConfigError
from nnprune.options import Annealing, Greedy, Method, OneShot, method_to_dict

__all__ = ["LOSSLESS", "bias_or_default", "check_options", "fraction_for_core"]

LOSSLESS = "lossless"
"""The target that asks for what costs nothing, and all of it."""


def check_options(
    *,
    target: float | Literal["lossless"],
    step: float,
    method: Method,
    outgoing: str,
    seed: int,
    bias: str | None = None,
    max_output_change: float | None = None,
) -> None:
    """Let the core judge the options before a model is opened."""
    if not isinstance(method, Annealing | Greedy | OneShot):
        raise ConfigError(
            f"method: expected nnprune.Annealing(), Greedy() or OneShot(), got {method!r}"
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
    for option, count in {**counts, "seed": seed}.items():
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
        method=method_to_dict(method),
        outgoing=outgoing,
        bias=bias_or_default(bias, method),
        max_output_change=max_output_change,
    )
    if max_output_change is None:
        return
    if target == LOSSLESS:
        raise ConfigError(
            f"max_output_change: target '{LOSSLESS}' changes nothing; give one of them"
        )
    if isinstance(method, OneShot):
        raise ConfigError(
            "max_output_change: OneShot() chooses all pairs at once and keeps to no budget; "
            "use Annealing() or Greedy()"
        )


def bias_or_default(bias: str | None, method: Method) -> str:
    """Return the bias term; the baseline has the paper's."""
    if bias is not None:
        return bias
    return "relative" if isinstance(method, OneShot) else "absolute"


def fraction_for_core(target: float | str) -> float:
    """Return a target that the core accepts; it does not read that of a lossless run."""
    return 0.5 if isinstance(target, str) else target
