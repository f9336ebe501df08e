"""Changes of the schema: metadata columns and SQL indices that come, go and are renamed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sqlstore
from tests.edited import assert_edited, new_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a store of ten records, whose column `n` is the id."""
    return new_store(tmp_path / "s", 10)


def test_a_column_that_is_added_is_missing_at_first(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        view = store.where("n > 7")
        store.add_column("clip", "float32")
        assert store.schema.columns["clip"].type == "float32"
        assert store[0]["clip"] is None
        assert view[0]["clip"] is None
        view.update(clip=np.array([0.5, 0.25]))
        assert view.to_arrow()["clip"].to_pylist() == [0.5, 0.25]
        assert store.where("clip < 0.3").ids.tolist() == [9]
        assert store.where(store.c.clip > 0.3).ids.tolist() == [8]
        store.extend([{"n": 10, "needed": 1, "clip": 9.0}])
        assert store[-1]["clip"] == 9.0
    assert_edited(path)


def test_a_column_is_added_with_its_values(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        store[3:4].delete()
        store.add_column("each", sqlstore.Column("int16", index=True), np.arange(9))
        store.add_column("same", "string", "all")
        store.add_column("twice", "int64", store.c.n * 2)
        assert store.where("each = 3").ids.tolist() == [4]
        assert store[3] == {**store[3], "each": 3, "same": "all", "twice": 8}
    assert_edited(path)


@pytest.mark.parametrize(
    ("declared", "values", "message"),
    [
        ("float16", None, "float16"),
        (sqlstore.Column("int8", nullable=False), None, "have no value of it"),
        ("int8", np.arange(10) + 300, "300"),
        ("int8", np.arange(9), "9 values for 10 records"),
    ],
)
def test_a_column_that_cannot_be_is_not_added(
    path: Path, declared: Any, values: Any, message: str
) -> None:
    with sqlstore.open(path, "a") as store:
        with pytest.raises(sqlstore.SchemaError, match=message):
            store.add_column("x", declared, values)
        for name in ("n", "N", "note", "id", "true", ""):
            with pytest.raises(sqlstore.SchemaError, match="name"):
                store.add_column(name, "int8")
        assert "x" not in store.schema.columns
    assert_edited(path)


def test_a_dropped_column_is_gone_and_its_number_is_not_used_again(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        view = store.select("n", "flag")
        store.add_column("last", "int8", 1)
        store.drop_column("last")
        store.add_column("last", "int8")
        assert store.to_arrow()["last"].null_count == 10
        store.drop_column("n")
        assert "n" not in store[0]
        with pytest.raises(sqlstore.UnknownNameError, match="'n'"):
            view.to_arrow()
        with pytest.raises(sqlstore.QueryError, match="no such column"):
            store.where("n = 1")
    assert_edited(path)


def test_a_renamed_column_keeps_its_values(tmp_path: Path) -> None:
    path = new_store(tmp_path / "s", 5, key="label")
    with sqlstore.open(path, "a") as store:
        store.rename_column("n", "number")
        store.rename_column("label", "path")
        assert store.schema.key == "path"
        assert store.get(key="l3")["number"] == 3
        store.add_column("n", "string", "new")
        assert store[1] == {**store[1], "number": 1, "n": "new"}
        with pytest.raises(sqlstore.SchemaError, match="there twice"):
            store.rename_column("n", "Number")
        store.rename_column("n", "N")
        with pytest.raises(sqlstore.SchemaError, match="the key"):
            store.drop_column("path")
        with pytest.raises(sqlstore.SchemaError, match="the key"):
            store.drop_index("path")
    assert_edited(path)


def test_expressions_are_of_the_columns_that_there_are_now(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        c = store.c
        store.add_column("x", "int8", 3)
        store.rename_column("label", "name")
        assert store.where(c.n > 7).ids.tolist() == [8, 9]
        assert store.where(c.n > 7, store.c.x == 3).order_by(c.n.desc()).ids.tolist() == [9, 8]
        with pytest.raises(sqlstore.QueryError, match="'label' any more"):
            store.where(c.label == "l3")


def test_an_index_is_made_and_dropped(path: Path) -> None:
    def plan() -> str:
        (found,) = store.sql("EXPLAIN QUERY PLAN SELECT id FROM records WHERE n = 3").to_pylist()
        return str(found["detail"])

    with sqlstore.open(path, "a") as store:
        assert "SCAN" in plan()
        store.create_index("n")
        assert "USING COVERING INDEX index_0" in plan()
        assert store.where("n = 3").ids.tolist() == [3]
        with pytest.raises(sqlstore.SchemaError, match="an index already"):
            store.create_index("n")
        store.rename_column("n", "m")
        store.drop_index("m")
        with pytest.raises(sqlstore.SchemaError, match="no index to drop"):
            store.drop_index("m")
    assert_edited(path)


def test_a_writer_is_opened_with_a_schema_that_only_the_log_has_yet(path: Path) -> None:
    """A power failure keeps a commit from the index, and what named it out of `writer.lock`."""
    index, before = path / "index.sqlite", path.with_name("before.sqlite")
    shutil.copy(index, before)
    with sqlstore.open(path, "a") as store:
        store.add_column("added", "int32")
    before.replace(index)
    (path / "writer.lock").write_bytes(bytes(512))
    with sqlstore.open(path, "a") as store:
        (record,) = store.extend([{"added": 5, "needed": 1}])
    with sqlstore.open(path) as store:
        assert store.get(record)["added"] == 5
    assert_edited(path)
