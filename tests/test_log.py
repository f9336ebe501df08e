"""The chunk files: headers, trailers, the chain of commits, and the system calls below them."""

from __future__ import annotations

import dataclasses
import errno
import os
import random
import struct
import subprocess
import sys
import threading
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlstore import (
    CorruptChunkError,
    CorruptStoreError,
    ForkedLogError,
    MissingChunkError,
    NotAStoreError,
    ReadOnlyError,
    StorageError,
    StoreBusyError,
    StoreClosedError,
    StoreFullError,
    StoreNotFoundError,
    StoreTooNewError,
    TruncatedChunkError,
    limits,
)
from sqlstore.log import chain, files, ipc, lock
from sqlstore.log.chain import Link
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import (
    HEADER_SIZE,
    NO_COMMIT,
    READABLE_KINDS,
    TRAILER_MAGIC,
    TRAILER_SIZE,
    CommitKind,
    Header,
    Trailer,
    align,
    check_readable,
    may_append,
)
from sqlstore.log.writer import ChunkWriter
from sqlstore.types import Buffer

STORE: Final = uuid.UUID(int=1)
CHUNK: Final = uuid.UUID(int=2)
uint16 = st.integers(0, 2**16 - 1)
uint32 = st.integers(0, 2**32 - 1)


@st.composite
def trailers(draw: st.DrawFn) -> Trailer:
    """Return any trailer that can be: offsets follow each other, and numbers are not too large."""
    first, number = draw(st.integers(0, 2**62)), draw(st.integers(1, 2**63 - 1))
    n_table = draw(st.integers(0, 2**20))
    start = draw(st.integers(HEADER_SIZE, 2**31 - 1))
    bodies_end = start + draw(st.integers(0, 2**30))
    table_start = align(bodies_end)
    kind = draw(uint16)
    return Trailer(
        kind=kind,
        skippable=draw(st.booleans()),
        schema_version=draw(uint32),
        number=number,
        commit=draw(st.uuids()),
        previous=draw(st.uuids()),
        first_record=first,
        records=draw(st.integers(0, 8 * n_table)) if may_append(kind) else 0,
        committed_at=draw(st.integers(-(10**16), 10**17)),
        chunk=draw(st.integers(0, min(number, 2**32) - 1)),
        bodies_start=start,
        bodies_end=bodies_end,
        table_start=table_start,
        table_end=table_start + n_table,
        table_crc=draw(uint32),
    )


# Headers and trailers


@settings(deadline=None)
@given(store=st.uuids(), chunk=st.uuids())
def test_a_header_comes_back(store: uuid.UUID, chunk: uuid.UUID) -> None:
    header = Header(store, chunk)
    data = header.pack()
    assert len(data) == HEADER_SIZE == 64
    assert Header.unpack(data, "name") == header


@settings(deadline=None)
@given(chunk=st.uuids(), offset=st.integers(0, HEADER_SIZE - 1), mask=st.integers(1, 255))
def test_a_header_with_a_changed_byte_is_refused(chunk: uuid.UUID, offset: int, mask: int) -> None:
    data = bytearray(Header(STORE, chunk).pack())
    data[offset] ^= mask
    with pytest.raises(CorruptChunkError) as caught:
        Header.unpack(bytes(data), "name")
    assert caught.value.where == {"chunk": "name", "offset": 0}


def test_a_header_of_another_version_is_refused() -> None:
    data = Header(STORE, CHUNK).pack()
    newer = data[:8] + struct.pack("<I", 2) + data[12:-4]
    with pytest.raises(StoreTooNewError, match="format version 2"):
        Header.unpack(newer + struct.pack("<I", zlib.crc32(newer)), "name")


@settings(deadline=None)
@given(trailer=trailers(), chunk=st.uuids())
def test_a_trailer_comes_back(trailer: Trailer, chunk: uuid.UUID) -> None:
    data = trailer.pack(chunk)
    assert len(data) == TRAILER_SIZE == 128
    assert Trailer.unpack(data, trailer.table_end, chunk) == trailer
    assert trailer.end == trailer.table_end + TRAILER_SIZE


@settings(deadline=None)
@given(trailer=trailers(), offset=st.integers(0, TRAILER_SIZE - 1), mask=st.integers(1, 255))
def test_a_trailer_with_a_changed_byte_is_none(trailer: Trailer, offset: int, mask: int) -> None:
    data = bytearray(trailer.pack(CHUNK))
    data[offset] ^= mask
    assert Trailer.unpack(bytes(data), trailer.table_end, CHUNK) is None


@settings(deadline=None)
@given(trailer=trailers(), chunk=st.uuids(), offset=st.integers(0, 2**32))
def test_a_copy_of_a_trailer_elsewhere_is_none(
    trailer: Trailer, chunk: uuid.UUID, offset: int
) -> None:
    data = trailer.pack(CHUNK)
    if chunk != CHUNK:
        assert Trailer.unpack(data, trailer.table_end, chunk) is None
    if offset != trailer.table_end:
        assert Trailer.unpack(data, offset, CHUNK) is None


@settings(deadline=None)
@given(data=st.binary(max_size=2 * TRAILER_SIZE))
def test_other_bytes_are_no_trailer(data: bytes) -> None:
    assert Trailer.unpack(data, HEADER_SIZE, CHUNK) is None
    assert Trailer.unpack(TRAILER_MAGIC + data, HEADER_SIZE, CHUNK) is None


@settings(deadline=None)
@given(trailer=trailers())
def test_offsets_that_do_not_follow_each_other_are_no_trailer(trailer: Trailer) -> None:
    wrongs: list[dict[str, Any]] = [
        {"bodies_start": HEADER_SIZE - 1},
        {"bodies_start": trailer.bodies_end + 1},
        {"table_start": trailer.table_start + 64, "table_end": trailer.table_end + 64},
        {"table_end": trailer.table_start - 1},
    ]
    for wrong in wrongs:
        changed = dataclasses.replace(trailer, **wrong)
        assert not changed.is_sound()
        assert Trailer.unpack(changed.pack(CHUNK), changed.table_end, CHUNK) is None


@settings(deadline=None)
@given(offset=st.integers(0, 2**40))
def test_aligned_offsets(offset: int) -> None:
    aligned = align(offset)
    assert aligned % 64 == 0
    assert offset <= aligned < offset + 64


@settings(deadline=None)
@given(trailer=trailers())
def test_kinds_that_are_not_known_are_skipped_or_refused(trailer: Trailer) -> None:
    if trailer.kind in READABLE_KINDS:
        assert check_readable(trailer, "name")
    elif trailer.skippable and not trailer.records:
        assert not check_readable(trailer, "name")
    else:
        with pytest.raises(StoreTooNewError, match=f"of kind {trailer.kind},"):
            check_readable(trailer, "name")


# Chains


def link(number: int, previous: uuid.UUID, **changes: Any) -> Link:
    values: dict[str, Any] = {
        "kind": CommitKind.APPEND,
        "skippable": False,
        "schema_version": 0,
        "number": number,
        "commit": uuid.uuid4(),
        "previous": previous,
        "first_record": 0,
        "records": 0,
        "committed_at": 0,
        "chunk": 0,
        "bodies_start": HEADER_SIZE,
        "bodies_end": HEADER_SIZE,
        "table_start": HEADER_SIZE,
        "table_end": HEADER_SIZE,
        "table_crc": 0,
        **changes,
    }
    return Link(f"00000{number % 7}-00000000.chunk", Trailer(**values))


def links_of(count: int) -> list[Link]:
    found: list[Link] = []
    for number in range(1, count + 1):
        found.append(link(number, found[-1].trailer.commit if found else NO_COMMIT))
    return found


@settings(deadline=None)
@given(count=st.integers(0, 20), after=st.integers(0, 20), shuffle=st.randoms())
def test_commits_are_followed_in_order_from_anywhere(
    count: int, after: int, shuffle: random.Random
) -> None:
    links = links_of(count)
    after = min(after, count)
    commit = links[after - 1].trailer.commit if after else NO_COMMIT
    mixed = links * 2  # a chunk that is there twice has every commit twice
    shuffle.shuffle(mixed)
    assert chain.follow(mixed, after, commit, 0) == (links[after:], [])


@settings(deadline=None)
@given(count=st.integers(2, 20), gap=st.integers(0, 19), shuffle=st.randoms())
def test_commits_behind_a_gap_are_left_over(count: int, gap: int, shuffle: random.Random) -> None:
    links = links_of(count)
    gap = min(gap, count - 1)
    mixed = links[:gap] + links[gap + 1 :]
    shuffle.shuffle(mixed)
    ordered, left = chain.follow(mixed, 0, NO_COMMIT, 0)
    assert ordered == links[:gap]
    assert sorted(left, key=lambda one: one.trailer.number) == links[gap + 1 :]


@settings(deadline=None)
@given(count=st.integers(1, 20), fork=st.integers(0, 19), shuffle=st.randoms())
def test_a_fork_is_refused_wherever_it_is(count: int, fork: int, shuffle: random.Random) -> None:
    links = links_of(count)
    fork = min(fork, count - 1)
    of = links[fork].trailer
    other = link(of.number, of.previous)
    mixed = [*links, other]
    shuffle.shuffle(mixed)
    with pytest.raises(ForkedLogError) as caught:
        chain.follow(mixed, 0, NO_COMMIT, 0)
    assert {str(of.commit), str(other.trailer.commit)} <= set(str(caught.value).split())
    # Behind the fork it is no concern any more.
    assert chain.follow(mixed, of.number, of.commit, 0) == (links[fork + 1 :], [])


def test_a_commit_that_counts_wrongly_is_refused() -> None:
    links = links_of(3)
    wrong = dataclasses.replace(links[2].trailer, number=9)
    with pytest.raises(CorruptStoreError, match="commit 9 stands at position 3") as caught:
        chain.follow([*links[:2], Link("name", wrong)], 0, NO_COMMIT, 0)
    assert caught.value.where["chunk"] == "name"


# Walking a chunk


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "chunks").mkdir()
    return tmp_path


def write_chunk(root: Path, bodies: Sequence[bytes], name: str = "000000-00000000.chunk") -> Path:
    """Write a chunk with a commit for every body."""
    data = Header(STORE, CHUNK).pack()
    previous = NO_COMMIT
    for number, body in enumerate(bodies, 1):
        start, bodies_end = len(data), len(data) + len(body)
        rows = b"table %d" % number
        trailer = link(
            number,
            previous,
            bodies_start=start,
            bodies_end=bodies_end,
            table_start=align(bodies_end),
            table_end=align(bodies_end) + len(rows),
            table_crc=zlib.crc32(rows),
        ).trailer
        data += body + bytes(align(bodies_end) - bodies_end) + rows + trailer.pack(CHUNK)
        previous = trailer.commit
    path = root / "chunks" / name
    path.write_bytes(data)
    return path


def walk(path: Path, **bounds: int) -> chain.Walk:
    reader = ChunkReader(path.parent.parent)
    try:
        return chain.walk(reader, path.name, CHUNK, **bounds)
    finally:
        reader.close()


def numbers(found: chain.Walk) -> list[int]:
    return [one.trailer.number for one in found.links]


@settings(deadline=None)
@given(lengths=st.lists(st.integers(0, 300), max_size=6))
def test_all_commits_of_a_chunk_are_found(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int]
) -> None:
    root = tmp_path_factory.mktemp("walk")
    (root / "chunks").mkdir()
    path = write_chunk(root, [bytes(n) for n in lengths])
    found = walk(path)
    assert numbers(found) == list(range(1, len(lengths) + 1))
    assert found.end == path.stat().st_size
    assert found.faults == []
    assert all(one.chunk == path.name for one in found.links)


def test_a_part_of_a_chunk_is_walked(root: Path) -> None:
    path = write_chunk(root, [b"a" * 100] * 4)
    ends = [one.trailer.end for one in walk(path).links]
    assert numbers(walk(path, start=ends[1])) == [3, 4]
    assert numbers(walk(path, end=ends[1])) == [1, 2]
    assert numbers(walk(path, start=ends[0], end=ends[2])) == [2, 3]
    assert walk(path, start=ends[3]).end == ends[3]


def test_only_what_ends_before_the_bound_is_found(root: Path) -> None:
    path = write_chunk(root, [b"a" * 100] * 3)
    ends = [one.trailer.end for one in walk(path).links]
    for cut in (1, 64, TRAILER_SIZE - 1, TRAILER_SIZE, TRAILER_SIZE + 1):
        found = walk(path, end=ends[2] - cut)
        assert numbers(found) == [1, 2], cut
        assert found.end == ends[1]


BLOCK: Final = 1000  # the bytes that are searched at once, made small for the test


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "_BLOCK", BLOCK)


@pytest.mark.usefixtures("small_blocks")
def test_a_tail_of_any_length_is_passed_over(root: Path) -> None:
    path = write_chunk(root, [b"one", b"two"])
    good = path.read_bytes()
    choice = random.Random(0)
    lengths = [*range(20), *range(110, 150), *range(BLOCK - 140, BLOCK + 20), 2 * BLOCK, 5 * BLOCK]
    for length in lengths:
        for tail in (bytes(length), choice.randbytes(length), (TRAILER_MAGIC * length)[:length]):
            path.write_bytes(good + tail)
            found = walk(path)
            assert numbers(found) == [1, 2], (length, tail[:20])
            assert found.end == len(good)
            assert found.faults == []


@pytest.mark.usefixtures("small_blocks")
def test_copies_of_trailers_in_a_tail_are_passed_over(root: Path) -> None:
    path = write_chunk(root, [b"one", b"two"])
    good = path.read_bytes()
    copies = [one.trailer.pack(CHUNK) for one in walk(path).links]
    for between in (0, 1, 7, 128, BLOCK):
        tail = b"".join(bytes(between) + copy for copy in copies * 5)
        for end in (len(tail), len(tail) - 1):
            path.write_bytes(good + tail[:end])
            assert numbers(walk(path)) == [1, 2]
    path.write_bytes(good + good)
    assert numbers(walk(path)) == [1, 2]


@pytest.mark.usefixtures("small_blocks")
def test_a_body_may_be_a_copy_of_its_own_chunk(root: Path) -> None:
    inner = write_chunk(root, [b"one", b"two"]).read_bytes()
    path = write_chunk(root, [inner, inner * 3, b"x" + inner])
    found = walk(path)
    assert numbers(found) == [1, 2, 3]
    assert found.faults == []
    path.write_bytes(path.read_bytes()[:-1])  # now the last one has to be searched for
    assert numbers(walk(path)) == [1, 2]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("lost", [0, 1, 2, 3])
def test_a_damaged_trailer_hides_its_commit_and_no_other(root: Path, lost: int) -> None:
    path = write_chunk(root, [b"a" * 3000] * 4)
    trailers_there = [one.trailer for one in walk(path).links]
    data = bytearray(path.read_bytes())
    for offset in range(TRAILER_SIZE):
        at = trailers_there[lost].table_end + offset
        data[at] ^= 1
        path.write_bytes(data)
        found = walk(path)
        assert numbers(found) == [n for n in (1, 2, 3, 4) if n != lost + 1]
        if lost == 3:  # just as if it had never happened
            assert found.faults == []
            assert found.end == trailers_there[2].end
        else:
            where = {"chunk": path.name, "offset": trailers_there[lost].table_end}
            assert where in [fault.where for fault in found.faults]
            assert found.end == trailers_there[3].end
        data[at] ^= 1


def test_a_chunk_without_commits_is_walked(root: Path) -> None:
    path = write_chunk(root, [])
    for more in (0, 1, 127, 128, 129, 5000):
        path.write_bytes(path.read_bytes()[:HEADER_SIZE] + bytes(more))
        found = walk(path)
        assert (found.links, found.end, found.faults) == ([], HEADER_SIZE, [])


# Reading


def open_chunks(root: Path) -> int:
    """Return how many descriptors of this process are chunks below a folder."""
    found = 0
    for entry in os.scandir("/proc/self/fd"):
        try:
            found += Path(entry.path).readlink().is_relative_to(root / "chunks")
        except FileNotFoundError:  # closed meanwhile
            continue
    return found


@pytest.fixture
def many(root: Path) -> Iterator[tuple[ChunkReader, list[str]]]:
    names = [f"{number:06d}-00000000.chunk" for number in range(50)]
    for number, name in enumerate(names):
        (root / "chunks" / name).write_bytes(bytes([number]) * 1000)
    reader = ChunkReader(root, most_open=4)
    yield reader, names
    reader.close()


def test_descriptors_are_bounded_and_the_latest_are_kept(
    root: Path, many: tuple[ChunkReader, list[str]]
) -> None:
    reader, names = many
    for number, name in enumerate(names):
        assert reader.read(name, 10, 5) == bytes([number]) * 5
        assert open_chunks(root) == min(number + 1, 4)
    for name in names[-4:]:
        (root / "chunks" / name).unlink()
        assert reader.size(name) == 1000  # its descriptor was still there
    for name in names[:3]:
        assert reader.size(name) == 1000
    assert reader.size(names[-1]) == 1000
    with pytest.raises(MissingChunkError):
        reader.size(names[-2])  # was the oldest when the third of them came
    reader.close()
    assert open_chunks(root) == 0


def test_threads_share_a_reader(root: Path, many: tuple[ChunkReader, list[str]]) -> None:
    reader, names = many
    n_threads = 8
    together = threading.Barrier(n_threads)

    def read(seed: int) -> int:
        choice = random.Random(seed)
        together.wait()
        most = 0
        for turn in range(300):
            number, offset = choice.randrange(len(names)), choice.randrange(900)
            assert reader.read(names[number], offset, 100) == bytes([number]) * 100
            if turn % 10 == 0:
                most = max(most, open_chunks(root))
        return most

    with ThreadPoolExecutor(n_threads) as pool:
        most = max(pool.map(read, range(n_threads)))
    assert most <= 4 + n_threads + n_threads  # idle, lent, and taken back but not closed yet
    assert open_chunks(root) <= 4
    reader.close()
    assert open_chunks(root) == 0


def test_a_descriptor_that_is_lent_is_closed_when_it_comes_back_to_a_closed_reader(
    root: Path, many: tuple[ChunkReader, list[str]]
) -> None:
    reader, names = many
    descriptor = reader._lend(names[0])
    reader.close()
    assert os.pread(descriptor, 1, 0) == b"\0"
    reader._give_back(names[0], descriptor)
    assert open_chunks(root) == 0
    with pytest.raises(StoreClosedError):
        reader.read(names[0], 0, 1)


def test_an_error_in_a_read_loses_no_descriptor(
    root: Path, many: tuple[ChunkReader, list[str]]
) -> None:
    reader, names = many
    for name in names:
        with pytest.raises(TruncatedChunkError, match="ends at byte 1000, 101 bytes") as caught:
            reader.read(name, 900, 101)
        assert caught.value.where == {"chunk": name, "offset": 900}
    assert open_chunks(root) == 4


def test_a_header_is_read_once(root: Path) -> None:
    path = write_chunk(root, [])
    reader = ChunkReader(root)
    assert reader.header(path.name) == Header(STORE, CHUNK)
    path.write_bytes(b"")
    assert reader.header(path.name).chunk == CHUNK
    reader.close()


def test_a_trailer_outside_of_the_file_is_none(root: Path) -> None:
    path = write_chunk(root, [b"one"])
    reader = ChunkReader(root)
    (at,) = [one.trailer.table_end for one in walk(path).links]
    assert reader.trailer(path.name, at, CHUNK) is not None
    for offset in (-1, 0, HEADER_SIZE - 1, at - 1, at + 1, 2**40):
        assert reader.trailer(path.name, offset, CHUNK) is None
    reader.close()


def stream(*batches: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    schema = pa.schema([("x", pa.int64())])
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    written: bytes = sink.getvalue().to_pybytes()
    return written


BATCH: Final = pa.record_batch({"x": pa.array([1, 2], pa.int64())})


def test_a_segment_table_is_one_batch() -> None:
    assert ipc.parse(stream(BATCH), "name", 64).equals(BATCH)
    for wrong in (stream(), stream(BATCH, BATCH), b"", b"no stream", stream(BATCH)[:-20]):
        with pytest.raises(CorruptChunkError) as caught:
            ipc.parse(wrong, "name", 64)
        assert caught.value.where == {"chunk": "name", "offset": 64}


@settings(deadline=None)
@given(data=st.binary(max_size=200))
def test_bytes_that_are_no_segment_table_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptChunkError):
        ipc.parse(data, "name", 0)


# Writing


def test_a_writer_makes_what_a_reader_reads(root: Path) -> None:
    writer = ChunkWriter.create(root, STORE, 3)
    assert files.CHUNK_NAME.fullmatch(writer.name)
    assert writer.name.startswith("000003-")
    is_new = [writer.is_new]
    rows = pa.py_buffer(stream(BATCH))
    bodies: list[Buffer] = [b"one", bytearray(b""), memoryview(b"three")]
    writer.write(bodies, HEADER_SIZE + 8, rows)
    start = align(HEADER_SIZE + 8)
    trailer = link(
        1,
        NO_COMMIT,
        bodies_end=HEADER_SIZE + 8,
        table_start=start,
        table_end=start + rows.size,
        table_crc=zlib.crc32(rows),
        records=BATCH.num_rows,
    ).trailer
    writer.write_trailer(trailer)
    writer.committed(trailer)
    assert [*is_new, writer.is_new] == [True, False]
    assert writer.actual_size() == writer.size == trailer.end
    reader = ChunkReader(root)
    assert reader.header(writer.name) == Header(STORE, writer.chunk)
    (found,) = chain.walk(reader, writer.name, writer.chunk).links
    assert found.trailer == trailer
    assert reader.read(writer.name, HEADER_SIZE, 8) == b"onethree"
    assert reader.table(writer.name, trailer).equals(BATCH)
    wrong = dataclasses.replace(trailer, table_crc=trailer.table_crc ^ 1)
    with pytest.raises(CorruptChunkError, match="segment table"):
        reader.table(writer.name, wrong)

    writer.write([b"never committed"], trailer.end + 15, rows)
    writer.discard()
    assert writer.actual_size() == trailer.end
    writer.abandon()
    writer.close()  # twice is well
    assert (root / "chunks" / writer.name).exists()
    reader.close()


def test_bodies_and_table_must_agree(root: Path) -> None:
    writer = ChunkWriter.create(root, STORE, 0)
    with pytest.raises(CorruptChunkError, match="disagree"):
        writer.write([b"four"], HEADER_SIZE + 5, pa.py_buffer(b""))
    writer.abandon()
    assert not (root / "chunks" / writer.name).exists()


def test_a_chunk_is_continued_by_one_writer_of_its_store(root: Path) -> None:
    first = ChunkWriter.create(root, STORE, 0)
    assert ChunkWriter.resume(root, STORE, first.name) is None  # it is being written
    first.close()
    assert ChunkWriter.resume(root, uuid.UUID(int=9), first.name) is None  # another store
    second = ChunkWriter.resume(root, STORE, first.name)
    assert second is not None
    assert second.chunk == first.chunk
    assert ChunkWriter.resume(root, STORE, first.name) is None
    second.close()
    (root / "chunks" / first.name).write_bytes(b"cut short")
    assert ChunkWriter.resume(root, STORE, first.name) is None
    assert open_chunks(root) == 0


def test_a_chunk_that_cannot_be_begun_leaves_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(StoreFullError):
        ChunkWriter.create(root, STORE, 0)
    assert list((root / "chunks").iterdir()) == []
    assert open_chunks(root) == 0


# System calls


class ShortWrites:
    """A `pwritev` that writes at most some bytes at once, as a full disk or a signal may cause."""

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self.calls = 0

    def __call__(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
        self.calls += 1
        data = b"".join(bytes(buffer) for buffer in buffers)
        return os.pwrite(descriptor, data[: self._most()], offset)


@settings(deadline=None)
@given(
    buffers=st.lists(st.binary(max_size=40), max_size=30),
    most=st.integers(1, 60),
    offset=st.integers(0, 100),
)
def test_short_writes_are_continued(
    tmp_path_factory: pytest.TempPathFactory, buffers: list[bytes], most: int, offset: int
) -> None:
    path = tmp_path_factory.mktemp("short") / "file"
    descriptor = files.create_exclusively(path)
    given_buffers: list[Buffer] = [
        (bytes, bytearray, memoryview)[number % 3](buffer) for number, buffer in enumerate(buffers)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwritev", ShortWrites(lambda: most))
        end = files.write_at(descriptor, offset, iter(given_buffers), path)
    files.close(descriptor)
    expected = b"".join(buffers)
    assert end == offset + len(expected)
    assert path.read_bytes()[offset:] == expected


def test_more_buffers_than_the_system_takes_at_once_are_written(tmp_path: Path) -> None:
    descriptor = files.create_exclusively(tmp_path / "file")
    buffers = [b"%d," % number for number in range(5000)]
    end = files.write_at(descriptor, 3, buffers, tmp_path / "file")
    assert files.size_of(descriptor) == end
    assert files.read_exactly(descriptor, 3, end - 3, "file") == b"".join(buffers)
    files.close(descriptor)


def test_short_reads_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)))
    pread = os.pread
    descriptor = files.open_to_read(path)
    monkeypatch.setattr(os, "pread", lambda d, length, offset: pread(d, min(length, 7), offset))
    assert files.read_exactly(descriptor, 10, 200, "file") == bytes(range(10, 210))
    with pytest.raises(TruncatedChunkError, match="ends at byte 256, 201 bytes"):
        files.read_exactly(descriptor, 56, 201, "file")
    files.close(descriptor)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_an_error_of_its_own(code: int) -> None:
    with (
        pytest.raises(StoreFullError, match=r"cannot write some/file.*free some space") as caught,
        files.storage_errors("write", "some/file"),
    ):
        raise OSError(code, "as the system says")
    assert caught.value.errno == code
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ENOENT, errno.ESTALE, None])
def test_other_refusals_keep_their_number(code: int | None) -> None:
    with (
        pytest.raises(StorageError, match="cannot sync some/file") as caught,
        files.storage_errors("sync", Path("some/file")),
    ):
        raise OSError(code, "as the system says") if code else OSError("no number")
    assert type(caught.value) is StorageError
    assert caught.value.errno == code
    assert "free some space" not in str(caught.value)


def test_errors_that_are_ours_already_and_others_pass_through() -> None:
    ours = StoreFullError("said already")
    with pytest.raises(StoreFullError) as caught, files.storage_errors("write", "other"):
        raise ours
    assert caught.value is ours
    with pytest.raises(ZeroDivisionError), files.storage_errors("write", "other"):
        raise ZeroDivisionError


CALLS: Final[dict[str, tuple[str, Callable[[int, Path], object]]]] = {
    "pwritev": ("write", lambda d, path: files.write_at(d, 0, [b"x"], path)),
    "pread": ("read", lambda d, path: files.read_exactly(d, 0, 1, str(path))),
    "ftruncate": ("truncate", lambda d, path: files.truncate(d, 0, path)),
    "fdatasync": ("sync", lambda d, path: files.sync_data(d, path)),
    "fsync": ("sync", lambda d, path: files.sync_file(d, path)),
    "scandir": ("list", lambda _, path: files.chunk_names(path)),
    "open": ("create", lambda _, path: files.create_exclusively(path)),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_every_call_maps_what_the_system_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    path = tmp_path / "file"
    descriptor = files.create_exclusively(path)

    def refuse(*_: object, **__: object) -> int:
        raise OSError(code, "refused")

    what, use = CALLS[call]
    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        kind = StoreFullError if code == errno.ENOSPC else StorageError
        with pytest.raises(kind, match=f"cannot {what}") as caught:
            use(descriptor, path)
    assert caught.value.errno == code
    files.close(descriptor)


def test_a_file_that_is_there_is_not_created(tmp_path: Path) -> None:
    files.close(files.create_exclusively(tmp_path / "file"))
    with pytest.raises(StorageError) as caught:
        files.create_exclusively(tmp_path / "file")
    assert caught.value.errno == errno.EEXIST


@pytest.mark.parametrize(
    "name",
    [
        "",
        "000000-00000000.chunk ",
        "../000000-00000000.chunk",
        "00000-00000000.chunk",
        "000000-0000000G.chunk",
        "000000-00000000.chunk\n",
        "/etc/passwd",
    ],
)
def test_names_that_are_not_of_chunks_are_refused(root: Path, name: str) -> None:
    with pytest.raises(MissingChunkError, match="not the name of a chunk"):
        files.chunk_path(root, name)
    with pytest.raises(MissingChunkError):
        files.chunk_size(root, name)
    reader = ChunkReader(root)
    with pytest.raises(MissingChunkError):
        reader.read(name, 0, 1)
    reader.close()


def test_only_files_with_names_of_chunks_are_chunks(root: Path) -> None:
    folder = root / "chunks"
    (folder / "000001-00000000.chunk").write_bytes(b"")
    (folder / "9999999999-ffffffff.chunk").write_bytes(b"12")
    (folder / "notes.txt").write_bytes(b"")
    (folder / "000002-00000000.chunk").mkdir()
    (folder / "000003-00000000.chunk").symlink_to(folder / "notes.txt")
    assert files.chunk_names(root) == ["000001-00000000.chunk", "9999999999-ffffffff.chunk"]
    assert files.chunk_size(root, "9999999999-ffffffff.chunk") == 2
    assert files.chunk_size(root, "000009-00000000.chunk") is None


def test_what_is_no_folder_of_a_store_is_said(root: Path) -> None:
    files.check_has_chunks(root)
    with pytest.raises(StoreNotFoundError):
        files.check_has_chunks(root / "nowhere")
    with pytest.raises(NotAStoreError):
        files.check_has_chunks(root / "chunks")


def test_a_link_in_the_place_of_a_chunk_is_not_followed(root: Path) -> None:
    (root / "secret").write_bytes(b"secret")
    name = "000000-00000000.chunk"
    (root / "chunks" / name).symlink_to(root / "secret")
    with pytest.raises((StorageError, CorruptChunkError)):
        files.open_to_read(root / "chunks" / name)
    with pytest.raises(StorageError):
        files.open_to_append(root / "chunks" / name)


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    descriptor = files.create_exclusively(tmp_path / "file")
    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(StorageError, match="must support flock"):
        files.try_lock(descriptor, tmp_path / "file")
    files.close(descriptor)


# The lock of the writers


@pytest.fixture
def writer_lock(root: Path) -> Iterator[lock.WriterLock]:
    held = lock.WriterLock(root)
    yield held
    held.close()


def test_one_holds_the_lock_at_a_time(
    root: Path, writer_lock: lock.WriterLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOCK_SECONDS", 0.01)
    other = lock.WriterLock(root)
    with (
        writer_lock.held(),
        pytest.raises(StoreBusyError, match="held"),
        other.held(),
    ):
        pass
    with other.held():
        pass
    other.close()
    other.close()


def test_the_lock_ends_with_an_exception(writer_lock: lock.WriterLock) -> None:
    with pytest.raises(ZeroDivisionError), writer_lock.held():
        raise ZeroDivisionError
    with writer_lock.held():
        pass


HOLD: Final = """
import sys
from pathlib import Path
from sqlstore.log.lock import WriterLock
held = WriterLock(Path(sys.argv[1]))
with held.held():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_ends_with_its_owner(
    root: Path, writer_lock: lock.WriterLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience = limits.LOCK_SECONDS
    owner = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"held\n"
        monkeypatch.setattr(limits, "LOCK_SECONDS", 0)
        with pytest.raises(StoreBusyError), writer_lock.held():
            pass
        monkeypatch.setattr(limits, "LOCK_SECONDS", patience)
        owner.kill()
    with writer_lock.held():
        pass


def test_what_is_pending_is_named_and_cleared(root: Path, writer_lock: lock.WriterLock) -> None:
    assert writer_lock.text() == lock.LockText(None, 0)
    pending = lock.Pending("000001-00000000.chunk", 2**31, 2**63)
    writer_lock.name_pending(pending)
    other = lock.WriterLock(root)
    assert other.text() == lock.LockText(pending, 2**63 - 1)
    other.clear_pending(2**63)
    assert writer_lock.text() == lock.LockText(None, 2**63)
    other.close()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\0" * 512,
        b"{",
        b"[]",
        b"7",
        b'"pending"',
        b'{"pending": 7}',
        b'{"pending": {}}',
        b'{"pending": {"chunk": "000001-00000000.chunk", "offset": "x", "commit": 1}, "last": 0}',
        b'{"pending": {"chunk": "../secret", "offset": 1, "commit": 1}, "last": 0}',
        b"\xff\xfe",
        b"[" * 512,
    ],
)
def test_text_that_makes_no_sense_names_nothing(
    root: Path, writer_lock: lock.WriterLock, text: bytes
) -> None:
    (root / "writer.lock").write_bytes(text)
    assert writer_lock.text() == lock.LockText(None, 0)


def test_a_lock_that_cannot_be_made_says_why(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for code, kind in (
        (errno.EROFS, ReadOnlyError),
        (errno.EACCES, ReadOnlyError),
        (errno.ENOSPC, StoreFullError),
        (errno.EIO, StorageError),
    ):

        def refuse(*_: object, code: int = code) -> int:
            raise OSError(code, "refused")

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", refuse)
            with pytest.raises(kind):
                lock.WriterLock(root)
