"""Failures of the disk that once hid what had failed, or kept something open: a test for each."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pytest

import sqlstore
from sqlstore.index import records
from sqlstore.index.engine import Index
from sqlstore.log import files
from sqlstore.log.lock import WriterLock
from tests.processes import (
    append,
    assert_clean,
    batches_in,
    is_free,
    new_store,
    records_of,
)
from tests.test_recovery import leave_hot_journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = new_store(tmp_path / "store")
    append(path, (0, 0))
    return path


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    return fail


def io_error() -> OSError:
    return OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_chunk_is_given_up_when_the_index_cannot_be_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (chunk,) = (path / "chunks").iterdir()
    with sqlstore.open(path, "a") as store:
        writer = store.writer()
        writer.extend(records_of((1, 0)))
        with monkeypatch.context() as patch:
            patch.setattr(records, "chunk_named", failing(sqlstore.CorruptIndexError("damaged")))
            with pytest.raises(sqlstore.CorruptIndexError):
                writer.commit()
        writer.close()
        assert is_free(chunk)


def test_a_disk_that_is_full_while_a_transaction_is_rolled_back_is_called_full(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(path, (0, 1), count=500)
    leave_hot_journal(path)
    with monkeypatch.context() as patch:
        patch.setattr(Index, "transaction", failing(sqlstore.StoreFullError("no space left")))
        with pytest.raises(sqlstore.StoreFullError):
            sqlstore.open(path)
    assert batches_in(path) == [(0, 0), (0, 1)]


def test_a_snapshot_was_taken_though_the_lock_file_cannot_be_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlstore.open(path, "a") as store:
        with monkeypatch.context() as patch:
            patch.setattr(WriterLock, "clear_pending", failing(sqlstore.StorageError("failed")))
            store.snapshot("v1")
        assert [one.name for one in store.snapshots()] == ["v1"]
    append(path, (1, 0))
    assert_clean(path)


def test_what_a_writer_refuses_after_a_failure_names_that_as_its_cause(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = sqlstore.StorageError("failed")
    with sqlstore.open(path, "a") as store, contextlib.closing(store.writer()) as writer:
        writer.extend(records_of((1, 0)))
        with monkeypatch.context() as patch:
            patch.setattr(WriterLock, "clear_pending", failing(failure))
            assert len(writer.commit()) == 3
        with pytest.raises(sqlstore.StoreClosedError) as caught:
            writer.append(records_of((1, 1))[0])
        assert caught.value.__cause__ is failure
    append(path, (1, 1))
    assert batches_in(path) == [(0, 0), (1, 0), (1, 1)]


def test_a_lock_that_cannot_be_given_up_ends_with_its_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = WriterLock(path)
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", failing(io_error()))
        lock.release()
    assert is_free(path / "writer.lock")
    with pytest.raises(sqlstore.StorageError, match="cannot unlock") as caught:
        lock.acquire()
    assert caught.value.errno == errno.EIO
    lock.release()
    lock.close()


def test_a_lock_file_that_cannot_be_read_is_an_error_of_ours(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(WriterLock(path)) as lock, monkeypatch.context() as patch:
        patch.setattr(os, "pread", failing(io_error()))
        with pytest.raises(sqlstore.StorageError, match=r"cannot read .*writer\.lock") as caught:
            lock.text()
    assert caught.value.errno == errno.EIO


def append_to_new_chunk(path: Path) -> None:
    append(path, (1, 0), size=2 * sqlstore.MiB)


def take_snapshot(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        store.snapshot("v1")


@pytest.mark.parametrize(
    ("work", "fails", "clearing_up"),
    [
        (append_to_new_chunk, "sync_data", "unlink"),
        (take_snapshot, "sync_folder", "unlink"),
        (sqlstore.rebuild, "sync_folder", "glob"),
    ],
)
def test_what_cannot_be_cleared_up_hides_no_error(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[[Path], object],
    fails: str,
    clearing_up: str,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(files, fails, failing(sqlstore.StorageError("the first failure")))
        patch.setattr(Path, clearing_up, failing(io_error()))
        with pytest.raises(sqlstore.StorageError, match="the first failure"):
            work(path)
    if work is not sqlstore.rebuild:  # which says to do it again
        assert batches_in(path) == [(0, 0)]


def test_a_file_that_cannot_be_mapped_says_why(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (chunk,) = (path / "chunks").iterdir()
    # Arrow tells no number of it.
    monkeypatch.setattr(pa, "memory_map", failing(OSError("mapping failed: out of memory")))
    with pytest.raises(sqlstore.StorageError, match="mapping failed: out of memory"):
        files.mapped(chunk)
