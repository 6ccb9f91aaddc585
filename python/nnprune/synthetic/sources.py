"""Where synthetic inputs come from: frozen options, checked when they are made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from nnprune.errors import ConfigError

__all__ = [
    "DEFAULT",
    "Ascent",
    "BoxNoise",
    "ConvexCombinations",
    "DeadLeaves",
    "FirstLayer",
    "GradientFound",
    "Mixture",
    "NearZero",
    "SmoothFields",
    "Source",
    "source_named",
    "source_to_dict",
]

_LARGEST_COUNT = 1_000_000
_WIDEST = 100.0


@dataclass(frozen=True, kw_only=True)
class BoxNoise:
    """Every element by itself, evenly from its side of the box."""

    name: ClassVar[str] = "box"


@dataclass(frozen=True, kw_only=True)
class SmoothFields:
    """Gaussian random fields for images: white noise, smoothed, around the middle of the box.

    Inputs that are no images are drawn as by `BoxNoise`.

    Attributes
    ----------
    deviations : sequence of float, default (1, 2, 3, 4)
        Standard deviations of the smoothing Gaussian, in pixels; the samples take them in turn.
    contrast : float, default 0.25
        Standard deviation of an element, as a share of its side of the box.

    Raises
    ------
    ConfigError
        A deviation is not in (0, 100], or the contrast is not a positive finite number.
    """

    name: ClassVar[str] = "smooth"

    deviations: Sequence[float] = (1.0, 2.0, 3.0, 4.0)
    contrast: float = 0.25

    def __post_init__(self) -> None:
        """Check the parameters."""
        if isinstance(self.deviations, str) or not isinstance(self.deviations, Sequence):
            raise ConfigError(f"smooth: deviations: expected numbers, got {self.deviations!r}")
        if not self.deviations:
            raise ConfigError("smooth: deviations: expected at least one")
        numbers = [_number("smooth: deviations", each, _WIDEST) for each in self.deviations]
        _set(self, deviations=tuple(numbers))
        _set(self, contrast=_number("smooth: contrast", self.contrast))


@dataclass(frozen=True, kw_only=True)
class DeadLeaves:
    """Images of ellipses and rectangles that cover each other, on the lower ends of the box.

    A dead leaves model (Matheron 1968; Lee, Mumford and Huang, IJCV 41, 2001): edges, regions and
    occlusion, which images have and Gaussian fields lack. Inputs that are no images are drawn as
    by `BoxNoise`.

    Attributes
    ----------
    leaves : int, default 8
        Most leaves of an image; each is there with probability 0.7.

    Raises
    ------
    ConfigError
        `leaves` is not a whole number from 1 to 1,000,000.
    """

    name: ClassVar[str] = "leaves"

    leaves: int = 8

    def __post_init__(self) -> None:
        """Check the parameters."""
        _set(self, leaves=_count("leaves: leaves", self.leaves))


@dataclass(frozen=True, kw_only=True)
class FirstLayer:
    """Gaussian with the covariance that the first layers' weights W have, W W^T.

    Training has turned the weights towards directions in which the data vary. Only what is above
    the noise of their initialization counts: eigenvalues over the edge of Marchenko and Pastur
    (1967) for weights of the variance that Glorot and Bengio (2010) start from, and of these the
    part above the edge. A convolution's covariance is that of its patches, wherever they lie.
    Inputs that no Dense or convolutional layer reads first are drawn as by `BoxNoise`.

    Attributes
    ----------
    mean : float, default 0.5
        Where the mean lies in the box, from 0 (its lower ends) to 1.
    contrast : float, default 0.25
        Root mean square deviation of the elements, as a share of their sides of the box.

    Raises
    ------
    ConfigError
        A parameter is out of range.
    """

    name: ClassVar[str] = "first_layer"

    mean: float = 0.5
    contrast: float = 0.25

    def __post_init__(self) -> None:
        """Check the parameters."""
        _set(self, mean=_number("first_layer: mean", self.mean, 1.0, zero=True))
        _set(self, contrast=_number("first_layer: contrast", self.contrast))


@dataclass(frozen=True, kw_only=True)
class NearZero:
    """Normal around the point of the box that is nearest to zero.

    Scaled features of tables are mostly small, whatever their box: noise all over it would be far
    from every sample.

    Attributes
    ----------
    deviation : float, default 0.03
        Standard deviation of an element, as a share of its side of the box.

    Raises
    ------
    ConfigError
        The deviation is not a positive finite number.
    """

    name: ClassVar[str] = "near_zero"

    deviation: float = 0.03

    def __post_init__(self) -> None:
        """Check the parameters."""
        _set(self, deviation=_number("near_zero: deviation", self.deviation))


@dataclass(frozen=True, kw_only=True)
class GradientFound:
    """Inputs that gradient steps lead to, towards a class drawn at random for each.

    From each start, steepest ascent on the log-likelihood of the class: the gradient, in units of
    the box's sides and smoothed over images, is scaled so that its largest element changes by
    `step_size`. In the engine where it knows all layers, else by the backend of Keras.

    Attributes
    ----------
    start : source, optional
        Where to start; by default at `DeadLeaves()` for images, `NearZero()` for other inputs.
    steps : int, default 10
        Gradient steps.
    step_size : float, optional
        Largest change of an element in one step, as a share of its side of the box, in (0, 1]; by
        default 0.2 if an input is an image, else 0.03.
    vary_steps : bool, default True
        Let each input take a number of steps of its own, drawn from 1 to `steps`.
    confidence : float, default 1
        Probability of the drawn class in the target, in (0, 1]; the others share the rest.
    temperature : float, optional
        What logits are divided by before their softmax; above 1, other likely classes count more.
        By default 5 if an input is an image, else 1.
    smoothing : float, default 1
        Standard deviation, in pixels, of the Gaussian that smooths gradients of images; 0 is none.
    batch_statistics : bool, default True
        Let the statistics of all samples together approach those that BatchNormalization layers
        keep, as in DeepInversion (arXiv 1912.08795): a second gradient of equal weight. In the
        engine only; without such layers it changes nothing.

    Raises
    ------
    ConfigError
        A parameter is out of range.
    """

    name: ClassVar[str] = "gradient"

    start: Source | None = None
    steps: int = 10
    step_size: float | None = None
    vary_steps: bool = True
    confidence: float = 1.0
    temperature: float | None = None
    smoothing: float = 1.0
    batch_statistics: bool = True

    def __post_init__(self) -> None:
        """Check the parameters."""
        if self.start is not None:
            _check_source("gradient: start", self.start)
        if self.step_size is not None:
            _set(self, step_size=_number("gradient: step_size", self.step_size, 1.0))
        if self.temperature is not None:
            _set(self, temperature=_number("gradient: temperature", self.temperature))
        _set(
            self,
            steps=_count("gradient: steps", self.steps),
            vary_steps=bool(self.vary_steps),
            confidence=_number("gradient: confidence", self.confidence, 1.0),
            smoothing=_number("gradient: smoothing", self.smoothing, _WIDEST, zero=True),
            batch_statistics=bool(self.batch_statistics),
        )

    def ascent(self, *, images: bool) -> Ascent:
        """Settle the steps, for inputs with `images` among them or without."""
        step_size, temperature = (0.2, 5.0) if images else (0.03, 1.0)
        return Ascent(
            steps=self.steps,
            step_size=step_size if self.step_size is None else self.step_size,
            vary_steps=self.vary_steps,
            confidence=self.confidence,
            temperature=temperature if self.temperature is None else self.temperature,
            smoothing=self.smoothing,
            batch_statistics=self.batch_statistics,
        )


@dataclass(frozen=True, kw_only=True)
class Ascent:
    """The steps of `GradientFound`, whose attributes these are, with nothing left open."""

    steps: int
    step_size: float
    vary_steps: bool
    confidence: float
    temperature: float
    smoothing: float
    batch_statistics: bool


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Inputs of several sources, in equal parts.

    Attributes
    ----------
    sources : sequence of source
        At least two.

    Raises
    ------
    ConfigError
        There are fewer, or one is no source.
    """

    name: ClassVar[str] = "mixture"

    sources: Sequence[Source]

    def __post_init__(self) -> None:
        """Check the parameters."""
        if not isinstance(self.sources, Sequence) or len(self.sources) < 2:
            raise ConfigError(f"mixture: sources: expected at least two, got {self.sources!r}")
        for source in self.sources:
            _check_source("mixture: sources", source)
        _set(self, sources=tuple(self.sources))


@dataclass(frozen=True, kw_only=True)
class ConvexCombinations:
    """Random convex combinations of inputs of a source, as mixup has them (arXiv 1710.09412).

    Attributes
    ----------
    source : source, default GradientFound()
        What is mixed.
    points : int, default 2
        Inputs in each combination, weighed evenly from the simplex.

    Raises
    ------
    ConfigError
        A parameter is out of range.
    """

    name: ClassVar[str] = "convex"

    source: Source = field(default_factory=GradientFound)
    points: int = 2

    def __post_init__(self) -> None:
        """Check the parameters."""
        _check_source("convex: source", self.source)
        _set(self, points=_count("convex: points", self.points))


Source = (
    BoxNoise
    | SmoothFields
    | DeadLeaves
    | FirstLayer
    | NearZero
    | GradientFound
    | Mixture
    | ConvexCombinations
)

_KINDS = (
    BoxNoise,
    SmoothFields,
    DeadLeaves,
    FirstLayer,
    NearZero,
    GradientFound,
    ConvexCombinations,
)


def source_named(name: str) -> Source:
    """Give the source of this name with its default parameters.

    Raises
    ------
    ConfigError
        There is none; the message lists those there are.
    """
    for kind in _KINDS:
        if kind.name == name:
            return kind()
    known = ", ".join(kind.name for kind in _KINDS)
    raise ConfigError(f"source: expected one of {known}, got {name!r}")


def source_to_dict(source: Source) -> dict[str, Any]:
    """Return the source's name and parameters, as JSON has them."""
    if isinstance(source, Mixture):
        return {"name": source.name, "sources": [source_to_dict(each) for each in source.sources]}
    values: dict[str, Any] = {"name": source.name}
    for each in fields(source):
        value = getattr(source, each.name)
        nested = isinstance(value, Source)
        values[each.name] = source_to_dict(value) if nested else _plain(value)
    return values


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _check_source(name: str, value: Any) -> None:
    if not isinstance(value, Source):
        known = ", ".join(kind.__name__ for kind in (*_KINDS, Mixture))
        raise ConfigError(f"{name}: expected one of {known}, got {value!r}")


def _set(options: Any, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(options, name, value)  # the class is frozen


def _count(name: str, value: Any) -> int:
    whole = hasattr(value, "__index__") and not isinstance(value, bool)
    if not whole or not 1 <= int(value) <= _LARGEST_COUNT:
        raise ConfigError(f"{name}: expected an integer from 1 to {_LARGEST_COUNT}, got {value!r}")
    return int(value)


def _number(name: str, value: Any, most: float = math.inf, *, zero: bool = False) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and 0.0 <= number <= most and (zero or number > 0.0)):
        least = "from 0" if zero else "above 0"
        limit = f" up to {most:g}" if most < math.inf else ""
        raise ConfigError(f"{name}: expected a finite number {least}{limit}, got {value!r}")
    return number


DEFAULT = GradientFound()
"""The source that keeps the most accuracy in the development experiments."""
