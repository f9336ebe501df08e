"""What differs between two states of a store."""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import sqlstore
from sqlstore import Column
from sqlstore.cache import locations
from sqlstore.source import Source
from tests.edited import new_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a store of ten records, whose column `n` is the id, with a snapshot of that."""
    path = new_store(tmp_path / "s", 10)
    with sqlstore.open(path, "a") as store:
        store.snapshot("v1")
    return path


def test_nothing_differs(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        store[:3].update(label=np.array(["l0", "l1", "l2"]))
        store.create_index("label")
        found = store.diff("v1")
        assert not found
        assert str(found) == "v1 -> now: no difference"
        assert not store.diff("v1", "v1")


def test_all_that_differs_is_told(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        store[7:9].delete()
        store[:6].update(label="x")
        store[4:6].update(n=-1, score=0.5)
        store.extend([{"n": 20, "needed": 1}] * 2)
        store.add_column("x", "int8", 1)
        store.drop_column("extra")
        store.rename_column("n", "number")
        store.snapshot("v2")
        found = store.diff("v1")
        assert found
        assert (found.before, found.after) == ("v1", None)
        assert found.added.to_arrow()["number"].to_pylist() == [20, 20]
        assert found.deleted.to_arrow()["n"].to_pylist() == [7, 8]
        assert [record["note"] for record in found.deleted] == ["note 7", "note 8"]
        changed = {name: ids.tolist() for name, ids in found.changed.items()}
        assert changed == {"number": [4, 5], "label": [0, 1, 2, 3, 4, 5], "score": [4, 5]}
        assert (found.columns_added, found.columns_dropped) == (("x",), ("extra",))
        assert found.columns_renamed == {"n": "number"}
        assert str(found).splitlines() == [
            "v1 -> now:",
            "  added 2 records: 10, 11",
            "  deleted 2 records: 7, 8",
            "  changed 'number' of 2 records: 4, 5",
            "  changed 'label' of 6 records: 0, 1, 2, 3, 4, ...",
            "  changed 'score' of 2 records: 4, 5",
            "  column 'x' was added",
            "  column 'extra' was dropped",
            "  column 'n' is now 'number'",
        ]
    with sqlstore.open(path, snapshot="v2") as store:
        assert str(store.diff("v1")).startswith("v1 -> v2:")
        back = store.diff("v2", "v1")
        assert back.added.ids.tolist() == [7, 8]
        assert back.deleted.ids.tolist() == [10, 11]
        assert {name: ids.tolist() for name, ids in back.changed.items()} == {
            "n": [4, 5],
            "label": [0, 1, 2, 3, 4, 5],
            "score": [4, 5],
        }
        assert back.columns_renamed == {"number": "n"}
        assert len(store.diff("v1", "v2").added) == 2


VALUES: list[tuple[str, list[Any]]] = [
    ("bool", [True, False, None]),
    ("int64", [0, -1, 2**62, None]),
    ("uint64", [0, 2**62, None]),
    ("float32", [0.0, 1.5, math.nan, math.inf, None]),
    ("float64", [1.5, -math.inf, math.nan, None]),
    ("string", ["", "a", "é\0", None]),
    ("binary", [b"", b"\0", None]),
    ("json", [[], {"a": 1}, None]),
    ("date32", [dt.date(1970, 1, 1), dt.date(2024, 1, 1), None]),
    ("timestamp[us]", [dt.datetime(1970, 1, 1), dt.datetime(2024, 1, 1), None]),
    (
        "timestamp[us, Europe/Berlin]",
        [dt.datetime(1970, 1, 1, tzinfo=dt.UTC), dt.datetime(2024, 1, 1, tzinfo=dt.UTC), None],
    ),
]


@pytest.mark.parametrize(("kind", "values"), VALUES, ids=[kind for kind, _ in VALUES])
def test_values_differ_as_people_think(tmp_path: Path, kind: str, values: list[Any]) -> None:
    """Every value against every other: each is as itself, also NaN and null."""
    pairs = [(a, b) for a in range(len(values)) for b in range(len(values))]
    with sqlstore.create(tmp_path / "s", metadata={"v": Column(kind), "w": "int8"}) as store:
        store.extend({"v": values[a]} for a, _ in pairs)
        store.snapshot("v1")
        for number, value in enumerate(values):
            store.take([i for i, (_, b) in enumerate(pairs) if b == number]).update(v=value)
        found = store.diff("v1")
        assert list(found.changed) == ["v"]
        assert found.changed["v"].tolist() == [i for i, (a, b) in enumerate(pairs) if a != b]


def test_zeros_are_the_same_whatever_their_sign(tmp_path: Path) -> None:
    with sqlstore.create(tmp_path / "s", metadata={"v": "float64"}) as store:
        store.extend([{"v": 0.0}])
        store.snapshot("v1")
        store.update(v=-0.0)
        assert not store.diff("v1")


def test_replaced_values_of_fields_differ(path: Path) -> None:
    with sqlstore.open(path, "a") as store:
        store[2:6].replace("note", ["other", None, "note 4", "longer than it was"])
        found = store.diff("v1")
        assert {name: ids.tolist() for name, ids in found.changed.items()} == {"note": [2, 3, 5]}
    with sqlstore.open(path, snapshot="v1") as old:
        assert [record["note"] for record in old[2:6]] == [f"note {i}" for i in range(2, 6)]


def test_fields_are_compared_by_what_is_stored_and_not_by_where(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Source.rows

    def rows(source: Source, ids: Any, field: Any) -> NDArray[np.uint32]:
        found = real(source, ids, field).copy()
        if source.how.snapshot is None:  # as if records 2 and 3 had other bytes, 4 another place
            found[[2, 3], locations.CRC] ^= 1
            found[4, locations.OFFSET] += 64
        return found

    monkeypatch.setattr(Source, "rows", rows)
    with sqlstore.open(path) as store:
        found = store.diff("v1")
        assert {name: ids.tolist() for name, ids in found.changed.items()} == {"note": [2, 3]}


def test_empty_states_differ_from_others(tmp_path: Path) -> None:
    with sqlstore.create(tmp_path / "s", fields={"f": "utf8"}, metadata={"n": "int8"}) as store:
        store.snapshot("empty")
        store.extend([{"n": 1}, {"n": 2}])
        assert store.diff("empty").added.ids.tolist() == [0, 1]
        store.snapshot("two")
        store.delete()
        assert store.diff("two").deleted.to_arrow()["n"].to_pylist() == [1, 2]
        assert not store.diff("empty")


def test_large_stores_are_compared_in_pieces(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlstore.diff._AT_ONCE", 3)
    with sqlstore.open(path, "a") as store:
        store[4:5].delete()
        store.where("n % 3 = 0").update(label="x")
        found = store.diff("v1")
        assert {name: ids.tolist() for name, ids in found.changed.items()} == {
            "label": [0, 3, 6, 9]
        }


def test_an_unknown_name_is_refused(path: Path) -> None:
    with sqlstore.open(path) as store:
        for names in (("v2",), ("v1", "v2"), ("v2", "v1")):
            with pytest.raises(sqlstore.SnapshotNotFoundError, match="'v2'; there are 'v1'"):
                store.diff(*names)
