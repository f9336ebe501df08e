"""What a store is declared to hold: names, types, encodings, compressions and the key."""

from __future__ import annotations

import errno
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import sqlstore

STRANGE_NAMES = [
    "a b", "a%b", "%s", "%(a)s", "a:b", ":a", "?", "a.b", "a;b", "--", "a/*b", "a,b", "a(b", "a\\b",
    "1", "1.5", "select", "order", "group", "limit", "null", "records", "record", "blobs",
    "sql", "params", "offset", "sélect", "名前", "ÉTÉ", "x" * 128,
]  # fmt: skip

WRONG_NAMES = [
    "", " ", " a", "a ", "a\n", "a\0b", "\t", "a\u200b", "\ud800", 'a"b', "a`b", "a[b", "a]b",
    "a'b", "id", "ID", "Id", "rowid", "RowId", "oid", "_rowid_", "x" * 129,
]  # fmt: skip


def refused(path: Path, **declared: Any) -> str:
    """Return the message of the `SchemaError` that this declaration gets; nothing may be left."""
    with pytest.raises(sqlstore.SchemaError) as caught:
        sqlstore.create(path / "s", **declared)
    assert list(path.iterdir()) == []
    return str(caught.value)


def test_a_name_may_be_any_printable_text(tmp_path: Path) -> None:
    metadata = {name: sqlstore.Column("int32", index=True) for name in STRANGE_NAMES}
    fields = {f"f {name[:100]}": "bytes" for name in STRANGE_NAMES}
    key = {"the key": "string"}
    with sqlstore.create(
        tmp_path / "s", fields=fields, metadata={**metadata, **key}, key="the key"
    ) as store:
        store.extend(
            {
                **dict.fromkeys(STRANGE_NAMES, i),
                **dict.fromkeys(fields, b"%d" % i),
                "the key": f"key {i}",
            }
            for i in range(3)
        )
        for name in STRANGE_NAMES:
            assert store.where(f'"{name}" = :value', value=1).ids.tolist() == [1], name
            assert store.where(store.c[name] >= 1).ids.tolist() == [1, 2], name
            assert store.order_by(f'"{name}" DESC').ids.tolist() == [2, 1, 0], name
            assert store.order_by(store.c[name].desc()).ids.tolist() == [2, 1, 0], name
            assert store.sql(f'SELECT "{name}" FROM records').column_names == [name]
            assert store.select(name)[2] == {name: 2}
        assert store.raw(1, "f a b") == b"1"
        assert store.get(key="key 2")["名前"] == 2

    sqlstore.rebuild(tmp_path / "s")
    with sqlstore.open(tmp_path / "s") as again:
        assert list(again.schema.columns) == [*STRANGE_NAMES, "the key"]
        assert again[1]["a%b"] == 1
        assert again.verify().faults == []


def test_columns_named_as_the_constants_of_sql_can_be_queried_or_are_refused(
    tmp_path: Path,
) -> None:
    try:
        store = sqlstore.create(tmp_path / "s", metadata={"true": "int8", "false": "int8"})
    except sqlstore.SchemaError:
        return
    with store:
        store.extend([{"true": 5, "false": 6}, {"true": 1, "false": 0}])

        assert store.where('"true" = 5').ids.tolist() == [0]
        assert store.where(store.c["false"] == 6).ids.tolist() == [0]
        assert store.sql("SELECT * FROM records").column_names == ["id", "true", "false"]


@pytest.mark.parametrize("name", WRONG_NAMES)
@pytest.mark.parametrize("where", ["fields", "metadata"])
def test_what_is_no_name_is_refused(tmp_path: Path, name: str, where: str) -> None:
    declared = {"fields": {name: "bytes"}} if where == "fields" else {"metadata": {name: "int8"}}
    refused(tmp_path, **declared)


@pytest.mark.parametrize("what", ["fields", "metadata"])
def test_declarations_are_mappings(tmp_path: Path, what: str) -> None:
    assert f"{what} is a mapping such as" in refused(tmp_path, **{what: ["a"]})


def test_a_name_is_text(tmp_path: Path) -> None:
    wrong: Any = {1: "int8"}
    assert "1 is not a name" in refused(tmp_path, metadata=wrong)


@pytest.mark.parametrize(
    ("fields", "metadata"),
    [
        ({"a": "bytes"}, {"a": "int8"}),
        ({"a": "bytes"}, {"A": "int8"}),
        ({}, {"label": "int8", "Label": "int8"}),
        ({"ß": "bytes", "SS": "bytes"}, {}),
    ],
)
def test_no_name_is_there_twice_whatever_its_case(
    tmp_path: Path, fields: Mapping[str, str], metadata: Mapping[str, str]
) -> None:
    assert "there twice" in refused(tmp_path, fields=fields, metadata=metadata)


def test_a_store_holds_something(tmp_path: Path) -> None:
    refused(tmp_path)
    refused(tmp_path, fields={}, metadata={})


def test_there_may_be_a_thousand_names_and_no_more(tmp_path: Path) -> None:
    most = {f"c{i}": "int8" for i in range(999)}
    message = refused(tmp_path, fields={"f": "bytes", "g": "bytes"}, metadata=most)
    assert "1001" in message

    with sqlstore.create(tmp_path / "s", fields={"f": "bytes"}, metadata=most) as store:
        store.extend([{"f": b"x", "c0": 1, "c998": 2}])
        assert (store[0]["c0"], store[0]["c500"], store[0]["c998"]) == (1, None, 2)


@pytest.mark.parametrize("encoding", ["", "jpeg", "Bytes", "[]", "bytes[][]", None, 5])
def test_an_encoding_must_be_known(tmp_path: Path, encoding: Any) -> None:
    message = refused(tmp_path, fields={"f": sqlstore.Field(encoding)})
    assert "bytes, utf8, int" in message
    assert "field f" in message


@pytest.mark.parametrize("compression", ["", "LZ4", "brotli", 5, "default"])
def test_a_compression_must_be_known(tmp_path: Path, compression: Any) -> None:
    message = refused(tmp_path, fields={"f": "bytes"}, compression=compression)
    assert "None, lz4, zstd, gzip" in message
    if compression != "default":
        refused(tmp_path, fields={"f": sqlstore.Field("bytes", compression=compression)})


def test_a_field_has_the_compression_of_the_store_unless_it_says_otherwise(tmp_path: Path) -> None:
    fields: dict[str, str | sqlstore.Field] = {
        "of store": "bytes",
        "too": sqlstore.Field("utf8"),
        "none": sqlstore.Field("bytes", compression=None),
        "own": sqlstore.Field("array", "gzip"),
    }
    with sqlstore.create(tmp_path / "s", fields=fields, compression="zstd") as store:
        found = {name: field.compression for name, field in store.schema.fields.items()}
    assert found == {"of store": "zstd", "too": "zstd", "none": None, "own": "gzip"}

    with sqlstore.create(tmp_path / "t", fields={"f": "bytes"}) as store:
        assert store.schema.fields["f"].compression == "lz4"


def test_the_schema_says_what_was_declared(tmp_path: Path) -> None:
    with sqlstore.create(
        tmp_path / "s",
        fields={"image": "png", "text": sqlstore.Field("utf8", compression=None)},
        metadata={
            "path": "string",
            "width": sqlstore.Column(pa.int32(), index=True, nullable=False),
            "taken": "timestamp[us, UTC]",
        },
        key="path",
        compression="gzip",
    ) as created:
        schema = created.schema
    with sqlstore.open(tmp_path / "s") as opened:
        assert opened.schema == schema
    sqlstore.rebuild(tmp_path / "s")
    with sqlstore.open(tmp_path / "s") as rebuilt:
        assert rebuilt.schema == schema

    assert isinstance(schema, sqlstore.Schema)
    assert dict(schema.fields) == {
        "image": sqlstore.Field("png", "gzip", name="image", number=0),
        "text": sqlstore.Field("utf8", None, name="text", number=1),
    }
    assert dict(schema.columns) == {
        "path": sqlstore.Column("string", nullable=False, name="path", number=0),
        "width": sqlstore.Column("int32", index=True, nullable=False, name="width", number=1),
        "taken": sqlstore.Column("timestamp[us, UTC]", name="taken", number=2),
    }
    assert schema.key == "path"
    assert schema.names == {"image", "text", "path", "width", "taken"}
    assert schema.field("image").encoding == "png"
    assert schema.arrow == pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            pa.field("path", pa.string()),
            pa.field("width", pa.int32()),
            pa.field("taken", pa.timestamp("us", tz="UTC")),
        ]
    )


def test_a_name_that_is_not_there_is_an_error_that_says_what_is(tmp_path: Path) -> None:
    with sqlstore.create(tmp_path / "s", fields={"f": "bytes"}, metadata={"n": "int8"}) as store:
        for use in (
            lambda: store.schema.field("x"),
            lambda: store.select("n", "x"),
            lambda: store.extend([{"n": 1, "x": 2}]),
            lambda: store.extend(pa.table({"x": [1]})),
        ):
            with pytest.raises(sqlstore.UnknownNameError, match=r"fields are f.*columns are n"):
                use()
        with pytest.raises(sqlstore.UnknownNameError, match=r"'n' is a metadata .*fields are f$"):
            store.schema.field("n")
        with pytest.raises(sqlstore.UnknownNameError, match=r"not among .* selects: 'f'; .* n$"):
            store.select("n").select("f")
        with pytest.raises(sqlstore.UnknownNameError, match=r"is named 'x'; fields are f"):
            store.select("n").select("f", "x")
        assert len(store) == 0


def test_a_misspelt_name_is_told_with_its_row_and_what_may_be_meant(tmp_path: Path) -> None:
    columns = {"label": "string", "width": "int8"}
    with sqlstore.create(tmp_path / "s", metadata=columns) as store:
        with pytest.raises(
            sqlstore.UnknownNameError, match=r"'lable' \(do you mean 'label'\?\)"
        ) as e:
            store.extend([{"label": "owl"}, {"lable": "owl"}])
        assert e.value.where == {"row": 1}
        with pytest.raises(sqlstore.UnknownNameError, match="named 7, 'qqq'; fields are -"):
            store.extend([{7: "owl", "qqq": 1}])


@pytest.mark.parametrize("declared", ["bool", "float32", "float64", "json"])
def test_some_types_cannot_be_the_key(tmp_path: Path, declared: str) -> None:
    assert "cannot be the key" in refused(tmp_path, metadata={"k": declared}, key="k")


def test_the_key_is_a_metadata_column(tmp_path: Path) -> None:
    for key in ("x", "f", "K"):
        message = refused(tmp_path, fields={"f": "bytes"}, metadata={"k": "int8"}, key=key)
        assert "is not a metadata column" in message


KEYS: list[tuple[str, list[Any]]] = [
    ("int8", [-128, 0, 127]),
    ("uint64", [0, 2**63 - 1]),
    ("string", ["", "a", "A", "a\0", "é", "e\u0301"]),
    ("binary", [b"", b"\0", b"\0\0", b"\xff"]),
    ("date32", [np.datetime64("1969-12-31"), np.datetime64("1970-01-01")]),
    ("timestamp[us]", [np.datetime64("1969-12-31T23:59:59.999999"), np.datetime64("1970-01-01")]),
]


@pytest.mark.parametrize(("declared", "values"), KEYS)
def test_a_key_finds_its_record_and_is_there_once(
    tmp_path: Path, declared: str, values: list[Any]
) -> None:
    with sqlstore.create(tmp_path / "s", metadata={"k": declared, "n": "int8"}, key="k") as store:
        store.extend({"k": value, "n": i} for i, value in enumerate(values))
        for i, value in enumerate(values):
            assert store.get(key=value)["n"] == i
            with pytest.raises(sqlstore.DuplicateKeyError) as caught:
                store.extend([{"k": value}])
            assert caught.value.where == {"row": 0, "record": i}
        with pytest.raises(sqlstore.SchemaError, match="a value is required"):
            store.extend([{"n": 1}])
        assert len(store) == len(values)


@pytest.mark.parametrize("size", [-1, 0, 1023, 2 * sqlstore.GiB])
def test_a_chunk_size_has_bounds(tmp_path: Path, size: int) -> None:
    assert str(size) in refused(tmp_path, fields={"f": "bytes"}, chunk_size=size)


def test_chunks_begin_anew_at_their_size(tmp_path: Path) -> None:
    with sqlstore.create(
        tmp_path / "s", fields={"f": "bytes"}, compression=None, chunk_size=sqlstore.KiB
    ) as store:
        values = [bytes([i]) * 700 for i in range(5)]
        with store.writer(commit_records=1) as writer:
            for value in values:
                writer.append({"f": value})
        assert [record["f"] for record in store] == values
        files = store.sql("SELECT DISTINCT file FROM record_locations")["file"].to_pylist()
    assert len(files) == 5
    assert all((tmp_path / "s" / file).is_file() for file in files)


def test_declarations_do_not_change(tmp_path: Path) -> None:
    column: Any = sqlstore.Column("int8")
    with pytest.raises(AttributeError):
        column.type = "int16"
    with sqlstore.create(tmp_path / "s", metadata={"n": column}) as store:
        schema: Any = store.schema
        with pytest.raises(AttributeError):
            schema.key = "n"
    assert column == sqlstore.Column("int8")


def test_something_at_the_path_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    sqlstore.create(tmp_path / "store", metadata={"n": "int8"}).close()
    before = sorted(tmp_path.iterdir())

    for name in ("file", "folder", "link", "store"):
        with pytest.raises(sqlstore.StoreExistsError, match=name):
            sqlstore.create(tmp_path / name, metadata={"n": "int8"})
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "folder" / "file").read_bytes() == b"mine"


def test_the_second_of_two_that_create_at_once_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlstore.create(tmp_path / "s", metadata={"n": "int8"}).close()
    # As if both had found the place free.
    monkeypatch.setattr(sys.modules["sqlstore.create"], "check_free", lambda target: None)
    with pytest.raises(sqlstore.StoreExistsError):
        sqlstore.create(tmp_path / "s", metadata={"other": "int8"})

    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    with sqlstore.open(tmp_path / "s") as store:
        assert list(store.schema.columns) == ["n"]


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(sqlstore.StorageError) as caught:
        sqlstore.create(tmp_path / "file" / "s", metadata={"n": "int8"})
    assert caught.value.errno == errno.ENOTDIR


def test_an_empty_folder_or_none_at_all_becomes_the_store(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "new" / "deep", str(tmp_path / "text")):
        with sqlstore.create(path, metadata={"n": "int8"}) as store:
            assert store.mode == "a"
            assert store.path == Path(path)
            assert len(store) == 0


def test_only_a_store_can_be_opened(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(sqlstore.StoreNotFoundError, match="nowhere"):
        sqlstore.open(tmp_path / "nowhere")
    for name in ("folder", "file"):
        with pytest.raises(sqlstore.NotAStoreError, match=name):
            sqlstore.open(tmp_path / name)
    wrong: Any = "w"
    with pytest.raises(ValueError, match='"r" or "a"'):
        sqlstore.open(tmp_path / "folder", mode=wrong)


def test_a_folder_that_is_gone_is_not_taken_for_damage(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "s", tmp_path / "elsewhere"
    sqlstore.create(path, fields={"f": "bytes"}, metadata={"n": "int8"}).close()
    with sqlstore.open(path, mode="a") as store:
        store.extend([{"n": 1, "f": b"1"}])
        pickled = pickle.dumps(store[:])
        for moved in (path, path / "chunks"):
            moved.rename(elsewhere)
            for use in (
                lambda: store[0],
                lambda: store.raw(0, "f"),
                store.refresh,
                store.writer,
                lambda: pickle.loads(pickled)[0],
            ):
                with pytest.raises(sqlstore.StoreNotFoundError, match=f"{moved} is gone or was"):
                    use()
            elsewhere.rename(moved)
        assert store[0] == {"f": b"1", "n": 1}  # it is as it was
        assert store.extend([{"n": 2}]).tolist() == [1]


def test_a_store_for_reading_is_not_written(tmp_path: Path) -> None:
    sqlstore.create(tmp_path / "s", metadata={"n": "int8"}).close()
    with sqlstore.open(tmp_path / "s") as store:
        assert store.mode == "r"
        for write in (store.writer, lambda: store.extend([{"n": 1}])):
            with pytest.raises(sqlstore.ReadOnlyError, match='mode="a"'):
                write()
        assert len(store) == 0
