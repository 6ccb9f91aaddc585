"""A strict reader of the HTML of reports, and what every page must hold."""

from __future__ import annotations

import re
from html.parser import HTMLParser

__all__ = ["Page", "check_page"]


class Page(HTMLParser):
    """A strict reader: every element closed where it should be, and what is in them."""

    INLINE = frozenset(("a", "bdi", "span", "strong", "sub"))
    VOID = frozenset(("meta", "br", "hr", "img", "input", "link"))

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag not in self.INLINE:
            self.texts.append(" ")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        """All that can be read, in one line."""
        return " ".join("".join(self.texts).split())

    def values(self, name: str) -> list[str]:
        """All values of an attribute."""
        return [value for _, known, value in self.attributes if known == name]


def check_page(html: str) -> Page:
    """Check that a browser needs nothing else for a page, and that drawings stay inside."""
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>\n")
    assert not {"script", "link", "img", "iframe", "object", "use", "image"} & set(page.tags)
    assert not re.search(r"https?:|url\(|@import|javascript:|//", html, re.IGNORECASE)
    assert "default-src 'none'" in page.values("content")[0]
    identifiers = page.values("id")
    assert len(set(identifiers)) == len(identifiers)
    assert {value.removeprefix("#") for value in page.values("href")} <= set(identifiers)
    assert page.tags.count("caption") == page.tags.count("table")
    for box, content in re.findall(r'<svg class="chart" viewBox="0 0 ([\d. ]+)"(.*?)</svg>', html):
        width, height = map(float, box.split())
        for name, value in re.findall(r' (x|x1|x2|cx|y|y1|y2|cy)="(-?[\d.]+)"', content):
            assert 0 <= float(value) <= (width if name.strip("12c") == "x" else height)
    return page
