"""Read a whole store from its chunk files alone, as `docs/format.md` says: no sqlstore, no index.

It holds all in memory and checks all on the way. `test_format.py` compares it with the library.
"""

from __future__ import annotations

import json
import math
import re
import struct
import uuid
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import lz4.block
import numpy as np
import pyarrow as pa

HEADER = struct.Struct("<8sII16s16s12xI")
TRAILER = struct.Struct("<8sHHIQ16s16sqQqIIIII20xII")
CHUNK_NAME = re.compile(r"[0-9]{6,10}-[0-9a-f]{8}\.chunk")
MAGIC = b"\xc5SEGMENT"
CREATE, APPEND = 1, 2


class DamagedError(Exception):
    """The chunk files are not a whole store."""


class Trailer(NamedTuple):
    """A commit, as its trailer says, in the order of the fields on disk."""

    magic: bytes
    kind: int
    flags: int
    schema_version: int
    number: int
    commit: bytes
    previous: bytes
    first_record: int
    records: int
    committed_at: int
    chunk: int
    bodies_start: int
    bodies_end: int
    table_start: int
    table_end: int
    table_crc: int
    crc: int


@dataclass
class Contents:
    """What a store holds; every list of records is by record id."""

    store: uuid.UUID
    settings: dict[str, Any] = field(default_factory=dict)
    fields: list[dict[str, Any]] = field(default_factory=list)
    columns: list[dict[str, Any]] = field(default_factory=list)
    commits: list[tuple[str, Trailer]] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    raw: list[dict[str, bytes | None]] = field(default_factory=list)
    places: dict[tuple[int, int], dict[str, int]] = field(default_factory=dict)


def require(condition: bool, message: str) -> None:
    if not condition:
        raise DamagedError(message)


def read(root: Path) -> Contents:
    chunks = {p.name: p.read_bytes() for p in (root / "chunks").iterdir() if is_chunk(p)}
    found = [
        (name, trailer) for name, data in chunks.items() for trailer in trailers_of(name, data)
    ]
    commits = in_order(found)
    stores = {chunks[name][16:32] for name, _ in commits}
    require(len(stores) == 1, "chunks of different stores")
    contents = Contents(uuid.UUID(bytes=stores.pop()), commits=commits)
    for name, trailer in commits:
        require(trailer.kind in (CREATE, APPEND) or trailer.flags & 1 == 1, "unknown kind")
        require((trailer.number == 1) == (trailer.kind == CREATE), "not the one creation")
        table = chunks[name][trailer.table_start : trailer.table_end]
        require(zlib.crc32(table) == trailer.table_crc, f"table of commit {trailer.number}")
        if trailer.kind == CREATE:
            read_create(table, contents)
        elif trailer.kind == APPEND:
            read_append(table, trailer, chunks[name], contents)
    return contents


def is_chunk(path: Path) -> bool:
    named = CHUNK_NAME.fullmatch(path.name) is not None
    return named and path.is_file() and not path.is_symlink()


def trailers_of(name: str, data: bytes) -> list[Trailer]:
    """Walk a chunk from its end; bytes behind the last trailer are the rest of a torn commit."""
    if len(data) < 64 or zlib.crc32(data[:60]) != HEADER.unpack_from(data)[-1]:
        require(MAGIC not in data, f"header of {name}")
        return []
    magic, version, _, _, chunk, _ = HEADER.unpack_from(data)
    require(magic == b"SQLSTORE" and version == 1, f"format of {name}")
    found: list[Trailer] = []
    end = len(data)
    while end > 64:
        at = end - 128
        while (trailer := trailer_at(data, at, chunk)) is None:
            require(not found, f"damage before {end} in {name}")
            at = data.rfind(MAGIC, 64, max(at + len(MAGIC) - 1, 0))
            if at < 0:
                return []
        found.append(trailer)
        end = trailer.bodies_start
    return found[::-1]


def trailer_at(data: bytes, at: int, chunk: bytes) -> Trailer | None:
    if at < 64 or at + 128 > len(data) or not data.startswith(MAGIC, at):
        return None
    trailer = Trailer(*TRAILER.unpack_from(data, at))
    if trailer.crc != zlib.crc32(chunk + data[at : at + 124]) or trailer.table_end != at:
        return None
    sound = 64 <= trailer.bodies_start <= trailer.bodies_end <= trailer.table_start <= at
    return trailer if sound and trailer.table_start == -(-trailer.bodies_end // 64) * 64 else None


def in_order(found: list[tuple[str, Trailer]]) -> list[tuple[str, Trailer]]:
    following: dict[bytes, tuple[str, Trailer]] = {}
    for link in found:
        other = following.setdefault(link[1].previous, link)
        require(other[1].commit == link[1].commit, "two commits follow the same one")
    ordered: list[tuple[str, Trailer]] = []
    previous = bytes(16)
    while previous in following:
        ordered.append(following.pop(previous))
        previous = ordered[-1][1].commit
        require(ordered[-1][1].number == len(ordered), "a number of the chain is wrong")
    require(bool(ordered) and not following, "a commit of the chain is missing")
    return ordered


def only_batch(table: bytes) -> pa.RecordBatch:
    with pa.ipc.open_stream(table) as stream:
        (batch,) = list(stream)
    return batch


def read_create(table: bytes, contents: Contents) -> None:
    batch = only_batch(table)
    contents.settings = json.loads(batch.schema.metadata[b"sqlstore"])
    for row in batch.to_pylist():
        (contents.fields if row["kind"] == "field" else contents.columns).append(row)


def read_append(table: bytes, trailer: Trailer, data: bytes, contents: Contents) -> None:
    batch = only_batch(table)
    columns = dict(zip(batch.schema.names, (c.to_pylist() for c in batch.columns), strict=True))
    missing = [None] * batch.num_rows
    require(batch.num_rows == trailer.records, "length of a table")
    require(len(contents.records) == trailer.first_record, "ids are not consecutive")
    for row in range(batch.num_rows):
        record: dict[str, Any] = {}
        raw: dict[str, bytes | None] = {}
        for one in contents.fields:
            place = columns.get(f"f{one['number']}", missing)[row]
            raw[one["name"]] = record[one["name"]] = None
            if place is not None:
                raw[one["name"]] = stored = read_value(data, trailer, place)
                record[one["name"]] = decode(one["type"], stored)
                contents.places[one["number"], trailer.first_record + row] = place
        for one in contents.columns:
            value = columns.get(f"c{one['number']}", missing)[row]
            is_json = one["type"] == "json" and value is not None
            record[one["name"]] = json.loads(value) if is_json else value
        contents.records.append(record)
        contents.raw.append(raw)


def read_value(data: bytes, trailer: Trailer, place: dict[str, int]) -> bytes:
    start, end = place["offset"], place["offset"] + place["length"]
    require(trailer.bodies_start <= start <= end <= trailer.bodies_end, "a value out of bounds")
    body = data[start:end]
    require(zlib.crc32(body) == place["crc"], f"the value at {start} is damaged")
    raw: bytes = body
    if place["compression"] == 1:
        raw = lz4.block.decompress(body, uncompressed_size=place["raw_length"])
    elif place["compression"] == 2:
        raw = pa.decompress(body, place["raw_length"], codec="zstd", asbytes=True)
    elif place["compression"] == 3:
        raw = zlib.decompress(body, wbits=31)
    require(len(raw) == place["raw_length"] and place["compression"] <= 3, "decompression")
    return raw


def decode(encoding: str, raw: bytes) -> Any:
    if encoding == "utf8":
        return raw.decode()
    if encoding == "array":
        order, ndim, n_type = struct.unpack_from("<BBH", raw)
        dtype = np.dtype(raw[4 : 4 + n_type].decode("ascii"))
        shape = struct.unpack_from(f"<{ndim}Q", raw, 4 + n_type)
        elements = 4 + n_type + 8 * ndim
        size = dtype.itemsize * math.prod(shape)
        require(order <= 1 and elements + size == len(raw), "size of an array")
        return np.ndarray(shape, dtype, raw, elements, order="F" if order else "C")
    return raw  # bytes, and a PNG file as it is
