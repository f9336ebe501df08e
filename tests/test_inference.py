"""What schema records suggest, by values and by the types of tables."""

from __future__ import annotations

import datetime as dt
import io
import math
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

import sqlstore

BERLIN = ZoneInfo("Europe/Berlin")
EAST = dt.timezone(dt.timedelta(hours=2))
LONG = "long " * 900


def file_of(kind: str) -> bytes:
    stream = io.BytesIO()
    if kind == "npy":
        np.save(stream, np.arange(3))
    else:
        Image.new("RGB", (3, 3)).save(stream, kind)
    return stream.getvalue()


PNG, JPG, NPY = file_of("png"), file_of("jpeg"), file_of("npy")


def suggested(*values: Any) -> str:
    """Return what is declared for the values of one name; fields have a mark before it."""
    fields, metadata = sqlstore.infer([{"x": value} for value in values])
    assert len(fields) + len(metadata) == 1
    return f"field {fields['x']}" if fields else str(metadata["x"])


# One kind of value

SINGLE: list[tuple[Any, str]] = [
    (np.zeros((4, 4), np.uint8), "field array"),
    (np.zeros((4, 4, 3), np.uint8), "field array"),
    (np.zeros((), "<f4"), "field array"),
    (np.array(["a"]), "field array"),
    (Image.new("RGB", (2, 2)), "field png"),
    (b"", "field bytes"),
    (bytearray(b"x"), "field bytes"),
    (memoryview(PNG), "field png"),
    (JPG, "field jpg"),
    (NPY, "field npy"),
    ("a", "string"),
    ("", "string"),
    (np.str_("a"), "string"),
    (LONG, "field utf8"),
    (True, "bool"),
    (np.True_, "bool"),
    (1, "int64"),
    (1.5, "float64"),
    (np.int8(1), "int8"),
    (np.uint16(1), "uint16"),
    (np.uint64(1), "uint64"),
    (np.float16(1.5), "float32"),
    (np.float32(1), "float32"),
    (np.float64(1), "float64"),
    (dt.date(2024, 1, 2), "date32"),
    (np.datetime64("2024-01-02"), "date32"),
    (np.datetime64("2024-01-02T03:04:05"), "timestamp[us]"),
    (dt.datetime(2024, 1, 2), "timestamp[us]"),
    (dt.datetime(2024, 1, 2, tzinfo=dt.UTC), "timestamp[us, UTC]"),
    (dt.datetime(2024, 1, 2, tzinfo=BERLIN), "timestamp[us, Europe/Berlin]"),
    (dt.datetime(2024, 1, 2, tzinfo=EAST), "timestamp[us, UTC]"),
    (pd.Timestamp("2024-01-02", tz="Europe/Berlin"), "timestamp[us, Europe/Berlin]"),
    ({"a": [1, None, {"b": "c"}]}, "json"),
    ({}, "json"),
    ([], "json"),
    ([1, "a"], "json"),
    (["a", "b"], "json"),
    ([LONG, LONG], "field utf8[]"),
    ([1.5, math.nan], "field tree"),
    ({1: "JSON would make it text"}, "field tree"),
    ((1, 2), "field tree"),
    ((), "field tree"),
    (("a",), "field tree"),
    ({"a": np.zeros(2)}, "field tree"),
    ([np.zeros(2), 1], "field tree"),
    ([np.zeros(2), None], "field tree"),
    ([np.zeros(2), np.zeros((3, 1))], "field array[]"),
    ((np.zeros(2),), "field array[]"),
    ([Image.new("L", (2, 2))], "field png[]"),
    ([b"a", b""], "field bytes[]"),
    ([PNG, b""], "field bytes[]"),
    ([JPG, JPG], "field jpg[]"),
]


@pytest.mark.parametrize(("value", "expected"), SINGLE, ids=range(len(SINGLE)))
def test_a_value_says_what_it_is(value: Any, expected: str) -> None:
    assert suggested(value) == expected
    assert suggested(None, value, None, value) == expected


# Several kinds that go together

TOGETHER: list[tuple[list[Any], str]] = [
    ([1, 1.5], "float64"),
    ([1.5, 2**53], "float64"),
    ([1, np.int8(1)], "int64"),
    ([np.int8(1), np.int16(1)], "int16"),
    ([np.int8(1), np.uint8(1)], "int16"),
    ([np.uint64(1), 1], "int64"),
    ([np.float32(1), np.int8(1)], "float32"),
    ([np.float32(1), 1], "float64"),
    ([[], {"a": 1}], "json"),
    ([[], [np.zeros(1)], ()], "field array[]"),
    ([[], ()], "field tree"),
    ([{"a": 1}, {2: 1}], "field tree"),
    ([["a"], [1]], "json"),
    ([[LONG], [1]], "json"),
    ([[LONG], []], "field utf8[]"),
    ([[LONG], (1,)], "field tree"),
    ([[LONG], ()], "field tree"),
    ([LONG, *["short"] * 9], "string"),
    ([PNG, JPG], "field bytes"),
    ([PNG, b"x"], "field bytes"),
    ([[PNG], [JPG]], "field bytes[]"),
    ([dt.datetime(2024, 1, 2, tzinfo=dt.UTC), dt.datetime(2024, 1, 2, tzinfo=EAST)],
     "timestamp[us, UTC]"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "expected"), TOGETHER, ids=range(len(TOGETHER)))
def test_kinds_that_one_declaration_holds_go_together(values: list[Any], expected: str) -> None:
    assert suggested(*values) == expected
    assert suggested(*reversed(values)) == expected


# Tables

ARROW: list[tuple[pa.Array, str]] = [
    (pa.array([1, None], pa.int8()), "int8"),
    (pa.array([None, None], pa.uint64()), "uint64"),
    (pa.array([1.5, None], pa.float16()), "float32"),
    (pa.array([math.nan, None], pa.float64()), "float64"),
    (pa.array([True, None]), "bool"),
    (pa.array(["a", None], pa.large_string()), "string"),
    (pa.array(["a", "b"]).dictionary_encode(), "string"),
    (pa.array(["a", "b"]).cast(pa.string_view()), "string"),
    (pa.array([None, None], pa.string()), "string"),
    (pa.array([LONG, None]), "field utf8"),
    (pa.array([b"a", None], pa.binary(1)), "field bytes"),
    (pa.array([None, None], pa.binary()), "field bytes"),
    (pa.array([PNG, None]), "field png"),
    (pa.array([1, None], pa.timestamp("s")), "timestamp[us]"),
    (pa.array([1000, None], pa.timestamp("ns", "Europe/Berlin")), "timestamp[us, Europe/Berlin]"),
    (pa.array([86_400_000, None], pa.date64()), "date32"),
    (pa.array([[1.5, 2], None]), "field array"),
    (pa.array([[1, 2], None], pa.list_(pa.int16(), 2)), "field array"),
    (pa.FixedShapeTensorArray.from_numpy_ndarray(np.ones((2, 3, 4), np.float32)), "field array"),
    (pa.array([["a"], None]), "json"),
    (pa.array([[b"a"], None]), "field bytes[]"),
    (pa.array([{"a": 1}, None]), "json"),
    (pa.array([[[1]], None]), "json"),
]


@pytest.mark.parametrize(("array", "expected"), ARROW, ids=[str(array.type) for array, _ in ARROW])
def test_a_column_of_a_table_is_what_its_type_says(
    tmp_path: Path, array: pa.Array, expected: str
) -> None:
    table = pa.table({"x": array, "n": [1, 2]})
    for i, shape in enumerate((table, table.to_reader(max_chunksize=1), table.to_batches()[0])):
        with sqlstore.create(tmp_path / str(i), shape) as store:
            declared = [f"field {field.encoding}" for field in store.schema.fields.values()]
            assert [*declared, *(c.type for c in store.schema.columns.values())] == [
                expected,
                "int64",
            ]
            assert store.to_arrow()["n"].to_pylist() == [1, 2]
            assert (store[1]["x"] is None) == (array[1].as_py() is None)


def test_a_stream_longer_than_what_is_looked_at_is_stored_whole(tmp_path: Path) -> None:
    table = pa.table({"n": range(2500), "data": [b"%d" % i for i in range(2500)]})
    with sqlstore.create(tmp_path / "s", table.to_reader(max_chunksize=700)) as store:
        assert store.to_arrow()["n"].to_pylist() == list(range(2500))
        assert store.blobs("data").to_pylist() == table["data"].to_pylist()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (pa.array([dt.timedelta(1)]), r"column of duration\[us\]"),
        (pa.array([None]), "'x' is missing in all 1 records"),
        (pa.array([[None]], pa.list_(pa.float64())), "null in it"),
        (pa.array([1], pa.timestamp("ns")), "would lose data"),
    ],
)
def test_a_column_that_cannot_be_kept_is_refused(
    tmp_path: Path, array: pa.Array, message: str
) -> None:
    with pytest.raises(sqlstore.SchemaError, match=message):
        sqlstore.create(tmp_path / "s", pa.table({"x": array}))
    assert list(tmp_path.iterdir()) == []


def test_a_data_frame_is_taken_by_its_types_and_its_objects_by_their_values(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "label": ["a", "b"],
            "kind": pd.Categorical(["a", None]),
            "n": np.array([1, 2], np.int16),
            "weight": [1.5, math.nan],
            "taken": pd.to_datetime(["2024-01-02", "NaT"]).tz_localize("Europe/Berlin"),
            "image": [np.zeros((2, 2), np.uint8), None],
            "extra": [{"a": 1}, math.nan],
            "maybe": pd.array([1, None], "Int32"),
        },
        index=[7, 8],
    )
    with sqlstore.create(tmp_path / "s", frame) as store:
        assert {f.name: f.encoding for f in store.schema.fields.values()} == {"image": "array"}
        assert {c.name: c.type for c in store.schema.columns.values()} == {
            "label": "string",
            "kind": "string",
            "n": "int16",
            "weight": "float64",
            "taken": "timestamp[us, Europe/Berlin]",
            "extra": "json",
            "maybe": "int32",
        }
        assert store[0]["extra"] == {"a": 1}
        assert store[1]["taken"] is store[1]["image"] is store[1]["maybe"] is None
