"""What commands take in common, and how their values are read."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from nnprune.errors import BoundsError, ConfigError, DataError
from nnprune.keras_io.wording import reason_of

__all__ = [
    "InputBounds",
    "Json",
    "Model",
    "Overwrite",
    "Quiet",
    "Threads",
    "Trust",
    "attacks_of",
    "bounds_of",
    "fraction_of",
    "is_number",
    "json_file",
    "names_of",
]

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A .keras or .h5 file.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=4096,
        help="Threads to compute on, for the engine and TensorFlow; one a core by default.",
        metavar="N",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust", help="Open a file although it could run code; only if you trust its author."
    ),
]
InputBounds = Annotated[
    str | None,
    typer.Option(
        help="Two numbers, or an .npz file with lower and upper.", metavar="LOWER UPPER|FILE"
    ),
]
Attacks = Annotated[
    list[str] | None,
    typer.Option(
        "--attack",
        help="Such as fgsm:0.01,0.05 or pgd:8/255,steps=20; may be given several times.",
    ),
]
NoAttacks = Annotated[bool, typer.Option("--no-attacks", help="Run no attack.")]
Scale = Annotated[
    str | None, typer.Option(help="What the data's x is multiplied by; 1/255 for bytes.")
]
Offset = Annotated[float | None, typer.Option(help="What is added to x then.")]


def is_number(word: str) -> bool:
    """Whether a word is a number."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def fraction_of(option: str, text: str) -> float:
    """Read a number such as 0.5 or 1/64."""
    try:
        # Not all by Fraction: it would write 1e-999999999 out.
        return float(Fraction(text)) if "/" in text else float(text)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ConfigError(
            f"--{option}: expected a fraction such as 0.5 or 1/64, got '{text}'"
        ) from None


def names_of(texts: list[str] | None) -> list[str] | None:
    """Split lists of names at commas."""
    if texts is None:
        return None
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def bounds_of(text: str | None) -> Any:
    """Turn the option into what `prune` takes."""
    if text is None:
        return None
    words = text.replace(",", " ").split()
    if len(words) == 2 and all(map(is_number, words)):
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
        raise BoundsError(f"--input-bounds: {path}: cannot be read ({reason_of(error)})") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BoundsError(
            f"--input-bounds: {path}: is no .npz file of plain numbers; make it with np.savez"
        ) from error


def attacks_of(texts: list[str] | None, *, none: bool) -> Any:
    """Read the attacks asked for; None to take the default."""
    from nnprune.attacks.options import attack_named

    if none and texts:
        raise ConfigError("--no-attacks: leave out --attack, or this option")
    if none:
        return ()
    return None if texts is None else [attack_named(text) for text in texts]


def json_file(option: str, path: Path) -> Any:
    """Read a JSON file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{option}: {path}: cannot be read ({reason_of(error)})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{option}: {path}: is no JSON file ({error})") from error
