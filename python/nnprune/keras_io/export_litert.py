"""To LiteRT (the former TensorFlow Lite), and evaluation there."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnprune.keras_io.export_trace import Traced, Unexportable
from nnprune.keras_io.litert_runtime import interpreter
from nnprune.keras_io.silence import silenced
from nnprune.keras_io.wording import one_line

__all__ = ["evaluate_litert", "to_litert"]

_SIGNATURE = "serving_default"


def to_litert(trace: Callable[[int | None], Traced]) -> tuple[bytes, Traced]:
    """Convert a traced model.

    Parameters
    ----------
    trace : callable
        Traces the model for a number of samples, or for any (None).

    Returns
    -------
    bytes, Traced
        The model with the signature `serving_default`, and what was converted. It takes one
        sample until its inputs are resized; a model with recurrent layers takes one only, as for
        any number of them these need operations that LiteRT does not have.

    Raises
    ------
    Unexportable
        LiteRT has no equivalent for an operation of the model.
    """
    reason = ""
    for batch in (None, 1):
        traced = trace(batch)
        try:
            with silenced():
                return _convert(traced), traced
        except Exception as error:  # the converter raises many kinds
            missing = sorted(set(re.findall(r"'tf\.(\w+)' op is neither", str(error))))
            reason = f"no equivalent for {', '.join(missing)}" if missing else one_line(error)
    raise Unexportable(reason)


def _convert(traced: Traced) -> bytes:
    import tensorflow as tf

    owner = tf.Module()
    owner.variables_read = [variable.value for variable in traced.model.variables]
    owner.constants_read = [outside for outside, _ in traced.function.graph.captures]
    with tempfile.TemporaryDirectory(prefix="nnprune-") as folder:
        tf.saved_model.save(owner, folder, signatures={_SIGNATURE: traced.function})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        # Without these, weights stay variables that nobody fills.
        converter.experimental_enable_resource_variables = False
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        data: bytes = converter.convert()
    return data


def evaluate_litert(
    data: bytes, traced: Traced, inputs: Sequence[NDArray[Any]]
) -> list[NDArray[np.float64]]:
    """Run a converted model, sample by sample.

    Parameters
    ----------
    data : bytes
        The model.
    traced : Traced
        What it was converted from.
    inputs : sequence of array of shape (samples, ...)
        In Keras' order.

    Returns
    -------
    list of array of shape (samples, ...)
        The outputs in Keras' order.
    """
    opened = interpreter(data)
    with silenced():
        run = opened.get_signature_runner(_SIGNATURE)
        rows = [
            run(**{name: one[at : at + 1] for name, one in zip(traced.inputs, inputs, strict=True)})
            for at in range(len(inputs[0]))
        ]
    return [
        np.concatenate([np.asarray(row[name], np.float64) for row in rows])
        for name in traced.outputs
    ]
