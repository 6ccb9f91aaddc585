"""`nnprune evaluate | compare`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from nnprune.cli.values import (
    Attacks,
    InputBounds,
    Json,
    Model,
    NoAttacks,
    Offset,
    Overwrite,
    Quiet,
    Scale,
    Threads,
    Trust,
    attacks_of,
    bounds_of,
    fraction_of,
    json_file,
)
from nnprune.errors import DataError
from nnprune.parallelism import use_threads

__all__ = ["compare", "evaluate"]

_Original = Annotated[
    Path | None, typer.Option(help="The model before pruning, to compare with.", metavar="MODEL")
]
_Data = Annotated[
    str | None,
    typer.Option(
        help="Labelled samples: an .npz file with x and y, x.npy,y.npy or a folder of images.",
    ),
]
_Task = Annotated[
    str | None,
    typer.Option(help="classification or regression; found from the model by default."),
]
_Bins = Annotated[int, typer.Option(help="Bins of the reliability diagram.")]
_BatchSize = Annotated[
    int | None, typer.Option(help="Samples computed at a time; 256, or fewer of large models.")
]
_LiteRT = Annotated[
    bool,
    typer.Option("--litert", help="Measure size and latency as LiteRT (needs the extra litert)."),
]
_Certified = Annotated[
    bool,
    typer.Option(
        "--certified", help="Also prove how many instances no attack of that size can turn."
    ),
]
_Report = Annotated[Path | None, typer.Option(help="Write an HTML report.", metavar="HTML")]


def evaluate(
    context: typer.Context,
    model: Model,
    original: _Original = None,
    data: _Data = None,
    attack: Attacks = None,
    input_bounds: InputBounds = None,
    task: _Task = None,
    scale: Scale = None,
    offset: Offset = None,
    bins: _Bins = 15,
    batch_size: _BatchSize = None,
    trace: Annotated[
        Path | None, typer.Option(help="What nnprune prune --trace wrote when it made the model.")
    ] = None,
    report: _Report = None,
    threads: Threads = None,
    *,
    litert: _LiteRT = False,
    certified: _Certified = False,
    no_attacks: NoAttacks = False,
    overwrite: Overwrite = False,
    trust: Trust = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure accuracy, robustness, calibration and size, before and after pruning."""
    use_threads(threads)
    from nnprune.evaluation.evaluate import evaluate as measure

    _check_report(report, overwrite=overwrite)
    pruning = None if trace is None else _trace(trace)
    found = measure(
        model,
        data,
        original=original,
        attacks=attacks_of(attack, none=no_attacks),
        input_bounds=bounds_of(input_bounds),
        task=task,
        scale=None if scale is None else fraction_of("scale", scale),
        offset=offset,
        bins=bins,
        batch_size=batch_size,
        litert=litert,
        certified=certified,
        pruning=pruning,
        trust=trust,
        progress=not quiet,
        command=_command(context),
    )
    _show(found, report, overwrite=overwrite, json=json, quiet=quiet)


def compare(
    context: typer.Context,
    models: Annotated[
        list[Path], typer.Argument(metavar="MODEL...", help="Pruned models, .keras or .h5.")
    ],
    original: _Original = None,
    data: _Data = None,
    attack: Attacks = None,
    input_bounds: InputBounds = None,
    task: _Task = None,
    scale: Scale = None,
    offset: Offset = None,
    bins: _Bins = 15,
    batch_size: _BatchSize = None,
    report: _Report = None,
    threads: Threads = None,
    *,
    litert: _LiteRT = False,
    certified: _Certified = False,
    no_attacks: NoAttacks = False,
    overwrite: Overwrite = False,
    trust: Trust = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Evaluate several pruned models side by side."""
    use_threads(threads)
    from nnprune.evaluation.evaluate import compare as measure

    _check_report(report, overwrite=overwrite)
    found = measure(
        models,
        data,
        original=original,
        attacks=attacks_of(attack, none=no_attacks),
        input_bounds=bounds_of(input_bounds),
        task=task,
        scale=None if scale is None else fraction_of("scale", scale),
        offset=offset,
        bins=bins,
        batch_size=batch_size,
        litert=litert,
        certified=certified,
        trust=trust,
        progress=not quiet,
        command=_command(context),
    )
    _show(found, report, overwrite=overwrite, json=json, quiet=quiet)


def _check_report(report: Path | None, *, overwrite: bool) -> None:
    """Find out before any work whether the report can be written."""
    if report is not None:
        from nnprune.keras_io.save import check_output

        check_output(report, overwrite=overwrite, suffixes=(".html", ".htm"))


def _show(found: Any, report: Path | None, *, overwrite: bool, json: bool, quiet: bool) -> None:
    """Print what was found, then write the report: if that fails, the figures are not lost."""
    if json:
        print(found.to_json())
    elif not quiet:
        print(found.summary())
    if report is not None:
        found.save_report(report, overwrite=overwrite)
        if not (json or quiet):
            print(f"report written to {report}")


def _trace(path: Path) -> Any:
    """Read the trace of a pruning."""
    found = json_file("--trace", path)
    if not isinstance(found, dict) or not isinstance(found.get("trace"), list):
        raise DataError(f"--trace: {path}: is not what nnprune prune --trace writes")
    return found


def _command(context: typer.Context) -> str:
    """Write the command line, which `run` has put into the context, as a shell would take it."""
    return shlex.join(["nnprune", *context.obj])
