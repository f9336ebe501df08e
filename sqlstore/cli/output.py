"""What is written to stdout and stderr: text for people, JSON for programs.

What a store holds may come from anybody, so text for people never carries a control character to
the terminal; and it is written whatever encoding the terminal has.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from sqlstore.text import counted, plain, printable, sized

__all__ = [
    "UsageError",
    "complain",
    "counted",
    "finish",
    "flush",
    "plain",
    "printable",
    "say",
    "show_warning",
    "sized",
    "write_json",
    "write_json_rows",
]

_encode = json.JSONEncoder(allow_nan=False).encode


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
