"""Reading: every way gives what was written, one by one and many at once."""

from __future__ import annotations

import gc
import io
import itertools
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sqlstore
from sqlstore import Field, KiB, MiB, Store, View, threads
from tests.varied import COLUMNS, COMMITS, COUNT, FIELDS, RAWS, RECORDS, make, same

Io: TypeAlias = Literal["mmap", "pread", "memory"]
Verify: TypeAlias = Literal["once", "always", "never"]
IOS: Final[tuple[Io, ...]] = ("mmap", "pread", "memory")
WAYS: Final = list(itertools.product(IOS, ("once", "always", "never")))
PLAIN: Final = "bytes_None"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("reading") / "store")


@pytest.fixture(scope="module", params=WAYS, ids="-".join)
def store(root: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    how, verify = request.param
    with sqlstore.open(root, io=how, verify=verify) as opened:
        yield opened


@pytest.fixture(scope="module")
def stores(root: Path) -> Iterator[list[Store]]:
    """Return the same store in every mode."""
    opened = [sqlstore.open(root, io=how) for how in IOS]
    yield opened
    for one in opened:
        one.close()


# Every way of reading


def test_raw_is_what_the_encoding_made(store: Store) -> None:
    for _ in range(2):  # what was read once is read another way
        for name, raws in RAWS.items():
            assert [store.raw(i, name) for i in range(COUNT)] == raws, name


def test_blobs_are_one_array_of_large_binaries(store: Store) -> None:
    for name, raws in RAWS.items():
        found = store.blobs(name)
        found.validate(full=True)
        assert found.type == pa.large_binary()
        assert found.to_pylist() == raws, name
        assert found.null_count == raws.count(None)


def test_blobs_that_are_not_copied_are_views(store: Store) -> None:
    for name, raws in RAWS.items():
        found = store.blobs(name, copy=False)
        found.validate(full=True)
        assert found.type == pa.binary_view()
        assert found.to_pylist() == raws, name
        assert found.null_count == raws.count(None)


def test_records_are_what_was_written(store: Store) -> None:
    ways: list[Callable[[], list[dict[str, Any]]]] = [
        lambda: [store[i] for i in range(COUNT)],
        lambda: store.fetch(range(COUNT)),
        lambda: store.__getitems__(list(range(COUNT))),
        lambda: [record for batch in store.batches(9) for record in batch],
    ]
    for number, read in enumerate(ways):
        found = read()
        assert len(found) == COUNT
        assert all(map(same, found, RECORDS)), number


def test_batches_are_views_of_consecutive_records(store: Store) -> None:
    batches = list(store.batches(9))
    assert [len(batch) for batch in batches] == [9, 9, 9, 9, 4]
    blobs = [one for batch in batches for one in batch.blobs("utf8_lz4").to_pylist()]
    assert blobs == RAWS["utf8_lz4"]
    assert [len(one) for one in store[:0].batches(2)] == []
    assert [one.ids.tolist() for one in store[[5, 5, 1]].batches(2)] == [[5, 5], [1]]
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f"batches of {wrong}"):
            list(store.batches(wrong))


def test_files_hold_the_same_bytes(store: Store) -> None:
    for name, raws in RAWS.items():
        for number, raw in enumerate(raws):
            if raw is not None:
                with store.open(number, name) as file:
                    assert file.read() == raw, (name, number)


def test_metadata_are_what_was_written(store: Store) -> None:
    expected = [{"id": i, **{c: r[c] for c in COLUMNS}} for i, r in enumerate(RECORDS)]
    assert store.to_arrow().to_pylist() == expected
    assert store[[39, 0, 0]].to_arrow().to_pylist() == [expected[i] for i in (39, 0, 0)]


def test_equal_arrays_are_stacked(store: Store) -> None:
    name, large = "png_None", [COUNT - 1, COUNT - 2, COUNT - 1]
    found = store.stack(name, large)
    assert np.array_equal(found, np.stack([RECORDS[i][name] for i in large]))


@pytest.mark.parametrize("how", IOS)
@pytest.mark.parametrize("name", ["utf8_zstd", "array_gzip", "png_None"])
def test_large_values_are_decoded_in_threads(
    root: Path, how: Io, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "count", lambda: 3)
    with (
        sqlstore.open(root, io=how) as store,
        mock.patch.object(threads, "spread", wraps=threads.spread) as spread,
    ):
        small = range(COMMITS[-3])
        view = store.select(name)
        assert all(map(same, view.fetch(small), [{name: RECORDS[i][name]} for i in small]))
        assert spread.call_count == 0
        assert all(map(same, view.fetch(range(COUNT)), [{name: one[name]} for one in RECORDS]))
        assert spread.call_count > 0
        assert store.blobs(name).to_pylist() == RAWS[name]


# Positions, against a list

SIGNED: Final = (np.int8, np.int16, np.int32, np.int64)
UNSIGNED: Final = (np.uint8, np.uint16, np.uint32, np.uint64)
BASES: Final = [
    slice(None),
    slice(5, 33),
    slice(38, 2, -3),
    [7, 39, 7, 38, 0, 39, 21, 2],
    [],
    slice(12, 12),
]


@st.composite
def positions_in(draw: st.DrawFn, count: int) -> Any:
    """Return positions in a view of so many records, in any of the forms that they may have."""
    if draw(st.integers(0, 4)) == 0:
        mask = draw(st.lists(st.booleans(), min_size=count, max_size=count))
        return draw(st.sampled_from([mask, np.array(mask, bool)]))
    if not count:
        return draw(st.sampled_from([[], (), np.zeros(0, np.int16), range(0)]))
    lowest = 0 if (unsigned := draw(st.booleans())) else -count
    chosen = draw(st.lists(st.integers(lowest, count - 1), max_size=10))
    kinds = UNSIGNED if unsigned else SIGNED
    kind = draw(st.sampled_from((None, tuple, *kinds)))
    if kind is None:
        return [draw(st.sampled_from((int, *kinds)))(one) for one in chosen]
    return tuple(chosen) if kind is tuple else np.array(chosen, kind)


@settings(max_examples=80, deadline=None)
@given(where=st.slices(COUNT + 3), base=st.sampled_from(BASES))
def test_a_slice_chooses_as_in_a_list(stores: list[Store], where: slice, base: Any) -> None:
    view = stores[0][base]
    ids = view.ids.tolist()[where]
    assert view.take(where).ids.tolist() == ids
    assert view.blobs(PLAIN, where).to_pylist() == [RAWS[PLAIN][i] for i in ids]
    assert all(map(same, view.select(PLAIN).fetch(where), ({PLAIN: RAWS[PLAIN][i]} for i in ids)))


@settings(max_examples=80, deadline=None)
@given(data=st.data(), base=st.sampled_from(BASES), names=st.permutations(list(FIELDS)))
def test_positions_choose_as_in_a_list(
    stores: list[Store], data: st.DataObject, base: Any, names: list[str]
) -> None:
    ids = np.arange(COUNT)[base if isinstance(base, slice) else np.array(base, int)].tolist()
    positions = data.draw(positions_in(len(ids)))
    index = np.asarray(positions)
    index = np.flatnonzero(index) if index.dtype == bool else index.astype(np.int64)
    expected = [ids[i] for i in index.tolist()]
    name, *others = names[:3]

    for store in stores:
        view = store[base]
        assert view.take(positions).ids.tolist() == expected
        for copy in (True, False):
            blobs = view.blobs(name, positions, copy=copy)
            blobs.validate(full=True)
            assert blobs.to_pylist() == [RAWS[name][i] for i in expected]
        assert view[index].blobs(name).to_pylist() == [RAWS[name][i] for i in expected]
        assert [view.raw(i, name) for i in index] == [RAWS[name][i] for i in expected]
        found = view.select(*others).fetch(positions)
        chosen = [{n: RECORDS[i][n] for n in FIELDS if n in others} for i in expected]
        assert len(found) == len(chosen)
        assert all(map(same, found, chosen))


def test_integers_of_any_kind_may_be_mixed(stores: list[Store]) -> None:
    positions: Any = [3, np.uint64(1), np.int8(-1), np.int64(0)]
    expected = [RAWS[PLAIN][i] for i in (3, 1, -1, 0)]
    for store in stores:
        assert store.blobs(PLAIN, positions).to_pylist() == expected
        assert [store.raw(i, PLAIN) for i in positions] == expected
        assert [one[PLAIN] for one in store.fetch(positions)] == expected


# What an array keeps


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Return a store with one chunk of a megabyte, most of it one value."""
    fields: dict[str, str | Field] = {"plain": Field("bytes", None), "packed": "bytes"}
    with sqlstore.create(tmp_path / "s", fields=fields) as store:
        values = [b"a" * 100, b"b" * MiB, b"c" * 100, None]
        store.extend({"plain": one, "packed": one} for one in values)
    return tmp_path / "s"


def mapped_chunks(root: Path) -> list[str]:
    maps = Path("/proc/self/maps").read_text().splitlines()
    return [line for line in maps if str(root / "chunks") in line]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not list maps")
def test_copies_keep_nothing_of_a_chunk_alive(large: Path) -> None:
    with sqlstore.open(large, io="mmap") as store:
        copies = [store.blobs("plain", [2, 0]), store.blobs("packed", [3, 2])]
        views = store.blobs("plain", [2, 0], copy=False)
        assert len(mapped_chunks(large)) == 1
    gc.collect()
    assert len(mapped_chunks(large)) == 1
    del views
    gc.collect()
    assert mapped_chunks(large) == []
    assert [one.to_pylist() for one in copies] == [[b"c" * 100, b"a" * 100], [None, b"c" * 100]]


@pytest.mark.parametrize("how", IOS)
def test_copies_pickle_small(large: Path, how: Io) -> None:
    with sqlstore.open(large, io=how) as store:
        for name in ("plain", "packed"):
            found = store.blobs(name, [0, 3, 2])
            assert found.get_total_buffer_size() < KiB
            data = pickle.dumps(found)
            assert len(data) < KiB
            assert pickle.loads(data).to_pylist() == [b"a" * 100, None, b"c" * 100]


@pytest.mark.parametrize("how", IOS)
def test_views_stay_valid_when_the_store_is_closed(large: Path, how: Io) -> None:
    with sqlstore.open(large, io=how) as store:
        found = {name: store.blobs(name, copy=False) for name in ("plain", "packed")}
        array = store.blobs("plain", copy=False).slice(1, 2)
    gc.collect()
    for views in found.values():
        views.validate(full=True)
        assert views.to_pylist() == [b"a" * 100, b"b" * MiB, b"c" * 100, None]
    assert array.to_pylist() == [b"b" * MiB, b"c" * 100]


@pytest.mark.parametrize("how", ["mmap", "memory"])
def test_views_copy_nothing(large: Path, how: Io) -> None:
    (chunk,) = (large / "chunks").iterdir()
    with sqlstore.open(large, io=how) as store:
        store.raw(0, "plain")
        before = pa.total_allocated_bytes()
        one, other = (store.blobs("plain", copy=False) for _ in range(2))
        (data,) = {array.buffers()[2].address for array in (one, other)}
        assert one.buffers()[2].size == chunk.stat().st_size
        assert data
        assert pa.total_allocated_bytes() - before < KiB


# Wrong arguments


@pytest.mark.parametrize("how", IOS)
def test_an_unknown_field_is_named(stores: list[Store], how: Io) -> None:
    store = stores[IOS.index(how)]
    uses: list[Callable[[View, str], object]] = [
        lambda view, name: view.raw(0, name),
        lambda view, name: view.blobs(name),
        lambda view, name: view.blobs(name, []),
        lambda view, name: view.open(0, name),
        lambda view, name: view.stack(name),
    ]
    for view, use in itertools.product(views_of(store), uses):
        with pytest.raises(sqlstore.UnknownNameError, match=r"'birds'.* fields are bytes_None"):
            use(view, "birds")
        with pytest.raises(sqlstore.UnknownNameError, match="'n' is a metadata column, not a f"):
            use(view, "n")


def views_of(store: Store) -> list[View]:
    return [store, store[:COUNT], store[list(range(COUNT))]]


@pytest.mark.parametrize("position", [COUNT, -COUNT - 1, 2**31, 2**63, -(2**63) - 1, 2**70])
def test_a_position_outside_is_an_index_error(stores: list[Store], position: int) -> None:
    single: list[Callable[[View], object]] = [
        lambda view: view[position],
        lambda view: view.raw(position, PLAIN),
        lambda view: view.open(position, PLAIN),
    ]
    many: list[Callable[[View], object]] = [
        lambda view: view.blobs(PLAIN, [0, position]),
        lambda view: view.blobs(PLAIN, [position], copy=False),
        lambda view: view.fetch([position]),
        lambda view: view.__getitems__([0, position]),
        lambda view: view.stack("array_None", [position]),
    ]
    for view in views_of(stores[0]):
        for use in single:
            with pytest.raises(IndexError, match=f"position {position} in a view of {COUNT}"):
                use(view)
        for use in many:
            with pytest.raises(IndexError):
                use(view)


@pytest.mark.parametrize(
    "position", [1.0, np.float64(1), "1", None, b"1", True, np.True_, [1], (1,)]
)
def test_what_is_no_position_is_a_type_error(stores: list[Store], position: Any) -> None:
    as_indexing_does = position is True or position == (1,)  # `raw` has no time to look closer
    for view in views_of(stores[0]):
        with pytest.raises(TypeError):
            view.open(position, PLAIN)
        if not as_indexing_does:
            with pytest.raises(TypeError):
                view.raw(position, PLAIN)


@pytest.mark.parametrize(
    "positions",
    [1, 1.0, [1.0], np.zeros(3), "1", ["1"], b"1", [b"1"], True, [True], np.ones(COUNT - 1, bool),
     [[1]], np.zeros((0, 2), int), [None], {1}, [[1], [2, 3]]],
    ids=repr,
)  # fmt: skip
def test_what_is_no_list_of_positions_is_an_index_error(
    stores: list[Store], positions: Any
) -> None:
    uses: list[Callable[[View], object]] = [
        lambda view: view.blobs(PLAIN, positions),
        lambda view: view.fetch(positions),
        lambda view: view.stack("array_None", positions),
    ]
    for view, use in itertools.product(views_of(stores[0]), uses):
        with pytest.raises(IndexError):
            use(view)


@pytest.mark.parametrize("wrong", ["", "MMAP", "read", b"mmap", 1, True, ["mmap"]])
def test_a_wrong_mode_is_named(root: Path, wrong: Any) -> None:
    with pytest.raises(ValueError, match="io is one of mmap, pread, memory, not"):
        sqlstore.open(root, io=wrong)
    with pytest.raises(ValueError, match="verify is one of once, always, never, not"):
        sqlstore.open(root, verify=wrong)
    with pytest.raises(ValueError, match="verify is one of once, always, never, not None"):
        sqlstore.open(root, verify=cast("Verify", None))


def test_a_closed_store_reads_nothing(root: Path) -> None:
    for how in IOS:
        store = sqlstore.open(root, io=how)
        view, file = store[3:5], store.open(0, "png_None")
        assert (view.raw(0, PLAIN), file.read(1)) == (RAWS[PLAIN][3], b"\x89")
        file.seek(0, io.SEEK_END)
        store.close()
        uses: list[Callable[[View], object]] = [
            lambda view: view.raw(0, PLAIN),
            lambda view: view.raw(7, PLAIN),
            lambda view: view.blobs(PLAIN),
            lambda view: view.blobs(PLAIN, copy=False),
            lambda view: view.open(0, PLAIN),
            lambda view: view.stack("array_None"),
            lambda view: view.fetch([1]),
            lambda view: [batch[0] for batch in view.batches(2)],
        ]
        for number, use in enumerate(uses):
            for one in (store, view):
                with pytest.raises(sqlstore.StoreClosedError, match="closed"):
                    print(number, use(one))
        with pytest.raises(sqlstore.StoreClosedError, match="closed"):
            pickle.dumps(store)
        assert pickle.loads(pickle.dumps(view))[1]["n"] == 4  # it needs no open store


def test_values_of_one_length_are_copied_from_all_that_they_lie_in(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    bodies = [
        bytes(5000) if i % 3 else random.integers(0, 256, 5000, np.uint8).tobytes()
        for i in range(12)
    ]
    with sqlstore.create(tmp_path / "s", fields={"body": "bytes"}, chunk_size=4096) as store:
        with store.writer(commit_records=1) as writer:
            writer.extend({"body": body} for body in bodies)
        order = [11, 0, 0, 7, 3, 6, 2]
        for positions in (order, [1, 2, 4], [0, 3]):
            found = store.blobs("body", positions)
            found.validate(full=True)
            assert found.to_pylist() == [bodies[position] for position in positions]
