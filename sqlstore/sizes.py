"""How much memory values take, before anybody knows how many bytes they will be stored in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlstore.encodings.images import is_image


def about_bytes(value: Any) -> int:
    """Return about how many bytes a value takes, if it may be large."""
    size = 0
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, (str, bytes, bytearray)):
            size += len(one)
        elif isinstance(one, (list, tuple, Mapping)):
            if id(one) not in seen:  # it may contain itself
                seen.add(id(one))
                waiting.extend(one.values() if isinstance(one, Mapping) else one)
        elif is_image(one):
            size += int(one.width * one.height) * len(one.getbands())
        else:
            size += getattr(one, "nbytes", 0)
    return size
