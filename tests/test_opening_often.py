"""A store is opened and closed very often, in every way, and nothing of that stays.

``SQLSTORE_OPENS=10000 pytest -s -o faulthandler_timeout=0 tests/test_opening_often.py`` does it so
often, for a few minutes.
"""

from __future__ import annotations

import gc
import itertools
import os
import pickle
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

import sqlstore
from tests.processes import Child, append, assert_clean, new_store, record_of, records_of

OPENS: Final = int(os.environ.get("SQLSTORE_OPENS", "300"))
SNAPSHOT: Final = "v1"
_WARM: Final = 60  # times until everything is imported, and every cache of Python and SQLite full
_NEWS: Final = 500  # after so many times the process says that it goes on
_MOST_OBJECTS: Final = 290
"""By so many may have grown: some references to what is gone wait to be tidied up."""
_MOST_BYTES: Final = 4 * sqlstore.MiB + OPENS * sqlstore.KiB
"""By so much memory may have grown; the store itself grows by two commits in 15 times."""


class Use(NamedTuple):
    """What a process has at one moment."""

    descriptors: int
    maps: int
    objects: int
    memory: int


def use_of(root: Path) -> Use:
    gc.collect()
    maps = [line for line in _lines("/proc/self/maps") if str(root) in line]
    pages = int(_lines("/proc/self/statm")[0].split()[1])
    memory = pages * os.sysconf("SC_PAGE_SIZE")
    return Use(len(os.listdir("/dev/fd")), len(maps), len(gc.get_objects()), memory)  # noqa: PTH208


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def read(path: Path, how: Any) -> None:
    with sqlstore.open(path, io=how) as store:
        assert store[1] == record_of(0, 0, 1, 3, 64)
        assert len(store.where("writer = 0")) == 3


def look(path: Path, how: Any) -> None:
    """Open without reading anything."""
    sqlstore.open(path, io=how).close()


def read_snapshot(path: Path, how: Any) -> None:
    with sqlstore.open(path, snapshot=SNAPSHOT, io=how) as store:
        assert len(store) == 3
        assert store[2] == record_of(0, 0, 2, 3, 64)


def read_pickled(path: Path, how: Any) -> None:
    with sqlstore.open(path, io=how) as store:
        pickled = pickle.dumps(store[[2, 0]])
    view = pickle.loads(pickled)
    assert [record["position"] for record in view] == [2, 0]


def drop(path: Path, how: Any) -> None:
    """Read from a view of a store that nobody closes."""
    view = sqlstore.open(path, io=how).where("position = 1")
    assert view[0]["position"] == 1


def drop_writer(path: Path, how: Any) -> None:
    """Have a record refused, and leave the writer without a commit."""
    with sqlstore.open(path, "a", io=how) as store, store.writer() as writer:
        writer.extend(records_of((1, 0)))
        with pytest.raises(sqlstore.SchemaError):
            writer.append({"nothing": 1})
        writer.rollback()


def write(path: Path, how: Any) -> None:
    """Commit, and take it back, so that the store stays small."""
    with sqlstore.open(path, "a", io=how) as store:
        store.extend(records_of((1, 0)))
        store.where("writer = 1").delete()


WAYS: Final[tuple[Callable[[Path, Any], None], ...]] = (
    *(read, look, read_snapshot, read_pickled, drop),
    *(read, look, read_snapshot, read_pickled, drop_writer),
    *(read, look, read_snapshot, read_pickled, write),
)
IOS: Final = ("mmap", "pread", "memory")


def open_often(connection: Connection, path: Path, times: int) -> tuple[Use, Use]:
    """Open and close so often, in all ways in turn, and return what was in use before and after."""
    turns = itertools.cycle(itertools.product(WAYS, IOS))
    for way, how in itertools.islice(turns, _WARM):
        way(path, how)
    before = use_of(path)
    for number, (way, how) in enumerate(itertools.islice(turns, times)):
        if number % _NEWS == 0:
            connection.send(number)
        way(path, how)
    return before, use_of(path)


@pytest.mark.skipif(sys.platform != "linux", reason="what is in use is read from /proc")
def test_nothing_stays_of_a_store_that_is_opened_often(tmp_path: Path) -> None:
    path = new_store(tmp_path / "store")
    append(path, (0, 0))
    with sqlstore.open(path, "a") as store:
        store.snapshot(SNAPSHOT)
    with Child(open_often, path, OPENS) as child:
        for number in range(0, OPENS, _NEWS):
            assert child.hear() == number
        before, after = child.result()
    print(f"\nopened {OPENS:,} times: {before} before, {after} after")
    assert after.descriptors == before.descriptors
    assert after.maps == before.maps
    assert after.objects - before.objects < _MOST_OBJECTS
    assert after.memory - before.memory < _MOST_BYTES
    assert_clean(path)
