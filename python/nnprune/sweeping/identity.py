"""What makes two sweeps the same: model, samples and options, by their fingerprints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnprune._core import __version__
from nnprune.attacks.options import Attack, attack_to_dict
from nnprune.keras_io.fingerprints import array_sha256

if TYPE_CHECKING:
    from nnprune.keras_io.input_box import InputBox

__all__ = [
    "attacks_to_dicts",
    "box_to_dict",
    "differences",
    "fingerprint",
    "identity",
]


def identity(
    *,
    model: str,
    data: str | None,
    scale: float | None,
    offset: float | None,
    attacks: Sequence[Mapping[str, Any]],
    step: float,
    outgoing: str,
    compensation: Mapping[str, Any],
    input_box: Mapping[str, Any],
    layers: Sequence[str] | None,
    exclude: Sequence[str] | None,
) -> dict[str, Any]:
    """Gather everything but the grid that decides what a sweep finds, as plain values.

    Parameters
    ----------
    model, data : str
        SHA-256 of the model and of the samples.
    scale, offset, attacks, step, outgoing, compensation, input_box, layers, exclude
        The options, as JSON has them.
    """
    return {
        "nnprune": __version__,
        "model": model,
        "data": data,
        "scale": scale,
        "offset": offset,
        "attacks": [dict(attack) for attack in attacks],
        "step": float(step),
        "outgoing": outgoing,
        "compensation": dict(compensation),
        "input_box": dict(input_box),
        "layers": None if layers is None else list(layers),
        "exclude": None if exclude is None else list(exclude),
    }


def fingerprint(parts: Mapping[str, Any]) -> str:
    """Return the SHA-256 over an identity, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say in which parts two identities differ, with both values where a reader knows them."""
    found = []
    for name, value in new.items():
        was = old.get(name)
        if was == value:
            continue
        if name in ("model", "data") and was is not None and value is not None:
            found.append(f"another {'model' if name == 'model' else 'set of samples'}")
        else:
            found.append(f"{name} (there {_shown(was)}, here {_shown(value)})")
    return found


def attacks_to_dicts(attacks: Mapping[str, Attack]) -> list[dict[str, Any]]:
    """Describe attacks by their labels as JSON has them."""
    return [
        {
            "attack": label,
            "kind": attack.kind,
            "epsilons": list(attack.epsilons),
            "parameters": attack_to_dict(attack),
        }
        for label, attack in attacks.items()
    ]


def box_to_dict(box: InputBox) -> dict[str, Any]:
    """Describe an input box: where it comes from, its ends, and its fingerprint."""
    ends = [array_sha256(end) for end in (*box.lower, *box.upper)]
    return {
        "source": box.source,
        "lower": min(float(np.min(end)) for end in box.lower),
        "upper": max(float(np.max(end)) for end in box.upper),
        "sha256": hashlib.sha256("".join(ends).encode()).hexdigest(),
    }


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
