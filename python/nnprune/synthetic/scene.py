"""What inputs are drawn for: a network, its box in float32, and which inputs are images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnprune import _core
from nnprune.errors import BoundsError
from nnprune.keras_io.input_box import InputBox
from nnprune.synthetic.flattened import flattened_image

__all__ = ["Image", "InputSide", "Scene"]

FloatArray = NDArray[np.float32]

Image = tuple[int, int, int]
"""Height, width and channels."""

# Below this an axis is no side of an image: too short to be smooth along.
_SHORTEST_SIDE = 4
# A matrix may as well be a sequence of features; a picture without channels has long sides.
_SHORTEST_SIDE_WITHOUT_CHANNELS = 8
_PASSING = frozenset({"Affine", "BatchNormalization", "Identity"})


@dataclass(frozen=True, kw_only=True, eq=False)
class InputSide:
    """One input: its node, its shape, its sides of the box, and the image that it is.

    Attributes
    ----------
    name
        The input's node.
    lower, upper
        Ends of the box in float32, inside it; of the input's shape.
    image
        How its elements are to be seen; None if they are no image.
    """

    name: str
    lower: FloatArray
    upper: FloatArray
    image: Image | None

    @property
    def shape(self) -> tuple[int, ...]:
        """The input's shape without the batch axis."""
        return self.lower.shape

    def at(self, share: NDArray[np.floating]) -> FloatArray:
        """Place shares of the box (0: its lower ends, 1: its upper ones), clipped into it."""
        width = self.upper.astype(np.float64) - self.lower
        return self.clipped(self.lower + width * np.asarray(share, np.float64))

    def clipped(self, points: NDArray[np.floating]) -> FloatArray:
        """Bring points into the box."""
        return np.asarray(np.clip(points, self.lower, self.upper), np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """A network and the inputs to draw for it."""

    network: _core.Network
    sides: tuple[InputSide, ...]

    @property
    def has_images(self) -> bool:
        """Whether an input is an image."""
        return any(side.image is not None for side in self.sides)

    @classmethod
    def of(cls, network: _core.Network, input_box: InputBox) -> Scene:
        """Check a box and find the images among the inputs.

        Raises
        ------
        BoundsError
            The box does not fit the inputs, is not finite, too wide for float32, or one point.
        """
        lower, upper = (tuple(map(np.asarray, ends)) for ends in (input_box.lower, input_box.upper))
        names = network.inputs
        if not len(names) == len(lower) == len(upper):
            raise BoundsError(
                f"input_bounds: the network has {len(names)} inputs, got bounds for {len(lower)}"
            )
        shapes = {node.name: node.shape for node in network.nodes}
        sides = tuple(
            _side(network, name, shapes[name], low, high)
            for name, low, high in zip(names, lower, upper, strict=True)
        )
        if all(np.array_equal(side.lower, side.upper) for side in sides):
            raise BoundsError(
                "input_bounds: the input box is a single point, so there is nothing to draw; give "
                "bounds that lie apart"
            )
        return cls(network=network, sides=sides)


def _side(
    network: _core.Network,
    name: str,
    shape: Sequence[int],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
) -> InputSide:
    named = f"input_bounds: input '{name}' of shape {tuple(shape)}"
    if lower.shape != tuple(shape) or upper.shape != tuple(shape):
        raise BoundsError(f"{named}: got bounds of shapes {lower.shape} and {upper.shape}")
    if not (np.all(np.isfinite(lower)) and np.all(np.isfinite(upper)) and np.all(lower <= upper)):
        raise BoundsError(
            f"{named}: synthetic inputs are drawn between finite bounds, the lower ones not above "
            "the upper ones; give input_bounds"
        )
    if np.any(upper - lower > np.finfo(np.float32).max) or np.any(
        np.maximum(np.abs(lower), np.abs(upper)) > np.finfo(np.float32).max
    ):
        raise BoundsError(f"{named}: bounds must lie within the range of float32")
    low, high = _inward(lower, upper)
    return InputSide(name=name, lower=low, upper=high, image=_image(network, name, shape))


def _inward(
    lower: NDArray[np.float64], upper: NDArray[np.float64]
) -> tuple[FloatArray, FloatArray]:
    """Round the ends into the box; between two float32 numbers, to the nearest of the middle."""
    low, high = lower.astype(np.float32), upper.astype(np.float32)
    low = np.where(low < lower, np.nextafter(low, np.float32(np.inf)), low)
    high = np.where(high > upper, np.nextafter(high, np.float32(-np.inf)), high)
    middle = (0.5 * lower + 0.5 * upper).astype(np.float32)
    crossed = low > high
    return np.where(crossed, middle, low), np.where(crossed, middle, high)


def _image(network: _core.Network, name: str, shape: Sequence[int]) -> Image | None:
    if len(shape) == 3 and min(shape[:2]) >= _SHORTEST_SIDE:
        return (shape[0], shape[1], shape[2])
    long = len(shape) == 2 and min(shape) >= _SHORTEST_SIDE_WITHOUT_CHANNELS
    if long and all(kind == "Reshape" for kind in _first_readers(network, name)):
        return (shape[0], shape[1], 1)
    if len(shape) == 1:
        return flattened_image(network, name, shape[0])
    return None


def _first_readers(network: _core.Network, name: str) -> list[str]:
    """Kinds of the ops that read an input, elementwise ones passed over."""
    passed, kinds = {name}, []
    for node in network.nodes:
        if passed.isdisjoint(node.sources):
            continue
        if node.kind in _PASSING:
            passed.add(node.name)
        else:
            kinds.append(node.kind)
    return kinds
