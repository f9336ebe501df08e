"""Many processes, forked children and threads at one store.

``SQLSTORE_RECORDS=100 pytest tests/test_concurrency.py`` has each of four writers append 10,000.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import itertools
import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import sqlstore
from sqlstore import limits
from sqlstore.index.engine import Index
from sqlstore.log import files
from sqlstore.log.writer import ChunkWriter
from tests.processes import (
    NEXT,
    Batch,
    Child,
    Steps,
    append,
    assert_clean,
    assert_rebuilds_equal,
    assert_recovers,
    batches_in,
    keep_committing,
    new_store,
    read_acknowledged,
    records_of,
    run,
    whole_batches,
)

WRITERS = range(4)
N_BATCHES = 100  # of every writer
COUNT = int(os.environ.get("SQLSTORE_RECORDS", "20"))  # of every batch


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return new_store(tmp_path / "store")


@contextmanager
def four_writers(path: Path, note: Path) -> Iterator[list[Child]]:
    """Have four processes append at the same time."""
    arguments = [(path, note, writer, N_BATCHES, COUNT, N_BATCHES // 2) for writer in WRITERS]
    children = [Child(keep_committing, *one) for one in arguments]
    try:
        for child in children:
            assert child.hear() == "ready"
        for child in children:
            child.tell("go")
        yield children
    finally:
        for child in children:
            child.close()


def batches_of(writer: int) -> list[Batch]:
    return [(writer, number) for number in range(N_BATCHES)]


# Writers at the same time


def test_four_processes_append_a_hundred_batches_each(path: Path, tmp_path: Path) -> None:
    with four_writers(path, tmp_path / "note") as children:
        for child in children:
            assert child.hear() == "milestone"
        for child in children:
            assert child.hear() is None
            assert child.exit_code() == 0
    with sqlstore.open(path) as store:
        assert len(store) == len(WRITERS) * N_BATCHES * COUNT
        found = whole_batches(store)
        for writer in WRITERS:
            assert [batch for batch in found if batch[0] == writer] == batches_of(writer)
            assert len(store.where("writer = :w", w=writer)) == N_BATCHES * COUNT
        report = store.verify()
        assert report, report
        assert not report.notes
    assert_rebuilds_equal(path, tmp_path)


def test_one_of_four_is_killed_half_way(path: Path, tmp_path: Path) -> None:
    note = tmp_path / "note"
    with four_writers(path, note) as children:
        assert children[0].hear() == "milestone"
        children[0].signal(signal.SIGKILL)
        assert children[0].exit_code() == -signal.SIGKILL
        for child in children[1:]:
            assert child.hear() == "milestone"
            assert child.hear() is None
    acknowledged = read_acknowledged(note)
    assert acknowledged > {batch for writer in WRITERS[1:] for batch in batches_of(writer)}
    theirs = [batch for batch in acknowledged if batch[0] == 0]
    assert N_BATCHES // 2 <= len(theirs) < N_BATCHES
    assert_recovers(path, tmp_path, acknowledged, [(0, len(theirs))])


def test_reading_and_verifying_beside_four_writers_finds_whole_commits(
    path: Path, tmp_path: Path
) -> None:
    note = tmp_path / "note"
    with four_writers(path, note) as children, sqlstore.open(path) as opened:
        seen = rounds = 0
        while any(child.is_running() for child in children):
            acknowledged = read_acknowledged(note)
            with sqlstore.open(path) as store:
                assert acknowledged <= set(whole_batches(store))
            opened.refresh()
            assert len(opened) % COUNT == 0
            assert len(opened) >= seen
            assert len(opened.where("position = 0")) == len(opened) / COUNT
            seen = len(opened)
            report = opened.verify()
            assert report, report
            rounds += 1
        assert rounds
        assert [child.exit_code() for child in children] == [0] * len(children)
    assert len(batches_in(path)) == N_BATCHES * len(WRITERS)


def test_a_new_chunk_belongs_to_its_writer_alone(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer that settles tries the lock of every chunk, also of one that just began."""
    try_lock, write = files.try_lock, ChunkWriter.write

    def try_lock_beside_another(descriptor: int, chunk: Path) -> bool:
        monkeypatch.undo()
        other = os.open(chunk, os.O_RDWR)
        assert try_lock(other, chunk)
        taken = try_lock(descriptor, chunk)
        os.close(other)
        return taken

    with sqlstore.open(path, "a") as store, store.writer() as first, store.writer() as second:
        first.extend(records_of((0, 0)))
        first.commit()  # holds the only chunk there was
        create = Steps(
            lambda: monkeypatch.setattr(files, "try_lock", try_lock_beside_another),
            "after create_exclusively chunk",
        )
        with create.around((files, "create_exclusively")):
            second.extend(records_of((1, 0)))
            second.commit()
        assert create.acted
        second.extend(records_of((1, 1)))

        def write_beside_another(*arguments: Any) -> None:
            monkeypatch.undo()
            append(path, (2, 0))
            write(*arguments)

        monkeypatch.setattr(ChunkWriter, "write", write_beside_another)
        second.commit()
    assert_recovers(path, tmp_path, [(0, 0), (1, 0), (1, 1), (2, 0)])


def create_together(connection: Connection, path: Path) -> str:
    """Create a store and wait for the others just before it gets its name."""

    def wait() -> None:
        connection.send("ready")
        connection.recv()

    with Steps(wait, "before rename").around((Path, "rename")):
        try:
            new_store(path)
        except sqlstore.StoreExistsError as error:
            return f"{type(error).__name__}: {error}"
    return "created"


@pytest.mark.parametrize("place", ["free", "an empty folder"])
def test_of_two_that_create_a_store_at_one_place_one_succeeds(tmp_path: Path, place: str) -> None:
    path = tmp_path / "folder" / "store"
    (path if place == "an empty folder" else path.parent).mkdir(parents=True)
    for _ in range(5):
        with Child(create_together, path) as first, Child(create_together, path) as second:
            children = [first, second]
            for child in children:
                assert child.hear() == "ready"
            for child in children:
                child.tell("go")
            results = sorted(child.result() for child in children)
        assert results[0].startswith("StoreExistsError: something lies at")
        assert results[1] == "created"
        assert [one.name for one in path.parent.iterdir()] == ["store"]
        append(path, (0, 0))
        assert_clean(path)
        path.rename(tmp_path / f"done-{len(list(tmp_path.iterdir()))}")


# Locks that others hold


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every wait for a lock short."""
    monkeypatch.setattr(limits, "LOCK_SECONDS", 0.05)


@contextmanager
def writer_lock(path: Path) -> Iterator[None]:
    descriptor = os.open(path / "writer.lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_index(connection: Connection, path: Path) -> None:
    """Keep a transaction open that reads, until told."""
    index = sqlite3.connect(path / "index.sqlite", isolation_level=None)
    index.execute("BEGIN")
    index.execute("SELECT count(*) FROM records").fetchall()
    connection.send("reading")
    connection.recv()
    index.close()


@pytest.mark.usefixtures("impatient")
def test_a_held_lock_keeps_the_records_for_a_later_commit(path: Path, tmp_path: Path) -> None:
    with sqlstore.open(path, "a") as store, store.writer() as writer:
        writer.extend(records_of((0, 0)))
        with writer_lock(path):
            for _ in range(2):
                with pytest.raises(sqlstore.StoreBusyError, match=r"writer\.lock"):
                    writer.commit()
            assert batches_in(path) == []
        writer.extend(records_of((0, 1)))
        assert writer.commit().tolist() == list(range(6))
        assert len(store) == 6
    assert_recovers(path, tmp_path, [(0, 0), (0, 1)])


@pytest.mark.usefixtures("impatient")
def test_a_long_read_by_somebody_keeps_the_records_for_a_later_commit(
    path: Path, tmp_path: Path
) -> None:
    with sqlstore.open(path, "a") as store, store.writer() as writer:
        writer.extend(records_of((0, 0)))
        with Child(read_index, path) as child:
            assert child.hear() == "reading"
            with pytest.raises(sqlstore.StoreBusyError, match=r"index\.sqlite"):
                writer.commit()
            child.tell("enough")
            assert child.exit_code() == 0
        assert len(writer.commit()) == 3
    assert_recovers(path, tmp_path, [(0, 0)])


def test_a_key_that_another_writer_took_is_named_and_leaves_the_store_clean(
    path: Path, tmp_path: Path
) -> None:
    taken = records_of((1, 0))
    with sqlstore.open(path, "a") as store, store.writer() as writer:
        writer.extend(records_of((0, 0)))
        writer.commit()
        writer.extend([*records_of((0, 1)), taken[1]])
        append(path, (1, 0))
        with pytest.raises(sqlstore.DuplicateKeyError, match="'1/0/1'") as caught:
            writer.commit()
        assert caught.value.where == {"row": 6, "record": 4}  # of those given to the writer
        store.refresh()
        assert store.get(key="1/0/1") == store.get(4) == taken[1]
        assert len(writer.commit()) == 0
        writer.extend(records_of((0, 2)))
        writer.commit()
    assert batches_in(path) == [(0, 0), (1, 0), (0, 2)]
    with sqlstore.open(path) as store:
        assert not store.verify().notes
    assert_rebuilds_equal(path, tmp_path)


# Forks


def in_fork(program: Callable[[], object]) -> None:
    """Run a program in a forked child and check that it ends well."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            program()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def use_writer_in_child(_: Connection, path: Path) -> None:
    with sqlstore.open(path, "a") as store, store.writer() as writer:
        writer.extend(records_of((0, 0)))
        writer.commit()
        writer.extend(records_of((0, 1)))

        def child() -> None:
            for use in (
                lambda: writer.append(records_of((0, 2))[0]),
                lambda: writer.extend(records_of((0, 2))),
                writer.commit,
            ):
                with pytest.raises(sqlstore.ForkedStoreError, match="forked child"):
                    use()
            writer.close()
            gc.collect()
            append(path, (1, 0))  # one of its own it may have

        in_fork(child)
        assert len(writer.commit()) == 3


def test_a_writer_in_a_forked_child_refuses_and_its_parent_goes_on(
    path: Path, tmp_path: Path
) -> None:
    run(use_writer_in_child, path)
    assert batches_in(path) == [(0, 0), (1, 0), (0, 1)]
    assert_recovers(path, tmp_path, [(0, 0), (1, 0), (0, 1)])


def read_in_child(_: Connection, path: Path, mode: str) -> None:
    def read() -> None:
        assert whole_batches(store) == [(0, 0), (0, 1)]
        assert view[0] == records_of((0, 1))[0]
        assert len(store.where("batch = 1")) == 3
        assert len(store.where(store.c.batch == 1)) == 3
        assert store.sql("SELECT count(*) AS n FROM records")["n"].to_pylist() == [6]
        assert store.get(key="0/0/2")["position"] == 2

    with sqlstore.open(path, "a" if mode == "a" else "r") as store:
        view = store.where("batch = 1")
        read()
        in_fork(read)
        in_fork(store.close)
        read()
        append(path, (0, 2))

        def refresh() -> None:
            store.refresh()
            assert len(store) == 9

        in_fork(refresh)
        refresh()


@pytest.mark.parametrize("mode", ["r", "a"])
def test_a_store_can_be_read_on_both_sides_of_a_fork(path: Path, mode: str) -> None:
    append(path, (0, 0), (0, 1))
    run(read_in_child, path, mode)
    assert_clean(path)


def read_in_child_of_a_thread(_: Connection, path: Path, mutex: str) -> None:
    """Fork from one thread while another is in the middle of a read, and read in the child."""
    with sqlstore.open(path) as store:
        source = store._source
        mutexes: dict[str, AbstractContextManager[object]]
        mutexes = {
            "chunks": source._reader._mutex,
            "source": source._mutex,
        }

        def read() -> None:
            signal.alarm(5)  # a mutex of a thread that is not there would be waited for, for ever
            assert whole_batches(store) == [(0, 0)]
            assert len(store.where("batch = 0")) == 3

        with mutexes[mutex], ThreadPoolExecutor(1) as pool:
            pool.submit(in_fork, read).result()
        assert whole_batches(store) == [(0, 0)]


@pytest.mark.parametrize("mutex", ["chunks", "source"])
def test_a_child_can_read_that_was_forked_while_another_thread_did(path: Path, mutex: str) -> None:
    append(path, (0, 0))
    run(read_in_child_of_a_thread, path, mutex)


def fork_while_holding_the_lock(connection: Connection, path: Path) -> None:
    """Fork in the middle of a commit; the child lives on and does nothing."""

    def fork() -> None:
        child = os.fork()
        if child == 0:
            signal.pause()
        connection.send(child)
        signal.pause()

    with Steps(fork, "after sync_file chunk").around((files, "sync_file")):
        append(path, (0, 0))


def test_a_forked_child_does_not_keep_the_locks_of_its_dead_parent(
    path: Path, tmp_path: Path
) -> None:
    with Child(fork_while_holding_the_lock, path) as parent:
        orphan = parent.hear()
        try:
            parent.signal(signal.SIGKILL)
            assert parent.exit_code() == -signal.SIGKILL
            with sqlstore.open(path, "a") as store, store.writer() as writer:
                assert len(store) == 0
                writer.extend(records_of((1, 0)))
                writer.commit()  # behind the one that was rolled forward
                assert len(store) == 6
        finally:
            os.kill(orphan, signal.SIGKILL)
    assert_recovers(path, tmp_path, [(0, 0), (1, 0)])


def fork_in_transaction(_: Connection, path: Path, ending: str) -> None:
    """Fork from another thread while a transaction is open, and let the child end."""

    def fork() -> None:
        assert (path / "index.sqlite-journal").exists()
        child = os.fork()
        if child == 0:
            gc.collect()
            if ending == "finalized":
                ctypes.pythonapi.Py_Exit(0)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert (path / "index.sqlite-journal").exists()

    def act() -> None:
        short = mock.patch.object(limits, "LOCK_SECONDS", 0.05)  # so long a fork waits for this
        with short, ThreadPoolExecutor(1) as pool:
            pool.submit(fork).result()

    with Steps(act, "before commit").around((Index, "commit")):
        append(path, (0, 0))


@pytest.mark.parametrize("ending", ["at once", "finalized"])
def test_the_end_of_a_forked_child_leaves_an_open_transaction_alone(
    path: Path, tmp_path: Path, ending: str
) -> None:
    run(fork_in_transaction, path, ending)
    assert batches_in(path) == [(0, 0)]
    assert_recovers(path, tmp_path, [(0, 0)])


# Threads


def test_threads_read_one_store_while_it_grows(path: Path) -> None:
    append(path, *[(0, number) for number in range(20)], count=10)
    total = itertools.count(200, 10)
    with sqlstore.open(path, "a") as store, ThreadPoolExecutor(6) as pool:
        begin = threading.Barrier(7)

        def read(thread: int) -> None:
            begin.wait()
            for number in range(thread, 200, 3):
                batch = 0, number // 10
                assert store[number] == records_of(batch, 10)[number % 10]
                assert len(store.where("writer = 0 AND batch = :b", b=number // 10)) == 10
                assert len(store.where(store.c.name == f"0/{number // 10}/0")) == 1
                ids = store.to_arrow()["id"].to_pylist()
                assert ids == list(range(len(ids)))

        results = [pool.submit(read, thread) for thread in range(6)]
        begin.wait()
        with store.writer() as writer:
            for number in range(20):
                writer.extend(records_of((NEXT, number), 10))
                writer.commit()
                assert len(store) == next(total) + 10
        for result in results:
            result.result()
    assert_clean(path)
