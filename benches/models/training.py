"""What the training scripts have in common: fixed seeds, compiling, saving, the closing figures."""

import hashlib
import warnings
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from datasets import Images, Table
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent


def fix_seeds(seed: int) -> None:
    """Make this process train the same model every time on the same machine."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def compile_classifier(model: keras.Model) -> None:
    """Compile ``model`` for integer labels with a fresh Adam at learning rate 0.001."""
    model.compile(
        optimizer=keras.optimizers.Adam(0.001, name="adam"),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )


def train(model: keras.Model, data: Images | Table, *, epochs: int) -> None:
    """Train a classifier in batches of 32, and save it under its own name beside this file."""
    compile_classifier(model)
    model.fit(data.x_train, data.y_train, batch_size=32, epochs=epochs, verbose=2)
    save(model, HERE / f"{model.name}.keras", data.x_test, data.y_test)


def weights_digest(model: keras.Model) -> str:
    """Return the SHA-256 of all weights in order.

    Unlike that of the file, which holds the date, it can be compared after training again.
    """
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(weight.tobytes())
    return digest.hexdigest()


def save(model: keras.Model, path: Path, x_test: NDArray[Any], y_test: NDArray[Any]) -> float:
    """Save ``model`` compiled, but without optimizer slots, and print the figures of the file.

    Parameters
    ----------
    model : keras.Model
        The trained model; it is compiled anew.
    path : Path
        Where to write the ``.keras`` file; an existing one is replaced.
    x_test, y_test : ndarray
        Samples and integer labels for the printed accuracy, which is that of the file read back.

    Returns
    -------
    float
        The test accuracy.
    """
    compile_classifier(model)  # a fresh optimizer has no slots yet
    model.save(path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Skipping variable loading for optimizer")
        restored = keras.saving.load_model(path)
    _, accuracy = restored.evaluate(x_test, y_test, batch_size=256, verbose=0)
    print(f"file            {path.name}, {path.stat().st_size:,} bytes")
    print(f"parameters      {restored.count_params():,}")
    print(f"weights SHA-256 {weights_digest(restored)}")
    print(f"file SHA-256    {hashlib.sha256(path.read_bytes()).hexdigest()}")
    print(f"test accuracy   {accuracy:.4f}")
    return float(accuracy)
