"""Commands on one file: `nnprune inspect | export | report | demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nnprune.cli.values import (
    InputBounds,
    Json,
    Model,
    Overwrite,
    Quiet,
    Threads,
    Trust,
    bounds_of,
    fraction_of,
    json_file,
)
from nnprune.parallelism import use_threads

__all__ = ["demo", "export", "inspect", "report"]


def inspect(model: Model, *, trust: Trust = False, json: Json = False) -> None:
    """Tell what could be pruned, what not and why."""
    from nnprune.inspection import inspect as look_into
    from nnprune.result import to_json

    found = look_into(model, trust=trust)
    print(to_json(found.to_dict()) if json else found.summary())


def export(
    model: Model,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write, .tflite or .onnx.")
    ],
    input_bounds: InputBounds = None,
    *,
    overwrite: Overwrite = False,
    trust: Trust = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a model as LiteRT or ONNX, and check it against the original numerically."""
    from nnprune.exporting import export as export_model
    from nnprune.result import to_json

    written = export_model(
        model, output, input_bounds=bounds_of(input_bounds), overwrite=overwrite, trust=trust
    )
    if json:
        print(to_json(written.to_dict()))
    elif not quiet:
        print(written.summary())


def report(
    evaluation: Annotated[
        Path, typer.Argument(metavar="JSON", help="What nnprune evaluate --json printed.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")],
    *,
    overwrite: Overwrite = False,
) -> None:
    """Make the HTML report of an evaluation from its JSON."""
    from nnprune.evaluation.document import Evaluation
    from nnprune.keras_io.save import check_output

    check_output(output, overwrite=overwrite, suffixes=(".html", ".htm"))
    document = json_file("JSON", evaluation)
    print(f"written to {Evaluation(document=document).save_report(output, overwrite=overwrite)}")


def demo(
    target: Annotated[str, typer.Option(help="Fraction of each layer's units to remove.")] = "1/2",
    seed: Annotated[int, typer.Option(help="Seed of the random stream.")] = 0,
    threads: Threads = None,
    *,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Prune a model that ships in the package, and test both."""
    use_threads(threads)
    from nnprune.demo import run_demo
    from nnprune.result import to_json

    report = run_demo(
        Path.cwd(), target=fraction_of("target", target), seed=seed, overwrite=overwrite
    )
    print(to_json(report.to_dict()) if json else report.summary())
