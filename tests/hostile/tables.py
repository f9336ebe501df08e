"""Hostile commits: tables that are no tables of ours, trailers that lie, and what snapshots say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from sqlstore.log import table
from sqlstore.log.segment import CommitKind
from tests.hostile import forge
from tests.hostile.case import hostile, hostile_each
from tests.hostile.values import PICKLED

_COUNT = 2**40
_TABLE = "CorruptChunkError: .*(segment table|commit 6)"


def _stream(batch: pa.RecordBatch, **options: Any) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def _batch(arrays: dict[str, pa.Array]) -> pa.RecordBatch:
    return pa.record_batch(list(arrays.values()), names=list(arrays))


def _of_length(count: int) -> pa.Buffer:
    """Return a table of any number of rows that takes no bytes for them."""
    nothing = pa.Array.from_buffers(pa.null(), count, [None])
    return _stream(pa.record_batch([nothing], names=["x"]), allow_64bit=True)


@hostile("table: 2**40 rows in 500 bytes", "open mmap: Corrupt")
def _(store: Path, outside: Path) -> None:
    forge.commit(store, _of_length(_COUNT), records=_COUNT)


@hostile("table: 2**24 rows in 500 bytes", "open mmap: Corrupt")
def _(store: Path, outside: Path) -> None:
    forge.commit(store, _of_length(2**24), records=2**24)


@hostile("table: 2**62 rows in 500 bytes", "open mmap: Corrupt")
def _(store: Path, outside: Path) -> None:
    forge.commit(store, _of_length(2**62), records=2**62)


@hostile("table: 400 MB, compressed to little", _TABLE)
def _(store: Path, outside: Path) -> None:
    text = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(),
        1,
        [None, pa.py_buffer(np.array([0, 400_000_000])), pa.py_buffer(bytes(400_000_000))],
    )
    forge.commit(store, _stream(_batch({**forge.columns(), "x": text}), compression="zstd"))


@hostile("table: no stream at all", _TABLE)
def _(store: Path, outside: Path) -> None:
    forge.commit(store, b"\xff" * 500)


@hostile("table: a message of 2 GB", _TABLE)
def _(store: Path, outside: Path) -> None:
    forge.commit(store, b"\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(500))


@hostile("table: a message below zero", _TABLE)
def _(store: Path, outside: Path) -> None:
    forge.commit(store, b"\xff\xff\xff\xff\x00\x00\x00\x80" + bytes(500))


@hostile("table: a thousand batches", _TABLE)
def _(store: Path, outside: Path) -> None:
    sink, batch = pa.BufferOutputStream(), _batch(forge.columns())
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        for _ in range(1000):
            writer.write_batch(batch)
    forge.commit(store, sink.getvalue())


@hostile("table: a schema and nothing else", _TABLE)
def _(store: Path, outside: Path) -> None:
    sink = pa.BufferOutputStream()
    pa.ipc.new_stream(sink, _batch(forge.columns()).schema).close()
    forge.commit(store, sink.getvalue())


@hostile("table: 20,000 columns of nobody", "mmap: fetch: ok|CorruptChunkError")
def _(store: Path, outside: Path) -> None:
    more = {f"x{i}": pa.array([i]) for i in range(20_000)}
    forge.commit(store, forge.rows({**forge.columns(), **more}))
    forge.put_record(store)


@hostile("table: lists in lists, 60 deep", _TABLE)
def _(store: Path, outside: Path) -> None:
    deep = pa.int8()
    for _ in range(60):
        deep = pa.list_(deep)
    forge.commit(store, forge.rows(forge.columns(c1=pa.nulls(1, deep))))


def _column_cases() -> None:
    other: dict[str, pa.Array] = {
        "text instead of numbers": pa.array(["a"]),
        "dictionaries": pa.array(["a"]).dictionary_encode(),
        "runs": pa.RunEndEncodedArray.from_arrays([1], pa.array([1], pa.int32())),
        "a union": pa.UnionArray.from_dense(
            pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])]
        ),
        "an extension": pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(["1"])),
        "floats": pa.array([1.5]),
        "a struct": pa.array([{"a": 1}]),
        "views": pa.array(["a" * 40], pa.string_view()),
        "no type at all": pa.nulls(1),
    }
    hostile_each("column", {what: (array, _TABLE) for what, array in other.items()}, _column)


def _column(array: pa.Array, store: Path, outside: Path) -> None:
    forge.commit(store, forge.rows(forge.columns(c1=array)))


_column_cases()


@hostile("column: an extension that Arrow once unpickled", _TABLE)
def _(store: Path, outside: Path) -> None:
    said = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": PICKLED,
    }
    schema = pa.schema([pa.field("c0", pa.string()), pa.field("c1", pa.int64(), metadata=said)])
    forge.commit(store, table.stream(pa.record_batch([["x"], [1]], schema=schema)))


@hostile("column: text that leads out of its buffer", _TABLE)
def _(store: Path, outside: Path) -> None:
    ends = pa.py_buffer(np.array([0, 4, 2**30, 8], np.int32))
    wrong = pa.StringArray.from_buffers(3, ends, pa.py_buffer(b"somewhere"))
    forge.commit(store, forge.rows(forge.columns(3, c2=wrong)), records=3)


@hostile("column: text that is not UTF-8", _TABLE)
def _(store: Path, outside: Path) -> None:
    wrong = pa.StringArray.from_buffers(
        1, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe")
    )
    forge.commit(store, forge.rows(forge.columns(c2=wrong)))


@hostile("column: a number that SQLite cannot hold", "rebuild: CorruptChunkError")
def _(store: Path, outside: Path) -> None:
    forge.commit(store, forge.rows(forge.columns(c5=pa.array([2**64 - 1], pa.uint64()))))


@hostile("column: a day in the year 5,000,000", "CorruptChunkError: .*year")
def _(store: Path, outside: Path) -> None:
    forge.commit(
        store, forge.rows(forge.columns(c4=pa.array([2**31 - 1], pa.int32()).view("date32")))
    )


@hostile("column: a moment in the year 290,000", "CorruptChunkError: .*year")
def _(store: Path, outside: Path) -> None:
    when = pa.array([2**63 - 1], pa.int64()).view(pa.timestamp("us", "UTC"))
    forge.commit(store, forge.rows(forge.columns(c3=when)))


@hostile("column: JSON 100,000 deep", "record 6: .*JSON|mmap: fetch: ok")
def _(store: Path, outside: Path) -> None:
    forge.commit(store, forge.rows(forge.columns(c6=pa.array(["[" * 100_000]))))
    forge.put_record(store)


@hostile("column: JSON that is none", "record 6: .*JSON|mmap: fetch: ok")
def _(store: Path, outside: Path) -> None:
    forge.commit(store, forge.rows(forge.columns(c6=pa.array(["{'a': NaN"]))))
    forge.put_record(store)


def _value_cases() -> None:
    right = [(name, pa.uint32()) for name in ("offset", "length", "raw_length", "items", "crc")]
    right += [("compression", pa.uint8())]
    other: dict[str, pa.Array] = {
        "numbers": pa.array([5]),
        "a struct of text": pa.array([{"offset": "x"}]),
        "a struct of fewer": pa.array([{"offset": 1}], pa.struct(right[:1])),
        "a struct of nulls": pa.array(
            [dict.fromkeys((name for name, _ in right), None)], pa.struct(right)
        ),
        "signed numbers": pa.array(
            [dict.fromkeys((name for name, _ in right), -1)],
            pa.struct([(name, pa.int32()) for name, _ in right]),
        ),
    }
    hostile_each("values", {what: (array, _TABLE) for what, array in other.items()}, _places)


def _places(array: pa.Array, store: Path, outside: Path) -> None:
    forge.commit(store, forge.rows(forge.columns(f0=array)))


_value_cases()


def _trailer_cases() -> None:
    lies: dict[str, tuple[dict[str, int], str]] = {
        "another number of records": ({"records": 5}, "rows for 5 records"),
        "chunk 2**32 - 1": ({"chunk": 2**32 - 1}, "CorruptChunkError|CorruptIndexError"),
        "chunk 30 million": ({"chunk": 30_000_000}, "CorruptChunkError|CorruptIndexError"),
        "a record below zero": ({"first_record": -5}, "Corrupt"),
        "a record of 2**62": ({"first_record": 2**62}, "Corrupt"),
        "a commit of an unknown kind": ({"kind": 99, "records": 0}, "StoreTooNewError"),
        "a second create": ({"kind": 1, "records": 0}, "only the first commit creates|Corrupt"),
        "a time of the year 290,000": ({"committed_at": 2**63 - 1}, "Corrupt"),
        "a schema of commit 2**31": ({"schema_version": 2**31}, "Corrupt"),
        "a table of no bytes": ({"table_end": 0}, "Corrupt"),
        "a commit before the first": ({"number": 0}, "Corrupt|append"),
    }
    hostile_each("trailer", lies, _trailer)


def _trailer(said: dict[str, int], store: Path, outside: Path) -> None:
    forge.commit(store, forge.rows(forge.columns()), **cast("dict[str, Any]", said))


_trailer_cases()


@hostile("trailer: a commit that follows itself", "Corrupt|Forked")
def _(store: Path, outside: Path) -> None:
    import uuid

    own = uuid.UUID(int=7)
    forge.commit(store, forge.rows(forge.columns()), commit=own, previous=own)


@hostile("trailer: a million trailers that are none", "mmap: fetch: ok")
def _(store: Path, outside: Path) -> None:
    with forge.chunks(store)[0].open("ab") as file:
        file.write(b"\xc5SEGMENT" * 100_000)


@hostile("edit: of records that never were", _TABLE)
def _(store: Path, outside: Path) -> None:
    ids = pa.array([2**62])
    schema = pa.schema([table.RECORD])
    forge.commit(
        store,
        table.stream(pa.record_batch([ids], schema=schema)),
        kind=CommitKind.DELETE,
        records=0,
    )


@hostile("edit: of column 2**31", "mmap: fetch: ok|CorruptChunkError")
def _(store: Path, outside: Path) -> None:
    schema = pa.schema([table.RECORD, pa.field(f"c{10**30}", pa.int32())])
    batch = pa.record_batch([pa.array([0]), pa.array([1], pa.int32())], schema=schema)
    forge.commit(store, table.stream(batch), kind=CommitKind.UPDATE, records=0)


@hostile("edit: of a column, with values of another type", _TABLE)
def _(store: Path, outside: Path) -> None:
    schema = pa.schema([table.RECORD, pa.field("c1", pa.string())])
    batch = pa.record_batch([pa.array([0]), pa.array(["x"])], schema=schema)
    forge.commit(store, table.stream(batch), kind=CommitKind.UPDATE, records=0)


# What is said beside a table


def _said(store: Path, kind: CommitKind, text: bytes, schema: pa.Schema | None = None) -> None:
    schema = (pa.schema([]) if schema is None else schema).with_metadata({b"sqlstore": text})
    arrays = [pa.array([], field.type) for field in schema]
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    forge.commit(store, table.stream(batch), kind=kind, records=0)


def _snapshot_cases() -> None:
    names = {
        "a path out of the store": "../../outside/secret",
        "an absolute path": "/etc/passwd",
        "a zero character": "a\0b",
        "escape sequences": "\x1b[2J",
        "10,000 characters": "x" * 10_000,
    }
    gets = "CorruptChunkError: commit 6 is about no snapshot"
    hostile_each("snapshot name", {what: (name, gets) for what, name in names.items()}, _titled)


def _titled(name: str, store: Path, outside: Path) -> None:
    _said(store, CommitKind.SNAPSHOT, json.dumps({"name": name, "note": None}).encode())


_snapshot_cases()


@hostile("snapshot: 100,000 lists in each other", "commit 6 is about no snapshot")
def _(store: Path, outside: Path) -> None:
    _said(store, CommitKind.SNAPSHOT, b"[" * 100_000)


@hostile("snapshot: a name that is a number", "commit 6 is about no snapshot")
def _(store: Path, outside: Path) -> None:
    _said(store, CommitKind.SNAPSHOT, b'{"name": 5, "note": {}}')


@hostile("subset: 100,000 lists in each other", "commit 6 is about no subset")
def _(store: Path, outside: Path) -> None:
    _said(store, CommitKind.SAVE_SUBSET, b"[" * 100_000, pa.schema([table.RECORD]))


@hostile("subset: a name that is a list", "commit 6 is about no subset")
def _(store: Path, outside: Path) -> None:
    said = json.dumps({"name": ["a"], "sql": {"x": 1}}).encode()
    _said(store, CommitKind.SAVE_SUBSET, said, pa.schema([table.RECORD]))


@hostile("subset: a name that is SQL", "rebuild: ok")
def _(store: Path, outside: Path) -> None:
    name = "x'); DROP TABLE records; --"
    said = json.dumps({"name": name, "sql": "1; DROP TABLE records", "parameters": "{"}).encode()
    _said(store, CommitKind.SAVE_SUBSET, said, pa.schema([table.RECORD]))
