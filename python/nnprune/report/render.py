"""The HTML report of an evaluation."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from nnprune.errors import DataError
from nnprune.report import format as fmt
from nnprune.report.calibration import calibration_view
from nnprune.report.footprint import footprint_view
from nnprune.report.gauge import bar, gauge
from nnprune.report.layers import layer_tables
from nnprune.report.models import Entry, entries, reference, subject
from nnprune.report.provenance import facts, moment
from nnprune.report.robustness import robustness_view
from nnprune.report.schema import check_kind, load_schema
from nnprune.report.summary import cautions, costs, error_figures, qualities
from nnprune.report.text import visible
from nnprune.report.trajectory import trajectory_view

__all__ = ["load_schema", "render"]

#: Sections whose names are not simply capitalised.
_SECTION_NAMES = {"litert": "LiteRT", "onnx": "ONNX"}

#: What reading a document runs into where something is missing or of another kind.
_DAMAGES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    jinja2.UndefinedError,
)

#: Nothing but this file's own style: no script, no font, no request, whatever a name may contain.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:;"
    " base-uri 'none'; form-action 'none'"
)


def render(document: Mapping[str, Any]) -> str:
    """Return the report of an evaluation as one HTML page that needs nothing else.

    The page has no scripts and makes no requests; its charts are inline SVG. It holds what the
    document holds and nothing else: what was not measured is said to be missing, with the reason.

    Parameters
    ----------
    document : mapping
        The evaluation JSON (see `load_schema`), of one or several models. Every text in it may
        be hostile.

    Returns
    -------
    str
        HTML, to be written as UTF-8.

    Raises
    ------
    DataError
        It is no evaluation, from a newer version, or damaged.
    """
    check_kind(document)
    try:
        return _template().render(_context(document))
    except _DAMAGES as error:
        told = visible(f"{type(error).__name__}: {error}")
        raise DataError(
            f"the evaluation cannot be shown, it is not as its schema asks ({told});"
            " evaluate the model again"
        ) from error


@functools.cache
def _template() -> jinja2.Template:
    """Return the page's template, with every text escaped and made visible on its way in."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nnprune.report", "templates"),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def _shown(value: Any) -> Any:
    """Return what a template prints, with foreign text made visible."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _context(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template shows."""
    models = entries(document)
    if not models:
        raise ValueError("there are no models in it")
    return {
        "bar": bar,
        "fmt": fmt,
        "gauge": gauge,
        "policy": _POLICY,
        "document": document,
        "models": models,
        "reference": reference(models),
        "subject": subject(models),
        "title": _title(models),
        "date": moment(document["provenance"]["date"]),
        "qualities": qualities(models),
        "costs": costs(models),
        "cautions": cautions(document, models),
        "regression": document["task"] == "regression",
        "errors": error_figures(models),
        "robustness": robustness_view(models),
        "trajectory": trajectory_view(models),
        "calibration": calibration_view(models),
        "footprint": footprint_view(models),
        "layers": layer_tables(models),
        "facts": facts(document),
        "section_names": _SECTION_NAMES,
        "reasons": _absent(document["absent"]),
    }


def _title(models: Sequence[Entry]) -> str:
    """Return what the page is called."""
    shown = subject(models)
    if shown is not None:
        return shown.label
    return models[0].label if len(models) == 1 else f"{len(models)} models compared"


def _absent(reasons: Mapping[str, str]) -> dict[str, str]:
    """Return, for every section of the page, why it is empty (if it is)."""
    asked = {
        "quality": ("quality", "data"),
        "robustness": ("robustness", "quality", "data"),
        "trajectory": ("trajectory", "pruning"),
        "calibration": ("calibration", "quality", "data"),
        "latency": ("latency",),
        "layers": ("layers",),
    }
    return {
        section: next(
            (reasons[name] for name in names if name in reasons), "the evaluation gives no reason"
        )
        for section, names in asked.items()
    }
