"""Read a commit from the log, where the index says that it lies, checked against its trailer."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import pyarrow as pa

from sqlstore.errors import CorruptChunkError, CorruptIndexError
from sqlstore.log import dictionary, edits
from sqlstore.log.checkpoint import Checkpoint, Part, Span, read_part
from sqlstore.log.dictionary import DictionaryPlace
from sqlstore.log.edits import EDITS, Edit
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import CommitKind, Trailer, check_readable, span


@dataclass(frozen=True, slots=True)
class Place:
    """Where a commit lies, as the index says.

    Attributes
    ----------
    number, kind
        Position in the chain, and what it does.
    first_record, records
        Its record ids.
    chunk, name
        Its chunk: the integer, and the file name.
    trailer
        Offset of its trailer.
    chunk_uuid, commit
        The uuids of the chunk and of the commit.
    """

    number: int
    kind: int
    first_record: int
    records: int
    chunk: int
    name: str
    trailer: int
    chunk_uuid: uuid.UUID
    commit: uuid.UUID


def trailer_of(reader: ChunkReader, place: Place) -> Trailer:
    """Return the trailer of a commit.

    Raises
    ------
    CorruptChunkError
        There is none.
    CorruptIndexError
        The log has another commit there.
    """
    trailer = reader.trailer(place.name, place.trailer, place.chunk_uuid)
    if trailer is None:
        raise _damaged_trailer(place)
    found = trailer.number, trailer.kind, trailer.commit, trailer.first_record, trailer.records
    said = place.number, place.kind, place.commit, place.first_record, place.records
    if found != said or trailer.chunk != place.chunk:
        raise CorruptIndexError(
            "the index has another commit here than the log; run `sqlstore rebuild`",
            chunk=place.name,
            offset=place.trailer,
        )
    return trailer


def _damaged_trailer(place: Place) -> CorruptChunkError:
    return CorruptChunkError(
        f"the trailer of {span(place.first_record, place.records)} is damaged",
        chunk=place.name,
        offset=place.trailer,
    )


def edit_of(reader: ChunkReader, place: Place) -> Edit | None:
    """Return what an edit does; None if the commit is none.

    Raises
    ------
    CorruptChunkError, CorruptIndexError
        As `table_of`.
    """
    if place.kind not in EDITS:
        return None
    trailer = trailer_of(reader, place)
    return edits.parse(reader.table(place.name, trailer), trailer, place.name)


def dictionaries_of(reader: ChunkReader, place: Place) -> list[DictionaryPlace]:
    """Return the dictionaries that a commit adds or moves.

    Raises
    ------
    CorruptChunkError, CorruptIndexError
        As `table_of`.
    """
    if place.kind == CommitKind.CHECKPOINT:
        return checkpoint_of(reader, place).dictionaries
    if place.kind != CommitKind.DICTIONARY:
        return []
    trailer = trailer_of(reader, place)
    return [dictionary.parse(reader.table(place.name, trailer), trailer, place.name)]


def checkpoint_of(reader: ChunkReader, place: Place) -> Checkpoint:
    """Return the checkpoint that a commit completes.

    Raises
    ------
    CorruptChunkError, CorruptIndexError
        As `table_of`.
    """
    return Checkpoint(reader, place.name, trailer_of(reader, place))


def part_of(reader: ChunkReader, place: Place, span: Span) -> Part:
    """Return the records of a checkpoint that a commit holds.

    Raises
    ------
    CorruptChunkError, CorruptIndexError
        As `table_of`.
    """
    return read_part(reader, place.name, trailer_of(reader, place), span)


def check_lost(reader: ChunkReader, place: Place) -> None:
    """Raise what is wrong with the table of a commit, if it is still damaged.

    Raises
    ------
    CorruptChunkError, CorruptIndexError
        As `table_of`.
    """
    if place.kind != CommitKind.CHECKPOINT_PART:
        table_of(reader, place), edit_of(reader, place)
        return
    trailer = reader.trailer(place.name, place.trailer, place.chunk_uuid)
    if trailer is None:
        raise _damaged_trailer(place)
    read_part(reader, place.name, trailer)


def table_of(reader: ChunkReader, place: Place) -> pa.RecordBatch | None:
    """Return the segment table of an append, a row per record; None if the commit is none.

    Raises
    ------
    CorruptChunkError
        Trailer or table are damaged.
    CorruptIndexError
        The log has another commit there.
    StoreTooNewError
        The commit is of a kind that this version does not know.
    """
    trailer = trailer_of(reader, place)
    if not check_readable(trailer, place.name) or trailer.kind != CommitKind.APPEND:
        return None
    return reader.table(place.name, trailer)
