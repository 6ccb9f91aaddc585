"""Are the rivals re-implemented fairly? Their own network, trained again, beside their figures.

LeNet-300-100 on Fashion-MNIST by the recipe of Neuron Merging's code: pixels in [-1, 1], SGD at 0.1
with momentum 0.9, a tenth of that from half and a hundredth from three quarters of the epochs on,
weight decay 5e-4 on everything, batches of 128. It is not their network, whose norms and
similarities decide everything, but one of the same kind. Run it from the repository's root; with 80
epochs it takes five minutes of a CPU core, theirs had 200:

    python benches/compensation/published.py [--epochs 80] [--seed 1]
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
sys.path.insert(0, str(Path(__file__).parents[1]))

import datasets
import keras
import numpy as np
from numpy.typing import NDArray

from compensation.chain import Chain, read_chain
from compensation.rivals.lbyl import leave_shares
from compensation.rivals.model_folding import fold_model
from compensation.rivals.neuron_merging import merge_neurons

RATIOS = (0.5, 0.6, 0.7, 0.8)
BATCH = 128

Rival = Callable[[Chain, float], Chain]

ROWS: dict[str, tuple[Rival, tuple[float, ...] | None]] = {
    "least l1 norm": (
        partial(merge_neurons, threshold=np.inf),
        (0.8840, 0.8517, 0.7126, 0.6676),
    ),
    "Neuron Merging": (merge_neurons, (0.8869, 0.8692, 0.8275, 0.8002)),
    "Neuron Merging, threshold 0": (partial(merge_neurons, threshold=0.0), None),
    "LBYL": (leave_shares, (0.8883, 0.8775, 0.8392, 0.7805)),
    "Model Folding": (partial(fold_model, seed=0), None),
}
"""How each prunes, and its published accuracy: READMEs of friendshipkim/neuron-merging and
ICML2022-LBYL/LBYL2022, originals 0.8980."""


def trained(epochs: int, seed: int) -> tuple[Chain, NDArray[np.float32], NDArray[Any]]:
    """Train the network; return its chain, and the test samples as it takes them."""
    keras.utils.set_random_seed(seed)
    data = datasets.load("fashion_mnist")
    x_train, x_test = (2 * x.reshape(len(x), -1) - 1 for x in (data.x_train, data.x_test))
    model = keras.Sequential([keras.Input((784,)), *_dense()])
    steps = -(-len(x_train) // BATCH) * epochs
    rate = keras.optimizers.schedules.PiecewiseConstantDecay(
        [steps // 2, steps * 3 // 4], [0.1, 0.01, 0.001]
    )
    model.compile(
        optimizer=keras.optimizers.SGD(rate, momentum=0.9),
        loss="sparse_categorical_crossentropy",
    )
    model.fit(x_train, data.y_train, batch_size=BATCH, epochs=epochs, verbose=0)
    return read_chain(model), x_test, data.y_test


def _dense() -> list[keras.Layer]:
    """Return the layers, as PyTorch draws them, their decay within the loss."""
    found = []
    for inputs, units, activation in ((784, 300, "relu"), (300, 100, "relu"), (100, 10, "softmax")):
        even = partial(keras.initializers.RandomUniform, -(inputs**-0.5), inputs**-0.5)
        decay = partial(keras.regularizers.L2, 2.5e-4)  # of w^2: its gradient is 5e-4 w
        found.append(
            keras.layers.Dense(
                units,
                activation=activation,
                kernel_initializer=even(),
                bias_initializer=even(),
                kernel_regularizer=decay(),
                bias_regularizer=decay(),
            )
        )
    return found


def main() -> None:
    """Print accuracy in percent, found and published."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chain, x, y = trained(options.epochs, options.seed)

    def accuracy(smaller: Chain) -> float:
        return 100 * float(np.mean(np.argmax(smaller.logits(x), axis=1) == y))

    print(f"original {accuracy(chain):.1f} (published 89.8)")
    for name, (rival, published) in ROWS.items():
        found = [accuracy(rival(chain, ratio)) for ratio in RATIOS]
        theirs = "" if published is None else "  published " + _row(100 * p for p in published)
        print(f"{name:<28}{_row(found)}{theirs}", flush=True)


def _row(values: Any) -> str:
    return "  ".join(f"{value:.1f}" for value in values)


if __name__ == "__main__":
    main()
