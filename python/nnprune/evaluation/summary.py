"""The main figures of an evaluation as a table of plain text, one column a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["summary"]


def summary(document: Mapping[str, Any]) -> str:
    """Make the table, with the flags and warnings under it."""
    models = document["models"]
    rows = [("", [model["label"] for model in models])]
    rows += _sizes(models)
    rows += _qualities(models)
    rows += _robust(models)
    rows += _calibrations(models)
    width = max(12, *(len(cell) + 2 for _, cells in rows for cell in cells))
    name_width = max(len(name) for name, _ in rows)
    lines = [
        f"{name:<{name_width}}" + "".join(f"{cell:>{width}}" for cell in cells)
        for name, cells in rows
    ]
    data = document["data"]
    if data is not None:
        lines.append(f"on {data['samples']:,} samples of {data['source']}")
    lines += [f"no {section}: {why}" for section, why in document["absent"].items()]
    lines += [
        f"! {model['label']}: {outcome['attack']}: {flag}"
        for model in models
        for outcome in model["robustness"] or ()
        for flag in outcome["flags"]
    ]
    lines += [f"! {warning}" for warning in document["warnings"]]
    return "\n".join(lines)


_Rows = list[tuple[str, list[str]]]


def _row(
    name: str, models: Sequence[Mapping[str, Any]], cell: Callable[[Mapping[str, Any]], str | None]
) -> _Rows:
    """Make a row, unless no model has anything to show in it."""
    cells = [cell(model) for model in models]
    return [] if all(one is None for one in cells) else [(name, [one or "-" for one in cells])]


def _sizes(models: Sequence[Mapping[str, Any]]) -> _Rows:
    def size(key: str, form: str = ",") -> Callable[[Mapping[str, Any]], str | None]:
        return lambda model: (
            None if model["size"][key] is None else format(model["size"][key], form)
        )

    def latency(model: Mapping[str, Any]) -> str | None:
        measured = model["latency"]
        return None if measured is None else f"{measured['p50_seconds'] * 1e6:.1f} us"

    return [
        *_row("parameters", models, size("parameters")),
        *_row("MACs", models, size("macs")),
        *_row("file, bytes", models, size("keras_bytes")),
        *_row("file gzipped, bytes", models, size("keras_gzip_bytes")),
        *_row("LiteRT, bytes", models, size("litert_bytes")),
        *_row("latency here, median", models, latency),
    ]


def _qualities(models: Sequence[Mapping[str, Any]]) -> _Rows:
    def share(key: str) -> Callable[[Mapping[str, Any]], str | None]:
        def cell(model: Mapping[str, Any]) -> str | None:
            found = (model["quality"] or {}).get(key)
            return None if found is None else f"{found['value']:.2%}"

        return cell

    def interval(model: Mapping[str, Any]) -> str | None:
        found = (model["quality"] or {}).get("accuracy")
        return None if found is None else f"{found['lower']:.1%} to {found['upper']:.1%}"

    def number(key: str) -> Callable[[Mapping[str, Any]], str | None]:
        def cell(model: Mapping[str, Any]) -> str | None:
            found = (model["quality"] or {}).get(key)
            return None if found is None else f"{found:.4g}"

        return cell

    return [
        *_row("accuracy", models, share("accuracy")),
        *_row("  95 % interval", models, interval),
        *_row("top-5", models, share("top5")),
        *_row("agrees with the original", models, share("agreement")),
        *_row("mean squared error", models, number("mse")),
        *_row("mean absolute error", models, number("mae")),
        *_row("mean change of outputs", models, number("mean_change")),
        *_row("largest change of outputs", models, number("largest_change")),
    ]


_KINDS = (("white_box", ""), ("transfer", ", transferred"), ("certified", ", certified"))


def _robust(models: Sequence[Mapping[str, Any]]) -> _Rows:
    rows: _Rows = []
    names = [
        (outcome["attack"], point["epsilon"])
        for outcome in models[0]["robustness"] or ()
        for point in outcome["points"]
    ]
    for attack, epsilon in names:
        for kind, suffix in _KINDS:

            def cell(
                model: Mapping[str, Any],
                attack: str = attack,
                epsilon: float = epsilon,
                kind: str = kind,
            ) -> str | None:
                for outcome in model["robustness"] or ():
                    for point in outcome["points"]:
                        if (outcome["attack"], point["epsilon"]) == (attack, epsilon):
                            found = point.get(kind)
                            return None if found is None else f"{found['value']:.2%}"
                return None

            rows += _row(f"robust, {attack} {epsilon:.4g}{suffix}", models, cell)
    return rows


def _calibrations(models: Sequence[Mapping[str, Any]]) -> _Rows:
    def share(key: str) -> Callable[[Mapping[str, Any]], str | None]:
        return lambda model: (
            None if model["calibration"] is None else f"{model['calibration'][key]:.2%}"
        )

    return [*_row("calibration error, ECE", models, share("ece"))]
