"""Many chunks: few descriptors, so many maps and no more, in every mode and in threads.

``SQLSTORE_CHUNKS=5000 pytest tests/test_many_chunks.py`` takes as many; making them takes a while.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import pytest

import sqlstore
from sqlstore import Store, limits
from sqlstore.reading.chunks import MappedChunks
from tests import many_chunks
from tests.processes import run

Io: TypeAlias = Literal["mmap", "pread", "memory"]
IOS: Final[tuple[Io, ...]] = ("mmap", "pread", "memory")
CHUNKS: Final = int(os.environ.get("SQLSTORE_CHUNKS", "500"))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = many_chunks.make(tmp_path_factory.mktemp("many") / "store", CHUNKS)
    assert len(list((root / "chunks").iterdir())) == CHUNKS + 1
    return root


def read_with_few_descriptors(_: Connection, root: Path, how: Io) -> int:
    """Read a store whole, in every way and from several threads, and return how often."""
    limit = 256
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    expected = [many_chunks.value(record) for record in range(CHUNKS)]
    with sqlstore.open(root, io=how) as store:
        ways: list[Callable[[], object]] = [
            lambda: store.blobs("data").to_pylist(),
            lambda: store.blobs("data", copy=False).to_pylist(),
            lambda: [store.raw(record, "data") for record in range(CHUNKS)],
            lambda: [one["data"] for one in store.fetch(range(CHUNKS))],
            lambda: [one["data"] for one in store],
        ]
        for way in ways:
            assert way() == expected
        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(ways[number % len(ways)]) for number in range(8)]
            assert all(answer.result() == expected for answer in answers)
    return len(ways) + len(answers)


@pytest.mark.parametrize("how", IOS)
def test_many_chunks_need_few_descriptors(many: Path, how: Io) -> None:
    assert run(read_with_few_descriptors, many, how) == 13


def mapped(root: Path) -> int:
    """Return how many chunks of a store this process has mapped."""
    return Path("/proc/self/maps").read_text().count(f"{root}/chunks/")


@pytest.fixture
def few_maps(monkeypatch: pytest.MonkeyPatch) -> int:
    defaults: Any = MappedChunks.__init__.__kwdefaults__
    assert defaults["most"] == limits.MAX_MAPPED_CHUNKS
    monkeypatch.setitem(defaults, "most", 20)
    return 20


@contextlib.contextmanager
def eager_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not list maps")
def test_only_so_many_chunks_stay_mapped(many: Path, few_maps: int) -> None:
    expected = [many_chunks.value(record) for record in range(200)]
    with sqlstore.open(many, io="mmap") as store:
        for record in range(200):
            assert store.raw(record, "data") == expected[record]
            assert record % 7 or mapped(many) <= few_maps
        views = store.blobs("data", range(200), copy=False)
        assert mapped(many) >= 200
        assert views.to_pylist() == expected
        del views
        assert mapped(many) <= few_maps
    assert mapped(many) == 0


@pytest.mark.parametrize("how", IOS)
def test_threads_read_while_others_let_chunks_go(many: Path, few_maps: int, how: Io) -> None:
    start = threading.Barrier(8)

    def read(store: Store, seed: int) -> None:
        random = np.random.default_rng(seed)
        start.wait()
        for number in range(60):
            record, *others = random.integers(0, 60, 4).tolist()
            if number % 3:
                assert store[record]["data"] == many_chunks.value(record)
            else:
                found = store.blobs("data", others).to_pylist()
                assert found == [many_chunks.value(one) for one in others]

    with sqlstore.open(many, io=how) as store, ThreadPoolExecutor(8) as pool, eager_switches():
        for done in [pool.submit(read, store, seed) for seed in range(8)]:
            done.result()
