"""What one pruning is asked for, opened and checked, and what a run of it made."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from nnprune import _core
from nnprune.compensation import Compensation, LeastSquares, Moments, statistics_of
from nnprune.compensation_trace import CompensationTrace
from nnprune.judge import Judge
from nnprune.keras_io.opened import OpenedModel
from nnprune.metrics.classification import Proportion
from nnprune.options import Method
from nnprune.representatives import Representatives
from nnprune.synthetic.sources import DEFAULT, Source
from nnprune.trace import Epoch, Merge

if TYPE_CHECKING:
    from nnprune.keras_io.input_box import InputBox
    from nnprune.supervision import Supervisor

__all__ = ["Fraction", "Job", "Run", "Watchers"]

Fraction = float | Literal["lossless"]
"""A fraction of each layer's units, or "lossless"."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """What all runs of a pruning have in common.

    Attributes
    ----------
    opened, box
        The original and its legitimate inputs.
    layers
        The layers to prune; all if empty.
    step, method, outgoing, bias, max_output_change, allocation, width_multiple, compensation
        As for `prune`.
    representatives
        Unlabelled inputs, if they were given.
    judge
        Compares with the original without data; None where nothing asks for it, or it cannot.
    min_agreement
        The least agreement to keep, if any.
    """

    opened: OpenedModel
    box: InputBox
    layers: tuple[str, ...]
    step: float
    method: Method
    outgoing: str
    bias: str
    max_output_change: float | None
    allocation: str
    width_multiple: int
    compensation: Compensation
    representatives: Representatives | None
    judge: Judge | None
    min_agreement: float | None

    @property
    def network(self) -> _core.Network:
        """The original's network."""
        return self.opened.graph.network

    @property
    def source(self) -> Moments | Source:
        """Where synthetic inputs come from, or what takes their place."""
        rule = self.compensation
        return statistics_of(rule.source) if isinstance(rule, LeastSquares) else DEFAULT


@dataclass(kw_only=True, eq=False)
class Watchers:
    """Who follows the runs.

    Attributes
    ----------
    supervisor
        Measures every epoch on labelled samples, if any.
    on_epoch
        What the user wants to be called with every epoch.
    advance
        Is told of units removed, or layers refitted.
    halted
        Set once the runs are to end.
    cpu_seconds
        CPU time that measuring has taken so far.
    """

    supervisor: Supervisor | None = None
    on_epoch: Callable[[Epoch], bool | None] | None = None
    advance: Callable[[int], None] = lambda _: None
    halted: threading.Event = field(default_factory=threading.Event)
    cpu_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """What one run with one seed made.

    Attributes
    ----------
    network
        The smaller network.
    kept
        The original numbers of the units left, for every layer that lost some.
    merges, trace, undone, stopped_by, kernel_path
        As in `PruningResult`.
    impact
        Bounds of the logits' change, side by side; None where they are not known yet.
    compensation
        How removed units were made up for.
    agreement
        What the judge says of it; None without a judge.
    """

    network: _core.Network
    kept: Mapping[str, NDArray[np.int64]]
    merges: tuple[Merge, ...]
    trace: tuple[Epoch, ...] = ()
    undone: Epoch | None = None
    impact: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    stopped_by: str
    kernel_path: str | None
    compensation: CompensationTrace
    agreement: Proportion | None = None

    @property
    def removed(self) -> int:
        """Number of units removed."""
        return len(self.merges)
