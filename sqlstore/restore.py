"""Make an index of a checkpoint: the rows that all the commits up to its state have become."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from sqlstore import identity, replay
from sqlstore.errors import CorruptChunkError, MissingChunkError
from sqlstore.identity import Identity
from sqlstore.index import records
from sqlstore.index import subsets as index_subsets
from sqlstore.index.engine import Index
from sqlstore.index.records import ChunkRow, CommitRow
from sqlstore.index.subsets import SubsetRow
from sqlstore.log import checkpoint, subsets, table
from sqlstore.log.chain import Link
from sqlstore.log.checkpoint import Checkpoint, Part, Span
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import CommitKind
from sqlstore.schema import Schema
from sqlstore.types import Ids


def create_index(
    path: Path, reader: ChunkReader, last: Checkpoint, links: Collection[Link]
) -> tuple[Index, Identity]:
    """Make a new index that is as of a checkpoint's state, and nothing more.

    Parameters
    ----------
    last
        The checkpoint.
    links
        All commits that there are.

    Returns
    -------
    tuple
        The index, open for writing, and what the store was then.

    Raises
    ------
    CorruptChunkError
        The checkpoint is damaged, or a part of it or a chunk is gone.
    """
    from sqlstore.index import ddl  # SQLAlchemy is imported where tables are created

    is_of = identity.of_checkpoint(reader, last)
    parts_by_number = {
        link.trailer.number: link
        for link in links
        if link.trailer.kind == CommitKind.CHECKPOINT_PART
    }
    with replay.new_index(path, is_of) as index:
        ddl.drop_key(index, is_of.schema)  # until the last commit two records may have one
        rows = commits(last)
        for row in rows:
            records.insert_commit(index, row, row.first_record + row.records)
        for chunk in chunks(last, links):
            records.put_chunk(index, chunk)
        for place in last.dictionaries:
            replay.insert_dictionary(index, place)
        for subset, ids in saved(last, rows):
            index_subsets.insert(index, subset, ids.tolist())
        for span in last.spans:
            found = part(reader, last, span, parts_by_number)
            link = parts_by_number[span.commit]
            replay.check_columns(
                table.columns_of(found.batch, is_of.schema.columns.values()),
                is_of.schema,
                link.trailer,
                link.chunk,
            )
            _insert(index, is_of.schema, found, link)
    return index, is_of


def commits(last: Checkpoint) -> list[CommitRow]:
    """Return the commits that there were as of a checkpoint, in order; at least one."""
    rows = [CommitRow(**{**row, "uuid": str(row["uuid"])}) for row in last.rows("commits")]
    numbers = [row.number for row in rows]
    is_whole = len(rows) == last.as_of and numbers == list(range(1, last.as_of + 1))
    if not is_whole or rows[-1].uuid != str(last.commit):
        raise CorruptChunkError(
            f"the checkpoint in commit {last.trailer.number} does not know the commits before it",
            chunk=last.name,
            offset=last.trailer.table_start,
        )
    return rows


def chunks(last: Checkpoint, links: Iterable[Link]) -> list[ChunkRow]:
    """Return the chunks that there were as of a checkpoint, and which of them it retires.

    Parameters
    ----------
    links
        All commits that there are; a chunk file may have been copied under another name.

    Raises
    ------
    MissingChunkError
        One that has live values is gone.
    """
    names = {link.trailer.chunk: link.chunk for link in links}
    found = []
    for row in last.rows("chunks"):
        retired = int(row["retired"])
        if row["live"] and not retired and row["chunk"] not in names:
            raise MissingChunkError(
                "the chunk file is gone: put the file there, or `sqlstore repair`",
                chunk=row["name"],
            )
        name = names.get(row["chunk"], row["name"])
        uuid_and_size = str(row["uuid"]), row["size"]
        found.append(ChunkRow(row["chunk"], name, *uuid_and_size, sealed=retired, retired=retired))
    return found


def saved(last: Checkpoint, rows: list[CommitRow]) -> Iterable[tuple[SubsetRow, Ids]]:
    """Return the subsets that there were as of a checkpoint, and their members.

    Parameters
    ----------
    rows
        The commits that there were.
    """
    names = set[str]()
    for number, batch in last.subsets():
        described, ids = subsets.parse(batch, last.trailer, last.name)
        if described.name in names:
            raise table.misfit(last.trailer, last.name, f"has two subsets {described.name!r}")
        names.add(described.name)
        saved_at = rows[number - 1].committed_at if 0 < number <= len(rows) else 0
        yield replay.subset_row(number, saved_at, described, ids), ids


def part(reader: ChunkReader, last: Checkpoint, span: Span, links: Mapping[int, Link]) -> Part:
    """Return some of the live records as of a checkpoint.

    Raises
    ------
    CorruptChunkError
        They are damaged, or the commit that they should be in is gone.
    """
    link = links.get(span.commit)
    if link is None:
        raise CorruptChunkError(
            f"records {span.first} to {span.stop - 1} of the checkpoint in commit "
            f"{last.trailer.number} should be in commit {span.commit}, which is gone",
            chunk=last.name,
        )
    return checkpoint.read_part(reader, link.chunk, link.trailer, span)


def _insert(index: Index, schema: Schema, part: Part, link: Link) -> None:
    columns = replay.sql_columns(part.batch, schema)
    try:
        records.insert_records(index, schema, part.ids.tolist(), columns)
    except sqlite3.IntegrityError as error:
        what = f"has records that cannot be ({error})"
        raise table.misfit(link.trailer, link.chunk, what) from error
    for field in schema.fields.values():
        values, chunk = part.values(field.number)
        records.insert_blobs(index, replay.blob_rows(part.ids, chunk, field.number, values))
