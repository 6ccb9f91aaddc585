"""What a document lacks, and what is wrong or hostile in it."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from nnprune.errors import DataError
from nnprune.report.render import load_schema, render
from nnprune.report.text import visible
from report_documents import Document, classification
from report_page import Page

SCHEMA = load_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def holes(value: Any, schema: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of everything in a document that the schema lets be null."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    options = schema.get("anyOf", [schema])
    if any(option.get("type") == "null" or "null" in option.get("type", ()) for option in options):
        yield path
    for option in options:
        known = option
        if "$ref" in known:
            known = SCHEMA["$defs"][known["$ref"].rsplit("/", 1)[1]]
        if isinstance(value, dict) and set(value) <= set(known.get("properties", ())):
            for key, entry in value.items():
                yield from holes(entry, known["properties"][key], (*path, key))
        elif isinstance(value, list) and "items" in known:
            for index, entry in enumerate(value):
                yield from holes(entry, known["items"], (*path, index))


def without(document: Document, paths: list[tuple[Any, ...]]) -> Document:
    """Return a document with nothing at the paths."""
    document = copy.deepcopy(document)
    for path in paths:
        place: Any = document
        for step in path[:-1]:
            place = None if place is None else place[step]
        if place is not None:
            place[path[-1]] = None
    return document


PATHS = list(holes(classification(pruned=2), SCHEMA))


def test_what_may_be_missing_is_found() -> None:
    assert ("data",) in PATHS
    assert ("models", 1, "robustness", 0, "points", 0, "transfer") in PATHS
    assert ("models", 1, "calibration", "reliability", 0, "accuracy") in PATHS
    assert len(PATHS) > 200


@given(st.lists(st.sampled_from(PATHS), max_size=12))
@example(PATHS)
def test_anything_that_may_be_missing_may_be_missing(paths: list[tuple[Any, ...]]) -> None:
    # An empty bin has neither accuracy nor confidence; one without the other is no document.
    paths = [path for path in paths if "reliability" not in path]
    document = without(classification(pruned=2), paths)
    VALIDATOR.validate(document)
    Page(render(document))


# --- hostile text --------------------------------------------------------------------------------

HOSTILE = (
    "<script>alert(1)</script>",
    "</title></style></svg><script>",
    "\"'><img src=x onerror=alert(1)>",
    "]]>-->{{ 7*7 }}{% raw %}${7*7}",
    "&amp;&lt;&#60;",
    "\u202emoc.live\u202c \u2066x\u2069 \u200b",
    "\x00\x1b[31m\x7f\x85\ufffe\ud800",
    "a\nb\r\n\tc\u2028d",
    "",
    "\u05e9\u05dc\u05d5\u05dd.keras",
    "a" * 400,
)


def poisoned(text: str) -> Document:
    """Return a document in which all that is free text is `text`."""
    document = classification(pruned=2)
    document["provenance"] |= dict.fromkeys(
        ("nnprune", "keras", "backend", "backend_version", "numpy", "python", "platform"), text
    )
    document["provenance"] |= {"devices": [text], "date": text, "command": text}
    document["head"]["layer"] = text
    document["data"]["source"] = text
    document["warnings"] = [text]
    document["absent"] = {text: text, "latency": text}
    for model in document["models"]:
        model |= {"label": text, "path": text or None}
        model["size"]["uncounted"] = {text: text}
        model["latency"] |= {"runtime": text, "device": text}
        for attack, name in zip(model["robustness"], ("FGSM", "PGD-7"), strict=True):
            attack |= {"attack": name + text, "flags": [text], "parameters": {text: text}}
        for layer in model["layers"]:
            layer |= {"layer": text, "kind": text, "reason": text}
        if model["pruning"]:
            model["pruning"]["method"]["name"] = text
            model["pruning"]["stopped_by"] = text
            for epoch in model["pruning"]["trace"]:
                for robust in (epoch["evaluation"] or {}).get("robust", ()):
                    robust["attack"] += text
    return document


HARMLESS = Page(render(poisoned("harmless")))


@given(st.text(min_size=1))
def test_no_text_changes_the_structure_of_the_page(text: str) -> None:
    html = render(poisoned(text))
    page = Page(html)
    assert page.tags == HARMLESS.tags
    assert page.tags.count("script") == 0
    assert [name for _, name, _ in page.attributes] == [n for _, n, _ in HARMLESS.attributes]
    assert all(letter.isprintable() or letter == "\n" for letter in html)
    html.encode()
    assert visible(text) in "".join(page.texts)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_shown_as_they_are(text: str) -> None:
    html = render(poisoned(text))
    page = Page(html)
    assert "script" not in page.tags
    assert "<script" not in html
    assert "img" not in page.tags
    assert visible(text) in "".join(page.texts)
    assert any(visible(text) in value for value in page.values("aria-labelledby") + page.texts)
    html.encode()


def test_what_cannot_be_seen_is_written_out() -> None:
    assert visible("caf\u00e9 \u4e2d <b>") == "caf\u00e9 \u4e2d <b>"
    assert visible("a\u202eb\x00\ud800\n") == "a\\u202eb\\x00\\ud800\\n"


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", [{}, [], None, "text", {"kind": "nnprune-pruning"}])
def test_what_is_no_evaluation_is_refused(document: Any) -> None:
    with pytest.raises(DataError, match="no evaluation of nnprune"):
        render(document)


def test_newer_versions_are_refused() -> None:
    with pytest.raises(DataError, match=r"newer nnprune \(schema_version 2.*update nnprune"):
        render(classification() | {"schema_version": 2})
    for version in (None, "1", 0, True, 1.5):
        with pytest.raises(DataError, match="schema_version"):
            render(classification() | {"schema_version": version})


@pytest.mark.parametrize("key", sorted(set(SCHEMA["required"]) - {"kind", "schema_version"}))
def test_damaged_documents_are_refused(key: str) -> None:
    document = classification()
    del document[key]
    with pytest.raises(DataError, match="not as its schema asks"):
        render(document)
    with pytest.raises(DataError, match="not as its schema asks"):
        render(classification() | {"models": []})
    with pytest.raises(DataError, match="not as its schema asks"):
        render(classification() | {"models": "ab\n"})


def test_neither_keras_nor_tensorflow_is_imported() -> None:
    code = (
        "import sys, nnprune.report.render;"
        "sys.exit(bool({'keras', 'tensorflow', 'jsonschema'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
