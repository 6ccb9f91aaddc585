"""Write models in the formats of Keras 2: `python tests/legacy_models.py FOLDER`.

Run in a process of its own: tf_keras and Keras 3 do not share one well.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tensorflow.core.protobuf import saved_model_pb2
from tf_keras.protobuf import saved_metadata_pb2


def classifier() -> keras.Model:
    inputs = keras.Input((6, 6, 1), name="image")
    x = keras.layers.Conv2D(3, 3, activation="relu", name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Flatten(name="flat")(x)
    x = keras.layers.Dense(4, name="hidden")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax", name="scores")(x))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(np.random.default_rng(1).random((8, 6, 6, 1)), np.arange(8) % 2, verbose=0)
    return model


class Subclassed(keras.Model):  # type: ignore[misc]  # tf_keras has no types
    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.dense(inputs)


class Plain(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])  # type: ignore[untyped-decorator]
    def double(self, value: tf.Tensor) -> tf.Tensor:
        return 2 * value


def move_metadata_as_tensorflow_2_4_had_it(folder: Path) -> None:
    path = folder / "keras_metadata.pb"
    metadata = saved_metadata_pb2.SavedMetadata.FromString(path.read_bytes())
    model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    objects = model.meta_graphs[0].object_graph_def
    for node in metadata.nodes:
        objects.nodes[node.node_id].user_object.metadata = node.metadata
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    path.unlink()


def main(folder: Path) -> None:
    model = classifier()
    for name in ("model.keras", "model.h5", "saved", "saved24"):
        model.save(folder / name)
    move_metadata_as_tensorflow_2_4_had_it(folder / "saved24")
    data = np.random.default_rng(0).random((5, 6, 6, 1), dtype=np.float32)
    weights = {f"weight{number}": array for number, array in enumerate(model.get_weights())}
    np.savez(folder / "expected.npz", data=data, scores=model(data), **weights)

    inputs = keras.Input((3,))
    keras.Model(inputs, tf.nn.relu(keras.layers.Dense(2)(inputs))).save(folder / "op.h5")
    subclassed = Subclassed()
    subclassed(np.zeros((1, 3), np.float32))
    subclassed.save(folder / "subclassed", save_format="tf")
    tf.saved_model.save(Plain(), str(folder / "plain"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
