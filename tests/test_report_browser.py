"""The report in a real browser: nothing asked for, nothing complained of, nothing cut off."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from nnprune.report.render import render
from report_cases import DOCUMENTS
from report_documents import Document, classification

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

#: Bounding boxes of every drawing's texts, and of the drawing's own frame, in its coordinates.
_TEXTS = """() => [...document.querySelectorAll("svg.chart")].map((chart) => ({
    frame: [chart.viewBox.baseVal.width, chart.viewBox.baseVal.height],
    texts: [...chart.querySelectorAll("text")].map((text) => {
        const box = text.getBBox();
        return [box.x, box.y, box.x + box.width, box.y + box.height, text.textContent];
    }),
}))"""

#: What sticks out of the page (but for what can be scrolled), or of a cell of a table.
_CUT_OFF = """() => [...document.querySelectorAll("body *")].filter((element) => {
    if (element.scrollWidth > element.clientWidth + 1 && element.matches("th, td")) return true;
    if (element.closest(".scroll, svg, .skip, details:not([open]) > :not(summary)")) return false;
    const box = element.getBoundingClientRect();
    return box.left < -1 || box.right > innerWidth + 1;
}).map((element) => element.outerHTML.slice(0, 200))"""


def crowded() -> Document:
    """Return a document with long names, many sizes and as many models as there are colours."""
    document = classification(pruned=7)
    document["warnings"] = ["w" * 300, "a sentence that is rather long " * 12]
    document["data"]["source"] = "a folder/with/a/very/long/path/" * 8
    document["models"][0]["label"] = "n" * 120
    document["models"][1]["label"] = "a-name-with-many-parts-" * 8 + ".keras"
    for model in document["models"]:
        model["layers"][0] |= {"layer": "block/" * 20 + "x" * 90, "reason": "r" * 200}
        model["size"] |= {"parameters": 123_456_789_012, "macs": 987_654_321_098}
        for attack in model["robustness"]:
            attack["attack"] += "-with-a-long-label" * 3
            point = attack["points"][0]
            attack["points"] = [{**point, "epsilon": index / 255} for index in range(1, 17)]
    return document


SHOWN: dict[str, Callable[[], Document]] = {
    "crowded": crowded,
    **{
        name: DOCUMENTS[name]
        for name in ("pair", "three", "ten", "regression", "no data", "only epsilon zero")
    },
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start the system's browser once."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip(f"no browser to test with: none of {', '.join(names)} is installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser: Browser, folder: Path, document: Document) -> Iterator[Page]:
    """Open a report, and check in the end that it kept to itself."""
    path = folder / "report.html"
    path.write_text(render(document), encoding="utf-8")
    with browser.new_context() as context:
        page = context.new_page()
        told: list[str] = []
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda request: told.append(request.url))
        page.goto(path.as_uri())
        yield page
        assert told == [path.as_uri()]


def apart(first: Sequence[Any], second: Sequence[Any]) -> bool:
    """Return whether two texts do not touch.

    Boxes have room above and below the letters: that much of two may overlap.
    """
    beside = first[0] >= second[2] or second[0] >= first[2]
    return bool(beside or first[1] >= second[3] - 4 or second[1] >= first[3] - 4)


@pytest.mark.parametrize("make", SHOWN.values(), ids=list(SHOWN))
def test_report_fits_every_screen(
    browser: Browser, tmp_path: Path, make: Callable[[], Document]
) -> None:
    with opened(browser, tmp_path, make()) as page:
        for width in (360, 800, 1400):
            page.set_viewport_size({"width": width, "height": 900})
            for scheme in _SCHEMES:
                page.emulate_media(color_scheme=scheme)
                assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(_CUT_OFF) == []
        drawings = page.evaluate(_TEXTS)
    for drawing in drawings:
        width, height = drawing["frame"]
        for left, top, right, bottom, text in drawing["texts"]:
            assert left >= 0, text
            assert top >= 0, text
            assert right <= width, text
            assert bottom <= height, text
        for one, other in itertools.combinations(drawing["texts"], 2):
            assert apart(one, other), (one[4], other[4])


def test_dark_and_light_differ_and_style_is_let_through(browser: Browser, tmp_path: Path) -> None:
    script = """() => [
        getComputedStyle(document.body).backgroundColor,
        getComputedStyle(document.querySelector(".chart .c1 .line")).stroke,
    ]"""
    with opened(browser, tmp_path, classification()) as page:
        page.emulate_media(color_scheme="light")
        assert page.evaluate(script) == ["rgb(246, 247, 249)", "rgb(18, 87, 176)"]
        page.emulate_media(color_scheme="dark")
        assert page.evaluate(script) == ["rgb(18, 22, 28)", "rgb(111, 176, 255)"]
        page.emulate_media(media="print")
        assert page.evaluate(script) == ["rgb(255, 255, 255)", "rgb(18, 87, 176)"]


def test_scripts_are_not_let_through(browser: Browser, tmp_path: Path) -> None:
    """The policy holds even if something should one day get past the escaping."""
    path = tmp_path / "report.html"
    hostile = "<script>document.title = 'owned'</script></body>"
    path.write_text(render(classification()).replace("</body>", hostile), encoding="utf-8")
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(path.as_uri())
        assert page.title() == "Evaluation: digits-pruned.keras"


def test_wide_tables_scroll_in_their_own_box(browser: Browser, tmp_path: Path) -> None:
    wider = "[...document.querySelectorAll('.scroll')].filter(b => b.scrollWidth > b.clientWidth)"
    reachable = "b => b.tabIndex === 0 && b.getAttribute('role') && b.getAttribute('aria-label')"
    with opened(browser, tmp_path, classification(pruned=5)) as page:
        page.set_viewport_size({"width": 360, "height": 900})
        assert page.evaluate(f"{wider}.length") >= 3
        assert page.evaluate(f"{wider}.every({reachable})")
