"""Train the KDD Cup '99 network of Meng et al. (120-512-256-128-64-23) and save ``kdd.keras``.

ReLU in the hidden layers, softmax over the 23 kinds of connection, Adam at 0.001, 20 epochs. The
33 numeric features are standardized and clipped to [-10, 10], the others are one-hot.
"""

import datasets
import keras
import numpy as np
import training
from keras import layers

SEED = 7
EPOCHS = 20
CLASSES = 23


def build() -> keras.Model:
    """Return the untrained network (235,927 parameters)."""
    return keras.Sequential(
        [
            keras.Input((120,), name="connection"),
            layers.Dense(512, activation="relu", name="hidden_1"),
            layers.Dense(256, activation="relu", name="hidden_2"),
            layers.Dense(128, activation="relu", name="hidden_3"),
            layers.Dense(64, activation="relu", name="hidden_4"),
            layers.Dense(CLASSES, activation="softmax", name="class"),
        ],
        name="kdd",
    )


def report(model: keras.Model, data: datasets.Table) -> None:
    """Print what the accuracy hides: the commonest class, and how the rare ones fare."""
    counts = np.bincount(data.y_test, minlength=CLASSES)
    predicted = np.argmax(model.predict(data.x_test, batch_size=256, verbose=0), axis=-1)
    right = np.bincount(data.y_test[predicted == data.y_test], minlength=CLASSES)
    recall = right[counts > 0] / counts[counts > 0]
    print(f"base rate       {counts.max() / counts.sum():.4f} (always the commonest class)")
    print(f"mean recall     {recall.mean():.4f} over {len(recall)} classes")


def main() -> None:
    """Train, save and print the test accuracy."""
    training.fix_seeds(SEED)
    data = datasets.load_table("kddcup99")
    model = build()
    training.train(model, data, epochs=EPOCHS)
    report(model, data)


if __name__ == "__main__":
    main()
