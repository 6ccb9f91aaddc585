"""Options of an evaluation, checked before any work is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from nnprune.attacks.options import Attack
from nnprune.errors import ConfigError
from nnprune.evaluation.subject import Task
from nnprune.metrics.calibration import CalibrationTotals

__all__ = ["Settings", "check_attacks", "check_batch_size"]

_LARGEST_BATCH = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Options of an evaluation, checked; see `evaluate`."""

    attacks: Sequence[Attack] | None
    input_bounds: Any
    task: Any
    bins: int
    batch_size: int | None
    litert: bool
    certified: bool
    trust: bool
    progress: bool
    command: str | None

    def __post_init__(self) -> None:
        """Check what needs no model."""
        CalibrationTotals(self.bins)
        if self.batch_size is not None:
            check_batch_size(self.batch_size)
        check_attacks(self.attacks)
        if self.task not in (None, *get_args(Task)):
            raise ConfigError(f"task: expected 'classification' or 'regression', got {self.task!r}")


def check_batch_size(size: Any) -> None:
    """Make sure that a batch size is one.

    Raises
    ------
    ConfigError
        It is no integer from 1 on.
    """
    if (
        isinstance(size, bool)
        or not hasattr(size, "__index__")
        or not 1 <= int(size) <= _LARGEST_BATCH
    ):
        raise ConfigError(
            f"batch_size: expected an integer from 1 to {_LARGEST_BATCH}, got {size!r}"
        )


def check_attacks(attacks: Any) -> None:
    """Make sure that attacks are a sequence of them.

    Raises
    ------
    ConfigError
        They are not.
    """
    if attacks is None:
        return
    if not isinstance(attacks, Sequence) or isinstance(attacks, str):
        raise ConfigError(f"attacks: expected a list such as [nnprune.FGSM(0.05)], got {attacks!r}")
    for attack in attacks:
        if not isinstance(attack, Attack):
            raise ConfigError(
                f"attacks: expected nnprune.FGSM, PGD, AutoPGD or Square, got {attack!r}"
            )
