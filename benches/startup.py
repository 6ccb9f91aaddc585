"""CPU time of starting up: `import nnprune` and `nnprune inspect` beside what they need.

The command-line library is measured with a command of one argument, not only imported: what it
needs for its own work it imports then.

python benches/startup.py [--repeat 15]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
from pathlib import Path

MODEL = Path(__file__).parent / "models" / "cifar10.keras"
INSPECT = "from nnprune.cli import main; main()"
BARE = """
import sys, numpy, h5py, typer
app = typer.Typer()
@app.command()
def bare(model: str) -> None:
    print(model)
sys.argv = ["bare", "model.keras"]
app()
"""
COMMANDS = {
    "import numpy": ["-c", "import numpy"],
    "import nnprune": ["-c", "import nnprune"],
    "numpy, h5py, a bare command": ["-c", BARE],
    "nnprune inspect cifar10.keras": ["-c", INSPECT, "inspect", str(MODEL)],
}


def cpu_seconds(arguments: list[str]) -> float:
    """Return the CPU time of one Python process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Run every command in turn, several times, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=15)
    options = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(options.repeat + 1):
        for name, arguments in COMMANDS.items():
            taken = cpu_seconds(arguments)
            if turn:  # the first turn fills the disk cache
                times[name].append(taken)
    median = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(f"{name:<32}{median[name]:.3f} s  [{min(values):.3f}, {max(values):.3f}]")
    names = list(COMMANDS)
    print(f"import nnprune / import numpy: {median[names[1]] / median[names[0]]:.2f}")
    print(f"inspect / its imports: {median[names[3]] / median[names[2]]:.2f}")


if __name__ == "__main__":
    main()
