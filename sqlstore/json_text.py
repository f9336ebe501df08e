"""JSON that means exactly the value that it was made of."""

from __future__ import annotations

import json
from typing import Any, Final

_CHANGED: Final = "JSON would change it"


def json_text(value: Any) -> str:
    """Return a value as JSON, as the encoding and the metadata columns of that name keep it.

    Raises
    ------
    TypeError, ValueError, RecursionError
        JSON cannot hold it, or another value would come back.
    """
    # First, as it also refuses what contains itself.
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    _check(value)
    return text


def _check(value: Any) -> None:
    """Refuse what JSON would silently make something else of."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, tuple):
            raise TypeError(f"{_CHANGED}: a tuple would come back as a list")
        if isinstance(one, dict):
            wrong = [key for key in one if not isinstance(key, str)]
            if wrong:
                raise TypeError(f"{_CHANGED}: the key {wrong[0]!r} would come back as text")
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
