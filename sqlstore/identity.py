"""What a store is: its uuid, schema and settings, as the log says.

The index has them too, for people and for SQL. But the index may be damaged, and what is written
under a wrong schema would carry that damage into the log; so the commit is asked that made the
store, or that last changed its schema.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlstore.errors import CorruptChunkError, CorruptIndexError
from sqlstore.index import records
from sqlstore.index.engine import Index
from sqlstore.log import table
from sqlstore.log.chain import Link
from sqlstore.log.checkpoint import Checkpoint
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import NO_COMMIT, SCHEMA_KINDS, CommitKind, Trailer
from sqlstore.schema import Schema


@dataclass(frozen=True, slots=True)
class Identity:
    """What the log says of a store.

    Attributes
    ----------
    store
        The uuid of the store.
    schema
        Its fields and metadata columns.
    chunk_size
        Bytes after which the next chunk begins.
    library_version
        The sqlstore that created it.
    created_at
        Microseconds since 1970, UTC.
    """

    store: uuid.UUID
    schema: Schema
    chunk_size: int
    library_version: str
    created_at: int

    def settings(self, schema: Schema) -> dict[str, Any]:
        """Return what a commit that changes the schema says of the store beside it."""
        return {
            "chunk_size": self.chunk_size,
            "library_version": self.library_version,
            "created_at": self.created_at,
            "next_column": schema.next_column,
        }


def of_link(reader: ChunkReader, link: Link) -> Identity:
    """Return what a commit says that creates a store or changes its schema.

    Raises
    ------
    CorruptChunkError
        It is damaged, or does neither.
    """
    header = reader.header(link.chunk)
    return _identity(reader, link.chunk, link.trailer, header.store)


def of_index(index: Index, reader: ChunkReader) -> Identity:
    """Return what the commit says that the schema is from, which the index says the place of.

    If that is before the last checkpoint, this says it as well, and the other may be gone.
    """
    said = records.store(index)
    version = said.schema_version
    if version < said.checkpoint:
        return of_checkpoint(reader, _checkpoint(index, reader, said.checkpoint))
    row = _commit(index, version or 1)
    name, trailer = trailer_of(index, reader, row)
    is_first = trailer.previous == NO_COMMIT
    if is_first != (version == 0) or trailer.schema_version != version:
        raise _not_this_commit(index, row)
    return _identity(reader, name, trailer, reader.header(name).store)


def of_checkpoint(reader: ChunkReader, found: Checkpoint) -> Identity:
    """Return what a checkpoint says."""
    schema, settings = table.parse_schema(found.batch("schema"), found.trailer, found.name)
    return _described(reader.header(found.name).store, schema, settings, found.trailer)


def checkpoint_of_index(index: Index, reader: ChunkReader) -> Checkpoint | None:
    """Return the last checkpoint, which the index says the place of; None if there is none."""
    number = records.store(index).checkpoint
    return _checkpoint(index, reader, number) if number else None


def _checkpoint(index: Index, reader: ChunkReader, number: int) -> Checkpoint:
    name, trailer = trailer_of(index, reader, _commit(index, number))
    return Checkpoint(reader, name, trailer)


def _commit(index: Index, number: int) -> records.CommitRow:
    row = records.commit(index, number)
    if row is None:
        raise CorruptIndexError(
            f"{index.path} lacks commit {number}; run `sqlstore rebuild {index.root}`"
        )
    return row


def as_index_says(index: Index) -> Identity:
    """Return what the index says, to read what can be read if that commit is damaged."""
    row = records.store(index)
    return Identity(
        records.parsed_uuid(row.uuid, index.path),
        records.schema(index),
        row.chunk_size,
        row.library_version,
        row.created_at,
    )


def trailer_of(index: Index, reader: ChunkReader, row: records.CommitRow) -> tuple[str, Trailer]:
    """Return the chunk and the trailer of a commit that the index names.

    Raises
    ------
    CorruptIndexError
        The log has another commit there.
    CorruptChunkError
        The log has none there.
    """
    chunk = records.chunk(index, row.chunk)
    if chunk is None:
        raise _not_this_commit(index, row)
    chunk_uuid = records.parsed_uuid(chunk.uuid, index.path)
    trailer = reader.trailer(chunk.name, row.offset, chunk_uuid)
    if trailer is None or reader.header(chunk.name).chunk != chunk_uuid:
        raise CorruptChunkError(
            f"the trailer of commit {row.number} is damaged or gone",
            chunk=chunk.name,
            offset=row.offset,
        )
    if (trailer.number, str(trailer.commit)) != (row.number, row.uuid):
        raise _not_this_commit(index, row)
    return chunk.name, trailer


def _identity(reader: ChunkReader, name: str, trailer: Trailer, store: uuid.UUID) -> Identity:
    if trailer.kind not in {CommitKind.CREATE, *SCHEMA_KINDS}:
        raise table.not_a_schema(trailer, name)
    schema, settings = table.parse_schema(reader.table(name, trailer), trailer, name)
    return _described(store, schema, settings, trailer)


def _described(
    store: uuid.UUID, schema: Schema, settings: Mapping[str, Any], trailer: Trailer
) -> Identity:
    return Identity(
        store,
        schema,
        int(settings["chunk_size"]),
        str(settings["library_version"]),
        int(settings.get("created_at", trailer.committed_at)),
    )


def _not_this_commit(index: Index, row: records.CommitRow) -> CorruptIndexError:
    return CorruptIndexError(
        f"{index.path} places commit {row.number} where the log has another; "
        f"run `sqlstore rebuild {index.root}`"
    )
