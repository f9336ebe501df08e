"""Stores put back or tampered with under a reader: errors, never other bytes or a crash."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import sqlstore
from sqlstore import CorruptChunkError, CorruptStoreError, limits
from sqlstore.cache import manifest
from sqlstore.cache.metadata import Mirror
from sqlstore.log import ipc, table
from tests.caches import edition
from tests.processes import append, batches_in, new_store

IOS = ("mmap", "pread", "memory")
COUNT = 12


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return new_store(tmp_path / "store")


# Another history


@pytest.mark.parametrize("how", IOS)
@pytest.mark.parametrize("more", [0, 1, 3, 5])
def test_a_reader_does_not_go_on_in_another_history(
    path: Path, tmp_path: Path, how: Any, more: int
) -> None:
    append(path, (0, 0))
    shutil.copytree(path, tmp_path / "backup")
    append(path, (0, 1), (0, 2), (0, 3))
    with sqlstore.open(path, io=how) as store:
        before = store.to_arrow()
        shutil.rmtree(path)
        shutil.copytree(tmp_path / "backup", path)
        append(path, *((1, batch) for batch in range(more)))
        with pytest.raises(CorruptStoreError, match="another history"):
            store.refresh()
        assert store.to_arrow() == before
    assert len(batches_in(path)) == 1 + more


# What the cache says


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Return a store whose second value is compressed and whose others are not."""
    with sqlstore.create(
        tmp_path / "mixed", fields={"f": "bytes"}, metadata={"t": "string"}
    ) as store:
        random = np.random.default_rng(0)
        bodies = [random.bytes(100), bytes(5000), *(random.bytes(100) for _ in range(COUNT - 2))]
        store.extend({"f": body, "t": f"text {i}"} for i, body in enumerate(bodies))
    return tmp_path / "mixed"


READ = """
import sys
import sqlstore
with sqlstore.open(sys.argv[1], io=sys.argv[2], verify=sys.argv[3]) as store:
    try:
        sizes = [len(body) for body in store.blobs("f").to_pylist()]
        print(sizes[0], sizes[1], store.to_arrow().num_rows)
    except sqlstore.SqlstoreError as error:
        print(type(error).__name__)
"""


def read(path: Path, how: str, verify: str) -> str:
    """Return what a process of its own reads, which a crash would end."""
    command = [sys.executable, "-c", READ, str(path), how, verify]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


@pytest.mark.parametrize("length", [5000, 1_900_000_000])
@pytest.mark.parametrize("how", ["mmap", "pread"])
def test_unchecked_values_end_where_the_stored_bytes_end(
    mixed: Path, how: str, length: int
) -> None:
    rows = edition(mixed) / "locations-0-0.bin"
    data = np.fromfile(rows, "<u4").reshape(-1, 8)
    data[0, 4] = length
    data.tofile(rows)
    assert read(mixed, how, "never") == f"100 5000 {COUNT}"


@pytest.mark.parametrize("verify", ["once", "always", "never"])
def test_a_damaged_mirror_is_noticed_whatever_is_verified(mixed: Path, verify: str) -> None:
    (part,) = edition(mixed).glob("metadata-*.arrow")
    data = bytearray(part.read_bytes())
    data[data.index(b"text 0") - 16] ^= 0x80  # an offset, some words before the text
    part.write_bytes(data)
    assert read(mixed, "mmap", verify) == f"100 5000 {COUNT}"


def test_arrow_data_that_leads_out_of_its_buffers_is_refused() -> None:
    wrong = np.array([0, 4, 2**30, 8], np.int32)
    buffers = [None, pa.py_buffer(wrong), pa.py_buffer(b"somewhere")]
    array = pa.StringArray.from_buffers(3, *buffers[1:])
    with pytest.raises(CorruptChunkError, match=r"not a segment table: .*out of bounds"):
        ipc.parse(table.stream(pa.record_batch([array], names=["c0"])), "a chunk", 64)


def relabelled(path: Path, **changed: object) -> None:
    """Change what the manifest says, with its checksum."""
    file = path / "cache" / "manifest.json"
    found = json.loads(file.read_bytes().partition(b"\n")[0])
    text = json.dumps({**found, **changed}).encode()
    file.write_bytes(text + b"\n%08x\n" % zlib.crc32(text))


@pytest.mark.parametrize("name", ["commit", "records", "chunks", "generation"])
@pytest.mark.parametrize("value", [10**30, -1, "1", None, 1.5, True])
def test_a_manifest_of_senseless_counts_is_none(path: Path, name: str, value: object) -> None:
    append(path, (0, 0))
    relabelled(path, **{name: value})
    assert manifest.load(path / "cache") is None
    assert batches_in(path) == [(0, 0)]


@pytest.mark.parametrize("how", ["mmap", "memory"])
def test_a_chunk_larger_than_any_is_refused(path: Path, how: Any) -> None:
    append(path, (0, 0))
    (chunk,) = (path / "chunks").iterdir()
    with sqlstore.open(path, io=how) as store:
        os.truncate(chunk, limits.MAX_CHUNK_BYTES + 10)  # sparse
        with pytest.raises(CorruptChunkError, match="the file has 2147483657 bytes"):
            store.raw(0, "payload")


# Texts larger than one array


@pytest.mark.parametrize("ids", [[0, 0, 1, 5, 11], [5, 1, 1, 0, 11, 11, 2]])
def test_more_text_than_one_array_holds_comes_in_pieces(
    mixed: Path, monkeypatch: pytest.MonkeyPatch, ids: list[int]
) -> None:
    taken = Mirror._taken

    def overflowing(self: Mirror, ids: Any, columns: Any) -> Any:
        if len(ids) > 2:
            raise pa.ArrowInvalid("Take operation overflowed binary array capacity")
        return taken(self, ids, columns)

    monkeypatch.setattr(Mirror, "_taken", overflowing)
    with sqlstore.open(mixed) as store:
        found = store.take(ids).to_arrow()["t"]
    assert found.to_pylist() == [f"text {i}" for i in ids]
    assert found.num_chunks > 2


# Ids of pickled views


@pytest.mark.parametrize("damage", [b"", b"other"])
def test_a_damaged_file_of_ids_is_written_anew(path: Path, damage: bytes) -> None:
    with sqlstore.create(path.parent / "large", metadata={"n": "int32"}) as store:
        store.extend({"n": i} for i in range(10_000))
    with sqlstore.open(path.parent / "large") as store:
        view = store.order_by("n DESC")
        pickle.dumps(view)
        (shared,) = (path.parent / "large" / "cache" / "ids").iterdir()
        shared.write_bytes(damage)
        assert pickle.loads(pickle.dumps(view))[0] == {"n": 9999}
