"""Train a Functional Fashion-MNIST model with batch normalisation: ``fashion_batchnorm.keras``.

One hidden layer of each kind that pruning must see through: normalised before its activation
(``hidden_1``), normalised after it (``hidden_2``), with its activation as a layer of its own
(``hidden_3``).
"""

import datasets
import keras
import training
from keras import layers

SEED = 7
EPOCHS = 15


def build() -> keras.Model:
    """Return the untrained network."""
    image = keras.Input((28, 28, 1), name="image")
    x = layers.Flatten(name="flatten")(image)
    x = layers.Dense(128, use_bias=False, name="hidden_1")(x)
    x = layers.BatchNormalization(name="normalize_1")(x)
    x = layers.ReLU(name="relu_1")(x)
    x = layers.Dropout(0.2, name="dropout_1")(x)
    x = layers.Dense(96, activation="relu", name="hidden_2")(x)
    x = layers.BatchNormalization(name="normalize_2")(x)
    x = layers.Dense(64, name="hidden_3")(x)
    x = layers.Activation("relu", name="relu_3")(x)
    scores = layers.Dense(10, activation="softmax", name="class")(x)
    return keras.Model(image, scores, name="fashion_batchnorm")


def main() -> None:
    """Train, save and print the test accuracy."""
    training.fix_seeds(SEED)
    data = datasets.load("fashion_mnist")
    x_train, x_test = data.x_train[..., None], data.x_test[..., None]
    model = build()
    training.compile_classifier(model)
    model.fit(x_train, data.y_train, batch_size=64, epochs=EPOCHS, verbose=2)
    training.save(model, training.HERE / "fashion_batchnorm.keras", x_test, data.y_test)


if __name__ == "__main__":
    main()
