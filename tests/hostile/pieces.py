"""Hostile checkpoints: what they say of commits, chunks, snapshots, subsets and dictionaries."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from sqlstore.log import table
from tests.hostile import forge
from tests.hostile.case import HARMLESS
from tests.hostile.forge_checkpoint import Change, Forged, Piece, cases

_HUGE = 2**32 - 1
_REFUSED = "(verify|rebuild): (Corrupt|Missing)(Store|Chunk|Index)Error: .*(chunk|commit|subset)"


def _piece(kind: str, **said: int) -> Change:
    def change(checkpoint: Forged) -> None:
        checkpoint.piece(kind).said.update(said)

    return change


def _data(kind: str, data: bytes | Callable[[], bytes]) -> Change:
    def change(checkpoint: Forged) -> None:
        checkpoint.piece(kind).data = data if isinstance(data, bytes) else data()

    return change


def _without(kind: str) -> Change:
    def change(checkpoint: Forged) -> None:
        checkpoint.pieces.remove(checkpoint.piece(kind))

    return change


def _twice(kind: str) -> Change:
    return lambda checkpoint: checkpoint.pieces.append(checkpoint.piece(kind))


def _bomb() -> bytes:
    """Return a table of 400 MB in little room."""
    zeros = pa.array(np.zeros(50_000_000, np.int64))
    sink, batch = pa.BufferOutputStream(), pa.record_batch([zeros], names=["x"])
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def _endless() -> bytes:
    nothing = pa.Array.from_buffers(pa.null(), 2**40, [None])
    batch = pa.record_batch([nothing], names=["x"])
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(allow_64bit=True)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


for _kind in ("schema", "commits", "chunks", "snapshots", "subset"):
    cases(
        f"piece {_kind}",
        {
            "outside of its commit": _piece(_kind, offset=64),
            "behind the end": _piece(_kind, offset=_HUGE),
            "4 GB": _piece(_kind, length=_HUGE),
            "another crc": _piece(_kind, crc=7),
            "no stream": _data(_kind, b"\xff" * 200),
            "nothing": _data(_kind, b""),
            "400 MB, compressed": _data(_kind, _bomb),
            "2**40 rows": _data(_kind, _endless),
            "a table of another kind": _data(_kind, bytes(forge.rows({"x": pa.array([1])}))),
        },
    )
for _kind in ("schema", "commits", "chunks", "snapshots"):
    cases(f"piece {_kind}", {"is not there": _without(_kind), "is there twice": _twice(_kind)})


def _other_rows(batch: pa.RecordBatch) -> Change:
    def change(checkpoint: Forged) -> None:
        text = json.dumps({**checkpoint.said, "parts": [[6, 0, 6]]})
        checkpoint.rows = batch.replace_schema_metadata({table.SETTINGS: text})

    return change


cases(
    "pieces",
    {
        "none": _other_rows(pa.record_batch([pa.array([], pa.string())], names=["kind"])),
        "numbers that are text": _other_rows(pa.record_batch([pa.array(["x"])], names=["kind"])),
    },
)
cases(
    "pieces",
    {
        "one of nobody": lambda checkpoint: checkpoint.pieces.append(
            Piece("trigger", b"DROP TABLE records")
        ),
    },
    HARMLESS,
)


# Commits, chunks, snapshots, subsets and dictionaries


def _rows(kind: str, **said: object) -> Change:
    """Return what changes the first row of a table."""
    return lambda checkpoint: checkpoint.piece(kind).put_rows(lambda rows: rows[0].update(said))


def _more_rows(kind: str, **said: object) -> Change:
    """Return what adds a row to a table, like the first one but for this."""
    return lambda checkpoint: checkpoint.piece(kind).put_rows(
        lambda rows: rows.append({**rows[0], **said})
    )


cases(
    "commits",
    {
        "one less": lambda c: c.piece("commits").put_rows(list.pop),
        "one more": _more_rows("commits", number=6),
        "one twice": _more_rows("commits"),
        "numbers below zero": _rows("commits", number=-1),
        "records from 2**62 on": _rows("commits", first_record=2**62),
        "records from below zero on": _rows("commits", first_record=-(2**63)),
        "2**63 - 1 records": _rows("commits", first_record=2**63 - 1, records=2**63 - 1),
        "fewer than no records": _rows("commits", records=-5),
        "the last of another uuid": lambda c: c.piece("commits").put_rows(
            lambda rows: rows[-1].update(uuid=bytes(16))
        ),
        "in chunk 4 billion": _rows("commits", chunk=_HUGE),
    },
    _REFUSED,
)
cases(
    "commits",
    {
        "two of one uuid": lambda c: c.piece("commits").put_rows(
            lambda rows: rows[1].update(uuid=rows[0]["uuid"])
        ),
        "in the year 292,277": _rows("commits", committed_at=2**63 - 1),
    },
    "verify: Corrupt",
)
cases(
    "chunks",
    {
        "an absolute path": _rows("chunks", name="/etc/passwd"),
        "a path out of the store": _rows("chunks", name="../../outside/other.chunk"),
        "a zero character": _rows("chunks", name="000000-00000000.chunk\0/../x"),
        "an empty name": _rows("chunks", name=""),
        "another that is out of the store": _more_rows("chunks", chunk=1, name="../x"),
        "number 4 billion": _more_rows("chunks", chunk=_HUGE, name="000001-00000000.chunk"),
        "number 2**20": _more_rows("chunks", chunk=2**20, name="000001-00000000.chunk"),
        "one that is live, and gone": _more_rows(
            "chunks", chunk=1, name="000001-00000000.chunk", live=True
        ),
        "a live one that is retired": _rows("chunks", retired=True),
        "one number twice": _more_rows("chunks", name="000001-00000000.chunk"),
        "one name twice": _more_rows("chunks", chunk=1),
        "of another uuid": _rows("chunks", uuid=bytes(16)),
    },
    _REFUSED,
)
cases("chunks", {"4 GB": _rows("chunks", size=_HUGE)}, "ok|Corrupt")
cases(
    "snapshots",
    {
        "a path for a name": _rows("snapshots", name="../../outside/secret"),
        "a name with a zero character": _rows("snapshots", name="v1\0"),
        "of a later commit": _rows("snapshots", commit=1000),
        "of a commit below zero": _rows("snapshots", commit=-1),
        "of commit 2**63 - 1": _rows("snapshots", commit=2**63 - 1),
        "of another uuid": _rows("snapshots", uuid=bytes(16)),
        "in the year 292,277": _rows("snapshots", taken_at=2**63 - 1),
        "before there were years": _rows("snapshots", taken_at=-(2**63)),
        "one name twice": _more_rows("snapshots", commit=3),
    },
    _REFUSED,
)
cases(
    "snapshots",
    {
        "needs chunks outside of the store": _rows("snapshots", chunks=[1, _HUGE]),
        "needs the same chunk 100,000 times": _rows("snapshots", chunks=[0] * 100_000),
        "needs a chunk without a number": _rows("snapshots", chunks=[None, 0]),
    },
    "ok|Corrupt",
)


def _subset(**said: object) -> bytes:
    ids = said.pop("ids", [0, 1, 2])
    described = {
        "name": "half", "sql": None, "parameters": None, "note": None, "fingerprint": "",
        "content": "",
    } | said  # fmt: skip
    schema = pa.schema([table.RECORD], {table.SETTINGS: json.dumps(described)})
    return bytes(table.stream(pa.record_batch([pa.array(ids, pa.int64())], schema=schema)))


def _number(kind: str, number: int) -> Change:
    def change(checkpoint: Forged) -> None:
        checkpoint.piece(kind).number = number

    return change


def _more(piece: Piece) -> Change:
    return lambda checkpoint: checkpoint.pieces.append(piece)


cases(
    "subset",
    {
        "members that never were": _data("subset", _subset(ids=[2**62])),
        "members below zero": _data("subset", _subset(ids=[-1])),
        "members without a number": _data("subset", _subset(ids=[None])),
        "a name that is a number": _data("subset", _subset(name=5)),
        "one name twice": _more(Piece("subset", _subset(), 3)),
        "one number twice": _more(Piece("subset", _subset(name="other"), 4)),
        "of a commit that never was": _number("subset", 2**62),
        "of a commit below zero": _number("subset", -1),
    },
    _REFUSED,
)


def _twice_dictionary(checkpoint: Forged) -> None:
    checkpoint.pieces += [Piece("dictionary", b"x" * 30), Piece("dictionary", b"y" * 30)]


cases(
    "dictionary",
    {
        "number 2**62": _more(Piece("dictionary", b"x" * 30, 2**62)),
        "number 191, of 256": _more(Piece("dictionary", b"x" * 30, 192)),
        "a number below zero": _more(Piece("dictionary", b"x" * 30, -1)),
        "of a field below zero": _more(Piece("dictionary", b"x" * 30, 0, -1)),
        "one number twice": _twice_dictionary,
        "outside of its commit": _more(Piece("dictionary", b"x" * 30, said={"offset": 64})),
    },
    _REFUSED,
)
