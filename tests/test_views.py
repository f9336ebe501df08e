"""Views: which records are chosen, in which order, and what is read of them."""

from __future__ import annotations

import datetime as dt
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import and_, func, or_

import sqlstore

LABELS = ["owl", "wren", "Owl", "", "owl's", None]
METADATA = {
    "label": "string",
    "width": "int32",
    "weight": "float64",
    "flag": "bool",
    "day": "date32",
}
DAY = dt.date(2020, 1, 1)


def example(i: int) -> dict[str, Any]:
    """Return a record that differs from its neighbours, with nulls and ties in every column."""
    return {
        "data": None if i % 7 == 3 else b"%d" % i * (i % 4),
        "array": None if i % 5 == 1 else np.full((2, i % 3), i, np.int16),
        "label": LABELS[i % len(LABELS)],
        "width": None if i % 6 == 5 else i * 7 % 11 - 5,
        "weight": [0.5, math.nan, -1e300, math.inf, None, 2.0][i * 5 % 6],
        "flag": [True, None, False][i % 3],
        "day": None if i % 4 == 2 else DAY + dt.timedelta(days=i % 5),
    }


RECORDS = [example(i) for i in range(40)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlstore.Store]:
    path = tmp_path_factory.mktemp("views") / "birds"
    fields = {"data": "bytes", "array": "array"}
    with sqlstore.create(path, fields=fields, metadata=METADATA) as opened:
        with opened.writer(commit_records=9) as writer:
            writer.extend(RECORDS)
        yield opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


def simple(path: Path, count: int) -> sqlstore.Store:
    store = sqlstore.create(path, fields={"f": "bytes"}, metadata={"n": "int64"})
    store.extend({"n": i, "f": b"%d" % i} for i in range(count))
    return store


def same(found: dict[str, Any], given_: dict[str, Any]) -> bool:
    return list(found) == list(given_) and all(
        np.array_equal(value, given_[name])
        if isinstance(value, np.ndarray)
        else repr(value) == repr(given_[name])
        for name, value in found.items()
    )


# One record, some records


@pytest.mark.parametrize("position", [0, 1, 39, -1, -40, 9, 8])
@pytest.mark.parametrize("kind", [int, np.int8, np.uint16, np.int64])
def test_an_integer_gives_a_record(
    store: sqlstore.Store, position: int, kind: Callable[[int], Any]
) -> None:
    if position < 0 and kind is np.uint16:
        position += 40
    assert same(store[kind(position)], RECORDS[position])
    assert same(store[10:][kind(position % 30)], RECORDS[10 + position % 30])


@pytest.mark.parametrize("position", [40, -41, 2**31, 2**70, -(2**70)])
def test_a_position_outside_is_an_index_error(store: sqlstore.Store, position: int) -> None:
    with pytest.raises(IndexError, match="40 records"):
        store[position]
    with pytest.raises(IndexError):
        store[[0, position]]
    with pytest.raises(IndexError):
        store.take([position])
    with pytest.raises(IndexError):
        store.raw(position, "data")


def test_a_position_beyond_every_integer_is_an_index_error(store: sqlstore.Store) -> None:
    keys: list[Any] = [np.array([2**64 - 1], np.uint64), [2**64 - 1], [0, 2**63]]
    for key in keys:
        with pytest.raises(IndexError):
            store[key]
        with pytest.raises(IndexError):
            store.take(key)


@pytest.mark.parametrize("key", [True, False, np.True_, "label", "0"])
def test_what_is_no_position_is_a_type_error(store: sqlstore.Store, key: Any) -> None:
    with pytest.raises(TypeError, match="position"):
        store[key]


@pytest.mark.parametrize(
    "key",
    [1.0, [1.0], np.zeros(3), ["a"], [None], [[1]], np.zeros((0, 2), int), None, ..., {1}, [True],
     np.zeros(39, bool), np.zeros(0, bool), np.zeros((40, 1), bool)],
    ids=repr,
)  # fmt: skip
def test_what_is_no_list_of_positions_is_an_index_error(store: sqlstore.Store, key: Any) -> None:
    with pytest.raises(IndexError):
        store[key]
    with pytest.raises(IndexError):
        store.take(key)


SLICES = st.builds(
    slice,
    st.none() | st.integers(-50, 50),
    st.none() | st.integers(-50, 50),
    st.none() | st.sampled_from([1, 2, 3, -1, -2, 50, -50]),
)


@given(key=SLICES, again=SLICES)
@settings(max_examples=100, deadline=None)
def test_a_slice_is_that_of_a_list(store: sqlstore.Store, key: slice, again: slice) -> None:
    ids = list(range(40))

    assert store[key].ids.tolist() == ids[key]
    assert store[key][again].ids.tolist() == ids[key][again]
    assert len(store[key][again]) == len(ids[key][again])


@pytest.mark.parametrize(
    "key",
    [
        [3, 1, 1], (3, 1), [-1, 0], np.array([3, 1, 1]), np.array([3, -1], np.int8), range(3, 9, 2),
        np.array([5], np.uint64), pd.Series([7, 8], index=[5, 6]), pa.array([2, 4]), [], (),
        np.zeros(0), np.array([], np.int64), [np.int64(4), 5],
    ],
    ids=lambda key: type(key).__name__,
)  # fmt: skip
def test_positions_give_a_view_in_their_order(store: sqlstore.Store, key: Any) -> None:
    expected = np.arange(40)[np.asarray(key, np.int64)].tolist()

    assert store[key].ids.tolist() == expected
    assert store.take(key).ids.tolist() == expected
    found = store.fetch(key)
    assert len(found) == len(expected)
    assert all(same(one, RECORDS[i]) for one, i in zip(found, expected, strict=True))


def test_a_mask_gives_the_records_it_holds_for(store: sqlstore.Store) -> None:
    mask = np.arange(40) % 3 == 0
    for key in (mask, mask.tolist(), pd.Series(mask), pa.array(mask)):
        assert store[key].ids.tolist() == list(range(0, 40, 3))
    nothing = store.take(np.zeros(40, bool))
    assert (len(nothing), list(nothing)) == (0, [])
    assert nothing.take(np.zeros(0, bool)).ids.tolist() == []


def test_a_view_is_a_sequence_of_records(store: sqlstore.Store) -> None:
    view = store[5:12]

    assert len(view) == 7
    assert all(same(*pair) for pair in zip(view, RECORDS[5:12], strict=True))
    assert all(same(*pair) for pair in zip(store, RECORDS, strict=True))
    assert sum(1 for _ in store.take([7] * 50)) == 50
    one, other = iter(view), iter(view)
    assert same(next(one), next(other))


def test_ids_cannot_be_changed(store: sqlstore.Store) -> None:
    for view in (store, store[3:5], store[[3, 1]], store.where("width > 0")):
        assert view.ids.dtype == np.int64
        with pytest.raises(ValueError, match="read-only"):
            view.ids[0] = 1


# By id and by key


@pytest.mark.parametrize("kind", [int, np.int32, np.uint64])
def test_get_takes_a_permanent_id(store: sqlstore.Store, kind: Callable[[int], Any]) -> None:
    for record in (0, 8, 9, 39):
        assert same(store.get(kind(record)), RECORDS[record])


@pytest.mark.parametrize("record", [-1, 40, 2**63, 2**70])
def test_an_id_that_is_not_there_is_record_not_found(store: sqlstore.Store, record: int) -> None:
    with pytest.raises(sqlstore.RecordNotFoundError) as caught:
        store.get(record)
    assert caught.value.where == {"record": record}
    assert isinstance(caught.value, LookupError)


@pytest.mark.parametrize("wrong", [1.5, np.float64(1), "1", True, [1], np.array([1])])
def test_an_id_is_an_integer(store: sqlstore.Store, wrong: Any) -> None:
    with pytest.raises(TypeError):
        store.get(wrong)


def test_get_takes_an_id_or_a_key(store: sqlstore.Store) -> None:
    both: dict[str, Any] = {"key": "a"}
    uses: list[Callable[[], object]] = [
        lambda: store.get(),
        lambda: store.get(1, **both),
        lambda: store.get(key=None),
    ]
    for use in uses:
        with pytest.raises(TypeError, match="either a record id or key="):
            use()


def test_get_by_key(path: Path) -> None:
    with sqlstore.create(path, metadata={"k": "date32", "n": "int8"}, key="k") as store:
        store.extend({"k": DAY + dt.timedelta(days=i), "n": i} for i in range(3))

        assert store.get(key=dt.date(2020, 1, 2)) == {"k": dt.date(2020, 1, 2), "n": 1}
        with pytest.raises(sqlstore.RecordNotFoundError, match="no record has the key"):
            store.get(key=dt.date(2021, 1, 2))
        for wrong in (5, "2020-01-02", dt.datetime(2020, 1, 2)):
            with pytest.raises(sqlstore.QueryError, match="cannot be a key") as caught:
                store.get(key=wrong)
            assert caught.value.where == {"column": "k"}


def test_a_store_without_key_says_so(store: sqlstore.Store) -> None:
    with pytest.raises(sqlstore.QueryError, match="has no key"):
        store.get(key="owl")


# What is read


def test_select_reads_only_what_was_named(store: sqlstore.Store) -> None:
    view = store.select("width", "data")

    assert set(view[3]) == {"width", "data"}
    assert view[4]["data"] == RECORDS[4]["data"]
    assert view.to_arrow().column_names == ["id", "width"]
    assert list(view[:2].where("label = 'owl'")) == [{name: RECORDS[0][name] for name in view[0]}]
    assert store.select()[3] == {}
    assert view.select("data")[4] == {"data": RECORDS[4]["data"]}
    for wrong in ("label", "x"):
        with pytest.raises(sqlstore.UnknownNameError, match=wrong):
            view.select("width", wrong)


def test_raw_gives_the_bytes_of_the_encoding(store: sqlstore.Store) -> None:
    assert store.raw(5, "data") == RECORDS[5]["data"]
    assert store.raw(3, "data") is None
    assert store.raw(np.int64(-40), "data") == b""
    encoded = store[7:].raw(0, "array")
    assert encoded is not None
    assert encoded.endswith(RECORDS[7]["array"].tobytes())
    for wrong in ("label", "x"):
        with pytest.raises(sqlstore.UnknownNameError):
            store.raw(0, wrong)


def test_fetch_keeps_order_and_repeats(store: sqlstore.Store) -> None:
    found = store[10:].select("width").fetch([5, 1, 1, -1])

    assert [one["width"] for one in found] == [RECORDS[i]["width"] for i in (15, 11, 11, 39)]
    assert store.fetch([]) == []


def test_metadata_as_arrow(store: sqlstore.Store) -> None:
    types = [pa.int64(), pa.string(), pa.int32(), pa.float64(), pa.bool_(), pa.date32()]
    for view, ids in (
        (store, range(40)),
        (store[7:20], range(7, 20)),
        (store[::-1], range(39, -1, -1)),
        (store[[30, 2, 2]], [30, 2, 2]),
        (store[[]], []),
        (store[20:7], []),
    ):
        table = view.to_arrow()
        assert table.schema == view.arrow_schema
        assert table.schema.types == types
        assert table.column_names == ["id", *METADATA]
        expected = [{"id": i, **{name: RECORDS[i][name] for name in METADATA}} for i in ids]
        assert list(map(repr, table.to_pylist())) == list(map(repr, expected))


def test_a_view_is_an_arrow_stream(store: sqlstore.Store) -> None:
    view = store.where("width > 0").select("width")

    assert pa.table(view) == view.to_arrow()
    assert pa.table(store[5:5]).num_rows == 0
    assert pa.RecordBatchReader.from_stream(view).read_all() == view.to_arrow()


def test_metadata_as_a_data_frame(store: sqlstore.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = store[5:9].to_pandas()

    assert list(frame.columns) == ["id", *METADATA]
    assert frame["id"].tolist() == [5, 6, 7, 8]
    assert frame["day"].tolist() == [RECORDS[i]["day"] for i in range(5, 9)]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(sqlstore.MissingPackageError, match=r"pip install 'sqlstore\[pandas\]'"):
        store.to_pandas()


def test_a_person_sees_what_it_is(store: sqlstore.Store) -> None:
    assert repr(store) == f"<sqlstore.Store {str(store.path)!r}: 40 records>"
    view = store[:3].select("data", "width")
    assert repr(view) == "<sqlstore.View of 3 records of birds: data, width>"
    assert isinstance(store, sqlstore.View)
    age = dt.datetime.now(dt.UTC) - store.created
    assert dt.timedelta(0) < age < dt.timedelta(days=1)


# Which records


def test_where_takes_text_with_bound_values(store: sqlstore.Store) -> None:
    def ids(*args: Any, **bound: Any) -> list[int]:
        return list(store.where(*args, **bound).ids)

    owls = [i for i, one in enumerate(RECORDS) if one["label"] == "owl"]
    assert ids("label = 'owl'") == owls
    assert ids("label = :label", label="owl") == owls
    assert ids("label = :label", params={"label": "owl"}) == owls
    assert ids("label = :label AND id < :n", params={"label": "owl"}, n=8) == [0, 6]
    assert ids("label = :params", params={"params": "owl"}) == owls
    assert ids("id IN (3, 2, 99)") == [2, 3]
    assert ids("0") == []
    assert ids("NULL") == []
    assert ids("1") == list(range(40))


def test_where_takes_expressions(store: sqlstore.Store) -> None:
    c = store.c
    owls = store.where("label = 'owl'").ids.tolist()

    assert store.where(c.label == "owl").ids.tolist() == owls
    assert store.where(c["label"] == "owl", c.id < 8).ids.tolist() == [0, 6]
    assert store.where(and_(c.label == "owl", c.id < 8)).ids.tolist() == [0, 6]
    assert store.where(or_(c.id == 3, c.id == 1)).ids.tolist() == [1, 3]
    assert store.where(c.id.in_([5, 2])).ids.tolist() == [2, 5]
    assert (
        store.where(c.label.like("OW_")).ids.tolist()
        == store.where("label LIKE 'ow_'").ids.tolist()
    )
    assert store.where(func.length(c.label) == 4).ids.tolist() == owls_and_wrens()
    assert store.where(c.width.is_(None)).ids.tolist() == list(range(5, 40, 6))
    assert store.where(~c.flag).ids.tolist() == list(range(2, 40, 3))
    assert store.where(c.width + 1 == 3, c.width * 2 < 5).ids.tolist() == with_width(2)
    assert store.where(c.label + "s" == "owls").ids.tolist() == owls
    with pytest.raises(AttributeError):
        _ = c.nothing


def owls_and_wrens() -> list[int]:
    return [i for i, one in enumerate(RECORDS) if one["label"] == "wren"]


def with_width(width: int) -> list[int]:
    return [i for i, one in enumerate(RECORDS) if one["width"] == width]


def test_where_keeps_order_and_repeats(store: sqlstore.Store) -> None:
    view = store.take([9, 3, 9, 0, 12, 3])

    assert view.where("id <> 0").ids.tolist() == [9, 3, 9, 12, 3]
    assert view.where(store.c.id == 9).ids.tolist() == [9, 9]
    assert store[::-1].where("id < 3").ids.tolist() == [2, 1, 0]
    assert store[10:20].where("id < 12 OR id > 30").ids.tolist() == [10, 11]
    assert store[20:10].where("1").ids.tolist() == []


def test_order_by_is_stable(store: sqlstore.Store) -> None:
    shuffled = np.random.default_rng(0).permutation(40)
    view = store.take(shuffled)
    by_flag = view.order_by("flag").ids.tolist()

    assert by_flag == sorted(shuffled.tolist(), key=lambda i: (2, 0, 1)[i % 3])
    assert view.order_by("1").ids.tolist() == shuffled.tolist()
    assert view.order_by("id").order_by("NULL").ids.tolist() == list(range(40))


def test_order_by_takes_text_or_expressions(store: sqlstore.Store) -> None:
    expected = sorted(
        range(40),
        key=lambda i: ((RECORDS[i]["label"] is not None, RECORDS[i]["label"] or ""), -i),
    )
    assert store.order_by("label, id DESC").ids.tolist() == expected
    assert store.order_by(store.c.label, store.c.id.desc()).ids.tolist() == expected
    assert store.order_by("id = :first DESC", first=7).ids.tolist()[:3] == [7, 0, 1]
    assert store.order_by("id = :n DESC", params={"n": 7}).ids.tolist()[0] == 7
    assert store.order_by("abs(id - 5), id").ids.tolist()[:3] == [5, 4, 6]
    nulls = len([one for one in RECORDS if one["width"] is None])
    last = store.order_by("width NULLS LAST").ids.tolist()[-nulls:]
    assert last == store.where("width IS NULL").ids.tolist()
    case = store.order_by("label COLLATE NOCASE").select("label")
    assert [one["label"] for one in case if one["label"]][:14] == [
        RECORDS[i]["label"] for i in range(40) if (RECORDS[i]["label"] or "").lower() == "owl"
    ]


@pytest.mark.parametrize("aggregate", ["count(*)", "max(width)", "group_concat(label)", "sum(id)"])
def test_an_order_by_something_over_all_records_is_refused(
    store: sqlstore.Store, aggregate: str
) -> None:
    with pytest.raises(sqlstore.QueryError):
        store.order_by(aggregate)


def test_limit(store: sqlstore.Store) -> None:
    two: Any = np.int64(2)
    assert store.limit(3).ids.tolist() == [0, 1, 2]
    assert store[[5, 4, 3]].limit(two).ids.tolist() == [5, 4]
    assert store.limit(0).ids.tolist() == []
    assert len(store.limit(1000)) == 40
    with pytest.raises(ValueError, match="-1"):
        store.limit(-1)
    wrong: Any = 1.5
    with pytest.raises(TypeError):
        store.limit(wrong)


@pytest.mark.parametrize("method", ["where", "order_by"])
def test_criteria_are_one_text_or_expressions(store: sqlstore.Store, method: str) -> None:
    use: Callable[..., Any] = getattr(store, method)
    for wrong in ((), ("id", "width"), ("id", store.c.id), (store.c.id, "id")):
        with pytest.raises(sqlstore.QueryError, match="one SQL text, or one or more"):
            use(*wrong)
    with pytest.raises(sqlstore.QueryError, match="to expressions: x"):
        use(store.c.id == 1, x=1)
    # A bool is what `store.c.label is None` is in Python: meant was something else.
    for no_criterion in (5, b"id", None, True, False, object(), ["id"], store.c):
        with pytest.raises((sqlstore.QueryError, TypeError)):
            use(no_criterion)


def test_views_do_not_change_what_they_come_from(store: sqlstore.Store) -> None:
    view = store[[9, 3, 5]]
    makes: list[Callable[[], sqlstore.View]] = [
        lambda: view.where("id = 3"),
        lambda: view.order_by("id"),
        lambda: view.limit(1),
        lambda: view[::-1],
        lambda: view.select("width"),
        lambda: view.take([0, 0]),
    ]
    for make in makes:
        assert make() is not view
        assert view.ids.tolist() == [9, 3, 5]
        assert list(view[0]) == list(RECORDS[0])


def test_what_a_view_was_made_of_may_change(store: sqlstore.Store) -> None:
    positions, mask = np.array([3, 1]), np.zeros(40, bool)
    by_position, by_mask = store.take(positions), store.take(mask)
    positions[:] = 0
    mask[:] = True

    assert by_position.ids.tolist() == [3, 1]
    assert by_mask.ids.tolist() == []


# Random programs, against lists of dicts


def stored(value: Any) -> Any:
    """Return a value as SQL sees it."""
    return None if isinstance(value, float) and math.isnan(value) else value


@dataclass(frozen=True)
class Condition:
    """A condition in SQL, as an expression and in Python."""

    text: str
    bound: dict[str, Any]
    expression: Callable[[Any], Any]
    holds: Callable[[dict[str, Any]], bool]


def compared(name: str, operator: str, value: Any) -> Condition:
    def holds(record: dict[str, Any]) -> bool:
        left, right = stored(record[name]), stored(value)
        if left is None or right is None:
            return False
        return bool({"=": left == right, "<": left < right, ">=": left >= right}[operator])

    def expression(c: Any) -> Any:
        return {"=": c[name].__eq__, "<": c[name].__lt__, ">=": c[name].__ge__}[operator](value)

    return Condition(f'"{name}" {operator} :value', {"value": value}, expression, holds)


def is_null(name: str) -> Condition:
    return Condition(
        f"{name} IS NULL", {}, lambda c: c[name].is_(None), lambda r: stored(r[name]) is None
    )


CONDITIONS = st.one_of(
    st.sampled_from(list(METADATA)).map(is_null),
    st.builds(
        lambda pair, operator: compared(pair[0], operator, pair[1]),
        st.one_of(
            st.tuples(
                st.just("label"), st.sampled_from([one for one in LABELS if one is not None])
            ),
            st.tuples(st.just("width"), st.integers(-6, 6)),
            st.tuples(st.just("weight"), st.sampled_from([0.5, -1e300, math.inf, 1])),
            st.tuples(st.just("flag"), st.booleans()),
            st.tuples(st.just("day"), st.dates(DAY, DAY + dt.timedelta(days=5))),
            st.tuples(st.just("id"), st.integers(0, 40)),
        ),
        st.sampled_from(["=", "<", ">="]),
    ),
)
TERMS = st.lists(
    st.tuples(st.sampled_from(["id", *METADATA]), st.booleans()), min_size=1, max_size=3
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("where"), CONDITIONS, st.booleans()),
        st.tuples(st.just("order"), TERMS, st.booleans()),
        st.tuples(st.just("limit"), st.integers(0, 45)),
        st.tuples(st.just("slice"), SLICES),
        st.tuples(st.just("take"), st.lists(st.integers(-1000, 1000), max_size=12)),
        st.tuples(st.just("mask"), st.integers(0, 2**32)),
    ),
    max_size=6,
)
Rows = list[dict[str, Any]]


def run(step: Any, view: sqlstore.View, model: Rows, c: Any) -> tuple[sqlstore.View, Rows]:
    """Return what one step of a program makes of a view, and of a list of records."""
    what, how = step[0], step[1]
    if what == "where":
        condition: Condition = how
        kept = [one for one in model if condition.holds(one)]
        if step[2]:
            return view.where(condition.expression(c)), kept
        return view.where(condition.text, params=condition.bound), kept
    if what == "order":
        for name, down in reversed(how):
            key = by(name)
            model = sorted(model, key=key, reverse=down)
        if step[2]:
            return view.order_by(*(c[n].desc() if down else c[n] for n, down in how)), model
        return view.order_by(", ".join(f"{n} {'DESC' if d else 'ASC'}" for n, d in how)), model
    if what == "limit":
        return view.limit(how), model[:how]
    if what == "slice":
        return view[how], model[how]
    if what == "take":
        count = len(model)
        positions = [one % (2 * count) - count for one in how] if count else []
        return view.take(positions), [model[one] for one in positions]
    mask = np.random.default_rng(how).random(len(model)) < 0.7
    return view.take(mask), [one for one, chosen in zip(model, mask, strict=True) if chosen]


def by(name: str) -> Callable[[dict[str, Any]], Any]:
    """Return the key by which SQLite sorts: NULL comes first."""

    def key(record: dict[str, Any]) -> tuple[Any, ...]:
        value = stored(record[name])
        return (0,) if value is None else (1, value)

    return key


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
@given(steps=STEPS)
def test_a_program_gives_what_it_gives_on_a_list(store: sqlstore.Store, steps: list[Any]) -> None:
    view: sqlstore.View = store
    model = [{"id": i, **one} for i, one in enumerate(RECORDS)]
    for step in steps:
        view, model = run(step, view, model, store.c)
        assert view.ids.tolist() == [one["id"] for one in model], step

    found = list(view)
    assert len(found) == len(model)
    assert all(same({"id": one["id"], **read}, one) for read, one in zip(found, model, strict=True))
    columns = ["id", *METADATA]
    expected = [{name: one[name] for name in columns} for one in model]
    assert list(map(repr, view.to_arrow().to_pylist())) == list(map(repr, expected))


# What a store sees


def test_a_store_sees_the_commit_it_was_opened_at_until_it_is_refreshed(path: Path) -> None:
    with simple(path, 3) as writer, sqlstore.open(path) as reader:
        view = reader.where("n >= 1")
        writer.extend([{"n": 3, "f": b"3"}])

        assert (len(writer), len(reader)) == (4, 3)
        assert reader.where("n >= 1").ids.tolist() == [1, 2]
        assert reader.where(reader.c.n >= 1).ids.tolist() == [1, 2]
        assert reader.order_by("n DESC").ids.tolist() == [2, 1, 0]
        assert reader.to_arrow().num_rows == 3
        assert reader[-1]["n"] == 2
        with pytest.raises(sqlstore.RecordNotFoundError):
            reader.get(3)

        reader.refresh()
        assert len(reader) == 4
        assert reader.where("n >= 1").ids.tolist() == [1, 2, 3]
        assert reader.where(reader.c.n >= 1).ids.tolist() == [1, 2, 3]
        assert reader[-1] == {"f": b"3", "n": 3}
        assert view.ids.tolist() == [1, 2]
        reader.refresh()
        assert len(reader) == 4


def test_a_store_sees_its_own_commits_and_what_came_before_them(path: Path) -> None:
    with simple(path, 1) as one, sqlstore.open(path, mode="a") as other:
        one.extend([{"n": 1}])
        assert len(other) == 1
        other.extend([{"n": 2}])
        assert [record["n"] for record in other] == [0, 1, 2]
        assert len(one) == 2
        with one.writer() as writer:
            writer.append({"n": 3})
            assert len(one) == 2
            ids = writer.commit()
            assert ids.tolist() == [3]
            assert [record["n"] for record in one] == [0, 1, 2, 3]
        assert len(other) == 3


def test_a_view_keeps_its_records_whatever_comes_later(path: Path) -> None:
    with simple(path, 5) as store:
        views = [store[:], store.where("n < 100"), store.order_by("n DESC"), store.limit(100)]
        store.extend([{"n": -1}])

        assert [len(view) for view in views] == [5, 5, 5, 5]
        assert views[0].where("n < 1").ids.tolist() == [0]
        assert views[2].order_by("n").ids.tolist() == [0, 1, 2, 3, 4]
        assert store.order_by("n").ids.tolist() == [5, 0, 1, 2, 3, 4]


def test_a_store_goes_on_when_its_index_was_made_anew(path: Path) -> None:
    with simple(path, 3) as store:
        assert store.where(store.c.n >= 1).ids.tolist() == [1, 2]
        view = store.where("n >= 1")
        sqlstore.rebuild(path)

        assert [record["n"] for record in view] == [1, 2]
        store.refresh()
        assert store.where("n >= 1").ids.tolist() == [1, 2]
        assert store.where(store.c.n >= 1).ids.tolist() == [1, 2]
        assert store.extend([{"n": 3}]).tolist() == [3]
        assert store.where(store.c.n >= 1).ids.tolist() == [1, 2, 3]


def test_keys_of_later_commits_are_not_seen(path: Path) -> None:
    with sqlstore.create(path, metadata={"k": "string"}, key="k") as store:
        store.extend([{"k": "a"}])
        with sqlstore.open(path) as reader:
            store.extend([{"k": "b"}])
            with pytest.raises(sqlstore.RecordNotFoundError):
                reader.get(key="b")
            reader.refresh()
            assert reader.get(key="b") == {"k": "b"}


def test_a_closed_store_and_its_views_say_so(path: Path) -> None:
    store = simple(path, 3)
    view = store.where("n > 0")
    read = list(view)
    assert len(read) == 2
    columns = store.c
    store.close()
    store.close()

    assert "closed" in repr(store)
    uses: list[Callable[[], object]] = [
        lambda: len(store), lambda: store.ids, lambda: store[0], lambda: store[:1],
        lambda: list(store), lambda: store.get(0), lambda: store.get(key="a"),
        lambda: store.where("1"), lambda: store.order_by("n"), lambda: store.limit(1),
        lambda: store.take([0]), lambda: store.select("n"), lambda: store.fetch([0]),
        lambda: store.raw(0, "f"), lambda: store.to_arrow(), lambda: pa.table(store),
        lambda: store.sql("SELECT 1"), lambda: store.writer(), lambda: store.extend([{"n": 1}]),
        lambda: store.verify(), lambda: store.refresh(),
        lambda: view[0], lambda: list(view), lambda: view.fetch([0]), lambda: view.raw(0, "f"),
        lambda: view.to_arrow(), lambda: view.where("1"), lambda: view.where(columns.n == 1),
        lambda: view.order_by("n"), lambda: view.order_by(columns.n),
    ]  # fmt: skip
    for number, use in enumerate(uses):
        with pytest.raises(sqlstore.StoreClosedError, match="closed"):
            print(number, use())


def test_a_store_closes_at_the_end_of_its_block(path: Path) -> None:
    def fail() -> None:
        with simple(path, 1) as store:
            stores.append(store)
            raise ZeroDivisionError

    stores: list[sqlstore.Store] = []
    with pytest.raises(ZeroDivisionError):
        fail()
    with pytest.raises(sqlstore.StoreClosedError):
        len(stores[0])
