"""Train LeNet-300-100 (784-300-100-10) on Fashion-MNIST and save ``lenet300.keras``.

The network of LeCun et al. (1998) that data-free pruning is often compared on. ReLU in the hidden
layers, softmax at the end, Adam at 0.001, 20 epochs, pixels in [0, 1].
"""

import datasets
import keras
import training
from keras import layers

SEED = 7
EPOCHS = 20


def build() -> keras.Model:
    """Return the untrained network (266,610 parameters)."""
    return keras.Sequential(
        [
            keras.Input((28, 28), name="image"),
            layers.Flatten(name="flatten"),
            layers.Dense(300, activation="relu", name="hidden_1"),
            layers.Dense(100, activation="relu", name="hidden_2"),
            layers.Dense(10, activation="softmax", name="class"),
        ],
        name="lenet300",
    )


def main() -> None:
    """Train, save and print the test accuracy."""
    training.fix_seeds(SEED)
    training.train(build(), datasets.load("fashion_mnist"), epochs=EPOCHS)


if __name__ == "__main__":
    main()
