"""Which records: everything of an opened store that needs SQLite."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import pyarrow as pa

from sqlstore import copies, identity, recover
from sqlstore.caches import CacheKeeper
from sqlstore.copies import Snapshot
from sqlstore.errors import (
    CorruptChunkError,
    CorruptIndexError,
    QueryError,
    RecordNotFoundError,
    StoreNotFoundError,
)
from sqlstore.index import records, subsets, versions
from sqlstore.index.engine import Index
from sqlstore.index.plan import Plan
from sqlstore.index.query import Queries
from sqlstore.index.records import CommitRow
from sqlstore.index.statement import Statement
from sqlstore.index.subsets import SubsetRow
from sqlstore.log import files
from sqlstore.log.reader import ChunkReader
from sqlstore.opening import Opening, Seen
from sqlstore.positions import as_array
from sqlstore.schema import Schema
from sqlstore.types import Ids

if TYPE_CHECKING:
    from sqlstore.index.expressions import Expressions


T = TypeVar("T")

_WHERE_SHARE: Final = 32
_ORDER_SHARE: Final = 2
_MOST_AMONG: Final = 1_000_000
"""SQLite is told which records to look at if there are at most this many, and at most one in so
many of the store: to look up a record by its id takes about 20 times as long as to come to it in a
scan, and a rank as long as in an order of all."""


class Finder:
    """The index of one store, opened for reading.

    Parameters
    ----------
    how
        Which store, and how it is opened: SQLite maps its file where chunks are mapped.

    Attributes
    ----------
    identity
        What the first commit says of the store, or the index if that commit is damaged.
    caches
        Brings the cache up to the index.
    """

    def __init__(self, how: Opening) -> None:
        self._how = how
        self._seen_records = 0
        check_still_there(how.root)
        with contextlib.ExitStack() as opened:
            self._reader = opened.enter_context(contextlib.closing(ChunkReader(how.root)))
            self._index = opened.enter_context(contextlib.closing(self._opened()))
            self._know()
            opened.pop_all()

    def _opened(self) -> Index:
        """Return the index, or the copy of it that a snapshot is."""
        root, mapped = self._how.root, self._how.io == "mmap"
        if self._how.snapshot is not None:
            return copies.open_to_read(root, self._how.snapshot, mapped=mapped)
        index = recover.open_index_to_read(root, mapped=mapped)
        try:
            versions.check(index)
            recover.refuse_behind(index, self._reader)
        except BaseException:
            index.close()
            raise
        return index

    @property
    def schema(self) -> Schema:
        """Return the fields and metadata columns."""
        return self.identity.schema

    def follow_schema(self) -> None:
        """Know the schema that the index has now."""
        if records.store(self._index).schema_version != self.schema.version:
            self._know()

    def _know(self) -> None:
        """Learn what the store is, and set up what depends on that."""
        self.identity = self._identity()
        how = self._how
        shown = None if how.snapshot is None else how.snapshot.commit_uuid
        self.caches = CacheKeeper(how.root, self._index, self._reader, self.identity, shown)
        self._queries = Queries(self._index, self.schema, self._seen_records)
        self.__dict__.pop("expressions", None)

    def _identity(self) -> identity.Identity:
        try:
            return identity.of_index(self._index, self._reader)
        except CorruptChunkError:  # other chunks can be read all the same; `verify` names this one
            return identity.as_index_says(self._index)

    def follow_rebuild(self) -> None:
        """Open the index that a rebuild has put in the place of the one that is open.

        A copy that is open shows the same commit for ever, whatever becomes of its file.
        """
        check_still_there(self._how.root)
        if self._how.snapshot is not None:
            return
        with self._index.mutex:
            if self._index.is_replaced():
                self._index.reopen()

    def look_up(self, read: Callable[[Index, ChunkReader], T]) -> T:
        """Return what a function reads from index and log."""
        return read(self._index, self._reader)

    def last_commit(self) -> CommitRow:
        """Return the newest commit."""
        return records.last_commit(self._index)

    def checkpoint(self) -> CommitRow | None:
        """Return the commit that completed the last checkpoint, or None if there is none."""
        number = records.store(self._index).checkpoint
        return records.commit(self._index, number) if number else None

    def commit(self, number: int) -> CommitRow | None:
        """Return the commit of this number, or None if there is none."""
        return records.commit(self._index, number)

    def seen(self, last: CommitRow) -> Seen:
        """Return what is seen at a commit."""
        commit = records.parsed_uuid(last.uuid, self._index.path)
        records_then = last.first_record + last.records
        return Seen(last.number, commit, records_then, last.chunk, last.offset)

    def see(self, n_records: int) -> None:
        """Hide records with this id or above."""
        self._seen_records = n_records
        self._queries.pin(n_records)

    @cached_property
    def expressions(self) -> Expressions:
        """Return what compiles expressions; SQLAlchemy is imported here, on first use."""
        from sqlstore.index.expressions import Expressions

        return Expressions(self.schema)

    def ids_where(
        self,
        criteria: Sequence[Any],
        parameters: Mapping[str, object],
        tables: Mapping[str, Any] | None,
        view: range | Ids,
    ) -> Ids:
        """Return the ids of records that all criteria hold for, ascending.

        Parameters
        ----------
        criteria
            One SQL text, or SQLAlchemy expressions.
        parameters
            What is bound to the ``:name`` in the text.
        tables
            Tables of the user's own, which the criteria join.
        view
            The records to choose from. There may be others in the result.
        """
        joined = self._queries.joined(tables)
        ids = self._queries.ids(self._condition(criteria, parameters, view), joined)
        if len(ids) and not (
            ids[0] >= 0 and ids[-1] < self._seen_records and np.all(ids[1:] > ids[:-1])
        ):
            raise self._senseless()
        return ids

    def text_of(self, criteria: Sequence[Any]) -> str | None:
        """Return criteria as one SQL text; None if they cannot be written as one now."""
        return criteria[0] if isinstance(criteria[0], str) else self.expressions.text(criteria)

    def plan(
        self,
        criteria: Sequence[Any],
        parameters: Mapping[str, object],
        tables: Mapping[str, Any] | None,
        view: range | Ids,
    ) -> Plan:
        """Return how the records of `ids_where` would be found."""
        joined = self._queries.joined(tables)
        return self._queries.plan(self._condition(criteria, parameters, view), joined)

    def _condition(
        self, criteria: Sequence[Any], parameters: Mapping[str, object], view: range | Ids
    ) -> Statement:
        if parameters and not criteria:
            name = next(iter(parameters))
            raise QueryError(
                f"expected the SQL text that {name!r} is bound to, as in "
                f'`where("{name} = :{name}", {name}=...)`'
            )
        few = self._few(view, _WHERE_SHARE)
        if _is_text(criteria, "a AND b"):
            return self._queries.condition(criteria[0], parameters, few)
        _refuse_parameters(parameters)
        return self.expressions.condition(tuple(criteria), few)

    def _few(self, view: range | Ids, share: int) -> Ids | None:
        """Return the ids of a view, ascending and each once; None if it is better to ask for all.

        Parameters
        ----------
        share
            One in so many records of the store are few.
        """
        if len(view) > _MOST_AMONG or len(view) * share > self._seen_records:
            return None
        return np.unique(as_array(view))

    def ranks(
        self,
        terms: Sequence[Any],
        parameters: Mapping[str, object],
        tables: Mapping[str, Any] | None,
        view: range | Ids,
    ) -> Ids:
        """Return the rank of every record of a view in an order; ties share a rank.

        Raises
        ------
        RecordNotFoundError
            A record of the view is not there any more.
        """
        few = self._few(view, _ORDER_SHARE)
        if _is_text(terms, "a, b DESC"):
            statement = self._queries.order(terms[0], parameters, few)
        else:
            _refuse_parameters(parameters)
            statement = self.expressions.order(tuple(terms), few)
        found = self._queries.integers(statement, self._queries.joined(tables)).reshape(-1, 2)
        ids, ranks = found[:, 0], found[:, 1]
        if len(ids) and not (ids.min() >= 0 and ids.max() < self._seen_records):
            raise self._senseless()
        wanted = as_array(view)
        if few is None:
            known, places = self._seen_records, wanted
        else:
            ids, known = np.searchsorted(few, ids), len(few)
            places = np.searchsorted(few, wanted)
        by_place = np.full(known, -1, np.int64)
        by_place[ids] = ranks
        ranked: Ids = by_place[places]
        if len(lost := wanted[ranked < 0]):
            raise self._without_result(int(lost[0]))
        return ranked

    def _without_result(self, record: int) -> QueryError | RecordNotFoundError:
        """Return why an expression gives nothing for a record."""
        if records.is_there(self._index, record):
            return QueryError(
                "this is computed over all records, and a value for each of them is needed; "
                "write a subquery, as in `(SELECT max(n) FROM records)`"
            )
        return RecordNotFoundError("the record was deleted", record=record)

    def values(self, ids: Ids, terms: Mapping[str, Any]) -> list[list[Any]]:
        """Return what SQLAlchemy expressions give for records, as SQLite stores it.

        Parameters
        ----------
        ids
            The records.
        terms
            The expressions by name, for the message of an error.

        Returns
        -------
        list of list
            For every expression a value per record, in the order of the ids.

        Raises
        ------
        RecordNotFoundError
            A record is not there any more.
        """
        few = self._few(ids, _ORDER_SHARE)
        statement = self.expressions.values(tuple(terms.values()), few)
        by_id = {row[0]: row for row in self._queries.rows(statement)}
        try:
            chosen = [by_id[record] for record in ids.tolist()]
        except KeyError as error:
            raise self._without_result(error.args[0]) from None
        return [[row[position] for row in chosen] for position in range(1, len(terms) + 1)]

    def _senseless(self) -> CorruptIndexError:
        return CorruptIndexError(
            f"{self._index.path} finds records that were never committed, or one twice; "
            f"run `sqlstore rebuild {self._how.root}`"
        )

    def sql(
        self, sql: str, parameters: Mapping[str, object], tables: Mapping[str, Any] | None
    ) -> pa.Table:
        """Return the result of any SQL that only reads."""
        return self._queries.table(sql, parameters, self._queries.joined(tables))

    def subsets(self) -> list[SubsetRow]:
        """Return what the index says of every subset, in the order in which they were saved."""
        return subsets.listed(self._index)

    def subset(self, name: str) -> SubsetRow | None:
        """Return what the index says of a subset; None if there is none of this name."""
        return subsets.named(self._index, name)

    def members(self, number: int) -> Ids:
        """Return the members that the index has of a subset, in order."""
        return np.array(subsets.members(self._index, number), np.int64)

    def snapshots(self) -> dict[str, Snapshot]:
        """Return the snapshots that there are, by name, in the order in which they were taken."""
        return copies.known(self._index, self._reader)

    def id_of_key(self, value: object) -> int | None:
        """Return the id of the record with this key, or None."""
        if self.schema.key is None:
            raise QueryError("the store has no key; it is declared when the store is created")
        column = self.schema.columns[self.schema.key]
        try:
            stored = column.kind.convert(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise QueryError(f"{value!r} cannot be a key: {error}", column=column.name) from error
        return records.id_of_key(self._index, column.name, stored)

    def close(self) -> None:
        """Close the index and every chunk."""
        self._index.close()
        self._reader.close()


def check_still_there(root: Path) -> None:
    """Raise if the folder of a store that has been opened is not there any more."""
    chunks = root / files.CHUNKS_FOLDER
    if not chunks.is_dir():
        gone = chunks if root.is_dir() else root
        raise StoreNotFoundError(
            f"the folder {gone} is gone or was moved; open the store where it lies now"
        )


def all_bound(params: Mapping[str, object] | None, bound: Mapping[str, object]) -> dict[str, Any]:
    """Return what is bound to SQL text, as a mapping and as keyword arguments.

    Raises
    ------
    QueryError
        A name is in both.
    """
    given = params or {}
    if twice := sorted(set(given) & set(bound)):
        raise QueryError(f":{twice[0]} is bound twice, in params and as a keyword argument")
    return {**given, **bound}


def _is_text(criteria: Sequence[Any], several: str) -> bool:
    texts = sum(isinstance(one, str) for one in criteria)
    if not criteria or (texts and len(criteria) > 1):
        raise QueryError(
            "expected one SQL text, or one or more SQLAlchemy expressions; "
            f'write several as one text: "{several}"'
        )
    return texts == 1


def _refuse_parameters(parameters: Mapping[str, object]) -> None:
    if parameters:
        raise QueryError(
            f"values are bound to SQL text, not to expressions: {', '.join(parameters)}"
        )
