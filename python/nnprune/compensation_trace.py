"""What compensation, the judge and the polish recorded of a pruning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nnprune.metrics.classification import Proportion

__all__ = ["CompensationTrace", "LayerFit", "PolishTrace", "Restart", "SyntheticAgreement"]


@dataclass(frozen=True, kw_only=True)
class LayerFit:
    """What a refit did to one layer.

    Attributes
    ----------
    layer : str
        The layer whose units went.
    kept : int
        Units left.
    loss : float or None
        Mean square that the next layers' outputs are off by on the samples, relative to their
        variance; None where they could not be refitted.
    ridge : float or None
        The ridge it took, relative to the diagonal's mean.
    fallback : str or None
        Why delegates took the sum instead, if they did.
    moves : int
        Moves that the search for kept units made.
    """

    layer: str
    kept: int
    loss: float | None
    ridge: float | None
    fallback: str | None
    moves: int


@dataclass(frozen=True, kw_only=True)
class CompensationTrace:
    """How removed units were made up for.

    Attributes
    ----------
    options : mapping
        The rule's name and parameters.
    inputs : {"synthetic", "representative", "moments"} or None
        What least squares was fitted on; None for the other rules.
    samples : int
        How many inputs.
    given : int or None
        How many representative inputs these were made of.
    sha256 : str or None
        Fingerprint of representative inputs.
    seed : int or None
        The run's seed, which the streams of the inputs and of the search come from.
    remarks : tuple of str
        Where something else had to be drawn than the source says, and why.
    loss : float or None
        Mean square that the logits are off by on these inputs, relative to their variance.
    layers : tuple of LayerFit
        Each refitted layer, in forward order.
    seconds : mapping of str to float
        How long drawing inputs, and the fit with its search, took: wall time.
    """

    options: Mapping[str, Any]
    inputs: str | None = None
    samples: int = 0
    given: int | None = None
    sha256: str | None = None
    seed: int | None = None
    remarks: tuple[str, ...] = ()
    loss: float | None = None
    layers: tuple[LayerFit, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The rule: "sum", "scaled" or "least_squares"."""
        return str(self.options["name"])

    @property
    def fallbacks(self) -> dict[str, str]:
        """Layers where delegates took the sum instead, and why."""
        return {fit.layer: fit.fallback for fit in self.layers if fit.fallback is not None}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        layers = [vars(fit) for fit in self.layers]
        plain = {**vars(self), "options": dict(self.options), "layers": layers}
        return {**plain, "remarks": list(self.remarks), "seconds": dict(self.seconds)}


@dataclass(frozen=True, kw_only=True)
class SyntheticAgreement:
    """Samples of a synthetic source that both models classify alike: the data-free judge.

    Attributes
    ----------
    agreement : Proportion
        How many of how many.
    source : mapping
        The source's name and parameters.
    seed : int
        The seed they were drawn with; nothing else is drawn with it.
    """

    agreement: Proportion
    source: Mapping[str, Any]
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self.agreement), "source": dict(self.source), "seed": self.seed}


@dataclass(frozen=True, kw_only=True)
class Restart:
    """What one seed of several came to.

    Attributes
    ----------
    seed : int
        The seed.
    removed : int
        Units removed.
    agreement : float
        Its agreement with the original on the judge's inputs.
    """

    seed: int
    removed: int
    agreement: float


@dataclass(frozen=True, kw_only=True)
class PolishTrace:
    """What a polish did.

    Attributes
    ----------
    options : mapping
        Its parameters.
    inputs : {"synthetic", "representative"}
        What it trained on.
    samples, held_out : int
        Inputs trained on, and inputs that decided which epoch counts.
    losses : tuple of float
        The loss on the held-out inputs before the first epoch and after each: mean square that
        the logits are off by, relative to their variance, on clean and moved inputs together.
    best : int
        The place in `losses` that counts; 0 where no epoch was an improvement.
    stopped_by : {"epochs", "seconds", "min_agreement"}
        What ended it; "min_agreement" where it was taken back because it left less of that.
    seconds : float
        How long it took: wall time.
    given : int or None
        How many representative inputs its inputs were made of.
    sha256 : str or None
        Their fingerprint.
    remarks : tuple of str
        Where something else had to be drawn than the source says, and why.
    """

    options: Mapping[str, Any]
    inputs: str
    samples: int
    held_out: int
    losses: tuple[float, ...]
    best: int
    stopped_by: str
    seconds: float
    given: int | None = None
    sha256: str | None = None
    remarks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        lists = {"losses": list(self.losses), "remarks": list(self.remarks)}
        return {**vars(self), "options": dict(self.options), **lists}
