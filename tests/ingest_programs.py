"""What `build` is given by the tests, where worker processes can import it; and builds to kill.

``python -m tests.ingest_programs STORE WORKERS END`` builds a store, and comes to that end.
"""

from __future__ import annotations

import os
import signal
import sys
import zlib
from pathlib import Path
from typing import Any, Final

import sqlstore

COUNT: Final = 400
FATAL: Final = 200
"""The item at which something happens; several tasks are committed by then."""

FIELDS: Final = {"payload": "bytes"}
METADATA: Final = {"n": "int64", "name": "string"}


def read(n: int) -> dict[str, Any]:
    return {"payload": b"%d " % n * (n % 50), "n": n, "name": f"item {n}"}


def read_but_some(n: int) -> dict[str, Any] | None:
    if n % 10 == 3:
        raise UnpicklableError(n, "no such thing")
    if n % 10 == 7:
        return None
    return read(n) if n % 10 != 9 else {"n": n, "name": n}


class UnpicklableError(Exception):
    def __init__(self, n: int, why: str) -> None:
        super().__init__(f"{why} as {n}")


def read_unless_killed(n: int) -> dict[str, Any]:
    if n == FATAL:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(n)


def destroy_index(path: str, n: int) -> dict[str, Any]:
    Path(path, "index.sqlite").write_bytes(b"no database" * 1000)
    return read(n)


def kill_parent(n: int) -> dict[str, Any]:
    if n == FATAL:
        os.kill(os.getppid(), signal.SIGKILL)
    return read(n)


def interrupt_parent(n: int) -> dict[str, Any]:
    if n == FATAL:
        os.kill(os.getppid(), signal.SIGINT)
    return read(n)


def interrupt_self(n: int) -> dict[str, Any]:
    if n == FATAL:
        signal.raise_signal(signal.SIGINT)
    return read(n)


def deflate(text: str) -> bytes:
    return zlib.compress(text.encode())


def inflate(data: bytes) -> str:
    return zlib.decompress(data).decode()


def read_text(n: int) -> dict[str, Any]:
    return {"text": f"text {n}", "n": n}


ENDS: Final = {
    "kill -9": read_unless_killed,
    "kill -9 of the parent": kill_parent,
    "Ctrl-C": interrupt_self,
    "Ctrl-C for the parent": interrupt_parent,
    "whole": read,
}


def build(path: Path, read_fn: Any = read, **options: Any) -> sqlstore.BuildReport:
    options = {"key": "n", "fields": FIELDS, "metadata": METADATA, "key_of": int, **options}
    return sqlstore.build(options.pop("items", range(COUNT)), read_fn, path, **options)


if __name__ == "__main__":
    build(Path(sys.argv[1]), ENDS[sys.argv[3]], workers=int(sys.argv[2]))
