"""The connection to the SQLite file: what it refuses, and what its errors become."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import sqlstore
from sqlstore import (
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
    limits,
)
from sqlstore.index import engine, records
from sqlstore.index.engine import APPLICATION_ID, HotJournalError, Index
from sqlstore.log import files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return an index with a table of our own."""
    with contextlib.closing(Index(tmp_path / "index.sqlite", write=True, create=True)) as index:
        index.run("CREATE TABLE t (x INTEGER UNIQUE, y TEXT) STRICT")
        index.run("INSERT INTO t VALUES (1, 'one'), (2, 'two')")
    return tmp_path / "index.sqlite"


@pytest.fixture
def reader(path: Path) -> Iterator[Index]:
    with contextlib.closing(Index(path)) as index:
        yield index


@pytest.fixture
def writer(path: Path) -> Iterator[Index]:
    with contextlib.closing(Index(path, write=True)) as index:
        yield index


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOCK_SECONDS", 0.01)


# Which files are opened


def test_a_new_index_is_marked_as_ours(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert APPLICATION_ID.to_bytes(4, "big") == b"SQLS"


@pytest.mark.parametrize("write", [False, True])
def test_a_missing_index_says_how_to_get_one(tmp_path: Path, write: bool) -> None:
    with pytest.raises(CorruptIndexError, match="is missing") as caught:
        Index(tmp_path / "index.sqlite", write=write)
    assert f"sqlstore rebuild {tmp_path}" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "index.sqlite").mkdir()
    with pytest.raises(CorruptIndexError, match="is missing"):
        Index(tmp_path / "index.sqlite", write=write)


@pytest.mark.parametrize("write", [False, True])
def test_a_database_of_something_else_is_not_touched(tmp_path: Path, write: bool) -> None:
    path = tmp_path / "index.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    before = path.read_bytes()
    with pytest.raises(NotAStoreError, match="not the index of a store"):
        Index(path, write=write)
    assert path.read_bytes() == before


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize(
    "content", [b"no database" * 1000, b"SQLite format 3\0" + b"\xff" * 5000, b"SQLite format 3\0"]
)
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes, write: bool) -> None:
    path = tmp_path / "index.sqlite"
    path.write_bytes(content)
    with pytest.raises((CorruptIndexError, NotAStoreError)) as caught:
        Index(path, write=write)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content


def test_names_with_signs_of_an_address_are_opened(tmp_path: Path) -> None:
    folder = tmp_path / "100% what? #1 ä"
    folder.mkdir()
    path = folder / "index?mode=memory&x=%20.sqlite"
    with contextlib.closing(Index(path, write=True, create=True)) as index:
        index.run("CREATE TABLE t (x)")
    assert [entry.name for entry in folder.iterdir()] == [path.name]
    with contextlib.closing(Index(path)) as index:
        assert index.rows("SELECT count(*) FROM t") == [(0,)]


def test_an_sqlite_without_strict_tables_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    with pytest.raises(StorageError, match="too old"):
        Index(path)


def test_nothing_is_left_open_by_what_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    path.write_bytes(b"no database" * 1000)
    for _ in range(3):
        with pytest.raises(CorruptIndexError):
            Index(path)
    opened = [Path(entry).resolve() for entry in Path("/proc/self/fd").iterdir()]
    assert path.resolve() not in opened


# Reading and writing


def test_rows_and_parameters(reader: Index) -> None:
    assert reader.rows("SELECT * FROM t ORDER BY x") == [(1, "one"), (2, "two")]
    assert reader.rows("SELECT y FROM t WHERE x = ?", (2,)) == [("two",)]
    assert reader.row("SELECT y FROM t WHERE x = :x", {"x": 1}) == ("one",)
    assert reader.row("SELECT y FROM t WHERE x = 9") is None


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (3, 'three')",
        "UPDATE t SET x = 7",
        "DELETE FROM t",
        "DROP TABLE t",
        "CREATE TABLE u (x)",
        "PRAGMA user_version = 7",
        "PRAGMA journal_mode = WAL",
        "VACUUM",
        "BEGIN EXCLUSIVE; DELETE FROM t",
    ],
)
def test_a_connection_for_reading_cannot_write(path: Path, reader: Index, sql: str) -> None:
    before = path.read_bytes()
    with contextlib.suppress(ReadOnlyError, QueryError, StorageError):
        reader.run(sql)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_writing_through_a_connection_for_reading_says_so(reader: Index) -> None:
    with pytest.raises(ReadOnlyError, match="cannot be written"):
        reader.run("INSERT INTO t VALUES (3, 'three')")


def test_a_transaction_happens_or_does_not(reader: Index, writer: Index) -> None:
    with writer.transaction():
        writer.insert("t", ["x", "y"], [[3, 4], ["three", None]])
        writer.commit()
    assert reader.rows("SELECT x FROM t ORDER BY x") == [(1,), (2,), (3,), (4,)]
    with writer.transaction():
        writer.run("DELETE FROM t")
    with pytest.raises(sqlite3.IntegrityError), writer.transaction():
        writer.insert("t", ["x", "y"], [[*range(10, 74), 1], ["in the second statement"] * 65])
    with writer.transaction():
        writer.run("DELETE FROM t")
        writer.rollback()
    assert reader.row("SELECT count(*) FROM t") == (4,)
    assert not writer.connection.in_transaction


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1000])
def test_many_rows_are_inserted(writer: Index, count: int) -> None:
    writer.run("DELETE FROM t")
    writer.insert("t", ["x", "y"], [range(count), [f"row {n}" for n in range(count)]])
    assert writer.rows("SELECT * FROM t ORDER BY x") == [(n, f"row {n}") for n in range(count)]


def test_as_many_columns_as_a_store_may_have_are_inserted(writer: Index) -> None:
    names = [f"c{n}" for n in range(limits.MAX_COLUMNS)]
    writer.run(f"CREATE TABLE wide ({', '.join(names)})")
    writer.insert("wide", names, [[n, -n] * 40 for n in range(len(names))])
    assert writer.row("SELECT count(*), sum(c999), min(c999) FROM wide") == (80, 0, -999)


def test_a_constraint_is_left_to_the_caller(writer: Index) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        writer.insert("t", ["x", "y"], [[3, 1], ["three", "again"]])
    with pytest.raises(sqlite3.IntegrityError):
        writer.run("INSERT INTO t VALUES (3, 4), ('no number', 5)")


def test_no_statement_keeps_others_from_committing(reader: Index, writer: Index) -> None:
    assert reader.row("SELECT x FROM t") is not None  # the first of two rows
    with writer.transaction():
        writer.run("DELETE FROM t")
        writer.commit()
    assert reader.rows("SELECT x FROM t") == []


def test_settings(reader: Index, writer: Index) -> None:
    expected = {"trusted_schema": 0, "mmap_size": 0, "cell_size_check": 1, "temp_store": 2}
    for name, value in expected.items():
        for index in (reader, writer):
            assert index.rows(f"PRAGMA {name}") in ([(value,)], [])
    for name, value in {"synchronous": 3, "foreign_keys": 1, "cache_spill": 0}.items():
        assert writer.rows(f"PRAGMA {name}") == [(value,)]


# Errors


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("SELEKT 1", ()),
        ("SELECT nothing FROM t", ()),
        ("SELECT * FROM nowhere", ()),
        ("SELECT ?", ()),
        ("SELECT ?", (1, 2)),
        ("SELECT :x", {"y": 1}),
        ("SELECT 1; SELECT 2", ()),
        ("SELECT '\0'", ()),
        ("SELECT '\udc00'", ()),
        ("SELECT ?", ("\udc00",)),
        ("SELECT ?", (object(),)),
        ("SELECT abs(-9223372036854775808)", ()),
        ("SELECT json('{')", ()),
        ("COMMIT", ()),
    ],
)
def test_sql_that_cannot_be_run_is_an_error_of_ours(
    reader: Index, sql: str, parameters: Any
) -> None:
    with pytest.raises(QueryError):
        reader.run(sql, parameters)
    assert reader.rows("SELECT count(*) FROM t") == [(2,)]


def sqlite_error(kind: type[sqlite3.Error], message: str, code: int | None = None) -> sqlite3.Error:
    error = kind(message)
    if code is not None:
        error.sqlite_errorcode = code
    return error


MAPPED: Final[list[tuple[Exception, type[SqlstoreError], str]]] = [
    (sqlite_error(sqlite3.OperationalError, "m", code), kind, text)
    for code, kind, text in (
        (sqlite3.SQLITE_BUSY, StoreBusyError, "was locked for"),
        (sqlite3.SQLITE_BUSY_RECOVERY, StoreBusyError, "was locked for"),
        (sqlite3.SQLITE_LOCKED, StoreBusyError, "was locked for"),
        (sqlite3.SQLITE_CORRUPT, CorruptIndexError, "sqlstore rebuild"),
        (sqlite3.SQLITE_CORRUPT_INDEX, CorruptIndexError, "sqlstore rebuild"),
        (sqlite3.SQLITE_NOTADB, CorruptIndexError, "sqlstore rebuild"),
        (sqlite3.SQLITE_FORMAT, CorruptIndexError, "sqlstore rebuild"),
        (sqlite3.SQLITE_FULL, StoreFullError, "no space left"),
        (sqlite3.SQLITE_IOERR, StorageError, "cannot use"),
        (sqlite3.SQLITE_IOERR_FSYNC, StorageError, "cannot use"),
        (sqlite3.SQLITE_CANTOPEN, StorageError, "cannot use"),
        (sqlite3.SQLITE_NOMEM, StorageError, "cannot use"),
        (sqlite3.SQLITE_READONLY, ReadOnlyError, "cannot be written"),
        (sqlite3.SQLITE_READONLY_DBMOVED, ReadOnlyError, "cannot be written"),
        (sqlite3.SQLITE_READONLY_ROLLBACK, HotJournalError, "roll back"),
        (sqlite3.SQLITE_READONLY_RECOVERY, HotJournalError, "roll back"),
        (sqlite3.SQLITE_ERROR, QueryError, "m"),
        (sqlite3.SQLITE_INTERRUPT, QueryError, "m"),
    )
] + [
    (
        sqlite_error(sqlite3.OperationalError, "Could not decode to UTF-8 column 'x'"),
        CorruptIndexError,
        "sqlstore rebuild",
    ),
    (
        sqlite_error(sqlite3.ProgrammingError, "Cannot operate on a closed database."),
        StoreClosedError,
        "is closed",
    ),
    (sqlite_error(sqlite3.ProgrammingError, "something else"), QueryError, "something else"),
    (sqlite3.Warning("two statements"), QueryError, "two statements"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "wrong"), CorruptIndexError, "sqlstore rebuild"),
    (ValueError("embedded null"), QueryError, "embedded null"),
]


@pytest.mark.parametrize(("raised", "kind", "text"), MAPPED)
def test_what_sqlite_raises_becomes_an_error_of_ours(
    reader: Index, raised: Exception, kind: type[SqlstoreError], text: str
) -> None:
    with pytest.raises(kind, match=text) as caught, reader.errors():
        raise raised
    assert type(caught.value) is kind
    assert caught.value.__cause__ is raised


def test_other_errors_pass_through(reader: Index) -> None:
    with pytest.raises(ZeroDivisionError), reader.errors():
        raise ZeroDivisionError
    with pytest.raises(RecursionError), reader.errors():
        raise RecursionError


@pytest.mark.usefixtures("impatient")
def test_a_lock_that_does_not_get_free_is_said(path: Path, reader: Index) -> None:
    with contextlib.closing(Index(path, write=True)) as one, one.transaction():
        one.run("DELETE FROM t")
        with pytest.raises(StoreBusyError, match="was locked for"):
            reader.rows("SELECT * FROM t")
        for write in (False, True):
            with pytest.raises(StoreBusyError, match="was locked for"):
                Index(path, write=write).run("DELETE FROM t")
    assert reader.row("SELECT count(*) FROM t") == (2,)


def test_a_lock_is_waited_for(path: Path, reader: Index) -> None:
    with contextlib.closing(Index(path, write=True)) as writer:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.extend(reader.rows("SELECT x FROM t")))
        with writer.transaction():
            writer.run("DELETE FROM t WHERE x = 1")
            thread.start()
            thread.join(0.1)  # long enough for a reader that does not wait
            assert not found
            writer.commit()
        thread.join(60)
        assert found == [(2,)]


def test_a_full_disk_is_said(writer: Index) -> None:
    (pages,) = writer.row("PRAGMA page_count") or (0,)
    writer.rows(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreFullError, match="last commit is intact"), writer.transaction():
        writer.run("INSERT INTO t VALUES (3, ?)", ("x" * 100_000,))
    assert writer.row("SELECT count(*) FROM t") == (2,)


def test_text_that_is_no_text_is_damage(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE t SET y = CAST(x'ff' AS TEXT)")
        connection.commit()
    with contextlib.closing(Index(path)) as index, pytest.raises(CorruptIndexError):
        index.rows("SELECT y FROM t")


# Replaced files


def replace(path: Path) -> None:
    with contextlib.closing(Index(path.with_name("new"), write=True, create=True)) as index:
        index.run("CREATE TABLE t (x INTEGER, y TEXT)")
        index.run("INSERT INTO t VALUES (9, 'nine')")
    path.with_name("new").replace(path)


def test_a_file_that_was_replaced_is_noticed_and_opened(path: Path, reader: Index) -> None:
    prepared: list[sqlite3.Connection] = []
    reader.when_opened.append(prepared.append)
    assert not reader.is_replaced()
    replace(path)
    assert reader.is_replaced()
    assert reader.rows("SELECT x FROM t WHERE x = 1") == [(1,)]  # still the one that was opened
    reader.reopen()
    assert not reader.is_replaced()
    assert reader.rows("SELECT x FROM t") == [(9,)]
    assert prepared == [reader.connection]


def test_a_file_that_is_gone_is_noticed(path: Path, reader: Index) -> None:
    path.rename(path.with_name("aside"))
    assert reader.is_replaced()
    with pytest.raises(CorruptIndexError, match="is missing"):
        reader.reopen()
    path.with_name("aside").rename(path)
    assert reader.row("SELECT count(*) FROM t") == (2,)  # it can be tried again
    assert not reader.is_replaced()


def test_a_copy_is_complete(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    with contextlib.closing(Index(path, write=True)) as index:
        index.copy_to(target)
        index.run("DELETE FROM t")
    with contextlib.closing(Index(target)) as copy:
        assert copy.rows("SELECT x FROM t ORDER BY x") == [(1,), (2,)]


# The end


def test_after_close_nothing_works(reader: Index) -> None:
    reader.close()
    reader.close()
    for use in (
        lambda: reader.rows("SELECT 1"),
        lambda: reader.connection,
        reader.reopen,
    ):
        with pytest.raises(StoreClosedError):
            use()


def test_a_connection_that_was_closed_below_is_said(reader: Index) -> None:
    reader.connection.close()
    with pytest.raises(StoreClosedError):
        reader.rows("SELECT 1")


def in_child(work: Callable[[], None]) -> int:
    """Run something in a forked child and return 0 if it went well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of pytest's own
        child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_reads_on_a_connection_of_its_own(path: Path, reader: Index) -> None:
    parents = reader.connection

    def work() -> None:
        assert reader.rows("SELECT count(*) FROM t") == [(2,)]
        assert reader.connection is not parents
        reader.close()

    assert in_child(work) == 0
    assert reader.connection is parents
    assert reader.rows("SELECT count(*) FROM t") == [(2,)]


def test_a_forked_child_does_not_write_and_cannot_end_its_parents_transaction(
    path: Path, writer: Index
) -> None:
    def work() -> None:
        with pytest.raises(ForkedStoreError):
            writer.run("COMMIT")
        writer.close()

    with writer.transaction():
        writer.run("DELETE FROM t")
        assert in_child(work) == 0
        assert writer.connection.in_transaction
    assert writer.row("SELECT count(*) FROM t") == (2,)


# Two things that only show over a whole store


def test_nothing_else_opens_the_index(tmp_path: Path) -> None:
    """A second way in would drop the locks that SQLite holds; the log never goes there."""
    with sqlstore.create(tmp_path / "store", metadata={"n": "int64"}) as store:
        store.extend([{"n": 1}])
        assert engine.INDEX_NAME not in files.chunk_names(tmp_path / "store")
        # A lock of this process survives whatever the library does meanwhile.
        index = Index(tmp_path / "store" / engine.INDEX_NAME, write=True)
        with index.transaction():
            index.is_replaced()
            other = (
                "import sqlite3, sys\n"
                "c = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)\n"
                "try: c.execute('BEGIN EXCLUSIVE')\n"
                "except sqlite3.OperationalError: print('locked')\n"
            )
            command = [sys.executable, "-I", "-c", other, str(index.path)]
            done = subprocess.run(command, check=True, capture_output=True, timeout=60)
            assert done.stdout == b"locked\n"
        index.close()


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        ("DELETE FROM commits", CorruptIndexError),
        ("DELETE FROM store", CorruptIndexError),
        ("UPDATE store SET uuid = 'x'", CorruptIndexError),
        ("DROP TABLE commits", SqlstoreError),
        ("DROP TABLE blobs", SqlstoreError),
    ],
)
def test_an_index_that_makes_no_sense_is_not_written_to(
    tmp_path: Path, damage: str, kind: type[SqlstoreError]
) -> None:
    root = tmp_path / "store"
    with sqlstore.create(root, fields={"b": "bytes"}, metadata={"n": "int64"}) as store:
        store.extend([{"b": b"1", "n": 1}])
        shutil.copytree(root / "chunks", tmp_path / "chunks")
        with contextlib.closing(Index(root / engine.INDEX_NAME, write=True)) as index:
            index.run(damage)
            with contextlib.suppress(SqlstoreError):
                records.last_commit(index)
        with pytest.raises(kind):
            store.extend([{"b": b"2", "n": 2}])
    before = {path.name: path.read_bytes() for path in (tmp_path / "chunks").iterdir()}
    after = {path.name: path.read_bytes() for path in (root / "chunks").iterdir()}
    assert after == before
    (root / engine.INDEX_NAME).unlink()
    assert sqlstore.rebuild(root) == 1


def test_a_table_that_is_declared_otherwise_is_damage_and_not_the_users_mistake(
    tmp_path: Path,
) -> None:
    root = tmp_path / "s"
    sqlstore.create(root, metadata={"n": "int8"}).close()
    with contextlib.closing(sqlite3.connect(root / "index.sqlite")) as index:
        index.execute("ALTER TABLE store RENAME COLUMN chunk_size TO chunk_sizf")
    with pytest.raises(sqlstore.CorruptIndexError, match=r"index\.sqlite is damaged .*rebuild"):
        sqlstore.open(root)
    sqlstore.rebuild(root)
    assert sqlstore.verify(root)
