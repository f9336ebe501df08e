"""`sqlstore.import_folder`: what of a folder becomes records, and what they say."""

from __future__ import annotations

import datetime as dt
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from PIL import Image

import sqlstore
from tests.trees import MODIFIED, image, make_tree, mixed_files, read_tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree", mixed_files())


def rows(path: Path) -> dict[str, dict[str, Any]]:
    with sqlstore.open(path) as store:
        return {row["path"]: row for row in store.to_arrow().to_pylist()}


def test_a_record_says_what_is_known_of_a_file(tree: Path, tmp_path: Path) -> None:
    report = sqlstore.import_folder(tree, tmp_path / "s")
    files = mixed_files()
    assert report == sqlstore.FolderReport(stored=len(files))
    with sqlstore.open(tmp_path / "s") as store:
        assert store.schema.key == "path"
        assert store.schema.fields["file"].encoding == "bytes"
        assert [record["path"] for record in store] == [
            "README",
            "a/b/c/deep.py",  # folder by folder
            "a/b.TXT",
            "a/image.png",
            *sorted(name for name in files if name > "b"),
        ]
        assert {record["path"]: record["file"] for record in store} == files
    found = rows(tmp_path / "s")
    assert found["a/b/c/deep.py"] == {
        "id": 1,
        "path": "a/b/c/deep.py",
        "size": 600,
        "modified": dt.datetime.fromtimestamp(1_700_000_002, dt.UTC) + dt.timedelta(0, 0, 123_456),
        "suffix": ".py",
        "label": "a",
        "width": None,
        "height": None,
    }
    assert [found[name]["suffix"] for name in ("README", "a/b.TXT", "z.tar.gz")] == [
        None,
        ".txt",
        ".gz",
    ]
    assert (found["README"]["label"], found["b/image.jpg"]["label"]) == (None, "b")
    sizes = {n: (r["width"], r["height"]) for n, r in found.items() if r["width"] is not None}
    assert sizes == {"a/image.png": (7, 5), "b/image.jpg": (9, 3)}


def test_several_workers_store_the_same(tree: Path, tmp_path: Path) -> None:
    make_tree(tree, {f"many/{i}": b"%d" % i for i in range(50)})
    sqlstore.import_folder(tree, tmp_path / "one")
    sqlstore.import_folder(tree, tmp_path / "four", workers=4, start_method="forkserver")
    one, four = rows(tmp_path / "one"), rows(tmp_path / "four")
    assert [{**row, "id": 0} for row in one.values()] == [{**four[name], "id": 0} for name in one]
    for name in ("one", "four"):
        with sqlstore.open(tmp_path / name) as store:
            assert store.verify()
            sqlstore.export_folder(store, tmp_path / f"{name} out")
        assert read_tree(tmp_path / f"{name} out") == read_tree(tree)


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bmp", "tiff", "webp"])
def test_sizes_of_images_come_from_their_headers(tmp_path: Path, kind: str) -> None:
    whole = image(kind, 300, 200)
    cut = whole if kind in ("tiff", "webp") else whole[: len(whole) // 2]  # tables at the end
    make_tree(tmp_path / "t", {"no suffix": whole, "cut": cut, "no": whole[:5]})
    sqlstore.import_folder(tmp_path / "t", tmp_path / "s")
    found = rows(tmp_path / "s")
    assert [(found[n]["width"], found[n]["height"]) for n in ("no suffix", "cut", "no")] == [
        (300, 200),
        (300, 200),
        (None, None),
    ]


def test_an_image_of_very_many_pixels_is_measured_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    make_tree(tmp_path / "t", {"a": image("png")})
    sqlstore.import_folder(tmp_path / "t", tmp_path / "s")
    assert rows(tmp_path / "s")["a"]["width"] == 7


@pytest.mark.parametrize(
    ("names", "encoding"),
    [
        (["a.png", "b.PNG"], "png"),
        (["a.jpg", "b.jpeg"], "jpg"),
        (["a.png", "b.jpg"], "bytes"),
        (["a.png", "b"], "bytes"),
        ([], "bytes"),
    ],
)
def test_folders_of_images_become_images(tmp_path: Path, names: list[str], encoding: str) -> None:
    kinds = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}
    files = {n: image(kinds.get(Path(n).suffix.lower(), "png")) for n in names}
    make_tree(tmp_path / "t", files)
    sqlstore.import_folder(tmp_path / "t", tmp_path / "s")
    with sqlstore.open(tmp_path / "s") as store:
        field = store.schema.fields["file"]
        assert (field.encoding, field.compression) == (
            encoding,
            "lz4" if encoding == "bytes" else None,
        )
        assert [store.raw(i, "file") for i in range(len(store))] == list(files.values())
        if encoding != "bytes":
            assert isinstance(store[0]["file"], np.ndarray)
            assert store[0]["file"].shape == (5, 7, 3)


def test_a_file_that_is_no_image_is_reported_or_stops(tmp_path: Path) -> None:
    make_tree(tmp_path / "t", {"a.png": image("png"), "b.png": b"oops", "c.png": image("png")})
    with pytest.raises(sqlstore.ItemError, match=r"not a PNG file .*\(item b\.png\)"):
        sqlstore.import_folder(tmp_path / "t", tmp_path / "s")
    report = sqlstore.import_folder(tmp_path / "t", tmp_path / "s", on_error="skip")
    assert (report.stored, report.skipped) == (1, 1)
    assert [failed.item for failed in report.failed] == ["b.png"]
    assert list(rows(tmp_path / "s")) == ["a.png", "c.png"]
    sqlstore.import_folder(tmp_path / "t", tmp_path / "all", encoding="bytes", compression="zstd")
    with sqlstore.open(tmp_path / "all") as store:
        assert store.schema.fields["file"].compression == "zstd"


# What is left out


def test_what_is_no_plain_file_is_left_out_and_told(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree(tree, {".hidden/x": b"", "a/.too": b""})
    (tree / "link").symlink_to("README")
    (tree / "loop").symlink_to(".")
    os.mkfifo(tree / "fifo")
    monkeypatch.chdir(tree)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        report = sqlstore.import_folder(tree, tmp_path / "s")
    assert report.left_out == {
        "hidden": [".hidden", "a/.too"],
        "symlink": ["link", "loop"],
        "special": ["fifo", "socket"],
    }
    assert report
    assert set(rows(tmp_path / "s")) == set(mixed_files())
    report = sqlstore.import_folder(tree, tmp_path / "s", hidden=True)
    assert (report.stored, "hidden" in report.left_out) == (2, False)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"pattern": "*.p*"}, ["a/b/c/deep.py", "a/image.png", "b/not.png"]),
        ({"pattern": "a/*"}, ["a/b/c/deep.py", "a/b.TXT", "a/image.png"]),
        ({"exclude": ["b", "*.png"]}, ["README", "a/b.TXT", "z.tar.gz"]),
        ({"exclude": ["a/b", "b/*"]}, ["README", "a/b.TXT", "a/image.png", "z.tar.gz"]),
        ({"pattern": "*.p*", "exclude": ["a"]}, ["b/not.png"]),
    ],
)
def test_patterns_choose(
    tree: Path, tmp_path: Path, options: dict[str, Any], names: list[str]
) -> None:
    sqlstore.import_folder(tree, tmp_path / "s", **options)
    assert list(rows(tmp_path / "s")) == names


def test_a_name_that_is_not_utf8_fails(tmp_path: Path) -> None:
    make_tree(tmp_path / "t", {"a": b"", "z": b""})
    Path(os.fsdecode(os.fsencode(tmp_path / "t") + b"/b\xff")).write_bytes(b"x")
    report = sqlstore.import_folder(tmp_path / "t", tmp_path / "s", on_error="skip")
    assert [(one.item, one.message.partition(",")[0]) for one in report.failed] == [
        (r"'b\udcff'", "ValueError: the name is not UTF-8")
    ]
    assert list(rows(tmp_path / "s")) == ["a", "z"]
    with pytest.raises(sqlstore.ItemError, match="not UTF-8"):
        sqlstore.import_folder(tmp_path / "t", tmp_path / "s")


def test_a_file_that_changes_or_goes_while_it_is_read_fails(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def meanwhile(path: str, flags: int, *mode: int) -> int:
        if str(path).endswith("z.tar.gz"):
            Path(path).unlink()
        return real(path, flags, *mode)

    class Changing:
        """Bytes that grow after the file's size was looked at."""

        def __init__(self, descriptor: int, mode: str) -> None:
            self._file = fdopen(descriptor, mode)
            self._name = str(Path(f"/dev/fd/{descriptor}").readlink())

        def __enter__(self) -> Changing:
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def read(self, count: int) -> bytes:
            if self._name.endswith("deep.py"):
                with Path(self._name).open("ab") as file:
                    file.write(b"more")
            data: bytes = self._file.read(count)
            return data

    fdopen = os.fdopen
    monkeypatch.setattr("sqlstore.ingest.files.os.open", meanwhile)
    monkeypatch.setattr("sqlstore.ingest.files.os.fdopen", Changing)
    report = sqlstore.import_folder(tree, tmp_path / "s", on_error="skip")
    messages = {one.item: one.message for one in report.failed}
    assert messages == {
        "a/b/c/deep.py": "OSError: the file was changed while it was read",
        "z.tar.gz": f"FileNotFoundError: [Errno 2] No such file or directory: '{tree}/z.tar.gz'",
    }


def test_a_folder_that_cannot_be_listed_fails(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr("sqlstore.ingest.walk.os.scandir", refuse)
    report = sqlstore.import_folder(tree, tmp_path / "s", on_error="skip")
    assert sorted(str(one) for one in report.failed) == [
        "'a/b': OSError: the folder cannot be listed: Permission denied",
        "'b': OSError: the folder cannot be listed: Permission denied",
    ]
    with pytest.raises(sqlstore.ItemError, match="cannot be listed"):
        sqlstore.import_folder(tree, tmp_path / "s")


# Once more


def test_a_second_run_stores_what_came_and_tells_what_changed(tree: Path, tmp_path: Path) -> None:
    sqlstore.import_folder(tree, tmp_path / "s")
    assert sqlstore.import_folder(tree, tmp_path / "s") == sqlstore.FolderReport(skipped=8)
    make_tree(tree, {"new.png": image("png")})
    (tree / "README").write_bytes(b"something else")
    os.utime(tree / "z.tar.gz", ns=(0, (MODIFIED + 1) * 1000))
    report = sqlstore.import_folder(tree, tmp_path / "s")
    assert (report.stored, report.skipped) == (1, 8)
    assert sorted(report.changed) == ["README", "z.tar.gz"]
    with sqlstore.open(tmp_path / "s") as store:
        assert store.get(key="README")["file"] == b"read me"


def test_a_store_that_was_made_otherwise_is_refused(tree: Path, tmp_path: Path) -> None:
    metadata = {"path": "string"}
    sqlstore.create(tmp_path / "s", fields={"f": "bytes"}, metadata=metadata, key="path").close()
    with pytest.raises(sqlstore.SchemaError, match="made otherwise: it has no 'file'"):
        sqlstore.import_folder(tree, tmp_path / "s")
    sqlstore.import_folder(tree, tmp_path / "t")
    with pytest.raises(sqlstore.SchemaError, match=r"compression lz4.*compression None"):
        sqlstore.import_folder(tree, tmp_path / "t", compression=None)
    with pytest.raises(sqlstore.SchemaError, match=r"bytes.*asks for.*png"):
        sqlstore.import_folder(tree, tmp_path / "t", encoding="png")


def test_wrong_usage(tree: Path, tmp_path: Path) -> None:
    for inner, outer in ((tree, tree / "s"), (tree / "a", tree), (tree, tree)):
        with pytest.raises(sqlstore.SchemaError, match="must not lie in each other"):
            sqlstore.import_folder(inner, outer)
    with pytest.raises(FileNotFoundError):
        sqlstore.import_folder(tmp_path / "nowhere", tmp_path / "s")
    with pytest.raises(NotADirectoryError):
        sqlstore.import_folder(tree / "README", tmp_path / "s")
    options: list[dict[str, Any]] = [{"workers": 0}, {"on_error": "x"}, {"exclude": "*.py"}]
    for one in [*options, {"encoding": "utf8"}, {"start_method": "fork"}]:
        with pytest.raises((ValueError, TypeError), match=next(iter(one))):
            sqlstore.import_folder(tree, tmp_path / "s", **one)
    assert not (tmp_path / "s").exists()


# A table beside the files


def write_table(path: Path, table: dict[str, Any]) -> Path:
    made = pa.table(table)
    if path.suffix == ".parquet":
        pa.parquet.write_table(made, path)
    else:
        pa.csv.write_csv(made, path)
    return path


@pytest.mark.parametrize("name", ["table.csv", "tree/table.csv", "table.parquet"])
def test_a_table_gives_columns(tree: Path, tmp_path: Path, name: str) -> None:
    day, seen = dt.date(2024, 5, 1), dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
    table = write_table(
        tmp_path / name,
        {
            "file_name": ["./README", "gone", "a/image.png"],
            "label": ["text", "x", None],
            "score": [0.5, 1.0, 2.5],
            "day": [day, day, day],
            "seen": pa.array([seen] * 3, pa.timestamp("ns", "UTC")),
        },
    )
    report = sqlstore.import_folder(tree, tmp_path / "s", metadata=table)
    assert (report.stored, report.without_row, report.unmatched) == (8, 6, ["gone"])
    found = rows(tmp_path / "s")
    assert {found[n]["label"] for n in found} == {"text", None}
    assert found["README"] | {"score": 0.5, "day": day, "seen": seen} == found["README"]
    assert found["b/image.jpg"]["score"] is None
    assert sqlstore.import_folder(tree, tmp_path / "s", metadata=table).skipped == 8
    with pytest.raises(sqlstore.SchemaError, match="made otherwise: it has 'score'"):
        sqlstore.import_folder(tree, tmp_path / "s")


def test_what_parquet_can_hold_besides(tree: Path, tmp_path: Path) -> None:
    table = write_table(
        tmp_path / "t.parquet",
        {
            "path": ["README"],
            "tags": [["a", "b"]],
            "box": [{"x": 1}],
            "kind": pa.array(["k"]).dictionary_encode(),
            "none": pa.nulls(1),
            "time": pa.array([dt.time(1, 2)]),
            "n": pa.array([1], pa.uint8()),
        },
    )
    sqlstore.import_folder(tree, tmp_path / "s", metadata=table, pattern="README")
    with sqlstore.open(tmp_path / "s") as store:
        record = store[0]
    assert (record["tags"], record["box"], record["kind"]) == (["a", "b"], {"x": 1}, "k")
    assert (record["none"], record["time"], record["n"]) == (None, "01:02:00.000000", 1)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"name": ["README"]}, "neither a column `path` nor `file_name`"),
        ({"path": ["a", "./a"]}, "two rows for a"),
        ({"path": [None, "a"]}, "row 0 .* names no file"),
        ({"path": [1]}, "names no file: 1"),
        ({"path": ["a"], "Size": [1]}, "'Size' .* called as one that the files"),
        ({"path": ["a"], "file": [1]}, "'file' .* called as one that the files"),
        ({"path": ["a"], "id": [1]}, "'id' is reserved"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    tree: Path, tmp_path: Path, table: dict[str, Any], message: str
) -> None:
    path = write_table(tmp_path / "t.parquet", table)
    with pytest.raises(sqlstore.SchemaError, match=message):
        sqlstore.import_folder(tree, tmp_path / "s", metadata=path)
    assert not (tmp_path / "s").exists()


def test_a_table_that_cannot_be_read_is_told(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text('file_name\tlabel\n7\t""\nREADME\t\n')
    report = sqlstore.import_folder(tree, tmp_path / "t", metadata=tmp_path / "t.tsv")
    assert report.unmatched == ["7"]  # a name, not a number
    for name, text, message in (
        ("t.csv", "path,a\nx\n", "cannot be read"),
        ("t.csv", "path,a,a\nx,1,2\n", "two columns named 'a'"),
        ("t.parquet", "no", "cannot be read"),
        ("t.xls", "", "neither .csv"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(sqlstore.SchemaError, match=message):
            sqlstore.import_folder(tree, tmp_path / "s", metadata=tmp_path / name)
    with pytest.raises(FileNotFoundError):
        sqlstore.import_folder(tree, tmp_path / "s", metadata=tmp_path / "none.csv")
