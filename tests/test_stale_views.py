"""Views of records and columns that are not there any more, and what edits refuse."""

from __future__ import annotations

import datetime as dt
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import sqlstore
from sqlstore.cache import fill
from sqlstore.finder import Finder
from sqlstore.maintenance import check_index
from tests.edited import new_store
from tests.test_edits import damage_table


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return new_store(tmp_path / "store", 10)


def read_payload(view: sqlstore.View) -> list[Any]:
    """Read the payload of a view in every way, and return what was raised."""
    ways: list[Callable[[], object]] = [
        lambda: view[0],
        lambda: view.raw(0, "note"),
        lambda: view.read(0, {"note": True}),
        lambda: view.available(0),
        lambda: view.open(0, "note").read(),
        lambda: view.fetch([0]),
        lambda: list(view),
        lambda: view.blobs("note"),
        lambda: view.blobs("note", copy=False),
        lambda: view.select("note").to_arrow(["note"]),
    ]
    raised: list[type[sqlstore.SqlstoreError] | None] = []
    for way in ways:
        try:
            way()
        except sqlstore.SqlstoreError as error:
            raised.append(type(error))
        else:
            raised.append(None)
    return raised


@pytest.mark.parametrize("kind", ["replace", "delete"])
def test_no_old_value_is_read_where_a_replacement_or_a_delete_is_damaged(
    path: Path, kind: str
) -> None:
    with sqlstore.open(path, "a") as store:
        if kind == "replace":
            store[:2].replace("note", ["new 0", "new 1"])
        else:
            store[5:7].delete()
        number = store.sql("SELECT max(number) AS n FROM commits")["n"][0].as_py()
        store.extend([{"n": 10, "needed": 1, "note": "later"}])
    damage_table(path, number)
    shutil.rmtree(path / "cache")
    with sqlstore.open(path) as store:
        payload = store.select("note")
        assert set(read_payload(payload[:5])) == {sqlstore.CorruptChunkError}
        assert payload[-1] == {"note": "later"}
        assert store.blobs("note", [-1]).to_pylist() == [b"later"]


def test_what_was_replaced_after_a_damaged_replacement_is_read(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        store[:2].replace("note", ["new 0", "new 1"])
        number = store.sql("SELECT max(number) AS n FROM commits")["n"][0].as_py()
        store[1:3].replace("note", ["newer 1", "newer 2"])
    damage_table(path, number)
    shutil.rmtree(path / "cache")
    with sqlstore.open(path) as store:
        assert store.blobs("note", [1, 2]).to_pylist() == [b"newer 1", b"newer 2"]
        for position in (0, 3):
            with pytest.raises(sqlstore.CorruptChunkError, match="table"):
                store.raw(position, "note")


def test_a_deleted_record_is_refused_also_where_no_column_is_selected(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        view = store[:3]
        store[1:2].delete()
        for chosen in (view.select("id"), view.select(), view.select("note")):
            for read in (chosen.to_arrow, lambda chosen=chosen: chosen[1], lambda c=chosen: [*c]):
                with pytest.raises(sqlstore.RecordNotFoundError, match="record 1"):
                    read()


def test_a_subset_that_is_dropped_while_it_is_looked_up_is_no_damage(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlstore.open(path, "a") as store, sqlstore.open(path, "a") as other:
        store[9:].delete()
        store[:3].save("one")
        members = Finder.members

        def dropped_before(finder: Finder, number: int) -> Any:
            monkeypatch.setattr(Finder, "members", members)
            other.drop_subset("one")
            return members(finder, number)

        monkeypatch.setattr(Finder, "members", dropped_before)
        with pytest.raises(sqlstore.SubsetNotFoundError, match="'one'"):
            store.subset("one")
        other[:2].save("one")
        store.refresh()
        monkeypatch.setattr(Finder, "members", dropped_before)
        assert store.subsets() == []


def test_a_subset_of_records_that_are_not_seen_yet_is_not_there_yet(path: Path) -> None:
    with sqlstore.open(path) as reader, sqlstore.open(path, "a") as store:
        store.extend([{"n": 10, "needed": 10}])
        store[-1:].save("last")
        assert reader.subsets() == []
        with pytest.raises(sqlstore.SubsetNotFoundError, match="`refresh"):
            reader.subset("last")
        reader.refresh()
        assert reader.subset("last").ids.tolist() == [10]


def test_conditions_are_kept_so_that_they_can_be_run_again(path: Path) -> None:
    noon = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)
    with sqlstore.open(path, "a") as store:
        days = [noon + dt.timedelta(days=i) for i in range(-5, 5)]
        store.update(when=pa.array(days, pa.timestamp("us", "UTC")), score=np.arange(10.0))
        for name, chosen in {
            "time": store.where('"when" > :noon', noon=noon),
            "number": store.where("n + 0 = :n", n=np.int64(3)),
            "list": store.where(
                "n IN (SELECT value FROM json_each(:n))", n=np.array([3, 5], np.int16)
            ),
            "infinity": store.where(store.c.score < float("inf")),
            "none": store.where(store.c.score == float("nan")),
            "expression": store.where(store.c.label.like("l%"), store.c["when"] > noon),
        }.items():
            chosen.save(name)
            about = store.subsets()[-1]
            if about.sql is not None:
                again = store.where(about.sql, params=about.parameters)
                assert again.ids.tolist() == chosen.ids.tolist(), name


def test_conditions_with_comments_are_kept_as_one(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        chosen = store.where("n > 1 -- more than one").where("n < 5 OR n = 8 -- few")
        chosen.save("some")
        (subset,) = store.subsets()
        assert subset.sql is not None
        assert store.where(subset.sql).ids.tolist() == chosen.ids.tolist() == [2, 3, 4, 8]


def test_a_filter_by_a_column_that_others_have_dropped_says_so(path: Path) -> None:
    with sqlstore.open(path) as reader, sqlstore.open(path, "a") as store:
        store.drop_column("score")
        for find in (reader.where, reader.order_by):
            with pytest.raises(sqlstore.QueryError, match="not there any more; `refresh"):
                find("score > 1")
        with pytest.raises(sqlstore.QueryError, match="no such column: label"):
            reader.sql("SELECT label FROM record_locations")  # another table never had it
        reader.refresh()
        with pytest.raises(sqlstore.QueryError, match="no such column: score"):
            reader.where("score > 1")


def test_a_view_of_a_column_that_is_gone_still_tells_what_it_is(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        view = store.select("n", "score")
        store.drop_column("score")
        assert repr(view) == "<sqlstore.View of 10 records of store: n, score>"
        with pytest.raises(sqlstore.UnknownNameError, match="score"):
            view.to_arrow()


def test_what_is_computed_over_all_records_is_told_from_a_record_that_is_gone(path: Path) -> None:
    from sqlalchemy import func

    with sqlstore.open(path, "a") as store:
        view = store[:2]
        with pytest.raises(sqlstore.QueryError, match="over all records"):
            view.update(n=func.max(store.c.n))
        store[1:2].delete()
        for edit in (lambda: view.order_by("n"), lambda: view.update(n=store.c.n + 1)):
            with pytest.raises(sqlstore.RecordNotFoundError, match="record 1"):
                edit()


def test_values_that_cannot_be_meant_are_refused(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        for text in ("abc", b"abc"):
            with pytest.raises(TypeError, match="one for each record"):
                store[:3].replace("note", text)
        assert store.raw(0, "note") == b"note 0"
        with pytest.raises(sqlstore.SchemaError, match=r"an array of a list.*column n"):
            store[:3].update(n=[1, 2, 3])
        store[:3].update(n=np.array([1, 2, 3]), extra=[1, 2, 3])
        assert store[0]["extra"] == [1, 2, 3]


def test_filters_ask_for_the_newest_values_of_the_records_that_are_seen(path: Path) -> None:
    with sqlstore.open(path) as reader, sqlstore.open(path, "a") as store:
        store[:2].update(n=100)
        store.extend([{"n": 100, "needed": 1}])
        found = reader.where("n = 100")
        assert found.ids.tolist() == [0, 1]
        reader.refresh()
        assert reader.where("n = 100").ids.tolist() == [0, 1, 10]
        assert found.to_arrow()["n"].to_pylist() == [100, 100]


def test_a_cache_that_is_taken_away_while_it_is_made_is_made_elsewhere(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(path / "cache", ignore_errors=True)
    extend = fill.extend

    def taken_away(folder: Path, *rest: Any) -> Any:
        if folder == path / "cache":
            raise sqlstore.CorruptCacheError("the locations are gone")
        return extend(folder, *rest)

    monkeypatch.setattr(fill, "extend", taken_away)
    with sqlstore.open(path) as store:
        assert store.to_arrow()["n"].to_pylist() == list(range(10))


@pytest.mark.parametrize("kind", ["update", "delete", "replace", "rename"])
def test_what_is_edited_while_it_is_verified_is_no_fault(
    path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    changes: dict[str, Callable[[sqlstore.Store], object]] = {
        "update": lambda store: store.update(n=55),
        "delete": lambda store: store[:2].delete(),
        "replace": lambda store: store[:3].replace("note", ["q"] * 3),
        "rename": lambda store: store.rename_column("label", "name"),
    }
    with sqlstore.open(path) as store:
        connection = sqlite3.connect(path / "index.sqlite")
        connection.execute("UPDATE records SET flag = 1 WHERE id = 9")
        connection.commit()
        connection.close()
    check_rows = check_index.check_rows

    def check_later(*given: Any) -> None:
        monkeypatch.setattr(check_index, "check_rows", check_rows)
        with sqlstore.open(path, "a") as other:
            changes[kind](other)
        check_rows(*given)

    monkeypatch.setattr(check_index, "check_rows", check_later)
    with sqlstore.open(path) as store:
        report = store.verify()
    found = [(fault.record, fault.field) for fault in report.faults]
    if kind in ("update", "rename"):
        assert found == []
    else:
        assert found == [(9, "flag")]
    assert bool(report.notes) == (kind == "rename")
