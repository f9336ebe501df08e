"""Read a store from its chunk files alone, as `docs/format.md` says: no sqlstore, no index."""

import ast
import io
import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import lz4.block
import ml_dtypes
import numpy as np
import pyarrow as pa
import zstandard

TRAILER = struct.Struct("<8sHHIQ16s16sqQqIIIII20xII")
NAMES = """magic kind flags schema_version number commit previous first_record records committed_at
           chunk bodies_start bodies_end table_start table_end table_crc crc"""
MAGIC = b"\xc5SEGMENT"
Commit = dict[str, Any]  # what its trailer says, by these names, and the bytes of its segment


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def read(root: Path) -> dict[str, Any]:
    """Return schema, settings and commits of a store, and its records and their rows by id."""
    files = [p for p in (root / "chunks").iterdir() if p.is_file() and not p.is_symlink()]
    chunks = [p for p in files if re.fullmatch(r"[0-9]{6,10}-[0-9a-f]{8}\.chunk", p.name)]
    found = {commit["commit"]: commit for path in chunks for commit in commits_of(path)}
    commits = sorted(found.values(), key=lambda commit: int(commit["number"]))
    require(len({commit["store"] for commit in commits}) == 1, "not the chunks of one store")
    store: dict[str, Any] = {
        "commits": commits,
        "records": {},
        "rows": {},
        "dictionaries": {},
        "subsets": {},
        "snapshots": {},
        "chunks": {commit["chunk"]: root / "chunks" / commit["file"] for commit in found.values()},
    }
    number, previous, record = read_checkpoint(commits, store)
    for commit in [commit for commit in commits if commit["number"] >= number]:
        link = commit["number"], commit["previous"], commit["first_record"]
        require(link == (number, previous, record), f"commit {link[0]} in place of commit {number}")
        read_commit(commit, store)
        number, previous, record = number + 1, commit["commit"], record + commit["records"]
    return store


def read_checkpoint(commits: list[Commit], store: dict[str, Any]) -> tuple[int, bytes, int]:
    """Take over the last checkpoint; return the number, predecessor and record to go on with."""
    last = next((commit for commit in reversed(commits) if commit["kind"] == 19), None)
    if last is None:
        return 1, bytes(16), 0
    require(zlib.crc32(last["table"]) == last["table_crc"], "damage in the table of a checkpoint")
    (batch,) = pa.ipc.open_stream(last["table"])
    said = json.loads(batch.schema.metadata[b"sqlstore"])
    before: list[dict[str, Any]] = []
    for piece in batch.to_pylist():
        body = read_body(piece, last)
        require(zlib.crc32(body) == piece["crc"], f"damage in the {piece['kind']}")
        if piece["kind"] == "dictionary":
            store["dictionaries"][piece["number"]] = body
            continue
        (rows,) = pa.ipc.open_stream(body)
        if piece["kind"] == "schema":
            store["settings"] = json.loads(rows.schema.metadata[b"sqlstore"])
            store["schema"] = rows.to_pylist()
        elif piece["kind"] == "commits":
            before = rows.to_pylist()
        elif piece["kind"] == "snapshots":
            store["snapshots"] = {row["name"]: row for row in rows.to_pylist()}
        elif piece["kind"] == "subset":
            described = json.loads(rows.schema.metadata[b"sqlstore"])
            members = rows["record"].to_pylist()
            store["subsets"][described["name"]] = described | {"records": members}
    record = before[-1]["first_record"] + before[-1]["records"]
    require(before[-1]["number"] == said["as_of"], "a checkpoint of another commit")
    for number, first, stop in said["parts"]:
        (part,) = (commit for commit in commits if commit["number"] == number)
        require(part["kind"] == 21, f"commit {number} is no part of a checkpoint")
        (batch,) = pa.ipc.open_stream(part["table"])
        for row in batch.to_pylist():
            place = row.pop("record")
            require(first <= place < stop <= record, f"record {place} in another part")
            values = {p["name"]: read_part(p, row, part, store) for p in store["schema"]}
            store["records"][place], store["rows"][place] = values, row
    return said["as_of"] + 1, bytes.fromhex(said["commit"]), record


def commits_of(path: Path) -> list[Commit]:
    """Return the commits of a chunk: a valid trailer ends each, behind the last is a tail."""
    data, end, found = path.read_bytes(), 64, []
    if len(data) < 64 or zlib.crc32(data[:60]) != int.from_bytes(data[60:64], "little"):
        require(MAGIC not in data, f"damage in the header of {path.name}")
        return []
    require(data.startswith(b"SQLSTORE\1\0\0\0"), f"{path.name} is of another format")
    for at in [match.start() for match in re.finditer(MAGIC, data[:-120])]:
        commit = dict(zip(NAMES.split(), TRAILER.unpack_from(data, at), strict=True))
        start, stop, table = commit["bodies_start"], commit["bodies_end"], commit["table_start"]
        in_place = 64 <= start <= stop <= table == -(-stop // 64) * 64 <= commit["table_end"] == at
        if in_place and commit["crc"] == zlib.crc32(data[32:48] + data[at : at + 124]):
            require(start == end, f"damage behind {end} in {path.name}")
            segment = {"bodies": data[start:stop], "table": data[table:at]}
            found.append(commit | segment | {"store": data[16:32], "file": path.name})
            end = at + TRAILER.size
    return found


def read_commit(commit: Commit, store: dict[str, Any]) -> None:
    number, kind, table = commit["number"], commit["kind"], commit["table"]
    require(zlib.crc32(table) == commit["table_crc"], f"damage in the table of commit {number}")
    require((number == 1) == (kind == 1), "the first commit, and no other, is a creation")
    require(
        kind in (1, 2, 3, 4, 5, 6, 7, 8, *range(11, 17), *range(18, 22)) or commit["flags"] & 1,
        f"commit {number} is of an unknown kind",
    )
    if kind in (1, 6, 7, 8, 11, 12):
        (batch,) = pa.ipc.open_stream(table)
        store["settings"] = json.loads(batch.schema.metadata[b"sqlstore"])
        read_schema(batch.to_pylist(), store)
    elif kind == 2:
        (batch,) = pa.ipc.open_stream(table)
        require(batch.num_rows == commit["records"], f"the table of commit {number} is cut")
        for record, row in enumerate(batch.to_pylist(), commit["first_record"]):
            values = {p["name"]: read_part(p, row, commit, store) for p in store["schema"]}
            store["records"][record], store["rows"][record] = values, row
    elif kind in (3, 4, 5, 18):
        (batch,) = pa.ipc.open_stream(table)
        edit_records(batch.to_pylist(), commit, store)
    elif kind in (14, 15):
        (batch,) = pa.ipc.open_stream(table)
        said = json.loads(batch.schema.metadata[b"sqlstore"])
        store["subsets"].pop(said["name"], None)
        if kind == 14:
            store["subsets"][said["name"]] = said | {"records": batch["record"].to_pylist()}
    elif kind in (16, 20):
        (batch,) = pa.ipc.open_stream(table)
        said = json.loads(batch.schema.metadata[b"sqlstore"])
        store["snapshots"].pop(said["name"], None)
        if kind == 16:
            store["snapshots"][said["name"]] = said | {"commit": number - 1}
    elif kind == 13:
        (batch,) = pa.ipc.open_stream(table)
        (row,) = batch.to_pylist()
        body = read_body(row, commit)
        require(zlib.crc32(body) == row["crc"], f"damage in dictionary {row['number']}")
        store["dictionaries"][row["number"]] = body


def read_schema(parts: list[dict[str, Any]], store: dict[str, Any]) -> None:
    """Take over another schema: columns come, go, and are renamed."""
    before = {p["number"]: p["name"] for p in store.get("schema", []) if p["kind"] == "column"}
    for values in store["records"].values():
        held = {number: values.pop(name) for number, name in before.items()}
        columns = [p for p in parts if p["kind"] == "column"]
        values |= {p["name"]: held.get(p["number"]) for p in columns}
    store["schema"] = parts


def edit_records(rows: list[dict[str, Any]], commit: Commit, store: dict[str, Any]) -> None:
    parts = {f"{p['kind'][0]}{p['number']}": p for p in store["schema"]}
    for row in rows:
        record = row.pop("record")
        require(record in store["records"], f"record {record} is edited and not there")
        if commit["kind"] == 5:
            del store["records"][record], store["rows"][record]
            continue
        store["rows"][record] |= row
        for number in row:
            part = parts[number]
            store["records"][record][part["name"]] = read_part(part, row, commit, store)


def read_part(
    part: dict[str, Any], row: dict[str, Any], commit: Commit, store: dict[str, Any]
) -> Any:
    value = row.get(f"{part['kind'][0]}{part['number']}")  # f0, f1, ... and c0, c1, ...
    if value is None or part["kind"] == "column":
        return value  # json as its text
    body = read_body(value, commit, store["chunks"])
    known = store["dictionaries"]
    if part["type"].endswith("[]"):
        return [decode(part["type"][:-2], raw) for raw in read_items(body, value, known)]
    require(zlib.crc32(body) == value["crc"], f"damage in the value at {value['offset']}")
    raw = read_value(body, value["raw_length"], value["compression"], known)
    return decode(part["type"], raw)


def read_body(
    place: dict[str, int], commit: Commit, chunks: dict[int, Path] | None = None
) -> bytes:
    start, length = place["offset"], place["length"]
    if chunks is not None and "chunk" in place:
        with chunks[place["chunk"]].open("rb") as file:
            file.seek(start)
            return file.read(length)
    require(commit["bodies_start"] <= start <= commit["bodies_end"] - length, "value out of bounds")
    body: bytes = commit["bodies"][start - commit["bodies_start"] :][:length]
    return body


def read_value(stored: bytes, raw_length: int, codec: int, dictionaries: dict[int, bytes]) -> bytes:
    raw = stored
    if codec == 1:
        raw = lz4.block.decompress(stored, uncompressed_size=raw_length)
    elif codec >= 64:
        known = zstandard.ZstdCompressionDict(dictionaries[codec - 64])
        raw = zstandard.ZstdDecompressor(known).decompress(b"\x28\xb5\x2f\xfd" + stored)
    elif codec > 1:
        raw = pa.CompressedInputStream(pa.py_buffer(stored), {2: "zstd", 3: "gzip"}[codec]).read()
    require(len(raw) == raw_length, f"a value of another size than {raw_length}")
    return raw


def read_items(body: bytes, place: dict[str, int], dictionaries: dict[int, bytes]) -> list[bytes]:
    size = len(body) - 12 * place["items"]
    require(size >= 0 and zlib.crc32(body[size:]) == place["crc"], "damage in a footer")
    start, raws = 0, []
    for number, (end, raw_length, crc) in enumerate(struct.iter_unpack("<III", body[size:])):
        require(start <= end <= size, f"item {number} out of bounds")
        stored, start = body[start:end], end
        require(zlib.crc32(stored) == crc, f"damage in item {number}")
        codec = place["compression"] if len(stored) != raw_length else 0
        raws.append(read_value(stored, raw_length, codec, dictionaries))
    require((start, sum(map(len, raws))) == (size, place["raw_length"]), "items of another size")
    return raws


def decode(encoding: str, raw: bytes) -> Any:
    if encoding in ("int", "i64", "u64"):
        return int.from_bytes(raw, "little", signed=encoding != "u64")
    if encoding == "array":
        return decode_array(raw)
    if encoding == "tree":
        (length,) = struct.unpack_from("<I", raw)
        return decode_tree(json.loads(raw[4 : 4 + length]), io.BytesIO(raw[4 + length :]))
    if encoding == "json":
        return json.loads(raw)
    return raw.decode() if encoding == "utf8" else raw  # a PNG file and the like as it is


def decode_array(raw: bytes) -> Any:
    order, dimensions, length = struct.unpack_from("<BBH", raw)
    shape = struct.unpack_from(f"<{dimensions}Q", raw, 4 + length)
    dtype, start = dtype_of(raw[4 : 4 + length].decode()), 4 + length + 8 * dimensions
    return np.ndarray(shape, dtype, raw, start, order=("C", "F")[order])


def dtype_of(described: Any) -> np.dtype[Any]:
    if isinstance(described, str) and described[0] in "[{":
        return dtype_of(ast.literal_eval(described))
    if isinstance(described, list):
        return np.dtype(np.lib.format.descr_to_dtype(described))
    if isinstance(described, dict):
        described["formats"] = [dtype_of(one) for one in described["formats"]]
    if isinstance(described, tuple):
        described = (dtype_of(described[0]), described[1])
    dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, str(described), described))
    return dtype


def decode_tree(node: Any, leaves: io.BytesIO) -> Any:
    if isinstance(node, list):
        return [decode_tree(one, leaves) for one in node]
    if not isinstance(node, dict):
        return node
    ((kind, value),) = node.items()
    if kind in ("dict", "tuple"):
        found = [decode_tree(one, leaves) for one in value]
        return dict(found) if kind == "dict" else tuple(found)
    if kind in ("int", "float"):
        return int(value, 16) if kind == "int" else float(value)
    leaf = leaves.read(value)
    return leaf if kind == "bytes" else decode_array(leaf)[() if kind == "scalar" else ...]
