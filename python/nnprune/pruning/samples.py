"""The inputs that least squares and the polish work on: synthetic, or given unlabelled."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnprune.compensation import Moments
from nnprune.judge import stream
from nnprune.keras_io.input_box import InputBox
from nnprune.keras_io.opened import OpenedModel
from nnprune.pruning.derived import derived
from nnprune.representatives import Representatives
from nnprune.synthetic.draw import draw
from nnprune.synthetic.scene import Scene
from nnprune.synthetic.sources import Source

__all__ = ["Samples", "samples_for"]

# Keras' naming of layers is one for all threads.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Inputs of a model, and where they come from.

    Attributes
    ----------
    arrays
        The samples of every input, in the model's order.
    kind : {"synthetic", "representative", "moments"}
        Where they come from; "moments" where there are none.
    correlation
        That of the moments of images, in pixels.
    seed
        The seed of the stream they were drawn from.
    sha256
        The fingerprint of representative ones.
    remarks
        Where something else had to be drawn than the source says.
    seconds
        How long it took to draw them.
    """

    arrays: tuple[NDArray[np.float32], ...] = field(repr=False)
    kind: str
    seed: int | None = None
    sha256: str | None = None
    remarks: tuple[str, ...] = ()
    seconds: float = 0.0
    correlation: float = 0.0

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.arrays[0]) if self.arrays else 0

    def statistics(self, opened: OpenedModel, box: InputBox) -> dict[str, Any]:
        """Give what the core takes its statistics from: them, or the box itself."""
        if self.kind != "moments":
            return {"feeds": self._feeds(opened)}
        images = [side.image for side in Scene.of(opened.graph.network, box).sides]
        return {
            "lower": box.lower,
            "upper": box.upper,
            "images": images if self.correlation else None,
            "correlation": self.correlation,
        }

    def _feeds(self, opened: OpenedModel) -> Mapping[str, NDArray[np.float32]]:
        """Give them by node as the core takes them, opaque nodes with what Keras computes."""
        given = dict(zip(opened.graph.network.inputs, self.arrays, strict=True))
        if not opened.graph.opaque:
            return given
        from nnprune.keras_io.opaque_values import opaque_values

        with _one_at_a_time:
            return {**given, **opaque_values(opened, self.arrays)}


def samples_for(
    opened: OpenedModel,
    box: InputBox,
    representatives: Representatives | None,
    *,
    source: Moments | Source,
    count: int,
    seed: int,
    purpose: str,
) -> Samples:
    """Return the inputs that were given, made more where they are few, or draw some.

    Parameters
    ----------
    opened, box
        The model and its legitimate inputs.
    representatives
        The inputs given, if any.
    source, count
        What is drawn from without them, and how many.
    seed
        The run's seed.
    purpose
        What they are for: every purpose has a stream of its own.
    """
    started = time.perf_counter()
    own = stream(seed, purpose)
    if representatives is not None:
        random = np.random.default_rng(own)
        arrays = derived(opened, box, representatives.arrays, count, random)
        return Samples(
            arrays=tuple(arrays),
            kind="representative",
            seed=own,
            sha256=representatives.sha256,
            seconds=time.perf_counter() - started,
        )
    if isinstance(source, Moments):
        return Samples(arrays=(), kind="moments", correlation=source.correlation)
    if opened.graph.opaque:
        with _one_at_a_time:
            drawn = draw(opened, box, source, samples=count, seed=own)
    else:
        drawn = draw(opened, box, source, samples=count, seed=own)
    return Samples(
        arrays=tuple(drawn.arrays),
        kind="synthetic",
        seed=own,
        remarks=drawn.remarks,
        seconds=time.perf_counter() - started,
    )
