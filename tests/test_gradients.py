"""The vector-Jacobian product, against differences and by its own laws."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from nnprune import gradients
from nnprune.errors import BackendError


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(7, activation="tanh"),
            keras.layers.Dense(3, activation="softplus"),
        ]
    )


def test_the_product_is_that_of_differences(model: keras.Model) -> None:
    random = np.random.default_rng(0)
    x = ops.convert_to_tensor(random.normal(size=(4, 5)), dtype="float32")
    vector = random.normal(size=(4, 3)).astype(np.float32)
    value, gradient = gradients.vjp(model, x, ops.convert_to_tensor(vector))
    np.testing.assert_allclose(gradients.to_numpy(value), model(x), rtol=1e-6)
    step = 1e-3
    for feature in range(5):
        change = np.zeros((1, 5), np.float32)
        change[0, feature] = step
        difference = np.asarray(model(x + change)) - np.asarray(model(x - change))
        expected = np.sum(difference * vector, axis=1) / (2 * step)
        np.testing.assert_allclose(np.asarray(gradient)[:, feature], expected, atol=2e-3)


def test_the_vector_may_be_made_of_the_value(model: keras.Model) -> None:
    x = ops.ones((2, 5))
    value, given = gradients.vjp(model, x, ops.ones((2, 3)))
    _, made = gradients.vjp(model, x, ops.ones_like)
    np.testing.assert_array_equal(given, made)
    # The vector is held constant: that of d(sum v^2)/dx with v = value is half the full gradient.
    _, squared = gradients.vjp(lambda at: model(at) ** 2, x, ops.ones((2, 3)))
    _, linear = gradients.vjp(model, x, lambda at: 2.0 * at)
    np.testing.assert_allclose(np.asarray(squared), np.asarray(linear), rtol=1e-5)
    assert value.shape == (2, 3)


def test_a_function_that_does_not_read_x_has_no_gradient() -> None:
    x = ops.ones((2, 4))
    _, gradient = gradients.vjp(lambda at: ops.ones((2, 3)), x, ops.ones((2, 3)))
    np.testing.assert_array_equal(gradient, np.zeros((2, 4)))


def test_compiled_functions_compute_the_same(model: keras.Model) -> None:
    x = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
    np.testing.assert_allclose(gradients.compiled(model)(x), model(x), rtol=1e-6)


def test_backends_without_gradients_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.config, "backend", lambda: "numpy")
    with pytest.raises(BackendError, match="KERAS_BACKEND to tensorflow, jax or torch"):
        gradients.vjp(lambda at: at, np.ones(1), np.ones(1))


def test_devices_are_named() -> None:
    found: list[Any] = gradients.devices()
    assert set(found) <= {"CPU", "GPU", "TPU"}
    assert found
