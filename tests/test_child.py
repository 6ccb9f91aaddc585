"""Work in a process of its own: answers, failures, crashes and endless loops."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MODELS = Path(__file__).resolve().parents[1] / "benches" / "models"

# In a Python of its own: this one has Keras' threads, and would not be copied.
FORKED = """
import os, signal, time
from nnprune.keras_io.child import can_fork, run_forked

def fail():
    raise ValueError("no")

assert can_fork()
big = b"x" * 3_000_000
finished = run_forked(lambda: big, seconds=20)
assert (finished.status, finished.output) == (0, big)
assert run_forked(fail, seconds=20).status == 1
assert run_forked(lambda: os.kill(os.getpid(), signal.SIGSEGV), seconds=20).status < 0
started = time.monotonic()
assert run_forked(lambda: time.sleep(60), seconds=0.3).status is None
assert time.monotonic() - started < 10
try:
    os.waitpid(-1, os.WNOHANG)
    raise SystemExit("a child is left")
except ChildProcessError:
    print("all well")
"""

LOOKED_AT = """
import sys
from nnprune.keras_io import scan, scan_hdf5_child
from nnprune.keras_io.child import can_fork
assert can_fork()
forked = scan.look(sys.argv[1])
scan_hdf5_child.can_fork = lambda: False
assert scan.look(sys.argv[1]) == forked
print("all well")
"""


def python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="copies of a process are for Linux")
def test_a_copy_answers_fails_crashes_and_is_ended() -> None:
    assert python(FORKED) == "all well"


@pytest.mark.skipif(sys.platform != "linux", reason="copies of a process are for Linux")
def test_both_ways_of_looking_find_the_same() -> None:
    assert python(LOOKED_AT, str(MODELS / "mnist.keras")) == "all well"
