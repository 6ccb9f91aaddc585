"""Put foreign text (names from untrusted files, errors of other packages) into one safe line."""

from __future__ import annotations

import os

__all__ = ["DAMAGED", "TRUST", "one_line", "quoted", "reason_of", "shown_path"]

#: What is wrong with a file that does not end where it should, or holds nonsense.
DAMAGED = "is truncated or corrupt; copy or save it again"

#: What to do where only trust in the file's author can help.
TRUST = "if you trust the file's author, use --trust (Python: trust=True)"

_LONGEST_NAME = 80
_LONGEST_ERROR = 300


def quoted(value: object) -> str:
    """Return `value` in quotes, shortened, with control characters escaped.

    Names of layers and classes come from files that nobody vouches for; printed as they are they
    could move the cursor or fake a second message.
    """
    text = value if isinstance(value, str) else str(value)
    if len(text) > _LONGEST_NAME:
        text = text[: _LONGEST_NAME - 3] + "..."
    return repr(text)


def one_line(error: BaseException) -> str:
    """Return the kind and message of `error` in one printable line of bounded length."""
    words = " ".join(str(error).split())
    printable = "".join(letter if letter.isprintable() else "?" for letter in words)
    if len(printable) > _LONGEST_ERROR:
        printable = printable[: _LONGEST_ERROR - 3] + "..."
    return f"{type(error).__name__}: {printable}" if printable else type(error).__name__


def reason_of(error: Exception) -> str:
    """Return what the system says of a file, without the file's name; else as `one_line`."""
    said = error.strerror if isinstance(error, OSError) else None
    return said or one_line(error)


def shown_path(path: str | os.PathLike[str]) -> str:
    """Return `path` as the user wrote it, escaped only where it would not print in one line."""
    text = os.fspath(path)
    return text if text.isprintable() else repr(text)
