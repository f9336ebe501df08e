"""Readers that are started while a commit is stopped inside one of its system calls.

``SQLSTORE_CALLS=1 pytest tests/test_commit_beside_readers.py`` stops at every call.
"""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pytest

import sqlstore
from sqlstore import View, limits
from tests.processes import (
    Batch,
    Child,
    append,
    assert_clean,
    batches_in,
    new_store,
    records_of,
    whole_batches,
)
from tests.tracing import Call, Template, unavailable

pytestmark = pytest.mark.skipif(bool(unavailable()), reason=unavailable())

STEP: Final = int(os.environ.get("SQLSTORE_CALLS", "6"))  # one of so many calls is stopped
OLD: Final[list[Batch]] = [(0, 0), (0, 1)]
NEW: Final[Batch] = (1, 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = new_store(tmp_path / "store")
    append(path, *OLD)
    return path


def commit_once(path: Path) -> None:
    append(path, NEW)


class Watcher:
    """Looks at a store, from its own process, while a writer is stopped."""

    def __init__(self, path: Path, view: View) -> None:
        self._path, self._view = path, view
        self.seen: list[str] = []

    def look(self, call: Call) -> None:
        """Check that there is the commit before or the one after, or that somebody must wait."""
        if call.number % STEP:
            return
        assert self._view.fetch(range(6)) == [one for batch in OLD for one in records_of(batch)]
        try:
            found = batches_in(self._path)
        except sqlstore.StoreBusyError:
            self.seen.append("busy")
            return
        assert found in (OLD, [*OLD, NEW])
        self.seen.append("before" if found == OLD else "after")


def test_a_reader_beside_any_call_of_a_commit_finds_a_whole_commit_or_waits(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlstore.open(path) as store, Template([__name__]) as template:
        watcher = Watcher(path, store[:])
        with monkeypatch.context() as patch:
            patch.setattr(limits, "LOCK_SECONDS", 0.01)
            trace = template.trace(commit_once, path, root=path, decide=watcher.look)
    assert (trace.exit_code, trace.error) == (0, "")
    in_order = list(dict.fromkeys(watcher.seen))
    assert in_order == ["before", "busy", "after"], watcher.seen
    assert watcher.seen == sorted(watcher.seen, key=in_order.index)
    assert batches_in(path) == [*OLD, NEW]
    assert_clean(path)


def open_anew(connection: Connection, path: Path) -> list[Batch]:
    connection.send("begun")
    return batches_in(path)


def refresh(connection: Connection, path: Path) -> list[Batch]:
    with sqlstore.open(path) as store:
        connection.send("open")
        connection.recv()
        connection.send("begun")
        store.refresh()
        return whole_batches(store)


def test_readers_that_are_started_inside_sqlites_commit_read_what_it_commits(path: Path) -> None:
    with Child(refresh, path) as old, Template([__name__]) as template:
        assert old.hear() == "open"
        new: list[Child] = []

        def start(call: Call) -> None:
            if not new and call.name.startswith("pwrite") and call.path.endswith("index.sqlite"):
                new.append(Child(open_anew, path))
                old.tell("now")
                assert [new[0].hear(), old.hear()] == ["begun", "begun"]

        trace = template.trace(commit_once, path, root=path, decide=start)
        assert (trace.exit_code, trace.error) == (0, "")
        with new[0]:
            assert new[0].result() == old.result() == [*OLD, NEW]
    assert_clean(path)
