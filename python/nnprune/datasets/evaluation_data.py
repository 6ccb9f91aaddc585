"""Evaluation data in batches as a model takes them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from nnprune.datasets.arrays import Rows
from nnprune.datasets.checks import SampleReader
from nnprune.datasets.expectation import Batch, DataDescription, Expectation
from nnprune.datasets.inputs import Scaling
from nnprune.errors import ConfigError, DataError

__all__ = ["EvaluationData", "RawChunk", "Source"]

# Values looked at together before any work: 1 MiB as float32.
_VALUES_A_CHUNK = 1 << 18


class RawChunk(NamedTuple):
    """Inputs and labels of some samples as the source has them, samples along the first axis."""

    x: NDArray[Any]
    y: NDArray[Any]


class Source(Protocol):
    """Where samples come from.

    Attributes
    ----------
    name : str
        What the report calls it.
    array_names : (str, str)
        How messages name its inputs and labels.
    samples : int or None
        How many it has; None for a stream, which does not say.
    warnings : tuple of str
        What is odd about it, as found when it was opened.
    surveyed : bool
        Whether it is looked at as a whole before any work; else it is read only once.
    """

    name: str
    array_names: tuple[str, str]
    samples: int | None
    warnings: tuple[str, ...]
    surveyed: bool

    @property
    def sha256(self) -> str | None:
        """Fingerprint of its files."""

    def prepare(self, expectation: Expectation, *, scaled: bool) -> Scaling | None:
        """Check what can be known without reading samples.

        Parameters
        ----------
        expectation : Expectation
            What the model takes.
        scaled : bool
            Whether the user has said how to scale the values.

        Returns
        -------
        Scaling or None
            How to scale them if the user has not said.

        Raises
        ------
        DataError
            The source does not fit the model.
        """

    def rows(self) -> tuple[Rows, Rows] | None:
        """Return its arrays, if it has whole ones."""

    def chunks(self, expectation: Expectation, size: int) -> Iterator[RawChunk]:
        """Begin a pass over all samples in order, at most `size` of them at a time."""
        ...


class EvaluationData:
    """Samples and labels from one source, for any model; made by `open_data`.

    Memory does not grow with the data.

    Attributes
    ----------
    warnings : list of str
        What is odd about the data, in sentences; complete after a pass.
    """

    def __init__(self, source: Source, *, scale: float | None, offset: float | None) -> None:
        """Take a source, and how to scale its values."""
        for name, value in (("scale", scale), ("offset", offset)):
            if value is not None and not math.isfinite(value):
                raise ConfigError(f"{name} must be a finite number, got {value}")
        if scale == 0:
            raise ConfigError("scale must not be 0: it would make all samples the same")
        self._source = source
        self._scale, self._offset = scale, offset
        self._fitted: tuple[Expectation, SampleReader] | None = None
        self._delivered = 0
        self.warnings: list[str] = list(source.warnings)

    @property
    def source(self) -> str:
        """Name of the file or folder, or what kind of object it is."""
        return self._source.name

    @property
    def samples(self) -> int | None:
        """How many samples there are; None for a stream, which does not say beforehand."""
        return self._source.samples

    @property
    def sha256(self) -> str | None:
        """Fingerprint of the files (see `DataDescription`); None for data in memory."""
        return self._source.sha256

    def check(self, expectation: Expectation) -> None:
        """Find out whether the data fit a model, before any work is done.

        Arrays are looked at as a whole, in one pass. Of an image folder only the folders are, and
        a stream is left alone: what is wrong with their samples comes up batch by batch.

        Parameters
        ----------
        expectation : Expectation
            What the model takes.

        Raises
        ------
        DataError
            They do not fit; the message names what, how many, and the remedy.
        """
        self._fit(expectation)

    def batches(self, expectation: Expectation, batch_size: int) -> Iterator[Batch]:
        """Begin a pass over the data: check them, then give them in order.

        Parameters
        ----------
        expectation : Expectation
            What the model takes.
        batch_size : int
            Samples in every batch but the last, which may have fewer. How a stream is cut does
            not matter.

        Returns
        -------
        iterator of Batch
            The samples. Data that do not fit raise DataError: arrays at once, an image folder or
            a stream when the batch comes.

        Raises
        ------
        ConfigError
            `batch_size` is not positive.
        DataError
            The data do not fit, or they are an iterator that has been used up.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
        reader = self._fit(expectation)
        self._delivered = 0
        chunks = self._source.chunks(expectation, batch_size)
        if self._source.surveyed:
            return self._counted(reader.convert(chunk.x, chunk.y) for chunk in chunks)
        return self._counted(_rebatched(self._read(chunks, reader), batch_size))

    def description(self) -> DataDescription:
        """Return what the report says about the data; complete after a pass.

        Raises
        ------
        RuntimeError
            No pass has begun yet.
        """
        if self._fitted is None:
            raise RuntimeError("a pass over the batches describes the data; none has begun")
        _, reader = self._fitted
        applied = reader.scaling
        given = self._scale is not None or self._offset is not None
        return DataDescription(
            source=self._source.name,
            sha256=self._source.sha256,
            samples=self._delivered,
            labels=reader.labels,
            reshaped_from=reader.reshaped_from,
            scale=self._scale if given or applied is None else applied.scale,
            offset=self._offset if given or applied is None else applied.offset,
        )

    def _fit(self, expectation: Expectation) -> SampleReader:
        """Prepare to read the samples for a model; arrays are then known to be right."""
        if self._fitted is not None and self._fitted[0] is expectation and self._source.surveyed:
            return self._fitted[1]
        scaled = self._scale is not None or self._offset is not None
        scaling = self._source.prepare(expectation, scaled=scaled)
        if scaled:
            scaling = Scaling(1.0 if self._scale is None else self._scale, self._offset or 0.0)
        reader = SampleReader(self._source.array_names, expectation, scaling)
        if self._source.surveyed:
            self._survey(expectation, reader)
        self._fitted = expectation, reader
        return reader

    def _survey(self, expectation: Expectation, reader: SampleReader) -> None:
        rows = self._source.rows()
        if rows is not None:  # before anything is read
            x, y = rows
            reader.meet(x.shape[1:], x.dtype, y.shape[1:], y.dtype)
        size = max(1, _VALUES_A_CHUNK // max(1, math.prod(expectation.input_shape)))
        for chunk in self._source.chunks(expectation, size):
            reader.survey(chunk.x, chunk.y)
        reader.verdict()
        self.warnings = [*self._source.warnings, *reader.warnings()]

    def _read(self, chunks: Iterator[RawChunk], reader: SampleReader) -> Iterator[Batch]:
        for chunk in chunks:
            yield reader.read(chunk.x, chunk.y)
        if not reader.samples:
            raise DataError(f"{self._source.name}: there are no samples (has it been used up?)")
        self.warnings = [*self._source.warnings, *reader.warnings()]

    def _counted(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            self._delivered += len(batch.y)
            yield batch


def _rebatched(batches: Iterable[Batch], size: int) -> Iterator[Batch]:
    """Cut and join batches, each of at most `size` samples, to exactly `size` but for the last."""
    held: list[Batch] = []
    count = 0
    for batch in batches:
        taken = size - count
        held.append(_part(batch, 0, taken))
        count += len(held[-1].y)
        if count == size:
            yield _joined(held)
            count = len(batch.y) - taken
            held = [_part(batch, taken, size)] if count else []
    if count:
        yield _joined(held)


def _part(batch: Batch, start: int, stop: int) -> Batch:
    return Batch(batch.x[start:stop], batch.y[start:stop])


def _joined(batches: list[Batch]) -> Batch:
    if len(batches) == 1:
        return batches[0]
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return Batch(x, y)
