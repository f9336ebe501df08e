"""The store that is damaged, and what is in it."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlstore
from sqlstore import Column, Field, KiB

FIELDS: Final = {
    "blob": Field("bytes", None),
    "text": Field("utf8", "lz4"),
    "parts": Field("bytes[]", "zstd"),
}
COLUMNS: Final = {
    "name": "string",
    "label": Column("string", index=True),
    "score": "float64",
}
COUNT: Final = 14
STALE: Final = "stale.sqlite"
"""The index as it was before the last commit, beside the store."""


def record(number: int) -> dict[str, Any]:
    """Return a record of a fixed content."""
    return {
        "blob": bytes([number]) * (3 + number) if number % 7 != 2 else None,
        "text": f"{number} bottles, " * (number % 5),
        "parts": [b"part" * number, b"", b"end"][: number % 4],
        "name": f"name {number}",
        "label": None if number == 5 else f"label {number % 4}",
        "score": number / 3,
    }


CONDITIONS: Final[dict[str, Callable[[dict[str, Any]], bool]]] = {
    "label = 'label 2'": lambda one: one["label"] == "label 2",
    "score > 2.5": lambda one: one["score"] > 2.5,
    "label IS NULL OR name < 'name 3'": lambda one: one["label"] is None or one["name"] < "name 3",
}


@dataclass(frozen=True)
class Expected:
    """What an intact store holds.

    Attributes
    ----------
    records
        The live ones, by id.
    raws
        Their values as they are stored, decompressed, by id and field.
    found
        The ids that each condition finds.
    """

    records: dict[int, dict[str, Any]]
    raws: dict[tuple[int, str], Any]
    found: dict[str, list[int]]


def make(root: Path) -> None:
    """Make the store: two chunks, appends, an update, a replacement, a delete and a subset."""
    sqlstore.create(root, fields=FIELDS, metadata=COLUMNS, key="name", chunk_size=8 * KiB).close()
    shrink(root / "index.sqlite")
    with sqlstore.open(root, mode="a") as store:
        store.extend(map(record, range(6)))
        store.extend(map(record, range(6, COUNT)))
        store[3:5].update(label="label 2")
        store[8:9].replace("blob", [b"another"])
        store[11:12].delete()
        shutil.copyfile(root / "index.sqlite", root.with_name(STALE))
        store[:4].save("first")
    with sqlstore.open(root) as store:
        if not store.verify():
            raise AssertionError(store.verify())


def shrink(index: Path) -> None:
    """Give an index small pages, which are full of what can be damaged and not of zeros."""
    with contextlib.closing(sqlite3.connect(index, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size = 512")
        connection.execute("VACUUM")


def expected() -> Expected:
    """Return what the store holds, by what was written and not by what is read."""
    records = {number: record(number) for number in range(COUNT) if number != 11}
    for number in (3, 4):
        records[number]["label"] = "label 2"
    records[8]["blob"] = b"another"
    raws = {
        (number, name): one[name].encode() if name == "text" else one[name]
        for number, one in records.items()
        for name in FIELDS
    }
    found = {
        condition: [number for number, one in records.items() if holds(one)]
        for condition, holds in CONDITIONS.items()
    }
    return Expected(records, raws, found)
