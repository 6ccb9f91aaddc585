"""The outputs that a certificate speaks about: where their logits are, and what stands on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nnprune import _core

__all__ = ["Output", "outputs_of", "single_label"]

Head = Literal["softmax", "sigmoid", "logits"]


@dataclass(frozen=True, kw_only=True)
class Output:
    """One output of a model, up to its logits.

    Attributes
    ----------
    name : str
        The layer that gives the logits.
    shape : tuple of int
        Their shape, without the batch axis.
    head : {"softmax", "sigmoid", "logits"}
        What the model computes of them; "logits" where it gives them as they are.
    """

    name: str
    shape: tuple[int, ...]
    head: Head

    @property
    def size(self) -> int:
        """Number of logits."""
        return math.prod(self.shape)

    @property
    def classes(self) -> int:
        """Number of logits that are compared with each other: along the last axis."""
        return self.shape[-1] if self.shape else 1


def outputs_of(network: _core.Network) -> tuple[Output, ...]:
    """Find the outputs of a network in the order of its logits."""
    nodes = {node.name: node for node in network.nodes}
    heads: dict[str, Head] = {}
    for output in network.outputs:
        node = nodes[output]
        while node.kind == "Identity":
            node = nodes[node.sources[0]]
        logits = output if output in network.logits else node.sources[0]
        head: Head = "softmax" if node.kind == "Softmax" else "sigmoid"
        heads.setdefault(logits, "logits" if logits == output else head)
    return tuple(
        Output(
            name=name.removesuffix("/activation"), shape=tuple(nodes[name].shape), head=heads[name]
        )
        for name in network.logits
    )


def single_label(outputs: Sequence[Output]) -> bool:
    """Whether the outputs name one class of an input: one row of logits, or one sigmoid's."""
    if len(outputs) != 1:
        return False
    output = outputs[0]
    if output.size != output.classes:  # a decision at every position
        return False
    return {"softmax": output.size > 1, "sigmoid": output.size == 1, "logits": True}[output.head]
