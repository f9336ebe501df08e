"""What is written to stdout and stderr: text for people, JSON for programs.

What a store holds may come from anybody, so text for people never carries a control character to
the terminal; and it is written whatever encoding the terminal has.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Final, TextIO

_encode = json.JSONEncoder(allow_nan=False).encode
_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


class UsageError(Exception):
    """What is asked for cannot be done; the message says why, and what to do instead."""


def say(*lines: str) -> None:
    """Write lines for people to stdout."""
    for line in lines:
        print(_writable(line, sys.stdout))


def complain(message: str) -> None:
    """Say on stderr what went wrong."""
    _tell("error", message)


def show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Say a warning on stderr, in place of `warnings.showwarning`."""
    _tell("warning", str(message))


def _tell(kind: str, message: str) -> None:
    if sys.stderr is None:  # closed by the caller
        return
    text = "\n".join(printable(line) for line in message.splitlines())
    with contextlib.suppress(OSError):  # there is nobody left to tell
        print(_writable(f"sqlstore: {kind}: {text}", sys.stderr), file=sys.stderr)


def write_json(document: object) -> None:
    """Write one JSON document to stdout."""
    print(json.dumps(plain(document), indent=2, allow_nan=False))


def write_json_rows(names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a JSON list with an object for every row, each on a line of its own."""
    separator = "[\n"
    for row in rows:
        entry = dict(zip(names, map(plain, row), strict=True))
        print(separator + _encode(entry), end="")
        separator = ",\n"
    print("[]" if separator == "[\n" else "\n]")


def plain(value: object) -> object:
    """Return a value as JSON can hold it: times as ISO 8601, bytes as hex, NaN as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dt.date):  # a datetime is one, too
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value


def printable(text: str) -> str:
    r"""Return text with every control character written as an escape such as ``\n``."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def counted(count: int, what: str) -> str:
    """Return a number with its noun: ``1 record``, ``1,234 records``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def sized(count: int) -> str:
    """Return a number of bytes, and for a large one also the nearest unit."""
    size, unit = float(count), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    exact = counted(count, "byte")
    return f"{exact} ({size:.1f} {_UNITS[unit]})" if unit else exact


def _writable(text: str, stream: TextIO | None) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def flush() -> None:
    """Hand everything written so far to the operating system."""
    if sys.stdout is not None:  # closed by the caller
        sys.stdout.flush()


def finish() -> None:
    """Flush stdout; what it cannot take any more is dropped.

    Else the interpreter would try once more when it exits, and complain in its own words.
    """
    try:
        flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
