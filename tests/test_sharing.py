"""Processes of every kind, and threads, beside a store that is open, written to, and committed to.

``SQLSTORE_CELLS=all pytest tests/test_sharing.py`` tries all 180 combinations. By default each way
to read files is tried with one of three, and processes that start slowly with few moments.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import shutil
import threading
import warnings
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

import pytest

import sqlstore
from sqlstore import Store, Writer
from sqlstore.index.engine import Index
from sqlstore.log import files
from tests.processes import (
    Batch,
    Steps,
    append,
    assert_clean,
    batches_in,
    is_free,
    new_store,
    records_of,
    run,
    whole_batches,
)
from tests.sharing import BEFORE, CHILDS, CHOSEN, PARENTS, Task, is_locked, open_files, share

METHODS: Final = ("fork", "forkserver", "spawn", "thread")
FAST: Final = ("fork", "thread")
ROLES: Final = ("reader", "view", "writer")
IOS: Final = ("mmap", "pread", "memory")
STEPS: Final = {"writing": "before sync_data chunk", "committing": "before commit"}
MOMENTS: Final = ("before", "after", "uncommitted", *STEPS)
"""When a child is started: before the parent opens a writer; before it opens anything; beside
records that wait; while these are written; and while SQLite commits."""
LAST: Final[Batch] = (1, 1)
_PATIENCE: Final = 100  # seconds; only waited for by a test that fails


def cells() -> list[tuple[str, str, str, str]]:
    every = itertools.product(METHODS, MOMENTS, ROLES)
    if os.environ.get("SQLSTORE_CELLS") == "all":
        return [(*cell, how) for cell in every for how in IOS]
    some = [
        (method, moment, role)
        for method, moment, role in every
        if method in FAST or ROLES.index(role) == MOMENTS.index(moment) - 2
    ]
    return [(*cell, IOS[number % len(IOS)]) for number, cell in enumerate(some)]


class Beside:
    """A child, or a thread, that works at a store of its parent."""

    def __init__(self, method: str) -> None:
        self._method = method
        self._connection, self._theirs = multiprocessing.Pipe()
        self._runner: Any = None

    def start(self, task: Task) -> None:
        if self._method == "thread":
            self._runner = threading.Thread(target=share, args=(self._theirs, task), daemon=True)
        else:
            context: Any = multiprocessing.get_context(self._method)
            self._runner = context.Process(target=share, args=(self._theirs, task), daemon=True)
        with warnings.catch_warnings():
            # Later Pythons warn of a fork beside threads, which is just what is tried here.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._runner.start()
        if self._method != "thread":
            self._theirs.close()

    def tell(self) -> None:
        self._connection.send("go on")

    def hear(self, expected: str) -> None:
        assert self._connection.poll(_PATIENCE), f"nobody says: {expected}"
        heard = self._connection.recv()
        assert heard == expected, heard

    def join(self) -> None:
        self._runner.join(_PATIENCE)
        assert not self._runner.is_alive()
        assert self._method == "thread" or self._runner.exitcode == 0

    def close(self) -> None:
        if isinstance(self._runner, BaseProcess):
            self._runner.kill()
            self._runner.join()
            self._runner.close()
        for one in (self._connection, self._theirs):
            one.close()


class Parent:
    """Has a store open, starts somebody beside it at one moment, and commits."""

    def __init__(self, path: Path, method: str, moment: str, role: Any, how: Any) -> None:
        self.path, self.how = path, how
        self.beside = Beside(method)
        self._method, self._moment, self._role = method, moment, role
        self._open: dict[int, tuple[int, int, int]] = {}

    def start(self, store: Store | None, writer: Writer | None) -> None:
        task = Task(
            self.path,
            self._role,
            self.how,
            store,
            None if store is None else store[CHOSEN],
            writer if self._method == "fork" else None,
            self._method == "thread",
            held=self._moment == "committing" and not self.fork_waits,
            committed=self.fork_waits,
        )
        self._open = open_files(self.path)
        self.beside.start(task)

    @property
    def fork_waits(self) -> bool:
        """Return whether the child is there only when the commit has ended."""
        return (self._method, self._moment) == ("fork", "committing")

    def looked(self) -> None:
        """Wait until the other has looked; what was open here still is, and stands where it did."""
        self.beside.hear("looked")
        assert open_files(self.path).items() >= self._open.items()

    def commit(self, store: Store, writer: Writer) -> None:
        """Commit, and have the other started from another thread in the middle of it."""
        asked = threading.Event()

        def start() -> None:
            asked.set()
            self.start(store, writer)

        other = threading.Thread(target=start)

        def act() -> None:
            if self.fork_waits:
                other.start()
                assert asked.wait(_PATIENCE)
                return
            held = [one for one in (self.path / "chunks").iterdir() if not is_free(one)]
            other.start()
            other.join(_PATIENCE)
            self.looked()
            assert held
            assert not any(is_free(chunk) for chunk in held)
            if self._moment == "committing":
                assert not is_free(self.path / "writer.lock")
                assert run(is_locked, self.path)

        steps = Steps(act, STEPS.get(self._moment))
        with steps.around((files, "sync_data"), (Index, "commit")):
            ids = writer.commit().tolist()
        assert ids == list(range(ids[0], ids[0] + 3))
        assert steps.acted == (self._moment in STEPS)
        if self.fork_waits:
            other.join(_PATIENCE)
            self.beside.hear("looked")

    def run(self) -> None:
        if self._moment == "after":
            self.start(None, None)
        with sqlstore.open(self.path, "a", io=self.how) as store:
            if self._moment == "before":
                self.start(store, None)
                self.looked()
            with store.writer() as writer:
                writer.extend(records_of(PARENTS))
                if self._moment == "after":
                    self.beside.tell()
                    self.beside.hear("looked")
                if self._moment == "uncommitted":
                    self.start(store, writer)
                    self.looked()
                self.commit(store, writer)
                self.beside.tell()
                self.beside.hear("done")
                self.beside.join()
                writer.extend(records_of(LAST))
            assert whole_batches(store)[-1] == LAST

    def expected(self) -> list[Batch]:
        """Return what must be in the store then, in that order."""
        first, second = [[one] if self._role == "writer" else [] for one in CHILDS]
        if self.fork_waits:
            return [*BEFORE, PARENTS, *first, *second, LAST]
        if self._moment == "committing":  # the first was refused
            first = []
        return [*BEFORE, *first, PARENTS, *second, LAST]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = new_store(tmp_path_factory.mktemp("sharing") / "store")
    append(path, *BEFORE)
    return path


@pytest.mark.parametrize(("method", "moment", "role", "how"), cells())
def test_a_store_is_shared(
    template: Path, tmp_path: Path, method: str, moment: str, role: str, how: str
) -> None:
    path = shutil.copytree(template, tmp_path / "store")
    parent = Parent(path, method, moment, role, how)
    try:
        parent.run()
    finally:
        parent.beside.close()
    assert batches_in(path) == parent.expected()
    assert_clean(path)
