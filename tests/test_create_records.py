"""Stores made of records alone: they hold them all, or there is none."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import sqlstore

BERLIN = ZoneInfo("Europe/Berlin")
EAST = dt.timezone(dt.timedelta(hours=2))
PNG = b"\x89PNG\r\n\x1a\n"


# What does not fit, and that nothing is left of it

REFUSED: list[tuple[list[Any], str]] = [
    ([1, None, "a"], r"'x' is int64 in row 0 \(int 1\) and text in row 2 \(str 'a'\)"),
    ([True, 1], "bool in row 0 .* int64 in row 1"),
    ([b"", ""], "bytes in row 0 .* text in row 1"),
    ([np.zeros(1), 1.5], "array in row 0 .* float64 in row 1"),
    ([np.zeros(1), [np.zeros(1)]], r"array in row 0 .* array\[\] in row 1"),
    ([[np.zeros(1)], [1]], r"array\[\] in row 0 .* json in row 1"),
    ([[], 1], r"\[\] in row 0 .* int64 in row 1"),
    ([[], [b""], 1, 2], r"bytes\[\] in row 1 .* int64 in row 2"),
    ([dt.date(2024, 1, 1), dt.datetime(2024, 1, 1)], r"date32 in row 0 .* timestamp\[us\] in"),
    ([dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=dt.UTC)], r"us\] .*us, UTC\]"),
    ([dt.datetime(2024, 1, 1, tzinfo=zone) for zone in (BERLIN, dt.UTC)], r"Berlin\] .*UTC\]"),
    ([PNG, Image.new("L", (1, 1))], "bytes in row 0 .* image in row 1"),
    ([1.5, 2**53 + 1], "float64 does not hold 9007199254740993 exactly"),
    ([1.5, 10**400], "float64 does not hold 1000"),
    ([None, None], r"'x' is missing in all 2 .*metadata=\{'x': \"string\"\}"),
    ([{1}], r"'x' is set \{1\}, from which nothing can be inferred.*row 0"),
    ([None, np.timedelta64(1, "s")], "nothing can be inferred.*row 1"),
    ([np.complex64(1)], "nothing can be inferred"),
    ([np.array([None])], "nothing can be inferred"),
    ([2**63], "is not between"),
    ([np.uint64(2**63)], "is not between"),
    ([np.ma.masked_array([1], [True])], "masked array"),
    ([Image.new("CMYK", (1, 1))], "mode CMYK"),
    ([{"a": {1}}], "a tree has"),
]


@pytest.mark.parametrize(("values", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    tmp_path: Path, values: list[Any], message: str
) -> None:
    records = [{"x": value} for value in values]
    with pytest.raises(sqlstore.SchemaError, match=message):
        sqlstore.create(tmp_path / "s", iter(records))
    assert list(tmp_path.iterdir()) == []


def test_what_others_than_the_first_need_is_said_to_be_declared(tmp_path: Path) -> None:
    late = ({"n": i} if i < 1000 else {"n": "x"} for i in range(1001))
    with pytest.raises(sqlstore.SchemaError, match="row 1000") as caught:
        sqlstore.create(tmp_path / "s", late)
    assert "inferred from the first 1,000 records" in caught.value.__notes__[0]


def test_no_records_suggest_nothing(tmp_path: Path) -> None:
    empty: list[Any] = [[], iter([]), pa.table({"n": [1]})[:0], pd.DataFrame({"n": []})]
    for records in (*empty, pa.table({"n": [1]})[:0].to_reader()):
        with pytest.raises(sqlstore.SchemaError, match="no records to infer a schema from"):
            sqlstore.create(tmp_path / "s", records)
    with pytest.raises(sqlstore.SchemaError, match="at least one field or metadata column"):
        sqlstore.create(tmp_path / "s", [{}])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("records", ["text", b"bytes", {"n": [1]}, 5])
def test_what_are_no_records_is_said(tmp_path: Path, records: Any) -> None:
    with pytest.raises(TypeError, match="expected an iterable of mappings"):
        sqlstore.infer(records)
    with pytest.raises(TypeError, match="expected an iterable of mappings"):
        sqlstore.create(tmp_path / "s", records)
    assert list(tmp_path.iterdir()) == []


def test_one_record_that_is_no_mapping_is_named() -> None:
    with pytest.raises(sqlstore.SchemaError, match=r"a record maps names to values.*row 1"):
        sqlstore.infer([{"n": 1}, 2])


# Creating and filling in one go


def numbered(count: int, wrong: Any = None) -> Iterator[dict[str, Any]]:
    for i in range(count):
        yield {"n": i, "data": b"%d" % i}
    if wrong is not None:
        yield wrong


@pytest.mark.parametrize("count", [1, 999, 1000, 1001, 20_000])
def test_an_iterator_is_read_once_and_stored_whole(tmp_path: Path, count: int) -> None:
    with sqlstore.create(tmp_path / "s", numbered(count)) as store:
        assert store.to_arrow()["n"].to_pylist() == list(range(count))
        assert store[-1] == {"n": count - 1, "data": b"%d" % (count - 1)}
        assert store.extend([{"n": -1}]).tolist() == [count]
        assert store.verify()
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


@pytest.mark.parametrize("count", [1000, 20_000])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"n": "a"}, "expected an integer.*column n, row {}"), ({"m": 1}, "named 'm'")],
)
def test_a_later_conflict_is_the_ordinary_error_and_leaves_nothing(
    tmp_path: Path, count: int, wrong: dict[str, Any], message: str
) -> None:
    fields, metadata = sqlstore.infer(numbered(10))
    store = sqlstore.create(tmp_path / "declared", fields=fields, metadata=metadata)
    with store, pytest.raises(sqlstore.SchemaError) as ordinary:
        store.extend(numbered(count, wrong))
    with pytest.raises(sqlstore.SchemaError, match=message.format(count)) as caught:
        sqlstore.create(tmp_path / "s", numbered(count, wrong))
    assert (type(caught.value), str(caught.value)) == (type(ordinary.value), str(ordinary.value))
    assert caught.value.committed is None  # nothing of it is there
    assert [path.name for path in tmp_path.iterdir()] == ["declared"]


def test_any_error_of_the_records_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> Iterator[dict[str, Any]]:
        yield from numbered(20_000)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sqlstore.create(tmp_path / "s", failing())
    with pytest.raises(sqlstore.DuplicateKeyError):
        sqlstore.create(tmp_path / "s", [{"n": 1}, {"n": 1}], key="n")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_taken_costs_no_records(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    records = numbered(5)
    with pytest.raises(sqlstore.StoreExistsError):
        sqlstore.create(tmp_path / "file", records)
    assert len(list(records)) == 5


@pytest.mark.parametrize(
    "large",
    [
        b"a" * 2**24,
        np.zeros(2**24, np.uint8),
        [np.zeros(2**23, np.uint8), np.zeros(2**23, np.uint8)],
        Image.new("RGBA", (2**11, 2**11)),
    ],
    ids=["bytes", "array", "sequence", "image"],
)
def test_few_large_records_are_held_in_memory(large: object) -> None:
    taken: list[int] = []

    def records() -> Iterator[dict[str, Any]]:
        for i in range(10):
            taken.append(i)
            yield {"x": large, "n": i}

    assert sqlstore.infer(records())[1] == {"n": "int64"}
    assert len(taken) == 4  # 64 MiB


def test_few_large_batches_are_held_in_memory() -> None:
    taken: list[int] = []
    batch = pa.record_batch({"x": [b"a" * 2**24]})

    def batches() -> Iterator[pa.RecordBatch]:
        for i in range(10):
            taken.append(i)
            yield batch

    reader = pa.RecordBatchReader.from_batches(batch.schema, batches())
    assert sqlstore.infer(reader) == ({"x": "bytes"}, {})
    assert len(taken) == 4


def test_a_view_is_taken_with_its_fields(tmp_path: Path) -> None:
    store = sqlstore.create(tmp_path / "one", numbered(20))
    with store, sqlstore.create(tmp_path / "two", store.where("n % 3 = 0")) as copy:
        assert [record["n"] for record in copy] == list(range(0, 20, 3))
        assert copy[1] == store[3]


def test_what_is_declared_is_not_looked_at(tmp_path: Path) -> None:
    records = [{"a": None, "b": 1, "c": {1}, "d": "x"}, {"a": None, "b": "two", "c": {2}, "d": "y"}]
    codec = (lambda value: repr(value).encode(), lambda data: set(eval(data)))
    with sqlstore.create(
        tmp_path / "s",
        records,
        fields={"b": "tree", "c": "own"},
        metadata={"a": sqlstore.Column("int8", index=True), "later": "bool"},
        key="d",
        compression=None,
        encodings={"own": codec},
    ) as store:
        assert [f.encoding for f in store.schema.fields.values()] == ["tree", "own"]
        assert [c.type for c in store.schema.columns.values()] == ["int8", "bool", "string"]
        assert store.get(key="y") == {"a": None, "b": "two", "c": {2}, "d": "y", "later": None}


def test_as_many_records_are_looked_at_as_one_says() -> None:
    records = [{"n": 1}, {"n": 2.5}, {"n": "a"}]
    assert sqlstore.infer(records, first=1) == ({}, {"n": "int64"})
    assert sqlstore.infer(records, first=2, fields={"f": "utf8"}) == (
        {"f": "utf8"},
        {"n": "float64"},
    )
    with pytest.raises(ValueError, match="at least one record"):
        sqlstore.infer(records, first=0)
    fields, metadata = sqlstore.infer({"n": i if i < 1000 else "a"} for i in range(1001))
    assert (fields, metadata) == ({}, {"n": "int64"})


# Against a plain model

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
arrays = st.builds(
    lambda n, dtype: np.arange(n).astype(dtype), st.integers(0, 5), st.sampled_from("bifU")
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
datetimes = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2100, 1, 1))
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float64": st.floats(allow_nan=False),
    "bool": st.booleans(),
    "string": texts,
    "date32": st.dates(),
    "timestamp[us]": datetimes,
    "timestamp[us, UTC]": datetimes.map(lambda moment: moment.replace(tzinfo=dt.UTC)),
    "json": st.dictionaries(texts, json_values, max_size=3),
    "uint8": st.integers(0, 255).map(np.uint8),
    "float32": st.floats(width=32, allow_nan=False).map(np.float32),
    "field bytes": st.binary(max_size=8).map(lambda data: b"no image" + data),
    "field array": arrays,
    "field tree": st.tuples(json_values, arrays),
    "field array[]": st.lists(arrays, max_size=3),
    "field bytes[]": st.lists(st.binary(max_size=7), max_size=3),
}


@st.composite
def columns(draw: st.DrawFn) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Return what to expect for each name, and records."""
    expected = draw(st.dictionaries(st.sampled_from("abcde"), st.sampled_from(list(KINDS))))
    records: list[dict[str, Any]] = [{} for _ in range(draw(st.integers(1, 6)))]
    for name, kind in expected.items():
        there = draw(
            st.lists(st.sampled_from("yyno"), min_size=len(records), max_size=len(records))
        )
        for record, choice in zip(records, there, strict=True):
            if choice != "o":
                record[name] = draw(KINDS[kind]) if choice == "y" else None
    return expected, records


def as_expected(kind: str, values: list[Any]) -> str | None:
    """Return what these values of a kind suggest; None if nothing."""
    if not values:
        return None
    return "json" if kind.endswith("[]") and not any(map(len, values)) else kind


def is_same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and np.array_equal(one, other)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(one == other)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
@given(columns())
def test_what_is_inferred_is_what_a_plain_model_says_and_holds_the_records(
    drawn: tuple[dict[str, str], list[dict[str, Any]]],
) -> None:
    expected, records = drawn
    present = {
        name: [record[name] for record in records if record.get(name) is not None]
        for name in expected
    }
    model = {name: as_expected(kind, present[name]) for name, kind in expected.items()}
    seen = {name for record in records for name in record}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "s")
        if not seen or any(model[name] is None for name in seen):
            with pytest.raises(sqlstore.SchemaError, match=r"is missing in all|at least one"):
                sqlstore.create(path, iter(records))
            assert not path.exists()
            return
        with sqlstore.create(path, iter(records)) as store:
            found = {f.name: f"field {f.encoding}" for f in store.schema.fields.values()}
            found |= {c.name: str(c.type) for c in store.schema.columns.values()}
            assert found == {name: model[name] for name in seen}
            for record, kept in zip(records, store, strict=True):
                assert all(is_same(record.get(name), kept[name]) for name in seen)


class Stream:
    """Nothing but an Arrow stream, as polars and DuckDB give one."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


SHAPES: list[Callable[[pa.Table], Any]] = [
    lambda table: table,
    lambda table: table.to_reader(max_chunksize=2),
    lambda table: Stream(table),
    lambda table: table.to_pylist(),
    lambda table: table.to_pandas(types_mapper=pd.ArrowDtype),
]


@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_the_shape_of_records_does_not_change_what_they_suggest(tmp_path: Path, shape: int) -> None:
    table = pa.table(
        {
            "n": [1, None, 3],
            "weight": [1.5, None, 2.5],
            "label": ["a", None, "b"],
            "flag": [True, None, False],
            "data": [b"a", None, b""],
            "day": [dt.date(2024, 1, 2), None, dt.date(1, 1, 1)],
            "moment": pa.array([1, None, 3], pa.timestamp("us", "UTC")),
        }
    )
    with sqlstore.create(tmp_path / "s", SHAPES[shape](table)) as store:
        assert store.blobs("data").to_pylist() == table["data"].to_pylist()
        assert store.to_arrow().drop_columns("id").equals(table.drop_columns("data"))
