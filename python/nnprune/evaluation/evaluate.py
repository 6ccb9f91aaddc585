"""`evaluate` and `compare`: models and data in, one document out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnprune.attacks.options import FGSM, PGD, Attack
from nnprune.datasets.evaluation_data import EvaluationData
from nnprune.datasets.sources import open_data
from nnprune.errors import ConfigError, ModelError
from nnprune.evaluation.certified import CertifiedCounts, certifiable
from nnprune.evaluation.document import Evaluation
from nnprune.evaluation.doubts import doubts_about_epsilons, doubts_about_models
from nnprune.evaluation.entries import Candidate, Entry, open_all
from nnprune.evaluation.passes import classify, regress
from nnprune.evaluation.provenance import provenance
from nnprune.evaluation.sections import absent_sections, check_litert, model_section
from nnprune.evaluation.settings import Settings
from nnprune.evaluation.subject import (
    Subject,
    Task,
    check_alike,
    check_attackable,
    expectation_of,
    subject_of,
    task_of,
)
from nnprune.keras_io.opened import input_box_of
from nnprune.progress import counter
from nnprune.report.schema import KIND, SCHEMA_VERSION
from nnprune.result import finite

if TYPE_CHECKING:
    import keras

    from nnprune.keras_io.input_box import InputBox
    from nnprune.result import PruningResult

__all__ = ["compare", "evaluate"]

# The main paper's two, and between them the one that robust training reports (8/255).
_DEFAULT_EPSILONS = (0.01, 8 / 255, 0.05)

Model = Any  # str | os.PathLike | keras.Model | PruningResult
"""A model file, a live model, or what `prune` returned."""


def evaluate(
    model: str | os.PathLike[str] | keras.Model | PruningResult,
    x: Any = None,
    y: Any = None,
    *,
    original: str | os.PathLike[str] | keras.Model | None = None,
    attacks: Sequence[Attack] | None = None,
    input_bounds: Any = None,
    task: str | None = None,
    scale: float | None = None,
    offset: float | None = None,
    bins: int = 15,
    batch_size: int | None = None,
    litert: bool = False,
    certified: bool = False,
    pruning: Mapping[str, Any] | None = None,
    trust: bool = False,
    progress: bool = False,
    command: str | None = None,
) -> Evaluation:
    """Say what a pruned model is worth: accuracy, robustness, calibration, size.

    Parameters
    ----------
    model : path-like, keras.Model or PruningResult
        The model to evaluate: a `.keras` or `.h5` file, a built Sequential or Functional model
        with one input and one output, or what `prune` returned.
    x, y : optional
        Labelled samples: two arrays; or for `x` alone an `.npz` file with `x` and `y`, a folder of
        images with a sub-folder for each class, a tf.data or Keras dataset, or any iterable of
        `(x, y)` batches; or two `.npy` files. Without data only sizes are measured.
    original : path-like or keras.Model, optional
        The model before pruning. With it agreement, retention and transferred attacks are
        measured, and everything is shown before and after.
    attacks : sequence of FGSM, PGD, AutoPGD or Square, optional
        By default `FGSM((0.01, 8/255, 0.05))` for classifiers; an empty sequence runs none.
    input_bounds : optional
        The legitimate inputs, as for `prune`; attacks stay within them.
    task : {"classification", "regression"}, optional
        By default found from the model's head and its loss.
    scale, offset : float, optional
        What `x` is multiplied by, and what is added then; 1/255 for images of bytes.
    bins : int, default 15
        Bins of the reliability diagram and of ECE and MCE.
    batch_size : int, optional
        Samples computed at a time; by default 256, but fewer where the values of all layers for
        so many would take more than 256 MiB.
    litert : bool, default False
        Also measure the size as a LiteRT file and the latency of one sample on one thread of this
        machine; needs the extra `litert`.
    certified : bool, default False
        Also prove, for the sizes of FGSM and PGD attacks, how many instances no attack of that
        size can turn: true robust accuracy lies between that and what an attack leaves.
    pruning : mapping, optional
        `PruningResult.to_dict()` of the run that made the model, to show its trajectory; known for
        a `PruningResult`.
    trust : bool, default False
        Open files although they could run code: only for files whose author you trust.
    progress : bool, default False
        Show a progress bar on standard error if that is a terminal.
    command : str, optional
        The command line to record.

    Returns
    -------
    Evaluation
        One document; `.summary()`, `.to_json()`, `.save_report("report.html")`.

    Raises
    ------
    ConfigError
        An option is out of range, or the bounds are wrong (`BoundsError`).
    DataError
        The data are empty, not finite, outside the input box, or do not fit the model.
    ModelError
        The model has several inputs or outputs, a head that is neither logits, sigmoid nor
        softmax, or gives NaN.
    BackendError
        The Keras backend cannot differentiate.
    MissingExtraError
        An extra is needed.
    FileFormatError, UntrustedModelError
        A file is no model, damaged, or does what an unknown file must not do.
    """
    settings = Settings(
        attacks=attacks,
        input_bounds=input_bounds,
        task=task,
        bins=bins,
        batch_size=batch_size,
        litert=litert,
        certified=certified,
        trust=trust,
        progress=progress,
        command=command,
    )
    candidate = Candidate(model=model, pruning=pruning)
    data = _opened_data(x, y, scale=scale, offset=offset, attacks=attacks, certified=certified)
    return _measure([candidate], original, data, settings)


def compare(
    models: Sequence[Model] | Mapping[str, Model],
    x: Any = None,
    y: Any = None,
    *,
    original: str | os.PathLike[str] | keras.Model | None = None,
    attacks: Sequence[Attack] | None = None,
    input_bounds: Any = None,
    task: str | None = None,
    scale: float | None = None,
    offset: float | None = None,
    bins: int = 15,
    batch_size: int | None = None,
    litert: bool = False,
    certified: bool = False,
    trust: bool = False,
    progress: bool = False,
    command: str | None = None,
) -> Evaluation:
    """Evaluate several pruned models side by side, on the same data and under the same attacks.

    Parameters
    ----------
    models : sequence of models, or mapping of str to model
        What to compare, as `evaluate` takes them; labels are the mapping's, or the files' names.
    x, y, original, attacks, input_bounds, task, scale, offset, bins, batch_size, litert, \
certified, trust, progress, command
        As for `evaluate`.

    Returns
    -------
    Evaluation
        One document with all models, the original first.

    Raises
    ------
    ConfigError
        There is no model.
    """
    settings = Settings(
        attacks=attacks,
        input_bounds=input_bounds,
        task=task,
        bins=bins,
        batch_size=batch_size,
        litert=litert,
        certified=certified,
        trust=trust,
        progress=progress,
        command=command,
    )
    candidates = _candidates(models)
    data = _opened_data(x, y, scale=scale, offset=offset, attacks=attacks, certified=certified)
    return _measure(candidates, original, data, settings)


def _candidates(models: Any) -> list[Candidate]:
    """Take the models to compare, with the labels that they were given."""
    if isinstance(models, Mapping):
        found = [Candidate(model=one, label=str(label)) for label, one in models.items()]
    elif isinstance(models, Iterable) and not isinstance(models, str):
        found = [Candidate(model=one) for one in models]
    else:
        raise ConfigError(f"models: expected a list or mapping of models, got {models!r}")
    if not found:
        raise ConfigError("models: expected at least one to compare")
    return found


def _opened_data(
    x: Any,
    y: Any,
    *,
    scale: float | None,
    offset: float | None,
    attacks: Sequence[Attack] | None,
    certified: bool,
) -> EvaluationData | None:
    """Open the data; None if there are none, and nothing that would need them."""
    if x is not None:
        return open_data(x, y, scale=scale, offset=offset)
    options = {
        "y": y,
        "scale": scale,
        "offset": offset,
        "attacks": attacks or None,
        "certified": certified or None,
    }
    for name, given in options.items():
        if given is not None:
            raise ConfigError(f"{name}: needs samples to go with; give x (--data)")
    return None


def _measure(
    candidates: Sequence[Candidate], original: Any, data: EvaluationData | None, settings: Settings
) -> Evaluation:
    started = time.perf_counter()
    entries = open_all(candidates, original, trust=settings.trust)
    first = entries[0]
    check_alike({entry.label: entry.opened for entry in entries})
    box = input_box_of(first.opened, settings.input_bounds)
    task = _task(entries, settings.task, needed=data is not None)
    attacks = () if data is None else _attacks(task, settings.attacks, entries)
    if settings.certified:
        certifiable(attacks)
    if settings.litert:
        check_litert()
    measured: Mapping[str, Any] = {}
    warnings = doubts_about_models(entries, trusted=settings.trust)
    if data is not None:
        warnings += doubts_about_epsilons(attacks, box)
        measured = _run(entries, data, task, attacks, box, settings)
        warnings += data.warnings
    models = [
        model_section(
            entry.opened,
            entry.logits,
            label=entry.label,
            role=entry.role,
            pruning=entry.pruning,
            original=first.opened if first.role == "original" else None,
            measured=measured.get(entry.label),
            box=box,
            litert=settings.litert,
            trusted=settings.trust,
        )
        for entry in entries
    ]
    return Evaluation(
        document=finite(
            {
                "kind": KIND,
                "schema_version": SCHEMA_VERSION,
                "provenance": provenance(
                    command=settings.command, seconds=time.perf_counter() - started
                ),
                "task": task,
                "head": _head(first, task),
                "input_box": {
                    "source": box.source,
                    "lower": float(np.min(box.lower[0])),
                    "upper": float(np.max(box.upper[0])),
                },
                "data": None if data is None else data.description().to_dict(),
                "models": models,
                "absent": absent_sections(
                    original=first.role == "original",
                    data=data is not None,
                    task=task,
                    attacks=bool(attacks),
                    litert=settings.litert,
                    trace=any(entry.pruning is not None for entry in entries),
                ),
                "warnings": warnings,
            }
        )
    )


def _task(entries: Sequence[Entry], wanted: Task | None, *, needed: bool) -> Task | None:
    """Find out the task, and make sure that all models do it.

    Without data the task need not be known.
    """
    first, *others = entries
    try:
        task = task_of(first.opened, first.logits, wanted)
    except ModelError:
        if needed:
            raise
        return None
    for entry in others if needed else ():
        task_of(entry.opened, entry.logits, task)
    return task


def _attacks(
    task: Task | None, wanted: Sequence[Attack] | None, entries: Sequence[Entry]
) -> Sequence[Attack]:
    """Choose the attacks and make sure that they can be run on every model."""
    if task == "regression":
        if wanted:
            raise ConfigError("attacks: a regression model has no classes to change; give none")
        return ()
    attacks = [FGSM(_DEFAULT_EPSILONS)] if wanted is None else list(wanted)
    for entry in entries if attacks else ():
        check_attackable(entry.opened)
    for attack in attacks:
        if not isinstance(attack, FGSM | PGD):
            from nnprune.attacks.toolbox import check_toolbox

            check_toolbox(attack, max(entries[0].logits.outputs, 2))
    return attacks


def _run(
    entries: Sequence[Entry],
    data: EvaluationData,
    task: Task | None,
    attacks: Sequence[Attack],
    box: InputBox,
    settings: Settings,
) -> Mapping[str, Any]:
    first = entries[0]
    expectation = expectation_of(first.model_for(task), task or "classification", box)
    data.check(expectation)
    subjects: dict[str, Subject] = {
        entry.label: subject_of(entry.model_for(task), box) for entry in entries
    }
    original = first.label if first.role == "original" else None
    size = settings.batch_size
    if size is None:
        from nnprune.keras_io.batches import batch_size_of

        size = batch_size_of(*(subject.logits.model for subject in subjects.values()))
    batches = data.batches(expectation, size)
    with counter(
        "evaluating", total=data.samples, unit="samples", progress=settings.progress
    ) as tell:
        if task == "regression":
            return regress(subjects, batches, original=original, tell=tell)
        counts = None
        if settings.certified:
            models = {entry.label: entry.opened for entry in entries}
            counts = CertifiedCounts(models, box, certifiable(attacks))
        return classify(
            subjects,
            batches,
            original=original,
            attacks=attacks,
            bins=settings.bins,
            certified=counts,
            tell=tell,
        )


def _head(first: Entry, task: Task | None) -> dict[str, Any]:
    kind = "values" if task == "regression" else first.logits.head
    return {"kind": kind, "layer": first.logits.layer, "outputs": first.logits.outputs}
