"""Small pruned models to certify, and stand-ins for parts of the core that may not be there yet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
from keras_helpers import randomize
from nnprune import _core
from numpy.typing import NDArray

layers = keras.layers


def tabular(head: str | None = "softmax", outputs: int = 3, seed: int = 0) -> keras.Model:
    """Return a classifier of few inputs, of whose units many are nearly alike: bounds are tight."""
    model = keras.Sequential(
        [
            keras.Input((4,), name="features"),
            layers.Dense(12, activation="relu", name="first"),
            layers.Dense(8, activation="relu", name="second"),
            layers.Dense(outputs, activation=head, name="last"),
        ],
        name="tabular",
    )
    randomize(model, seed)
    random = np.random.default_rng(seed)
    for name in ("first", "second"):
        kernel, bias = model.get_layer(name).get_weights()
        half = kernel.shape[1] // 2
        kernel[:, half:] = kernel[:, :half] + 1e-3 * random.standard_normal((len(kernel), half))
        bias[half:] = bias[:half]
        model.get_layer(name).set_weights([kernel, bias])
    return model


def stand_in_margins(
    network: _core.Network, lower: Any, upper: Any, classes: Any
) -> NDArray[np.float64]:
    """Bound margins by the logits' own bounds: much looser than the core's."""
    found = []
    for low, high, chosen in zip(lower, upper, classes, strict=True):
        ends = _core.tight_bounds(network, network.logits[0], [low], [high])
        least, most = (end.reshape(-1) for end in ends)
        if len(least) == 1:
            least, most = np.append(0.0, least), np.append(0.0, most)
        margins = least[chosen] - most
        margins[chosen] = np.inf
        found.append(margins)
    return np.array(found)


@pytest.fixture(autouse=True)
def core_parts() -> Iterator[None]:
    """Put something sound in the place of what the compiled core does not have."""
    with pytest.MonkeyPatch.context() as patch:
        if not hasattr(_core, "verify"):
            patch.setattr(_core, "verify", lambda *given: _core.certify(*given), raising=False)
        if not hasattr(_core, "certified_margins"):
            patch.setattr(_core, "certified_margins", stand_in_margins, raising=False)
        yield
