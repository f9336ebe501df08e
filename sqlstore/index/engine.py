"""The connection to `index.sqlite`. No other module opens that file, by SQLite or otherwise.

Closing *any* descriptor of the file, say by ``open(path).close()``, drops all locks that SQLite
holds on it in this process; that is why nothing else may touch it. `os.stat` is safe.

No statement leaves a cursor open: an unfinished SELECT would keep every writer from committing.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlstore import limits
from sqlstore.errors import (
    CorruptIndexError,
    ForkedStoreError,
    NotAStoreError,
    QueryError,
    ReadOnlyError,
    SqlstoreError,
    StorageError,
    StoreBusyError,
    StoreClosedError,
    StoreFullError,
)
from sqlstore.forks import HeldInForks, detach
from sqlstore.index import wal
from sqlstore.index.declared import refuse_strange
from sqlstore.index.planted import refuse_planted
from sqlstore.types import SqlValue

INDEX_NAME: Final = "index.sqlite"
APPLICATION_ID: Final = 0x53514C53  # "SQLS"
LOWEST_SQLITE: Final = (3, 37, 0)  # STRICT tables

_SETTINGS: Final = (
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "temp_store = MEMORY",
)
_WRITE_SETTINGS: Final = (
    # FULL does not sync the folder after the journal is removed: a commit could come undone.
    "synchronous = EXTRA",
    # Spilled pages need an exclusive lock in the middle of a transaction.
    "cache_spill = OFF",
    "foreign_keys = ON",
)
_LARGEST_MAP: Final = 0x7FFF0000  # SQLite's own limit; what lies behind it is copied
_ROWS_PER_INSERT: Final = 64
_MOST_PARAMETERS: Final = 30_000
_BUSY: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_SAID_OF_DAMAGE: Final = ("UTF-8", "unsupported file format")
_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
_REFUSED: Final = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM}
_HOT_JOURNAL: Final = {sqlite3.SQLITE_READONLY_ROLLBACK, sqlite3.SQLITE_READONLY_RECOVERY}

Parameters = Sequence[SqlValue] | Mapping[str, SqlValue]
Rows = list[tuple[Any, ...]]
T = TypeVar("T")


class HotJournalError(SqlstoreError):
    """A transaction was cut short; it must be rolled back by a connection that may write."""


class Index:
    """A connection to the index of one store.

    Parameters
    ----------
    path
        The SQLite file.
    root
        The folder of the store, for messages; the one that the file lies in by default.
    write
        Whether to open it for writing. A connection for reading cannot write at all.
    create
        Make the file; it must not exist.
    mapped
        Read pages from a map of the file, which takes half the time; else they are copied.
    """

    def __init__(
        self,
        path: Path,
        *,
        root: Path | None = None,
        write: bool = False,
        create: bool = False,
        mapped: bool = False,
    ) -> None:
        self.path = path
        self.root = path.parent if root is None else root
        self.write = write
        self.mutex = threading.RLock()
        self.roll_back: Callable[[], None] | None = None
        self.when_opened: list[Callable[[sqlite3.Connection], None]] = []
        self._process = os.getpid()
        self._create = create
        self._reads_map = mapped
        self._closed = False
        self._connection: sqlite3.Connection | None = None
        _indexes.add(self)
        with self.mutex:
            _ = self.connection
        self._create = False

    @property
    def name(self) -> str:
        """Return the path of the file inside the folder of the store."""
        return str(self.path.relative_to(self.root))

    @property
    def connection(self) -> sqlite3.Connection:
        """Return the driver connection; after a fork, a new one of the child's own."""
        if self._connection is None:
            if self._closed:
                raise StoreClosedError("the store is closed")
            if self.write and self._process != os.getpid():
                raise ForkedStoreError(
                    "this process is a forked child of the one that opened the store for writing; "
                    "open it anew here"
                )
            # Before connecting: a rebuild in between must look like one that came later.
            identity = self._file_identity() if self.path.is_file() else None
            if identity in _in_use_at_fork:
                raise ForkedStoreError(
                    f"this process was forked inside a statement or transaction on {self.path}, of "
                    "whose locks SQLite has only a copy here; fork outside, or use spawn"
                )
            self._connection = self._connect()
            self._identity = identity or self._file_identity()
            for prepare in self.when_opened:
                prepare(self._connection)
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        if sqlite3.sqlite_version_info < LOWEST_SQLITE:
            raise StorageError(
                f"SQLite {sqlite3.sqlite_version} is too old; 3.37 or newer is needed"
            )
        mode = "rwc" if self._create else "rw" if self.write else "ro"
        refuse_planted(self.path, self.root)
        if not self._create and not self.path.is_file():
            raise CorruptIndexError(f"{self.path} is missing; run `sqlstore rebuild {self.root}`")
        with self.errors():
            connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode={mode}",
                uri=True,
                timeout=limits.LOCK_SECONDS,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )
        try:
            with self.errors():
                mapped = f"mmap_size = {_LARGEST_MAP if self._reads_map else 0}"
                _set(connection, *_SETTINGS, mapped)
                if self.write:
                    wal.end(connection, self.path)
                    _set(connection, *_WRITE_SETTINGS)
                self._check_kind(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def has_wal(self) -> bool:
        """Return whether another tool has put the file into WAL mode."""
        return self.reading(wal.is_on)

    def _check_kind(self, connection: sqlite3.Connection) -> None:
        """Raise unless it is the index of a store, and nothing in it runs SQL of other people."""
        if self._create:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            return
        (found,) = connection.execute("PRAGMA application_id").fetchone()
        if found != APPLICATION_ID:
            raise NotAStoreError(f"{self.path} is not the index of a store")
        refuse_strange(connection, self.path)

    def _file_identity(self) -> tuple[int, int]:
        status = self.path.stat()
        return status.st_dev, status.st_ino

    def is_replaced(self) -> bool:
        """Return whether another file has taken the place of the one that is open."""
        with contextlib.suppress(FileNotFoundError):
            return self._file_identity() != self._identity
        return True

    def reopen(self) -> None:
        """Open the file anew that lies at the path now."""
        with self.mutex:
            self._disconnect()
            _ = self.connection

    def reading(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Return what a function reads from the connection, with errors of ours.

        Another process may have died in its COMMIT since this connection was opened; what it left
        is rolled back, and the function is called again.
        """
        with self.mutex:
            try:
                with self.errors():
                    return read(self.connection)
            except HotJournalError:
                if self.roll_back is None:
                    raise
                self.roll_back()
                with self.errors():
                    return read(self.connection)

    def rows(self, sql: str, parameters: Parameters = ()) -> Rows:
        """Run one of our own statements, about our own tables, and return all of its rows."""
        try:
            return self.reading(lambda driver: driver.execute(sql, parameters).fetchall())
        except QueryError as error:
            if isinstance(error.__cause__, sqlite3.OperationalError):  # they are other tables
                raise self._damaged(error) from error
            raise

    def row(self, sql: str, parameters: Parameters = ()) -> tuple[Any, ...] | None:
        """Run one statement and return its first row, or None."""
        found = self.rows(sql, parameters)
        return found[0] if found else None

    def run(self, sql: str, parameters: Parameters = ()) -> None:
        """Run one statement that returns nothing."""
        self.reading(lambda driver: driver.execute(sql, parameters).fetchall())

    def run_many(self, sql: str, rows: Iterable[Sequence[SqlValue]]) -> int:
        """Run one statement for each of many rows, and return how many rows it has changed."""
        with self.mutex, self.errors():
            return self.connection.executemany(sql, rows).rowcount

    def insert(
        self, table: str, names: Sequence[str], columns: Sequence[Sequence[SqlValue]]
    ) -> None:
        """Insert rows that are given column by column.

        Many rows go into one statement, which is about twice as fast as a statement for each.

        Parameters
        ----------
        table, names
            Where to, as SQL identifiers.
        columns
            For every name a sequence of values, all of one length.
        """
        width, count = len(names), len(columns[0])
        flat: list[SqlValue] = [None] * (width * count)
        for position, column in enumerate(columns):
            flat[position::width] = column
        head = f"INSERT INTO {table} ({', '.join(names)}) VALUES "
        row = f"({', '.join('?' * width)})"
        group = max(1, min(_ROWS_PER_INSERT, _MOST_PARAMETERS // width))
        with self.mutex, self.errors():
            for start in range(0, count, group):
                rows = min(group, count - start)
                values = flat[start * width : (start + rows) * width]
                self.connection.execute(head + ",".join([row] * rows), values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold an exclusive transaction inside the block; the block ends it by `commit`.

        Exclusive from the beginning, so that no reader can keep the COMMIT from happening once the
        commit exists in the log. Left without `commit`, it is rolled back.
        """
        with self.mutex:
            self.run("BEGIN EXCLUSIVE")
            try:
                yield
            except BaseException:
                with contextlib.suppress(SqlstoreError):  # the first error says why
                    self._end_transaction()
                raise
            self._end_transaction()

    @contextmanager
    def as_of_now(self) -> Iterator[None]:
        """See one state of the index inside the block, whoever commits meanwhile.

        It keeps writers waiting, so it is for a few short statements.
        """
        with self.mutex:
            self.run("BEGIN")
            try:
                yield
            finally:
                self.run("COMMIT")

    def _end_transaction(self) -> None:
        if self.connection.in_transaction:
            self.rollback()

    def commit(self) -> None:
        """Make the open transaction durable."""
        self.run("COMMIT")

    def rollback(self) -> None:
        """Undo the open transaction."""
        self.run("ROLLBACK")

    def copy_to(self, path: Path) -> None:
        """Copy the index to a file that is not there yet, in one step.

        In one step because a copy in several would begin anew whenever somebody commits. Not inside
        a transaction, of which SQLite would wait for the end.
        """
        with self.mutex, self.errors(), contextlib.closing(sqlite3.connect(path)) as copy:
            self.connection.backup(copy, pages=-1)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what SQLite raises inside the block into errors of ours."""
        try:
            yield
        except (SqlstoreError, sqlite3.IntegrityError):
            raise  # ours already, or a constraint spoke and the caller knows which
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise self._mapped(error) from error
        except UnicodeDecodeError as error:
            raise self._damaged(error) from error
        except ValueError as error:  # a NUL character or a lone surrogate in the statement
            raise QueryError(str(error)) from error

    def _mapped(self, error: sqlite3.Error | sqlite3.Warning) -> SqlstoreError:
        extended: int | None = getattr(error, "sqlite_errorcode", None)
        code = None if extended is None else extended & 0xFF
        if code in _BUSY:
            return StoreBusyError(f"{self.path} was locked for {limits.LOCK_SECONDS:.0f} seconds")
        if code in _DAMAGED or any(said in str(error) for said in _SAID_OF_DAMAGE):
            return self._damaged(error)
        if code == sqlite3.SQLITE_AUTH:
            return QueryError(f"only statements that read are allowed here ({error})")
        if code == sqlite3.SQLITE_FULL:
            return StoreFullError(f"no space left for {self.path}; the last commit is intact")
        if code in _REFUSED:
            return StorageError(f"SQLite cannot use {self.path}: {error}")
        if extended in _HOT_JOURNAL:
            return HotJournalError(f"{self.path} has an interrupted transaction to roll back")
        if code == sqlite3.SQLITE_READONLY:
            return ReadOnlyError(f"{self.path} cannot be written: {error}")
        if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
            return StoreClosedError("the store is closed")
        return QueryError(str(error))

    def _damaged(self, error: Exception) -> CorruptIndexError:
        return CorruptIndexError(
            f"{self.path} is damaged ({error}); run `sqlstore rebuild {self.root}`"
        )

    def close(self) -> None:
        """Close the connection."""
        with self.mutex:
            self._closed = True
            self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _forget_in_child(self) -> None:
        """Leave the parent's connection alone: using or closing it here would hurt the parent."""
        self.mutex = threading.RLock()
        if self._connection is not None:
            if self in _indexes.busy or self._connection.in_transaction:
                _in_use_at_fork.add(self._identity)
            _parents_connections.append(self._connection)
            self._connection = None
            detach(self._identity)


def _set(connection: sqlite3.Connection, *settings: str) -> None:
    for setting in settings:
        connection.execute(f"PRAGMA {setting}").fetchall()


def in_memory() -> sqlite3.Connection:
    """Return a connection to an empty database that is nowhere but in memory."""
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


# SQLite remembers which locks its process holds on a file, and a forked child has a copy of that,
# but not the locks: it would wait for those for ever, or read and believe to be locked. So a fork
# waits for statements and transactions of other threads.
_indexes = HeldInForks(Index._forget_in_child, lambda i: i.mutex, lambda: limits.LOCK_SECONDS)
_parents_connections: list[sqlite3.Connection] = []
_in_use_at_fork: set[tuple[int, int] | None] = set()
