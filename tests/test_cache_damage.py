"""Damage to the caches and around them: killed processes, full disks, other people's files."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import pytest

import sqlstore
from sqlstore.cache import fill, folder, manifest, metadata
from sqlstore.log import files
from sqlstore.source import Source
from tests.caches import assert_current, edition, held, results_of
from tests.processes import (
    Batch,
    Child,
    Steps,
    append,
    batches_in,
    kill_self,
    new_store,
    record_of,
    run,
    whole_batches,
)

WRITES: tuple[tuple[Any, str], ...] = ((files, "put"), (files, "write_at"))


@pytest.fixture(autouse=True)
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "private"))
    return tmp_path / "private" / "sqlstore"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return new_store(tmp_path / "store")


@pytest.fixture
def behind(path: Path, tmp_path: Path) -> Callable[[], Path]:
    """Return what puts a cache into the store that lacks its last two commits."""
    append(path, (0, 0), count=40)
    (path / "cache").rename(tmp_path / "saved")
    append(path, (0, 1), (0, 2), count=40)

    def put() -> Path:
        shutil.rmtree(path / "cache", ignore_errors=True)
        return Path(shutil.copytree(tmp_path / "saved", path / "cache"))

    return put


EXPECTED = [(0, 0), (0, 1), (0, 2)]


# Files of the cache that are damaged

FILES = ["manifest.json", "chunks.bin", "locations-0.bin", "metadata-0-40.arrow", ""]
DAMAGE: dict[str, Callable[[Path], object]] = {
    "gone": lambda file: file.unlink() if file.is_file() else shutil.rmtree(file),
    "empty": lambda file: replaced(file, b""),
    "cut": lambda file: replaced(file, contents(file)[:-1]),
    "zeros": lambda file: replaced(file, bytes(len(contents(file)))),
    "noise": lambda file: replaced(file, bytes(byte ^ 0x55 for byte in contents(file))),
    "a folder": lambda file: replaced(file, None),
}


def contents(file: Path) -> bytes:
    return file.read_bytes() if file.is_file() else b""


def replaced(file: Path, data: bytes | None) -> None:
    """Put a file or a folder in the place of a file that may be mapped."""
    DAMAGE["gone"](file)
    if data is None:
        file.mkdir()
    else:
        file.write_bytes(data)


@pytest.mark.parametrize("damage", list(DAMAGE))
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_made_anew_for_open_and_new_readers(
    behind: Callable[[], Path], name: str, damage: str
) -> None:
    path = behind().parent
    last = sqlstore.open(path)
    with last, sqlstore.open(path) as other:
        behind()
        place = path / "cache" if name == "manifest.json" else edition(path)
        DAMAGE[damage](place / name)
        assert whole_batches(other) == EXPECTED
        assert batches_in(path) == EXPECTED
        other.refresh()
        assert whole_batches(other) == EXPECTED
        append(path, (0, 3))
        assert batches_in(path) == [*EXPECTED, (0, 3)]
        last.refresh()
        assert whole_batches(last) == [*EXPECTED, (0, 3)]


@pytest.mark.parametrize("verify", ["once", "always", "never"])
def test_locations_that_were_lost_before_others_were_added_are_found_again(
    behind: Callable[[], Path], verify: Any
) -> None:
    path = behind().parent
    (edition(path) / "locations-0.bin").unlink()
    with sqlstore.open(path, verify=verify) as store:
        assert whole_batches(store) == EXPECTED


def test_threads_that_find_damage_make_the_cache_anew_once(path: Path) -> None:
    append(path, *EXPECTED)
    n_threads = 6
    found_it = threading.Barrier(n_threads)
    renew = Source._renew

    def together(*arguments: Any) -> None:
        with suppress(threading.BrokenBarrierError):
            found_it.wait(10)
        renew(*arguments)

    with sqlstore.open(path) as store:
        for part in edition(path).glob("metadata-*"):
            part.write_bytes(bytes(part.stat().st_size))
        with (
            mock.patch.object(Source, "_renew", together),
            results_of(fill, "begun") as begun,
            ThreadPoolExecutor(n_threads) as pool,
        ):
            tables = [pool.submit(store.to_arrow) for _ in range(n_threads)]
            assert all(table.result() == tables[0].result() for table in tables)
        assert len(begun) == 1
        assert whole_batches(store) == EXPECTED


# What lies in the folder and is not ours


def test_what_is_not_ours_stays(path: Path, tmp_path: Path) -> None:
    append(path, (0, 0))
    cache, elsewhere = path / "cache", tmp_path / "elsewhere"
    first = edition(path)
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept")
    (cache / "notes.txt").write_text("kept")
    (cache / "a folder" / "in it").mkdir(parents=True)
    (cache / "dangling").symlink_to(tmp_path / "nothing")
    (cache / "0123456789abcdef").symlink_to(elsewhere)  # the name of an edition
    (cache / ("é" * 20 + "\n")).write_text("kept")
    before = {one for one in cache.iterdir() if one != first}
    sqlstore.rebuild(path)
    append(path, (0, 1))
    assert batches_in(path) == [(0, 0), (0, 1)]
    assert not first.exists()
    assert set(cache.iterdir()) == before | {edition(path)}
    assert (elsewhere / "kept").read_text() == "kept"


STRANGE: dict[str, Callable[[Path], object]] = {
    "a file": lambda cache: cache.write_text("not a folder"),
    "a dangling link": lambda cache: cache.symlink_to(cache.parent / "nothing"),
    "a folder as lock": lambda cache: (cache / "lock").mkdir(parents=True),
    "a folder as manifest": lambda cache: (cache / "manifest.json").mkdir(parents=True),
}


@pytest.mark.parametrize("kind", list(STRANGE))
def test_what_lies_in_the_way_of_the_cache_keeps_nobody_from_reading(
    path: Path, private: Path, kind: str
) -> None:
    append(path, (0, 0))
    shutil.rmtree(path / "cache")
    STRANGE[kind](path / "cache")
    append(path, (0, 1))
    assert batches_in(path) == [(0, 0), (0, 1)]
    assert [manifest.load(place) is not None for place in private.iterdir()] == [True]
    assert_current(path)


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise inside the block what ends it, should it never end by itself."""

    def end(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", FILES[:-1])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(path: Path, name: str) -> None:
    append(path, (0, 0), count=40)
    place = path / "cache" if name == "manifest.json" else edition(path)
    (place / name).unlink()
    os.mkfifo(place / name)
    with at_most(seconds=20):
        assert batches_in(path) == [(0, 0)]


# Processes that die while they extend it, and folders that vanish


def open_and_read(_: Connection, path: Path, kill_at: int | None = None) -> list[str]:
    """Open a store, killed at one of the writes to its cache, and return these."""
    steps = Steps(kill_self, kill_at)
    with steps.around(*WRITES):
        assert batches_in(path) == EXPECTED
    return steps.names


def test_a_reader_after_one_that_was_killed_while_it_extended_the_cache(
    behind: Callable[[], Path],
) -> None:
    cache = behind()
    steps = run(open_and_read, cache.parent)
    assert len(steps) >= 9, "what is written first, and its manifest"
    for kill_at in range(len(steps)):
        behind()
        with Child(open_and_read, cache.parent, kill_at) as child:
            assert child.exit_code() == -signal.SIGKILL
        assert batches_in(cache.parent) == EXPECTED
        assert held(cache.parent).records == 120
        ours = [one.name for one in cache.iterdir()]
        assert sorted(ours) == sorted(["lock", "manifest.json", edition(cache.parent).name])
        assert not list(edition(cache.parent).glob("*.new"))


MOMENTS: tuple[tuple[Any, str], ...] = (
    *WRITES,
    (files, "open_or_create"),
    (files, "try_lock"),
    (fill, "begun"),
    (fill, "remove_others"),
    (manifest, "load"),
    (metadata, "load"),
)


def read_all(path: Path, n_batches: int) -> None:
    assert len(batches_in(path)) == n_batches


def commit_one(path: Path, n_batches: int) -> None:
    append(path, (0, n_batches))


@pytest.mark.parametrize("what", [read_all, commit_one])
def test_the_folder_of_the_cache_may_be_deleted_at_any_moment(
    path: Path, what: Callable[[Path, int], None]
) -> None:
    append(path, (0, 0))
    n_batches, moment, acted = 1, 0, True
    while acted:
        append(path, (0, n_batches))
        steps = Steps(lambda: shutil.rmtree(path / "cache", ignore_errors=True), moment)
        with steps.around(*MOMENTS):
            what(path, n_batches + 1)
        n_batches = len(batches_in(path))
        moment, acted = moment + 1, steps.acted
    assert moment > 15


# Disks that are full


class Full:
    """A disk that has room for some more writes below some folders."""

    def __init__(self, *places: Path, room: int = 0) -> None:
        self.room = room
        self.refused = 0
        self._places = places

    @contextmanager
    def around(self) -> Iterator[None]:
        put, write_at = files.put, files.write_at

        def put_or_refuse(path: Path, data: Any) -> None:
            self._take(path)
            put(path, data)

        def write_or_refuse(descriptor: int, offset: int, buffers: Any, path: Path) -> int:
            self._take(path)
            return write_at(descriptor, offset, buffers, path)

        with (
            mock.patch.object(files, "put", put_or_refuse),
            mock.patch.object(files, "write_at", write_or_refuse),
        ):
            yield

    def _take(self, path: Path) -> None:
        if any(path.is_relative_to(place) for place in self._places):
            if not self.room:
                self.refused += 1
                raise sqlstore.StoreFullError(f"no space left for {path}")
            self.room -= 1


@pytest.mark.parametrize("room", range(4))
def test_a_full_disk_keeps_nobody_from_reading(
    behind: Callable[[], Path], private: Path, room: int
) -> None:
    path = behind().parent
    before = held(path)
    disk = Full(path, room=room)
    with disk.around():
        assert batches_in(path) == EXPECTED
        assert held(path) == before
        with sqlstore.open(path) as store:
            assert whole_batches(store) == EXPECTED
    assert disk.refused
    disk = Full(path, private, room=room)
    with disk.around():  # the place that lasts as long as this process is left
        shutil.rmtree(private)
        assert batches_in(path) == EXPECTED
    assert disk.refused >= 2
    assert batches_in(path) == EXPECTED
    assert held(path).records == 120
    assert_current(path)


@pytest.mark.parametrize("room", range(4))
def test_a_commit_stands_though_there_is_no_room_for_the_cache(
    path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr("sqlstore.limits.CACHE_BEHIND_COMMITS", 1)
    append(path, (0, 0), count=40)
    disk = Full(path / "cache", room=room)
    with disk.around(), sqlstore.open(path, "a") as store, store.writer() as writer:
        for batch in (1, 2):
            writer.extend([record_of(0, batch, i, 40, 64) for i in range(40)])
            assert writer.commit().tolist() == [*range(40 * batch, 40 * batch + 40)]
        assert whole_batches(store) == EXPECTED
    assert disk.refused
    assert batches_in(path) == EXPECTED
    assert_current(path)


# Records whose segment table is damaged


@contextmanager
def damaged_commit(path: Path, number: int, where: int) -> Iterator[str]:
    """Damage a byte of a commit, counted from the end of its segment table; yield the chunk."""
    with sqlstore.open(path) as store:
        sql = 'SELECT name, "offset" FROM commits JOIN chunks USING (chunk) WHERE number = :number'
        row = store.sql(sql, number=number).to_pylist()[0]
    file = path / "chunks" / row["name"]
    flip(file, row["offset"] + where)
    yield row["name"]
    flip(file, row["offset"] + where)


def flip(file: Path, offset: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(offset)
        (byte,) = opened.read(1)
        opened.seek(offset)
        opened.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("where", [-1, 20], ids=["table", "trailer"])
@pytest.mark.parametrize("number", [2, 3, 4])
def test_records_are_lost_with_their_segment_table_until_it_is_mended(
    path: Path, number: int, where: int
) -> None:
    batches: list[Batch] = [*EXPECTED]
    append(path, *batches)
    first = 3 * (number - 2)
    rest = [i for i in range(9) if not first <= i < first + 3]
    with damaged_commit(path, number, where) as chunk:
        shutil.rmtree(path / "cache")
        opened = sqlstore.open(path)
        for _ in range(2):
            names = opened.take(rest).to_arrow()["name"].to_pylist()
            assert names == [f"0/{i // 3}/{i % 3}" for i in rest]
            expected = [record_of(0, i // 3, i % 3, 3, 64) for i in rest]
            assert opened.fetch(rest) == expected
            assert opened.blobs("payload", rest).to_pylist() == [one["payload"] for one in expected]
            reads: list[Callable[[], object]] = [
                lambda: opened[first],
                lambda: opened.raw(first + 2, "payload"),
                lambda: opened.blobs("payload"),
                lambda: opened.blobs("payload", [0, first + 1, 8], copy=False),
                lambda: opened.open(first, "payload"),
                lambda: opened.select("name")[first + 1],
                opened.to_arrow,
            ]
            for read in reads:
                with pytest.raises(sqlstore.CorruptChunkError, match="damaged") as caught:
                    read()
                assert caught.value.where["chunk"] == chunk
            assert len(held(path).lost) == 1
            opened.refresh()
    with opened:
        assert whole_batches(opened) == batches
    assert not held(path).lost
    assert batches_in(path) == batches


def test_folder_of_the_cache_is_where_the_tests_think_it_is(path: Path) -> None:
    append(path, (0, 0))
    assert (folder.shared(path) / "manifest.json").exists()
