"""`docs/format.md` is true: a reader written from the page alone reads what the library wrote."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import struct
import tempfile
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sqlstore
from sqlstore import Field, Schema, Store, compression, encodings, limits
from sqlstore.log import segment
from sqlstore.log.segment import CommitKind, Header, Trailer
from tests import independent_reader
from tests.format_page import (
    COLUMNS,
    FIELDS,
    HIGHEST,
    LOWEST,
    NAN,
    append,
    chunk_files,
    create,
    create_owls,
    rows,
)


def same(left: Any, right: Any) -> bool:
    """Return whether two values are the same to the last bit that a user could see."""
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        shape_and_type = left.shape == right.shape and left.dtype.str == right.dtype.str
        return shape_and_type and left.tobytes() == right.tobytes()
    if isinstance(left, float) and isinstance(right, float):
        return struct.pack("d", left) == struct.pack("d", right)
    return type(left) is type(right) and bool(left == right)


def table_of(schema: Schema) -> list[tuple[Any, ...]]:
    """Return the rows of the table of a create."""
    return [
        ("field", f.number, f.name, f.encoding, f.compression, True, False, False)
        for f in schema.fields.values()
    ] + [
        ("column", c.number, c.name, c.type, None, c.nullable, c.index, c.name == schema.key)
        for c in schema.columns.values()
    ]


def compare(store: Store, position: int, found: dict[str, Any], record: dict[str, Any]) -> None:
    """Compare what the reader found with the record that the library returns."""
    assert list(found) == list(record)
    expected = dict(record)
    for name, field in store.schema.fields.items():
        if (value := found[name]) is not None:
            value = bytes(encodings.ENCODINGS[field.encoding].encode(value))
        assert store.raw(position, name) == value
        if field.encoding == "png":  # the reader leaves pictures as they are
            expected[name] = value
    for name, column in store.schema.columns.items():
        if column.type == "json" and found[name] is not None:  # and JSON too
            found = found | {name: json.loads(found[name])}
    for name, value in found.items():
        assert same(value, expected[name]), (position, name)


def read_both(path: Path, written: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Read a store with the library and without it, and compare both with what was written."""
    found = independent_reader.read(path)
    with sqlstore.open(path) as store:
        assert [tuple(row.values()) for row in found["schema"]] == table_of(store.schema)
        records = list(store)
        assert list(found["records"]) == list(range(len(records)))
        for position, values in found["records"].items():
            compare(store, position, values, records[position])
    if written is not None:
        for given_record, record in zip(written, records, strict=True):
            for name, value in record.items():
                assert same(given_record.get(name), value), name
    return found


@pytest.fixture
def owls(tmp_path: Path) -> Path:
    return create_owls(tmp_path)


# A reader that follows the page reads what the library wrote.


def test_every_type_and_encoding_is_read_without_the_library(tmp_path: Path) -> None:
    path = create(tmp_path / "all", fields=FIELDS, metadata=COLUMNS)
    written: list[dict[str, Any]] = [{}, LOWEST, HIGHEST, NAN, {}]
    append(path, written)
    append(path, [HIGHEST])
    found = read_both(path, [*written, HIGHEST])
    assert [row["f2"]["compression"] for row in found["rows"].values() if row["f2"]] == [0, 3, 0, 3]
    assert found["records"][2]["picture"].startswith(b"\x89PNG\r\n\x1a\n")
    assert sqlstore.rebuild(path) == 6
    read_both(path, [*written, HIGHEST])


def test_arrays_of_every_kind_are_read_without_the_library(tmp_path: Path) -> None:
    path = create(tmp_path / "arrays", fields={"array": "array"})
    arrays = [
        np.array(True),
        np.array(b"ab\0c"),
        np.array(["", "owl"]),
        np.array(["NaT", "1969-12-31T23:59"], "<M8[m]"),
        np.array([[1 + 2j]], ">c16"),
        np.zeros((2, 0, 3), "u1"),
        np.arange(24, dtype="<i8").reshape(2, 3, 4, order="F"),
        np.arange(24, dtype="<i8").reshape(4, 6)[::2, ::-3],
        np.array([math.nan, -0.0, math.inf], "<f2"),
    ]
    written = [{"array": array} for array in arrays]
    append(path, written)
    read_both(path, written)


@pytest.mark.parametrize("name", [None, "lz4", "zstd", "gzip"])
def test_every_compression_is_read_without_the_library(tmp_path: Path, name: str | None) -> None:
    path = create(tmp_path / "owls", fields={"blob": "bytes"}, compression=name)
    random = np.random.default_rng(0).bytes(10_000)
    written = [{"blob": b"owl" * 100_000}, {"blob": random}, {"blob": b""}]
    append(path, written)
    found = read_both(path, written)
    number = compression.COMPRESSIONS[name]
    assert [row["f0"]["compression"] for row in found["rows"].values()] == [number, 0, 0]


@pytest.mark.parametrize("name", [None, "lz4"])
def test_tables_are_read_without_the_library(tmp_path: Path, name: str | None) -> None:
    path = create(
        tmp_path / "owls",
        fields={"blob": "bytes", "text": "utf8"},
        metadata={"n": "float32", "s": "string"},
        compression=name,
    )
    strings = pa.array(["a", None, "", "ü", "a"]).dictionary_encode()
    numbers = pa.array([math.nan, None, 1.5, -0.0, math.inf], pa.float32())
    texts = ["é" * 99, "", None, "x", None]
    blobs = [None, b"", b"a" * 100, None, b"b"]
    table = pa.table({"s": strings, "n": numbers, "text": texts, "blob": blobs})
    append(path, table.slice(1))
    append(path, table)
    rows = table.to_pylist()
    read_both(path, rows[1:] + rows)


def test_fields_alone_and_columns_alone_are_read_without_the_library(tmp_path: Path) -> None:
    fields = create(tmp_path / "fields", fields={"text": "utf8"})
    columns = create(tmp_path / "columns", metadata={"n": "int8"}, key="n")
    for path, record in ((fields, {"text": "owl"}), (columns, {"n": 1})):
        read_both(path, [])
        append(path, [record])
        read_both(path, [record])


def test_writers_that_take_turns_make_one_chain(tmp_path: Path) -> None:
    path = create(tmp_path / "owls", fields={"blob": "bytes"}, metadata={"n": "int64"})
    written = [{"blob": b"owl%d" % n, "n": n} for n in range(8)]
    with sqlstore.open(path, "a") as store, store.writer() as first, store.writer() as second:
        for record in written:
            writer = second if record["n"] in (1, 2, 5) else first
            writer.append(record)
            assert writer.commit().tolist() == [record["n"]]
    found = read_both(path, written)
    assert [commit["chunk"] for commit in found["commits"]] == [0, 0, 1, 1, 0, 0, 1, 0, 0]
    assert len({commit["file"] for commit in found["commits"]}) == 2


RECORDS: Final = st.fixed_dictionaries(
    {},
    optional={
        "blob": st.none() | st.binary(max_size=3000),
        "text": st.none() | st.text(max_size=50),
        "n": st.none() | st.integers(-(2**63), 2**63 - 1),
        "x": st.none() | st.floats(width=32),
        "when": st.none() | st.datetimes(),
    },
)


@given(
    commits=st.lists(
        st.tuples(st.integers(0, 2), st.lists(RECORDS, min_size=1, max_size=4)), max_size=6
    ),
    chunk_size=st.sampled_from([limits.MIN_CHUNK_SIZE, 4096, limits.DEFAULT_CHUNK_SIZE]),
)
@settings(max_examples=25, deadline=None)
def test_any_commits_by_any_writers_are_read_without_the_library(
    commits: list[tuple[int, list[dict[str, Any]]]], chunk_size: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = create(
            Path(folder) / "store",
            fields={"blob": "bytes", "text": Field("utf8", "gzip")},
            metadata={"n": "int64", "x": "float32", "when": "timestamp[us]"},
            chunk_size=chunk_size,
        )
        with sqlstore.open(path, "a") as store:
            writers = [store.writer() for _ in range(3)]
            for which, records in commits:
                writers[which].extend(records)
                writers[which].commit()
            for writer in writers:
                writer.close()
        read_both(path, [record for _, records in commits for record in records])


# What is no commit is passed over; what was damaged is refused.

TAILS: Final[dict[str, Callable[[bytes, dict[str, Any]], bytes]]] = {
    "one byte": lambda data, last: b"\xc5",
    "zeros": lambda data, last: bytes(1000),
    "many magic numbers": lambda data, last: segment.TRAILER_MAGIC * 50,
    "the last trailer again": lambda data, last: data[-128:],
    "the whole chunk again": lambda data, last: data,
    "the chunk twice, cut": lambda data, last: (data + data)[:-1],
    "a segment without trailer": lambda data, last: data[last["bodies_start"] : last["table_end"]],
    "a segment with half a trailer": lambda data, last: data[last["bodies_start"] : -64],
    "random bytes": lambda data, last: np.random.default_rng(2).bytes(5000),
}


@pytest.mark.parametrize("kind", TAILS)
def test_a_tail_is_no_commit(owls: Path, kind: str) -> None:
    before = read_both(owls)
    (chunk,) = chunk_files(owls)
    data = chunk.read_bytes()
    tail = TAILS[kind](data, before["commits"][-1])
    chunk.write_bytes(data + tail)
    assert read_both(owls) == before
    append(owls, [{"blob": b"after", "n": 3}])
    after = read_both(owls)
    assert after["records"] == before["records"] | {3: {"blob": b"after", "n": 3}}
    assert chunk.read_bytes() == data + tail
    assert rows(owls, "SELECT sealed FROM chunks ORDER BY chunk") == [(1,), (0,)]
    assert sqlstore.rebuild(owls) == 4
    assert read_both(owls) == after
    assert rows(owls, "SELECT sealed FROM chunks ORDER BY chunk") == [(0,), (0,)]


def test_a_value_may_be_a_copy_of_its_own_chunk(owls: Path) -> None:
    (chunk,) = chunk_files(owls)
    written = list(read_both(owls)["records"].values())
    for n in range(3):
        written.append({"blob": chunk.read_bytes(), "n": n})
        append(owls, written[-1:])
    data = chunk.read_bytes()
    chunk.write_bytes(data + data[:-1])
    read_both(owls, written)
    assert sqlstore.rebuild(owls) == len(written)
    read_both(owls, written)


def test_a_copy_of_a_chunk_at_the_same_place_in_another_chunk_is_no_commit(owls: Path) -> None:
    before = read_both(owls)
    (chunk,) = chunk_files(owls)
    header = Header(uuid.UUID(bytes=before["commits"][0]["store"]), uuid.uuid4()).pack()
    torn = chunk.with_name("000001-00000000.chunk")
    torn.write_bytes(header + chunk.read_bytes()[64:])
    assert independent_reader.read(owls) == before
    assert sqlstore.rebuild(owls) == 3
    assert read_both(owls) == before


def test_other_files_and_begun_chunks_are_ignored(owls: Path) -> None:
    before = read_both(owls)
    (chunk,) = chunk_files(owls)
    folder = chunk.parent
    (folder / "000001-00000001.chunk").write_bytes(b"")
    (folder / "000001-00000002.chunk").write_bytes(b"SQLSTORE" + bytes(30))
    (folder / "000001-00000003.chunk").write_bytes(bytes(500))
    for name in ("00001-00000004.chunk", "000001-00000005.CHUNK", "000001-00000006.chunk.bak"):
        (folder / name).write_bytes(segment.TRAILER_MAGIC)  # in a chunk file this would be damage
    (folder / "000001-00000007.chunk").symlink_to(folder / "00001-00000004.chunk")
    (folder / "000001-00000008.chunk").mkdir()
    assert independent_reader.read(owls) == before
    assert sqlstore.rebuild(owls) == 3
    assert read_both(owls) == before


def test_a_chunk_that_is_there_twice_counts_once(owls: Path) -> None:
    before = read_both(owls)
    (chunk,) = chunk_files(owls)
    shutil.copy(chunk, chunk.with_name("000009-00000000.chunk"))
    assert independent_reader.read(owls)["records"] == before["records"]
    assert sqlstore.rebuild(owls) == 3
    assert read_both(owls)["records"] == before["records"]


def test_chunks_may_hold_a_commit_that_an_older_index_lacks(owls: Path) -> None:
    index = owls / "index.sqlite"
    older = index.read_bytes()
    append(owls, [{"blob": b"late", "n": 3}])
    index.write_bytes(older)
    assert len(independent_reader.read(owls)["records"]) == 4
    with sqlstore.open(owls) as store:
        assert len(store) == 3
    append(owls, [{"blob": b"later", "n": 4}])  # rolls forward what the index lacks
    assert [record["n"] for record in read_both(owls)["records"].values()] == [0, 1, 2, 3, 4]
    assert rows(owls, "SELECT sealed FROM chunks ORDER BY chunk")[0] == (1,)


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ("damage in the header", lambda first, second: 20),
        ("damage in the value", lambda first, second: second["bodies_start"] + 1),
        ("damage in the table of commit 2", lambda first, second: second["table_start"] + 100),
        ("damage behind", lambda first, second: second["table_end"] + 40),
        ("damage behind", lambda first, second: first["table_end"] + 127),
    ],
)
def test_damage_is_noticed_without_the_library(
    owls: Path, message: str, place: Callable[..., int]
) -> None:
    first, second, _ = independent_reader.read(owls)["commits"]
    (chunk,) = chunk_files(owls)
    data = bytearray(chunk.read_bytes())
    data[place(first, second)] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        independent_reader.read(owls)
    with sqlstore.open(owls) as store:
        assert not store.verify()


def test_a_chunk_of_another_format_version_is_refused_without_the_library(owls: Path) -> None:
    (chunk,) = chunk_files(owls)
    data = chunk.read_bytes()
    header = data[:8] + struct.pack("<I", limits.FORMAT_VERSION + 1) + data[12:60]
    chunk.write_bytes(header + struct.pack("<I", zlib.crc32(header)) + data[64:])
    with pytest.raises(ValueError, match="another format"):
        independent_reader.read(owls)
    with pytest.raises(sqlstore.StoreTooNewError):
        sqlstore.rebuild(owls)


def test_a_missing_chunk_is_noticed_without_the_library(tmp_path: Path) -> None:
    path = create(tmp_path / "owls", metadata={"n": "int64"}, chunk_size=1024)
    for n in range(3):
        append(path, [{"n": n}])
    files = chunk_files(path)
    assert len(files) > 2
    files[1].unlink()
    with pytest.raises(ValueError, match="in place of commit 2"):
        independent_reader.read(path)
    with pytest.raises(sqlstore.CorruptStoreError):
        sqlstore.rebuild(path)


def test_chunks_of_two_copies_are_refused_without_the_library(owls: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(owls, other)
    for path in (owls, other):
        append(path, [{"n": 3}])
    (chunk,) = chunk_files(other)
    shutil.copy(chunk, owls / "chunks" / "000001-00000000.chunk")
    with pytest.raises(ValueError, match="commit 4 in place of commit 5"):
        independent_reader.read(owls)
    with pytest.raises(sqlstore.ForkedLogError):
        sqlstore.rebuild(owls)


@pytest.mark.parametrize("kind", [CommitKind.ADOPT, CommitKind.ADD_FIELD, 4711])
@pytest.mark.parametrize("skippable", [False, True])
def test_a_commit_of_an_unknown_kind_is_refused_unless_it_may_be_skipped(
    owls: Path, kind: int, skippable: bool
) -> None:
    found = independent_reader.read(owls)
    (chunk,) = chunk_files(owls)
    data = chunk.read_bytes()
    end = len(data)
    start = -(-end // 64) * 64
    chunk_uuid = uuid.UUID(bytes=data[32:48])
    last = Trailer.unpack(data[-128:], end - 128, chunk_uuid)
    assert last is not None
    changes: dict[str, Any] = {"kind": kind, "skippable": skippable, "number": last.number + 1}
    changes |= {"commit": uuid.uuid4(), "previous": last.commit, "first_record": 3, "records": 0}
    changes |= {"bodies_start": end, "bodies_end": end, "table_start": start}
    changes |= {"table_end": start + 5, "table_crc": zlib.crc32(b"later")}
    trailer = dataclasses.replace(last, **changes)
    chunk.write_bytes(data + bytes(start - end) + b"later" + trailer.pack(chunk_uuid))
    if not skippable:
        with pytest.raises(ValueError, match="unknown kind"):
            independent_reader.read(owls)
        with pytest.raises(sqlstore.StoreTooNewError):
            sqlstore.rebuild(owls)
        return
    assert independent_reader.read(owls)["records"] == found["records"]
    assert sqlstore.rebuild(owls) == 3
    append(owls, [{"n": 3}])
    assert read_both(owls)["records"] == found["records"] | {3: {"blob": None, "n": 3}}
