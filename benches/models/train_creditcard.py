"""Train the credit card fraud network of Meng et al. (29-64-64-1) and save ``creditcard.keras``.

ReLU in the hidden layers, sigmoid at the end, binary cross-entropy, Adam at 0.001, 20 epochs. The
29 features are standardized and clipped to [-5, 5]. Frauds are 2.4 % of these data, so that
accuracy says little by itself: the figures that are printed say what it hides.
"""

import hashlib
from typing import Any

import datasets
import keras
import numpy as np
import training
from keras import layers
from numpy.typing import NDArray

SEED = 7
EPOCHS = 20
PATH = training.HERE / "creditcard.keras"


def build() -> keras.Model:
    """Return the untrained network (6,145 parameters)."""
    return keras.Sequential(
        [
            keras.Input((29,), name="transaction"),
            layers.Dense(64, activation="relu", name="hidden_1"),
            layers.Dense(64, activation="relu", name="hidden_2"),
            layers.Dense(1, activation="sigmoid", name="fraud"),
        ],
        name="creditcard",
    )


def compile_detector(model: keras.Model) -> None:
    """Compile ``model`` for labels 0 and 1 with a fresh Adam at learning rate 0.001."""
    model.compile(
        optimizer=keras.optimizers.Adam(0.001, name="adam"),
        loss="binary_crossentropy",
        metrics=["accuracy"],
    )


def roc_auc(scores: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Return the chance that a positive sample scores above a negative one, ties counted half."""
    negatives = np.sort(scores[~positive])
    below = np.searchsorted(negatives, scores[positive], side="left")
    not_above = np.searchsorted(negatives, scores[positive], side="right")
    return float(np.mean(below + not_above)) / (2 * len(negatives))


def report(x_test: NDArray[Any], y_test: NDArray[Any]) -> None:
    """Print the figures of the file read back."""
    restored = keras.saving.load_model(PATH, compile=False)
    scores = restored.predict(x_test, batch_size=256, verbose=0)[:, 0]
    fraud, alarm = y_test == 1, scores > 0.5
    found = int(np.sum(fraud & alarm))
    print(f"file            {PATH.name}, {PATH.stat().st_size:,} bytes")
    print(f"parameters      {restored.count_params():,}")
    print(f"weights SHA-256 {training.weights_digest(restored)}")
    print(f"file SHA-256    {hashlib.sha256(PATH.read_bytes()).hexdigest()}")
    print(f"test accuracy   {np.mean(fraud == alarm):.4f}")
    print(f"base rate       {np.mean(~fraud):.4f} (never an alarm)")
    print(f"ROC AUC         {roc_auc(scores, fraud):.4f}")
    print(f"recall          {found / fraud.sum():.4f} ({found} of {fraud.sum()} frauds)")
    print(f"precision       {found / alarm.sum():.4f} ({found} of {alarm.sum()} alarms)")


def main() -> None:
    """Train, save and print what the model reaches on the test set."""
    training.fix_seeds(SEED)
    data = datasets.load_table("creditcard")
    model = build()
    compile_detector(model)
    model.fit(data.x_train, data.y_train, batch_size=32, epochs=EPOCHS, verbose=2)
    compile_detector(model)  # a fresh optimizer has no slots yet
    model.save(PATH)
    report(data.x_test, data.y_test)


if __name__ == "__main__":
    main()
