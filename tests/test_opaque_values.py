"""Values of opaque nodes by the model itself: with them the engine computes the rest."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from keras_helpers import keras_outputs
from nnprune.errors import ConfigError, ModelError
from nnprune.keras_io.opaque_values import opaque_values
from nnprune.keras_io.opened import open_model
from opaque_keras_models import Halving, opaque_model, opaque_models, plain_model


@pytest.mark.parametrize("name", sorted(opaque_models()))
def test_with_the_values_of_opaque_nodes_the_engine_computes_the_outputs(name: str) -> None:
    opened = open_model(opaque_models()[name], trust=True)
    assert opened.graph.opaque
    batches = [
        np.random.default_rng(0).uniform(-1, 1, (7, *one.shape)).astype(np.float32)
        for one in opened.graph.inputs
    ]
    given_values = opaque_values(opened, batches, batch_size=3)
    assert given_values
    inputs = {one.name: batch for one, batch in zip(opened.graph.inputs, batches, strict=True)}
    found = opened.graph.network.forward({**inputs, **given_values}, opened.graph.outputs)
    for ours, theirs in zip(found, keras_outputs(opened.model, batches), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_model_without_opaque_layers_needs_no_values() -> None:
    opened = open_model(plain_model(classes=3), trust=True)
    assert opaque_values(opened, [np.zeros((2, 8, 9, 1))]) == {}
    opened = open_model(opaque_model(), trust=True)
    with pytest.raises(ConfigError, match="the model has 1, got arrays for 2"):
        opaque_values(opened, [np.zeros((2, 8, 9, 1))] * 2)


def test_an_output_of_unknown_shape_is_left_out() -> None:
    source = keras.Input((6,))
    model = keras.Model(source, Halving()(layers.Dense(4)(source)))
    assert opaque_values(open_model(model, trust=True), [np.zeros((2, 6))]) == {}


def test_a_layer_in_a_model_that_is_called_twice_is_refused_by_name() -> None:
    inner_source = keras.Input((3,))
    inner = keras.Model(inner_source, layers.Dense(3)(Halving()(inner_source)), name="inner")
    source = keras.Input((3,))
    model = keras.Model(source, layers.Dense(2)(inner(inner(source))))
    with pytest.raises(ModelError, match=r"layer 'inner/halving.*called 2 times"):
        opaque_values(open_model(model, trust=True), [np.zeros((2, 3))])
