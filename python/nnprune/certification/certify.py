"""`certify`: bounds of what a pruning did to the outputs, for every input of a box."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnprune import _core
from nnprune._core import __version__
from nnprune.certification.certificate import (
    Certificate,
    Interval,
    following_margins,
    margins_follow,
)
from nnprune.certification.coverage import measure_coverage
from nnprune.certification.local import LocalCounts, checked_epsilons, measure_local
from nnprune.certification.outputs import Output, outputs_of
from nnprune.certification.outward import outward, outward_margins
from nnprune.certification.pair import Pair, open_pair
from nnprune.certification.samples import Samples, read_samples
from nnprune.certification.softmax import probability_changes
from nnprune.certification.usefulness import judge
from nnprune.errors import ConfigError, ModelError
from nnprune.keras_io.wording import quoted
from nnprune.progress import counter

if TYPE_CHECKING:
    import keras

    from nnprune.result import PruningResult

__all__ = ["certify", "proved_change"]

_MOST_NAMED = 3
# The ranges are only there to compare with: of large models they may stay wider than they could be.
_MOST_FOR_RANGES = 2e10


def certify(
    pruned: str | os.PathLike[str] | keras.Model | PruningResult,
    *,
    original: str | os.PathLike[str] | keras.Model,
    input_bounds: Any = None,
    samples: Any = None,
    eps: float | Sequence[float] | None = None,
    pruning: PruningResult | Mapping[str, Any] | None = None,
    trust: bool = False,
    progress: bool = False,
) -> Certificate:
    """Prove how far a pruning moves the outputs, for every input of a box.

    `docs/certificates.md` says what that promises, and what not.

    Parameters
    ----------
    pruned : path-like, keras.Model or PruningResult
        The smaller model: a file that `PruningResult.save` or `nnprune prune` wrote, what `prune`
        returned, or another form of either with `pruning`.
    original : path-like or keras.Model
        The model it was made of.
    input_bounds : optional
        The box of inputs, as for `prune`; by default the one that the model was pruned for.
    samples : optional
        Inputs as an array, or `(x, y)` or what else `nnprune.evaluate` takes, to see on how many
        the certificate proves that both models agree. They must be in the box.
    eps : float or sequence of float, optional
        Radii of balls around the samples, in the maximum norm and the input's own units: how many
        samples are certified robust within, for either model, and for how many both are certified
        to the same class.
    pruning : PruningResult or mapping, optional
        What the pruning recorded (`PruningResult.to_dict()`, the JSON of `nnprune prune`), for a
        smaller model that does not say, as one that Keras has saved anew.
    trust : bool, default False
        Open files although they could run code: only for files whose author you trust.
    progress : bool, default False
        Show a progress bar on standard error if that is a terminal.

    Returns
    -------
    Certificate
        The bounds, what follows from them, and how to apply them.

    Raises
    ------
    ConfigError
        An option is out of range, or the bounds are wrong (`BoundsError`).
    DataError
        The samples are wrong, do not fit the model or are outside the box; or the record of the
        pruning is damaged.
    ModelError
        The models do not belong together, the smaller one says nothing of its pruning, or a layer
        that the engine cannot follow leaves an output without a bound.
    FileFormatError, UntrustedModelError
        A file is no model, damaged, or does what an unknown file must not do.

    Notes
    -----
    The figures hold for real arithmetic on the stored weights; rounding while the models run is
    not included.
    """
    epsilons = checked_epsilons(eps)
    if epsilons and samples is None:
        raise ConfigError("eps: needs samples to draw balls around; give samples=x or (x, y)")
    pair = open_pair(pruned, original, pruning=pruning, input_bounds=input_bounds, trust=trust)
    found = None if samples is None else read_samples(samples, pair)
    outputs = outputs_of(pair.networks[0])
    change, margins = proved_change(pair, outputs)
    ranges = [_range(network, lower=pair.lower, upper=pair.upper) for network in pair.networks]
    coverage = None if found is None else measure_coverage(pair, margins, found)
    local = () if found is None else _local(pair, found, epsilons, progress=progress)
    return Certificate(
        original=pair.identities[0],
        pruned=pair.identities[1],
        input_source=pair.input_source,
        input_bounds=pair.input_bounds,
        outputs=outputs,
        output_change=change,
        margins=margins,
        original_range=ranges[0],
        pruned_range=ranges[1],
        probabilities=probability_changes(
            outputs,
            change.lower,
            change.upper,
            None if margins_follow(outputs) else margins,
        ),
        merges=pair.merges,
        coverage=coverage,
        local=local,
        usefulness=judge(outputs, change, margins, ranges[0], ranges[1], coverage),
        nnprune_version=__version__,
        polished=pair.polished,
    )


def proved_change(pair: Pair, outputs: tuple[Output, ...]) -> tuple[Interval, NDArray[np.float64]]:
    """Bound the change of the logits and of their differences, as they are published.

    Raises
    ------
    ModelError
        A layer that the engine cannot follow leaves one without a bound.
    """
    original, pruned = pair.networks
    found = _core.certify(original, pruned, pair.lower, pair.upper, pair.named_merges)
    lower, upper = outward(found["lower"], found["upper"])
    change = Interval(lower=lower, upper=upper)
    if not np.all(np.isfinite(change.widths)):
        _check_followed(pair)
    if margins_follow(outputs):
        return change, following_margins(change)
    return change, outward_margins(found["margins"])


def _check_followed(pair: Pair) -> None:
    """Say which ops are to blame for outputs without a bound, if any are."""
    opaque = {**pair.pruned.graph.opaque, **pair.original.graph.opaque}
    if not opaque:
        return
    told = [f"{quoted(layer)} ({why})" for layer, why in list(opaque.items())[:_MOST_NAMED]]
    more = f" and {len(opaque) - _MOST_NAMED} more" if len(opaque) > _MOST_NAMED else ""
    raise ModelError(
        f"there is no bound on the outputs: the engine has no rule for {', '.join(told)}{more}"
    )


def _range(network: _core.Network, *, lower: Any, upper: Any) -> Interval:
    """Bound a model's own logits over the box."""
    ends = [
        _core.tight_bounds(network, name, lower, upper, most_multiplications=_MOST_FOR_RANGES)
        for name in network.logits
    ]
    low, high = (np.concatenate([end[side].reshape(-1) for end in ends]) for side in (0, 1))
    return Interval(lower=low, upper=high)


def _local(
    pair: Pair, samples: Samples, epsilons: Sequence[float], *, progress: bool
) -> tuple[LocalCounts, ...]:
    if not epsilons:
        return ()
    total = 2 * len(samples.x) * len(epsilons)
    with counter("certifying", total=total, unit="balls", progress=progress) as advance:
        return measure_local(
            pair.original,
            pair.pruned,
            pair.lower[0],
            pair.upper[0],
            samples,
            epsilons,
            advance,
        )
