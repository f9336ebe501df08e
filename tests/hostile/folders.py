"""Hostile folders: links, names, devices and locks instead of the files that a store has."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import struct
import zlib
from pathlib import Path

from tests.hostile import forge
from tests.hostile.case import HARMLESS, hostile, hostile_each

_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")


_NAMES = {
    "an absolute path": "/etc/passwd",
    "a path out of the store": "../../outside/other.chunk",
    "a path inside the store": "../index.sqlite",
    "an empty name": "",
    "300 characters": "0" * 300 + "-00000000.chunk",
    "a zero character": "000000-00000000.chunk\0/../x",
    "a memory of the process": "/proc/self/mem",
    "digits of another script": "\u0660" * 6 + "-00000000.chunk",
    "a line feed behind it": "000000-00000000.chunk\n",
    "escape sequences": "\x1b[2J\x1b[H.chunk",
}


def _called(name: str, store: Path, outside: Path) -> None:
    """Let the index call the only chunk something else."""
    with forge.index_of(store) as index:
        index.execute("UPDATE chunks SET name = ?", (name,))


_NOT_A_CHUNK = "open mmap: CorruptIndexError: the index calls a chunk"
hostile_each("chunk name", {what: (name, _NOT_A_CHUNK) for what, name in _NAMES.items()}, _called)


@hostile("chunk file: a link to a file outside", "MissingChunkError: the chunk is a link")
def _(store: Path, outside: Path) -> None:
    forge.linked(forge.chunks(store)[0], outside / "moved.chunk")


@hostile("chunk file: a hard link to one outside", HARMLESS)
def _(store: Path, outside: Path) -> None:
    chunk = forge.chunks(store)[0]
    copy = Path(shutil.copy(chunk, outside / "copy"))
    chunk.unlink()
    os.link(copy, chunk)


@hostile("chunk file: a hard link to what is no chunk", "MissingChunkError|Truncated|damaged")
def _(store: Path, outside: Path) -> None:
    chunk = forge.chunks(store)[0]
    chunk.unlink()
    os.link(outside / "secret", chunk)


@hostile("chunk file: a FIFO", "MissingChunkError: what is there is no file")
def _(store: Path, outside: Path) -> None:
    chunk = forge.chunks(store)[0]
    chunk.unlink()
    os.mkfifo(chunk)


@hostile("chunk file: a folder", "MissingChunkError: what is there is no file")
def _(store: Path, outside: Path) -> None:
    chunk = forge.chunks(store)[0]
    chunk.unlink()
    chunk.mkdir()


@hostile("chunk file: a link to a device", "MissingChunkError: the chunk is a link")
def _(store: Path, outside: Path) -> None:
    chunk = forge.chunks(store)[0]
    chunk.unlink()
    chunk.symlink_to("/dev/zero")


@hostile("chunk file: a terabyte of nothing behind it", "CorruptChunkError: the file has")
def _(store: Path, outside: Path) -> None:
    os.truncate(forge.chunks(store)[0], 1 << 40)


@hostile("chunks: a link to a folder outside", "NotAStoreError: .* is a link")
def _(store: Path, outside: Path) -> None:
    forge.linked(store / "chunks", outside / "chunks")


@hostile("index: a link to a file outside", "CorruptIndexError: .*is a link")
def _(store: Path, outside: Path) -> None:
    forge.linked(store / "index.sqlite", outside / "index.sqlite")


@hostile("index: a FIFO", "CorruptIndexError: .*is missing")
def _(store: Path, outside: Path) -> None:
    (store / "index.sqlite").unlink()
    os.mkfifo(store / "index.sqlite")


@hostile("index: a link that leads nowhere", "CorruptIndexError: .*is a link")
def _(store: Path, outside: Path) -> None:
    (store / "index.sqlite").unlink()
    (store / "index.sqlite").symlink_to(outside / "not-there")


def _linked_beside(where: tuple[str, str], store: Path, outside: Path) -> None:
    suffix, target = where
    (store / f"index.sqlite-{suffix}").symlink_to(outside / target)


for _suffix in ("journal", "wal", "shm"):
    _targets = {"to a file outside": "secret", "that leads nowhere": "made-by-it"}
    hostile_each(
        _suffix,
        {
            f"a link {what}": ((_suffix, target), "open mmap: CorruptIndexError: .*is a link")
            for what, target in _targets.items()
        },
        _linked_beside,
    )


@hostile("journal: a FIFO", "CorruptIndexError: .*or no file")
def _(store: Path, outside: Path) -> None:
    os.mkfifo(store / "index.sqlite-journal")


@hostile("journal: hot, with pages that are none", "Corrupt|NotAStoreError|is damaged")
def _(store: Path, outside: Path) -> None:
    (store / "index.sqlite-journal").write_bytes(_journal(store, b"\xff" * 4096))


@hostile("journal: hot, names a file to be deleted", "CorruptIndexError: .*names another file")
def _(store: Path, outside: Path) -> None:
    page = (store / "index.sqlite").read_bytes()[:4096]
    name = os.fsencode(outside / "secret")
    tail = struct.pack(">I", 0x40000000 // 4096 + 1) + name
    tail += struct.pack(">II", len(name), sum(name)) + _JOURNAL_MAGIC
    (store / "index.sqlite-journal").write_bytes(_journal(store, page) + tail)


def _journal(store: Path, page: bytes) -> bytes:
    """Return a journal of SQLite that puts one page back; see its file format, section 3."""
    pages = (store / "index.sqlite").stat().st_size // 4096
    head = _JOURNAL_MAGIC + struct.pack(">IIIII", 1, 0, pages, 512, 4096)
    checksum = sum(page[at] for at in range(4096 - 200, 0, -200)) & 0xFFFFFFFF
    return head.ljust(512, b"\0") + struct.pack(">I", 1) + page + struct.pack(">I", checksum)


@hostile("wal: planted, of another database", "open mmap: NotAStoreError")
def _(store: Path, outside: Path) -> None:
    (store / "index.sqlite-wal").write_bytes(_wal(outside))


def _wal(outside: Path) -> bytes:
    with sqlite3.connect(outside / "other") as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE store (x)")
        other.commit()
        return (outside / "other-wal").read_bytes()


@hostile("wal: the index says that it has one, which is planted", "CorruptIndexError|NotAStore")
def _(store: Path, outside: Path) -> None:
    wal = _wal(outside)
    data = bytearray((store / "index.sqlite").read_bytes())
    data[18:20] = b"\2\2"
    (store / "index.sqlite").write_bytes(data)
    (store / "index.sqlite-wal").write_bytes(wal)


# writer.lock


@hostile("lock: a link to a file outside", "append: .*writer.lock")
def _(store: Path, outside: Path) -> None:
    (store / "writer.lock").unlink(missing_ok=True)
    (store / "writer.lock").symlink_to(outside / "secret")


@hostile("lock: a FIFO", "append: .*writer.lock")
def _(store: Path, outside: Path) -> None:
    (store / "writer.lock").unlink(missing_ok=True)
    os.mkfifo(store / "writer.lock")


@hostile("lock: a folder", "append: .*writer.lock")
def _(store: Path, outside: Path) -> None:
    (store / "writer.lock").unlink(missing_ok=True)
    (store / "writer.lock").mkdir()


@hostile("lock: names a chunk outside", HARMLESS)
def _(store: Path, outside: Path) -> None:
    named = {"chunk": "../../outside/other.chunk", "offset": 64, "commit": 9}
    _lock(store, json.dumps({"pending": named, "last": 5}).encode())


@hostile("lock: a commit of 10**300", "IndexBehindLogError")
def _(store: Path, outside: Path) -> None:
    _lock(store, b'{"pending": null, "last": 1' + b"0" * 300 + b"}")


@hostile("lock: an infinite commit", HARMLESS)
def _(store: Path, outside: Path) -> None:
    _lock(store, b'{"pending": null, "last": Infinity}')


@hostile("lock: 100,000 lists in each other", HARMLESS)
def _(store: Path, outside: Path) -> None:
    _lock(store, b"[" * 100_000)


@hostile("lock: a gigabyte of nothing", HARMLESS)
def _(store: Path, outside: Path) -> None:
    (store / "writer.lock").touch()
    os.truncate(store / "writer.lock", 1 << 30)


@hostile("lock: an offset below zero", HARMLESS)
def _(store: Path, outside: Path) -> None:
    named = {"chunk": forge.chunks(store)[0].name, "offset": -(2**70), "commit": 2**70}
    _lock(store, json.dumps({"pending": named, "last": 5}).encode())


def _lock(store: Path, text: bytes) -> None:
    (store / "writer.lock").write_bytes(text)


# cache/


@hostile("cache: a link to a folder outside", HARMLESS)
def _(store: Path, outside: Path) -> None:
    (store / "cache").symlink_to(outside)


@hostile("cache: the folder of an edition is a link", HARMLESS)
def _(store: Path, outside: Path) -> None:
    forge.linked(forge.with_cache(store), outside / "edition")


@hostile("cache: caches of snapshots are a link", HARMLESS)
def _(store: Path, outside: Path) -> None:
    forge.with_cache(store)
    (store / "cache" / "snapshots").symlink_to(outside)


@hostile("cache: its lock is a link", HARMLESS)
def _(store: Path, outside: Path) -> None:
    (store / "cache").mkdir()
    (store / "cache" / "lock").symlink_to(outside / "secret")


@hostile("cache: a manifest with 100,000 lists in each other", HARMLESS)
def _(store: Path, outside: Path) -> None:
    forge.put_manifest(store, b"[" * 100_000)


@hostile("cache: a manifest of a gigabyte", HARMLESS)
def _(store: Path, outside: Path) -> None:
    forge.with_cache(store)
    os.truncate(store / "cache" / "manifest.json", 1 << 30)


@hostile("cache: an edition outside", HARMLESS)
def _(store: Path, outside: Path) -> None:
    forge.with_cache(store)
    forge.manifest(store, edition="../../outside")


@hostile("cache: 2**62 records", "open mmap: CorruptIndexError: .*rebuild")
def _(store: Path, outside: Path) -> None:
    forge.with_cache(store)
    forge.manifest(store, records=2**62, parts=[[0, 2**62, 5, 5, 1]])


@hostile("cache: 2**40 chunks", HARMLESS)
def _(store: Path, outside: Path) -> None:
    forge.with_cache(store)
    forge.manifest(store, chunks=2**40)


@hostile("cache: a list of chunks that has a gigabyte", HARMLESS)
def _(store: Path, outside: Path) -> None:
    os.truncate(forge.with_cache(store) / "chunks.bin", 1 << 30)


@hostile("cache: lost commits of any kind", HARMLESS)
def _(store: Path, outside: Path) -> None:
    forge.with_cache(store)
    uuid = "00000000-0000-0000-0000-000000000000"
    lost = [[1, "x", [], {}, None, "../../outside/other.chunk", -5, uuid, uuid]]
    forge.manifest(store, lost=lost)


@hostile("cache: lost commits of too few words", HARMLESS)
def _(store: Path, outside: Path) -> None:
    forge.with_cache(store)
    forge.manifest(store, lost=[[1, 2]])


@hostile("cache: deleted records that never were", HARMLESS)
def _(store: Path, outside: Path) -> None:
    edition = forge.with_cache(store)
    data = struct.pack("<3q", -(2**60), -1, 2**60)
    (edition / "deleted-5.bin").write_bytes(data)
    forge.manifest(store, deleted=[3, zlib.crc32(data), 5])


@hostile("cache: a link in the place of locations", HARMLESS)
def _(store: Path, outside: Path) -> None:
    (file,) = forge.with_cache(store).glob("locations-0-*.bin")
    forge.linked(file, outside / "locations")


# snapshots/


@hostile("snapshots: a link to a folder outside", "snapshot 'v1': CorruptIndexError: .*is a link")
def _(store: Path, outside: Path) -> None:
    forge.linked(store / "snapshots", outside / "snapshots")


@hostile("snapshots: a copy is a link", "snapshot 'v1': CorruptIndexError: .*is a link")
def _(store: Path, outside: Path) -> None:
    forge.linked(store / "snapshots" / "v1.sqlite", outside / "v1.sqlite")


@hostile("snapshots: a copy of another commit", "snapshot 'v1': CorruptIndexError: .*shows commit")
def _(store: Path, outside: Path) -> None:
    shutil.copy(store / "index.sqlite", store / "snapshots" / "v1.sqlite")


@hostile("snapshots: a file that no commit names", HARMLESS)
def _(store: Path, outside: Path) -> None:
    (store / "snapshots" / "../x.sqlite").resolve().write_bytes(b"x")
    (store / "snapshots" / "'; DROP TABLE x; --.sqlite").write_bytes(b"x")


@hostile("snapshots: a hot journal beside a copy", "snapshot 'v1': .*")
def _(store: Path, outside: Path) -> None:
    page = (store / "index.sqlite").read_bytes()[:4096]
    (store / "snapshots" / "v1.sqlite-journal").write_bytes(_journal(store, page))
