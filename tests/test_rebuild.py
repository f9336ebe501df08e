"""`rebuild`: from the chunks alone comes the same index, or a refusal that says what is missing."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import threading
import uuid
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

import sqlstore
from sqlstore import (
    CorruptChunkError,
    CorruptIndexError,
    CorruptStoreError,
    ForkedLogError,
    IndexBehindLogError,
    KiB,
    SqlstoreError,
    Store,
    StoreTooNewError,
)
from sqlstore.log import chain
from sqlstore.log.lock import Pending, WriterLock
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import HEADER_SIZE, TRAILER_SIZE, CommitKind, Trailer, align
from tests.assets import make_store

Tables = dict[str, list[tuple[Any, ...]]]


def tables(root: Path) -> Tables:
    """Return every row of every table of the index, but for what a rebuild may change.

    The generation is there to change. Whether a chunk is sealed is not in the log: it says where
    the next writer appends, and a chunk that is longer than its commits is sealed in any case.
    """
    with contextlib.closing(sqlite3.connect(root / "index.sqlite")) as connection:
        connection.row_factory = sqlite3.Row

        def rows(name: str) -> list[tuple[Any, ...]]:
            found = []
            for row in connection.execute(f"SELECT * FROM {name}"):
                kept = {k: row[k] for k in row.keys() if k not in ("generation", "sealed")}  # noqa: SIM118 - a Row is no mapping
                found.append(tuple(kept.items()))
            return sorted(found, key=repr)

        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        return {name: rows(name) for (name,) in names.fetchall()}


def declared(root: Path) -> list[tuple[str, str, str]]:
    with contextlib.closing(sqlite3.connect(root / "index.sqlite")) as connection:
        return sorted(connection.execute("SELECT type, name, sql FROM sqlite_schema").fetchall())


def content(root: Path) -> list[Any]:
    """Return everything that can be read from a store."""
    with sqlstore.open(root) as store:
        raw = [
            [store.raw(position, field) for field in store.schema.fields]
            for position in range(len(store))
        ]
        return [
            store.ids.tolist(),
            raw,
            store.to_arrow().to_pydict().__repr__(),
            store.arrow_schema,
        ]


def chunk_bytes(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((root / "chunks").iterdir())}


def check_rebuild(root: Path) -> None:
    """Throw the index away, rebuild it, and check that nobody could tell."""
    before = tables(root), declared(root), content(root), chunk_bytes(root)
    (root / "index.sqlite").unlink()
    n_records = sqlstore.rebuild(root)
    assert n_records == len(before[2][0])
    assert tables(root) == before[0]
    assert declared(root) == before[1]
    assert content(root) == before[2]
    assert chunk_bytes(root) == before[3]
    assert sorted({p.name for p in root.iterdir()} - {"cache"}) == [
        "chunks",
        "index.sqlite",
        "writer.lock",
    ]
    with sqlstore.open(root, mode="a") as store:
        assert store.verify()


def small(root: Path, **options: Any) -> Store:
    return sqlstore.create(root, fields={"blob": "bytes"}, metadata={"label": "string"}, **options)


def record(number: int) -> dict[str, Any]:
    return {"blob": bytes([number % 256]) * (number % 50), "label": f"label {number}"}


def commit_one_by_one(store: Store, numbers: range) -> None:
    for number in numbers:
        store.extend([record(number)])


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Return a store of three records in three chunks, behind the one of the first commit."""
    root = tmp_path / "store"
    with small(root, chunk_size=1 * KiB) as store:
        commit_one_by_one(store, range(3))
    assert len(chunk_bytes(root)) == 4
    return root


# The same index again


@pytest.mark.parametrize("chunk_size", [1 * KiB, 16 * KiB, 512 * KiB])
def test_all_types_come_back(tmp_path: Path, chunk_size: int) -> None:
    make_store.make(tmp_path / "store", chunk_size=chunk_size)
    check_rebuild(tmp_path / "store")
    with sqlstore.open(tmp_path / "store") as store:
        assert make_store.differences(store) == []


def test_an_empty_store_comes_back(tmp_path: Path) -> None:
    small(tmp_path / "store").close()
    check_rebuild(tmp_path / "store")


@pytest.mark.parametrize(
    "declaration",
    [{"fields": {"blob": "bytes"}}, {"metadata": {"label": "string"}, "key": "label"}],
    ids=["only fields", "only metadata"],
)
def test_a_store_of_one_kind_of_value_comes_back(
    tmp_path: Path, declaration: dict[str, Any]
) -> None:
    with sqlstore.create(tmp_path / "store", **declaration) as store:
        name = next(iter(store.schema.names))
        store.extend(
            [{name: b"x" if name == "blob" else "x"}, {name: b"" if name == "blob" else ""}]
        )
        store.extend([])
    check_rebuild(tmp_path / "store")


@pytest.mark.parametrize("chunk_size", [1 * KiB, 8 * KiB, 512 * KiB])
def test_what_several_writers_interleaved_comes_back(tmp_path: Path, chunk_size: int) -> None:
    choice = random.Random(0)
    root = tmp_path / "store"
    with small(root, chunk_size=chunk_size) as store, contextlib.ExitStack() as stack:
        writers = [stack.enter_context(store.writer()) for _ in range(3)]
        for number in range(40):
            writer = choice.choice(writers)
            writer.append(record(number))
            if choice.random() < 0.6:
                writer.commit()
    check_rebuild(root)


def test_a_rebuild_between_commits_changes_nothing_that_comes_after(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with small(root, chunk_size=4 * KiB) as store:
        for number in range(12):
            commit_one_by_one(store, range(number, number + 1))
            if number % 3 == 0:
                assert sqlstore.rebuild(root) == number + 1
    check_rebuild(root)


# A writer that is killed after its trailer and before SQLite's COMMIT.
KILLED: Final = """
import os, sys
import sqlstore
from sqlstore.index.engine import Index
store = sqlstore.open(sys.argv[1], mode="a")
Index.commit = lambda self: os._exit(7)
store.extend([{"blob": b"in the log only", "label": "late"}])
"""


def kill_in_commit(root: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(root)], timeout=60, check=False)
    assert done.returncode == 7


@pytest.mark.parametrize("chunk_size", [1 * KiB, 512 * KiB])
def test_a_commit_that_was_rolled_forward_comes_back(tmp_path: Path, chunk_size: int) -> None:
    root = tmp_path / "store"
    with small(root, chunk_size=chunk_size) as store:
        commit_one_by_one(store, range(3))
        kill_in_commit(root)
        commit_one_by_one(store, range(4, 6))
        assert store[3]["label"] == "late"
        assert len(store) == 6
    check_rebuild(root)


@pytest.mark.parametrize("chunk_size", [1 * KiB, 512 * KiB])
def test_a_commit_that_a_crash_kept_from_the_index_is_in_the_rebuilt_one(
    tmp_path: Path, chunk_size: int
) -> None:
    root = tmp_path / "store"
    with small(root, chunk_size=chunk_size) as store:
        commit_one_by_one(store, range(3))
    kill_in_commit(root)
    with sqlstore.open(root) as store:
        assert len(store) == 3
        assert sqlstore.rebuild(root) == 4
        store.refresh()
        assert store[3] == {"blob": b"in the log only", "label": "late"}
    check_rebuild(root)
    with sqlstore.open(root, mode="a") as store:
        assert store.extend([record(4)]).tolist() == [4]


def test_an_older_copy_of_the_index_is_brought_up_to_the_log(three: Path) -> None:
    shutil.copyfile(three / "index.sqlite", three / "older")
    with sqlstore.open(three, mode="a") as store:
        commit_one_by_one(store, range(3, 6))
    expected = content(three)
    (three / "older").replace(three / "index.sqlite")
    assert sqlstore.rebuild(three) == 6
    assert content(three) == expected


def test_chunks_with_bytes_behind_their_commits_are_not_continued(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with small(root) as store:
        commit_one_by_one(store, range(3))
    (name,) = chunk_bytes(root)
    with (root / "chunks" / name).open("ab") as file:
        file.write(b"of a writer that crashed")
    before = chunk_bytes(root)[name]
    (root / "index.sqlite").unlink()
    sqlstore.rebuild(root)
    with sqlstore.open(root, mode="a") as store:
        commit_one_by_one(store, range(3, 5))
        sealed = "SELECT sealed FROM chunks ORDER BY chunk"
        assert store.sql(sealed)["sealed"].to_pylist() == [1, 0]
        assert store.verify()
    assert chunk_bytes(root)[name] == before
    check_rebuild(root)


# Indexes that are not usable any more


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"x",
        b"SQLite format 3\0",
        random.Random(0).randbytes(30_000),
        b"SQLite format 3\0" + random.Random(1).randbytes(30_000),
        bytes(4096),
    ],
    ids=["empty", "a byte", "a beginning", "noise", "noise with a beginning", "zeros"],
)
def test_an_index_of_any_bytes_is_replaced(three: Path, damaged: bytes) -> None:
    expected = tables(three)
    (three / "index.sqlite").write_bytes(damaged)
    assert sqlstore.rebuild(three) == 3
    assert tables(three) == expected
    check_rebuild(three)


def test_an_index_cut_short_is_replaced(three: Path) -> None:
    expected = tables(three)
    whole = (three / "index.sqlite").read_bytes()
    for length in (50, 100, 1024, 4096, 4097, len(whole) // 2, len(whole) - 1):
        (three / "index.sqlite").write_bytes(whole[:length])
        assert sqlstore.rebuild(three) == 3
        assert tables(three) == expected


def test_a_database_of_something_else_is_replaced(three: Path) -> None:
    (three / "index.sqlite").unlink()
    with contextlib.closing(sqlite3.connect(three / "index.sqlite")) as connection:
        connection.execute("CREATE TABLE mine (x)")
    assert sqlstore.rebuild(three) == 3
    check_rebuild(three)


@pytest.mark.parametrize("index", ["there", "gone"])
def test_the_journal_of_an_index_that_is_replaced_goes_with_it(three: Path, index: str) -> None:
    """A journal would be played back into whatever lies beside it."""
    expected = tables(three)
    with contextlib.closing(sqlite3.connect(three / "index.sqlite", isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = PERSIST")
        other.execute("UPDATE records SET label = 'other'")
    journal = three / "index.sqlite-journal"
    assert journal.stat().st_size > 0
    if index == "gone":
        (three / "index.sqlite").unlink()
    assert sqlstore.rebuild(three) == 3
    assert not journal.exists()
    assert tables(three) == expected


def test_the_old_index_stays_when_the_log_cannot_be_read(three: Path) -> None:
    victim = sorted((three / "chunks").iterdir())[2]
    data = bytearray(victim.read_bytes())
    data[-TRAILER_SIZE - 20] ^= 1  # in the table
    victim.write_bytes(data)
    before = (three / "index.sqlite").read_bytes()
    with pytest.raises(CorruptChunkError, match="segment table") as caught:
        sqlstore.rebuild(three)
    assert caught.value.where["chunk"] == victim.name
    assert (three / "index.sqlite").read_bytes() == before
    assert sorted({p.name for p in three.iterdir()} - {"cache"}) == [
        "chunks",
        "index.sqlite",
        "writer.lock",
    ]
    with sqlstore.open(three) as store:
        assert store.raw(2, "blob") == record(2)["blob"]


# Killed while it puts the new index in place: at the first rename, at the second, or behind it.
KILLED_IN_REBUILD: Final = """
import os, sys
import sqlstore
calls = 0
def counted(*args, rename=os.rename):
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        os._exit(7)
    rename(*args)
def unlink(*args, **options):
    os._exit(7)
os.rename = counted
if sys.argv[2] == "3":
    from sqlstore.log import files
    files.sync_folder = unlink
sqlstore.rebuild(sys.argv[1])
"""


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_a_rebuild_that_is_killed_can_be_done_again(three: Path, moment: int) -> None:
    expected = tables(three)
    command = [sys.executable, "-c", KILLED_IN_REBUILD, str(three), str(moment)]
    assert subprocess.run(command, timeout=60, check=False).returncode == 7
    if moment == 2:
        with pytest.raises(CorruptIndexError, match="sqlstore rebuild"):
            sqlstore.open(three)
        assert sqlstore.rebuild(three) == 3
    assert tables(three) == expected
    with sqlstore.open(three) as store:
        assert store.verify()
    assert sqlstore.rebuild(three) == 3
    assert tables(three) == expected


# Refusals


def test_a_last_commit_that_the_old_index_knows_is_not_lost(three: Path) -> None:
    victim = sorted((three / "chunks").iterdir())[-1]
    data = bytearray(victim.read_bytes())
    data[-3] ^= 1  # in the last trailer
    victim.write_bytes(data)
    before = (three / "index.sqlite").read_bytes()
    with pytest.raises(
        CorruptStoreError, match=r"knows 4 commits, the chunks hold 3.*sqlstore repair"
    ):
        sqlstore.rebuild(three)
    assert (three / "index.sqlite").read_bytes() == before
    # As the message says: repair makes a store of what is left; here the index has it all.
    assert sqlstore.repair(three)
    with sqlstore.open(three) as store:
        assert store.verify()
        assert [r["label"] for r in store] == ["label 0", "label 1", "label 2"]


def test_a_last_chunk_that_the_old_index_knows_is_not_lost(three: Path) -> None:
    sorted((three / "chunks").iterdir())[-1].unlink()
    with pytest.raises(CorruptStoreError, match="knows 4 commits, the chunks hold 3"):
        sqlstore.rebuild(three)


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("index", ["there", "gone"])
def test_a_missing_chunk_is_refused_with_its_commit(three: Path, position: int, index: str) -> None:
    sorted((three / "chunks").iterdir())[position].unlink()
    if index == "gone":
        (three / "index.sqlite").unlink()
    with pytest.raises(CorruptStoreError, match=f"commit {position + 1} is in none of the chunks"):
        sqlstore.rebuild(three)
    assert (three / "index.sqlite").exists() == (index == "there")


@pytest.mark.parametrize("position", [0, 1, 2, 3])
@pytest.mark.parametrize("part", ["header", "trailer"])
def test_a_damaged_chunk_is_refused(three: Path, position: int, part: str) -> None:
    victim = sorted((three / "chunks").iterdir())[position]
    data = bytearray(victim.read_bytes())
    data[30 if part == "header" else -30] ^= 1
    victim.write_bytes(data)
    with pytest.raises(CorruptStoreError):
        sqlstore.rebuild(three)


def test_a_damaged_trailer_in_the_middle_of_a_chunk_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with small(root) as store:
        commit_one_by_one(store, range(4))
    (victim,) = (root / "chunks").iterdir()
    reader = ChunkReader(root)
    links = chain.walk(reader, victim.name, reader.header(victim.name).chunk).links
    reader.close()
    data = bytearray(victim.read_bytes())
    data[links[2].trailer.table_end + 20] ^= 1
    victim.write_bytes(data)
    (root / "index.sqlite").unlink()
    with pytest.raises(CorruptChunkError, match="trailer") as caught:
        sqlstore.rebuild(root)
    assert caught.value.where == {"chunk": victim.name, "offset": links[2].trailer.table_end}


def test_a_store_without_chunks_is_refused(three: Path) -> None:
    shutil.rmtree(three / "chunks")
    with pytest.raises(sqlstore.NotAStoreError):
        sqlstore.rebuild(three)
    (three / "chunks").mkdir()
    with pytest.raises(CorruptStoreError, match="hold no commit"):
        sqlstore.rebuild(three)
    with pytest.raises(sqlstore.StoreNotFoundError):
        sqlstore.rebuild(three / "nowhere")


@pytest.mark.parametrize("index", ["there", "gone"])
def test_chunks_of_two_diverged_copies_are_refused(three: Path, tmp_path: Path, index: str) -> None:
    other = tmp_path / "other"
    shutil.copytree(three, other)
    for root in (three, other):
        with sqlstore.open(root, mode="a") as store:
            commit_one_by_one(store, range(3, 5))
    for path in (other / "chunks").iterdir():
        if not (three / "chunks" / path.name).exists():
            shutil.copyfile(path, three / "chunks" / path.name)
    with sqlstore.open(three) as store:
        assert not store.verify()
    if index == "gone":
        (three / "index.sqlite").unlink()
    with pytest.raises(ForkedLogError, match="both follow") as caught:
        sqlstore.rebuild(three)
    mixed = [name for name in chunk_bytes(three) if name in str(caught.value)]
    assert len(mixed) == 2


def test_chunks_of_two_stores_are_refused(three: Path, tmp_path: Path) -> None:
    small(tmp_path / "other").close()
    (foreign,) = (tmp_path / "other" / "chunks").iterdir()
    shutil.copyfile(foreign, three / "chunks" / foreign.name)
    with pytest.raises(CorruptStoreError, match="different stores"):
        sqlstore.rebuild(three)


def test_a_chunk_that_is_there_twice_counts_once(three: Path) -> None:
    expected = tables(three)
    names = sorted(chunk_bytes(three))
    shutil.copyfile(three / "chunks" / names[-1], three / "chunks" / "999999-00000000.chunk")
    (three / "index.sqlite").unlink()
    assert sqlstore.rebuild(three) == 3
    assert tables(three) == expected


@pytest.mark.parametrize(
    "left",
    [b"", b"SQLST", bytes(HEADER_SIZE), bytes(5000), random.Random(0).randbytes(3 * 1024 * 1024)],
    ids=["nothing", "half a header", "zeros", "more zeros", "noise"],
)
def test_a_chunk_that_nothing_was_committed_to_is_ignored(three: Path, left: bytes) -> None:
    (three / "chunks" / "000009-00000000.chunk").write_bytes(left)
    check_rebuild(three)


def test_a_chunk_with_a_header_and_no_commit_is_ignored(three: Path) -> None:
    names = sorted(chunk_bytes(three))
    begun = chunk_bytes(three)[names[-1]][: -TRAILER_SIZE - 1]
    (three / "chunks" / "000009-00000000.chunk").write_bytes(begun)
    check_rebuild(three)


def test_what_is_no_chunk_is_ignored(three: Path) -> None:
    (three / "chunks" / "notes.txt").write_text("nothing of sqlstore's")
    (three / "chunks" / "000009-00000000.chunk").mkdir()
    (three / "chunks" / "000008-00000000.chunk").symlink_to(three / "chunks" / "notes.txt")
    expected = tables(three)
    (three / "index.sqlite").unlink()
    assert sqlstore.rebuild(three) == 3
    assert tables(three) == expected


# Commits of a newer sqlstore


def append_commit(root: Path, **changes: Any) -> Path:
    """Append a commit with an empty table to the last chunk, as another version might."""
    path = sorted((root / "chunks").iterdir())[-1]
    reader = ChunkReader(root)
    chunk = reader.header(path.name).chunk
    last = chain.walk(reader, path.name, chunk).links[-1].trailer
    reader.close()
    start = align(last.end)
    values: dict[str, Any] = {
        "kind": 99,
        "skippable": False,
        "schema_version": last.schema_version,
        "number": last.number + 1,
        "commit": uuid.uuid4(),
        "previous": last.commit,
        "first_record": last.first_record + last.records,
        "records": 0,
        "committed_at": last.committed_at,
        "chunk": last.chunk,
        "bodies_start": last.end,
        "bodies_end": last.end,
        "table_start": start,
        "table_end": start,
        "table_crc": zlib.crc32(b""),
        **changes,
    }
    with path.open("ab") as file:
        file.write(bytes(start - last.end) + Trailer(**values).pack(chunk))
    return path


def test_a_commit_of_an_unknown_kind_is_refused(three: Path) -> None:
    path = append_commit(three)
    with pytest.raises(StoreTooNewError, match="commit 5 is of kind 99") as caught:
        sqlstore.rebuild(three)
    assert caught.value.where["chunk"] == path.name
    with (
        sqlstore.open(three, mode="a") as store,
        pytest.raises(StoreTooNewError, match="commit 5 is of kind 99"),
    ):
        store.extend([record(3)])


def test_a_commit_that_may_be_skipped_is_skipped(three: Path) -> None:
    append_commit(three, skippable=True)
    with sqlstore.open(three, mode="a") as store:
        assert store.extend([record(3)]).tolist() == [3]
        assert store.verify()
        assert store.sql("SELECT count(*) AS n FROM commits")["n"].to_pylist() == [6]
    check_rebuild(three)


def test_a_second_commit_that_creates_a_store_is_refused(three: Path) -> None:
    path = append_commit(three, kind=CommitKind.CREATE)
    with sqlstore.open(three) as store:
        before = content(three)
        with pytest.raises(CorruptChunkError, match="only the first commit") as caught:
            sqlstore.rebuild(three)
        assert caught.value.where["chunk"] == path.name
        store.refresh()
    assert content(three) == before


def test_a_first_commit_that_creates_nothing_is_refused(three: Path) -> None:
    for path in sorted((three / "chunks").iterdir())[1:]:
        path.unlink()
    (path,) = (three / "chunks").iterdir()
    reader = ChunkReader(three)
    chunk = reader.header(path.name).chunk
    (link,) = chain.walk(reader, path.name, chunk).links
    reader.close()
    end = link.trailer.table_end
    append = dataclasses.replace(link.trailer, kind=CommitKind.APPEND)
    path.write_bytes(path.read_bytes()[:end] + append.pack(chunk))
    (three / "index.sqlite").unlink()
    with pytest.raises(CorruptStoreError, match="does not create a store"):
        sqlstore.rebuild(three)


def test_a_chunk_of_a_newer_format_is_refused(three: Path) -> None:
    path = sorted((three / "chunks").iterdir())[-1]
    data = path.read_bytes()
    header = data[:8] + struct.pack("<I", 2) + data[12 : HEADER_SIZE - 4]
    path.write_bytes(header + struct.pack("<I", zlib.crc32(header)) + data[HEADER_SIZE:])
    with pytest.raises(StoreTooNewError, match="format version 2"):
        sqlstore.rebuild(three)


def test_a_commit_at_the_wrong_place_of_the_chain_is_refused(three: Path) -> None:
    path = append_commit(three, number=17)
    with pytest.raises(CorruptStoreError, match="commit 17 stands at position 5") as caught:
        sqlstore.rebuild(three)
    assert caught.value.where["chunk"] == path.name


def test_an_index_behind_a_gap_in_the_log_is_refused(three: Path) -> None:
    shutil.copyfile(three / "index.sqlite", three / "older")
    with sqlstore.open(three, mode="a") as store:
        commit_one_by_one(store, range(3, 5))
    sorted((three / "chunks").iterdir())[-2].unlink()
    (three / "older").replace(three / "index.sqlite")
    with pytest.raises(IndexBehindLogError, match="sqlstore rebuild"):
        sqlstore.open(three)
    with pytest.raises(CorruptStoreError, match="commit 5 is in none of the chunks"):
        sqlstore.rebuild(three)


# A damaged index must not be carried into the log, where no rebuild could mend it.


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM commits WHERE number = 4",
        "DELETE FROM commits WHERE number = 3",
        "UPDATE commits SET uuid = '00000000-0000-0000-0000-000000000007' WHERE number = 4",
        "UPDATE commits SET number = 9 WHERE number = 4",
        "UPDATE commits SET offset = offset + 64 WHERE number = 4",
        "UPDATE store SET next_record_id = 9",
        "UPDATE store SET next_record_id = 1",
        "UPDATE store SET uuid = '00000000-0000-0000-0000-000000000007'",
        "UPDATE store SET schema_version = 9",
        "UPDATE store SET chunk_size = -1",
        "DELETE FROM chunks WHERE chunk = 3",
        "UPDATE chunks SET chunk = 9 WHERE chunk = 3",
        "UPDATE chunks SET size = 64 WHERE chunk = 3",
        "UPDATE chunks SET size = size + 64 WHERE chunk = 3",
        "UPDATE fields SET number = 7",
        "UPDATE fields SET name = 'other'",
        "UPDATE fields SET encoding = 'utf8'",
        "UPDATE fields SET encoding = 'other'",
        "UPDATE fields SET compression = 'other'",
        "UPDATE columns SET number = 7",
        "UPDATE columns SET type = 'json'",
        "UPDATE columns SET type = 'binary'",
        "DELETE FROM columns",
    ],
)
def test_a_writer_does_not_carry_damage_from_the_index_into_the_log(
    three: Path, change: str
) -> None:
    with contextlib.closing(sqlite3.connect(three / "index.sqlite")) as connection:
        assert connection.execute(change).rowcount > 0
        connection.commit()
    written = 0
    with contextlib.suppress(SqlstoreError), sqlstore.open(three, mode="a") as store:
        written = len(store.extend([record(3), record(4)]))
    (three / "index.sqlite").unlink()
    assert sqlstore.rebuild(three) == 3 + written
    with sqlstore.open(three, mode="a") as store:
        assert store.verify()
        assert list(store) == [record(number) for number in range(3 + written)]
        store.extend([record(3 + written)])
    check_rebuild(three)


# Others who have the store open


def test_open_stores_and_writers_go_on_with_the_new_index(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with small(root) as store, sqlstore.open(root) as reader, store.writer() as writer:
        writer.append(record(0))
        writer.commit()
        writer.append(record(1))
        reader.refresh()
        view = reader.where("label = 'label 0'")

        assert sqlstore.rebuild(root) == 1
        assert view[0]["label"] == "label 0"
        assert reader.where("label = 'label 0'").ids.tolist() == [0]
        assert writer.commit().tolist() == [1]
        assert len(store) == 2  # a store sees its own commits
        assert store.where("label = 'label 1'").ids.tolist() == [1]
        assert len(reader) == 1
        reader.refresh()
        assert reader.where("label = 'label 1'").ids.tolist() == [1]

        writer.append(record(2))
        (root / "index.sqlite").unlink()
        assert sqlstore.rebuild(root) == 2
        assert writer.commit().tolist() == [2]
        assert store.extend([record(3)]).tolist() == [3]
        reader.refresh()
        np.testing.assert_array_equal(reader.ids, np.arange(4))
        assert [r["label"] for r in reader] == [f"label {i}" for i in range(4)]
        assert reader.verify()
    check_rebuild(root)


def test_a_writer_does_not_continue_a_chunk_that_was_sealed_behind_its_back(tmp_path: Path) -> None:
    """Its bodies were there, its trailer was not: the rebuild saw bytes of no commit."""
    root = tmp_path / "store"
    with small(root) as store:
        commit_one_by_one(store, range(2))
        with store.writer() as writer:
            writer.append(record(2))
            writer.commit()
            name = max(chunk_bytes(root))
            with (root / "chunks" / name).open("ab") as file:
                file.write(b"more")
            sqlstore.rebuild(root)
            writer.append(record(3))
            writer.commit()
        assert chunk_bytes(root)[name].endswith(b"more")
        assert store.verify()
        assert [r["label"] for r in store] == [f"label {i}" for i in range(4)]
    check_rebuild(root)


def test_a_rebuild_waits_for_the_writer_that_commits(three: Path) -> None:
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(sqlstore.rebuild(three)))
    lock = WriterLock(three)
    identity = (three / "index.sqlite").stat().st_ino
    with lock.held():
        thread.start()
        thread.join(0.2)  # long enough for a rebuild that does not wait
        assert not done
        assert (three / "index.sqlite").stat().st_ino == identity
    thread.join(60)
    lock.close()
    assert done == [3]
    assert (three / "index.sqlite").stat().st_ino != identity


def test_a_pending_commit_that_never_happened_is_forgotten(three: Path) -> None:
    lock = WriterLock(three)
    try:
        with sqlstore.open(three, mode="a") as store:
            name = sorted(chunk_bytes(three))[-1]
            lock.name_pending(Pending(name, 4096, 99))
            sqlstore.rebuild(three)
            assert lock.text().pending is None
            assert store.extend([record(3)]).tolist() == [3]
    finally:
        lock.close()
