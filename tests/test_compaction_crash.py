"""Compactions that are killed, run beside writers and readers, and damaged checkpoints.

``SQLSTORE_MOMENTS=1000 pytest tests/test_compaction_crash.py`` kills at every step, and
``SQLSTORE_STEP=1`` damages every byte.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

import sqlstore
from sqlstore.index.engine import Index
from sqlstore.log import files
from tests.compacted import chunk_files, compact, contents, new_store, record
from tests.edited import assert_edited
from tests.processes import Child, Steps, kill_self

STEPS: tuple[tuple[Any, str], ...] = (
    *((files, name) for name in ("create_exclusively", "write_at", "sync_data", "sync_file")),
    (files, "sync_folder"),
    (Index, "commit"),
    (Path, "unlink"),
)

MOMENTS = int(os.environ.get("SQLSTORE_MOMENTS", "5"))  # at which one who compacts is killed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with new_store(tmp_path / "store", 60, chunk_size=16 * sqlstore.KiB) as store:
        store.where("n % 2 = 0").delete()
        store.where("n % 3 = 0").update(label="new")
        store.where("n < 20").save("early")
        store.snapshot("v1")
        store.extend([record(n) for n in range(100, 130)])
        store.where("n % 2 = 0").delete()
    return tmp_path / "store"


def compact_killed(_: Connection, path: Path, kill_at: int | None) -> list[str]:
    """Compact, killed at one of the steps, and return the steps."""
    steps = Steps(kill_self, kill_at)
    with sqlstore.open(path, "a") as store, steps.around(*STEPS):
        compact(store)
    return steps.names


def test_killed_at_any_step_the_store_is_what_it_was(path: Path, tmp_path: Path) -> None:
    with sqlstore.open(path) as store, sqlstore.open(path, snapshot="v1") as then:
        expected, shown = contents(store), contents(then)
    whole = shutil.copytree(path, tmp_path / "whole")
    with Child(compact_killed, whole, None) as child:
        names = child.result()
    assert not chunk_files(whole).keys() & (chunk_files(path).keys() - needed(whole))
    near = [at for at, name in enumerate(names) if name.split()[1] == "unlink"]
    step = len(names) // min(len(names), MOMENTS)
    for moment in sorted({*range(random.randrange(step), len(names), step), *near[:2]}):
        copy = shutil.copytree(path, tmp_path / "killed")
        with Child(compact_killed, copy, moment) as child, pytest.raises(EOFError):
            child.result()
        where = f"killed {names[moment]} ({moment})"
        with sqlstore.open(copy) as store:
            assert contents(store) == expected, where
            with sqlstore.open(copy, snapshot="v1") as then:
                assert contents(then) == shown, where
        with sqlstore.open(copy, "a") as store:
            store.extend([record(1000)])
            compact(store)
            assert contents(store[:-1]) == expected, where
            report = store.verify()
            assert report, f"{where}: {report}"
            # A chunk that is needed may end with what was begun and not committed to it.
            notes = [note for note in report.notes if "bytes of no commit" not in note]
            assert not notes, f"{where}: {notes}"
        assert_edited(copy)
        shutil.rmtree(copy)


def needed(path: Path) -> set[str]:
    """Return the chunks that a snapshot keeps."""
    with sqlstore.open(path) as store:
        return {use.name for use in store.compact(dry_run=True).chunks if use.snapshots}


def append_and_edit(connection: Connection, path: Path, writer: int) -> int:
    """Append and edit records of one's own until told to stop; return how many are left."""
    rng, left, base = random.Random(writer), 0, writer * 1_000_000
    with sqlstore.open(path, "a") as store:
        connection.send("begun")
        while not connection.poll():
            ids = store.extend([record_of(base + i) for i in range(10)])
            gone = sorted(rng.sample(ids.tolist(), 6))
            store.where("id IN (SELECT value FROM json_each(:ids))", ids=str(gone)).delete()
            left, base = left + 4, base + 10
    return left


def record_of(number: int) -> dict[str, Any]:
    """Return a record that says what its value must be."""
    return {**record(number % 50), "n": number, "image": number.to_bytes(8, "little") * 100}


def read_over_and_over(connection: Connection, path: Path) -> int:
    """Read records and compare them until told to stop; return how many were read."""
    n_read = 0
    with sqlstore.open(path) as old:
        connection.send("begun")
        while not connection.poll():
            with sqlstore.open(path) as store:
                n_read += check_images(store)
            n_read += check_images(old)
    return n_read


def check_images(store: sqlstore.Store) -> int:
    n_read = 0
    for position in range(len(store)):
        try:
            image = store.raw(position, "image")
            (number,) = store[position : position + 1].to_arrow()["n"].to_pylist()
        except sqlstore.RecordNotFoundError:
            continue
        assert image == number.to_bytes(8, "little") * 100
        n_read += 1
    return n_read


def compact_over_and_over(connection: Connection, path: Path) -> int:
    """Compact until told to stop; return how often."""
    done = 0
    connection.send("begun")
    while not connection.poll():
        with sqlstore.open(path, "a") as store:
            try:
                compact(store)
            except sqlstore.StoreBusyError:
                continue
        done += 1
    return done


def n_checkpoints(store: sqlstore.Store) -> int:
    found = store.sql("SELECT count(*) AS n FROM commits WHERE kind = 19")["n"].to_pylist()
    return int(found[0])


def test_writers_and_readers_go_on_while_it_compacts(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with new_store(path, 0, chunk_size=64 * sqlstore.KiB) as store:
        store.extend([record_of(i) for i in range(50)])
    programs: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        *((append_and_edit, (path, writer)) for writer in (1, 2)),
        *((read_over_and_over, (path,)) for _ in range(2)),
        (compact_over_and_over, (path,)),
    ]
    children = [Child(program, *arguments) for program, arguments in programs]
    try:
        for child in children:
            assert child.hear() == "begun"
        compactor = children[-1]
        with sqlstore.open(path, "a") as store:
            while (
                store.sql("SELECT count(*) AS n FROM commits WHERE kind = 19")["n"][0].as_py() < 4
            ):
                store.refresh()
        for child in children:
            child.tell("stop")
        left, n_read, times = 0, 0, 0
        for child, (program, _) in zip(children, programs, strict=True):
            result = child.result()
            left += result if program is append_and_edit else 0
            n_read += result if program is read_over_and_over else 0
            times += result if child is compactor else 0
    finally:
        for child in children:
            child.close()
    assert times >= 2
    assert n_read > 0
    with sqlstore.open(path, "a") as store:
        assert len(store) == 50 + left
        assert check_images(store) == len(store)
        compact(store)
    assert_edited(path)


def test_two_that_compact_at_once_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with new_store(path) as store:
        store.where("n % 2 = 0").delete()
        expected = contents(store)
    children = [Child(compact_over_and_over, path) for _ in range(2)]
    try:
        for child in children:
            assert child.hear() == "begun"
        with sqlstore.open(path) as store:
            while (
                store.sql("SELECT count(*) AS n FROM commits WHERE kind = 19")["n"][0].as_py() < 4
            ):
                assert contents(store) == expected
                store.refresh()
        for child in children:
            child.tell("stop")
        assert sum(child.result() for child in children) >= 2
    finally:
        for child in children:
            child.close()
    with sqlstore.open(path) as store:
        assert contents(store) == expected
    assert_edited(path)


def test_the_one_who_compacts_is_killed_at_random_moments(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with new_store(path) as store:
        expected = contents(store)
    for number in range(6):
        with Child(compact_over_and_over, path) as child:
            assert child.hear() == "begun"
            with sqlstore.open(path, "a") as store:
                store.extend([record(number)] * 3)
                store[-2:].delete()
                expected = contents(store)
            child.signal(signal.SIGKILL)
            assert child.exit_code() == -signal.SIGKILL
        with sqlstore.open(path) as store:
            assert contents(store) == expected
            report = store.verify()
            assert report, report
    with sqlstore.open(path, "a") as store:
        compact(store)  # and what the last one did not put into the index any more is settled
        assert contents(store) == expected
    assert_edited(path)


# Damage


def damaged(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 0xFF]))


def test_damage_to_a_checkpoint_is_found_and_gives_no_wrong_value(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with new_store(path, 30, chunk_size=sqlstore.MiB) as store:
        store.where("n % 2 = 0").delete()
        store.where("n < 10").save("early")
        store.snapshot("v1")
        compact(store)
        store.drop_snapshot("v1")
        compact(store)
        expected = contents(store)
        rows = store.sql("SELECT * FROM commits WHERE kind IN (19, 21)").to_pylist()
        names = dict(
            zip(*store.sql("SELECT chunk, name FROM chunks").to_pydict().values(), strict=True)
        )
    name = names[rows[-1]["chunk"]]
    size = (path / "chunks" / name).stat().st_size
    step = int(os.environ.get("SQLSTORE_STEP", "997"))
    found = 0
    for offset in range(64 + random.randrange(step), size, step):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        without_cache = shutil.ignore_patterns("cache")
        copy = shutil.copytree(path, tmp_path / "copy", ignore=without_cache)
        damaged(copy / "chunks" / name, offset)
        report = sqlstore.verify(copy)
        try:
            with sqlstore.open(copy) as store:
                n_read = read_what_can_be_read(store, expected)
                assert n_read == len(expected) or not report, offset
        except sqlstore.CorruptStoreError:
            found += 1
        (copy / "index.sqlite").unlink()
        try:
            sqlstore.rebuild(copy)
        except sqlstore.CorruptStoreError:
            assert not report, offset
            found += 1
            continue
        with sqlstore.open(copy) as store:  # the damage is in a value, or nobody needs the byte
            n_read = read_what_can_be_read(store, expected)
            assert n_read == len(expected) or not report, offset
    assert found


def read_what_can_be_read(store: sqlstore.Store, expected: dict[int, Any]) -> int:
    """Compare each record; return how many could be read."""
    n_read = 0
    for position, number in enumerate(store.ids.tolist()):
        try:
            one = contents(store[position : position + 1])
        except sqlstore.CorruptStoreError:
            continue
        assert one == {number: expected[number]}
        n_read += 1
    return n_read


def test_a_checkpoint_of_another_store_is_refused(tmp_path: Path) -> None:
    with new_store(tmp_path / "a", 30) as a, new_store(tmp_path / "b", 30) as b:
        for store in (a, b):
            store[:10].delete()
            compact(store)
    (chunk, *_) = (tmp_path / "b" / "chunks").iterdir()
    shutil.copy(chunk, tmp_path / "a" / "chunks")
    with pytest.raises(sqlstore.CorruptStoreError, match="different stores"):
        sqlstore.rebuild(tmp_path / "a")


def test_an_index_from_before_the_compaction_is_refused_until_rebuilt(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with new_store(path) as store:
        store[:100].delete()
    old = (path / "index.sqlite").read_bytes()
    with sqlstore.open(path, "a") as store:
        compact(store)
        expected = contents(store)
    (path / "index.sqlite").write_bytes(old)
    with pytest.raises(sqlstore.IndexBehindLogError):
        sqlstore.open(path)
    assert not sqlstore.verify(path)
    sqlstore.rebuild(path)
    with sqlstore.open(path) as store:
        assert contents(store) == expected
