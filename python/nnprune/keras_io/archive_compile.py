"""The compile settings of which it is known how Keras writes them after it has read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nnprune.keras_io.archive_values import (
    Check,
    at_least,
    constant,
    either,
    flag,
    matches,
    name,
    nothing,
    number,
    off,
    plain_object,
    within,
)

__all__ = ["is_known_setting", "learning_rate"]

# Names that mean the same whatever the model's outputs are.
_LOSSES = frozenset(
    {
        "binary_crossentropy",
        "categorical_crossentropy",
        "hinge",
        "huber",
        "kl_divergence",
        "mae",
        "mean_absolute_error",
        "mean_squared_error",
        "mse",
        "sparse_categorical_crossentropy",
    }
)
_METRICS = _LOSSES - {"huber"} | {
    "accuracy",
    "binary_accuracy",
    "categorical_accuracy",
    "sparse_categorical_accuracy",
}


def is_known_setting(settings: Any) -> bool:
    """Whether compile settings are none, or such as Keras writes again as they were."""
    return settings == {} or matches(settings, _SETTINGS)


def learning_rate(settings: Mapping[str, Any]) -> float:
    """Read the learning rate, a float32."""
    return float(settings["optimizer"]["config"]["learning_rate"])


def _float32(value: Any) -> bool:
    """Accept what a variable of the optimizer holds without rounding."""
    with np.errstate(over="ignore"):
        return number(value) and float(np.float32(value)) == value


_FRACTION = within(0.0, 1.0)
_EVERY_OPTIMIZER: dict[str, Check] = {
    "name": name,
    "learning_rate": _float32,
    "weight_decay": either(nothing, at_least(0.0)),
    "clipnorm": nothing,
    "global_clipnorm": nothing,
    "clipvalue": nothing,
    "use_ema": off,
    "ema_momentum": _FRACTION,
    "ema_overwrite_frequency": nothing,
    "loss_scale_factor": nothing,
    "gradient_accumulation_steps": nothing,
}
_MOMENTS: dict[str, Check] = {"beta_1": _FRACTION, "beta_2": _FRACTION, "epsilon": at_least(0.0)}
_OPTIMIZERS: dict[str, dict[str, Check]] = {
    "Adam": _MOMENTS | {"amsgrad": flag},
    "AdamW": _MOMENTS | {"amsgrad": flag, "weight_decay": at_least(0.0)},
    "Adamax": _MOMENTS,
    "Nadam": _MOMENTS,
    "RMSprop": {
        "rho": _FRACTION,
        "momentum": _FRACTION,
        "epsilon": at_least(0.0),
        "centered": flag,
    },
    "SGD": {"momentum": _FRACTION, "nesterov": flag},
}

_LOSS: dict[str, Check] = {"name": name, "reduction": constant("sum_over_batch_size")}
_SMOOTHED: dict[str, Check] = {
    **_LOSS,
    "from_logits": flag,
    "label_smoothing": _FRACTION,
    "axis": constant(-1),
}
_LOSS_CLASSES: dict[str, dict[str, Check]] = {
    "BinaryCrossentropy": _SMOOTHED,
    "CategoricalCrossentropy": _SMOOTHED,
    "MeanAbsoluteError": _LOSS,
    "MeanSquaredError": _LOSS,
    "SparseCategoricalCrossentropy": {**_LOSS, "from_logits": flag, "ignore_class": nothing},
}


def _metrics(value: Any) -> bool:
    named = isinstance(value, list) and all(isinstance(one, str) for one in value)
    return named and set(value) <= _METRICS


_SETTINGS: dict[str, Check] = {
    "optimizer": either(
        *(
            plain_object("keras.optimizers", kind, _EVERY_OPTIMIZER | entries)
            for kind, entries in _OPTIMIZERS.items()
        )
    ),
    "loss": either(
        nothing,
        constant(*_LOSSES),
        *(plain_object("keras.losses", kind, entries) for kind, entries in _LOSS_CLASSES.items()),
    ),
    "loss_weights": nothing,
    "metrics": either(nothing, _metrics),
    "weighted_metrics": nothing,
    "run_eagerly": off,
    "steps_per_execution": constant(1),
    "jit_compile": flag,
}
