"""Many inputs made of a few that were given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
from numpy.typing import NDArray

from nnprune.keras_io.input_box import InputBox
from nnprune.keras_io.opened import OpenedModel
from nnprune.synthetic.scene import Scene
from nnprune.synthetic.sources import GradientFound

__all__ = ["derived", "led", "repeated"]

Array = NDArray[np.float32]

# From real inputs it is not far to others: half as many steps, half as long.
_STEPS = 5
_STEP_SIZE = 0.5


def derived(
    opened: OpenedModel,
    box: InputBox,
    given: Sequence[Array],
    count: int,
    random: np.random.Generator,
) -> list[Array]:
    """Make at least `count` inputs of fewer: half are these again and again, half led from them.

    Where there are as many as that already, they are all.

    Parameters
    ----------
    opened, box
        The model and its legitimate inputs.
    given
        float32 [samples, *shape] for every input of the model.
    count
        How many inputs there are to be.
    random
        What is drawn from.

    Returns
    -------
    list of float32 array
        Arrays as `given`, of `count` samples or, if that is more, all of `given`.
    """
    if len(given[0]) >= count:
        return list(given)
    places = np.arange(len(given[0]))
    themselves = [array[repeated(places, count - count // 2, random)] for array in given]
    starts = repeated(places, count // 2, random)
    found = led(opened, box, [array[starts] for array in given], random)
    return [np.concatenate(pair) for pair in zip(themselves, found, strict=True)]


def repeated(given: NDArray[np.generic], count: int, random: np.random.Generator) -> Array:
    """Return each about as often, in random order."""
    rounds = -(-count // len(given))
    order = np.concatenate([random.permutation(len(given)) for _ in range(max(rounds, 1))])
    chosen: Array = given[order[:count]]
    return chosen


def led(
    opened: OpenedModel, box: InputBox, starts: Sequence[Array], random: np.random.Generator
) -> list[Array]:
    """Take a few short gradient steps towards random classes, where the engine knows them all."""
    network = opened.graph.network
    if opened.graph.opaque:
        return list(starts)
    scene = Scene.of(network, box)
    usual = GradientFound().ascent(images=scene.has_images)
    ascent = replace(usual, steps=_STEPS, step_size=_STEP_SIZE * usual.step_size)
    found: list[Array] = network.invert(
        {side.name: start for side, start in zip(scene.sides, starts, strict=True)},
        [side.lower.astype(np.float64) for side in scene.sides],
        [side.upper.astype(np.float64) for side in scene.sides],
        images=[side.image for side in scene.sides],
        seed=int(random.integers(2**63)),
        **asdict(ascent),
    )
    return found
