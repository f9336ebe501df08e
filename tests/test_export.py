"""Views as files: Parquet, CSV, Arrow and WebDataset."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import sqlstore
from sqlstore import tabular
from sqlstore.export import webdataset
from tests.all_kinds import COUNT, METADATA, make


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlstore.Store]:
    with sqlstore.open(make(tmp_path_factory.mktemp("export") / "s")) as opened:
        yield opened


@pytest.fixture
def view(store: sqlstore.Store) -> sqlstore.View:
    return store.where("n % 2 = 0").order_by("n DESC")


def read(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return pq.read_table(path)
    with path.open("rb") as file, pa.ipc.open_file(file) as reader:
        return reader.read_all()


def rows(table: pa.Table) -> list[str]:
    return list(map(repr, table.to_pylist()))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Tables


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_every_type_comes_back(view: sqlstore.View, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    done = view.export(path, fields=["image", "numbers"])
    expected = view.to_arrow(["image", "numbers"])

    assert done == sqlstore.Exported(len(view), 1, path.stat().st_size)
    assert read(path).schema.equals(expected.schema)
    assert rows(read(path)) == rows(expected)
    assert names(tmp_path) == [path.name]


def test_csv_comes_back_as_far_as_text_can_say_it(view: sqlstore.View, tmp_path: Path) -> None:
    view.export(tmp_path / "out.csv")
    kinds = dict(zip(view.arrow_schema.names, view.arrow_schema.types, strict=True))
    kinds["binary"] = pa.string()
    options = pyarrow.csv.ConvertOptions(
        column_types=kinds, strings_can_be_null=True, quoted_strings_can_be_null=False,
        null_values=[""], timestamp_parsers=["%Y-%m-%d %H:%M:%S", pyarrow.csv.ISO8601],
    )  # fmt: skip
    multiline = pyarrow.csv.ParseOptions(newlines_in_values=True)
    found = pyarrow.csv.read_csv(
        tmp_path / "out.csv", convert_options=options, parse_options=multiline
    )
    expected = view.to_arrow()
    hexes = [None if v is None else v.hex() for v in expected["binary"].to_pylist()]

    assert found["binary"].to_pylist() == hexes
    assert {None, "", "00ff"} == set(hexes)
    assert rows(found.drop(["binary"])) == rows(expected.drop(["binary"]))


def test_hex_digits_of_a_slice_are_its_own() -> None:
    from sqlstore.export.tables import _hex

    array = pa.array([b"x", b"\x01", None, b"", b"\xff\xfe", b"y"], pa.binary())
    assert _hex(array[1:5]).to_pylist() == ["01", None, "", "fffe"]
    assert _hex(array[:0]).to_pylist() == []


def test_the_pieces_of_a_file_are_small(
    store: sqlstore.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tabular.Tables.to_batches, "__defaults__", (7, ()))
    store.export(tmp_path / "out.parquet")
    file = pq.ParquetFile(tmp_path / "out.parquet")
    with file:
        groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert sum(groups) == COUNT
    assert max(groups) == 7


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("out.txt", {}, "tells no format"),
        ("out", {"format": "xls"}, "the formats are parquet, csv, arrow, not 'xls'"),
        ("s/out.csv", {}, "inside the store"),
        ("s/index.sqlite", {"format": "csv", "overwrite": True}, "inside the store"),
        (".", {"format": "csv", "overwrite": True}, "not a file"),
        ("out.csv", {"fields": ["plain"]}, "CSV is text"),
        ("out.csv", {"fields": ["numbers"]}, "CSV is text"),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    tmp_path: Path, path: str, options: dict[str, Any], message: str
) -> None:
    with sqlstore.open(make(tmp_path / "s", 3)) as store:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(sqlstore.ExportError, match=message):
            store.export(tmp_path / path, **options)
        assert sorted(tmp_path.rglob("*")) == before
        assert store.verify()


def test_a_file_is_replaced_only_when_asked_and_only_by_a_complete_one(tmp_path: Path) -> None:
    path = make(tmp_path / "s", 9)
    out = tmp_path / "out.parquet"
    out.write_text("mine")
    (chunk,) = (path / "chunks").iterdir()
    data = bytearray(chunk.read_bytes())
    data[data.index(b"pppppp")] ^= 1
    chunk.write_bytes(data)
    with sqlstore.open(path) as store:
        with pytest.raises(FileExistsError, match="there already"):
            store.export(out)
        with pytest.raises(sqlstore.ChecksumError):
            store.export(out, fields=["plain"], overwrite=True)
        assert out.read_text() == "mine"
        assert names(tmp_path) == ["out.parquet", "s"]
        store.export(out, overwrite=True)
    assert read(out).num_rows == 9


# WebDataset


def samples(paths: list[Path]) -> list[dict[str, bytes]]:
    """Return samples as WebDataset groups files: by their names up to the first dot."""
    found: list[dict[str, bytes]] = []
    for path in paths:
        last = None
        with tarfile.open(path) as tar:
            for member in tar:
                folder, slash, name = member.name.rpartition("/")
                key, _, kind = name.partition(".")
                if last != (folder, key):
                    found.append({"__key__": (folder + slash + key).encode()})
                    last = folder, key
                content = tar.extractfile(member)
                assert content is not None
                assert kind not in found[-1]
                found[-1][kind] = content.read()
    return found


def test_a_sample_is_a_record(view: sqlstore.View, tmp_path: Path) -> None:
    done = view.export_webdataset(f"{tmp_path}/out-%03d.tar", maxcount=7)
    paths = sorted(tmp_path.iterdir())
    found = samples(paths)

    assert [path.name for path in paths] == [f"out-{i:03d}.tar" for i in range(5)]
    assert done == sqlstore.Exported(30, 5, sum(path.stat().st_size for path in paths))
    assert [sample["__key__"] for sample in found] == [f"{i:09d}".encode() for i in view.ids]
    for position, sample in enumerate(found):
        record = view[position]
        document = json.loads(sample.pop("json"))
        assert list(document) == ["id", *METADATA]
        for name in ("n", "int64", "uint64", "json", "string", "bool"):
            assert document[name] == record[name]
        assert document["zoned"] == (record["zoned"] and record["zoned"].isoformat())
        assert sample.pop("plain.bin", None) == record["plain"]
        assert sample.pop("packed.txt", b"").decode() == (record["packed"] or "")
        assert sample.pop("image.png", None) == view.raw(position, "image")
        if record["array"] is not None:
            array = np.load(io.BytesIO(sample.pop("array.npy")))
            assert (array.dtype, array.tolist()) == (np.float32, record["array"].tolist())
        for i, number in enumerate(record["numbers"] or ()):
            assert sample.pop(f"numbers.{i:06d}.cls") == str(number).encode()
        for i, part in enumerate(record["parts"] or ()):
            assert json.loads(sample.pop(f"parts.{i:06d}.json")) == part
        assert set(sample) == {"__key__"}


def test_webdataset_reads_it(view: sqlstore.View, tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset")
    view.export_webdataset(f"{tmp_path}/%d.tar", key="key")
    with (tmp_path / "0.tar").open("rb") as file:
        source = [{"url": "0.tar", "stream": file}]
        found = list(wds.tariterators.group_by_keys(wds.tariterators.tar_file_expander(source)))

    assert [sample["__key__"] for sample in found] == [record["key"] for record in view]
    assert [sample.get("plain.bin") for sample in found] == [record["plain"] for record in view]


def test_files_are_full_before_the_next_begins(store: sqlstore.Store, tmp_path: Path) -> None:
    view = store.select("n")
    view.export_webdataset(f"{tmp_path}/%d.tar", maxsize=10_240)
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]

    assert len(sizes) == 7  # a sample takes 1,024 bytes, and the end as much
    assert max(sizes) <= 10_240
    view.export_webdataset(f"{tmp_path}/one-%d.tar", maxsize=1)
    assert len(list(tmp_path.glob("one-*"))) == COUNT


def test_the_same_records_give_the_same_bytes(view: sqlstore.View, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        view.export_webdataset(f"{tmp_path}/{folder}/%d.tar")
    assert (tmp_path / "a/0.tar").read_bytes() == (tmp_path / "b/0.tar").read_bytes()


def test_fewer_files_replace_more(store: sqlstore.Store, tmp_path: Path) -> None:
    pattern = f"{tmp_path}/%d.tar"
    store.export_webdataset(pattern, maxcount=10)
    with pytest.raises(FileExistsError):
        store.export_webdataset(pattern)
    assert len(names(tmp_path)) == 6
    store[:20].export_webdataset(pattern, maxcount=10, overwrite=True)
    assert names(tmp_path) == ["0.tar", "1.tar"]
    assert store[:0].export_webdataset(f"{tmp_path}/none-%d.tar") == sqlstore.Exported(0, 0, 0)


@pytest.mark.parametrize(
    ("pattern", "options", "message"),
    [
        ("out.tar", {}, "write out-%06d.tar"),
        ("out-%s.tar", {}, "write out-%06d.tar"),
        ("%d-%d.tar", {}, "write out-%06d.tar"),
        ("%d.tar", {"maxcount": 0}, "at least one sample"),
        ("%d.tar", {"key": "float64"}, "only text and integers"),
        ("%d.tar", {"key": "string"}, "no value to name its sample"),
        ("%d.tar", {"key": "nope"}, "named 'nope'"),
    ],
)
def test_what_is_no_layout_is_refused(
    store: sqlstore.Store, tmp_path: Path, pattern: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((sqlstore.ExportError, sqlstore.UnknownNameError), match=message):
        store.export_webdataset(f"{tmp_path}/{pattern}", **options)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "key", ["a.b", "../a", "/a", "a/../b", "a//b", ".a", "", "a\nb", "a/", "ö.x"]
)
def test_a_key_that_would_be_another_is_refused(tmp_path: Path, key: str) -> None:
    with sqlstore.create(tmp_path / "s", metadata={"key": "string"}) as store:
        store.extend([{"key": "fine/v1.0/a"}, {"key": key}])
        with pytest.raises(sqlstore.ExportError, match="cannot name a sample"):
            store.export_webdataset(f"{tmp_path}/%d.tar", key="key")
        store[:1].export_webdataset(f"{tmp_path}/%d.tar", key="key")
        assert samples([tmp_path / "0.tar"])[0]["__key__"] == b"fine/v1.0/a"


def test_a_record_is_one_sample(store: sqlstore.Store, tmp_path: Path) -> None:
    with pytest.raises(sqlstore.ExportError, match="a record twice"):
        store.take([1, 1]).export_webdataset(f"{tmp_path}/%d.tar")
    with pytest.raises(sqlstore.ExportError, match="the same value to name"):
        store.take([1, 1]).export_webdataset(f"{tmp_path}/%d.tar", key="n")


def test_what_fails_leaves_what_was_there(
    store: sqlstore.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "0.tar").write_text("mine")
    tarred, left = webdataset._tarred, iter(range(100))

    def fails(name: str, content: bytes) -> bytes:
        if next(left) == 90:
            raise KeyboardInterrupt
        return tarred(name, content)

    monkeypatch.setattr(webdataset, "_tarred", fails)
    with pytest.raises(KeyboardInterrupt):
        store.export_webdataset(f"{tmp_path}/%d.tar", maxcount=5, overwrite=True)
    assert names(tmp_path) == ["0.tar"]
    assert (tmp_path / "0.tar").read_text() == "mine"


def test_a_parquet_file_reads_as_the_frame_that_the_view_gives(
    view: sqlstore.View, tmp_path: Path
) -> None:
    view.export(tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet"), view.to_pandas())
