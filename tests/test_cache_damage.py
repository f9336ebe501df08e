"""Damage to the caches and around them: killed processes, full disks, other people's files."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import sqlstore
from sqlstore.cache import fill, manifest, metadata
from sqlstore.log import files
from sqlstore.source import Source
from tests.caches import edition, held, results_of
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

WRITES: tuple[tuple[Any, str], ...] = ((files, "put"), (files, "write_at"), (Path, "replace"))

pytestmark = pytest.mark.usefixtures("private")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return new_store(tmp_path / "store")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a store, and an old cache of it that lacks the last two commits."""
    scratch = tmp_path_factory.mktemp("template")
    path = new_store(scratch / "store")
    append(path, (0, 0), count=40)
    (path / "cache").rename(scratch / "cache")
    append(path, (0, 1), (0, 2), count=40)
    return scratch


@pytest.fixture
def behind(template: Path, tmp_path: Path) -> Callable[[], Path]:
    """Return what puts the old cache into a copy of the store, and returns its folder."""
    path = Path(shutil.copytree(template / "store", tmp_path / "behind"))

    def put() -> Path:
        shutil.rmtree(path / "cache", ignore_errors=True)
        return Path(shutil.copytree(template / "cache", path / "cache"))

    return put


EXPECTED = [(0, 0), (0, 1), (0, 2)]


# Files of the cache that are damaged

FILES = ["manifest.json", "chunks.bin", "locations-0-0.bin", "metadata-*.arrow", ""]
DAMAGE: dict[str, Callable[[Path], object]] = {
    "gone": lambda file: file.unlink() if file.is_file() else shutil.rmtree(file),
    "empty": lambda file: replaced(file, b""),
    "cut": lambda file: replaced(file, contents(file)[:-1]),
    "noise": lambda file: replaced(file, bytes(byte ^ 0x55 for byte in contents(file))),
    "a folder": lambda file: replaced(file, None),
}


def file_of_cache(path: Path, name: str) -> Path:
    """Return a file of the cache, or the folder that most of them lie in."""
    if not name:
        return edition(path)
    folder = path / "cache" if name == "manifest.json" else edition(path)
    return next(iter(folder.glob(name)))


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
        DAMAGE[damage](file_of_cache(path, name))
        assert whole_batches(other) == EXPECTED
        assert batches_in(path) == EXPECTED
        other.refresh()
        assert whole_batches(other) == EXPECTED
        append(path, (0, 3))
        assert batches_in(path) == [*EXPECTED, (0, 3)]
        last.refresh()
        assert whole_batches(last) == [*EXPECTED, (0, 3)]


def read_one_by_one(path: Path) -> None:
    with sqlstore.open(path) as store:
        for i in range(120):
            assert store.raw(i, "payload") == record_of(0, i // 40, i % 40, 40, 64)["payload"]


def read_together(path: Path) -> None:
    assert batches_in(path) == EXPECTED


@pytest.mark.parametrize(
    ("name", "read"),
    [*((name, read_together) for name in FILES[:-1]), ("locations-0-0.bin", read_one_by_one)],
)
def test_a_flipped_bit_in_a_file_is_noticed(
    behind: Callable[[], Path], name: str, read: Callable[[Path], None]
) -> None:
    path = behind().parent
    read(path)
    size = len(contents(file_of_cache(path, name)))
    assert size
    for offset in range(0, size, size // 20 | 1):  # odd, so that it is not always the same word
        file = file_of_cache(path, name)
        data = bytearray(contents(file))
        data[offset % len(data)] ^= 1 << offset % 8
        replaced(file, bytes(data))
        read(path)


@pytest.mark.parametrize("verify", ["once", "always", "never"])
def test_locations_that_were_lost_before_others_were_added_are_found_again(
    behind: Callable[[], Path], verify: Any
) -> None:
    path = behind().parent
    (edition(path) / "locations-0-0.bin").unlink()
    with sqlstore.open(path, verify=verify) as store:
        assert whole_batches(store) == EXPECTED


def test_threads_that_find_damage_make_the_cache_anew_once(path: Path) -> None:
    append(path, *EXPECTED)
    n_threads = 6
    found_it = threading.Barrier(n_threads)
    renew = Source.renew

    def together(*arguments: Any) -> None:
        with suppress(threading.BrokenBarrierError):
            found_it.wait(10)
        renew(*arguments)

    with sqlstore.open(path) as store:
        for part in edition(path).glob("metadata-*"):
            part.write_bytes(bytes(part.stat().st_size))
        with (
            mock.patch.object(Source, "renew", together),
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


def read_beside_pipes(_: Connection, path: Path) -> None:
    for name in FILES[:-1]:
        file = file_of_cache(path, name)
        file.unlink()
        os.mkfifo(file)
        assert batches_in(path) == [(0, 0)]


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(path: Path) -> None:
    append(path, (0, 0), count=40)
    run(read_beside_pipes, path)  # where it can be ended, should it wait


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
    for kill_at, step in enumerate(steps):
        if step.startswith("after"):
            continue  # as good as before the next one
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


def read_last(path: Path, n_batches: int) -> None:
    with sqlstore.open(path) as store:
        assert whole_batches(store, start=-3) == [(0, n_batches - 1)]
        assert len(store) == 3 * n_batches


def commit_one(path: Path, n_batches: int) -> None:
    append(path, (0, n_batches))


def test_what_keeps_every_cache_from_being_read_is_among_the_causes(path: Path) -> None:
    append(path, (0, 0))
    with sqlstore.open(path, "a") as store:
        store[:1].delete()
    gone = OSError(errno.ENOMEM, "no memory")
    with (
        mock.patch.object(files, "mapped", side_effect=gone),
        pytest.raises(sqlstore.CorruptCacheError, match="does not stay whole") as caught,
    ):
        sqlstore.open(path)
    assert caught.value.__cause__ is not None
    assert caught.value.__cause__.__cause__ is gone


@pytest.mark.parametrize("what", [read_last, commit_one])
def test_the_folder_of_the_cache_may_be_deleted_at_any_moment(
    path: Path, private: Path, what: Callable[[Path, int], None]
) -> None:
    append(path, (0, 0))
    n_batches, moment, acted = 1, 0, True
    while acted:
        for cache in (path / "cache", private):
            shutil.rmtree(cache, ignore_errors=True)
        steps = Steps(lambda: shutil.rmtree(path / "cache", ignore_errors=True), moment)
        with steps.around(*MOMENTS):
            what(path, n_batches)
        n_batches += what is commit_one
        read_last(path, n_batches)
        moment, acted = moment + 2, steps.acted  # after one step is before the next
    assert moment > 15


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
