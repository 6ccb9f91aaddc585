"""Matrix products of several Rust crates beside NumPy's (OpenBLAS), on the engine's shapes.

Builds the program in `benches/products` and asks it and NumPy in turns for the same products, so
that both meet the same machine. Gram products `W^T W` count as `n (n + 1) k` operations for
everyone, with W of shape (k, n), whether an implementation makes one triangle or the whole;
products `A B^T` as `2 m k n`. Every process with a number of threads of its own; the rates are
those of the best of several rounds:

    python benches/products.py [--quick] [--rounds 3] [--shapes gram:784x128] [--engines faer]
        [--threads 1 2] [--json]

Engines: `ndarray` (matrixmultiply, one thread), `faer` and `gemm` for the whole product,
`faer-lower` for the lower triangle, `faer-lower:B` with W in f32 widened by blocks of B rows, and
`tasks:KERNEL:R:B`, the scheme of the engine's `linalg`: W widened by blocks of B rows, R rows of
the result a task, each task one product on one thread; the engine's own is `tasks:ndarray:256:512`,
with fewer rows for fewer than 4096 units, down to 64. "same bytes" tells whether one thread and
two gave the same result to the last bit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CRATE = ROOT / "benches" / "products"
TARGET = ROOT / "build" / "products"

SHAPES = (
    "gram:25088x4096",
    "gram:4096x4096",
    "gram:784x128",
    "gram:784x300",
    "gram:512x256",
    "gram:300x100",
    "product:1000x4096x256",
)
LARGEST = SHAPES[0]
ENGINES = (
    "ndarray",
    "tasks:ndarray:64:256",
    "tasks:ndarray:256:512",
    "faer",
    "faer-lower",
    "faer-lower:512",
    "gemm",
    "tasks:gemm:64:256",
    "tasks:gemm:256:512",
)
DTYPES = ("f64", "f32")
THREADS = (1, 2)
# What OpenBLAS's threads go on waiting for work after a product.
PAUSE = 0.2
# How far elements may be from NumPy's, relative to the largest.
TOLERANCE = {"f64": 1e-12, "f32": 1e-4}

# Answers as the Rust program does; a process of its own for every number of threads.
NUMPY = """
import json, sys, time
import numpy as np

def matrix(rows, columns, first):
    numbers = np.arange(1, rows * columns + 1, dtype=np.uint32)
    numbers *= np.uint32(0x9E3779B9)
    numbers += np.uint32(first)
    numbers >>= np.uint32(8)
    values = numbers.astype(np.float32)
    values /= np.float32(1 << 24)
    values -= np.float32(0.5)
    return values.reshape(rows, columns)

known = None
for line in sys.stdin:
    shape, dtype, _, _, seconds = line.split()
    if known != (shape, dtype):
        kind, sizes = shape.split(":")
        sizes = [int(size) for size in sizes.split("x")]
        wanted = np.float64 if dtype == "f64" else np.float32
        a = b = None
        a = matrix(sizes[0], sizes[1], 0).astype(wanted, copy=False)
        b = matrix(sizes[2], sizes[1], 1).astype(wanted, copy=False) if kind == "product" else None
        known = shape, dtype
    calls, started, used = 0, time.perf_counter(), time.process_time()
    while not calls or time.perf_counter() - started < float(seconds):
        product = a.T @ a if b is None else a @ b.T
        calls += 1
    wall, cpu = time.perf_counter() - started, time.process_time() - used
    elements = [float(product[at]) for at in ((0, 0), (-1, 0), (-1, -1))]
    print(json.dumps({"wall": wall / calls, "cpu": cpu / calls, "calls": calls,
                      "elements": elements, "bytes": None}), flush=True)
"""


def operations(shape: str) -> float:
    """Return the multiplications and additions of a product.

    Raises
    ------
    ValueError
        The shape is neither `gram:KxN` nor `product:MxKxN`.
    """
    kind, _, sizes = shape.partition(":")
    numbers = [int(size) for size in sizes.split("x")]
    if kind == "gram" and len(numbers) == 2:
        inner, units = numbers
        return float(units * (units + 1) * inner)
    if kind == "product" and len(numbers) == 3:
        rows, inner, columns = numbers
        return 2.0 * rows * inner * columns
    raise ValueError(f"shape {shape!r}: expected gram:ROWSxCOLUMNS or product:ROWSxINNERxCOLUMNS")


class Worker:
    """A process that answers requests for products, line by line."""

    def __init__(self, command: Sequence[str], **environment: str) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )

    def ask(self, shape: str, dtype: str, threads: int, engine: str, seconds: float) -> Any:
        """Have a product made for at least so many seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{shape} {dtype} {threads} {engine} {seconds}\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or '{"error": "the process ended"}')
        if "error" in answer:
            sys.exit(f"{engine} on {shape}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def build() -> Path:
    """Build the Rust program; return its path."""
    command = ["cargo", "build", "--release", "--locked", "--quiet"]
    command += ["--manifest-path", str(CRATE / "Cargo.toml"), "--target-dir", str(TARGET)]
    subprocess.run(command, check=True)
    return TARGET / "release" / "products"


def measure(
    workers: Mapping[str, Worker],
    shape: str,
    dtype: str,
    engines: Sequence[str],
    *,
    threads: Sequence[int],
    rounds: int,
    seconds: float,
) -> list[dict[str, Any]]:
    """Time all engines and NumPy on one shape in turns; return a row for each."""
    answers: dict[tuple[str, int], list[dict[str, Any]]] = {}
    order = ["numpy", *engines]
    for number in range(rounds):
        for engine in order if number % 2 == 0 else reversed(order):
            for count in threads:
                if engine == "ndarray" and count > 1:
                    continue
                worker = workers[f"numpy-{count}" if engine == "numpy" else "rust"]
                answer = worker.ask(shape, dtype, count, engine, seconds)
                answers.setdefault((engine, count), []).append(answer)
                if engine == "numpy" and count > 1:
                    time.sleep(PAUSE)
    rows = [
        row_of(shape, dtype, engine, count, answered)
        for (engine, count), answered in answers.items()
    ]
    check_elements(rows, dtype)
    return compared(rows)


def row_of(
    shape: str, dtype: str, engine: str, threads: int, answers: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the rates of one engine: operations over the least time of its rounds."""
    wall = min(answer["wall"] for answer in answers)
    cpu = min(answer["cpu"] for answer in answers)
    return {
        "shape": shape,
        "dtype": dtype,
        "engine": engine,
        "threads": threads,
        "wall_seconds": [answer["wall"] for answer in answers],
        "cpu_seconds": [answer["cpu"] for answer in answers],
        "gflops": operations(shape) / wall / 1e9,
        "gflops_per_cpu": operations(shape) / cpu / 1e9,
        "elements": answers[0]["elements"],
        "bytes": answers[0]["bytes"],
    }


def compared(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add each row's ratio to NumPy's and its speed-up over one thread."""
    by = {(row["engine"], row["threads"]): row for row in rows}
    found = []
    for row in sorted(rows, key=lambda row: row["threads"]):
        single, beside = by.get((row["engine"], 1)), by["numpy", row["threads"]]
        found.append(
            row
            | {
                "of_numpy": row["gflops"] / beside["gflops"],
                "speed_up": None if single is None else row["gflops"] / single["gflops"],
                "same_bytes": (
                    None
                    if single is None or row["bytes"] is None
                    else row["bytes"] == single["bytes"]
                ),
            }
        )
    return found


def check_elements(rows: Iterable[Mapping[str, Any]], dtype: str) -> None:
    """Refuse rates of products that are wrong."""
    rows = list(rows)
    wanted = next(row["elements"] for row in rows if row["engine"] == "numpy")
    largest = max(abs(element) for element in wanted)
    for row in rows:
        off = max(abs(a - b) for a, b in zip(row["elements"], wanted, strict=True))
        if not off <= TOLERANCE[dtype] * largest:
            sys.exit(f"{row['engine']} on {row['shape']}: elements are off by {off:.2g}")


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the rows as text, a block for each shape, kind of number and number of threads."""
    lines: list[str] = []
    last = None
    for row in rows:
        block = row["shape"], row["dtype"], row["threads"]
        if block != last:
            threads = "1 thread" if row["threads"] == 1 else f"{row['threads']} threads"
            lines.append(f"\n{row['shape']} {row['dtype']}, {threads}")
            lines.append("                          GFLOP/s  of NumPy  speed-up  per CPU s  bytes")
            last = block
        same = {None: "", True: "same", False: "differ"}[row["same_bytes"]]
        speed_up = "" if row["speed_up"] is None else f"{row['speed_up']:.2f}"
        lines.append(
            f"  {row['engine']:<22}{row['gflops']:9.1f}{row['of_numpy']:10.2f}"
            f"{speed_up:>10}{row['gflops_per_cpu']:11.1f}  {same}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"leave {LARGEST} out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.3, help="least time of one measurement")
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="SHAPE")
    parser.add_argument("--engines", nargs="+", default=ENGINES, metavar="ENGINE")
    parser.add_argument("--dtypes", nargs="+", default=DTYPES, choices=DTYPES)
    parser.add_argument("--threads", nargs="+", type=int, default=THREADS, metavar="N")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    workers = {
        f"numpy-{threads}": Worker([sys.executable, "-c", NUMPY], OPENBLAS_NUM_THREADS=str(threads))
        for threads in options.threads
    }
    workers["rust"] = Worker([str(build())], RAYON_NUM_THREADS=str(max(options.threads)))
    rows = []
    for shape in options.shapes:
        if options.quick and shape == LARGEST:
            continue
        for dtype in options.dtypes:
            measured = measure(
                workers,
                shape,
                dtype,
                options.engines,
                threads=options.threads,
                rounds=options.rounds,
                seconds=options.seconds,
            )
            rows += measured
            if not options.json:
                print(table(measured), flush=True)
    for worker in workers.values():
        worker.close()
    if options.json:
        print(json.dumps({"rows": rows, "load_average": os.getloadavg()[0]}, indent=2))
    else:
        print(f"\nload average {os.getloadavg()[0]:.2f} on {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
