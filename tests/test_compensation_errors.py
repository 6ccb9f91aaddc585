"""Compensation with bad options and samples, and on any number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from compensations import SEARCH, compensate, plain, samples_of
from networks import build
from nnprune import errors

BAD: list[tuple[dict[str, Any], str]] = [
    ({"targets": [0.0]}, "targets: expected fractions between 0 and 1"),
    ({"targets": []}, "targets: expected at least one target"),
    ({"ridge": -1.0}, "ridge: expected a number"),
    ({"ridge": float("nan")}, "ridge: expected a number"),
    ({"width_multiple": 0}, "width_multiple: expected an integer from 1"),
    ({"selection_ridge": -1.0}, "selection_ridge: expected a number"),
    ({"rule": "mean"}, "rule: expected least_squares, scaled or sum"),
    ({"rule": "scaled", "threshold": 1.5}, "threshold: expected a cosine"),
    ({"allocation": "local"}, "allocation: expected uniform or propagated"),
    ({"towards": "one"}, "towards: expected zero or unchanged"),
    ({"selection": {"name": "best"}}, "selection: expected elimination or search"),
    ({"selection": {"name": "search"}}, "selection: entry 'seconds'"),
    ({"selection": {**SEARCH, "moves": 0}}, "moves: expected an integer of at least 1"),
    ({"selection": {**SEARCH, "chains": 0}}, "chains: expected an integer from 1"),
    ({"selection": {**SEARCH, "heat": -1.0}}, "heat: expected a finite number"),
    ({"selection": {**SEARCH, "alpha": 2.0}}, "alpha: expected a number in"),
    ({"selection": {**SEARCH, "seconds": -1.0}}, "entry 'seconds'"),
    ({"kept": {"dense_0": []}}, "kept: expected 'dense_0': different units from 0 to 5"),
    ({"kept": {"dense_0": [6]}}, "kept: expected 'dense_0'"),
    ({"kept": {"dense_0": [1, 1]}}, "kept: expected 'dense_0'"),
    ({"kept": {"dense_0": [1]}, "targets": [0.5]}, "neither targets nor layers"),
    ({"metrics": {"dense_0": np.eye(6)}}, "metrics: expected 'dense_0': a node that reads"),
    ({"metrics": {"dense_1": np.eye(2)}}, "metrics: expected 'dense_1': finite values with 3"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    graph = plain(0, 6)
    with pytest.raises(errors.ConfigError, match=message):
        compensate(build(graph), samples_of(graph, 20, 0), **options)


def test_bad_samples_are_named() -> None:
    graph = plain(0, 6)
    network, (points,) = build(graph), samples_of(graph, 20, 0)
    with pytest.raises(errors.ConfigError, match="at least two samples, got 1"):
        compensate(network, [points[:1]])
    with pytest.raises(errors.ConfigError, match="input_0"):
        compensate(network, [points[:, :3]])
    with pytest.raises(errors.ConfigError, match="sample 3 holds NaN"):
        compensate(network, [np.where(np.arange(20)[:, None] == 3, np.nan, points)])
    huge = graph.replace({"dense_1": {"kernel": np.full((6, 3), 3e38, np.float32)}})
    with pytest.raises(errors.ConfigError, match="logits of 'dense_1' that are not finite"):
        compensate(build(huge), [points])


SCRIPT = """
import hashlib
import numpy as np
from compensations import SEARCH, compensate, samples_of
from networks import Sketch, build
sketch = Sketch(0)
at = sketch.input(90)
for count in (150, 140):
    at = sketch.activation(sketch.dense(at, count), "relu", {})
graph = sketch.graph(sketch.dense(at, 10))
network, points = build(graph), samples_of(graph, 1500, 0)
digest = hashlib.sha256()
for options in (
    {"selection": {**SEARCH, "chains": 3, "alpha": 0.75}},
    {"allocation": "propagated", "targets": [0.2], "logit_metric": True},
):
    (found,) = compensate(network, points, **options)
    digest.update(repr(found.layers).encode())
    for name in ("dense_0", "dense_1", "dense_2"):
        for weight in found.network.weights(name).values():
            digest.update(weight.tobytes())
print(digest.hexdigest())
"""


def digest_of_run(threads: int) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={
            **os.environ,
            "RAYON_NUM_THREADS": str(threads),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_any_number_of_threads_gives_the_same_bytes() -> None:
    assert digest_of_run(1) == digest_of_run(3)
