"""Width and height of an image, from its header."""

from __future__ import annotations

import importlib
import io
import warnings
from typing import Any, Final

_PLUGINS: Final = {
    b"\x89PNG\r\n\x1a\n": "Png",
    b"\xff\xd8\xff": "Jpeg",
    b"GIF87a": "Gif",
    b"GIF89a": "Gif",
    b"BM": "Bmp",
    b"II*\0": "Tiff",
    b"MM\0*": "Tiff",
    b"RIFF": "WebP",
}
"""Pillow's plugins by how their files begin: what is no image is not tried with all of them."""


def image_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height as the file has them, or None if it is no image, or without Pillow.

    No pixel is decoded, and how a camera was held is not looked at.
    """
    for signature, name in _PLUGINS.items():
        if data.startswith(signature):
            return _size(data, name)
    return None


def _size(data: bytes, name: str) -> tuple[int, int] | None:
    try:
        module = importlib.import_module(f"PIL.{name}ImagePlugin")
    except ImportError:
        return None
    # Not by `Image.open`, which refuses images of very many pixels: none of them is decoded here.
    opened: Any = getattr(module, f"{name}ImageFile")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about parts of the file that nobody asks for
            with opened(io.BytesIO(data)) as image:
                width, height = image.size
    except Exception:  # noqa: BLE001 - of damaged images Pillow raises anything; they are files too
        return None
    largest = 2**31 - 1
    return (width, height) if 0 < width <= largest and 0 < height <= largest else None
