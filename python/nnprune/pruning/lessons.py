"""What a polish trains on: a mixture of sources, or what a few unlabelled inputs make."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nnprune.compensation import Polish, source_of
from nnprune.judge import stream
from nnprune.keras_io.input_box import InputBox
from nnprune.keras_io.opened import OpenedModel
from nnprune.pruning.derived import led, repeated
from nnprune.pruning.job import Job
from nnprune.synthetic.draw import draw
from nnprune.synthetic.scene import Scene
from nnprune.synthetic.sources import (
    ConvexCombinations,
    DeadLeaves,
    FirstLayer,
    GradientFound,
    Mixture,
    NearZero,
    Source,
)

__all__ = ["Lessons", "lessons_for"]

Array = NDArray[np.float32]

# One of so many inputs is held out.
_HELD_OUT = 10
# Of what is made of unlabelled inputs: these themselves, and pairs of them mixed.
_THEMSELVES = 1 / 2
_MIXED = 1 / 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Lessons:
    """The inputs of a polish.

    Attributes
    ----------
    x, held_out
        Those to train on, and those that decide which epoch counts; neither is made of the other.
    kind : {"synthetic", "representative"}
        Where they come from.
    seed
        Seed of the batches.
    remarks
        Where something else had to be drawn than the source says.
    """

    x: Array = field(repr=False)
    held_out: Array = field(repr=False)
    kind: str
    seed: int
    remarks: tuple[str, ...] = ()


def lessons_for(job: Job, polish: Polish, seed: int) -> Lessons:
    """Draw the inputs, or make them of those that were given.

    Parameters
    ----------
    job
        What is asked for.
    polish
        The polish.
    seed
        The run's seed.
    """
    own = stream(seed, "polish")
    random = np.random.default_rng(own)
    if job.representatives is not None and polish.source is None:
        given = job.representatives.arrays[0]
        given = given[random.permutation(len(given))]
        held = max(1, len(given) // _HELD_OUT)
        made = max(1, polish.samples // _HELD_OUT)
        return Lessons(
            x=_made_of(job, given[held:], polish.samples - made, random),
            held_out=_made_of(job, given[:held], made, random),
            kind="representative",
            seed=own,
        )
    source = _usual(job.opened, job.box) if polish.source is None else source_of(polish.source)
    found = draw(job.opened, job.box, source, samples=polish.samples, seed=own)
    drawn = found.arrays[0][random.permutation(polish.samples)]
    held = max(1, len(drawn) // _HELD_OUT)
    return Lessons(
        x=drawn[held:], held_out=drawn[:held], kind="synthetic", seed=own, remarks=found.remarks
    )


def _usual(opened: OpenedModel, box: InputBox) -> Source:
    found, mixed = GradientFound(), ConvexCombinations()
    if Scene.of(opened.graph.network, box).has_images:
        return Mixture(sources=(found, mixed, DeadLeaves(), FirstLayer(mean=0.0, contrast=0.4)))
    return Mixture(sources=(found, found, mixed, NearZero()))


def _made_of(job: Job, given: Array, count: int, random: np.random.Generator) -> Array:
    """Make many inputs of a few: as they are, mixed in pairs, and led towards classes."""
    themselves = int(_THEMSELVES * count)
    mixed = int(_MIXED * count)
    parts = [repeated(given, themselves, random)]
    pairs = [repeated(given, mixed, random) for _ in range(2)]
    weight = random.random((mixed, *[1] * (given.ndim - 1)), np.float32)
    parts.append(weight * pairs[0] + (1 - weight) * pairs[1])
    rest = repeated(given, count - themselves - mixed, random)
    parts.append(led(job.opened, job.box, [rest], random)[0])
    return np.concatenate(parts)
