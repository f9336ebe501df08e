"""Stores that are merged by tests, and the processes that write and merge them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa

import sqlstore
from tests.processes import COMMIT_STEPS, FOLDER_STEPS, Steps, kill_self

STEPS = tuple(dict.fromkeys((*COMMIT_STEPS, *FOLDER_STEPS)))


def record_of(writer: int, number: int, size: int = 16) -> dict[str, Any]:
    """Return a record; all of it follows from what names it."""
    name = f"{writer}/{number:05d}"
    return {"payload": name.encode() * (size // 8), "name": name, "writer": writer, "n": number}


def write(path: Path, writer: int, count: int, **more: Any) -> Path:
    """Make a store of the records of a writer, in two commits."""
    metadata: dict[str, str] = {"name": "string", "writer": "int32", "n": "int32"}
    with sqlstore.create(
        path, fields={"payload": "bytes"}, metadata=metadata, key="name", **more
    ) as store:
        for part in (range(count // 2), range(count // 2, count)):
            if part:
                store.extend(pa.Table.from_pylist([record_of(writer, n) for n in part]))
    return path


def write_one(_: Connection, path: Path, writer: int, count: int) -> None:
    write(path, writer, count)


def merge(
    _: Connection,
    target: Path,
    sources: Sequence[Path],
    kill_at: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[str]:
    """Merge stores, killed at one of the steps, and return the steps."""
    steps = Steps(kill_self, kill_at)
    with steps.around(*STEPS):
        sqlstore.merge(target, *sources, **(options or {}))
    return steps.names


def adopt(
    _: Connection, target: Path, chunks: Sequence[Path], kill_at: int | None = None
) -> list[str]:
    """Adopt chunks, killed at one of the steps, and return the steps."""
    steps = Steps(kill_self, kill_at)
    with steps.around(*STEPS), sqlstore.open(target, "a") as store:
        store.adopt(*chunks)
    return steps.names
