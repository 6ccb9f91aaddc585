"""Read a certificate from its JSON."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnprune.certification.certificate import (
    KIND,
    SCHEMA_VERSION,
    Certificate,
    Interval,
    Usefulness,
    following_margins,
    margins_follow,
)
from nnprune.certification.coverage import Coverage
from nnprune.certification.local import LocalCounts
from nnprune.certification.outputs import Output
from nnprune.certification.pair import ModelIdentity
from nnprune.certification.softmax import ProbabilityChange
from nnprune.errors import DataError
from nnprune.record import bounds_from_plain, merges_from_plain

__all__ = ["certificate_of"]


def certificate_of(plain: Any, *, label: str) -> Certificate:
    """Take a certificate from what `Certificate.to_dict` returns.

    Parameters
    ----------
    plain : mapping
        The JSON as Python values.
    label : str
        How messages name it.

    Raises
    ------
    DataError
        It is no certificate, damaged, or of a newer version.
    """
    if not isinstance(plain, dict) or plain.get("kind") != KIND:
        raise DataError(
            f'{label}: is no certificate of nnprune: its "kind" is not "{KIND}"; give what '
            "nnprune certify wrote"
        )
    version = plain.get("schema_version")
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{label}: is a certificate of another version (schema_version {version!r}, this "
            f"nnprune reads {SCHEMA_VERSION}); update nnprune, or certify again"
        )
    try:
        return _certificate(plain)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"{label}: is a damaged certificate ({type(error).__name__}: {error}); certify again"
        ) from error


def _certificate(plain: dict[str, Any]) -> Certificate:
    outputs = tuple(
        Output(name=str(one["name"]), shape=tuple(map(int, one["shape"])), head=_head(one["head"]))
        for one in plain["outputs"]
    )
    count = sum(one.size for one in outputs)
    change = _interval(plain["output_change"], count)
    if margins_follow(outputs):
        margins = following_margins(change)
    else:
        size = max(count, 2)
        margins = np.array([[_number(x, math.inf) for x in row] for row in plain["margins"]])
        if margins.shape != (size, size):
            raise ValueError(f"margins of shape {margins.shape}, expected {(size, size)}")
    coverage = plain["coverage"]
    return Certificate(
        original=ModelIdentity(**plain["original"]),
        pruned=ModelIdentity(**plain["pruned"]),
        input_source=str(plain["input_box"]),
        input_bounds=bounds_from_plain(plain["input_bounds"]),
        outputs=outputs,
        output_change=change,
        margins=margins,
        original_range=_interval(plain["original_range"], count),
        pruned_range=_interval(plain["pruned_range"], count),
        probabilities=tuple(_probability(one) for one in plain["probabilities"]),
        merges=merges_from_plain(plain["merges"]),
        coverage=None if coverage is None else _coverage(coverage),
        local=tuple(LocalCounts(**one) for one in plain["local"]),
        usefulness=Usefulness(**plain["usefulness"]),
        nnprune_version=str(plain["nnprune_version"]),
        polished=plain.get("polished") is True,
    )


def _head(value: Any) -> Any:
    if value not in ("softmax", "sigmoid", "logits"):
        raise ValueError(f"unknown head {value!r}")
    return value


def _interval(plain: Any, count: int) -> Interval:
    lower = np.array([_number(x, -math.inf) for x in plain["lower"]], np.float64)
    upper = np.array([_number(x, math.inf) for x in plain["upper"]], np.float64)
    if lower.shape != (count,) or upper.shape != (count,):
        raise ValueError(f"{len(lower)} and {len(upper)} bounds for {count} logits")
    return Interval(lower=lower, upper=upper)


def _number(value: Any, missing: float) -> float:
    if value is None:
        return missing
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _probability(plain: Any) -> ProbabilityChange:
    return ProbabilityChange(
        output=str(plain["output"]),
        per_class=tuple(_number(x, math.inf) for x in plain["per_class"]),
        total_variation=_number(plain["total_variation"], math.inf),
        kullback_leibler=_number(plain["kullback_leibler"], math.inf),
        log_probability=_number(plain["log_probability"], math.inf),
    )


def _coverage(plain: Any) -> Coverage:
    ends = {name: tuple(plain[name]) for name in ("change_lower", "change_upper")}
    return Coverage(**{**plain, **ends})
