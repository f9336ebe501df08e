"""A short soak, and that it would find what it looks for."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

import sqlstore
from tests.soak.actors import BEGUN, DONE, STORE, Notes, Watcher, commit
from tests.soak.rounds import Tally, soak
from tests.soak.story import Violation, new_store

SEED = "a seed"
COMMITS = 25


def test_writers_and_readers_that_are_killed_at_random_moments(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**9)
    print(f"SQLSTORE_SEED={seed} make soak")  # shown when the test fails
    tally = Tally()
    soak(tmp_path, 2, seed, tally)
    assert tally.kills > 6
    assert tally.commits
    assert tally.checked


@pytest.fixture(scope="module")
def in_peace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a round in which two writers have made their commits in peace."""
    place = tmp_path_factory.mktemp("round")
    new_store(place / STORE)
    for writer in (0, 1):
        commit(place, SEED, writer, most=COMMITS)
    assert Watcher(place, SEED).check() == Watcher(place, SEED).watch() > COMMITS
    return place


@pytest.fixture
def place(in_peace: Path, tmp_path: Path) -> Path:
    shutil.copytree(in_peace, tmp_path, dirs_exist_ok=True)
    return tmp_path


def assert_found(place: Path, message: str) -> None:
    with pytest.raises(Violation, match=message):
        Watcher(place, SEED).check()
    with pytest.raises(Violation, match=message):
        Watcher(place, SEED).watch()


def test_a_commit_that_is_lost_is_found(place: Path) -> None:
    note = Notes(place, 0).appender()
    for word in (BEGUN, DONE):
        for number in range(COMMITS, COMMITS + 10):
            note(word, number)
    assert_found(place, f"writer 0 has made {COMMITS + 10} to {COMMITS + 10} commits")


def test_a_commit_that_was_only_begun_may_be_there_or_not(place: Path) -> None:
    Notes(place, 0).appender()(BEGUN, COMMITS)
    assert Watcher(place, SEED).check()
    assert Watcher(place, SEED).watch()


def records_of_any_batch(store: sqlstore.Store) -> sqlstore.View:
    """Return the records of a batch that has several."""
    sizes = store.sql("SELECT appended FROM records WHERE writer = 0 AND position = 1")
    return store.where("writer = 0 AND appended = :a", a=sizes["appended"][0].as_py())


def test_a_batch_in_part_is_found(place: Path) -> None:
    with sqlstore.open(place / STORE, "a") as store:
        records_of_any_batch(store).limit(1).delete()
    assert_found(place, "in part")


def test_an_update_in_part_is_found(place: Path) -> None:
    with sqlstore.open(place / STORE, "a") as store:
        records_of_any_batch(store).limit(1).update(updated=COMMITS - 1)
    assert_found(place, "in part")


def test_a_payload_that_nobody_has_written_is_found(place: Path) -> None:
    with sqlstore.open(place / STORE, "a") as store:
        records_of_any_batch(store).limit(1).replace("payload", [b"invented"])
    assert_found(place, "writer 0")


def test_a_record_that_nobody_has_written_is_found(place: Path) -> None:
    with sqlstore.open(place / STORE, "a") as store:
        store.extend([{"name": "invented", "writer": 0, "appended": 0, "position": 0}])
    assert_found(place, "nobody has written")


def test_a_record_of_no_writer_is_found(place: Path) -> None:
    record = {"name": "9/0/0", "writer": 9, "appended": 0, "position": 0, "updated": -1}
    with sqlstore.open(place / STORE, "a") as store:
        store.extend([record | {"payload": b"x"}])
    assert_found(place, "of writers that there are not")
