"""The command line: `nnprune prune | inspect | demo`."""

from __future__ import annotations

import os
import sys
import warnings
from fractions import Fraction
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer

from nnprune import __version__
from nnprune.errors import BoundsError, ConfigError, NnpruneError
from nnprune.options import Annealing, Greedy, Method, method_named

__all__ = ["main"]

_USAGE = 2
_INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended

app = typer.Typer(
    name="nnprune",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Make trained Keras models smaller without data, and say what that did.",
)

_Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A .keras or .h5 file.")]
_Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")]
_Trust = Annotated[
    bool,
    typer.Option(
        "--trust", help="Open a file although it could run code; only if you trust its author."
    ),
]


def main() -> None:
    """Run the command line; errors are one line on standard error and a status other than 0."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # layer names and paths may hold any character
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_run(sys.argv[1:] or ["--help"]))


def _run(arguments: list[str]) -> int:
    try:
        status = typer.main.get_command(app).main(
            _with_joined_bounds(arguments), prog_name="nnprune", standalone_mode=False
        )
        if status == _INTERRUPTED:  # typer's own answer to Ctrl-C
            raise KeyboardInterrupt
        return status if isinstance(status, int) else 0
    except NnpruneError as error:
        return _fail(str(error), status=1)
    except typer.TyperException as error:
        return _fail(_message(error), status=_USAGE)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted; nothing was written", status=_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(str(error), status=1)


def _with_joined_bounds(arguments: list[str]) -> list[str]:
    """Let `--input-bounds -1 1` be one value: the option takes two numbers or one file."""
    joined = list(arguments)
    for at, word in enumerate(joined):
        following = joined[at + 1 : at + 3]
        if word == "--input-bounds" and len(following) == 2 and all(map(_is_number, following)):
            joined[at : at + 3] = [f"--input-bounds={','.join(following)}"]
    return joined


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _message(error: typer.TyperException) -> str:
    """Wrong usage, with the option named, as typer words it in its own first line."""
    format_message = getattr(error, "format_message", None)
    return str(format_message() if format_message is not None else error)


def _fail(message: str, *, status: int) -> int:
    one_line = " ".join(message.split())
    print(f"nnprune: error: {one_line}", file=sys.stderr)
    return status


def _version(value: bool) -> None:  # noqa: FBT001 (typer's callback protocol)
    if value:
        print(__version__)
        raise typer.Exit


@app.callback()
def _nnprune(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Make trained Keras models smaller without data, and say what that did."""
    # TensorFlow talks about processors and missing GPUs before it does anything.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Show our own and Keras' warnings in one line, and leave deprecations to developers."""
    if not issubclass(category, DeprecationWarning | PendingDeprecationWarning | FutureWarning):
        print(f"nnprune: warning: {' '.join(str(message).split())}", file=sys.stderr)


@app.command(
    "prune",
    epilog="\b\nExamples:\n"
    "  nnprune prune model.keras -o small.keras --target 0.5\n"
    "  nnprune prune model.h5 -o small.keras --target 0.8 --step 1/64 --input-bounds -1 1\n"
    "  nnprune prune model.keras -o small.keras --target 0.3 --layers dense,dense_1 --json",
)
def _prune(
    model: _Model,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The smaller model, .keras or .h5.")
    ],
    target: Annotated[str, typer.Option(help="Fraction of each layer's units to remove.")],
    step: Annotated[str, typer.Option(help="Fraction to remove in an epoch; 1/64 works.")] = "1/32",
    method: Annotated[str, typer.Option(help="annealing, greedy or one-shot.")] = "annealing",
    alpha: Annotated[float, typer.Option(help="Weight of size against evenness.")] = 0.75,
    similarity: Annotated[float, typer.Option(help="From where outputs count as alike.")] = 0.9,
    density: Annotated[str, typer.Option(help="inclusive or printed (eq. 6).")] = "inclusive",
    normalization: Annotated[str, typer.Option(help="scaled or none (as printed).")] = "scaled",
    pool: Annotated[int, typer.Option(help="Candidates scored per unit to remove.")] = 4,
    rewalks: Annotated[int, typer.Option(help="Further walks over rejected candidates.")] = 1,
    restart: Annotated[str, typer.Option(help="never or visit: forget the last energy.")] = "never",
    outgoing: Annotated[str, typer.Option(help="l2 or mean_abs, in the saliency.")] = "l2",
    seed: Annotated[int, typer.Option(help="Seed of the random stream.")] = 0,
    input_bounds: Annotated[
        str | None,
        typer.Option(
            help="Two numbers, or an .npz file with lower and upper.",
            metavar="LOWER UPPER|FILE",
        ),
    ] = None,
    layers: Annotated[
        list[str] | None, typer.Option(help="Layers to prune, separated by commas.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Layers to leave alone, separated by commas.")
    ] = None,
    *,
    overwrite: _Overwrite = False,
    trust: _Trust = False,
    json: _Json = False,
    quiet: _Quiet = False,
) -> None:
    """Remove hidden units in pairs and write a smaller model."""
    from nnprune.keras_io.save import check_output
    from nnprune.pruning import prune

    chosen = _method(
        method,
        alpha=alpha,
        similarity=similarity,
        density=density,
        normalization=normalization,
        pool=pool,
        rewalks=rewalks,
        restart=restart,
    )
    bounds = _input_bounds(input_bounds)
    check_output(output, overwrite=overwrite)
    result = prune(
        model,
        target=_fraction("target", target),
        step=_fraction("step", step),
        method=chosen,
        input_bounds=bounds,
        layers=_names(layers),
        exclude=_names(exclude),
        outgoing=outgoing,
        seed=seed,
        trust=trust,
        progress=not quiet,
    )
    result.save(output, overwrite=overwrite)
    if json:
        print(result.to_json())
    elif not quiet:
        print(result.summary())
        print(f"written to {output}")


@app.command("inspect", epilog="Example: nnprune inspect model.keras --json")
def _inspect(model: _Model, *, trust: _Trust = False, json: _Json = False) -> None:
    """Tell what could be pruned, what not and why."""
    from nnprune.inspection import inspect
    from nnprune.result import to_json

    found = inspect(model, trust=trust)
    print(to_json(found.to_dict()) if json else found.summary())


@app.command("demo", epilog="Example: nnprune demo --target 0.7")
def _demo(
    target: Annotated[str, typer.Option(help="Fraction of each layer's units to remove.")] = "1/2",
    seed: Annotated[int, typer.Option(help="Seed of the random stream.")] = 0,
    *,
    overwrite: _Overwrite = False,
    json: _Json = False,
) -> None:
    """Prune a model that ships in the package, and test both."""
    from nnprune.demo import run_demo
    from nnprune.result import to_json

    report = run_demo(
        Path.cwd(), target=_fraction("target", target), seed=seed, overwrite=overwrite
    )
    print(to_json(report.to_dict()) if json else report.summary())


def _method(name: str, **parameters: Any) -> Method:
    try:
        kind = method_named(name)
    except KeyError:
        raise ConfigError(
            f"--method: expected annealing, greedy or one-shot, got '{name}'"
        ) from None
    if kind is Annealing:
        return Annealing(**parameters)
    return Greedy(pool=parameters["pool"]) if kind is Greedy else kind()


def _fraction(option: str, text: str) -> float:
    try:
        # Not all by Fraction: it would write 1e-999999999 out.
        return float(Fraction(text)) if "/" in text else float(text)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ConfigError(
            f"--{option}: expected a fraction such as 0.5 or 1/64, got '{text}'"
        ) from None


def _names(texts: list[str] | None) -> list[str] | None:
    if texts is None:
        return None
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def _input_bounds(text: str | None) -> Any:
    """Turn the option into what `prune` takes."""
    if text is None:
        return None
    words = text.replace(",", " ").split()
    if len(words) == 2 and all(map(_is_number, words)):
        return (float(words[0]), float(words[1]))
    if Path(text).suffix == ".npz":
        return _bounds_file(Path(text))
    raise BoundsError(f"--input-bounds: expected two numbers or an .npz file, got '{text}'")


def _bounds_file(path: Path) -> dict[str, Any]:
    import zipfile

    import numpy as np

    try:
        arrays = np.load(path, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            raise BoundsError(
                f"--input-bounds: {path}: holds one array, not `lower` and `upper`; use np.savez"
            )
        with arrays:
            return {name: arrays[name] for name in arrays.files}
    except OSError as error:
        raise BoundsError(f"--input-bounds: {path}: cannot be read ({error})") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BoundsError(
            f"--input-bounds: {path}: is no .npz file of plain numbers; make it with np.savez"
        ) from error
