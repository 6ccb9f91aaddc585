"""Every exception this package raises on purpose.

All derive from `NnpruneError`. The compiled core raises the very same classes:
they are defined here, and imported there.
"""

from __future__ import annotations

__all__ = [
    "BackendError",
    "BoundsError",
    "CertificateError",
    "ConfigError",
    "DataError",
    "FileFormatError",
    "LegacyModelError",
    "MissingExtraError",
    "ModelError",
    "NnpruneError",
    "NothingToPruneError",
    "OutputError",
    "UnknownLayerError",
    "UntrustedModelError",
    "WeightError",
]


class NnpruneError(Exception):
    """Base class of every error raised by nnprune."""


class ConfigError(NnpruneError, ValueError):
    """An option or argument is out of range or of the wrong kind; the message names it."""


class BoundsError(ConfigError):
    """The input bounds are inverted, not finite, or of the wrong shape."""


class UnknownLayerError(ConfigError):
    """A layer was named that the model does not have, or that has no units to prune."""


class ModelError(NnpruneError, ValueError):
    """The model cannot be worked on as it is; the message names the layer and the remedy."""


class WeightError(ModelError):
    """A weight is NaN, infinite or of the wrong shape; the message names the layer."""


class NothingToPruneError(ModelError):
    """The model has no unit that could be removed; the message says why, layer by layer."""


class LegacyModelError(ModelError):
    """The file was written by Keras 2 and needs the extra `legacy` to be read."""


class FileFormatError(NnpruneError, ValueError):
    """The file is no Keras model, or it is truncated or corrupt."""


class UntrustedModelError(NnpruneError):
    """The file asks for something an unknown file must not do; see the option `trust`."""


class OutputError(NnpruneError, OSError):
    """The result cannot be written where it was asked for; nothing was changed there."""


class DataError(NnpruneError, ValueError):
    """Evaluation data are wrong or do not fit the model; the message names what and the remedy."""


class CertificateError(NnpruneError, ValueError):
    """A certificate says more than can be proved; the message names the output."""


class BackendError(NnpruneError):
    """The Keras backend in use cannot do what was asked for, such as differentiate."""


class MissingExtraError(NnpruneError, ImportError):
    """An optional package is needed; the message names the extra to install."""
