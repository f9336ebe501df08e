"""The caches: whatever happens to them, what is read is what was committed."""

from __future__ import annotations

import math
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sqlstore
from sqlstore import limits
from sqlstore.cache import metadata
from sqlstore.cache.seals import seal, seals
from tests.caches import edition, held
from tests.processes import append, new_store, record_of, records_of, whole_batches

Action: TypeAlias = tuple[Any, ...]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return new_store(tmp_path / "store")


# Whatever happens to the cache

VALUES: list[Callable[[int], bytes | None]] = [
    lambda serial: None,
    lambda serial: b"",
    lambda serial: b"%012d" % serial,  # fits into a binary view
    lambda serial: b"%013d" % serial,
    lambda serial: b"%04d" % serial * 50,
]
LABELS: list[Callable[[int], str | None]] = [
    lambda serial: None,
    lambda serial: "",
    lambda serial: f"label {serial}",
]
FIELDS = ("plain", "packed")


def made(serial: int, plain: int, packed: int) -> dict[str, Any]:
    return {
        "plain": VALUES[plain](serial),
        "packed": VALUES[packed](serial),
        "label": LABELS[(plain + packed) % len(LABELS)](serial),
        "serial": serial,
    }


@dataclass
class Reader:
    store: sqlstore.Store
    seen: int


class World:
    """A store with two writers and some readers, and what it should hold."""

    def __init__(self, path: Path, opened: ExitStack) -> None:
        self.path = path
        self.model: list[dict[str, Any]] = []
        self._opened = opened
        own = opened.enter_context(sqlstore.open(path, "a"))
        self._writer = opened.enter_context(own.writer())
        self.readers = [Reader(own, 0)]

    def append(self, stays_open: bool, commits: list[list[tuple[int, int]]]) -> None:
        if stays_open:
            self._commit(self._writer, commits)
            self.readers[0].seen = len(self.model)
        else:
            with sqlstore.open(self.path, "a") as store, store.writer() as writer:
                self._commit(writer, commits)

    def _commit(self, writer: sqlstore.Writer, commits: list[list[tuple[int, int]]]) -> None:
        for kinds in commits:
            for plain, packed in kinds:
                self.model.append(made(len(self.model), plain, packed))
                writer.append(self.model[-1])
            writer.commit()

    def open(self, io: Any, verify: Any) -> None:
        store = self._opened.enter_context(sqlstore.open(self.path, io=io, verify=verify))
        self.readers.append(Reader(store, len(self.model)))

    def refresh(self, which: int) -> None:
        reader = self.readers[which % len(self.readers)]
        reader.store.refresh()
        reader.seen = len(self.model)

    def read(self, which: int, part: int) -> None:
        reader = self.readers[which % len(self.readers)]
        ONE_BY_ONE[part](reader.store, self.model[: reader.seen])

    def rebuild(self) -> None:
        assert sqlstore.rebuild(self.path) == len(self.model)

    def delete_cache(self) -> None:
        shutil.rmtree(self.path / "cache", ignore_errors=True)

    def delete(self, which: int) -> None:
        for one in self._file(which):
            one.unlink()

    def flip(self, which: int, at: int) -> None:
        for one in self._file(which):
            data = bytearray(one.read_bytes())
            if data:
                data[at % len(data)] ^= 1 << at % 8
                self._replace(one, data)

    def truncate(self, which: int, at: int) -> None:
        for one in self._file(which):
            data = one.read_bytes()
            self._replace(one, data[: at % (len(data) + 1)])

    def _file(self, which: int) -> list[Path]:
        """Return one of the files, or nothing where there is none."""
        found = sorted(one for one in (self.path / "cache").rglob("*") if one.is_file())
        return [found[which % len(found)]] if found else []

    def _replace(self, one: Path, data: bytes | bytearray) -> None:
        """Put a copy in the place of a file: what is cut off under a map ends the process."""
        copy = one.with_name("copy")
        copy.write_bytes(data)
        copy.replace(one)


def check_metadata(store: sqlstore.Store, model: list[dict[str, Any]]) -> None:
    whole = {"id": [*range(len(model))]} | {
        name: [record[name] for record in model] for name in ("label", "serial")
    }
    assert store.to_arrow().to_pydict() == whole
    order = mixed(len(model))
    expected = {name: [values[i] for i in order] for name, values in whole.items()}
    assert store.take(order).to_arrow().to_pydict() == expected


def check_values(store: sqlstore.Store, model: list[dict[str, Any]]) -> None:
    order = mixed(len(model))
    for field in FIELDS:
        assert [store.raw(i, field) for i in order] == [model[i][field] for i in order]
    assert [store[i] for i in order] == [model[i] for i in order]


def check_batches(store: sqlstore.Store, model: list[dict[str, Any]]) -> None:
    order = mixed(len(model))
    for field in FIELDS:
        expected = [record[field] for record in model]
        assert store.blobs(field).to_pylist() == expected
        assert store.blobs(field, copy=False).to_pylist() == expected
        assert store.blobs(field, order).to_pylist() == [expected[i] for i in order]
    assert store.fetch(order) == [model[i] for i in order]


def mixed(count: int) -> list[int]:
    """Return all positions in another order, some of them twice."""
    return [*range(count - 1, -1, -2), *range(count)]


ONE_BY_ONE = [check_metadata, check_values, check_batches]
number = st.integers(0, 1 << 16)
kinds = st.integers(0, len(VALUES) - 1)
commits = st.lists(
    st.lists(st.tuples(kinds, kinds), min_size=1, max_size=4), min_size=1, max_size=3
)
actions: st.SearchStrategy[Action] = st.one_of(
    st.tuples(st.just("append"), st.booleans(), commits),
    st.tuples(
        st.just("open"),
        st.sampled_from(["mmap", "pread", "memory"]),
        st.sampled_from(["once", "always"]),
    ),
    st.tuples(st.just("refresh"), number),
    st.tuples(st.just("read"), number, st.integers(0, len(ONE_BY_ONE) - 1)),
    st.tuples(st.sampled_from(["rebuild", "delete_cache"])),
    st.tuples(st.just("delete"), number),
    st.tuples(st.sampled_from(["flip", "truncate"]), number, number),
)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stores") / "empty"
    fields: dict[str, str | sqlstore.Field] = {
        "plain": sqlstore.Field("bytes", None),
        "packed": "bytes",
    }
    sqlstore.create(path, fields=fields, metadata={"label": "string", "serial": "int64"}).close()
    return path


@settings(max_examples=50, deadline=None)
@given(st.lists(actions, max_size=14), st.sampled_from([2 * limits.KiB, limits.CACHE_PART_BYTES]))
def test_every_reader_reads_what_was_committed_whatever_happens_to_the_cache(
    empty: Path, happens: Sequence[Action], part_bytes: int
) -> None:
    path = empty.with_name("store")
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(empty, path)
    with ExitStack() as opened:
        opened.enter_context(mock.patch.object(limits, "CACHE_PART_BYTES", part_bytes))
        world = World(path, opened)
        for action, *arguments in happens:
            getattr(world, action)(*arguments)
        world.open("mmap", "once")
        for reader in world.readers:
            assert len(reader.store) == reader.seen
            for check in ONE_BY_ONE:
                check(reader.store, world.model[: reader.seen])


# The parts of the mirror


def test_many_small_commits_make_few_parts(path: Path) -> None:
    written: dict[str, int] = {}
    with sqlstore.open(path, "a") as store, store.writer() as writer:
        for batch in range(100):
            writer.append(record_of(0, batch, 0, 1, 64))
            writer.commit()
            assert len(store) == batch + 1
            parts = held(path).parts
            assert [part.first for part in parts[1:]] == [p.first + p.records for p in parts[:-1]]
            assert sum(part.records for part in parts) == batch + 1
            assert len(parts) <= 2 * math.log2(batch + 1) + 2
            written |= {part.file: part.records for part in parts}
        assert len(whole_batches(store)) == 100
    assert sum(written.values()) <= 100 * (math.log2(100) + 2)


def names_in(store: sqlstore.View) -> list[str]:
    names: list[str] = store.to_arrow()["name"].to_pylist()
    return names


def names_of(*batches: tuple[int, int, int]) -> list[str]:
    return [f"{writer}/{batch}/{i}" for writer, batch, count in batches for i in range(count)]


def test_a_reader_goes_on_when_its_parts_have_been_merged(path: Path) -> None:
    append(path, (0, 0), count=10)
    with sqlstore.open(path) as before, sqlstore.open(path) as mapped:
        (part,) = held(path).parts
        names_in(mapped)
        append(path, (0, 1), count=100)
        assert not (edition(path) / part.file).exists()
        for store in (before, mapped):
            assert names_in(store) == names_of((0, 0, 10))
            store.refresh()
            assert names_in(store) == names_of((0, 0, 10), (0, 1, 100))


def test_a_reader_goes_on_when_merging_overtakes_it_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(path, (0, 0), count=10)
    load, coming = metadata.load, [(2, 1000), (1, 100)]

    def overtaken(*arguments: Any, **named: Any) -> pa.RecordBatch:
        if coming:
            batch, count = coming.pop()
            with monkeypatch.context() as patch:
                patch.setattr(metadata, "load", load)
                append(path, (0, batch), count=count)
        return load(*arguments, **named)

    with sqlstore.open(path) as store:
        monkeypatch.setattr(metadata, "load", overtaken)
        assert names_in(store) == names_of((0, 0, 10))
        assert not coming


@pytest.fixture(scope="module")
def parted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlstore.Store]:
    """Yield a store with several parts."""
    path = new_store(tmp_path_factory.mktemp("stores") / "parted")
    with (
        mock.patch.object(limits, "CACHE_PART_BYTES", 4 * limits.KiB),
        sqlstore.open(path, "a") as store,
    ):
        for batch, count in enumerate([60, 1, 45, 70, 2, 3, 50]):
            store.extend(records_of((0, batch), count))
            len(store)
        assert len(held(path).parts) > 3
        yield store


positions = st.one_of(
    st.lists(st.integers(0, 230), max_size=40),
    st.lists(st.integers(0, 230), max_size=40).map(sorted),
    st.builds(
        lambda start, stop, step: [*range(231)[start:stop:step]],
        st.integers(-235, 235),
        st.integers(-235, 235),
        st.sampled_from([1, 2, 50, -1, -7]),
    ),
)


@settings(max_examples=100, deadline=None)
@given(positions)
def test_metadata_over_several_parts_comes_in_the_order_asked_for(
    parted: sqlstore.Store, chosen: list[int]
) -> None:
    batches = enumerate([60, 1, 45, 70, 2, 3, 50])
    records = [record for batch, count in batches for record in records_of((0, batch), count)]
    schema = parted.to_arrow().schema
    whole = pa.Table.from_pylist([{"id": i} | r for i, r in enumerate(records)], schema=schema)
    expected = whole.take(pa.array(chosen, pa.int64()))
    assert parted.take(chosen).to_arrow() == expected
    if chosen and chosen == [*range(chosen[0], chosen[-1] + 1)]:
        assert parted[chosen[0] : chosen[-1] + 1].to_arrow() == expected
    assert [record["name"] for record in parted.fetch(chosen)] == expected["name"].to_pylist()


# Seals

words = st.integers(0, 2**32 - 1)
location_rows = st.lists(st.lists(words, min_size=8, max_size=8), min_size=1, max_size=5)


@settings(deadline=None)
@given(location_rows, st.integers(0, 2**48), st.integers(0, 2**31))
def test_one_seal_is_as_many_seals(rows: list[list[int]], record: int, field: int) -> None:
    array = np.array(rows, np.uint32)
    records = np.arange(record, record + len(rows), dtype=np.int64)
    many = seals(array, records, field).tolist()
    one_by_one = []
    for row, number in zip(array, records.tolist(), strict=True):
        w0, w1, w2, crc = struct.unpack("<QQQI", row.tobytes()[:28])
        one_by_one.append(seal((w0, w1, w2, crc), number, field))
    assert many == one_by_one


@settings(deadline=None)
@given(st.lists(words, min_size=8, max_size=8), st.integers(0, 2**48), st.integers(0, 2**31))
def test_a_seal_notices_every_flipped_bit_and_another_place(
    row: list[int], record: int, field: int
) -> None:
    n_bits = 7 * 32
    rows = np.tile(np.array(row, np.uint32), (n_bits, 1))
    records = np.full(n_bits, record, np.int64)
    right = seals(rows, records, field)
    bits = np.arange(n_bits)
    rows[bits, bits // 32] ^= np.uint32(1) << (bits % 32).astype(np.uint32)
    assert (seals(rows, records, field) != right).all()
    places = record + 1 + np.arange(n_bits)
    same = np.tile(np.array(row, np.uint32), (n_bits, 1))
    assert (seals(same, places, field) != right).all()
    assert (seals(same, records, field + 1) != right).all()
