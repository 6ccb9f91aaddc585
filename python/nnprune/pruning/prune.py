"""`prune`: a model in, a smaller model out, no data."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import ArrayLike

from nnprune import _core
from nnprune.attacks.options import Attack
from nnprune.keras_io.fingerprints import model_sha256
from nnprune.keras_io.opened import input_box_of, open_model
from nnprune.options import Annealing, Method, method_to_dict
from nnprune.progress import counter
from nnprune.pruning.checks import LOSSLESS, bias_or_default, check_options, fraction_for_core
from nnprune.pruning.layers import chosen_layers, units_to_remove
from nnprune.pruning.outcome import impact_by_output, layer_changes, macs
from nnprune.pruning.watch import Watch
from nnprune.result import PruningResult, Size, Source
from nnprune.supervision import Floors, Supervision, Supervisor
from nnprune.trace import Epoch, Merge

if TYPE_CHECKING:
    import keras

__all__ = ["prune"]


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
    watch = Watch(supervisor, on_epoch)
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
        before=Size(parameters=opened.model.count_params(), macs=macs(opened.graph.network)),
        after=Size(parameters=rebuilt.model.count_params(), macs=macs(pruning.network)),
        layers=layer_changes(opened.graph.network, pruning),
        opaque=dict(opened.graph.opaque),
        merges=tuple(Merge(**merge) for merge in pruning.merges),
        trace=tuple(watch.epochs),
        impact=impact_by_output(opened.graph.network, pruning),
        stopped_by=watch.stopped_by or pruning.stopped_by,
        rounding=rebuilt.rounding,
        trusted=trust,
        engine_seconds=engine_seconds,
        evaluation_seconds=0.0 if supervisor is None else supervisor.cpu_seconds,
        original_evaluation=None if supervisor is None else supervisor.original,
        undone=watch.undone,
        kernel_path=pruning.kernel_path,
    )
