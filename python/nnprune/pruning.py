"""`prune`: a model in, a smaller model out, no data."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from nnprune import _core
from nnprune.attacks.options import Attack
from nnprune.errors import ConfigError, UnknownLayerError
from nnprune.keras_io.fingerprints import model_sha256
from nnprune.keras_io.opened import OpenedModel, input_box_of, open_model
from nnprune.options import Annealing, Greedy, Method, OneShot, method_to_dict
from nnprune.progress import counter
from nnprune.result import LayerChange, PruningResult, Size, Source
from nnprune.supervision import Floors, Supervision, Supervisor
from nnprune.trace import Epoch, Merge

if TYPE_CHECKING:
    import keras

__all__ = ["LOSSLESS", "prune"]

LOSSLESS = "lossless"
"""The target that asks for what costs nothing, and all of it."""


def prune(
    model: str | os.PathLike[str] | keras.Model,
    *,
    target: float | Literal["lossless"],
    step: float = 1 / 32,
    method: Method | None = None,
    input_bounds: tuple[ArrayLike, ArrayLike] | Mapping[str, Any] | Sequence[Any] | None = None,
    layers: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    outgoing: str = "l2",
    bias: str | None = None,
    max_output_change: float | None = None,
    seed: int = 0,
    evaluate: Any = None,
    attacks: Sequence[Attack] | None = None,
    stop_if_accuracy_below: float | None = None,
    stop_if_robust_accuracy_below: float | None = None,
    stop_if_agreement_below: float | None = None,
    trust: bool = False,
    progress: bool = False,
    on_epoch: Callable[[Epoch], bool | None] | None = None,
) -> PruningResult:
    """Remove hidden units of Dense layers in pairs, without data.

    Of each pair the nominee goes and the delegate takes over its outgoing weights. The method is
    that of Meng, Bai, Teo and Dong, arXiv 2204.00783; `docs/method.md` defines every quantity.

    Parameters
    ----------
    model : path-like or keras.Model
        A `.keras` or `.h5` file (with the extra `legacy` also what Keras 2 wrote), or a built
        Sequential or Functional model, which is not changed.
    target : float or "lossless"
        Fraction of each layer's units to remove, between 0 and 1, both excluded. Rounded half up
        per layer; every layer keeps at least one unit. "lossless" removes only units that are 0,
        or equal to another unit, for every legitimate input, and all of these that it finds;
        `step` and `method` then count for nothing.
    step : float, default 1/32
        Fraction of each layer's units to remove in an epoch, in (0, 1].
    method : Annealing, Greedy or OneShot, optional
        How pairs are chosen; `Annealing()` by default.
    input_bounds : optional
        The legitimate inputs: `(lower, upper)`, numbers or arrays that broadcast to the input's
        shape without the batch axis; for several inputs a list of such pairs or a mapping from
        the inputs' names to them; or a mapping with `lower` and `upper`. By default [0, 1] per
        feature, or what a leading Rescaling or Normalization layer suggests.
    layers : sequence of str, optional
        The layers to prune; by default all whose units can be removed.
    exclude : sequence of str, optional
        Layers to leave alone.
    outgoing : {"l2", "mean_abs"}, default "l2"
        How a nominee's outgoing weights enter its saliency (eq. 2).
    bias : {"absolute", "relative"}, optional
        How biases enter the distance of two units: as one more incoming weight, or relative to
        their sum, as printed (eq. 2). By default "absolute", but "relative" for `OneShot`, which
        is the paper's baseline.
    max_output_change : float, optional
        Certify that no output (a logit, where a softmax or sigmoid comes last) moves by more than
        this, whatever the legitimate input; what costs nothing goes first, and the run ends
        before its target where every further pair might exceed it. Not for `OneShot`, which
        chooses all pairs at once.
    seed : int, default 0
        Seed of the random stream: same inputs, options and seed, same result, on any number of
        threads.
    evaluate : optional
        Labelled samples to watch the run with: `(x, y)`, or what else `nnprune.evaluate` takes and
        can be read again and again. After every epoch accuracy, agreement with the original and
        robust instances go into the trace. The samples never decide which units go.
    attacks : sequence of FGSM, PGD, AutoPGD or Square, optional
        The attacks of these evaluations; by default `FGSM((0.01, 0.05))`.
    stop_if_accuracy_below, stop_if_agreement_below : float, optional
        Take the first epoch back, and stop, that leaves less accuracy, or less agreement with the
        original, on the samples; fractions.
    stop_if_robust_accuracy_below : float, optional
        The same for the fraction of robust instances under any of the attacks.
    trust : bool, default False
        Open a file although it could run code: only for files whose author you trust.
    progress : bool, default False
        Show a progress bar on standard error if that is a terminal.
    on_epoch : callable, optional
        Called with every `Epoch`; the run stops early if it returns False.

    Returns
    -------
    PruningResult
        The smaller model with the trace of what was done.

    Raises
    ------
    ConfigError
        An option is out of range, or a layer is unknown (`UnknownLayerError`), or the bounds are
        wrong (`BoundsError`), or the original is below a floor.
    DataError
        The samples are wrong or do not fit the model.
    ModelError
        The model is not built, subclassed, has NaN weights (`WeightError`), nothing to prune
        (`NothingToPruneError`), or needs the extra `legacy` (`LegacyModelError`).
    FileFormatError, UntrustedModelError
        The file is no model, damaged, or does what an unknown file must not do.

    Notes
    -----
    Ctrl-C stops a run within half a second when it was started from the main thread.

    What is certified, `PruningResult.impact` too, is the change between the two networks of
    float32 weights in exact arithmetic. Casting weights back to float16 or bfloat16
    (`PruningResult.rounding`), and the rounding of an evaluation, come on top.
    """
    method = Annealing() if method is None else method
    check_options(
        target=target,
        step=step,
        method=method,
        outgoing=outgoing,
        bias=bias,
        max_output_change=max_output_change,
        seed=seed,
    )
    bias = bias_or_default(bias, method)
    floors = Floors(
        accuracy=stop_if_accuracy_below,
        robust_accuracy=stop_if_robust_accuracy_below,
        agreement=stop_if_agreement_below,
    )
    supervision = Supervision.asked_for(evaluate, attacks, floors)
    opened = open_model(model, trust=trust)
    chosen = chosen_layers(opened.graph.network, layers, exclude)
    input_box = input_box_of(opened, input_bounds)
    supervisor = None if supervision is None else Supervisor(supervision, opened, input_box)
    watch = _Watch(supervisor, on_epoch)
    total = units_to_remove(opened, chosen, target)
    started = time.process_time()
    with counter("pruning", total=total, unit="units", progress=progress) as advance:
        pruning = _core.prune(
            opened.graph.network,
            input_box.lower,
            input_box.upper,
            layers=chosen,
            target=fraction_for_core(target),
            step=step,
            method=method_to_dict(method),
            outgoing=outgoing,
            bias=bias,
            max_output_change=max_output_change,
            lossless=target == LOSSLESS,
            seed=seed,
            on_epoch=partial(watch.see, advance),
            supervised=supervisor is not None,
        )
    engine_seconds = time.process_time() - started - watch.cpu_seconds
    from nnprune.keras_io.rebuild import rebuild

    rebuilt = rebuild(opened.model, opened.graph, pruning.network, pruning.kept)
    return PruningResult(
        model=rebuilt.model,
        source=Source(
            path=opened.path,
            sha256=opened.sha256,
            weights_sha256=model_sha256(opened.model, {}),
            name=opened.model.name,
        ),
        target=target,
        step=step,
        method=method,
        outgoing=outgoing,
        bias=bias,
        max_output_change=None if max_output_change is None else float(max_output_change),
        seed=seed,
        input_box=input_box.source,
        input_bounds={
            one.name: (lower, upper)
            for one, lower, upper in zip(
                opened.graph.inputs, input_box.lower, input_box.upper, strict=True
            )
        },
        before=Size(parameters=opened.model.count_params(), macs=_macs(opened.graph.network)),
        after=Size(parameters=rebuilt.model.count_params(), macs=_macs(pruning.network)),
        layers=_layer_changes(opened.graph.network, pruning),
        opaque=dict(opened.graph.opaque),
        merges=tuple(Merge(**merge) for merge in pruning.merges),
        trace=tuple(watch.epochs),
        impact=_impact(opened.graph.network, pruning),
        stopped_by=watch.stopped_by or pruning.stopped_by,
        rounding=rebuilt.rounding,
        trusted=trust,
        engine_seconds=engine_seconds,
        evaluation_seconds=0.0 if supervisor is None else supervisor.cpu_seconds,
        original_evaluation=None if supervisor is None else supervisor.original,
        undone=watch.undone,
        kernel_path=pruning.kernel_path,
    )


def check_options(
    *,
    target: float | Literal["lossless"],
    step: float,
    method: Method,
    outgoing: str,
    seed: int,
    bias: str | None = None,
    max_output_change: float | None = None,
) -> None:
    """Let the core judge the options before a model is opened."""
    if not isinstance(method, Annealing | Greedy | OneShot):
        raise ConfigError(
            f"method: expected nnprune.Annealing(), Greedy() or OneShot(), got {method!r}"
        )
    if isinstance(target, str) and target != LOSSLESS:
        raise ConfigError(f"target: expected a number or '{LOSSLESS}', got {target!r}")
    numbers = {"target": fraction_for_core(target), "step": step}
    if max_output_change is not None:
        numbers["max_output_change"] = max_output_change
    for option, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int | float | np.floating):
            raise ConfigError(f"{option}: expected a number, got {number!r}")
    counts = {name: getattr(method, name) for name in ("pool", "rewalks") if hasattr(method, name)}
    for option, count in {**counts, "seed": seed}.items():
        whole = isinstance(count, int | np.integer) and not isinstance(count, bool)
        if not whole or not 0 <= count < 2**64:
            raise ConfigError(f"{option}: expected an integer from 0 to 2**64 - 1, got {count!r}")
    if not isinstance(outgoing, str):
        raise ConfigError(f"outgoing: expected 'l2' or 'mean_abs', got {outgoing!r}")
    if bias is not None and not isinstance(bias, str):
        raise ConfigError(f"bias: expected 'absolute' or 'relative', got {bias!r}")
    _core.check_options(
        target=numbers["target"],
        step=step,
        method=method_to_dict(method),
        outgoing=outgoing,
        bias=bias_or_default(bias, method),
        max_output_change=max_output_change,
    )
    if max_output_change is None:
        return
    if target == LOSSLESS:
        raise ConfigError(
            f"max_output_change: target '{LOSSLESS}' changes nothing; give one of them"
        )
    if isinstance(method, OneShot):
        raise ConfigError(
            "max_output_change: OneShot() chooses all pairs at once and keeps to no budget; "
            "use Annealing() or Greedy()"
        )


def bias_or_default(bias: str | None, method: Method) -> str:
    """Return the bias term; the baseline has the paper's."""
    if bias is not None:
        return bias
    return "relative" if isinstance(method, OneShot) else "absolute"


def fraction_for_core(target: float | str) -> float:
    """Return a target that the core accepts; it does not read that of a lossless run."""
    return 0.5 if isinstance(target, str) else target


def chosen_layers(
    network: _core.Network, layers: Sequence[str] | None, exclude: Sequence[str] | None
) -> list[str]:
    """Names of the layers to prune; the core says why if one of them cannot be."""
    known = [group.layer for group in network.groups]
    for option, names in (("layers", layers), ("exclude", exclude)):
        if isinstance(names, str):
            raise ConfigError(f"{option}: expected a list of layer names, got the text {names!r}")
        for name in names or ():
            if name not in known:
                raise UnknownLayerError(
                    f"{option}: unknown layer '{name}'; layers with units: {', '.join(known)}"
                )
    if layers is not None and not layers:
        raise ConfigError("layers: expected at least one layer name, got none")
    if layers is None and not exclude:
        return []
    prunable = [group.layer for group in network.groups if group.reason is None]
    wanted = prunable if layers is None else layers
    chosen = [name for name in wanted if name not in (exclude or ())]
    if not chosen and prunable:
        raise ConfigError("exclude: leaves no layer to prune")
    return chosen


class _Watch:
    """Sees every epoch: measures it, tells the user, and says whether the run goes on."""

    def __init__(
        self, supervisor: Supervisor | None, on_epoch: Callable[[Epoch], bool | None] | None
    ) -> None:
        self._supervisor = supervisor
        self._on_epoch = on_epoch
        self.epochs: list[Epoch] = []
        self.undone: Epoch | None = None
        self.stopped_by: str | None = None
        self.cpu_seconds = 0.0

    def see(
        self,
        advance: Callable[[int], None],
        entry: dict[str, Any],
        network: _core.Network | None = None,
    ) -> bool | str | None:
        """Take in what the core tells about an epoch."""
        started = time.process_time()
        epoch = Epoch(**entry)
        if self._supervisor is not None and network is not None:
            epoch = replace(epoch, evaluation=self._supervisor.measure(network))
            broken = self._supervisor.broken_floor(epoch)
            self.stopped_by = None if broken is None else f"{broken}_floor"
        self.cpu_seconds += time.process_time() - started
        if self.stopped_by is not None:
            self.undone = epoch
            return "undo"
        self.epochs.append(epoch)
        advance(epoch.removed)
        return None if self._on_epoch is None else self._on_epoch(epoch)


def units_to_remove(
    opened: OpenedModel, chosen: Sequence[str], target: float | Literal["lossless"]
) -> int:
    units = [
        group.units
        for group in opened.graph.network.groups
        if group.reason is None and (not chosen or group.layer in chosen)
    ]
    if isinstance(target, str):
        return sum(count - 1 for count in units)
    return sum(min(int(np.floor(target * count + 0.5)), count - 1) for count in units)


def _macs(network: _core.Network) -> int:
    return sum(node.macs for node in network.nodes)


def _layer_changes(network: _core.Network, pruning: _core.Pruning) -> tuple[LayerChange, ...]:
    kept = pruning.kept
    return tuple(
        LayerChange(
            layer=group.layer,
            units_before=group.units,
            units_after=len(kept[group.layer]) if group.layer in kept else group.units,
            reason=group.reason,
        )
        for group in network.groups
    )


def _impact(
    network: _core.Network, pruning: _core.Pruning
) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
    """Split the logits' bounds by output."""
    lower, upper = pruning.impact
    sizes = {node.name: int(np.prod(node.shape)) for node in network.nodes}
    impact = {}
    first = 0
    for name in network.logits:
        last = first + sizes[name]
        # A fused activation is a node of its own; the layer's name is what users know.
        impact[name.removesuffix("/activation")] = (
            lower[first:last].tolist(),
            upper[first:last].tolist(),
        )
        first = last
    return impact
