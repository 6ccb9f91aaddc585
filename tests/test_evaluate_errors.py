"""Evaluations that cannot be made: which error, in which words, and before any long work."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import nnprune
import numpy as np
import pytest
import tensorflow as tf
from evaluated import DIGITS, checked, digits, softmax
from nnprune.errors import (
    BackendError,
    BoundsError,
    ConfigError,
    DataError,
    FileFormatError,
    MissingExtraError,
    ModelError,
    NnpruneError,
    WeightError,
)
from nnprune.evaluation import evaluate as module
from numpy.typing import NDArray

layers = keras.layers


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no pass over the data begin."""

    def never(*_: Any, **__: Any) -> None:
        pytest.fail("the models were measured before the error was found")

    monkeypatch.setattr(module, "classify", never)
    monkeypatch.setattr(module, "regress", never)


def dense(outputs: int, activation: str | None = None, loss: Any = None) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(8, activation="relu"),
            layers.Dense(outputs, activation=activation, name="head"),
        ],
        name="mine",
    )
    if loss is not None:
        model.compile("sgd", loss)
    return model


def weighted(value: float) -> keras.Model:
    model = dense(10, "softmax")
    model.set_weights([np.full_like(weight, value) for weight in model.get_weights()])
    return model


def changed(x: NDArray[Any], at: tuple[int, ...], value: float) -> NDArray[Any]:
    other = x.copy()
    other[at] = value
    return other


# Data

DATA: dict[str, tuple[Callable[[Any, Any], tuple[Any, ...]], tuple[str, ...]]] = {
    "empty": (lambda x, y: (x[:0], y[:0]), ("no samples",)),
    "labels from 1": (lambda x, y: (x, y + 1), ("45 of 450 labels", "0..9", "subtract 1")),
    "negative labels": (lambda x, y: (x, y - 1), ("no class of the model", "smallest label -1")),
    "fractions for labels": (lambda x, y: (x, y / 2), ("no whole numbers", "regression")),
    "NaN labels": (lambda x, y: (x, np.where(y == 3, np.nan, y)), ("no whole numbers",)),
    "text for labels": (lambda x, y: (x, y.astype(str)), ("labels are text", "0 to 9")),
    "nine columns": (lambda x, y: (x, np.eye(10)[y][:, :9]), ("[N, 10]", "(9,)")),
    "not one-hot": (lambda x, y: (x, np.eye(10)[y] * 0.9), ("450 of 450 rows", "argmax")),
    "fewer labels": (lambda x, y: (x, y[:-1]), ("450 samples", "449")),
    "no labels": (lambda x, y: (x,), ("labels are missing",)),
    "no samples": (lambda x, y: (None, y), ("y: needs samples",)),
    "features": (lambda x, y: (x[:, :60], y), ("shape (60,)", "takes (64,)")),
    "images": (lambda x, y: (np.zeros((450, 28, 28)), y), ("shape (28, 28)", "(64,)")),
    "a single sample": (lambda x, y: (x[0], y[0]), ("single value",)),
    "complex": (lambda x, y: (x.astype(complex), y), ("complex",)),
    "NaN": (lambda x, y: (changed(x, (7, 3), np.nan), y), ("1 value is NaN", "sample 7")),
    "infinite": (lambda x, y: (changed(x, (7, 3), np.inf), y), ("1 value is NaN", "sample 7")),
    "bytes": (
        lambda x, y: ((255 * x).astype(np.uint8), y),
        ("values are outside the input box [0, 1]", "450 of 450 samples", "--scale 1/255"),
    ),
    "one outside": (
        lambda x, y: (changed(x, (5, 0), 1.5), y),
        ("1 value is outside", "in 1 of 450 samples (first in sample 5", "input_bounds"),
    ),
    "no file": (lambda x, y: ("missing.npz",), ("missing.npz: no such file",)),
    "a model for data": (lambda x, y: (DIGITS,), ("'x' and 'y'", "digits.keras")),
    "an object": (lambda x, y: (3.5,), ("'float' cannot be read",)),
    "endless": (
        lambda x, y: (tf.data.Dataset.from_tensor_slices((x, y)).batch(9).repeat(),),
        ("never end", "repeat()"),
    ),
}


@pytest.mark.parametrize("case", DATA)
def test_data_that_do_not_fit(case: str, no_work: None) -> None:
    make, words = DATA[case]
    error = ConfigError if case == "no samples" else DataError
    with pytest.raises(error) as caught:
        nnprune.evaluate(softmax()[1], *make(*digits()))
    for word in words:
        assert word in str(caught.value)


def test_streams_are_refused_where_they_go_wrong() -> None:
    x, y = digits()

    def late() -> Iterator[Any]:
        yield x[:256], y[:256]
        yield x[:10], y[:10] + 20

    def refused(words: str, data: Any) -> None:
        with pytest.raises(DataError, match=words):
            nnprune.evaluate(softmax()[1], data, attacks=())

    refused("y in samples 256 to 265: 10 of 10 labels are no class", late())
    refused("there are no samples", iter([]))
    refused("a pair", iter([x]))
    used = iter([(x, y)])
    nnprune.evaluate(softmax()[1], used, attacks=())
    refused("no samples", used)


def test_errors_of_a_stream_are_its_own() -> None:
    def broken() -> Iterator[Any]:
        yield digits()
        raise ZeroDivisionError("the user's own")

    with pytest.raises(ZeroDivisionError, match="the user's own"):
        nnprune.evaluate(softmax()[1], broken(), attacks=())


def test_every_error_is_one_of_ours() -> None:
    assert issubclass(DataError, NnpruneError)
    assert issubclass(DataError, ValueError)
    assert issubclass(MissingExtraError, ImportError)


# Models


def two_inputs() -> keras.Model:
    sources = [keras.Input((64,)), keras.Input((64,))]
    return keras.Model(sources, layers.Dense(10, "softmax")(layers.Add()(sources)))


def two_outputs() -> keras.Model:
    source = keras.Input((64,))
    return keras.Model(source, [layers.Dense(10, "softmax")(source), layers.Dense(2)(source)])


class Own(keras.Model):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.head = layers.Dense(10, activation="softmax")

    def call(self, x: Any) -> Any:
        return self.head(x)


def subclassed() -> keras.Model:
    model = Own()
    model(np.zeros((1, 64), np.float32))
    return model


def positions() -> keras.Model:
    return keras.Sequential([keras.Input((8, 8)), layers.Dense(10, activation="softmax")])


def integer_input() -> keras.Model:
    source = keras.Input((64,), dtype="uint8", name="bytes")
    return keras.Model(source, layers.Dense(10, "softmax")(layers.Rescaling(1 / 255)(source)))


NEITHER = ("neither logits, nor a sigmoid of one output, nor a softmax", "--task regression")
MODELS: dict[str, tuple[Callable[[], Any], type[Exception], tuple[str, ...]]] = {
    "two inputs": (two_inputs, ModelError, ("2 inputs", "evaluation takes one")),
    "two outputs": (two_outputs, ModelError, ("2 outputs", "evaluation takes one")),
    "subclassed": (subclassed, ModelError, ("call method of its own",)),
    "not built": (lambda: keras.Sequential([layers.Dense(3)]), ModelError, ("not built",)),
    "no model": (lambda: 3, ModelError, ("expected a keras.Model", "int")),
    "no file": (lambda: "missing.keras", FileFormatError, ("missing.keras: no such file",)),
    "a data file": (lambda: DIGITS.with_name("digits.npz"), FileFormatError, ("digits.npz",)),
    "NaN weights": (lambda: weighted(np.nan), WeightError, ("NaN",)),
    "a linear head": (lambda: dense(10), ModelError, ("'mine'", "'head'", "--task")),
    "another head": (
        lambda: dense(10, "relu", "sparse_categorical_crossentropy"),
        ModelError,
        NEITHER,
    ),
    "an unknown head": (lambda: dense(10, "tanh"), ModelError, NEITHER),
    "many sigmoids": (lambda: dense(10, "sigmoid", "binary_crossentropy"), ModelError, NEITHER),
    "softmax of one": (lambda: dense(1, "softmax"), ModelError, NEITHER),
    "a class at each position": (positions, ModelError, NEITHER),
    "bytes for inputs": (
        integer_input,
        ModelError,
        ("'bytes' is uint8", "attacks=()", "--no-attacks"),
    ),
}


@pytest.mark.parametrize("case", MODELS)
def test_models_that_cannot_be_evaluated(case: str, no_work: None) -> None:
    make, error, words = MODELS[case]
    with pytest.raises(error) as caught:
        nnprune.evaluate(make(), *digits())
    for word in words:
        assert word in str(caught.value)


def test_inputs_of_bytes_without_attacks() -> None:
    x, y = digits()
    pixels = (255 * x).astype(np.uint8)
    document = checked(
        nnprune.evaluate(integer_input(), pixels, y, attacks=(), input_bounds=(0, 255))
    )
    assert document["data"]["samples"] == 450


def test_models_that_do_not_belong_together(no_work: None) -> None:
    x, y = digits()

    def refused(model: keras.Model, *words: str, original: Any = DIGITS) -> None:
        with pytest.raises(ModelError) as caught:
            nnprune.evaluate(model, x, y, original=original)
        for word in words:
            assert word in str(caught.value)

    refused(dense(9, "softmax"), "mine has outputs of shape [(9,)]", "digits.keras of shape")
    refused(positions(), "has inputs of shape [(8, 8)]")
    # A head of another kind would be compared with logits.
    refused(dense(10, "relu"), "neither logits")
    with pytest.raises(ModelError, match="mine has outputs"):
        nnprune.compare([softmax()[0], dense(9, "softmax")], x, y)


def test_logits_that_are_not_finite() -> None:
    x, y = digits()
    with pytest.raises(ModelError, match=r"mine: the model gives NaN or infinite logits for 256"):
        nnprune.evaluate(weighted(1e30), x, y, original=DIGITS)
    model = dense(1, None, "mse")
    model.set_weights([np.full_like(weight, 1e30) for weight in model.get_weights()])
    with pytest.raises(ModelError, match="mine: the model gives NaN or infinite outputs"):
        nnprune.evaluate(model, x, y)


# Options

RECORD = {
    "target": 0.5,
    "step": 0.1,
    "method": {"name": "greedy"},
    "seed": 0,
    "stopped_by": "target",
}
OPTIONS: dict[str, tuple[dict[str, Any], type[Exception], tuple[str, ...]]] = {
    "task": ({"task": "ranking"}, ConfigError, ("task", "'ranking'")),
    "bins": ({"bins": 0}, ConfigError, ("bins", "got 0")),
    "batch size": ({"batch_size": 0}, ConfigError, ("batch_size", "got 0")),
    "half a batch": ({"batch_size": 2.5}, ConfigError, ("batch_size", "2.5")),
    "scale": ({"scale": 0}, ConfigError, ("scale must not be 0",)),
    "offset": ({"offset": np.nan}, ConfigError, ("offset must be a finite number",)),
    "bounds": ({"input_bounds": (1, 0)}, BoundsError, ("lower bound is above",)),
    "no list": ({"attacks": nnprune.FGSM(0.1)}, ConfigError, ("attacks", "a list")),
    "no attack": ({"attacks": ["fgsm:0.1"]}, ConfigError, ("attacks", "nnprune.FGSM")),
    "trace": ({"pruning": {"trace": []}}, ConfigError, ("pruning", "PruningResult.to_dict()")),
    "epochs": ({"pruning": {**RECORD, "trace": [{"epoch": 0}]}}, ConfigError, ("pruning",)),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_wrong_options(case: str, no_work: None) -> None:
    options, error, words = OPTIONS[case]
    with pytest.raises(error) as caught:
        nnprune.evaluate(softmax()[1], *digits(), **options)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value"), [("scale", 0.5), ("offset", 1.0), ("attacks", [nnprune.FGSM(0.1)])]
)
def test_options_for_data_that_are_not_there(option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"{option}: needs samples.*--data"):
        nnprune.evaluate(softmax()[1], **{option: value})


def test_a_regression_is_not_attacked(no_work: None) -> None:
    x, y = digits()
    model = dense(1, None, "mse")
    with pytest.raises(ConfigError, match="attacks: a regression model has no classes"):
        nnprune.evaluate(model, x, y, attacks=[nnprune.FGSM(0.1)])
    with pytest.raises(DataError, match=r"target has shape \(\), the model's output \(10,\)"):
        nnprune.evaluate(dense(10, None, "mse"), x, y)


@pytest.mark.parametrize("models", [[], {}, "small.keras", None])
def test_nothing_to_compare(models: Any) -> None:
    with pytest.raises(ConfigError, match="models: expected"):
        nnprune.compare(models)


def test_a_missing_extra_is_found_at_once(no_work: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nnprune-rs\[litert\]'"):
        nnprune.evaluate(softmax()[1], *digits(), litert=True)
    monkeypatch.setitem(sys.modules, "art", None)
    monkeypatch.setitem(sys.modules, "art.attacks.evasion", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nnprune-rs\[attacks\]'"):
        nnprune.evaluate(softmax()[1], *digits(), attacks=[nnprune.Square(0.1)])


def test_a_backend_without_gradients(no_work: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnprune.gradients.backend", lambda: "numpy")
    with pytest.raises(BackendError, match="KERAS_BACKEND"):
        nnprune.evaluate(softmax()[1], *digits())


# Pruning that is watched


class Changing:
    """Gives more samples in the second pass than in the first."""

    def __init__(self) -> None:
        self.passes = itertools.count(1)

    def __iter__(self) -> Iterator[Any]:
        return itertools.repeat(digits(), next(self.passes))


def test_samples_must_come_in_the_same_order_each_time() -> None:
    """Else agreement with the original would compare different samples."""
    shuffled = tf.data.Dataset.from_tensor_slices(digits()).shuffle(450, seed=0)
    for data in (shuffled.batch(100), Changing()):
        with pytest.raises(DataError, match=r"same order.*reshuffle_each_iteration"):
            nnprune.prune(DIGITS, target=0.2, step=0.1, evaluate=data, attacks=[])
    fixed = tf.data.Dataset.from_tensor_slices(digits()).shuffle(
        450, seed=0, reshuffle_each_iteration=False
    )
    result = nnprune.prune(DIGITS, target=0.1, step=0.1, evaluate=fixed.batch(100), attacks=[])
    assert result.trace[-1].evaluation is not None
    assert result.trace[-1].evaluation.agreement.value > 0.9


class Relabelled:
    """Gives one sample another label in the second pass."""

    def __init__(self) -> None:
        self.passes = itertools.count()

    def __iter__(self) -> Iterator[Any]:
        x, y = digits()
        y = y.copy()
        y[200] = (y[200] + next(self.passes)) % 10
        yield x, y


def test_labels_must_be_the_same_each_time() -> None:
    with pytest.raises(DataError, match="samples and labels are not the same"):
        nnprune.prune(DIGITS, target=0.2, step=0.1, evaluate=Relabelled(), attacks=[])


def test_an_iterator_cannot_watch_a_pruning() -> None:
    with pytest.raises(DataError, match="an iterator can be read only once"):
        nnprune.prune(DIGITS, target=0.2, evaluate=iter([digits()]))


def test_a_model_that_does_not_tell_its_task_is_watched_as_a_classifier() -> None:
    model = dense(10)
    result = nnprune.prune(model, target=0.5, step=0.5, evaluate=digits(), attacks=[])
    x, y = digits()
    correct = int(np.sum(np.argmax(model.predict(x, verbose=0), axis=1) == y))
    assert result.original_evaluation is not None
    assert result.original_evaluation.accuracy.count == correct


def test_files_are_looked_for_before_anything_else(
    no_work: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing data file is told before a model is opened."""

    def never(*_: Any, **__: Any) -> None:
        pytest.fail("a model was opened")

    monkeypatch.setattr(module, "open_all", never)
    with pytest.raises(DataError, match="no such file"):
        nnprune.evaluate(DIGITS, tmp_path / "missing.npz")
    with pytest.raises(ConfigError, match="task"):
        nnprune.evaluate(DIGITS, task="ranking")
