"""Damage: what is read is what was written, or an error that says where it is not.

``SQLSTORE_STRIDE=1 pytest tests/test_damage.py`` tries every byte of every chunk in every way;
``SQLSTORE_SEED`` repeats a run.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pytest

import sqlstore
from sqlstore import (
    ChecksumError,
    CorruptChunkError,
    CorruptStoreError,
    Field,
    KiB,
    MissingChunkError,
    RecordNotFoundError,
    SqlstoreError,
    Store,
    TruncatedChunkError,
    verify,
)
from sqlstore.log import chain, table
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import HEADER_SIZE, TRAILER_SIZE, CommitKind

FIELDS: Final = {
    "blob": Field("bytes", None),
    "text": Field("utf8", "lz4"),
    "grid": Field("array", "zstd"),
    "image": Field("png", "gzip"),
}
COLUMNS: Final = {"label": "string", "score": "float64"}
PARTS: Final = 8  # the offsets of a chunk are dealt out to as many tests, for as many processes
STRIDE: Final = int(os.environ.get("SQLSTORE_STRIDE", "48"))
"""Every so many bytes of a table are tried when reading, and of all bytes by `verify`.

`make fuzz` flips every bit.
"""
EDGE: Final = 16
"""So many bytes at both ends of a table count as outside of it."""
SEED: Final = int(os.environ.get("SQLSTORE_SEED", str(random.SystemRandom().getrandbits(32))))
PHASE: Final = SEED % STRIDE
OUTSIDE: Final = max(1, STRIDE // 8)
"""Every so many bytes outside of tables are tried when reading."""


def record(number: int) -> dict[str, Any]:
    return {
        "blob": bytes([number]) * (3 + number) if number != 2 else None,
        "text": f"{number} bottles, " * 6,
        "grid": np.full((4, 5), number, np.int32),
        "image": np.full((8, 8), number, np.uint8),
        "label": None if number == 1 else f"label {number}",
        "score": number / 3,
    }


COMMITS: Final = (2, 1, 1)
RECORDS: Final = [record(number) for number in range(sum(COMMITS))]


def make(root: Path, chunk_size: int = 8 * KiB) -> None:
    """Make a store of a few KiB: three appends, two chunks, every encoding and compression."""
    with sqlstore.create(root, fields=FIELDS, metadata=COLUMNS, chunk_size=chunk_size) as store:
        start = 0
        for count in COMMITS:
            store.extend(RECORDS[start : start + count])
            start += count


@dataclass(frozen=True)
class Span:
    """Some bytes of a chunk, and what is lost when one of them changes.

    `record` and `field` are set for the bytes of a value; `records` are those that cannot be read.
    """

    start: int
    end: int
    offset: int
    record: int | None
    field: str | None
    records: range

    @property
    def is_table(self) -> bool:
        return self.field is None and self.end - self.start > max(HEADER_SIZE, TRAILER_SIZE)


@dataclass(frozen=True)
class Kept:
    """An intact store, what is in it, and what its bytes are."""

    root: Path
    raw: dict[tuple[int, str], bytes | None]
    metadata: pa.Table
    spans: dict[str, list[Span]]

    @property
    def chunks(self) -> list[str]:
        return sorted(self.spans)

    def path(self, chunk: str) -> Path:
        return self.root / "chunks" / chunk


def spans_of(root: Path) -> dict[str, list[Span]]:
    """Return what all bytes of all chunks are, in order and without gaps."""
    reader = ChunkReader(root)
    found: dict[str, list[Span]] = {}
    numbers = {name: number for number, name in enumerate(FIELDS)}
    for path in (root / "chunks").iterdir():
        name = path.name
        spans = found[name] = [Span(0, HEADER_SIZE, 0, None, None, range(0))]
        for link in chain.walk(reader, name, reader.header(name).chunk).links:
            trailer = link.trailer
            batch = reader.table(name, trailer)
            lost = range(trailer.first_record, trailer.first_record + trailer.records)
            if trailer.kind == CommitKind.APPEND:
                for field, number in numbers.items():
                    values = table.parse_values(batch, number)
                    for row in np.flatnonzero(values.present).tolist():
                        start = int(values.offset[row])
                        end = start + int(values.length[row])
                        of = lost[row]
                        spans.append(Span(start, end, start, of, field, range(of, of + 1)))
            gap, rows, end = trailer.bodies_end, trailer.table_start, trailer.table_end
            spans.append(Span(gap, rows, gap, None, None, range(0)))
            spans.append(Span(rows, end, rows, None, None, lost))
            spans.append(Span(end, end + TRAILER_SIZE, end, None, None, lost))
        spans[:] = sorted((s for s in spans if s.end > s.start), key=lambda s: s.start)
    reader.close()
    return found


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    root = tmp_path_factory.mktemp("damage") / "store"
    make(root)
    with sqlstore.open(root) as store:
        raw = {(i, name): store.raw(i, name) for i in range(len(store)) for name in FIELDS}
        metadata = store.to_arrow()
        assert store.verify()
    return Kept(root, raw, metadata, spans_of(root))


@pytest.fixture
def copy(kept: Kept, tmp_path: Path) -> Kept:
    """Return a copy of the intact store that a test may damage for good."""
    root = tmp_path / "store"
    shutil.copytree(kept.root, root)
    return Kept(root, kept.raw, kept.metadata, kept.spans)


def same(found: object, expected: object) -> bool:
    if isinstance(expected, np.ndarray):
        return np.array_equal(np.asarray(found), expected)
    return found == expected


def check_is_located(error: SqlstoreError) -> None:
    where = error.where
    assert "record" in where or "chunk" in where, error
    assert str(where.get("record", where.get("chunk"))) in str(error)


class Reading:
    """Reads everything in a store that may be damaged, and keeps the errors.

    Whatever is read is compared with what was written, so wrong bytes fail here; an error that is
    not of damage is not caught.
    """

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self.raw: dict[tuple[int, str], SqlstoreError] = {}
        self.records: dict[int, SqlstoreError] = {}
        self.metadata: SqlstoreError | None = None

    def read(self, store: Store) -> None:
        try:
            found = list(store)  # all at once, which is faster where it can be done
        except CorruptStoreError:
            found = []
        if len(found) == len(RECORDS):
            for number, entry in enumerate(found):
                self._compare(number, entry)
        else:
            self._read_one_by_one(store)
        for number in range(len(RECORDS)):
            if not isinstance(self.records.get(number), RecordNotFoundError):
                self._read_raw(store, number)
        try:
            metadata = store.to_arrow()
        except CorruptStoreError as error:
            self.metadata = error
        else:
            assert metadata.equals(self._kept.metadata.slice(0, metadata.num_rows))

    def _read_one_by_one(self, store: Store) -> None:
        for number in range(len(RECORDS)):
            try:
                found = store.get(number)
            except CorruptStoreError as error:
                self.records[number] = error
            else:
                self._compare(number, found)

    def _compare(self, number: int, found: dict[str, Any]) -> None:
        for name, value in RECORDS[number].items():
            assert same(found[name], value), (number, name)

    def _read_raw(self, store: Store, number: int) -> None:
        for name in FIELDS:
            try:
                assert store.raw(number, name) == self._kept.raw[number, name], (number, name)
            except CorruptStoreError as error:
                self.raw[number, name] = error

    @property
    def errors(self) -> list[SqlstoreError]:
        metadata = [] if self.metadata is None else [self.metadata]
        return [*self.raw.values(), *self.records.values(), *metadata]


Io: TypeAlias = Literal["mmap", "pread", "memory"]
IOS: Final[tuple[Io, ...]] = ("mmap", "pread", "memory")


def read(kept: Kept, io: Io = "mmap", *, with_cache: bool = False) -> Reading:
    """Open a store whose chunks are damaged anew and read everything."""
    if not with_cache:
        shutil.rmtree(kept.root / "cache", ignore_errors=True)
    reading = Reading(kept)
    with sqlstore.open(kept.root, io=io) as store:
        assert len(store) == len(RECORDS)
        reading.read(store)
    for error in reading.errors:
        check_is_located(error)
    return reading


@contextlib.contextmanager
def flipped(path: Path, offset: int, mask: int) -> Iterator[None]:
    """Change one byte of a chunk file inside the block."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        good = os.pread(descriptor, 1, offset)
        os.pwrite(descriptor, bytes([good[0] ^ mask]), offset)
        try:
            yield
        except BaseException as error:
            error.add_note(f"byte {offset} of {path.name} XOR {mask:#x}, SQLSTORE_SEED={SEED}")
            raise
        finally:
            os.pwrite(descriptor, good, offset)
    finally:
        os.close(descriptor)


def span_at(spans: list[Span], offset: int) -> Span:
    return next(span for span in spans if span.start <= offset < span.end)


def test_spans_cover_every_byte(kept: Kept) -> None:
    assert len(kept.spans) == 2
    for name, spans in kept.spans.items():
        assert spans[0].start == 0
        assert spans[-1].end == kept.path(name).stat().st_size
        assert all(one.end == other.start for one, other in pairwise(spans))
    bodies = {(s.record, s.field) for spans in kept.spans.values() for s in spans if s.field}
    assert bodies == {key for key, value in kept.raw.items() if value is not None}
    appends = [i for spans in kept.spans.values() for s in spans if s.is_table for i in s.records]
    assert sorted(appends) == list(range(len(RECORDS)))


def tried(spans: list[Span]) -> list[int]:
    """Return the offsets to damage, fewer of those inside tables.

    Tables are nine tenths of these chunks, and each is checked as a whole before any of it is used.
    """

    def is_inside(span: Span, offset: int) -> bool:
        return span.is_table and min(offset - span.start, span.end - 1 - offset) >= EDGE

    return [
        offset
        for span in spans
        for offset in range(span.start, span.end)
        if (offset - PHASE) % (STRIDE if is_inside(span, offset) else OUTSIDE) == 0
    ]


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("chunk", [0, 1])
def test_any_flipped_byte_is_noticed_where_it_is_read(kept: Kept, chunk: int, part: int) -> None:
    name = kept.chunks[chunk]
    spans = kept.spans[name]
    masks = random.Random(SEED + part)
    for number, offset in enumerate(tried(spans)[part::PARTS]):
        span = span_at(spans, offset)
        with flipped(kept.path(name), offset, masks.randrange(1, 256)):
            found = read(kept, IOS[number % 3])
            if span.field is not None and span.record is not None:
                # One value is lost and nothing beside it: the metadata can still be had.
                assert found.raw.keys() == {(span.record, span.field)}
                assert found.records.keys() == {span.record}
                assert found.metadata is None
                expected = {"record": span.record, "field": span.field, "chunk": name}
                for error in found.errors:
                    assert isinstance(error, ChecksumError)
                    assert error.where == {**expected, "offset": span.start}
            else:
                lost = set(span.records)
                assert found.raw.keys() == {key for key in kept.raw if key[0] in lost}
                assert found.records.keys() == lost
                assert (found.metadata is not None) == bool(lost)
                for error in found.errors:
                    assert isinstance(error, CorruptChunkError)
                    assert error.where["chunk"] == name
                    assert error.where["offset"] == span.offset


@pytest.mark.parametrize("chunk", [0, 1])
def test_with_a_cache_only_flipped_values_are_lost(copy: Kept, chunk: int) -> None:
    name = copy.chunks[chunk]
    assert not read(copy).errors
    for number, offset in enumerate(range(PHASE, copy.spans[name][-1].end, STRIDE)):
        span = span_at(copy.spans[name], offset)
        with flipped(copy.path(name), offset, 1 << number % 8):
            found = read(copy, IOS[number % 3], with_cache=True)
        assert found.raw.keys() == ({(span.record, span.field)} if span.field else set())
        assert found.metadata is None


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("chunk", [0, 1])
def test_verify_names_any_flipped_byte(kept: Kept, chunk: int, part: int) -> None:
    name = kept.chunks[chunk]
    spans = kept.spans[name]
    masks = random.Random(SEED + part)
    for offset in range(PHASE, spans[-1].end, STRIDE)[part::PARTS]:
        span = span_at(spans, offset)
        with flipped(kept.path(name), offset, masks.randrange(1, 256)):
            report = verify(kept.root)
            assert not report
            places = [(f.record, f.field, f.chunk, f.offset) for f in report.faults]
            assert (span.record, span.field, name, span.offset) in places, str(report)


# Whole files


def cuts(spans: list[Span]) -> list[int]:
    """Return where to cut a chunk: at the borders of its parts, beside them, and inside."""
    end = spans[-1].end
    lengths = {0, 1, HEADER_SIZE - 1, end - 1, end - 4, end - TRAILER_SIZE - 1}
    for span in spans:
        lengths |= {span.start, span.start + 1, (span.start + span.end) // 2}
    return sorted(lengths)


@pytest.mark.parametrize("chunk", [0, 1])
def test_a_chunk_cut_short_loses_what_lay_behind_the_cut_and_nothing_else(
    copy: Kept, chunk: int
) -> None:
    name = copy.chunks[chunk]
    spans = copy.spans[name]
    good = copy.path(name).read_bytes()
    ends = [span.end for span in spans if span.end - span.start == TRAILER_SIZE]
    for length in cuts(spans):
        copy.path(name).write_bytes(good[:length])
        found = read(copy)
        whole = [end for end in ends if end <= length]
        lost = {i for s in spans if s.start >= (whole or [HEADER_SIZE])[-1] for i in s.records}
        assert found.records.keys() == lost, length
        report = verify(copy.root)
        assert not report
        assert any(f.chunk == name and f.offset == length for f in report.faults), str(report)
    copy.path(name).write_bytes(good)
    assert verify(copy.root)


def test_a_chunk_cut_while_it_is_open_gives_errors(copy: Kept) -> None:
    name = copy.chunks[1]
    with sqlstore.open(copy.root, io="pread") as store:
        reading = Reading(copy)
        reading.read(store)
        assert not reading.errors
        os.truncate(copy.path(name), HEADER_SIZE)
        reading.read(store)
    lost = {i for span in copy.spans[name] for i in span.records}
    assert reading.records.keys() == lost
    assert all(isinstance(error, TruncatedChunkError) for error in reading.errors)


def remove(kept: Kept, name: str, aside: Path) -> None:
    kept.path(name).unlink()


def replace_by_folder(kept: Kept, name: str, aside: Path) -> None:
    kept.path(name).unlink()
    kept.path(name).mkdir()


def replace_by_link(kept: Kept, name: str, aside: Path) -> None:
    kept.path(name).rename(aside / "chunk")
    kept.path(name).symlink_to(aside / "chunk")


def replace_by_empty_file(kept: Kept, name: str, aside: Path) -> None:
    kept.path(name).write_bytes(b"")


def replace_by_zeros(kept: Kept, name: str, aside: Path) -> None:
    kept.path(name).write_bytes(bytes(kept.path(name).stat().st_size))


def replace_by_another_stores(kept: Kept, name: str, aside: Path) -> None:
    make(aside / "other")
    others = sorted((aside / "other" / "chunks").iterdir())
    shutil.copyfile(others[kept.chunks.index(name)], kept.path(name))


def swap(kept: Kept, name: str, aside: Path) -> None:
    one, other = map(kept.path, kept.chunks)
    one.rename(aside / "one")
    other.rename(one)
    (aside / "one").rename(other)


REPLACEMENTS: Final[list[Callable[[Kept, str, Path], None]]] = [
    remove,
    replace_by_folder,
    replace_by_link,
    replace_by_empty_file,
    replace_by_zeros,
    replace_by_another_stores,
    swap,
]


@pytest.mark.parametrize("replace", REPLACEMENTS)
@pytest.mark.parametrize("chunk", [0, 1])
def test_a_chunk_that_is_not_there_gives_errors(
    copy: Kept, tmp_path: Path, chunk: int, replace: Callable[[Kept, str, Path], None]
) -> None:
    name = copy.chunks[chunk]
    replace(copy, name, tmp_path)
    gone = set(copy.chunks) if replace is swap else {name}
    lost = {i for one in gone for span in copy.spans[one] for i in span.records}
    found = read(copy)
    assert found.records.keys() == lost
    assert found.raw.keys() == {key for key in copy.raw if key[0] in lost}
    assert found.metadata is not None
    assert all(error.where["chunk"] in gone for error in found.errors)
    if replace is remove:
        assert all(isinstance(error, MissingChunkError) for error in found.errors)
    report = verify(copy.root)
    assert gone <= {fault.chunk for fault in report.faults}, str(report)


def test_a_missing_folder_of_chunks_is_no_store(copy: Kept) -> None:
    shutil.rmtree(copy.root / "chunks")
    with pytest.raises(sqlstore.NotAStoreError):
        sqlstore.open(copy.root)


def garbage(kept: Kept, name: str) -> dict[str, bytes]:
    good = kept.path(name).read_bytes()
    return {
        "a byte": b"\0",
        "a line of text": b"hello\n",
        "almost a trailer": bytes(TRAILER_SIZE - 1),
        "zeros": bytes(5000),
        "noise": random.Random(0).randbytes(777),
        "a copy of the last trailer": good[-TRAILER_SIZE:],
        "copies of trailers": good[-TRAILER_SIZE:] * 9,
        "a copy of the whole chunk": good,
    }


@pytest.mark.parametrize("chunk", [0, 1])
def test_bytes_behind_a_chunk_are_a_note_and_no_fault(copy: Kept, chunk: int) -> None:
    name = copy.chunks[chunk]
    good = copy.path(name).read_bytes()
    for what, more in garbage(copy, name).items():
        copy.path(name).write_bytes(good + more)
        assert not read(copy).errors, what
        report = verify(copy.root)
        assert report, f"{what}: {report}"
        assert len(report.notes) == 1
        assert name in report.notes[0]
        assert f" {len(more)} bytes" in report.notes[0]


def test_nothing_is_written_behind_garbage(copy: Kept) -> None:
    name = copy.chunks[1]
    with copy.path(name).open("ab") as file:
        file.write(b"not ours")
    before = copy.path(name).read_bytes()
    with sqlstore.open(copy.root, mode="a") as store:
        store.extend([record(7)])
        assert store[len(RECORDS)]["label"] == "label 7"
        assert store.verify()
    assert copy.path(name).read_bytes() == before


def test_damage_that_is_mended_is_forgotten(copy: Kept) -> None:
    name = copy.chunks[1]
    span = next(span for span in copy.spans[name] if span.field == "grid")
    with sqlstore.open(copy.root) as store:
        with flipped(copy.path(name), span.start, 1), pytest.raises(ChecksumError):
            store.raw(span.record or 0, "grid")
        assert store.raw(span.record or 0, "grid") == copy.raw[span.record or 0, "grid"]


def test_damaged_records_can_be_left_out(copy: Kept) -> None:
    name = copy.chunks[1]
    span = next(span for span in copy.spans[name] if span.field == "grid")
    lost = span.record or 0
    with flipped(copy.path(name), span.start, 1), sqlstore.open(copy.root) as store:
        everything = slice(None)
        with pytest.raises(ChecksumError):
            store.fetch(everything)
        found = store.select("id", "grid").fetch(everything, on_damage="skip")
        assert [one["id"] for one in found] == [i for i in range(len(RECORDS)) if i != lost]
        assert all(same(one["grid"], RECORDS[one["id"]]["grid"]) for one in found)
        assert (
            store.select("text").fetch([lost, lost], on_damage="skip")
            == [{"text": RECORDS[lost]["text"]}] * 2
        )
        joined = sqlstore.concat([store, store]).fetch(everything, on_damage="skip")
        assert len(joined) == 2 * (len(RECORDS) - 1)
        with pytest.raises(ValueError, match="on_damage"):
            store.fetch(everything, on_damage="ignore")  # type: ignore[arg-type]
        with pytest.raises(IndexError):
            store.fetch([99], on_damage="skip")
