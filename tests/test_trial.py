"""What a trial by a new user found, kept as tests: whole prunings of awkward models."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import nnprune
import numpy as np
import pytest
from keras import layers
from nnprune import cli, errors


def small_mlp(**compile_settings: Any) -> keras.Model:
    model = keras.Sequential(
        [layers.Input((6,)), layers.Dense(12, "relu"), layers.Dense(2, name="out")]
    )
    if compile_settings:
        model.compile(**compile_settings)
    return model


def own_loss(truth: Any, predicted: Any) -> Any:
    return keras.ops.mean(keras.ops.abs(truth - predicted))


def test_a_live_lambda_layer_is_cloned() -> None:
    model = keras.Sequential(
        [layers.Input((4,)), layers.Lambda(lambda x: 2 * x), layers.Dense(6), layers.Dense(3)]
    )
    smaller = nnprune.prune(model, target=0.5).model
    assert smaller.layers[1].units == 3
    x = np.ones((2, 4), np.float32)
    np.testing.assert_allclose(smaller.layers[0](x), 2 * x)


def test_a_trusted_lambda_file_is_pruned(tmp_path: Path) -> None:
    model = keras.Sequential(
        [layers.Input((4,)), layers.Lambda(lambda x: 2 * x), layers.Dense(6), layers.Dense(3)]
    )
    model.save(tmp_path / "lambda.keras")
    with pytest.raises(errors.UntrustedModelError, match="trust"):
        nnprune.prune(tmp_path / "lambda.keras", target=0.5)
    result = nnprune.prune(tmp_path / "lambda.keras", target=0.5, trust=True)
    assert result.trusted
    assert "trusted" in result.summary()


def test_the_loss_of_a_live_model_is_kept() -> None:
    model = small_mlp(optimizer="adam", loss=own_loss)
    smaller = nnprune.prune(model, target=0.5).model
    assert smaller.compiled
    assert smaller.loss is own_loss
    smaller.fit(np.ones((4, 6)), np.ones((4, 2)), verbose=0)


def test_merged_weights_that_do_not_fit_into_float16_are_refused() -> None:
    model = keras.Sequential(
        [
            layers.Input((6,), dtype="float16"),
            layers.Dense(12, "relu", dtype="float16"),
            layers.Dense(2, dtype="float16", name="out"),
        ]
    )
    model.layers[1].kernel.assign(np.full((12, 2), 30000.0))
    with pytest.raises(errors.WeightError, match=r"'out'.*float16"):
        nnprune.prune(model, target=0.75)


def test_an_h5_file_that_keras_cannot_read_back_is_refused(tmp_path: Path) -> None:
    inputs = layers.Input((8,))
    model = keras.Model(inputs, layers.Dense(2)(keras.ops.relu(layers.Dense(12)(inputs))))
    result = nnprune.prune(model, target=0.5)
    with pytest.raises(errors.OutputError, match=r"use \.keras"):
        result.save(tmp_path / "small.h5")
    assert list(tmp_path.iterdir()) == []
    result.save(tmp_path / "small.keras")


def test_impacts_go_by_the_layers_that_users_know() -> None:
    inputs = layers.Input((4,))
    hidden = layers.Dense(8, "relu")(inputs)
    heads = [layers.Dense(1, "relu", name="amount")(hidden), layers.Dense(3, name="kind")(hidden)]
    result = nnprune.prune(keras.Model(inputs, heads), target=0.5)
    assert {name: len(lower) for name, (lower, _) in result.impact.items()} == {
        "amount": 1,
        "kind": 3,
    }


@pytest.mark.parametrize("text", ["1e400", "1e-99999999", "1/0", "1" * 5000 + "/3", "", "/"])
def test_odd_fractions_are_refused_at_once(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.run(["prune", "nowhere.keras", "-o", "small.keras", f"--target={text}"])
    assert status == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"target": "0.5"},
        {"target": True},
        {"target": 0.5, "seed": 1.5},
        {"target": 0.5, "seed": None},
        {"target": 0.5, "outgoing": None},
        {"target": 0.5, "method": nnprune.Greedy(pool=-3)},
        {"target": 0.5, "method": nnprune.Annealing(rewalks=-1)},
        {"target": 0.5, "method": "annealing"},
    ],
)
def test_options_of_the_wrong_kind_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(errors.ConfigError, match=r"target|seed|outgoing|pool|rewalks|method"):
        nnprune.prune("nowhere.keras", **options)


def test_a_pipe_without_unicode_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "空.keras"
    keras.Sequential([layers.Input((3,)), layers.Dense(4, name="dé nse"), layers.Dense(2)]).save(
        path
    )
    for arguments in (["inspect", str(path)], ["inspect", str(path), "--json"]):
        done = subprocess.run(
            [sys.executable, "-c", "from nnprune.cli import main; main()", *arguments],
            capture_output=True,
            env={"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin", "LANG": "C.UTF-8"},
            check=True,
        )
        assert done.stdout.isascii()
        assert b" nse" in done.stdout


def test_bounds_files_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.npz").write_text("no numbers")
    with io.BytesIO() as plain:
        np.save(plain, np.zeros(3))
        (tmp_path / "array.npz").write_bytes(plain.getvalue())
    for name in ("text.npz", "array.npz"):
        arguments = ["prune", "m.keras", "-o", str(tmp_path / "s.keras"), "--target", "0.5"]
        assert cli.run([*arguments, "--input-bounds", str(tmp_path / name)]) == 1
        error = capsys.readouterr().err
        assert name in error
        assert "np.savez" in error
        assert "pickle" not in error


def test_a_layer_too_wide_for_its_distances_is_left_alone() -> None:
    model = keras.Sequential([layers.Input((1,)), layers.Dense(40_000), layers.Dense(1)])
    report = nnprune.inspect(model)
    assert "32768" in str(report.layers[0].reason)
    with pytest.raises(errors.NothingToPruneError, match="32768"):
        nnprune.prune(model, target=0.5)


def test_an_h5_file_with_a_loss_of_its_authors_own_comes_uncompiled(tmp_path: Path) -> None:
    model = small_mlp(optimizer="adam", loss=own_loss)
    model.save(tmp_path / "own.h5")
    with pytest.warns(UserWarning, match="without its compile settings"):
        result = nnprune.prune(tmp_path / "own.h5", target=0.5)
    assert not result.model.compiled


@pytest.mark.parametrize("axis", [-1, 1])
def test_a_regression_head_without_its_last_axis_is_pruned(axis: int) -> None:
    inputs = layers.Input((8,))
    amount = keras.ops.squeeze(layers.Dense(1)(layers.Dense(6, "relu")(inputs)), axis)
    model = keras.Model(inputs, [amount, keras.ops.expand_dims(amount, axis)])
    result = nnprune.prune(model, target=0.5)
    assert result.layers[0].units_after == 3
    x = np.ones((2, 8), np.float32)
    assert [y.shape for y in result.model(x)] == [y.shape for y in model(x)]
