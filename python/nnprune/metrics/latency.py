"""How long one evaluation takes: a LiteRT model on one thread of this machine's processor."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnprune.errors import ConfigError

if TYPE_CHECKING:
    from nnprune.keras_io.input_box import InputBox

__all__ = ["Latency", "measure_latency"]

# Different inputs that the runs take turns with.
_INPUTS = 16
_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Time of one evaluation, on this machine's processor: not on the device it is meant for.

    Attributes
    ----------
    runtime : str
        What ran the model, with its version.
    device : str
        The processor.
    threads, batch : int
        Threads, and samples at a time.
    warmup, runs : int
        Evaluations before, and those that were timed.
    p50_seconds, p90_seconds, min_seconds : float
        Median, 90 % quantile and minimum of the time of one evaluation.
    """

    runtime: str
    device: str
    threads: int
    batch: int
    warmup: int
    runs: int
    p50_seconds: float
    p90_seconds: float
    min_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)


def measure_latency(
    litert: bytes,
    *,
    input_box: InputBox | None = None,
    runs: int = 200,
    warmup: int = 20,
    seed: int = 0,
) -> Latency:
    """Time a LiteRT model on one thread, one sample at a time.

    Only the evaluation itself is timed, not the copying of inputs and outputs.

    Parameters
    ----------
    litert : bytes
        The model, see `nnprune.keras_io.export.export_litert`.
    input_box : InputBox, optional
        Where the inputs are drawn from; [0, 1] by default.
    runs : int, default 200
        Evaluations to time, at least 1.
    warmup : int, default 20
        Evaluations before these.
    seed : int, default 0
        Seed of the random inputs.

    Returns
    -------
    Latency
        The times.

    Raises
    ------
    MissingExtraError
        ai-edge-litert is not installed.
    ConfigError
        `runs` or `warmup` is out of range, or the box is not that of the model's inputs.
    ModelError
        LiteRT cannot run the model.
    """
    from nnprune.keras_io.litert_runtime import interpreter, litert_version

    if runs < 1:
        raise ConfigError(f"runs: expected at least 1, got {runs}")
    if warmup < 0:
        raise ConfigError(f"warmup: expected at least 0, got {warmup}")
    runtime = f"LiteRT {litert_version()}"
    opened = interpreter(litert)
    details = opened.get_input_details()
    inputs = _inputs(details, input_box, seed)
    nanoseconds = [
        _timed(opened, details, [one[number % _INPUTS] for one in inputs])
        for number in range(warmup + runs)
    ][warmup:]
    seconds = np.asarray(nanoseconds, np.float64) / 1e9
    return Latency(
        runtime=runtime,
        device=_processor(),
        threads=1,
        batch=1,
        warmup=warmup,
        runs=runs,
        p50_seconds=float(np.quantile(seconds, 0.5)),
        p90_seconds=float(np.quantile(seconds, 0.9)),
        min_seconds=float(seconds.min()),
    )


def _timed(opened: Any, details: Sequence[Any], inputs: Sequence[NDArray[Any]]) -> int:
    """Evaluate once; the time in nanoseconds."""
    for detail, one in zip(details, inputs, strict=True):
        opened.set_tensor(detail["index"], one[np.newaxis])
    start = time.perf_counter_ns()
    opened.invoke()
    return time.perf_counter_ns() - start


def _inputs(
    details: Sequence[Any], input_box: InputBox | None, seed: int
) -> list[NDArray[np.generic]]:
    """Draw inputs in the runtime's order, which need not be Keras'."""
    from nnprune.keras_io.box_samples import inside

    random = np.random.default_rng(seed)
    bounds = [] if input_box is None else list(zip(input_box.lower, input_box.upper, strict=True))
    inputs = []
    for detail in details:
        shape = tuple(int(axis) for axis in detail["shape"][1:])
        lower, upper = np.zeros(shape), np.ones(shape)
        if input_box is not None:
            fitting = [place for place, (low, _) in enumerate(bounds) if low.shape == shape]
            if not fitting:
                raise ConfigError(f"input_box: has no bounds for an input of shape {shape}")
            lower, upper = bounds.pop(fitting[0])
        dtype = np.dtype(detail["dtype"]).name
        inputs.append(inside(lower, upper, count=_INPUTS, dtype=dtype, random=random))
    return inputs


def _processor() -> str:
    """Name the processor's model."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # no Linux
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    return platform.processor() or platform.machine() or "unknown"
