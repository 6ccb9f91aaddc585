"""The models of a document, each with the letter and the colour that it keeps all through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Entry", "entries", "reference", "subject"]

#: The original has the first colour, the others share the rest in turn (see the style sheet).
_COLOURS = 8


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One model of the document.

    Attributes
    ----------
    key : str
        Its letter: with the colour the second sign, for those who cannot tell colours apart.
    colour : str
        Class of the style sheet.
    role : str
        "original" or "pruned".
    label : str
        The name it goes by, foreign text.
    record : mapping
        What the evaluation JSON says of it.
    """

    key: str
    colour: str
    role: str
    label: str
    record: Mapping[str, Any]


def entries(document: Mapping[str, Any]) -> tuple[Entry, ...]:
    """Return the models in their order in the document."""
    colours = _colours()
    return tuple(
        Entry(
            key=_letters(index),
            colour="c0" if record["role"] == "original" else next(colours),
            role=record["role"],
            label=record["label"],
            record=record,
        )
        for index, record in enumerate(document["models"])
    )


def reference(models: Sequence[Entry]) -> Entry | None:
    """Return what the others are measured against: the original, if it is there with others."""
    return models[0] if len(models) > 1 and models[0].role == "original" else None


def subject(models: Sequence[Entry]) -> Entry | None:
    """Return the one model that is compared with the original, if it is one."""
    return models[1] if len(models) == 2 and reference(models) is not None else None


def _colours() -> Iterator[str]:
    """Return the classes of the pruned models' colours, over and over."""
    while True:
        yield from (f"c{number}" for number in range(1, _COLOURS))


def _letters(index: int) -> str:
    """Return A, B, ... Z, AA, AB, ..."""
    text = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        text = chr(ord("A") + rest) + text
    return text
