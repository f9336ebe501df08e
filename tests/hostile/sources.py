"""Hostile stores as sources of a merge, and hostile files as chunks to be adopted."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pyarrow as pa

import sqlstore
from sqlstore.log import table
from sqlstore.log.segment import CommitKind
from tests.hostile import forge
from tests.hostile.case import HARMLESS, hostile, hostile_each

_NAME = "000009-00000000.chunk"


# What lies among the chunk files


def _beside(store: Path) -> Path:
    return store / "chunks" / _NAME


@hostile("adopt: a link to a file outside", "merge: adopt: StorageError: .*is a link")
def _(store: Path, outside: Path) -> None:
    _beside(store).symlink_to(outside / "other.chunk")


@hostile("adopt: a link to a chunk of somebody else", "merge: adopt: StorageError: .*is a link")
def _(store: Path, outside: Path) -> None:
    _beside(store).symlink_to(shutil.copy(forge.chunks(store)[0], outside / "a.chunk"))


@hostile("adopt: a link to a device", "merge: adopt: StorageError: .*is a link")
def _(store: Path, outside: Path) -> None:
    _beside(store).symlink_to("/dev/zero")


@hostile("adopt: a link to itself", "merge: adopt: StorageError: .*is a link")
def _(store: Path, outside: Path) -> None:
    _beside(store).symlink_to(_beside(store))


@hostile("adopt: a FIFO", "merge: adopt: StorageError: .*is no file")
def _(store: Path, outside: Path) -> None:
    os.mkfifo(_beside(store))


@hostile("adopt: a folder", "merge: adopt: MergeError: .*is a folder")
def _(store: Path, outside: Path) -> None:
    _beside(store).mkdir()


@hostile("adopt: a socket", "merge: adopt: StorageError: .*is no file")
def _(store: Path, outside: Path) -> None:
    before = Path.cwd()
    os.chdir(store / "chunks")  # the path of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(_NAME)
    finally:
        os.chdir(before)


@hostile("adopt: a terabyte of nothing", "merge: adopt: StorageError: .*no chunk has")
def _(store: Path, outside: Path) -> None:
    _beside(store).touch()
    os.truncate(_beside(store), 1 << 40)


@hostile("adopt: 100 MB of nothing", "merge: adopt: ok")
def _(store: Path, outside: Path) -> None:
    _beside(store).touch()
    os.truncate(_beside(store), 100 << 20)


@hostile("adopt: a hard link to a file outside", HARMLESS)
def _(store: Path, outside: Path) -> None:
    os.link(outside / "other.chunk", _beside(store))


@hostile("adopt: a hard link to the same chunk", HARMLESS)
def _(store: Path, outside: Path) -> None:
    os.link(forge.chunks(store)[0], store / "chunks" / "a name of nobody")


@hostile("adopt: a copy that has gone on by itself", "merge: adopt: ForkedLogError")
def _(store: Path, outside: Path) -> None:
    shutil.copytree(store, outside / "copy")
    for path in (store, outside / "copy"):
        with sqlstore.open(path, "a") as opened:
            opened.extend([{"path": path.name}])
    shutil.copy(forge.chunks(outside / "copy")[0], _beside(store))
    shutil.rmtree(outside / "copy")


@hostile("adopt: a header and then only trailers' magic", "merge: adopt: ok")
def _(store: Path, outside: Path) -> None:
    header = forge.chunks(store)[0].read_bytes()[:64]
    _beside(store).write_bytes(header + b"\xc5SEGMENT" * 10_000)


@hostile("adopt: no header, but a trailer's magic", "merge: adopt: CorruptChunkError")
def _(store: Path, outside: Path) -> None:
    _beside(store).write_bytes(bytes(64) + b"\xc5SEGMENT")


# Keys


def _keys(keys: list[str | None], store: Path, outside: Path) -> None:
    columns = forge.columns(len(keys), c0=pa.array(keys, pa.string()))
    forge.commit(store, forge.rows(columns), records=len(keys))


_MANY = "k" * 10_000_000
_KEYS: dict[str, tuple[list[str | None], str]] = {
    "none": ([None], "merge: old: SchemaError: .*has nulls"),
    "one that is there before": (["p0"], "merge: old: DuplicateKeyError: .*'p0'"),
    "one twice": (["x", "x"], "merge: old: DuplicateKeyError: .*'x'"),
    "one that the target has": (["own"], "merge: old: DuplicateKeyError: .*'own'"),
    "one of 10 MB twice": ([_MANY, _MANY], "merge: old: DuplicateKeyError: .*k{100,200}[^k]"),
    "text that is SQL": (["'); DROP TABLE records; --"], "merge: old: ok"),
    "text with a zero character": (["a\0b", "a"], "merge: old: ok"),
}
hostile_each("merge keys", _KEYS, _keys)


# Schemas


def _schema(columns: list[tuple[str, str]], store: Path, outside: Path) -> None:
    """Let a store have other columns than it was made with, besides its key."""
    fields = [("field", 0, "f", "bytes", None, True, False, False)]
    rows = [*fields, ("column", 0, "path", "string", None, False, False, True)]
    rows += [
        ("column", 9 + i, name, kind, None, True, False, False)
        for i, (name, kind) in enumerate(columns)
    ]
    settings = b'{"chunk_size": 1, "library_version": "x", "created_at": 0}'
    arrays = [pa.array([row[i] for row in rows], f.type) for i, f in enumerate(table.SCHEMA_ROWS)]
    described = table.SCHEMA_ROWS.with_metadata({table.SETTINGS: settings})
    batch = pa.record_batch(arrays, schema=described)
    kind = CommitKind.ADD_COLUMN
    forge.commit(store, table.stream(batch), kind=kind, records=0, schema_version=6)
    sqlstore.rebuild(store)


hostile_each(
    "merge schema",
    {
        "995 columns more": ([(f"x{i}", "int8") for i in range(995)], "merge: add: SchemaError"),
        "a column that is a field": ([("z", "int8")], "merge: old: SchemaError: .*'z'"),
        "a column of a wider type": ([("n", "int64")], "merge: old: SchemaError: .*'n'"),
        "a column in other letters": ([("LABEL", "string")], "merge: add: SchemaError"),
    },
    _schema,
)
