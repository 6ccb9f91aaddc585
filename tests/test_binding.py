"""The boundary between Python and the core: arrays of every layout, and the random stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from nnprune import _core, errors
from nnprune._core import NetworkBuilder
from numpy.typing import NDArray

Weights = NDArray[np.float32]
Relayout = Callable[[NDArray[Any]], NDArray[Any]]


def strided(array: NDArray[Any]) -> NDArray[Any]:
    """Return the same array, every second element of a larger one."""
    larger = np.full([2 * size for size in array.shape], 77, dtype=array.dtype)
    view = larger[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def reversed_strides(array: NDArray[Any]) -> NDArray[Any]:
    backwards = tuple(slice(None, None, -1) for _ in array.shape)
    return np.ascontiguousarray(array[backwards])[backwards]


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    array = array.copy()
    array.setflags(write=False)
    return array


def transposed_memory(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array.T).T


LAYOUTS: list[Relayout] = [
    np.asfortranarray,
    strided,
    reversed_strides,
    read_only,
    transposed_memory,
]


def weights(*shape: int, seed: int = 0) -> Weights:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def everything(relayout: Relayout) -> list[NDArray[Any]]:
    """Pass an array of every kind over the boundary, and return all that comes back."""

    def given(*shape: int, seed: int = 0) -> Weights:
        return relayout(weights(*shape, seed=seed))

    builder = NetworkBuilder()
    builder.input("x", (5, 4, 3))
    window: dict[str, Any] = {"strides": [1, 1], "dilation": [1, 1], "padding": "same"}
    builder.conv("conv", "x", given(2, 3, 3, 4), given(4), **window)
    builder.depthwise_conv("deep", "conv", given(2, 1, 4, 2), given(8), **window)
    variance = relayout(np.abs(weights(8)) + np.float32(0.5))
    more = {"gamma": given(8, seed=1), "beta": given(8, seed=2)}
    options: dict[str, Any] = {"variance": variance, "epsilon": 1e-3, **more}
    builder.batch_normalization("norm", "deep", mean=given(8), **options)
    scale, offset = (relayout(weights(8, seed=k).astype(np.float64)) for k in (3, 4))
    builder.affine("affine", "norm", scale=scale, offset=offset)
    builder.layer_normalization(
        "layer", "affine", epsilon=1e-3, gamma=given(8, seed=5), beta=given(8, seed=6)
    )
    builder.reshape("flat", "layer", (5 * 4 * 8,))
    builder.dense("hidden", "flat", given(160, 6), given(6))
    builder.activation("act", "hidden", "tanh")
    builder.dense("out", "act", given(6, 3), given(3))
    network = builder.build(["out"])
    lower = relayout(weights(5, 4, 3, seed=7).astype(np.float64))
    upper = relayout(np.asarray(lower) + 1.0)
    found: list[NDArray[Any]] = []
    for name in ("conv", "deep", "out"):
        found += network.weights(name).values()
    found += network.evaluate([lower])
    for box in network.value_intervals([lower], [upper]).values():
        found += box
    found += network.impact("hidden", [(0, 1), (2, 3)], [lower], [upper])
    found += [network.saliency("hidden")]
    flat_lower, flat_upper = (relayout(np.asarray(end).ravel()) for end in (lower, upper))
    found += _core.activation_range("gelu", flat_lower, flat_upper)
    found += [np.array(_core.entropy(flat_lower, flat_upper))]
    found += [np.array(_core.energy(flat_lower, flat_upper, flat_lower, flat_upper, reference=1.0))]
    options = {"count": 5, "temperature": 0.5, "scale": 0.5, "last_energy": 0.0, "rewalks": 1}
    pairs = [(2 * k, 2 * k + 1) for k in range(60)]
    found += [np.array(_core.anneal(pairs, flat_lower, seed=1, **options))]
    return found


@pytest.mark.parametrize("relayout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_memory_layout_does_not_matter(relayout: Relayout) -> None:
    expected, found = everything(np.ascontiguousarray), everything(relayout)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_weights_are_copied_in_and_out() -> None:
    kernel = weights(3, 2)
    builder = NetworkBuilder()
    builder.input("x", (3,))
    builder.dense("out", "x", kernel)
    network = builder.build(["out"])
    original = kernel.copy()
    kernel[:] = 0.0
    network.weights("out")["kernel"][:] = 5.0
    np.testing.assert_array_equal(network.weights("out")["kernel"], original)


WRONG_KERNELS: list[Any] = [
    weights(3, 2).astype(np.float64),
    weights(3, 2).astype(np.float16),
    weights(3, 2).astype(">f4"),
    np.ones((3, 2), dtype=np.int64),
    weights(3, 2).astype(object),
    weights(3, 2).astype(np.complex64),
    weights(3, 2).tolist(),
    None,
]


@pytest.mark.parametrize("kernel", WRONG_KERNELS, ids=lambda k: str(getattr(k, "dtype", type(k))))
def test_a_wrong_dtype_is_refused(kernel: Any) -> None:
    builder = NetworkBuilder()
    builder.input("x", (3,))
    with pytest.raises((TypeError, errors.ConfigError), match=r"kernel|float32"):
        builder.dense("out", "x", kernel)


GOLDEN_0 = [
    0.12765728561943035,
    0.34755282876335303,
    0.709750523336854,
    0.03892701181766833,
    0.8562542914374237,
    0.16255678937727502,
    0.19911587292716126,
    0.5060397646659742,
]
GOLDEN_LAST = [
    0.8420174089912625,
    0.7405480682442865,
    0.959381907632085,
    0.05893973013022846,
]


def test_the_first_draws_are_golden() -> None:
    """The stream must never change: results are promised to be the same in every release."""
    np.testing.assert_array_equal(_core.uniform_draws(0, 8), GOLDEN_0)
    np.testing.assert_array_equal(_core.uniform_draws(2**64 - 1, 4), GOLDEN_LAST)
    assert _core.uniform_draws(0, 0).shape == (0,)
