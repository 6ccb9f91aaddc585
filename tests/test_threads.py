"""Threads and signals: determinism, Ctrl-C, and other Python threads meanwhile."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from nnprune import _core
from nnprune._core import NetworkBuilder
from nnprune.cli.application import run
from numpy.typing import NDArray
from reference.prune import DEFAULTS
from sweep_helpers import DIGITS

METHODS = [
    {"name": "annealing", **DEFAULTS},
    {"name": "greedy", "impact": "interval", "pool": 4},
    {"name": "one_shot"},
]


def weights(size: int) -> NDArray[np.float32]:
    return np.random.default_rng(size).standard_normal((size, size)).astype(np.float32)


SCRIPT = """
import hashlib, numpy as np
from nnprune import _core
random = np.random.default_rng(0)
sizes = [70, 96, 80, 10]
builder = _core.NetworkBuilder()
builder.input("x", (sizes[0],))
at = "x"
for k in range(3):
    kernel = random.standard_normal((sizes[k], sizes[k + 1])).astype(np.float32) / 8
    builder.dense(f"d{k}", at, kernel, random.standard_normal(sizes[k + 1]).astype(np.float32))
    at = f"d{k}"
    if k < 2:
        builder.activation(f"a{k}", at, "relu")
        at = f"a{k}"
network = builder.build([at])
box = [np.zeros(sizes[0])], [np.ones(sizes[0])]
digest = hashlib.sha256()
for method in METHODS:
    found = _core.prune(network, *box, layers=["d0", "d1"], target=0.5, step=0.1, method=method,
                        outgoing="l2", seed=SEED)
    digest.update(repr(found.merges).encode())
    for entry in found.trace:
        digest.update(repr(sorted(entry.items())).encode())
    for end in found.impact:
        digest.update(end.tobytes())
    for name in ("d0", "d1", "d2"):
        for weight in found.network.weights(name).values():
            digest.update(weight.tobytes())
print(digest.hexdigest())
"""


def digest_of_run(threads: int, seed: int, folder: Path) -> str:
    # Nothing of this process' own state (its pool of threads, above all) is to leak in.
    script = SCRIPT.replace("METHODS", repr(METHODS))
    done = subprocess.run(
        [sys.executable, "-c", script.replace("SEED", str(seed))],
        env={**os.environ, "RAYON_NUM_THREADS": str(threads)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_seed_gives_the_same_bytes_on_one_and_two_threads(tmp_path: Path) -> None:
    one = digest_of_run(1, 7, tmp_path)
    assert one == digest_of_run(2, 7, tmp_path)
    assert one == digest_of_run(2, 7, tmp_path)
    assert one != digest_of_run(1, 8, tmp_path)


LONG = """
import sys, threading, time
import numpy as np
from nnprune import _core
random = np.random.default_rng(0)
size = 700
builder = _core.NetworkBuilder()
builder.input("x", (size,))
at = "x"
for k in range(4):
    builder.dense(f"d{k}", at, random.standard_normal((size, size)).astype(np.float32))
    builder.activation(f"a{k}", f"d{k}", "relu")
    at = f"a{k}"
builder.dense("out", at, random.standard_normal((size, 10)).astype(np.float32))
network = builder.build(["out"])
method = {"name": "greedy", "impact": "interval", "pool": 4}

def work():
    _core.prune(network, [np.zeros(size)], [np.ones(size)], layers=[], target=0.9, step=1 / 512,
                method=method, outgoing="l2", seed=0)
"""

INTERRUPTED = (
    LONG
    + """
# A shell starts background jobs with Ctrl-C switched off, and so all that they start.
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
print("started", flush=True)
try:
    work()
except KeyboardInterrupt:
    print("interrupted", flush=True)
    raise SystemExit(3)
"""
)


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_ctrl_c_stops_a_long_run_at_once(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().strip() == "started"
            time.sleep(1.0)
            assert process.poll() is None, "the run was over before it could be interrupted"
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline().strip() == "interrupted"
            elapsed = time.monotonic() - sent
            assert process.wait(timeout=10) == 3
        finally:
            process.kill()
    # Half a second is what is promised; a machine with other work gets more.
    assert elapsed < 2.0


def test_other_threads_run_meanwhile() -> None:
    size = 300
    builder = NetworkBuilder()
    builder.input("x", (size,))
    builder.dense("hidden", "x", weights(size))
    builder.activation("act", "hidden", "relu")
    builder.dense("middle", "act", weights(size))
    builder.dense("out", "middle", weights(size)[:, :3])
    network = builder.build(["out"])
    running = threading.Event()
    done = threading.Event()
    gaps: list[float] = []

    def tick() -> None:
        running.set()
        last = time.perf_counter()
        while not done.is_set():
            time.sleep(0.001)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    other = threading.Thread(target=tick)
    other.start()
    running.wait()
    began = time.perf_counter()
    _core.prune(
        network,
        [np.zeros(size)],
        [np.ones(size)],
        layers=[],
        target=0.9,
        step=1 / 256,
        method={"name": "greedy", "impact": "interval", "pool": 4},
        outgoing="l2",
        seed=0,
    )
    took = time.perf_counter() - began
    done.set()
    other.join()
    # Had the call kept the lock, there would be one gap as long as the call itself.
    assert took > 0.05, "too fast to tell"
    assert max(gaps) < 0.5 * took


def told(script: str, folder: Path, **variables: str) -> list[str]:
    """Return the lines that a script prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


ENGINE = """
import numpy as np
from nnprune import _core
random = np.random.default_rng(0)
builder = _core.NetworkBuilder()
builder.input("x", (64,))
builder.dense("hidden", "x", random.standard_normal((64, 700)).astype(np.float32))
builder.activation("active", "hidden", "relu")
builder.dense("out", "active", random.standard_normal((700, 10)).astype(np.float32))
network = builder.build(["out"])

def work():
    _core.prune(network, [np.zeros(64)], [np.ones(64)], layers=[], target=0.1, step=0.1,
                method={"name": "greedy", "impact": "interval", "pool": 4}, outgoing="l2", seed=0)
"""

REFUSED = """
import sys, nnprune
for count in (0, -1, "many", 1.5, True, 10**6, 2**64):
    try:
        nnprune.set_threads(count)
    except nnprune.errors.ConfigError as error:
        print(error)
"""


def test_wrong_numbers_of_threads_are_refused(tmp_path: Path) -> None:
    lines = told(REFUSED, tmp_path)
    assert len(lines) == 7
    assert all(line.startswith("threads: expected an integer from 1 ") for line in lines)
    assert [line.rsplit(" ", 1)[1] for line in lines] == [
        "0", "-1", "'many'", "1.5", "True", "1000000", str(2**64)
    ]  # fmt: skip


CERTIFIED = """
import numpy as np
from nnprune import _core
def network(kernel, after):
    builder = _core.NetworkBuilder()
    builder.input("x", [3])
    builder.dense("h", "x", kernel)
    builder.activation("a", "h", "relu")
    builder.dense("out", "a", after)
    return builder.build(["out"])
kernel, after = np.ones((3, 4), np.float32), np.ones((4, 2), np.float32)
merged = np.array([[2.0, 2.0], [1.0, 1.0], [1.0, 1.0]], np.float32)
found = getattr(_core, CALL)(
    network(kernel, after), network(kernel[:, 1:], merged), [np.zeros(3)], [np.ones(3)],
    [("h", 0, 1)],
)
print(bool(np.all(found["upper"] < 1e-3)))
"""


@pytest.mark.parametrize("call", ["certify", "verify"])
def test_certificates_may_be_the_first_work_of_a_process(call: str, tmp_path: Path) -> None:
    assert told(f"CALL = {call!r}{CERTIFIED}", tmp_path) == ["True"]


FORKED = """
import os, signal
work()
if os.fork() == 0:
    signal.alarm(60)
    try:
        work()
    except nnprune.errors.ConfigError as error:
        print("spawn" in str(error), flush=True)
    os._exit(0)
os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_copy_of_a_process_that_has_threads_is_told_so(tmp_path: Path) -> None:
    assert told(f"{ENGINE}import nnprune{FORKED}", tmp_path) == ["True"]


ASKED = """
import nnprune
def told(call):
    try:
        print(call())
    except nnprune.errors.ConfigError as error:
        print(error)
"""


def test_what_is_asked_for_goes_before_the_variable_and_that_before_the_cores(
    tmp_path: Path,
) -> None:
    script = ASKED + "told(nnprune.threads); nnprune.set_threads(5); told(nnprune.threads)"
    assert told(script, tmp_path, RAYON_NUM_THREADS="3") == ["3", "5"]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for nothing in ("", "0"):
        [free, asked] = told(script, tmp_path, RAYON_NUM_THREADS=nothing)
        assert 1 <= int(free) <= (cores or 1)  # a container may have been given fewer
        assert asked == "5"
    for wrong in ("many", "-1", "1000000"):
        [error, asked] = told(script, tmp_path, RAYON_NUM_THREADS=wrong)
        assert error.startswith("RAYON_NUM_THREADS: expected an integer from 1 to 4096, got ")
        assert f"'{wrong}'" in error
        assert asked == "5"


def test_a_wrong_variable_is_told_of_by_the_work_itself(tmp_path: Path) -> None:
    script = ENGINE + ASKED + "told(work); nnprune.set_threads(1); told(work)"
    [error, done] = told(script, tmp_path, RAYON_NUM_THREADS="many")
    assert error.startswith("RAYON_NUM_THREADS: ")
    assert done == "None"


def test_the_number_stands_once_the_engine_has_worked(tmp_path: Path) -> None:
    script = ENGINE + ASKED + "nnprune.set_threads(9); nnprune.set_threads(2); work()\n"
    script += "told(lambda: nnprune.set_threads(3)); nnprune.set_threads(2); told(nnprune.threads)"
    [error, count] = told(script, tmp_path, RAYON_NUM_THREADS="4")
    assert error == (
        "threads: the engine of this process has had 2 since its first work; ask for 3 before "
        "that, or in a new process"
    )
    assert count == "2"


COUNTED = """
import os
from pathlib import Path

def names():
    found = []
    for task in os.listdir("/proc/self/task"):
        found.append(Path("/proc/self/task", task, "comm").read_text().strip())
    return found

def ours():
    return sum(name.startswith("nnprune-") for name in names())
"""

BESIDE = (
    ENGINE
    + COUNTED
    + """
from nnprune.parallelism import use_threads
use_threads(COUNT)
import tensorflow as tf
def compute():
    return tf.linalg.matmul(tf.ones((600, 600)), tf.ones((600, 600))).numpy()
compute()
alone = len(names())
work()
compute()
work()
print(alone, ours(), len(names()) - alone)
"""
)


@pytest.mark.skipif(sys.platform != "linux", reason="counts the threads in /proc")
@pytest.mark.parametrize("count", [1, 3])
def test_engine_and_tensorflow_in_one_process_have_the_threads_asked_for(
    tmp_path: Path, count: int
) -> None:
    [line] = told(BESIDE.replace("COUNT", str(count)), tmp_path)
    alone, ours, added = map(int, line.split())
    # TensorFlow has two pools and two threads that only wait, and NumPy may have one of its own.
    assert alone <= 3 * count + 2
    # The engine starts its pool, and nobody starts anything for it.
    assert ours == added == count


def test_the_option_gives_the_same_bytes_on_any_number_of_threads(tmp_path: Path) -> None:
    script = "import sys; from nnprune.cli import main; sys.argv[0] = 'nnprune'; main()"
    digests = set()
    for options, variables in (
        (["--threads", "1"], {"RAYON_NUM_THREADS": "2"}),
        (["--threads", "2"], {"RAYON_NUM_THREADS": "1"}),
        ([], {"RAYON_NUM_THREADS": "1"}),
    ):
        small = tmp_path / "small.keras"
        command = ["prune", str(DIGITS), "-o", str(small), "--target", "0.5", "--overwrite"]
        done = subprocess.run(
            [sys.executable, "-c", script, *command, "--quiet", *options],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **variables},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert not done.stderr
        with zipfile.ZipFile(small) as archive:
            config, weights = map(archive.read, ("config.json", "model.weights.h5"))
        digests.add(hashlib.sha256(config + weights).hexdigest())
    assert len(digests) == 1


@pytest.mark.parametrize("command", ["prune", "evaluate", "compare", "certify", "verify", "sweep"])
@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_the_command_line_names_a_wrong_number(
    capsys: pytest.CaptureFixture[str], command: str, number: str
) -> None:
    assert run([command, "model.keras", "--threads", number]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "--threads" in line
