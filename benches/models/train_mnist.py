"""Train the MNIST network of Meng et al. (784-128-128-64-10) and save ``mnist.keras``.

ReLU in the hidden layers, softmax at the end, Adam at 0.001, 20 epochs, pixels in [0, 1].
"""

import datasets
import keras
import training
from keras import layers

SEED = 7
EPOCHS = 20


def build() -> keras.Model:
    """Return the untrained network (125,898 parameters)."""
    return keras.Sequential(
        [
            keras.Input((28, 28), name="image"),
            layers.Flatten(name="flatten"),
            layers.Dense(128, activation="relu", name="hidden_1"),
            layers.Dense(128, activation="relu", name="hidden_2"),
            layers.Dense(64, activation="relu", name="hidden_3"),
            layers.Dense(10, activation="softmax", name="class"),
        ],
        name="mnist",
    )


def main() -> None:
    """Train, save and print the test accuracy."""
    training.fix_seeds(SEED)
    training.train(build(), datasets.load("mnist"), epochs=EPOCHS)


if __name__ == "__main__":
    main()
