"""Small pictures, drawn here so that nothing has to be shipped."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

_BACKGROUND = (244, 246, 250)
_PALETTE = ((52, 99, 182), (46, 139, 109), (196, 126, 34), (151, 79, 160))


def bar_chart(heights: Sequence[float], width: int = 320, height: int = 160) -> bytes:
    """Return a bar chart as a PNG; each height is a share of the picture's."""
    pixels = [[_BACKGROUND] * width for _ in range(height)]
    step = width // max(len(heights), 1)
    for index, share in enumerate(heights):
        colour = _PALETTE[index % len(_PALETTE)]
        top = height - int(max(0.0, min(share, 1.0)) * (height - 12))
        for row in range(top, height):
            pixels[row][index * step + step // 6 : (index + 1) * step - step // 6] = [colour] * (step - 2 * (step // 6))
    return _png(pixels)


def parcel(width: int = 240, height: int = 180) -> bytes:
    """Return a picture of a dented parcel as a PNG."""
    pixels = [[_BACKGROUND] * width for _ in range(height)]
    for row in range(height // 5, height - 20):
        for column in range(width // 6, width - width // 6):
            dent = (column - width * 0.7) ** 2 + (row - height * 0.35) ** 2 < 700
            tape = abs(column - width // 2) < 10
            pixels[row][column] = (120, 84, 48) if dent else (214, 190, 140) if tape else (186, 138, 82)
    return _png(pixels)


def _png(pixels: Sequence[Sequence[tuple[int, int, int]]]) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\x00" + bytes(value for pixel in row for value in pixel) for row in pixels)
    header = struct.pack(">IIBBBBB", len(pixels[0]), len(pixels), 8, 2, 0, 0, 0)
    image = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + image
