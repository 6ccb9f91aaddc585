"""The program: its commands, and how errors and Ctrl-C end it."""

from __future__ import annotations

import os
import sys
import warnings
from io import TextIOWrapper
from typing import Annotated, Any

import typer

from nnprune import __version__
from nnprune.cli.certify import certify, verify
from nnprune.cli.evaluate import compare, evaluate
from nnprune.cli.files import demo, export, inspect, report
from nnprune.cli.interrupts import Interrupts
from nnprune.cli.prune import prune
from nnprune.cli.sweep import sweep
from nnprune.cli.values import is_number
from nnprune.errors import NnpruneError

__all__ = ["main", "run"]

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


def main() -> None:
    """Run the command line; errors are one line on standard error and a status other than 0."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # layer names and paths may hold any character
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:] or ["--help"]))


def run(arguments: list[str]) -> int:
    """Run a command and return its status."""
    with Interrupts() as interrupts:
        try:
            status = typer.main.get_command(app).main(
                _with_joined_bounds(arguments),
                prog_name="nnprune",
                standalone_mode=False,
                obj=arguments,
            )
            if status == _INTERRUPTED:  # typer's own answer to Ctrl-C
                raise KeyboardInterrupt
        except (KeyboardInterrupt, typer.Abort):
            return _fail("interrupted", status=_INTERRUPTED)
        except Exception as error:
            if interrupts.pressed:
                return _fail("interrupted", status=_INTERRUPTED)
            return _status_of(error)
    return status if isinstance(status, int) else 0


def _status_of(error: Exception) -> int:
    """Tell what is wrong in one line; what is nobody's mistake but ours is raised again."""
    if isinstance(error, NnpruneError):
        return _fail(str(error), status=1)
    if isinstance(error, typer.TyperException):
        return _fail(_message(error), status=_USAGE)
    if isinstance(error, BrokenPipeError):
        # The reader of our output has gone; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if isinstance(error, OSError):
        return _fail(str(error), status=1)
    raise error


def _with_joined_bounds(arguments: list[str]) -> list[str]:
    """Let `--input-bounds -1 1` be one value: the option takes two numbers or one file."""
    joined = list(arguments)
    for at, word in enumerate(joined):
        following = joined[at + 1 : at + 3]
        if word == "--input-bounds" and len(following) == 2 and all(map(is_number, following)):
            joined[at : at + 3] = [f"--input-bounds={','.join(following)}"]
    return joined


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


app.command(
    "prune",
    epilog="\b\nExamples:\n"
    "  nnprune prune model.keras -o small.keras --target 0.5\n"
    "  nnprune prune model.h5 -o small.keras --target 0.8 --step 1/64 --input-bounds -1 1\n"
    "  nnprune prune model.keras -o small.keras --target 0.8 --evaluate test.npz "
    "--stop-if-accuracy-below 0.95",
)(prune)
app.command(
    "evaluate",
    epilog="\b\nExample:\n"
    "  nnprune evaluate small.keras --original model.keras --data test.npz "
    "--attack fgsm:0.01,0.05 --attack pgd:8/255,steps=20 --report report.html",
)(evaluate)
app.command(
    "compare",
    epilog="\b\nExample:\n"
    "  nnprune compare half.keras third.keras --original model.keras --data test.npz "
    "--report report.html",
)(compare)
app.command(
    "certify",
    epilog="\b\nExamples:\n"
    "  nnprune certify small.keras --original model.keras\n"
    "  nnprune certify small.keras --original model.keras --data test.npz --eps 0.01,8/255",
)(certify)
app.command(
    "verify",
    epilog="Example: nnprune verify small.certificate.json --original model.keras",
)(verify)
app.command(
    "sweep",
    epilog="\b\nExample:\n"
    "  nnprune sweep model.keras --targets 0.3,0.5 --seeds 0-9 --evaluate test.npz "
    "--journal sweep.jsonl --report sweep.html",
)(sweep)
app.command("inspect", epilog="Example: nnprune inspect model.keras --json")(inspect)
app.command("export", epilog="Example: nnprune export small.keras -o small.tflite")(export)
app.command("report", epilog="Example: nnprune report evaluation.json -o report.html")(report)
app.command("demo", epilog="Example: nnprune demo --target 0.7")(demo)
