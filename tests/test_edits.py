"""Edits: what changes records that are there, and the columns that they have."""

from __future__ import annotations

import datetime as dt
import math
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy

import sqlstore
from tests.edited import assert_edited, new_store
from tests.processes import Child


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a store of ten records, whose column `n` is the id."""
    return new_store(tmp_path / "s", 10)


def numbers(path: Path) -> list[Any]:
    with sqlstore.open(path) as store:
        found: list[Any] = store.to_arrow()["n"].to_pylist()
    return found


# Updates


def test_one_value_is_given_to_all_records_of_a_view(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        store.where("n > 6").update(n=-1, label="high")
        assert store.to_arrow()["n"].to_pylist() == [*range(7), -1, -1, -1]
        assert [record["label"] for record in store.where("n = -1")] == ["high"] * 3
    assert_edited(path)


@pytest.mark.parametrize(
    "make",
    [
        np.array,
        pa.array,
        lambda values: pa.chunked_array([values[:1], values[1:]]),
        pd.Series,
        lambda values: pd.Series(values, index=[7, 8, 9], dtype="Int64"),
    ],
)
def test_an_array_gives_each_record_its_own_value(path: Path, make: Callable[..., Any]) -> None:
    with sqlstore.open(path, "a") as store:
        store.take([5, 1, 3]).update(n=make([50, 10, 30]))
    assert numbers(path) == [0, 10, 2, 30, 4, 50, 6, 7, 8, 9]
    assert_edited(path)


def test_an_expression_is_computed_for_each_record(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        upper = sqlalchemy.func.upper(store.c.label)
        store.where("n < 2").update(n=store.c.n * 10 + store.c.id, label=upper)
        assert [record["label"] for record in store[:3]] == ["L0", "L1", "l2"]
        store[3:4].update(n=sqlalchemy.text("n + length(label)"))
    assert numbers(path)[:4] == [0, 11, 2, 5]
    assert_edited(path)


def test_every_type_of_value_comes_back_as_it_was_given(path: Path) -> None:
    when = dt.datetime(2024, 2, 29, 12, 30, 0, 7, tzinfo=dt.UTC)
    values = {
        "score": math.nan,
        "when": when,
        "extra": {"a": [1, None]},
        "flag": True,
        "big": 2**62,
    }
    with sqlstore.open(path, "a") as store:
        store[2:4].update(**values)
        for record in store[2:4]:
            assert math.isnan(record.pop("score"))
            assert record == {**record, **{n: v for n, v in values.items() if n != "score"}}
        store[3:4].update(score=-0.0, when=None, extra=None, flag=None, big=None)
        found = store[3]
        assert math.copysign(1, found["score"]) == -1
        assert [found[name] for name in ("when", "extra", "flag", "big")] == [None] * 4
        assert store.where('"when" IS NOT NULL').ids.tolist() == [2]
        assert store.where("score = 0").ids.tolist() == [3]
    assert_edited(path)


def test_what_was_committed_last_counts(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        store[0:4].update(n=100)
        store[2:6].update(n=200)
        store[5:6].update(n=300)
    assert numbers(path) == [100, 100, 200, 200, 200, 300, 6, 7, 8, 9]
    shutil.rmtree(path / "cache")
    assert numbers(path) == [100, 100, 200, 200, 200, 300, 6, 7, 8, 9]
    assert_edited(path)


def test_records_may_exchange_their_keys(tmp_path: Path) -> None:
    path = new_store(tmp_path / "s", 4, key="label")
    with sqlstore.open(path, "a") as store:
        store.take([0, 1, 2]).update(label=np.array(["l1", "l2", "l0"]))
        assert store.get(key="l0")["n"] == 2
        assert [record["label"] for record in store] == ["l1", "l2", "l0", "l3"]
    assert_edited(path)


@pytest.mark.parametrize("labels", [["l3", "new"], ["same", "same"]])
def test_a_key_that_another_record_has_is_refused(tmp_path: Path, labels: list[str]) -> None:
    path = new_store(tmp_path / "s", 4, key="label")
    with sqlstore.open(path, "a") as store:
        before = store.to_arrow()
        with pytest.raises(sqlstore.DuplicateKeyError, match=r"label = '(l3|same)' is there"):
            store[:2].update(label=np.array(labels))
        assert store.to_arrow() == before
        store.extend([{"label": "later"}])
    assert_edited(path)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"n": "text"}, sqlstore.SchemaError, "n"),
        ({"n": 2**40}, sqlstore.SchemaError, "n"),
        ({"n": [1, 2]}, sqlstore.SchemaError, "n"),
        ({"needed": None}, sqlstore.SchemaError, "required"),
        ({"n": np.arange(3)}, sqlstore.SchemaError, "3 values for 10 records"),
        ({"nn": 1}, sqlstore.UnknownNameError, "nn"),
        ({"note": "x"}, sqlstore.UnknownNameError, "a field, not a metadata column"),
        ({}, TypeError, "what to update"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_changed(
    path: Path, values: dict[str, Any], error: type[Exception], message: str
) -> None:
    sizes = {chunk.name: chunk.stat().st_size for chunk in path.glob("chunks/*")}
    with sqlstore.open(path, "a") as store:
        with pytest.raises(error, match=message):
            store.update(**values)
        overflow = store.c.n + 2**40
        with pytest.raises(sqlstore.SchemaError, match="what is computed does not fit"):
            store.update(n=overflow)
        with pytest.raises(sqlstore.SchemaError, match="the view has the record twice"):
            store.take([4, 4]).update(n=1)
    assert numbers(path) == list(range(10))
    assert {chunk.name: chunk.stat().st_size for chunk in path.glob("chunks/*")} == sizes


@pytest.mark.parametrize(
    "edit",
    [
        lambda store: store.update(n=1),
        lambda store: store[:1].delete(),
        lambda store: store[:1].replace("note", ["x"]),
        lambda store: store.add_column("x", "int8"),
        lambda store: store.drop_column("n"),
        lambda store: store.rename_column("n", "m"),
        lambda store: store.create_index("n"),
        lambda store: store.drop_index("n"),
    ],
)
def test_a_store_that_was_opened_for_reading_is_not_edited(
    path: Path, edit: Callable[[sqlstore.Store], None]
) -> None:
    with sqlstore.open(path) as store, pytest.raises(sqlstore.ReadOnlyError, match='mode="a"'):
        edit(store)


def test_an_empty_view_changes_nothing(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        n_commits = store.sql("SELECT count(*) AS n FROM commits")
        store[:0].update(n=5)
        store[:0].delete()
        assert store.sql("SELECT count(*) AS n FROM commits") == n_commits


# Payload


def test_values_of_a_field_are_replaced(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        stale = store[:]
        assert store.raw(2, "note") == b"note 2"
        store.take([5, 1, 2]).replace("note", ["five " * 100, "", None])
        found = [record["note"] for record in store[:6]]
        assert found == ["note 0", "", None, "note 3", "note 4", "five " * 100]
        assert stale.blobs("note", [1, 2, 5]).to_pylist() == [b"", None, b"five " * 100]
        assert store.available(2) == {"note": False}
        store.take([2, 5]).replace("note", iter(["two", "again"]))
        store.extend([{"n": 10, "needed": 1, "note": "later"}])
        store[0:1].delete()
        store[0:1].replace("note", ["one"])
        notes = ["one", "two", "note 3", "note 4", "again"]
        assert [record["note"] for record in store[:5]] == notes
        where = store.sql("SELECT record, raw_length FROM record_locations ORDER BY record")
        assert where.to_pylist()[:2] == [
            {"record": 1, "raw_length": 3},
            {"record": 2, "raw_length": 3},
        ]
    assert_edited(path)
    shutil.rmtree(path / "cache")
    with sqlstore.open(path) as store:
        assert [record["note"] for record in store[:5]] == notes


def test_sequences_are_replaced_as_well(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with sqlstore.create(path, fields={"words": "utf8[]", "other": "bytes"}) as store:
        store.extend([{"words": ["a", "b"], "other": b"x"}, {"words": [], "other": b"y"}])
        store.replace("words", [None, ["c" * 50, "", "d"]])
        assert [record["words"] for record in store] == [None, ["c" * 50, "", "d"]]
        assert store.read(1, {"words": range(2, 3)}) == {"words": ["d"]}
        assert [record["other"] for record in store] == [b"x", b"y"]
    assert_edited(path)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (["a"], sqlstore.SchemaError, "1 values for 2 records"),
        (["a", "b", "c"], sqlstore.SchemaError, "3 values for 2 records"),
        (["a", 5], sqlstore.EncodeError, "row 1"),
    ],
)
def test_values_that_do_not_fit_a_field_replace_nothing(
    path: Path, values: list[Any], error: type[Exception], message: str
) -> None:
    with sqlstore.open(path, "a") as store:
        with pytest.raises(error, match=message):
            store[:2].replace("note", values)
        with pytest.raises(sqlstore.UnknownNameError, match="'n' is a metadata column"):
            store[:1].replace("n", [1])
        with pytest.raises(sqlstore.SchemaError, match="the view has the record twice"):
            store.take([4, 4]).replace("note", ["a", "b"])
        gone = store[3:4]
        gone.delete()
        with pytest.raises(sqlstore.RecordNotFoundError):
            gone.replace("note", ["x"])
        assert store[0]["note"] == "note 0"
    assert_edited(path)


# Deletes


def test_deleted_records_are_gone_and_their_ids_are_not_used_again(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        everything = store[:]
        store.take([0, 4, 9]).delete()
        assert store.ids.tolist() == [1, 2, 3, 5, 6, 7, 8]
        assert len(store) == 7
        assert store[0]["n"] == 1
        assert store[-1]["n"] == 8
        assert store.extend([{"n": 10, "needed": 1}]).tolist() == [10]
        assert store.ids.tolist() == [1, 2, 3, 5, 6, 7, 8, 10]
        assert store.where("n >= 8").ids.tolist() == [8, 10]
        assert store.sql("SELECT count(*) AS n FROM record_locations").to_pylist() == [{"n": 7}]
        assert [record["n"] for record in store.batches(3).__next__()] == [1, 2, 3]
        for read in (
            lambda: store.get(4),
            lambda: everything[4],
            lambda: everything.raw(4, "note"),
            lambda: everything.blobs("note"),
            lambda: everything.to_arrow(),
            lambda: everything.select("n").fetch([4]),
        ):
            with pytest.raises(sqlstore.RecordNotFoundError, match="deleted"):
                read()
        assert everything.raw(5, "note") == b"note 5"
        with pytest.raises(sqlstore.RecordNotFoundError):
            everything[3:5].delete()
        with pytest.raises(sqlstore.RecordNotFoundError):
            everything[3:5].update(n=0)
    assert_edited(path)


@pytest.mark.parametrize("io", ["mmap", "pread", "memory"])
@pytest.mark.parametrize("verify", ["once", "always", "never"])
def test_no_way_of_reading_gives_a_deleted_record(path: Path, io: Any, verify: Any) -> None:
    with sqlstore.open(path, "a") as store:
        store.where("n = 4").delete()
    with sqlstore.open(path, io=io, verify=verify) as store:
        stale = store.take(np.arange(9))
        stale._set_ids(np.arange(10), store._source.raws)
        for _ in range(2):
            with pytest.raises(sqlstore.RecordNotFoundError):
                stale.raw(4, "note")
            with pytest.raises(sqlstore.RecordNotFoundError):
                stale.blobs("note", [3, 4])
            assert stale.raw(5, "note") == b"note 5"
            assert stale.blobs("note", [3, 5]).to_pylist() == [b"note 3", b"note 5"]


def test_all_records_may_be_deleted(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        store.delete()
        assert (len(store), store.to_arrow().num_rows, list(store)) == (0, 0, [])
        assert store.extend([{"n": 1, "needed": 1}]).tolist() == [10]
    assert_edited(path)


# Others at the same time


def test_a_store_sees_what_others_have_edited_after_a_refresh(path: Path) -> None:
    with sqlstore.open(path) as reader, sqlstore.open(path, "a") as store:
        before = reader.to_arrow()
        store[:2].delete()
        store.add_column("x", "int8", 3)
        store.update(n=0)
        assert reader.to_arrow() == before
        reader.refresh()
        assert reader.to_arrow() == store.to_arrow()
        assert reader.where("x = 3").ids.tolist() == list(range(2, 10))


def test_a_writer_of_a_former_schema_is_told_to_open_anew(path: Path) -> None:
    with sqlstore.open(path, "a") as store, store.writer() as writer:
        writer.append({"n": 10, "needed": 1})
        store.add_column("x", "int8")
        with pytest.raises(sqlstore.SchemaError, match="open the writer anew"):
            writer.commit()
        assert len(store) == 10
    assert_edited(path)


def test_an_edit_of_one_store_is_seen_by_appends_of_another(path: Path) -> None:
    with sqlstore.open(path, "a") as one, sqlstore.open(path, "a") as other:
        one[:1].update(n=77)
        other.extend([{"n": 10, "needed": 1}])
        assert other[0]["n"] == 77
        other[1:2].delete()
        one.refresh()
        one.add_column("x", "int8", np.arange(10))
    assert_edited(path)


def add_one(_: Connection, path: Path, times: int) -> None:
    with sqlstore.open(path, "a") as store:
        for _time in range(times):
            store.update(n=store.c.n + 1)


def test_no_computed_update_is_lost_where_others_update_at_the_same_time(path: Path) -> None:
    with ExitStack() as stack:
        children = [stack.enter_context(Child(add_one, path, 5)) for _ in range(3)]
        for child in children:
            child.result()
    assert numbers(path) == [n + 15 for n in range(10)]
    assert_edited(path)


# Damage


def damage_table(path: Path, number: int) -> None:
    """Change a byte in the table of a commit."""
    with sqlstore.open(path) as store:
        (row,) = store.sql(
            "SELECT name, offset FROM commits JOIN chunks USING (chunk) WHERE number = :number",
            number=number,
        ).to_pylist()
    file = path / "chunks" / row["name"]
    data = bytearray(file.read_bytes())
    data[row["offset"] - 100] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("kind", ["update", "delete"])
def test_an_edit_that_is_damaged_is_said_and_values_are_read(path: Path, kind: str) -> None:
    with sqlstore.open(path, "a") as store:
        if kind == "update":
            store[:2].update(n=5)
        else:
            store[:2].delete()
        store.extend([{"n": 10, "needed": 1, "note": "later"}])
    with sqlstore.open(path) as store:
        number = store.sql("SELECT max(number) AS n FROM commits")["n"][0].as_py() - 1
    damage_table(path, number)
    shutil.rmtree(path / "cache")
    with sqlstore.open(path) as store:
        with pytest.raises(sqlstore.CorruptChunkError, match="table"):
            store.to_arrow()
        assert store.raw(len(store) - 1, "note") == b"later"
        assert store.select("n")[len(store) - 1] == {"n": 10}
        report = store.verify()
        assert any("table" in fault.message for fault in report.faults)
    with pytest.raises(sqlstore.CorruptChunkError):
        sqlstore.rebuild(path)


def test_rows_that_somebody_else_has_changed_are_found_by_verify(path: Path) -> None:
    import sqlite3

    with sqlstore.open(path, "a") as store:
        store[:3].update(n=5)
        store[5:6].delete()
    connection = sqlite3.connect(path / "index.sqlite")
    connection.execute("UPDATE records SET n = 6 WHERE id = 1")
    connection.execute("INSERT INTO records (id, needed) VALUES (5, 1)")
    connection.commit()
    connection.close()
    with sqlstore.open(path) as store:
        faults = [str(fault) for fault in store.verify().faults]
    assert len(faults) == 2
    assert "other metadata than the log in column n" in faults[0]
    assert "one that was deleted" in faults[1]
