"""A store: the view of all its records, and what can be done with it."""

from __future__ import annotations

import datetime as dt
import operator
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np
import pyarrow as pa

from sqlstore import copies, limits, pickling, recover
from sqlstore.encodings import Encodings, OwnEncoding
from sqlstore.errors import (
    ReadOnlyError,
    RecordNotFoundError,
    SqlstoreError,
)
from sqlstore.finder import all_bound
from sqlstore.index.engine import INDEX_NAME
from sqlstore.log import files
from sqlstore.maintenance.report import Report
from sqlstore.maintenance.verify import verify
from sqlstore.opening import Io, opening
from sqlstore.queried import Condition
from sqlstore.reading.field import Verify
from sqlstore.schema import Schema
from sqlstore.source import Source
from sqlstore.store_edits import StoreEdits
from sqlstore.types import Ids, StrPath
from sqlstore.writer import Writer

if TYPE_CHECKING:
    from sqlalchemy import ColumnCollection


class Store(StoreEdits):
    """An opened store, and the view of all its records.

    It sees the commit at which it was opened or last refreshed, and its own commits. A context
    manager that closes it.

    Made by `sqlstore.open` and `sqlstore.create`.

    Attributes
    ----------
    path
        The folder.
    mode
        ``"r"`` to read, ``"a"`` to append and to edit as well.
    """

    _condition = Condition()

    def __init__(self, source: Source) -> None:
        super().__init__(source, source.ids())
        self.path = source.root
        self.mode = source.how.mode
        self._closed = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as what another process needs to read the store as it is seen here."""
        self._source.check_open()
        visible = pickling.ids_state(self._source, self._source.ids())
        return pickling.store_again, (Store, pickling.source_state(self._source), visible)

    def _record_ids(self) -> range | Ids:
        self._source.check_open()
        raws = self._source.raws
        if self._reads[0] is not raws:
            self._set_ids(self._source.ids(), raws)
        return super()._record_ids()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        n = 0 if self._closed else len(self)
        state = "closed" if self._closed else f"{n} record{'' if n == 1 else 's'}"
        snapshot = self._source.how.snapshot
        seen = "" if snapshot is None else f" at {snapshot.name!r}"
        return f"<sqlstore.Store {str(self.path)!r}{seen}: {state}>"

    @property
    def schema(self) -> Schema:
        """Return the fields and metadata columns."""
        self._source.check_open()
        return self._source.schema

    @property
    def created(self) -> dt.datetime:
        """Return when the store was created, in UTC."""
        return dt.datetime.fromtimestamp(self._source.finder.identity.created_at / 1e6, dt.UTC)

    @property
    def c(self) -> ColumnCollection[str, Any]:
        """Return the metadata columns and ``id`` as SQLAlchemy columns, for filters and orders."""
        return self._source.finder.expressions.columns

    def get(self, record: SupportsIndex | None = None, *, key: object = None) -> dict[str, Any]:
        """Return a record by its id or by its unique key.

        Parameters
        ----------
        record
            The permanent id, as returned when the record was committed.
        key
            The value of the key column, instead of the id.

        Raises
        ------
        RecordNotFoundError
            There is no such record.
        """
        self._source.check_open()
        if (record is None) == (key is None):
            raise TypeError("get() takes either a record id or key=...")
        if record is None:
            record = self._source.finder.id_of_key(key)
            if record is None or record >= self._source.next_record:
                raise RecordNotFoundError(f"no record has the key {key!r}")
        if isinstance(record, (bool, np.bool_)) or not isinstance(record, SupportsIndex):
            raise TypeError(
                f"a record id is an integer, not {record!r}; by its key, write get(key=...)"
            )
        record = operator.index(record)
        if not 0 <= record < self._source.next_record:
            raise RecordNotFoundError("there is no such record", record=record)
        return self._record(record)

    def sql(
        self,
        sql: str,
        params: Mapping[str, object] | None = None,
        tables: Mapping[str, Any] | None = None,
        **bound: object,
    ) -> pa.Table:
        """Return the result of any SQL statement that only reads.

        The table ``records`` has a row per record: ``id`` and every metadata column;
        ``record_locations`` says where each value lies.

        Parameters
        ----------
        sql
            One statement, with ``:name`` for bound values.
        params, **bound
            The bound values.
        tables
            Tables of your own, as for `where`.

        Returns
        -------
        pyarrow.Table
            A column that is a metadata column, or of one of your tables, has its type; one that is
            computed is int64, double, string or binary. NaN is null here, as it is NULL for SQLite.

        Raises
        ------
        QueryError
            The statement is not valid, or would write.
        """
        return self._source.finder.sql(sql, all_bound(params, bound), tables)

    def writer(
        self,
        *,
        commit_records: int = limits.COMMIT_RECORDS,
        commit_bytes: int = limits.COMMIT_BYTES,
        commit_seconds: float = limits.COMMIT_SECONDS,
    ) -> Writer:
        """Return a writer, to be used in a ``with`` block.

        Parameters
        ----------
        commit_records, commit_bytes, commit_seconds
            A commit happens by itself when this many records, or this many bytes, are waiting, or
            when a record is appended this long after the last commit.

        Raises
        ------
        ReadOnlyError
            The store was opened for reading.
        """
        self._source.check_open()
        self._source.check_writable()
        return Writer(
            self.path,
            self._source.committed,
            self._source.how.encodings,
            commit_records=commit_records,
            commit_bytes=commit_bytes,
            commit_seconds=commit_seconds,
        )

    def extend(self, records: Any) -> Ids:
        """Append many records and commit them.

        A large number becomes a series of commits. If one fails, those before it stay: the error
        carries their ids in ``error.committed``; one that is not of sqlstore, such as Ctrl-C, names
        the first and last of them in a note.

        Parameters
        ----------
        records
            An iterable of mappings; or a table: an Arrow table, record batch or reader, a pandas
            DataFrame, or anything with an Arrow stream, such as a polars DataFrame or a DuckDB
            relation, which is read piece by piece.

        Returns
        -------
        numpy.ndarray
            The ids of the records, int64, in the order in which they were given.
        """
        with self.writer() as writer:
            try:
                writer.extend(records)
                writer.commit()
            except BaseException as error:  # also of Ctrl-C
                if len(writer.ids):
                    error.add_note(f"records {writer.ids[0]} to {writer.ids[-1]} were committed")
                if isinstance(error, SqlstoreError):
                    error.committed = writer.ids
                raise
            return writer.ids

    def verify(self) -> Report:
        """Check every stored byte, every commit and every index row against each other.

        Returns
        -------
        Report
            True when nothing is wrong; `Report.faults` says what is, and where.
        """
        self._source.check_open()
        return verify(self.path)

    def refresh(self) -> None:
        """See what has been committed since the store was opened or last refreshed."""
        self._source.check_open()
        self._source.refresh()

    def close(self) -> None:
        """Close the store; views of it cannot be read any more."""
        if not self._closed:
            self._closed = True
            self._source.close()


def open(
    path: StrPath,
    mode: Literal["r", "a"] = "r",
    *,
    snapshot: str | None = None,
    io: Io | None = None,
    verify: Verify = "once",
    encodings: Mapping[str, OwnEncoding] | None = None,
    allow_pickle: bool = False,
) -> Store:
    """Open a store.

    Parameters
    ----------
    path
        The folder.
    mode
        ``"r"`` to read: nothing in the folder is written but its ``cache``, and what a crashed
        writer left is rolled back. ``"a"`` to append and to edit as well.
    snapshot
        The name of a snapshot: the store is seen as it was when that was taken, and can only be
        read. It has a cache of its own, inside that of the store.
    io
        How chunks are read. ``"mmap"`` maps them, which is fastest; a chunk file that is cut short
        while it is mapped ends the process. ``"pread"`` reads what is asked for, with a bounded
        number of files open. ``"memory"`` reads every chunk whole when it is first used. By default
        ``"pread"`` on a network file system and ``"mmap"`` elsewhere.
    verify
        When stored bytes are compared with their checksums: ``"once"`` for each value in this
        process, ``"always"``, or ``"never"``.
    encodings
        The encodings of your own that its fields have: ``(encode, decode)`` by name. Functions that
        pickle go to worker processes with the store.
    allow_pickle
        Whether fields encoded by ``pickle`` may be read and written. Reading them runs whatever
        code those who wrote them chose.

    Raises
    ------
    StoreNotFoundError
        There is nothing at this path.
    SnapshotNotFoundError
        The store has no snapshot of this name.
    NotAStoreError
        What is there is not a store.
    ReadOnlyError
        It is to be appended to, and is a snapshot, or the system says that it cannot be written.
    MigrationRequiredError, StoreTooNewError
        Another version of sqlstore is needed.
    StoreBusyError
        It is to be edited, and another tool has put the index into WAL mode, which cannot be ended
        while anybody has it open.
    """
    if mode not in ("r", "a"):
        raise ValueError(f'mode is "r" or "a", not {mode!r}')
    own = Encodings(encodings, allow_pickle=allow_pickle)
    return opened(Path(path).absolute(), mode, own, io, verify, snapshot)


def opened(
    root: Path,
    mode: Literal["r", "a"],
    encodings: Encodings,
    io: Io | None = None,
    verify: Verify = "once",
    snapshot: str | None = None,
) -> Store:
    """Return the store in a folder; `open` describes the parameters."""
    files.check_has_chunks(root)
    if mode == "a" and snapshot is not None:
        raise ReadOnlyError(f'a snapshot never changes: open {snapshot!r} with mode="r"')
    if mode == "a":
        _check_writable(root)
        recover.end_wal(root)
    seen = None if snapshot is None else copies.find(root, snapshot)
    return Store(Source.open(opening(root, io, verify, encodings, mode, seen)))


def _check_writable(root: Path) -> None:
    """Raise if the system says that nothing can be appended; what is not there is said later."""
    for path in (root, root / files.CHUNKS_FOLDER, root / INDEX_NAME):
        if path.exists() and not os.access(path, os.W_OK):
            raise ReadOnlyError(
                f'{path} cannot be written; to read the store, open it with mode="r"'
            )
