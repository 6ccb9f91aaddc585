"""What the loss that a model is compiled with is for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import keras

__all__ = ["LossTask", "loss_task", "task_of_loss"]

LossTask = Literal["classification", "regression"]

_CLASSIFYING_LOSSES = frozenset(
    {
        "binarycrossentropy",
        "binaryfocalcrossentropy",
        "categoricalcrossentropy",
        "categoricalfocalcrossentropy",
        "categoricalhinge",
        "sparsecategoricalcrossentropy",
    }
)
_REGRESSION_LOSSES = frozenset(
    {
        "huber",
        "logcosh",
        "mae",
        "mape",
        "meanabsoluteerror",
        "meanabsolutepercentageerror",
        "meansquarederror",
        "meansquaredlogarithmicerror",
        "mse",
        "msle",
        "poisson",
    }
)


def loss_task(model: keras.Model) -> LossTask | None:
    """Tell what the loss that a model is compiled with is for; None if it does not say."""
    loss = getattr(model, "loss", None)
    if isinstance(loss, list | tuple | dict):
        losses = list(loss.values() if isinstance(loss, dict) else loss)
        loss = losses[0] if len(losses) == 1 else None
    if loss is None:
        return None
    return task_of_loss(
        loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    )


def task_of_loss(name: str) -> LossTask | None:
    """Tell what a loss is for by its name, that of a function or of a class."""
    plain = name.lower().replace("_", "")
    if plain in _CLASSIFYING_LOSSES:
        return "classification"
    return "regression" if plain in _REGRESSION_LOSSES else None
