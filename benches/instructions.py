"""Instructions of three fixed pieces of the engine's work, counted by valgrind, beside the record.

Other work on the machine and its speed do not count, so that a regression is seen on any machine.
`rust/workloads` says what the work is. `benches/instructions.json` is the record;
`--check` fails where a count is far above it, `--record` writes it anew:

    python benches/instructions.py [--check | --record] [--top 8]

Valgrind shows programs AVX2 at most, so that processors with it run the same kernels. Where others
are run, or the target is another one, there is nothing to compare with, and the check says so.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RECORD = Path(__file__).with_name("instructions.json")
WORKLOADS = ("annealing", "least_squares", "certificate")
# Compilers and C libraries differ by some percent; a lost optimisation costs far more than this.
BOUND = 1.3
_COUNTED = re.compile(r"^(?:summary|totals): (\d+)$", re.MULTILINE)
_SHARE = re.compile(r"^\s*([\d,]+) \(\s*[\d.]+%\)\s+(\S.*)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Record:
    """Counts, and what they depend on.

    Attributes
    ----------
    compiler : str
        The version of rustc.
    target : str
        What it compiled for.
    kernel_path : str
        The matrix kernels that the engine chose.
    instructions : dict of str to int
        For every workload.
    """

    compiler: str
    target: str
    kernel_path: str
    instructions: dict[str, int]


def comparable(found: Record, recorded: Record) -> str | None:
    """Return why two records cannot be compared, or None if they can."""
    if found.target != recorded.target:
        return f"recorded for {recorded.target}, this is {found.target}"
    if found.kernel_path != recorded.kernel_path:
        return f"recorded for the kernels '{recorded.kernel_path}', here '{found.kernel_path}' ran"
    return None


def regressions(found: Record, recorded: Record) -> list[str]:
    """Name the workloads that take far more instructions than recorded, or are not recorded."""
    worse = []
    for name, count in found.instructions.items():
        before = recorded.instructions.get(name)
        if before is None:
            worse.append(f"{name}: not recorded")
        elif count > BOUND * before:
            worse.append(f"{name}: {count:,} instructions, {count / before:.2f} times the recorded")
    return worse


def build() -> Path:
    """Build the workloads, and return the program."""
    command = ["cargo", "build", "--profile", "counting", "--locked", "--bin", "workloads"]
    # The extension's package only lends its choice of features: what CI has compiled for the wheel
    # is then good for the workloads.
    command += ["--package", "nnprune-workloads", "--package", "nnprune-py"]
    command += ["--message-format", "json-render-diagnostics"]
    done = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit("the workloads could not be built")
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return next(Path(one["executable"]) for one in messages if one.get("executable"))


def count(program: Path, workload: str, top: int) -> tuple[int, str, list[str]]:
    """Run a workload under callgrind.

    Returns
    -------
    int
        All instructions.
    str
        The kernels that ran.
    list of str
        The functions that hold most of them, callees included.
    """
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder) / "callgrind.out"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={counts}"]
        done = subprocess.run(
            [*command, str(program), workload], check=False, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"{workload}: failed under valgrind\n{done.stderr}")
        total = _COUNTED.search(counts.read_text())
        if total is None:
            sys.exit(f"{workload}: valgrind counted nothing\n{done.stderr}")
        return int(total[1]), done.stdout.strip(), _functions(counts, int(total[1]), top)


def _functions(counts: Path, total: int, top: int) -> list[str]:
    """Name the engine's own functions that hold most instructions, callees included."""
    command = ["callgrind_annotate", "--inclusive=yes", "--threshold=100", str(counts)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, int] = {}
    for inside, text in _SHARE.findall(done.stdout):
        name = re.sub(r"\s\[[^]]*\]$", "", text.split(":", 1)[-1])
        if "nnprune_core::" in name or "gemm" in name or "matrixmultiply" in name:
            found.setdefault(name, int(inside.replace(",", "")))
    return [f"{inside / total:6.1%}  {name}" for name, inside in list(found.items())[:top]]


def measure(top: int) -> Record:
    """Build, count and print everything."""
    program = build()
    compiler = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    instructions, kernels = {}, set()
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # side by side: counts are no times
        counted = pool.map(lambda workload: count(program, workload, top), WORKLOADS)
    for workload, (total, kernel_path, functions) in zip(WORKLOADS, counted, strict=True):
        print(f"{workload}: {total:,} instructions, kernels '{kernel_path}'")
        for line in functions:
            print(f"  {line}")
        instructions[workload] = total
        kernels.add(kernel_path)
    [kernel_path] = kernels
    host = re.search(r"^host: (.+)$", compiler, re.MULTILINE)
    return Record(
        compiler=compiler.splitlines()[0],
        target="unknown" if host is None else host[1],
        kernel_path=kernel_path,
        instructions=instructions,
    )


def main() -> None:
    """Count, and compare with the record or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true")
    what.add_argument("--record", action="store_true")
    parser.add_argument("--top", type=int, default=8)
    options = parser.parse_args()
    missing = [name for name in ("valgrind", "callgrind_annotate") if shutil.which(name) is None]
    if missing:
        # No reason to fail: not every system has a package of it.
        print(f"no {missing[0]}: instructions are not counted; install valgrind", file=sys.stderr)
        sys.exit(0 if options.check else 1)
    found = measure(options.top)
    if options.record:
        RECORD.write_text(json.dumps(asdict(found), indent=2) + "\n")
        return
    recorded = Record(**json.loads(RECORD.read_text()))
    print(f"compiled by {found.compiler}; the record by {recorded.compiler}")
    reason = comparable(found, recorded)
    if reason is not None:
        print(f"not compared: {reason}", file=sys.stderr)
        return
    for name, before in recorded.instructions.items():
        print(f"{name}: {found.instructions.get(name, 0) / before:.3f} times the recorded")
    worse = regressions(found, recorded)
    if options.check and worse:
        sys.exit("\n".join([*worse, "if this is meant: python benches/instructions.py --record"]))


if __name__ == "__main__":
    main()
