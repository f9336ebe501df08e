"""What is found when a store is opened: lost lock text, older copies of the index, hot journals."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

import sqlstore
from sqlstore.log.writer import ChunkWriter
from tests.processes import (
    NEXT,
    Child,
    Steps,
    append,
    assert_clean,
    assert_rebuilds_equal,
    assert_recovers,
    batches_in,
    commit_batches,
    copy_index,
    die_in_transaction,
    kill_self,
    new_store,
    records_of,
    run,
    whole_batches,
)

NOBODY = 65534
SPILLING = {"cache_size": 2, "cache_spill": 1}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return new_store(tmp_path / "store")


def leave_trailer(path: Path, scratch: Path, batch: tuple[int, int]) -> None:
    """Have a writer die between the trailer of a commit and the COMMIT of SQLite."""
    arguments = path, scratch / "note", [batch], 64, "after sync_file chunk"
    with Child(commit_batches, *arguments) as child:
        assert child.exit_code() == -signal.SIGKILL


@contextmanager
def older_index(path: Path, scratch: Path) -> Iterator[None]:
    """Put the index of now back at the end of the block."""
    copy = scratch / "older.sqlite"
    run(copy_index, path / "index.sqlite", copy)
    yield
    copy.replace(path / "index.sqlite")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the `flock` of a file, as any other process might."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def only_chunk(path: Path) -> Path:
    (chunk,) = (path / "chunks").iterdir()
    return chunk


# Lost lock text


@pytest.mark.parametrize("text", [b"", bytes(512), b"{" + bytes(100), b'{"pending": {"chunk": 1}}'])
def test_a_commit_that_no_lock_text_names_is_rolled_forward(
    path: Path, tmp_path: Path, text: bytes
) -> None:
    append(path, (0, 0))
    leave_trailer(path, tmp_path, (1, 0))
    (path / "writer.lock").write_bytes(text)
    assert_recovers(path, tmp_path, [(0, 0)], durable=[(1, 0)])


def test_a_missing_lock_file_is_made_anew(path: Path, tmp_path: Path) -> None:
    append(path, (0, 0))
    leave_trailer(path, tmp_path, (1, 0))
    (path / "writer.lock").unlink()
    assert_recovers(path, tmp_path, [(0, 0)], durable=[(1, 0)])


def test_a_commit_in_a_new_chunk_that_no_lock_text_names_is_rolled_forward(
    path: Path, tmp_path: Path
) -> None:
    with locked(only_chunk(path)):  # so the writer takes a chunk of its own
        leave_trailer(path, tmp_path, (1, 0))
    (path / "writer.lock").write_bytes(bytes(512))
    assert_recovers(path, tmp_path, [], durable=[(1, 0)])


def test_lock_text_that_names_a_chunk_that_is_gone_keeps_nobody(path: Path, tmp_path: Path) -> None:
    append(path, (0, 0))
    (path / "writer.lock").write_text(
        '{"pending": {"chunk": "000007-00000000.chunk", "offset": 64, "commit": 3}}'
    )
    assert_recovers(path, tmp_path, [(0, 0)])


def test_a_commit_is_rolled_forward_while_somebody_tries_the_lock_of_its_chunk(
    path: Path, tmp_path: Path
) -> None:
    """Every writer that opens takes the lock of a chunk for a moment to see whether it fits."""
    append(path, (0, 0))
    leave_trailer(path, tmp_path, (1, 0))
    (path / "writer.lock").write_bytes(bytes(512))
    with locked(only_chunk(path)):
        append(path, (2, 0))
    assert_recovers(path, tmp_path, [(0, 0), (2, 0)], durable=[(1, 0)])


def test_a_commit_in_a_chunk_that_a_rebuild_saw_growing_is_rolled_forward(
    path: Path, tmp_path: Path
) -> None:
    append(path, (0, 0))
    with Child(write_rebuild_publish, path) as child:
        assert child.exit_code() == -signal.SIGKILL
    (path / "writer.lock").write_bytes(bytes(512))
    assert_recovers(path, tmp_path, [(0, 0)], durable=[(1, 0)])


def write_rebuild_publish(_: Connection, path: Path) -> None:
    """Have the index rebuilt between the bodies of a commit and its trailer; die behind that."""
    steps = Steps(lambda: sqlstore.rebuild(path), "after write")
    end = Steps(kill_self, "after write_trailer")
    with steps.around((ChunkWriter, "write")), end.around((ChunkWriter, "write_trailer")):
        append(path, (1, 0))


# An index that is older than the log


def test_an_index_that_lacks_the_last_commit_is_rolled_forward(path: Path, tmp_path: Path) -> None:
    append(path, (0, 0))
    with older_index(path, tmp_path):
        append(path, (0, 1))
    assert_recovers(path, tmp_path, [(0, 0)], durable=[(0, 1)])


@pytest.mark.parametrize("chunk_size", [sqlstore.KiB, sqlstore.MiB])
def test_an_older_index_is_refused_and_rebuilt(tmp_path: Path, chunk_size: int) -> None:
    path = new_store(tmp_path / "store", chunk_size)
    append(path, (0, 0))
    with older_index(path, tmp_path):
        append(path, *[(0, number) for number in range(1, 6)])
    for open_it in (batches_in, lambda path: append(path, (NEXT, 0))):
        with pytest.raises(sqlstore.IndexBehindLogError, match="sqlstore rebuild"):
            open_it(path)
    assert sqlstore.rebuild(path) == 18
    assert_recovers(path, tmp_path, [(0, number) for number in range(6)])


@pytest.mark.parametrize("chunk_size", [sqlstore.KiB, sqlstore.MiB])
def test_a_writer_that_is_open_rolls_an_older_index_forward(
    tmp_path: Path, chunk_size: int
) -> None:
    path = new_store(tmp_path / "store", chunk_size)
    with sqlstore.open(path, "a") as store, store.writer() as writer:
        with older_index(path, tmp_path):
            append(path, *[(0, number) for number in range(5)])
        writer.extend(records_of((1, 0)))
        writer.commit()
        assert whole_batches(store)[-1] == (1, 0)
    assert_recovers(path, tmp_path, [*[(0, number) for number in range(5)], (1, 0)])


def test_a_writer_that_is_open_refuses_an_older_index_when_a_chunk_in_between_is_gone(
    tmp_path: Path,
) -> None:
    path = new_store(tmp_path / "store", chunk_size=sqlstore.KiB)
    with sqlstore.open(path, "a") as store, store.writer() as writer:
        with older_index(path, tmp_path):
            append(path, (0, 0), (0, 1), (0, 2))
        chunk = sorted((path / "chunks").iterdir())[2]
        chunk.rename(tmp_path / chunk.name)
        for _ in range(2):
            writer.extend(records_of((1, 0)))
            with pytest.raises(sqlstore.IndexBehindLogError, match="sqlstore rebuild") as caught:
                writer.commit()
            assert (path / "chunks" / str(caught.value.where["chunk"])).exists()
        with pytest.raises(sqlstore.CorruptStoreError, match="a chunk is missing"):
            sqlstore.rebuild(path)
        (tmp_path / chunk.name).rename(chunk)
        writer.extend(records_of((1, 0)))
        writer.commit()
    assert_recovers(path, tmp_path, [(0, 0), (0, 1), (0, 2), (1, 0)])


def test_a_writer_rolls_forward_commits_of_its_own_that_an_older_index_lacks(
    path: Path, tmp_path: Path
) -> None:
    with sqlstore.open(path, "a") as store, store.writer() as writer:
        writer.extend(records_of((0, 0)))
        writer.commit()
        with older_index(path, tmp_path):
            writer.extend(records_of((0, 1)))
            writer.commit()
        writer.extend(records_of((0, 2)))
        writer.commit()
    assert_recovers(path, tmp_path, [(0, 0), (0, 1), (0, 2)])


def test_commits_of_a_writer_that_is_open_are_rolled_forward_by_another(
    path: Path, tmp_path: Path
) -> None:
    with sqlstore.open(path, "a") as store, store.writer() as writer:
        with older_index(path, tmp_path):
            writer.extend(records_of((0, 0)))
            writer.commit()
        append(path, (0, 1))
    assert_recovers(path, tmp_path, [(0, 0), (0, 1)])


def test_a_writer_goes_on_after_a_rebuild_beside_it(path: Path, tmp_path: Path) -> None:
    with sqlstore.open(path, "a") as store, store.writer() as writer:
        for number in range(3):
            writer.extend(records_of((0, number)))
            writer.commit()
            sqlstore.rebuild(path)
            assert whole_batches(store)[-1] == (0, number)
    assert_recovers(path, tmp_path, [(0, number) for number in range(3)])


# Hot journals


def leave_hot_journal(path: Path) -> None:
    with Child(die_in_transaction, path, SPILLING) as child:
        assert child.exit_code() == -signal.SIGKILL
    assert (path / "index.sqlite-journal").stat().st_size > 512


@pytest.fixture
def hot(path: Path) -> Path:
    """Return a store whose index was being changed, in the file already, when its writer died."""
    append(path, (0, 0), count=500)
    leave_hot_journal(path)
    return path


def test_opening_for_reading_rolls_an_interrupted_transaction_back(
    hot: Path, tmp_path: Path
) -> None:
    with sqlstore.open(hot) as store:
        assert whole_batches(store) == [(0, 0)]
        assert len(store.where("name LIKE 'lost%'")) == 0
        assert len(store.where("writer = 0")) == 500
    assert not (hot / "index.sqlite-journal").exists()
    assert_recovers(hot, tmp_path, [(0, 0)])


def test_a_writer_rolls_an_interrupted_transaction_back(hot: Path, tmp_path: Path) -> None:
    assert_recovers(hot, tmp_path, [(0, 0)])


def test_a_rebuild_leaves_no_journal_of_the_index_before(hot: Path, tmp_path: Path) -> None:
    assert sqlstore.rebuild(hot) == 500
    assert not (hot / "index.sqlite-journal").exists()
    assert_recovers(hot, tmp_path, [(0, 0)])


READS: dict[str, Callable[[sqlstore.Store], object]] = {
    "refresh": lambda store: store.refresh(),
    "filter": lambda store: store.where("writer = 0"),
    "expression": lambda store: store.where(store.c.writer == 0),
    "order": lambda store: store.order_by("name"),
    "sql": lambda store: store.sql("SELECT count(*) FROM records"),
    "key": lambda store: store.get(key="0/0/0"),
    "verify": lambda store: store.verify(),
}


@pytest.mark.parametrize("read", list(READS))
def test_a_store_that_is_open_meanwhile_rolls_it_back_too(path: Path, read: str) -> None:
    append(path, (0, 0), count=500)
    with sqlstore.open(path) as store:
        leave_hot_journal(path)
        READS[read](store)
        assert whole_batches(store) == [(0, 0)]
    assert_clean(path)


# Folders that cannot be written, and copies


@pytest.fixture
def reachable() -> Iterator[Path]:
    """Yield a store that other users can reach: the folders of pytest are closed to them."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = new_store(Path(folder) / "store")
        append(path, (0, 0), count=500)
        yield path
        make_writable(path, True)


def make_writable(path: Path, writable: bool) -> None:
    for one in [path, *path.rglob("*")]:
        mode = 0o755 if one.is_dir() else 0o644
        one.chmod(mode if writable else mode & ~0o222)


def as_nobody(_: Connection, path: Path, program: Callable[[Path], object]) -> object:
    """Run a program as somebody who is not the owner of the store, and not root."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    assert not os.access(path, os.W_OK)
    return program(path)


def open_and_see(path: Path) -> tuple[str, str]:
    try:
        sqlstore.open(path).close()
    except sqlstore.SqlstoreError as error:
        return type(error).__name__, str(error)
    return "", ""


def read_everything(path: Path) -> object:
    with sqlstore.open(path) as store:
        report = store.verify()
        assert report, report
        assert store.to_arrow().num_rows == len(store) == 500
        assert len(store.where("position < 10")) == 10
        return whole_batches(store)


def open_to_append_and_see(path: Path) -> str:
    try:
        sqlstore.open(path, mode="a").close()
    except sqlstore.SqlstoreError as error:
        return type(error).__name__
    return ""


def test_everything_can_be_read_from_a_read_only_folder(reachable: Path) -> None:
    make_writable(reachable, False)
    before = {one: one.stat().st_mtime_ns for one in [reachable, *reachable.rglob("*")]}
    assert run(as_nobody, reachable, read_everything) == [(0, 0)]
    assert {one: one.stat().st_mtime_ns for one in [reachable, *reachable.rglob("*")]} == before


@pytest.mark.parametrize("writable", [(), ("index.sqlite",), ("index.sqlite", "chunks")])
def test_a_folder_that_is_read_only_is_not_opened_to_append(
    reachable: Path, writable: tuple[str, ...]
) -> None:
    make_writable(reachable, False)
    for name in writable:
        (reachable / name).chmod(0o777)
    assert run(as_nobody, reachable, open_to_append_and_see) == "ReadOnlyError"


@pytest.mark.parametrize("writable", [(), ("writer.lock",), ("writer.lock", "index.sqlite")])
def test_a_hot_journal_in_a_read_only_folder_says_what_to_do(
    reachable: Path, writable: tuple[str, ...]
) -> None:
    leave_hot_journal(reachable)
    make_writable(reachable, False)
    for name in writable:
        (reachable / name).chmod(0o666)
    kind, message = run(as_nobody, reachable, open_and_see)
    assert kind == "ReadOnlyError"
    assert str(reachable) in message
    assert "interrupted transaction" in message
    assert "write permission" in message
    make_writable(reachable, True)
    assert batches_in(reachable) == [(0, 0)]


def test_a_copy_of_the_folder_is_a_store(hot: Path, tmp_path: Path) -> None:
    copies = [tmp_path / "hot copy", tmp_path / "copy"]
    subprocess.run(["cp", "-r", hot, copies[0]], check=True)
    assert batches_in(hot) == [(0, 0)]
    subprocess.run(["cp", "-r", hot, copies[1]], check=True)
    for copy in copies:
        assert stat.S_ISREG((copy / "index.sqlite").stat().st_mode)
        assert_recovers(copy, tmp_path, [(0, 0)])
    assert_rebuilds_equal(hot, tmp_path)
