"""`draw`: synthetic inputs of a model, from a named source."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnprune import _core
from nnprune.errors import ConfigError, ModelError
from nnprune.keras_io.input_box import InputBox
from nnprune.keras_io.opened import OpenedModel
from nnprune.synthetic.blocks import blocks
from nnprune.synthetic.first_layer import first_layer_gaussian, first_layers
from nnprune.synthetic.images import dead_leaves, smooth_fields
from nnprune.synthetic.scene import InputSide, Scene
from nnprune.synthetic.sources import (
    DEFAULT,
    Ascent,
    BoxNoise,
    ConvexCombinations,
    DeadLeaves,
    FirstLayer,
    GradientFound,
    Mixture,
    NearZero,
    SmoothFields,
    Source,
    source_to_dict,
)

__all__ = ["SyntheticInputs", "draw"]

FloatArray = NDArray[np.float32]

_MOST_SAMPLES = 10_000_000
# Multiplications from which on gradient steps take a good part of a minute on two cores.
_DEAR = 10**12


@dataclass(frozen=True, kw_only=True, eq=False)
class SyntheticInputs:
    """Inputs that were drawn, and what is to be known of them.

    Attributes
    ----------
    arrays : list of float32 arrays of shape (samples, *input shape)
        One for each input of the model, inside the box.
    source : dict
        The source and its parameters, as JSON has them.
    remarks : tuple of str
        Where something else had to be drawn than the source says, and why; where it took long.
    """

    arrays: list[FloatArray]
    source: dict[str, Any]
    remarks: tuple[str, ...]


def draw(
    model: OpenedModel | _core.Network,
    input_box: InputBox,
    source: Source = DEFAULT,
    *,
    samples: int,
    seed: int = 0,
) -> SyntheticInputs:
    """Draw inputs from a source; the same ones again for the same arguments.

    Parameters
    ----------
    model : OpenedModel or Network
        The model. A network by itself will do for all that the engine can compute.
    input_box : InputBox
        Where legitimate inputs lie; finite, and not a single point.
    source : Source, default DEFAULT
        Where the inputs come from; see `nnprune.synthetic.sources`.
    samples : int
        How many, from 1 to 10,000,000.
    seed : int, default 0
        Seed of the stream, from 0 to 2**64 - 1.

    Returns
    -------
    SyntheticInputs

    Raises
    ------
    ConfigError
        `samples`, `seed` or the source is not what it must be.
    BoundsError
        The box is not finite, a single point, or does not fit the inputs.
    ModelError
        Gradients are asked for through an opaque layer of a network without its model, or of a
        model with several inputs or outputs.
    BackendError
        Gradients are asked for through an opaque layer, and the backend of Keras has none.
    """
    if not isinstance(source, Source):
        raise ConfigError(f"source: expected one of nnprune.synthetic.sources, got {source!r}")
    _whole("samples", samples, 1, _MOST_SAMPLES)
    _whole("seed", seed, 0, 2**64 - 1)
    opened = model if isinstance(model, OpenedModel) else None
    network = model.graph.network if isinstance(model, OpenedModel) else model
    painter = _Painter(scene=Scene.of(network, input_box), opened=opened)
    arrays = painter.draw(source, samples, np.random.SeedSequence(seed))
    remarks = tuple(dict.fromkeys(painter.remarks))
    return SyntheticInputs(arrays=arrays, source=source_to_dict(source), remarks=remarks)


def _whole(name: str, value: Any, least: int, most: int) -> None:
    whole = hasattr(value, "__index__") and not isinstance(value, bool)
    if not whole or not least <= int(value) <= most:
        raise ConfigError(f"{name}: expected an integer from {least} to {most}, got {value!r}")


class _Painter:
    """Draws from sources, sources within sources included, and keeps the remarks."""

    def __init__(self, *, scene: Scene, opened: OpenedModel | None) -> None:
        self.scene = scene
        self.opened = opened
        self.remarks: list[str] = []

    def draw(self, source: Source, samples: int, seeds: np.random.SeedSequence) -> list[FloatArray]:
        """Draw all inputs; every source within gets a stream of its own."""
        match source:
            case Mixture():
                return self._mixture(source, samples, seeds)
            case ConvexCombinations():
                return self._convex(source, samples, seeds)
            case GradientFound():
                starts, steps = seeds.spawn(2)
                seed = int(steps.generate_state(1, np.uint64)[0])
                return self._by_gradient(
                    source.ascent(images=self.scene.has_images),
                    self._starts(source, samples, starts),
                    seed,
                )
            case _:
                random = np.random.default_rng(seeds)
                return [self._side(source, side, samples, random) for side in self.scene.sides]

    def _side(
        self, source: Source, side: InputSide, samples: int, random: np.random.Generator
    ) -> FloatArray:
        missing = self._missing(source, side)
        if missing is not None:
            self.remarks.append(
                f"input '{side.name}' {missing}: drawn evenly from the box, not from the source "
                f"'{source.name}'"
            )
            source = BoxNoise()
        if isinstance(source, FirstLayer):
            return first_layer_gaussian(
                self.scene,
                side,
                samples=samples,
                mean=source.mean,
                contrast=source.contrast,
                random=random,
            )
        found = np.empty((samples, *side.shape), np.float32)
        first = 0
        for part in _parts(source, side, samples, random):
            found[first : first + len(part)] = part
            first += len(part)
        return found

    def _starts(
        self, source: GradientFound, samples: int, seeds: np.random.SeedSequence
    ) -> list[FloatArray]:
        if source.start is not None:
            return self.draw(source.start, samples, seeds)
        random = np.random.default_rng(seeds)
        return [
            self._side(NearZero() if side.image is None else DeadLeaves(), side, samples, random)
            for side in self.scene.sides
        ]

    def _missing(self, source: Source, side: InputSide) -> str | None:
        """Say what an input lacks for a source; None if nothing."""
        if isinstance(source, SmoothFields | DeadLeaves) and side.image is None:
            return f"of shape {side.shape} is no image"
        if isinstance(source, FirstLayer) and not first_layers(self.scene, side):
            return "is read by no Dense or convolutional layer first"
        return None

    def _mixture(
        self, source: Mixture, samples: int, seeds: np.random.SeedSequence
    ) -> list[FloatArray]:
        parts = len(source.sources)
        found = [np.empty((samples, *side.shape), np.float32) for side in self.scene.sides]
        first = 0
        for number, own in enumerate(seeds.spawn(parts)):
            count = (samples + number) // parts
            if count:
                drawn = self.draw(source.sources[number], count, own)
                for whole, part in zip(found, drawn, strict=True):
                    whole[first : first + count] = part
                del drawn, part
                first += count
        return found

    def _convex(
        self, source: ConvexCombinations, samples: int, seeds: np.random.SeedSequence
    ) -> list[FloatArray]:
        own, mixing = seeds.spawn(2)
        drawn = self.draw(source.source, samples, own)
        random = np.random.default_rng(mixing)
        chosen = random.integers(samples, size=(source.points, samples))
        weights = random.dirichlet(np.ones(source.points), samples)
        mixed = []
        for side, array in zip(self.scene.sides, drawn, strict=True):
            found = np.empty_like(array)
            for block in blocks(samples, math.prod(side.shape)):
                total = np.zeros((block.stop - block.start, *side.shape))
                for number, points in enumerate(chosen):
                    weight = weights[block, number].reshape(-1, *[1] * len(side.shape))
                    total += weight * array[points[block]]
                found[block] = side.clipped(total)
            mixed.append(found)
        return mixed

    def _by_gradient(self, ascent: Ascent, starts: list[FloatArray], seed: int) -> list[FloatArray]:
        macs = sum(node.macs for node in self.scene.network.nodes)
        # There and back again, for half of the steps on average where every input has its own.
        passes = ascent.steps + 1 if ascent.vary_steps else 2 * ascent.steps
        if len(starts[0]) * passes * macs >= _DEAR:
            self.remarks.append(
                f"{len(starts[0])} inputs were found by up to {ascent.steps} gradient steps over "
                f"{macs:.2g} multiplications: fewer inputs, or another source than "
                "'gradient', take less time"
            )
        if not _engine_reaches_logits(self.scene.network):
            return [self._by_keras(ascent, starts, seed)]
        return self.scene.network.invert(
            {side.name: array for side, array in zip(self.scene.sides, starts, strict=True)},
            [side.lower.astype(np.float64) for side in self.scene.sides],
            [side.upper.astype(np.float64) for side in self.scene.sides],
            images=[side.image for side in self.scene.sides],
            seed=seed,
            **asdict(ascent),
        )

    def _by_keras(self, ascent: Ascent, starts: Sequence[FloatArray], seed: int) -> FloatArray:
        if self.opened is None:
            raise ModelError(
                "the engine knows no gradient of an opaque layer before the logits; draw for the "
                "opened model instead of its network, or from another source than 'gradient'"
            )
        if len(starts) != 1 or len(self.scene.network.outputs) != 1:
            raise ModelError(
                "inputs by gradient through layers that the engine does not know are found for "
                "models with one input and one output; draw from another source than 'gradient'"
            )
        # Keras is slow to start, and most draws need none of it.
        from nnprune.keras_io.logits import logits_model
        from nnprune.synthetic.keras_ascent import ascend

        logits = logits_model(self.opened.model, every_head=True).model
        self.remarks.append("gradients are those of Keras: the engine does not know every layer")
        normalizes = any(node.kind == "BatchNormalization" for node in self.scene.network.nodes)
        if ascent.batch_statistics and normalizes:
            self.remarks.append("the statistics of BatchNormalization layers were not approached")
        return ascend(logits, self.scene.sides[0], starts[0], ascent, seed=seed)


def _parts(
    source: Source, side: InputSide, samples: int, random: np.random.Generator
) -> Iterator[FloatArray]:
    """Draw an input's values, some samples at a time."""
    image = side.image or (1, 1, 1)
    match source:
        case SmoothFields(deviations=deviations, contrast=contrast):
            shares = smooth_fields(
                image, samples=samples, deviations=deviations, contrast=contrast, random=random
            )
        case DeadLeaves(leaves=leaves):
            shares = dead_leaves(image, samples=samples, leaves=leaves, random=random)
        case NearZero(deviation=deviation):
            width = side.upper.astype(np.float64) - side.lower
            middle = side.clipped(np.zeros(side.shape))
            for block in blocks(samples, math.prod(side.shape)):
                noise = random.standard_normal((block.stop - block.start, *side.shape))
                yield side.clipped(middle + width * (deviation * noise))
            return
        case _:
            parts = blocks(samples, math.prod(side.shape))
            shares = (random.random((part.stop - part.start, *side.shape)) for part in parts)
    for share in shares:
        yield side.at(share.reshape(-1, *side.shape))


def _engine_reaches_logits(network: _core.Network) -> bool:
    """Whether no opaque node lies before the logits."""
    before = set(network.logits)
    for node in reversed(network.nodes):
        if node.name in before:
            if node.kind == "Opaque":
                return False
            before.update(node.sources)
    return True
