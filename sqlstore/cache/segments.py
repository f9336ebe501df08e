"""The segment tables of the appends, in memory: where values lie, and the metadata, by record id.

Every table is read when first needed and checked against its trailer, so what is read comes from
the log and not from the index, which only says where the trailers lie.
"""

from __future__ import annotations

import bisect
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sqlstore.errors import CorruptChunkError, CorruptIndexError, RecordNotFoundError
from sqlstore.log import table
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import span
from sqlstore.log.table import Values
from sqlstore.schema import Column
from sqlstore.types import Ids


@dataclass(frozen=True, slots=True)
class Place:
    """Where an append lies, as the index says.

    Attributes
    ----------
    chunk, chunk_uuid
        File name and uuid of its chunk.
    trailer
        Offset of its trailer.
    commit
        Its uuid.
    first_record, records
        Its record ids.
    """

    chunk: str
    chunk_uuid: uuid.UUID
    trailer: int
    commit: uuid.UUID
    first_record: int
    records: int


@dataclass(slots=True)
class Segment:
    """An append whose table has been read and checked."""

    place: Place
    batch: pa.RecordBatch
    _values: dict[int, Values] = field(default_factory=dict)

    def values(self, number: int) -> Values:
        """Return where the values of a field lie."""
        if number not in self._values:
            self._values[number] = table.parse_values(self.batch, number)
        return self._values[number]

    def column(self, column: Column) -> pa.Array:
        """Return a metadata column."""
        return table.parse_column(self.batch, column)


class Segments:
    """All appends up to a commit.

    Parameters
    ----------
    reader
        Reads the chunks.
    """

    def __init__(self, reader: ChunkReader) -> None:
        self._reader = reader
        self._places: list[Place] = []
        self._firsts: list[int] = []
        self._loaded: dict[int, Segment] = {}

    def extend(self, places: Iterable[Place]) -> None:
        """Add later appends, in order."""
        for place in places:
            self._places.append(place)
            self._firsts.append(place.first_record)

    def find(self, record: int) -> tuple[Segment, int]:
        """Return the append that a record belongs to, and its row there.

        Raises
        ------
        RecordNotFoundError
            No append has it.
        """
        position = bisect.bisect_right(self._firsts, record) - 1
        if position >= 0:
            row = record - self._firsts[position]
            if row < self._places[position].records:
                return self._segment(position), row
        raise RecordNotFoundError("there is no such record", record=record)

    def _segment(self, position: int) -> Segment:
        segment = self._loaded.get(position)
        if segment is None:
            segment = self._loaded[position] = self._load(self._places[position])
        return segment

    def _load(self, place: Place) -> Segment:
        trailer = self._reader.trailer(place.chunk, place.trailer, place.chunk_uuid)
        if trailer is None:
            raise CorruptChunkError(
                f"the trailer of {span(place.first_record, place.records)} is damaged",
                chunk=place.chunk,
                offset=place.trailer,
            )
        found = trailer.commit, trailer.first_record, trailer.records
        if found != (place.commit, place.first_record, place.records):
            raise CorruptIndexError(
                "the index has another commit here than the log; run `sqlstore rebuild`",
                chunk=place.chunk,
                offset=place.trailer,
            )
        return Segment(place, self._reader.table(place.chunk, trailer))

    def columns(self, ids: range | Ids, columns: Sequence[Column]) -> list[pa.ChunkedArray]:
        """Return metadata columns of records, in the order of the ids.

        Parameters
        ----------
        ids
            Record ids; any order, repeats allowed.
        """
        if isinstance(ids, range) and ids.step == 1:
            pieces = self._slices(ids)
            return [
                pa.chunked_array([s.column(c).slice(a, n) for s, a, n in pieces], c.kind.arrow)
                for c in columns
            ]
        segments, rows = self._rows(np.asarray(ids, np.int64))
        positions = pa.array(rows)
        return [
            pa.chunked_array([s.column(c) for s in segments], c.kind.arrow).take(positions)
            for c in columns
        ]

    def _slices(self, ids: range) -> list[tuple[Segment, int, int]]:
        """Return the appends that consecutive ids lie in, with first row and count in each."""
        pieces = []
        start = ids.start
        while start < ids.stop:
            segment, row = self.find(start)
            count = min(segment.place.records - row, ids.stop - start)
            pieces.append((segment, row, count))
            start += count
        return pieces

    def _rows(self, ids: Ids) -> tuple[list[Segment], NDArray[np.int64]]:
        """Return the appends that ids lie in, and each id's row in all of them joined."""
        firsts = np.array(self._firsts, np.int64)
        position = np.searchsorted(firsts, ids, side="right") - 1
        used, inverse = np.unique(position, return_inverse=True)
        if len(used) and used[0] < 0:
            raise RecordNotFoundError("there is no such record", record=int(ids.min()))
        counts = np.array([self._places[i].records for i in used.tolist()], np.int64)
        in_segment = ids - firsts[position]
        if np.any(outside := in_segment >= counts[inverse]):
            raise RecordNotFoundError("there is no such record", record=int(ids[outside][0]))
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)[:-1]])
        return [self._segment(i) for i in used.tolist()], before[inverse] + in_segment
