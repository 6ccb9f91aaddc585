"""Following a run of merges epoch by epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from nnprune import _core
from nnprune.supervision import Supervisor
from nnprune.trace import Epoch

__all__ = ["Watch"]


class Watch:
    """Sees every epoch: measures it, tells the user, and says whether the run goes on."""

    def __init__(
        self, supervisor: Supervisor | None, on_epoch: Callable[[Epoch], bool | None] | None
    ) -> None:
        self._supervisor = supervisor
        self._on_epoch = on_epoch
        self.epochs: list[Epoch] = []
        self.undone: Epoch | None = None
        self.stopped_by: str | None = None
        self.cpu_seconds = 0.0

    def see(
        self,
        advance: Callable[[int], None],
        entry: dict[str, Any],
        network: _core.Network | None = None,
    ) -> bool | str | None:
        """Take in what the core tells about an epoch."""
        started = time.process_time()
        epoch = Epoch(**entry)
        if self._supervisor is not None and network is not None:
            epoch = replace(epoch, evaluation=self._supervisor.measure(network))
            broken = self._supervisor.broken_floor(epoch)
            self.stopped_by = None if broken is None else f"{broken}_floor"
        self.cpu_seconds += time.process_time() - started
        if self.stopped_by is not None:
            self.undone = epoch
            return "undo"
        self.epochs.append(epoch)
        advance(epoch.removed)
        return None if self._on_epoch is None else self._on_epoch(epoch)
