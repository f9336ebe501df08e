"""What the index holds, as rows in and rows out: the statements of every commit."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sqlstore.errors import CorruptIndexError
from sqlstore.index.engine import Index, Rows
from sqlstore.index.row import Row
from sqlstore.schema import Column, Field, Schema, check_stored
from sqlstore.types import SqlValue


@dataclass(frozen=True, slots=True)
class StoreRow(Row):
    """The one row of the table ``store``.

    Attributes
    ----------
    uuid
        Of the store; every chunk names it.
    format_version, min_reader
        Version of the format, and the lowest that a reader must know.
    generation
        Changes whenever rows change that were there before; caches compare it.
    next_record_id
        Ids are never reused.
    schema_version
        Number of the commit that last changed the schema, 0 if none did.
    chunk_size
        Bytes after which the next chunk begins.
    created_at
        Microseconds since 1970, UTC.
    library_version
        The sqlstore that created the store.
    checkpoint
        Number of the last commit that completed a checkpoint, 0 if none did.
    """

    uuid: str
    format_version: int
    min_reader: int
    generation: int
    next_record_id: int
    schema_version: int
    chunk_size: int
    created_at: int
    library_version: str
    checkpoint: int


@dataclass(frozen=True, slots=True)
class ChunkRow(Row):
    """A row of the table ``chunks``: ``size`` is what has been committed to it.

    Nothing is appended any more to one that is sealed. One that is retired is gone: it is known
    because its number is never taken again.
    """

    chunk: int
    name: str
    uuid: str
    size: int
    sealed: int
    retired: int = 0


@dataclass(frozen=True, slots=True)
class CommitRow(Row):
    """A row of the table ``commits``: ``offset`` is where its trailer lies in its chunk."""

    number: int
    uuid: str
    kind: int
    chunk: int
    offset: int
    committed_at: int
    first_record: int
    records: int


@dataclass(frozen=True, slots=True)
class BlobRows:
    """Rows of the table ``blobs`` for one field; every array has shape ``(n,)``.

    The chunk is one for all of them, or an array.
    """

    field: int
    record: NDArray[np.int64]
    chunk: int | NDArray[np.uint32]
    offset: NDArray[np.uint32]
    length: NDArray[np.uint32]
    raw_length: NDArray[np.uint32]
    compression: NDArray[np.uint8]
    items: NDArray[np.uint32]
    checksum: NDArray[np.uint32]


_STORE_COLUMNS = ", ".join(field.name for field in dataclasses.fields(StoreRow))
_CHUNK_COLUMNS = ", ".join(field.name for field in dataclasses.fields(ChunkRow))
_COMMIT_COLUMNS = ", ".join(field.name for field in dataclasses.fields(CommitRow))
BLOB_NAMES = [field.name for field in dataclasses.fields(BlobRows)]
_BLOB_COLUMNS = ", ".join(BLOB_NAMES)


def quoted(name: str) -> str:
    """Return a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def store(index: Index) -> StoreRow:
    """Return the row that describes the store."""
    row = index.row(f"SELECT {_STORE_COLUMNS} FROM store")
    if row is None:
        raise CorruptIndexError(f"{index.path} does not say which store it belongs to")
    return StoreRow(*row)


def insert_store(index: Index, row: StoreRow) -> None:
    """Insert the row that describes the store."""
    values = dataclasses.astuple(row)
    index.run(f"INSERT INTO store (only, {_STORE_COLUMNS}) VALUES (1, {_marks(values)})", values)


def insert_schema(index: Index, schema: Schema) -> None:
    """Insert the fields and metadata columns of a schema."""
    for position, f in enumerate(schema.fields.values()):
        index.run(
            "INSERT INTO fields (number, name, encoding, compression, position) "
            "VALUES (?, ?, ?, ?, ?)",
            (f.number, f.name, f.encoding, f.compression, position),
        )
    put_columns(index, schema)


def put_columns(index: Index, schema: Schema) -> None:
    """Put the metadata columns of a schema in the place of those that are there."""
    index.run("DELETE FROM columns")
    for position, c in enumerate(schema.columns.values()):
        flags = int(c.nullable), int(c.index), int(c.name == schema.key)
        index.run(
            "INSERT INTO columns (number, name, type, nullable, indexed, is_key, position) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (c.number, c.name, str(c.type), *flags, position),
        )
    index.run("UPDATE store SET schema_version = ?", (schema.version,))


def schema(index: Index) -> Schema:
    """Return the schema of the store."""
    version = store(index).schema_version
    field_rows = index.rows(
        "SELECT name, encoding, compression, number FROM fields ORDER BY position"
    )
    column_rows = index.rows(
        "SELECT name, type, indexed, nullable, number, is_key FROM columns ORDER BY position"
    )
    try:
        fields = {
            name: Field(encoding, compression, name=name, number=number)
            for name, encoding, compression, number in field_rows
        }
        columns = {
            name: Column(kind, bool(indexed), bool(nullable), name=name, number=number)
            for name, kind, indexed, nullable, number, _ in column_rows
        }
        for column in columns.values():
            _ = column.kind
        key = next((row[0] for row in column_rows if row[-1]), None)
        check_stored(list(fields.values()), list(columns.values()), key)
    except (TypeError, ValueError) as error:
        raise CorruptIndexError(
            f"{index.path} holds a schema that makes no sense: {error}"
        ) from error
    # At least: the index does not say which columns there were that were dropped since.
    next_column = max((column.number + 1 for column in columns.values()), default=0)
    return Schema(fields, columns, key, version, next_column)


def chunks(index: Index) -> list[ChunkRow]:
    """Return every chunk, in the order in which they were begun."""
    return [
        ChunkRow(*row) for row in index.rows(f"SELECT {_CHUNK_COLUMNS} FROM chunks ORDER BY chunk")
    ]


def chunk_sizes(index: Index) -> dict[str, int | None]:
    """Return what has been committed to every chunk, by name; None if it is sealed or retired."""
    rows = index.rows("SELECT name, CASE sealed WHEN 0 THEN size END FROM chunks")
    return dict(rows)


def chunk_named(index: Index, name: str) -> ChunkRow | None:
    """Return the chunk of this file name, or None if nothing has been committed to it."""
    row = index.row(f"SELECT {_CHUNK_COLUMNS} FROM chunks WHERE name = ?", (name,))
    return ChunkRow(*row) if row else None


def put_chunk(index: Index, row: ChunkRow) -> None:
    """Insert a chunk, or take over its new size and whether it is sealed."""
    index.run(
        f"INSERT INTO chunks ({_CHUNK_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (chunk) DO UPDATE SET size = excluded.size, sealed = excluded.sealed",
        dataclasses.astuple(row),
    )


def seal_chunk(index: Index, name: str) -> None:
    """Say that nothing will be appended to a chunk any more."""
    index.run("UPDATE chunks SET sealed = 1 WHERE name = ?", (name,))


def retire_chunks(index: Index, numbers: Sequence[int]) -> None:
    """Say that nothing in some chunks is needed any more."""
    sql = "UPDATE chunks SET sealed = 1, retired = 1 WHERE chunk = ?"
    index.run_many(sql, ((number,) for number in numbers))


def chunk(index: Index, number: int) -> ChunkRow | None:
    """Return the chunk that an integer stands for, or None."""
    row = index.row(f"SELECT {_CHUNK_COLUMNS} FROM chunks WHERE chunk = ?", (number,))
    return ChunkRow(*row) if row else None


def next_chunk(index: Index) -> int:
    """Return the integer that the next new chunk gets."""
    row = index.row("SELECT coalesce(max(chunk) + 1, 0) FROM chunks")
    return int(row[0]) if row else 0


def commits(index: Index, after: int = 0) -> list[CommitRow]:
    """Return the commits behind a number, in order."""
    sql = f"SELECT {_COMMIT_COLUMNS} FROM commits WHERE number > ? ORDER BY number"
    return [CommitRow(*row) for row in index.rows(sql, (after,))]


def commits_of_kinds(index: Index, kinds: Sequence[int], after: int = 0) -> list[CommitRow]:
    """Return the commits of some kinds behind a number, in order."""
    sql = (
        f"SELECT {_COMMIT_COLUMNS} FROM commits WHERE number > ? AND kind IN ({_marks(kinds)}) "
        "ORDER BY number"
    )
    return [CommitRow(*row) for row in index.rows(sql, (after, *kinds))]


def last_commit(index: Index) -> CommitRow:
    """Return the newest commit."""
    row = index.row(f"SELECT {_COMMIT_COLUMNS} FROM commits ORDER BY number DESC LIMIT 1")
    if row is None:
        raise CorruptIndexError(f"{index.path} holds no commit")
    return CommitRow(*row)


def commit(index: Index, number: int) -> CommitRow | None:
    """Return the commit of this number, or None."""
    row = index.row(f"SELECT {_COMMIT_COLUMNS} FROM commits WHERE number = ?", (number,))
    return CommitRow(*row) if row else None


def is_other_since(index: Index, number: int, kinds: Collection[int]) -> bool:
    """Return whether there is a commit behind a number that is of none of some kinds."""
    sql = f"SELECT 1 FROM commits WHERE number > ? AND kind NOT IN ({_marks(kinds)}) LIMIT 1"
    return index.row(sql, (number, *kinds)) is not None


def chunks_since(index: Index, number: int) -> set[int]:
    """Return the chunks that commits behind a number lie in."""
    rows = index.rows("SELECT DISTINCT chunk FROM commits WHERE number > ?", (number,))
    return {int(chunk) for (chunk,) in rows}


def set_checkpoint(index: Index, number: int) -> None:
    """Say which commit completed the last checkpoint."""
    index.run("UPDATE store SET checkpoint = ?", (number,))


def insert_commit(index: Index, row: CommitRow, next_record_id: int) -> None:
    """Insert a commit and move on the id that the next record gets."""
    index.run(
        f"INSERT INTO commits ({_COMMIT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        dataclasses.astuple(row),
    )
    index.run("UPDATE store SET next_record_id = ?", (next_record_id,))


def insert_records(
    index: Index, schema: Schema, ids: Sequence[int], columns: Sequence[Sequence[SqlValue]]
) -> None:
    """Insert the metadata of records.

    Parameters
    ----------
    columns
        A sequence of as many values for every metadata column, in the order of the schema.

    Raises
    ------
    sqlite3.IntegrityError
        A constraint does not allow it.
    """
    names = ["id", *map(quoted, schema.columns)]
    index.insert("main.records", names, [ids, *columns])


def count(index: Index) -> int:
    """Return how many records there are."""
    row = index.row("SELECT count(*) FROM main.records")
    return int(row[0]) if row else 0


def is_there(index: Index, record: int) -> bool:
    """Return whether there is a record of this id."""
    return index.row("SELECT 1 FROM main.records WHERE id = ?", (record,)) is not None


def blob_columns(rows: BlobRows) -> list[list[int]]:
    """Return rows of `blobs` column by column, in the order of `BLOB_NAMES`."""
    count = len(rows.record)
    return [
        [value] * count if isinstance(value, int) else value.tolist()
        for value in (getattr(rows, name) for name in BLOB_NAMES)
    ]


def insert_blobs(index: Index, rows: BlobRows) -> None:
    """Insert where the values of one field lie."""
    index.insert("blobs", BLOB_NAMES, blob_columns(rows))


def id_of_key(index: Index, key: str, value: SqlValue) -> int | None:
    """Return the id of the record whose unique key has this value, or None."""
    row = index.row(f"SELECT id FROM main.records WHERE {quoted(key)} = ?", (value,))
    return int(row[0]) if row else None


def record_rows(index: Index, schema: Schema, first: int, count: int) -> Rows:
    """Return the rows of consecutive record ids: id and metadata as SQLite stores them."""
    names = ", ".join(["id", *map(quoted, schema.columns)])
    sql = f"SELECT {names} FROM main.records WHERE id >= ? AND id < ? ORDER BY id"
    return index.rows(sql, (first, first + count))


def blob_rows(index: Index, field: int, first: int, count: int) -> Rows:
    """Return the rows of one field for consecutive record ids."""
    sql = (
        f"SELECT {_BLOB_COLUMNS} FROM blobs "
        "WHERE field = ? AND record >= ? AND record < ? ORDER BY record"
    )
    return index.rows(sql, (field, first, first + count))


def parsed_uuid(text: str, path: object) -> uuid.UUID:
    """Return the uuid that a column of the index holds."""
    try:
        return uuid.UUID(text)
    except (ValueError, AttributeError, TypeError) as error:
        raise CorruptIndexError(f"{path} holds {text!r:.100} where a uuid should be") from error


def _marks(values: Collection[object]) -> str:
    return ", ".join("?" * len(values))
