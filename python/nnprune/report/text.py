"""Foreign text (names, paths, sentences of other programs) made fit to print."""

from __future__ import annotations

__all__ = ["visible"]


def visible(text: str) -> str:
    """Return `text` with everything that cannot be seen written out as an escape.

    Names come from files that nobody vouches for. Control characters are not allowed in HTML, half
    a surrogate pair cannot be encoded at all, and characters that turn the direction of writing
    could make one name look like another. Escaping `<`, `&` and quotes is the template's work.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    """Return a character as Python would write it between quotes."""
    return letter.encode("unicode_escape").decode("ascii")
