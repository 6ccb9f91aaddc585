"""A certificate as it is published: frozen values that turn into text, JSON and a check."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnprune.certification.coverage import Coverage
from nnprune.certification.local import LocalCounts
from nnprune.certification.outputs import Output, single_label
from nnprune.certification.outward import PAD, up
from nnprune.certification.pair import ModelIdentity
from nnprune.certification.rule import clear, logit_gaps, probability_gaps, rows_of
from nnprune.certification.softmax import ProbabilityChange
from nnprune.errors import ConfigError, DataError, ModelError
from nnprune.keras_io.wording import one_line, shown_path
from nnprune.record import Bounds, Merges, bounds_to_plain, merges_to_plain
from nnprune.result import finite, to_json

__all__ = [
    "EXECUTION",
    "KIND",
    "METHOD",
    "SCHEMA_VERSION",
    "SEMANTICS",
    "Certificate",
    "Interval",
    "Usefulness",
]

KIND = "nnprune-certificate"
SCHEMA_VERSION = 1

#: What the figures are proved about.
SEMANTICS = "real arithmetic on the stored weights"
#: What they are not proved about.
EXECUTION = (
    "rounding while the models run (float32, another order of sums, other hardware) is not "
    "included; it comes on top of output_change, and tolerance in the run-time rule is for it"
)
#: How they were computed.
METHOD: Mapping[str, Any] = {
    "name": "differences forward, enclosed Jacobian both ways, lines of both networks backward; "
    "intersected",
    "precision": "float64, a-priori outward rounding",
    "relative_pad": PAD,
}

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Interval:
    """Bounds of every logit, side by side.

    Attributes
    ----------
    lower, upper : float64 array [logits]
        The ends; infinite where there is no bound.
    """

    lower: Array
    upper: Array

    @property
    def widths(self) -> Array:
        """How wide each is."""
        with np.errstate(invalid="ignore"):
            return self.upper - self.lower

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"lower": self.lower.tolist(), "upper": self.upper.tolist()}


@dataclass(frozen=True, kw_only=True)
class Usefulness:
    """Whether a certificate says anything that helps.

    Attributes
    ----------
    too_loose : bool
        Whether it is too loose to be of use.
    text : str
        Why, in plain words.
    """

    too_loose: bool
    text: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Certificate:
    """What a pruning did to the outputs at most, proved for every input of a box.

    `f` is the original, `g` the smaller model; both up to their logits.

    Attributes
    ----------
    original, pruned : ModelIdentity
        The models, with their fingerprints.
    input_source : {"given", "default", "rescaling", "assumed"}
        Where the box came from.
    input_bounds : mapping of str to (lower, upper)
        The box: for each input by name, float64 arrays that broadcast to its shape.
    outputs : tuple of Output
        The outputs, in the order in which their logits stand side by side.
    output_change : Interval
        Bounds of `g - f`, rounded outward with a further relative 1e-9.
    margins : float64 array [classes, classes]
        `margins[c, k]` is at least `(f_c - f_k) - (g_c - g_k)`; a single logit z counts as two
        logits 0 and z.
    original_range, pruned_range : Interval
        Bounds of the logits of both models themselves, to compare with.
    probabilities : tuple of ProbabilityChange
        What that means behind a softmax or sigmoid.
    merges : mapping of str to tuple of (nominee, delegate)
        What led from f to g, layer by layer.
    coverage : Coverage or None
        What the margins prove on the samples given.
    local : tuple of LocalCounts
        What is proved around the samples given, radius by radius.
    usefulness : Usefulness
        Whether all this is too loose to be of use.
    nnprune_version : str
        What computed it.
    polished : bool
        Whether g was trained after the pruning: any of its weights may differ from f's.
    """

    original: ModelIdentity
    pruned: ModelIdentity
    input_source: str
    input_bounds: Bounds = field(repr=False)
    outputs: tuple[Output, ...]
    output_change: Interval
    margins: Array = field(repr=False)
    original_range: Interval = field(repr=False)
    pruned_range: Interval = field(repr=False)
    probabilities: tuple[ProbabilityChange, ...] = field(repr=False)
    merges: Merges = field(repr=False)
    coverage: Coverage | None
    local: tuple[LocalCounts, ...]
    usefulness: Usefulness
    nnprune_version: str
    polished: bool = False

    def agrees(
        self, outputs: ArrayLike, *, from_logits: bool | None = None, tolerance: float = 0.0
    ) -> NDArray[np.bool_]:
        """Tell for which inputs the original predicts the same class: the run-time rule.

        It needs the smaller model's outputs only. Where its margins exceed what the certificate
        asks for, the original predicts the same class, provided that the input is in the box.

        Parameters
        ----------
        outputs : array-like [samples, outputs]
            What the smaller model gives for a batch.
        from_logits : bool, optional
            Whether they are logits; by default if the model itself gives logits. Probabilities are
            taken for rounded, as float32 at best: one of exactly 0 or 1 says how large a margin is
            at least.
        tolerance : float, default 0
            By how much each logit may be off, in either model, as by rounding while they run.

        Returns
        -------
        bool array [samples]
            True where the original agrees, proved; False where nothing is known.

        Raises
        ------
        ConfigError
            The tolerance is out of range.
        DataError
            The outputs do not fit the model, or are no probabilities.
        ModelError
            The model does not predict one class an input.
        """
        if not (isinstance(tolerance, int | float | np.floating) and 0.0 <= tolerance < math.inf):
            raise ConfigError(f"tolerance: expected a number from 0 on, got {tolerance!r}")
        if not single_label(self.outputs):
            raise ModelError(
                "the run-time rule is for models that predict one class an input; this one has "
                f"{len(self.outputs)} outputs with {sum(one.size for one in self.outputs)} logits"
            )
        if from_logits is None:
            from_logits = self.outputs[0].head == "logits"
        rows, rounding = rows_of(outputs, width=self.outputs[0].size)
        # Both models may be off: the margin of f is read off g's, and compared with 0.
        slack = 2.0 * float(tolerance)
        if from_logits:
            found = logit_gaps(rows, tolerance=slack)
        else:
            found = probability_gaps(rows, rounding, tolerance=slack)
        return clear(found, self.margins.T)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values; bounds that are infinite become None."""
        paired = self.margins if not margins_follow(self.outputs) else None
        plain: dict[str, Any] = {
            "kind": KIND,
            "schema_version": SCHEMA_VERSION,
            "nnprune_version": self.nnprune_version,
            "semantics": SEMANTICS,
            "execution": EXECUTION,
            "method": dict(METHOD),
            "original": vars(self.original),
            "pruned": vars(self.pruned),
            "input_box": self.input_source,
            "input_bounds": bounds_to_plain(self.input_bounds),
            "outputs": [{**vars(one), "shape": list(one.shape)} for one in self.outputs],
            "output_change": self.output_change.to_dict(),
            "margins": None if paired is None else paired.tolist(),
            "probabilities": [one.to_dict() for one in self.probabilities],
            "original_range": self.original_range.to_dict(),
            "pruned_range": self.pruned_range.to_dict(),
            "usefulness": vars(self.usefulness),
            "coverage": None if self.coverage is None else self.coverage.to_dict(),
            "local": [dict(vars(one)) for one in self.local],
            "merged_units": {layer: len(pairs) for layer, pairs in self.merges.items()},
            "merges": merges_to_plain(self.merges),
            **({"polished": True} if self.polished else {}),
        }
        values: dict[str, Any] = finite(plain)
        return values

    def to_json(self) -> str:
        """Return `to_dict` as JSON text; the same models and box give the same text."""
        return to_json(self.to_dict())

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the JSON to a file, wholly or not at all.

        Raises
        ------
        OutputError
            It cannot be written; what was there before is untouched.
        """
        from nnprune.keras_io.save import write_text_atomically

        return write_text_atomically(path, self.to_json() + "\n", overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Certificate:
        """Read what `save` wrote.

        Raises
        ------
        DataError
            It is no certificate, or one of a newer version.
        """
        from nnprune.certification.reading import certificate_of

        label = shown_path(path)
        try:
            plain = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{label}: cannot be read ({one_line(error)})") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{label}: is no JSON file ({one_line(error)})") from error
        return certificate_of(plain, label=label)

    def summary(self) -> str:
        """Tell the main figures in a few lines."""
        from nnprune.certification.summary import summary

        return summary(self)


# Above this the matrix would be most of the file, and follows from the bounds of each logit.
_MOST_PAIRED = 64


def margins_follow(outputs: tuple[Output, ...]) -> bool:
    """Whether the margin matrix is left out, as it follows from `output_change`."""
    return sum(one.size for one in outputs) > _MOST_PAIRED


def following_margins(change: Interval) -> Array:
    """Bound `(f_c - f_k) - (g_c - g_k)` by the bounds of each logit's own change."""
    with np.errstate(invalid="ignore"):
        margins = up(change.upper[np.newaxis, :] - change.lower[:, np.newaxis])
    margins = np.where(np.isnan(margins), np.inf, margins)
    np.fill_diagonal(margins, 0.0)
    return margins
