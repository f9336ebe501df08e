"""Which records: everything of an opened store that needs SQLite."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sqlstore import identity, recover
from sqlstore.caches import CacheKeeper
from sqlstore.errors import (
    CorruptChunkError,
    CorruptIndexError,
    QueryError,
    RecordNotFoundError,
    StoreNotFoundError,
)
from sqlstore.index import records, subsets, versions
from sqlstore.index.query import Queries
from sqlstore.index.records import CommitRow
from sqlstore.index.subsets import SubsetRow
from sqlstore.log import files
from sqlstore.log.reader import ChunkReader
from sqlstore.opening import Opening, Seen
from sqlstore.positions import is_among
from sqlstore.schema import Schema
from sqlstore.types import Ids

if TYPE_CHECKING:
    from sqlstore.index.expressions import Expressions


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
        root = how.root
        check_still_there(root)
        self._seen_records = self._live = 0
        with contextlib.ExitStack() as opened:
            index = recover.open_index_to_read(root, mapped=how.io == "mmap")
            self._index = opened.enter_context(contextlib.closing(index))
            reader = opened.enter_context(contextlib.closing(ChunkReader(root)))
            self._reader = reader
            versions.check(self._index)
            recover.refuse_behind(self._index, reader)
            self._know()
            opened.pop_all()

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
        self.caches = CacheKeeper(self._index.path.parent, self._index, self._reader, self.identity)
        self._queries = Queries(self._index, self.schema, self._seen_records)
        self.__dict__.pop("expressions", None)

    def _identity(self) -> identity.Identity:
        try:
            return identity.of_index(self._index, self._reader)
        except CorruptChunkError:  # other chunks can be read all the same; `verify` names this one
            return identity.as_index_says(self._index)

    def follow_rebuild(self) -> None:
        """Open the index that a rebuild has put in the place of the one that is open."""
        check_still_there(self._index.path.parent)
        with self._index.mutex:
            if self._index.is_replaced():
                self._index.reopen()

    def last_commit(self) -> CommitRow:
        """Return the newest commit."""
        return records.last_commit(self._index)

    def commit(self, number: int) -> CommitRow | None:
        """Return the commit of this number, or None if there is none."""
        return records.commit(self._index, number)

    def seen(self, last: CommitRow) -> Seen:
        """Return what is seen at a commit."""
        commit = records.parsed_uuid(last.uuid, self._index.path)
        records_then = last.first_record + last.records
        return Seen(last.number, commit, records_then, last.chunk, last.offset)

    def see(self, n_records: int, n_live: int) -> None:
        """Hide records with this id or above; tell how many there are below it."""
        self._seen_records, self._live = n_records, n_live
        self._queries.pin(n_records)

    @cached_property
    def expressions(self) -> Expressions:
        """Return what runs SQLAlchemy expressions; SQLAlchemy is imported here, on first use."""
        from sqlstore.index.expressions import Expressions

        return Expressions(self._index, self._queries, self.schema)

    def ids_where(self, criteria: Sequence[Any], parameters: Mapping[str, object]) -> Ids:
        """Return the ids of the visible records that all criteria hold for, ascending.

        Parameters
        ----------
        criteria
            One SQL text, or SQLAlchemy expressions.
        parameters
            What is bound to the ``:name`` in the text.
        """
        if parameters and not criteria:
            name = next(iter(parameters))
            raise QueryError(
                f"expected the SQL text that {name!r} is bound to, as in "
                f'`where("{name} = :{name}", {name}=...)`'
            )
        if _is_text(criteria, "a AND b"):
            ids = self._queries.ids_where(criteria[0], parameters)
        else:
            _refuse_parameters(parameters)
            ids = self.expressions.ids_where(tuple(criteria))
        if len(ids) and not (
            ids[0] >= 0 and ids[-1] < self._seen_records and np.all(ids[1:] > ids[:-1])
        ):
            raise self._senseless()
        return ids

    def ranks(self, terms: Sequence[Any], parameters: Mapping[str, object]) -> Ids:
        """Return the rank of every visible record id in an order; ties share a rank.

        Returns
        -------
        numpy.ndarray
            By record id.
        """
        if _is_text(terms, "a, b DESC"):
            ids, ranks = self._queries.ranks(terms[0], parameters, self._live)
        else:
            _refuse_parameters(parameters)
            ids, ranks = self.expressions.ranks(tuple(terms), self._live)
        if len(ids) and not (ids.min() >= 0 and ids.max() < self._seen_records):
            raise self._senseless()
        by_id = np.zeros(self._seen_records, np.int64)
        by_id[ids] = ranks
        return by_id

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
        rows = self.expressions.values(terms)
        found = np.fromiter((row[0] for row in rows), np.int64, len(rows))
        gone = ids[~is_among(ids, found)]
        if len(gone):
            raise RecordNotFoundError("the record was deleted", record=int(gone[0]))
        chosen = [rows[place] for place in np.searchsorted(found, ids).tolist()]
        return [[row[position] for row in chosen] for position in range(1, len(terms) + 1)]

    def _senseless(self) -> CorruptIndexError:
        return CorruptIndexError(
            f"{self._index.path} finds records that were never committed, or one twice; "
            f"run `sqlstore rebuild {self._index.path.parent}`"
        )

    def sql(self, sql: str, parameters: Mapping[str, object]) -> pa.Table:
        """Return the result of any SQL that only reads."""
        return self._queries.table(sql, parameters)

    def subsets(self) -> list[SubsetRow]:
        """Return what the index says of every subset, in the order in which they were saved."""
        return subsets.listed(self._index)

    def subset(self, name: str) -> SubsetRow | None:
        """Return what the index says of a subset; None if there is none of this name."""
        return subsets.named(self._index, name)

    def members(self, number: int) -> Ids:
        """Return the members that the index has of a subset, in order."""
        return np.array(subsets.members(self._index, number), np.int64)

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
