"""What `add_column` is given by the tests, where worker processes can import it; and runs to kill.

``python -m tests.compute_programs STORE WORKERS END CALLS`` computes a column, comes to that end,
and notes every record that the function is called for.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

import sqlstore

COUNT: Final = 9000
FATAL: Final = 3000
"""The record at which something happens; several tasks are committed by then."""


def new_store(path: Path, count: int = COUNT) -> Path:
    metadata = {"n": "int32", "label": "string"}
    with sqlstore.create(path, fields={"note": "utf8"}, metadata=metadata) as store:
        store.extend({"note": f"note {n}", "n": n, "label": f"l{n}"} for n in range(count))
    return path


def double(record: dict[str, Any]) -> int:
    return int(record["n"]) * 2


def double_noting(record: dict[str, Any], calls: str, end: str = "") -> int:
    """Note the record and double its number, unless it is time for the end."""
    descriptor = os.open(calls, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, b"%d\n" % record["n"])
    os.close(descriptor)
    if end and record["n"] == FATAL:
        os.kill(os.getppid() if "parent" in end else os.getpid(), SIGNALS[end.split()[0]])
    return double(record)


SIGNALS: Final = {"killed": signal.SIGKILL, "interrupted": signal.SIGINT}


def double_but_one(record: dict[str, Any]) -> int:
    if record["n"] == FATAL:
        raise UnpicklableError(record["n"], "no such thing")
    return double(record)


class UnpicklableError(Exception):
    def __init__(self, n: int, why: str) -> None:
        super().__init__(f"{why} as {n}")


def double_as_numpy(record: dict[str, Any]) -> Any:
    return np.int32(double(record))


def given_names(record: dict[str, Any]) -> str:
    return ",".join(record)


def compute(path: Path, function: Any = double, **options: Any) -> None:
    with sqlstore.open(path, "a") as store:
        store.add_column("twice", "int64", function, **{"select": ("n",), **options})


def called(calls: Path) -> list[int]:
    """Return the records that the function was called for, in that order."""
    return [int(line) for line in calls.read_text().splitlines()] if calls.exists() else []


if __name__ == "__main__":
    ending = partial(double_noting, calls=sys.argv[4], end=sys.argv[3])
    compute(Path(sys.argv[1]), ending, workers=int(sys.argv[2]))
