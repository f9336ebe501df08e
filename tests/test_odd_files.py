"""Files, tables and keys that nobody makes on purpose, on their way into a store and out again."""

from __future__ import annotations

import io
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

import sqlstore
from sqlstore.ingest.files import modified
from sqlstore.ingest.image_size import image_size
from tests.test_build import Terminal
from tests.trees import make_tree

FILES = {"a.txt": b"one", "b.txt": b"two", "c/d.txt": b"three"}


def image(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (9, 7)).save(stream, kind)
    return stream.getvalue()


def enormous_gif() -> bytes:
    made = bytearray(image("GIF"))
    at = made.index(b",")  # where its one frame says how large it is
    made[at + 5 : at + 9] = b"\xff" * 4
    return bytes(made)


def test_an_image_that_pillow_refuses_is_a_file_like_any_other(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", {"huge.gif": enormous_gif(), "small.gif": image("GIF")})
    assert sqlstore.import_folder(tmp_path / "tree", tmp_path / "s").stored == 2
    with sqlstore.open(tmp_path / "s") as store:
        assert [(r["width"], r["file"]) for r in store] == [
            (None, enormous_gif()),
            (9, image("GIF")),
        ]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_the_header_of_a_damaged_image_never_raises(kind: str) -> None:
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    whole = image(kind)
    assert image_size(whole) == (9, 7)
    for place in range(min(len(whole), 200)):
        for changed in (b"\xff", b"\0", b"\xff\xff\xff\xff", b""):
            image_size(whole[:place] + changed + whole[place + len(changed) :])
        image_size(whole[:place])


def test_a_time_that_no_column_can_hold_is_no_time() -> None:
    status = range(10)
    assert modified(os.stat_result(status, {"st_mtime_ns": 10**18})) is not None
    assert modified(os.stat_result(status, {"st_mtime_ns": 10**21})) is None  # the year 33,658


def table(tmp_path: Path, **columns: pa.Array) -> Path:
    path = tmp_path / "table.parquet"
    pyarrow.parquet.write_table(pa.table({"path": ["a.txt", "b.txt"], **columns}), path)
    return path


@pytest.mark.parametrize(
    ("array", "declared", "expected"),
    [
        (pa.array(["x", None], pa.large_string()), "string", "x"),
        (pa.array(["x", None], pa.string_view()), "string", "x"),
        (pa.array([b"x", None], pa.large_binary()), "binary", b"x"),
        (pa.array([b"xy", None], pa.binary(2)), "binary", b"xy"),
        (pa.array([0.5, None], pa.float16()), "float32", 0.5),
        (pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())), "json", {"k": 1}),
    ],
)
def test_columns_of_any_type_that_others_write_are_taken(
    tmp_path: Path, array: pa.Array, declared: str, expected: object
) -> None:
    tree = make_tree(tmp_path / "tree", FILES)
    sqlstore.import_folder(tree, tmp_path / "s", metadata=table(tmp_path, x=array))
    with sqlstore.open(tmp_path / "s") as store:
        assert store.schema.columns["x"].type == declared
        assert {record["path"]: record["x"] for record in store} == {
            "a.txt": expected,
            "b.txt": None,
            "c/d.txt": None,
        }


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (pa.array([1, 2], pa.timestamp("ns")), "cannot be kept exactly"),
        (pa.array([[(1, 2)], None], pa.map_(pa.int8(), pa.int8())), "the key 1 would come back"),
        (pa.array([[("a", 2), ("a", 3)], None], pa.map_(pa.string(), pa.int8())), "a key twice"),
    ],
)
def test_columns_that_would_lose_something_are_refused(
    tmp_path: Path, array: pa.Array, message: str
) -> None:
    tree = make_tree(tmp_path / "tree", FILES)
    with pytest.raises(sqlstore.SqlstoreError, match=message):
        sqlstore.import_folder(tree, tmp_path / "s", metadata=table(tmp_path, x=array))


def test_a_table_in_another_code_than_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,größe\na.txt,1\n", "latin-1")
    with pytest.raises(sqlstore.SchemaError, match=r"t\.csv cannot be read: 'utf-8' codec"):
        sqlstore.import_folder(
            make_tree(tmp_path / "tree", FILES), tmp_path / "s", metadata=tmp_path / "t.csv"
        )


def test_progress_of_a_folder_says_how_many_files_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = make_tree(tmp_path / "tree", FILES)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    report = sqlstore.import_folder(tree, tmp_path / "s", pattern="[ad].txt")
    assert report.stored == 2
    assert "/2 " in terminal.getvalue()


UNFIT: list[Any] = [["a"], {"a": 1}, object(), "\udc80", b"b", 2**70, 1.5]


@pytest.mark.parametrize("wrong", UNFIT, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("declared", ["string", "int64"])
def test_a_key_that_the_column_cannot_hold_is_a_failed_item(
    tmp_path: Path, wrong: Any, declared: str
) -> None:
    keys = ["a", "b", wrong] if declared == "string" else [1, 2, wrong]
    for key_of in (None, keys.__getitem__):
        for stored in (2, 0):  # made, and gone on with
            report = sqlstore.build(
                range(3),
                lambda number: {"k": keys[number]},
                tmp_path / f"{key_of is None}",
                metadata={"k": declared},
                key="k",
                key_of=key_of,
                on_error="skip",
            )
            assert (report.stored, len(report.failed)) == (stored, 1), report


def test_a_record_whose_sequence_cannot_be_read_is_a_failed_item(tmp_path: Path) -> None:
    def read(number: int) -> dict[str, Any]:
        parts = (b"%d" % (10 // one) for one in range(number, 3))
        return {"n": number, "parts": parts}

    report = sqlstore.build(
        range(3),
        read,
        tmp_path / "s",
        fields={"parts": "bytes[]"},
        metadata={"n": "int8"},
        key="n",
        on_error="skip",
    )
    assert report.stored == 2
    (failed,) = report.failed
    assert failed.item == "0"
    assert "ZeroDivisionError" in failed.message


def store_of(path: Path, key: str, paths: list[Any], **more: str) -> sqlstore.Store:
    store = sqlstore.create(path, fields={"file": "bytes"}, metadata={"path": key, **more})
    store.extend({"file": b"", "path": one} for one in paths)
    return store


@pytest.mark.parametrize(
    ("key", "paths", "message"),
    [
        ("string", ["x/y/z", "x/y"], "the path 'x/y' is a file, and a folder for 'x/y/z'"),
        ("string", ["x", "x/y/z"], "the path 'x' is a file, and a folder for 'x/y/z'"),
        ("int64", [1, 2], "the column 'path' has int64 values and no paths"),
    ],
)
def test_nothing_is_exported_where_a_path_can_be_none(
    tmp_path: Path, key: str, paths: list[Any], message: str
) -> None:
    with store_of(tmp_path / "s", key, paths) as store:
        with pytest.raises(sqlstore.SchemaError, match=message):
            sqlstore.export_folder(store, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_what_is_called_modified_and_is_no_time_is_not_used_as_one(tmp_path: Path) -> None:
    with store_of(tmp_path / "s", "string", ["x"], modified="string") as store:
        assert sqlstore.export_folder(store, tmp_path / "out").files == 1
