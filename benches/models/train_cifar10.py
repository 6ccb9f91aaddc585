"""Train the CIFAR-10 network of Meng et al. (753,866 parameters) and save ``cifar10.keras``.

Five valid 3x3 convolutions (64, 64, 128, 128, 256 channels) with three max poolings, then dense
layers of 512, 128 and 10 units; ReLU throughout, softmax at the end, Adam at 0.001, 20 epochs.
The training set is the 10,000 JPEG images of ``cifar10.npz``, a sixth of the official one.
"""

import datasets
import keras
import training
from keras import layers

SEED = 7
EPOCHS = 20


def build() -> keras.Model:
    """Return the untrained network."""
    return keras.Sequential(
        [
            keras.Input((32, 32, 3), name="image"),
            layers.Conv2D(64, 3, activation="relu", name="conv_1"),
            layers.Conv2D(64, 3, activation="relu", name="conv_2"),
            layers.MaxPooling2D(2, name="pool_1"),
            layers.Conv2D(128, 3, activation="relu", name="conv_3"),
            layers.Conv2D(128, 3, activation="relu", name="conv_4"),
            layers.MaxPooling2D(2, name="pool_2"),
            layers.Conv2D(256, 3, activation="relu", name="conv_5"),
            layers.MaxPooling2D(2, name="pool_3"),
            layers.Flatten(name="flatten"),
            layers.Dense(512, activation="relu", name="hidden_1"),
            layers.Dense(128, activation="relu", name="hidden_2"),
            layers.Dense(10, activation="softmax", name="class"),
        ],
        name="cifar10",
    )


def main() -> None:
    """Train, save and print the test accuracy."""
    training.fix_seeds(SEED)
    data = datasets.load("cifar10")
    model = build()
    training.compile_classifier(model)
    model.fit(
        data.x_train,
        data.y_train,
        batch_size=32,
        epochs=EPOCHS,
        shuffle=True,
        validation_data=(data.x_test, data.y_test),
        verbose=2,
    )
    training.save(model, training.HERE / "cifar10.keras", data.x_test, data.y_test)


if __name__ == "__main__":
    main()
