"""The one place that differentiates: a vector-Jacobian product on whatever backend Keras runs.

Everything that needs gradients of a model (attacks, and later heatmaps and synthetic inputs) asks
here, so that TensorFlow, JAX and PyTorch each appear once. Arrays live on the backend's default
device: the GPU where it has one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from numpy.typing import NDArray

from nnprune.errors import BackendError

__all__ = ["backend", "check_backend", "compiled", "devices", "to_numpy", "vjp"]

# A tensor of the backend: tf.Tensor, jax.Array or torch.Tensor.
Tensor = Any


def backend() -> str:
    """Name the backend that Keras runs on: `"tensorflow"`, `"jax"`, `"torch"` or `"numpy"`."""
    name: str = keras.config.backend()
    return name


def check_backend() -> None:
    """Make sure that the backend can differentiate.

    Raises
    ------
    BackendError
        It cannot (numpy, openvino).
    """
    if backend() not in _BACKENDS:
        raise BackendError(
            f"the Keras backend '{backend()}' computes no gradients, which attacks need; set "
            "KERAS_BACKEND to tensorflow, jax or torch before Keras is imported"
        )


def vjp(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    cotangent: Tensor | Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Evaluate a function and the product of a vector with its Jacobian.

    Parameters
    ----------
    function : callable
        Maps a tensor to a tensor, in operations of the backend (a Keras model, `keras.ops`).
    x : tensor
        Where to evaluate; floating point, any shape.
    cotangent : tensor or callable
        The vector, of the shape of the function's value; or what makes it of that value.

    Returns
    -------
    value : tensor
        `function(x)`.
    gradient : tensor
        The gradient of `sum(cotangent * function(x))` with respect to `x`, the cotangent held
        constant; of the shape of `x`, zeros where the function does not depend on it.

    Raises
    ------
    BackendError
        The backend cannot differentiate.
    """
    check_backend()
    return _BACKENDS[backend()](function, x, cotangent)


def _vector(cotangent: Any, value: Tensor) -> Tensor:
    return cotangent(value) if callable(cotangent) else cotangent


def _vjp_tensorflow(function: Any, x: Tensor, cotangent: Any) -> tuple[Tensor, Tensor]:
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        value = function(x)
    gradient = tape.gradient(
        value,
        x,
        output_gradients=_vector(cotangent, value),
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
    return value, gradient


def _vjp_jax(function: Any, x: Tensor, cotangent: Any) -> tuple[Tensor, Tensor]:
    import jax

    value, pull_back = jax.vjp(function, x)
    return value, pull_back(_vector(cotangent, value))[0]


def _vjp_torch(function: Any, x: Tensor, cotangent: Any) -> tuple[Tensor, Tensor]:
    import torch

    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        value = function(leaf)
    vector = _vector(cotangent, value.detach())
    if not value.requires_grad:  # nothing on the way from x
        return value, torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(value, leaf, grad_outputs=vector, materialize_grads=True)
    return value.detach(), gradient


_BACKENDS: dict[str, Callable[[Any, Tensor, Any], tuple[Tensor, Tensor]]] = {
    "tensorflow": _vjp_tensorflow,
    "jax": _vjp_jax,
    "torch": _vjp_torch,
}


def compiled(function: Callable[..., Any], model: keras.Model | None = None) -> Callable[..., Any]:
    """Let the backend compile a function of tensors: `tf.function`, `jax.jit`, plain for PyTorch.

    Parameters
    ----------
    function : callable
        Maps tensors to tensors, samples along the first axis; then also NumPy arrays.
    model : keras.Model, optional
        The model that the function computes with, if any: its weights are those at each call.

    Returns
    -------
    callable
        Takes and gives what the function does.
    """
    name = backend()
    if name == "tensorflow":
        return _compiled_tensorflow(function)
    if name == "jax":
        return _compiled_jax(function, [] if model is None else model.variables)
    if name == "torch":
        return _plain_torch(function)
    return function


def _compiled_jax(function: Callable[..., Any], variables: list[Any]) -> Callable[..., Any]:
    """Hand the weights over at every call: else they would be those of the first for ever."""
    import jax

    def stateless(values: list[Tensor], *arguments: Any) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(*arguments)

    traced = jax.jit(stateless)
    return lambda *arguments: traced([variable.value for variable in variables], *arguments)


def _plain_torch(function: Callable[..., Any]) -> Callable[..., Any]:
    """Call a function on tensors, without a record of them beyond `vjp`."""
    import torch

    def call(*arguments: Any) -> Any:
        with torch.no_grad():
            return function(*map(keras.ops.convert_to_tensor, arguments))

    return call


def _compiled_tensorflow(function: Callable[..., Any]) -> Callable[..., Any]:
    """Trace a function once for all numbers of samples, not anew for each."""
    import tensorflow as tf

    traced = tf.function(function, autograph=False)
    known: dict[Any, Callable[..., Any]] = {}

    def call(*arguments: Any) -> Any:
        tensors = tf.nest.map_structure(tf.convert_to_tensor, arguments)
        flat = tf.nest.flatten(tensors)
        key = tuple((tensor.dtype, tensor.shape.rank, *tensor.shape[1:]) for tensor in flat)
        if key not in known:
            specs = tf.nest.map_structure(
                lambda tensor: (
                    tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)
                    if tensor.shape.rank
                    else tf.TensorSpec([], tensor.dtype)
                ),
                tensors,
            )
            known[key] = traced.get_concrete_function(*specs)
        return known[key](*tensors)

    return call


def to_numpy(tensor: Tensor) -> NDArray[Any]:
    """Bring a tensor from its device into a NumPy array."""
    array: NDArray[Any] = keras.ops.convert_to_numpy(tensor)
    return array


def devices() -> list[str]:
    """Name the kinds of device that the backend computes on: `["CPU"]`, `["GPU"]`."""
    name = backend()
    if name == "tensorflow":
        import tensorflow as tf

        return ["GPU"] if tf.config.list_logical_devices("GPU") else ["CPU"]
    if name == "jax":
        import jax

        return sorted({device.platform.upper() for device in jax.devices()})
    if name == "torch":
        import torch

        return ["GPU"] if torch.cuda.is_available() else ["CPU"]
    return ["CPU"]
