"""Processes that tests start, kill and interrupt, what these run, and how what is left is checked.

The processes come from a server that has imported everything once and opened nothing: a hundred of
them cost little, and none inherits locks, threads or connections of the tests.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import multiprocessing
import os
import shutil
import signal
import sqlite3
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias
from unittest import mock

import sqlstore
from sqlstore.index.engine import Index
from sqlstore.log import files
from sqlstore.log.writer import ChunkWriter

Batch: TypeAlias = tuple[int, int]
"""What a test commits at once: number of the writer, number of the batch."""

Program: TypeAlias = Callable[..., object]
"""What a process runs; its first argument is the connection to the test."""

NEXT = 999
"""The writer that comes after a crash."""

_SERVER = multiprocessing.get_context("forkserver")
# Arrow imports pandas, where it is installed, when it first meets a NumPy array.
_SERVER.set_forkserver_preload(["__main__", "pandas", "sqlstore.index.ddl", "tests.processes"])
_PATIENCE = 100  # seconds; only ever waited for by a test that is about to fail


# What is written


def records_of(batch: Batch, count: int = 3, size: int = 64) -> list[dict[str, Any]]:
    """Return the records of a batch; every value follows from what names the record."""
    return [record_of(*batch, position, count, size) for position in range(count)]


def record_of(writer: int, batch: int, position: int, count: int, size: int) -> dict[str, Any]:
    name = f"{writer}/{batch}/{position}"
    return {
        "payload": hashlib.shake_128(name.encode()).digest(size),
        "name": name,
        "writer": writer,
        "batch": batch,
        "position": position,
        "count": count,
        "size": size,
    }


def new_store(path: Path, chunk_size: int = sqlstore.MiB) -> Path:
    integers = dict.fromkeys(["writer", "batch", "position", "count", "size"], "int32")
    metadata: dict[str, str] = {"name": "string", **integers}
    sqlstore.create(
        path, fields={"payload": "bytes"}, metadata=metadata, key="name", chunk_size=chunk_size
    ).close()
    return path


def append(path: Path, *batches: Batch, count: int = 3, size: int = 64) -> None:
    """Commit batches, each by itself, through a writer of this process."""
    with sqlstore.open(path, "a") as store, store.writer() as writer:
        for batch in batches:
            writer.extend(records_of(batch, count, size))
            assert len(writer.commit()) == count


def read_acknowledged(path: Path) -> set[Batch]:
    """Return the batches whose commit returned, as their writers noted one by one."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return {(int(a), int(b)) for a, b in (line.split() for line in lines if line.endswith("\n"))}


# How it is checked


def whole_batches(store: sqlstore.View, start: int = 0) -> list[Batch]:
    """Check every record from a position on, and that no commit is there in part.

    Returns
    -------
    list of Batch
        In the order of their record ids.
    """
    found: list[Batch] = []
    due = 0  # position of the next record in its batch
    count = 0
    for record in store[start:]:
        batch = record["writer"], record["batch"]
        if due == count:
            found.append(batch)
            due, count = 0, record["count"]
        assert record == record_of(*batch, due, count, record["size"])
        due += 1
    assert due == count, f"{found[-1]} is there in part"
    assert len(set(found)) == len(found)
    return found


def batches_in(path: Path) -> list[Batch]:
    with sqlstore.open(path) as store:
        assert store.ids.tolist() == list(range(len(store)))
        return whole_batches(store)


def assert_clean(path: Path) -> None:
    """Check that the store has no fault, and that no commit waits to be settled."""
    with sqlstore.open(path) as store:
        report = store.verify()
    assert report, report
    assert not [note for note in report.notes if "not in the index yet" in note], report


def contents(path: Path) -> dict[str, Any]:
    """Return all that a store holds but for what a rebuild may decide anew."""
    with sqlstore.open(path) as store:
        return {
            "metadata": store.to_arrow(),
            "payloads": [store.raw(position, "payload") for position in range(len(store))],
            "values": store.sql("SELECT * FROM record_locations ORDER BY record"),
            "commits": store.sql("SELECT * FROM commits ORDER BY number"),
            "chunks": store.sql("SELECT chunk, name, uuid, size FROM chunks ORDER BY chunk"),
        }


def assert_rebuilds_equal(path: Path, scratch: Path) -> None:
    """Check that a copy without its index is the same store again after a rebuild."""
    copy = scratch / "rebuilt"
    shutil.copytree(path, copy)
    (copy / "index.sqlite").unlink()
    expected = contents(path)
    assert sqlstore.rebuild(copy) == len(expected["metadata"])
    assert contents(copy) == expected
    assert_clean(copy)
    shutil.rmtree(copy)


def assert_recovers(
    path: Path,
    scratch: Path,
    acknowledged: Collection[Batch],
    possible: Collection[Batch] = (),
    durable: Collection[Batch] = (),
    *,
    rebuild: bool = True,
) -> list[Batch]:
    """Check a store after a crash, before and after another writer has come.

    Parameters
    ----------
    acknowledged
        What must be there.
    possible
        What may be there as well.
    durable
        What must be there once another writer has settled what was pending.
    rebuild
        Whether to check that a rebuild gives the same; `verify` compares index and log in any case.

    Returns
    -------
    list of Batch
        What is there but for the batch of the other writer.
    """
    before = batches_in(path)
    assert set(acknowledged) <= set(before)
    append(path, (NEXT, 0))
    *after, last = batches_in(path)
    assert last == (NEXT, 0)
    assert after[: len(before)] == before
    assert set(durable) <= set(after) <= {*acknowledged, *possible, *durable}
    assert_clean(path)
    if rebuild:
        assert_rebuilds_equal(path, scratch)
    return after


def is_free(path: Path) -> bool:
    """Return whether nobody holds the `flock` of a file."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


# Processes


@dataclass(frozen=True, slots=True)
class _Returned:
    value: object


@dataclass(frozen=True, slots=True)
class _Raised:
    text: str


def _run(connection: Connection, program: Program, arguments: Sequence[object]) -> None:
    # Coverage does not save what it measures here, and a Ctrl-C inside it leaves its lock held.
    sys.settrace(None)
    threading.settrace(None)
    try:
        connection.send(_Returned(program(connection, *arguments)))
    except BaseException:
        connection.send(_Raised(traceback.format_exc()))
        raise


class Child:
    """A process of its own that runs a program; killed at the end of the ``with`` block."""

    def __init__(self, program: Program, *arguments: object) -> None:
        self._connection, theirs = _SERVER.Pipe()
        self._process = _SERVER.Process(target=_run, args=(theirs, program, arguments), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()
        self._connection.close()

    def hear(self) -> Any:
        """Return the next thing that the program says."""
        assert self._connection.poll(_PATIENCE), "the program says nothing"
        return self._next_message()

    result = hear
    """Return what the program returns, after all that it said was heard."""

    def heard(self) -> Iterator[Any]:
        """Yield what the program has said by now; if it was killed, what it has said whole."""
        with suppress(EOFError, OSError):
            while self._connection.poll():
                yield self._next_message()

    def _next_message(self) -> Any:
        message = self._connection.recv()
        assert not isinstance(message, _Raised), message.text
        return message.value if isinstance(message, _Returned) else message

    def tell(self, message: object) -> None:
        self._connection.send(message)

    def signal(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def is_running(self) -> bool:
        return self._process.is_alive()

    def exit_code(self) -> int:
        """Wait for the end; a negative number is the signal that killed the process."""
        self._process.join(_PATIENCE)
        assert self._process.exitcode is not None, "the program does not end"
        return self._process.exitcode


def run(program: Program, *arguments: object) -> Any:
    """Run a program in a process of its own and return what it returns."""
    with Child(program, *arguments) as child:
        return child.result()


# Steps of the commit protocol, at each of which something can be made to happen


class Steps:
    """The moments before, in and after every step, numbered as they come.

    Parameters
    ----------
    act
        What happens at one of them.
    at
        Its number, or its name for the first of that name; None for nowhere.
    lasting
        Whether it happens at every moment from there on.

    Attributes
    ----------
    names
        Those that have come.
    acted
        Whether it has happened.
    """

    def __init__(
        self, act: Callable[[], object], at: int | str | None, *, lasting: bool = False
    ) -> None:
        self.names: list[str] = []
        self.acted = False
        self._act = act
        self._at = at
        self._lasting = lasting

    def reach(self, name: str) -> None:
        self.names.append(name)
        first = not self.acted and self._at in (len(self.names) - 1, name)
        if first or (self.acted and self._lasting):
            self.acted = True
            self._act()

    @contextmanager
    def around(self, *seams: tuple[Any, str]) -> Iterator[None]:
        """Watch the functions ``(owner, name)`` inside the block."""
        with ExitStack() as stack:
            for owner, name in seams:
                make = self._torn if name == "write_at" else self._whole
                stack.enter_context(mock.patch.object(owner, name, make(owner, name)))
            yield

    def _whole(self, owner: Any, name: str) -> Callable[..., Any]:
        real = getattr(owner, name)

        @functools.wraps(real)
        def step(*arguments: Any, **named: Any) -> Any:
            what = f"{name} {_object(arguments)}".rstrip()
            self.reach(f"before {what}")
            result = real(*arguments, **named)
            self.reach(f"after {what}")
            return result

        return step

    def _torn(self, owner: Any, name: str) -> Callable[..., Any]:
        """Return a write that can also stop half-way."""
        real = getattr(owner, name)

        def write_at(descriptor: int, offset: int, buffers: Any, path: Path) -> Any:
            data = b"".join(bytes(memoryview(buffer)) for buffer in buffers)
            what = f"{name} {_object([path])}"
            self.reach(f"before {what}")
            if len(self.names) == self._at:
                real(descriptor, offset, [data[: len(data) // 2]], path)
            self.reach(f"in {what}")
            result = real(descriptor, offset, [data], path)
            self.reach(f"after {what}")
            return result

        return write_at


def _object(arguments: Sequence[Any]) -> str:
    """Return what a step is done to, as far as that is the same in every run."""
    for one in reversed(arguments):
        if isinstance(one, str):
            return one.split("(", maxsplit=1)[0]
        if isinstance(one, Path) and "cache" in one.parts:
            return "cache"
        if isinstance(one, Path):
            return "chunk" if one.suffix == ".chunk" else "lock" if one.suffix == ".lock" else ""
    return ""


# `name_pending` and `clear_pending` are writes to the lock file, `Index.commit` is a statement.
COMMIT_STEPS: tuple[tuple[Any, str], ...] = (
    (files, "create_exclusively"),
    (files, "write_at"),
    (files, "sync_data"),
    (files, "sync_file"),
    (files, "sync_folder"),
    (files, "truncate"),
    (Index, "run"),
)
FOLDER_STEPS: tuple[tuple[Any, str], ...] = (
    *((files, name) for name in ("create_exclusively", "write_at", "sync_data", "sync_folder")),
    (files, "sync_file"),
    (Index, "commit"),
    (Path, "rename"),
    (Path, "unlink"),
)
SIGNAL_STEPS: tuple[tuple[Any, str], ...] = (
    *COMMIT_STEPS,
    (files, "try_lock"),
    (files, "unlock"),
    (ChunkWriter, "committed"),
)


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# What the processes run


def commit_batches(
    _: Connection,
    path: Path,
    note: Path,
    batches: Sequence[Batch],
    size: int = 64,
    kill_at: int | str | None = None,
) -> list[str]:
    """Commit batches of two records, killed at one of the steps, and return the steps."""
    steps = Steps(kill_self, kill_at)
    descriptor = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with (
        steps.around(*COMMIT_STEPS),
        sqlstore.open(path, "a") as store,
        store.writer() as writer,
    ):
        for batch in batches:
            writer.extend(records_of(batch, 2, size))
            writer.commit()
            os.write(descriptor, b"%d %d\n" % batch)
    os.close(descriptor)
    return steps.names


def keep_committing(
    connection: Connection,
    path: Path,
    note: Path,
    writer_number: int,
    n_batches: int,
    count: int,
    milestone: int,
) -> None:
    """Say that it is ready, and when told commit batch after batch, noting each.

    Parameters
    ----------
    milestone
        It says so when this many batches are committed.
    """
    descriptor = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with sqlstore.open(path, "a") as store, store.writer() as writer:
        connection.send("ready")
        connection.recv()
        for number in range(n_batches):
            if number == milestone:
                connection.send("milestone")
            writer.extend(records_of((writer_number, number), count))
            writer.commit()
            os.write(descriptor, b"%d %d\n" % (writer_number, number))
    os.close(descriptor)


def create_store(_: Connection, path: Path, kill_at: int | str | None = None) -> list[str]:
    """Create a store, killed at one of the steps, and return the steps."""
    steps = Steps(kill_self, kill_at)
    with steps.around(*FOLDER_STEPS):
        new_store(path)
    return steps.names


def rebuild_store(_: Connection, path: Path, kill_at: int | str | None = None) -> list[str]:
    """Rebuild the index, killed at one of the steps, and return the steps."""
    steps = Steps(kill_self, kill_at)
    with steps.around(*FOLDER_STEPS):
        sqlstore.rebuild(path)
    return steps.names


def copy_index(_: Connection, path: Path, to: Path) -> None:
    """Copy an index as a person would: with SQLite, in another process."""
    source, target = sqlite3.connect(path), sqlite3.connect(to)
    source.backup(target)
    source.close()
    target.close()


def die_in_transaction(_: Connection, path: Path, settings: Mapping[str, object]) -> None:
    """Change every row of an index in a transaction, have it written in part, and die."""
    connection = sqlite3.connect(path / "index.sqlite", isolation_level=None)
    for name, value in settings.items():
        connection.execute(f"PRAGMA {name} = {value}")
    connection.execute("BEGIN")
    connection.execute("UPDATE records SET name = 'lost' || id, writer = -1")
    connection.execute("UPDATE blobs SET offset = 0, length = 0, checksum = 0")
    kill_self()
