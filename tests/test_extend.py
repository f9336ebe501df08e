"""Records on their way in: rows, Arrow and pandas in any shape; and how writers batch them."""

from __future__ import annotations

import datetime as dt
import gc
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sqlstore

FIELDS: dict[str, str | sqlstore.Field] = {
    "data": "bytes",
    "plain": sqlstore.Field("bytes", compression=None),
    "text": "utf8",
    "words": sqlstore.Field("utf8", compression=None),
    "array": "array",
}
METADATA = {
    "label": "string",
    "number": "int64",
    "small": "int8",
    "weight": "float64",
    "single": "float32",
    "flag": "bool",
    "blob": "binary",
    "day": "date32",
    "moment": "timestamp[us]",
    "utc": "timestamp[us, UTC]",
    "extra": "json",
}

modest = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlstore.Store]:
    path = tmp_path_factory.mktemp("extend") / "store"
    with sqlstore.create(path, fields=FIELDS, metadata=METADATA) as opened:
        yield opened


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[sqlstore.Store]:
    metadata = {"k": "string", "n": "int8", "s": "string"}
    with sqlstore.create(
        tmp_path / "keyed", fields={"f": "bytes"}, metadata=metadata, key="k"
    ) as opened:
        yield opened


def kept(store: sqlstore.Store, given_: Any, name: str) -> list[Any]:
    """Return one column of what was kept, read record by record."""
    return [record[name] for record in store.take(store.extend(given_))]


def refused(store: sqlstore.Store, given_: Any) -> sqlstore.SchemaError:
    before = len(store)
    with pytest.raises(sqlstore.SchemaError) as caught:
        store.extend(given_)
    assert len(store) == before
    return caught.value


# In which shape records may come

ROWS: list[dict[str, Any]] = [
    {"label": "a", "number": 1, "data": b"one", "text": "ein"},
    {"label": None, "number": 2, "data": None, "text": ""},
    {"label": "c", "number": None, "data": b"", "text": None},
]
TABLE = pa.table(
    {
        "label": ["a", None, "c"],
        "number": [1, 2, None],
        "data": [b"one", None, b""],
        "text": ["ein", "", None],
    }
)


class Stream:
    """Nothing but an Arrow stream, as polars and DuckDB give one."""

    def __init__(self, given_: Any) -> None:
        self._given = given_

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._given.__arrow_c_stream__(requested_schema)


SHAPES: dict[str, Callable[[], Any]] = {
    "list": lambda: ROWS,
    "tuple": lambda: tuple(ROWS),
    "generator": lambda: (row for row in ROWS),
    "other mappings": lambda: [MappingProxyType(row) for row in ROWS],
    "only what is there": lambda: [
        {name: value for name, value in row.items() if value is not None} for row in ROWS
    ],
    "table": lambda: TABLE,
    "chunked table": lambda: pa.concat_tables([TABLE[:1], TABLE[1:1], TABLE[1:]]),
    "table in another order": lambda: TABLE.select(["text", "number", "data", "label"]),
    "record batch": lambda: TABLE.to_batches()[0],
    "reader": lambda: TABLE.to_reader(max_chunksize=1),
    "stream": lambda: Stream(TABLE),
    "series": lambda: pd.Series(ROWS),
    "data frame": lambda: pd.DataFrame(ROWS, dtype=object),
    "data frame of Arrow": lambda: TABLE.to_pandas(types_mapper=pd.ArrowDtype),
    "data frame with an index": lambda: pd.DataFrame(ROWS, dtype=object, index=[7, 7, 7]),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_records_come_in_many_shapes(store: sqlstore.Store, shape: str) -> None:
    before = len(store)
    ids = store.extend(SHAPES[shape]())

    assert ids.dtype == np.int64
    assert ids.tolist() == [before, before + 1, before + 2]
    found = [{name: record[name] for name in ROWS[0]} for record in store.take(ids)]
    assert found == ROWS


def test_the_records_of_another_store_can_be_appended(
    store: sqlstore.Store, tmp_path: Path
) -> None:
    source = store.take(store.extend(ROWS))
    with sqlstore.create(tmp_path / "copy", fields=FIELDS, metadata=METADATA) as copy:
        copy.extend(source)
        assert list(copy) == list(source)
        copy.extend(source.to_arrow().drop(["id"]))
        assert copy[3:].select("label", "number")[0] == {"label": "a", "number": 1}


@pytest.mark.parametrize(
    "nothing",
    [
        [],
        iter(()),
        TABLE[:0],
        pa.table({}),
        TABLE.schema.empty_table().to_reader(),
        Stream(TABLE[:0]),
        pa.RecordBatchReader.from_batches(TABLE.schema, []),
        pd.DataFrame(),
        pd.DataFrame({"label": []}),
    ],
    ids=range(9),
)
def test_nothing_makes_no_commit(store: sqlstore.Store, nothing: Any) -> None:
    commits = store.sql("SELECT count(*) AS n FROM commits")
    ids = store.extend(nothing)

    assert len(ids) == 0
    assert ids.dtype == np.int64
    assert store.sql("SELECT count(*) AS n FROM commits") == commits


def dictionary(values: pa.Array) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([1, None, 0, 2], pa.uint32()), values)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (pa.string_view(), pa.binary_view()),
        (pa.large_string(), pa.large_binary()),
        (pa.string(), pa.binary()),
    ],
    ids=str,
)
@pytest.mark.parametrize("make", [pa.array, dictionary], ids=["plain", "dictionary"])
def test_a_stream_may_have_columns_of_any_layout(
    store: sqlstore.Store, text: pa.DataType, data: pa.DataType, make: Callable[[Any], Any]
) -> None:
    words = make(pa.array(["a", None, "longer than twelve bytes", ""], text))
    bodies = make(pa.array([b"a", None, b"longer than twelve bytes", b""], data))
    columns = {"label": words, "text": words, "words": words, "blob": bodies, "plain": bodies}
    table = pa.table({**columns, "data": bodies})
    for given_ in (table, table[1:], pa.concat_tables([table[:1], table[2:]])):
        found = store.take(store.extend(Stream(given_)))
        expected = given_.to_pylist()
        assert [{name: one[name] for name in expected[0]} for one in found] == expected


def test_a_stream_is_never_held_as_a_whole(keyed: sqlstore.Store) -> None:
    with keyed.writer(commit_records=10) as writer:
        committed = []

        def batches() -> Iterator[pa.RecordBatch]:
            for start in range(0, 50, 10):
                committed.append(len(writer.ids))
                keys = [str(i) for i in range(start, start + 10)]
                yield pa.record_batch({"k": keys})

        schema = pa.schema({"k": pa.string()})
        writer.extend(Stream(pa.RecordBatchReader.from_batches(schema, batches())))
        assert committed == [0, 10, 20, 30, 40]


def test_a_stream_of_something_else_is_refused(store: sqlstore.Store) -> None:
    assert "no records" in str(refused(store, Stream(pa.chunked_array([[1, 2]]))))
    assert "'id'" in str(refused(store, Stream(store.to_arrow())))


@pytest.mark.parametrize("wrong", [None, 5, "label", b"label", ROWS[0]])
def test_what_is_no_collection_of_records_is_a_type_error(
    store: sqlstore.Store, wrong: Any
) -> None:
    with pytest.raises(TypeError, match="iterable of mappings"):
        store.extend(wrong)


@pytest.mark.parametrize("wrong", [None, 5, "label", ["label"], [("label", "a")], ()])
def test_what_is_no_record_is_refused(store: sqlstore.Store, wrong: Any) -> None:
    with store.writer() as writer:
        writer.append({"label": "before"})
        with pytest.raises((sqlstore.SchemaError, TypeError)):
            writer.append(wrong)
        writer.append({"label": "after"})

    assert [record["label"] for record in store.take(writer.ids)] == ["before", "after"]


def test_columns_of_a_table_must_be_known_and_there_once(store: sqlstore.Store) -> None:
    assert "'x', 'y'" in str(refused(store, pa.table({"x": [1], "y": [1], "number": [1]})))
    assert "'id'" in str(refused(store, store.to_arrow()))
    assert "same name" in str(refused(store, pa.table([[1], [2]], names=["number", "number"])))
    twice = pd.DataFrame([[1, 2]], columns=["number", "number"])
    assert "same name" in str(refused(store, twice))
    assert "0" in str(refused(store, pd.DataFrame([[1]])))


def test_a_row_that_does_not_fit_is_counted_from_the_first(store: sqlstore.Store) -> None:
    rows: list[dict[str, Any]] = [{"number": 1}, {"number": 2}, {"number": "3"}]
    assert refused(store, rows).where == {"column": "number", "row": 2}
    assert "rows 0 to 1" in str(refused(store, pa.table({"number": ["1", "2"]})))
    texts = pa.table({"text": [1, 2]})
    assert refused(store, texts).where["field"] == "text"
    arrays = pd.DataFrame({"array": [np.zeros(1), np.zeros(2), "no array"]})
    assert refused(store, arrays).where == {"field": "array", "row": 2}


# Arrow

ENCODABLE = [
    pa.string(), pa.large_string(), pa.binary(), pa.int16(), pa.int64(), pa.float32(), pa.float64(),
]  # fmt: skip
YEARS = st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1))


@st.composite
def tables(draw: st.DrawFn) -> tuple[pa.Table, list[dict[str, Any]]]:
    """Return a table whose columns are of any fitting type and chunking, and its rows."""
    count = draw(st.integers(0, 12))

    def values(strategy: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(st.none() | strategy, min_size=count, max_size=count))

    def column(given_: list[Any], kinds: list[pa.DataType]) -> pa.ChunkedArray:
        before, after = draw(st.integers(0, 2)), draw(st.integers(0, 2))
        padded = [*given_[:1] * before, *given_, *given_[:1] * after]
        kind = draw(st.sampled_from(kinds))
        array = pa.array(padded, kind).slice(before if given_ else 0, count)
        if kind in ENCODABLE and draw(st.booleans()):
            array = array.dictionary_encode()
        cuts = sorted(draw(st.lists(st.integers(0, count), max_size=3)))
        edges = [0, *cuts, count]
        pieces = [array[a:b] for a, b in itertools.pairwise(edges)]
        return pa.chunked_array(pieces, array.type)

    text = values(st.text(max_size=15))
    blob = values(st.binary(max_size=15))
    small = values(st.integers(-128, 127))
    weight = values(st.floats(width=16, allow_nan=False))
    moment = values(YEARS)
    names = ("label", "blob", "number", "small", "weight", "single", "moment")
    rows = [
        dict(zip(names, (a, b, c, c, d, d, e), strict=True))
        for a, b, c, d, e in zip(text, blob, small, weight, moment, strict=True)
    ]
    strings = [pa.string(), pa.large_string(), pa.string_view()]
    integers = [pa.int8(), pa.int16(), pa.int64(), pa.float32(), pa.float64()]
    floats = [pa.float16(), pa.float32(), pa.float64()]
    table = pa.table(
        {
            "label": column(text, strings),
            "blob": column(blob, [pa.binary(), pa.large_binary(), pa.binary_view()]),
            "number": column(small, integers),
            "small": column(small, integers),
            "weight": column(weight, floats),
            "single": column(weight, floats),
            "moment": column(moment, [pa.timestamp("us"), pa.timestamp("ns")]),
        }
    )
    return table, rows


@modest
@given(drawn=tables())
def test_a_table_of_any_fitting_types_and_chunks_keeps_its_rows(
    store: sqlstore.Store, drawn: tuple[pa.Table, list[dict[str, Any]]]
) -> None:
    table, rows = drawn
    view = store.take(store.extend(table)).select(*table.column_names)

    assert list(view) == rows


TEXTS: list[pa.Array] = [
    pa.array(["a", None, "", "long enough to lie outside a view", "e"], kind)
    for kind in (pa.string(), pa.large_string(), pa.string_view())
]


@pytest.mark.parametrize("name", ["label", "text", "words"])
@pytest.mark.parametrize("form", ["as is", "dictionary", "sliced", "chunked"])
@pytest.mark.parametrize("array", TEXTS, ids=lambda array: str(array.type))
def test_text_of_any_arrow_type_is_kept(
    store: sqlstore.Store, name: str, form: str, array: pa.Array
) -> None:
    expected = array.to_pylist()
    if form == "dictionary":
        array = pa.array(expected).dictionary_encode()
    elif form == "sliced":
        array, expected = array[1:4], expected[1:4]
    elif form == "chunked":
        array = pa.chunked_array([array[:2], array[2:2], array[2:]])

    assert kept(store, pa.table({name: array}), name) == expected


@pytest.mark.parametrize("name", ["blob", "data", "plain"])
@pytest.mark.parametrize(
    "kind",
    [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(3)],
    ids=["binary", "large", "view", "fixed"],
)
@pytest.mark.parametrize("encoded", [False, True])
def test_bytes_of_any_arrow_type_are_kept(
    store: sqlstore.Store, name: str, kind: pa.DataType, *, encoded: bool
) -> None:
    expected = [b"abc", None, b"\0\0\0", b"abc"]
    array = pa.array(expected, pa.binary() if encoded and kind == pa.binary_view() else kind)
    if encoded:
        array = array.dictionary_encode()

    assert kept(store, pa.table({name: array[1:]}), name) == expected[1:]


@pytest.mark.parametrize("name", ["data", "plain", "text", "words", "array"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_field_may_have_no_value_at_all(store: sqlstore.Store, name: str, count: int) -> None:
    kinds = {"data": pa.binary(), "plain": pa.large_binary(), "text": pa.string()}
    for kind in (pa.null(), kinds.get(name, pa.null())):
        table = pa.table({name: pa.nulls(count, kind)})
        assert kept(store, table, name) == [None] * count


def garbage(values: Any, kind: pa.DataType) -> pa.Array:
    """Return two values, the first of them null with something behind it that is not allowed."""
    return pa.Array.from_buffers(kind, 2, [pa.py_buffer(b"\x02"), pa.py_buffer(np.array(values))])


@pytest.mark.parametrize(
    ("name", "array", "expected"),
    [
        ("small", garbage([2**62, 5], pa.int64()), 5),
        ("number", garbage(np.array([2**64 - 1, 5], np.uint64), pa.uint64()), 5),
        ("small", garbage([math.nan, 5.0], pa.float64()), 5),
        ("single", garbage([2**62 + 1, 5], pa.int64()), 5.0),
        ("day", garbage(np.array([2**31 - 1, 5], np.int32), pa.date32()), dt.date(1970, 1, 6)),
        ("moment", garbage([2**62 + 1, 5000], pa.timestamp("ns")),
         dt.datetime(1970, 1, 1, 0, 0, 0, 5)),
        ("utc", garbage([2**62, 5], pa.timestamp("us", "UTC")),
         dt.datetime(1970, 1, 1, 0, 0, 0, 5, dt.UTC)),
    ],
)  # fmt: skip
def test_what_lies_behind_a_null_does_not_matter(
    store: sqlstore.Store, name: str, array: pa.Array, expected: object
) -> None:
    assert kept(store, pa.table({name: array}), name) == [None, expected]


@pytest.mark.parametrize("name", ["label", "text", "words", "extra"])
def test_text_behind_a_null_does_not_matter_but_text_must_be_utf8(
    store: sqlstore.Store, name: str
) -> None:
    offsets, data = pa.py_buffer(np.array([0, 1, 2], np.int32)), pa.py_buffer(b"\xff5")
    behind = pa.Array.from_buffers(pa.string(), 2, [pa.py_buffer(b"\x02"), offsets, data])
    in_sight = pa.Array.from_buffers(pa.string(), 2, [None, offsets, data])

    assert kept(store, pa.table({name: behind}), name) == [None, 5 if name == "extra" else "5"]
    assert "UTF8" in str(refused(store, pa.table({name: in_sight}))).replace("-", "")


@pytest.mark.parametrize("name", ["blob", "data", "plain"])
def test_bytes_behind_a_null_do_not_matter(store: sqlstore.Store, name: str) -> None:
    offsets, data = pa.py_buffer(np.array([0, 3, 5], np.int32)), pa.py_buffer(b"xxxab")
    array = pa.Array.from_buffers(pa.binary(), 2, [pa.py_buffer(b"\x02"), offsets, data])

    assert kept(store, pa.table({name: array}), name) == [None, b"ab"]


def check_arrays(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        if other is None:
            assert one is None
        else:
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


LISTS: list[pa.DataType] = [
    pa.list_(pa.int16()),
    pa.large_list(pa.int16()),
    pa.list_(pa.int16(), 2),
    pa.list_view(pa.int16()),
]


@pytest.mark.parametrize("kind", LISTS, ids=str)
def test_lists_of_numbers_become_arrays(store: sqlstore.Store, kind: pa.DataType) -> None:
    given_ = [[1, 2], None, [3, 4], [5, 6]]
    expected = [None if one is None else np.array(one, np.int16) for one in given_]
    array = pa.array(given_, kind)
    chunked = pa.chunked_array([array[1:3], array[:0], array[3:]])

    check_arrays(kept(store, pa.table({"array": array}), "array"), expected)
    check_arrays(kept(store, pa.table({"array": chunked}), "array"), expected[1:])


def test_nulls_outside_of_what_is_given_do_not_matter(store: sqlstore.Store) -> None:
    array = pa.array([[None, 1], [2, 3]], pa.list_(pa.int16()))

    check_arrays(kept(store, pa.table({"array": array[1:]}), "array"), [np.array([2, 3], np.int16)])
    refused(store, pa.table({"array": array}))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([True, False], "bool"),
        ([1.5, math.inf], "float64"),
        ([dt.datetime(2020, 1, 1)], "datetime64[us]"),
        ([dt.date(2020, 1, 1)], "datetime64[D]"),
    ],
)
def test_lists_keep_the_type_of_their_items(
    store: sqlstore.Store, values: list[Any], dtype: str
) -> None:
    table = pa.table({"array": pa.array([values, None])})

    check_arrays(kept(store, table, "array"), [np.array(values, dtype), None])


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint16(), pa.float32(), pa.bool_()], ids=str)
def test_numbers_become_arrays_without_dimensions_of_their_type(
    store: sqlstore.Store, kind: pa.DataType
) -> None:
    table = pa.table({"array": pa.array([1, None, 0]).cast(kind)})
    expected = [np.array(1, kind.to_pandas_dtype()), None, np.array(0, kind.to_pandas_dtype())]

    check_arrays(kept(store, table, "array"), expected)


def test_tensors_become_arrays_of_their_shape(store: sqlstore.Store) -> None:
    arrays = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(arrays)
    chunked = pa.chunked_array([tensors[1:3], tensors[3:]])

    check_arrays(kept(store, pa.table({"array": tensors}), "array"), list(arrays))
    check_arrays(kept(store, pa.table({"array": chunked}), "array"), list(arrays[1:]))
    assert len(store.extend(pa.table({"array": pa.chunked_array([], tensors.type)}))) == 0


def test_a_tensor_may_be_missing(store: sqlstore.Store) -> None:
    kind = pa.fixed_shape_tensor(pa.int16(), (1, 2))
    storage = pa.array([[1, 2], None, [3, 4]], kind.storage_type)
    table = pa.table({"array": pa.ExtensionArray.from_storage(kind, storage)})

    expected = [np.array([[1, 2]], np.int16), None, np.array([[3, 4]], np.int16)]
    check_arrays(kept(store, table, "array"), expected)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("data", pa.array(["a"])),
        ("data", pa.array([1])),
        ("plain", pa.array(["a"])),
        ("text", pa.array([b"a"])),
        ("words", pa.array([1])),
        ("array", pa.array([["a"]])),
        ("array", pa.array([[[1]]])),
        ("array", pa.array([[1, None]])),
        ("array", pa.array([{"a": 1}])),
        ("array", pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))),
        ("array", pa.array([b"a"])),
        ("array", pa.array(["a"])),
    ],
)
def test_a_field_given_a_column_of_the_wrong_kind_is_an_encode_error(
    store: sqlstore.Store, name: str, array: pa.Array
) -> None:
    error = refused(store, pa.table({name: array}))

    assert isinstance(error, sqlstore.EncodeError)
    assert error.where["field"] == name


def test_columns_of_json_are_text_or_nested(store: sqlstore.Store) -> None:
    texts = pa.array(['{"a":[1,2.5,null]}', None, "null", " 5 "])
    nested = pa.array([{"a": 1}, None, {"a": 2}])
    lists = pa.array([[1, 2], None, []])

    assert kept(store, pa.table({"extra": texts}), "extra") == [
        {"a": [1, 2.5, None]},
        None,
        None,
        5,
    ]
    assert kept(store, pa.table({"extra": nested}), "extra") == [{"a": 1}, None, {"a": 2}]
    assert kept(store, pa.table({"extra": lists}), "extra") == [[1, 2], None, []]


def test_moments_of_another_zone_and_unit_are_the_same_moments(store: sqlstore.Store) -> None:
    moment = dt.datetime(2020, 1, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=9)))
    for unit in ("s", "ms", "us", "ns"):
        array = pa.array([moment], pa.timestamp(unit, "Asia/Tokyo"))
        assert kept(store, pa.table({"utc": array}), "utc") == [moment]


# pandas


def series(values: Any, dtype: Any = object) -> Any:
    return pd.Series(values, dtype=dtype)


FRAMES: list[tuple[str, Any, list[Any]]] = [
    ("label", series(["a", None, math.nan]), ["a", None, None]),
    ("label", series(["a", None], "str"), ["a", None]),
    ("label", series(["a", None], "string"), ["a", None]),
    ("label", series(["a", None], pd.ArrowDtype(pa.string())), ["a", None]),
    ("label", pd.Categorical(["b", None, "a", "b"]), ["b", None, "a", "b"]),
    ("number", series([1, 2], "int16"), [1, 2]),
    ("number", series([1, None], "Int64"), [1, None]),
    ("number", series([2**53 + 1, None], "Int64"), [2**53 + 1, None]),
    ("number", series([1.0, math.nan], "float64"), [1, None]),
    ("number", series([1, None]), [1, None]),
    ("number", pd.Categorical([3, None, 3]), [3, None, 3]),
    ("small", series([1, None], pd.ArrowDtype(pa.uint64())), [1, None]),
    ("weight", series([1, 2], "int64"), [1.0, 2.0]),
    ("weight", series([1.5, None], "Float64"), [1.5, None]),
    ("weight", series([1, None], "Int64"), [1.0, None]),
    ("weight", series([1.5, None], pd.ArrowDtype(pa.float64())), [1.5, None]),
    ("weight", series([1.5, None, pd.NA]), [1.5, None, None]),
    ("flag", series([True, False], "bool"), [True, False]),
    ("flag", series([True, None], "boolean"), [True, None]),
    ("flag", series([True, None]), [True, None]),
    ("flag", pd.Categorical([True, None]), [True, None]),
    ("blob", series([b"a", None]), [b"a", None]),
    ("day", series([dt.date(2020, 1, 1), None]), [dt.date(2020, 1, 1), None]),
    ("moment", series(["2020-01-01 00:00:00.000001", None], "datetime64[ns]"),
     [dt.datetime(2020, 1, 1, 0, 0, 0, 1), None]),
    ("moment", pd.to_datetime(["2020-01-01"]).astype("datetime64[s]"), [dt.datetime(2020, 1, 1)]),
    ("moment", series([dt.datetime(2020, 1, 1), None]), [dt.datetime(2020, 1, 1), None]),
    ("moment", series(["2020-01-01", None], "datetime64[us]").astype("category"),
     [dt.datetime(2020, 1, 1), None]),
    ("utc", series(["2020-07-01 12:00", None], "datetime64[us]").dt.tz_localize("Europe/Berlin"),
     [dt.datetime(2020, 7, 1, 10, tzinfo=dt.UTC), None]),
    ("utc", series([dt.datetime(2020, 1, 1, 3, tzinfo=dt.timezone(dt.timedelta(hours=3)))]),
     [dt.datetime(2020, 1, 1, tzinfo=dt.UTC)]),
    ("extra", series([{"a": 1}, {"b": [2]}, None]), [{"a": 1}, {"b": [2]}, None]),
    ("extra", series([[1], None, []]), [[1], None, []]),
    ("data", series([b"a", None, b""]), [b"a", None, b""]),
    ("data", series([b"a", bytearray(b"b"), math.nan]), [b"a", b"b", None]),
    ("plain", series([None, b"a", None]), [None, b"a", None]),
    ("plain", series([None, math.nan]), [None, None]),
    ("text", series(["a", None], "str"), ["a", None]),
    ("text", series(["a", pd.NA], "string"), ["a", None]),
    ("text", pd.Categorical(["a", None, "a"]), ["a", None, "a"]),
    ("words", series(["a", None]), ["a", None]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "column", "expected"),
    [
        pytest.param(*case, id=f"{case[0]}-{number}-{case[1].dtype}")
        for number, case in enumerate(FRAMES)
    ],
)
def test_a_data_frame_keeps_its_values(
    store: sqlstore.Store, name: str, column: Any, expected: list[Any]
) -> None:
    found = kept(store, pd.DataFrame({name: column}), name)

    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


def test_nan_in_a_frame_is_a_value_of_floats_and_missing_elsewhere(store: sqlstore.Store) -> None:
    frame = pd.DataFrame({name: [1.0, math.nan] for name in ("weight", "single", "number")})
    view = store.take(store.extend(frame))

    assert [math.isnan(record["weight"]) for record in view] == [False, True]
    assert [math.isnan(record["single"]) for record in view] == [False, True]
    assert [record["number"] for record in view] == [1, None]


def test_a_column_of_arrays_in_a_frame_is_kept(store: sqlstore.Store) -> None:
    arrays = [np.zeros(2), None, np.ones((1, 2), np.int8), np.float32(3)]
    expected = [None if one is None else np.asarray(one) for one in arrays]

    check_arrays(kept(store, pd.DataFrame({"array": series(arrays)}), "array"), expected)


def test_a_missing_value_in_a_frame_is_missing_in_a_required_column(tmp_path: Path) -> None:
    metadata = {"x": sqlstore.Column("float64", nullable=False)}
    with sqlstore.create(tmp_path / "s", metadata=metadata) as store:
        error = refused(store, pd.DataFrame({"x": series([1.5, None], "Float64")}))
        assert error.where == {"column": "x", "row": 1}
        assert len(store.extend(pd.DataFrame({"x": [1.5, math.nan]}))) == 2


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("small", series([1000, None], "Int64")),
        ("small", series([1.5], "float64")),
        ("number", series(["1"], "str")),
        ("number", series([1, "a"])),
        ("number", series([2**70])),
        ("number", series([True], "bool")),
        ("number", pd.to_timedelta([1])),
        ("number", pd.to_datetime(["2020-01-01"])),
        ("weight", series(["1.5"], "str")),
        ("weight", series([True], "bool")),
        ("weight", series([1j])),
        ("single", series([1e300], "float64")),
        ("flag", series([1, 0], "int64")),
        ("label", series(["a", 1])),
        ("label", series(["\ud800"])),
        ("label", series([1], "int64")),
        ("label", pd.period_range("2020", periods=1)),
        ("label", pd.Categorical([1])),
        ("day", pd.to_datetime(["2020-01-01 05:00"])),
        ("moment", pd.to_datetime(["2020-01-01 00:00:00.000000001"])),
        ("moment", pd.to_datetime(["2020-01-01"]).tz_localize("UTC")),
        ("utc", pd.to_datetime(["2020-01-01"])),
        ("extra", series(["{"])),
        ("extra", series([{"a": object()}])),
        ("data", series([b"a", "b"])),
        ("text", series([b"a"])),
        ("array", series([[1, 2]])),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.dtype),
)
def test_a_data_frame_with_a_wrong_column_is_refused(
    store: sqlstore.Store, name: str, column: Any
) -> None:
    where = refused(store, pd.DataFrame({name: column})).where

    assert name in (where.get("column"), where.get("field"))


def test_a_frame_of_a_subclass_is_a_frame(store: sqlstore.Store) -> None:
    class Frame(pd.DataFrame):
        pass

    assert kept(store, Frame({"label": ["a"]}), "label") == ["a"]


# How writers batch


def commits(store: sqlstore.Store) -> list[int]:
    """Return how many records each commit holds."""
    table = store.sql("SELECT records FROM commits WHERE records > 0 ORDER BY number")
    counts: list[int] = table["records"].to_pylist()
    return counts


def rows(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"k": str(i), **more} for i in range(count)]


def test_a_commit_happens_by_itself_after_so_many_records(keyed: sqlstore.Store) -> None:
    with keyed.writer(commit_records=3) as writer:
        for i, row in enumerate(rows(7)):
            writer.append(row)
            assert len(keyed) == (i + 1) // 3 * 3
        assert writer.ids.tolist() == [0, 1, 2, 3, 4, 5]

    assert writer.ids.tolist() == list(range(7))
    assert commits(keyed) == [3, 3, 1]


def test_a_commit_happens_by_itself_after_so_many_bytes(keyed: sqlstore.Store) -> None:
    noise = np.random.default_rng(0).bytes(600)
    with keyed.writer(commit_bytes=1000) as writer:
        for row in rows(4, f=noise):
            writer.append(row)
    assert commits(keyed) == [2, 2]


def test_the_bytes_of_metadata_count_too(keyed: sqlstore.Store) -> None:
    with keyed.writer(commit_bytes=1000) as writer:
        for row in rows(4, s="x" * 600):
            writer.append(row)
    assert commits(keyed) == [2, 2]


def test_a_refused_record_does_not_count(keyed: sqlstore.Store) -> None:
    with keyed.writer(commit_bytes=1000, commit_records=3) as writer:
        for row in rows(2, s="ok"):
            for _ in range(3):
                with pytest.raises(sqlstore.SchemaError):
                    writer.append({"k": "x" * 2000, "f": b"y" * 2000, "n": 1000, "s": "z"})
            writer.append(row)
        assert commits(keyed) == []
    assert commits(keyed) == [2]


def test_the_key_of_a_refused_record_is_free(keyed: sqlstore.Store) -> None:
    with keyed.writer() as writer:
        for wrong in ({"n": 1000}, {"f": "text"}, {"x": 1}):
            with pytest.raises(sqlstore.SchemaError):
                writer.append({"k": "a", **wrong})
        writer.append({"k": "a"})
    assert len(keyed) == 1


@pytest.mark.parametrize("shape", ["table", "reader", "frame", "rows"])
def test_a_large_number_of_records_is_a_series_of_commits(
    keyed: sqlstore.Store, shape: str
) -> None:
    given_: Any = pa.Table.from_pylist(rows(10))
    if shape == "reader":
        given_ = given_.to_reader(max_chunksize=3)
    elif shape == "frame":
        given_ = given_.to_pandas()
    elif shape == "rows":
        given_ = given_.to_pylist()
    with keyed.writer(commit_records=4) as writer:
        writer.extend(given_)

    assert [record["k"] for record in keyed] == [str(i) for i in range(10)]
    assert sum(commits(keyed)) == 10
    assert max(commits(keyed)) < 8
    assert keyed.verify().faults == []


def test_a_table_of_many_bytes_is_a_series_of_commits(keyed: sqlstore.Store) -> None:
    noise = np.random.default_rng(0)
    table = pa.Table.from_pylist([{**row, "f": noise.bytes(500)} for row in rows(16)])
    with keyed.writer(commit_bytes=2000) as writer:
        writer.extend(table)

    assert [record["f"] for record in keyed] == table["f"].to_pylist()
    assert len(commits(keyed)) >= 4
    assert writer.ids.tolist() == list(range(16))


def test_rows_and_tables_can_be_mixed_and_keep_their_order(keyed: sqlstore.Store) -> None:
    with keyed.writer() as writer:
        writer.append({"k": "a", "f": b"1"})
        writer.extend(pa.table({"k": ["b", "c"], "f": [None, b"3"]}))
        writer.append({"k": "d", "n": 4})
        writer.extend(pd.DataFrame({"k": ["e"]}))
        writer.extend(iter([{"k": "f"}]))
        ids = writer.commit()
        assert writer.commit().tolist() == []

    assert ids.tolist() == list(range(6))
    assert [record["k"] for record in keyed] == list("abcdef")
    assert [record["f"] for record in keyed] == [b"1", None, b"3", None, None, None]
    assert commits(keyed) == [6]


def test_an_error_in_a_series_of_commits_carries_what_was_committed(keyed: sqlstore.Store) -> None:
    def given_() -> Iterator[dict[str, Any]]:
        yield from rows(8192)
        yield {"k": "late"}
        yield {"k": "wrong", "n": "x"}

    with pytest.raises(sqlstore.SchemaError) as caught:
        keyed.extend(given_())

    assert caught.value.where == {"column": "n", "row": 8193}
    committed = caught.value.committed
    assert committed is not None
    assert (committed[0], committed[-1], len(committed)) == (0, 8191, 8192)
    assert len(keyed) == 8192


def test_an_error_before_any_commit_carries_no_ids(keyed: sqlstore.Store) -> None:
    with pytest.raises(sqlstore.SchemaError) as caught:
        keyed.extend([{"k": 1}])
    assert caught.value.committed is not None
    assert caught.value.committed.tolist() == []


def test_an_error_of_the_caller_keeps_what_was_committed_only(keyed: sqlstore.Store) -> None:
    def given_() -> Iterator[dict[str, Any]]:
        yield {"k": "a"}
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        keyed.extend(given_())
    assert len(keyed) == 0

    def with_a_writer() -> None:
        with keyed.writer() as writer:
            writer.append({"k": "a"})
            writer.commit()
            writer.append({"k": "b"})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        with_a_writer()
    assert [record["k"] for record in keyed] == ["a"]


def test_a_rollback_forgets_what_was_not_committed(keyed: sqlstore.Store) -> None:
    with keyed.writer() as writer:
        writer.append({"k": "a"})
        writer.commit()
        writer.append({"k": "b"})
        writer.extend(pa.table({"k": ["c"]}))
        writer.rollback()
        writer.append({"k": "b"})
    assert [record["k"] for record in keyed] == ["a", "b"]


@pytest.mark.parametrize("tabular", [False, True])
def test_a_key_within_one_commit_is_there_once(keyed: sqlstore.Store, *, tabular: bool) -> None:
    given_: Any = [{"k": "a"}, {"k": "b"}, {"k": "a"}]
    if tabular:
        given_ = pa.Table.from_pylist(given_)
    with pytest.raises(sqlstore.DuplicateKeyError, match="k = 'a'") as caught:
        keyed.extend(given_)

    assert caught.value.where == {"row": 2}
    assert len(keyed) == 0


@pytest.mark.parametrize("tabular", [False, True])
def test_a_key_that_is_taken_names_its_record(keyed: sqlstore.Store, *, tabular: bool) -> None:
    keyed.extend([{"k": "x"}, {"k": "a"}])
    given_: Any = [{"k": "b"}, {"k": "c"}, {"k": "a"}, {"k": "d"}]
    if tabular:
        given_ = pa.Table.from_pylist(given_)
    with pytest.raises(sqlstore.DuplicateKeyError) as caught:
        keyed.extend(given_)

    assert caught.value.where == {"row": 2, "record": 1}
    assert len(keyed) == 2
    assert keyed.verify().faults == []


@pytest.mark.parametrize("tabular", [False, True])
def test_a_row_is_counted_over_all_commits_of_a_series(
    keyed: sqlstore.Store, *, tabular: bool
) -> None:
    given_: Any = [{"k": key} for key in "abcdefa"]
    if tabular:
        given_ = pa.Table.from_pylist(given_)
    with pytest.raises(sqlstore.DuplicateKeyError) as caught, keyed.writer(commit_records=3) as w:
        w.extend(given_)

    assert caught.value.where == {"row": 6, "record": 0}
    assert [record["k"] for record in keyed] == list("abcdef")


def test_a_writer_goes_on_after_a_key_was_taken(keyed: sqlstore.Store) -> None:
    keyed.extend([{"k": "a"}])
    with keyed.writer() as writer:
        writer.append({"k": "b"})
        writer.append({"k": "a"})
        with pytest.raises(sqlstore.DuplicateKeyError):
            writer.commit()
        writer.append({"k": "b"})
    assert [record["k"] for record in keyed] == ["a", "b"]


@pytest.mark.parametrize("setting", ["commit_records", "commit_bytes", "commit_seconds"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_commit_takes_something(keyed: sqlstore.Store, setting: str, value: int) -> None:
    settings_: dict[str, Any] = {setting: value}
    with pytest.raises(ValueError, match="at least one record"):
        keyed.writer(**settings_)


def test_a_commit_happens_by_itself_after_some_time(keyed: sqlstore.Store) -> None:
    with keyed.writer(commit_seconds=1e-9) as writer:
        for row in rows(3):
            writer.append(row)
            assert len(keyed) == len(writer.ids) == int(row["k"]) + 1


def test_a_closed_writer_says_so(keyed: sqlstore.Store) -> None:
    with keyed.writer() as writer:
        writer.append({"k": "a"})
    for use in (
        lambda: writer.append({"k": "b"}),
        lambda: writer.extend(pa.table({"k": ["b"]})),
        writer.commit,
    ):
        with pytest.raises(sqlstore.StoreClosedError, match="closed"):
            use()
    writer.close()
    assert writer.ids.tolist() == [0]
    assert len(keyed) == 1


def test_a_writer_dropped_with_records_warns(keyed: sqlstore.Store) -> None:
    def drop_one() -> None:
        keyed.writer().append({"k": "a"})
        gc.collect()

    with pytest.warns(RuntimeWarning, match="never committed"):
        drop_one()
    assert len(keyed) == 0


@pytest.mark.parametrize("name", ["data", "plain", "text", "words"])
@pytest.mark.parametrize("tabular", [False, True])
def test_a_value_that_is_too_large_is_refused(
    store: sqlstore.Store, monkeypatch: pytest.MonkeyPatch, name: str, *, tabular: bool
) -> None:
    monkeypatch.setattr("sqlstore.limits.MAX_VALUE_BYTES", 1000)
    small, large = (
        ("a" * 1000, "a" * 1001) if name in ("text", "words") else (bytes(1000), bytes(1001))
    )
    given_: Any = [{name: small}, {name: large}]
    error = refused(store, pa.Table.from_pylist(given_) if tabular else given_)

    assert isinstance(error, sqlstore.EncodeError)
    assert "1001 bytes; the limit is 1000" in str(error)
    assert error.where == {"field": name, "row": 1}
    assert kept(store, given_[:1], name) == [small]


def test_everything_was_written_as_verify_expects(store: sqlstore.Store) -> None:
    store.extend(ROWS)

    assert store.verify().faults == []


def test_ctrl_c_in_a_long_extend_says_what_is_committed(tmp_path: Path) -> None:
    def records() -> Iterator[dict[str, int]]:
        yield from ({"n": i} for i in range(10_000))
        raise KeyboardInterrupt

    with sqlstore.create(tmp_path / "s", metadata={"n": "int32"}) as store:
        with pytest.raises(KeyboardInterrupt) as caught:
            store.extend(records())
        assert caught.value.__notes__ == [f"records 0 to {len(store) - 1} were committed"]
        assert 0 < len(store) < 10_000
