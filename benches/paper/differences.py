"""The ablation's odd one: a merge's impact from intervals, from the affine maps, or from both.

The engine always intersects the two, so that this is a NumPy loop of its own, greedy, for chains of
Dense layers with ReLU right behind the input. With both it should choose as the engine does, and
how often it does is part of the result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal

import keras
import nnprune
import numpy as np
from nnprune.gradients import to_numpy
from nnprune.trace import Merge
from numpy.typing import NDArray

from paper.ablation import SHARES
from paper.results import Cells
from paper.settings import TARGET, PaperModel, Settings
from paper.workbench import Workbench, open_workbench

__all__ = ["SOURCES", "Chain", "compare_sources", "measure_differences"]

Source = Literal["intervals", "affine", "both"]
SOURCES: tuple[Source, ...] = ("intervals", "affine", "both")
"""What the change of a unit's value is taken from."""

_POOL = 4
_Array = NDArray[np.float64]
_Interval = tuple[_Array, _Array]


def measure_differences(model: PaperModel, settings: Settings, cells: Cells) -> None:
    """Compare the three on one model of the papers, unless there are convolutions in front."""
    if model.name not in settings.ablation_models:
        return
    bench = open_workbench(model, settings)
    if bench.convolutional:
        return
    given = bench.given | {"step": str(model.step), "shares": SHARES}
    cells.measure(f"{model.name}/sources", given, lambda: compare_sources(bench, model.step))


def compare_sources(bench: Workbench, step: Fraction) -> dict[str, Any]:
    """Prune greedily to 80 % by each source, and measure on the way.

    Returns
    -------
    dict
        For each source what the model does at 50 and 80 %; `same_as_engine`, the share of merges
        that the engine's greedy makes too, with both; `wider`, for each of the first two by how
        much its impacts are wider than with both: the quartiles over all candidates.
    """
    reference = bench.prune(nnprune.Greedy(), step=step, target=TARGET)
    wanted = {(merge.layer, merge.nominee, merge.delegate) for merge in reference.merges}
    found: dict[str, Any] = {"at": {}}
    for source in SOURCES:
        chain = Chain(bench)
        merges = chain.prune(step, TARGET, source)
        found["at"][source] = {}
        for share in SHARES:
            bench.replay(merges, bench.removed(share))
            found["at"][source][f"{share:g}"] = bench.measure()
        if source == "both":
            made = {(merge.layer, merge.nominee, merge.delegate) for merge in merges}
            found["same_as_engine"] = len(made & wanted) / len(wanted)
            found["wider"] = {
                name: np.quantile(ratios, (0.25, 0.5, 0.75)).tolist()
                for name, ratios in chain.wider.items()
            }
    return found


class Chain:
    """A chain of Dense layers with ReLU that is pruned greedily.

    Parameters
    ----------
    bench : Workbench
        The model, whose layers are Dense but for a Flatten.
    """

    def __init__(self, bench: Workbench) -> None:
        for layer in bench.dense[:-1]:
            if layer.activation is not keras.activations.relu:
                raise ValueError(f"layer {layer.name}: only ReLU is known here")
        self._names = [layer.name for layer in bench.dense]
        self._kernels = [to_numpy(layer.kernel).astype(np.float64) for layer in bench.dense]
        self._biases = [to_numpy(layer.bias).astype(np.float64) for layer in bench.dense]
        shape = bench.x.shape[1:]
        lower, upper = (np.broadcast_to(end, shape).astype(np.float64) for end in bench.box)
        self._box = lower.ravel(), upper.ravel()
        self._live = [np.ones(len(bias), np.bool_) for bias in self._biases]
        self._sensitivity = self._enclosed()
        self.wider: dict[str, list[float]] = {"intervals": [], "affine": []}

    def prune(self, step: Fraction, target: float, source: Source) -> list[Merge]:
        """Merge units in pairs, the pairs of least impact among the least salient ones first."""
        merges: list[Merge] = []
        hidden = range(len(self._kernels) - 1)
        units = [len(live) for live in self._live]
        quota = [min(math.floor(target * n + 0.5), n - 1) for n in units]
        pace = [max(1, math.floor(float(step) * n + 0.5)) for n in units]
        epoch = 0
        while any(quota[layer] for layer in hidden):
            self._sensitivity = self._enclosed()
            for layer in hidden:
                count = min(pace[layer], quota[layer], int(self._live[layer].sum()) - 1)
                for nominee, delegate in self._visit(layer, count, source) if count else ():
                    merges.append(
                        Merge(
                            layer=self._names[layer],
                            nominee=nominee,
                            delegate=delegate,
                            epoch=epoch,
                        )
                    )
                    self._merge(layer, nominee, delegate)
                quota[layer] -= count
            epoch += 1
        return merges

    def _visit(self, layer: int, count: int, source: Source) -> list[tuple[int, int]]:
        values = self._values()
        saliency = self._saliency(layer)
        free = self._live[layer].copy()
        chosen: list[tuple[int, int]] = []
        while len(chosen) < count and free.sum() > 1:
            pool = _cheapest(saliency, free, _POOL * count)
            norms: dict[str, _Array] = {
                name: self._norms(layer, pool, values, name) for name in SOURCES
            }
            if source == "both":
                self._note(norms)
            for index in np.argsort(norms[source], kind="stable"):
                nominee, delegate = pool[index]
                if len(chosen) < count and free[nominee] and free[delegate]:
                    free[[nominee, delegate]] = False
                    chosen.append((nominee, delegate))
        return chosen

    def _note(self, norms: Mapping[str, _Array]) -> None:
        for name, ratios in self.wider.items():
            known = norms["both"] > 0
            ratios.extend((norms[name][known] / norms["both"][known]).tolist())

    def _merge(self, layer: int, nominee: int, delegate: int) -> None:
        outgoing = self._kernels[layer + 1]
        total = np.float32(outgoing[delegate]) + np.float32(outgoing[nominee])
        outgoing[delegate] = total
        outgoing[nominee] = 0.0
        self._live[layer][nominee] = False

    def _saliency(self, layer: int) -> _Array:
        """Return equation 2 for all pairs: rows are nominees."""
        columns, bias = self._kernels[layer].T, self._biases[layer]
        squares = np.sum(columns**2, axis=1)
        distance = np.sqrt(np.maximum(squares[:, None] + squares - 2 * columns @ columns.T, 0.0))
        outgoing = np.linalg.norm(self._kernels[layer + 1], axis=1)
        saliency: _Array = outgoing[:, None] * np.hypot(distance, bias[:, None] - bias)
        return saliency

    def _enclosed(self) -> list[tuple[_Array, _Array]]:
        """Enclose the logits' Jacobian with respect to what each layer's reader reads.

        Returns
        -------
        list of (centre, radius)
            Each of shape (logits, units), for slopes of ReLU between 0 and 1.
        """
        centre = np.eye(len(self._biases[-1]))
        radius, norm = np.zeros_like(centre), np.zeros(len(centre))
        found = []
        for whole in self._kernels[:0:-1]:
            # Units that are gone keep their weights, but no row asks for them.
            active = np.any((centre != 0) | (radius != 0), axis=0)
            kernel, centre, radius = whole[:, active], centre[:, active], radius[:, active]
            columns = np.linalg.norm(kernel, axis=1)
            radius = np.minimum(radius @ np.abs(kernel).T, norm[:, None] * columns)
            centre = centre @ kernel.T
            norm = np.minimum(norm * _spectral_norm(kernel), np.linalg.norm(radius, axis=1))
            found.append((centre, np.minimum(radius, norm[:, None])))
            centre = centre / 2.0
            radius = radius + np.abs(centre)
            norm = np.minimum(norm + np.linalg.norm(centre, axis=1), np.linalg.norm(radius, axis=1))
        return found[::-1]

    def _values(self) -> list[tuple[_Interval, _Interval]]:
        """Return each layer's inputs and pre-activations as intervals."""
        lower, upper = self._box
        found = []
        for kernel, bias in zip(self._kernels, self._biases, strict=True):
            before = _affine((lower, upper), kernel, bias)
            found.append(((lower, upper), before))
            lower, upper = _relu(before)
        return found

    def _norms(
        self,
        layer: int,
        pairs: Sequence[tuple[int, int]],
        values: Sequence[tuple[_Interval, _Interval]],
        source: Source,
    ) -> _Array:
        """Return NORM (equation 4) of every pair's impact on the logits."""
        nominees, delegates = np.array(pairs).T
        change = self._change(layer, nominees, delegates, values[layer], source)
        half, most = (change[1] - change[0]) / 2, np.maximum(*np.abs(change))
        centre, radius = self._sensitivity[layer]
        reach = np.abs(centre[:, nominees]) * half + radius[:, nominees] * most
        norms: _Array = 2 * np.sum(reach, axis=0)
        return norms

    def _change(
        self,
        layer: int,
        nominees: NDArray[np.int64],
        delegates: NDArray[np.int64],
        values: tuple[_Interval, _Interval],
        source: Source,
    ) -> _Interval:
        """Return the interval of the delegate's value less the nominee's."""
        inputs, before = values
        goes = before[0][nominees], before[1][nominees]
        stays = before[0][delegates], before[1][delegates]
        kernel, bias = self._kernels[layer], self._biases[layer]
        row = kernel[:, delegates] - kernel[:, nominees]
        by_map = _affine(inputs, row, bias[delegates] - bias[nominees])
        if source == "intervals":
            return _gap(_relu(goes), _relu(stays))
        if source == "affine":
            return _slopes(goes, stays, by_map)
        return _through_relu(goes, stays, _common(by_map, _gap(goes, stays)))


def _cheapest(saliency: _Array, free: NDArray[np.bool_], count: int) -> list[tuple[int, int]]:
    """Return each free unit with its cheapest free delegate, the least salient pairs first."""
    units = np.flatnonzero(free)
    among = saliency[np.ix_(units, units)].copy()
    np.fill_diagonal(among, np.inf)
    delegates = units[among.argmin(axis=1)]
    order = np.lexsort((delegates, units, among.min(axis=1)))[:count]
    return [(int(units[index]), int(delegates[index])) for index in order]


def _spectral_norm(kernel: _Array) -> float:
    """Bound the largest singular value: sums of weights, and a Gram matrix squared four times."""
    sizes = np.abs(kernel)
    by_sums = math.sqrt(sizes.sum(axis=0).max() * sizes.sum(axis=1).max())
    gram = kernel.T @ kernel if kernel.shape[1] <= kernel.shape[0] else kernel @ kernel.T
    scale = 0.0
    for _ in range(4):
        size = float(np.linalg.norm(gram))
        if size == 0.0:
            return 0.0
        gram, scale = (gram / size) @ (gram / size), 2 * (scale + math.log(size))
    root = math.exp((scale + math.log(np.linalg.norm(gram))) / 32)
    return min(by_sums, root)


def _affine(values: _Interval, kernel: _Array, bias: _Array) -> _Interval:
    centre = (values[0] + values[1]) / 2 @ kernel + bias
    radius = (values[1] - values[0]) / 2 @ np.abs(kernel)
    return centre - radius, centre + radius


def _relu(values: _Interval) -> _Interval:
    return np.maximum(values[0], 0.0), np.maximum(values[1], 0.0)


def _gap(old: _Interval, new: _Interval) -> _Interval:
    return new[0] - old[1], new[1] - old[0]


def _common(first: _Interval, second: _Interval) -> _Interval:
    lower, upper = np.maximum(first[0], second[0]), np.minimum(first[1], second[1])
    # Two enclosures of one number meet; rounding alone can part them.
    return np.minimum(lower, upper), np.maximum(lower, upper)


def _slopes(old: _Interval, new: _Interval, difference: _Interval) -> _Interval:
    """Take a difference through ReLU by its least and greatest slope over both intervals."""
    least = np.minimum(old[0], new[0]) >= 0.0
    most = np.maximum(old[1], new[1]) > 0.0
    lower = np.where(difference[0] < 0.0, most * difference[0], least * difference[0])
    upper = np.where(difference[1] > 0.0, most * difference[1], least * difference[1])
    return lower, upper


def _through_relu(old: _Interval, new: _Interval, difference: _Interval) -> _Interval:
    return _common(_slopes(old, new, difference), _gap(_relu(old), _relu(new)))
