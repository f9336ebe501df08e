"""Stores of different schemas that become one: what fits, what is added, what is refused."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import sqlstore
from sqlstore import Column
from sqlstore.columns import column_type
from sqlstore.merging import mapping
from sqlstore.merging import merge as merging
from tests.small_records import ENOUGH

Declared = Mapping[str, Any]


def make(
    path: Path,
    metadata: Declared,
    *records: dict[str, Any],
    fields: Declared | None = None,
    key: str | None = None,
) -> Path:
    with sqlstore.create(path, fields=fields, metadata=metadata, key=key) as store:
        store.extend(records)
    return path


def table_of(path: Path) -> pa.Table:
    """Return the metadata of a store, once it is known to have no fault."""
    with sqlstore.open(path) as store:
        report = store.verify()
        assert report, report
        return store.to_arrow().drop(["id"])


def n_commits(path: Path) -> int:
    with sqlstore.open(path) as store:
        return int(store.sql("SELECT count(*) AS n FROM commits")["n"][0].as_py())


def test_columns_and_fields_are_found_by_name_and_what_is_missing_is_null(tmp_path: Path) -> None:
    a = make(
        tmp_path / "a",
        {"x": "int32", "y": "string"},
        {"x": 1, "y": "owl", "f": b"f", "g": "g"},
        fields={"f": "bytes", "g": "utf8"},
    )
    b = make(
        tmp_path / "b",
        {"y": "string", "x": "int32"},
        {"x": 2, "y": "wren", "g": "h"},
        fields={"g": "utf8"},
    )
    c = make(tmp_path / "c", {"x": "int32"}, {"x": 3})
    for target in (tmp_path / "new", make(tmp_path / "there", {"x": "int32", "y": "string"},
                                           fields={"g": "utf8", "f": "bytes"})):  # fmt: skip
        sqlstore.merge(target, a, b, c)
        assert table_of(target).to_pylist() == [
            {"x": 1, "y": "owl"},
            {"x": 2, "y": "wren"},
            {"x": 3, "y": None},
        ]
        with sqlstore.open(target) as store:
            assert [(r["f"], r["g"]) for r in store] == [(b"f", "g"), (None, "h"), (None, None)]
        assert sqlstore.rebuild(target) == 3


UTC, BERLIN = "timestamp[us, UTC]", "timestamp[us, Europe/Berlin]"
NOON = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)
WIDER = [
    ("int32", "int64", -(2**31)),
    ("uint8", "int16", 255),
    ("uint32", "uint64", 2**32 - 1),
    ("float32", "float64", 0.1),
    ("int16", "float32", -(2**15)),
    ("uint32", "float64", 2**32 - 1),
    (UTC, BERLIN, NOON),
]
TOO_NARROW = [
    *[(wide, narrow, value) for narrow, wide, value in WIDER[:-1]],
    ("int8", "uint16", 1),
    ("uint64", "int64", 1),
    ("int64", "float64", 1),
    ("bool", "int8", True),
    ("string", "binary", "owl"),
    ("json", "string", {"a": 1}),
    ("string", "json", "1"),
    ("timestamp[us]", UTC, dt.datetime(2024, 5, 1)),
    ("date32", "timestamp[us]", dt.date(2024, 5, 1)),
]


@pytest.mark.parametrize(("narrow", "wide", "value"), WIDER)
def test_a_column_of_a_wider_type_takes_the_values(
    tmp_path: Path, narrow: str, wide: str, value: Any
) -> None:
    source = make(tmp_path / "s", {"x": narrow}, {"x": value}, {})
    target = make(tmp_path / "all", {"x": wide})
    sqlstore.merge(target, source)
    expected = table_of(source)["x"].cast(column_type(wide).arrow)
    assert table_of(target)["x"] == expected
    assert expected.null_count == 1
    # In a new store, whichever of them comes first.
    other = make(tmp_path / "o", {"x": wide})
    for number, sources in enumerate(((source, other), (other, source))):
        sqlstore.merge(tmp_path / f"new-{number}", *sources)
        assert table_of(tmp_path / f"new-{number}")["x"].cast(column_type(wide).arrow) == expected


@pytest.mark.parametrize(("given", "has", "value"), TOO_NARROW)
def test_a_column_that_does_not_hold_all_values_is_refused(
    tmp_path: Path, given: str, has: str, value: Any
) -> None:
    source = make(tmp_path / "s", {"x": given}, {"x": value})
    target = make(tmp_path / "all", {"x": has})
    with pytest.raises(
        sqlstore.SchemaError, match=r"column 'x' is .*, in the target it is"
    ) as found:
        sqlstore.merge(target, source)
    assert found.value.where == {"source": str(source)}
    assert table_of(target).num_rows == 0


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("int8", "uint8", "int16"),
        ("uint32", "int8", "int64"),
        ("int16", "float32", "float32"),
        ("int32", "float32", "float64"),
        ("uint64", "int8", None),
        ("int64", "float64", None),
        ("string", "binary", None),
    ],
)
def test_a_new_store_has_a_type_for_both(
    tmp_path: Path, one: str, other: str, both: str | None
) -> None:
    a, b = make(tmp_path / "a", {"x": one}), make(tmp_path / "b", {"x": other})
    for sources in ((a, b), (b, a)):
        if both is None:
            with pytest.raises(sqlstore.SchemaError, match="which does not hold all"):
                sqlstore.merge(tmp_path / "all", *sources)
        else:
            sqlstore.merge(tmp_path / f"{sources[0].name}-all", *sources)
            found = table_of(tmp_path / f"{sources[0].name}-all").schema.field("x").type
            assert found == column_type(both).arrow
    assert not (tmp_path / "all").exists()


EXACT = {
    **{f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
    "float32": (-(2**24), 2**24),
    "float64": (-(2**53), 2**53),
}
"""Between which bounds a type has every integer."""


@pytest.mark.parametrize("narrow", EXACT)
def test_a_number_is_widened_only_if_no_value_can_change(narrow: str) -> None:
    low, high = EXACT[narrow]
    for wide, (lowest, highest) in EXACT.items():
        fits = lowest <= low and high <= highest and (narrow[0] != "f" or wide[0] == "f")
        assert mapping._widens(column_type(narrow), column_type(wide)) == fits, wide


def test_what_the_target_lacks_is_refused_unless_it_is_to_be_added(tmp_path: Path) -> None:
    a = make(tmp_path / "a", {"x": "int32"}, {"x": 1})
    b = make(
        tmp_path / "b",
        {"more": Column("int8", index=True, nullable=False), "x": "int32"},
        {"x": 2, "more": 7},
    )
    c = make(tmp_path / "c", {"x": "int32"}, {"x": 3, "f": b"f"}, fields={"f": "bytes"})
    target = make(tmp_path / "there", {"x": "int32"}, {"x": 0})
    for place, sources in ((tmp_path / "new", (a, b)), (target, (b,))):
        with pytest.raises(sqlstore.SchemaError, match="no column 'more'; add_missing=True"):
            sqlstore.merge(place, *sources)
        sqlstore.merge(place, *sources, add_missing=True)
        assert table_of(place).to_pylist()[-1] == {"x": 2, "more": 7}
        assert table_of(place).to_pylist()[0]["more"] is None
        with sqlstore.open(place) as store:
            assert store.schema.columns["more"].index
            assert store.schema.columns["more"].nullable
    with pytest.raises(sqlstore.SchemaError, match="no field 'f'; fields are added only"):
        sqlstore.merge(target, c, add_missing=True)
    with pytest.raises(sqlstore.SchemaError, match="no field 'f'; add_missing=True adds it"):
        sqlstore.merge(tmp_path / "other", a, c)
    sqlstore.merge(tmp_path / "other", a, c, add_missing=True)
    with sqlstore.open(tmp_path / "other") as store:
        assert [record["f"] for record in store] == [None, b"f"]


@pytest.mark.parametrize("in_parts", [False, True])
def test_several_columns_are_added_before_the_records(tmp_path: Path, in_parts: bool) -> None:
    target = make(tmp_path / "all", {"x": "int32"}, {"x": 0})
    a = make(tmp_path / "a", {"x": "int32", "y": "int8", "z": "string"}, {"x": 1, "y": 2, "z": "z"})
    before = n_commits(target)
    with sqlstore.open(target, "a") as store, store.writer() as writer:
        done = sqlstore.merge(target, a, add_missing=True, in_parts=in_parts)
        writer.append({"x": 3})
        with pytest.raises(sqlstore.SchemaError, match="has changed"):
            writer.commit()
        writer.rollback()
    assert done.ids.tolist() == [1]
    assert n_commits(target) == before + 3
    expected = [{"x": 0, "y": None, "z": None}, {"x": 1, "y": 2, "z": "z"}]
    assert table_of(target).to_pylist() == expected
    sqlstore.rebuild(target)
    assert table_of(target).to_pylist() == expected


@pytest.mark.parametrize(
    ("metadata", "fields", "message"),
    [
        ({"f": "int32"}, {}, "'f' is a column, in the target it is a field"),
        ({}, {"x": "bytes"}, "'x' is a field, in the target it is a column"),
        ({"x": "int32"}, {"f": "utf8"}, "field 'f' is utf8, in the target it is bytes"),
        ({"x": "int32"}, {"f": "bytes[]"}, r"field 'f' is bytes\[\], in the target it is bytes"),
        ({"X": "int32"}, {}, "the name 'X' is there"),
    ],
)
def test_what_has_another_meaning_is_refused(
    tmp_path: Path, metadata: Declared, fields: Declared, message: str
) -> None:
    first = make(tmp_path / "a", {"x": "int32"}, {"x": 1}, fields={"f": "bytes"})
    other = make(tmp_path / "b", metadata, fields=fields)
    target = make(tmp_path / "there", {"x": "int32"}, fields={"f": "bytes"})
    for place, sources in ((tmp_path / "new", (first, other)), (target, (other,))):
        with pytest.raises(sqlstore.SchemaError, match=message) as found:
            sqlstore.merge(place, *sources, add_missing=True)
        assert found.value.where == {"source": str(other)}
    assert not (tmp_path / "new").exists()
    assert n_commits(target) == 1


def test_what_is_required_must_be_there(tmp_path: Path) -> None:
    required = {"x": Column("int32", nullable=False), "k": "string"}
    target = make(tmp_path / "there", required, key="k")
    lacking = make(tmp_path / "a", {"k": "string"}, {"k": "a"})
    with_null = make(tmp_path / "b", {"k": "string", "x": "int32"}, {"k": "b"}, {"k": "c", "x": 1})
    keyless = make(tmp_path / "c", {"x": "int32"}, {"x": 1})
    for source, message in (
        (lacking, "no column 'x', which may not be missing"),
        (with_null, "column 'x', which may not be missing in the target, has nulls"),
        (keyless, "no column 'k', which is the key"),
    ):
        with pytest.raises(sqlstore.SchemaError, match=message) as found:
            sqlstore.merge(target, source)
        assert found.value.where == {"source": str(source)}
    with sqlstore.open(with_null) as store:
        sqlstore.merge(target, store[1:])
    assert table_of(target).to_pylist() == [{"x": 1, "k": "c"}]
    # A new store requires only what all have, and the key of the first.
    sqlstore.merge(tmp_path / "new", target, lacking, with_null, on_duplicate="skip")
    with sqlstore.open(tmp_path / "new") as store:
        assert store.schema.columns["x"].nullable
        assert store.schema.key == "k"
        assert store.to_arrow()["x"].to_pylist() == [1, None, None]
    with pytest.raises(sqlstore.SchemaError, match="which is the key"):
        sqlstore.merge(tmp_path / "other", target, keyless)


def test_keys_of_other_types_are_compared_as_what_they_become(tmp_path: Path) -> None:
    target = make(tmp_path / "all", {"k": "int64"}, {"k": 7}, key="k")
    source = make(tmp_path / "s", {"k": "int8"}, {"k": 6}, {"k": 7})
    with pytest.raises(sqlstore.DuplicateKeyError, match="k = 7 of record 1 of"):
        sqlstore.merge(target, source)
    sqlstore.merge(target, source, on_duplicate="skip")
    assert table_of(target)["k"].to_pylist() == [7, 6]


def test_a_value_keeps_its_compression_in_a_field_of_another(trained: Path, tmp_path: Path) -> None:
    fields = {"line": "utf8", "parts": "json[]"}
    with sqlstore.create(
        tmp_path / "all", fields=fields, metadata={"n": "int32"}, compression="gzip"
    ) as target:
        target.extend([{"line": "gzip " * 20, "n": -1}])
        sqlstore.merge(target.path, trained)
        target.extend([{"line": "gzip " * 20, "n": -2}])
        target.refresh()
        with sqlstore.open(trained) as source:
            assert list(target)[1:-1] == list(source)
        used = "SELECT DISTINCT compression FROM record_locations WHERE field = 'line'"
        found = set(target.sql(used)["compression"].to_pylist())
        assert {"gzip"} < found
        assert any(name.startswith("dictionary") for name in found)
        assert target.verify()
    assert sqlstore.rebuild(tmp_path / "all") == ENOUGH + 2


def test_a_view_without_the_key_makes_a_store_without_one(tmp_path: Path) -> None:
    make(tmp_path / "a", {"k": "string", "x": "int8"}, {"k": "a", "x": 1}, key="k")
    with sqlstore.open(tmp_path / "a") as store:
        sqlstore.merge(tmp_path / "new", store.select("x"), store.select("x"))
        with pytest.raises(sqlstore.SchemaError, match="at least one field"):
            sqlstore.merge(tmp_path / "none", store.select())
    assert table_of(tmp_path / "new").to_pylist() == [{"x": 1}] * 2


def test_a_schema_that_changes_meanwhile_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make(tmp_path / "s", {"x": "int32"}, {"x": 1})
    target = make(tmp_path / "all", {"x": "int32"}, {"x": 0})
    real = merging._kept

    def overtaken(*arguments: Any) -> Any:
        with sqlstore.open(target, "a") as store:
            store.add_column("y", "int8")
        return real(*arguments)

    monkeypatch.setattr(merging, "_kept", overtaken)
    with pytest.raises(sqlstore.SchemaError, match="merge again"):
        sqlstore.merge(target, source)
    monkeypatch.undo()
    sqlstore.merge(target, source)
    assert table_of(target)["x"].to_pylist() == [0, 1]
