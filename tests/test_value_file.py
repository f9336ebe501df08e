"""`View.open`: a value as a file, which is read where it is read and no further."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import sqlstore
from sqlstore import ChecksumError, Field, MiB, RecordNotFoundError, Store, compression
from sqlstore.log import files

Io: TypeAlias = Literal["mmap", "pread", "memory"]
IOS: Final[tuple[Io, ...]] = ("mmap", "pread", "memory")
Verify: TypeAlias = Literal["once", "always", "never"]
VERIFY: Final[tuple[Verify, ...]] = ("once", "always", "never")
LINES: Final = b"".join(b"line %d\n" % (number**3) for number in range(2000)) + b"the end"
"""A few times as long as a file reads ahead."""
LONG: Final = np.random.default_rng(0).bytes(2 * MiB)
PICTURE: Final = np.arange(48 * 64 * 3, dtype=np.uint32).reshape(48, 64, 3).astype(np.uint8)
FIELDS: Final = {
    "plain": Field("bytes", None),
    "packed": Field("bytes", "zstd"),
    "image": Field("png", None),
}
READ_AHEAD: Final = io.DEFAULT_BUFFER_SIZE


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files") / "store"
    with sqlstore.create(root, fields=FIELDS) as store:
        store.extend([
            {"plain": LINES, "packed": LINES, "image": PICTURE},
            {"plain": b"", "packed": b"", "image": None},
            {"plain": None, "packed": None, "image": None},
            {"plain": LONG, "packed": bytes(2 * MiB), "image": None},
        ])  # fmt: skip
    return root


@pytest.fixture(scope="module")
def stores(root: Path) -> Iterator[list[Store]]:
    opened = [sqlstore.open(root, io=how, verify=verify) for how, verify in product(IOS, VERIFY)]
    yield opened
    for one in opened:
        one.close()


# As any file

COUNTS: Final = st.one_of(st.integers(0, 40), st.integers(0, 30_000), st.none(), st.just(-1))
STEPS: Final = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["read", "readline", "read1"]), COUNTS),
        st.tuples(st.just("readinto"), st.integers(0, 12_000)),
        st.tuples(st.just("seek"), st.integers(0, 40_000), st.sampled_from([0, 1, 2])),
        st.tuples(st.sampled_from(["tell", "next", "readlines"])),
    ),
    max_size=12,
)


def run(file: Any, step: Any) -> Any:
    """Return what one step gives, and where it leads."""
    name, *arguments = step
    if name == "seek":
        offset, whence = arguments
        # Counted from the end and from the middle it goes backwards, but not out of the file:
        # there files and `BytesIO` disagree.
        offset = {0: offset, 1: max(-file.tell(), offset - 20_000), 2: -offset % len(LINES)}[whence]
        return file.seek(-offset if whence == 2 else offset, whence)
    if name == "next":
        return next(file, None)
    if name == "readinto":
        target = bytearray(arguments[0])
        return file.readinto(target), bytes(target)
    return getattr(file, name)(*arguments), file.tell()


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, field=st.sampled_from(["plain", "packed"]), which=st.integers(0, 8))
def test_it_is_read_as_any_file(
    stores: list[Store], steps: list[Any], field: str, which: int
) -> None:
    with stores[which].open(0, field) as file, io.BytesIO(LINES) as model:
        for step in steps:
            if step[0] == "read1":  # may give less than what is asked for, but not nothing
                rest = LINES[model.tell() :]
                found = file.read1(-1 if step[1] is None else step[1])
                assert rest.startswith(found)
                assert bool(found) == (bool(rest) and step[1] != 0)
                model.seek(file.tell())
            else:
                assert run(file, step) == run(model, step), step
        assert file.tell() == model.tell()
        assert file.read() == model.read()


def test_it_says_what_it_can(stores: list[Store]) -> None:
    for store in stores:
        file = store.open(0, "plain")
        assert isinstance(file, io.BufferedReader)
        assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
        assert list(file) == LINES.splitlines(keepends=True)
        assert file.seek(0, io.SEEK_END) == len(LINES)
        assert file.read(1) == b""
        assert file.seek(10**12) == 10**12
        assert file.read() == b""
        for offset, whence in ((-1, io.SEEK_SET), (-1 - len(LINES), io.SEEK_END)):
            with pytest.raises(ValueError, match=r"negative|position"):
                file.seek(offset, whence)
        with pytest.raises(ValueError, match="whence"):
            file.seek(0, 3)
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")
        file.close()
        with pytest.raises(ValueError, match="closed"):
            file.read()


def test_an_empty_value_is_an_empty_file(stores: list[Store]) -> None:
    for store, field in product(stores, ["plain", "packed"]):
        with store.open(1, field) as file:
            assert (file.read(), file.seek(0, io.SEEK_END), file.readline()) == (b"", 0, b"")


def test_a_missing_value_is_no_file(stores: list[Store]) -> None:
    for store, field in product(stores, FIELDS):
        for view, position in ((store, 2), (store[::-1], -3)):
            with pytest.raises(RecordNotFoundError, match="no value") as caught:
                view.open(position, field)
            assert caught.value.where == {"record": 2, "field": field}


def test_other_libraries_read_from_it(stores: list[Store]) -> None:
    for store in stores:
        with store.open(0, "image") as file, Image.open(file) as image:
            assert image.size == (64, 48)
            assert np.array_equal(np.array(image), PICTURE)
        with io.TextIOWrapper(store.open(0, "packed"), "ascii") as text:
            assert text.readline() == "line 0\n"


def test_files_of_one_value_are_independent(stores: list[Store]) -> None:
    for store, field in product(stores, ["plain", "packed"]):
        with store.open(0, field) as one, store.open(0, field) as other:
            one.seek(5)
            assert other.read(7) == LINES[:7]
            assert one.read(2) == LINES[5:7]


# No more than what is asked for


@pytest.fixture
def read_bytes() -> Iterator[list[int]]:
    """Return the sizes of what is read from chunks, as it is read."""
    sizes: list[int] = []
    exactly, into = files.read_exactly, files.read_into

    def read_exactly(descriptor: int, offset: int, length: int, name: str) -> bytes:
        sizes.append(length)
        return exactly(descriptor, offset, length, name)

    def read_into(descriptor: int, pieces: list[tuple[int, memoryview]], name: str) -> None:
        sizes.extend(len(buffer) for _, buffer in pieces)
        into(descriptor, pieces, name)

    with (
        mock.patch.object(files, "read_exactly", read_exactly),
        mock.patch.object(files, "read_into", read_into),
    ):
        yield sizes


def test_only_what_is_asked_for_is_read(root: Path, read_bytes: list[int]) -> None:
    with sqlstore.open(root, io="pread", verify="never") as store:
        assert store.raw(0, "plain") == LINES  # the header of the chunk has been looked at
        read_bytes.clear()
        with store.open(3, "plain") as file:
            file.seek(-100, io.SEEK_END)
            file.seek(MiB)
            assert read_bytes == []
            assert file.read(10) == LONG[MiB : MiB + 10]
            assert sum(read_bytes) <= READ_AHEAD
            assert file.read(10) == LONG[MiB + 10 : MiB + 20]
            assert sum(read_bytes) <= READ_AHEAD
            file.seek(0)
            assert file.read(MiB) == LONG[:MiB]
            assert sum(read_bytes) <= MiB + 2 * READ_AHEAD


def test_the_rest_is_read_at_once(root: Path, read_bytes: list[int]) -> None:
    with sqlstore.open(root, io="pread", verify="never") as store, store.open(3, "plain") as file:
        read_bytes.clear()
        assert file.read() == LONG
        assert read_bytes.count(len(LONG)) == 1
        assert len(read_bytes) <= 2  # and the header of the chunk
        assert file.read() == b""


def test_what_has_been_checked_is_not_read_whole_again(root: Path, read_bytes: list[int]) -> None:
    with sqlstore.open(root, io="pread") as store:
        with store.open(3, "plain") as file:
            assert file.read(10) == LONG[:10]
            assert len(LONG) <= sum(read_bytes) <= len(LONG) + 3 * READ_AHEAD
        read_bytes.clear()
        with store.open(3, "plain") as file:
            file.seek(MiB)
            assert file.read(10) == LONG[MiB : MiB + 10]
            assert 0 < sum(read_bytes) <= READ_AHEAD


@pytest.mark.parametrize("verify", VERIFY)
@pytest.mark.parametrize("how", IOS)
def test_a_compressed_value_is_decompressed_once(root: Path, how: Io, verify: Verify) -> None:
    with sqlstore.open(root, io=how, verify=verify) as store:
        real = compression._DECOMPRESS[2]
        calls = mock.Mock(side_effect=real)
        with (
            mock.patch.dict(compression._DECOMPRESS, {2: calls}),
            store.open(3, "packed") as file,
        ):
            assert calls.call_count == 0
            file.seek(MiB)
            for _ in range(64):
                assert file.read(READ_AHEAD) == bytes(READ_AHEAD)
            assert file.seek(0) == 0
            assert len(file.read()) == 2 * MiB
        assert calls.call_count == 1


# Checked as a whole


@pytest.mark.parametrize("field", ["plain", "packed"])
@pytest.mark.parametrize("how", IOS)
def test_the_first_read_finds_damage_anywhere(root: Path, how: Io, field: str) -> None:
    with sqlstore.open(root) as store:
        sql = "SELECT file, offset, length FROM record_locations WHERE field = :f AND record = 0"
        (where,) = store.sql(sql, f=field).to_pylist()
    path, last = root / where["file"], where["offset"] + where["length"] - 1
    good = path.read_bytes()
    try:
        with path.open("r+b") as chunk:
            chunk.seek(last)
            chunk.write(bytes([good[last] ^ 0x80]))
        for verify in ("once", "always"):
            with (
                sqlstore.open(root, io=how, verify=verify) as store,
                store.open(0, field) as file,
            ):
                for _ in range(2):
                    with pytest.raises(ChecksumError) as caught:
                        file.read(1)
                    assert caught.value.where["record"] == 0
                    assert caught.value.where["field"] == field
        if field == "plain":
            with (
                sqlstore.open(root, io=how, verify="never") as store,
                store.open(0, field) as file,
            ):
                assert file.read() == LINES[:-1] + bytes([LINES[-1] ^ 0x80])
    finally:
        path.write_bytes(good)


def test_a_closed_store_reads_no_file(root: Path) -> None:
    for how, field in product(IOS, ["plain", "packed"]):
        store = sqlstore.open(root, io=how)
        file = store.open(0, field)
        store.close()
        with pytest.raises(sqlstore.StoreClosedError, match="closed"):
            file.read(1)
