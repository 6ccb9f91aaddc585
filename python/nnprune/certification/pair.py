"""An original and what pruning made of it, opened, and found to belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnprune import _core
from nnprune.errors import ConfigError, ModelError
from nnprune.keras_io.fingerprints import model_sha256
from nnprune.keras_io.opened import OpenedModel, input_box_of, open_model
from nnprune.keras_io.wording import quoted
from nnprune.record import Bounds, Merges, Record
from nnprune.result import PruningResult

__all__ = ["ModelIdentity", "Pair", "check_identity", "named_merges", "open_pair"]

_NO_RECORD = (
    "{}: says nothing of its pruning, as a model that Keras has saved anew; prune again and save "
    "with PruningResult.save (nnprune prune), or give the pruning's JSON with pruning= (--pruning "
    "run.json, what nnprune prune --json prints)"
)


@dataclass(frozen=True, kw_only=True)
class ModelIdentity:
    """Which model a certificate is about.

    Attributes
    ----------
    name : str
        The file's name without its folder, or the model's own.
    sha256 : str or None
        The file's fingerprint; None for a model in memory.
    weights_sha256 : str
        Fingerprint of the weights, in Keras' order: the same wherever the model is saved.
    """

    name: str
    sha256: str | None
    weights_sha256: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """Two models that belong together.

    Attributes
    ----------
    original, pruned : OpenedModel
        The models.
    identities : tuple of ModelIdentity
        Of the original and of the pruned one.
    merges : mapping of str to tuple of (nominee, delegate)
        What led from the one to the other, layer by layer.
    input_source : str
        Where the input bounds came from.
    lower, upper : tuple of float64 array
        The box, input by input.
    polished : bool
        Whether the pruned model was trained afterwards.
    """

    original: OpenedModel
    pruned: OpenedModel
    identities: tuple[ModelIdentity, ModelIdentity]
    merges: Merges = field(repr=False)
    input_source: str
    lower: tuple[Any, ...] = field(repr=False)
    upper: tuple[Any, ...] = field(repr=False)
    polished: bool

    @property
    def input_bounds(self) -> Bounds:
        """The box by the inputs' names."""
        inputs = self.original.graph.inputs
        sides = zip(inputs, self.lower, self.upper, strict=True)
        return {one.name: (lower, upper) for one, lower, upper in sides}

    @property
    def networks(self) -> tuple[_core.Network, _core.Network]:
        """The networks of the original and of the pruned model."""
        return self.original.graph.network, self.pruned.graph.network

    @property
    def named_merges(self) -> list[tuple[str, int, int | None]]:
        """The merges as the core takes them."""
        return named_merges(self.merges)


def named_merges(merges: Merges) -> list[tuple[str, int, int | None]]:
    """Bring merges into the form that the core takes: layer, nominee, delegate."""
    return [(layer, *pair) for layer, pairs in merges.items() for pair in pairs]


def open_pair(
    pruned: Any,
    original: Any,
    *,
    pruning: Any,
    input_bounds: Any,
    trust: bool,
) -> Pair:
    """Open both models, and find what led from the one to the other.

    Parameters
    ----------
    pruned : path-like, keras.Model or PruningResult
        The smaller model.
    original : path-like or keras.Model
        What it was made of.
    pruning : PruningResult, mapping or None
        What the pruning recorded, for a smaller model that does not say.
    input_bounds : optional
        The box; by default that of the pruning.
    trust : bool
        Whether files are opened although they could run code.

    Raises
    ------
    ConfigError
        `pruning` is something else.
    DataError
        The record is damaged.
    ModelError
        There is none, or the models do not belong together.
    BoundsError
        The bounds are wrong.
    """
    given: Any = pruning
    if isinstance(pruned, PruningResult):
        given, pruned = (pruned if pruning is None else pruning), pruned.model
    if not isinstance(given, PruningResult | Mapping | None):
        raise ConfigError(f"pruning: expected a PruningResult or its to_dict(), got {given!r}")
    smaller = open_model(pruned, trust=trust)
    record = _record(given, smaller)
    whole = open_model(original, trust=trust)
    identities = identity_of(whole), identity_of(smaller)
    _check_original(record, identities[0])
    check_inputs(whole, smaller)
    check_untouched(whole.graph.network, smaller.graph.network, record)
    source = "given"
    if input_bounds is None:
        input_bounds, source = dict(record.input_bounds), record.input_source
        if not input_bounds:
            raise ConfigError("input_bounds: the pruning's JSON does not tell them; give them")
    box = input_box_of(whole, input_bounds)
    return Pair(
        original=whole,
        pruned=smaller,
        identities=identities,
        merges=record.merges,
        input_source=source,
        lower=box.lower,
        upper=box.upper,
        polished=record.polished,
    )


def identity_of(opened: OpenedModel) -> ModelIdentity:
    """Tell which model this is."""
    return ModelIdentity(
        name=opened.model.name if opened.path is None else Path(opened.path).name,
        sha256=opened.sha256,
        weights_sha256=model_sha256(opened.model, {}),
    )


def check_identity(role: str, expected: ModelIdentity, opened: OpenedModel) -> None:
    """Make sure that a model is the one meant: the same file, or the same weights.

    Raises
    ------
    ModelError
        It is not.
    """
    found = identity_of(opened)
    if _same(expected.sha256, expected.weights_sha256, found):
        return
    raise ModelError(
        f"{role} {quoted(found.name)}: is not the model of the certificate (SHA-256 of its weights "
        f"{found.weights_sha256[:12]}..., expected {expected.weights_sha256[:12]}...)"
    )


def check_inputs(whole: OpenedModel, smaller: OpenedModel) -> None:
    """Make sure that both models take the same inputs.

    Raises
    ------
    ModelError
        They do not.
    """
    shapes = [[one.shape for one in opened.graph.inputs] for opened in (whole, smaller)]
    if shapes[0] != shapes[1]:
        raise ModelError(
            f"the original takes inputs of shape {shapes[0]}, the pruned model {shapes[1]}: they "
            "do not belong together"
        )


def check_untouched(whole: _core.Network, smaller: _core.Network, record: Record) -> None:
    """Make sure that no weights changed but those that read merged units, or that a polish trained.

    Whatever changed is bounded as it is; this only tells models that do not belong together.

    Raises
    ------
    ModelError
        Others did, as by training after the pruning; or the models do not belong together.
    """
    kept = record.kept
    groups = {group.layer: group for group in whole.groups}
    unknown = [layer for layer in kept if layer not in groups]
    if unknown:
        raise ModelError(f"the original has no layer {quoted(unknown[0])}: it is another model")
    wrong_size = [layer for layer in kept if groups[layer].units != record.units[layer]]
    if wrong_size:
        raise ModelError(
            f"layer {quoted(wrong_size[0])}: the original has {groups[wrong_size[0]].units} "
            f"units, before the pruning it had {record.units[wrong_size[0]]}: it is another model"
        )
    if record.polished:
        return
    consumers = {node for layer in kept for node in groups[layer].consumers}
    producers = {groups[layer].node: kept[layer] for layer in kept}
    theirs = {node.name for node in smaller.nodes}
    for node in whole.nodes:
        if node.kind not in ("Dense", "Conv", "DepthwiseConv") or node.name in consumers:
            continue
        before = whole.weights(node.name)
        after = smaller.weights(node.name) if node.name in theirs else {}
        for name, values in before.items():
            expected = values[..., producers[node.name]] if node.name in producers else values
            if not np.array_equal(expected, after.get(name, ())):
                raise ModelError(
                    f"layer {quoted(node.layer)}: its {name} is not what pruning leaves of the "
                    "original's: the models do not belong together, or the smaller one was "
                    "trained on (certify it before)"
                )


def _record(given: PruningResult | Mapping[str, Any] | None, smaller: OpenedModel) -> Record:
    name = quoted(smaller.model.name) if smaller.path is None else Path(smaller.path).name
    if given is None:
        if smaller.record is None:
            raise ModelError(_NO_RECORD.format(name))
        return Record.from_json(smaller.record, label=name)
    if isinstance(given, PruningResult):
        return given.record
    return Record.of_pruning(given, label="pruning")


def _check_original(record: Record, found: ModelIdentity) -> None:
    if _same(record.sha256, record.weights_sha256, found):
        return
    was = record.sha256 or record.weights_sha256 or ""
    now = found.sha256 if record.sha256 is not None else found.weights_sha256
    raise ModelError(
        f"original {quoted(found.name)}: is not the model that was pruned (SHA-256 "
        f"{(now or found.weights_sha256)[:12]}..., expected {was[:12]}...)"
    )


def _same(sha256: str | None, weights_sha256: str | None, found: ModelIdentity) -> bool:
    same_file = sha256 is not None and sha256 == found.sha256
    return same_file or (weights_sha256 is not None and weights_sha256 == found.weights_sha256)


def opaque_layers(networks: Sequence[OpenedModel]) -> dict[str, str]:
    """Name the layers that the engine cannot follow, with the reason."""
    found: dict[str, str] = {}
    for opened in networks:
        found.update(opened.graph.opaque)
    return found
