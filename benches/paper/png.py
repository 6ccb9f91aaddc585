"""Small pictures as PNG files in memory, by the standard library alone."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["data_url", "png"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2


def png(pixels: NDArray[Any]) -> bytes:
    """Return an image as a PNG file.

    Parameters
    ----------
    pixels : ndarray of float, shape (height, width) or (height, width, 3)
        In [0, 1].
    """
    values = np.rint(np.clip(pixels, 0.0, 1.0) * 255).astype(np.uint8)
    height, width = values.shape[:2]
    colour = _RGB if values.ndim == 3 else _GREY
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    # Every row begins with its filter: 0, none.
    rows = np.hstack([np.zeros((height, 1), np.uint8), values.reshape(height, -1)])
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(kind, content) for kind, content in parts)


def data_url(pixels: NDArray[Any]) -> str:
    """Return an image as an address that holds it whole."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode("ascii")


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
