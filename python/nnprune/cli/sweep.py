"""`nnprune sweep`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

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
    Trust,
    attacks_of,
    bounds_of,
    fraction_of,
    names_of,
)
from nnprune.errors import ConfigError
from nnprune.options import Method, method_named
from nnprune.parallelism import use_threads

__all__ = ["sweep"]

_RANGE = re.compile(r"(\d+)-(\d+)")
_MOST_SEEDS = 1_000_000


def sweep(
    model: Model,
    targets: Annotated[
        list[str], typer.Option(help="Fractions of units to remove, as 0.3,1/2,0.7.")
    ],
    seeds: Annotated[list[str] | None, typer.Option(help="Seeds, as 0-9 or 1,2,5.")] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(help="annealing, greedy, one-shot or elimination; as for prune by default."),
    ] = None,
    compensation: Annotated[
        str, typer.Option(help="sum (the paper's), scaled or least-squares.")
    ] = "sum",
    evaluate: Annotated[
        str | None,
        typer.Option(
            help="Labelled samples to measure with: an .npz file, x.npy,y.npy or a folder of "
            "images.",
            metavar="DATA",
        ),
    ] = None,
    scale: Scale = None,
    offset: Offset = None,
    attack: Attacks = None,
    step: Annotated[str, typer.Option(help="Fraction to remove in an epoch; 1/64 works.")] = "1/32",
    input_bounds: InputBounds = None,
    layers: Annotated[
        list[str] | None, typer.Option(help="Layers to prune, separated by commas.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Layers to leave alone, separated by commas.")
    ] = None,
    outgoing: Annotated[str, typer.Option(help="l2 or mean_abs, in the saliency.")] = "l2",
    journal: Annotated[
        Path | None,
        typer.Option(
            help="Add every cell to this file as it is done, and go on with what is there.",
            metavar="JSONL",
        ),
    ] = None,
    keep_models: Annotated[
        Path | None, typer.Option(help="Keep the smaller models there.", metavar="FOLDER")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write an HTML report.", metavar="HTML")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Cells at a time; one a core by default.")
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=4096,
            help="Threads of all jobs together, for the engine and TensorFlow; one a core by "
            "default.",
            metavar="N",
        ),
    ] = None,
    *,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Do failed cells of the journal again.")
    ] = False,
    no_attacks: NoAttacks = False,
    overwrite: Overwrite = False,
    trust: Trust = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Prune with every target, seed and method, and show which results nothing else beats."""
    use_threads(threads)
    from nnprune.keras_io.save import check_output
    from nnprune.sweeping.sweep import sweep as run_sweep

    if report is not None:
        check_output(report, overwrite=overwrite, suffixes=(".html", ".htm"))
    chosen = names_of(methods) or None
    try:
        found = run_sweep(
            model,
            targets=[fraction_of("targets", word) for word in names_of(targets) or ()],
            seeds=_seeds(seeds),
            methods=chosen if chosen is None else [_method(name) for name in chosen],
            compensation=compensation.replace("-", "_"),
            evaluate=evaluate,
            scale=None if scale is None else fraction_of("scale", scale),
            offset=offset,
            attacks=attacks_of(attack, none=no_attacks),
            step=fraction_of("step", step),
            input_bounds=bounds_of(input_bounds),
            layers=names_of(layers),
            exclude=names_of(exclude),
            outgoing=outgoing,
            journal=journal,
            retry_failed=retry_failed,
            keep_models=keep_models,
            jobs=jobs,
            trust=trust,
            progress=not quiet,
        )
    except KeyboardInterrupt:
        if journal is not None and journal.exists():
            print(
                f"nnprune: the cells so far are in {journal}; the same command goes on from there",
                file=sys.stderr,
            )
        raise
    if report is not None:
        found.save_report(report, overwrite=overwrite)
    if json:
        print(found.to_json())
    elif not quiet:
        print(found.table())
        if report is not None:
            print(f"report written to {report}")
    if found.failed:
        raise typer.Exit(1)


def _seeds(texts: list[str] | None) -> list[int]:
    """Read seeds and ranges of seeds; both ends of a range count."""
    seeds: list[int] = []
    for word in names_of(texts) or ("0",):
        ends = _RANGE.fullmatch(word)
        if ends is None and not word.isdecimal():
            raise ConfigError(f"--seeds: expected integers or ranges such as 0-9, got '{word}'")
        first, last = (int(word), int(word)) if ends is None else map(int, ends.groups())
        if not 0 <= last - first < _MOST_SEEDS:
            raise ConfigError(f"--seeds: '{word}' is no range of up to {_MOST_SEEDS:,} seeds")
        seeds += range(first, last + 1)
    return seeds


def _method(name: str) -> Method:
    try:
        return method_named(name)()
    except KeyError:
        raise ConfigError(
            f"--methods: expected annealing, greedy, one-shot or elimination, got '{name}'"
        ) from None
