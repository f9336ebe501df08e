"""The bytes of chunks: when they are checked, what else is wrong with them, how they are read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sqlstore
from sqlstore import (
    ChecksumError,
    CorruptChunkError,
    Field,
    TruncatedChunkError,
    View,
    limits,
)
from sqlstore.log.reader import ChunkReader

Io: TypeAlias = Literal["mmap", "pread", "memory"]
Verify: TypeAlias = Literal["once", "always", "never"]
IOS: Final[tuple[Io, ...]] = ("mmap", "pread", "memory")
COUNT: Final = 60


def plain(record: int) -> bytes:
    return b"%04d" % record * 25


def packed(record: int) -> bytes:
    return b"%04d" % record * 250


def make(root: Path) -> Path:
    """Make a store with one chunk, which holds 100 bytes of each record back to back."""
    fields = {"plain": Field("bytes", None), "packed": Field("bytes", "lz4")}
    with sqlstore.create(root, fields=fields) as store:
        store.extend({"plain": plain(i), "packed": packed(i)} for i in range(COUNT))
    return root


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("bytes") / "store")


@pytest.fixture
def root(kept: Path, tmp_path: Path) -> Path:
    """Return a copy of that store, which may be damaged."""
    return Path(shutil.copytree(kept, tmp_path / "store"))


def places(root: Path, field: str) -> list[tuple[Path, int]]:
    """Return the files and offsets at which the values of a field lie."""
    with sqlstore.open(root) as store:
        sql = "SELECT file, offset FROM record_locations WHERE field = :field ORDER BY record"
        found = store.sql(sql, field=field).to_pylist()
    return [(root / one["file"], one["offset"]) for one in found]


def flip(place: tuple[Path, int]) -> None:
    """Change the first byte of a value."""
    path, offset = place
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def flipped(value: bytes) -> bytes:
    return bytes([value[0] ^ 1]) + value[1:]


# When they are checked

Read: TypeAlias = Callable[[View, int, str], Any]


def read_file(view: View, record: int, field: str) -> bytes:
    with view.open(record, field) as file:
        return file.read()


READS: Final[dict[str, Read]] = {
    "raw": lambda view, record, field: view.raw(record, field),
    "record": lambda view, record, field: view.select(field)[record][field],
    "fetch": lambda view, record, field: view.select(field).fetch([record, record])[1][field],
    "blobs": lambda view, record, field: view.blobs(field, [record])[0].as_py(),
    "views": lambda view, record, field: view.blobs(field, [record], copy=False)[0].as_py(),
    "batch": lambda view, record, field: list(view.batches(1))[record].blobs(field)[0].as_py(),
    "file": read_file,
}
PAIRS: Final = [(one, other) for one in READS for other in READS]


@pytest.mark.parametrize("verify", ["once", "always", "never"])
@pytest.mark.parametrize("how", IOS)
def test_damage_that_comes_later_is_noticed_by_always(root: Path, how: Io, verify: Verify) -> None:
    with sqlstore.open(root, io=how, verify=verify) as store:
        for record, (one, _) in enumerate(PAIRS):
            assert READS[one](store, record, "plain") == plain(record), one
        for place in places(root, "plain"):
            flip(place)
        for record, (one, other) in enumerate(PAIRS):
            if how == "memory":
                assert READS[other](store, record, "plain") == plain(record), (one, other)
            elif verify == "always":
                with pytest.raises(ChecksumError) as caught:
                    READS[other](store, record, "plain")
                assert caught.value.where["record"] == record, (one, other)
            else:
                assert READS[other](store, record, "plain") == flipped(plain(record)), (one, other)


@pytest.mark.parametrize("verify", ["once", "always", "never"])
@pytest.mark.parametrize("how", IOS)
def test_damage_is_noticed_at_the_first_read_unless_never(
    root: Path, how: Io, verify: Verify
) -> None:
    where = {field: places(root, field) for field in ("plain", "packed")}
    for field, path_and_offset in where.items():
        for place in path_and_offset[1::2]:
            flip(place)
        with sqlstore.open(root, io=how, verify=verify) as store:
            for number, (name, read) in enumerate(READS.items()):
                record = 2 * number + 1
                if verify == "never":
                    if field == "plain":
                        assert read(store, record, field) == flipped(plain(record)), name
                    continue
                path, offset = path_and_offset[record]
                expected = {"record": record, "field": field, "chunk": path.name, "offset": offset}
                for _ in range(2):
                    with pytest.raises(ChecksumError) as caught:
                        read(store, record, field)
                    assert caught.value.where == expected, name


@pytest.mark.parametrize("how", IOS)
def test_a_batch_names_the_record_that_is_damaged(root: Path, how: Io) -> None:
    flip(places(root, "plain")[7])
    with sqlstore.open(root, io=how) as store:
        for _ in range(2):
            for copy in (True, False):
                with pytest.raises(ChecksumError) as caught:
                    store.blobs("plain", [3, 9, 7, 1], copy=copy)
                assert caught.value.where["record"] == 7
        assert store.blobs("plain", [3, 9, 1]).to_pylist() == [plain(i) for i in (3, 9, 1)]


def test_what_was_checked_is_checked_again_after_a_refresh(root: Path) -> None:
    with sqlstore.open(root, "a") as store, sqlstore.open(root) as other:
        for one in (store, other):
            view = one[10:]
            assert view.raw(0, "plain") == plain(10)
            assert view.blobs("plain", [1])[0].as_py() == plain(11)
        flip(places(root, "plain")[10])
        flip(places(root, "plain")[11])
        for one in (store, other):
            assert one.raw(11, "plain") == flipped(plain(11))
            assert one[10:].blobs("plain", [0])[0].as_py() == flipped(plain(10))
        store.extend([{"plain": plain(COUNT), "packed": b""}])
        other.refresh()
        for one in (store, other):
            assert one.raw(COUNT, "plain") == plain(COUNT)
            with pytest.raises(ChecksumError):
                one.raw(11, "plain")
    with sqlstore.open(root) as anew, pytest.raises(ChecksumError):
        anew.raw(11, "plain")


# What becomes shorter and longer


@pytest.mark.parametrize("how", IOS)
def test_a_file_found_too_short_is_an_error(root: Path, how: Io) -> None:
    path, offset = places(root, "plain")[30]
    os.truncate(path, offset + 5)
    with sqlstore.open(root, io=how) as store:
        for _ in range(2):
            assert store.raw(29, "plain") == plain(29)
            assert store.blobs("plain", [29, 0]).to_pylist() == [plain(29), plain(0)]
            for name, read in READS.items():
                with pytest.raises(TruncatedChunkError) as caught:
                    read(store, 30, "plain")
                assert caught.value.where["record"] == 30, name
                assert caught.value.where["chunk"] == path.name, name
            with pytest.raises(TruncatedChunkError) as caught:
                store.blobs("plain", [29, 40, 3])
            assert caught.value.where["record"] == 40


@pytest.mark.parametrize("how", IOS)
def test_a_chunk_of_another_store_is_refused_each_time(root: Path, tmp_path: Path, how: Io) -> None:
    (chunk,) = (root / "chunks").iterdir()
    (other,) = (make(tmp_path / "other") / "chunks").iterdir()
    shutil.copyfile(other, chunk)
    for verify in ("once", "never"):
        with sqlstore.open(root, io=how, verify=verify) as store:
            for name, read in [*READS.items()] * 2:
                with pytest.raises(CorruptChunkError, match="another place or store"):
                    print(name, read(store, 30, "plain"))


@pytest.mark.parametrize("how", IOS)
def test_a_damaged_header_loses_no_value(root: Path, how: Io) -> None:
    (chunk,) = (root / "chunks").iterdir()
    flip((chunk, 20))
    with sqlstore.open(root, io=how) as store:
        assert store.blobs("plain").to_pylist() == [plain(i) for i in range(COUNT)]
        assert store.raw(3, "packed") == packed(3)


@pytest.mark.parametrize("how", IOS)
def test_a_file_that_has_grown_is_read_on(root: Path, how: Io) -> None:
    with sqlstore.open(root, io=how) as reader, sqlstore.open(root, "a") as store:
        before = reader.blobs("plain", copy=False)
        file = reader.open(1, "packed")
        with store.writer() as writer:
            for step in range(4):
                writer.append({"plain": plain(COUNT + step), "packed": packed(COUNT + step)})
                writer.commit()
                reader.refresh()
                last = COUNT + step
                if step % 2:
                    assert reader.raw(last, "plain") == plain(last)
                assert reader.blobs("plain", [last, 0]).to_pylist() == [plain(last), plain(0)]
                assert reader.select("packed")[-1] == {"packed": packed(last)}
        assert len(list((root / "chunks").iterdir())) == 1
        assert before.to_pylist() == [plain(i) for i in range(COUNT)]
        assert file.read() == packed(1)


# How they are read piece by piece


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return the offset and the size of every read of a batch, as they come."""
    seen: list[tuple[int, int]] = []
    real = ChunkReader.read_into

    def read_into(self: ChunkReader, name: str, pieces: list[tuple[int, memoryview]]) -> None:
        seen.extend((offset, len(buffer)) for offset, buffer in pieces)
        real(self, name, pieces)

    monkeypatch.setattr(ChunkReader, "read_into", read_into)
    return seen


@pytest.mark.parametrize(
    ("positions", "gap", "most", "expected"),
    [
        (range(20), 0, 2**20, [(0, 20)]),
        ([19, 0, 19, 7, 0], None, None, [(0, 20)]),
        ([9, 3, 5, 3], 99, 2**20, [(3, 1), (5, 1), (9, 1)]),
        ([9, 3, 5, 3], 100, 2**20, [(3, 3), (9, 1)]),
        (range(20), 0, 200, [(i, 2) for i in range(0, 20, 2)]),
        ([4, 4, 4], 0, 1, [(4, 1)]),
        ([5, 4, 4], 0, 1, [(4, 1), (5, 1)]),
        ([], 0, 1, []),
    ],
)
def test_neighbours_are_read_at_once(
    kept: Path,
    reads: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
    positions: Any,
    gap: int | None,
    most: int | None,
    expected: list[tuple[int, int]],
) -> None:
    (_, start), *_ = places(kept, "plain")
    for name, limit in (("MERGE_GAP", gap), ("MERGE_BYTES", most)):
        if limit is not None:
            monkeypatch.setattr(limits, name, limit)
    with sqlstore.open(kept, io="pread") as store:
        found = store.blobs("plain", positions)
    assert found.to_pylist() == [plain(i) for i in positions]
    assert reads == [(start + 100 * first, 100 * count) for first, count in expected]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    positions=st.lists(st.integers(0, COUNT - 1), max_size=12),
    gap=st.integers(0, 1200),
    most=st.integers(1, 3000),
    copy=st.booleans(),
)
def test_merged_reads_give_every_value_in_its_place(
    kept: Path, reads: list[tuple[int, int]], positions: list[int], gap: int, most: int, copy: bool
) -> None:
    reads.clear()
    with (
        pytest.MonkeyPatch.context() as patch,
        sqlstore.open(kept, io="pread") as store,
    ):
        patch.setattr(limits, "MERGE_GAP", gap)
        patch.setattr(limits, "MERGE_BYTES", most)
        found = store.blobs("plain", positions, copy=copy)
    found.validate(full=True)
    assert found.to_pylist() == [plain(i) for i in positions]
    assert reads == sorted(reads)
    assert all(size < most + 100 for _, size in reads)
    spans = [range(offset, offset + size) for offset, size in reads]
    assert all(one.stop <= other.start for one, other in pairwise(spans))
    wanted = 100 * len(set(positions))
    assert wanted <= sum(map(len, spans)) <= wanted + gap * max(0, len(set(positions)) - 1)
