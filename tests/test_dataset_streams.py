"""Evaluation data in streams: any batches, in every form, and never more than one in memory."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import tensorflow as tf
from dataset_helpers import classifier, drawn, refused, whole
from nnprune.datasets.sources import open_data
from nnprune.errors import DataError


@given(cuts=st.lists(st.integers(0, 9), min_size=1, max_size=8), size=st.integers(1, 12))
def test_stream_of_any_batches_is_the_arrays(cuts: list[int], size: int) -> None:
    ends = np.cumsum(cuts)
    x, y = drawn(max(1, int(ends[-1])))
    cut = [0, *map(int, ends[:-1]), len(x)]
    parts = [(x[a:b], y[a:b]) for a, b in itertools.pairwise(cut)]
    streamed = list(open_data(parts).batches(classifier(), size))
    direct = list(open_data(x, y).batches(classifier(), size))
    assert len(streamed) == len(direct)
    for one, other in zip(streamed, direct, strict=True):
        np.testing.assert_array_equal(one.x, other.x)
        np.testing.assert_array_equal(one.y, other.y)


class Digits(keras.utils.PyDataset):  # type: ignore[misc]  # keras has no type information
    """Batches of 6 of 20 samples."""

    def __init__(self, batches: int | None) -> None:
        super().__init__()
        self._batches = batches

    @property
    def num_batches(self) -> int | None:
        return self._batches

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        x, y = drawn(20)
        return x[6 * index : 6 * index + 6], y[6 * index : 6 * index + 6]


class Indexed:
    """Single samples by number, as torch's datasets have them."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        x, y = drawn(20)
        return x[index], int(y[index])


class Tensor:
    """Behaves as a torch tensor on a GPU that asks for gradients."""

    def __init__(self, values: NDArray[Any], done: tuple[str, ...] = ()) -> None:
        self.values, self.done, self.dtype = values, done, values.dtype

    def detach(self) -> Tensor:
        return Tensor(self.values, (*self.done, "detach"))

    def cpu(self) -> Tensor:
        return Tensor(self.values, (*self.done, "cpu"))

    def numpy(self) -> NDArray[Any]:
        if self.done != ("detach", "cpu"):
            raise RuntimeError("can't convert a tensor that requires grad or is on a device")
        return self.values


def sliced(dataset: Any) -> Any:
    return tf.data.Dataset.from_tensor_slices(dataset)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda x, y: sliced((x, y)).batch(6), "a tf.data.Dataset"),
        (lambda x, y: sliced((x, y)), "a tf.data.Dataset"),
        (lambda x, y: sliced((x, np.eye(3)[y])), "a tf.data.Dataset"),
        (lambda x, y: sliced((x, y)).batch(6).as_numpy_iterator(), "NumpyIterator"),
        (lambda x, y: Digits(4), "Digits"),
        (lambda x, y: Indexed(), "Indexed"),
        (lambda x, y: ((x[at], y[at]) for at in range(20)), "a generator"),
        (lambda x, y: iter([(x[:9], y[:9]), (x[9:], y[9:])]), "list_iterator"),
        (lambda x, y: [(x[:9], y[:9].tolist()), [x[9:], y[9:]]], "list"),
        (lambda x, y: ((x[:9], y[:9]), (x[9:], y[9:])), "tuple"),
        (lambda x, y: [[Tensor(x), Tensor(y)]], "list"),
        (lambda x, y: [(tf.cast(x, tf.float32), y)], "list"),
    ],
)
def test_streams_in_every_form(make: Callable[[Any, Any], Any], name: str) -> None:
    x, y = drawn(20)
    data = open_data(make(x, y))
    assert data.samples is None
    got_x, got_y = whole(data, classifier())
    np.testing.assert_array_equal(got_x, x)
    np.testing.assert_array_equal(got_y, y)
    described = data.description()
    assert (described.source, described.sha256) == (f"batches from {name}", None)
    assert data.warnings == []


def test_torch_data_loader() -> None:
    torch = pytest.importorskip("torch", reason="torch is no dependency")
    x, y = drawn(20)
    dataset = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
    for stream in (torch.utils.data.DataLoader(dataset, batch_size=6), dataset):
        np.testing.assert_array_equal(whole(open_data(stream), classifier())[0], x)
    half = torch.tensor(x, requires_grad=True).to(torch.bfloat16)
    got, _ = whole(open_data(half, torch.tensor(y)), classifier())
    np.testing.assert_array_equal(got, half.detach().float().numpy())


def test_stream_with_one_sample_a_batch_for_a_model_that_squeezes_it() -> None:
    x, y = drawn(5, (6, 5))
    for parts in ([(x[at : at + 1], y[at : at + 1]) for at in range(5)], list(zip(x, y))):  # noqa: B905
        got_x, got_y = whole(open_data(parts), classifier((6, 5, 1)))
        np.testing.assert_array_equal(got_x[..., 0], x)
        np.testing.assert_array_equal(got_y, y)


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_axis_of_length_one_may_be_the_batch_or_the_sample(one_hot: bool, batched: bool) -> None:
    x, y = drawn(5, (1, 6, 5))
    labels = np.eye(3)[y] if one_hot else y
    parts = [(x[at], labels[at : at + 1] if batched else labels[at]) for at in range(5)]
    got_x, got_y = whole(open_data(parts), classifier((6, 5, 1)))
    np.testing.assert_array_equal(got_x[..., 0], x[:, 0])
    np.testing.assert_array_equal(got_y, y)


def test_sample_weights_are_left_out_with_a_word() -> None:
    x, y = drawn(5)
    data = open_data([(x, y, np.ones(5))])
    whole(data, classifier())
    assert data.warnings == ["batches from list: sample weights are left out of account"]


def test_stream_holds_no_more_than_a_batch() -> None:
    taken = 0

    def samples() -> Iterator[tuple[Any, int]]:
        nonlocal taken
        while taken < 100:
            taken += 1
            yield np.zeros(4), 0

    batches = open_data(samples()).batches(classifier(), 10)
    assert taken == 0
    for number, _ in enumerate(batches, 1):
        assert taken == 10 * number


def test_iterator_is_read_once() -> None:
    x, y = drawn(6)
    data = open_data(iter([(x, y)]))
    whole(data, classifier())
    with pytest.raises(DataError, match="an iterator can be read only once and this one was"):
        data.batches(classifier(), 4)
    exhausted = iter([(x, y)])
    list(exhausted)
    assert "there are no samples (has it been used up?)" in refused(exhausted)


def test_streams_that_never_end() -> None:
    x, y = drawn(6)
    for stream in (sliced((x, y)).batch(2).repeat(), Digits(None)):
        assert "they never end; leave out repeat()" in refused(stream)


def test_streams_with_odd_elements() -> None:
    x, y = drawn(6)
    assert "is a tuple: models with several inputs or outputs" in refused([((x, x), y)])
    assert "y of the element from sample 0 on is a dict" in refused([(x, {"a": y})])
    assert "the element from sample 6 on is 'int'" in refused([(x, y), 5], size=4)
    text = refused([(x, y), (x[:, :, np.newaxis], y)], size=4)
    assert "from sample 6 on have shapes (4, 1) and (), those before (4,) and ()" in text
    text = refused([(np.float32(0), 1)])
    assert "x of the element from sample 0 on has shape () and y ()" in text
    assert "samples have shape (7,), the model takes (4,)" in refused([(np.zeros(7), 0)])
    assert "samples have shape (7,), the model takes (4,)" in refused([(np.zeros((6, 7)), y)])
