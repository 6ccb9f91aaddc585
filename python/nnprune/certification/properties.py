"""`export_properties`: a certificate's claims as ONNX and VNN-LIB, for verifiers of others."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nnprune.certification.certificate import SEMANTICS, Certificate
from nnprune.certification.outputs import outputs_of
from nnprune.certification.outward import up
from nnprune.certification.pair import check_identity, check_inputs
from nnprune.errors import ConfigError, ModelError
from nnprune.keras_io.opened import input_box_of, open_model
from nnprune.keras_io.save import cannot_be_written, check_output, write_atomically
from nnprune.keras_io.wording import shown_path
from nnprune.result import PruningResult

if TYPE_CHECKING:
    import keras

__all__ = ["Properties", "check_properties", "decimal", "export_properties"]

_MOST_INPUTS = 100_000
_MOST_OUTPUTS = 1_000
# Every file repeats the box.
_MOST_PAIRS = 10_000_000
# Seconds, as the lists of VNN-COMP have them.
_TIMEOUT = 300

_INSTANCES = "instances.csv"
_README = "README.txt"
_NETWORKS = ("original.onnx", "pruned.onnx", "difference.onnx")


@dataclass(frozen=True, kw_only=True)
class Properties:
    """What was written for verifiers of others.

    Attributes
    ----------
    folder : Path
        Where, absolute.
    files : tuple of str
        Names of the files.
    properties : int
        How many VNN-LIB files these hold; outputs without a bound have none.
    largest_difference : float
        By how much the ONNX files' outputs differ from Keras' at most, on the inputs compared.
    samples : int
        On how many inputs they were compared.
    """

    folder: Path
    files: tuple[str, ...]
    properties: int
    largest_difference: float
    samples: int

    def summary(self) -> str:
        """Tell in two lines what was written."""
        return (
            f"{self.properties} properties written to {self.folder}, to be found unsat\n"
            f"outputs of the ONNX files differ from Keras' by at most "
            f"{self.largest_difference:.2g} on {self.samples} inputs"
        )


def export_properties(
    certificate: Certificate | str | os.PathLike[str],
    pruned: str | os.PathLike[str] | keras.Model | PruningResult,
    *,
    original: str | os.PathLike[str] | keras.Model,
    output: str | os.PathLike[str],
    tolerance: float = 0.0,
    overwrite: bool = False,
    trust: bool = False,
) -> Properties:
    """Write what a certificate proves as ONNX and VNN-LIB 1.0, for verifiers of others.

    `difference.onnx` computes `g - f` of the logits as one network; of every output k
    `output_<k>_upper.vnnlib` asks for an input of the box with a difference of at least its upper
    bound, `output_<k>_lower.vnnlib` for one of at most its lower bound. There is none: the answer
    to expect is `unsat`. `docs/certificates.md` says more.

    Parameters
    ----------
    certificate : Certificate or path-like
        What `certify` returned, or the file it was saved in.
    pruned : path-like, keras.Model or PruningResult
        The smaller model.
    original : path-like or keras.Model
        The original.
    output : path-like
        The folder; it is made if it is not there.
    tolerance : float, default 0
        By how much each bound is moved outward, for verifiers that count what rounding does.
    overwrite : bool, default False
        Whether files that are there may be replaced.
    trust : bool, default False
        Open files although they could run code: only for files whose author you trust.

    Returns
    -------
    Properties
        What was written.

    Raises
    ------
    ConfigError
        The tolerance is out of range.
    OutputError
        A file cannot be written.
    MissingExtraError
        The extra `onnx` is not installed.
    BackendError
        Keras runs on a backend that cannot export.
    DataError
        The file is no certificate.
    ModelError
        The models are not those of the certificate, have several inputs or outputs, more than
        100,000 inputs or 1,000 logits (or 10,000,000 pairs of these), or ONNX cannot hold them.
    FileFormatError, UntrustedModelError
        A file is no model, damaged, or does what an unknown file must not do.
    """
    if not (isinstance(tolerance, int | float | np.floating) and 0.0 <= tolerance < math.inf):
        raise ConfigError(f"tolerance: expected a number from 0 on, got {tolerance!r}")
    if isinstance(certificate, str | os.PathLike):
        certificate = Certificate.load(Path(certificate))
    if not isinstance(certificate, Certificate):
        raise ConfigError(
            f"certificate: expected what certify returns, or its file, got {certificate!r}"
        )
    outputs = sum(one.size for one in certificate.outputs)
    _check_count("outputs", outputs, _MOST_OUTPUTS)
    claims = dict(_claims(certificate, float(tolerance)))
    names = (*_NETWORKS, *claims, _README, _INSTANCES)
    folder = _checked_folder(output, names, overwrite=overwrite)
    _check_installed()

    smaller = open_model(pruned.model if isinstance(pruned, PruningResult) else pruned, trust=trust)
    whole = open_model(original, trust=trust)
    check_identity("original", certificate.original, whole)
    check_identity("pruned model", certificate.pruned, smaller)
    check_inputs(whole, smaller)
    box = input_box_of(whole, dict(certificate.input_bounds))
    if outputs_of(whole.graph.network) != certificate.outputs:
        raise ModelError("the outputs of the certificate are not those of the original")
    inputs = sum(one.size for one in box.lower)
    _check_count("inputs", inputs, _MOST_INPUTS)
    _check_count("pairs of an input and an output", inputs * outputs, _MOST_PAIRS)
    from nnprune.keras_io.export_difference import export_difference

    made = export_difference(
        whole.model,
        smaller.model,
        input_box=box,
        stripped=any(one.head != "logits" for one in certificate.outputs),
    )
    networks = (made.original, made.pruned, made.difference)
    start = _declarations(box.lower[0].reshape(-1), box.upper[0].reshape(-1), outputs)
    label = shown_path(output)
    _make(folder, label)
    contents: list[tuple[str, bytes | tuple[str, ...]]] = [
        (name, one.data) for name, one in zip(_NETWORKS, networks, strict=True)
    ]
    contents += [(name, (start, claim)) for name, claim in claims.items()]
    contents.append((_README, (_readme(certificate, len(claims), float(tolerance)),)))
    # Last: it names what is there.
    instances = tuple(f"difference.onnx,{name},{_TIMEOUT}\n" for name in claims)
    contents.append((_INSTANCES, instances))
    for name, data in contents:
        _write(folder / name, data, label=f"{label}/{name}", overwrite=overwrite)
    return Properties(
        folder=folder,
        files=names,
        properties=len(claims),
        largest_difference=max(one.largest_difference for one in networks),
        samples=made.difference.samples,
    )


def check_properties(output: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Find out, before any long work, whether `export_properties` can write there.

    Raises
    ------
    OutputError
        It cannot.
    MissingExtraError
        The extra `onnx` is not installed.
    """
    _checked_folder(output, (*_NETWORKS, _README, _INSTANCES), overwrite=overwrite)
    _check_installed()


def decimal(value: float) -> str:
    """Write a number so that it is read back as it was; without exponent, which SMT-LIB lacks."""
    text = format(Decimal(repr(float(value))), "f")
    return text if "." in text else f"{text}.0"


def _claims(certificate: Certificate, tolerance: float) -> Iterator[tuple[str, str]]:
    """Give the negated claims by the names of their files; none where there is no bound."""
    change = certificate.output_change
    lower, upper = change.lower, change.upper
    if tolerance:
        lower, upper = -up(tolerance - lower), up(tolerance + upper)
    for k, (low, high) in enumerate(zip(lower.tolist(), upper.tolist(), strict=True)):
        for side, sign, end in (("upper", ">=", high), ("lower", "<=", low)):
            if math.isfinite(end):
                claim = f"(assert ({sign} Y_{k} {decimal(end)}))\n"
                yield f"output_{k}_{side}.vnnlib", f"; the negated property: expect unsat\n{claim}"


def _declarations(lower: NDArray[np.float64], upper: NDArray[np.float64], outputs: int) -> str:
    """Declare the variables of the difference network, and put its inputs into the box."""
    lines = [f"(declare-const X_{i} Real)" for i in range(len(lower))]
    lines += [f"(declare-const Y_{k} Real)" for k in range(outputs)]
    for i, (low, high) in enumerate(zip(lower.tolist(), upper.tolist(), strict=True)):
        lines.append(f"(assert (>= X_{i} {decimal(low)}))")
        lines.append(f"(assert (<= X_{i} {decimal(high)}))")
    return "".join(f"{line}\n" for line in lines)


def _readme(certificate: Certificate, properties: int, tolerance: float) -> str:
    moved = f"Every bound is moved outward by {tolerance!r}.\n" if tolerance else ""
    return f"""\
What nnprune {certificate.nnprune_version} proved of a pruning, for other verifiers.

original.onnx    f, up to its logits
                 weights' SHA-256 {certificate.original.weights_sha256}
pruned.onnx      g, the smaller model, up to its logits
                 weights' SHA-256 {certificate.pruned.weights_sha256}
difference.onnx  g - f; its input is X, its outputs are Y
output_<k>_upper.vnnlib, output_<k>_lower.vnnlib
                 X in the box, and Y_k at least its upper bound (at most its lower bound):
                 expect unsat ({properties} files)
{_INSTANCES}    network, property, timeout in seconds

X_i counts the input of one sample in row-major order, Y_k the logits likewise. The bounds hold for
{SEMANTICS}; what rounding does to a verifier's own evaluation comes
on top. A bound so near to 0 that rounding exceeds it is better exported with a tolerance.
{moved}"""


def _check_installed() -> None:
    from nnprune.keras_io.export_onnx import check_onnx_installed

    check_onnx_installed()


def _check_count(what: str, found: int, most: int) -> None:
    if found > most:
        raise ModelError(
            f"the model has {found:,} {what}; properties are exported for at most {most:,}"
        )


def _checked_folder(
    output: str | os.PathLike[str], names: tuple[str, ...], *, overwrite: bool
) -> Path:
    """Find out, before any long work, whether the files can be written."""
    folder = Path(output)
    if not folder.is_dir():
        return check_output(folder, overwrite=False, suffixes=None)
    for name in names:
        check_output(folder / name, overwrite=overwrite, suffixes=None)
    return folder.resolve()


def _make(folder: Path, label: str) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise cannot_be_written(label, error) from error


def _write(path: Path, data: bytes | tuple[str, ...], *, label: str, overwrite: bool) -> None:
    def write(temporary: Path) -> None:
        if isinstance(data, bytes):
            temporary.write_bytes(data)
        else:
            temporary.write_text("".join(data), encoding="ascii", newline="\n")

    write_atomically(path, write, label=label, overwrite=overwrite)
