"""What somebody does beside a parent that has the same store open, and writes to it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, Literal, TypeAlias
from unittest import mock

import pytest

import sqlstore
from sqlstore import Store, View, Writer, limits
from tests.processes import Batch, append, batches_in, record_of, records_of, whole_batches
from tests.worker_programs import descriptors

Io: TypeAlias = Literal["mmap", "pread", "memory"]

BEFORE: Final[list[Batch]] = [(0, 0), (0, 1)]
"""What is in the store at first."""
PARENTS: Final[Batch] = (1, 0)
CHILDS: Final[tuple[Batch, Batch]] = ((2, 0), (2, 1))
"""What a child that writes commits before its parent, and what after it."""
CHOSEN: Final = [5, 0, 0, 3]


@dataclass(frozen=True)
class Task:
    """What a child is to do, and what it is given.

    Attributes
    ----------
    store, view
        Opened by the parent; None if it had opened nothing then.
    writer
        The parent's, in a forked child.
    is_thread
        Whether it is no process of its own.
    held
        Whether the parent is in the middle of its commit until the child has looked.
    committed
        Whether the parent's commit comes before anything that the child does.
    """

    path: Path
    role: Literal["reader", "view", "writer"]
    io: Io
    store: Store | None
    view: View | None
    writer: Writer | None
    is_thread: bool
    held: bool = False
    committed: bool = False


def share(connection: Connection, task: Task) -> None:
    """Do a task, and say what went wrong."""
    try:
        if task.store is None:
            connection.recv()  # the parent opens the store only now
        elif not task.is_thread:
            for name in ("index.sqlite", "writer.lock"):
                assert descriptors(task.path, name) == 0, f"the parent's {name} is open here"
        if task.writer is not None:
            refused(task.writer)
        with contextlib.ExitStack() as opened:
            store, view = task.store, task.view
            if store is None or view is None:
                store = opened.enter_context(sqlstore.open(task.path, io=task.io))
                view = store[CHOSEN]
            look(task, store, view)
            connection.send("looked")
            connection.recv()
            look_again(task, store, view)
        connection.send("done")
    except BaseException:
        connection.send(traceback.format_exc())
        raise


def look(task: Task, store: Store, view: View) -> None:
    """Do what is to be done as soon as the child is started."""
    check_view(view)
    if task.held:
        find_busy(task)
    elif task.role == "reader":
        check_store(store[:6])
        assert batches_in(task.path) == ([*BEFORE, PARENTS] if task.committed else BEFORE)
    elif task.role == "writer":
        append(task.path, CHILDS[0])


def look_again(task: Task, store: Store, view: View) -> None:
    """Do what is to be done when the parent has committed."""
    check_view(view)
    if task.role == "reader":
        check_store(store[:6])
        store.refresh()
        assert whole_batches(store) == [*BEFORE, PARENTS]
        assert store.where("writer = 1").ids.tolist() == [6, 7, 8]
    elif task.role == "writer":
        append(task.path, CHILDS[1])


def refused(writer: Writer) -> None:
    """Check that a child cannot use the writer of its parent, and let go of it."""
    records = records_of((9, 9))
    for use in (lambda: writer.append(records[0]), lambda: writer.extend(records), writer.commit):
        with pytest.raises(sqlstore.ForkedStoreError, match="forked child"):
            use()
    writer.close()


def check_view(view: View) -> None:
    expected = [record_of(0, position // 3, position % 3, 3, 64) for position in CHOSEN]
    assert view.fetch(range(len(view))) == expected
    assert [view.raw(position, "payload") for position in range(len(view))] == [
        record["payload"] for record in expected
    ]


def check_store(store: View) -> None:
    assert whole_batches(store) == BEFORE
    assert store.where("batch = 1").ids.tolist() == [3, 4, 5]


def find_busy(task: Task) -> None:
    """Check that who opens the store now waits, or reads the commit before."""
    with mock.patch.object(limits, "LOCK_SECONDS", 0.02):
        if task.role == "writer":
            with (
                pytest.raises(sqlstore.StoreBusyError),
                sqlstore.open(task.path, "a") as store,
                store.writer(),
            ):
                pass
        elif task.role == "reader":
            with contextlib.suppress(sqlstore.StoreBusyError):
                assert batches_in(task.path) == BEFORE


def is_locked(_: Connection, path: Path) -> bool:
    """Return whether anybody keeps another process from reading the index."""
    with contextlib.closing(sqlite3.connect(path / "index.sqlite", timeout=0)) as index:
        try:
            index.execute("SELECT count(*) FROM records").fetchall()
        except sqlite3.OperationalError:
            return True
    return False


def open_files(root: Path) -> dict[int, tuple[int, int, int]]:
    """Return the descriptors of a store's files: device, inode, and where they stand."""
    files = {(one.stat().st_dev, one.stat().st_ino) for one in root.rglob("*") if one.is_file()}
    return {
        number: (device, inode, os.lseek(number, 0, os.SEEK_CUR))
        for number, device, inode in _descriptors()
        if (device, inode) in files
    }


def _descriptors() -> Iterator[tuple[int, int, int]]:
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - these links come and go
        with contextlib.suppress(OSError):
            status = os.fstat(int(name))
            yield int(name), status.st_dev, status.st_ino
