"""The whole run: epochs, layers, visits."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reference import annealing, energy
from reference.activation import Array
from reference.annealing import Pair, Pcg64, Walk
from reference.bounds import Interval, value_intervals
from reference.graph import Graph
from reference.impact import impact, joint_impact, sensitivity_of
from reference.layer import read_layer
from reference.merge import merge
from reference.saliency import saliency
from reference.sensitivity import Sensitivity

DEFAULTS: Mapping[str, Any] = {
    "alpha": 0.75,
    "similarity": 0.9,
    "density": "inclusive",
    "normalization": "scaled",
    "impact": "interval",
    "pool": 4,
    "rewalks": 1,
    "restart": "never",
}


def quota(target: float, units: int) -> int:
    """Return how many units of a layer go in all."""
    return min(math.floor(target * units + 0.5), units - 1)


def step_size(step: float, units: int) -> int:
    """Return how many units of a layer go per epoch."""
    return max(1, math.floor(step * units + 0.5))


@dataclass
class LayerState:
    """What the driver remembers of one layer between visits."""

    name: str
    units: int
    target: int
    step: int
    live: set[int] = field(default_factory=set)
    last_energy: float | None = None
    references: list[float] | None = None

    @property
    def missing(self) -> int:
        """Units still to remove."""
        return self.target - (self.units - len(self.live))


@dataclass
class Run:
    """State and outcome of a run."""

    graph: Graph
    lower: Sequence[Array]
    upper: Sequence[Array]
    method: Mapping[str, Any]
    outgoing: str
    bias: str
    random: Pcg64
    cumulative: Interval
    heads: list[slice]
    merges: list[tuple[str, int, int, int]] = field(default_factory=list)
    sensitivity: Sensitivity | None = None
    # A candidate moved the outputs by a number, not an interval: its NORM is rounding, and no two
    # programs rank by it alike.
    degenerate: bool = False

    def impacts(self, layer: LayerState, pairs: list[Pair]) -> list[Interval]:
        """Return the impact of every pair alone."""
        lower, upper = impact(
            self.graph,
            layer.name,
            pairs,
            self.lower,
            self.upper,
            change=self.method["impact"],
            known=self.sensitivity,
        )
        moves = np.any((lower != 0.0) | (upper != 0.0), axis=1)
        self.degenerate |= bool(np.any(moves & (np.sum(upper - lower, axis=1) < 1e-9)))
        return list(zip(lower, upper, strict=True))

    def norms(self, layer: LayerState, pairs: list[Pair]) -> list[float]:
        """Return the norm of every pair's impact, summed over heads."""
        return [energy.norm(*delta) for delta in self.impacts(layer, pairs)]

    def energies(self, layer: LayerState, pairs: list[Pair]) -> list[float]:
        """Return the energy of every pair; the first call for a layer fixes its references."""
        deltas = self.impacts(layer, pairs)
        if layer.references is None:
            layer.references = [
                energy.reference_norm([energy.norm(low[h], high[h]) for low, high in deltas])
                for h in self.heads
            ]
        return [
            float(
                np.mean(
                    [
                        energy.energy(
                            (low[head], high[head]),
                            (self.cumulative[0][head], self.cumulative[1][head]),
                            reference=reference,
                            alpha=self.method["alpha"],
                            threshold=self.method["similarity"],
                            density=self.method["density"],
                            normalization=self.method["normalization"],
                        )
                        for head, reference in zip(self.heads, layer.references, strict=True)
                    ]
                )
            )
            for low, high in deltas
        ]

    def annealed(
        self, layer: LayerState, matrix: Array, delegates: list[int], count: int, temperature: float
    ) -> list[Pair]:
        """Return the pairs that one visit accepts."""
        last = None if self.method["restart"] == "visit" else layer.last_energy
        walk = Walk(count, temperature, last, self.random.uniform)
        while not walk.done:
            offers = annealing.candidates(matrix, layer.live, walk.used, delegates)
            pool = offers[: annealing.pool_size(self.method["pool"], count)]
            if not pool:
                break
            energies = self.energies(layer, pool)
            scaled = self.method["normalization"] == "scaled"
            scale = annealing.interquartile_range(np.array(energies)) if scaled else 1.0
            walk.anneal(pool, energies, scale, self.method["rewalks"])
        layer.last_energy = walk.last_energy
        return walk.accepted

    def choose(self, layer: LayerState, count: int, temperature: float) -> list[Pair]:
        """Return the pairs that one visit merges."""
        matrix = saliency(self.graph, layer.name, outgoing=self.outgoing, bias=self.bias)
        delegates = read_layer(self.graph, layer.name).delegates
        match self.method["name"]:
            case "annealing":
                return self.annealed(layer, matrix, delegates, count, temperature)
            case "greedy":
                pool = self.method["pool"]
                norms = functools.partial(self.norms, layer)
                return annealing.greedy(matrix, layer.live, delegates, count, pool, norms)
            case _:
                return annealing.one_shot(matrix, layer.live, delegates, count)

    def apply(self, layer: LayerState, pairs: list[Pair], epoch: int) -> None:
        """Merge, and add the joint impact to the cumulative one."""
        if not pairs:
            return
        moved = joint_impact(
            self.graph, layer.name, pairs, self.lower, self.upper, known=self.sensitivity
        )
        self.cumulative = (self.cumulative[0] + moved[0], self.cumulative[1] + moved[1])
        self.graph = merge(self.graph, layer.name, pairs, stored=True)
        layer.live -= {nominee for nominee, _ in pairs}
        self.merges += [(layer.name, nominee, delegate, epoch) for nominee, delegate in pairs]


def prune(
    graph: Graph,
    lower: Sequence[Array],
    upper: Sequence[Array],
    *,
    layers: Sequence[str],
    target: float,
    step: float,
    method: Mapping[str, Any],
    outgoing: str = "l2",
    bias: str = "absolute",
    seed: int = 0,
) -> Run:
    """Prune; the units stay in place with zero outgoing weights."""
    sizes = {name: read_layer(graph, name).units for name in layers}
    states = [
        LayerState(name, n, quota(target, n), step_size(step, n), set(range(n)))
        for name, n in sizes.items()
    ]
    ends = np.cumsum([0, *(read_size(graph, name) for name in graph.logits)])
    zero = np.zeros(int(ends[-1]))
    run = Run(
        graph,
        lower,
        upper,
        {**DEFAULTS, **method},
        outgoing,
        bias,
        Pcg64(seed),
        (zero, zero.copy()),
        [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)],
    )
    in_all = sum(state.target for state in states)
    if method["name"] == "one_shot":
        # The order is that of the original network: no layer is merged before all have chosen.
        orders = [run.choose(state, state.target, 1.0) for state in states]
        for state, pairs in zip(states, orders, strict=True):
            run.apply(state, pairs, 0)
        return run
    epoch = 0
    while (missing := sum(state.missing for state in states)) > 0:
        # Visits go forward: what merges change lies before what later visits look at.
        open_layers = [state.name for state in states if state.missing > 0]
        boxes = value_intervals(run.graph, lower, upper)
        run.sensitivity = sensitivity_of(run.graph, open_layers, boxes)
        for state in states:
            count = min(state.step, state.missing, len(state.live) - 1)
            if count > 0:
                run.apply(state, run.choose(state, count, missing / in_all), epoch)
        epoch += 1
    return run


def read_size(graph: Graph, name: str) -> int:
    """Return how many numbers one head puts out."""
    node = graph[name]
    kernel = node.weight("kernel")
    return read_size(graph, node.sources[0]) if kernel is None else int(kernel.shape[-1])
