r"""Prune a model with the authors' public implementation, paoding-dl, and time its pruning loop.

Runs in the environment that make_environment.sh makes (Keras 2), on what hand_over.py wrote, and
writes a JSON document and the pruned weights of every target beside it:

    .venv-peer/bin/python benches/peer/run_peer.py build/peer/mnist.json --step 1/64 \
        [--strategy stochastic] [--targets 0.25 0.5] [--seed 0] [--limit-seconds 360]

README.md, in this folder, says what the package's terms mean and how its results differ.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np

# alpha and beta of the energy, the paper's and the authors' experiments' values.
ENERGY_WEIGHTS = (0.75, 0.25)
MODES = {"stochastic": "STOCHASTIC", "greedy": "IMPACT", "baseline": "BASELINE"}
TOLERANCE = 1e-5

# The package finds layers by words in their names.
KEYWORDS = {
    "Flatten": "flatten",
    "Dense": "dense",
    "Conv2D": "conv2d",
    "MaxPooling2D": "max_pooling2d",
}


class LimitReached(BaseException):
    """The run has used up its CPU time; not an Exception, which the package would swallow."""


@dataclass
class Point:
    """The network when a target was reached.

    Attributes
    ----------
    target
        The fraction of each layer's units asked for; None for a run that ended below its targets.
    epoch
        Epochs done until then.
    cpu_seconds, wall_seconds
        Time of the pruning loop until then.
    file
        Name of the ``.npz`` file of the weights.
    layers
        For each pruned layer: its units; the pairs that the package says it has merged; the
        different units among those merged away; the units that no weight leaves any more.
    """

    target: float | None
    epoch: int
    cpu_seconds: float
    wall_seconds: float
    file: str
    layers: list[dict[str, Any]]


@dataclass
class Recorder:
    """Stands in front of the sampler's `nominate` and notes what each epoch did and took."""

    nominate: Any
    names: list[str]
    targets: list[float]
    step: float
    stem: Path
    epochs: list[dict[str, float]] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    pairs: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    progress: float = 0.0
    model: Any = None
    _own: tuple[float, float] = (0.0, 0.0)
    _start: tuple[float, float] = (0.0, 0.0)

    def start(self) -> None:
        """Start the clocks."""
        self._start = _clocks()

    def elapsed(self) -> tuple[float, float]:
        """Return CPU and wall-clock seconds since the start, without the recorder's own."""
        cpu, wall = (
            now - begun - own
            for now, begun, own in zip(_clocks(), self._start, self._own, strict=True)
        )
        return cpu, wall

    def __call__(self, model: Any, big_map: Any, **options: Any) -> Any:
        """Run an epoch of the package, then note it."""
        result = self.nominate(model, big_map, **options)
        elapsed = self.elapsed()
        entered = _clocks()
        self._note(result, *elapsed)
        cpu, wall = (now - then for now, then in zip(_clocks(), entered, strict=True))
        self._own = self._own[0] + cpu, self._own[1] + wall
        return result

    def _note(self, result: dict[str, Any], cpu: float, wall: float) -> None:
        merged = 0
        for name, pairs in zip(self.names, result["pruned_pairs"] or [], strict=False):
            if pairs:
                self.pairs.setdefault(name, []).extend((int(a), int(b)) for a, b in pairs)
                merged += len(pairs)
        self.epochs.append({"cpu_seconds": cpu, "wall_seconds": wall, "pairs": merged})
        self.model = result["model"]
        if not merged:
            return
        self.progress += self.step  # added up as the package does
        for target in self.targets:
            if target <= self.progress and all(point.target != target for point in self.points):
                self.save(target, cpu, wall)

    @property
    def epochs_since_point(self) -> int:
        """Epochs done since the last target was reached."""
        return len(self.epochs) - (self.points[-1].epoch if self.points else 0)

    def save(self, target: float | None, cpu: float, wall: float) -> None:
        """Write the weights of the network as it stands, and the units merged away."""
        weights = {
            f"{name}/{index}": weight
            for name, layer in zip(self.names, self.model.layers, strict=True)
            for index, weight in enumerate(layer.get_weights())
        }
        arrays: dict[str, Any] = {}
        layers = []
        for name, pairs in self.pairs.items():
            following = self.names[self.names.index(name) + 1]
            silent = np.flatnonzero(~weights[f"{following}/0"].any(axis=1))
            gone = np.unique([b for _, b in pairs])
            arrays |= {f"merged/{name}": gone, f"silent/{name}": silent}
            units = len(weights[f"{following}/0"])
            layers.append(
                {
                    "layer": name,
                    "units": units,
                    "pairs": len(pairs),
                    "different": len(gone),
                    "silent": len(silent),
                }
            )
        suffix = "end" if target is None else f"{100 * target:g}"
        path = self.stem.with_name(f"{self.stem.name}-{suffix}.npz")
        np.savez(path, **weights, **arrays)
        self.points.append(
            Point(
                target=target,
                epoch=len(self.epochs),
                cpu_seconds=cpu,
                wall_seconds=wall,
                file=path.name,
                layers=layers,
            )
        )


def _clocks() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def rebuild(description: dict[str, Any], arrays: Any) -> tuple[Any, float]:
    """Build the network in Keras 2; return it and its largest difference in the outputs."""
    keras: Any = importlib.import_module("tensorflow").keras
    model = keras.Sequential([keras.Input(tuple(description["input_shape"]))])
    for index, layer in enumerate(description["layers"]):
        settings = {key: value for key, value in layer.items() if key not in ("kind", "name")}
        name = f"{KEYWORDS[layer['kind']]}_{index}"
        model.add(getattr(keras.layers, layer["kind"])(name=name, **settings))
    for built, layer in zip(model.layers, description["layers"], strict=True):
        weights = [arrays[f"{layer['name']}/{index}"] for index in range(len(built.get_weights()))]
        built.set_weights(weights)
    outputs = model.predict(arrays["check/inputs"], verbose=0)
    difference = float(np.max(np.abs(outputs - arrays["check/outputs"])))
    if not difference <= TOLERANCE:
        sys.exit(f"{description['name']}: the rebuilt network differs by {difference:.2g}")
    return model, difference


def prepared(model: Any, path: Path, options: argparse.Namespace) -> Any:
    """Return the package's Pruner for a model; without test data, so that it evaluates nothing."""
    pruner_module: Any = importlib.import_module("paoding.pruner")
    sampler_module: Any = importlib.import_module("paoding.sampler")
    option_module: Any = importlib.import_module("paoding.utility.option")
    model.save(path)
    sampler = sampler_module.Sampler()
    sampler.set_strategy(
        mode=getattr(option_module.SamplingMode, MODES[options.strategy]), params=ENERGY_WEIGHTS
    )
    pruner = pruner_module.Pruner(
        str(path),
        test_set=None,
        target=max(options.targets),
        step=float(options.step),
        sample_strategy=sampler,
        input_interval=tuple(options.input_interval),
        model_type=option_module.ModelType.OTHER,
        seed_val=options.seed,
    )
    random.seed(options.seed)  # what annealing draws from; seed_val does not seed it
    pruner.load_model()
    return pruner


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Let nothing out of the package's banners, summaries and progress bars."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


@contextlib.contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """Raise LimitReached once the block has taken that much CPU time, or on SIGTERM."""

    def stop(*_: Any) -> None:
        raise LimitReached

    signal.signal(signal.SIGPROF, stop)
    signal.signal(signal.SIGTERM, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds or 0.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)


def prune(pruner: Any, recorder: Recorder, limit: float | None) -> str:
    """Run the package's pruning of dense layers; return what stopped it."""
    pruner.sampler.nominate = recorder
    recorder.start()
    try:
        with limited(limit), silence():
            pruner.prune_fc(evaluator=None, save_file=False, pruned_model_path="pruned")
    except LimitReached:
        return "limit"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if len(recorder.points) == len(recorder.targets):
        return "target"
    return "no pair left" if not recorder.epochs[-1]["pairs"] else "the package's own limit"


def processor() -> str:
    """Return the processor's name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def run(source: Path, options: argparse.Namespace) -> Path:
    """Do one run; return the path of its document."""
    description = json.loads(source.read_text())
    with np.load(source.with_suffix(".npz")) as archive:
        arrays = {name: archive[name] for name in archive.files}
    stem = source.with_name(f"{description['name']}-{options.strategy}-s{options.seed}")
    model, difference = rebuild(description, arrays)
    # The package writes its logs into the working folder.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        with silence():
            pruner = prepared(model, Path(folder) / "model.keras", options)
        recorder = Recorder(
            nominate=pruner.sampler.nominate,
            names=[layer["name"] for layer in description["layers"]],
            targets=sorted(options.targets),
            step=float(options.step),
            stem=stem,
        )
        stopped_by = prune(pruner, recorder, options.limit_seconds)
        cpu, wall = recorder.elapsed()
    if recorder.pairs and recorder.epochs_since_point:
        recorder.save(None, cpu, wall)
    document = surroundings() | {
        "model": description["name"],
        "sha256": description["sha256"],
        "largest_difference": difference,
        "strategy": options.strategy,
        "energy_weights": ENERGY_WEIGHTS,
        "targets": sorted(options.targets),
        "step": float(options.step),
        "seed": options.seed,
        "input_interval": options.input_interval,
        "stopped_by": stopped_by,
        "bounded": stopped_by == "limit",
        "limit_cpu_seconds": options.limit_seconds,
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "epochs": recorder.epochs,
        "points": [asdict(point) for point in recorder.points],
    }
    path = stem.with_name(f"{stem.name}.json")
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path


def surroundings() -> dict[str, Any]:
    """Return what ran, and on what."""
    return {
        "kind": "nnprune-peer-run",
        "package": f"paoding-dl {importlib.import_module('paoding').__version__}",
        "tensorflow": importlib.import_module("tensorflow").__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "processor": processor(),
        "processors": os.cpu_count(),
    }


def told(document: dict[str, Any]) -> str:
    """Return a run's times and counts as text."""
    lines = []
    for point in document["points"]:
        target = "end" if point["target"] is None else f"{point['target']:.0%}"
        counts = (
            f"{layer['layer']} {layer['silent']}/{layer['units']}" for layer in point["layers"]
        )
        times = f"{point['cpu_seconds']:9.1f} s CPU{point['wall_seconds']:9.1f} s"
        lines.append(f"{target:>5}{times}  {', '.join(counts)}")
    lines.append(
        f"{document['cpu_seconds']:.1f} s CPU in {len(document['epochs'])} epochs, stopped by "
        f"{document['stopped_by']}"
    )
    return "\n".join(lines)


def main() -> None:
    """Run, and print the times."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path, help="the .json file that hand_over.py wrote")
    parser.add_argument("--strategy", choices=MODES, default="stochastic")
    parser.add_argument("--targets", type=float, nargs="+", default=[0.25, 0.5])
    parser.add_argument("--step", type=Fraction, required=True, help="for example 1/64")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--input-interval", type=float, nargs=2, default=[0.0, 1.0])
    parser.add_argument("--limit-seconds", type=float, help="of CPU time, for the pruning loop")
    options = parser.parse_args()
    path = run(options.model.resolve(), options)
    print(path)
    print(told(json.loads(path.read_text())))


if __name__ == "__main__":
    main()
