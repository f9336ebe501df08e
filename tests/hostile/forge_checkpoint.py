"""Checkpoints of any content: what the library would make of a store, to be changed and written."""

from __future__ import annotations

import dataclasses
import json
import shutil
import zlib
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import pyarrow as pa

from sqlstore.commit import Committer
from sqlstore.compaction.checkpointing import Said, staged_checkpoint
from sqlstore.compaction.history import History
from sqlstore.compaction.state import State, taken
from sqlstore.encodings import Encodings
from sqlstore.log import ipc, table
from sqlstore.log.segment import CommitKind
from sqlstore.opening import opening
from sqlstore.source import Source
from tests.hostile import forge
from tests.hostile.case import Make, hostile

NO_CHECKPOINT: Final = "Corrupt(Chunk|Index|Store)Error: .*(checkpoint|commit [67]|segment table)"
"""What most hostile checkpoints get."""


@dataclass
class Piece:
    """A piece of a checkpoint, and what its row says instead of what is right."""

    kind: str
    data: bytes
    number: int = 0
    field: int = 0
    said: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def batch(self) -> pa.RecordBatch:
        """Return the table that it is."""
        return ipc.parse(self.data, "piece", 0)

    def put_rows(self, change: Callable[[list[dict[str, Any]]], object]) -> None:
        """Change the rows of the table that it is."""
        rows, schema = self.batch.to_pylist(), self.batch.schema
        change(rows)
        self.data = bytes(table.stream(pa.RecordBatch.from_pylist(rows, schema=schema)))


@dataclass
class PartOf:
    """A part of a checkpoint, and whatever its commit is to say otherwise."""

    first: int
    stop: int
    data: bytes
    other: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def columns(self) -> dict[str, pa.Array]:
        """Return the columns of its table."""
        batch = ipc.parse(self.data, "part", 0)
        return dict(zip(batch.schema.names, batch.columns, strict=True))

    def put_columns(self, **other: pa.Array) -> None:
        """Change some columns of its table, or add them."""
        columns = {**self.columns, **other}
        fields = [
            pa.field(name, one.type, nullable=name != "record") for name, one in columns.items()
        ]
        batch = pa.record_batch(list(columns.values()), schema=pa.schema(fields))
        self.data = bytes(table.stream(batch))


@dataclass
class Forged:
    """A checkpoint of all that a store holds, not written yet.

    Attributes
    ----------
    said
        What its table says beside the pieces; the parts are put in when they are written.
    text
        The same as text, if it is to be another.
    rows
        The table itself, if it is to be another.
    """

    said: dict[str, Any]
    parts: list[PartOf]
    pieces: list[Piece]
    text: bytes | None = None
    rows: pa.RecordBatch | None = None

    def piece(self, kind: str) -> Piece:
        """Return the first piece of a kind."""
        return next(piece for piece in self.pieces if piece.kind == kind)

    def write(self, store: Path, **other: Any) -> int:
        """Append it to the log, let the index know of it, and return its number."""
        spans = []
        for part in self.parts:
            how = {"kind": CommitKind.CHECKPOINT_PART, "records": 0, **part.other}
            number = forge.commit(store, part.data, **how).number
            spans.append([number, part.first, part.stop])
        self.said.setdefault("parts", spans)
        (chunk,) = forge.chunks(store)
        start, rows = chunk.stat().st_size, []
        for piece in self.pieces:
            right = {"offset": start, "length": len(piece.data), "crc": zlib.crc32(piece.data)}
            row = {"kind": piece.kind, "number": piece.number, "field": piece.field}
            rows.append({**row, **right, **piece.said})
            start += len(piece.data)
        text = json.dumps(self.said).encode() if self.text is None else self.text
        schema = _ROWS.with_metadata({table.SETTINGS: text})
        batch = pa.RecordBatch.from_pylist(rows, schema=schema) if self.rows is None else self.rows
        bodies = b"".join(piece.data for piece in self.pieces)
        how = {"kind": CommitKind.CHECKPOINT, "records": 0, **other}
        trailer = forge.commit(store, table.stream(batch), bodies=bodies, **how)
        forge.run(store, f"UPDATE store SET checkpoint = {trailer.number}")
        return trailer.number


_ROWS = pa.schema(
    [
        pa.field(name, kind, nullable=False)
        for name, kind in (
            ("kind", pa.string()), ("number", pa.int64()), ("field", pa.int32()),
            ("offset", pa.uint32()), ("length", pa.uint32()), ("crc", pa.uint32()),
        )
    ]
)  # fmt: skip


def forged(store: Path) -> Forged:
    """Return the checkpoint that the library would make of a store."""
    how = opening(store, None, "once", Encodings(None, allow_pickle=False), "r")
    with closing(Source.open(how)) as source, closing(Committer(store)) as committer:
        state = taken(source)
        if state is None:
            raise ValueError(f"{store} has no records")
        found = _forged(source, committer, state)
    shutil.rmtree(store / "cache")
    return found


def _forged(source: Source, committer: Committer, state: State) -> Forged:
    history = source.finder.look_up(lambda i, r: History.of_index(i, r, state.as_of))
    settings = committer.settings(state.schema)
    said = Said(history, set(state.live), [], settings, source.dictionary)
    parts = [PartOf(first, stop, bytes(one)) for first, stop, one in state.parts()]
    last = forge.trailers(forge.chunks(source.root)[0])[-1]
    staged = staged_checkpoint(state, said, lambda _: last)
    staged.lay_out(0)
    rows = ipc.parse(bytes(staged.table), "", 0).to_pylist()
    pieces = [
        Piece(row["kind"], bytes(body), row["number"], row["field"])
        for row, body in zip(rows, staged.bodies(), strict=True)
    ]
    return Forged({"as_of": state.as_of, "commit": state.commit.hex}, parts, pieces)


Change: TypeAlias = Callable[[Forged], object]
"""Changes a checkpoint before it is written."""


def changed(change: Change, **other: Any) -> Make:
    """Return the maker of a store with a checkpoint that is changed; the trailer may be, too."""

    def make(store: Path, outside: Path) -> None:
        checkpoint = forged(store)
        change(checkpoint)
        checkpoint.write(store, **other)

    return make


def cases(group: str, changes: Mapping[str, Change], gets: str = NO_CHECKPOINT) -> None:
    """Declare a case for each change of a checkpoint."""
    for what, change in changes.items():
        hostile(f"checkpoint {group}: {what}", gets)(changed(change))
