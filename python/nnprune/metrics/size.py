"""How large a model is: parameters, multiply-accumulates, bytes of its files, layer by layer."""

from __future__ import annotations

import os
import tempfile
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnprune.errors import DataError, OutputError

if TYPE_CHECKING:
    import keras

__all__ = ["LayerSize", "ModelSize", "layer_table", "measure_size"]

_CHUNK = 1 << 20
_GZIP = 31  # zlib's number for its largest window in a gzip file, which then has no time or name


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """How large a model is.

    Attributes
    ----------
    parameters : int
        Numbers in all weights, statistics of normalizations among them.
    trainable_parameters : int
        Those that training changes.
    nonzero_parameters : int
        Those that are not 0. Zeros make a file smaller only after compression.
    macs : int
        Multiply-accumulates of one evaluation of one sample. Elementwise work is left out:
        activations, biases, pooling, and normalization, which can be folded into other layers.
    flops : int
        Twice `macs`.
    uncounted : mapping of str to str
        Layers whose work is not in `macs`, and why.
    keras_bytes, keras_gzip_bytes : int or None
        Size of the model file, and of that file compressed by gzip at level 9; None where the
        model cannot be saved.
    litert_bytes, litert_gzip_bytes : int or None
        The same of the model exported to LiteRT; None without one.
    """

    parameters: int
    trainable_parameters: int
    nonzero_parameters: int
    macs: int
    flops: int
    uncounted: Mapping[str, str]
    keras_bytes: int | None
    keras_gzip_bytes: int | None
    litert_bytes: int | None
    litert_gzip_bytes: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {**vars(self), "uncounted": dict(self.uncounted)}


@dataclass(frozen=True, kw_only=True)
class LayerSize:
    """One layer, and what it was in the original model.

    Attributes
    ----------
    layer : str
        Its name, nested models' names in front.
    kind : str
        Name of its class.
    units_before, units : int or None
        Number of units (filters of a convolution); None for layers that have no such number.
    parameters_before, parameters : int or None, int
        Numbers in its weights.
    macs_before, macs : int or None, int
        Its multiply-accumulates, of all calls; 0 for a layer that is not counted, see
        `ModelSize.uncounted`.
    density : float
        Fraction of its weights that are not 0; 1 for a layer without weights.
    reason : str or None
        Why none of its units went; None if some did, or if it has none.

    Notes
    -----
    What it was before is None without an original, and for layers that the original does not have.
    """

    layer: str
    kind: str
    units_before: int | None
    units: int | None
    parameters_before: int | None
    parameters: int
    macs_before: int | None
    macs: int
    density: float
    reason: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)


def measure_size(
    model: keras.Model, *, path: str | os.PathLike[str] | None = None, litert: bytes | None = None
) -> ModelSize:
    """Measure how large a model is.

    Parameters
    ----------
    model : keras.Model
        A built Sequential or Functional model.
    path : path-like, optional
        The file that it was read from. Without one, or for a folder, the model is saved as
        `.keras` to a temporary folder. Either file holds the state of the optimizer, too, where a
        trained model is still compiled.
    litert : bytes, optional
        The model exported to LiteRT.

    Returns
    -------
    ModelSize
        What was measured.

    Raises
    ------
    ModelError
        The model has no layer graph, or an input of it has no fixed shape.
    DataError
        `path` cannot be read.
    """
    from nnprune.keras_io.layer_weights import count_weights
    from nnprune.keras_io.macs import macs_by_layer

    macs, uncounted = macs_by_layer(model)
    counts = count_weights(model)
    file = _saved_size(model) if path is None or os.path.isdir(path) else _file_size(path)
    exported = (None, None) if litert is None else _sizes([litert])
    return ModelSize(
        parameters=counts.parameters,
        trainable_parameters=counts.trainable,
        nonzero_parameters=counts.nonzero,
        macs=sum(macs.values()),
        flops=2 * sum(macs.values()),
        uncounted=uncounted,
        keras_bytes=file[0],
        keras_gzip_bytes=file[1],
        litert_bytes=exported[0],
        litert_gzip_bytes=exported[1],
    )


def layer_table(
    model: keras.Model,
    original: keras.Model | None = None,
    reasons: Mapping[str, str] | None = None,
) -> tuple[LayerSize, ...]:
    """List the layers of a model that have weights, or a reason why no unit of them went.

    Parameters
    ----------
    model : keras.Model
        A built Sequential or Functional model.
    original : keras.Model, optional
        What it was pruned from: layers of the same path are compared.
    reasons : mapping of str to str, optional
        Why no unit of a layer went, by its path.

    Returns
    -------
    tuple of LayerSize
        In the model's order. A layer that is found under several paths is listed once.

    Raises
    ------
    ModelError
        A model has no layer graph, or an input of it has no fixed shape.
    """
    from nnprune.keras_io.layer_weights import LayerWeights, layer_weights
    from nnprune.keras_io.macs import macs_by_layer

    reasons = reasons or {}
    macs, _ = macs_by_layer(model)
    before: dict[str, LayerWeights] = {}
    macs_before: dict[str, int] = {}
    if original is not None:
        before = {one.layer: one for one in layer_weights(original)}
        macs_before, _ = macs_by_layer(original)
    table = []
    for one in layer_weights(model):
        reason, was = reasons.get(one.layer), before.get(one.layer)
        parameters = one.counts.parameters
        if not parameters and reason is None:
            continue
        table.append(
            LayerSize(
                layer=one.layer,
                kind=one.kind,
                units_before=None if was is None else was.units,
                units=one.units,
                parameters_before=None if was is None else was.counts.parameters,
                parameters=parameters,
                macs_before=None if was is None else macs_before.get(one.layer, 0),
                macs=macs.get(one.layer, 0),
                density=one.counts.nonzero / parameters if parameters else 1.0,
                reason=reason,
            )
        )
    return tuple(table)


def _saved_size(model: keras.Model) -> tuple[int, int] | tuple[None, None]:
    """Save a model to a temporary file to see how large that is."""
    from nnprune.keras_io.save import save_model

    with tempfile.TemporaryDirectory(prefix="nnprune-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about reading back a file that is not kept
        try:
            return _file_size(save_model(model, Path(folder) / "model.keras"))
        except OutputError:
            return None, None


def _file_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    try:
        return _sizes(_chunks(path))
    except OSError as error:
        raise DataError(f"{os.fspath(path)}: cannot be read ({error.strerror or error})") from error


def _chunks(path: str | os.PathLike[str]) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _sizes(chunks: Iterable[bytes]) -> tuple[int, int]:
    """Count bytes, and what gzip makes of them, without holding more than a part in memory."""
    compressor = zlib.compressobj(9, wbits=_GZIP)
    plain = compressed = 0
    for chunk in chunks:
        plain += len(chunk)
        compressed += len(compressor.compress(chunk))
    return plain, compressed + len(compressor.flush())
