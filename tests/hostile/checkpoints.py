"""Hostile checkpoints: of which state they are, and where the live records are that they have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from sqlstore.log import table
from sqlstore.log.segment import CommitKind
from tests.hostile import forge
from tests.hostile.case import HARMLESS, hostile
from tests.hostile.forge_checkpoint import (
    Change,
    Forged,
    cases,
    changed,
)

_HUGE = 2**32 - 1


hostile("checkpoint: as the library makes it", HARMLESS)(changed(lambda checkpoint: None))


# What it says of itself


def _said(**said: object) -> Change:
    return lambda checkpoint: checkpoint.said.update(said)


def _text(text: bytes) -> Change:
    def change(checkpoint: Forged) -> None:
        checkpoint.text = text

    return change


cases(
    "state",
    {
        "of commit 0": _said(as_of=0),
        "of a commit below zero": _said(as_of=-(2**63)),
        "of its own commit": _said(as_of=7),
        "of a later commit": _said(as_of=1000),
        "of commit 2**70": _said(as_of=2**70),
        "of an infinite commit": _text(b'{"as_of": Infinity, "commit": "", "parts": []}'),
        "of a commit of 10,000 digits": _text(b'{"as_of": ' + b"9" * 10_000 + b"}"),
        "of the commit before": _said(as_of=4),
        "of a commit of nobody": _said(commit="0" * 32),
        "of a commit that is text": _said(commit="../../outside"),
        "no JSON": _text(b"{'"),
        "a list": _text(b"[]"),
        "100,000 lists in each other": _text(b"[" * 100_000),
        "lists in each other for parts": _text(
            b'{"as_of": 5, "commit": "' + b"0" * 32 + b'", "parts": ' + b"[" * 900 + b"]" * 900
        ),
    },
)


def _never_were(number: int) -> None:
    """Declare a checkpoint of a commit that never was, so late that nobody can count to it."""

    def change(checkpoint: Forged) -> None:
        checkpoint.said["as_of"] = number - 1
        checkpoint.said["parts"] = []
        checkpoint.parts.clear()

    how = {"number": number}
    hostile(f"checkpoint state: {number - 1} commits that never were", "(verify|repair): Corrupt")(
        changed(change, **how)
    )


for _number in (1001, 2**40, 2**63 - 1):
    _never_were(_number)


@hostile("checkpoint state: the commit behind it is that it follows", "Corrupt|Forked")
def _(store: Path, outside: Path) -> None:
    checkpoint = changed(lambda checkpoint: None)
    checkpoint(store, outside)
    last = forge.trailers(forge.chunks(store)[0])[-1]
    forge.commit(store, b"", commit=last.previous, records=0)


# Its parts


def _spans(*spans: object) -> Change:
    return _said(parts=list(spans))


cases(
    "parts",
    {
        "none, though there are records": _spans(),
        "itself": _spans([7, 0, 6]),
        "a later commit": _spans([8, 0, 6]),
        "an append": _spans([2, 0, 6]),
        "a commit of nobody": _spans([2**62, 0, 6]),
        "a commit below zero": _spans([-1, 0, 6]),
        "one twice": _spans([6, 0, 3], [6, 3, 6]),
        "from below zero": _spans([6, -5, 6]),
        "backwards": _spans([6, 6, 0]),
        "a gap": _spans([6, 1, 6]),
        "fewer ids than there were": _spans([6, 0, 5]),
        "2**20 ids and one": _spans([6, 0, 2**20 + 1]),
        "a billion ids": _spans([6, 0, 10**9]),
        "2**70 ids": _spans([6, 0, 2**70]),
        "text": _spans("6,0,6"),
        "too few numbers": _spans([6, 0]),
        "10,000 of them": _spans(*([6, 0, 0] for _ in range(10_000))),
    },
)


def _part(**columns: object) -> Change:
    def change(checkpoint: Forged) -> None:
        part = checkpoint.parts[0]
        put = {name: one(part.columns) if callable(one) else one for name, one in columns.items()}
        part.put_columns(**put)

    return change


def _ids(*ids: int | None) -> Change:
    return _part(record=pa.array(ids, pa.int64()))


def _value(name: str, wrong: int, field: str = "f0") -> Change:
    """Return what gives all values of a field something wrong."""

    def put(columns: Mapping[str, pa.Array]) -> pa.Array:
        array = columns[field]
        children = [array.field(i) for i in range(array.type.num_fields)]
        at = array.type.get_field_index(name)
        children[at] = pa.array([wrong] * len(array), children[at].type)
        return pa.StructArray.from_arrays(children, fields=list(array.type))

    return _part(**{field: put})


def _without_chunk(columns: Mapping[str, pa.Array]) -> pa.Array:
    fields = list(columns["f0"].type)[:-1]
    children = [columns["f0"].field(i) for i in range(len(fields))]
    return pa.StructArray.from_arrays(children, fields=fields)


def _other_table(data: bytes, **other: object) -> Change:
    def change(checkpoint: Forged) -> None:
        checkpoint.parts[0].data = data or checkpoint.parts[0].data
        checkpoint.parts[0].other = other

    return change


def _columns_twice(name: str) -> Change:
    def change(checkpoint: Forged) -> None:
        part = checkpoint.parts[0]
        names, arrays = [*part.columns, name], [*part.columns.values(), part.columns[name]]
        fields = [
            pa.field(one, array.type, nullable=one != "record")
            for one, array in zip(names, arrays, strict=True)
        ]
        part.data = bytes(table.stream(pa.record_batch(arrays, schema=pa.schema(fields))))

    return change


cases(
    "part",
    {
        "records behind its span": _ids(0, 1, 2, 3, 4, 2**40),
        "records below zero": _ids(-(2**62), 1, 2, 3, 4, 5),
        "a record twice": _ids(0, 1, 1, 3, 4, 5),
        "records backwards": _ids(5, 4, 3, 2, 1, 0),
        "records without a number": _ids(0, 1, None, 3, 4, 5),
        "records that come later": _ids(0, 1, 2, 3, 4, 6),
        "places without a chunk": _part(f0=_without_chunk),
        "places that are text": _part(f0=pa.array(["x"] * 6)),
        "text instead of numbers": _part(c1=pa.array(["x"] * 6)),
        "a column twice": _columns_twice("c1"),
        "a field twice": _columns_twice("f0"),
        "ids twice": _columns_twice("record"),
        "of a kind of nobody": _other_table(b"", kind=77, skippable=True),
        "is an append": _other_table(b"", kind=CommitKind.APPEND, records=6),
        "is a delete": _other_table(b"", kind=CommitKind.DELETE),
        "appends records": _other_table(b"", records=5),
        "no stream at all": _other_table(b"\xff" * 500),
    },
)
cases(
    "part",
    {"records without a key": _part(c0=pa.nulls(6, pa.string()))},
    "rebuild: CorruptChunkError: commit 6 has records that cannot be",
)
cases(
    "place",
    {
        "chunk of 4 billion": _value("chunk", _HUGE),
        "an offset of 4 GB": _value("offset", _HUGE),
        "a length of 4 GB": _value("length", _HUGE),
        "a length of 4 GB after decompressing": _value("raw_length", _HUGE, "f1"),
        "a crc of nobody": _value("crc", 7),
        "a compression of nobody": _value("compression", 63),
        "a dictionary of nobody": _value("compression", 255),
        "4 billion items": _value("items", _HUGE, "f11"),
    },
    "verify: .*(chunk|bytes|compression|dictionary|items|not what|cannot|footer)",
)


def _many_ids(checkpoint: Forged) -> None:
    """Say of more records than there are bytes that they were deleted."""
    (part,) = checkpoint.parts
    part.stop = 2**18
    part.other = {"first_record": 2**18}

    def put(rows: list[dict[str, Any]]) -> None:
        rows[2]["records"] = 2**18 - 3
        rows[3]["first_record"] = rows[4]["first_record"] = 2**18

    checkpoint.piece("commits").put_rows(put)


@hostile("checkpoint parts: 2**18 records that were deleted", "mmap: fetch: ok")
def _(store: Path, outside: Path) -> None:
    changed(_many_ids, first_record=2**18)(store, outside)
    forge.run(
        store,
        f"UPDATE commits SET records = {2**18 - 3} WHERE number = 3",
        f"UPDATE commits SET first_record = {2**18} WHERE number IN (4, 5)",
    )


# Its trailer

hostile("checkpoint: appends records", "Corrupt")(changed(lambda c: None, records=5))
hostile("checkpoint: leaves numbers out", "Corrupt")(changed(lambda c: None, number=1000))
hostile("checkpoint: begins at record 2**62", "Corrupt")(
    changed(lambda c: None, first_record=2**62)
)
hostile("checkpoint: its records begin below those of the state", "Corrupt")(
    changed(lambda c: None, first_record=0)
)
