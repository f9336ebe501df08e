"""Write what this library never would: commits, index rows and cache files of any content."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import shutil
import sqlite3
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np
import pyarrow as pa

import sqlstore
from sqlstore.log import table
from sqlstore.log.segment import HEADER_SIZE, TRAILER_SIZE, CommitKind, Header, Trailer, align
from sqlstore.log.table import Values

FIELDS: Final[dict[str, str | sqlstore.Field]] = {
    "f": sqlstore.Field("bytes", compression=None), "z": sqlstore.Field("bytes", "zstd"),
    "l": sqlstore.Field("bytes", "lz4"), "g": sqlstore.Field("bytes", "gzip"),
    "a": "array", "npy": "npy", "j": "json", "t": "tree", "m": "msgpack", "u": "utf8",
    "image": "png", "s": "bytes[]", "file": "bytes",
}  # fmt: skip
COLUMNS: Final[dict[str, str | sqlstore.Column]] = {
    "path": "string", "n": "int32", "label": sqlstore.Column("string", index=True),
    "when": "timestamp[us, UTC]", "day": "date32", "big": "uint64", "extra": "json",
}  # fmt: skip


def plain_store(path: Path) -> Path:
    """Make a store of six records in two commits, with a subset and a snapshot."""
    with sqlstore.create(path, fields=FIELDS, metadata=COLUMNS, key="path") as store:
        for first in (0, 3):
            store.extend(record(i) for i in range(first, first + 3))
        store.where("n < 3").save("half", note="a note")
        store.snapshot("v1")
    shutil.rmtree(path / "cache", ignore_errors=True)
    return path


def record(i: int) -> dict[str, Any]:
    """Return a record in which every field and column has a value."""
    body = bytes([i]) * 2000
    return {
        "f": b"body %d" % i, "z": body, "l": body, "g": body, "a": np.arange(i + 2),
        "npy": np.arange(i + 1.0), "j": {"i": i}, "t": {"i": (i, b"leaf")}, "m": [i, "m"],
        "u": f"text {i}", "image": np.full((2, 2), i, np.uint8), "s": [b"one", b"two"],
        "file": b"file %d" % i, "path": f"p{i}", "n": i, "label": f"label {i}",
        "when": dt.datetime(2024, 1, 1 + i, tzinfo=dt.UTC), "day": dt.date(2024, 1, 1 + i),
        "big": i, "extra": {"i": i},
    }  # fmt: skip


# The index


@contextlib.contextmanager
def index_of(store: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection that may change anything in the index of a store."""
    with contextlib.closing(sqlite3.connect(store / "index.sqlite")) as index:
        yield index
        index.commit()


def run(store: Path, *statements: str) -> None:
    """Run statements on the index."""
    with index_of(store) as index:
        for statement in statements:
            index.execute(statement)


def redeclare(store: Path, name: str, old: str, new: str) -> None:
    """Change the text in the index that says what an object is."""
    with index_of(store) as index:
        index.execute("PRAGMA writable_schema = ON")
        (sql,) = index.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (name,)).fetchone()
        if old not in sql:
            raise ValueError(f"{old!r} is not in {sql}")
        changed = sql.replace(old, new, 1)
        index.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (changed, name))


# The log


def chunks(store: Path) -> list[Path]:
    """Return the chunk files of a store."""
    return sorted((store / "chunks").iterdir())


def trailers(chunk: Path) -> list[Trailer]:
    """Return the trailers of a chunk, first to last."""
    data, found = chunk.read_bytes(), []
    header = Header.unpack(data[:HEADER_SIZE], chunk.name)
    end = len(data)
    while end > HEADER_SIZE:
        offset = end - TRAILER_SIZE
        with mock.patch.object(Trailer, "is_sound", return_value=True):  # what was forged, too
            trailer = Trailer.unpack(data[offset:end], offset, header.chunk)
        if trailer is None:
            raise ValueError(f"{chunk} does not end with a trailer")
        found.append(trailer)
        end = trailer.bodies_start
    return found[::-1]


def commit(
    store: Path, data: bytes | pa.Buffer, *, bodies: bytes = b"", records: int = 1, **other: Any
) -> Trailer:
    """Append a commit to the log and its row to the index, right in all but what is given.

    Parameters
    ----------
    data
        The bytes of its table.
    records
        How many records it says that it has.
    **other
        Whatever else its trailer is to say.
    """
    (chunk,) = chunks(store)
    last, start = trailers(chunk)[-1], chunk.stat().st_size
    bodies_end = start + len(bodies)
    table_start = align(bodies_end)
    table_data = bytes(data)
    said: dict[str, Any] = {
        "kind": CommitKind.APPEND, "skippable": False, "number": last.number + 1,
        "commit": uuid.uuid4(), "previous": last.commit, "records": records,
        "first_record": last.first_record + last.records, "bodies_start": start,
        "bodies_end": bodies_end, "table_start": table_start,
        "table_end": table_start + len(table_data), "table_crc": zlib.crc32(table_data),
    } | other  # fmt: skip
    trailer = replace(last, **said)
    header = Header.unpack(chunk.read_bytes()[:HEADER_SIZE], chunk.name)
    with chunk.open("ab") as file:
        file.write(bodies + bytes(table_start - bodies_end) + table_data)
        file.write(trailer.pack(header.chunk))
    _put_commit(store, chunk, trailer)
    return trailer


def _put_commit(store: Path, chunk: Path, trailer: Trailer) -> None:
    """Let the index know of a commit, as far as its columns can hold what it says."""
    row = (
        trailer.number, str(trailer.commit), trailer.kind, trailer.chunk, trailer.table_end,
        trailer.committed_at, trailer.first_record, trailer.records,
    )  # fmt: skip
    after = trailer.first_record + trailer.records
    with index_of(store) as index, contextlib.suppress(OverflowError):
        index.execute("INSERT INTO commits VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        index.execute("UPDATE chunks SET size = ? WHERE name = ?", (trailer.end, chunk.name))
        index.execute("UPDATE store SET next_record_id = ?", (after,))


def rows(arrays: dict[str, pa.Array], metadata: dict[str, str] | None = None) -> pa.Buffer:
    """Return a table of the log that has these columns."""
    batch = pa.record_batch(list(arrays.values()), names=list(arrays))
    return table.stream(batch.replace_schema_metadata(metadata))


def columns(count: int = 1, **other: pa.Array) -> dict[str, pa.Array]:
    """Return metadata columns of some records, as an append has them; some may be others."""
    kinds = [sqlstore.Column(c) if isinstance(c, str) else c for c in COLUMNS.values()]
    found = {f"c{i}": pa.nulls(count, kind.kind.arrow) for i, kind in enumerate(kinds)}
    found["c0"] = pa.array([f"x{i}" for i in range(count)])
    return {**found, **other}


def value(store: Path, field: str, stored: bytes, **said: int) -> None:
    """Append a record with one value, about which anything may be said.

    Parameters
    ----------
    stored
        Its bytes in the chunk.
    **said
        What the table says of it instead of what is right: ``offset``, ``length``, ``raw_length``,
        ``items``, ``crc`` or ``compression``.
    """
    start = chunks(store)[0].stat().st_size
    right = {
        "offset": start, "length": len(stored), "raw_length": len(stored), "items": 0,
        "crc": zlib.crc32(stored), "compression": 0,
    }  # fmt: skip
    one = {name: np.array([number], np.uint32) for name, number in (right | said).items()}
    one["compression"] = one["compression"].astype(np.uint8)
    number = list(FIELDS).index(field)
    placed = table.values_array(Values(np.array([True]), **one))  # type: ignore[arg-type] # by name
    commit(store, rows(columns(**{f"f{number}": placed})), bodies=stored)
    put_record(store)


def put_record(store: Path) -> None:
    with index_of(store) as index:
        index.execute("INSERT INTO records (id, path) SELECT next_record_id - 1, 'x0' FROM store")


# The cache


def with_cache(store: Path) -> Path:
    """Let a store have its cache, and return the folder of its edition."""
    with sqlstore.open(store) as opened:
        opened.to_arrow()
        opened.fetch([0])
    (edition,) = (one for one in (store / "cache").iterdir() if len(one.name) == 16)
    return edition


def manifest(store: Path, **changed: object) -> None:
    """Change what the manifest of the cache says, with its checksum."""
    file = store / "cache" / "manifest.json"
    found = json.loads(file.read_bytes().partition(b"\n")[0])
    put_manifest(store, json.dumps({**found, **changed}).encode())


def put_manifest(store: Path, text: bytes) -> None:
    """Put a manifest of any text, with its checksum."""
    (store / "cache").mkdir(exist_ok=True)
    (store / "cache" / "manifest.json").write_bytes(text + b"\n%08x\n" % zlib.crc32(text))


def linked(path: Path, target: Path) -> None:
    """Put a link in the place of a file or a folder, which moves to where the link leads."""
    if path.exists() or path.is_symlink():
        path.replace(target)
    path.symlink_to(target)
