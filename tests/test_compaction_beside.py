"""Compaction beside others who read, rebuild, add columns or hold chunks at the wrong moment."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sqlstore
from sqlstore.cache import fill, folder
from sqlstore.compaction import compacting
from sqlstore.log.writer import ChunkWriter
from tests.compacted import chunk_files, compact, contents, new_store, record
from tests.edited import assert_edited


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with new_store(tmp_path / "store", 60) as store:
        store.where("n % 3 = 0").delete()
        store.where("n % 3 = 1").update(label="new")
    return tmp_path / "store"


def held(path: Path, name: str) -> ChunkWriter:
    """Take a chunk as a writer does who goes on with it."""
    with sqlstore.open(path) as store:
        chunk = ChunkWriter.resume(path, store._source.store, name)
    assert chunk is not None
    return chunk


@pytest.mark.parametrize("compacted", [False, True])
def test_a_cache_has_columns_that_are_newer_than_who_makes_it(path: Path, compacted: bool) -> None:
    with sqlstore.open(path) as reader:
        with sqlstore.open(path, "a") as store:
            before = contents(store)
            values = list(range(len(store)))
            store.add_column("extra", "int64", np.array(values))
            if compacted:
                compact(store)
        shutil.rmtree(path / "cache")
        assert contents(reader) == before
    with sqlstore.open(path, "a") as store:
        assert store.to_arrow()["extra"].to_pylist() == values
        compact(store)  # which would carry into the log what the cache lacks
    shutil.rmtree(path / "cache")
    sqlstore.rebuild(path)
    with sqlstore.open(path) as store:
        assert store.to_arrow()["extra"].to_pylist() == values
    assert_edited(path)


def test_a_writer_who_ends_after_a_column_was_added_leaves_a_whole_cache(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        with store.writer() as writer:
            writer.append(record(1))
            writer.commit()
            store.refresh()
            values = list(range(len(store)))
            with sqlstore.open(path, "a") as other:
                other.add_column("extra", "int64", np.array(values))
            shutil.rmtree(path / "cache")
        store.refresh()
        assert store.to_arrow()["extra"].to_pylist() == values


def test_who_fills_a_cache_while_chunks_are_retired_misses_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    with sqlstore.open(path) as store:
        expected = contents(store)
    shutil.rmtree(path / "cache")
    extend, times = fill.extend, list[int]()

    def compacted_first(*given: Any) -> Any:
        if not times:
            times.append(1)
            with monkeypatch.context() as others:
                others.setattr(folder, "is_ours", lambda root: True)
                with sqlstore.open(path, "a") as store:
                    compact(store)
        return extend(*given)

    monkeypatch.setattr(folder, "is_ours", lambda root: False)  # so that the two do not wait
    monkeypatch.setattr(fill, "extend", compacted_first)
    for _ in range(2):
        with sqlstore.open(path) as reader:
            assert contents(reader) == expected
        shutil.rmtree(path / "cache", ignore_errors=True)  # the one of who has compacted
    assert times


def test_a_chunk_that_is_taken_after_a_rebuild_is_left_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebuild meanwhile seals none, so the next writer may go on with what shall be removed."""
    real, taken = compacting._commit_checkpoint, list[ChunkWriter]()

    def rebuilt_first(*given: Any) -> Any:
        if not taken:
            sqlstore.rebuild(path)
            taken.append(held(path, max(chunk_files(path))))
        return real(*given)

    with sqlstore.open(path, "a") as store:
        store[:].delete()
        monkeypatch.setattr(compacting, "_commit_checkpoint", rebuilt_first)
        compact(store)
        (chunk,) = taken
        assert chunk.name in chunk_files(path)
        chunk.close()
        compact(store)
        assert chunk.name not in chunk_files(path)
    assert_edited(path)


def test_what_would_be_done_is_said_to_who_sees_an_older_commit(path: Path) -> None:
    with sqlstore.open(path) as reader, sqlstore.open(path, "a") as store:
        expected = contents(reader)
        store.extend([record(1)] * 5)
        store[:2].delete()
        reader.compact(dry_run=True)
        assert contents(reader[2:]) == {i: expected[i] for i in list(expected)[2:]}
        assert len(reader) == len(expected)


def test_records_that_have_one_key_for_a_while_are_rebuilt_from_a_checkpoint(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store"
    with sqlstore.create(path, metadata={"k": "string"}, key="k") as store:
        store.extend([{"k": f"k{i}"} for i in range(20)])
    index = sqlite3.connect(path / "index.sqlite")
    index.execute("DELETE FROM records WHERE k = 'k7'")
    index.commit()
    index.close()
    with sqlstore.open(path, "a") as store:
        store.extend([{"k": "k7"}])
        compact(store)  # as of a commit where the log has both
    assert sqlstore.absorb(path).deleted == 1
    with sqlstore.open(path) as store:
        expected = store.to_arrow()
    assert sqlstore.rebuild(path) == 20
    with sqlstore.open(path) as store:
        assert store.to_arrow().equals(expected)
        assert store.get(key="k7")["k"] == "k7"
    assert sqlstore.verify(path)


def test_a_snapshot_does_not_need_the_commit_that_its_schema_is_from(path: Path) -> None:
    first = min(chunk_files(path))
    sqlstore.rebuild(path)  # so that no chunk is sealed
    chunk = held(path, first)  # and this one, whose values are all gone, not retired at first
    with sqlstore.open(path, "a") as store:
        store[:30].delete()
        compact(store)
        store.snapshot("v1")
        chunk.close()
        store[:1].delete()
        compact(store)
        assert first not in chunk_files(path)
        report = store.verify()
        assert report, report
    with sqlstore.open(path, snapshot="v1") as then:
        assert len(then) == len(contents(then)) > 0
    sqlstore.rebuild(path)
    assert sqlstore.verify(path)
