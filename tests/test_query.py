"""SQL: what a statement gives, what may be bound to it, and what is refused."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, text

import sqlstore

METADATA = {
    "label": "string",
    "n": "int64",
    "small": "uint8",
    "x": "float64",
    "single": "float32",
    "flag": "bool",
    "day": "date32",
    "moment": "timestamp[us]",
    "berlin": "timestamp[us, Europe/Berlin]",
    "extra": "json",
    "blob": "binary",
}
DAY = dt.date(2020, 1, 1)
MOMENT = dt.datetime(2020, 1, 1, 12)
ZONED = dt.datetime(2020, 1, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))


def record(i: int) -> dict[str, Any]:
    return {
        "label": f"l{i}",
        "n": i,
        "small": i,
        "x": i / 2,
        "single": i + 0.1,
        "flag": i % 2 == 0,
        "day": DAY + dt.timedelta(days=i),
        "moment": MOMENT + dt.timedelta(microseconds=i),
        "berlin": ZONED + dt.timedelta(hours=i),
        "extra": {"a": i, "tags": ["even" if i % 2 == 0 else "odd", f"t{i}"]},
        "blob": bytes([255, i]),
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlstore.Store]:
    path = tmp_path_factory.mktemp("query") / "store"
    with sqlstore.create(path, fields={"f": "bytes"}, metadata=METADATA) as opened:
        opened.extend({**record(i), "f": b"%d" % i} for i in range(10))
        yield opened


def ids(store: sqlstore.Store, condition: str, **bound: Any) -> list[int]:
    return list(store.where(condition, params=bound).ids)


# Results


def test_a_result_is_a_table(store: sqlstore.Store) -> None:
    table = store.sql("SELECT flag, count(*) AS n, sum(x) AS total FROM records GROUP BY flag")

    assert isinstance(table, pa.Table)
    assert table.to_pylist() == [
        {"flag": False, "n": 5, "total": 12.5},
        {"flag": True, "n": 5, "total": 10.0},
    ]


def test_metadata_columns_keep_their_types_and_the_rest_has_those_of_sqlite(
    store: sqlstore.Store,
) -> None:
    plain = store.sql("SELECT * FROM records")
    computed = store.sql(
        "SELECT n + 1 AS a, x * 2 AS b, label || '' AS c, CAST(label AS BLOB) AS d, +flag AS e, "
        "max(n) OVER () AS f, +day AS g FROM records LIMIT 1"
    )

    assert plain.schema.types == store.to_arrow().schema.types
    assert plain.to_pylist() == store.to_arrow().to_pylist()
    assert computed.schema.types == [
        pa.int64(),
        pa.float64(),
        pa.string(),
        pa.binary(),
        *[pa.int64()] * 3,
    ]
    assert computed.to_pylist() == [
        {"a": 1, "b": 0.0, "c": "l0", "d": b"l0", "e": 1, "f": 9, "g": 18262}
    ]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT n AS moment FROM records LIMIT 2", [0, 1]),
        ("SELECT n AS label FROM records LIMIT 2", [0, 1]),
        ("SELECT small AS flag FROM records WHERE id IN (3, 7)", [3, 7]),
        ("SELECT moment FROM (SELECT n AS moment FROM records LIMIT 1)", [0]),
        ("SELECT flag FROM records WHERE id < 2 UNION ALL SELECT n FROM records WHERE id = 5",
         [1, 0, 5]),
        ("SELECT label AS n FROM records LIMIT 1", ["l0"]),
        ("SELECT max(moment) AS moment FROM records", [1577880000000009]),
        ("SELECT CAST(n AS TEXT) AS n FROM records LIMIT 1", ["0"]),
    ],
)  # fmt: skip
def test_what_is_only_named_as_a_metadata_column_has_not_its_type(
    store: sqlstore.Store, sql: str, expected: list[object]
) -> None:
    assert store.sql(sql).column(0).to_pylist() == expected


def test_a_mix_of_types_in_a_metadata_column_is_no_damage(store: sqlstore.Store) -> None:
    for sql in (
        "SELECT n FROM records UNION ALL SELECT label FROM records",
        "SELECT n AS x FROM records UNION ALL SELECT blob FROM records",
    ):
        with pytest.raises(sqlstore.QueryError, match="mixes"):
            store.sql(sql)


def test_other_tables_may_have_columns_of_the_same_name(tmp_path: Path) -> None:
    metadata = {"file": "int32", "offset": "timestamp[us]", "field": "bool", "number": "string"}
    with sqlstore.create(tmp_path / "s", fields={"f": "bytes"}, metadata=metadata) as store:
        store.extend([{"f": b"x"}])
        (row,) = store.sql("SELECT * FROM record_locations").to_pylist()
        assert row["field"] == "f"
        assert isinstance(row["offset"], int)
        assert store.sql("SELECT number FROM commits")["number"].to_pylist() == [1, 2]


def test_a_column_that_mixes_types_is_refused(store: sqlstore.Store) -> None:
    with pytest.raises(sqlstore.QueryError, match=r"'a' mixes int, str; CAST"):
        store.sql("SELECT 1 AS a UNION ALL SELECT 'x'")
    numbers = store.sql("SELECT 1 AS a UNION ALL SELECT 2.5 UNION ALL SELECT NULL")
    assert numbers.schema.field("a").type == pa.float64()
    assert numbers["a"].to_pylist() == [1.0, 2.5, None]


def test_a_result_may_be_empty_or_null(store: sqlstore.Store) -> None:
    table = store.sql("SELECT label, n + 1 AS m FROM records WHERE 0")
    assert (table.num_rows, table.column_names) == (0, ["label", "m"])
    assert table.schema.field("label").type == pa.string()
    assert store.sql("SELECT NULL AS a")["a"].to_pylist() == [None]


def test_statements_of_many_forms_can_be_run(store: sqlstore.Store) -> None:
    def first(sql: str, **bound: Any) -> object:
        return store.sql(sql, bound).column(0).to_pylist()[0]

    assert first("SELECT count(*) FROM records;") == 10
    assert first("  -- a comment\nSELECT /* another */ count(*) FROM records -- end") == 10
    assert first("VALUES (1), (2)") == 1
    assert (
        first("WITH few AS (SELECT n FROM records WHERE n > :n) SELECT min(n) FROM few", n=3) == 4
    )
    assert (
        first("WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 9) "
              "SELECT sum(i) FROM c") == 45
    )  # fmt: skip
    plan = store.sql("EXPLAIN QUERY PLAN SELECT * FROM records")
    assert "records" in plan["detail"].to_pylist()[0]
    assert first("SELECT r.n FROM records r JOIN records s ON r.id = s.n WHERE s.id = 4") == 4
    assert first("SELECT name FROM fields") == "f"
    assert first("PRAGMA table_info(records)") == 0
    assert first('SELECT "n" FROM records ORDER BY "n" DESC') == 9
    assert store.sql('SELECT n AS "the number", 1 AS "a""b" FROM records').column_names == [
        "the number",
        'a"b',
    ]
    assert store.sql("SELECT 1 AS a, 2 AS a").column_names == ["a", "a"]


def test_locations_say_where_values_lie(store: sqlstore.Store) -> None:
    (row,) = store.sql("SELECT * FROM record_locations WHERE record = 3").to_pylist()

    assert row["field"] == "f"
    assert (row["length"], row["raw_length"], row["compression"]) == (1, 1, "none")
    data = (store.path / row["file"]).read_bytes()
    assert data[row["offset"]] == ord("3")


def test_functions_of_json_can_be_used(store: sqlstore.Store) -> None:
    assert ids(store, "extra ->> 'a' = 3") == [3]
    assert ids(store, "extra ->> '$.tags[1]' = :tag", tag="t4") == [4]
    expression = func.json_extract(store.c.extra, "$.a") == 3
    assert store.where(expression).ids.tolist() == [3]


def test_lists_in_json_can_be_searched(store: sqlstore.Store) -> None:
    some = "EXISTS (SELECT 1 FROM json_each(extra, '$.tags') WHERE value = :tag)"

    assert ids(store, some, tag="t4") == [4]
    assert ids(store, some, tag="odd") == [1, 3, 5, 7, 9]
    counted = store.sql(
        "SELECT value, count(*) AS n FROM records, json_each(extra, '$.tags') "
        "GROUP BY value ORDER BY n DESC, value LIMIT 2"
    )
    assert counted.to_pylist() == [{"value": "even", "n": 5}, {"value": "odd", "n": 5}]


# What is refused

WRITING = [
    "INSERT INTO records (id) VALUES (100)",
    "INSERT INTO main.records (id) VALUES (100)",
    "INSERT INTO main.records (id) VALUES (100) RETURNING id",
    "REPLACE INTO main.records (id) VALUES (1)",
    "UPDATE records SET n = 1",
    "UPDATE main.records SET n = 1",
    "DELETE FROM records",
    "DELETE FROM main.records",
    "DELETE FROM blobs RETURNING record",
    "WITH a AS (SELECT 1) DELETE FROM main.records",
    "EXPLAIN DELETE FROM main.records",
    "CREATE TABLE t (a)",
    "CREATE TEMP TABLE t (a)",
    "CREATE TABLE temp.t AS SELECT 1",
    "CREATE VIEW v AS SELECT 1",
    "CREATE TEMP VIEW v AS SELECT 1",
    "CREATE INDEX i ON records (n)",
    "CREATE TEMP TRIGGER t AFTER INSERT ON main.records BEGIN SELECT 1; END",
    "CREATE VIRTUAL TABLE temp.t USING fts5(a)",
    "DROP TABLE main.records",
    "DROP VIEW records",
    "DROP VIEW temp.records",
    "DROP VIEW record_locations",
    "ALTER TABLE main.records ADD COLUMN z",
    "ATTACH ':memory:' AS other",
    "ATTACH '{folder}/other.sqlite' AS other",
    "DETACH temp",
    "VACUUM",
    "VACUUM INTO '{folder}/other.sqlite'",
    "REINDEX",
    "ANALYZE",
    "PRAGMA writable_schema = 1",
    "PRAGMA writable_schema(1)",
    "PRAGMA journal_mode = WAL",
    "PRAGMA query_only = 0",
    "PRAGMA trusted_schema = 1",
    "PRAGMA main.user_version = 7",
    "PRAGMA wal_checkpoint",
    "SELECT * FROM pragma_writable_schema",
    "BEGIN",
    "BEGIN EXCLUSIVE",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT s",
    "SELECT load_extension('x')",
    "SELECT LOAD_EXTENSION('x', 'y')",
    "SELECT writefile('{folder}/other', 'x')",
    "SELECT readfile('{folder}/index.sqlite')",
    "SELECT edit('x')",
]


@pytest.mark.parametrize("sql", WRITING)
def test_a_statement_that_does_more_than_read_is_refused(
    store: sqlstore.Store, tmp_path: Path, sql: str
) -> None:
    content = store.sql("SELECT * FROM main.records").to_pylist()
    for spelt in (sql, f"/* SELECT */ {sql.lower()};"):
        with pytest.raises(sqlstore.QueryError):
            store.sql(spelt.format(folder=tmp_path))

    assert list(tmp_path.iterdir()) == []
    assert store.sql("SELECT * FROM main.records").to_pylist() == content
    assert store.sql("SELECT count(*) AS n FROM records")["n"].to_pylist() == [10]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1; SELECT 2",
        "SELECT 1;; SELECT 2",
        "SELECT 1; DROP TABLE main.records",
        "SELECT ';'; DELETE FROM main.records",
    ],
)
def test_several_statements_are_refused(store: sqlstore.Store, sql: str) -> None:
    with pytest.raises(sqlstore.QueryError):
        store.sql(sql)
    assert store.sql("SELECT ';' AS a")["a"].to_pylist() == [";"]


@pytest.mark.parametrize("sql", ["", " ", ";", "-- nothing", "/* nothing", "SELEC 1", "SELECT (1"])
def test_what_is_no_statement_is_refused(store: sqlstore.Store, sql: str) -> None:
    with pytest.raises(sqlstore.QueryError):
        store.sql(sql)


@pytest.mark.parametrize(
    "condition",
    [
        "\"lable\" = 'l1'",
        '"l1" = label',
        'label = "l1"',
        'label IN ("l1")',
        "[lable] = 'l1'",
        "`lable` = 'l1'",
        'n = 1 AND "x""y" = 1',
        'extra ->> "$.a" = 3',
        '"`" = 1',
    ],
)
def test_a_quoted_name_that_is_no_column_is_an_error_not_a_text(
    store: sqlstore.Store, condition: str
) -> None:
    for use in (
        lambda: store.where(condition),
        lambda: store.order_by(condition),
        lambda: store.sql(f"SELECT id FROM records WHERE {condition}"),
    ):
        with pytest.raises(sqlstore.QueryError, match="no such column"):
            use()


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("\"label\" = 'l1'", [1]),
        ("[label] = 'l1'", [1]),
        ("`label` = 'l1'", [1]),
        ('"records"."n" = 1', [1]),
        ("N = 1", [1]),
        ("label = 'l1' -- )", [1]),
        ("label = 'l1' -- \"x\" '", [1]),
        ("-- )\nlabel = 'l1'", [1]),
        ("label = 'l1' /* ) */", [1]),
        ("label = /* ' */ 'l1' /* ( \n \" */", [1]),
        ("(label = 'l1')", [1]),
        ("((label) = ('l1'))", [1]),
        ("label = ')'", []),
        ("label = '--' OR n = 2", [2]),
        ("label = 'it''s (' OR n = 2", [2]),
        ("label = '\"x\"' OR n = 2", [2]),
        ("label = '[' OR n IN (2)", [2]),
        ("label = x'6c31' OR n = 2", [2]),
        ("n IN (SELECT 3 UNION SELECT 4)", [3, 4]),
        ("n = (SELECT max(n) FROM records)", [9]),
        ("label LIKE '%1%'", [1]),
        ("CASE WHEN n = 4 THEN 1 END", [4]),
    ],
)
def test_comments_brackets_and_quotes_in_a_condition(
    store: sqlstore.Store, condition: str, expected: list[int]
) -> None:
    assert ids(store, condition) == expected


BREAKING_OUT = [
    "1)", "(1", "1) OR (1", ")(", "1) --", "1) /*", "1)) OR ((1", "1) ORDER BY (1",
    "1) UNION SELECT id FROM records WHERE (1", "1) LIMIT (1", "'", "1 OR label = 'a", '"', "`",
    "[", "1 /*", "1; SELECT 2", "1; DROP TABLE main.records", "1 LIMIT 1", "1 ORDER BY id",
    "1 UNION SELECT 2", "n = 3 AND", "n, label", "count(*) > 1", "DELETE FROM main.records",
    "(DELETE FROM main.records)", "load_extension('x')", "", " ", "\n", "-- n", "/* n */", "\0",
    "n = 1\0", "n = ?", "n = ?1", "'\n) OR (\n'1' = '1", "'x') OR ('1", "x'", "1 \x1a) --",
    "label = '\\') OR (1", "\"label\") OR (\"n\" = 1", "--\r) OR (1",
]  # fmt: skip


@pytest.mark.parametrize("condition", BREAKING_OUT, ids=repr)
def test_a_condition_cannot_break_out_of_its_brackets(
    store: sqlstore.Store, condition: str
) -> None:
    with pytest.raises(sqlstore.QueryError):
        store.where(condition)


@given(
    condition=st.lists(
        st.sampled_from(
            ["(", ")", "'", '"', "`", "[", "]", "--", "/*", "*/", "\n", "\r", ";", "1", " OR ", "n",
             "=", "label", " UNION SELECT id FROM main.records", "''", ",", "\\", "\0", "x", " "]
        ),
        max_size=8,
    ).map("".join)
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_no_text_gives_records_that_are_not_in_the_view(
    store: sqlstore.Store, condition: str
) -> None:
    few = store.take([7, 2])
    for use in (few.where, few.order_by):
        try:
            found = use(condition).ids.tolist()
        except sqlstore.QueryError:
            continue
        assert found in ([7, 2], [2, 7], [7], [2], []), condition


def test_a_lone_surrogate_is_a_query_error(store: sqlstore.Store) -> None:
    for use in (
        lambda: store.where("label = '\ud800'"),
        lambda: store.where("label = :x", x="\ud800"),
        lambda: store.where(store.c.label == "\ud800"),
        lambda: store.order_by("label = '\ud800'"),
        lambda: store.sql("SELECT '\ud800'"),
        lambda: store.sql("SELECT :x", x="\ud800"),
    ):
        with pytest.raises(sqlstore.QueryError):
            use()


def test_bytes_that_are_no_text_are_the_fault_of_the_query(store: sqlstore.Store) -> None:
    for sql in ("SELECT CAST(blob AS TEXT) AS a FROM records", "SELECT CAST(x'ff' AS TEXT) AS a"):
        with pytest.raises(sqlstore.QueryError):
            store.sql(sql)
    assert store.verify().faults == []


def test_an_error_of_a_query_says_what_is_wrong(store: sqlstore.Store) -> None:
    clause: Any = text("widht > 3")
    with pytest.raises(sqlstore.QueryError, match="no such column: widht"):
        store.where("widht > 3")
    with pytest.raises(sqlstore.QueryError, match="no such column: widht"):
        store.order_by("widht")
    with pytest.raises(sqlstore.QueryError, match="no such table: recods; did you mean records"):
        store.sql("SELECT * FROM recods")
    with pytest.raises(sqlstore.QueryError, match="the SQL ends too early, at n >"):
        store.where("n >")
    with pytest.raises(sqlstore.QueryError, match="syntax error, at >>SELEC<< xxx"):
        store.sql("SELEC " + "x" * 300)
    with pytest.raises(sqlstore.QueryError, match="view; only statements that read"):
        store.sql("DELETE FROM records")
    with pytest.raises(sqlstore.QueryError, match="as in `where"):
        store.where(n=3)
    with pytest.raises(sqlstore.QueryError, match="no such column"):
        store.where(clause)
    with pytest.raises(sqlstore.QueryError, match="brackets"):
        store.where("(n > 3")
    with pytest.raises(sqlstore.QueryError, match="empty"):
        store.where(" ")


# Bound values

BOUND: list[tuple[str, Any, list[int]]] = [
    ("n = :v", 3, [3]),
    ("n = :v", np.uint8(3), [3]),
    ("n = :v", True, [1]),
    ("n = :v", 3.0, [3]),
    ("n = :v", 2**63 - 1, []),
    ("n > :v", -(2**63), list(range(10))),
    ("n IS :v", None, []),
    ("n = :v", None, []),
    ("small = :v", np.int64(4), [4]),
    ("x = :v", 1.5, [3]),
    ("x = :v", np.float32(1.5), [3]),
    ("x = :v", np.float16(1.5), [3]),
    ("x < :v", math.inf, list(range(10))),
    ("x = :v", math.nan, []),
    ("x > :v", np.float64("nan"), []),
    ("flag = :v", True, [0, 2, 4, 6, 8]),
    ("flag = :v", np.False_, [1, 3, 5, 7, 9]),
    ("label = :v", "l3", [3]),
    ("label = :v", np.str_("l3"), [3]),
    ("label = :v", "l3\0", []),
    ("label = :v", "' OR 1 --", []),
    ("blob = :v", b"\xff\x03", [3]),
    ("blob = :v", bytearray(b"\xff\x03"), [3]),
    ("blob = :v", memoryview(b"\xff\x03"), [3]),
    ("blob = :v", np.bytes_(b"\xff\x03"), [3]),
    ("day = :v", DAY + dt.timedelta(days=3), [3]),
    ("day >= :v", np.datetime64("2020-01-09"), [8, 9]),
    ("moment = :v", MOMENT + dt.timedelta(microseconds=3), [3]),
    ("moment >= :v", np.datetime64("2020-01-01T12:00:00.000008"), [8, 9]),
    ("moment >= :v", pd.Timestamp("2020-01-01T12:00:00.000008"), [8, 9]),
    ("berlin = :v", ZONED + dt.timedelta(hours=3), [3]),
    ("berlin = :v", dt.datetime(2020, 1, 1, 14, tzinfo=dt.UTC), [3]),
    ("berlin = :v", pd.Timestamp("2020-01-01T23:00", tz="Asia/Tokyo"), [3]),
]


@pytest.mark.parametrize(("condition", "value", "expected"), BOUND)
def test_a_bound_value_becomes_what_the_column_holds(
    store: sqlstore.Store, condition: str, value: Any, expected: list[int]
) -> None:
    assert ids(store, condition, v=value) == expected
    assert store.where(condition, v=value).ids.tolist() == expected
    table = store.sql(f"SELECT id FROM records WHERE {condition}", v=value)
    assert table["id"].to_pylist() == expected


OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "= :v": lambda column, value: column == value,
    "> :v": lambda column, value: column > value,
    "< :v": lambda column, value: column < value,
    ">= :v": lambda column, value: column >= value,
}


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [case for case in BOUND if case[0] != "n IS :v" and case[1] is not None],
)
def test_a_value_in_an_expression_becomes_what_the_column_holds(
    store: sqlstore.Store, condition: str, value: Any, expected: list[int]
) -> None:
    name, operator = condition.split(" ", 1)
    expression = OPERATORS[operator](store.c[name], value)

    assert store.where(expression).ids.tolist() == expected


def test_a_float_compared_with_a_column_of_singles_is_made_one(store: sqlstore.Store) -> None:
    assert store.where(store.c.single == 3.1).ids.tolist() == [3]
    assert store.where(store.c.single.in_([3.1, 4.1])).ids.tolist() == [3, 4]
    assert store.where(store.c.single == math.nan).ids.tolist() == []
    with pytest.raises(sqlstore.QueryError, match="float32"):
        store.where(store.c.single < 1e300)


NOT_BOUND: list[Any] = [
    2**63, -(2**63) - 1, 2**100, Decimal(3), Decimal("0.1"), [3], (3,), {3}, {"a": 3}, 1j,
    np.complex64(1), object(), ..., dt.time(1), dt.timedelta(1), np.timedelta64(1, "s"),
    np.array([3]), np.array(3), np.datetime64("NaT"), pd.NaT, pd.NA, np.uint64(2**63),
    np.datetime64(10**9, "D"), np.datetime64("2020-01-01T00:00:00.000000001"),
    pd.Timestamp("2020-01-01 00:00:00.000000001"), range(3), iter([3]),
]  # fmt: skip


@pytest.mark.parametrize("value", NOT_BOUND, ids=lambda value: type(value).__name__)
def test_a_value_that_no_column_holds_is_refused(store: sqlstore.Store, value: Any) -> None:
    for use in (
        lambda: store.where("n = :v", v=value),
        lambda: store.order_by("n = :v", v=value),
        lambda: store.sql("SELECT :v AS v", v=value),
    ):
        with pytest.raises(sqlstore.QueryError):
            use()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2**63), ("n", Decimal(3)), ("n", [3]), ("n", DAY), ("x", MOMENT), ("label", DAY),
        ("x", "a"),
        ("moment", DAY), ("moment", ZONED), ("berlin", MOMENT), ("berlin", DAY), ("day", MOMENT),
        ("extra", {"a": object()}), ("id", 2**63), ("id", DAY), ("id", Decimal(3)),
        ("blob", object()),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_a_value_that_the_column_cannot_be_compared_with_is_refused(
    store: sqlstore.Store, name: str, value: Any
) -> None:
    with pytest.raises(sqlstore.QueryError):
        store.where(store.c[name] == value)
    with pytest.raises(sqlstore.QueryError):
        store.order_by(store.c[name] == value)


def test_a_value_must_be_there_under_its_name(store: sqlstore.Store) -> None:
    for use in (
        lambda: store.where("n = :v"),
        lambda: store.where("n = :v", w=3),
        lambda: store.where("n = :v AND x = :w", v=3),
        lambda: store.order_by("n = :v"),
        lambda: store.sql("SELECT :v"),
    ):
        with pytest.raises(
            sqlstore.QueryError, match=r"no value is given for :[vw], at .*>>|no :w in the SQL"
        ):
            use()
    for wrong in ("n = ?", "n = ?1", "n = :v AND x = ?"):
        with pytest.raises(sqlstore.QueryError, match=r"write :name, at .*>>\?<<"):
            store.where(wrong, params={"v": 3} if ":v" in wrong else None)
    assert ids(store, "n = :v OR n = @w OR n = $x", v=1, w=2, x=3) == [1, 2, 3]
    with pytest.raises(sqlstore.QueryError, match="no :ascending in the SQL"):
        store.order_by("n", ascending=False)


@given(value=st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary() | st.booleans())
@settings(max_examples=100, deadline=None)
def test_what_is_bound_comes_back_as_it_is(store: sqlstore.Store, value: Any) -> None:
    assert store.sql("SELECT :v AS v", v=value)["v"].to_pylist() == [value]


# What a store sees


def test_newer_commits_are_hidden_from_sql(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with sqlstore.create(path, fields={"f": "bytes"}, metadata={"n": "int8"}) as writer:
        writer.extend([{"n": 0, "f": b"0"}])
        with sqlstore.open(path) as reader:
            writer.extend([{"n": 1, "f": b"1"}])

            def seen() -> list[Any]:
                counts = [
                    reader.sql(f"SELECT count(*) AS n FROM {table}")["n"].to_pylist()[0]
                    for table in ("records", "record_locations")
                ]
                expression = reader.where(reader.c.n == reader.c.n)
                return [
                    *counts,
                    len(reader.where("n = (SELECT max(n) FROM records)")),
                    expression.ids,
                ]

            assert seen()[:3] == [1, 1, 1]
            assert reader.where("n IN (SELECT n FROM records)").ids.tolist() == [0]
            assert len(reader.where(reader.c.n >= 0)) == 1
            reader.refresh()
            assert seen()[:3] == [2, 2, 1]
            assert len(reader.where(reader.c.n >= 0)) == 2


def test_a_query_leaves_nothing_open_that_would_hold_up_a_commit(tmp_path: Path) -> None:
    with sqlstore.create(tmp_path / "s", metadata={"n": "int64"}) as store:
        store.extend({"n": i} for i in range(5000))
        view = store.where("n % 2 = 0").order_by("n DESC")
        walk = iter(view)
        next(walk)
        for number in range(3):
            store.sql("SELECT * FROM records")
            store.where(store.c.n > 3)
            with pytest.raises(sqlstore.QueryError):
                store.sql("SELECT json_extract('{', '$') FROM records")
            assert store.extend([{"n": number}]).tolist() == [5000 + number]
        assert next(walk)["n"] == 4996
