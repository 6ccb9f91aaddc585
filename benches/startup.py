"""CPU time of starting up: the package and its commands beside what they cannot do without.

The command-line library is measured with a command of one argument, not only imported: what it
needs for its own work it imports then. A pruning is measured beside a bare script that loads the
same file with Keras and saves it again, once as it is and once with Keras made to read and write
the files, as it does where a file holds what the package does not know.

python benches/startup.py [--repeat 15] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INSPECTED = ROOT / "benches" / "models" / "cifar10.keras"
PRUNED = ROOT / "python" / "nnprune" / "demo_files" / "digits.keras"
COMMAND = "from nnprune.cli import main; main()"
BARE_COMMAND = """
import sys, numpy, h5py, typer
app = typer.Typer()
@app.command()
def bare(model: str) -> None:
    print(model)
sys.argv = ["bare", "model.keras"]
app()
"""
BARE_KERAS = """
import sys, keras
keras.saving.load_model(sys.argv[1]).save(sys.argv[2])
"""
ALWAYS_KERAS = "NNPRUNE_ALWAYS_KERAS"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A process, and how many times the CPU time of a bare one it may take.

    Attributes
    ----------
    name, arguments
        What it is, and what Python is given.
    bare, bare_arguments
        What it is measured against.
    limit
        The most it may take, as a multiple of the bare one; None where nothing is asked.
    environment
        What is set for it.
    """

    name: str
    arguments: Sequence[str]
    bare: str
    bare_arguments: Sequence[str]
    limit: float | None
    environment: Mapping[str, str]


def measured(folder: Path) -> list[Measured]:
    """List what is measured; files are written into `folder`."""
    output = str(folder / "small.keras")
    prune = ["-c", COMMAND, "prune", str(PRUNED), "-o", output, "--target", "0.5", "--overwrite"]
    resave = ["-c", BARE_KERAS, str(PRUNED), str(folder / "same.keras")]
    return [
        Measured(
            name="import nnprune",
            arguments=["-c", "import nnprune"],
            bare="import numpy",
            bare_arguments=["-c", "import numpy"],
            limit=1.2,
            environment={},
        ),
        Measured(
            name=f"nnprune inspect {INSPECTED.name}",
            arguments=["-c", COMMAND, "inspect", str(INSPECTED)],
            bare="numpy, h5py, a bare command",
            bare_arguments=["-c", BARE_COMMAND],
            limit=1.5,
            environment={},
        ),
        Measured(
            name=f"nnprune prune {PRUNED.name}",
            arguments=prune,
            bare="Keras loads and saves it",
            bare_arguments=resave,
            limit=1.3,
            environment={},
        ),
        Measured(
            name="the same, always by Keras",
            arguments=prune,
            bare="Keras loads and saves it",
            bare_arguments=resave,
            limit=None,
            environment={ALWAYS_KERAS: "1"},
        ),
    ]


def cpu_seconds(arguments: Sequence[str], environment: Mapping[str, str]) -> float:
    """Return the CPU time of one Python process."""
    # As in an installation, where the files of Python are compiled once.
    unset = (ALWAYS_KERAS, "PYTHONDONTWRITEBYTECODE")
    usual = {name: value for name, value in os.environ.items() if name not in unset}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**usual, **environment},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run(repeat: int) -> dict[str, object]:
    """Run every process in turn, several times; medians, ranges and ratios."""
    with tempfile.TemporaryDirectory() as folder:
        pairs = measured(Path(folder))
        commands: dict[str, tuple[Sequence[str], Mapping[str, str]]] = {
            pair.bare: (pair.bare_arguments, {}) for pair in pairs
        }
        commands |= {pair.name: (pair.arguments, pair.environment) for pair in pairs}
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(repeat + 1):
            for name, command in commands.items():
                taken = cpu_seconds(*command)
                if turn:  # the first turn fills the disk cache
                    seconds[name].append(taken)
    return {
        "repeat": repeat,
        "load": os.getloadavg()[0],
        "seconds": {
            name: {"median": statistics.median(all_), "least": min(all_), "most": max(all_)}
            for name, all_ in seconds.items()
        },
        "ratios": [
            {
                "name": pair.name,
                "bare": pair.bare,
                "ratio": statistics.median(seconds[pair.name])
                / statistics.median(seconds[pair.bare]),
                "ratios": sorted(
                    one / bare
                    for one, bare in zip(seconds[pair.name], seconds[pair.bare], strict=True)
                ),
                "limit": pair.limit,
            }
            for pair in pairs
        ],
    }


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = run(options.repeat)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for name, one in found["seconds"].items():  # type: ignore[attr-defined]
        print(f"{name:<32}{one['median']:.3f} s  [{one['least']:.3f}, {one['most']:.3f}]")
    for pair in found["ratios"]:  # type: ignore[attr-defined]
        least, most = pair["ratios"][0], pair["ratios"][-1]
        asked = "" if pair["limit"] is None else f", at most {pair['limit']} is asked"
        print(
            f"{pair['name']} / {pair['bare']}: {pair['ratio']:.2f} [{least:.2f}, {most:.2f}]{asked}"
        )


if __name__ == "__main__":
    main()
