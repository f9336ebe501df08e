"""Append commits behind the last one without an index, as a repair does. No one else may commit."""

from __future__ import annotations

import time
import uuid
import zlib
from pathlib import Path

from sqlstore.cache.segments import Place
from sqlstore.identity import Identity
from sqlstore.index.records import ChunkRow, CommitRow
from sqlstore.log.segment import HEADER_SIZE, Trailer, align
from sqlstore.log.writer import ChunkWriter
from sqlstore.staged import Staged


class Appender:
    """Appends commits to chunks of its own. The writer lock must be held.

    Parameters
    ----------
    root
        The folder of the store.
    is_of
        What the store is.
    last
        The row of the last commit that is known.
    chunk
        The integer that the first new chunk gets.

    Attributes
    ----------
    trailers, places
        What was committed, and where it lies.
    """

    def __init__(self, root: Path, is_of: Identity, last: CommitRow, chunk: int) -> None:
        self.trailers: list[Trailer] = []
        self.places: list[Place] = []
        self._root = root
        self._is_of = is_of
        self._number, self._previous = last.number, uuid.UUID(last.uuid)
        self._next_record = last.first_record + last.records
        self._next_chunk = chunk
        self._chunks: list[ChunkWriter] = []

    def commit(self, staged: Staged) -> Trailer:
        """Make what is staged durable, and return its trailer.

        Raises
        ------
        StoreFullError, StorageError
            The disk is full or fails.
        """
        chunk = self._chunk_for(staged)
        chunk.write(staged.bodies(), staged.bodies_end, staged.table)
        table_start = align(staged.bodies_end)
        self._number += 1
        trailer = Trailer(
            kind=staged.kind,
            skippable=staged.skippable,
            schema_version=self._is_of.schema.version,
            number=self._number,
            commit=uuid.uuid4(),
            previous=self._previous,
            first_record=self._next_record,
            records=0,
            committed_at=time.time_ns() // 1000,
            chunk=self._next_chunk - 1,
            bodies_start=chunk.size,
            bodies_end=staged.bodies_end,
            table_start=table_start,
            table_end=table_start + staged.table.size,
            table_crc=zlib.crc32(staged.table),
        )
        chunk.write_trailer(trailer)
        chunk.committed(trailer)
        self._previous = trailer.commit
        self.trailers.append(trailer)
        self.places.append(_place(trailer, chunk))
        return trailer

    def _chunk_for(self, staged: Staged) -> ChunkWriter:
        """Return a chunk that has room for what is staged, which is laid out in it."""
        if self._chunks:
            staged.lay_out(self._chunks[-1].size)
            if staged.end <= self._is_of.chunk_size:
                return self._chunks[-1]
        chunk = ChunkWriter.create(self._root, self._is_of.store, self._next_chunk)
        self._chunks.append(chunk)
        self._next_chunk += 1
        staged.lay_out(HEADER_SIZE)
        return chunk

    def chunk_rows(self) -> list[ChunkRow]:
        """Return the chunks that were begun."""
        first = self._next_chunk - len(self._chunks)
        return [
            ChunkRow(first + number, chunk.name, str(chunk.chunk), chunk.size, sealed=0)
            for number, chunk in enumerate(self._chunks)
        ]

    def take_back(self) -> None:
        """Remove all that was committed; nobody has seen it."""
        for chunk in self._chunks:
            chunk.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the chunks."""
        for chunk in self._chunks:
            chunk.close()


def _place(trailer: Trailer, chunk: ChunkWriter) -> Place:
    return Place(
        trailer.number,
        trailer.kind,
        trailer.first_record,
        trailer.records,
        trailer.chunk,
        chunk.name,
        trailer.table_end,
        chunk.chunk,
        trailer.commit,
    )
