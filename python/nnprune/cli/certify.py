"""`nnprune certify | verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nnprune.cli.values import (
    InputBounds,
    Json,
    Model,
    Offset,
    Overwrite,
    Quiet,
    Scale,
    Threads,
    Trust,
    bounds_of,
    fraction_of,
    json_file,
)
from nnprune.errors import CertificateError, ConfigError
from nnprune.parallelism import use_threads

__all__ = ["certify", "verify"]

_Original = Annotated[Path, typer.Option(help="The model before pruning.", metavar="MODEL")]


def certify(
    model: Model,
    original: _Original,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The certificate; by default MODEL's name with .certificate.json, beside it.",
            metavar="JSON",
        ),
    ] = None,
    input_bounds: InputBounds = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Labelled samples to try it on: an .npz file, x.npy,y.npy or a folder of images.",
        ),
    ] = None,
    scale: Scale = None,
    offset: Offset = None,
    eps: Annotated[
        list[str] | None,
        typer.Option(help="Radii around the samples, such as 0.01,8/255: local certificates."),
    ] = None,
    pruning: Annotated[
        Path | None,
        typer.Option(
            help="What nnprune prune --json printed, for a model that Keras has saved anew.",
            metavar="JSON",
        ),
    ] = None,
    properties: Annotated[
        Path | None,
        typer.Option(
            help="A folder for what was proved as ONNX and VNN-LIB, for other verifiers.",
            metavar="FOLDER",
        ),
    ] = None,
    threads: Threads = None,
    *,
    overwrite: Overwrite = False,
    trust: Trust = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Prove how far a pruning moves the outputs, for every input of the box."""
    use_threads(threads)
    from nnprune.certification.certify import certify as prove
    from nnprune.certification.local import checked_epsilons
    from nnprune.certification.properties import check_properties, export_properties
    from nnprune.keras_io.save import check_output

    target = output or model.with_name(f"{model.stem}.certificate.json")
    radii = None if eps is None else [fraction_of("eps", text) for text in _split(eps)]
    checked_epsilons(radii)
    bounds = bounds_of(input_bounds)
    if data is None and (scale is not None or eps is not None):
        raise ConfigError(
            f"--{'scale' if scale is not None else 'eps'}: is for the samples of --data, which "
            "are not given"
        )
    check_output(target, overwrite=overwrite, suffixes=(".json",))
    if properties is not None:
        check_properties(properties, overwrite=overwrite)
    found = prove(
        model,
        original=original,
        input_bounds=bounds,
        samples=_samples(data, scale, offset),
        eps=radii,
        pruning=None if pruning is None else json_file("--pruning", pruning),
        trust=trust,
        progress=not quiet,
    )
    found.save(target, overwrite=overwrite)
    written = None
    if properties is not None:
        written = export_properties(
            found, model, original=original, output=properties, overwrite=overwrite, trust=trust
        )
    if json:
        print(found.to_json())
    elif not quiet:
        print(found.summary())
        print(f"written to {target}")
        if written is not None:
            print(written.summary())


def verify(
    certificate: Annotated[
        Path, typer.Argument(metavar="JSON", help="What nnprune certify wrote.")
    ],
    original: _Original,
    model: Annotated[
        Path | None,
        typer.Option(
            help="The smaller model; by default the one named in the certificate, beside it.",
            metavar="MODEL",
        ),
    ] = None,
    threads: Threads = None,
    *,
    trust: Trust = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Recompute a certificate along a second path; succeeds only if it holds."""
    use_threads(threads)
    from nnprune.certification.certificate import Certificate
    from nnprune.certification.verify import verify as check

    published = Certificate.load(certificate)
    # Only the name itself: a certificate must not lead elsewhere.
    beside = certificate.with_name(Path(published.pruned.name).name or "model.keras")
    found = check(published, model or beside, original=original, trust=trust)
    if json:
        print(found.to_json())
    elif not quiet and found.holds:
        print(found.summary())
    if not found.holds:
        more = f" (and {len(found.failures) - 1} more)" if len(found.failures) > 1 else ""
        raise CertificateError(f"{certificate}: does not hold: {found.failures[0]}{more}")


def _split(texts: list[str]) -> list[str]:
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]


def _samples(text: str | None, scale: str | None, offset: float | None) -> Any:
    if text is None:
        return None
    from nnprune.datasets.sources import open_data

    return open_data(
        text, scale=None if scale is None else fraction_of("scale", scale), offset=offset
    )
