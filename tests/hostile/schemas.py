"""Hostile schemas: names, numbers, types and settings that no store has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from sqlstore.log import table
from sqlstore.log.segment import CommitKind
from tests.hostile import forge
from tests.hostile.case import hostile


def _schema(
    rows: list[tuple[Any, ...]],
    settings: object = None,
    *,
    kind: CommitKind = CommitKind.ADD_COLUMN,
) -> Any:
    """Return what appends a commit with a schema of these rows."""

    def make(store: Path, outside: Path) -> None:
        said = {"chunk_size": 2**20, "library_version": "0.1.0", "created_at": 0}
        text = said if settings is None else settings
        data = text if isinstance(text, bytes) else json.dumps(text).encode()
        columns = [pa.array([row[i] for row in rows], f.type) for i, f in enumerate(_ROWS)]
        batch = pa.record_batch(columns, schema=_ROWS.with_metadata({table.SETTINGS: data}))
        trailer = forge.commit(store, table.stream(batch), kind=kind, records=0, schema_version=6)
        forge.run(store, f"UPDATE store SET schema_version = {trailer.number}")

    return make


_ROWS = table.SCHEMA_ROWS
_FIELD = ("field", 0, "f", "bytes", None, True, False, False)
_KEY = ("column", 0, "path", "string", None, False, False, True)
_NO_SCHEMA = (
    "(open mmap|rebuild): (Corrupt(Chunk|Index)|Schema)Error: .*(commit 6|schema|type|zone)"
)


def _schema_cases() -> None:
    wrong: dict[str, list[tuple[Any, ...]]] = {
        "a name that is SQL": [
            _FIELD, _KEY, ("column", 9, 'x" TEXT); DROP TABLE records; --', "int32", None, True,
            True, False),
        ],
        "a name with a line feed": [
            _FIELD, _KEY, ("column", 9, "x\ny", "int32", None, True, False, False),
        ],
        "escape sequences": [("field", 0, "\x1b[2J", "bytes", None, True, False, False), _KEY],
        "a name of the library": [
            _FIELD, _KEY, ("column", 9, "id", "int32", None, True, False, False),
        ],
        "one name twice": [_FIELD, _KEY, ("column", 9, "PATH", "int32", None, True, False, False)],
        "one number twice": [_FIELD, _KEY, ("column", 0, "x", "int32", None, True, False, False)],
        "a number below zero": [
            _FIELD, _KEY, ("column", -9, "x", "int32", None, True, False, False),
        ],
        "a type of nobody": [_FIELD, _KEY, ("column", 9, "x", "complex", None, True, False, False)],
        "a zone that is a path": [
            _FIELD, _KEY,
            ("column", 9, "x", "timestamp[us, ../../../etc/passwd]", None, True, False, False),
        ],
        "a kind of nobody": [_FIELD, _KEY, ("trigger", 9, "x", "int32", None, True, False, False)],
        "a compression of nobody": [("field", 0, "f", "bytes", "rot13", True, False, False), _KEY],
        "a key of floats": [_FIELD, ("column", 0, "path", "float64", None, False, False, True)],
        "nothing": [],
    }  # fmt: skip
    for what, rows in wrong.items():
        hostile(f"schema: {what}", _NO_SCHEMA)(_schema(rows))
    path = ("field", 0, "../../x", "bytes", None, True, False, False)
    hostile("schema: a path for a name", "export webdataset: ExportError")(_schema([path, _KEY]))
    many = [("column", i + 9, f"x{i}", "int8", None, True, False, False) for i in range(3000)]
    hostile("schema: 3,000 columns", _NO_SCHEMA)(_schema([_FIELD, _KEY, *many]))
    pickled = ("field", 0, "f", "pickle", None, True, False, False)
    hostile("schema: a field that becomes pickle", "EncodingUnavailableError")(
        _schema([pickled, _KEY])
    )


_schema_cases()


def _settings_cases() -> None:
    said: dict[str, object] = {
        "none": b"",
        "no JSON": b"{'",
        "a list": [],
        "100,000 lists in each other": b"[" * 100_000,
        "a chunk size below zero": {"chunk_size": -5, "library_version": "x"},
        "a chunk size of 10**300": {"chunk_size": 10**300, "library_version": "x"},
        "an infinite chunk size": b'{"chunk_size": Infinity, "library_version": "x"}',
        "a chunk size that is text": {"chunk_size": "x", "library_version": {}},
        "the next column is 2**70": {
            "chunk_size": 2**20,
            "library_version": "x",
            "next_column": 2**70,
        },
    }
    for what, settings in said.items():
        hostile(f"settings: {what}", _NO_SCHEMA)(_schema([_FIELD, _KEY], settings))


_settings_cases()
