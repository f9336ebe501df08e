"""Hostile indexes: SQL in the place of tables, and rows that lie."""

from __future__ import annotations

import os
import sqlite3
import zlib
from pathlib import Path

import sqlstore
from tests.hostile import forge
from tests.hostile.case import hostile, hostile_each

_ENDLESS = "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r)"
_REFUSED = "open mmap: CorruptIndexError: .*"
_FIXED = (
    "store", "fields", "columns", "chunks", "commits", "records", "blobs", "subsets",
    "alembic_version",
)  # fmt: skip


def _endless(name: str, store: Path, outside: Path) -> None:
    forge.run(
        store,
        "DROP VIEW record_locations",
        f"ALTER TABLE {name} RENAME TO old_{name}",
        f"CREATE VIEW {name} AS {_ENDLESS} SELECT old_{name}.* FROM old_{name}, r",
    )


hostile_each(
    "index",
    {f"{name} is a view that never ends": (name, f"{_REFUSED}{name}") for name in _FIXED},
    _endless,
)


@hostile("index: a view of SQLite's is another", f"{_REFUSED}record_locations")
def _(store: Path, outside: Path) -> None:
    forge.run(
        store,
        "DROP VIEW record_locations",
        f"CREATE VIEW record_locations AS {_ENDLESS} SELECT i AS record FROM r",
    )


@hostile("index: a view of nobody", f"{_REFUSED}looks")
def _(store: Path, outside: Path) -> None:
    forge.run(store, "CREATE VIEW looks AS SELECT * FROM records")


def _trigger(event: str, store: Path, outside: Path) -> None:
    forge.run(
        store,
        f"CREATE TRIGGER steals AFTER {event} ON records BEGIN "
        "DELETE FROM blobs; UPDATE chunks SET name = '/etc/passwd'; END",
    )


hostile_each(
    "index",
    {f"a trigger on {e}": (e, f"{_REFUSED}steals") for e in ("INSERT", "UPDATE", "DELETE")},
    _trigger,
)


@hostile("index: a trigger that never ends", f"{_REFUSED}stays")
def _(store: Path, outside: Path) -> None:
    forge.run(
        store,
        "CREATE TRIGGER stays AFTER INSERT ON commits BEGIN "
        f"INSERT INTO chunks {_ENDLESS} SELECT i, i, i, i, i, i FROM r; END",
    )


@hostile("index: a virtual table", f"{_REFUSED}found")
def _(store: Path, outside: Path) -> None:
    forge.run(store, "CREATE VIRTUAL TABLE found USING fts5(x)")


@hostile("index: records are a virtual table", f"{_REFUSED}records")
def _(store: Path, outside: Path) -> None:
    forge.run(
        store,
        "DROP VIEW record_locations",
        "DROP TABLE records",
        "CREATE VIRTUAL TABLE records USING rtree(id, n, path)",
    )


@hostile("index: a virtual table of a module that is not there", f"{_REFUSED}loads")
def _(store: Path, outside: Path) -> None:
    with forge.index_of(store) as index:
        index.execute("PRAGMA writable_schema = ON")
        index.execute(
            "INSERT INTO sqlite_schema VALUES "
            "('table', 'loads', 'loads', 0, 'CREATE VIRTUAL TABLE loads USING evil(x)')"
        )


@hostile("index: a column that is generated", f"{_REFUSED}records")
def _(store: Path, outside: Path) -> None:
    forge.run(
        store,
        "ALTER TABLE records ADD COLUMN big_one BLOB AS (zeroblob(900000000)) VIRTUAL",
    )


@hostile("index: the label is generated", f"{_REFUSED}records")
def _(store: Path, outside: Path) -> None:
    forge.run(
        store,
        "ALTER TABLE records RENAME COLUMN label TO label_2",
        "ALTER TABLE records ADD COLUMN label TEXT AS (hex(zeroblob(900000000))) VIRTUAL",
    )


@hostile("index: a column with a default", f"{_REFUSED}records")
def _(store: Path, outside: Path) -> None:
    default = "label TEXT DEFAULT (zeroblob(900000000))"
    forge.redeclare(store, "records", "label TEXT", default)


@hostile("index: a check that takes hours", f"{_REFUSED}commits")
def _(store: Path, outside: Path) -> None:
    check = "records INTEGER NOT NULL, CHECK (length(hex(randomblob(400000000))) > 0)"
    forge.redeclare(store, "commits", "records INTEGER NOT NULL", check)


@hostile("index: a column with a collation of nobody", f"{_REFUSED}records")
def _(store: Path, outside: Path) -> None:
    forge.redeclare(store, "records", "label TEXT", "label TEXT COLLATE evil")


@hostile("index: an index of an expression", f"{_REFUSED}slow")
def _(store: Path, outside: Path) -> None:
    forge.run(store, "CREATE INDEX slow ON records (length(hex(zeroblob(1000 + n))))")


@hostile("index: an index of some rows", f"{_REFUSED}some")
def _(store: Path, outside: Path) -> None:
    forge.run(store, "CREATE INDEX some ON records (n) WHERE n > 3")


@hostile("index: a table that is not STRICT", f"{_REFUSED}blobs")
def _(store: Path, outside: Path) -> None:
    forge.redeclare(store, "blobs", "STRICT", "")


@hostile("index: a declaration that is none", "open mmap: CorruptIndexError: .*malformed|damaged")
def _(store: Path, outside: Path) -> None:
    forge.redeclare(store, "store", "CREATE TABLE", "CREATE TABLES")


@hostile("index: two tables in one place", "verify: Corrupt")
def _(store: Path, outside: Path) -> None:
    with forge.index_of(store) as index:
        index.execute("PRAGMA writable_schema = ON")
        index.execute(
            "UPDATE sqlite_schema SET rootpage = "
            "(SELECT rootpage FROM sqlite_schema WHERE name = 'store') WHERE name = 'records'"
        )


@hostile("index: in UTF-16", "open mmap: CorruptIndexError: .*UTF-16")
def _(store: Path, outside: Path) -> None:
    statements = []
    with forge.index_of(store) as index:
        statements = list(index.iterdump())
    (store / "index.sqlite").unlink()
    with sqlite3.connect(store / "index.sqlite") as other:
        other.execute("PRAGMA encoding = 'UTF-16le'")
        other.executescript("\n".join(statements))
        other.execute(f"PRAGMA application_id = {0x53514C53}")


@hostile("index: of another application", "open mmap: NotAStoreError")
def _(store: Path, outside: Path) -> None:
    forge.run(store, "PRAGMA application_id = 5")


@hostile("index: no database", "open mmap: CorruptIndexError")
def _(store: Path, outside: Path) -> None:
    (store / "index.sqlite").write_bytes(b"#!/bin/sh\nrm -rf ~\n" * 100)


@hostile("index: of no bytes", "open mmap: (NotAStoreError|CorruptIndexError)")
def _(store: Path, outside: Path) -> None:
    (store / "index.sqlite").write_bytes(b"")


@hostile("index: a terabyte of nothing behind it", "mmap: fetch: ok")
def _(store: Path, outside: Path) -> None:
    os.truncate(store / "index.sqlite", 1 << 40)


@hostile("index: a table of somebody's own", "mmap: fetch: ok")
def _(store: Path, outside: Path) -> None:
    forge.run(store, "CREATE TABLE mine (x)", "INSERT INTO mine VALUES ('=cmd()')")


# Rows


def _row_cases() -> None:
    far = 2**63 - 1
    lies: dict[str, tuple[str, str]] = {
        "the store is another": (
            "UPDATE store SET uuid = '00000000-0000-0000-0000-000000000000'",
            "mmap: fetch: ok|Corrupt"),
        "a uuid that is a path": ("UPDATE store SET uuid = '../../x'", "mmap: fetch: ok|Corrupt"),
        "2**63 - 1 records": (f"UPDATE store SET next_record_id = {far}", "verify: Corrupt"),
        "records below zero": ("UPDATE store SET next_record_id = -5", "verify: Corrupt"),
        "a commit of 2**63 - 1 records": (
            f"UPDATE commits SET records = {far} WHERE number = 3", "open mmap: CorruptIndexError"),
        "the last commit has 2**40 records": (
            f"UPDATE commits SET records = {2**40} WHERE number = 5",
            "open mmap: CorruptIndexError"),
        "2**40 records that are nowhere": (
            f"UPDATE commits SET records = {2**40}, offset = 128 WHERE number = 5",
            "open mmap: Corrupt"),
        "a commit at 2**63 - 1": (
            f"UPDATE commits SET offset = {far} WHERE number = 2", "Corrupt"),
        "a commit below zero": ("UPDATE commits SET offset = -64 WHERE number = 2", "Corrupt"),
        "commits in a chunk that is not there": (
            "UPDATE commits SET chunk = -1", "open mmap: CorruptIndexError"),
        "no commits": ("DELETE FROM commits", "open mmap: CorruptIndexError"),
        "no chunks": ("DELETE FROM chunks", "open mmap: CorruptIndexError"),
        "a chunk of 2**63 - 1 bytes": (f"UPDATE chunks SET size = {far}", "verify: Corrupt"),
        "a chunk with the uuid of another": (
            "UPDATE chunks SET uuid = '00000000-0000-0000-0000-000000000000'", "Corrupt"),
        "values anywhere": (
            "UPDATE blobs SET chunk = 9, offset = -5, length = 9223372036854775807",
            "verify: Corrupt"),
        "a record of 2**63 - 1": (
            f"UPDATE records SET id = {far} WHERE id = 1", "verify: Corrupt"),
        "a record below zero": ("UPDATE records SET id = -7 WHERE id = 1", "verify: Corrupt"),
        "text that is not UTF-8": (
            "UPDATE records SET label = CAST(x'FFFE80' AS TEXT)", "verify: Corrupt"),
        "a text of 8 MB": (
            "UPDATE records SET label = hex(zeroblob(4000000)) WHERE id = 1", "verify: Corrupt"),
        "another chunk size": ("UPDATE store SET chunk_size = -5", "verify: Corrupt"),
        "a dictionary anywhere": (
            f"INSERT INTO dictionaries VALUES (0, 0, 0, {far}, {far}, 0)", "verify: Corrupt"),
        "fields of any encoding": ("UPDATE fields SET encoding = 'pickle'", "verify: Corrupt"),
    }  # fmt: skip
    hostile_each("rows", lies, _changed)


def _changed(statement: str, store: Path, outside: Path) -> None:
    forge.run(store, statement)


_row_cases()


@hostile("rows: 3,000 chunks that are not there", "verify: Corrupt")
def _(store: Path, outside: Path) -> None:
    forge.run(
        store,
        f"INSERT INTO chunks {_ENDLESS} SELECT i, printf('%06d-00000000.chunk', i), i, 0, 0, 0 "
        "FROM r LIMIT 3000",
    )


def _subset_cases() -> None:
    said: dict[str, tuple[str, str]] = {
        "parameters that are no JSON": ("parameters = '{'", "subsets: CorruptIndexError"),
        "parameters 100,000 deep": (
            f"parameters = '{'[' * 100_000}'", "subsets: CorruptIndexError"),
        "parameters that are a list": ("parameters = '[1]'", "subsets: CorruptIndexError"),
        "saved in the year 290,000": (
            f"saved_at = {2**63 - 1}", "subsets: CorruptIndexError"),
        "SQL that drops tables": ("sql = '1); DROP TABLE records; --'", "subsets: ok"),
        "another fingerprint": ("fingerprint = 'x'", "subset: CorruptIndexError"),
    }  # fmt: skip
    hostile_each("subset", said, _subset)


def _subset(change: str, store: Path, outside: Path) -> None:
    forge.run(store, f"UPDATE subsets SET {change}")


_subset_cases()


@hostile("subset: members that never were", "subset: CorruptIndexError")
def _(store: Path, outside: Path) -> None:
    forge.run(store, f"UPDATE subset_records SET record = {2**63 - 1}")


# Versions


def _version_cases() -> None:
    revisions = {
        "of the future": ("9999", "StoreTooNewError|append: StoreTooNewError"),
        "SQL": ("'; DROP TABLE records; --", "append: StoreTooNewError"),
        "a path": ("../../../outside/secret", "append: StoreTooNewError"),
        "a module": ("os.system", "append: StoreTooNewError"),
        "a million characters": ("x" * 1_000_000, "append: StoreTooNewError"),
    }
    hostile_each("version", revisions, _revision)


def _revision(text: str, store: Path, outside: Path) -> None:
    with forge.index_of(store) as index:
        index.execute("UPDATE alembic_version SET version_num = ?", (text,))


_version_cases()


@hostile("version: none", "open mmap: CorruptIndexError: .*0 revisions")
def _(store: Path, outside: Path) -> None:
    forge.run(store, "DELETE FROM alembic_version")


@hostile("version: two", "open mmap: CorruptIndexError: .*2 revisions")
def _(store: Path, outside: Path) -> None:
    forge.run(store, "INSERT INTO alembic_version VALUES ('0002')")


@hostile("version: of a reader that is not there yet", "verify: Corrupt")
def _(store: Path, outside: Path) -> None:
    forge.run(store, f"UPDATE store SET min_reader = {2**62}")


@hostile("version: a chunk of the future", "StoreTooNewError: the chunk has format version 2")
def _(store: Path, outside: Path) -> None:
    chunk = forge.chunks(store)[0]
    data = bytearray(chunk.read_bytes())
    data[8] = 2
    data[60:64] = zlib.crc32(data[:60]).to_bytes(4, "little")
    chunk.write_bytes(data)


# Exports


def _keyed(path: str, store: Path, outside: Path) -> None:
    with sqlstore.open(store, "a") as opened:
        opened.extend([{"path": path, "n": 7, "label": "x", "file": b"x"}])


_FIT_FOR_SAMPLES = ("a folder of another file", "300 characters")


def _export_cases() -> None:
    paths = {
        "out of the folder": ("../../outside/secret", "export folder: SchemaError"),
        "absolute": ("/tmp/sqlstore-was-here", "export folder: SchemaError"),
        "a zero character": ("a\0b", "export folder: SchemaError"),
        "the folder itself": (".", "export folder: SchemaError"),
        "a folder of another file": ("p0/x", "export folder: SchemaError"),
        "a formula": ("=cmd|' /C calc'!A0", "export folder: ok"),
        "a pattern of a shell": ("$(touch x);`touch y`", "export folder: ok"),
        "escape sequences": ("\x1b[2J", "export webdataset: ExportError"),
        "300 characters": ("x" * 300, "export folder: SchemaError"),
    }
    hostile_each("export: a path that is", paths, _keyed)
    unfit = "export webdataset: ExportError"
    samples = {
        what: (path, unfit)
        for what, (path, gets) in paths.items()
        if gets == "export folder: SchemaError" and what not in _FIT_FOR_SAMPLES
    }
    hostile_each("export: a sample that is", samples, _keyed)


_export_cases()


@hostile("export: formulas in every column", "export csv: ok")
def _(store: Path, outside: Path) -> None:
    with sqlstore.open(store, "a") as opened:
        opened.extend([{"path": "@SUM(1)", "label": "=1+1", "extra": {"a": "+1"}, "file": b""}])
