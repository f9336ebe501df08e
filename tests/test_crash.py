"""Writers that are killed, interrupted or asked to exit, at every step and at random moments.

``SQLSTORE_EVERY=1 pytest tests/test_crash.py`` takes every step; by default it is every
seventh from a random one on, since ``make faults`` kills at every system call.
"""

from __future__ import annotations

import itertools
import os
import random
import resource
import shutil
import signal
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

import sqlstore
from tests.processes import (
    NEXT,
    SIGNAL_STEPS,
    Batch,
    Child,
    Steps,
    append,
    assert_clean,
    assert_rebuilds_equal,
    assert_recovers,
    batches_in,
    commit_batches,
    contents,
    create_store,
    is_free,
    new_store,
    read_acknowledged,
    rebuild_store,
    records_of,
    run,
    whole_batches,
)

SIZE = 2500  # so that two batches of two records go into a chunk of 16 KiB, and a third does not
BATCHES = [(1, 0), (1, 1), (1, 2)]
PARTS = 2
EVERY = int(os.environ.get("SQLSTORE_EVERY", "7"))
FIRST = random.SystemRandom().randrange(EVERY)
OTHER = 500  # a writer in the process of the test


def moments(count: int) -> list[int]:
    """Return some of the steps that there are, the first and the last among them."""
    return sorted({0, *range(FIRST, count, EVERY), count - 1})


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """Return a store whose only chunk has no room for another batch."""
    path = new_store(tmp_path / "template", chunk_size=16 * sqlstore.KiB)
    append(path, (0, 0), count=2, size=5000)
    return path


def kill_at(moment: int | str, path: Path, note: Path, batches: list[Batch]) -> None:
    with Child(commit_batches, path, note, batches, SIZE, moment) as child:
        assert child.exit_code() == -signal.SIGKILL


def test_the_steps_of_three_commits_are_those_of_the_protocol(
    template: Path, tmp_path: Path
) -> None:
    names = run(commit_batches, template, tmp_path / "note", BATCHES, SIZE)
    after = [name.removeprefix("after ") for name in names if name.startswith("after ")]
    after = [name for name in after if name != "write_at cache"]  # that is when it suits
    ends = "run BEGIN EXCLUSIVE", "run COMMIT"
    begin_chunk = ["create_exclusively chunk", "write_at chunk"]
    write = ["write_at chunk", "write_at chunk", "sync_data chunk", "run BEGIN EXCLUSIVE"]
    publish = ["write_at lock", "write_at chunk", "sync_file chunk"]
    finish = ["run COMMIT", "write_at lock"]
    assert [name for name in after if not name.startswith("run ") or name in ends] == [
        *[*begin_chunk, *write, *publish, "sync_folder", *finish],
        *[*write, *publish, *finish],
        *[*begin_chunk, *write, *publish, "sync_folder", *finish],
    ]
    with sqlstore.open(template) as store:
        files = store.sql("SELECT file FROM record_locations ORDER BY record")["file"].to_pylist()
    assert files[2:6] == [files[2]] * 4
    assert len({files[0], files[2], files[6]}) == 3


@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_any_step_of_a_commit(template: Path, tmp_path: Path, part: int) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(template, whole)
    steps = run(commit_batches, whole, tmp_path / "note", BATCHES, SIZE)
    survivors = []
    for number in moments(len(steps))[part::PARTS]:
        path, note = tmp_path / f"store-{number}", tmp_path / f"note-{number}"
        shutil.copytree(template, path)
        kill_at(number, path, note, BATCHES)
        acknowledged = read_acknowledged(note)
        there = assert_recovers(path, tmp_path, acknowledged | {(0, 0)}, BATCHES)
        survivors.append(len(there) - 1)
        shutil.rmtree(path)
    # Once a commit exists, no later moment of dying makes it not exist.
    assert survivors == sorted(survivors)
    assert part or survivors[0] == 0
    assert survivors[-1] >= len(BATCHES) - 1


def test_a_writer_that_is_open_settles_what_a_killed_one_left(
    template: Path, tmp_path: Path
) -> None:
    arguments = tmp_path / "note", BATCHES[:1], SIZE
    survived, steps = False, []
    for number in itertools.count(FIRST, EVERY):
        path = tmp_path / f"store-{number}"
        shutil.copytree(template, path)
        with sqlstore.open(path, "a") as store, store.writer() as writer:
            writer.extend(records_of((2, 0)))
            writer.commit()
            with Child(commit_batches, path, *arguments, number) as child:
                if child.exit_code() == 0:
                    steps = child.result()
                    break
            writer.extend(records_of((2, 1)))
            writer.commit()
            found = whole_batches(store)
        assert assert_recovers(path, tmp_path, found, rebuild=False) == found
        assert found in ([(0, 0), (2, 0), (2, 1)], [(0, 0), (2, 0), (1, 0), (2, 1)])
        survived = len(found) == 4
    assert number >= len(steps)
    assert survived


@pytest.mark.parametrize("lock_text", ["kept", "wiped"])
@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_any_step_of_rolling_another_forward(
    template: Path, tmp_path: Path, lock_text: str, part: int
) -> None:
    kill_at("after sync_file chunk", template, tmp_path / "first", BATCHES[:1])
    assert batches_in(template) == [(0, 0)]
    if lock_text == "wiped":
        (template / "writer.lock").write_bytes(bytes(512))

    second = [(2, 0)]
    whole = tmp_path / "whole"
    shutil.copytree(template, whole)
    steps = run(commit_batches, whole, tmp_path / "note", second, SIZE)
    assert batches_in(whole) == [(0, 0), (1, 0), (2, 0)]
    for number in moments(len(steps))[part::PARTS]:
        path, note = tmp_path / f"store-{number}", tmp_path / f"note-{number}"
        shutil.copytree(template, path)
        kill_at(number, path, note, second)
        acknowledged = read_acknowledged(note)
        assert_recovers(path, tmp_path, acknowledged | {(0, 0)}, second, durable=BATCHES[:1])
        shutil.rmtree(path)


def commit_many(_: Connection, path: Path, note: Path, limit: int | None) -> None:
    """Commit a few hundred records, killed by the system when a file would outgrow the limit."""
    if limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    append(path, (1, 0), count=300, size=8)
    note.write_text("1 0\n")


def test_killed_inside_the_commit_of_sqlite(tmp_path: Path) -> None:
    """The index is the largest file here, so what ends the writer is SQLite writing its pages."""
    template = new_store(tmp_path / "template")
    for number in range(6):
        append(template, (0, number), count=30)
    earlier = [(0, number) for number in range(6)]
    before = (template / "index.sqlite").stat().st_size
    whole = tmp_path / "whole"
    shutil.copytree(template, whole)
    with Child(commit_many, whole, tmp_path / "note", None) as child:
        assert child.exit_code() == 0
    after = (whole / "index.sqlite").stat().st_size
    assert after > before
    hot_journals = 0
    for limit in range(before, after, 4096):
        path, note = tmp_path / f"store-{limit}", tmp_path / f"note-{limit}"
        shutil.copytree(template, path)
        with Child(commit_many, path, note, limit) as child:
            assert child.exit_code() == -signal.SIGXFSZ
        hot_journals += (path / "index.sqlite-journal").exists()
        # The trailer was there before SQLite's COMMIT began.
        assert_recovers(path, tmp_path, earlier, durable=[(1, 0)])
    assert hot_journals


def test_killed_while_creating(tmp_path: Path) -> None:
    steps = run(create_store, tmp_path / "whole")
    outcomes = []
    for number in moments(len(steps)):
        path = tmp_path / f"store-{number}"
        with Child(create_store, path, number) as child:
            assert child.exit_code() == -signal.SIGKILL
        outcomes.append(path.exists())
        if not path.exists():
            new_store(path)
        append(path, (0, 0))
        assert batches_in(path) == [(0, 0)]
        assert_clean(path)
        assert_rebuilds_equal(path, tmp_path)
    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {False, True}


def test_killed_while_rebuilding(template: Path, tmp_path: Path) -> None:
    append(template, *BATCHES, count=2, size=SIZE)
    expected = contents(template)
    whole = tmp_path / "whole"
    shutil.copytree(template, whole)
    steps = run(rebuild_store, whole)
    without_index = 0
    taken = moments(len(steps))
    for number in taken:
        path = tmp_path / f"store-{number}"
        shutil.copytree(template, path)
        with Child(rebuild_store, path, number) as child:
            assert child.exit_code() == -signal.SIGKILL
        if (path / "index.sqlite").exists():
            assert contents(path) == expected
        else:
            with pytest.raises(sqlstore.CorruptIndexError, match="sqlstore rebuild"):
                sqlstore.open(path)
            without_index += 1
        assert sqlstore.rebuild(path) == len(expected["metadata"])
        assert contents(path) == expected
        append(path, (NEXT, 0))
        assert_clean(path)
    assert without_index < len(taken) / 2


def test_rebuild_after_a_kill_has_what_the_index_had_not_yet(
    template: Path, tmp_path: Path
) -> None:
    kill_at("after sync_file chunk", template, tmp_path / "first", BATCHES[:1])
    assert batches_in(template) == [(0, 0)]
    sqlstore.rebuild(template)
    assert batches_in(template) == [(0, 0), (1, 0)]
    assert_recovers(template, tmp_path, [(0, 0), (1, 0)])


# Writers that are interrupted or asked to exit


def interrupt_at_every_step(_: Connection, template: Path, scratch: Path) -> int:
    """Press Ctrl-C at every step of two commits, with the writer kept as a notebook keeps it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in itertools.count(FIRST, EVERY):
        path = scratch / f"store-{number}"
        shutil.copytree(template, path)
        steps = Steps(lambda: os.kill(os.getpid(), signal.SIGINT), number)
        with sqlstore.open(path, "a") as store, store.writer() as writer:
            committed = 0
            try:
                with steps.around(*SIGNAL_STEPS):
                    for batch in BATCHES[:2]:
                        writer.extend(records_of(batch, 2, SIZE))
                        writer.commit()
                        committed += 1
            except KeyboardInterrupt:
                where = steps.names[number]
            else:
                assert not steps.acted, f"the interrupt {steps.names[number]} was swallowed"
                return number
            assert is_free(path / "writer.lock"), f"the lock is held after one {where}"
            assert set(batches_in(path)) <= {(0, 0), *BATCHES[: committed + 1]}, where
            writer.commit()  # what was not committed is kept, and committed once
            assert len(writer.ids) == 2 * (committed + 1), where
        assert_recovers(path, scratch, [(0, 0), *BATCHES[: committed + 1]], rebuild=False)
        shutil.rmtree(path)
    raise AssertionError


def test_an_interrupt_at_any_step_leaves_all_in_order(template: Path, tmp_path: Path) -> None:
    assert run(interrupt_at_every_step, template, tmp_path) > 50


def terminate_at_every_step(_: Connection, template: Path, scratch: Path) -> int:
    """Be asked to exit at every step of two commits, as a job scheduler asks."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for number in itertools.count(FIRST, EVERY):
        path = scratch / f"store-{number}"
        shutil.copytree(template, path)
        steps = Steps(lambda: os.kill(os.getpid(), signal.SIGTERM), number)
        committed = 0
        with (
            suppress(SystemExit, sqlstore.CommitOutcomeUnknownError),
            sqlstore.open(path, "a") as store,
            store.writer() as writer,
            steps.around(*SIGNAL_STEPS),
        ):
            for batch in BATCHES[:2]:
                writer.extend(records_of(batch, 2, SIZE))
                writer.commit()
                committed += 1
        if not steps.acted:
            return number
        acknowledged, open_batch = [(0, 0), *BATCHES[:committed]], BATCHES[committed:][:1]
        try:
            assert_recovers(path, scratch, acknowledged, open_batch, rebuild=False)
        except (AssertionError, sqlstore.SqlstoreError) as error:
            error.add_note(f"asked to exit {steps.names[number]}")
            raise
        shutil.rmtree(path)
    raise AssertionError


def test_a_signal_to_exit_at_any_step_leaves_all_in_order(template: Path, tmp_path: Path) -> None:
    assert run(terminate_at_every_step, template, tmp_path) > 50


def commit_until_interrupted(connection: Connection, path: Path, note: Path, rounds: int) -> None:
    """Commit until Ctrl-C, again and again, and stay alive in between."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    descriptor = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with sqlstore.open(path, "a") as store:
        for number in range(rounds):
            signal.signal(signal.SIGINT, signal.default_int_handler)
            try:
                with store.writer() as writer:
                    connection.send("ready")
                    for i in itertools.count():
                        writer.extend(records_of((number, i)))
                        writer.commit()
                        os.write(descriptor, b"%d %d\n" % (number, i))
            except KeyboardInterrupt:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                connection.send("interrupted")
            connection.recv()


def test_interrupted_thirty_times_at_random_moments(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")  # shown when the test fails
    chance = random.Random(seed)
    path, note = new_store(tmp_path / "store", 64 * sqlstore.KiB), tmp_path / "note"
    others: list[Batch] = []
    found: set[Batch] = set()
    with Child(commit_until_interrupted, path, note, 30) as child:
        for number in range(30):
            assert child.hear() == "ready"
            time.sleep(chance.expovariate(1 / 0.02))  # the moment is what is random here
            child.signal(signal.SIGINT)
            assert child.hear() == "interrupted"
            append(path, (OTHER, number))  # so nobody holds the lock
            others.append((OTHER, number))
            found = set(batches_in(path))
            acknowledged = read_acknowledged(note)
            assert acknowledged <= found
            assert len(found - acknowledged - set(others)) <= number + 1
            child.tell("go on")
        assert child.hear() is None
        assert child.exit_code() == 0
    assert_recovers(path, tmp_path, [*read_acknowledged(note), *others], found)
