"""The models of an evaluation, opened, each with a label of its own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnprune.errors import ConfigError
from nnprune.evaluation.subject import Task
from nnprune.keras_io.opened import OpenedModel, open_model
from nnprune.report.schema import load_schema
from nnprune.result import PruningResult

if TYPE_CHECKING:
    from nnprune.keras_io.logits import LogitsModel

__all__ = ["Candidate", "Entry", "open_all"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model as it was given.

    Attributes
    ----------
    model : path-like, keras.Model or PruningResult
        The model.
    label : str or None
        What to call it; by default its file's name, or its own.
    pruning : mapping or None
        What the pruning that made it recorded; known for a PruningResult.

    Raises
    ------
    ConfigError
        `pruning` is something else.
    """

    model: Any
    label: str | None = None
    pruning: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Check what needs no model."""
        if self.pruning is not None and not _is_record(self.pruning):
            raise ConfigError(
                "pruning: expected what PruningResult.to_dict() returns (--trace: what nnprune "
                "prune --trace wrote)"
            )


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A model that is open.

    Attributes
    ----------
    label : str
        What it is called; no two are called the same.
    role : {"original", "pruned"}
        What it is compared as.
    opened : OpenedModel
        The model.
    logits : LogitsModel
        The same up to its logits.
    pruning : mapping or None
        What the pruning that made it recorded.
    """

    label: str
    role: str
    opened: OpenedModel
    logits: LogitsModel
    pruning: Mapping[str, Any] | None

    def model_for(self, task: Task | None) -> LogitsModel:
        """Return what is to be computed: a regression's outputs are not without its activation."""
        if task == "regression":
            return replace(self.logits, model=self.opened.model, head="values")
        return self.logits


def open_all(candidates: Sequence[Candidate], original: Any, *, trust: bool) -> list[Entry]:
    """Open every model; the original, if there is one, first.

    Raises
    ------
    ModelError
        A model is not built, subclassed, or has several inputs or outputs.
    FileFormatError, UntrustedModelError
        A file is no model, damaged, or does what an unknown file must not do.
    """
    given = [] if original is None else [("original", Candidate(model=original))]
    given += [("pruned", candidate) for candidate in candidates]
    entries: list[Entry] = []
    for role, candidate in given:
        model, pruning = candidate.model, candidate.pruning
        if isinstance(model, PruningResult):
            model, pruning = model.model, pruning or model.to_dict()
        opened = open_model(model, trust=trust)
        from nnprune.keras_io.logits import logits_model

        entries.append(
            Entry(
                label=_own_label(candidate.label, opened, role, entries),
                role=role,
                opened=opened,
                logits=logits_model(opened.model),
                pruning=pruning,
            )
        )
    return entries


def _own_label(wanted: str | None, opened: OpenedModel, role: str, others: Sequence[Entry]) -> str:
    """Name a model as no other is; files of the same name by their folders."""
    taken = {entry.label for entry in others}
    path = None if opened.path is None else Path(opened.path)
    name = wanted or (opened.model.name if path is None else path.name)
    choices = [name]
    if path is not None and wanted is None:
        choices.append(f"{path.parent.name}/{name}")
    if role == "pruned" and others[:1] and others[0].role == "original":
        choices.append(f"{name} (pruned)")
    numbered = (f"{name} ({number})" for number in itertools.count(2))
    return next(label for label in itertools.chain(choices, numbered) if label not in taken)


def _is_record(pruning: Any) -> bool:
    """Whether all is there that a report asks of what a pruning recorded."""
    definitions = load_schema()["$defs"]
    parts = [(pruning, "pruning")]
    if isinstance(pruning, Mapping) and isinstance(pruning.get("trace"), list):
        parts += [(epoch, "epoch") for epoch in pruning["trace"]]
    return all(
        isinstance(part, Mapping) and set(definitions[name]["required"]) <= set(part)
        for part, name in parts
    )
