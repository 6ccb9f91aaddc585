"""What a pruning did, as frozen records that turn into text, JSON and a model file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nnprune._core import __version__
from nnprune.compensation_trace import (
    CompensationTrace,
    PolishTrace,
    Restart,
    SyntheticAgreement,
)
from nnprune.keras_io.late_model import LateModel
from nnprune.options import Method, method_to_dict
from nnprune.record import Record, bounds_to_plain
from nnprune.trace import Epoch, EpochEvaluation, Merge

__all__ = ["LayerChange", "PruningResult", "Size", "Source", "finite", "to_json"]

_SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the original model came from.

    Attributes
    ----------
    path : str or None
        The file; None for a model in memory.
    sha256 : str or None
        The file's fingerprint.
    weights_sha256 : str
        Fingerprint of the weights, in Keras' order: the same wherever the model is saved.
    name : str
        The model's own name.
    """

    path: str | None
    sha256: str | None
    weights_sha256: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a model is.

    Attributes
    ----------
    parameters : int
        Numbers in all weights.
    macs : int
        Multiply-accumulates of one evaluation, in the layers that the engine knows.
    """

    parameters: int
    macs: int


@dataclass(frozen=True, kw_only=True)
class LayerChange:
    """The units of one layer before and after.

    Attributes
    ----------
    layer : str
        The layer, nested models' names in front.
    units_before, units_after : int
        Number of units (filters of a convolution).
    reason : str or None
        Why they all stayed, if so.
    """

    layer: str
    units_before: int
    units_after: int
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class PruningResult:
    """A smaller model, and everything that led to it.

    Attributes
    ----------
    model : keras.Model
        The physically smaller model, compiled as the original was. Where neither reading nor
        pruning needed Keras, it is made when it is first asked for.
    source : Source
        The original.
    target : float or "lossless"
        Fraction of units asked for, or only what costs nothing.
    step : float
        Fraction an epoch asked for.
    method : Annealing, Greedy, OneShot or Elimination
        How pairs, or with least squares units, were chosen.
    outgoing : str
        Measure of the outgoing weights in the saliency.
    bias : {"absolute", "relative"}
        How biases entered the saliency.
    max_output_change : float or None
        What no output was allowed to move by, if anything.
    seed : int
        Seed of the random stream; of several the one that was kept.
    input_box : {"given", "default", "rescaling", "assumed"}
        Where the input bounds came from.
    input_bounds : mapping of str to (lower, upper)
        For each input by name, float64 arrays of its shape: the box that `impact` holds over.
    before, after : Size
        Size of the original and of the smaller model.
    layers : tuple of LayerChange
        Every layer with units, in forward order.
    opaque : mapping of str to str
        Layers that the engine cannot follow, and why.
    merges : tuple of Merge
        Every merge in order.
    trace : tuple of Epoch
        What happened, epoch by epoch.
    impact : mapping of str to (lower, upper)
        For each output's logits, bounds of their change over the whole input box: two sequences
        of float, in row-major order where an output has several axes. A final softmax or sigmoid
        is left out.
    stopped_by : {"target", "lossless", "max_output_change", "callback", "no_delegate", \
"accuracy_floor", "robust_accuracy_floor", "agreement_floor", "min_agreement"}
        Why the run ended; a floor is one that the next epoch would have broken.
    rounding : float
        Largest absolute error of casting changed weights back to float16 or bfloat16; 0 for
        float32 models.
    trusted : bool
        Whether the checks of an unknown file were skipped (`trust=True`).
    engine_seconds : float
        CPU time of the engine; of all seeds, and of all sizes that were fitted together.
    evaluation_seconds : float
        CPU time of the evaluations after each epoch.
    original_evaluation : EpochEvaluation or None
        What the original does on the samples given.
    undone : Epoch or None
        The epoch that broke a floor and was taken back.
    kernel_path : str or None
        Which matrix kernels the processor ran; on another path results may differ in the last
        bits, and by them, rarely, in a choice.
    compensation : CompensationTrace
        How removed units were made up for.
    allocation : {"uniform", "propagated"}
        How units were shared out among layers.
    width_multiple : int
        What numbers of units were rounded up to a multiple of.
    min_agreement : float or None
        The agreement on synthetic inputs that had to be kept, if any.
    synthetic_agreement : SyntheticAgreement or None
        What the data-free judge says of the smaller model; None where nothing asked for it.
    restarts : tuple of Restart
        What every seed came to, in order; empty for one seed.
    polish : PolishTrace or None
        What the polish did, if there was one.
    """

    model: LateModel = field(default=LateModel(), repr=False)
    source: Source
    target: float | Literal["lossless"]
    step: float
    method: Method
    outgoing: str
    bias: str
    max_output_change: float | None
    seed: int
    input_box: str
    input_bounds: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(
        repr=False, compare=False
    )
    before: Size
    after: Size
    layers: tuple[LayerChange, ...]
    opaque: Mapping[str, str]
    merges: tuple[Merge, ...] = field(repr=False)
    trace: tuple[Epoch, ...] = field(repr=False)
    impact: Mapping[str, tuple[Sequence[float], Sequence[float]]] = field(repr=False)
    stopped_by: str
    rounding: float
    trusted: bool
    engine_seconds: float
    evaluation_seconds: float
    original_evaluation: EpochEvaluation | None = field(repr=False)
    undone: Epoch | None = field(repr=False)
    kernel_path: str | None
    compensation: CompensationTrace = field(repr=False)
    allocation: str = "uniform"
    width_multiple: int = 1
    min_agreement: float | None = None
    synthetic_agreement: SyntheticAgreement | None = None
    restarts: tuple[Restart, ...] = field(default=(), repr=False)
    polish: PolishTrace | None = field(default=None, repr=False)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the smaller model to a `.keras` or `.h5` file, wholly or not at all.

        The file also keeps, where Keras does not look, the record that `nnprune.certify` needs:
        the original's fingerprint, the input box and the merges.

        Parameters
        ----------
        path : str or path-like
            Where to write.
        overwrite : bool, default False
            Whether a file that is there may be replaced.

        Returns
        -------
        Path
            The file written, absolute.

        Raises
        ------
        OutputError
            It cannot be written; what was there before is untouched.
        """
        from nnprune.keras_io.save import save_model

        held = LateModel.held(self, "model")
        return save_model(held, path, overwrite=overwrite, record=self.record.to_json())

    @property
    def record(self) -> Record:
        """What led from the original to the smaller model."""
        return Record.of_pruning(self.to_dict(), label="pruning")

    def summary(self) -> str:
        """Tell in a few lines what changed."""
        removed = sum(change.units_before - change.units_after for change in self.layers)
        epochs = "" if self.compensation.inputs else f"{len(self.trace)} epochs, "
        lines = [
            f"{removed} units removed by {self.method.name.replace('_', '-')}"
            f" (seed {self.seed}, {epochs}stopped by {self.stopped_by})",
            f"parameters  {self.before.parameters:>12,} -> {self.after.parameters:,}",
            f"MACs        {self.before.macs:>12,} -> {self.after.macs:,}",
            f"input box   {_BOX_SOURCES[self.input_box]}",
        ]
        if self.max_output_change is not None:
            lines.append(
                f"certified   no output moves by more than {self._largest_change():.3g}"
                f" (at most {self.max_output_change:g} was allowed)"
            )
        elif self.target == "lossless":
            lines.append(
                f"certified   no output moves by more than {self._largest_change():.3g},"
                " by the rounding of merged weights"
            )
        lines += self._compensated()
        width = max((len(change.layer) for change in self.layers), default=0)
        for change in self.layers:
            units = f"{change.units_before} -> {change.units_after} units"
            reason = f"  ({change.reason})" if change.reason else ""
            lines.append(f"  {change.layer:<{width}}  {units}{reason}")
        for layer, why in self.opaque.items():
            lines.append(f"  {layer}: not followed, {why}")
        if self.trusted:
            lines.append("the file was trusted: what guards against a hostile author was skipped")
        if self.rounding:
            lines.append(f"casting back rounded changed weights by up to {self.rounding:.2g}")
        return "\n".join(lines)

    def _compensated(self) -> list[str]:
        """Tell how removed units were made up for, where it was not as in the paper."""
        lines = []
        trace = self.compensation
        if trace.name != "sum":
            on = f" on {trace.samples:,} {trace.inputs} inputs" if trace.inputs else ""
            if trace.inputs == "moments":
                on = " on the moments that the input box gives"
            if trace.given is not None and trace.given < trace.samples:
                on = f" on {trace.samples:,} inputs made of {trace.given:,} representative ones"
            lines.append(f"compensated by {trace.name.replace('_', ' ')}{on}")
        lines += [f"  {layer}: summed instead, {why}" for layer, why in trace.fallbacks.items()]
        lines += [f"  {remark}" for remark in trace.remarks]
        asked = trace.options.get("ridge")
        lines += [
            f"  {fit.layer}: singular, ridge raised to {fit.ridge:.2g}"
            for fit in trace.layers
            if asked is not None and fit.ridge is not None and fit.ridge > asked
        ]
        if self.polish is not None:
            lines.append(
                f"polished    on {self.polish.samples:,} {self.polish.inputs} inputs in"
                f" {self.polish.seconds:.1f} s, epoch {self.polish.best} kept"
            )
        if self.restarts:
            worst = min(restart.agreement for restart in self.restarts)
            best = max(restart.agreement for restart in self.restarts)
            lines.append(f"restarts    {len(self.restarts)} seeds agree {worst:.1%} to {best:.1%}")
        if self.synthetic_agreement is not None:
            found = self.synthetic_agreement.agreement
            lines.append(
                f"agreement   {found.value:.1%} of {found.samples:,} synthetic inputs are"
                " classified as by the original"
            )
        return lines

    def _largest_change(self) -> float:
        ends = [end for both in self.impact.values() for one in both for end in one]
        return max((abs(end) for end in ends), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the model as plain values; infinite numbers become None."""
        plain: dict[str, Any] = {
            "schema_version": _SCHEMA_VERSION,
            "nnprune_version": __version__,
            "source": vars(self.source),
            "target": self.target,
            "step": self.step,
            "method": method_to_dict(self.method),
            "outgoing": self.outgoing,
            "bias": self.bias,
            "max_output_change": self.max_output_change,
            "seed": self.seed,
            "input_box": self.input_box,
            "input_bounds": bounds_to_plain(self.input_bounds),
            "before": vars(self.before),
            "after": vars(self.after),
            "layers": [vars(change) for change in self.layers],
            "opaque": dict(self.opaque),
            "impact": {
                output: {"lower": list(lower), "upper": list(upper)}
                for output, (lower, upper) in self.impact.items()
            },
            "stopped_by": self.stopped_by,
            "rounding": self.rounding,
            "trusted": self.trusted,
            "engine_seconds": self.engine_seconds,
            "evaluation_seconds": self.evaluation_seconds,
            "original_evaluation": None
            if self.original_evaluation is None
            else self.original_evaluation.to_dict(),
            "kernel_path": self.kernel_path,
            "compensation": self.compensation.to_dict(),
            "allocation": self.allocation,
            "width_multiple": self.width_multiple,
            "min_agreement": self.min_agreement,
            "synthetic_agreement": None
            if self.synthetic_agreement is None
            else self.synthetic_agreement.to_dict(),
            "restarts": [vars(restart) for restart in self.restarts],
            "polish": None if self.polish is None else self.polish.to_dict(),
            "merges": [vars(merge) for merge in self.merges],
            "trace": [epoch.to_dict() for epoch in self.trace],
            "undone": None if self.undone is None else self.undone.to_dict(),
        }
        values: dict[str, Any] = finite(plain)
        return values

    def to_json(self) -> str:
        """Return `to_dict` as JSON text."""
        return to_json(self.to_dict())


_BOX_SOURCES = {
    "given": "as given",
    "default": "[0, 1] for every feature (the default; give --input-bounds if inputs differ)",
    "rescaling": "from the leading Rescaling layer",
    "assumed": "ASSUMED: mean +- 4 standard deviations of the leading Normalization layer",
}


def to_json(plain: Any) -> str:
    """Return plain values as JSON text that every reader accepts: no NaN, no infinities."""
    return json.dumps(plain, indent=2, allow_nan=False)


def finite(value: Any) -> Any:
    """Replace numbers that JSON does not have by None, anywhere in plain values."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return value
