"""The JSON Schema of evaluations, and the check that a document is one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from nnprune.errors import DataError

__all__ = ["KIND", "SCHEMA_VERSION", "check_kind", "load_schema"]

#: `kind` and `schema_version` of the documents that this package writes and reads.
KIND = "nnprune-evaluation"
SCHEMA_VERSION = 1


def load_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the evaluation JSON, a new copy each time."""
    file = resources.files("nnprune.report").joinpath("evaluation.schema.json")
    schema: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return schema


def check_kind(document: Mapping[str, Any]) -> None:
    """Find out whether a document is an evaluation that this version can read.

    Parameters
    ----------
    document : mapping
        The JSON as Python values.

    Raises
    ------
    DataError
        It is something else, or from a newer version.
    """
    if not isinstance(document, Mapping) or document.get("kind") != KIND:
        raise DataError(
            f'this is no evaluation of nnprune: its "kind" is not "{KIND}";'
            " give the JSON that `nnprune evaluate` or `nnprune compare` wrote"
        )
    version = document.get("schema_version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise DataError('the evaluation has no valid "schema_version"; evaluate the model again')
    if version > SCHEMA_VERSION:
        raise DataError(
            f"the evaluation was written by a newer nnprune (schema_version {version}, this one"
            f" reads {SCHEMA_VERSION}); update nnprune"
        )
