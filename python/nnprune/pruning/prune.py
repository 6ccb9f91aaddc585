"""`prune`: a model in, a smaller model out, no data."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, overload

from numpy.typing import ArrayLike

from nnprune.compensation import (
    Compensation,
    Polish,
    Sum,
    compensation_of,
    polish_of,
)
from nnprune.errors import BackendError, ModelError
from nnprune.judge import JUDGED_SAMPLES, Judge, judgeable
from nnprune.keras_io.input_box import InputBox
from nnprune.keras_io.opened import OpenedModel, input_box_of, open_model
from nnprune.options import Method
from nnprune.progress import counter
from nnprune.pruning.checks import (
    bias_or_default,
    check_combination,
    check_options,
    method_or_default,
    targets_of,
)
from nnprune.pruning.job import Job, Watchers
from nnprune.pruning.layers import chosen_layers, units_to_remove
from nnprune.pruning.outcome import Accounts, result_of
from nnprune.pruning.restarts import best_of
from nnprune.pruning.watch import supervision_asked_for
from nnprune.representatives import read_representatives
from nnprune.result import PruningResult
from nnprune.trace import Epoch

if TYPE_CHECKING:
    import keras

    from nnprune.attacks.options import Attack

__all__ = ["prune"]

# Multiplications for one input from which on the judge's thousands of gradients take minutes: then
# it only looks where it decides something.
_DEAR = 5_000_000

InputBounds = tuple[ArrayLike, ArrayLike] | Mapping[str, Any] | Sequence[Any] | None


class _Options(TypedDict, total=False):
    """The options of `prune` but for its targets, for the type checker."""

    compensation: str | Compensation
    step: float
    method: Method | None
    input_bounds: InputBounds
    representative_inputs: Any
    layers: Sequence[str] | None
    exclude: Sequence[str] | None
    outgoing: str
    bias: str | None
    max_output_change: float | None
    restarts: int
    min_agreement: float | None
    polish: Polish | bool | None
    allocation: str
    width_multiple: int
    seed: int
    evaluate: Any
    attacks: Sequence[Attack] | None
    stop_if_accuracy_below: float | None
    stop_if_robust_accuracy_below: float | None
    stop_if_agreement_below: float | None
    trust: bool
    progress: bool
    on_epoch: Callable[[Epoch], bool | None] | None


@overload
def prune(
    model: str | os.PathLike[str] | keras.Model,
    *,
    target: float | Literal["lossless"],
    **options: Unpack[_Options],
) -> PruningResult: ...
@overload
def prune(
    model: str | os.PathLike[str] | keras.Model,
    *,
    targets: Sequence[float],
    **options: Unpack[_Options],
) -> list[PruningResult]: ...
def prune(
    model: str | os.PathLike[str] | keras.Model,
    *,
    target: float | Literal["lossless"] | None = None,
    targets: Sequence[float] | None = None,
    compensation: str | Compensation = "sum",
    step: float = 1 / 32,
    method: Method | None = None,
    input_bounds: InputBounds = None,
    representative_inputs: Any = None,
    layers: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    outgoing: str = "l2",
    bias: str | None = None,
    max_output_change: float | None = None,
    restarts: int = 1,
    min_agreement: float | None = None,
    polish: Polish | bool | None = None,
    allocation: str = "uniform",
    width_multiple: int = 1,
    seed: int = 0,
    evaluate: Any = None,
    attacks: Sequence[Attack] | None = None,
    stop_if_accuracy_below: float | None = None,
    stop_if_robust_accuracy_below: float | None = None,
    stop_if_agreement_below: float | None = None,
    trust: bool = False,
    progress: bool = False,
    on_epoch: Callable[[Epoch], bool | None] | None = None,
) -> PruningResult | list[PruningResult]:
    """Remove hidden units of Dense layers, without data.

    By default in pairs, of which the nominee goes and the delegate takes over its outgoing
    weights: the method of Meng, Bai, Teo and Dong, arXiv 2204.00783. With
    `compensation="least_squares"` all units that are left take over, which keeps far more
    accuracy. `docs/method.md` defines every quantity.

    Parameters
    ----------
    model : path-like or keras.Model
        A `.keras` or `.h5` file (with the extra `legacy` also what Keras 2 wrote), or a built
        Sequential or Functional model, which is not changed.
    target : float or "lossless", optional
        Fraction of each layer's units to remove, between 0 and 1, both excluded. Rounded half up
        per layer; every layer keeps at least one unit. "lossless" removes only units that are 0,
        or equal to another unit, for every legitimate input, and all of these that it finds;
        `step` and `method` then count for nothing.
    targets : sequence of float, optional
        Several fractions in place of `target`: one result for each, in this order, the same as
        by itself.
    compensation : {"sum", "scaled", "least_squares"}, Sum, Scaled or LeastSquares, default "sum"
        How what is lost is made up for: the delegate takes the sum, as in the paper; or the
        nominee's weights scaled by the norms of both (Neuron Merging); or every removed unit is
        re-expressed by all that are kept, by least squares on inputs made without data.
    step : float, default 1/32
        Fraction of each layer's units to remove in an epoch, in (0, 1].
    method : Annealing, Greedy, OneShot or Elimination, optional
        How pairs, or with least squares units, are chosen; `Annealing()` by default, with least
        squares `Elimination()`. There `Annealing()` searches for the units to keep, and the two
        others leave the units that they would leave without least squares.
    representative_inputs : array, list or mapping, optional
        A few unlabelled inputs, float arrays of shape (samples, *input_shape), for several inputs
        in a list or by name: least squares and `polish` use them in place of synthetic ones.
    restarts : int, default 1
        Prune with so many seeds, `seed` and those that follow, in parallel threads, and keep the
        run that agrees most with the original on synthetic inputs.
    min_agreement : float, optional
        The least agreement with the original on synthetic inputs, a fraction: the first epoch (by
        least squares: the first size, in steps of `step`) that falls below is taken back, and the
        run stops.
    polish : Polish or bool, optional
        Afterwards train the smaller model a little to give the original's logits on synthetic
        inputs; True for the usual parameters.
    allocation : {"uniform", "propagated"}, default "uniform"
        The same fraction of every layer, or as many parameters in all, taken where the outputs
        suffer least; the latter for least squares only.
    width_multiple : int, default 1
        Round the number of units left in a layer up to a multiple of this, as far as there are.
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
    PruningResult or list of PruningResult
        The smaller model with the trace of what was done; for `targets` a list.

    Raises
    ------
    ConfigError
        An option is out of range, or a layer is unknown (`UnknownLayerError`), or the bounds are
        wrong (`BoundsError`), or the original is below a floor.
    DataError
        The samples, or the representative inputs, are wrong or do not fit the model.
    ModelError
        The model is not built, subclassed, has NaN weights (`WeightError`), nothing to prune
        (`NothingToPruneError`), or needs the extra `legacy` (`LegacyModelError`).
    FileFormatError, UntrustedModelError
        The file is no model, damaged, or does what an unknown file must not do.

    Notes
    -----
    Ctrl-C stops a run within half a second when it was started from the main thread; with
    `restarts` at the end of the epoch or layer under way.

    The same inputs, options and seed give the same model, but where time has a say
    (`LeastSquares.search_seconds`, `Polish.seconds`); what Keras computes (a polish, or layers
    that the engine cannot follow) on the same backend, device and number of threads.

    What is certified, `PruningResult.impact` too, is the change between the two networks of
    float32 weights in exact arithmetic. Casting weights back to float16 or bfloat16
    (`PruningResult.rounding`), and the rounding of an evaluation, come on top.
    """
    wanted = targets_of(target, targets)
    rule = compensation_of(compensation)
    polishing = polish_of(polish)
    chosen_method = method_or_default(method, rule)
    for one in wanted:
        check_options(
            target=one,
            step=step,
            method=chosen_method,
            outgoing=outgoing,
            bias=bias,
            max_output_change=max_output_change,
            seed=seed,
            compensation=rule,
            width_multiple=width_multiple,
        )
        check_combination(
            target=one,
            method=chosen_method,
            compensation=rule,
            allocation=allocation,
            restarts=restarts,
            min_agreement=min_agreement,
            representative_inputs=representative_inputs,
            polish=polishing,
            watched={"evaluate": evaluate, "on_epoch": on_epoch},
        )
    floors = {
        "accuracy": stop_if_accuracy_below,
        "robust_accuracy": stop_if_robust_accuracy_below,
        "agreement": stop_if_agreement_below,
    }
    watch = supervision_asked_for(evaluate, attacks, floors)
    opened = open_model(model, trust=trust, without_keras=polishing is None)
    if polishing is not None:
        from nnprune.polishing import check_polishable

        check_polishable(opened, polishing)
    layer_names = chosen_layers(opened.graph.network, layers, exclude)
    box = input_box_of(opened, input_bounds)
    given = (
        None
        if representative_inputs is None
        else read_representatives(representative_inputs, opened, box)
    )
    supervisor = None if watch is None else watch(opened, box)
    asked = restarts > 1 or min_agreement is not None
    job = Job(
        opened=opened,
        box=box,
        layers=tuple(layer_names),
        step=float(step),
        method=chosen_method,
        outgoing=outgoing,
        bias=bias_or_default(bias, chosen_method),
        max_output_change=None if max_output_change is None else float(max_output_change),
        allocation=allocation,
        width_multiple=int(width_multiple),
        compensation=rule,
        representatives=given,
        judge=_judge(opened, box, rule, seed, asked=asked, told=polishing is not None),
        min_agreement=None if min_agreement is None else float(min_agreement),
    )
    watchers = Watchers(supervisor=supervisor, on_epoch=on_epoch)
    results = _results(
        job,
        wanted,
        int(seed),
        int(restarts),
        watchers,
        polish=polishing,
        trusted=trust,
        progress=progress,
    )
    return results if targets is not None else results[0]


def _judge(
    opened: OpenedModel,
    box: InputBox,
    rule: Compensation,
    seed: int,
    *,
    asked: bool,
    told: bool,
) -> Judge | None:
    """Return the judge where it decides something (`asked`), or the result tells what it says."""
    reported = told or not isinstance(rule, Sum)
    dear = sum(node.macs for node in opened.graph.network.nodes) > _DEAR
    if not asked and (dear or not (reported and judgeable(opened))):
        return None
    try:
        return Judge(opened, box, source=None, samples=JUDGED_SAMPLES, seed=seed)
    except (BackendError, ModelError):
        if asked:
            raise
        return None  # nobody has asked for it, and the run goes without


def _results(
    job: Job,
    targets: Sequence[float | Literal["lossless"]],
    seed: int,
    restarts: int,
    watchers: Watchers,
    *,
    polish: Polish | None,
    trusted: bool,
    progress: bool,
) -> list[PruningResult]:
    """Prune to each target; to all at once where units are selected before they are made up for."""
    together = not isinstance(job.compensation, Sum)
    results: list[PruningResult] = []
    for part in [list(targets)] if together else [[target] for target in targets]:
        text, total, unit = _amount(job, part, restarts)
        started, watched = time.process_time(), watchers.cpu_seconds
        measured = _evaluation_seconds(watchers)
        with counter(text, total=total, unit=unit, progress=progress) as advance:
            watchers.advance = advance
            found = best_of(job, part, seed, restarts, watchers)
        seconds = time.process_time() - started - (watchers.cpu_seconds - watched)
        accounts = Accounts(
            trusted=trusted,
            engine_seconds=seconds,
            # The original is measured once, before the first of several targets.
            evaluation_seconds=_evaluation_seconds(watchers) - (measured if results else 0.0),
        )
        results += [
            result_of(
                job, target, best, accounts, polish=polish, watchers=watchers, progress=progress
            )
            for target, best in zip(part, found, strict=True)
        ]
    return results


def _evaluation_seconds(watchers: Watchers) -> float:
    return 0.0 if watchers.supervisor is None else watchers.supervisor.cpu_seconds


def _amount(job: Job, targets: Sequence[Any], restarts: int) -> tuple[str, int | None, str]:
    """Say what a progress bar counts: what is done, how much of it there is, and of what."""
    if isinstance(job.compensation, Sum):
        units = units_to_remove(job.opened, job.layers, targets[0])
        return "pruning", restarts * units, "units"
    groups = [group for group in job.network.groups if group.reason is None]
    layers = len(job.layers or groups)
    known = job.min_agreement is None
    return "refitting", restarts * len(targets) * layers if known else None, "layers"
