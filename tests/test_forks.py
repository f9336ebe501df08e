"""Forks at bad moments: inside a statement, a transaction or a commit, and before a writer dies."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import sqlstore
from sqlstore import limits
from sqlstore.index.engine import Index
from sqlstore.log import files
from tests.processes import (
    Child,
    Steps,
    append,
    assert_recovers,
    batches_in,
    is_free,
    new_store,
    records_of,
    run,
    whole_batches,
)

_PATIENCE = 100  # seconds; only waited for by a test that fails


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = new_store(tmp_path / "store")
    append(path, (0, 0))
    return path


def forked(program: Callable[[Connection], object]) -> tuple[int, Connection]:
    """Run a program in a forked child that ends then, and return its id and what it talks to."""
    ours, theirs = Pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            theirs.send(program(theirs))
            status = 0
        finally:
            os._exit(status)
    return child, ours


def heard(connection: Connection) -> Any:
    assert connection.poll(_PATIENCE), "the child says nothing"
    return connection.recv()


class ForkElsewhere:
    """Another thread that forks, while this one goes on as soon as the child may be there."""

    def __init__(self, program: Callable[[Connection], object]) -> None:
        self._program = program
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._fork)
        self.child, self.connection = 0, Pipe()[0]

    def _fork(self) -> None:
        self.child, self.connection = forked(self._program)
        self._done.set()

    def begin(self) -> None:
        self._thread.start()
        self._done.wait(0.2)  # not so long where a fork does not wait for this thread: a bug

    def end(self) -> Connection:
        self._thread.join(_PATIENCE)
        return self.connection


def fork_beside_commit(_: Connection, path: Path) -> None:
    other = ForkElsewhere(lambda told: (told.recv(), batches_in(path))[1])
    with Steps(other.begin, "before commit").around((Index, "commit")):
        append(path, (0, 1))
    connection = other.end()
    connection.send("committed")
    assert heard(connection) == [(0, 0), (0, 1)]


def test_a_child_that_is_forked_while_another_thread_commits_can_read_the_index(
    path: Path,
) -> None:
    """SQLite's memory of the parent's locks once had it wait for ever."""
    run(fork_beside_commit, path)


def read_in_transaction(told: Connection, path: Path) -> int:
    with sqlstore.open(path) as store:
        index = store._source.finder._index
        with index.as_of_now():
            before = index.rows("SELECT count(*) FROM records")
            told.send("reading")
            told.recv()
            assert index.rows("SELECT count(*) FROM records") == before
    return len(before)


def fork_beside_read(_: Connection, path: Path) -> None:
    def read(told: Connection) -> int:
        assert told.recv() == "read"
        return read_in_transaction(told, path)

    other = ForkElsewhere(read)

    def slowly(connection: Any) -> None:
        rows = connection.execute("SELECT * FROM records")
        rows.fetchone()
        other.begin()
        rows.fetchall()

    with sqlstore.open(path) as store:
        store._source.finder._index.reading(slowly)
    connection = other.end()
    connection.send("read")
    assert heard(connection) == "reading"
    with (
        mock.patch.object(limits, "LOCK_SECONDS", 0.05),
        pytest.raises(sqlstore.StoreBusyError),
    ):
        append(path, (0, 1))
    connection.send("enough")
    assert heard(connection) == 1


def test_a_child_that_is_forked_while_another_thread_reads_has_locks_of_its_own(
    path: Path,
) -> None:
    """SQLite once took the parent's for its own, and others wrote while the child read."""
    run(fork_beside_read, path)


def fork_beside_those_who_read_on(_parent: Connection, path: Path) -> None:
    enough = threading.Event()

    def read() -> None:
        with sqlstore.open(path) as store:
            while not enough.is_set():
                assert len(store.where("writer = 0")) == 3

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            child, connection = forked(lambda _: batches_in(path))
            assert heard(connection) == [(0, 0)]
            os.waitpid(child, 0)
    finally:
        enough.set()
        for thread in threads:
            thread.join()


def test_forks_come_between_threads_that_read_on_and_on(path: Path) -> None:
    """A fork that let go of one while it waited for another came only after its patience."""
    run(fork_beside_those_who_read_on, path)


@mock.patch.object(limits, "LOCK_SECONDS", 0.05)
def fork_inside(_: Connection, path: Path, elsewhere: bool) -> None:
    def look(told: Connection) -> str:
        assert told.recv() == "committed"
        assert view.fetch([0, 2]) == [records_of((0, 0))[0], records_of((0, 0))[2]]
        with pytest.raises(sqlstore.ForkedStoreError, match="inside a statement or transaction"):
            store.sql("SELECT 1")
        with pytest.raises(sqlstore.ForkedStoreError, match="use spawn"):
            sqlstore.open(path)
        return "refused"

    def fork() -> None:
        children.append(forked(look))

    def act() -> None:
        if not elsewhere:
            return fork()
        thread = threading.Thread(target=fork)
        thread.start()
        return thread.join(_PATIENCE)  # so that it waits in vain

    children: list[tuple[int, Connection]] = []
    with sqlstore.open(path) as store:
        view = store[:]
        with Steps(act, "before commit").around((Index, "commit")):
            append(path, (0, 1))
        connection = children[0][1]
        connection.send("committed")
        assert heard(connection) == "refused"
        store.refresh()
        assert whole_batches(store) == [(0, 0), (0, 1)]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_child_that_is_forked_inside_a_transaction_reads_views_and_is_refused_the_index(
    path: Path, tmp_path: Path, elsewhere: bool
) -> None:
    run(fork_inside, path, elsewhere)
    assert_recovers(path, tmp_path, [(0, 0), (0, 1)], rebuild=False)


# Children of a writer that dies


MOMENTS = (None, "before sync_data chunk", "after write_at lock", "before commit", "after commit")
"""Where in a commit a writer forks: not at all in one, but beside records that wait; and others."""


def fork_and_wait(connection: Connection, path: Path, moment: str | None) -> None:
    """Have two children at one moment, one of which keeps reading, and wait to be killed."""

    def fork() -> None:
        for program in (lambda _: signal.pause(), read_on):
            child, told = forked(program)
            if program is read_on:
                assert heard(told) == "reads"
            connection.send(child)
        connection.send("forked")
        signal.pause()

    def read_on(told: Connection) -> None:
        told.send("reads")
        while True:
            assert whole_batches(store[:3]) == [(0, 0)]

    seams = (files, "write_at"), (files, "sync_data"), (Index, "commit")
    with sqlstore.open(path, "a") as store, store.writer() as writer:
        writer.extend(records_of((0, 1)))
        writer.commit()
        writer.extend(records_of((0, 2)))
        if moment is None:
            fork()
        with Steps(fork, moment).around(*seams):
            writer.commit()


@contextlib.contextmanager
def killed_with_children(path: Path, moment: str | None) -> Iterator[None]:
    """Kill a writer whose forked children live on inside the block."""
    children = []
    with Child(fork_and_wait, path, moment) as parent:
        while (child := parent.hear()) != "forked":
            children.append(child)
        try:
            parent.signal(signal.SIGKILL)
            assert parent.exit_code() == -signal.SIGKILL
            for child in children:
                os.kill(child, 0)
            yield
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_locks_of_a_killed_writer_are_free_while_its_children_live(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str | None
) -> None:
    with killed_with_children(path, moment), monkeypatch.context() as patch:
        patch.setattr(limits, "LOCK_SECONDS", 1)
        assert is_free(path / "writer.lock")
        assert all(is_free(chunk) for chunk in (path / "chunks").iterdir())
        assert_recovers(path, tmp_path, [(0, 0), (0, 1)], [(0, 2)], rebuild=False)
