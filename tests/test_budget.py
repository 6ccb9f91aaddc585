"""Budgets of certified change, and removals that cost nothing: on real models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import nnprune
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from keras import layers, ops
from nnprune import _core, cli, errors, gradients
from nnprune.options import Greedy, method_to_dict
from nnprune.report.render import load_schema
from numpy.typing import NDArray

Values = NDArray[np.float32]
Box = tuple[Values, Values]

MODELS = Path(__file__).resolve().parents[1] / "benches" / "models"
UNIT_BOX: Box = (np.zeros(5, np.float32), np.ones(5, np.float32))


def made(*hidden: tuple[int, str], outputs: int = 3, last: str = "linear") -> keras.Model:
    """Return a model whose biases are not 0."""
    keras.utils.set_random_seed(7)
    dense = [
        layers.Dense(units, activation=kind, bias_initializer="random_normal", name=f"dense_{at}")
        for at, (units, kind) in enumerate(hidden)
    ]
    return keras.Sequential(
        [keras.Input((5,)), *dense, layers.Dense(outputs, activation=last, name="last")]
    )


def with_near_twins() -> keras.Model:
    """Return a model in which half of the first units are nearly the other half."""
    model = made((16, "relu"), (10, "tanh"))
    layer = model.get_layer("dense_0")
    kernel, bias = (np.array(values) for values in layer.get_weights())
    gaps = np.float32(1.0) + np.geomspace(1e-6, 1e-1, 8, dtype=np.float32)
    kernel[:, 8:], bias[8:] = kernel[:, :8] * gaps, bias[:8] * gaps
    layer.set_weights([kernel, bias])
    return model


def points_of(box: Box, count: int) -> Values:
    """Return inner points and corners."""
    random = np.random.default_rng(0)
    share = random.random((count, *box[0].shape))
    share[count // 2 :] = share[count // 2 :] < 0.5
    return np.asarray(box[0] + share * (box[1] - box[0]), np.float32)


def largest_change(original: keras.Model, smaller: keras.Model, box: Box) -> float:
    """Look for the input that moves an output most: points, then steps along gradients' signs."""

    def change(x: Any) -> Any:
        return smaller(x) - original(x)

    start = points_of(box, 400)
    found = float(np.max(np.abs(gradients.to_numpy(change(start)))))
    for output in range(original.output_shape[-1]):
        for sign in (-1.0, 1.0):
            x = start[::4]
            for step in (0.3, 0.1, 0.03, 0.01):
                vector = np.zeros((len(x), original.output_shape[-1]), np.float32)
                vector[:, output] = sign
                _, gradient = gradients.vjp(
                    change, ops.convert_to_tensor(x), ops.convert_to_tensor(vector)
                )
                reach = step * (box[1] - box[0]) * np.sign(gradients.to_numpy(gradient))
                x = np.clip(x + reach, *box).astype(np.float32)
                found = max(found, float(np.max(np.abs(gradients.to_numpy(change(x))))))
    return found


def certified(result: nnprune.PruningResult) -> float:
    return max(abs(end) for both in result.impact.values() for one in both for end in one)


@pytest.mark.parametrize("method", [nnprune.Annealing(), nnprune.Greedy()], ids=lambda m: m.name)
def test_no_input_exceeds_the_budget(method: nnprune.options.Method) -> None:
    model = with_near_twins()
    removed = []
    for budget in (1e-5, 1e-2, 0.3, 3.0):
        result = nnprune.prune(
            model, target=0.8, step=1 / 16, method=method, max_output_change=budget
        )
        removed.append(len(result.merges))
        assert certified(result) <= budget
        assert largest_change(model, result.model, UNIT_BOX) <= certified(result) + 1e-6
        assert result.max_output_change == budget
        assert result.stopped_by == ("target" if removed[-1] == 13 + 8 else "max_output_change")
        assert "certified   no output moves by more than" in result.summary()
    assert removed == sorted(removed)
    assert 0 < removed[0] < removed[1] < removed[-1]


@pytest.mark.parametrize("impact", ["distance", "moment"])
def test_impacts_that_are_estimates_keep_to_the_budget_too(impact: Any) -> None:
    model = with_near_twins()
    method = nnprune.Annealing(impact=impact)
    result = nnprune.prune(model, target=0.5, method=method, max_output_change=0.2)
    assert certified(result) <= 0.2
    assert largest_change(model, result.model, UNIT_BOX) <= certified(result) + 1e-6


@pytest.mark.parametrize("budget", [1e-6, 0.5, 5.0, 50.0])
def test_the_credit_card_model_keeps_to_its_budget(budget: float) -> None:
    model = keras.saving.load_model(MODELS / "creditcard.keras", compile=False)
    with np.load(MODELS / "creditcard_box.npz") as file:
        box = file["lower"].astype(np.float32), file["upper"].astype(np.float32)
    result = nnprune.prune(model, target=0.5, max_output_change=budget, input_bounds=box)
    assert certified(result) <= budget
    before, after = (
        keras.Sequential([*one.layers[:-1], layers.Dense(1)]) for one in (model, result.model)
    )
    for one, whole in ((before, model), (after, result.model)):
        one.build((None, 29))
        one.set_weights(whole.get_weights())  # logits: without the sigmoid
    assert largest_change(before, after, box) <= certified(result) + 1e-3
    if budget < 1.0:
        assert result.merges == ()
        assert result.stopped_by == "max_output_change"


def planted() -> keras.Model:
    """Return a model with a unit that is always 0, two that are equal, and one nobody reads."""
    model = made((9, "relu"), (6, "relu"))
    first, last = model.get_layer("dense_0"), model.get_layer("last")
    kernel, bias = (np.array(values) for values in first.get_weights())
    bias[3] = -10.0
    kernel[:, 6], bias[6] = kernel[:, 2], bias[2]
    first.set_weights([kernel, bias])
    kernel, bias = (np.array(values) for values in last.get_weights())
    kernel[4] = 0.0
    last.set_weights([kernel, bias])
    return model


def test_lossless_removes_what_is_planted_and_nothing_else() -> None:
    model = planted()
    result = nnprune.prune(model, target="lossless")
    gone = {(merge.layer, merge.nominee) for merge in result.merges}
    assert gone in ({("dense_0", 3), ("dense_0", twin), ("dense_1", 4)} for twin in (2, 6))
    delegates = {(merge.layer, merge.nominee): merge.delegate for merge in result.merges}
    assert delegates["dense_0", 3] is None
    assert delegates.get(("dense_0", 2), 6) == 6
    assert delegates.get(("dense_0", 6), 2) == 2
    assert result.stopped_by == "lossless"
    x = points_of(UNIT_BOX, 200)
    np.testing.assert_allclose(result.model(x), model(x), rtol=0, atol=1e-6)
    assert certified(result) <= 1e-6
    report = json.loads(result.to_json())
    assert report["target"] == "lossless"
    assert None in [merge["delegate"] for merge in report["merges"]]
    assert "by the rounding of merged weights" in result.summary()
    validator = Draft202012Validator(load_schema())
    assert validator.evolve(schema=load_schema()["$defs"]["pruning"]).is_valid(report)


def test_lossless_merges_units_whose_normalisation_leaves_nothing_of_their_inputs() -> None:
    """Their kernels differ, but a gamma of 0 makes the same constant of both."""
    random = np.random.default_rng(0)
    builder = _core.NetworkBuilder()
    builder.input("x", [3])
    builder.dense("hidden", "x", random.standard_normal((3, 4)).astype(np.float32))
    builder.batch_normalization(
        "norm",
        "hidden",
        mean=np.zeros(4, np.float32),
        variance=np.ones(4, np.float32),
        epsilon=1e-3,
        gamma=np.array([0.0, 0.0, 1.0, 1.0], np.float32),
        beta=np.array([0.3, 0.3, 0.1, 0.2], np.float32),
    )
    builder.activation("active", "norm", "relu")
    builder.dense("out", "active", random.standard_normal((4, 2)).astype(np.float32))
    pruning = _core.prune(
        builder.build(["out"]),
        [np.zeros(3)],
        [np.ones(3)],
        layers=[],
        target=0.5,
        step=1.0,
        method=method_to_dict(Greedy()),
        outgoing="l2",
        seed=0,
        lossless=True,
    )
    assert [(merge["nominee"], merge["delegate"]) for merge in pruning.merges] == [(0, 1)]


def test_lossless_leaves_a_model_without_such_units_alone() -> None:
    model = made((8, "tanh"))
    result = nnprune.prune(model, target="lossless")
    assert result.merges == ()
    assert result.trace == ()
    assert certified(result) == 0.0
    assert result.after == result.before


def test_what_costs_nothing_goes_first() -> None:
    result = nnprune.prune(planted(), target=0.5, max_output_change=1e3)
    assert result.stopped_by == "target"
    free = [merge for merge in result.merges if merge.epoch == 0]
    assert {(merge.layer, merge.nominee) for merge in free} >= {("dense_0", 3), ("dense_1", 4)}
    assert len(free) == 3
    assert len(result.merges) == 5 + 3


def test_the_baseline_has_the_bias_term_of_the_paper() -> None:
    model = made((8, "relu"))
    assert nnprune.prune(model, target=0.5, method=nnprune.OneShot()).bias == "relative"
    assert nnprune.prune(model, target=0.5).bias == "absolute"
    orders = {
        bias: nnprune.prune(model, target=0.9, method=nnprune.OneShot(), bias=bias).merges
        for bias in ("absolute", "relative")
    }
    assert orders["absolute"] != orders["relative"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"max_output_change": 0.0}, "max_output_change.*positive"),
        ({"max_output_change": -1.0}, "max_output_change.*positive"),
        ({"max_output_change": float("nan")}, "max_output_change.*positive"),
        ({"max_output_change": float("inf")}, "max_output_change.*positive"),
        ({"max_output_change": "1"}, "max_output_change.*number"),
        ({"max_output_change": True}, "max_output_change.*number"),
        ({"max_output_change": 1.0, "method": nnprune.OneShot()}, "max_output_change.*OneShot"),
        ({"max_output_change": 1.0, "target": "lossless"}, "max_output_change.*lossless"),
        ({"target": "free"}, "target.*'lossless'"),
        ({"bias": "printed"}, "bias.*relative"),
        ({"bias": 1}, "bias.*relative"),
    ],
    ids=str,
)
def test_options_are_judged_before_any_work(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(errors.ConfigError, match=words):
        nnprune.prune("nowhere.keras", **{"target": 0.5, **changed})


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, small = tmp_path / "model.keras", tmp_path / "small.keras"
    planted().save(path)

    def report(*options: str) -> Any:
        arguments = ["prune", str(path), "-o", str(small), "--overwrite", "--json", *options]
        capsys.readouterr()
        assert cli.run(arguments) == 0
        return json.loads(capsys.readouterr().out)

    found = report("--target", "lossless")
    assert found["target"] == "lossless"
    assert [layer["units_after"] for layer in found["layers"]] == [7, 5, 3]
    found = report("--target", "0.9", "--max-output-change", "0.01", "--method", "greedy")
    assert found["max_output_change"] == 0.01
    assert found["stopped_by"] == "max_output_change"
    assert found["bias"] == "absolute"
    assert report("--target", "0.5", "--method", "one-shot")["bias"] == "relative"
    found = report("--target", "0.5", "--method", "greedy", "--impact", "distance")
    assert found["method"] == {"name": "greedy", "impact": "distance", "pool": 4}
    for option, value in (("max_output_change", "nan"), ("bias", "odd"), ("impact", "odd")):
        arguments = ["prune", str(path), "-o", str(small), "--overwrite", "--target", "0.5"]
        assert cli.run([*arguments, "--" + option.replace("_", "-"), value]) != 0
        assert f"error: {option}: " in capsys.readouterr().err
