"""`docs/format.md` is complete: what it lists is what the code and the stores consist of."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import re
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest

import sqlstore
from sqlstore import Column, compression, encodings, limits
from sqlstore.columns import column_type
from sqlstore.index.engine import APPLICATION_ID
from sqlstore.log import segment, snapshots, subsets
from sqlstore.log.ipc import VALUE_TYPE
from sqlstore.log.lock import Pending, WriterLock
from sqlstore.log.segment import CommitKind, Header, Trailer
from sqlstore.log.table import RECORD, build_schema
from tests import independent_reader
from tests.format_page import (
    COLUMNS,
    FIELDS,
    HIGHEST,
    HIGHEST_METADATA,
    LOWEST,
    LOWEST_METADATA,
    NAN,
    PAGE,
    append,
    bare,
    chunk_files,
    code,
    column_types,
    create,
    create_owls,
    described,
    layout,
    rows,
    sections,
    table_rows,
)


@pytest.fixture
def owls(tmp_path: Path) -> Path:
    return create_owls(tmp_path)


def places(path: Path) -> dict[tuple[int, int], dict[str, int]]:
    """Return where the values of a store lie, by number of the field and record id."""
    found = independent_reader.read(path)
    return {
        (int(name[1:]), record): place
        for record, row in found["rows"].items()
        for name, place in row.items()
        if name.startswith("f") and place is not None
    }


def test_the_header_is_as_the_page_says(owls: Path) -> None:
    form, names = layout("Header")
    assert form.size == segment.HEADER_SIZE
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
    assert form.size == segment.TRAILER_SIZE == independent_reader.TRAILER.size
    assert names == independent_reader.NAMES.split()
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
    commits = independent_reader.read(owls)["commits"]
    creation, appended, _ = (pa.ipc.open_stream(commit["table"]).schema for commit in commits)
    with sqlstore.open(owls, "a") as store:
        store.create_index("n")
        store.update(n=1)
    *_, changed, updated = (
        pa.ipc.open_stream(commit["table"]).schema
        for commit in independent_reader.read(owls)["commits"]
    )
    assert creation.equals(described("5. The table of a schema"))
    assert creation.metadata.keys() == {b"sqlstore"}
    settings_named = {bare(row[0]) for row in table_rows("5. The table of a schema", 1)}
    assert changed.equals(creation)
    assert json.loads(changed.metadata[b"sqlstore"]).keys() == settings_named
    settings = json.loads(creation.metadata[b"sqlstore"]).keys()
    assert settings == settings_named - {"created_at", "next_column"}
    assert updated.equals(pa.schema([RECORD, pa.field("c0", pa.int64())]))
    assert appended.names == ["c0", "f0"]
    assert appended.field("f0").type == VALUE_TYPE
    assert list(VALUE_TYPE) == list(described("Of an append"))
    described_subset = {bare(row[0]) for row in table_rows("Of a subset")}
    assert described_subset == set(subsets.Described.__slots__)
    described_snapshot = {bare(row[0]) for row in table_rows("Of a snapshot")}
    assert described_snapshot == set(snapshots.Titled.__slots__)
    assert all(field.nullable for field in appended)
    assert appended.metadata is None


def test_bodies_lie_back_to_back_field_by_field_and_zeros_behind_them(tmp_path: Path) -> None:
    path = create(tmp_path / "all", fields=FIELDS, metadata=COLUMNS)
    append(path, [HIGHEST, {}, LOWEST, NAN])
    _, commit = independent_reader.read(path)["commits"]
    end = commit["bodies_start"]
    for _, place in sorted(places(path).items()):
        assert place["offset"] == end
        end += place["length"]
    assert end == commit["bodies_end"]
    (chunk,) = chunk_files(path)
    assert not chunk.read_bytes()[end : commit["table_start"]].strip(b"\0")


def test_a_table_is_a_plain_arrow_stream_of_one_batch(owls: Path) -> None:
    with sqlstore.open(owls) as store:
        data = build_schema(store.schema, {}).to_pybytes()
    messages = list(pa.ipc.MessageReader.open_stream(data))
    assert [message.type for message in messages] == ["schema", "record batch"]
    assert all(message.metadata_version == pa.ipc.MetadataVersion.V5 for message in messages)
    assert data.endswith(b"\xff\xff\xff\xff\0\0\0\0")


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
    commits = found["commits"]
    names = ["number", "kind", "chunk", "table_end", "committed_at", "first_record", "records"]
    sql = (
        "SELECT uuid, number, kind, chunk, offset, committed_at, first_record, records "
        "FROM commits ORDER BY number"
    )
    assert rows(path, sql) == [
        (str(uuid.UUID(bytes=commit["commit"])), *(commit[name] for name in names))
        for commit in commits
    ]
    sizes = {c["chunk"]: (c["file"], c["table_end"] + 128) for c in commits}
    assert len(sizes) > 1
    assert rows(path, "SELECT chunk, name, size FROM chunks ORDER BY chunk") == [
        (chunk, *sizes[chunk]) for chunk in sorted(sizes)
    ]
    store = str(uuid.UUID(bytes=commits[0]["store"]))
    assert rows(path, "SELECT uuid, created_at, next_record_id, chunk_size FROM store") == [
        (store, commits[0]["committed_at"], 10, found["settings"]["chunk_size"])
    ]


def test_checksums_are_what_the_arithmetic_of_the_page_gives(tmp_path: Path) -> None:
    path = create(tmp_path / "all", fields=FIELDS, metadata=COLUMNS)
    append(path, [{}, HIGHEST, NAN])
    append(path, [LOWEST, HIGHEST])
    ((_, source),) = code("Table `blobs`")
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    mix32: Callable[..., int] = namespace["mix32"]
    names = ["offset", "length", "raw_length", "items", "compression"]
    sql = f"SELECT field, record, checksum, {', '.join(names)} FROM blobs ORDER BY field, record"
    expected = []
    for (field, record), place in sorted(places(path).items()):
        mixed = mix32(record, field, place["compression"], place["raw_length"], place["items"])
        expected.append((field, record, place["crc"] ^ mixed, *(place[name] for name in names)))
    assert rows(path, sql) == expected
    assert len(expected) == 4 + 1 + 3 + 4


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
    lock.clear_pending(nothing["last"])
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
