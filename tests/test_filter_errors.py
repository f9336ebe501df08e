"""Hostile and wrong SQL: one clear line for each, nothing written, and the next query runs."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

import sqlstore


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlstore.Store]:
    path = tmp_path_factory.mktemp("filters") / "store"
    metadata = {"label": "string", "width": "int32", "extra": "json"}
    with sqlstore.create(path, fields={"image": "bytes"}, metadata=metadata) as opened:
        opened.extend({"label": f"l{i}", "width": i, "image": b"x"} for i in range(10))
        yield opened


FOREVER = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT i FROM c"
HOSTILE = [
    "(ATTACH '{folder}/x' AS x)", "1; ATTACH '{folder}/x' AS x", "1) ; ATTACH '{folder}/x' AS x --",
    "(PRAGMA writable_schema = 1)", "1 IN (SELECT * FROM pragma_writable_schema)",
    "1 IN (SELECT * FROM pragma_journal_mode('WAL'))", "load_extension('{folder}/x')",
    "LOAD_EXTENSION('x', 'y')", "writefile('{folder}/x', 'x')", "readfile('/etc/passwd') <> ''",
    "edit('x')", "1; DELETE FROM main.records", "1; SELECT 1", "1;", "(DELETE FROM main.records)",
    "EXISTS (DELETE FROM main.records RETURNING 1)", "(INSERT INTO main.records (id) VALUES (99))",
    "(UPDATE main.records SET width = 1)", "(DROP TABLE main.records)", "(REINDEX)", "(ANALYZE)",
    "(VACUUM INTO '{folder}/x')", "(CREATE TABLE temp.t (a))", "(DETACH main)", "1) -- ",
    "1 --\n)", "1) /*", "1 /*", "/* 1", "label = 'x", "'", '"', "`", "[", "label = \"x", "(((",
    ")))", "(" * 500 + "1" + ")" * 500, "1" + "+1" * 5000,
    "NOT " * 5000 + "1", "fts3_tokenizer('simple')",
    "fts3_tokenizer('simple', x'00')", "1 IN (SELECT * FROM generate_series(1, 9))",
    "records MATCH 'x'", "label REGEXP 'x'", "1 IN (SELECT x FROM fsdir('/'))",
    "sqlite_log(1, 'x') = extra.x", "(SELECT name FROM other.sqlite_schema)", "\0", "1\0", "\ud800",
    "(BEGIN)", "1; COMMIT", "(SAVEPOINT x)",
]  # fmt: skip
HEAVY = [
    "label LIKE '" + "%_" * 100_000 + "'", "randomblob(1000000000) IS NULL", "label MATCH 'x'",
    "length(zeroblob(1000000000)) > 0", "hex(zeroblob(140000000)) = ''",
    "replace(hex(zeroblob(20000)), '0', hex(zeroblob(20000))) = ''",
]  # fmt: skip
"""What is refused when it is run; a plan can be made of it."""


@pytest.mark.parametrize("condition", HOSTILE + HEAVY, ids=lambda condition: repr(condition[:40]))
def test_a_hostile_text_does_nothing_but_raise_one_line(
    store: sqlstore.Store, tmp_path: Path, condition: str
) -> None:
    before = store.sql("SELECT * FROM main.records").to_pylist()
    with_tables = [None] if condition in HEAVY else [None, {"t": {"a": [1]}}]
    planned = [] if condition in HEAVY else [store.explain]
    condition = condition.format(folder=tmp_path)
    for use in (store.where, store.order_by, store.take([1]).where, *planned):
        for tables in with_tables:
            with pytest.raises(sqlstore.QueryError) as raised:
                use(condition, tables=tables)
            assert "\n" not in str(raised.value)
            assert len(str(raised.value)) < 500

    assert list(tmp_path.iterdir()) == []
    assert store.sql("SELECT * FROM main.records").to_pylist() == before
    assert store.where("width = 3").ids.tolist() == [3]
    with pytest.raises(sqlstore.QueryError, match="no such table"):
        store.sql("SELECT * FROM t")


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'records') AND width = 1", [1]),
        ("label LIKE '" + "%" * 40_000 + "1'", [1]),
        (f"width = (SELECT i FROM ({FOREVER}) LIMIT 1)", [1]),
    ],
    ids=["schema", "like", "recursive"],
)
def test_what_only_looks_hostile_is_answered(
    store: sqlstore.Store, condition: str, found: list[int]
) -> None:
    assert store.where(condition).ids.tolist() == found


WRONG = [
    ("widht > 3", "no such column: widht; did you mean width?, at >>widht<< > 3;"),
    ("records.lable = 'x'", "did you mean label?, at records.>>lable<< = 'x'"),
    ("label = 'widht' AND widht > 3", "at label = 'widht' AND >>widht<< > 3"),
    ("\"lable\" = 'x'", "did you mean label?, at >>\"lable\"<< = 'x'"),
    ("image = 3", "'image' is a field, and SQL knows only the metadata"),
    ("lenght(label) > 3", "no such function: lenght; did you mean length?, at >>lenght<<(label)"),
    ("id IN (SELECT record FROM record_location)", "did you mean record_locations?, at id IN"),
    ("substr(label) = 'x'", "number of arguments to function substr(), at >>substr<<(label)"),
    ("count(*) > 1", "at >>count<<(*) > 1"),
    ("width > 1 AN width < 3", 'near "AN": syntax error, at width > 1 >>AN<< width < 3'),
    ("(width > 1) AND (width <) AND (1)", "at (width > 1) AND (width <>>)<< AND (1)"),
    ("width = 1 width", 'near "width": syntax error, at width = 1 >>width<<'),
    ("width = 1 AND", "the SQL ends too early, at width = 1 AND>><<"),
    ("label = 'l1", "a quote is not closed, at label = >>'<<l1"),
    ("width > (3", "the brackets do not match, at width > >>(<<3"),
    ("width > 3) OR (1", "the brackets do not match, at width > 3>>)<< OR (1"),
    ("width = 1\n  AND\n\twidth == = 2", "at width = 1 AND width == >>=<< 2"),
    ("label = '@' AND @", "this cannot be read, at label = '@' AND >>@<<"),
    ("width = 1 " + "OR (width = 2) " * 300 + "OR (width = ) OR (1)", "OR (width = >>)<< OR (1)"),
    ("width = 5 AND @", "this cannot be read, at width = 5 AND >>@<<"),
    ("1;", 'near ";": syntax error, at 1>>;<<'),
    (
        "width = 1 " + "OR width = 2 " * 100 + "OR widht = 3",
        "at ... width = 2 OR width = 2 OR width = 2 OR >>widht<< = 3",
    ),
]


@pytest.mark.parametrize(("condition", "message"), WRONG)
def test_an_error_shows_where_the_text_is_wrong(
    store: sqlstore.Store, condition: str, message: str
) -> None:
    for use in (store.where, store.explain):
        with pytest.raises(sqlstore.QueryError) as raised:
            use(condition)
        assert message in str(raised.value)


def test_the_line_stays_short(store: sqlstore.Store, tmp_path: Path) -> None:
    long = "x" * 100_000
    for condition in (f"width '{long}'", f"{long} = 1", f"width = 1 {long}", f"{long}(1)"):
        with pytest.raises(sqlstore.QueryError) as raised:
            store.where(condition)
        assert len(str(raised.value)) < 500
    columns = {f"column_with_a_long_name_{i}": "int8" for i in range(500)}
    many = sqlstore.create(tmp_path / "s", metadata=columns)
    with many, pytest.raises(sqlstore.QueryError, match=r"column_with_a_long_name_18, \.\.\.;"):
        many.where("widht = 3")


def test_statements_orders_and_expressions_show_it_too(store: sqlstore.Store) -> None:
    clause: Any = text("widht > 3")
    table = {"clip": {"record": [1], "score": [0.5]}}
    for use, message in (
        (lambda: store.order_by("label, widht DESC"), "at label, >>widht<< DESC"),
        (lambda: store.order_by("label DESK"), "at label >>DESK<<"),
        (lambda: store.sql("SELECT label FORM records"), "at SELECT label FORM >>records<<"),
        (lambda: store.sql("SELECT label, FROM records"), "at SELECT label, >>FROM<< records"),
        (lambda: store.sql("SELECT 1 FROM record"), "did you mean records?"),
        (lambda: store.where(clause), "did you mean width?, at SELECT records.id FROM records WHE"),
        (lambda: store.where("1 IN (SELECT scor FROM clip)", tables=table), "did you mean score?"),
        (lambda: store.where("1 IN (SELECT 1 FROM clips)", tables=table), "did you mean clip?"),
    ):
        with pytest.raises(sqlstore.QueryError) as raised:
            use()
        assert message in str(raised.value)
    with pytest.raises(AttributeError, match=r"did you mean width\?"):
        _ = store.c.widht


class EnoughError(Exception):
    """What the handler of a signal raises."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, EnoughError])
def test_a_query_that_never_ends_can_be_interrupted(
    store: sqlstore.Store, kind: type[BaseException]
) -> None:
    def handler(*_: object) -> None:
        raise kind

    before = signal.signal(signal.SIGALRM, handler)
    try:
        for use in (
            lambda: store.where(f"id IN ({FOREVER})"),
            lambda: store.where(f"id IN ({FOREVER})", tables={"t": {"a": [1]}}),
            lambda: store.where(store.c.id.in_(text(FOREVER))),
            lambda: store.sql(f"SELECT count(*) FROM ({FOREVER})"),
        ):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(kind):
                use()
            assert store.where("width = 3").ids.tolist() == [3]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_signal_that_raises_nothing_ends_no_query(store: sqlstore.Store) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: heard.append(number))
    limited = f"SELECT max(i) AS i FROM ({FOREVER} LIMIT 300000)"
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        assert store.sql(limited)["i"].to_pylist() == [300_000]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert heard


def test_other_threads_go_on_while_a_query_runs(store: sqlstore.Store) -> None:
    running = threading.Thread(
        target=store.sql, args=(f"SELECT max(i) AS i FROM ({FOREVER} LIMIT 500000)",)
    )
    running.start()
    turns = 0
    while running.is_alive():
        time.sleep(0)
        turns += 1
    running.join()
    assert turns > 10
