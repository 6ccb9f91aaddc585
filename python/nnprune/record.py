"""What a pruned model's file says about its pruning: enough to compare it with its original."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnprune._core import __version__
from nnprune.errors import DataError

__all__ = [
    "KIND",
    "SCHEMA_VERSION",
    "Record",
    "bounds_from_plain",
    "bounds_to_plain",
    "merges_from_plain",
    "merges_to_plain",
]

KIND = "nnprune-record"
SCHEMA_VERSION = 1

Bounds = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
Merges = Mapping[str, tuple[tuple[int, int | None], ...]]

_AGAIN = "prune again, or save the smaller model with PruningResult.save"


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """What led from an original to a smaller model.

    Attributes
    ----------
    sha256 : str or None
        Fingerprint of the original's file; None if it was pruned in memory.
    weights_sha256 : str or None
        Fingerprint of the original's weights; None in what older versions wrote.
    input_source : {"given", "default", "rescaling", "assumed"}
        Where the input bounds came from.
    input_bounds : mapping of str to (lower, upper)
        For each input by name: float64 arrays that broadcast to its shape. Empty in what older
        versions wrote.
    units : mapping of str to int
        Units of each pruned layer in the original.
    merges : mapping of str to tuple of (nominee, delegate)
        Of each pruned layer, in order; units by their numbers in the original. No delegate where
        the nominee's outgoing weights were dropped: it is 0 for every input, or least squares
        has re-expressed it by all units that are left.
    polished : bool
        Whether the smaller model was trained afterwards, so that any of its weights may differ.
    nnprune_version : str
        What pruned it.
    """

    sha256: str | None
    weights_sha256: str | None
    input_source: str
    input_bounds: Bounds = field(repr=False)
    units: Mapping[str, int]
    merges: Merges = field(repr=False)
    polished: bool = False
    nnprune_version: str = __version__

    @property
    def kept(self) -> dict[str, list[int]]:
        """The units that are left of each pruned layer, by their numbers in the original."""
        gone = {layer: {nominee for nominee, _ in pairs} for layer, pairs in self.merges.items()}
        return {
            layer: [unit for unit in range(units) if unit not in gone[layer]]
            for layer, units in self.units.items()
        }

    def to_json(self) -> str:
        """Return the record as compact JSON text."""
        plain = {
            "kind": KIND,
            "schema_version": SCHEMA_VERSION,
            "nnprune_version": self.nnprune_version,
            "original": {"sha256": self.sha256, "weights_sha256": self.weights_sha256},
            "input_box": self.input_source,
            "input_bounds": bounds_to_plain(self.input_bounds),
            "units": dict(self.units),
            "merges": merges_to_plain(self.merges),
            **({"polished": True} if self.polished else {}),
        }
        return json.dumps(plain, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str, *, label: str) -> Record:
        """Read a record; `label` is what messages call it.

        Raises
        ------
        DataError
            It is none, damaged, or of a newer version.
        """
        try:
            plain = json.loads(text)
        except (ValueError, RecursionError):
            raise DataError(f"{label}: its record of the pruning is damaged; {_AGAIN}") from None
        if not isinstance(plain, dict) or plain.get("kind") != KIND:
            raise DataError(f"{label}: its record of the pruning is damaged; {_AGAIN}")
        if plain.get("schema_version") != SCHEMA_VERSION:
            raise DataError(
                f"{label}: its record of the pruning was written by another version of nnprune "
                f"(schema_version {plain.get('schema_version')!r}, this one reads "
                f"{SCHEMA_VERSION}); update nnprune"
            )
        try:
            return cls(
                sha256=_digest(plain["original"]["sha256"]),
                weights_sha256=_digest(plain["original"]["weights_sha256"]),
                input_source=str(plain["input_box"]),
                input_bounds=bounds_from_plain(plain["input_bounds"]),
                units={str(layer): _count(units) for layer, units in plain["units"].items()},
                merges=merges_from_plain(plain["merges"]),
                polished=plain.get("polished") is True,
                nnprune_version=str(plain["nnprune_version"]),
            ).checked()
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise DataError(
                f"{label}: its record of the pruning is damaged ({type(error).__name__}); {_AGAIN}"
            ) from error

    @classmethod
    def of_pruning(cls, plain: Any, *, label: str) -> Record:
        """Take it from `PruningResult.to_dict()`, or the JSON of `nnprune prune`.

        Raises
        ------
        DataError
            It is something else.
        """
        try:
            merges: dict[str, list[tuple[int, int | None]]] = {}
            for merge in plain["merges"]:
                pair = (_count(merge["nominee"]), _unit_or_none(merge["delegate"]))
                merges.setdefault(str(merge["layer"]), []).append(pair)
            units = {str(one["layer"]): _count(one["units_before"]) for one in plain["layers"]}
            return cls(
                sha256=_digest(plain["source"]["sha256"]),
                weights_sha256=_digest(plain["source"].get("weights_sha256")),
                input_source=str(plain["input_box"]),
                input_bounds=bounds_from_plain(plain.get("input_bounds", [])),
                units={layer: units[layer] for layer in merges},
                merges={layer: tuple(pairs) for layer, pairs in merges.items()},
                polished=plain.get("polish") is not None,
                nnprune_version=str(plain["nnprune_version"]),
            ).checked()
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise DataError(
                f"{label}: expected what PruningResult.to_dict() returns, with its merges and the "
                "original's fingerprint (the JSON of nnprune prune --json or --trace)"
            ) from error

    def checked(self) -> Record:
        """Return the record if its parts fit together.

        Raises
        ------
        ValueError
            They do not.
        """
        if set(self.units) != set(self.merges):
            raise ValueError("units and merges are of different layers")
        if self.sha256 is None and self.weights_sha256 is None:
            raise ValueError("there is no fingerprint of the original")
        return self


def bounds_to_plain(bounds: Bounds) -> list[dict[str, Any]]:
    """Describe a box as JSON has it, as shortly as it goes.

    Each side of an input is one number where all are the same, a list along the last axis where it
    depends on that only, else nested lists of the input's shape.
    """
    return [
        {"input": name, "lower": _short(lower), "upper": _short(upper)}
        for name, (lower, upper) in bounds.items()
    ]


def bounds_from_plain(plain: Sequence[Mapping[str, Any]]) -> Bounds:
    """Read what `bounds_to_plain` wrote; the arrays broadcast to the inputs' shapes."""
    return {
        str(one["input"]): (
            np.asarray(one["lower"], np.float64),
            np.asarray(one["upper"], np.float64),
        )
        for one in plain
    }


def merges_to_plain(merges: Merges) -> dict[str, list[list[int | None]]]:
    """Describe merges as JSON has them: `[nominee, delegate]` by layer, in order."""
    return {layer: [list(pair) for pair in pairs] for layer, pairs in merges.items()}


def merges_from_plain(plain: Mapping[str, Sequence[Sequence[int | None]]]) -> Merges:
    """Read what `merges_to_plain` wrote."""
    found = {}
    for layer, pairs in plain.items():
        found[str(layer)] = tuple(
            (_count(nominee), _unit_or_none(delegate)) for nominee, delegate in pairs
        )
    return found


def _short(end: NDArray[np.float64]) -> Any:
    flat = end.reshape(-1)
    if flat.size and np.all(flat == flat[0]):
        return float(flat[0])
    if end.ndim > 1:
        last = end.reshape(-1, end.shape[-1])
        if np.all(last == last[0]):
            return last[0].tolist()
    return end.tolist()


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def _unit_or_none(value: Any) -> int | None:
    return None if value is None else _count(value)


def _digest(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"{value!r} is no fingerprint")
