"""Failing and full disks, and exceptions, while a store is written: what stays, what goes."""

from __future__ import annotations

import errno
import itertools
import os
import random
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import pytest

import sqlstore
import sqlstore.writer
from sqlstore.index.engine import Index
from sqlstore.log import files
from tests.processes import (
    COMMIT_STEPS,
    Steps,
    append,
    assert_clean,
    assert_recovers,
    batches_in,
    new_store,
    records_of,
    run,
)

SIZE = 2500
BATCHES = [(1, 0), (1, 1)]  # the first begins a chunk, the second goes into the same


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = new_store(tmp_path / "store", chunk_size=16 * sqlstore.KiB)
    append(path, (0, 0), count=2, size=5000)
    return path


def chunk_sizes(path: Path) -> dict[str, int]:
    return {one.name: one.stat().st_size for one in (path / "chunks").iterdir()}


# Any step of a commit fails


def fail() -> None:
    raise sqlstore.StorageError("the disk is gone")


def test_a_commit_that_fails_at_any_step_did_not_happen_or_says_it_may_have(
    path: Path, tmp_path: Path
) -> None:
    outcomes = set()
    committed = 0
    first = random.randrange(2)
    for number in itertools.count():
        copy = tmp_path / f"store-{number}"
        shutil.copytree(path, copy)
        steps = Steps(fail, number, lasting=number % 2 == first)
        committed, error = commit_until_failure(copy, steps)
        if not steps.acted:
            break
        outcomes.add(type(error))
        acknowledged = [(0, 0), *BATCHES[:committed]]
        unknown = isinstance(error, sqlstore.CommitOutcomeUnknownError)
        possible = BATCHES[committed : committed + 1] if unknown else []
        try:
            assert_recovers(copy, tmp_path, acknowledged, possible, rebuild=False)
        except AssertionError as assertion:
            assertion.add_note(f"failed {steps.names[number]}, raised {error!r}, {first=}")
            raise
    assert committed == len(BATCHES)
    assert outcomes >= {sqlstore.StorageError, sqlstore.CommitOutcomeUnknownError}


def commit_until_failure(path: Path, steps: Steps) -> tuple[int, sqlstore.SqlstoreError | None]:
    """Return how many commits returned, and what the next one raised."""
    with sqlstore.open(path, "a") as store:
        writer = store.writer()
        committed = 0
        try:
            with steps.around(*COMMIT_STEPS):
                for batch in BATCHES:
                    writer.extend(records_of(batch, 2, SIZE))
                    writer.commit()
                    committed += 1
        except (sqlstore.StorageError, sqlstore.StoreClosedError) as error:
            assert_is_at_its_end(writer)
            return committed, error
        finally:
            writer.close()
        return committed, None


def assert_is_at_its_end(writer: sqlstore.Writer) -> None:
    with pytest.raises(sqlstore.StoreClosedError, match="the writer failed"):
        writer.append(records_of((9, 9))[0])
    with pytest.raises(sqlstore.StoreClosedError, match="the writer failed"):
        writer.commit()


def commit_all(writer: sqlstore.Writer) -> None:
    for batch in BATCHES:
        writer.extend(records_of(batch, 2, SIZE))
        writer.commit()


@pytest.mark.parametrize("call", ["fsync", "fdatasync"])
@pytest.mark.parametrize("number", [0, 1])
def test_a_failed_sync_is_the_end_of_the_writer(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    real = getattr(os, call)
    calls = itertools.count()

    def failing(descriptor: int) -> None:
        if next(calls) == number:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    with sqlstore.open(path, "a") as store:
        writer = store.writer()
        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing)
            with pytest.raises(sqlstore.StorageError, match="cannot sync") as caught:
                commit_all(writer)
        assert caught.value.errno == errno.EIO
        assert not isinstance(caught.value, sqlstore.CommitOutcomeUnknownError)
        assert_is_at_its_end(writer)
        writer.close()
    committed = BATCHES[: 1 if (call, number) == ("fdatasync", 1) else 0]
    assert batches_in(path) == [(0, 0), *committed]
    assert_recovers(path, tmp_path, [(0, 0), *committed])


def test_a_sync_that_fails_for_good_leaves_the_outcome_open(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with sqlstore.open(path, "a") as store:
        writer = store.writer()
        writer.extend(records_of((1, 0)))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing)
            with pytest.raises(sqlstore.CommitOutcomeUnknownError, match="may or may not"):
                writer.commit()
        writer.close()
    assert_recovers(path, tmp_path, [(0, 0)], [(1, 0)])


# SQLite's COMMIT fails


def commit_unwillingly(path: Path, *, truncate: bool, commit_first: bool) -> None:
    real = Index.commit

    def commit(index: Index) -> None:
        if commit_first:
            real(index)
        fail()

    with pytest.MonkeyPatch.context() as patch, sqlstore.open(path, "a") as store:
        patch.setattr(Index, "commit", commit)
        if not truncate:
            patch.setattr(files, "truncate", lambda *_: fail())
        writer = store.writer()
        writer.extend(records_of((1, 0)))
        try:
            writer.commit()
        finally:
            assert len(writer.ids) == 0
            assert_is_at_its_end(writer)
            writer.close()


def test_a_failed_commit_of_sqlite_takes_the_segment_back(tmp_path: Path) -> None:
    path = new_store(tmp_path / "store")
    append(path, (0, 0))
    before = chunk_sizes(path)
    with pytest.raises(sqlstore.StorageError, match="the disk is gone") as caught:
        commit_unwillingly(path, truncate=True, commit_first=False)
    assert not isinstance(caught.value, sqlstore.CommitOutcomeUnknownError)
    assert chunk_sizes(path) == before
    assert_recovers(path, tmp_path, [(0, 0)])


def test_a_commit_of_sqlite_that_happened_and_failed_leaves_the_outcome_open(
    path: Path, tmp_path: Path
) -> None:
    with pytest.raises(sqlstore.CommitOutcomeUnknownError, match="open the store anew"):
        commit_unwillingly(path, truncate=True, commit_first=True)
    assert_recovers(path, tmp_path, [(0, 0), (1, 0)])


def test_a_segment_that_cannot_be_taken_back_is_settled_by_the_next_writer(
    path: Path, tmp_path: Path
) -> None:
    with pytest.raises(sqlstore.CommitOutcomeUnknownError) as caught:
        commit_unwillingly(path, truncate=False, commit_first=False)
    assert caught.value.where["chunk"] in chunk_sizes(path)
    assert "the disk is gone" in str(caught.value.__cause__)
    assert batches_in(path) == [(0, 0)]
    assert_recovers(path, tmp_path, [(0, 0)], durable=[(1, 0)])


# A full disk


def commit_with_little_space(
    _: Connection, template: Path, scratch: Path, count: int, size: int
) -> list[str]:
    """Commit with every size that a file may not outgrow, and return the errors."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    whole = scratch / "whole"
    shutil.copytree(template, whole)
    append(whole, (1, 0), count=count, size=size)
    index_size = (template / "index.sqlite").stat().st_size
    errors = []
    for limit in limits_for(whole):
        path = scratch / f"store-{limit}"
        shutil.copytree(template, path)
        with sqlstore.open(path, "a") as store:
            writer = store.writer()
            writer.extend(records_of((1, 0), count, size))
            with file_size_limit(limit), pytest.raises(sqlstore.StorageError) as caught:
                writer.commit()
            assert len(writer.ids) == 0
            writer.close()
        unknown = isinstance(caught.value, sqlstore.CommitOutcomeUnknownError)
        # Unlike a full disk the limit may forbid to write again what is in the index already.
        assert not unknown or limit < index_size
        errors.append(type(caught.value).__name__)
        assert batches_in(path) == [(0, 0)], limit
        assert_recovers(path, scratch, [(0, 0)], [(1, 0)] if unknown else [], rebuild=False)
        shutil.rmtree(path)
    return errors


def limits_for(path: Path) -> list[int]:
    """Return sizes that the largest file of a store has outgrown, among them those of segments."""
    largest = max(one.stat().st_size for one in path.rglob("*"))
    ends = [end - back for end in chunk_sizes(path).values() for back in (1, 64, 128, 129, 1000)]
    steps = range(4096, largest, max(4096, largest // 10))
    return sorted(one for one in {0, 511, 512, *steps, *ends} if 0 <= one < largest)


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        everything = resource.RLIM_INFINITY, resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, everything)


@pytest.mark.parametrize(("count", "size"), [(3, 100_000), (300, 8)])
def test_a_full_disk_fails_the_commit_and_nothing_else(
    path: Path, tmp_path: Path, count: int, size: int
) -> None:
    errors = run(commit_with_little_space, path, tmp_path, count, size)
    assert len(errors) > 10
    assert "StoreFullError" in errors


def create_with_little_space(_: Connection, folder: Path) -> list[str]:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    found: list[str] = []
    for limit in (0, 63, 64, 1000, 4096, 20_000):
        with file_size_limit(limit), pytest.raises(sqlstore.StorageError):
            new_store(folder / "store")
        found += [one.name for one in folder.iterdir()]
    new_store(folder / "store")
    return found


def test_a_full_disk_leaves_nothing_of_a_store_to_be(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    assert run(create_with_little_space, folder) == []
    assert_clean(folder / "store")


def test_a_created_store_whose_name_cannot_be_synced_is_no_existing_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = files.sync_folder

    def sync_folder(path: Path) -> None:
        if path == tmp_path:
            fail()
        real(path)

    monkeypatch.setattr(files, "sync_folder", sync_folder)
    with pytest.raises(sqlstore.StorageError, match="the disk is gone"):
        new_store(tmp_path / "store")


# What a writer commits by itself, and what it drops


def write_and_fail(store: sqlstore.Store) -> None:
    with store.writer() as writer:
        writer.extend(records_of((1, 0)))
        writer.commit()
        writer.extend(records_of((1, 1)))
        raise ZeroDivisionError


def test_an_exception_inside_the_block_drops_what_was_not_committed(
    path: Path, tmp_path: Path
) -> None:
    with sqlstore.open(path, "a") as store:
        with pytest.raises(ZeroDivisionError):
            write_and_fail(store)
        assert len(store) == 5
    assert batches_in(path) == [(0, 0), (1, 0)]
    assert_recovers(path, tmp_path, [(0, 0), (1, 0)])


def test_a_writer_cannot_be_used_after_its_block(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        with store.writer() as writer:
            writer.extend(records_of((1, 0)))
        with pytest.raises(sqlstore.StoreClosedError):
            writer.append(records_of((1, 1))[0])
        with pytest.raises(sqlstore.StoreClosedError):
            writer.commit()
    assert batches_in(path) == [(0, 0), (1, 0)]


@pytest.fixture
def visible(path: Path) -> Iterator[Callable[[], int]]:
    """Yield what says how many records another process would see."""
    with sqlstore.open(path) as store:
        before = len(store)

        def count() -> int:
            store.refresh()
            return len(store) - before

        yield count


def test_commits_happen_by_count(path: Path, visible: Callable[[], int]) -> None:
    with sqlstore.open(path, "a") as store, store.writer(commit_records=10) as writer:
        seen = []
        for record in records_of((1, 0), 25):
            writer.append(record)
            seen.append(visible())
        assert seen == [0] * 9 + [10] * 10 + [20] * 6
    assert visible() == 25
    assert_clean(path)


def test_commits_happen_by_bytes(path: Path, visible: Callable[[], int]) -> None:
    with sqlstore.open(path, "a") as store, store.writer(commit_bytes=1000) as writer:
        seen = []
        for record in records_of((1, 0), 7, size=400):
            writer.append(record)
            seen.append(visible())
        assert seen == [0, 0, 3, 3, 3, 6, 6]
    assert visible() == 7
    assert_clean(path)


def test_commits_happen_by_time(
    path: Path, visible: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(sqlstore.writer, "time", SimpleNamespace(monotonic=lambda: now))
    with sqlstore.open(path, "a") as store, store.writer(commit_seconds=5) as writer:
        seen = []
        for record in records_of((1, 0), 8):
            now += 2
            writer.append(record)
            seen.append(visible())
        assert seen == [0, 0, 3, 3, 3, 6, 6, 6]
    assert visible() == 8
    assert_clean(path)
