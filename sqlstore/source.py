"""Where views read from: the index for what matches, the log for what a record is."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sqlstore import identity, recover
from sqlstore.cache.segments import Place, Segments
from sqlstore.compression import decompress
from sqlstore.encodings import ENCODINGS
from sqlstore.errors import (
    ChecksumError,
    CorruptChunkError,
    CorruptIndexError,
    DecodeError,
    QueryError,
    SqlstoreError,
    StoreClosedError,
)
from sqlstore.index import records, versions
from sqlstore.index.query import Queries
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import CommitKind
from sqlstore.schema import Column, Field, Schema
from sqlstore.types import Buffer, Ids

if TYPE_CHECKING:
    from sqlstore.index.expressions import Expressions


class Source:
    """One opened store, as of one commit.

    Parameters
    ----------
    root
        The folder of the store.

    Attributes
    ----------
    schema
        Its fields and metadata columns.
    identity
        What the first commit says of the store, or the index if that commit is damaged.
    next_record
        Record ids below this one are visible.
    commit
        Number of the commit that it is seen at.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._closed = False
        self._own_commit = 0
        self._index = recover.open_index_to_read(root)
        self._chunks = ChunkReader(root)
        try:
            versions.check(self._index)
            self.identity = self._identity()
            self.schema: Schema = self.identity.schema
            self._chunk_rows: dict[int, records.ChunkRow] = {}
            self.next_record = 0
            self.commit = 0
            recover.refuse_behind(self._index, self._chunks)
            self._segments = Segments(self._chunks)
            self._queries = Queries(self._index, self.schema, 0)
            self.refresh()
        except BaseException:
            self.close()
            raise

    def _identity(self) -> identity.Identity:
        try:
            return identity.of_index(self._index, self._chunks)
        except CorruptChunkError:  # other chunks can be read all the same; `verify` names this one
            return identity.as_index_says(self._index)

    @cached_property
    def expressions(self) -> Expressions:
        """Return what runs SQLAlchemy expressions; SQLAlchemy is imported here, on first use."""
        from sqlstore.index.expressions import Expressions

        return Expressions(self._index, self._queries, self.schema)

    def refresh(self, up_to: int | None = None) -> None:
        """See the commits that have come since.

        Parameters
        ----------
        up_to
            Number of the last commit to see; all by default.
        """
        with self._index.mutex:
            if self._index.is_replaced():
                self._index.reopen()
            for commit in records.commits(self._index, after=self.commit):
                if up_to is not None and commit.number > up_to:
                    break
                if commit.kind == CommitKind.APPEND:
                    self._segments.extend([self._place(commit)])
                self.next_record = commit.first_record + commit.records
                self.commit = commit.number
            self._queries.pin(self.next_record)

    def _place(self, commit: records.CommitRow) -> Place:
        chunk = self._chunk_rows.get(commit.chunk) or records.chunk(self._index, commit.chunk)
        if chunk is None:
            raise CorruptIndexError(
                f"commit {commit.number} lies in chunk {commit.chunk}, which the index does not "
                f"know; run `sqlstore rebuild {self.root}`"
            )
        self._chunk_rows[commit.chunk] = chunk
        return Place(
            chunk.name,
            records.parsed_uuid(chunk.uuid, self._index.path),
            commit.offset,
            records.parsed_uuid(commit.uuid, self._index.path),
            commit.first_record,
            commit.records,
        )

    def ids_where(self, criteria: Sequence[Any], parameters: Mapping[str, object]) -> Ids:
        """Return the ids of the visible records that all criteria hold for, ascending.

        Parameters
        ----------
        criteria
            One SQL text, or SQLAlchemy expressions.
        parameters
            What is bound to the ``:name`` in the text.
        """
        self.check_open()
        if _is_text(criteria):
            return self._queries.ids_where(criteria[0], parameters)
        _refuse_parameters(parameters)
        return self.expressions.ids_where(tuple(criteria))

    def ranks(self, terms: Sequence[Any], parameters: Mapping[str, object]) -> Ids:
        """Return the rank of every visible record id in an order; ties share a rank.

        Returns
        -------
        numpy.ndarray
            Shape ``(next_record,)``, by record id.
        """
        self.check_open()
        if _is_text(terms):
            ids, ranks = self._queries.ranks(terms[0], parameters)
        else:
            _refuse_parameters(parameters)
            ids, ranks = self.expressions.ranks(tuple(terms), self.next_record)
        by_id = np.zeros(self.next_record, np.int64)
        by_id[ids] = ranks
        return by_id

    def sql(self, sql: str, parameters: Mapping[str, object]) -> pa.Table:
        """Return the result of any SQL that only reads."""
        self.check_open()
        return self._queries.table(sql, parameters)

    def id_of_key(self, value: object) -> int | None:
        """Return the id of the visible record with this key, or None."""
        if self.schema.key is None:
            raise QueryError("the store has no key; it is declared when the store is created")
        column = self.schema.columns[self.schema.key]
        try:
            stored = column.kind.convert(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise QueryError(f"{value!r} cannot be a key: {error}", column=column.name) from error
        return records.id_of_key(self._index, column.name, stored)

    def stored(self, record: int, field: Field) -> Buffer | None:
        """Return a value as it is stored but decompressed, or None if the record has none.

        Raises
        ------
        RecordNotFoundError
            There is no such record.
        ChecksumError
            The bytes are not what was written.
        """
        self.check_open()
        segment, row = self._segments.find(record)
        values = segment.values(field.number)
        if not values.present[row]:
            return None
        chunk, offset, length = (
            segment.place.chunk,
            int(values.offset[row]),
            int(values.length[row]),
        )
        where = {"record": record, "field": field.name, "chunk": chunk, "offset": offset}
        try:
            body = self._chunks.read(chunk, offset, length)
            if zlib.crc32(body) != values.crc[row]:
                raise ChecksumError(
                    f"these {length} bytes are not what was written; "
                    f"run `sqlstore verify {self.root}`"
                )
            return decompress(body, int(values.compression[row]), int(values.raw_length[row]))
        except SqlstoreError as error:
            raise located(error, where) from error

    def decoded(self, record: int, field: Field) -> object:
        """Return the value of a field, or None if the record has none."""
        data = self.stored(record, field)
        if data is None:
            return None
        try:
            return ENCODINGS[field.encoding].decode(data)
        except DecodeError as error:
            raise located(error, {"record": record, "field": field.name}) from error

    def metadata(self, ids: range | Ids, columns: Sequence[Column]) -> list[pa.ChunkedArray]:
        """Return metadata columns of records, in the order of the ids."""
        self.check_open()
        return self._segments.columns(ids, columns)

    def check_open(self) -> None:
        """Raise if the store has been closed; else see the own commits that have come since."""
        if self._closed:
            raise StoreClosedError(f"the store {self.root} is closed")
        if self._own_commit > self.commit:
            self.refresh(up_to=self._own_commit)

    def committed(self, number: int) -> None:
        """Say that a writer of this store has made a commit.

        It is looked up when something is read next: what may go wrong then must not look as if the
        commit had gone wrong.
        """
        self._own_commit = number

    def close(self) -> None:
        """Close the index and every chunk."""
        self._closed = True
        self._index.close()
        self._chunks.close()


def located(error: SqlstoreError, where: Mapping[str, object]) -> SqlstoreError:
    """Return the same error with more said about where it happened."""
    return type(error)(error.message, **{**where, **error.where})


def _is_text(criteria: Sequence[Any]) -> bool:
    texts = sum(isinstance(one, str) for one in criteria)
    if not criteria or (texts and len(criteria) > 1):
        raise QueryError("expected one SQL text, or one or more SQLAlchemy expressions")
    return texts == 1


def _refuse_parameters(parameters: Mapping[str, object]) -> None:
    if parameters:
        raise QueryError(
            f"values are bound to SQL text, not to expressions: {', '.join(parameters)}"
        )
