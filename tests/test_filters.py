"""Filters and orders with tables of the user's own, by JSON, of small views; plans; record ids."""

from __future__ import annotations

import datetime as dt
import os
import sqlite3
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Integer, column, exists, func, select, table, text

import sqlstore
from sqlstore.index.engine import Index

N = 200
MAKES = ["canon", "nikon", None]


def record(i: int) -> dict[str, Any]:
    camera = {"iso": i * 10, "make": MAKES[i % 3], "ok": i % 2 == 0}
    return {
        "label": f"l{i % 5}",
        "width": i % 7,
        "height": i,
        "extra": {"camera": camera, "tags": ["a", i]} if i % 4 else None,
        "image": b"%d" % i,
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlstore.Store]:
    metadata = {
        "label": "string",
        "width": sqlstore.Column("int32", index=True),
        "height": "int32",
        "extra": "json",
    }
    path = tmp_path_factory.mktemp("filters") / "store"
    with sqlstore.create(path, fields={"image": "bytes"}, metadata=metadata) as opened:
        opened.extend(record(i) for i in range(N))
        yield opened


def clause(condition: str) -> Any:
    return text(condition)


# Tables of the user's own


class Streamed:
    """What polars and DuckDB give: nothing but an Arrow stream."""

    def __init__(self, inner: pa.Table) -> None:
        self._inner = inner

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._inner.__arrow_c_stream__(requested_schema)


CLIP = {"record": [3, 7, 5, 7], "score": [0.1, 0.95, 0.99, None]}
CLIP_TABLE = pa.table(CLIP)
KINDS = {
    "mapping": CLIP,
    "arrays": {"record": np.array([3, 7, 5, 7], np.uint16), "score": [0.1, 0.95, 0.99, None]},
    "table": CLIP_TABLE,
    "chunks": pa.concat_tables([CLIP_TABLE[:1], CLIP_TABLE[1:]]),
    "batch": CLIP_TABLE.to_batches()[0],
    "reader": None,
    "pandas": pd.DataFrame(CLIP, index=[4, 5, 6, 7]),
    "stream": Streamed(CLIP_TABLE),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_can_ask_a_table_of_ones_own(store: sqlstore.Store, kind: str) -> None:
    def clip() -> dict[str, Any]:
        return {"clip": CLIP_TABLE.to_reader() if kind == "reader" else KINDS[kind]}

    inner = "id IN (SELECT record FROM clip WHERE score > :least)"
    correlated = "EXISTS (SELECT 1 FROM clip WHERE record = records.id AND score > :least)"
    scored = "(SELECT max(score) FROM clip WHERE record = id) DESC, id"
    for condition in (inner, correlated):
        assert store.where(condition, tables=clip(), least=0.9).ids.tolist() == [5, 7]
        view = store.take([7, 3, 5, 5])
        assert view.where(condition, tables=clip(), least=0.9).ids.tolist() == [7, 5, 5]
    assert store.order_by(scored, tables=clip()).ids.tolist()[:4] == [5, 7, 3, 0]
    assert store.take([0, 3, 7]).order_by(scored, tables=clip()).ids.tolist() == [7, 3, 0]
    result = store.sql(
        "SELECT height, score FROM clip JOIN records ON record = id WHERE score > 0 ORDER BY 1",
        tables=clip(),
    )
    assert result.to_pylist() == [
        {"height": 3, "score": 0.1}, {"height": 5, "score": 0.99}, {"height": 7, "score": 0.95},
    ]  # fmt: skip
    assert result.schema.types == [pa.int32(), pa.float64()]


def test_expressions_ask_tables_too(store: sqlstore.Store) -> None:
    clip = table("clip", column("record", Integer), column("score"))
    scored = select(clip.c.record).where(clip.c.score > 0.9)
    matching = exists().where(clip.c.record == store.c.id, clip.c.score > 0.9)
    for criterion in (store.c.id.in_(scored), matching):
        assert store.where(criterion, tables={"clip": CLIP}).ids.tolist() == [5, 7]
    best = select(func.max(clip.c.score)).where(clip.c.record == store.c.id).scalar_subquery()
    order = store.order_by(best.desc(), store.c.height.desc(), tables={"clip": CLIP})
    assert order.ids.tolist()[:4] == [5, 7, 3, 199]


def test_views_and_several_tables_can_be_joined(store: sqlstore.Store) -> None:
    wide = store.where("width = 6").select("label", "height")
    found = store.where(
        "height IN (SELECT height + 1 FROM wide JOIN names USING (label))",
        tables={"wide": wide, "names": {"label": ["l1", "l2"]}},
    )
    expected = [i + 1 for i in range(N - 1) if i % 7 == 6 and i % 5 in (1, 2)]
    assert found.ids.tolist() == expected


TYPED: list[tuple[pa.Array, str, list[Any]]] = [
    (pa.array([True, None]), "a = 1", [True, None]),
    (pa.array([1, None], pa.int8()), "a = 1", [1, None]),
    (pa.array([2**63 - 1], pa.uint64()), "a = 9223372036854775807", [2**63 - 1]),
    (pa.array([1.5, float("nan")], pa.float32()), "a = 1.5", [1.5, None]),
    (pa.array(np.array([1.5], np.float16)), "a = 1.5", [1.5]),
    (pa.array(["ü", None], pa.large_string()), "a = 'ü'", ["ü", None]),
    (pa.array(["x", "y"]).dictionary_encode(), "a = 'x'", ["x", "y"]),
    (pa.array(["x"], pa.string_view()), "a = 'x'", ["x"]),
    (pa.array([b"\xff"]), "a = x'ff'", [b"\xff"]),
    (pa.array([dt.date(1970, 1, 3)]), "a = 2", [dt.date(1970, 1, 3)]),
    (pa.array([dt.date(1970, 1, 3)], pa.date64()), "a = 2", [dt.date(1970, 1, 3)]),
    (pa.array([5], pa.timestamp("ms")), "a = 5000", [dt.datetime(1970, 1, 1, 0, 0, 0, 5000)]),
    (
        pa.array([5], pa.timestamp("s", "Asia/Tokyo")),
        "a = 5000000",
        [dt.datetime(1970, 1, 1, 0, 0, 5, tzinfo=dt.UTC)],
    ),
    (pa.array([[1, 2]]), "a ->> '$[1]' = 2", ["[1,2]"]),
    (pa.array([{"k": "v"}]), "a ->> 'k' = 'v'", ['{"k":"v"}']),
    (pa.nulls(1), "a IS NULL", [None]),
]


@pytest.mark.parametrize(("array", "first", "expected"), TYPED, ids=lambda it: str(it)[:30])
def test_columns_have_the_types_that_metadata_has(
    store: sqlstore.Store, array: pa.Array, first: str, expected: list[Any]
) -> None:
    tables = {"t": pa.table({"a": array})}
    assert store.sql("SELECT a FROM t", tables=tables)["a"].to_pylist() == expected
    counted = store.sql(f"SELECT count(*) AS n FROM t WHERE {first}", tables=tables)
    assert counted["n"].to_pylist() == [1]


BAD_TABLES: list[tuple[Any, str]] = [
    ([CLIP], "tables is a mapping"),
    ({"records": CLIP}, "'records'"),
    ({"Records": CLIP}, "'Records'"),
    ({"record_locations": CLIP}, "'record_locations'"),
    ({"blobs": CLIP}, "'blobs'"),
    ({"sqlite_schema": CLIP}, "'sqlite_schema'"),
    ({"sqlstore_ids": CLIP, "SQLSTORE_IDS": CLIP}, "SQL ignores case"),
    ({"json_each": CLIP}, "'json_each'"),
    ({"Pragma_Table_Info": CLIP}, "'Pragma_Table_Info'"),
    ({"pragma_table_info": CLIP}, "'pragma_table_info'"),
    ({"": CLIP}, "letters, digits"),
    ({"a b": CLIP}, "letters, digits"),
    ({"temp.x": CLIP}, "letters, digits"),
    ({'a"; DROP TABLE x; --': CLIP}, "letters, digits"),
    ({3: CLIP}, "letters, digits"),
    ({"t": 3}, "'t' is a int; give"),
    ({"t": None}, "'t' is a NoneType"),
    ({"t": [1, 2]}, "'t' is a list"),
    ({"t": {}}, "no columns"),
    ({"t": {"a": [1], "A": [2]}}, "'A' of table 't'"),
    ({"t": pa.table([[1], [2]], ["a", "a"])}, "'a' of table 't'"),
    ({"t": {"a": [1], "b": [1, 2]}}, "'t' cannot be read"),
    ({"t": {"a": [1, "x"]}}, "'t' cannot be read"),
    ({"t": {"a": np.zeros((2, 2))}}, "'t' cannot be read"),
    ({"t": {"": [1]}}, "column ''"),
    (
        {"t": {"a": np.array([2**64 - 1], np.uint64)}},
        "column 'a' of table 't': 18446744073709551615 is above",
    ),
    ({"t": {"a": [Decimal("1.5")]}}, "column 'a' of table 't'"),
    ({"t": {"a": pa.array([1], pa.timestamp("ns"))}}, "column 'a' of table 't'"),
    ({"t": {"a": [dt.time(1)]}}, "column 'a' of table 't'"),
]


@pytest.mark.parametrize(("tables", "message"), BAD_TABLES, ids=lambda it: str(it)[:30])
def test_a_table_that_cannot_be_used_is_refused(
    store: sqlstore.Store, tables: Any, message: str
) -> None:
    for use in (
        lambda: store.where("1", tables=tables),
        lambda: store.explain("1", tables=tables),
        lambda: store.order_by("1", tables=tables),
        lambda: store.sql("SELECT 1", tables=tables),
    ):
        with pytest.raises(sqlstore.QueryError) as raised:
            use()
        assert message in str(raised.value)
    assert len(store.where("1")) == N


def test_a_column_may_have_any_name(store: sqlstore.Store) -> None:
    tables = {"t": {'a "b"': [1], "select": [2], "rowid": [3]}}
    result = store.sql('SELECT "a ""b""", "select", rowid FROM t', tables=tables)
    assert result.to_pylist() == [{'a "b"': 1, "select": 2, "rowid": 3}]


def test_a_table_is_gone_after_its_query(store: sqlstore.Store) -> None:
    asks = "id IN (SELECT record FROM clip)"
    failing = "id IN (SELECT json(record || '{') FROM clip)"
    for condition in (asks, failing, "widht = 3"):
        try:
            store.where(condition, tables={"clip": CLIP})
        except sqlstore.QueryError:
            assert condition != asks
        with pytest.raises(sqlstore.QueryError, match="no such table: clip"):
            store.where(asks)
        listed = store.sql("SELECT name FROM sqlite_temp_schema ORDER BY name")
        assert listed["name"].to_pylist() == ["record_locations", "records"]
    assert store.where(asks, tables={"clip": {"record": [1]}}).ids.tolist() == [1]


def test_threads_do_not_see_each_others_tables(store: sqlstore.Store) -> None:
    found: dict[int, list[list[int]]] = {}

    def ask(number: int) -> None:
        tables = {"mine": {"record": list(range(number, N, 8))}}
        found[number] = [
            store.where("id IN (SELECT record FROM mine)", tables=tables).ids.tolist()
            for _ in range(10)
        ]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [list(range(number, N, 8))] * 10 for number in range(8)}


def test_tables_work_in_a_forked_child_and_on_a_new_connection(store: sqlstore.Store) -> None:
    asks = "id IN (SELECT record FROM clip WHERE score > 0.9)"
    assert len(store.where(asks, tables={"clip": CLIP})) == 2
    child = os.fork()
    if not child:
        right = False
        try:
            right = store.where(asks, tables={"clip": CLIP}).ids.tolist() == [5, 7]
        finally:
            os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    index: Index = store._source.finder._index
    index.reopen()
    assert store.where(asks, tables={"clip": CLIP}).ids.tolist() == [5, 7]
    assert not index.connection.in_transaction


def test_writers_can_commit_between_queries_with_tables(tmp_path: Path) -> None:
    with sqlstore.create(tmp_path / "s", metadata={"n": "int8"}) as store:
        for i in range(3):
            store.extend([{"n": i}])
            found = store.where("n IN (SELECT a FROM t)", tables={"t": {"a": [0, 2]}})
            assert found.ids.tolist() == [0, 2][: 1 + i // 2]


def test_a_table_that_is_searched_for_every_record_gets_an_index(store: sqlstore.Store) -> None:
    count = 30_000  # by scans, this would be a search through 6 million rows, each time
    clip = {"record": np.arange(count), "score": np.ones(count)}
    correlated = "EXISTS (SELECT 1 FROM clip WHERE record = records.id + 1 AND score > 0)"
    plan = store.explain(correlated, tables={"clip": clip})
    assert "SEARCH clip USING INDEX" in plan.plan
    assert "clip" not in plan.scans
    assert len(store.where(correlated, tables={"clip": clip})) == N


# Plans


@pytest.mark.parametrize(
    ("condition", "indices", "scans", "suggestions"),
    [
        ("width = 3", ("width",), (), ()),
        ("width > :w AND label = 'x'", ("width",), (), ()),
        ("id = 3", ("id",), (), ()),
        ("height = 3", (), ("records",), ("height",)),
        ("height BETWEEN 3 AND :w", (), ("records",), ("height",)),
        ("label = 'x' AND height > 3", (), ("records",), ("label",)),
        ("label = 'x' OR height = 3", (), ("records",), ("label", "height")),
        ("width = 3 OR height = 3", (), ("records",), ("height",)),
        ("label LIKE '%x'", (), ("records",), ()),
        ("height + 1 = 3", (), ("records",), ()),
        ("extra ->> 'a' = 3", (), ("records",), ()),
        ("id IN (SELECT a FROM t)", ("id",), ("t",), ()),
        ("height IN (SELECT a FROM t)", (), ("records", "t"), ("height",)),
    ],
)
def test_a_plan_says_which_index_is_used_or_would_be(
    store: sqlstore.Store,
    condition: str,
    indices: tuple[str, ...],
    scans: tuple[str, ...],
    suggestions: tuple[str, ...],
) -> None:
    bound = {"w": 3} if ":w" in condition else {}
    plan = store.explain(condition, params=bound, tables={"t": {"a": [1]}})

    assert isinstance(plan, sqlstore.Plan)
    assert (plan.indices, plan.scans, plan.suggestions) == (indices, scans, suggestions)
    assert plan.uses_index == ("records" not in scans)
    assert all(f"store.create_index({name!r})" in str(plan) for name in suggestions)
    assert ("every record is looked at" in str(plan)) == ("records" in scans)
    assert all(f"uses the index on {name}" in str(plan) for name in indices)


def test_expressions_have_plans_too(store: sqlstore.Store) -> None:
    assert store.explain(store.c.width > 3).indices == ("width",)
    assert store.explain(store.c.height > 3, store.c.label == "x").suggestions == ("label",)
    assert store.explain(clause("id > 3")).indices == ("id",)
    with pytest.raises(sqlstore.QueryError, match="no such column"):
        store.explain("widht = 3")
    with pytest.raises(sqlstore.QueryError, match="expected one SQL text"):
        store.explain()


def test_what_a_plan_suggests_is_what_sqlite_then_does(tmp_path: Path) -> None:
    with sqlstore.create(tmp_path / "s", metadata={"a": "int8", "b": "string"}) as store:
        store.extend([{"a": 1}])
        (name,) = store.explain("b = 'x' AND a > 0").suggestions
        with sqlite3.connect(store.path / "index.sqlite") as index:
            index.execute(f"CREATE INDEX mine ON records ({name})")
        index.close()
    with sqlstore.open(tmp_path / "s") as store:
        assert store.explain("b = 'x' AND a > 0").indices == (name,)


# JSON


def test_parts_of_json_are_compared_in_text_and_in_expressions(store: sqlstore.Store) -> None:
    extra = store.c.extra
    there = [i for i in range(N) if i % 4]
    cases: list[tuple[str, Any, list[int]]] = [
        (
            "extra ->> '$.camera.iso' > 1900",
            extra["camera"]["iso"].as_integer() > 1900,
            [i for i in there if i > 190],
        ),
        (
            "extra ->> '$.camera.iso' BETWEEN 90 AND 110",
            extra["camera", "iso"].between(90, 110),
            [9, 10, 11],
        ),
        (
            "extra ->> '$.camera.make' = 'canon'",
            extra["camera"]["make"] == "canon",
            [i for i in there if i % 3 == 0],
        ),
        (
            "extra ->> '$.camera.make' LIKE 'nik%'",
            extra["camera"]["make"].as_string().like("nik%"),
            [i for i in there if i % 3 == 1],
        ),
        (
            "extra ->> '$.camera.make' IS NULL",
            extra["camera"]["make"].is_(None),
            [i for i in range(N) if i % 3 == 2 or i % 4 == 0],
        ),
        (
            "extra ->> '$.camera.ok'",
            extra["camera"]["ok"].as_boolean(),
            [i for i in there if i % 2 == 0],
        ),
        ("extra ->> '$.tags[1]' = 5", extra["tags"][1] == 5, [5]),
        ("extra ->> '$.tags[#-1]' = 5", extra["tags"][-1].as_float() == 5.0, [5]),
        ("extra IS NULL", extra.is_(None), [i for i in range(N) if i % 4 == 0]),
        ("extra ->> '$.camera.iso' / 10 = 7", func.json_extract(extra, "$.camera.iso") == 70, [7]),
    ]
    for condition, expression, expected in cases:
        assert store.where(condition).ids.tolist() == expected, condition
        assert store.where(expression).ids.tolist() == expected, condition
    newest = store.order_by(extra["camera"]["iso"].as_integer().desc())
    assert newest.ids.tolist()[:3] == [199, 198, 197]
    for key in ('a"b', 1.5, None, True):
        with pytest.raises(sqlstore.QueryError, match="no place in JSON"):
            _ = extra[key]


def test_lists_and_mappings_are_bound_where_json_stands(store: sqlstore.Store) -> None:
    whole, camera = record(5)["extra"], record(5)["extra"]["camera"]
    chosen = [3, 8, 199]
    for condition, value, expected in (
        ("extra = :v", whole, [5]),
        (":v = extra", whole, [5]),
        ('"extra" IS :v', whole, [5]),
        ("json_extract(extra, '$.camera') = json(:v)", camera, [5]),
        ("height IN (SELECT value FROM json_each(:v))", chosen, chosen),
        ("height IN (SELECT value FROM json_each(:v))", np.array(chosen), chosen),
        ("label IN (SELECT value FROM json_each(:v)) AND height < 5", ("l1", "l3"), [1, 3]),
        ("extra ->> '$.tags' = json(:v)", ["a", 6], [6]),
    ):
        assert store.where(condition, v=value).ids.tolist() == expected, condition
    assert store.where(store.c.extra == whole).ids.tolist() == [5]
    assert store.where(store.c.extra["camera"] == camera).ids.tolist() == [5]
    assert store.where(store.c.extra["tags"].in_([["a", 6], ["a", 7]])).ids.tolist() == [6, 7]
    for condition in ("height = :v", "label IN (:v)", "extra = :v OR height = :v", "length(:v)"):
        with pytest.raises(sqlstore.QueryError, match=r"cannot bind a list.*json_each"):
            store.where(condition, v=[1])
    with pytest.raises(sqlstore.QueryError, match="cannot bind this list as JSON"):
        store.where("height IN (SELECT value FROM json_each(:v))", v=[object()])


# Small views

TERMS = ["label", "width DESC", "height % 3", "(SELECT max(height) FROM records) - height"]


@given(
    ids=st.lists(st.integers(0, N - 1), max_size=30),
    terms=st.lists(st.sampled_from(TERMS), min_size=1, max_size=3),
    condition=st.sampled_from(
        ["width > 3", "label = 'l1' OR height < 9", "height = (SELECT max(height) FROM records)"]
    ),
)
@settings(max_examples=100, deadline=None)
def test_small_views_are_filtered_and_ordered_as_the_whole_store_is(
    store: sqlstore.Store, ids: list[int], terms: list[str], condition: str
) -> None:
    order = ", ".join(terms)
    ranked = store.sql(f"SELECT id, dense_rank() OVER (ORDER BY {order}) AS rank FROM records")
    rank = dict(zip(*(ranked[name].to_pylist() for name in ("id", "rank")), strict=True))
    matching = set(store.where(condition).ids.tolist())
    view = store.take(ids)

    assert view.order_by(order).ids.tolist() == sorted(ids, key=rank.__getitem__)
    assert view.order_by(clause(order)).ids.tolist() == sorted(ids, key=rank.__getitem__)
    assert view.where(condition).ids.tolist() == [i for i in ids if i in matching]
    assert view.where(clause(condition)).ids.tolist() == [i for i in ids if i in matching]
    few = view.limit(N // 32)
    assert few.where(condition).ids.tolist() == [i for i in few.ids if i in matching]


def test_a_small_view_is_not_looked_for_in_the_whole_store(store: sqlstore.Store) -> None:
    few = store.take([5, 1, 1])
    assert few.explain("height > 3").indices == ("id",)
    assert few.explain(store.c.height > 3).indices == ("id",)
    assert few[:0].where("height > 3").ids.tolist() == []
    with pytest.raises(sqlstore.QueryError, match="no such column"):
        few[:0].where("widht > 3")
    with pytest.raises(sqlstore.QueryError, match="computed over all"):
        few.order_by("count(*)")


# Record ids


def test_a_view_shows_record_ids_where_they_are_asked_for(store: sqlstore.Store) -> None:
    view = store.take([5, 3, 3]).select("id", "label")
    expected = [{"id": i, "label": f"l{i % 5}"} for i in (5, 3, 3)]

    assert view[0] == expected[0]
    assert view.fetch([0, 1, 2]) == list(view) == expected
    assert view.to_arrow().to_pylist() == expected
    assert "id, label" in repr(view)
    assert store.select("id")[7] == {"id": 7}
    assert store.select("id").fetch([7, 8]) == [{"id": 7}, {"id": 8}]
    assert store.select("label").select("id", "label")[4] == {"id": 4, "label": "l4"}
    assert view.select("label")[0] == {"label": "l0"}
    assert "id" not in store[5]


def test_a_mask_may_name_the_record_id(store: sqlstore.Store) -> None:
    view = store.take([5, 3]).select("label")

    assert view.read(1, {"id": True, "label": True}) == {"id": 3, "label": "l3"}
    assert view.read(1, {"label": True, "id": False}) == {"label": "l3"}
    with pytest.raises(sqlstore.SchemaError, match="no items"):
        view.read(0, {"id": [1]})
