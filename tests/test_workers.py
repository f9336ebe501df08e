"""Worker processes and threads: what they read is right, and none of them opens SQLite for it.

``SQLSTORE_WORKERS=16 SQLSTORE_READS=12000 pytest tests/test_workers.py -s`` reads a million values.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias
from unittest import mock

import numpy as np
import pytest

import sqlstore
from sqlstore import CorruptStoreError, ForkedStoreError, StaleViewError, Store, View
from sqlstore.source import Source
from tests.processes import run
from tests.worker_programs import (
    COUNT,
    Task,
    data,
    descriptors,
    make,
    read_randomly,
    record_of,
    work,
)

Io: TypeAlias = Literal["mmap", "pread", "memory"]
IOS: Final[tuple[Io, ...]] = ("mmap", "pread", "memory")
WORKERS: Final = int(os.environ.get("SQLSTORE_WORKERS", "4"))
READS: Final = int(os.environ.get("SQLSTORE_READS", "300"))
"""By each worker through what was opened before it was started, and as many through its own."""
PATIENCE: Final = 100 + WORKERS * READS // 1000  # seconds; only waited for by a test that fails


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("workers") / "store")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return make(tmp_path / "small", 30)


@pytest.fixture(scope="module")
def tally() -> Iterator[list[int]]:
    """Return where the numbers of values read are noted; their sum is printed at the end."""
    counts: list[int] = []
    yield counts
    print(f"\n{sum(counts):,} values read by {len(counts)} workers without a mismatch")


def started(method: str, task: Task) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    context: Any = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, task), daemon=True)
    with warnings.catch_warnings():
        # Later Pythons warn of a fork beside threads, which is just what is tried here.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    theirs.close()
    return process, ours


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_workers_read_what_was_written(root: Path, method: str, tally: list[int]) -> None:
    how = IOS[["fork", "forkserver", "spawn"].index(method)]
    with sqlstore.open(root, io="mmap" if method == "fork" else how) as store:
        views = [store[500:2500], store[::-3], store[[5, 5, 7]], store.order_by("label, n DESC")]
        before = read_randomly(store, 32, 0)
        pickled = pickle.dumps(views)
        running = [started(method, Task(store, pickled, READS, seed)) for seed in range(WORKERS)]
        for process, connection in running:
            assert connection.poll(PATIENCE), "a worker says nothing"
            tally.append(connection.recv())
            process.join(PATIENCE)
            assert process.exitcode == 0
        # In the parent everything is as it was.
        assert read_randomly(store, 32, 0) == before
        assert all(read_randomly(view, 32, 1) for view in views)
        assert descriptors(root) == 1
        assert len(store.where("n < 50")) == 50
    assert min(tally[-WORKERS:]) >= 2 * READS


FRESH: Final = """
import pickle, sys
opened = []
sys.addaudithook(lambda event, _: opened.append(event) if event == "sqlite3.connect" else None)
from pathlib import Path
for view in pickle.loads(Path(sys.argv[1]).read_bytes()):
    with view.open(0, "data") as file:
        assert file.read() == view.raw(0, "data") == view[0]["data"]
    assert view.blobs("text", [0, -1]).to_pylist()[0].decode() == view.fetch([0])[0]["text"]
    assert view.to_arrow()["n"].to_pylist() == view.ids.tolist()
    assert len(list(view.batches(1000))) == -(-len(view) // 1000)
    assert pickle.loads(pickle.dumps(view))[0] == view[0]
assert not opened, opened
unwanted = {"sqlalchemy", "alembic", "pandas", "torch"} & set(sys.modules)
assert not unwanted, unwanted
print("done")
"""


def test_a_fresh_process_reads_without_sqlite(root: Path, tmp_path: Path) -> None:
    with sqlstore.open(root) as store:
        views = [store, store[5:9], store.where("label = 'label 1'"), store.take([1] * 2000)]
        (tmp_path / "views").write_bytes(pickle.dumps(views))
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(tmp_path / "views")],
        capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False,
    )  # fmt: skip
    assert done.stdout == "done\n", done.stderr


# Forks


def in_fork(program: Callable[[], object]) -> None:
    """Run a program in a forked child and check that it ends well, and soon."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(5)
            program()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def fork_beside_a_writer(_: Connection, path: Path) -> None:
    with sqlstore.open(path, "a") as store, store.writer() as writer:
        writer.extend(record_of(number) for number in range(30, 40))
        writer.commit()
        writer.append(record_of(40))
        view = store[25:]

        def read() -> None:
            assert descriptors(path) == 0
            assert view.fetch(range(15)) == [record_of(number) for number in range(25, 40)]
            assert read_randomly(store, 64, 0)
            assert len(store) == 40
            assert store.where("n >= 35").ids.tolist() == list(range(35, 40))
            with pytest.raises(ForkedStoreError):
                writer.commit()

        in_fork(read)
        in_fork(store.close)
        assert len(writer.commit()) == 1
        assert store[-1] == record_of(40)
        in_fork(lambda: store[40] == record_of(40))


def test_a_child_reads_while_its_parent_writes(small: Path) -> None:
    run(fork_beside_a_writer, small)


def fork_while_unpickling(_: Connection, path: Path) -> None:
    """Fork while another thread is in the middle of unpickling, and unpickle in the child."""
    in_the_middle, go_on = threading.Event(), threading.Event()
    real = Source.resume

    def resume(*arguments: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            in_the_middle.set()
            assert go_on.wait(60)
        real(*arguments)

    with sqlstore.open(path) as store:
        pickled = pickle.dumps(store[3:])
    with mock.patch.object(Source, "resume", resume), ThreadPoolExecutor(1) as pool:
        other = pool.submit(pickle.loads, pickled)
        assert in_the_middle.wait(60)
        try:
            in_fork(lambda: pickle.loads(pickled).fetch([0, 1]))
        finally:
            go_on.set()
        assert other.result()[0] == record_of(3)


def test_a_child_unpickles_that_was_forked_while_another_thread_did(small: Path) -> None:
    run(fork_while_unpickling, small)


# Threads


@pytest.mark.parametrize("how", IOS)
def test_threads_share_a_store(root: Path, how: Io) -> None:
    start = threading.Barrier(8)
    with sqlstore.open(root, io=how) as store:
        pickled = pickle.dumps(store[10:2000])

        def read(thread: int) -> int:
            start.wait()
            view = pickle.loads(pickled) if thread % 2 else store
            total = 0
            for step in range(4):
                total += read_randomly(view, 32, thread * 10 + step)
                found = view.where("label = :label AND n < 60", label=f"label {thread % 5}")
                assert found.ids.tolist() == [
                    i for i in view.ids[:60] if i % 5 == thread % 5 and i < 60
                ]
                assert found.fetch([0, -1])[1]["n"] == found.ids[-1]
            return total

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(read, range(8))) == 8 * 4 * 32


# Pickles


def test_views_pickle_small(root: Path) -> None:
    with sqlstore.open(root) as store:
        assert len(pickle.dumps(store)) < 2048
        assert len(pickle.dumps(View(store._source, range(10_000_000)))) < 2048
        many = store.take(np.random.default_rng(0).integers(0, COUNT, 1_000_000))
        pickled = pickle.dumps(many)
        assert len(pickled) < 4096
        again = pickle.loads(pickled)
        assert np.array_equal(again.ids, many.ids)
        assert again.raw(999_999, "data") == many.raw(999_999, "data")
        assert pickle.dumps(again) == pickled  # the file is there already
        assert len(list((root / "cache" / "ids").iterdir())) >= 1


def test_what_is_pickled_is_the_same_again(small: Path) -> None:
    with sqlstore.open(small, io="pread", verify="always") as store:
        for view in (
            store[:], store[3:20], store[::-2], store[[]], store[5:5], store[[3, 3, -1]],
            store.where("n > 3"), store.select("n", "data")[4:6], store.select()[:2],
        ):  # fmt: skip
            again = pickle.loads(pickle.dumps(view))
            assert type(again) is View
            assert list(again) == list(view)
            assert np.array_equal(again.ids, view.ids)
            assert repr(again) == repr(view)
            assert again.to_arrow() == view.to_arrow()
            assert list(again.where("n < 9")) == list(view.where("n < 9"))
            assert list(again.order_by("n DESC")) == list(view.order_by("n DESC"))


@pytest.mark.parametrize("mode", ["r", "a"])
def test_a_store_is_pickled_as_it_is_seen(small: Path, mode: Literal["r", "a"]) -> None:
    with sqlstore.open(small, mode) as store:
        pickled = pickle.dumps(store)
        with sqlstore.open(small, "a") as other:
            other.extend([record_of(30)])
        one, two = pickle.loads(pickled), pickle.loads(pickled)
        for again in (one, two):
            assert type(again) is Store
            assert (again.path, again.mode, len(again)) == (small, mode, 30)
            assert list(again) == list(store)
            assert again.created == store.created
            assert again.where(again.c.n >= 28).ids.tolist() == [28, 29]
            assert repr(again) == repr(store)
        one.refresh()
        assert (len(one), len(two), len(store)) == (31, 30, 30)
        assert len(pickle.loads(pickled)) == 30
        one.close()
        assert two[29] == store[29] == record_of(29)
        if mode == "a":
            assert two.extend([record_of(31)]).tolist() == [31]
            assert two[-1] == record_of(31)
        two.close()
        assert store.get(29) == record_of(29)
    with pytest.raises(sqlstore.StoreClosedError, match="closed"):
        pickle.dumps(store)


def test_an_empty_store_is_pickled(tmp_path: Path) -> None:
    with sqlstore.create(tmp_path / "s", metadata={"n": "int64"}) as store:
        again, view = pickle.loads(pickle.dumps((store, store[:])))
        assert (len(again), len(view), list(view), view.to_arrow().num_rows) == (0, 0, [], 0)
        store.extend([{"n": 1}])
        assert (len(again), len(view)) == (0, 0)
        again.refresh()
        assert list(again) == [{"n": 1}]
        assert len(view) == 0


def test_what_is_dropped_closes_its_files(small: Path) -> None:
    with sqlstore.open(small, io="pread") as store:
        pickled = pickle.dumps(store[3:])
        gc.collect()
        before = descriptors(small), descriptors(small, "chunks/*")
        for _ in range(3):
            view = pickle.loads(pickled)
            assert view[0] == record_of(3)
            assert len(view.where("n < 9")) == 6
            del view
            gc.collect()
            assert (descriptors(small), descriptors(small, "chunks/*")) == before


# What becomes of a pickle when the store goes on without it


def test_a_pickle_needs_no_cache(small: Path) -> None:
    with sqlstore.open(small) as store:
        pickled = pickle.dumps([store[3:9], store[[5, 2]], store])
    shutil.rmtree(small / "cache")
    some, few, all_ = pickle.loads(pickled)
    assert list(some) == [record_of(number) for number in range(3, 9)]
    assert list(few) == [record_of(5), record_of(2)]
    assert len(all_) == 30
    assert all_.blobs("data").to_pylist() == [data(number) for number in range(30)]
    assert (small / "cache").is_dir()


@pytest.mark.parametrize("change", ["rebuild", "append", "cache gone", "all of it"])
def test_a_pickle_outlives_what_happens_to_the_store(small: Path, change: str) -> None:
    with sqlstore.open(small, "a") as store:
        pickled = pickle.dumps([store[3:9], store[::-1], store])
        read_before = pickle.loads(pickled)
        assert read_before[0][0] == record_of(3)
        if change in ("append", "all of it"):
            for number in range(30, 75):
                store.extend([record_of(number)])
        if change in ("rebuild", "all of it"):
            sqlstore.rebuild(small)
        if change in ("cache gone", "all of it"):
            shutil.rmtree(small / "cache")
        sqlstore.open(small).close()
        for some, backwards, all_ in (pickle.loads(pickled), read_before):
            assert list(some) == [record_of(number) for number in range(3, 9)]
            assert list(backwards) == [record_of(number) for number in reversed(range(30))]
            assert all_.to_arrow()["n"].to_pylist() == list(range(30))
            assert some.where("n > 6").ids.tolist() == [7, 8]


def test_a_pickle_says_when_its_ids_are_gone(root: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    shutil.rmtree(copy / "cache")
    with sqlstore.open(copy) as store:
        pickled = pickle.dumps(store.take([1] * 2000))
    (file,) = (copy / "cache" / "ids").iterdir()
    good = file.read_bytes()
    for content in (good[:-8], b"", good[:800] + b"\2" + good[801:], good + bytes(8)):
        file.write_bytes(content)
        with pytest.raises(StaleViewError, match="record ids of this view"):
            pickle.loads(pickled)
    file.unlink()
    with pytest.raises(StaleViewError, match="make it anew") as caught:
        pickle.loads(pickled)
    assert str(file) in str(caught.value)
    with sqlstore.open(copy) as store:  # and another can be made
        assert pickle.loads(pickle.dumps(store.take([1] * 2000))).raw(-1, "data") == data(1)


def test_a_pickle_is_of_one_store(small: Path, tmp_path: Path) -> None:
    with sqlstore.open(small) as store:
        pickled = pickle.dumps(store[3:9])
    small.rename(tmp_path / "away")
    with pytest.raises(sqlstore.SqlstoreError, match=r"small|store"):
        pickle.loads(pickled).raw(0, "data")
    make(small, 30)
    with pytest.raises(CorruptStoreError):
        pickle.loads(pickled).raw(0, "data")


# Loaders


def test_a_loader_takes_batches_from_a_view(root: Path) -> None:
    with sqlstore.open(root) as store:
        # What PyTorch's fetcher does with a data set and a list of positions.
        dataset = pickle.loads(pickle.dumps(store.select("data", "n")[1000:]))
        order = np.random.default_rng(0).permutation(len(dataset)).tolist()
        seen = []
        for start in range(0, len(order), 64):
            positions = order[start : start + 64]
            batch = dataset.__getitems__(positions)
            assert isinstance(batch, list)
            assert batch == [dataset[position] for position in positions]
            seen += [record["n"] for record in batch]
        assert sorted(seen) == list(range(1000, COUNT))
