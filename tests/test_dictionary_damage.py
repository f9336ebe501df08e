"""Damage to dictionaries, and stores with dictionaries where zstandard is not installed."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import pytest

import sqlstore
from tests.small_records import (
    ENOUGH,
    append,
    compressions,
    dictionaries,
    line_of,
    parts_of,
)


@pytest.fixture
def store(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "s")


def damage(path: Path, row: dict[str, Any], at: int = 100) -> None:
    chunk = path / "chunks" / row["name"]
    data = bytearray(chunk.read_bytes())
    data[row["offset"] + at] ^= 1
    chunk.write_bytes(data)


@pytest.mark.parametrize("io", ["mmap", "pread"])
def test_a_damaged_dictionary_is_named_and_the_rest_is_read(
    store: Path, io: Literal["mmap", "pread"]
) -> None:
    with sqlstore.open(store, "a") as one:
        one.extend([{"line": "short", "n": -1}])
    row, _ = dictionaries(store)
    damage(store, row)
    where = {"chunk": row["name"], "offset": row["offset"]}
    with sqlstore.open(store, io=io) as one:
        for read in (
            lambda: one[3],
            lambda: one.raw(3, "line"),
            lambda: one.blobs("line", [2, 3]),
        ):
            with pytest.raises(sqlstore.ChecksumError, match="dictionary 0") as caught:
                read()
            assert {k: caught.value.where[k] for k in where} == where
            assert caught.value.where["field"] == "line"
        assert one[-1]["line"] == "short"
        assert one.select("parts", "n")[7] == {"parts": parts_of(7), "n": 7}
        report = one.verify()
    assert [(fault.chunk, fault.offset) for fault in report.faults] == [tuple(where.values())]


def test_a_damaged_dictionary_of_sequences_is_named(store: Path) -> None:
    _, row = dictionaries(store)
    damage(store, row)
    with sqlstore.open(store) as one:
        with pytest.raises(sqlstore.ChecksumError, match="dictionary 1") as caught:
            one.raw_items(7, "parts", [1])
        assert caught.value.where["chunk"] == row["name"]
        assert one.raw(7, "line") == line_of(7).encode()
        assert len(one.verify().faults) == 1


def test_a_writer_trains_anew_where_a_dictionary_is_damaged(store: Path) -> None:
    damage(store, dictionaries(store)[0])
    append(store, ENOUGH, 2 * ENOUGH)
    found = compressions(store)
    assert set(found[ENOUGH:]) == {"dictionary 2"}
    with sqlstore.open(store) as one:
        assert one[-1]["line"] == line_of(2 * ENOUGH - 1)


def test_a_damaged_table_of_a_dictionary_is_named(store: Path) -> None:
    with sqlstore.open(store) as one:
        sql = "SELECT offset FROM commits WHERE kind = 13 ORDER BY number"
        trailer = one.sql(sql)["offset"][0].as_py()
    row = dictionaries(store)[0]
    damage(store, {**row, "offset": trailer}, at=-40)
    shutil.rmtree(store / "cache")
    with sqlstore.open(store) as one:
        with pytest.raises(sqlstore.CorruptChunkError, match="table of commit 2") as caught:
            one.raw(3, "line")
        assert caught.value.where["chunk"] == row["name"]
        assert one.select("parts")[7] == {"parts": parts_of(7)}
        assert not one.verify()


@pytest.mark.parametrize(
    "change",
    ["UPDATE dictionaries SET offset = offset + 1 WHERE number = 1",
     "DELETE FROM dictionaries WHERE number = 1",
     "INSERT INTO dictionaries VALUES (2, 0, 0, 64, 10, 0)"],
)  # fmt: skip
def test_verify_compares_the_index_with_the_log(store: Path, change: str) -> None:
    with closing(sqlite3.connect(store / "index.sqlite", isolation_level=None)) as connection:
        connection.execute(change)
    with sqlstore.open(store) as one:
        (fault,) = one.verify().faults
    assert "dictionary" in fault.message
    assert "sqlstore rebuild" in fault.message


# Without zstandard


def test_without_zstandard_only_what_needs_it_is_refused(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlstore.open(store, "a") as one:
        one.extend([{"line": "short", "n": -1}])
    monkeypatch.setitem(sys.modules, "zstandard", None)
    wanted = pytest.raises(sqlstore.MissingPackageError, match=r"sqlstore\[dictionary\]")
    with sqlstore.open(store, "a") as one:
        assert one[-1] == {"line": "short", "parts": None, "n": -1}
        assert len(one.to_arrow()) == ENOUGH + 1
        with wanted:
            one.raw(0, "line")
        with wanted:
            one.fetch([0, 1])
        with wanted:
            one.writer()
        report = one.verify()
        assert report, report
        assert any("sqlstore[dictionary]" in note for note in report.notes)
    sqlstore.rebuild(store)
    with sqlstore.create(tmp_path / "other", fields={"f": "bytes"}) as one:
        one.extend([{"f": b"a" * 100}])
