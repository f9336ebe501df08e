"""Put a commit into the index: the one place that says which rows a commit becomes.

Used when committing, when rolling a commit forward that a crash kept from the index, and when the
index is rebuilt; so all three give the same rows.
"""

from __future__ import annotations

import secrets
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sqlstore import checksum
from sqlstore.errors import (
    CorruptChunkError,
    CorruptIndexError,
    RecordNotFoundError,
    SubsetNotFoundError,
)
from sqlstore.identity import Identity
from sqlstore.index import alter, changes, dictionaries, records
from sqlstore.index import subsets as index_subsets
from sqlstore.index.dictionaries import DictionaryRow
from sqlstore.index.engine import Index
from sqlstore.index.subsets import SubsetRow
from sqlstore.limits import FORMAT_VERSION
from sqlstore.log import dictionary, edits, snapshots, subsets, table
from sqlstore.log.chain import Link
from sqlstore.log.checkpoint import Checkpoint
from sqlstore.log.dictionary import DictionaryPlace
from sqlstore.log.edits import Edit
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import CommitKind, Trailer, check_readable
from sqlstore.log.subsets import Described
from sqlstore.log.table import Values
from sqlstore.schema import Schema
from sqlstore.types import Ids, SqlValue


def create_index(path: Path, identity: Identity, link: Link, chunk: uuid.UUID) -> Index:
    """Make a new index that holds the first commit of a store and nothing else.

    Parameters
    ----------
    identity
        What the commit says.
    link
        The commit.
    chunk
        The uuid of the chunk that it lies in.

    Returns
    -------
    Index
        Open for writing.
    """
    with new_index(path, identity) as index:
        insert_commit(index, link.trailer, link.chunk, str(chunk), sealed=False)
    return index


@contextmanager
def new_index(path: Path, identity: Identity) -> Iterator[Index]:
    """Make a new index, open for writing, whose first rows the block inserts."""
    from sqlstore.index import ddl  # SQLAlchemy is imported where tables are created, not before

    index = Index(path, write=True, create=True)
    try:
        with index.transaction():
            row = store_row(identity, next_record=0, generation=secrets.randbits(62))
            ddl.create(index, identity.schema, row)
            yield index
            index.commit()
    except BaseException:
        index.close()
        raise


def store_row(
    identity: Identity, next_record: int, generation: int, checkpoint: int = 0
) -> records.StoreRow:
    """Return the row of `store` that a store has."""
    return records.StoreRow(
        uuid=str(identity.store),
        format_version=FORMAT_VERSION,
        min_reader=FORMAT_VERSION,
        generation=generation,
        next_record_id=next_record,
        schema_version=identity.schema.version,
        chunk_size=identity.chunk_size,
        created_at=identity.created_at,
        library_version=identity.library_version,
        checkpoint=checkpoint,
    )


def insert_append(
    index: Index,
    schema: Schema,
    trailer: Trailer,
    values: Mapping[int, Values],
    columns: Sequence[Sequence[SqlValue]],
) -> None:
    """Insert the rows of an append.

    Parameters
    ----------
    values
        Where the values lie, by field number.
    columns
        What SQLite stores, in the order of the schema's columns.

    Raises
    ------
    sqlite3.IntegrityError
        A constraint does not allow it.
    """
    ids = np.arange(trailer.first_record, trailer.first_record + trailer.records)
    records.insert_records(index, schema, ids.tolist(), columns)
    for number, field_values in values.items():
        records.insert_blobs(index, blob_rows(ids, trailer.chunk, number, field_values))


def blob_rows(
    ids: Ids, chunk: int | NDArray[np.uint32], field: int, values: Values
) -> records.BlobRows:
    """Return the rows of `blobs` for values of one field, which lie in one chunk or each in its."""
    here = values.present
    chunk = chunk if isinstance(chunk, int) else chunk[here]
    ids = ids[here]
    compression, raw_length, items = (
        values.compression[here],
        values.raw_length[here],
        values.items[here],
    )
    mixed = checksum.mix32(ids, field, compression, raw_length, items)
    return records.BlobRows(
        field,
        ids,
        chunk,
        values.offset[here],
        values.length[here],
        raw_length,
        compression,
        items,
        values.crc[here] ^ mixed,
    )


def insert_dictionary(index: Index, place: DictionaryPlace) -> None:
    """Insert where a dictionary lies.

    Raises
    ------
    sqlite3.IntegrityError
        There is one of that number.
    """
    dictionaries.insert(index, DictionaryRow(*dictionary.row_of(place)))


def edit_records(index: Index, schema: Schema, edit: Edit, chunk: int) -> int:
    """Change or delete rows of records as a commit says.

    Parameters
    ----------
    chunk
        The chunk that the commit lies in.

    Returns
    -------
    int
        How many of them were there. Those that are deleted need not be: `absorb` commits that
        another tool has removed them.

    Raises
    ------
    sqlite3.IntegrityError
        A constraint does not allow it.
    RecordNotFoundError
        A record that is not to be deleted is not there.
    """
    if edit.kind == CommitKind.DELETE:
        return changes.delete_records(index, schema, edit.ids)
    if edit.values:
        changes.refuse_deleted(index, edit.ids)
    for number, values in edit.values.items():
        changes.delete_blobs(index, number, edit.ids)
        records.insert_blobs(index, blob_rows(edit.ids, chunk, number, values))
    if not edit.columns:
        return len(edit.ids)
    columns = [c for c in schema.columns.values() if c.number in edit.columns]
    given = [c.kind.to_sql(edit.columns[c.number]) for c in columns]
    names = [c.name for c in columns]
    change = changes.rekey_records if schema.key in names else changes.update_records
    change(index, names, given, edit.ids)
    return len(edit.ids)


def change_subsets(index: Index, trailer: Trailer, described: Described, ids: Ids) -> None:
    """Save or drop a subset as a commit says.

    Raises
    ------
    sqlite3.IntegrityError
        There is one of its name already.
    SubsetNotFoundError
        There is none to drop.
    """
    if trailer.kind == CommitKind.SAVE_SUBSET:
        row = subset_row(trailer.number, trailer.committed_at, described, ids)
        index_subsets.insert(index, row, ids.tolist())
    elif not index_subsets.delete(index, described.name):
        raise SubsetNotFoundError(f"there is no subset {described.name!r}")


def subset_row(number: int, saved_at: int, described: Described, ids: Ids) -> SubsetRow:
    """Return the row of `subsets` that a subset becomes which a commit of a number saved then."""
    said = described.name, described.sql, described.parameters, described.note
    marks = described.fingerprint, described.content, saved_at
    return SubsetRow(number, *said, len(ids), *marks)


def complete_checkpoint(
    index: Index, trailer: Trailer, places: Iterable[DictionaryPlace], retired: Sequence[int]
) -> None:
    """Do what a checkpoint brings: dictionaries lie in it, and chunks are gone.

    Raises
    ------
    CorruptIndexError
        There is no such dictionary.
    """
    for place in places:
        if not dictionaries.move(index, DictionaryRow(*dictionary.row_of(place))):
            raise CorruptIndexError(
                f"{index.path} lacks dictionary {place.number}; run `sqlstore rebuild {index.root}`"
            )
    records.retire_chunks(index, retired)
    records.set_checkpoint(index, trailer.number)


def insert_commit(
    index: Index, trailer: Trailer, name: str, chunk_uuid: str, *, sealed: bool
) -> None:
    """Insert the commit itself, and what its chunk has become by it."""
    row = records.ChunkRow(trailer.chunk, name, chunk_uuid, trailer.end, int(sealed))
    records.put_chunk(index, row)
    records.insert_commit(index, commit_row(trailer), trailer.first_record + trailer.records)


def commit_row(trailer: Trailer) -> records.CommitRow:
    """Return the row of `commits` that a commit becomes."""
    return records.CommitRow(
        trailer.number,
        str(trailer.commit),
        trailer.kind,
        trailer.chunk,
        trailer.table_end,
        trailer.committed_at,
        trailer.first_record,
        trailer.records,
    )


def insert_from_log(
    index: Index,
    schema: Schema,
    reader: ChunkReader,
    name: str,
    trailer: Trailer,
    *,
    sealed: bool,
) -> Schema:
    """Insert a commit that so far is only in the log.

    Parameters
    ----------
    schema
        As it was before the commit.

    Returns
    -------
    Schema
        As it is after it.

    Raises
    ------
    CorruptChunkError
        Its segment table is damaged.
    CorruptIndexError
        The index has rows that the commit would bring.
    StoreTooNewError
        It is of a kind that this version does not know.
    """
    if trailer.kind == CommitKind.CREATE:
        raise CorruptChunkError(
            "only the first commit creates a store", chunk=name, offset=trailer.table_end
        )
    try:
        if check_readable(trailer, name):
            schema = _insert_rows(index, schema, reader, trailer, name)
        insert_commit(index, trailer, name, str(reader.header(name).chunk), sealed=sealed)
    except (sqlite3.IntegrityError, RecordNotFoundError, SubsetNotFoundError) as error:
        raise CorruptIndexError(
            f"commit {trailer.number} does not fit the rows that are there ({error}); "
            "run `sqlstore rebuild`",
            chunk=name,
            offset=trailer.table_end,
        ) from error
    return schema


def _insert_rows(
    index: Index, schema: Schema, reader: ChunkReader, trailer: Trailer, name: str
) -> Schema:
    """Do what the table of a commit says, and return the schema after it."""
    if trailer.kind == CommitKind.CHECKPOINT:
        found = Checkpoint(reader, name, trailer)
        retired = [row["chunk"] for row in found.rows("chunks") if row["retired"]]
        complete_checkpoint(index, trailer, found.dictionaries, retired)
        return schema
    batch = reader.table(name, trailer)
    match trailer.kind:
        case CommitKind.APPEND:
            check_columns(table.columns_of(batch, schema.columns.values()), schema, trailer, name)
            columns = sql_columns(batch, schema)
            insert_append(index, schema, trailer, all_values(batch, schema), columns)
        case CommitKind.UPDATE | CommitKind.REPLACE | CommitKind.DELETE | CommitKind.COMPACT:
            edit = edits.parse(batch, trailer, name)
            check_columns(edit.columns, schema, trailer, name)
            edit_records(index, schema, edit, trailer.chunk)
        case CommitKind.DICTIONARY:
            insert_dictionary(index, dictionary.parse(batch, trailer, name))
        case CommitKind.SAVE_SUBSET | CommitKind.DROP_SUBSET:
            change_subsets(index, trailer, *subsets.parse(batch, trailer, name))
        case CommitKind.SNAPSHOT | CommitKind.DROP_SNAPSHOT:
            snapshots.parse(batch, trailer, name)  # no rows, but it must be one
        case CommitKind.CHECKPOINT_PART:
            pass  # the index has these records
        case _:
            before, (schema, _) = schema, table.parse_schema(batch, trailer, name)
            alter.change(index, before, schema)
    return schema


def check_columns(
    arrays: Mapping[int, pa.Array], schema: Schema, trailer: Trailer, name: str
) -> None:
    """Raise if a commit has other metadata than the schema says; see `table.check_columns`."""
    place = trailer.number, name, trailer.table_start
    table.check_columns(arrays, schema.columns.values(), *place)


def all_values(batch: pa.RecordBatch, schema: Schema) -> dict[int, Values]:
    """Return where the values of every field lie, by field number."""
    return {f.number: table.parse_values(batch, f.number) for f in schema.fields.values()}


def sql_columns(batch: pa.RecordBatch, schema: Schema) -> list[list[SqlValue]]:
    """Return the metadata of a segment table as SQLite stores it, column by column."""
    return [c.kind.to_sql(table.parse_column(batch, c)) for c in schema.columns.values()]
