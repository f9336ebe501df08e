"""Who keeps the caches up, when they are made anew, and what opening a store costs."""

from __future__ import annotations

import contextlib
import json
import pickle
import shutil
import sqlite3
import sys
import zlib
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

import sqlstore
from sqlstore import limits
from sqlstore.cache import manifest
from sqlstore.index.engine import Index
from sqlstore.log.reader import ChunkReader
from tests.caches import assert_current, edition, held, results_of
from tests.processes import (
    Child,
    append,
    batches_in,
    new_store,
    record_of,
    records_of,
    whole_batches,
)

pytestmark = pytest.mark.usefixtures("private")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return new_store(tmp_path / "store")


# Whose cache it is


def test_a_rebuild_makes_the_cache_anew(path: Path) -> None:
    append(path, (0, 0), (0, 1))
    with sqlstore.open(path) as before, sqlstore.open(path) as mapped:
        first = held(path)
        assert whole_batches(mapped) == [(0, 0), (0, 1)]
        sqlstore.rebuild(path)
        assert batches_in(path) == [(0, 0), (0, 1)]
        assert held(path).generation != first.generation
        assert edition(path).is_dir()
        assert not (path / "cache" / first.edition).exists()
        for store in (before, mapped):
            assert whole_batches(store) == [(0, 0), (0, 1)]
            store.refresh()
            assert whole_batches(store) == [(0, 0), (0, 1)]


@pytest.mark.parametrize("comes", ["at once", "later"])
@pytest.mark.parametrize("n_commits", [0, 1, 2, 3, 4])
def test_a_restored_store_that_goes_on_otherwise_has_another_cache(
    path: Path, tmp_path: Path, n_commits: int, comes: str
) -> None:
    append(path, (0, 0))
    shutil.copytree(path, tmp_path / "backup", ignore=shutil.ignore_patterns("cache"))
    append(path, (0, 1), (0, 2), (0, 3))
    (path / "cache").rename(tmp_path / "cache")
    shutil.rmtree(path)
    (tmp_path / "backup").rename(path)
    if comes == "at once":
        (tmp_path / "cache").rename(path / "cache")  # the one thing that is not restored
    expected = [(0, 0), *((1, batch) for batch in range(n_commits))]
    append(path, *expected[1:])
    if comes == "later":
        shutil.rmtree(path / "cache", ignore_errors=True)
        (tmp_path / "cache").rename(path / "cache")
    assert batches_in(path) == expected
    with sqlstore.open(path) as store:
        assert store.to_arrow()["name"].to_pylist() == [
            record["name"] for batch in expected for record in records_of(batch)
        ]


@pytest.mark.parametrize("more", [1, 3])
def test_a_view_of_a_history_that_was_undone_is_not_read_from_what_came_instead(
    path: Path, tmp_path: Path, more: int
) -> None:
    append(path, (0, 0))
    shutil.copytree(path, tmp_path / "backup")  # with its cache, whose edition goes on
    append(path, (0, 1), (0, 2))
    with sqlstore.open(path) as store:
        pickled = pickle.dumps(store[:])
    shutil.rmtree(path)
    shutil.copytree(tmp_path / "backup", path)
    append(path, *((1, batch) for batch in range(more)))
    with pytest.raises(sqlstore.SqlstoreError, match=r"another history|lacks commit"):
        pickle.loads(pickled)


def test_no_cache_is_made_from_an_index_that_misnames_a_chunk(path: Path) -> None:
    append(path, (0, 0))
    shutil.rmtree(path / "cache")
    shutil.copy(path / "index.sqlite", path.parent / "right")
    with contextlib.closing(sqlite3.connect(path / "index.sqlite")) as connection, connection:
        connection.execute("UPDATE chunks SET name = '00000x' || substr(name, 7)")
    with pytest.raises(sqlstore.CorruptIndexError, match=r"calls a chunk '00000x-.*rebuild"):
        sqlstore.open(path)
    shutil.copy(path.parent / "right", path / "index.sqlite")
    assert batches_in(path) == [(0, 0)]


def test_the_cache_of_another_store_is_not_used(path: Path, tmp_path: Path) -> None:
    append(path, (0, 0))
    other = new_store(tmp_path / "other")
    append(other, (1, 0))
    shutil.rmtree(path / "cache")
    shutil.copytree(other / "cache", path / "cache")
    assert batches_in(path) == [(0, 0)]
    assert held(path).store != held(other).store


def relabelled(path: Path, **changed: object) -> None:
    """Change what the manifest says, with its checksum."""
    file = path / "cache" / "manifest.json"
    found = json.loads(file.read_bytes().partition(b"\n")[0])
    text = json.dumps({**found, **changed}).encode()
    file.write_bytes(text + b"\n%08x\n" % zlib.crc32(text))


def test_a_cache_of_another_layout_is_replaced(path: Path) -> None:
    append(path, (0, 0))
    first = held(path)
    relabelled(path)
    assert held(path) == first
    relabelled(path, layout=manifest.LAYOUT + 1)
    assert manifest.load(path / "cache") is None
    assert batches_in(path) == [(0, 0)]
    assert held(path).edition != first.edition
    assert not (path / "cache" / first.edition).exists()


# What opening costs, and who keeps the cache up


def cost_of_opening(path: Path) -> tuple[int, list[int]]:
    """Return how many tables are read from the log, and how many rows by each statement."""
    with (
        results_of(ChunkReader, "table") as tables,
        results_of(Index, "rows") as statements,
        sqlstore.open(path) as store,
    ):
        assert len(store)
    return len(tables), [len(rows) for rows in statements]


def test_opening_a_store_scans_neither_the_log_nor_the_index(path: Path) -> None:
    append(path, (0, 0))
    tables, rows = cost_of_opening(path)
    assert tables <= 1, "only the first commit, which says what the store is"
    append(path, *[(0, batch) for batch in range(1, 40)])
    assert cost_of_opening(path) == (tables, rows)
    shutil.rmtree(path / "cache")
    assert cost_of_opening(path)[0] == tables + 40, "nothing was counted"


def calls_to_open(path: Path) -> int:
    """Return how many functions are called to make the cache anew."""
    shutil.rmtree(path / "cache")
    n_calls = 0

    def count(*_: object) -> None:
        nonlocal n_calls
        n_calls += 1

    sys.setprofile(count)
    try:
        store = sqlstore.open(path)
    finally:
        sys.setprofile(None)
    store.close()
    return n_calls


def test_a_cache_is_made_in_time_proportional_to_the_commits(path: Path) -> None:
    counts = []
    with sqlstore.open(path, "a") as store, store.writer() as writer:
        for half in range(2):
            for batch in range(40):
                writer.append(record_of(half, batch, 0, 1, 8))
                writer.commit()
            counts.append(calls_to_open(path))
    assert counts[1] <= 2 * counts[0]


def test_a_writer_that_closes_leaves_a_current_cache(path: Path) -> None:
    append(path, (0, 0))
    with sqlstore.open(path, "a") as store, store.writer() as writer:
        for batch in range(1, 4):
            writer.extend(records_of((0, batch)))
            writer.commit()
    assert held(path).records == 12
    assert_current(path)


@pytest.mark.parametrize("bound", ["CACHE_BEHIND_COMMITS", "CACHE_BEHIND_RECORDS"])
def test_a_writer_that_stays_open_extends_the_cache_now_and_then(
    path: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(limits, bound, 4)
    append(path, (0, 0), count=1)
    ended = held(path).commit
    with sqlstore.open(path, "a") as store, store.writer() as writer:
        behind = []
        for batch in range(1, 10):
            writer.append(record_of(0, batch, 0, 1, 64))
            writer.commit()
            behind.append(ended + batch - held(path).commit)
    assert behind == [1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert held(path).commit == ended + 9


# Many at the same time

N_BATCHES = 24


def keep_reading(connection: Connection, path: Path) -> int:
    """Open and refresh a store again and again until all is there; return how often."""
    rounds = seen = 0
    with sqlstore.open(path) as store:
        connection.send("ready")
        while seen < N_BATCHES:
            found = batches_in(path)
            assert found == [(0, batch) for batch in range(len(found))]
            assert len(found) >= seen
            store.refresh()
            assert whole_batches(store)[: len(found)] == found
            seen, rounds = len(found), rounds + 1
    return rounds


def test_four_processes_extend_one_cache_while_a_fifth_appends(path: Path) -> None:
    append(path, (0, 0))
    with ExitStack() as stack:
        children = [stack.enter_context(Child(keep_reading, path)) for _ in range(4)]
        for child in children:
            assert child.hear() == "ready"
        with sqlstore.open(path, "a") as store, store.writer() as writer:
            for batch in range(1, N_BATCHES):
                writer.extend(records_of((0, batch)))
                writer.commit()
                if batch % 8 == 0:
                    shutil.rmtree(path / "cache", ignore_errors=True)
        assert all(child.result() for child in children)
    assert len(batches_in(path)) == N_BATCHES
    assert_current(path)
