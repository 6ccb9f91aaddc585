"""`nnprune prune`."""

from __future__ import annotations

from dataclasses import asdict
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
    names_of,
)
from nnprune.errors import ConfigError
from nnprune.options import Annealing, Greedy, Method, method_named
from nnprune.parallelism import use_threads

__all__ = ["prune"]

_SOURCES = "gradient, leaves, smooth, near_zero, first_layer, convex, box or "
_SOURCES += "moments (no inputs at all: for dense layers)."


def prune(
    model: Model,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The smaller model, .keras or .h5.")
    ],
    target: Annotated[
        str,
        typer.Option(
            help="Fraction of each layer's units to remove; several, separated by commas, for "
            "files NAME-30.keras, NAME-50.keras; or lossless: only what costs nothing.",
            metavar="FRACTION,...|lossless",
        ),
    ],
    step: Annotated[str, typer.Option(help="Fraction to remove in an epoch; 1/64 works.")] = "1/32",
    method: Annotated[
        str | None,
        typer.Option(
            help="annealing, greedy, one-shot or elimination; annealing unless given, but "
            "elimination for least-squares without a search."
        ),
    ] = None,
    compensation: Annotated[
        str, typer.Option(help="sum (the paper's), scaled or least-squares.")
    ] = "sum",
    source: Annotated[
        str | None,
        typer.Option(help="Where synthetic inputs come from, for least-squares: " + _SOURCES),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="How many of them; 4000 unless given.")
    ] = None,
    search_seconds: Annotated[
        float | None,
        typer.Option(
            help="How long annealing may search for the units that least-squares keeps, for each "
            "size and seed."
        ),
    ] = None,
    representative_inputs: Annotated[
        Path | None,
        typer.Option(
            help="A few unlabelled inputs in place of synthetic ones: x.npy, or an .npz file with "
            "one array for each input.",
            metavar="FILE",
        ),
    ] = None,
    restarts: Annotated[
        int, typer.Option(help="Seeds to try; the run that agrees most with the original is kept.")
    ] = 1,
    min_agreement: Annotated[
        float | None,
        typer.Option(help="Stop before agreement with the original on synthetic inputs is less."),
    ] = None,
    allocation: Annotated[
        str, typer.Option(help="uniform or propagated: how units are shared out among layers.")
    ] = "uniform",
    width_multiple: Annotated[
        int, typer.Option(help="Round numbers of units left up to a multiple of this.")
    ] = 1,
    alpha: Annotated[float, typer.Option(help="Weight of size against evenness.")] = 0.75,
    similarity: Annotated[float, typer.Option(help="From where outputs count as alike.")] = 0.9,
    density: Annotated[str, typer.Option(help="inclusive or printed (eq. 6).")] = "inclusive",
    normalization: Annotated[str, typer.Option(help="scaled or none (as printed).")] = "scaled",
    impact: Annotated[
        str, typer.Option(help="interval, distance or moment: what a pair's change is taken for.")
    ] = "interval",
    pool: Annotated[int, typer.Option(help="Candidates scored per unit to remove.")] = 4,
    rewalks: Annotated[int, typer.Option(help="Further walks over rejected candidates.")] = 1,
    restart: Annotated[str, typer.Option(help="never or visit: forget the last energy.")] = "never",
    outgoing: Annotated[str, typer.Option(help="l2 or mean_abs, in the saliency.")] = "l2",
    bias: Annotated[
        str | None,
        typer.Option(
            help="absolute or relative (as printed), in the saliency; relative for one-shot only, "
            "unless given."
        ),
    ] = None,
    max_output_change: Annotated[
        float | None,
        typer.Option(
            help="Certify that no output moves by more than this; end where none is left."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random stream.")] = 0,
    input_bounds: InputBounds = None,
    layers: Annotated[
        list[str] | None, typer.Option(help="Layers to prune, separated by commas.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Layers to leave alone, separated by commas.")
    ] = None,
    evaluate: Annotated[
        str | None,
        typer.Option(
            help="Labelled samples to watch the run with: an .npz file, x.npy,y.npy or a folder "
            "of images.",
            metavar="DATA",
        ),
    ] = None,
    scale: Scale = None,
    offset: Offset = None,
    attack: Attacks = None,
    stop_if_accuracy_below: Annotated[
        float | None, typer.Option(help="Stop before accuracy on the samples falls below this.")
    ] = None,
    stop_if_robust_accuracy_below: Annotated[
        float | None, typer.Option(help="The same for robust instances, under any attack.")
    ] = None,
    stop_if_agreement_below: Annotated[
        float | None, typer.Option(help="The same for agreement with the original.")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(help="Write what happened, epoch by epoch, to a JSON file.")
    ] = None,
    threads: Threads = None,
    *,
    polish: Annotated[
        bool, typer.Option("--polish", help="Train the smaller model a little on synthetic inputs.")
    ] = False,
    no_attacks: NoAttacks = False,
    overwrite: Overwrite = False,
    trust: Trust = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove hidden units and write a smaller model, or several of different sizes."""
    use_threads(threads)
    from nnprune.cli.compensating import compensation_of, inputs_of
    from nnprune.keras_io.save import check_output, write_text_atomically
    from nnprune.pruning.prune import prune as run_pruning
    from nnprune.result import to_json

    chosen = _method(
        method,
        alpha=alpha,
        similarity=similarity,
        density=density,
        normalization=normalization,
        impact=impact,
        pool=pool,
        rewalks=rewalks,
        restart=restart,
    )
    rule = compensation_of(
        compensation, source=source, samples=samples, search_seconds=search_seconds
    )
    bounds = bounds_of(input_bounds)
    asked, outputs = _sizes(target, output)
    for path in outputs:
        check_output(path, overwrite=overwrite)
    if trace is not None:
        check_output(trace, overwrite=overwrite, suffixes=(".json",))
    run: Any = run_pruning  # which of its results comes back, the targets tell
    found = run(
        model,
        **asked,
        step=fraction_of("step", step),
        method=chosen,
        compensation=rule,
        input_bounds=bounds,
        representative_inputs=inputs_of(representative_inputs),
        layers=names_of(layers),
        exclude=names_of(exclude),
        outgoing=outgoing,
        bias=bias,
        max_output_change=max_output_change,
        restarts=restarts,
        min_agreement=min_agreement,
        polish=polish,
        allocation=allocation,
        width_multiple=width_multiple,
        seed=seed,
        evaluate=_data(evaluate, scale, offset),
        attacks=attacks_of(attack, none=no_attacks),
        stop_if_accuracy_below=stop_if_accuracy_below,
        stop_if_robust_accuracy_below=stop_if_robust_accuracy_below,
        stop_if_agreement_below=stop_if_agreement_below,
        trust=trust,
        progress=not quiet,
    )
    results = found if isinstance(found, list) else [found]
    for result, path in zip(results, outputs, strict=True):
        result.save(path, overwrite=overwrite)
    plain = [result.to_dict() for result in results]
    text = to_json(plain if isinstance(found, list) else plain[0])
    if trace is not None:
        write_text_atomically(trace, text + "\n", overwrite=overwrite)
    if json:
        print(text)
    elif not quiet:
        for result, path in zip(results, outputs, strict=True):
            print(result.summary())
            print(f"written to {path}")


def _sizes(text: str, output: Path) -> tuple[dict[str, Any], list[Path]]:
    """Read the targets, and name the file of each."""
    if text == "lossless":
        return {"target": text}, [output]
    targets = [fraction_of("target", word.strip()) for word in text.split(",")]
    if len(targets) == 1:
        return {"target": targets[0]}, [output]
    if not output.suffix:
        raise ConfigError(f"--output: expected a file that ends in .keras or .h5, got {output}")
    paths = [output.with_stem(f"{output.stem}-{100 * target:g}") for target in targets]
    for path in paths:
        if paths.count(path) > 1:
            raise ConfigError(f"--target: two of them would be written to {path.name}")
    return {"targets": targets}, paths


def _data(text: str | None, scale: str | None, offset: float | None) -> Any:
    """Open the samples, if there are any."""
    if text is None:
        for option, value in {"--scale": scale, "--offset": offset}.items():
            if value is not None:
                raise ConfigError(f"{option}: is for the samples of --evaluate; give them too")
        return None
    from nnprune.datasets.sources import open_data

    return open_data(
        text, scale=None if scale is None else fraction_of("scale", scale), offset=offset
    )


def _method(name: str | None, **parameters: Any) -> Method | None:
    """Return how units are chosen; None to take what goes with the compensation."""
    usual = asdict(Annealing())
    if name is None and all(usual[option] == value for option, value in parameters.items()):
        return None
    try:
        kind = Annealing if name is None else method_named(name)
    except KeyError:
        raise ConfigError(
            f"--method: expected annealing, greedy, one-shot or elimination, got '{name}'"
        ) from None
    if kind is Annealing:
        return Annealing(**parameters)
    if kind is Greedy:
        return Greedy(impact=parameters["impact"], pool=parameters["pool"])
    return kind()
