"""The JSON Schema of evaluations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from nnprune.report.render import load_schema, render
from report_cases import every_document
from report_documents import Document, classification
from report_page import Page

SCHEMA = load_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def test_schema_is_a_schema_and_says_what_units_are() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$id"] == "urn:nnprune:evaluation:1"
    assert load_schema() is not SCHEMA
    for name, definition in SCHEMA["$defs"].items():
        assert "description" in definition, name
        for key, entry in definition.get("properties", {}).items():
            described = "description" in entry or "$ref" in entry or "properties" in entry
            assert described, f"{name}.{key}"


def test_schema_lets_nothing_unknown_through() -> None:
    def closed(schema: Any, where: str) -> None:
        if isinstance(schema, dict):
            if "properties" in schema and where.split("/")[-1] != "properties":
                assert "additionalProperties" in schema, where
                assert "required" in schema, where
            for key, value in schema.items():
                closed(value, f"{where}/{key}")
        elif isinstance(schema, list):
            for value in schema:
                closed(value, where)

    closed(SCHEMA, "")


@every_document
def test_documents_fit_the_schema(make: Callable[[], Document]) -> None:
    VALIDATOR.validate(make())


WRONG: dict[str, Callable[[Document], Any]] = {
    "missing": lambda d: d.pop("warnings"),
    "unknown": lambda d: d.update(extra=1),
    "kind": lambda d: d.update(kind="something"),
    "version": lambda d: d.update(schema_version=2),
    "no models": lambda d: d["models"].clear(),
    "percent": lambda d: d["models"][0]["quality"]["accuracy"].update(value=97.8),
    "text": lambda d: d["models"][0]["size"].update(parameters="27562"),
    "negative": lambda d: d["models"][0]["latency"].update(p50_seconds=-1.0),
    "role": lambda d: d["models"][0].update(role="teacher"),
    "sha": lambda d: d["models"][0].update(sha256="ABC"),
    "mixed quality": lambda d: d["models"][0]["quality"].update(mse=1.0),
    "deep": lambda d: d["models"][1]["pruning"]["trace"][0].update(temperature=2.0),
}


@pytest.mark.parametrize("spoil", WRONG.values(), ids=list(WRONG))
def test_wrong_documents_do_not_fit(spoil: Callable[[Document], Any]) -> None:
    document = classification()
    spoil(document)
    assert not VALIDATOR.is_valid(document)


def test_what_prune_records_fits_the_schema() -> None:
    import keras
    import nnprune

    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(8, "relu", name="hidden"),
            keras.layers.Dense(4, "softmax", name="head"),
        ]
    )
    record = nnprune.prune(model, target=0.5, step=0.25).to_dict()
    document = classification()
    document["models"][1]["pruning"] = record
    VALIDATOR.validate(document)
    page = Page(render(document))
    assert "50.0% removed" in page.text
