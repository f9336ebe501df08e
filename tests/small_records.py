"""Stores of small records that are alike, which are compressed with dictionaries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sqlstore
from sqlstore import Field

FIELDS = {"line": Field("utf8", "dictionary"), "parts": Field("json[]", "dictionary")}
ENOUGH = 300
"""So many records are worth a dictionary for each field."""


def line_of(number: int) -> str:
    """Return a line of JSON as there are many: names that repeat, values that do not."""
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return json.dumps(
        {
            "package": f"birds-of-{['prey', 'passage', 'paradise'][number % 3]}",
            "path": f"lib/site-packages/birds/plumage/feather_{number % 89}/{digest[:9]}.py",
            "licence": "as is, without warranty of any kind, express or implied",
            "size": number * 7919 % 100_003,
            "hash": digest[:24],
            "classifiers": ["Topic :: Ornithology", f"Status :: {number % 5} - Beta"],
        }
    )


def parts_of(number: int) -> list[dict[str, Any]]:
    return [
        {"seen": number * 31 + i, "where": "in the old oak behind the mill", "line": line_of(-i)}
        for i in range(number % 4)
    ]


def records_of(
    start: int, stop: int, fields: Sequence[str] = ("line", "parts")
) -> list[dict[str, Any]]:
    make: dict[str, Callable[[int], Any]] = {"line": line_of, "parts": parts_of}
    return [{"n": i, **{name: make[name](i) for name in fields}} for i in range(start, stop)]


def new_store(path: Path, fields: Sequence[str] = ("line", "parts"), **more: Any) -> Path:
    declared = {name: FIELDS[name] for name in fields}
    sqlstore.create(path, fields=declared, metadata={"n": "int32"}, **more).close()
    return path


def append(path: Path, start: int, stop: int, fields: Sequence[str] = ("line", "parts")) -> None:
    """Append records through a writer of its own."""
    with sqlstore.open(path, "a") as store:
        store.extend(records_of(start, stop, fields))


def check(path: Path, numbers: list[int]) -> None:
    """Check that a store holds just these records, in this order, and has no fault."""
    with sqlstore.open(path) as store:
        found = list(store)
        assert [one["n"] for one in found] == numbers
        for record in found:
            assert record["line"] == line_of(record["n"])
            assert record.get("parts", parts_of(record["n"])) == parts_of(record["n"])
        report = store.verify()
    assert report, report


def dictionaries(path: Path) -> list[dict[str, Any]]:
    """Return the rows of the dictionaries of a store."""
    with sqlstore.open(path) as store:
        sql = "SELECT d.*, c.name FROM dictionaries AS d JOIN chunks AS c USING (chunk) ORDER BY 1"
        rows: list[dict[str, Any]] = store.sql(sql).to_pylist()
        return rows


def compressions(path: Path, field: str = "line") -> list[str]:
    """Return how the values of a field are compressed, by record id."""
    sql = "SELECT compression FROM record_locations WHERE field = :field ORDER BY record"
    with sqlstore.open(path) as store:
        found: list[str] = store.sql(sql, field=field)["compression"].to_pylist()
        return found
