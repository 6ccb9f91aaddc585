"""Evaluation data in memory: what comes out, and what is refused with what words."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import tensorflow as tf
from dataset_helpers import classifier, drawn, refused, regressor, whole
from nnprune.datasets.evaluation_data import EvaluationData
from nnprune.datasets.shapes import fits
from nnprune.datasets.sources import open_data
from nnprune.errors import ConfigError, DataError

# What comes out.


@given(count=st.integers(1, 40), size=st.integers(1, 45))
def test_batches_are_the_arrays_cut(count: int, size: int) -> None:
    x, y = drawn(count)
    data = open_data(x, y)
    for _ in range(2):
        got_x, got_y = whole(data, classifier(), size)
        np.testing.assert_array_equal(got_x, x)
        np.testing.assert_array_equal(got_y, y)


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=20),
    dtype=st.sampled_from([np.uint8, np.int32, np.float32, np.bool_, np.uint64]),
)
def test_one_hot_labels_are_the_integers(labels: list[int], dtype: Any) -> None:
    x, expectation = np.zeros((len(labels), 4)), classifier(classes=5)
    one_hot = open_data(x, np.eye(5, dtype=dtype)[labels])
    np.testing.assert_array_equal(whole(one_hot, expectation)[1], labels)
    assert one_hot.description().labels == "one_hot"


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint64, np.float16, np.float64, ">i4"])
@pytest.mark.parametrize("column", [False, True])
def test_labels_of_any_type_that_holds_whole_numbers(dtype: Any, column: bool) -> None:
    x, y = drawn(20)
    given = y.astype(dtype)
    data = open_data(x, given[:, np.newaxis] if column else given)
    np.testing.assert_array_equal(whole(data, classifier())[1], y)
    assert data.description().labels == "integers"


@pytest.mark.parametrize(
    "labels", [[0, 1, 1], [False, True, True], [[0], [1], [1]], [[1, 0], [0, 1], [0, 1]]]
)
def test_labels_of_a_binary_head(labels: Any) -> None:
    data = open_data(np.zeros((3, 4)), labels)
    np.testing.assert_array_equal(whole(data, classifier(classes=2))[1], [0, 1, 1])


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((6, 5), (30,)), ((6, 5), (6, 5, 1)), ((30,), (6, 5, 1)), ((6, 5, 1), (1, 6, 5)), ((1,), ())],
)
def test_same_values_in_another_shape(shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    x, y = drawn(9, shape)
    data = open_data(x, y)
    got, _ = whole(data, classifier(wanted))
    np.testing.assert_array_equal(got, x.reshape(9, *wanted))
    assert data.description().reshaped_from == shape
    assert data.description().to_dict()["reshaped_from"] == list(shape)


@given(shape=st.lists(st.integers(1, 3), max_size=4), wanted=st.lists(st.integers(1, 3)))
def test_shapes_that_fit_hold_the_same_number_of_values(
    shape: list[int], wanted: list[int]
) -> None:
    one, other = tuple(shape), tuple(wanted)
    assert fits(one, one)
    assert fits(one, (1, *one, 1))
    assert fits(one, (int(np.prod(one)),))
    assert fits(one, other) == fits(other, one)
    if fits(one, other):
        assert np.prod(one) == np.prod(other)


def test_scale_and_offset_are_float32_arithmetic_and_recorded() -> None:
    x = np.arange(256, dtype=np.uint8).reshape(64, 4)
    data = open_data(x, np.zeros(64, int), scale=2 / 255, offset=-1)
    got, _ = whole(data, classifier(box=(-1.0, 1.0)))
    expected = x.astype(np.float32) * np.float32(2 / 255) + np.float32(-1)
    np.testing.assert_array_equal(got, expected)
    described = data.description()
    assert (described.scale, described.offset) == (2 / 255, -1)


@pytest.mark.parametrize(
    ("scaling", "named"),
    [({"scale": 0.0}, "scale"), ({"scale": np.inf}, "scale"), ({"offset": np.nan}, "offset")],
)
def test_scaling_that_makes_no_sense(scaling: dict[str, float], named: str) -> None:
    with pytest.raises(ConfigError, match=f"^{named} must"):
        open_data([[0.0]], [0], **scaling)


def test_batch_size_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="batch_size must be at least 1, got 0"):
        open_data(*drawn(3)).batches(classifier(), 0)


def test_batches_are_copies() -> None:
    x, y = drawn(5)
    kept = x.copy()
    for batch in open_data(x, y).batches(classifier(), 2):
        batch.x[:] = 7.0
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize("shape", [(1,), (2,), (2, 3)])
def test_targets_of_a_regression(shape: tuple[int, ...]) -> None:
    x, _ = drawn(7)
    targets = np.random.default_rng(0).normal(size=(7, *shape))
    data = open_data(x, targets)
    np.testing.assert_array_equal(whole(data, regressor(shape))[1], targets.astype(np.float32))
    assert data.description().labels == "values"


def test_targets_without_an_axis_for_one_output() -> None:
    x, y = drawn(7)
    assert whole(open_data(x, y / 2), regressor((1,)))[1].shape == (7, 1)
    assert whole(open_data(x, y[:, np.newaxis] / 2), regressor(()))[1].shape == (7,)


@pytest.mark.parametrize(
    "make",
    [
        lambda x, y: open_data(x, y),
        lambda x, y: open_data((x, y)),
        lambda x, y: open_data({"x": x, "y": y}),
        lambda x, y: open_data({"x_train": 0, "x_test": x, "y_test": y}),
        lambda x, y: open_data(x.tolist(), y.tolist()),
        lambda x, y: open_data(tf.constant(x), tf.constant(y)),
        lambda x, y: open_data(np.asfortranarray(x), y),
        lambda x, y: open_data(keras.Variable(x), y),
    ],
)
def test_arrays_in_every_form(make: Callable[[Any, Any], EvaluationData]) -> None:
    x, y = drawn(20)
    data = make(x, y)
    assert data.samples == 20
    got_x, got_y = whole(data, classifier())
    np.testing.assert_array_equal(got_x, x)
    np.testing.assert_array_equal(got_y, y)
    described = data.description()
    assert (described.source, described.sha256) == ("arrays in memory", None)


@pytest.mark.parametrize("value", [0.5, 0.0])
def test_bfloat16_tensors(value: float) -> None:
    x = tf.fill((3, 4), tf.cast(value, tf.bfloat16))
    np.testing.assert_array_equal(whole(open_data(x, [0, 1, 2]), classifier())[0], value)


def test_describing_needs_a_pass() -> None:
    with pytest.raises(RuntimeError, match="none has begun"):
        open_data(*drawn(3)).description()


def test_neither_keras_nor_tensorflow_is_imported() -> None:
    code = (
        "import sys\n"
        "from nnprune.datasets.sources import open_data\n"
        "open_data([[0.0]], [0])\n"
        "print({'keras', 'tensorflow', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# What is refused, and with what words.


def test_shape_that_does_not_fit_names_both_and_the_remedy() -> None:
    def message(shape: tuple[int, ...], wanted: tuple[int, ...]) -> str:
        x, y = drawn(3, shape)
        text = refused(x, y, classifier(wanted))
        assert f"samples have shape {shape}, the model takes {wanted}" in text
        return text

    assert "numpy.transpose(x, (0, 2, 3, 1))" in message((3, 6, 5), (6, 5, 3))
    assert "numpy.transpose(x, (0, 3, 1, 2))" in message((6, 5, 3), (3, 6, 5))
    assert "the axes are in another order" in message((5, 6, 3), (6, 5, 3))
    assert "reshape" in message((3, 10), (6, 5))
    assert "resize" in message((8, 8, 3), (6, 6, 3))
    assert "as for training" in message((7,), (4,))


@given(order=st.permutations([0, 1, 2]))
def test_advice_to_transpose_is_right(order: list[int]) -> None:
    wanted = (7, 6, 3)
    shape = tuple(wanted[axis] for axis in order)
    if shape == wanted:
        return
    x, y = np.zeros((2, *shape)), [0, 1]
    found = re.search(r"numpy\.transpose\(x, \(([\d, ]+)\)\)", refused(x, y, classifier(wanted)))
    if found:
        axes = [int(axis) for axis in found[1].split(",")]
        assert np.transpose(x, axes).shape[1:] == wanted
    else:
        assert list(order) not in ([2, 0, 1], [1, 2, 0])


def test_pixels_for_a_unit_box() -> None:
    x = np.array([[0, 1, 2, 255], [0, 0, 1, 1], [3, 0, 0, 0]], np.uint8)
    text = refused(x, [0, 1, 2])
    assert "x: 3 values are outside the input box [0, 1], in 2 of 3 samples" in text
    assert "range from 0 to 255" in text
    assert "scale=1/255 (--scale 1/255)" in text
    text = refused(x, [0, 1, 2], classifier(box=(-1, 1)))
    assert "scale=2/255, offset=-1 (--scale 2/255 --offset -1)" in text
    text = refused(x, [0, 1, 2], scale=0.5)
    assert "values, scaled as asked for, range from 0 to 127.5" in text
    assert "scale=1/255" not in text


def test_other_values_outside_the_box() -> None:
    text = refused([[0.0, -2.5, 0.0, 0.0]], [0])
    assert "x: 1 value is outside the input box [0, 1], in 1 of 1 samples" in text
    assert "range from -2.5 to 0; prepare" in text
    assert "input_bounds (--input-bounds)" in text
    assert "255" not in text
    assert "255" not in refused([[0.0, 1.5, 3.0, 0.0]], [0])
    stream = [(np.zeros((4, 4)), [0] * 4), (np.full((2, 4), 1.5), [0] * 2)]
    assert "x in samples 4 to 5: 8 values are outside the input box [0, 1], in 2 of 2" in refused(
        stream, size=4
    )


def test_box_that_differs_by_feature() -> None:
    expectation = classifier((2,), box=([0, -1], [1, 5]))
    assert len(whole(open_data([[1.0, 5.0]], [0]), expectation)[0]) == 1
    text = refused([[0.5, 0.5], [2.0, 0.5]], [0, 0], expectation)
    assert (
        "[-1, 5], which is narrower for some features, in 1 of 2 samples (first in sample 1,"
        in text
    )


@pytest.mark.parametrize("box", [(0.0, 1.0), (-5.0, 5.0), (1000.0, 1001.0), (0.1, 0.1)])
def test_rounding_to_float32_is_within_the_box(box: tuple[float, float]) -> None:
    ends = np.array([np.float32(end) for end in (*box, *box)], np.float32)
    nearest = np.nextafter(ends, [-np.inf, np.inf, -np.inf, np.inf], dtype=np.float32)
    whole(open_data([ends, nearest], [0, 0]), classifier(box=box))
    width = max(box[1] - box[0], abs(box[1]))
    assert "outside" in refused([ends + np.float32(1e-5 * width)], [0], classifier(box=box))


def test_leaving_an_assumed_box_is_a_warning() -> None:
    x = np.array([[0.0, 0.5, 1.0, 9.0], [0.0, 0.0, 0.0, 0.0]])
    for data in (open_data(x, [0, 1]), open_data([(x, [0, 1])])):
        assert data.warnings == []
        whole(data, classifier(source="assumed"))
        (warning,) = data.warnings
        assert "1 value is outside the input box [0, 1], in 1 of 2 samples" in warning
        assert "only assumed" in warning
        assert "--input-bounds" in warning


def test_data_scaled_twice_is_a_warning() -> None:
    x, y = drawn(6)
    data = open_data(x, y)
    data.check(classifier(box=(0, 255), source="rescaling"))
    (warning,) = data.warnings
    assert "small part of the input box [0, 255]; are they scaled as for training?" in warning
    data.check(classifier())
    assert data.warnings == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_not_finite(bad: float) -> None:
    x = np.zeros((9, 4))
    x[4, 1] = x[4, 2] = x[7, 0] = bad
    text = refused(x, np.zeros(9, int))
    assert "x: 3 values are NaN, infinite or too large for float32 (first in sample 4," in text
    text = refused([(x, np.zeros(9, int))], size=2)
    assert "x in samples 4 to 5: 2 values are NaN" in text
    assert "(first in sample 4," in text


def test_first_broken_value_in_a_later_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnprune.datasets.evaluation_data._VALUES_A_CHUNK", 8)  # two samples
    x = np.zeros((9, 4))
    x[5, 1] = np.nan
    x[7, 1] = np.nan
    assert "2 values are NaN, infinite or too large for float32 (first in sample 5," in refused(
        x, np.zeros(9, int)
    )
    x = np.zeros((9, 4))
    x[6:, 2] = 2
    text = refused(x, np.zeros(9, int))
    assert "3 values are outside the input box [0, 1], in 3 of 9 samples (first in sample 6" in text
    y = np.array([0, 0, 0, 0.5, 0, 0, 0, 0.5, 0])
    assert "2 of 9 labels are no whole numbers (first: sample 3," in refused(np.zeros((9, 4)), y)


def test_labels_out_of_range() -> None:
    x = np.zeros((4, 4))
    text = refused(x, [0, 7, -2, 1])
    assert "y: 2 of 4 labels are no class of the model, which has 0..2" in text
    assert "(smallest label -2, largest 7); use the labels of the model's training" in text
    assert "labels start at 0: subtract 1" in refused(x, [1, 2, 3, 3])
    assert "write 0 for -1" in refused(x, [1, -1, 1, -1], classifier(classes=2))
    assert "largest 18446744073709551615" in refused(x, np.full(4, 2**64 - 1, np.uint64))
    stream = [(x, [0, 1, 2, 0]), (x, [0, 0, 3, 3])]
    text = refused(stream, size=4)
    assert "y in samples 4 to 7: 2 of 4 labels are no class" in text


def test_labels_of_the_wrong_kind() -> None:
    x = np.zeros((3, 4))
    text = refused(x, [0.0, 1.0, 0.25])
    assert "1 of 3 labels are no whole numbers (first: sample 2, counted from 0, is 0.25)" in text
    assert 'task="regression"' in text
    for bad in (np.nan, np.inf):
        assert "1 of 3 labels are no whole numbers" in refused(x, [0.0, bad, 1.0])
    assert "labels are text (dtype str" in refused(x, ["cat", "dog", "cat"])
    assert "0 to 2" in refused(x, ["cat", "dog", "cat"])
    text = refused(x, np.zeros((3, 7)))
    assert "a label has shape (7,)" in text
    assert "[N, 3] for the 3 classes" in text
    text = refused(x, [[0, 1, 0], [0.2, 0.5, 0.3], [0, 1, 1]])
    assert "2 of 3 rows are not one-hot, one 1 and else 0 (first: sample 1," in text
    assert "argmax" in text


def test_targets_that_do_not_fit() -> None:
    x = np.zeros((3, 4))
    text = refused(x, np.zeros((3, 2)), regressor((3,)))
    assert "a target has shape (2,), the model's output (3,)" in text
    assert "targets of 1 of 3 samples are NaN" in refused(x, [0.0, np.nan, 1.0], regressor())
    assert "holds text" in refused(x, ["1", "2", "3"], regressor())


def test_x_and_y_of_different_lengths() -> None:
    assert "x has 3 samples and y 2" in refused(np.zeros((3, 4)), [0, 1])
    stream = [(np.zeros((3, 4)), [0, 1, 2]), (np.zeros((3, 4)), [0, 1])]
    assert "the element from sample 3 on has 3 samples in x and 2 in y" in refused(stream)


def test_missing_labels() -> None:
    for x in (np.zeros((3, 4)), tf.zeros((3, 4))):
        assert refused(x) == "labels are missing: give y too"
    assert "the element from sample 0 on is 'ndarray': each element must be a pair" in refused(
        [np.zeros((3, 4))]
    )
    assert "a dictionary with 'image', 'label'" in refused([{"image": 0, "label": 0}])
    assert "needs arrays named 'x' and 'y', or 'x_test' and 'y_test'; it has 'x', 'z'" in refused(
        {"x": 0, "z": 1}
    )


def test_no_samples() -> None:
    assert "x: there are no samples (shape (0, 4))" in refused(np.zeros((0, 4)), [])
    assert "there are no samples" in refused([])
    assert "there are no samples" in refused([(np.zeros((0, 4)), np.zeros(0))])
    assert "x: is a single value" in refused(0.5, 1)
    assert "y: is a single value" in refused(np.zeros((1, 4)), 1)


@pytest.mark.parametrize(
    ("x", "named"),
    [
        (np.zeros((3, 4), complex), "x: holds complex numbers (dtype complex128)"),
        (np.zeros((3, 4), object), "x: holds Python objects (dtype object)"),
        (np.full((3, 4), "a"), "x: holds text (dtype str"),
        (np.zeros((3, 4), "datetime64[s]"), "x: holds no numbers (dtype datetime64[s])"),
        (np.zeros((3, 4), "i4,f4"), "x: holds no numbers"),
        ([[1, 2], [3], [4]], "x: 'list' cannot be turned into one array of numbers"),
        (np.ma.masked_greater(np.ones((3, 4)), 0), "x: some values are masked"),
    ],
)
def test_no_numbers(x: Any, named: str) -> None:
    assert refused(x, [0, 1, 2]).startswith(named)


def test_things_that_are_no_data() -> None:
    assert "data of type 'NoneType' cannot be read" in refused(None)
    assert "data of type 'int' cannot be read" in refused(5)
    assert "y must not be given where x is a stream" in refused(iter([]), [0])
    assert "x and y must both be paths or both be arrays" in refused([[0.0]], "y.npy")


def test_arrays_are_checked_before_the_first_batch_and_streams_with_theirs() -> None:
    x, y = np.zeros((6, 4)), np.array([0, 0, 0, 0, 0, 9])
    with pytest.raises(DataError, match="1 of 6 labels"):
        open_data(x, y).check(classifier())
    with pytest.raises(DataError, match="1 of 6 labels"):
        open_data(x, y).batches(classifier(), 2)
    stream = open_data([(x, y)])
    stream.check(classifier())
    batches = stream.batches(classifier(), 2)
    assert len(next(batches).y) == 2
    assert len(next(batches).y) == 2
    with pytest.raises(DataError, match="y in samples 4 to 5: 1 of 2 labels"):
        next(batches)
