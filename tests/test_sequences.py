"""Sequences: items are chosen, read and checked one by one, and nothing else is read for them."""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import sqlstore
from sqlstore import (
    ChecksumError,
    CorruptStoreError,
    DecodeError,
    EncodeError,
    Field,
    Store,
    sequences,
)
from sqlstore.cli import main

Io: TypeAlias = Literal["mmap", "pread", "memory"]
IOS: Final[tuple[Io, ...]] = ("mmap", "pread", "memory")
ENTRY: Final = struct.Struct("<III")
COUNT: Final = 10_000


def item(number: int) -> bytes:
    return b"item %05d " % number * (1 + number % 3)


# Of many items, only those that are asked for are read


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "store"
    fields = {"plain": Field("bytes[]", None), "packed": Field("bytes[]", "lz4")}
    with sqlstore.create(path, fields=fields) as store:
        items = [item(n) for n in range(COUNT)]
        store.extend([{"plain": [b"first"]}, {"plain": items, "packed": [b"a" * 99] * COUNT}])
    return path


@contextmanager
def preads() -> Iterator[list[int]]:
    """Yield a list of how many bytes each read of a file inside the block has asked for."""
    found: list[int] = []
    real, real_many = os.pread, os.preadv

    def pread(descriptor: int, length: int, offset: int) -> bytes:
        found.append(length)
        return real(descriptor, length, offset)

    def preadv(descriptor: int, buffers: Any, offset: int) -> int:
        found.append(sum(map(len, buffers)))
        return real_many(descriptor, buffers, offset)

    with mock.patch.object(os, "pread", pread), mock.patch.object(os, "preadv", preadv):
        yield found


@pytest.mark.parametrize("verify", ["once", "always", "never"])
def test_a_range_reads_the_footer_and_just_those_items(long: Path, verify: Any) -> None:
    with sqlstore.open(long, io="pread", verify=verify) as store:
        store.read(0, {"plain": True})  # which reads the header of the chunk, once
        with preads() as reads:
            found = store.read(1, {"plain": range(32, 42)})
        expected = [item(n) for n in range(32, 42)]
        assert found == {"plain": expected}
        assert reads == [ENTRY.size * COUNT, sum(map(len, expected))]
        with preads() as reads:
            store.read(1, {"plain": [9000, 5, 6, -1000, 5]})  # -1000 is 9000
        assert reads[0] == ENTRY.size * COUNT
        assert sorted(reads[1:]) == sorted([len(item(5) + item(6)), len(item(9000))])
        with preads() as reads:
            assert store.raw_items(1, "packed", slice(100, 110)) == [b"a" * 99] * 10
        assert reads[0] == ENTRY.size * COUNT
        assert reads[1:] != [990]
        assert sum(reads[1:]) < 500  # compressed as they are
        with preads() as reads:
            assert store.available(1) == {"plain": range(COUNT), "packed": range(COUNT)}
            assert store.read(1, {"plain": []}) == {"plain": []}
        assert reads == []


# Which items


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    fields = {"items": "bytes[]", "one": "bytes"}
    with sqlstore.create(tmp_path / "store", fields=fields, metadata={"n": "int8"}) as opened:
        opened.extend([{"items": [item(n) for n in range(20)], "one": b"a", "n": 1}, {}])
        opened.extend([{"items": []}])
        yield opened


CHOICES: Final = st.one_of(
    st.builds(
        slice, *[st.none() | st.integers(-25, 25)] * 2, st.sampled_from([None, 1, 2, -1, -3])
    ),
    st.lists(st.integers(-20, 19), max_size=8),
    st.builds(range, st.integers(0, 19), st.integers(0, 20), st.sampled_from([1, 2, 7])),
    st.builds(range, st.integers(0, 19), st.integers(-1, 19), st.just(-1)),
    st.lists(st.integers(-20, 19), max_size=8).map(tuple),
    st.lists(st.integers(-20, 19), max_size=8).map(lambda numbers: np.array(numbers, np.int16)),
)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(wanted=CHOICES)
def test_items_are_chosen_as_of_a_list(store: Store, wanted: Any) -> None:
    items = [item(n) for n in range(20)]
    numbers = range(20)[wanted] if isinstance(wanted, slice) else wanted
    expected = [items[n] for n in numbers]
    assert store.read(0, {"items": wanted}) == {"items": expected}
    assert store.raw_items(0, "items", wanted) == expected


@pytest.mark.parametrize("wanted", [[20], [0, -21], range(15, 25), np.array([99]), [10**30]])
def test_items_that_are_not_there_are_an_index_error(store: Store, wanted: Any) -> None:
    for record in (0, 2):
        with pytest.raises(IndexError, match="of a sequence of"):
            store.read(record, {"items": wanted})
        with pytest.raises(IndexError, match="of a sequence of"):
            store.raw_items(record, "items", wanted)
    assert store.read(1, {"items": wanted}) == {"items": None}


@pytest.mark.parametrize("wanted", [3, None, "all", 1.5, [1.5], ["a"], [True], np.ones(20, bool)])
def test_what_chooses_no_items_is_a_type_error(store: Store, wanted: Any) -> None:
    with pytest.raises(TypeError):
        store.read(0, {"items": wanted})
    with pytest.raises(TypeError):
        store.raw_items(0, "items", wanted)


def test_a_mask_names_what_is_read(store: Store) -> None:
    assert store.read(0, {"n": True, "one": True, "items": slice(2)}) == {
        "n": 1, "one": b"a", "items": [item(0), item(1)],
    }  # fmt: skip
    assert list(store.read(0, {"n": True, "items": True})) == ["n", "items"]
    assert store.read(0, {"n": False, "items": False, "one": True}) == {"one": b"a"}
    assert store.read(-1, {}) == {}
    assert store.read(2, {"items": True, "one": True, "n": True}) == {
        "items": [], "one": None, "n": None,
    }  # fmt: skip


def test_masks_that_fit_nothing_are_refused(store: Store) -> None:
    for mask in ({"items": True, "nothing": True}, {"rowid": True}):
        with pytest.raises(sqlstore.UnknownNameError):
            store.read(0, mask)
    with pytest.raises(sqlstore.UnknownNameError, match="selects one"):
        store.select("one").read(0, {"items": True})
    for wrong in ({"one": range(1)}, {"n": range(1)}, {"n": slice(None)}):
        with pytest.raises(sqlstore.SchemaError, match="has no items"):
            store.read(0, wrong)
    for no_mask in (["items"], ("items",), {"items"}):
        with pytest.raises(TypeError, match="a mask is a mapping"):
            store.read(0, no_mask)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(IndexError):
        store.read(3, {"items": True})
    with pytest.raises(TypeError):
        store.read(True, {"items": True})


def test_ways_to_read_one_value_are_not_for_sequences(store: Store) -> None:
    for use in (
        lambda: store.raw(0, "items"),
        lambda: store.blobs("items"),
        lambda: store.stack("items"),
        lambda: store.open(0, "items"),
        lambda: store.raw_items(0, "one"),
    ):
        with pytest.raises(sqlstore.SchemaError, match=r"sequence|stacked"):
            use()


# What a sequence is made of


@pytest.mark.parametrize(
    "value", ["text", b"bytes", bytearray(2), memoryview(b"a"), {1: 2}, {1, 2}, 3, np.array(3)]
)
def test_what_is_no_sequence_is_refused(tmp_path: Path, value: object) -> None:
    with sqlstore.create(tmp_path / "s", fields={"f": "int[]", "n": "int"}) as store:
        with pytest.raises(EncodeError, match="expected a sequence") as caught:
            store.extend([{"n": 1}, {"f": value}])
        assert caught.value.where == {"field": "f", "row": 1}
        assert len(store) == 0


def test_anything_with_an_order_is_a_sequence(tmp_path: Path) -> None:
    with sqlstore.create(tmp_path / "s", fields={"f": "int[]", "a": "array[]"}) as store:
        values: list[Any] = [[1, 2], (1, 2), range(1, 3), np.array([1, 2]), (n for n in (1, 2))]
        store.extend({"f": value} for value in values)
        assert [record["f"] for record in store] == [[1, 2]] * len(values)
        store.extend([{"a": np.arange(6).reshape(3, 2)}])
        assert [one.tolist() for one in store[-1]["a"]] == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize("wrong", [None, "text", 1.5])
def test_the_item_that_is_wrong_is_named(tmp_path: Path, wrong: object) -> None:
    with sqlstore.create(tmp_path / "s", fields={"f": "int[]"}) as store:
        with pytest.raises(EncodeError) as caught:
            store.extend([{"f": []}, {"f": [1, 2, wrong, 4]}])
        assert caught.value.where == {"field": "f", "row": 1, "item": 2}


def test_an_item_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    own: Any = {"number": (bytes, int)}
    with sqlstore.create(tmp_path / "s", fields={"f": "number[]"}, encodings=own) as store:
        store.extend([{"f": [b"1", b"2", b"owl"]}])
        with pytest.raises(DecodeError) as caught:
            store.read(0, {"f": [0, -1]})
        assert caught.value.where == {"record": 0, "field": "f", "item": 2}
        with pytest.raises(DecodeError) as caught:
            store[0]
        assert caught.value.where == {"record": 0, "field": "f", "item": 2}
        assert store.read(0, {"f": [1, 0]}) == {"f": [2, 1]}
        assert store.raw_items(0, "f") == [b"1", b"2", b"owl"]


# Damage

ITEMS: Final = [b"%d" % n * 50 for n in range(8)]


@pytest.fixture(params=[None, "lz4", "zstd", "gzip"])
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, dict[str, int]]:
    """Return a store of three sequences, its chunk, and where the second one lies."""
    path = tmp_path / "store"
    with sqlstore.create(path, fields={"f": Field("bytes[]", request.param)}) as store:
        store.extend([{"f": ITEMS}, {"f": ITEMS}, {"f": ITEMS}])
        (row,) = store.sql("SELECT * FROM record_locations WHERE record = 1").to_pylist()
    return path, path / row["file"], row


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 4
    path.write_bytes(data)


def footer_of(chunk: Path, row: dict[str, int]) -> list[tuple[int, ...]]:
    data = chunk.read_bytes()
    end = row["offset"] + row["length"]
    return list(ENTRY.iter_unpack(data[end - ENTRY.size * row["items"] : end]))


READS: Final[list[Callable[[Store], object]]] = [
    lambda store: store[1],
    lambda store: store.fetch([0, 1]),
    lambda store: store.read(1, {"f": range(3, 7)}),
    lambda store: store.raw_items(1, "f", [5]),
]


def test_a_flipped_byte_in_an_item_is_found_and_named(
    damaged: tuple[Path, Path, dict[str, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, chunk, row = damaged
    flip(chunk, row["offset"] + footer_of(chunk, row)[4][0] + 3)  # in item 5
    expected = {
        "record": 1, "field": "f", "item": 5, "chunk": chunk.name, "offset": row["offset"],
    }  # fmt: skip
    for how, verify in itertools.product(IOS, ("once", "always")):
        with sqlstore.open(path, io=how, verify=verify) as store:  # type: ignore[arg-type]  # as text
            for read in READS * 2:
                with pytest.raises(ChecksumError) as caught:
                    read(store)
                assert caught.value.where == expected
            others = [0, 1, 2, 3, 4, 6, 7]
            assert store.read(1, {"f": others}) == {"f": [ITEMS[n] for n in others]}
            assert store[0] == store[2] == {"f": ITEMS}
    with sqlstore.open(path) as store:
        (fault,) = store.verify().faults
    assert "item 5" in str(fault)
    assert main(["verify", str(path)]) == 1
    assert "item 5" in capsys.readouterr().out


@pytest.mark.parametrize("entry", [0, 7])
@pytest.mark.parametrize("byte", [0, 4, 8])
def test_a_flipped_byte_in_a_footer_is_found_and_named(
    damaged: tuple[Path, Path, dict[str, int]], entry: int, byte: int
) -> None:
    path, chunk, row = damaged
    end = row["offset"] + row["length"]
    flip(chunk, end - ENTRY.size * (row["items"] - entry) + byte)
    for how in IOS:
        with sqlstore.open(path, io=how) as store:
            for wanted in (True, [0], slice(2, 4)):
                with pytest.raises(ChecksumError, match="footer") as caught:
                    store.read(1, {"f": wanted})
                assert caught.value.where["record"] == 1
                assert caught.value.where["field"] == "f"
            assert store[0] == store[2] == {"f": ITEMS}
            assert store.available(1) == {"f": range(8)}
            assert not store.verify()


ENDS: Final = st.sampled_from([0, 1, 50, 51, 399, 400, 401, 450, 600, 2**31, 2**32 - 1])
LENGTHS: Final = ["that of the item", 0, 1, 50, 400, 2**32 - 1]


@st.composite
def footers(draw: st.DrawFn) -> bytes:
    """Return footers of eight items, many of them with ends that are in order."""
    ends = draw(st.lists(ENDS, min_size=8, max_size=8))
    if draw(st.booleans()):
        ends = [*sorted(ends[1:]), max(400, *ends)] if draw(st.booleans()) else sorted(ends)
    length = draw(st.sampled_from(LENGTHS))
    starts = [0, *ends[:-1]]
    lengths = [max(0, end - start) for start, end in zip(starts, ends, strict=True)]
    raws = lengths if isinstance(length, str) else [length] * 8
    return b"".join(ENTRY.pack(end, raw, 0) for end, raw in zip(ends, raws, strict=True))


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, int]]:
    path = tmp_path_factory.mktemp("crafted") / "store"
    with sqlstore.create(path, fields={"f": Field("bytes[]", "lz4")}) as store:
        random = np.random.default_rng(0)
        store.extend({"f": [random.bytes(50) for _ in range(8)]} for _ in range(3))
        (row,) = store.sql("SELECT * FROM record_locations WHERE record = 1").to_pylist()
    return path, path / row["file"], row


@settings(max_examples=60, deadline=None)
@given(footer=footers())
@example(footer=b"".join(ENTRY.pack(60 * n, 60, 0) for n in range(1, 9)))
def test_a_crafted_footer_leads_nowhere_else(
    neighbours: tuple[Path, Path, dict[str, int]], footer: bytes
) -> None:
    path, chunk, row = neighbours
    data = bytearray(chunk.read_bytes())
    start = row["offset"] + row["length"] - len(footer)
    data[start : start + len(footer)] = footer
    crafted = chunk.with_suffix(".crafted")
    crafted.write_bytes(data)
    body = bytes(data[row["offset"] : start])
    with mock.patch("sqlstore.log.files.chunk_path", return_value=crafted) as used:
        for how in IOS:
            with sqlstore.open(path, io=how, verify="never") as store:
                for wanted in (slice(None), [0], [7], range(2, 5)):
                    with contextlib.suppress(CorruptStoreError):
                        found = store.raw_items(1, "f", wanted) or []
                        assert all(one in body for one in found)
        assert used.called
    # And with the right checksum, as somebody may have written it.
    with pytest.raises(CorruptStoreError):
        sequences.check(body + footer, 8, 400, zlib.crc32(footer), 1)


@pytest.mark.parametrize("items", [0, 7, 9, 41, 2**32 - 1])
def test_another_number_of_items_is_noticed(items: int) -> None:
    packed = sequences.pack([b"a" * 50] * 8, (0, None))
    with pytest.raises(ChecksumError):
        sequences.check(packed.body, items, packed.raw_length, packed.crc, 0)
    with pytest.raises(ChecksumError, match="bytes together"):
        sequences.check(packed.body, 8, packed.raw_length + 1, packed.crc, 0)
    sequences.check(packed.body, 8, packed.raw_length, packed.crc, 0)


# The index


def test_the_index_says_how_many_items_there_are(store: Store) -> None:
    sql = "SELECT record, items, length, raw_length, compression FROM record_locations "
    found = store.sql(sql + "WHERE field = 'items' ORDER BY record").to_pylist()
    lengths = [len(item(n)) for n in range(20)]
    assert [(row["record"], row["items"]) for row in found] == [(0, 20), (2, 0)]
    assert found[0]["raw_length"] == sum(lengths)
    assert found[0]["length"] < sum(lengths) + 20 * ENTRY.size
    assert (found[1]["length"], found[1]["raw_length"]) == (0, 0)
    before = store.sql("SELECT * FROM record_locations")
    store.close()
    (store.path / "index.sqlite").unlink()
    assert sqlstore.rebuild(store.path) == 3
    with sqlstore.open(store.path) as again:
        assert again.sql("SELECT * FROM record_locations").equals(before)
        assert again.verify()
        assert again.read(0, {"items": [-1, 3]}) == {"items": [item(19), item(3)]}
    assert main(["verify", str(store.path)]) == 0
