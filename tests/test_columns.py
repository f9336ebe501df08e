"""Metadata columns: what a declared type takes comes back as it was; the rest is refused."""

from __future__ import annotations

import datetime as dt
import enum
import json
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sqlstore

ARROW = {
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "date32": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "utc": pa.timestamp("us", tz="UTC"),
    "berlin": pa.timestamp("us", tz="Europe/Berlin"),
    "json": pa.string(),
}
"""The columns of these tests, most of them named as their type, with the Arrow type."""

DECLARED = {name: name for name in ARROW} | {
    "timestamp": "timestamp[us]",
    "utc": "timestamp[us, UTC]",
    "berlin": "timestamp[us, Europe/Berlin]",
}

EPOCH = dt.datetime(1970, 1, 1)
UTC_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICROSECOND = dt.timedelta(microseconds=1)
HUGE = "long \0 text é " * 10_000
ZONES = st.sampled_from(
    [dt.UTC, ZoneInfo("America/New_York"), dt.timezone(dt.timedelta(hours=5, minutes=45))]
)


def _integers(lowest: int, highest: int) -> st.SearchStrategy[int]:
    return st.one_of(
        st.sampled_from([lowest, highest, 0, min(highest, 2**53 + 1)]),
        st.integers(lowest, highest),
    )


def _zoned() -> st.SearchStrategy[dt.datetime]:
    # Two days from the ends of the calendar: in another zone it is another day.
    first, last = dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29)
    return st.one_of(
        st.sampled_from([UTC_EPOCH - MICROSECOND, UTC_EPOCH]),
        st.datetimes(first, last, timezones=ZONES),
    )


_JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=5),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
).filter(lambda value: value is not None)

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    **{f"int{n}": _integers(-(2 ** (n - 1)), 2 ** (n - 1) - 1) for n in (8, 16, 32, 64)},
    **{f"uint{n}": _integers(0, min(2**n, 2**63) - 1) for n in (8, 16, 32, 64)},
    "float32": st.floats(width=32),
    "float64": st.floats(),
    "string": st.one_of(
        st.sampled_from(["", "\0", "a\0b"]), st.builds(lambda: HUGE), st.text(max_size=20)
    ),
    "binary": st.one_of(
        st.sampled_from([b"", b"\0"]), st.builds(lambda: HUGE.encode()), st.binary(max_size=20)
    ),
    "date32": st.one_of(st.sampled_from([dt.date.min, dt.date.max]), st.dates()),
    "timestamp": st.one_of(
        st.sampled_from([dt.datetime.min, dt.datetime.max, EPOCH - MICROSECOND]), st.datetimes()
    ),
    "utc": _zoned(),
    "berlin": _zoned(),
    "json": _JSON,
}

RECORDS = st.lists(
    st.fixed_dictionaries(
        {}, optional={name: st.one_of(st.none(), values) for name, values in VALUES.items()}
    ),
    max_size=5,
)

modest = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)


def same(found: object, given_: object) -> bool:
    """Return whether two values are alike in type and content, with NaN and the sign of zero."""
    if isinstance(given_, float):
        if not isinstance(found, float):
            return False
        if math.isnan(given_):
            return math.isnan(found)
        return found == given_ and math.copysign(1, found) == math.copysign(1, given_)
    if isinstance(given_, dt.datetime) and given_.tzinfo is not None:
        # In UTC: Python compares moments of two zones by the clock where a clock is put back.
        assert isinstance(found, dt.datetime)
        return found.astimezone(dt.UTC) == given_.astimezone(dt.UTC)
    if isinstance(given_, list):
        return (
            isinstance(found, list) and len(found) == len(given_) and all(map(same, found, given_))
        )
    if isinstance(given_, dict):
        return (
            isinstance(found, dict)
            and list(found) == list(given_)
            and all(same(found[key], given_[key]) for key in given_)
        )
    return type(found) is type(given_) and found == given_


def stored(name: str, value: Any) -> object:
    """Return what SQLite is said to hold for a value: computed here, not by the library."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if name == "json":
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, float):
        return value + 0.0  # SQLite has no negative zero
    if name == "bool":
        return int(value)
    if name == "date32":
        return (value - EPOCH.date()).days
    if name in ("timestamp", "utc", "berlin"):
        return (value - (UTC_EPOCH if value.tzinfo else EPOCH)) // MICROSECOND
    return value


def in_sql(store: sqlstore.Store, ids: Any) -> dict[int, dict[str, object]]:
    """Return what SQLite has for some records, by id: computed, so not of the declared types."""
    names = ", ".join(f'+"{name}" AS "{name}", typeof("{name}") AS is_{name}' for name in ARROW)
    first, last = (int(ids[0]), int(ids[-1])) if len(ids) else (0, -1)
    table = store.sql(
        f"SELECT id, {names} FROM records WHERE id BETWEEN :first AND :last",
        first=first,
        last=last,
    )
    return {row["id"]: row for row in table.to_pylist()}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlstore.Store]:
    path = tmp_path_factory.mktemp("columns") / "store"
    fields = {"payload": "bytes"}
    with sqlstore.create(path, fields=fields, metadata=DECLARED) as opened:
        yield opened


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlstore.Store]:
    path = tmp_path_factory.mktemp("columns") / "tables"
    with sqlstore.create(path, metadata=DECLARED) as opened:
        yield opened


def as_table(records: list[dict[str, Any]]) -> pa.Table:
    def text(name: str, value: object) -> object:
        return json.dumps(value) if name == "json" and value is not None else value

    return pa.table(
        {
            name: pa.array([text(name, record.get(name)) for record in records], arrow)
            for name, arrow in ARROW.items()
        }
    )


def check(store: sqlstore.Store, ids: Any, records: list[dict[str, Any]]) -> None:
    view = store.take(ids)
    table = view.to_arrow()
    assert len(view) == len(ids) == len(records)
    assert table.schema.types == [pa.int64(), *ARROW.values()]
    assert table["id"].to_pylist() == ids.tolist()
    columns = {name: table[name].to_pylist() for name in ARROW}
    for row, (record, read) in enumerate(zip(records, view, strict=True)):
        for name in ARROW:
            value = record.get(name)
            assert same(read[name], value), name
            exported = columns[name][row]
            if name == "json" and exported is not None:
                exported = json.loads(exported)
            assert same(exported, value), name


@modest
@given(records=RECORDS)
def test_a_value_comes_back_as_it_was(store: sqlstore.Store, records: list[dict[str, Any]]) -> None:
    ids = store.extend(records)

    check(store, ids, records)
    rows = in_sql(store, ids)
    for record_id, record in zip(ids.tolist(), records, strict=True):
        for name in ARROW:
            assert same(rows[record_id][name], stored(name, record.get(name))), name


@modest
@given(records=RECORDS)
def test_a_table_gives_the_same_content_as_rows(
    store: sqlstore.Store, tables: sqlstore.Store, records: list[dict[str, Any]]
) -> None:
    by_row = store.extend(records)
    by_table = tables.extend(as_table(records))

    check(tables, by_table, records)
    left, right = in_sql(store, by_row), in_sql(tables, by_table)
    for i, j in zip(by_row.tolist(), by_table.tolist(), strict=True):
        one, other = dict(left[i], id=None), dict(right[j], id=None)
        # JSON text is kept as it is given.
        texts = [row.pop("json") for row in (one, other)]
        assert one == other
        assert same(*(text if text is None else json.loads(str(text)) for text in texts))


def test_everything_was_written_as_verify_expects(
    store: sqlstore.Store, tables: sqlstore.Store
) -> None:
    store.extend([{"string": "last"}])
    tables.extend(as_table([{"string": "last"}]))

    assert store.verify().faults == []
    assert tables.verify().faults == []


def test_an_empty_store_has_typed_columns(tmp_path: Path) -> None:
    with sqlstore.create(tmp_path / "s", metadata=DECLARED) as empty:
        assert len(empty) == 0
        assert list(empty) == []
        assert empty.to_arrow().num_rows == 0
        assert empty.to_arrow().schema.types == [pa.int64(), *ARROW.values()]
        assert empty.where("id >= 0").to_arrow().schema == empty.to_arrow().schema


@pytest.mark.parametrize("tabular", [False, True])
def test_columns_of_nothing_but_nulls_keep_their_types(tmp_path: Path, *, tabular: bool) -> None:
    nothing: list[dict[str, Any]] = [{}, {}, {}]
    given_ = pa.table({name: pa.nulls(3) for name in ARROW}) if tabular else nothing
    with sqlstore.create(tmp_path / "s", metadata=DECLARED) as store:
        ids = store.extend(given_)

        check(store, ids, nothing)
        assert store.verify().faults == []


def test_nan_is_null_for_sql_only(store: sqlstore.Store) -> None:
    ids = store.extend([{"float64": math.nan}, {"float64": None}, {"float64": 1.0}])
    view = store.take(ids)

    assert [same(record["float64"], math.nan) for record in view] == [True, False, False]
    assert view.where("float64 IS NULL").ids.tolist() == ids[:2].tolist()
    assert view.to_arrow()["float64"].null_count == 1


class Level(enum.IntEnum):
    LOW = 3


class Colour(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("name", "given_", "expected"),
    [
        ("bool", np.True_, True),
        ("int8", np.int64(-128), -128),
        ("uint64", np.uint64(2**63 - 1), 2**63 - 1),
        ("int32", Level.LOW, 3),
        ("float64", 3, 3.0),
        ("float64", np.float32(0.5), 0.5),
        ("float64", np.int16(-2), -2.0),
        ("float32", 0.1, float(np.float32(0.1))),
        ("float32", math.inf, math.inf),
        ("float32", np.float64(-math.inf), -math.inf),
        ("string", np.str_("é"), "é"),
        ("string", Colour.RED, "red"),
        ("binary", bytearray(b"ab"), b"ab"),
        ("binary", memoryview(b"abcd")[::2], b"ac"),
        ("binary", np.bytes_(b"ab"), b"ab"),
        ("date32", np.datetime64("1969-12-31"), dt.date(1969, 12, 31)),
        ("date32", np.datetime64("2020-02"), dt.date(2020, 2, 1)),
        ("date32", np.datetime64("2020-02-01T00:00:00"), dt.date(2020, 2, 1)),
        ("timestamp", np.datetime64("2020-01-02"), dt.datetime(2020, 1, 2)),
        ("timestamp", np.datetime64("2020-01-02T03:04:05.000006000"),
         dt.datetime(2020, 1, 2, 3, 4, 5, 6)),
        ("timestamp", pd.Timestamp("2020-01-02 03:04:05.000006"),
         dt.datetime(2020, 1, 2, 3, 4, 5, 6)),
        ("utc", pd.Timestamp("2020-01-02", tz="Asia/Tokyo"),
         dt.datetime(2020, 1, 1, 15, tzinfo=dt.UTC)),
        ("json", [1, [2.5, None, "ü"]], [1, [2.5, None, "ü"]]),
        ("json", False, False),
        ("json", "text", "text"),
    ],
)  # fmt: skip
def test_values_close_to_the_declared_type_are_taken(
    store: sqlstore.Store, name: str, given_: object, expected: object
) -> None:
    (record,) = store.extend([{name: given_}])

    assert same(store.get(record)[name], expected)


def test_the_second_of_two_equal_clock_times_is_another_moment(store: sqlstore.Store) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    first = dt.datetime(2024, 10, 27, 2, 30, tzinfo=berlin)
    second = first.replace(fold=1)
    name = "berlin"
    ids = store.extend([{name: first}, {name: second}])
    one, other = (record[name] for record in store.take(ids))

    assert other.astimezone(dt.UTC) - one.astimezone(dt.UTC) == dt.timedelta(hours=1)
    assert one.tzinfo == berlin


def test_what_is_taken_does_not_change_with_the_callers_buffer(store: sqlstore.Store) -> None:
    buffer = bytearray(b"before")
    with store.writer() as writer:
        writer.append({"binary": buffer, "payload": buffer})
        buffer[:] = b"after!"
    record = store.get(int(writer.ids[0]))

    assert (record["binary"], record["payload"]) == (b"before", b"before")


DAY = dt.date(2020, 1, 1)
NAIVE = dt.datetime(2020, 1, 1)
AWARE = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
OF_NO_TYPE: list[object] = [Decimal(1), {1}, object(), pd.NA, NAIVE.time(), [1j], {"a": 1j}]


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


def _wrong_integers(name: str) -> list[object]:
    highest = min(int(np.iinfo(name).max), 2**63 - 1)
    return [
        True, np.True_, 1.0, np.float32(1), "1", b"1", DAY, NAIVE, math.nan, 1 + 0j,
        np.timedelta64(1, "D"), np.datetime64("2020-01-01"), dt.timedelta(1), np.array(1),
        highest + 1, int(np.iinfo(name).min) - 1, 2**70,
    ]  # fmt: skip


WRONG: dict[str, list[object]] = {
    "bool": [0, 1, np.int8(1), 1.0, "True", b"", DAY, np.array([True])],
    **{name: _wrong_integers(name) for name in ARROW if "int" in name},
    "float64": [
        True, np.True_, "1.5", b"1", DAY, NAIVE, 1 + 2j, np.complex128(1 + 2j), 10**400,
        np.timedelta64(1, "D"), dt.timedelta(1),
    ],
    "float32": [True, "1.5", 1e39, -1e300, 10**400, np.complex64(1 + 2j)],
    "string": [1, 1.5, True, b"a", DAY, "\ud800", "a\udfff"],
    "binary": [1, 1.5, True, "a", DAY, np.array([1])],
    "date32": [
        1, 1.5, True, "2020-01-01", NAIVE, AWARE, np.datetime64("2020-01-01T01"),
        np.datetime64("NaT"), np.datetime64("10000-01-01"), np.datetime64("-0001-01-01"), pd.NaT,
    ],
    "timestamp": [
        1, 1.5, True, "2020-01-01", DAY, AWARE, np.datetime64("NaT"), pd.NaT,
        np.datetime64("2020-01-01T00:00:00.000000001"), np.datetime64("10000-01-01"),
        np.datetime64("-0001-01-01"), np.datetime64(10**9, "D"),
        pd.Timestamp("2020-01-01 00:00:00.000000001"),
    ],
    "utc": [
        1, "2020-01-01", DAY, NAIVE, np.datetime64("2020-01-01"), pd.NaT,
        dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=5))),
    ],
    "berlin": [
        NAIVE, DAY, dt.datetime.max.replace(tzinfo=dt.UTC),
    ],
    "json": [
        b"a", DAY, NAIVE, 1j, math.nan, [math.inf], "\ud800", {(1, 2): 3}, 10**5000, _deep(),
    ],
}  # fmt: skip


def _wrong_cases() -> list[Any]:
    cases = []
    for name, values in WRONG.items():
        for number, value in enumerate([*values, *OF_NO_TYPE]):
            cases.append(pytest.param(name, value, id=f"{name}-{number}-{type(value).__name__}"))
    return cases


@pytest.mark.parametrize(("name", "value"), _wrong_cases())
def test_a_wrong_value_is_refused_with_its_place_and_nothing_of_the_record_is_kept(
    store: sqlstore.Store, name: str, value: object
) -> None:
    before = len(store)
    with store.writer() as writer:
        writer.append({"payload": b"before", "string": "before"})
        with pytest.raises(sqlstore.SchemaError) as caught:
            writer.append({"payload": b"wrong", "string": "wrong", name: value})
        writer.append({"payload": b"after", "string": "after"})

    assert caught.value.where == {"column": name, "row": 1}
    assert f"column {name}, row 1" in str(caught.value)
    assert [record["payload"] for record in store[before:]] == [b"before", b"after"]


NANOSECONDS = pa.array([1_577_836_800_000_000_001], pa.timestamp("ns"))
_NUMBER_AS_TEXT = [
    pa.array(["5"], kind)
    for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary())
]
_TIMES = [
    pa.array([NAIVE]),
    pa.array([AWARE]),
    pa.array([DAY]),
    pa.array([dt.time(1)]),
    pa.array([dt.timedelta(1)]),
]
WRONG_ARRAYS: dict[str, list[pa.Array]] = {
    "bool": [pa.array([1]), pa.array(["true"]), pa.array([1.0])],
    "int8": [*_NUMBER_AS_TEXT, *_TIMES, pa.array([True]), pa.array([128]), pa.array([-129])],
    "int64": [
        *_NUMBER_AS_TEXT, *_TIMES, pa.array([True]), pa.array([1.5]), pa.array([math.nan]),
        pa.array([1e300]), pa.array([2**63], pa.uint64()),
    ],
    "uint64": [
        pa.array([-1]), pa.array([2**63], pa.uint64()), pa.array([None, 2**64 - 1], pa.uint64()),
    ],
    "float64": [*_NUMBER_AS_TEXT, *_TIMES, pa.array([True]), pa.array([2**53 + 1])],
    "float32": [*_NUMBER_AS_TEXT, pa.array([1e300]), pa.array([-1e39])],
    "string": [*_TIMES, pa.array([1]), pa.array([b"a"]), pa.array([1]).dictionary_encode()],
    "binary": [*_TIMES, pa.array([1]), pa.array(["a"])],
    "date32": [
        pa.array([1]), pa.array(["2020-01-01"]), pa.array([dt.datetime(2020, 1, 1, 12)]),
        pa.array([3_000_000], pa.date32()), pa.array([-1_000_000], pa.date32()),
    ],
    "timestamp": [
        pa.array([1]), pa.array(["2020-01-01"]), pa.array([DAY]), pa.array([AWARE]), NANOSECONDS,
        pa.array([2**62], pa.timestamp("s")), pa.array([2**62], pa.timestamp("us")),
    ],
    "utc": [
        pa.array([NAIVE]), pa.array([DAY]), NANOSECONDS.cast(pa.timestamp("ns", "UTC")),
        pa.array([2**62], pa.timestamp("us", "UTC")),
    ],
    "json": [
        pa.array([1]), pa.array(["{"]), pa.array([""]), pa.array(["NaN"]),
        pa.array(["[-Infinity]"]), pa.array([[math.nan]]), pa.array(["[" * 100_000]),
        pa.array(["[" * 100_000 + "]" * 100_000]),
    ],
}  # fmt: skip


def _wrong_array_cases() -> list[Any]:
    cases = []
    for name, arrays in WRONG_ARRAYS.items():
        nested = [] if name == "json" else [pa.array([[1]]), pa.array([{"a": 1}])]
        for number, array in enumerate([*arrays, *nested]):
            cases.append(pytest.param(name, array, id=f"{name}-{number}-{array.type}"))
    return cases


@pytest.mark.parametrize(("name", "array"), _wrong_array_cases())
def test_a_table_with_a_column_of_the_wrong_kind_is_refused(
    tables: sqlstore.Store, name: str, array: pa.Array
) -> None:
    before = len(tables)
    with pytest.raises(sqlstore.SchemaError) as caught:
        tables.extend(pa.table({name: array}))

    assert caught.value.where["column"] == name
    assert len(tables) == before


@pytest.mark.parametrize("name", ARROW)
def test_a_value_that_is_required_must_be_there(tmp_path: Path, name: str) -> None:
    required = sqlstore.Column(DECLARED[name], nullable=False)
    with sqlstore.create(tmp_path / "s", metadata={"x": required, "n": "int8"}) as store:
        for given_ in ([{"n": 1}], [{"x": None}], pa.table({"n": pa.array([1], pa.int8())})):
            with pytest.raises(sqlstore.SchemaError, match="a value is required") as caught:
                store.extend(given_)
            assert caught.value.where == {"column": "x", "row": 0}
        late = pa.chunked_array([pa.nulls(1, ARROW[name])])
        with pytest.raises(sqlstore.SchemaError, match="a value is required"):
            store.extend(pa.table({"x": late}))
        assert len(store) == 0


@pytest.mark.parametrize(
    ("declared", "canonical"),
    [
        *((declared, declared) for declared in DECLARED.values()),
        *((ARROW[name], declared) for name, declared in DECLARED.items() if name != "json"),
        (pa.float32(), "float32"),
        ("double", "float64"),
        ("utf8", "string"),
        ("date32[day]", "date32"),
        (" int8 ", "int8"),
        ("timestamp[us,UTC]", "timestamp[us, UTC]"),
        ("timestamp[us, tz=Asia/Tokyo]", "timestamp[us, Asia/Tokyo]"),
    ],
)
def test_a_type_can_be_written_in_several_ways(
    tmp_path: Path, declared: str | pa.DataType, canonical: str
) -> None:
    with sqlstore.create(tmp_path / "s", metadata={"x": declared}) as store:
        assert store.schema.columns["x"].type == canonical
        assert store.schema.columns["x"].kind.name == canonical
        assert repr(store.schema.columns["x"].kind) == f"ColumnType({canonical!r})"


@pytest.mark.parametrize(
    "declared",
    [
        "", "int", "float", "INT8", "decimal", "timestamp[ns]", "timestamp[us, ]",
        "timestamp[us, Nowhere]",
        "timestamp[us, ../../etc/passwd]", "timestamp[us, /etc/passwd]", "timestamp[us, +02:00]",
        "list<int8>", "object", pa.large_string(), pa.timestamp("ns"), pa.list_(pa.int8()),
        pa.dictionary(pa.int8(), pa.string()), pa.null(), int, None,
    ],
)  # fmt: skip
def test_what_is_no_type_is_refused(tmp_path: Path, declared: Any) -> None:
    metadata: Mapping[str, Any] = {"x": declared}
    with pytest.raises(sqlstore.SchemaError):
        sqlstore.create(tmp_path / "s", metadata=metadata)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("declared", "meant"),
    [
        ("float", '"float64", or "float32"'),  # Arrow's 32 bits, Python's 64
        (float, '"float64", or "float32"'),
        ("str", '"string"'),
        (str, '"string"'),
        (np.int16, '"int16"'),
        ("datetime", r'"timestamp\[us\]"'),
        ("png[]", "encodings belong to `fields`"),
        (sqlstore.Field("array"), "encodings belong to `fields`"),
    ],
)
def test_a_refused_type_is_told_with_its_column_and_what_may_be_meant(
    tmp_path: Path, declared: Any, meant: str
) -> None:
    with pytest.raises(sqlstore.SchemaError, match=meant) as caught:
        sqlstore.create(tmp_path / "s", metadata={"n": "int8", "x": declared})
    assert caught.value.where == {"column": "x"}
