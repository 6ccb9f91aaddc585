"""Following a run of merges epoch by epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nnprune import _core
from nnprune.pruning.job import Job, Watchers
from nnprune.trace import Epoch

if TYPE_CHECKING:
    from nnprune.attacks.options import Attack
    from nnprune.keras_io.input_box import InputBox
    from nnprune.keras_io.opened import OpenedModel
    from nnprune.supervision import Supervisor

__all__ = ["Watch", "supervision_asked_for"]


class Watch:
    """Sees every epoch: measures it, tells the user, and says whether the run goes on."""

    def __init__(self, job: Job, watchers: Watchers) -> None:
        self._judge = None if job.min_agreement is None else job.judge
        self._least = job.min_agreement
        self._watchers = watchers
        self.epochs: list[Epoch] = []
        self.undone: Epoch | None = None
        self.stopped_by: str | None = None

    @property
    def measures(self) -> bool:
        """Whether the network is looked at after every epoch."""
        return self._watchers.supervisor is not None or self._judge is not None

    def see(self, entry: dict[str, Any], network: _core.Network | None = None) -> bool | str | None:
        """Take in what the core tells about an epoch."""
        # Of several runs side by side each has but its own thread's time.
        clock = time.thread_time if self._watchers.supervisor is None else time.process_time
        started = clock()
        epoch = Epoch(**entry)
        if network is not None:
            epoch = self._measured(epoch, network)
        self._watchers.cpu_seconds += clock() - started
        if self.stopped_by is not None:
            self.undone = epoch
            return "undo"
        self.epochs.append(epoch)
        self._watchers.advance(epoch.removed)
        if self._watchers.halted.is_set():
            return False
        return None if self._watchers.on_epoch is None else self._watchers.on_epoch(epoch)

    def _measured(self, epoch: Epoch, network: _core.Network) -> Epoch:
        """Measure an epoch, and find out whether it is one too many."""
        supervisor = self._watchers.supervisor
        if self._judge is not None and self._least is not None:
            found = self._judge.agreement(network, {})
            epoch = replace(epoch, synthetic_agreement=found.value)
            if found.value < self._least:
                self.stopped_by = "min_agreement"
        if supervisor is not None:
            epoch = replace(epoch, evaluation=supervisor.measure(network))
            broken = supervisor.broken_floor(epoch)
            self.stopped_by = self.stopped_by if broken is None else f"{broken}_floor"
        return epoch


def supervision_asked_for(
    evaluate: Any, attacks: Sequence[Attack] | None, floors: Mapping[str, float | None]
) -> Callable[[OpenedModel, InputBox], Supervisor] | None:
    """Check what a run is to be measured with; what does that is imported only where needed.

    Raises
    ------
    ConfigError
        There are attacks or floors without data, or a floor for robustness without attacks.
    DataError
        The data cannot be read.
    """
    if all(given is None for given in (evaluate, attacks, *floors.values())):
        return None
    from nnprune.supervision import Floors, Supervision, Supervisor

    supervision = Supervision.asked_for(evaluate, attacks, Floors(**floors))
    if supervision is None:
        return None
    return lambda opened, box: Supervisor(supervision, opened, box)
