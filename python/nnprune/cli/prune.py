"""`nnprune prune`."""

from __future__ import annotations

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
    Trust,
    attacks_of,
    bounds_of,
    fraction_of,
    names_of,
)
from nnprune.errors import ConfigError
from nnprune.options import Annealing, Greedy, Method, method_named

__all__ = ["prune"]


def prune(
    model: Model,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The smaller model, .keras or .h5.")
    ],
    target: Annotated[
        str,
        typer.Option(
            help="Fraction of each layer's units to remove, or lossless: only what costs nothing.",
            metavar="FRACTION|lossless",
        ),
    ],
    step: Annotated[str, typer.Option(help="Fraction to remove in an epoch; 1/64 works.")] = "1/32",
    method: Annotated[str, typer.Option(help="annealing, greedy or one-shot.")] = "annealing",
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
    *,
    no_attacks: NoAttacks = False,
    overwrite: Overwrite = False,
    trust: Trust = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove hidden units in pairs and write a smaller model."""
    from nnprune.keras_io.save import check_output, write_text_atomically
    from nnprune.pruning.prune import prune as run_pruning

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
    bounds = bounds_of(input_bounds)
    check_output(output, overwrite=overwrite)
    if trace is not None:
        check_output(trace, overwrite=overwrite, suffixes=(".json",))
    result = run_pruning(
        model,
        target="lossless" if target == "lossless" else fraction_of("target", target),
        step=fraction_of("step", step),
        method=chosen,
        input_bounds=bounds,
        layers=names_of(layers),
        exclude=names_of(exclude),
        outgoing=outgoing,
        bias=bias,
        max_output_change=max_output_change,
        seed=seed,
        evaluate=_data(evaluate, scale, offset),
        attacks=attacks_of(attack, none=no_attacks),
        stop_if_accuracy_below=stop_if_accuracy_below,
        stop_if_robust_accuracy_below=stop_if_robust_accuracy_below,
        stop_if_agreement_below=stop_if_agreement_below,
        trust=trust,
        progress=not quiet,
    )
    result.save(output, overwrite=overwrite)
    if trace is not None:
        write_text_atomically(trace, result.to_json() + "\n", overwrite=overwrite)
    if json:
        print(result.to_json())
    elif not quiet:
        print(result.summary())
        print(f"written to {output}")


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


def _method(name: str, **parameters: Any) -> Method:
    try:
        kind = method_named(name)
    except KeyError:
        raise ConfigError(
            f"--method: expected annealing, greedy or one-shot, got '{name}'"
        ) from None
    if kind is Annealing:
        return Annealing(**parameters)
    if kind is Greedy:
        return Greedy(impact=parameters["impact"], pool=parameters["pool"])
    return kind()
