"""`verify`: recompute a certificate along a second path, and hold the published one against it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnprune import _core
from nnprune.certification.certificate import Certificate, Interval, margins_follow
from nnprune.certification.outputs import outputs_of
from nnprune.certification.pair import (
    check_identity,
    check_inputs,
    check_untouched,
    named_merges,
)
from nnprune.certification.softmax import probability_changes
from nnprune.errors import ConfigError, ModelError
from nnprune.keras_io.opened import OpenedModel, input_box_of, open_model
from nnprune.record import Record
from nnprune.result import PruningResult, finite, to_json

if TYPE_CHECKING:
    import keras

__all__ = ["Verification", "verify"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Verification:
    """Whether a certificate holds.

    Attributes
    ----------
    holds : bool
        Whether everything that was checked is as published, or better.
    failures : tuple of str
        What is not, each in one sentence; outputs by their names.
    recomputed : Interval
        What the second path finds for the change of the logits.
    checked, unchecked : tuple of str
        The parts of the certificate that were recomputed, and those that were not, and why.
    """

    holds: bool
    failures: tuple[str, ...]
    recomputed: Interval
    checked: tuple[str, ...]
    unchecked: tuple[str, ...]

    def summary(self) -> str:
        """Tell the verdict, and what it is about."""
        verdict = "the certificate holds" if self.holds else "the certificate DOES NOT HOLD"
        lines = [verdict, *(f"! {failure}" for failure in self.failures)]
        lines.append(f"checked: {', '.join(self.checked)}")
        lines += [f"not checked: {part}" for part in self.unchecked]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        plain: dict[str, Any] = finite(
            {
                "holds": self.holds,
                "failures": list(self.failures),
                "recomputed": self.recomputed.to_dict(),
                "checked": list(self.checked),
                "unchecked": list(self.unchecked),
            }
        )
        return plain

    def to_json(self) -> str:
        """Return `to_dict` as JSON text."""
        return to_json(self.to_dict())


def verify(
    certificate: Certificate | str | os.PathLike[str],
    pruned: str | os.PathLike[str] | keras.Model | PruningResult,
    *,
    original: str | os.PathLike[str] | keras.Model,
    trust: bool = False,
) -> Verification:
    """Check a certificate: recompute it, and compare.

    The change of the outputs is recomputed along a second, plainly written path, and its interval,
    rounded outward, must lie inside the published one. The margins and what is said of
    probabilities are recomputed as well. What the certificate says about samples is not: they are
    not in it.

    Parameters
    ----------
    certificate : Certificate or path-like
        What `certify` returned, or the file it was saved in.
    pruned : path-like, keras.Model or PruningResult
        The smaller model.
    original : path-like or keras.Model
        The original.
    trust : bool, default False
        Open files although they could run code: only for files whose author you trust.

    Returns
    -------
    Verification
        Whether it holds, and if not, for which outputs.

    Raises
    ------
    DataError
        The file is no certificate.
    ModelError
        The models are not those of the certificate, or do not belong together.
    FileFormatError, UntrustedModelError
        A file is no model, damaged, or does what an unknown file must not do.
    """
    if isinstance(certificate, str | os.PathLike):
        certificate = Certificate.load(Path(certificate))
    if not isinstance(certificate, Certificate):
        raise ConfigError(
            f"certificate: expected what certify returns, or its file, got {certificate!r}"
        )
    smaller = open_model(pruned.model if isinstance(pruned, PruningResult) else pruned, trust=trust)
    whole = open_model(original, trust=trust)
    check_identity("original", certificate.original, whole)
    check_identity("pruned model", certificate.pruned, smaller)
    _check_together(certificate, whole, smaller)
    box = input_box_of(whole, dict(certificate.input_bounds))
    networks = whole.graph.network, smaller.graph.network
    merges = named_merges(certificate.merges)
    found = _core.verify(*networks, box.lower, box.upper, merges)
    recomputed = Interval(lower=found["lower"], upper=found["upper"])
    failures = _outputs_outside(certificate, recomputed)
    checked = ["fingerprints", "output_change"]
    if not margins_follow(certificate.outputs):
        again = _core.certify(*networks, box.lower, box.upper, merges)["margins"]
        failures += _margins_too_small(certificate, again)
        checked.append("margins (along the first path)")
    if outputs_of(networks[0]) != certificate.outputs:
        failures.append("outputs: they are not those of the original")
    failures += _probabilities_too_small(certificate)
    if certificate.probabilities:
        checked.append("probabilities")
    return Verification(
        holds=not failures,
        failures=tuple(failures),
        recomputed=recomputed,
        checked=tuple(checked),
        unchecked=_unchecked(certificate),
    )


def _check_together(certificate: Certificate, whole: OpenedModel, smaller: OpenedModel) -> None:
    check_inputs(whole, smaller)
    groups = {group.layer: group.units for group in whole.graph.network.groups}
    missing = [layer for layer in certificate.merges if layer not in groups]
    if missing:
        raise ModelError(f"the original has no layer '{missing[0]}', which the certificate names")
    record = Record(
        sha256=certificate.original.sha256,
        weights_sha256=certificate.original.weights_sha256,
        input_source=certificate.input_source,
        input_bounds=certificate.input_bounds,
        units={layer: groups[layer] for layer in certificate.merges},
        merges=certificate.merges,
        polished=certificate.polished,
    )
    check_untouched(whole.graph.network, smaller.graph.network, record)
    count = sum(one.size for one in outputs_of(whole.graph.network))
    if count != len(certificate.output_change.lower):
        raise ModelError(
            f"the original has {count} logits, the certificate bounds "
            f"{len(certificate.output_change.lower)}"
        )


def _outputs_outside(certificate: Certificate, recomputed: Interval) -> list[str]:
    """Name the outputs whose recomputed interval is not inside the published one."""
    published = certificate.output_change
    inside = (published.lower <= recomputed.lower) & (recomputed.upper <= published.upper)
    return [
        f"output {name}: recomputed [{recomputed.lower[at]!r}, {recomputed.upper[at]!r}], "
        f"published [{published.lower[at]!r}, {published.upper[at]!r}]".replace("np.float64", "")
        for at, name in enumerate(_names(certificate))
        if not inside[at]
    ]


def _margins_too_small(certificate: Certificate, again: Any) -> list[str]:
    published = certificate.margins
    if again.shape != published.shape:
        return [f"margins: {again.shape[0]} classes, published for {published.shape[0]}"]
    pairs = np.argwhere(~(published >= again))
    return [
        f"margins[{c}, {k}]: recomputed {float(again[c, k])!r}, published "
        f"{float(published[c, k])!r}"
        for c, k in pairs
        if c != k
    ]


def _probabilities_too_small(certificate: Certificate) -> list[str]:
    """Compare what is said of probabilities with what follows from the published bounds."""
    change = certificate.output_change
    follows = probability_changes(
        certificate.outputs,
        change.lower,
        change.upper,
        None if margins_follow(certificate.outputs) else certificate.margins,
    )
    failures = []
    published = {one.output: one for one in certificate.probabilities}
    for one in follows:
        said = published.pop(one.output, None)
        if said is None:
            continue
        values = [*one.per_class, one.total_variation, one.kullback_leibler, one.log_probability]
        claims = [
            *said.per_class,
            said.total_variation,
            said.kullback_leibler,
            said.log_probability,
        ]
        # Another library's tanh may differ in its last bits.
        smaller = [
            claim < value * (1.0 - 1e-12) for claim, value in zip(claims, values, strict=False)
        ]
        if len(claims) != len(values) or any(smaller):
            failures.append(f"output {one.output}: what is said of its probabilities is too small")
    failures += [f"output {name}: has no probabilities" for name in published]
    return failures


def _names(certificate: Certificate) -> list[str]:
    return [
        f"{output.name}[{number}]"
        for output in certificate.outputs
        for number in range(output.size)
    ]


def _unchecked(certificate: Certificate) -> tuple[str, ...]:
    parts = []
    if certificate.coverage is not None:
        parts.append("coverage (the samples are not in the certificate)")
    if certificate.local:
        parts.append("local (the samples are not in the certificate)")
    parts.append("original_range, pruned_range, usefulness (they promise nothing)")
    return tuple(parts)
