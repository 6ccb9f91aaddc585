"""Small pruned models, inputs that might break a promise, and stand-ins for parts of the core."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
from keras_helpers import randomize
from nnprune import Certificate, _core
from nnprune.gradients import to_numpy, vjp
from nnprune.keras_io.logits import logits_model
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


def probes(
    f: keras.Model, g: keras.Model, lower: NDArray[Any], upper: NDArray[Any]
) -> NDArray[np.float32]:
    """Draw inputs: uniform, corners, and corners found by climbing the change of a logit."""
    random = np.random.default_rng(0)
    uniform = random.uniform(lower, upper, (300, *lower.shape))
    corners = np.where(random.random((300, *lower.shape)) < 0.5, lower, upper)
    climbed = []
    x = uniform[:40].astype(np.float32)
    pair = [logits_model(model).model for model in (f, g)]
    for sign in (-1.0, 1.0):
        moved = x
        for _ in range(4):
            outputs = int(np.prod(pair[0].outputs[0].shape[1:]))
            which = np.eye(outputs, dtype=np.float32)[np.arange(len(x)) % outputs]
            _, gradient = vjp(
                lambda at: pair[1](at) - pair[0](at),
                keras.ops.convert_to_tensor(moved),
                which * sign,
            )
            moved = np.where(to_numpy(gradient) < 0, lower, upper).astype(np.float32)
            climbed.append(moved)
    found = np.concatenate([uniform, corners, *climbed])
    clipped: NDArray[np.float32] = np.clip(found, lower, upper).astype(np.float32)
    return clipped


def logits(model: keras.Model, x: NDArray[Any]) -> NDArray[np.float64]:
    found = to_numpy(logits_model(model).model(x, training=False)).astype(np.float64)
    return found.reshape(len(x), -1)


def check_on_probes(certificate: Certificate, f: keras.Model, g: keras.Model) -> None:
    """Look for an input at which a promise is broken; float32 runs may be off by a little."""
    (lower, upper) = next(iter(certificate.input_bounds.values()))
    x = probes(f, g, lower, upper)
    of, og = logits(f, x), logits(g, x)
    slack = 1e-5 * (1.0 + np.abs(of).max() + np.abs(og).max())
    change = certificate.output_change
    assert np.all(og - of >= change.lower - slack)
    assert np.all(og - of <= change.upper + slack)
    if of.shape[1] == 1:
        of, og = (np.concatenate([np.zeros_like(z), z], axis=1) for z in (of, og))
    for c in range(of.shape[1]):
        for k in range(of.shape[1]):
            fall = (of[:, c] - of[:, k]) - (og[:, c] - og[:, k])
            assert np.all(fall <= certificate.margins[c, k] + slack)
    agrees = certificate.agrees(g(x), tolerance=slack)
    np.testing.assert_array_equal(of[agrees].argmax(1), og[agrees].argmax(1))
    for one in certificate.probabilities:
        pf, pg = (np.asarray(model(x), np.float64) for model in (f, g))
        assert np.all(np.abs(pf - pg).max(axis=0) <= np.array(one.per_class) + 1e-5)
        total = np.abs(pf - pg).sum(axis=1).max() / (2.0 if pf.shape[1] > 1 else 1.0)
        assert total <= one.total_variation + 1e-5


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
