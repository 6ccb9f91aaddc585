"""The parts of the document about one model, and why a part is not there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnprune.errors import BackendError
from nnprune.evaluation.passes import Classified
from nnprune.metrics.regression import RegressionQuality
from nnprune.metrics.size import layer_table, measure_size

if TYPE_CHECKING:
    from nnprune.keras_io.input_box import InputBox
    from nnprune.keras_io.logits import LogitsModel
    from nnprune.keras_io.opened import OpenedModel

__all__ = ["absent_sections", "check_litert", "model_section"]


def absent_sections(
    *, original: bool, data: bool, task: str | None, attacks: bool, litert: bool, trace: bool
) -> dict[str, str]:
    """Say why a section of the document is not there, by its name; each argument: what is."""
    found = {}
    if not original:
        found["original"] = "no original model given: nothing to compare with"
    if not data:
        reason = "no evaluation data given"
        found |= {"quality": reason, "robustness": reason, "calibration": reason}
    elif task == "regression":
        reason = "the model predicts numbers, not classes"
        found |= {"robustness": reason, "calibration": reason}
    elif not attacks:
        found["robustness"] = "no attack was asked for"
    if not litert:
        found["latency"] = (
            "not measured; ask with litert=True (--litert), which needs the extra 'litert'"
        )
    if not trace:
        found["trajectory"] = (
            "no trace of the pruning given (nnprune prune --trace run.json, then nnprune evaluate "
            "--trace run.json)"
        )
    return found


def check_litert() -> None:
    """Find out, before any long work, whether models can be measured as LiteRT.

    Raises
    ------
    MissingExtraError
        ai-edge-litert is not installed.
    BackendError
        Keras runs on another backend than TensorFlow.
    """
    from nnprune.gradients import backend
    from nnprune.keras_io.litert_runtime import litert_version

    litert_version()
    if backend() != "tensorflow":
        raise BackendError(
            f"LiteRT files are made on the Keras backend 'tensorflow' only, not on '{backend()}'; "
            "leave litert out, or set KERAS_BACKEND to tensorflow before Keras is imported"
        )


def model_section(
    opened: OpenedModel,
    logits: LogitsModel,
    *,
    label: str,
    role: str,
    pruning: Mapping[str, Any] | None,
    original: OpenedModel | None,
    measured: Classified | RegressionQuality | None,
    box: InputBox,
    litert: bool,
    trusted: bool,
) -> dict[str, Any]:
    """Gather what the document says about one model, as plain values."""
    exported = latency = None
    if litert:
        from nnprune.keras_io.export import export_litert
        from nnprune.metrics.latency import measure_latency

        exported = export_litert(opened.model, input_box=box).data
        latency = measure_latency(exported, input_box=box).to_dict()
    classified = measured if isinstance(measured, Classified) else None
    return {
        "role": role,
        "label": label,
        "path": opened.path,
        "sha256": opened.sha256,
        "trusted": trusted,
        "size": measure_size(opened.model, path=opened.path, litert=exported).to_dict(),
        "latency": latency,
        "quality": _quality(measured),
        "robustness": _robustness(classified),
        "calibration": None if classified is None else classified.calibration.to_dict(),
        "layers": [
            row.to_dict()
            for row in layer_table(
                opened.model,
                original=None if original is None else original.model,
                reasons=_reasons(opened if original is None else original),
            )
        ],
        "pruning": None if pruning is None else dict(pruning),
    }


def _quality(measured: Classified | RegressionQuality | None) -> dict[str, Any] | None:
    if measured is None:
        return None
    quality = measured.quality if isinstance(measured, Classified) else measured
    return quality.to_dict()


def _robustness(classified: Classified | None) -> list[dict[str, Any]] | None:
    if classified is None or not classified.robustness:
        return None
    return [outcome.to_dict() for outcome in classified.robustness]


def _reasons(opened: OpenedModel) -> dict[str, str]:
    """Why the units of a layer could not go, by layer."""
    groups = opened.graph.network.groups
    found = {group.layer: group.reason for group in groups if group.reason is not None}
    return {**opened.graph.opaque, **found}
