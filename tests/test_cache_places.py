"""Where the caches lie if not in the store: folders of other people, and disks that are full."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import sqlstore
from sqlstore.cache import manifest
from sqlstore.log import files
from sqlstore.log.reader import ChunkReader
from tests.caches import assert_current, held, results_of
from tests.processes import (
    Batch,
    Child,
    append,
    batches_in,
    new_store,
    record_of,
    run,
    whole_batches,
)

NOBODY = 65534
EXPECTED: list[Batch] = [(0, 0), (0, 1), (0, 2)]

pytestmark = pytest.mark.usefixtures("private")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return new_store(tmp_path / "store")


def states(path: Path) -> dict[Path, tuple[int, int]]:
    """Return what would be different if anything had been written."""
    found = {one: one.stat() for one in [path, *path.rglob("*")]}
    return {one: (status.st_mtime_ns, status.st_size) for one, status in found.items()}


# Folders of others


@pytest.fixture
def reachable() -> Iterator[Path]:
    """Yield a store that others can read; the folders of pytest are closed to them."""
    with tempfile.TemporaryDirectory() as temporary:
        Path(temporary).chmod(0o755)
        path = new_store(Path(temporary) / "store")
        append(path, *EXPECTED)
        shutil.rmtree(path / "cache")
        (home := Path(temporary) / "home").mkdir()
        home.chmod(0o777)
        folders = [one for one in [path, *path.rglob("*")] if one.is_dir()]
        for one in folders:
            one.chmod(0o555)
        yield path
        for one in folders:
            one.chmod(0o755)


def as_nobody(
    connection: Connection, path: Path, home: Path, program: Callable[[Path], object]
) -> object:
    """Run a program as somebody who may only read the store."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    assert not os.access(path, os.W_OK)
    os.environ["XDG_CACHE_HOME"] = str(home)
    return program(path)


def read_and_count(path: Path) -> tuple[int, list[str]]:
    """Read all; return how many segment tables that took, and which temporary folders."""
    with (
        results_of(ChunkReader, "table") as tables,
        results_of(tempfile, "mkdtemp") as temporary,
    ):
        for _ in range(2):
            assert batches_in(path) == EXPECTED
    assert all(list(Path(one).rglob("manifest.json")) for one in temporary)
    return len(tables), temporary


def test_a_folder_that_cannot_be_written_has_its_cache_elsewhere(reachable: Path) -> None:
    home, before = reachable.parent / "home", states(reachable)
    n_tables, temporary = run(as_nobody, reachable, home, read_and_count)
    assert n_tables >= len(EXPECTED), "nobody has made the cache"
    assert not temporary
    assert run(as_nobody, reachable, home, read_and_count) == (2, [])
    assert states(reachable) == before
    (place,) = (home / "sqlstore").iterdir()
    found = manifest.load(place)
    assert found is not None
    assert found.records == 9


def test_without_any_place_a_process_has_a_cache_as_long_as_it_runs(reachable: Path) -> None:
    before = states(reachable)
    with Child(as_nobody, reachable, reachable / "home", read_and_count) as child:
        _, temporary = child.result()
        assert child.exit_code() == 0
    assert len(temporary) == 1
    assert not Path(temporary[0]).exists()
    assert states(reachable) == before


TEMPORARY = """
import os, sys, tempfile
from pathlib import Path
import sqlstore
os.geteuid = lambda: -1  # somebody else
made = []
make = tempfile.mkdtemp
tempfile.mkdtemp = lambda *args, **named: made.append(make(*args, **named)) or made[-1]
assert len(sqlstore.open(sys.argv[1]).to_arrow()) == 9
if os.fork() == 0:
    sys.exit()
os.wait()
assert len(list(Path(made[0]).rglob("manifest.json"))) == 1
print(*made)
"""


def test_the_temporary_cache_goes_with_its_process_and_not_with_a_forked_child(
    path: Path, tmp_path: Path
) -> None:
    append(path, *EXPECTED)
    shutil.rmtree(path / "cache")
    (tmp_path / "private").write_text("not a folder")
    command = [sys.executable, "-c", TEMPORARY, str(path)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=60)
    (made,) = done.stdout.split()
    assert not Path(made).exists()


KILLED = """
import os, signal, sys
import sqlstore
os.geteuid = lambda: -1  # somebody else
sqlstore.open(sys.argv[1])
if len(sys.argv) > 2:
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_behind_is_removed_by_the_next(
    path: Path, tmp_path: Path
) -> None:
    append(path, *EXPECTED)
    shutil.rmtree(path / "cache")
    (tmp_path / "private").write_text("not a folder")
    (scratch := tmp_path / "scratch").mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch)}
    command = [sys.executable, "-c", KILLED, str(path)]
    killed = subprocess.run([*command, "kill"], check=False, env=environment, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    (left,) = scratch.iterdir()
    (alive := scratch / "sqlstore-alive").mkdir()
    with (alive / "in-use").open("w") as held_by_another:
        fcntl.flock(held_by_another, fcntl.LOCK_EX)
        subprocess.run(command, check=True, env=environment, timeout=60)
        assert list(scratch.iterdir()) == [alive]
    assert not left.exists()


def open_without_a_place(path: Path) -> str:
    full = OSError(errno.ENOSPC, "no space left")
    with (
        mock.patch.object(tempfile, "mkdtemp", side_effect=full),
        pytest.raises(sqlstore.StorageError, match="no place for the cache") as caught,
    ):
        sqlstore.open(path)
    return str(caught.value)


def test_where_there_is_no_place_at_all_the_error_says_so(reachable: Path) -> None:
    message = run(as_nobody, reachable, reachable / "home", open_without_a_place)
    assert str(reachable) in message
    assert "XDG_CACHE_HOME" in message


def test_what_belongs_to_somebody_else_is_used_and_never_written(
    path: Path, private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(path, *EXPECTED)
    before = states(path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
        assert_current(path)
        assert not private.exists()
        append(path, (0, 3))
        assert batches_in(path) == [*EXPECTED, (0, 3)]
        assert states(path / "cache") == before
        assert len(list(private.iterdir())) == 1
        assert_current(path)
    append(path, (0, 4))
    assert held(path).records == 15
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
        assert_current(path)
        assert batches_in(path) == [*EXPECTED, (0, 3), (0, 4)]


@pytest.mark.parametrize("name", ["chunks.bin", "locations-0-0.bin", "metadata-*.arrow"])
def test_a_damaged_cache_of_somebody_else_is_left_and_not_used(
    path: Path, private: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    append(path, *EXPECTED)
    (file,) = (path / "cache" / held(path).edition).glob(name)
    file.write_bytes(bytes(file.stat().st_size))
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    before = states(path)
    with sqlstore.open(path) as store:
        for _ in range(2):
            assert whole_batches(store) == EXPECTED
            store.refresh()
    assert states(path) == before
    assert len(list(private.iterdir())) == 1


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


@pytest.fixture
def behind(path: Path) -> Path:
    """Return a store whose cache lacks the last two commits."""
    append(path, (0, 0), count=40)
    (path / "cache").rename(path.parent / "saved")
    append(path, (0, 1), (0, 2), count=40)
    shutil.rmtree(path / "cache")
    (path.parent / "saved").rename(path / "cache")
    return path


@pytest.mark.parametrize("room", range(4))
def test_a_full_disk_keeps_nobody_from_reading(behind: Path, private: Path, room: int) -> None:
    path = behind
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
