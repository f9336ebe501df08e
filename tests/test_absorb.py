"""Edits that other SQLite tools have made in the index, taken into the log."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sqlstore
from sqlstore.cli import main
from sqlstore.maintenance import absorb as module
from tests.edited import assert_edited, contents, new_store
from tests.processes import COMMIT_STEPS, Child, Steps, kill_self


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a store of ten records, whose column `n` is the id."""
    return new_store(tmp_path / "s", 10)


def other_tool(path: Path, *statements: str) -> None:
    """Run SQL as another program would."""
    with closing(sqlite3.connect(path / "index.sqlite")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def logged(path: Path) -> list[dict[str, Any]]:
    """Return the metadata as the log has it."""
    with sqlstore.open(path) as store:
        rows: list[dict[str, Any]] = store.to_arrow().to_pylist()
    return rows


def test_changed_values_and_deleted_records_are_taken(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        store[9:].delete()
        store[:2].update(score=float("nan"))
    other_tool(
        path,
        "UPDATE records SET n = n + 100, label = NULL WHERE id IN (1, 8)",
        "UPDATE records SET score = 0.1, \"when\" = 1, extra = '[1]', flag = 1 WHERE id = 3",
        "DELETE FROM records WHERE id = 5",
    )
    before = repr(contents(path))
    with sqlstore.open(path) as store:
        assert not store.verify()
        assert store[1]["n"] == 1  # records are what the log says
    told = sqlstore.absorb(path, dry_run=True)
    assert repr(contents(path)) == before
    assert told == sqlstore.Absorbed(
        {"n": 2, "label": 2, "score": 1, "when": 1, "extra": 1, "flag": 1}, 1
    )
    assert sqlstore.absorb(path) == told
    assert str(told).startswith("2 changed in n, 2 changed in label")
    assert not sqlstore.absorb(path)
    assert str(sqlstore.absorb(path)) == "nothing"
    with sqlstore.open(path) as store:
        assert store.ids.tolist() == [0, 1, 2, 3, 4, 6, 7, 8]
        assert [record["n"] for record in store] == [0, 101, 2, 3, 4, 6, 7, 108]
        assert store.get(3)["extra"] == [1]
        assert store.get(3)["flag"] is True
    assert_edited(path)


def test_values_are_rounded_as_the_column_does(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with sqlstore.create(path, metadata={"x": "float32", "y": "float32"}) as store:
        store.extend([{"x": 1.5, "y": 1.5}] * 3)
    other_tool(path, "UPDATE records SET x = 0.1 WHERE id < 2", "UPDATE records SET y = NULL")
    assert sqlstore.absorb(path).updated == {"x": 2, "y": 3}
    assert logged(path)[0]["x"] == pytest.approx(0.1, rel=1e-7)
    assert not sqlstore.absorb(path)
    assert_edited(path)


def test_keys_are_taken_also_those_of_deleted_records(tmp_path: Path) -> None:
    path = new_store(tmp_path / "s", 6, key="label")
    other_tool(
        path,
        "DELETE FROM records WHERE id = 5",
        "UPDATE records SET label = 'l5' WHERE id = 4",
        "UPDATE records SET label = 'free' WHERE id = 0",
        "UPDATE records SET label = 'l0' WHERE id = 1",
        "UPDATE records SET label = 'l1' WHERE id = 0",
    )
    sqlstore.absorb(path)
    with sqlstore.open(path) as store:
        assert [store.get(key=key)["n"] for key in ("l5", "l0", "l1")] == [4, 1, 0]
    assert_edited(path)


def test_keys_that_were_free_in_the_index_only_are_rebuilt_once_absorbed(tmp_path: Path) -> None:
    path = new_store(tmp_path / "s", 6, key="label")
    other_tool(
        path,
        "DELETE FROM records WHERE id = 5",
        "UPDATE records SET label = 'moved' WHERE id = 4",
    )
    with sqlstore.open(path, "a") as store:
        store.extend([{"n": 6, "label": "l5"}, {"n": 7, "label": "l4"}])
    with pytest.raises(sqlstore.CorruptStoreError, match=r"two records .* have one key.*absorb"):
        sqlstore.rebuild(path)
    sqlstore.absorb(path)
    with sqlstore.open(path, "a") as store:
        assert [store.get(key=key)["n"] for key in ("l5", "l4", "moved")] == [6, 7, 4]
        store.rename_column("label", "name")
    assert_edited(path)
    with sqlstore.open(path, "a") as store, pytest.raises(sqlstore.DuplicateKeyError):
        store.extend([{"n": 8, "name": "l5"}])


@pytest.mark.parametrize(
    ("statement", "error", "message"),
    [
        ("INSERT INTO records (id, needed) VALUES (10, 1)", sqlstore.SchemaError, "record 10"),
        ("INSERT INTO records (id, needed) VALUES (-1, 1)", sqlstore.SchemaError, "record -1"),
        ("INSERT INTO records (id, needed) VALUES (4, 1)", sqlstore.SchemaError, "record 4"),
        ("UPDATE records SET n = 4000000000 WHERE id = 6", sqlstore.SchemaError, "n, record 6"),
        ("UPDATE records SET flag = 2 WHERE id = 6", sqlstore.SchemaError, "flag, record 6"),
        ("UPDATE records SET big = -1 WHERE id = 6", sqlstore.SchemaError, "big, record 6"),
        ("UPDATE records SET extra = '{' WHERE id = 6", sqlstore.SchemaError, "extra, record 6"),
        (
            'UPDATE records SET "when" = 9223372036854775807 WHERE id = 6',
            sqlstore.SchemaError,
            "when, record 6",
        ),
        ("CREATE TABLE mine (x)", sqlstore.CorruptIndexError, "not sqlstore's, mine"),
        ("CREATE INDEX mine ON records (n)", sqlstore.CorruptIndexError, "not sqlstore's, mine"),
        ("ALTER TABLE records ADD COLUMN x", sqlstore.CorruptIndexError, "records otherwise"),
        ("ALTER TABLE records DROP COLUMN n", sqlstore.CorruptIndexError, "records otherwise"),
        ("DROP VIEW record_locations", sqlstore.CorruptIndexError, "lacks record_locations"),
    ],
)
def test_what_cannot_be_taken_is_refused_and_nothing_is_taken(
    path: Path, statement: str, error: type[Exception], message: str
) -> None:
    with sqlstore.open(path, "a") as store:
        store[4:5].delete()
    statement = statement.replace("COLUMN x", "COLUMN x INTEGER")
    other_tool(path, "UPDATE records SET n = 50 WHERE id = 5", statement)
    before = logged(path)
    for dry_run in (True, False):
        with pytest.raises(error, match=message) as caught:
            sqlstore.absorb(path, dry_run=dry_run)
        assert "nothing was taken into the log" in str(caught.value)
    assert logged(path) == before


def test_an_index_with_a_trigger_is_not_opened_for_it(path: Path) -> None:
    other_tool(path, "CREATE TRIGGER mine DELETE ON records BEGIN SELECT 1; END")
    with pytest.raises(sqlstore.CorruptIndexError, match="might run: the trigger 'mine'"):
        sqlstore.absorb(path)
    other_tool(path, "DROP TRIGGER mine")
    assert not sqlstore.absorb(path)


def test_a_float_that_is_required_or_too_large(tmp_path: Path) -> None:
    path = tmp_path / "s"
    column = sqlstore.Column("float32", nullable=False)
    with sqlstore.create(path, metadata={"x": column}) as store:
        store.extend([{"x": float("nan")}, {"x": 1.0}])
    assert not sqlstore.absorb(path)  # NULL is how SQLite has NaN
    for value in ("NULL", "1e300"):
        other_tool(path, f"UPDATE records SET x = {value} WHERE id = 1")
        with pytest.raises(sqlstore.SchemaError, match="record 1"):
            sqlstore.absorb(path)


def test_a_write_ahead_log_of_another_tool_is_ended(path: Path) -> None:
    other_tool(path, "PRAGMA journal_mode = WAL", "UPDATE records SET n = 50 WHERE id = 5")
    with sqlstore.open(path) as store:
        assert len(store.where("n = 50")) == 1
    assert sqlstore.absorb(path, dry_run=True).updated == {"n": 1}
    assert sqlstore.absorb(path).updated == {"n": 1}
    other_tool(path, "PRAGMA journal_mode = WAL")
    with sqlstore.open(path, "a") as store:
        store[:1].update(n=60)
        assert [record["n"] for record in store.take([0, 5])] == [60, 50]
    assert sorted(path.glob("index.sqlite*")) == [path / "index.sqlite"]
    assert_edited(path)


def test_a_write_ahead_log_that_is_in_use_is_not_taken_for_a_slow_writer(path: Path) -> None:
    other_tool(path, "PRAGMA journal_mode = WAL")
    with sqlstore.open(path) as store:
        store.where("n = 5")
        for change in (lambda: sqlstore.open(path, "a"), lambda: sqlstore.absorb(path)):
            with pytest.raises(sqlstore.StoreBusyError, match=r"into WAL mode.*close that tool"):
                change()
    with sqlstore.open(path, "a") as store:
        store[:1].update(n=60)
    assert_edited(path)


def test_other_tables_are_left_to_verify(path: Path) -> None:
    other_tool(path, "UPDATE records SET n = 50 WHERE id = 5", "UPDATE blobs SET length = 1")
    assert sqlstore.absorb(path).updated == {"n": 1}
    assert not sqlstore.verify(path)
    sqlstore.rebuild(path)
    assert logged(path)[5]["n"] == 50
    assert_edited(path)


# Others at the same time


def between(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object], times: int = 1) -> None:
    """Have something happen between a comparison and its commit."""
    real, left = module.differences, [times]

    def compared(*given: Any) -> Any:
        found = real(*given)
        if left[0]:
            left[0] -= 1
            act()
        return found

    monkeypatch.setattr(module, "differences", compared)


def before_commit(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have something happen once after a comparison is known to be good."""
    real = module._commit

    def commit(*given: Any) -> None:
        monkeypatch.setattr(module, "_commit", real)
        act()
        real(*given)

    monkeypatch.setattr(module, "_commit", commit)


@pytest.mark.parametrize("when", [between, before_commit])
def test_a_commit_in_between_is_not_undone(
    path: Path, monkeypatch: pytest.MonkeyPatch, when: Callable[..., None]
) -> None:
    other_tool(path, "UPDATE records SET n = 50 WHERE id < 2", "DELETE FROM records WHERE id = 7")

    def commit() -> None:
        with sqlstore.open(path, "a") as store:
            store[1:2].update(n=60, label="theirs")
            store.extend([{"n": 10, "needed": 1}])
            store.add_column("x", "int8")
            store.rename_column("n", "number")

    when(monkeypatch, commit)
    assert sqlstore.absorb(path) == sqlstore.Absorbed({"number": 1}, 1)
    rows = {row["id"]: row for row in logged(path)}
    assert [rows[i]["number"] for i in (0, 1, 10)] == [50, 60, 10]
    assert rows[1]["label"] == "theirs"
    assert_edited(path)


@pytest.mark.parametrize("when", [between, before_commit])
def test_a_rebuild_in_between_has_undone_what_there_was(
    path: Path, monkeypatch: pytest.MonkeyPatch, when: Callable[..., None]
) -> None:
    other_tool(path, "UPDATE records SET n = 50 WHERE id < 2", "DELETE FROM records WHERE id = 7")
    when(monkeypatch, lambda: sqlstore.rebuild(path))
    assert not sqlstore.absorb(path)
    assert [row["n"] for row in logged(path)] == list(range(10))
    assert_edited(path)


def test_a_change_in_between_stays_a_difference(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_tool(path, "UPDATE records SET n = 50 WHERE id = 1")
    between(monkeypatch, lambda: other_tool(path, "UPDATE records SET n = 70 WHERE id = 1"))
    assert sqlstore.absorb(path).updated == {"n": 1}
    assert logged(path)[1]["n"] == 50
    assert sqlstore.absorb(path).updated == {"n": 1}
    assert logged(path)[1]["n"] == 70
    assert_edited(path)


def test_it_gives_up_where_others_commit_all_the_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit() -> None:
        with sqlstore.open(path, "a") as store:
            store.extend([{"n": 10, "needed": 1}])

    other_tool(path, "UPDATE records SET n = 50 WHERE id = 1")
    between(monkeypatch, commit, times=100)
    for dry_run in (True, False):
        with pytest.raises(sqlstore.StoreBusyError, match="all the time"):
            sqlstore.absorb(path, dry_run=dry_run)


def absorb_killed(_: Connection, path: Path, kill_at: int | None) -> list[str]:
    """Absorb, killed at one of the steps, and return the steps."""
    steps = Steps(kill_self, kill_at)
    with steps.around(*COMMIT_STEPS):
        sqlstore.absorb(path)
    return steps.names


def test_killed_at_any_step_it_goes_on(path: Path, tmp_path: Path) -> None:
    other_tool(path, "UPDATE records SET n = 50 WHERE id < 2", "DELETE FROM records WHERE id = 7")
    whole = shutil.copytree(path, tmp_path / "whole")
    with Child(absorb_killed, whole, None) as child:
        names = child.result()
    expected = logged(whole)
    for moment in range(0, len(names), 17):
        copy = shutil.copytree(path, tmp_path / f"killed {moment}")
        with Child(absorb_killed, copy, moment) as child, pytest.raises(EOFError):
            child.result()
        sqlstore.absorb(copy)
        assert logged(copy) == expected, names[moment]
        assert_edited(copy)
        shutil.rmtree(copy)


# Against a model

VALUES = st.one_of(st.none(), st.integers(-5, 5))
CHANGES = st.dictionaries(st.integers(0, 9), st.tuples(VALUES, VALUES), max_size=6)


@settings(max_examples=10, deadline=None)
@given(CHANGES, st.sets(st.integers(0, 9), max_size=4))
def test_whatever_was_changed_is_what_the_log_holds(
    tmp_path_factory: pytest.TempPathFactory,
    changes: dict[int, tuple[int | None, int | None]],
    gone: set[int],
) -> None:
    path = new_store(tmp_path_factory.mktemp("model") / "s", 10)
    updates = [
        f"UPDATE records SET n = {n if n is not None else 'NULL'}, "
        f"score = {score if score is not None else 'NULL'} WHERE id = {record}"
        for record, (n, score) in changes.items()
    ]
    other_tool(path, *updates, *(f"DELETE FROM records WHERE id = {record}" for record in gone))
    sqlstore.absorb(path)
    assert {row["id"]: (row["n"], row["score"]) for row in logged(path)} == {
        record: changes.get(record, (record, None)) for record in range(10) if record not in gone
    }
    assert_edited(path)


def test_the_command_says_what_was_taken(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*options: str) -> str:
        assert main(["absorb", str(path), *options]) == 0
        return capsys.readouterr().out

    other_tool(path, "UPDATE records SET n = 50 WHERE id < 2", "DELETE FROM records WHERE id = 7")
    assert run("--dry-run") == "would be taken into the log: 2 changed in n, 1 deleted\n"
    assert json.loads(run("--json")) == {"updated": {"n": 2}, "deleted": 1}
    assert run() == "taken into the log: nothing\n"
    other_tool(path, "INSERT INTO records (id, needed) VALUES (10, 1)")
    assert main(["absorb", str(path)]) == 2
    assert "record 10" in capsys.readouterr().err
