"""Certificates: never wrong on inputs, never for other models, and checked by a second path."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import nnprune
import numpy as np
import pytest
from certificates import check_on_probes, core_parts, tabular
from keras_helpers import randomize
from keras_models import mlp
from nnprune import Certificate, errors
from nnprune.certification.local import ball
from nnprune.certification.outputs import Output
from nnprune.certification.outward import outward, outward_margins
from nnprune.certification.rule import probability_gaps
from nnprune.certification.softmax import probability_changes
from numpy.typing import NDArray

__all__ = ["core_parts"]  # a fixture for every test here

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "benches" / "models"
DEMO = ROOT / "python" / "nnprune" / "demo_files"
layers = keras.layers


@pytest.mark.parametrize(
    ("head", "outputs"), [("softmax", 3), ("softmax", 2), ("sigmoid", 1), (None, 3), (None, 1)]
)
@pytest.mark.parametrize("target", [0.1, 0.5])
def test_no_input_breaks_a_promise(head: str | None, outputs: int, target: float) -> None:
    f = tabular(head, outputs)
    result = nnprune.prune(f, target=target, input_bounds=(-1.0, 1.0))
    certificate = nnprune.certify(result, original=f)
    check_on_probes(certificate, f, result.model)
    assert certificate.outputs == (
        Output(name="last", shape=(outputs,), head=head or "logits"),  # type: ignore[arg-type]
    )


def test_no_input_breaks_a_promise_of_the_digits() -> None:
    f = keras.saving.load_model(DEMO / "digits.keras")
    result = nnprune.prune(DEMO / "digits.keras", target=0.1)
    certificate = nnprune.certify(result, original=DEMO / "digits.keras")
    check_on_probes(certificate, f, result.model)


def test_no_input_breaks_a_promise_of_the_credit_cards(tmp_path: Path) -> None:
    path = MODELS / "creditcard.keras"
    box = dict(np.load(MODELS / "creditcard_box.npz"))
    result = nnprune.prune(path, target=0.1, input_bounds=box)
    small = result.save(tmp_path / "small.keras")
    certificate = nnprune.certify(small, original=path)
    assert certificate.input_source == "given"
    lower, _ = next(iter(certificate.input_bounds.values()))
    np.testing.assert_array_equal(np.broadcast_to(lower, (29,)), box["lower"])
    check_on_probes(certificate, keras.saving.load_model(path), result.model)
    assert nnprune.verify(certificate, small, original=path).holds


def test_of_several_ends_every_output_is_bounded() -> None:
    inputs = [keras.Input((3,), name="a"), keras.Input((2,), name="b")]
    hidden = layers.Dense(8, "relu", name="hidden")(layers.Concatenate()(inputs))
    heads = [
        layers.Dense(4, "softmax", name="kind")(hidden),
        layers.Dense(2, "sigmoid", name="flags")(hidden),
        layers.Dense(1, name="amount")(hidden),
    ]
    f = randomize(keras.Model(inputs, heads))
    result = nnprune.prune(f, target=0.5)
    certificate = nnprune.certify(result, original=f)
    assert [(one.name, one.size, one.head) for one in certificate.outputs] == [
        ("kind", 4, "softmax"),
        ("flags", 2, "sigmoid"),
        ("amount", 1, "logits"),
    ]
    assert [one.output for one in certificate.probabilities] == ["kind", "flags"]
    random = np.random.default_rng(0)
    x = [random.random((500, size)).astype(np.float32) for size in (3, 2)]
    before, after = f(x), result.model(x)
    for one, p, q in zip(certificate.probabilities, before, after, strict=False):
        assert np.all(
            np.abs(np.asarray(p) - np.asarray(q)).max(0) <= np.array(one.per_class) + 1e-6
        )
    amount = np.asarray(after[2]) - np.asarray(before[2])
    assert certificate.output_change.lower[-1] <= amount.min() + 1e-5
    assert certificate.output_change.upper[-1] >= amount.max() - 1e-5
    with pytest.raises(errors.ModelError, match="one class an input"):
        certificate.agrees(after[0])
    with pytest.raises(errors.ModelError, match="2 inputs and 3 outputs"):
        nnprune.certify(result, original=f, samples=x[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model and what pruning made of it."""
    folder = tmp_path_factory.mktemp("pair")
    tabular().save(folder / "model.keras")
    result = nnprune.prune(folder / "model.keras", target=0.25, input_bounds=(-1.0, 1.0))
    result.save(folder / "small.keras")
    result.save(folder / "small.h5")
    (folder / "run.json").write_text(result.to_json())
    return folder


@pytest.fixture(scope="module")
def inputs() -> NDArray[np.float32]:
    return np.random.default_rng(3).uniform(-1.0, 1.0, (200, 4)).astype(np.float32)


def test_the_same_certificate_from_files_results_and_records(folder: Path, tmp_path: Path) -> None:
    original = folder / "model.keras"
    first = nnprune.certify(folder / "small.keras", original=original)
    assert first.to_json() == nnprune.certify(folder / "small.keras", original=original).to_json()
    anew = tmp_path / "anew.keras"
    keras.saving.load_model(folder / "small.keras").save(anew)
    with pytest.raises(errors.ModelError, match=r"anew\.keras: says nothing .*--pruning"):
        nnprune.certify(anew, original=original)
    run = json.loads((folder / "run.json").read_text())
    for pruned, pruning in (
        (folder / "small.h5", None),
        (anew, run),
        (nnprune.prune(original, target=0.25, input_bounds=(-1.0, 1.0)), None),
    ):
        again = nnprune.certify(pruned, original=original, pruning=pruning)
        np.testing.assert_array_equal(again.output_change.lower, first.output_change.lower)
        np.testing.assert_array_equal(again.margins, first.margins)
        assert again.pruned.weights_sha256 == first.pruned.weights_sha256
    live = keras.saving.load_model(original)
    assert nnprune.certify(folder / "small.keras", original=live).original.sha256 is None


def test_it_is_read_back_as_it_was(folder: Path, inputs: NDArray[Any], tmp_path: Path) -> None:
    certificate = nnprune.certify(
        folder / "small.keras", original=folder / "model.keras", samples=inputs, eps=0.01
    )
    path = certificate.save(tmp_path / "a.json")
    assert Certificate.load(path).to_json() == certificate.to_json()
    with pytest.raises(errors.OutputError, match="exists already"):
        certificate.save(path)
    plain = json.loads(path.read_text())
    assert plain["kind"] == "nnprune-certificate"
    assert plain["output_change"]["lower"] == certificate.output_change.lower.tolist()
    assert "stored weights" in plain["semantics"]
    assert "not included" in plain["execution"]
    assert plain["merged_units"] == {"first": 3, "second": 2}
    assert len(plain["original"]["sha256"]) == 64


def test_samples_tell_the_coverage(folder: Path, inputs: NDArray[Any]) -> None:
    f, g = (keras.saving.load_model(folder / name) for name in ("model.keras", "small.keras"))
    labels = np.asarray(f(inputs)).argmax(1)
    certificate = nnprune.certify(
        folder / "small.keras", original=folder / "model.keras", samples=(inputs, labels)
    )
    coverage = certificate.coverage
    assert coverage is not None
    assert coverage.samples == 200
    assert coverage.by_pruned is not None
    assert coverage.by_original is not None
    assert coverage.agreeing is not None
    assert 100 < coverage.by_pruned <= coverage.agreeing  # the model's units are nearly alike
    assert 100 < coverage.by_original <= coverage.agreeing
    assert not certificate.usefulness.too_loose
    assert int(certificate.agrees(g(inputs)).sum()) == coverage.by_pruned
    assert np.all(certificate.output_change.lower <= coverage.change_lower)
    assert np.all(certificate.output_change.upper >= coverage.change_upper)
    assert "of the 200 samples" in certificate.summary()


def test_a_loose_certificate_says_so() -> None:
    f = randomize(mlp())
    result = nnprune.prune(f, target=0.5, input_bounds=(-100.0, 100.0))
    certificate = nnprune.certify(result, original=f)
    assert certificate.usefulness.too_loose
    assert "too loose to be of use" in certificate.summary()
    x = np.random.default_rng(0).uniform(-100.0, 100.0, (50, 5)).astype(np.float32)
    certificate = nnprune.certify(result, original=f, samples=x)
    assert certificate.usefulness.too_loose == (certificate.coverage.by_pruned == 0)  # type: ignore[union-attr]


def test_local_certificates_lie_below_what_attacks_leave(
    folder: Path, inputs: NDArray[Any]
) -> None:
    f = keras.saving.load_model(folder / "model.keras")
    labels = np.asarray(f(inputs)).argmax(1)
    labels[:20] = (labels[:20] + 1) % 3  # wrong predictions are not robust
    radii = [1e-4, 0.05, 0.5]
    local = nnprune.certify(
        folder / "small.keras", original=folder / "model.keras", samples=(inputs, labels), eps=radii
    ).local
    assert [one.epsilon for one in local] == radii
    assert all(one.labelled and one.samples == 200 for one in local)
    attacks: list[Any] = [nnprune.FGSM(radii), nnprune.PGD(radii, steps=5)]
    measured = nnprune.evaluate(
        folder / "small.keras",
        inputs,
        labels,
        original=folder / "model.keras",
        attacks=attacks,
        input_bounds=(-1.0, 1.0),
    )
    for model, name in zip(measured.models, ("robust_original", "robust_pruned"), strict=True):
        for outcome in model["robustness"]:
            for one, point in zip(local, outcome["points"], strict=True):
                assert getattr(one, name) <= point["white_box"]["count"]
    assert local[0].robust_original > 150
    assert [one.robust_pruned for one in local] == sorted(
        (one.robust_pruned for one in local), reverse=True
    )
    assert local[2].agree <= local[0].agree


def test_without_labels_robust_means_the_prediction(folder: Path, inputs: NDArray[Any]) -> None:
    (one,) = nnprune.certify(
        folder / "small.keras", original=folder / "model.keras", samples=inputs, eps=1e-4
    ).local
    assert not one.labelled
    assert one.robust_original > 150
    assert one.agree <= min(one.robust_original, one.robust_pruned)


def test_balls_are_cut_to_the_box() -> None:
    x = np.array([[0.0, 0.5], [1.0, 1.0]], np.float32)
    low, high = ball(x, 0.1, np.zeros(2), np.ones(2))
    assert np.all(low >= 0.0)
    assert np.all(high <= 1.0)
    assert np.all((low <= x) & (x <= high))
    assert low[0, 1] < 0.4 + 1e-15 < 0.6 - 1e-15 < high[0, 1]


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"eps": 0.0}, errors.ConfigError, "eps: expected positive numbers, got 0.0"),
    ({"eps": [0.1, -1]}, errors.ConfigError, "got -1"),
    ({"eps": "0.1"}, errors.ConfigError, "eps"),
    ({"eps": []}, errors.ConfigError, "eps"),
    ({"eps": math.nan}, errors.ConfigError, "eps"),
    ({"eps": 0.1}, errors.ConfigError, "eps: needs samples"),
    ({"samples": np.zeros((2, 5))}, errors.DataError, "samples have shape"),
    ({"samples": np.zeros((0, 4))}, errors.DataError, "there are none"),
    ({"samples": np.full((2, 4), np.nan)}, errors.DataError, "first in sample 0"),
    (
        {"samples": np.array([[0.0] * 4, [0.0, 0.0, 1.5, 0.0]])},
        errors.DataError,
        r"outside the input box \[-1, 1\].*first in sample 1",
    ),
    ({"input_bounds": (0.0, math.inf)}, errors.BoundsError, "no finite bound: 'first', 'second'"),
    ({"input_bounds": (1.0, 0.0)}, errors.BoundsError, "lower bound is above"),
    ({"pruning": "run.json"}, errors.ConfigError, "pruning: expected a PruningResult"),
    ({"pruning": {"merges": []}}, errors.DataError, "pruning: expected what PruningResult"),
    ({"original": "nowhere.keras"}, errors.FileFormatError, "no such file"),
]


@pytest.mark.parametrize(("options", "kind", "words"), WRONG)
def test_wrong_options_are_named(
    folder: Path, options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    given = {"original": folder / "model.keras", **options}
    with pytest.raises(kind, match=words):
        nnprune.certify(folder / "small.keras", **given)


def test_another_original_is_refused(folder: Path) -> None:
    with pytest.raises(errors.ModelError, match=r"'tabular': is not the model that was pruned"):
        nnprune.certify(folder / "small.keras", original=tabular(seed=1))


def test_a_model_that_was_trained_on_is_refused(folder: Path) -> None:
    run = json.loads((folder / "run.json").read_text())
    for name in ("first", "last"):
        small = keras.saving.load_model(folder / "small.keras")
        kernel, bias = small.get_layer(name).get_weights()
        small.get_layer(name).set_weights([kernel * 1.5, bias])
        if name == "first":
            with pytest.raises(errors.ModelError, match="'first': its kernel is not what pruning"):
                nnprune.certify(small, original=folder / "model.keras", pruning=run)
        else:  # it reads merged units: whatever its weights are, they are bounded
            certificate = nnprune.certify(small, original=folder / "model.keras", pruning=run)
            check_on_probes(certificate, keras.saving.load_model(folder / "model.keras"), small)


def test_models_of_other_shapes_are_refused(folder: Path) -> None:
    run = json.loads((folder / "run.json").read_text())
    for pruned in (tabular(), tabular(outputs=4), randomize(mlp())):
        with pytest.raises(errors.ModelError):
            nnprune.certify(pruned, original=folder / "model.keras", pruning=run)


def test_an_op_without_a_rule_is_named() -> None:
    f = keras.Sequential(
        [
            keras.Input((4, 3)),
            layers.LSTM(5, name="memory"),
            layers.Dense(8, activation="relu", name="hidden"),
            layers.Dense(2, name="last"),
        ]
    )
    result = nnprune.prune(randomize(f), target=0.5)
    with pytest.raises(errors.ModelError, match="no rule for 'memory'"):
        nnprune.certify(result, original=f)


# --- verification ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(folder: Path) -> Certificate:
    return nnprune.certify(folder / "small.keras", original=folder / "model.keras")


def verified(folder: Path, certificate: Certificate) -> nnprune.Verification:
    return nnprune.verify(certificate, folder / "small.keras", original=folder / "model.keras")


def test_a_certificate_holds(folder: Path, certificate: Certificate, tmp_path: Path) -> None:
    found = verified(folder, certificate)
    assert found.holds
    assert found.failures == ()
    assert "output_change" in found.checked
    assert "holds" in found.summary()
    path = certificate.save(tmp_path / "small.json")
    assert nnprune.verify(path, folder / "small.h5", original=folder / "model.keras").holds


@pytest.mark.parametrize("side", ["lower", "upper"])
@pytest.mark.parametrize("at", [0, 2])
def test_a_tampered_bound_is_named(
    folder: Path, certificate: Certificate, side: str, at: int
) -> None:
    ends = getattr(certificate.output_change, side).copy()
    ends[at] *= 0.9
    changed = replace(certificate.output_change, **{side: ends})
    found = verified(folder, replace(certificate, output_change=changed))
    assert not found.holds
    assert any(failure.startswith(f"output last[{at}]:") for failure in found.failures)
    assert json.loads(found.to_json())["holds"] is False


def test_other_tampered_parts_are_named(folder: Path, certificate: Certificate) -> None:
    margins = certificate.margins.copy()
    margins[0, 1] *= 0.99
    found = verified(folder, replace(certificate, margins=margins))
    assert [failure.split(":")[0] for failure in found.failures] == ["margins[0, 1]"]
    (one,) = certificate.probabilities
    smaller = replace(one, total_variation=0.5 * one.total_variation)
    found = verified(folder, replace(certificate, probabilities=(smaller,)))
    assert ["probabilities" in failure for failure in found.failures] == [True]
    wider = {"features": (np.array(-2.0), np.array(2.0))}
    found = verified(folder, replace(certificate, input_bounds=wider))
    assert not found.holds
    fewer = {layer: pairs[:-1] for layer, pairs in certificate.merges.items()}
    with pytest.raises(errors.ModelError):
        verified(folder, replace(certificate, merges=fewer))


def test_other_models_are_no_matter_of_the_certificate(
    folder: Path, certificate: Certificate
) -> None:
    with pytest.raises(errors.ModelError, match="original 'tabular': is not the model of the cert"):
        nnprune.verify(certificate, folder / "small.keras", original=tabular(seed=1))
    with pytest.raises(errors.ModelError, match="pruned model 'tabular': is not the model of"):
        nnprune.verify(certificate, tabular(seed=1), original=folder / "model.keras")
    with pytest.raises(errors.ConfigError, match="certificate: expected"):
        nnprune.verify(3, folder / "small.keras", original=folder / "model.keras")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "nnprune-evaluation"}, "no certificate"),
        ({"schema_version": 9}, "another version"),
        ({"output_change": {"lower": [0.0], "upper": [0.0]}}, "damaged"),
        ({"margins": [[0.0]]}, "damaged"),
        ({"outputs": [{"name": "last", "shape": [3], "head": "other"}]}, "damaged"),
        ({"merges": {"first": [[0, "x"]]}}, "damaged"),
    ],
)
def test_a_damaged_file_is_said(
    certificate: Certificate, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**certificate.to_dict(), **change}))
    with pytest.raises(errors.DataError, match=words):
        Certificate.load(path)
    path.write_text("{")
    with pytest.raises(errors.DataError, match="no JSON"):
        Certificate.load(path)
    with pytest.raises(errors.DataError, match="cannot be read"):
        Certificate.load(tmp_path / "none.json")


# --- the run-time rule ----------------------------------------------------------------------------


def ruled(certificate: Certificate, margins: list[list[float]], head: str) -> Certificate:
    size = 1 if head == "sigmoid" else len(margins)
    output = Output(name="last", shape=(size,), head=head)  # type: ignore[arg-type]
    return replace(certificate, outputs=(output,), margins=np.array(margins))


def test_the_rule_reads_the_matrix_backwards(certificate: Certificate) -> None:
    # For predicted class c every g_c - g_k must exceed margins[k, c].
    rule = ruled(certificate, [[0.0, 1.0], [3.0, 0.0]], "logits")
    outputs = [[3.5, 0.0], [2.5, 0.0], [0.0, 1.5], [0.0, 0.5], [math.nan, 0.0], [math.inf, 0.0]]
    expected = [True, False, True, False, False, False]
    np.testing.assert_array_equal(rule.agrees(outputs), expected)
    np.testing.assert_array_equal(rule.agrees([[3.5, 0.0]], tolerance=0.2), [False])
    np.testing.assert_array_equal(rule.agrees([[3.5, 0.0]], tolerance=0.1), [True])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_probabilities_give_the_logits_margins(certificate: Certificate, dtype: Any) -> None:
    random = np.random.default_rng(0)
    z = random.normal(0.0, 8.0, (500, 3))
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p = (p / p.sum(axis=1, keepdims=True)).astype(dtype)
    needed = random.uniform(0.0, 12.0, (3, 3))
    rule = ruled(certificate, needed.tolist(), "softmax")
    by_logits = rule.agrees(z, from_logits=True)
    by_probabilities = rule.agrees(p)
    assert not np.any(by_probabilities & ~by_logits)
    if dtype is not np.float16:
        assert np.mean(by_probabilities != by_logits) < 0.01


def test_probabilities_of_0_and_1_tell_a_least_margin(certificate: Certificate) -> None:
    one = np.array([[1.0, 0.0]], np.float32)
    assert ruled(certificate, [[0.0, 0.0], [80.0, 0.0]], "softmax").agrees(one)[0]
    assert not ruled(certificate, [[0.0, 0.0], [90.0, 0.0]], "softmax").agrees(one)[0]
    high, low = np.array([[1.0]], np.float32), np.array([[0.0]], np.float32)
    assert ruled(certificate, [[0.0, 14.0], [0.0, 0.0]], "sigmoid").agrees(high)[0]
    assert not ruled(certificate, [[0.0, 17.0], [0.0, 0.0]], "sigmoid").agrees(high)[0]
    assert ruled(certificate, [[0.0, 0.0], [14.0, 0.0]], "sigmoid").agrees(low)[0]
    z = np.linspace(-20.0, 20.0, 401)
    p = (1.0 / (1.0 + np.exp(-z))).astype(np.float32)
    found = probability_gaps(p.astype(np.float64)[:, np.newaxis], float(np.finfo(np.float32).eps))
    assert np.all(found.gaps.max(axis=1) <= np.abs(z))


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        (np.zeros((2, 4)), "expected an array"),
        (np.zeros(3), "expected an array"),
        (1.0, "expected an array"),
        ([["a", "b", "c"]], "array of numbers"),
        (np.array([[3.0, -1.0, 0.5]]), "from_logits=True"),
        (np.array([[0.5, 0.5, 0.5]]), "from_logits=True"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(
    certificate: Certificate, outputs: Any, words: str
) -> None:
    with pytest.raises(errors.DataError, match=words):
        certificate.agrees(outputs)
    with pytest.raises(errors.ConfigError, match="tolerance"):
        certificate.agrees(np.zeros((1, 3)), tolerance=-1.0)


def test_published_bounds_are_wider_by_1e9() -> None:
    lower, upper = outward(np.array([-1.0, 0.0, 2.0, -math.inf]), np.array([3.0, 0.0, 2.0, 1.0]))
    assert lower[0] == pytest.approx(-1.0 - 3e-9, abs=1e-15)
    assert upper[0] == pytest.approx(3.0 + 3e-9, abs=1e-14)
    assert lower[1] < 0.0 < upper[1] < 1e-300
    assert lower[2] < 2.0 < upper[2]
    assert lower[3] == -math.inf
    margins = outward_margins(np.array([[0.0, 2.0], [-1.0, 0.0]]))
    assert margins[0, 1] > 2.0
    assert -1.0 < margins[1, 0] <= -1.0 + 3e-9
    assert margins[0, 0] == 0.0


def test_softmax_lines_hold_for_random_changes() -> None:
    random = np.random.default_rng(1)
    output = Output(name="last", shape=(4,), head="softmax")
    for _ in range(200):
        lower = random.normal(0.0, 1.0, 4)
        upper = lower + random.exponential(1.0, 4)
        (one,) = probability_changes([output], lower, upper, None)
        z = random.normal(0.0, 3.0, (50, 4))
        w = z + random.uniform(lower, upper, (50, 4))
        p, q = (np.exp(a) / np.exp(a).sum(axis=1, keepdims=True) for a in (z, w))
        assert np.all(np.abs(p - q).max(axis=0) <= one.per_class)
        assert np.abs(p - q).sum(axis=1).max() / 2 <= one.total_variation
        assert np.sum(p * np.log(p / q), axis=1).max() <= one.kullback_leibler
        assert np.abs(np.log(p / q)).max() <= one.log_probability + 1e-12
