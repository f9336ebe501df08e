"""Checkpoints: what a store held as of a commit, so that nothing before it is needed any more.

The chain goes on from that commit. Live records lie in *parts*, commits of their own with some ids
each, because a commit stays below 2 GiB. What is not said per record lies in *pieces*, the bodies
of the commit that completes the checkpoint; its table says where, its schema's metadata the rest.
"""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sqlstore import limits
from sqlstore.arrow import int64_array, unsigned
from sqlstore.errors import CorruptChunkError
from sqlstore.log import files, ipc, pieces, table
from sqlstore.log.chain import Link
from sqlstore.log.dictionary import DictionaryPlace
from sqlstore.log.ipc import VALUE_TYPE
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import CommitKind, Trailer
from sqlstore.log.table import RECORD, SETTINGS, Values, misfit, parse_ids, stream
from sqlstore.types import Buffer, Ids

_CHUNK: Final = pa.field("chunk", pa.uint32(), nullable=False)
_PLACED_TYPE: Final = pa.struct([*VALUE_TYPE, _CHUNK])
_SENSELESS: Final = (
    ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Span:
    """Which live records a part holds: those with ids from ``first`` up to but not ``stop``.

    The first begins at 0, each other one where the one before it stops.
    """

    commit: int
    first: int
    stop: int


@dataclass(frozen=True, slots=True)
class Part:
    """Some live records as of a checkpoint.

    Attributes
    ----------
    ids
        Of the records, ascending.
    batch
        Their metadata, a column ``c<number>`` for each.
    """

    ids: Ids
    batch: pa.RecordBatch

    def values(self, field: int) -> tuple[Values, NDArray[np.uint32]]:
        """Return where the values of a field lie: places in chunks, and which chunks those are."""
        values = table.parse_values(self.batch, field)
        index = self.batch.schema.get_field_index(f"f{field}")
        if index < 0:
            return values, np.zeros(len(self.ids), np.uint32)
        return values, unsigned(self.batch.column(index).field(len(VALUE_TYPE)))


def build_part(
    ids: Ids,
    columns: Mapping[int, pa.Array],
    values: Mapping[int, tuple[Values, NDArray[np.uint32]]],
) -> pa.Buffer:
    """Return the table of a part as an Arrow IPC stream.

    Parameters
    ----------
    ids
        Ascending.
    columns
        Metadata by column number.
    values
        Where values lie and in which chunks, by field number.
    """
    arrays = {f"c{number}": array for number, array in columns.items()}
    arrays |= {f"f{number}": _placed(*placed) for number, placed in values.items()}
    schema = pa.schema([RECORD, *(pa.field(name, array.type) for name, array in arrays.items())])
    return stream(pa.record_batch([int64_array(ids), *arrays.values()], schema=schema))


def _placed(values: Values, chunk: NDArray[np.uint32]) -> pa.StructArray:
    plain = table.values_array(values)
    children = [*(plain.field(i) for i in range(len(VALUE_TYPE))), pa.array(chunk, pa.uint32())]
    mask = None if values.present.all() else pa.array(~values.present)
    return pa.StructArray.from_arrays(children, fields=list(_PLACED_TYPE), mask=mask)


def read_part(reader: ChunkReader, name: str, trailer: Trailer, span: Span | None = None) -> Part:
    """Return what a part says.

    Parameters
    ----------
    name
        The chunk that it lies in.
    span
        Which ids it must have; any by default.

    Raises
    ------
    CorruptChunkError
        It is damaged, or no part.
    """
    batch = reader.table(name, trailer)
    ids = parse_ids(batch, trailer)
    placed = [one.type for one in batch.schema if one.name.startswith("f")]
    if (
        trailer.kind != CommitKind.CHECKPOINT_PART
        or ids is None
        or bool(np.any(ids[1:] <= ids[:-1]))
        or any(kind != _PLACED_TYPE for kind in placed)
    ):
        raise misfit(trailer, name, "is no part of a checkpoint")
    if span is not None and len(ids) and (ids[0] < span.first or ids[-1] >= span.stop):
        raise misfit(trailer, name, "holds other records than the checkpoint says")
    return Part(ids, batch)


class Building:
    """The pieces of a checkpoint that is being made.

    Parameters
    ----------
    as_of, commit
        Number and uuid of the commit whose state it is.
    spans
        Its parts, by their ids.
    """

    def __init__(self, as_of: int, commit: uuid.UUID, spans: Sequence[Span]) -> None:
        self._said = {
            "as_of": as_of,
            "commit": commit.hex,
            "parts": [[span.commit, span.first, span.stop] for span in spans],
        }
        self._names: list[tuple[str, int, int]] = []
        self.bodies: list[Buffer] = []

    def add(self, kind: str, data: Buffer | pa.Buffer, number: int = 0, field: int = 0) -> None:
        """Add a piece; the number is that of a subset or a dictionary, which has a field."""
        self._names.append((kind, number, field))
        self.bodies.append(memoryview(data).cast("B"))

    def add_rows(self, kind: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add the rows of `commits`, `chunks` or `snapshots`."""
        self.add(kind, stream(pa.RecordBatch.from_pylist(list(rows), schema=pieces.TABLES[kind])))

    def table(self, start: int) -> tuple[pa.Buffer, list[DictionaryPlace], int]:
        """Return the table if the bodies begin at an offset, its dictionaries, and their end.

        The dictionaries are said to lie in chunk 0; nobody knows which it will be.
        """
        rows, dictionaries = [], []
        for (kind, number, field), body in zip(self._names, self.bodies, strict=True):
            place = start, len(body), zlib.crc32(body)
            rows.append(dict(zip(pieces.PIECES.names, (kind, number, field, *place), strict=True)))
            if kind == "dictionary":
                dictionaries.append(DictionaryPlace(number, field, 0, *place))
            start += len(body)
        described = pieces.PIECES.with_metadata({SETTINGS: json.dumps(self._said)})
        return stream(pa.RecordBatch.from_pylist(rows, schema=described)), dictionaries, start


class Checkpoint:
    """A checkpoint that is there; its pieces are read when they are asked for.

    Parameters
    ----------
    reader
        Reads the log.
    name, trailer
        The chunk and the trailer of the commit that completes it.

    Attributes
    ----------
    as_of, commit
        Number and uuid of the commit whose state it is.
    spans
        Its parts, by their ids.

    Raises
    ------
    CorruptChunkError
        It is damaged, or no checkpoint.
    """

    def __init__(self, reader: ChunkReader, name: str, trailer: Trailer) -> None:
        self.name = name
        self.trailer = trailer
        self._reader = reader
        batch = reader.table(name, trailer)
        try:
            said = json.loads((batch.schema.metadata or {})[SETTINGS])
            self.as_of = int(said["as_of"])
            self.commit = uuid.UUID(hex=said["commit"])
            self.spans = [Span(*map(int, span)) for span in said["parts"]]
        except _SENSELESS as error:
            raise self._misfit() from error
        if (
            trailer.kind != CommitKind.CHECKPOINT
            or batch.schema != pieces.PIECES
            or pieces.has_gaps(batch)
        ):
            raise self._misfit()
        if not 0 < self.as_of < trailer.number or trailer.records or not self._is_whole():
            raise self._misfit()
        self._pieces: list[dict[str, Any]] = batch.to_pylist()
        if not pieces.can_be_numbers(self._pieces, self.as_of):
            raise self._misfit()
        for piece in self._pieces:
            inside = trailer.bodies_start <= piece["offset"]
            if not inside or piece["offset"] + piece["length"] > trailer.bodies_end:
                raise self._misfit()

    @property
    def next_record(self) -> int:
        """Return the id that the next record would have got."""
        return self.spans[-1].stop if self.spans else 0

    def _is_whole(self) -> bool:
        """Return whether the parts are commits behind the state, and leave no id out."""
        stops = [0, *(span.stop for span in self.spans)]
        numbers = [self.as_of, *(span.commit for span in self.spans), self.trailer.number]
        return (
            [span.first for span in self.spans] == stops[:-1]
            and sorted(stops) == stops
            and all(span.stop - span.first <= limits.CHECKPOINT_IDS for span in self.spans)
            and sorted(set(numbers)) == numbers
        )

    def _misfit(self, why: str = "") -> CorruptChunkError:
        return misfit(self.trailer, self.name, f"is no checkpoint{why}")

    @property
    def dictionaries(self) -> list[DictionaryPlace]:
        """Return where it has dictionaries."""
        return [
            DictionaryPlace(
                piece["number"],
                piece["field"],
                self.trailer.chunk,
                piece["offset"],
                piece["length"],
                piece["crc"],
            )
            for piece in self._pieces
            if piece["kind"] == "dictionary"
        ]

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """Return the rows of `commits`, `chunks` or `snapshots`; uuids as what they are."""
        batch = self.batch(kind)
        if batch.schema != pieces.TABLES[kind] or pieces.has_gaps(batch):
            raise self._misfit()
        rows: list[dict[str, Any]] = batch.to_pylist()
        for row in rows:
            row["uuid"] = uuid.UUID(bytes=row["uuid"])
        if kind == "chunks" and not all(self._may_name(row) for row in rows):
            raise self._misfit()
        if not pieces.can_be(kind, rows, self.as_of, self.next_record):
            raise self._misfit(f": its {kind} make no sense")
        return rows

    def _may_name(self, row: Mapping[str, Any]) -> bool:
        """Return whether a chunk has the name of one, and the checkpoint does not retire itself."""
        retires_itself = row["retired"] and row["chunk"] == self.trailer.chunk
        return bool(files.CHUNK_NAME.fullmatch(row["name"])) and not retires_itself

    def batch(self, kind: str) -> pa.RecordBatch:
        """Return the table that the only piece of a kind is."""
        found = [batch for _, batch in self._batches(kind)]
        if len(found) != 1:
            raise self._misfit()
        return found[0]

    def subsets(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Return the tables of the subsets, each with the number of the commit that saved it."""
        return self._batches("subset")

    def _batches(self, kind: str) -> Iterator[tuple[int, pa.RecordBatch]]:
        for piece in self._pieces:
            if piece["kind"] == kind:
                data = self._content(piece)
                yield piece["number"], ipc.parse(data, self.name, piece["offset"])

    def _content(self, piece: Mapping[str, Any]) -> bytes:
        data = self._reader.read(self.name, piece["offset"], piece["length"])
        if zlib.crc32(data) != piece["crc"]:
            what = f"the {piece['kind']} of the checkpoint in commit {self.trailer.number} are"
            raise CorruptChunkError(f"{what} damaged", chunk=self.name, offset=int(piece["offset"]))
        return data

    def check(self) -> Iterator[CorruptChunkError]:
        """Return what is wrong with its pieces."""
        end = self.trailer.bodies_start
        for piece in self._pieces:
            try:
                self._content(piece)
            except CorruptChunkError as error:
                yield error
            end += piece["length"]
        if end != self.trailer.bodies_end:
            yield misfit(self.trailer, self.name, "has bytes that belong to no piece")


def newest(
    reader: ChunkReader, links: Iterable[Link], up_to: int | None = None
) -> Checkpoint | None:
    """Return the checkpoint that was completed last, or None if there is none.

    Parameters
    ----------
    links
        The commits of the log, in any order.
    up_to
        The number of the last commit that is looked at; all by default.
    """
    found = [
        link
        for link in links
        if link.trailer.kind == CommitKind.CHECKPOINT
        and (up_to is None or link.trailer.number <= up_to)
    ]
    if not found:
        return None
    last = max(found, key=lambda link: link.trailer.number)
    return Checkpoint(reader, last.chunk, last.trailer)
