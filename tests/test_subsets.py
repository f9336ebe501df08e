"""Named subsets: frozen whatever comes after them."""

from __future__ import annotations

import datetime as dt
import sqlite3
from pathlib import Path

import numpy as np
import pytest

import sqlstore
from tests.edited import assert_edited, new_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a store of ten records, whose column `n` is the id."""
    return new_store(tmp_path / "s", 10)


def test_a_subset_is_what_was_saved(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        store.take([7, 2, 2, 5]).save("some", note="the best")
        store[:0].save("none")
        assert store.subset("some").ids.tolist() == [7, 2, 2, 5]
        assert [record["n"] for record in store.subset("some")] == [7, 2, 2, 5]
        assert len(store.subset("none")) == 0
        some, none = store.subsets()
        assert (some.name, some.records, some.deleted, some.note) == ("some", 4, 0, "the best")
        assert (none.name, none.records, none.note) == ("none", 0, None)
        assert dt.datetime.now(dt.UTC) - some.saved_at < dt.timedelta(minutes=5)
        assert some.content == store.take([7, 2, 2, 5]).content_fingerprint() != none.content
        sql = (
            "SELECT record FROM subset_records JOIN subsets ON number = subset WHERE name = 'some'"
        )
        assert store.sql(sql)["record"].to_pylist() == [7, 2, 2, 5]
    assert_edited(path)


def test_what_comes_later_does_not_change_a_subset(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        store.where("n > 6").save("high")
        before = store.subsets()
        store.extend([{"n": 11, "needed": 1}])
        store[8:9].update(n=0)
        store.add_column("x", "int8", 1)
        assert store.subset("high").ids.tolist() == [7, 8, 9]
        assert store.subsets() == before
        assert store.subset("high").content_fingerprint() != before[0].content
        store[7:8].delete()
        (after,) = store.subsets()
        assert (after.records, after.deleted) == (3, 1)
        members = store.subset("high")
        assert members.ids.tolist() == [7, 8, 9]
        assert members[1]["n"] == 0
        with pytest.raises(sqlstore.RecordNotFoundError, match="record 7"):
            members.to_arrow()
        assert store.subset("high", missing="skip").ids.tolist() == [8, 9]
    assert_edited(path)
    sqlstore.rebuild(path)
    with sqlstore.open(path) as store:
        assert store.subsets() == [after]
        assert store.subset("high").ids.tolist() == [7, 8, 9]


def test_a_subset_is_dropped(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        store[:3].save("a")
        store[3:].save("b")
        with pytest.raises(sqlstore.SubsetExistsError, match="'a' already"):
            store[:1].save("a")
        store.drop_subset("a")
        assert [one.name for one in store.subsets()] == ["b"]
        with pytest.raises(sqlstore.SubsetNotFoundError, match="'a'; there are 'b'"):
            store.subset("a")
        with pytest.raises(sqlstore.SubsetNotFoundError, match="'a'"):
            store.drop_subset("a")
        store[:1].save("a")
        assert store.subset("a").ids.tolist() == [0]
    assert_edited(path)


def test_a_subset_says_what_it_was_chosen_by(path: Path) -> None:
    when = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
    with sqlstore.open(path, "a") as store:
        store.save("all")
        store.where("n > :low", low=6).select("n").save("high")
        store.where("n > :low", low=2).where('n < 6 OR "when" = :at', at=when).save("both")
        store.where("n > :low", low=2).where("n < :low", low=6).save("clash")
        store.where(store.c.n > 3, store.c.label.in_(["l4", "l5"])).save("expression")
        store.where("n > 3").limit(2).save("limited")
        store.where("n IN (SELECT a FROM t)", tables={"t": {"a": [3]}}).save("joined")
        found = {one.name: (one.sql, one.parameters) for one in store.subsets()}
        assert found.pop("expression")[0] is not None
        for one in store.subsets():
            if one.sql is not None:
                again = store.where(one.sql, params=one.parameters)
                assert again.ids.tolist() == store.subset(one.name).ids.tolist()
    assert found == {
        "all": (None, None),
        "high": ("n > :low", {"low": 6}),
        "both": (
            '(n > :low) AND (n < 6 OR "when" = :at)',
            {"low": 2, "at": 1_714_521_600_000_000},
        ),
        "clash": (None, None),
        "limited": (None, None),
        "joined": (None, None),
    }
    assert_edited(path)


@pytest.mark.parametrize("name", ["", " a", "a\n", 3])
def test_what_is_no_name_is_refused(path: Path, name: str) -> None:
    with sqlstore.open(path, "a") as store, pytest.raises(sqlstore.SchemaError, match="a name"):
        store[:1].save(name)


def test_a_store_that_was_opened_for_reading_saves_none(path: Path) -> None:
    with sqlstore.open(path) as store, pytest.raises(sqlstore.ReadOnlyError):
        store[:1].save("a")
    with sqlstore.open(path) as store:
        with pytest.raises(ValueError, match="missing is"):
            store.subset("a", missing="what")  # type: ignore[arg-type]  # on purpose
        assert store.subsets() == []


def test_members_that_somebody_else_has_changed_are_noticed(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        store[2:6].save("some")
    connection = sqlite3.connect(path / "index.sqlite")
    connection.execute("UPDATE subset_records SET record = 9 WHERE position = 1")
    connection.commit()
    connection.close()
    with sqlstore.open(path) as store:
        with pytest.raises(sqlstore.CorruptIndexError, match="other members of subset 'some'"):
            store.subset("some")
        (fault,) = store.verify().faults
        assert "other members of subset 'some'" in fault.message
    sqlstore.rebuild(path)
    with sqlstore.open(path) as store:
        assert store.subset("some").ids.tolist() == [2, 3, 4, 5]


def test_the_content_is_that_of_every_value(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        first = store[:5].content_fingerprint()
        assert store[:5].content_fingerprint() == first
        assert store.take(np.arange(5)[::-1]).content_fingerprint() != first
        for values in ({"n": 100}, {"label": None}, {"score": -0.0}, {"flag": False}):
            store[2:3].update(**values)
            first, before = store[:5].content_fingerprint(), first
            assert first != before, values
    with sqlstore.open(path) as again:
        assert again[:5].content_fingerprint() == first


def test_the_content_does_not_depend_on_how_records_were_committed(tmp_path: Path) -> None:
    columns = {"n": "int16", "label": "string", "flag": "bool"}
    records = [
        {"n": i if i % 3 else None, "label": "x" * i if i % 4 else None, "flag": i % 2 == 0}
        for i in range(20)
    ]
    found = set()
    for size in (1, 3, 20):
        with sqlstore.create(tmp_path / f"s{size}", metadata=columns) as store:
            for start in range(0, len(records), size):
                store.extend(records[start : start + size])
            found.add(store.take([2, 6, 9, 17]).content_fingerprint())
    assert len(found) == 1


def test_what_cannot_be_written_any_more_is_not_said(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        chosen = store.where(store.c.label == "l3")
        store.drop_column("label")
        chosen.save("three")
        (saved,) = store.subsets()
        assert (saved.sql, saved.parameters) == (None, None)
        assert store.subset("three").ids.tolist() == [3]
