"""Small Keras models of many kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

Build = Callable[[], keras.Model]


def _image(*body: Any, shape: tuple[int, ...] = (9, 8, 3)) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *body])


def mlp() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(8, activation="relu"),
            layers.Dense(6, activation="tanh", use_bias=False),
            layers.Dense(3, activation="softmax"),
        ],
        name="mlp",
    )


def dense_on_last_axis() -> keras.Model:
    return keras.Sequential(
        [keras.Input((4, 3, 5)), layers.Dense(6, activation="gelu"), layers.Dense(2)]
    )


def batch_normalizations() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((5,)),
            layers.BatchNormalization(),
            layers.Dense(7, use_bias=False),
            layers.BatchNormalization(scale=False, epsilon=0.01),
            layers.Activation("relu"),
            layers.BatchNormalization(center=False, axis=1),
            layers.Dense(6),
            layers.LayerNormalization(),
            layers.Dense(2),
        ]
    )


def layer_normalizations() -> keras.Model:
    return _image(
        layers.LayerNormalization(axis=3, scale=False),
        layers.Conv2D(4, 3, activation="swish"),
        layers.LayerNormalization(center=False, epsilon=0.1),
        layers.Flatten(),
        layers.Dense(3),
    )


def activation_layers() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(6),
            layers.ReLU(max_value=0.7, negative_slope=0.1, threshold=0.05),
            layers.Dense(6),
            layers.LeakyReLU(0.15),
            layers.Dense(6),
            layers.ELU(alpha=0.6),
            layers.Dense(6, activation=layers.LeakyReLU(0.4)),
            layers.Activation("hard_silu"),
            layers.Dense(4),
            layers.Softmax(),
        ]
    )


FUSED = [
    "linear",
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "celu",
    "selu",
    "sigmoid",
    "tanh",
    "softplus",
    "softsign",
    "exponential",
    "gelu",
    "silu",
    "swish",
    "mish",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "log_sigmoid",
    "softmax",
]


def fused_activations() -> keras.Model:
    source = keras.Input((4,))
    heads = [layers.Dense(3, activation=name)(source) for name in FUSED]
    return keras.Model(source, heads)


def convolution_1d() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((17, 4)),
            layers.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="relu"),
            layers.Conv1D(4, 4, padding="same", strides=2, groups=2),
            layers.DepthwiseConv1D(3, depth_multiplier=2, padding="same", activation="tanh"),
            layers.ZeroPadding1D((1, 2)),
            layers.SeparableConv1D(5, 3, strides=2, depth_multiplier=3, activation="relu"),
            layers.MaxPooling1D(2, padding="same"),
            layers.AveragePooling1D(2, strides=1, padding="same"),
            layers.GlobalAveragePooling1D(),
        ]
    )


def convolution_2d() -> keras.Model:
    return _image(
        layers.Conv2D(4, (3, 2), strides=(2, 1), padding="same", activation="relu"),
        layers.Conv2D(6, 3, dilation_rate=(1, 2), padding="same", groups=2, use_bias=False),
        layers.BatchNormalization(),
        layers.Activation("relu"),
        layers.ZeroPadding2D(((1, 0), (2, 1))),
        layers.MaxPooling2D((2, 3), strides=(2, 1)),
        layers.Flatten(),
        layers.Dense(4),
    )


def depthwise_2d() -> keras.Model:
    return _image(
        layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu6"),
        layers.DepthwiseConv2D((2, 3), strides=2, use_bias=False),
        layers.SeparableConv2D(5, 2, padding="same", depth_multiplier=2, activation="elu"),
        layers.AveragePooling2D(2, padding="same"),
        layers.GlobalMaxPooling2D(keepdims=True),
        layers.Reshape((-1,)),
        layers.Dense(2),
    )


def convolution_3d() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6, 5, 7, 2)),
            layers.ZeroPadding3D(((0, 1), (1, 0), (2, 2))),
            layers.Conv3D(3, (2, 3, 2), strides=(1, 2, 1), activation="relu"),
            layers.MaxPooling3D(2),
            layers.AveragePooling3D((1, 2, 2), padding="same"),
            layers.GlobalAveragePooling3D(),
            layers.Dense(2),
        ]
    )


def global_pooling() -> keras.Model:
    line, cube = keras.Input((5, 3), name="line"), keras.Input((3, 2, 4, 3), name="cube")
    pooled = [
        layers.GlobalMaxPooling1D()(line),
        layers.GlobalMaxPooling3D()(cube),
        layers.GlobalAveragePooling3D(keepdims=True)(cube),
    ]
    return keras.Model([line, cube], pooled)


def uneven_pooling() -> keras.Model:
    return _image(
        layers.MaxPooling2D(3, strides=2, padding="same"),
        layers.AveragePooling2D((2, 3), strides=(2, 2), padding="same"),
        layers.AveragePooling2D(2, strides=1),
        shape=(8, 11, 2),
    )


def rescaled() -> keras.Model:
    return _image(
        layers.Rescaling([0.5, -2.0, 1.5], offset=[0.0, 1.0, -1.0]),
        layers.Rescaling(1 / 127.5, offset=-1),
        layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 4.0, 0.25]),
        layers.Normalization(mean=0.5, variance=2.0, axis=None),
        layers.Normalization(),
        layers.Normalization(invert=True),
        layers.Flatten(),
        layers.Dense(2),
    )


def regularized() -> keras.Model:
    return _image(
        layers.GaussianNoise(0.1),
        layers.SpatialDropout2D(0.2),
        layers.Conv2D(3, 3),
        layers.Identity(),
        layers.ActivityRegularization(l2=0.1),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(4, activation="relu"),
        layers.GaussianDropout(0.5),
        layers.AlphaDropout(0.5),
        layers.Dense(2),
    )


def residual() -> keras.Model:
    source = keras.Input((5,), name="features")
    start = layers.Dense(6, activation="relu")(source)
    branch = layers.Dense(6, activation="relu")(start)
    summed = layers.Add()([start, branch, start])
    joined = layers.Concatenate()([summed, layers.Dense(3)(branch)])
    return keras.Model(source, layers.Dense(2)(joined))


def concatenated_axes() -> keras.Model:
    source = keras.Input((4, 3, 2))
    wide = layers.Concatenate(axis=2)([source, layers.Dense(2)(source)])
    tall = layers.Concatenate(axis=-3)([wide, wide])
    return keras.Model(source, layers.Concatenate(axis=3)([tall, layers.Dense(1)(tall)]))


def several_ends() -> keras.Model:
    image, extra = keras.Input((6, 6, 1), name="image"), keras.Input((3,), name="extra")
    flat = layers.Flatten()(layers.Conv2D(2, 3, activation="relu")(image))
    joined = layers.Concatenate()([flat, layers.Dense(4, activation="tanh")(extra)])
    hidden = layers.Dense(5, activation="relu")(joined)
    label = layers.Dense(3, activation="softmax", name="label")(hidden)
    score = layers.Dense(1, activation="sigmoid", name="score")(hidden)
    return keras.Model({"image": image, "extra": extra}, {"score": score, "label": label})


def shared() -> keras.Model:
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    encode = layers.Dense(5, activation="relu", name="encode")
    joined = layers.Concatenate()([encode(right), encode(left)])
    return keras.Model([left, right], layers.Dense(2)(joined))


def nested() -> keras.Model:
    inner_source = keras.Input((6,))
    inner = keras.Model(
        inner_source, layers.Dense(5, activation="relu", name="dense")(inner_source), name="inner"
    )
    backbone = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, activation="relu", name="dense"), inner],
        name="backbone",
    )
    return keras.Sequential(
        [keras.Input((4,)), backbone, layers.Dense(3, name="dense")], name="nested"
    )


def siamese() -> keras.Model:
    first, second = keras.Input((4,)), keras.Input((4,))
    source = keras.Input((4,))
    twice = keras.Model(
        source, [layers.Dense(3, activation="tanh")(source), layers.Dense(2)(source)], name="twice"
    )
    near, far = twice(first), twice(second)
    return keras.Model([first, second], [layers.Add()([near[0], far[0]]), far[1], near[1]])


def nested_by_name() -> keras.Model:
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    joined = layers.Concatenate()([b, layers.Dense(2)(a)])
    inner = keras.Model({"b": b, "a": a}, {"out": layers.Dense(4)(joined)}, name="inner")
    source = keras.Input((3,), name="source")
    two = layers.Dense(2, activation="relu")(source)
    return keras.Model(source, layers.Dense(1)(inner({"a": source, "b": two})["out"]))


def arithmetic() -> keras.Model:
    source = keras.Input((4,))
    hidden = layers.Dense(4)(source / 2.0) * 3.0 - 0.5
    squashed = ops.leaky_relu(ops.relu(hidden) + ops.tanh(hidden) + 1.0, 0.1)
    return keras.Model(source, ops.gelu(1.0 - squashed, approximate=True) + source)


def same_output_twice() -> keras.Model:
    source = keras.Input((3,))
    hidden = layers.Dense(2, activation="relu")(source)
    return keras.Model(source, [hidden, layers.Dense(2)(hidden), hidden])


def deep() -> keras.Model:
    """Many layers, where small errors of each would add up."""
    hidden = [layers.Dense(48, activation="relu") for _ in range(30)]
    return keras.Sequential([keras.Input((6,)), *hidden, layers.Dense(3)])


ARCHITECTURES: dict[str, Build] = {
    build.__name__: build
    for build in (
        mlp,
        dense_on_last_axis,
        batch_normalizations,
        layer_normalizations,
        activation_layers,
        fused_activations,
        convolution_1d,
        convolution_2d,
        depthwise_2d,
        convolution_3d,
        deep,
        global_pooling,
        uneven_pooling,
        rescaled,
        regularized,
        residual,
        concatenated_axes,
        several_ends,
        shared,
        nested,
        siamese,
        nested_by_name,
        arithmetic,
        same_output_twice,
    )
}
