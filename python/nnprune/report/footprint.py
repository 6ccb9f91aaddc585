"""What a model costs: parameters, arithmetic, files, time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnprune.report import format as fmt
from nnprune.report.figures import Figure, amounts, plain
from nnprune.report.models import Entry, reference

__all__ = ["FootprintView", "file_figure", "footprint_view", "latency_figure", "size_figure"]


@dataclass(frozen=True, kw_only=True)
class FootprintView:
    """What the section shows.

    Attributes
    ----------
    sizes, times : tuple of Figure
        The tables.
    conditions : tuple of str
        How the times were taken, once if the same for all.
    uncounted : tuple of (str, str, str)
        Layers that the arithmetic leaves out: models, layer, reason.
    """

    sizes: tuple[Figure, ...]
    times: tuple[Figure, ...]
    conditions: tuple[str, ...]
    uncounted: tuple[tuple[str, str, str], ...]


def footprint_view(models: Sequence[Entry]) -> FootprintView:
    """Return the section; sizes are always known."""
    sizes = [
        size_figure(models, "Parameters", "parameters"),
        size_figure(models, "Trainable parameters", "trainable_parameters"),
        size_figure(models, "Non-zero parameters", "nonzero_parameters"),
        plain("Compression ratio", _compression(models)),
        size_figure(models, "MACs", "macs", "per sample"),
        size_figure(models, "FLOPs", "flops", "2 \N{MULTIPLICATION SIGN} MACs"),
        file_figure(models, ".keras file", "keras_bytes"),
        file_figure(models, ".keras file, gzip", "keras_gzip_bytes"),
        file_figure(models, "LiteRT file", "litert_bytes"),
        file_figure(models, "LiteRT file, gzip", "litert_gzip_bytes"),
    ]
    times = [
        latency_figure(models, "Median latency", "p50_seconds"),
        latency_figure(models, "90th percentile", "p90_seconds"),
        latency_figure(models, "Fastest run", "min_seconds"),
    ]
    return FootprintView(
        sizes=tuple(figure for figure in sizes if figure.known()),
        times=tuple(figure for figure in times if figure.known()),
        conditions=_conditions(models),
        uncounted=_uncounted(models),
    )


def size_figure(models: Sequence[Entry], name: str, key: str, detail: str = "") -> Figure:
    """Return a count of `size` for all models."""
    return amounts(
        name,
        [entry.record["size"][key] for entry in models],
        fmt.count,
        compared=reference(models) is not None,
        detail=detail,
        bars=True,
    )


def file_figure(models: Sequence[Entry], name: str, key: str, detail: str = "") -> Figure:
    """Return a file's size for all models."""
    return amounts(
        name,
        [entry.record["size"][key] for entry in models],
        fmt.byte_size,
        compared=reference(models) is not None,
        detail=detail,
        exact=lambda size: f"{fmt.count(size)} bytes",
        bars=True,
    )


def latency_figure(models: Sequence[Entry], name: str, key: str, detail: str = "") -> Figure:
    """Return a time of `latency` for all models."""
    return amounts(
        name,
        [(entry.record["latency"] or {}).get(key) for entry in models],
        fmt.duration,
        compared=reference(models) is not None,
        detail=detail,
        words=("faster", "slower"),
        bars=True,
    )


def _compression(models: Sequence[Entry]) -> list[str | None]:
    """Return parameters of the original over non-zero parameters, as Kundu et al. (2021) do."""
    origin = reference(models)
    ratios = []
    for entry in models:
        size = entry.record["size"]
        total = (origin or entry).record["size"]["parameters"]
        left = size["nonzero_parameters"]
        ratios.append(f"{total / left:.2f}\N{MULTIPLICATION SIGN}" if left else None)
    return ratios


def _uncounted(models: Sequence[Entry]) -> tuple[tuple[str, str, str], ...]:
    """Return the layers without a count, once where it is the same for several models."""
    found: dict[tuple[str, str], list[str]] = {}
    for entry in models:
        for layer, reason in entry.record["size"]["uncounted"].items():
            found.setdefault((layer, reason), []).append(entry.key)
    return tuple((", ".join(keys), layer, reason) for (layer, reason), keys in found.items())


def _conditions(models: Sequence[Entry]) -> tuple[str, ...]:
    """Return how the times were taken: one sentence, or one for each way."""
    found: dict[str, list[str]] = {}
    for entry in models:
        if entry.record["latency"]:
            found.setdefault(_condition(entry.record["latency"]), []).append(entry.key)
    if len(found) == 1:
        return tuple(found)
    return tuple(f"{', '.join(keys)}: {told}" for told, keys in found.items())


def _condition(latency: Mapping[str, Any]) -> str:
    """Return how one model's times were taken."""
    threads, batch = latency["threads"], latency["batch"]
    return (
        f"{latency['runtime']} on {latency['device']}, {threads}"
        f" thread{'' if threads == 1 else 's'}, batch of {batch},"
        f" {fmt.count(latency['runs'])} runs after {fmt.count(latency['warmup'])} to warm up"
    )
