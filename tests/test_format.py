"""`docs/format.md` is true: a reader written from the page alone reads what the library wrote, and
what the page lists is what a store consists of."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import re
import shutil
import sqlite3
import struct
import tempfile
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sqlstore
from sqlstore import Column, Field, compression, encodings, limits
from sqlstore.columns import column_type
from sqlstore.index.engine import APPLICATION_ID
from sqlstore.log import segment
from sqlstore.log.lock import Pending, WriterLock
from sqlstore.log.segment import CommitKind, Header, Trailer
from sqlstore.log.table import VALUE_TYPE, build_create
from tests import independent_reader
from tests.independent_reader import TRAILER, Contents, DamagedError

PAGE: Final = (Path(__file__).parent.parent / "docs" / "format.md").read_text(encoding="utf-8")
BERLIN: Final = ZoneInfo("Europe/Berlin")
FIELDS: Final[dict[str, str | Field]] = {
    "blob": "bytes",
    "text": Field("utf8", "zstd"),
    "array": Field("array", "gzip"),
    "picture": Field("png", None),
}
COLUMNS: Final[dict[str, str | Column]] = {
    "flag": "bool",
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "single": Column("float32", index=True),
    "double": "float64",
    "name": "string",
    "bytes_": "binary",
    "day": "date32",
    "clock": "timestamp[us]",
    "moment": "timestamp[us, Europe/Berlin]",
    "extra": "json",
}
LOWEST: Final = {
    "blob": b"",
    "text": "",
    "array": np.zeros((0, 3), "<f4"),
    "flag": False,
    **{f"int{bits}": -(2 ** (bits - 1)) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": 0 for bits in (8, 16, 32, 64)},
    "single": -math.inf,
    "double": -0.0,
    "name": "",
    "bytes_": b"",
    "day": dt.date.min,
    "clock": dt.datetime.min,
    "moment": dt.datetime(1923, 11, 15, 12, 30, 0, 1, tzinfo=BERLIN),
    "extra": [],
}
HIGHEST: Final = {
    "blob": bytes(range(256)) * 20,
    "text": "eulé 🦉\0" * 300,
    "array": np.asfortranarray(np.arange(6000, dtype=">i2").reshape(20, 300)),
    "picture": np.arange(300, dtype=np.uint8).reshape(10, 10, 3),
    "flag": True,
    **{f"int{bits}": 2 ** (bits - 1) - 1 for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": min(2**bits, 2**63) - 1 for bits in (8, 16, 32, 64)},
    "single": math.inf,
    "double": 1.7976931348623157e308,
    "name": "owl\0🦉",
    "bytes_": b"\0\xff",
    "day": dt.date.max,
    "clock": dt.datetime.max,
    "moment": dt.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1),
    "extra": {"a": [1, None, {"b": "é"}], "big": 2**70},
}
NAN: Final = {
    "array": np.array(1.5),
    "single": math.nan,
    "double": math.nan,
    "day": dt.date(1969, 12, 31),
    "clock": dt.datetime(1969, 12, 31, 23, 59, 59, 999999),
    "extra": "null",
}
LOWEST_METADATA: Final[dict[str, Any]] = {name: LOWEST[name] for name in COLUMNS}
HIGHEST_METADATA: Final[dict[str, Any]] = {name: HIGHEST[name] for name in COLUMNS}


def same(left: Any, right: Any) -> bool:
    """Return whether two values are the same to the last bit that a user could see."""
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        shape_and_type = left.shape == right.shape and left.dtype.str == right.dtype.str
        return shape_and_type and left.tobytes() == right.tobytes()
    if isinstance(left, float) and isinstance(right, float):
        return struct.pack("d", left) == struct.pack("d", right)
    return type(left) is type(right) and bool(left == right)


def read_both(path: Path, written: Sequence[Mapping[str, Any]] | None = None) -> Contents:
    """Read a store with the library and without it, and compare both with what was written."""
    found = independent_reader.read(path)
    with sqlstore.open(path) as store:
        schema = store.schema
        assert [(f["number"], f["name"], f["type"], f["compression"]) for f in found.fields] == [
            (f.number, f.name, f.encoding, f.compression) for f in schema.fields.values()
        ]
        assert [
            (c["number"], c["name"], c["type"], c["nullable"], c["index"], c["key"])
            for c in found.columns
        ] == [
            (c.number, c.name, c.type, c.nullable, c.index, c.name == schema.key)
            for c in schema.columns.values()
        ]
        assert len(store) == len(found.records) == len(found.raw)
        for position, record in enumerate(store):
            for name, field in schema.fields.items():
                assert found.raw[position][name] == store.raw(position, name)
                if field.encoding == "png":  # the reader leaves pictures as they are
                    found.records[position][name] = record[name]
            for name, value in record.items():
                assert same(value, found.records[position][name]), (position, name)
    if written is not None:
        assert len(written) == len(found.records)
        for given_record, record in zip(written, found.records, strict=True):
            for name, value in record.items():
                assert same(given_record.get(name), value), name
    return found


def chunk_files(path: Path) -> list[Path]:
    return sorted((path / "chunks").iterdir())


def append(path: Path, records: Any) -> None:
    with sqlstore.open(path, "a") as store:
        store.extend(records)


def create(path: Path, **arguments: Any) -> Path:
    sqlstore.create(path, **arguments).close()
    return path


@pytest.fixture
def owls(tmp_path: Path) -> Path:
    """Return a store with two commits of records in one chunk."""
    path = create(tmp_path / "owls", fields={"blob": Field("bytes", None)}, metadata={"n": "int64"})
    append(path, [{"blob": b"owl", "n": 0}, {"blob": None, "n": 1}])
    append(path, [{"blob": b"eagle owl" * 9, "n": 2}])
    return path


# A reader that follows the page reads what the library wrote.


def test_every_type_and_encoding_is_read_without_the_library(tmp_path: Path) -> None:
    path = create(tmp_path / "all", fields=FIELDS, metadata=COLUMNS)
    written: list[dict[str, Any]] = [{}, LOWEST, HIGHEST, NAN, {}]
    append(path, written)
    append(path, [HIGHEST])
    found = read_both(path, [*written, HIGHEST])
    assert [place["compression"] for place in found.places.values()].count(3) == 2
    assert found.raw[2]["picture"] is not None
    assert found.raw[2]["picture"].startswith(b"\x89PNG\r\n\x1a\n")
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


def test_the_example_of_an_array_is_what_the_encoding_makes() -> None:
    (text,) = [text for language, text in code("8. Encodings") if not language]
    array = np.array([[1, 2, 3]], "<i2")
    assert bytes(encodings.ENCODINGS["array"].encode(array)) == bytes.fromhex(text)
    assert same(independent_reader.decode("array", bytes.fromhex(text)), array)


@pytest.mark.parametrize("name", [None, "lz4", "zstd", "gzip"])
def test_every_compression_is_read_without_the_library(tmp_path: Path, name: str | None) -> None:
    path = create(tmp_path / "owls", fields={"blob": "bytes"}, compression=name)
    random = np.random.default_rng(0).bytes(10_000)
    written = [{"blob": b"owl" * 100_000}, {"blob": random}, {"blob": b""}]
    append(path, written)
    found = read_both(path, written)
    number = compression.COMPRESSIONS[name]
    assert [found.places[0, record]["compression"] for record in range(3)] == [number, 0, 0]


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


def test_a_store_without_fields_or_without_columns_is_read_without_the_library(
    tmp_path: Path,
) -> None:
    fields = create(tmp_path / "fields", fields={"text": "utf8"})
    columns = create(tmp_path / "columns", metadata={"n": "int8"}, key="n")
    for path, record in ((fields, {"text": "owl"}), (columns, {"n": 1})):
        read_both(path, [])
        append(path, [record])
        read_both(path, [record])


def test_commits_are_followed_over_many_chunks(tmp_path: Path) -> None:
    path = create(
        tmp_path / "owls", fields={"blob": "bytes"}, metadata={"n": "int64"}, chunk_size=4096
    )
    random = np.random.default_rng(1)
    written = [{"blob": random.bytes(size), "n": size} for size in (9000, 10, 1500, 1500, 10, 4000)]
    for record in written:
        append(path, [record])
    found = read_both(path, written)
    assert found.settings["chunk_size"] == 4096
    assert len({name for name, _ in found.commits}) >= 4
    assert [trailer.number for _, trailer in found.commits] == [1, 2, 3, 4, 5, 6, 7]


def test_writers_that_take_turns_make_one_chain(tmp_path: Path) -> None:
    path = create(tmp_path / "owls", fields={"blob": "bytes"}, metadata={"n": "int64"})
    written = [{"blob": b"owl%d" % n, "n": n} for n in range(8)]
    with sqlstore.open(path, "a") as store, store.writer() as first, store.writer() as second:
        for record in written:
            writer = second if record["n"] in (1, 2, 5) else first
            writer.append(record)
            assert writer.commit().tolist() == [record["n"]]
    found = read_both(path, written)
    one, other = dict.fromkeys(name for name, _ in found.commits)
    turns = [one, one, other, other, one, one, other, one, one]
    assert [name for name, _ in found.commits] == turns


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

TAILS: Final[dict[str, Callable[[bytes, independent_reader.Trailer], bytes]]] = {
    "one byte": lambda data, last: b"\xc5",
    "zeros": lambda data, last: bytes(1000),
    "many magic numbers": lambda data, last: segment.TRAILER_MAGIC * 50,
    "the last trailer again": lambda data, last: data[-128:],
    "the whole chunk again": lambda data, last: data,
    "the chunk twice, cut": lambda data, last: (data + data)[:-1],
    "a segment without trailer": lambda data, last: data[last.bodies_start : last.table_end],
    "a segment with half a trailer": lambda data, last: data[last.bodies_start : -64],
    "random bytes": lambda data, last: np.random.default_rng(2).bytes(5000),
}


@pytest.mark.parametrize("kind", TAILS)
def test_a_tail_is_no_commit(owls: Path, kind: str) -> None:
    before = read_both(owls)
    (chunk,) = chunk_files(owls)
    data = chunk.read_bytes()
    tail = TAILS[kind](data, before.commits[-1][1])
    chunk.write_bytes(data + tail)
    assert read_both(owls) == before
    append(owls, [{"blob": b"after", "n": 3}])
    after = read_both(owls)
    assert after.records == [*before.records, {"blob": b"after", "n": 3}]
    assert chunk.read_bytes() == data + tail
    assert rows(owls, "SELECT sealed FROM chunks ORDER BY chunk") == [(1,), (0,)]
    assert sqlstore.rebuild(owls) == 4
    assert read_both(owls) == after
    assert rows(owls, "SELECT sealed FROM chunks ORDER BY chunk") == [(1,), (0,)]


def test_a_value_may_be_a_copy_of_its_own_chunk(owls: Path) -> None:
    (chunk,) = chunk_files(owls)
    written = list(read_both(owls).records)
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
    header = Header(before.store, uuid.uuid4()).pack()
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
    (folder / "00001-00000004.chunk").write_bytes(b"too few digits")
    (folder / "000001-00000005.CHUNK").write_bytes(b"upper case")
    (folder / "000001-00000006.chunk.bak").write_bytes(chunk.read_bytes())
    (folder / "000001-00000007.chunk").symlink_to(chunk)
    (folder / "000001-00000008.chunk").mkdir()
    assert independent_reader.read(owls) == before
    assert sqlstore.rebuild(owls) == 3
    assert read_both(owls) == before


def test_a_chunk_that_is_there_twice_counts_once(owls: Path) -> None:
    before = read_both(owls)
    (chunk,) = chunk_files(owls)
    shutil.copy(chunk, chunk.with_name("000009-00000000.chunk"))
    assert independent_reader.read(owls).records == before.records
    assert sqlstore.rebuild(owls) == 3
    assert read_both(owls).records == before.records


def test_an_index_that_is_older_than_the_log_lacks_commits_that_the_chunks_have(
    owls: Path,
) -> None:
    index = owls / "index.sqlite"
    older = index.read_bytes()
    append(owls, [{"blob": b"late", "n": 3}])
    index.write_bytes(older)
    assert len(independent_reader.read(owls).records) == 4
    with sqlstore.open(owls) as store:
        assert len(store) == 3
    append(owls, [{"blob": b"later", "n": 4}])  # rolls forward what the index lacks
    assert [record["n"] for record in read_both(owls).records] == [0, 1, 2, 3, 4]
    assert rows(owls, "SELECT sealed FROM chunks ORDER BY chunk")[0] == (1,)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("header", "header of"),
        ("value", "value at"),
        ("table", "table of commit 2"),
        ("trailer", "damage before"),
        ("first trailer", "damage before"),
    ],
)
def test_damage_is_noticed_without_the_library(owls: Path, place: str, message: str) -> None:
    before = independent_reader.read(owls)
    (chunk,) = chunk_files(owls)
    data = bytearray(chunk.read_bytes())
    create_trailer, append_trailer = before.commits[0][1], before.commits[1][1]
    offset = {
        "header": 20,
        "value": append_trailer.bodies_start + 1,
        "table": append_trailer.table_start + 100,
        "trailer": append_trailer.table_end + 40,
        "first trailer": create_trailer.table_end + 127,
    }[place]
    data[offset] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(DamagedError, match=message):
        independent_reader.read(owls)
    with sqlstore.open(owls) as store:
        assert not store.verify()


def test_a_missing_chunk_is_noticed_without_the_library(tmp_path: Path) -> None:
    path = create(tmp_path / "owls", metadata={"n": "int64"}, chunk_size=1024)
    for n in range(3):
        append(path, [{"n": n}])
    files = chunk_files(path)
    assert len(files) > 2
    files[1].unlink()
    with pytest.raises(DamagedError, match="missing"):
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
    with pytest.raises(DamagedError, match="two commits"):
        independent_reader.read(owls)
    with pytest.raises(sqlstore.ForkedLogError):
        sqlstore.rebuild(owls)


@pytest.mark.parametrize("kind", [CommitKind.UPDATE, CommitKind.CHECKPOINT, 4711])
@pytest.mark.parametrize("skippable", [False, True])
def test_a_commit_of_an_unknown_kind_is_refused_unless_it_may_be_skipped(
    owls: Path, kind: int, skippable: bool
) -> None:
    found = independent_reader.read(owls)
    (chunk,) = chunk_files(owls)
    last = found.commits[-1][1]
    end = chunk.stat().st_size
    start = -(-end // 64) * 64
    trailer = Trailer(
        kind=kind,
        skippable=skippable,
        schema_version=0,
        number=last.number + 1,
        commit=uuid.uuid4(),
        previous=uuid.UUID(bytes=last.commit),
        first_record=3,
        records=0,
        committed_at=0,
        chunk=0,
        bodies_start=end,
        bodies_end=end,
        table_start=start,
        table_end=start + 5,
        table_crc=zlib.crc32(b"later"),
    )
    chunk_uuid = uuid.UUID(bytes=chunk.read_bytes()[32:48])
    with chunk.open("ab") as file:
        file.write(bytes(start - end) + b"later" + trailer.pack(chunk_uuid))
    if not skippable:
        with pytest.raises(DamagedError, match="unknown kind"):
            independent_reader.read(owls)
        with pytest.raises(sqlstore.StoreTooNewError):
            sqlstore.rebuild(owls)
        return
    assert independent_reader.read(owls).records == found.records
    assert sqlstore.rebuild(owls) == 3
    append(owls, [{"n": 3}])
    assert read_both(owls).records == [*found.records, {"blob": None, "n": 3}]


# The page lists what there is.


def sections() -> dict[str, str]:
    """Return the text under every heading of the page, without what is under lower headings."""
    parts = re.split(r"^#+ (.+)$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def code(heading: str) -> list[tuple[str, str]]:
    """Return language and text of the code blocks under a heading."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", sections()[heading], re.MULTILINE | re.DOTALL)


def table_rows(heading: str, which: int = 0) -> list[list[str]]:
    """Return the rows of a table under a heading, without its head and without code marks."""
    tables = re.findall(r"(?:^\|.*\|\n)+", sections()[heading], re.MULTILINE)
    lines = tables[which].splitlines()[2:]
    return [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def bare(text: str) -> str:
    return text.strip("`")


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """Run SQL on the index of a store that nobody has open."""
    uri = f"{(path / 'index.sqlite').absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        return connection.execute(sql).fetchall()


TYPES: Final = {"u16": "H", "u32": "I", "u64": "Q", "i64": "q"}


def layout(heading: str) -> tuple[struct.Struct, list[str]]:
    """Return a table of offsets, sizes and types as a struct, and the names of its parts."""
    form, names = "<", []
    for offset, size, kind, name, _ in table_rows(heading):
        assert struct.calcsize(form) == int(offset)
        form += TYPES.get(kind, f"{size}{'x' if kind == 'zero' else 's'}")
        assert struct.calcsize(form) == int(offset) + int(size)
        names += [name] if name else []
    return struct.Struct(form), names


def test_the_header_is_as_the_page_says(owls: Path) -> None:
    form, names = layout("Header")
    assert form.size == segment.HEADER_SIZE == independent_reader.HEADER.size
    (chunk,) = chunk_files(owls)
    data = chunk.read_bytes()[: form.size]
    found = dict(zip(names, form.unpack(data), strict=True))
    header = Header.unpack(data, chunk.name)
    assert found["magic"] == b"SQLSTORE"
    assert found["version"] == limits.FORMAT_VERSION
    assert (found["store"], found["chunk"]) == (header.store.bytes, header.chunk.bytes)
    assert found["crc"] == zlib.crc32(data[:-4])
    assert rows(owls, "SELECT uuid FROM store") == [(str(header.store),)]


def test_the_trailer_is_as_the_page_says(owls: Path) -> None:
    form, names = layout("Trailer")
    assert form.size == segment.TRAILER_SIZE == TRAILER.size
    assert names == list(independent_reader.Trailer._fields)
    (chunk,) = chunk_files(owls)
    data = chunk.read_bytes()
    header = Header.unpack(data[:64], chunk.name)
    found = dict(zip(names, form.unpack(data[-form.size :]), strict=True))
    trailer = Trailer.unpack(data[-form.size :], len(data) - form.size, header.chunk)
    assert trailer is not None
    for name in set(names) - {"magic", "flags", "crc"}:
        value = getattr(trailer, name)
        assert found[name] == (value.bytes if isinstance(value, uuid.UUID) else value), name
    assert found["magic"] == segment.TRAILER_MAGIC
    assert found["crc"] == zlib.crc32(header.chunk.bytes + data[-form.size : -4])


def test_the_kinds_of_commits_are_those_of_the_page() -> None:
    listed = table_rows("4. Kinds of commits")
    assert [(int(number), bare(name)) for number, name, *_ in listed] == [
        (kind.value, kind.name.lower()) for kind in CommitKind
    ]
    written = {int(number) for number, _, when, _ in listed if when != "reserved"}
    assert written == segment.READABLE_KINDS


def test_compressions_and_encodings_are_those_of_the_page() -> None:
    numbers = {bare(name): int(number) for number, name, _ in table_rows("7. Compression")}
    assert numbers == {name or "none": n for name, n in compression.COMPRESSIONS.items()}
    assert {bare(row[0]) for row in table_rows("8. Encodings")} == set(encodings.ENCODINGS)


def test_the_segment_tables_are_as_the_page_says(owls: Path) -> None:
    found = independent_reader.read(owls)
    (chunk,) = chunk_files(owls)
    data = chunk.read_bytes()
    schemas = []
    for _, trailer in found.commits[:2]:
        batch = independent_reader.only_batch(data[trailer.table_start : trailer.table_end])
        schemas.append(batch.schema)
    creation, appended = schemas
    assert creation.equals(described("5. The table of a create"))
    assert creation.metadata.keys() == {b"sqlstore"}
    settings_named = {bare(row[0]) for row in table_rows("5. The table of a create", 1)}
    assert json.loads(creation.metadata[b"sqlstore"]).keys() == settings_named
    assert appended.names == ["c0", "f0"]
    assert appended.field("f0").type == VALUE_TYPE
    assert list(VALUE_TYPE) == list(described("6. The table of an append"))
    assert all(field.nullable for field in appended)
    assert appended.metadata is None


def described(heading: str) -> pa.Schema:
    """Return the Arrow schema that a table of the page describes."""
    fields = []
    for name, kind, _ in table_rows(heading):
        arrow = pa.type_for_alias(kind.removesuffix(" not null"))
        fields.append(pa.field(bare(name), arrow, nullable=not kind.endswith("not null")))
    return pa.schema(fields)


def test_bodies_lie_back_to_back_field_by_field_and_zeros_behind_them(tmp_path: Path) -> None:
    path = create(tmp_path / "all", fields=FIELDS, metadata=COLUMNS)
    append(path, [HIGHEST, {}, LOWEST, NAN])
    found = independent_reader.read(path)
    _, trailer = found.commits[1]
    end = trailer.bodies_start
    for _, place in sorted(found.places.items()):
        assert place["offset"] == end
        end += place["length"]
    assert end == trailer.bodies_end
    (chunk,) = chunk_files(path)
    assert not chunk.read_bytes()[end : trailer.table_start].strip(b"\0")
    assert trailer.table_start % 64 == 0
    assert trailer.table_start - end < 64


def test_a_table_is_a_plain_arrow_stream_of_one_batch(owls: Path) -> None:
    with sqlstore.open(owls) as store:
        data = build_create(store.schema, {}).to_pybytes()
    messages = list(pa.ipc.MessageReader.open_stream(data))
    assert [message.type for message in messages] == ["schema", "record batch"]
    assert all(message.metadata_version == pa.ipc.MetadataVersion.V5 for message in messages)
    assert data.endswith(b"\xff\xff\xff\xff\0\0\0\0")


def column_types() -> Iterator[tuple[str, str, str]]:
    """Return declared type, Arrow type and SQLite storage from the page."""
    for names, arrow, storage, _ in table_rows("9. Types of metadata columns"):
        for name in re.findall(r"`([^`]+)`", names):
            yield name, name if arrow == "the same" else arrow, storage


def test_the_types_of_columns_are_those_of_the_page() -> None:
    listed = list(column_types())
    for name, arrow, storage in listed:
        kind = column_type(name.replace("ZONE", "Europe/Berlin"))
        assert str(kind.arrow) == arrow.replace("ZONE", "Europe/Berlin")
        assert kind.storage == storage
    known = {str(declared) for declared in COLUMNS.values() if isinstance(declared, str)}
    known = known - {"timestamp[us, Europe/Berlin]"} | {"float32", "timestamp[us, ZONE]"}
    assert {name for name, _, _ in listed} == known


def test_sqlite_holds_metadata_as_the_page_says(tmp_path: Path) -> None:
    path = create(
        tmp_path / "all",
        metadata={**COLUMNS, "required": Column("float64", nullable=False, index=True)},
        key="name",
    )
    append(path, [{**LOWEST_METADATA, "required": math.nan}, {**HIGHEST_METADATA, "required": 1}])
    found = {row[1]: (row[2], bool(row[3])) for row in rows(path, "PRAGMA table_info(records)")}
    storages = {
        name.replace("ZONE", "Europe/Berlin"): storage for name, _, storage in column_types()
    }
    declared = {**COLUMNS, "required": "float64", "single": "float32"}
    assert found == {
        "id": ("INTEGER", True),
        **{name: (storages[str(kind)], name == "name") for name, kind in declared.items()},
    }
    indices = rows(path, "SELECT name, \"unique\" FROM pragma_index_list('records')")
    position = list(declared)
    assert set(indices) == {
        (f"key_{position.index('name')}", 1),
        (f"index_{position.index('single')}", 0),
        (f"index_{position.index('required')}", 0),
    }
    sql = (
        "SELECT flag, int64, single, double, day, clock, moment, extra, hex(name), required "
        "FROM records ORDER BY id"
    )
    microsecond = dt.timedelta(microseconds=1)
    epoch = dt.datetime(1970, 1, 1)
    moments = [
        (record["moment"] - epoch.replace(tzinfo=dt.UTC)) // microsecond
        for record in (LOWEST_METADATA, HIGHEST_METADATA)
    ]
    days = [(day - epoch.date()).days for day in (dt.date.min, dt.date.max)]
    clocks = [(clock - epoch) // microsecond for clock in (dt.datetime.min, dt.datetime.max)]
    json_text = '{"a":[1,null,{"b":"é"}],"big":1180591620717411303424}'
    assert rows(path, sql) == [
        (0, -(2**63), -math.inf, 0.0, days[0], clocks[0], moments[0], "[]", "", None),
        (
            *(1, 2**63 - 1, math.inf, 1.7976931348623157e308, days[1], clocks[1], moments[1]),
            *(json_text, "owl\0🦉".encode().hex().upper(), 1.0),
        ),
    ]


def test_the_index_consists_of_the_tables_and_columns_of_the_page(owls: Path) -> None:
    named = {
        match[1]: heading for heading in sections() if (match := re.match("Table `(.*)`", heading))
    }
    found = dict(rows(owls, "SELECT name, sql FROM sqlite_schema WHERE type = 'table'"))
    assert named.keys() == found.keys()
    for name in named.keys() - {"records"}:
        info = rows(owls, f"PRAGMA table_info({name})")
        listed = table_rows(named[name])
        assert [(row[1], row[2]) for row in info] == [(bare(c), kind) for c, kind, _ in listed]
        assert [not row[3] for row in info] == ["*null*" in meaning for *_, meaning in listed]
        primary = [row[1] for row in sorted(info, key=lambda row: int(row[5])) if row[5]]
        text = sections()[named[name]]
        whole = re.search(r"primary key \(`(\w+)`, `(\w+)`\)", text)
        said = [bare(c) for c, _, meaning in listed if meaning.startswith("primary key")]
        assert (list(whole.groups()) if whole else said) == primary or name == "alembic_version"
        assert ("WITHOUT ROWID" in text) == ("WITHOUT ROWID" in found[name])
        assert ("STRICT" in found[name]) == (name != "alembic_version")
    ((view,),) = rows(owls, "SELECT sql FROM sqlite_schema WHERE type = 'view'")
    assert code("View `record_locations`") == [("sql", view.strip() + "\n")]
    ((application,),) = rows(owls, "PRAGMA application_id")
    assert application == APPLICATION_ID == int(re.findall(r"`application_id` (\d+)", PAGE)[0])
    assert rows(owls, "SELECT * FROM alembic_version") == [("0001",)]
    assert "| `version_num` | VARCHAR(32) | `0001` |" in PAGE


def test_the_index_holds_what_the_chunks_say(tmp_path: Path) -> None:
    path = create(tmp_path / "all", fields=FIELDS, metadata=COLUMNS, chunk_size=8192)
    for record in (HIGHEST, LOWEST, NAN, HIGHEST, {}):
        append(path, [record, record])
    found = independent_reader.read(path)
    trailers = [trailer for _, trailer in found.commits]
    assert rows(path, "SELECT * FROM commits ORDER BY number") == [
        (
            *(t.number, str(uuid.UUID(bytes=t.commit)), t.kind, t.chunk, t.table_end),
            *(t.committed_at, t.first_record, t.records),
        )
        for t in trailers
    ]
    sizes = {t.chunk: (name, t.table_end + 128) for name, t in found.commits}
    assert len(sizes) > 1
    assert rows(path, "SELECT chunk, name, size FROM chunks ORDER BY chunk") == [
        (chunk, *sizes[chunk]) for chunk in sorted(sizes)
    ]
    ((store, created, next_record, size),) = rows(
        path, "SELECT uuid, created_at, next_record_id, chunk_size FROM store"
    )
    assert (store, created, next_record) == (str(found.store), trailers[0].committed_at, 10)
    assert size == found.settings["chunk_size"]


def test_checksums_are_what_the_arithmetic_of_the_page_gives(tmp_path: Path) -> None:
    path = create(tmp_path / "all", fields=FIELDS, metadata=COLUMNS)
    append(path, [{}, HIGHEST, NAN])
    append(path, [LOWEST, HIGHEST])
    ((_, source),) = code("Table `blobs`")
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    mix32: Callable[..., int] = namespace["mix32"]
    places = independent_reader.read(path).places
    expected = {
        (field, record): place["crc"]
        ^ mix32(record, field, place["compression"], place["raw_length"], place["items"])
        for (field, record), place in places.items()
    }
    found = {(f, r): c for f, r, c in rows(path, "SELECT field, record, checksum FROM blobs")}
    assert found == expected
    assert len(found) == 4 + 1 + 3 + 4
    names = ["offset", "length", "raw_length", "items", "compression"]
    for field, record, *values in rows(
        path, f"SELECT field, record, {', '.join(names)} FROM blobs"
    ):
        assert values == [places[field, record][name] for name in names]


def test_limits_are_those_of_the_page() -> None:
    listed = {what: int(number) for what, number in table_rows("13. Sizes and limits")}
    assert list(listed.values()) == [
        limits.MAX_CHUNK_BYTES,
        limits.MAX_VALUE_BYTES,
        limits.MIN_CHUNK_SIZE,
        limits.MAX_CHUNK_SIZE,
        limits.DEFAULT_CHUNK_SIZE,
        limits.MAX_COLUMNS,
        limits.MAX_NAME_LENGTH,
    ]


def test_the_lock_file_says_what_the_page_says(owls: Path) -> None:
    pending, nothing = (json.loads(text) for _, text in code("writer.lock"))
    lock_file = owls / "writer.lock"
    assert lock_file.stat().st_size == 512
    assert json.loads(lock_file.read_bytes()) == nothing
    lock = WriterLock(owls)
    named = pending["pending"]
    lock.name_pending(Pending(named["chunk"], named["offset"], named["commit"]))
    text = lock_file.read_bytes()
    assert len(text) == 512
    assert text.endswith(b" \n")
    assert json.loads(text).keys() == pending.keys()
    assert json.loads(text)["pending"] == named
    assert json.loads(text)["process"] == os.getpid()
    lock.clear_pending()
    assert json.loads(lock_file.read_bytes()) == nothing
    lock.close()


def test_the_example_is_what_the_library_reads_and_writes() -> None:
    dump = {
        int(offset, 16): bytes.fromhex(data)
        for offset, data in re.findall(
            r"^([0-9a-f]{8})  ((?:[0-9a-f]{2} ?){16})", PAGE, re.MULTILINE
        )
    }
    parts = {
        start: b"".join(dump[start + 16 * i] for i in range(n)) for start, n in EXAMPLE.items()
    }
    header = Header.unpack(parts[0], "example")
    assert header.pack() == parts[0]
    trailer = Trailer.unpack(parts[0xA30], 0xA30, header.chunk)
    assert trailer is not None
    assert trailer.pack(header.chunk) == parts[0xA30]
    assert (trailer.kind, trailer.number, trailer.first_record, trailer.records) == (2, 2, 0, 3)
    assert (trailer.bodies_start, trailer.bodies_end) == (0x5B8, 0x5B8 + 10)
    assert (trailer.table_start, trailer.table_end, trailer.end) == (1536, 2608, 2736)
    assert parts[0x5B8] == b"owlkestrel" + bytes(6)
    assert zlib.crc32(b"owl") == 2561709901
    assert zlib.crc32(b"kestrel") == 489749235
    assert len(dump) == sum(EXAMPLE.values())


EXAMPLE: Final = {0: 4, 0x5B8: 1, 0xA30: 8}
"""Offsets in the example of the page, with the number of its lines from there on."""
