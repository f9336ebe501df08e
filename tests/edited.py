"""Stores to be edited, and whether an edited store is whole."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import sqlstore
from tests import independent_reader

COLUMNS: dict[str, Any] = {
    "n": "int32",
    "label": "string",
    "needed": sqlstore.Column("int64", nullable=False),
    "score": "float64",
    "when": "timestamp[us, UTC]",
    "extra": "json",
    "flag": "bool",
    "big": "uint64",
}


def new_store(path: Path, count: int, *, key: str | None = None) -> Path:
    """Make a store of records that are numbered by `n`, in several commits."""
    columns = COLUMNS if key is None else {name: COLUMNS[name] for name in ("n", "label")}
    with (
        sqlstore.create(path, fields={"note": "utf8"}, metadata=columns, key=key) as store,
        store.writer(commit_records=4) as writer,
    ):
        for i in range(count):
            record = {"note": f"note {i}", "n": i, "label": f"l{i}", "needed": i}
            writer.append({k: v for k, v in record.items() if k == "note" or k in columns})
    return path


def contents(path: Path) -> dict[str, Any]:
    """Return all that a store holds but for what a rebuild decides anew."""
    with sqlstore.open(path) as store:
        found: dict[str, Any] = {
            name: [
                store.raw_items(i, name) if field.is_sequence else store.raw(i, name)
                for i in range(len(store))
            ]
            for name, field in store.schema.fields.items()
        }
        found["records"] = store.sql("SELECT * FROM records ORDER BY id").to_pylist()
        for table in ("record_locations", "commits", "columns"):
            found[table] = store.sql(f"SELECT * FROM {table} ORDER BY 1, 2").to_pylist()
        return {**found, "metadata": store.to_arrow().to_pylist(), "schema": store.schema}


def assert_edited(path: Path) -> None:
    """Check that index, cache and log agree, as does who reads the log alone."""
    with sqlstore.open(path) as store:
        report = store.verify()
    assert report, report
    found = contents(path)
    log = independent_reader.read(path)["records"]
    assert [row["id"] for row in found["metadata"]] == sorted(log)
    for row in found["metadata"]:
        in_log = log[row.pop("id")]
        assert {name: repr(value) for name, value in row.items()} == {
            name: repr(in_log[name]) for name in row
        }
    copy = path.with_name("copy")
    shutil.copytree(path, copy, ignore=shutil.ignore_patterns("cache", "index.sqlite"))
    assert sqlstore.rebuild(copy) == len(found["metadata"])
    assert repr(contents(copy)) == repr(contents(path))
    with sqlstore.open(copy) as store:
        report = store.verify()
    assert report, report
    shutil.rmtree(copy)
