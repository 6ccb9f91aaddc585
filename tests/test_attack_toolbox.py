"""AutoPGD and Square through the Adversarial Robustness Toolbox: the extra `attacks`."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
from nnprune.attacks.gradient_sign import Attacker
from nnprune.attacks.options import AutoPGD, Square
from nnprune.attacks.toolbox import Toolbox, _Grid, check_toolbox
from nnprune.errors import BackendError, ConfigError, MissingExtraError
from nnprune.keras_io.logits import LogitsModel, logits_model

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

needs_toolbox = pytest.mark.skipif(
    importlib.util.find_spec("art") is None,
    reason="the Adversarial Robustness Toolbox is not installed (extra `attacks`)",
)

EPSILON = 0.1
AUTO_PGD = AutoPGD(EPSILON, steps=10)
SQUARE = Square(EPSILON, queries=100)
BOTH = [pytest.param(AUTO_PGD, id="auto_pgd"), pytest.param(SQUARE, id="square")]


@pytest.fixture(scope="module")
def digits() -> LogitsModel:
    with resources.as_file(resources.files("nnprune") / "demo_files" / "digits.keras") as path:
        return logits_model(keras.saving.load_model(path, compile=False))


@pytest.fixture(scope="module")
def samples() -> tuple[Floats, Labels]:
    with resources.as_file(resources.files("nnprune") / "demo_files" / "digits.npz") as path:
        data = np.load(path)
        x = data["x_test"].astype(np.float32) / 16
        return x[:150], data["y_test"].astype(np.int64)[:150]


def first(samples: tuple[Floats, Labels], count: int) -> tuple[Floats, Labels]:
    return samples[0][:count], samples[1][:count]


def classes(model: LogitsModel, x: Any) -> Labels:
    logits = np.asarray(model.model(x))
    if logits.shape[1] == 1:
        return np.asarray(logits[:, 0] > 0, np.int64)
    return np.asarray(np.argmax(logits, axis=1), np.int64)


def robust(model: LogitsModel, x: Floats, y: Labels, attacked: Any) -> int:
    return int(np.sum((classes(model, x) == y) & (classes(model, attacked) == y)))


def linear(weights: Floats, head: str, bias: float = 0.0) -> LogitsModel:
    """Return a model of one dense layer."""
    dense = keras.layers.Dense(weights.shape[1], head)
    model = keras.Sequential([keras.Input((weights.shape[0],)), dense])
    dense.set_weights([weights, np.full(weights.shape[1], bias)])
    return logits_model(model)


@needs_toolbox
def test_auto_pgd_finds_what_pgd_finds(digits: LogitsModel, samples: tuple[Floats, Labels]) -> None:
    x, y = samples
    seven, _ = Attacker(digits.model, 0.0, 1.0).pgd(x, y, EPSILON, steps=7)
    found = Toolbox(digits, 0.0, 1.0).adversarial(AutoPGD(EPSILON, steps=20), x, y, EPSILON, seed=0)
    clean, by_pgd, by_auto_pgd = (robust(digits, x, y, z) for z in (x, seven, found))
    assert by_auto_pgd <= by_pgd + 2
    assert by_auto_pgd < clean / 2


@needs_toolbox
def test_restarts_find_more(digits: LogitsModel, samples: tuple[Floats, Labels]) -> None:
    toolbox = Toolbox(digits, 0.0, 1.0)
    counts = [
        robust(
            digits,
            *samples,
            toolbox.adversarial(
                AutoPGD(EPSILON, steps=5, restarts=restarts), *samples, EPSILON, seed=0
            ),
        )
        for restarts in (1, 8)
    ]
    assert counts[1] < counts[0]


@needs_toolbox
def test_logits_ratio_is_a_loss_too(digits: LogitsModel, samples: tuple[Floats, Labels]) -> None:
    x, y = samples
    attack = AutoPGD(EPSILON, loss="dlr", steps=20)
    found = Toolbox(digits, 0.0, 1.0).adversarial(attack, x, y, EPSILON, seed=0)
    assert robust(digits, x, y, found) < robust(digits, x, y, x) / 1.8


@needs_toolbox
def test_square_finds_much_without_gradients(
    digits: LogitsModel, samples: tuple[Floats, Labels]
) -> None:
    x, y = samples
    toolbox = Toolbox(digits, 0.0, 1.0)
    counts = [
        robust(digits, x, y, toolbox.adversarial(Square(0.1, queries=n), x, y, EPSILON, seed=0))
        for n in (20, 400)
    ]
    assert counts[1] < counts[0] < robust(digits, x, y, x)
    assert counts[1] < robust(digits, x, y, x) / 1.8


@needs_toolbox
@pytest.mark.parametrize("attack", BOTH)
def test_ball_and_box_are_kept_to_the_last_bit(
    digits: LogitsModel, samples: tuple[Floats, Labels], attack: AutoPGD | Square
) -> None:
    x, y = samples
    lower, upper = np.zeros(64, np.float32), np.linspace(0.5, 1.0, 64, dtype=np.float32)
    lower[:8] = upper[:8] = 0.25  # features that have one value
    x = np.clip(x, lower, upper)
    found = Toolbox(digits, lower, upper).adversarial(attack, x, y, 0.07, seed=1)
    assert found.dtype == np.float32
    assert found.shape == x.shape
    assert np.all(found >= np.maximum(x - np.float32(0.07), lower))
    assert np.all(found <= np.minimum(x + np.float32(0.07), upper))
    np.testing.assert_array_equal(found[:, :8], 0.25)
    moved = np.any(found != x, axis=1)
    np.testing.assert_array_equal(moved, classes(digits, x) == y)  # the others need no attack


@needs_toolbox
@pytest.mark.parametrize("attack", BOTH)
def test_seed_decides_and_the_global_generator_is_left_alone(
    digits: LogitsModel, samples: tuple[Floats, Labels], attack: AutoPGD | Square
) -> None:
    x, y = first(samples, 40)
    toolbox = Toolbox(digits, 0.0, 1.0)
    np.random.seed(11)
    one = toolbox.adversarial(attack, x, y, EPSILON, seed=[2**63, 3])
    drawn = np.random.random()
    np.random.seed(12)
    again = Toolbox(digits, 0.0, 1.0).adversarial(attack, x, y, EPSILON, seed=[2**63, 3])
    other = toolbox.adversarial(attack, x, y, EPSILON, seed=[2**63, 4])
    np.testing.assert_array_equal(one, again)
    assert np.any(one != other)
    np.random.seed(11)
    assert drawn == np.random.random()


@needs_toolbox
@pytest.mark.parametrize("attack", BOTH)
def test_nothing_is_printed_or_logged(
    digits: LogitsModel,
    samples: tuple[Floats, Labels],
    attack: AutoPGD | Square,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    x, y = first(samples, 20)
    with caplog.at_level("INFO"):
        Toolbox(digits, 0.0, 1.0).adversarial(attack, x, y, EPSILON, seed=0)
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.name.startswith("art")] == []


@needs_toolbox
@pytest.mark.parametrize("head", ["sigmoid", "softmax"])
@pytest.mark.parametrize("steepness", [1.0, 1e3])
def test_linear_model_is_attacked_as_well_as_can_be(head: str, steepness: float) -> None:
    """FGSM is the best attack on a linear model of two classes, however confident it is."""
    random = np.random.default_rng(5)
    columns = 1 if head == "sigmoid" else 2
    weights = random.normal(size=(20, columns)).astype(np.float32)
    weights -= np.mean(weights, axis=0)
    model = linear(np.float32(steepness) * weights, head)
    x = random.random((100, 20), dtype=np.float32)
    y = classes(model, x)
    (best,) = Attacker(model.model, 0.0, 1.0).fgsm(x, y, [0.05])
    found = Toolbox(model, 0.0, 1.0).adversarial(AutoPGD(0.05, steps=20), x, y, 0.05, seed=0)
    assert 0 < robust(model, x, y, best) < 95
    assert robust(model, x, y, found) == robust(model, x, y, best)
    searched = Toolbox(model, 0.0, 1.0).adversarial(Square(0.05, queries=100), x, y, 0.05, seed=0)
    assert robust(model, x, y, best) <= robust(model, x, y, searched) < 100


@needs_toolbox
@pytest.mark.parametrize("attack", BOTH)
def test_logits_that_look_like_probabilities_are_none(attack: AutoPGD | Square) -> None:
    """At an input of ones, with which the toolbox tries, the logits are (0, 1)."""
    model = linear(np.full((4, 1), 0.25, np.float32), "sigmoid")
    x = np.full((3, 4), 0.5, np.float32)
    found = Toolbox(model, 0.0, 1.0).adversarial(attack, x, np.ones(3, np.int64), EPSILON, seed=0)
    assert np.all(np.mean(found, axis=1) < 0.5)


@needs_toolbox
def test_image_is_the_same_as_its_pixels(
    digits: LogitsModel, samples: tuple[Floats, Labels]
) -> None:
    inputs = keras.Input((8, 8, 1))
    logits = digits.model(keras.layers.Flatten()(inputs))
    images = logits_model(keras.Model(inputs, keras.layers.Softmax()(logits)))
    x, y = first(samples, 60)
    for attack in (AUTO_PGD, SQUARE):
        flat = Toolbox(digits, 0.0, 1.0).adversarial(attack, x, y, EPSILON, seed=7)
        found = Toolbox(images, 0.0, 1.0).adversarial(
            attack, x.reshape(-1, 8, 8, 1), y, EPSILON, seed=7
        )
        np.testing.assert_array_equal(found.reshape(x.shape), flat)


@needs_toolbox
@pytest.mark.parametrize("attack", BOTH)
@pytest.mark.parametrize("shape", [(1,), (2,), (7, 1), (3, 9), (2, 2, 3), (4, 4, 2, 2)], ids=str)
def test_inputs_of_every_shape(attack: AutoPGD | Square, shape: tuple[int, ...]) -> None:
    features = int(np.prod(shape))
    inputs = keras.Input(shape)
    dense = keras.layers.Dense(3, "softmax")
    model = keras.Model(inputs, dense(keras.layers.Flatten()(inputs)))
    random = np.random.default_rng(6)
    dense.set_weights([random.normal(size=(features, 3)), np.zeros(3)])
    logits = logits_model(model)
    x = random.uniform(0.3, 0.7, size=(30, *shape)).astype(np.float32)
    y = classes(logits, x)
    found = Toolbox(logits, 0.0, 1.0).adversarial(attack, x, y, EPSILON, seed=0)
    assert found.shape == x.shape
    moved = np.abs(found - x).reshape(30, -1).max(axis=1)
    assert np.all(moved > 0.0)
    assert np.max(moved) == pytest.approx(EPSILON)


@needs_toolbox
@pytest.mark.parametrize("attack", BOTH)
def test_gradient_that_is_no_number_stops_nothing(attack: AutoPGD | Square) -> None:
    """The slope of the root is infinite at 0, times a weight of 0."""
    inputs = keras.Input((4,))
    roots = keras.ops.sqrt(keras.ops.relu(inputs - 0.5))
    dense = keras.layers.Dense(2, "softmax")
    model = logits_model(keras.Model(inputs, dense(keras.layers.Concatenate()([roots, inputs]))))
    weights = np.zeros((8, 2))
    weights[4:, 1] = 1.0
    (last,) = [layer for layer in model.model.layers if isinstance(layer, keras.layers.Dense)]
    last.set_weights([weights, np.array([1.93, 0.0])])
    x = np.full((5, 4), 0.5, np.float32)
    x[:, 0] = 0.4
    x[0] = 0.6
    y = classes(model, x)
    found = Toolbox(model, 0.0, 1.0).adversarial(attack, x, y, EPSILON, seed=0)
    assert np.all(np.isfinite(found))
    assert robust(model, x, y, found) < 5


@needs_toolbox
@pytest.mark.parametrize("attack", BOTH)
def test_nothing_to_do(
    digits: LogitsModel, samples: tuple[Floats, Labels], attack: AutoPGD | Square
) -> None:
    x, y = first(samples, 10)
    toolbox = Toolbox(digits, 0.0, 1.0)
    np.testing.assert_array_equal(toolbox.adversarial(attack, x, y, 0.0, seed=0), x)
    assert toolbox.adversarial(attack, x[:0], y[:0], EPSILON, seed=0).shape == (0, 64)
    wrong = (classes(digits, x) + 1) % 10
    np.testing.assert_array_equal(toolbox.adversarial(attack, x, wrong, EPSILON, seed=0), x)


@needs_toolbox
def test_logits_ratio_needs_three_classes() -> None:
    model = linear(np.ones((4, 1), np.float32), "sigmoid")
    x, y = np.ones((2, 4), np.float32), np.ones(2, np.int64)
    with pytest.raises(ConfigError, match="has two classes; use loss='ce'"):
        Toolbox(model, 0.0, 1.0).adversarial(AutoPGD(0.1, loss="dlr"), x, y, 0.1, seed=0)
    with pytest.raises(ConfigError, match="has two classes"):
        check_toolbox(AutoPGD(0.1, loss="dlr"), 2)
    check_toolbox(AutoPGD(0.1, loss="dlr"), 3)


@pytest.mark.parametrize("missing", ["art", "art.attacks", "art.attacks.evasion"])
def test_missing_toolbox_is_said(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "art"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    if missing != "art":  # another package of that name
        monkeypatch.setitem(sys.modules, "art", type(sys)("art"))
    with pytest.raises(MissingExtraError, match=r"pip install 'nnprune-rs\[attacks\]'"):
        check_toolbox()


def test_other_backend_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(BackendError, match="not on 'jax'; use PGD"):
        check_toolbox()


@needs_toolbox
def test_import_is_late_and_leaves_the_log_files_open(tmp_path: Path) -> None:
    program = """
import logging, sys
logging.basicConfig(filename=sys.argv[1], filemode="w", level="INFO")
import nnprune.attacks.toolbox
assert not {"art", "keras", "tensorflow"} & set(sys.modules)
nnprune.attacks.toolbox.check_toolbox()
assert "art" in sys.modules
logging.info("still open")
"""
    log = tmp_path / "program.log"
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", program, str(log)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "still open" in log.read_text()


@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple),
    padding=st.sampled_from([0.0, 1.0]),
)
def test_grid_is_undone_and_larger_than_the_first_square(
    shape: tuple[int, ...], padding: float
) -> None:
    x = np.random.default_rng(0).uniform(2.0, 3.0, size=(2, *shape)).astype(np.float32)
    grid = _Grid.of(shape)
    images = grid.fold(x, padding=padding)
    np.testing.assert_array_equal(grid.unfold(images), x)
    assert np.count_nonzero(images != padding) == x.size
    side = images.shape[1]
    assert images.shape == (2, side, side, grid.channels)
    assert round((0.8 * side * side) ** 0.5) < side
    assert np.all(images[:, -1] == padding)
    assert np.all(images[:, :, -1] == padding)


def test_grid_keeps_images() -> None:
    sizes = {
        shape: (_Grid.of(shape).height, _Grid.of(shape).width, _Grid.of(shape).channels)
        for shape in ((28, 28), (32, 48, 3), (3, 32, 32), (64,), (50, 2))
    }
    assert sizes == {
        (28, 28): (28, 28, 1),
        (32, 48, 3): (32, 48, 3),
        (3, 32, 32): (56, 56, 1),
        (64,): (8, 8, 1),
        (50, 2): (10, 10, 1),
    }
