"""Train the model that ``nnprune demo`` prunes, on scikit-learn's handwritten digits.

Writes ``digits.keras`` and the held-out samples, ``digits.npz``, into the package. This is the
only script that needs scikit-learn, and only for the data and their split.
"""

from pathlib import Path

import keras
import numpy as np
import training
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SEED = 7
EPOCHS = 60
GREY_LEVELS = 16
PACKAGE_FOLDER = training.HERE.parents[1] / "python" / "nnprune" / "demo_files"


def build() -> keras.Model:
    """Return the untrained network (64-128-96-64-10)."""
    return keras.Sequential(
        [
            keras.Input((64,), name="pixels"),
            layers.Dense(128, activation="relu", name="hidden_1"),
            layers.Dense(96, activation="relu", name="hidden_2"),
            layers.Dense(64, activation="relu", name="hidden_3"),
            layers.Dense(10, activation="softmax", name="digit"),
        ],
        name="digits",
    )


def main(folder: Path = PACKAGE_FOLDER) -> None:
    """Train, save the model and its test samples, and print the test accuracy."""
    training.fix_seeds(SEED)
    pixels, labels = load_digits(return_X_y=True)
    levels_train, levels_test, y_train, y_test = train_test_split(
        pixels.astype(np.uint8),
        labels.astype(np.uint8),
        test_size=450,
        random_state=0,
        stratify=labels,
    )
    x_train = levels_train.astype(np.float32) / GREY_LEVELS
    x_test = levels_test.astype(np.float32) / GREY_LEVELS

    model = build()
    training.compile_classifier(model)
    model.fit(x_train, y_train, batch_size=32, epochs=EPOCHS, verbose=0)

    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "digits.npz", x_test=levels_test, y_test=y_test)
    training.save(model, folder / "digits.keras", x_test, y_test)


if __name__ == "__main__":
    main()
