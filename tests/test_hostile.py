"""Stores of strangers that are made to do harm: nothing runs, nothing outside is touched.

`make hostile` does everything with each of them; here some are tried
(all with `SQLSTORE_CASES=1000`), and what takes time is left out where a case does not ask for it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

import sqlstore
from sqlstore.index import declared
from tests.hostile import forge
from tests.hostile.case import HARMLESS, Case
from tests.hostile.cases import CASES, chosen
from tests.hostile.run import Runner


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with Runner(tmp_path_factory.mktemp("hostile"), everything=False) as made:
        yield made


@pytest.mark.parametrize("name", chosen())
def test_a_hostile_store_does_no_harm(runner: Runner, name: str) -> None:
    found = runner.outcome(CASES[name])
    assert found.wrong == [], f'run `python -m tests.hostile "{name}"`'


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 80


# What watches, watched


def _without_index(store: Path, outside: Path) -> None:
    (store / "index.sqlite").unlink()


def test_an_error_that_was_not_expected_is_a_failure(runner: Runner) -> None:
    found = runner.outcome(Case("one that is not refused as it says", _without_index, "NoError"))
    assert found.wrong == ["no step got 'NoError'"]
    found = runner.outcome(Case("one that is not harmless", _without_index, HARMLESS))
    assert any(line.startswith("open mmap: CorruptIndexError") for line in found.wrong)


def test_what_is_changed_outside_is_a_failure(runner: Runner) -> None:
    def harm(store: Path, outside: Path) -> None:
        (outside / "secret").write_bytes(b"changed")

    found = runner.outcome(Case("one that changes a file", harm, HARMLESS))
    assert found.wrong == ["secret, outside of the store, was changed"]


# What is declared in an index


def test_names_that_sql_knows_are_no_computed_columns(tmp_path: Path) -> None:
    words = ("as", "check", "collate", "default", "generated", "virtual", "strict", "index")
    columns = {word: sqlstore.Column("string", index=True) for word in words[:6]}
    with sqlstore.create(tmp_path / "s", metadata=columns) as store:
        store.add_column("strict", "int32")
        store.rename_column("check", "index")
        store.extend([{"as": "a", "index": "b", "strict": 1}])
        store.snapshot("v1")
    with sqlstore.open(tmp_path / "s") as store:
        assert store[0]["index"] == "b"
    with sqlstore.open(tmp_path / "s", snapshot="v1") as store:
        assert store[0]["as"] == "a"


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE records (id INTEGER PRIMARY KEY, x TEXT DEFAULT (1)) STRICT",
        "CREATE TABLE records (id INTEGER PRIMARY KEY, x TEXT COLLATE NOCASE) STRICT",
        "CREATE TABLE records (id INTEGER PRIMARY KEY, x TEXT CHECK (x > 1)) STRICT",
        "CREATE TABLE records (id INTEGER PRIMARY KEY, x TEXT AS (1)) STRICT",
        # Quotes in quotes of another kind, and in comments, must hide nothing.
        "CREATE TABLE records (id INTEGER PRIMARY KEY, 'a\"' INTEGER CHECK (0), 'b\"' ANY) STRICT",
        'CREATE TABLE records (id INTEGER PRIMARY KEY /* " */ CHECK (0) /* " */) STRICT',
        "CREATE TABLE records (id INTEGER PRIMARY KEY)",
        "CREATE VIRTUAL TABLE mine USING fts5(x)",
        "CREATE VIEW mine AS SELECT 1",
        "CREATE INDEX mine ON records (abs(id))",
        "CREATE INDEX mine ON records (id) WHERE id > 1",
        "CREATE INDEX mine ON records (id COLLATE NOCASE)",
    ],
)
def test_what_computes_something_is_refused(sql: str) -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        if not sql.startswith(("CREATE TABLE", "CREATE VI")):
            database.execute("CREATE TABLE records (id INTEGER PRIMARY KEY) STRICT")
        database.execute(sql)  # SQLite takes it
        with pytest.raises(sqlstore.CorruptIndexError, match="might run"):
            declared.refuse_strange(database, "index.sqlite")


def test_plain_tables_and_indices_of_others_are_let_be(tmp_path: Path) -> None:
    path = forge.plain_store(tmp_path / "s")
    forge.run(
        path, "CREATE TABLE mine (x DEFAULT 1)", "CREATE INDEX mine_too ON records (n DESC, label)"
    )
    with sqlstore.open(path) as store:
        assert len(store.where("n = 3")) == 1
