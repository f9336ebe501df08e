"""PNG and JPEG images decoded by imagecodecs, where that is installed: in less time than Pillow.

Only plain images are, of which it makes the same pixels as Pillow; for all others, and for what is
damaged, Pillow is asked.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sqlstore.types import Buffer

if TYPE_CHECKING:
    from types import ModuleType

MOST_PIXELS: Final = 2**26
"""Larger images are left to Pillow, which knows how large they may be."""

_PNG_HEAD: Final = struct.Struct(">16xIIBB")
_PNG_PLAIN: Final = {(8, 0), (8, 2), (8, 4), (8, 6), (16, 0)}
"""Bit depths and colour types: grey and RGB, with and without alpha, and grey of 16 bits."""
_SEARCHED: Final = 4096
_END_OF_JPEG: Final = b"\xff\xd9"
_FRAMES: Final = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Markers that begin the frame header, which says how large a JPEG image is."""
_FRAME: Final = struct.Struct(">BHHB")


@cache
def _imagecodecs() -> ModuleType | None:
    try:
        import imagecodecs
    except ImportError:
        return None
    module: ModuleType = imagecodecs
    return module


def decode(data: Buffer, kind: str) -> np.ndarray[Any, Any] | None:
    """Return the pixels of an image, or None if Pillow is to decode it.

    Parameters
    ----------
    kind
        ``"PNG"`` or ``"JPEG"``.
    """
    codecs = _imagecodecs()
    if codecs is None:
        return None
    is_plain, read = (
        (_is_plain_png, codecs.png_decode)
        if kind == "PNG"
        else (_is_plain_jpeg, codecs.jpeg8_decode)
    )
    try:
        if not is_plain(data):
            return None
        pixels: np.ndarray[Any, Any] = read(data)
    except (RuntimeError, ValueError, struct.error, IndexError, MemoryError):
        return None  # Pillow says what is wrong
    return pixels


def _is_plain_png(data: Buffer) -> bool:
    width, height, depth, colour = _PNG_HEAD.unpack_from(data)
    head = bytes(data[:_SEARCHED])
    pixels = head.find(b"IDAT")
    is_opaque = pixels >= 0 and head.find(b"tRNS", 0, pixels) < 0
    return is_opaque and (depth, colour) in _PNG_PLAIN and width * height <= MOST_PIXELS


def _is_plain_jpeg(data: Buffer) -> bool:
    if bytes(data[-2:]) != _END_OF_JPEG:
        return False
    place = 2
    while data[place] == 0xFF:
        marker = data[place + 1]
        if marker in _FRAMES:
            depth, height, width, channels = _FRAME.unpack_from(data, place + 4)
            return depth == 8 and channels in (1, 3) and 0 < width * height <= MOST_PIXELS
        (length,) = struct.unpack_from(">H", data, place + 2)
        place += 2 + length
    return False
