"""Orders of events between processes that once cost something, one test for each."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import sqlstore
from sqlstore import limits
from sqlstore.interrupts import deferred_interrupts
from sqlstore.source import Source

HALF_DONE = """
import os, sqlite3, sys
index = sqlite3.connect(sys.argv[1], isolation_level=None)
index.execute("PRAGMA cache_size = 5")
index.execute("BEGIN EXCLUSIVE")
index.execute("UPDATE records SET label = 'torn' || label")
os._exit(0)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    with sqlstore.create(path, fields={"f": "bytes"}, metadata={"label": "string"}) as store:
        store.extend([{"f": b"x", "label": f"{number:0100d}"} for number in range(3000)])
    return path


def append(root: Path, label: str) -> int:
    with sqlstore.open(root, mode="a") as store:
        return int(store.extend([{"f": b"y", "label": label}])[0])


def test_a_writer_from_before_a_rebuild_leaves_the_new_journal_to_the_new_index(
    root: Path,
) -> None:
    with sqlstore.open(root, mode="a") as store, store.writer() as writer:
        sqlstore.rebuild(root)
        command = [sys.executable, "-c", HALF_DONE, str(root / "index.sqlite")]
        subprocess.run(command, check=True, timeout=60)
        assert (root / "index.sqlite-journal").exists()
        writer.append({"f": b"y", "label": "after"})
        assert writer.commit().tolist() == [3000]
    report = sqlstore.verify(root)
    assert report, str(report)


def test_commits_that_the_lock_file_knows_of_are_not_made_again(root: Path) -> None:
    shutil.copy(root / "index.sqlite", root.parent / "older")
    with sqlstore.open(root, mode="a") as store, store.writer() as one, store.writer() as other:
        for writer in (one, other):
            writer.append({"f": b"z", "label": "acknowledged"})
            writer.commit()
    (root / "index.sqlite").write_bytes((root.parent / "older").read_bytes())
    newest = max((root / "chunks").iterdir(), key=lambda path: path.name)
    newest.rename(root.parent / newest.name)
    with pytest.raises(sqlstore.IndexBehindLogError, match="commit"):
        append(root, "again")
    (root.parent / newest.name).rename(newest)
    assert sqlstore.rebuild(root) == 3002


def test_rebuild_does_not_replace_an_index_that_is_only_busy(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOCK_SECONDS", 0.05)
    with closing(sqlite3.connect(root / "index.sqlite", isolation_level=None)) as index:
        index.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlstore.StoreBusyError):
            sqlstore.rebuild(root)
        index.execute("ROLLBACK")
    assert sqlstore.rebuild(root) == 3000


def test_a_commit_has_not_failed_because_looking_at_it_does(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(source: Source, up_to: int | None = None) -> None:
        raise sqlstore.StoreBusyError("somebody else")

    with sqlstore.open(root, mode="a") as store:
        with monkeypatch.context() as patch:
            patch.setattr(Source, "refresh", busy)
            assert store.extend([{"f": b"y", "label": "new"}]).tolist() == [3000]
            with pytest.raises(sqlstore.StoreBusyError):
                len(store)
        assert len(store) == 3001


@pytest.fixture
def arrived() -> Iterator[list[int]]:
    seen: list[int] = []

    def take(number: int, frame: object) -> None:
        seen.append(number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt

    before = {n: signal.signal(n, take) for n in (signal.SIGINT, signal.SIGTERM)}
    yield seen
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupted_twice(arrived: list[int]) -> None:
    with deferred_interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert arrived == []


def test_every_signal_that_was_held_back_arrives(arrived: list[int]) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted_twice(arrived)
    assert sorted(arrived) == [signal.SIGINT, signal.SIGTERM]
    os.kill(os.getpid(), signal.SIGTERM)
    assert arrived[2:] == [signal.SIGTERM]


def test_a_pending_commit_that_the_index_cannot_take_says_to_rebuild(root: Path) -> None:
    shutil.copy(root / "index.sqlite", root.parent / "older")
    append(root, "rolled forward")
    (root / "index.sqlite").write_bytes((root.parent / "older").read_bytes())
    with closing(sqlite3.connect(root / "index.sqlite")) as index:
        index.execute("INSERT INTO records (id, label) VALUES (3000, 'stray')")
        index.commit()
    with pytest.raises(sqlstore.CorruptIndexError, match="sqlstore rebuild"):
        append(root, "another")
    assert sqlstore.rebuild(root) == 3001
    assert append(root, "another") == 3001
