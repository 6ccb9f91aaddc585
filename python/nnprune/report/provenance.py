"""Where the figures come from: programs, machine, data, files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnprune.report import format as fmt

__all__ = ["facts", "moment"]

_LABELS = {
    "integers": "whole numbers",
    "one_hot": "one-hot",
    "values": "values to predict",
}
_BOXES = {
    "given": "as given",
    "default": "the default, for no bounds were given",
    "rescaling": "from the leading Rescaling layer",
    "assumed": "ASSUMED: mean \N{PLUS-MINUS SIGN} 4 standard deviations of the leading"
    " Normalization layer",
}


def facts(document: Mapping[str, Any]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return names and values, in the order in which they are shown."""
    origin = document["provenance"]
    versions = (
        f"nnprune {origin['nnprune']}, Keras {origin['keras']} on {origin['backend']}"
        f" {origin['backend_version']}, NumPy {origin['numpy']}, Python {origin['python']}"
    )
    machine = f"{origin['platform']}, {origin['processors']} processors"
    told: list[tuple[str, tuple[str, ...]]] = [
        ("Date", (moment(origin["date"]),)),
        ("Command", (origin["command"] or "called from Python",)),
        ("Versions", (versions,)),
        ("Machine", (machine, f"devices: {', '.join(origin['devices'])}")),
        ("Time taken", (fmt.duration(origin["evaluation_seconds"]),)),
    ]
    if document["data"] is not None:
        told.append(("Data", _data(document["data"])))
    if document["head"] is not None:
        told.append(("Output", (_head(document["head"]),)))
    if document["input_box"] is not None:
        told.append(("Inputs", (_box(document["input_box"]),)))
    return tuple(told)


def moment(date: str) -> str:
    """Return an ISO 8601 moment as day, minute and zone; other text as it is."""
    if len(date) >= 16 and date[10] == "T":
        zone = "UTC" if date.endswith(("+00:00", "Z")) else date[19:]
        return f"{date[:10]} {date[11:16]} {zone}".rstrip()
    return date


def _data(data: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what was evaluated on."""
    lines = [f"{data['source']}, {fmt.count(data['samples'])} samples"]
    lines.append(f"labels: {_LABELS[data['labels']]}")
    if data["sha256"]:
        lines.append(f"SHA-256 {data['sha256']}")
    if data["reshaped_from"] is not None:
        shape = "\N{MULTIPLICATION SIGN}".join(map(str, data["reshaped_from"]))
        lines.append(f"samples reshaped from {shape}")
    if data["scale"] is not None or data["offset"] is not None:
        steps = []
        if data["scale"] is not None:
            steps.append(f"multiplied by {fmt.number(data['scale'], 6)}")
        if data["offset"] is not None:
            steps.append(f"moved by {fmt.number(data['offset'], 6)}")
        lines.append(f"inputs {', then '.join(steps)}")
    return tuple(lines)


def _head(head: Mapping[str, Any]) -> str:
    """Return what the model ends in."""
    outputs = head["outputs"]
    kind = {"logits": "logits (no activation)", "values": "values"}.get(head["kind"], head["kind"])
    return f"{kind}, {outputs} output{'' if outputs == 1 else 's'}, layer {head['layer']}"


def _box(box: Mapping[str, Any]) -> str:
    """Return the bounds that attacks keep to."""
    bounds = f"[{fmt.number(box['lower'], 4)}, {fmt.number(box['upper'], 4)}]"
    return f"{bounds}, {_BOXES[box['source']]}"
