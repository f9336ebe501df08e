"""Hostile compactions: commits that say that values lie in another place."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sqlstore.log import table
from sqlstore.log.segment import CommitKind
from sqlstore.log.table import Values
from tests.hostile import forge
from tests.hostile.case import hostile, hostile_each

_HUGE = 2**32 - 1
_BODY = b"moved"
_IDS = pa.array([2], pa.int64())


def _compacted(store: Path, columns: dict[str, pa.Array], **other: object) -> None:
    fields = [pa.field(name, one.type, nullable=name != "record") for name, one in columns.items()]
    batch = pa.record_batch(list(columns.values()), schema=pa.schema(fields))
    how: dict[str, Any] = {"kind": CommitKind.COMPACT, "skippable": True, "records": 0, **other}
    forge.commit(store, table.stream(batch), bodies=_BODY, **how)


def _placed(store: Path, count: int = 1, *, present: bool = True, **said: int) -> pa.Array:
    """Return where values lie that are moved, about which anything may be said."""
    right = {
        "offset": forge.chunks(store)[0].stat().st_size, "length": len(_BODY),
        "raw_length": len(_BODY), "items": 0, "crc": zlib.crc32(_BODY), "compression": 0,
    }  # fmt: skip
    one = {name: np.full(count, number, np.uint32) for name, number in (right | said).items()}
    compression = one.pop("compression").astype(np.uint8)
    return table.values_array(Values(np.full(count, present), **one, compression=compression))


def _place(said: dict[str, Any], store: Path, outside: Path) -> None:
    _compacted(store, {"record": _IDS, "f0": _placed(store, **said)})


_WRONG = "verify: .*(bytes|compression|dictionary|not what|cover)"
hostile_each(
    "compaction place",
    {
        "behind the end": ({"offset": _HUGE}, _WRONG),
        "in the bytes of another commit": ({"offset": 100}, _WRONG),
        "in the header": ({"offset": 0}, _WRONG),
        "4 GB": ({"length": _HUGE}, _WRONG),
        "4 GB after decompressing": ({"raw_length": _HUGE, "compression": 2}, _WRONG),
        "other bytes": ({"crc": 7}, _WRONG),
        "a compression of nobody": ({"compression": 63}, _WRONG),
        "a dictionary of nobody": ({"compression": 255}, _WRONG),
    },
    _place,
)


def _records(ids: list[int | None], store: Path, outside: Path) -> None:
    placed = _placed(store, len(ids))
    _compacted(store, {"record": pa.array(ids, pa.int64()), "f0": placed})


_NO_EDIT = "Corrupt(Chunk|Index|Store)Error: .*commit 6"
_RECORDS: dict[str, tuple[list[int | None], str]] = {
    "a record that never was": ([2**62], _NO_EDIT),
    "a record that comes later": ([6], _NO_EDIT),
    "a record below zero": ([-1], _NO_EDIT),
    "a record twice": ([2, 2], _NO_EDIT),
    "records backwards": ([3, 2], _NO_EDIT),
    "a record without a number": ([None], _NO_EDIT),
}
hostile_each("compaction of", _RECORDS, _records)


def _columns(columns: dict[str, pa.Array], store: Path, outside: Path) -> None:
    _compacted(store, {"record": _IDS, **columns})


_TEXT = pa.array(["x"])
hostile_each(
    "compaction table",
    {
        "places that are text": ({"f0": _TEXT}, _NO_EDIT + "|segment table"),
        "a column of nobody": ({"DROP TABLE records": _TEXT}, _NO_EDIT),
        "numbers that are text": ({"c1": _TEXT}, "CorruptChunkError: .*commit 6"),
        "a key that is another's": ({"c0": pa.array(["p0"])}, "Corrupt(Store|Chunk|Index)Error"),
        "no key": ({"c0": pa.nulls(1, pa.string())}, "Corrupt(Store|Chunk|Index)Error"),
        "nothing but ids": ({}, "verify: .*cover"),
    },
    _columns,
)


@hostile("compaction table: a field twice", "Corrupt(Chunk|Store)Error: .*one name")
def _(store: Path, outside: Path) -> None:
    placed = _placed(store)
    fields = [table.RECORD, pa.field("f0", placed.type), pa.field("f0", placed.type)]
    batch = pa.record_batch([_IDS, placed, placed], schema=pa.schema(fields))
    kind = CommitKind.COMPACT
    forge.commit(store, table.stream(batch), bodies=_BODY, kind=kind, skippable=True, records=0)


@hostile("compaction table: a field that is not there", "verify: .*cover")
def _(store: Path, outside: Path) -> None:
    _compacted(store, {"record": _IDS, "f99": _placed(store)})


@hostile("compaction: takes values away", "verify: .*cover|index has a value")
def _(store: Path, outside: Path) -> None:
    _compacted(store, {"record": _IDS, "f0": _placed(store, present=False)})


@hostile("compaction: appends records", "Corrupt(Chunk|Index)Error")
def _(store: Path, outside: Path) -> None:
    _compacted(store, {"record": _IDS, "f0": _placed(store)}, records=1)


@hostile(
    "compaction: of a record that was deleted",
    "verify: CorruptStoreError: .*(record|value)|rebuild: Corrupt",
)
def _(store: Path, outside: Path) -> None:
    ids = pa.record_batch([_IDS], schema=pa.schema([table.RECORD]))
    forge.commit(store, table.stream(ids), kind=CommitKind.DELETE, records=0)
    forge.run(store, "DELETE FROM records WHERE id = 2", "DELETE FROM blobs WHERE record = 2")
    _compacted(store, {"record": _IDS, "f0": _placed(store)})
