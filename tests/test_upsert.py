"""Tables of values by id or by key: updates of what is there, and appends of what is new."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import sqlstore
from tests import processes
from tests.edited import assert_edited


def new_store(path: Path, count: int = 6) -> Path:
    metadata = {
        "path": "string",
        "n": sqlstore.Column("int32", nullable=False),
        "score": "float64",
        "extra": "json",
    }
    with sqlstore.create(path, fields={"note": "utf8"}, metadata=metadata, key="path") as store:
        store.extend({"note": f"note {i}", "path": f"p{i}", "n": i} for i in range(count))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a store of six records, whose column `n` is the id."""
    return new_store(tmp_path / "s")


def column(store: sqlstore.Store, name: str) -> list[Any]:
    found: list[Any] = store.to_arrow()[name].to_pylist()
    return found


def reader(table: pa.Table) -> pa.RecordBatchReader:
    return pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=2))


KINDS: list[Callable[[pa.Table], Any]] = [
    lambda table: table,
    lambda table: table.to_batches()[0],
    reader,
    pa.Table.to_pandas,
    pl.from_arrow,
]


@pytest.mark.parametrize("make", KINDS, ids=["table", "batch", "reader", "pandas", "polars"])
def test_rows_of_new_keys_are_appended_and_others_updated(
    path: Path, make: Callable[[pa.Table], Any]
) -> None:
    given = {"path": ["p4", "new", "p0", "newer"], "n": [40, 6, 0, 7], "score": [4.5, 0.5, None, 1]}
    table = pa.table(given)
    with sqlstore.open(path, "a") as store:
        store.update(score=9.0)
        assert store.upsert(make(table)).tolist() == [4, 6, 0, 7]
        assert column(store, "n") == [0, 1, 2, 3, 40, 5, 6, 7]
        missing = float("nan") if make is pa.Table.to_pandas else None
        assert repr(column(store, "score")) == repr([missing, 9, 9, 9, 4.5, 9, 0.5, 1.0]).replace(
            " 9,", " 9.0,"
        )
        assert store.get(key="newer") == {**store[7], "note": None, "path": "newer", "n": 7}
        assert store.upsert(make(table)).tolist() == [4, 6, 0, 7]  # the same again
        assert len(store) == 8
    assert_edited(path)


def test_without_the_key_the_id_tells_the_record(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        store[1:2].delete()
        frame = pd.DataFrame({"id": [5, 2], "extra": [{"a": 1}, [2]]})
        assert store.upsert(frame).tolist() == [5, 2]
        assert store.get(5)["extra"] == {"a": 1}
        assert store.get(2)["extra"] == [2]
        with pytest.raises(sqlstore.RecordNotFoundError, match=r"record 1, row 1"):
            store.upsert(pa.table({"id": [3, 1], "n": [3, 1]}))
    assert_edited(path)


def test_by_id_keys_are_changed_and_exchanged(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        store.upsert(pa.table({"id": [1, 0, 2], "path": ["p0", "p1", "other"]}), on="id")
        assert column(store, "path")[:3] == ["p1", "p0", "other"]
        with pytest.raises(sqlstore.DuplicateKeyError, match="'p5' is there"):
            store.upsert(pa.table({"id": [3], "path": ["p5"]}), on="id")
    assert_edited(path)


def test_a_table_of_the_store_itself_goes_back(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        table = store.to_arrow()
        doubled = table.set_column(2, "n", pa.array([2 * n for n in range(6)], pa.int32()))
        assert store.upsert(doubled).tolist() == list(range(6))
        assert column(store, "n") == [0, 2, 4, 6, 8, 10]
        renamed = table.set_column(1, "path", pa.array(["x", *column(store, "path")[1:]]))
        with pytest.raises(sqlstore.SchemaError, match=r'id 0, .* no record; on="id" changes keys'):
            store.upsert(renamed)
        swapped = table.set_column(1, "path", table["path"].take(pa.array([1, 0, 2, 3, 4, 5])))
        with pytest.raises(sqlstore.SchemaError, match=r"the id 0, .* record 1;"):
            store.upsert(swapped)
        store.upsert(renamed, on="id")
        assert store.get(key="x")["n"] == 0
    assert_edited(path)


def test_new_records_bring_values_of_fields(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        table = pa.table({"path": ["a", "b"], "n": [1, 2], "note": ["first", None]})
        ids = store.upsert(table)
        assert [store.get(i)["note"] for i in ids.tolist()] == ["first", None]
        with pytest.raises(
            sqlstore.SchemaError, match=r"View.replace.*field note, record 6, row 1"
        ):
            store.upsert(pa.table({"path": ["c", "a"], "n": [1, 2], "note": ["x", "y"]}))
        assert len(store) == 8
    assert_edited(path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"path": ["p1", "p2", "p1"]}, r"key path = 'p1' twice \(row 2\)"),
        ({"id": [1, 2, 1], "n": [1, 2, 3]}, r"the record twice \(record 1, row 2\)"),
        ({"path": ["p1", None], "n": [1, 2]}, r"required \(column path, row 1\)"),
        ({"id": pa.array([1, None]), "n": [1, 2]}, r"required \(column id, row 1\)"),
        ({"id": ["p1"], "n": [1]}, "string values do not fit a int64 column"),
        ({"path": ["new", "p1"], "n": [1, None]}, r"required \(column n, row 1\)"),
        ({"path": ["p1", "p2", "new"]}, r"required \(column n, row 2\)"),
        ({"path": ["p1"], "n": [2**40]}, "column n"),
        ({"path": ["p1"], "m": [1]}, "'m'"),
        ({"n": [1]}, "no column id or path"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_changed(
    path: Path, given: dict[str, Any], message: str
) -> None:
    with sqlstore.open(path, "a") as store:
        before = store.to_arrow()
        with pytest.raises(sqlstore.SchemaError, match=message):
            store.upsert(pa.table(given))
        assert store.to_arrow() == before


def test_a_row_that_cannot_be_appended_is_named_as_in_the_table(path: Path) -> None:
    frame = pd.DataFrame({"path": ["a", "b"], "n": [1, 2], "note": ["x", 5]})
    with sqlstore.open(path, "a") as store:
        with pytest.raises(sqlstore.EncodeError, match="row 1"):
            store.upsert(frame)
        assert len(store) == 6


@pytest.mark.parametrize("on", ["n", "note", "nn"])
def test_records_are_found_by_id_or_key_alone(path: Path, on: str) -> None:
    with sqlstore.open(path, "a") as store:
        with pytest.raises(sqlstore.SchemaError, match="found by id or path"):
            store.upsert(pa.table({"path": ["p1"], "n": [1]}), on=on)
        with pytest.raises(TypeError, match=r"take view\.to_arrow"):
            store.upsert(store[:1])
        with pytest.raises(TypeError, match="expected an Arrow table"):
            store.upsert([{"id": 1}])
    with sqlstore.open(path) as store, pytest.raises(sqlstore.ReadOnlyError):
        store.upsert(pa.table({"path": ["p1"], "n": [1]}))


def test_two_columns_of_one_name_are_refused(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["id", "id"])
        with pytest.raises(sqlstore.SchemaError, match="same name"):
            store.upsert(twice)


def test_keys_that_others_have_appended_are_not_new(path: Path) -> None:
    with sqlstore.open(path, "a") as store, sqlstore.open(path, "a") as other:
        other.extend([{"path": "theirs", "n": 1}])
        assert store.upsert(pa.table({"path": ["theirs"], "n": [2]})).tolist() == [6]
        assert store[6]["n"] == 2
    assert_edited(path)


def test_tables_without_rows_or_values_change_nothing(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        before = store.sql("SELECT count(*) AS n FROM commits")
        assert store.upsert(pa.table({"path": pa.array([], pa.string())})).tolist() == []
        assert store.upsert(pa.table({"path": ["p2"]})).tolist() == [2]
        assert store.sql("SELECT count(*) AS n FROM commits") == before


def test_many_rows_equal_the_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = new_store(tmp_path / "s", 3000)
    with sqlstore.open(path, "a") as store:
        store.where("n % 7 = 0").delete()
        model = {record["path"]: record["n"] for record in store.select("path", "n")}
        numbers = rng.permutation(6000)[:2500]
        keys, values = [f"p{i}" for i in numbers], rng.integers(0, 99, 2500).tolist()
        ids = store.upsert(pa.table({"path": keys, "n": pa.array(values, pa.int32())}))
        model.update(zip(keys, values, strict=True))
        table = store.to_arrow()
        assert dict(zip(table["path"].to_pylist(), table["n"].to_pylist(), strict=True)) == model
        assert [store.get(int(i))["path"] for i in ids[:50]] == keys[:50]
        assert len(set(ids.tolist())) == 2500
    assert_edited(path)


# A column from a table


def test_a_column_is_added_from_a_table(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        store[4:5].delete()
        store.add_column("a", "float32", pa.table({"path": ["p5", "p0"], "any": [0.5, None]}))
        store.add_column("b", "int8", pd.DataFrame({"clip": [1, 2], "id": [3, 1]}))
        assert column(store, "a") == [None, None, None, None, 0.5]
        assert column(store, "b") == [None, 2, None, 1, None]
    assert_edited(path)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"id": [1, 6], "v": [1, 2]}, sqlstore.RecordNotFoundError, "record 6, row 1"),
        ({"path": ["p1", "x"], "v": [1, 2]}, sqlstore.RecordNotFoundError, r"'x' \(row 1\)"),
        ({"id": [1, 1], "v": [1, 2]}, sqlstore.SchemaError, "twice"),
        ({"id": [1], "v": [300]}, sqlstore.SchemaError, "column c"),
        ({"id": [1]}, sqlstore.SchemaError, "has two: id or path, and the values"),
        ({"v": [1], "w": [1]}, sqlstore.SchemaError, "has v, w"),
        ({"id": [1], "path": ["p1"]}, sqlstore.SchemaError, "has id, path"),
    ],
)
def test_a_table_that_does_not_fit_adds_no_column(
    path: Path, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    with sqlstore.open(path, "a") as store:
        with pytest.raises(error, match=message):
            store.add_column("c", "int8", pa.table(given))
        assert "c" not in store.schema.columns


def test_a_key_that_a_killed_writer_kept_from_the_index_is_not_new(tmp_path: Path) -> None:
    store_path, batch = processes.new_store(tmp_path / "s"), (1, 0)
    arguments = store_path, tmp_path / "note", [batch], 64, "before run COMMIT"
    with processes.Child(processes.commit_batches, *arguments) as child:
        assert child.exit_code() == -signal.SIGKILL
    with sqlstore.open(store_path, "a") as store:
        assert len(store) == 0
        name = processes.records_of(batch, 2)[1]["name"]
        assert store.upsert(pa.table({"name": [name], "writer": [7]})).tolist() == [1]
        assert column(store, "writer") == [1, 7]
