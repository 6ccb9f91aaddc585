"""The cells of a sweep: every target with every seed and every method."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from nnprune.compensation import Compensation
from nnprune.errors import ConfigError
from nnprune.options import (
    Annealing,
    Elimination,
    Greedy,
    Method,
    OneShot,
    method_named,
    method_to_dict,
)
from nnprune.pruning.checks import check_options

__all__ = ["ORIGINAL", "GridPoint", "grid_of", "method_from_dict", "method_label"]


@dataclass(frozen=True, kw_only=True)
class GridPoint:
    """One pruning of the grid, or the original.

    Attributes
    ----------
    target : float
        Fraction of each layer's units to remove; 0 for the original.
    seed : int or None
        Seed of the random stream; None for the original.
    method : Annealing, Greedy, OneShot, Elimination or None
        How pairs are chosen; None for the original.
    """

    target: float
    seed: int | None
    method: Method | None

    def identifier(self, sweep: str) -> str:
        """Return the cell's SHA-256, in hexadecimal digits, over it and what it is part of.

        Parameters
        ----------
        sweep : str
            Fingerprint of model, samples and options.
        """
        method = None if self.method is None else method_to_dict(self.method)
        parts = json.dumps([sweep, self.target, self.seed, method], sort_keys=True)
        return hashlib.sha256(parts.encode()).hexdigest()


#: What all prunings are compared with.
ORIGINAL = GridPoint(target=0.0, seed=None, method=None)


def grid_of(
    targets: Iterable[float],
    seeds: Iterable[int],
    methods: Iterable[Method],
    *,
    step: float,
    outgoing: str,
    compensation: Compensation | None = None,
) -> list[GridPoint]:
    """List the prunings of a grid: by method, then target, then seed.

    Parameters
    ----------
    targets, seeds, methods : iterable
        What to combine.
    step, outgoing, compensation
        What all prunings share, to be checked, too.

    Raises
    ------
    ConfigError
        One of them is empty, out of range, no list, or has an entry twice.
    """
    chosen = _listed("targets", targets), _listed("seeds", seeds), _listed("methods", methods)
    points = []
    for method in chosen[2]:
        for target in chosen[0]:
            for seed in chosen[1]:
                check_options(
                    target=target,
                    step=step,
                    method=method,
                    outgoing=outgoing,
                    seed=seed,
                    compensation=compensation,
                )
                points.append(GridPoint(target=float(target), seed=int(seed), method=method))
    for name, values in zip(("targets", "seeds", "methods"), chosen, strict=True):
        for value in values:
            if values.count(value) > 1:
                raise ConfigError(f"{name}: {value} is there twice")
    return points


def method_label(method: Method | None) -> str:
    """Name a method as tables do, with the parameters that are not the usual ones."""
    if method is None:
        return "original"
    usual = type(method)()
    changed = [
        f"{field.name}={getattr(method, field.name)}"
        for field in fields(method)
        if getattr(method, field.name) != getattr(usual, field.name)
    ]
    name = method.name.replace("_", "-")
    return f"{name} ({', '.join(changed)})" if changed else name


def method_from_dict(values: Mapping[str, Any]) -> Method:
    """Make the method that `method_to_dict` has described.

    Raises
    ------
    KeyError, TypeError
        It is none.
    """
    parameters = {name: value for name, value in values.items() if name != "name"}
    method: Method = method_named(values["name"].replace("_", "-"))(**parameters)
    return method


def _listed(name: str, values: Any) -> list[Any]:
    if isinstance(values, str | Annealing | Greedy | OneShot | Elimination) or not isinstance(
        values, Iterable
    ):
        raise ConfigError(f"{name}: expected a list, got {values!r}")
    listed: Sequence[Any] = list(values)
    if not listed:
        raise ConfigError(f"{name}: expected at least one")
    return list(listed)
