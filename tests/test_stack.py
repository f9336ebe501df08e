"""`View.stack`: values as one array."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import sqlstore
from sqlstore import ChecksumError, Field, SchemaError, Store
from sqlstore.encodings import ENCODINGS, stacked_arrays

Io: TypeAlias = Literal["mmap", "pread", "memory"]
IOS: Final[tuple[Io, ...]] = ("mmap", "pread", "memory")
FIELDS: Final = {
    "plain": Field("array", None),
    "packed": Field("array", "zstd"),
    "image": Field("png", None),
    "other": Field("bytes", None),
    "text": Field("utf8", None),
}
RGB: Final = np.arange(7 * 5 * 3, dtype=np.uint8).reshape(7, 5, 3)
MOMENTS: Final = np.array(["2020-01-01", "2021-05-06", "1969-12-31"], "M8[s]")
ALIKE: Final[dict[str, list[np.ndarray[Any, Any]]]] = {
    "a long header": [np.full((200, 2), i, np.uint8) for i in range(3)],
    "one dimension": [np.arange(i, i + 300) for i in range(3)],
    "Fortran order": [np.asfortranarray(np.full((3, 4), i, np.float32)) for i in range(3)],
    "both orders": [np.full((3, 4), 1.5), np.asfortranarray(np.full((3, 4), 2.5))],
    "no dimension": [np.array(i, np.int16) for i in range(3)],
    "one element": [np.full((1, 1, 1), i, np.int16) for i in range(3)],
    "nothing": [np.zeros((3, 0, 2), np.float64) for _ in range(3)],
    "big-endian": [np.arange(i, i + 5).astype(">i4") for i in range(3)],
    "big-endian, Fortran order": [np.asfortranarray(np.full((2, 3), i, ">i4")) for i in range(3)],
    "complex": [np.full(3, 1j * i) for i in range(3)],
    "bool": [np.array([True, False]), np.array([False, False])],
    "moments": [MOMENTS + np.timedelta64(i, "s") for i in range(3)],
    "strings": [np.array(["a", "bcd"], "U3"), np.array(["", "ä"], "U3")],
    "only one": [np.arange(4, dtype=np.uint64)],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with arrays that are alike, and behind them with every kind of odd ones."""
    root = tmp_path_factory.mktemp("stack") / "store"
    records = [
        {"plain": one, "packed": one, "image": RGB + i % 4}
        for group in ALIKE.values()
        for i, one in enumerate(group)
    ]
    with sqlstore.create(root, fields=FIELDS, metadata={"n": "int32"}) as store:
        store.extend(records)
        store.extend([{"n": 1}, {"image": RGB[:5], "other": b"1", "text": "1"}])
    return root


@pytest.fixture(scope="module", params=IOS)
def store(root: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    with sqlstore.open(root, io=request.param) as opened:
        yield opened


def positions(group: str) -> list[int]:
    """Return where the arrays of a group are."""
    names = list(ALIKE)
    start = sum(len(ALIKE[name]) for name in names[: names.index(group)])
    return list(range(start, start + len(ALIKE[group])))


COUNT: Final = sum(map(len, ALIKE.values()))
EMPTY: Final = COUNT
"""A record without any value."""


@pytest.mark.parametrize("group", ALIKE)
def test_arrays_are_stacked_as_numpy_does_it(store: Store, group: str) -> None:
    where = positions(group)
    expected = np.stack(ALIKE[group])
    for name in ("plain", "packed"):
        for found in (store.stack(name, where), store[where].stack(name)):
            assert found.shape == expected.shape
            assert found.dtype == ALIKE[group][0].dtype
            assert np.array_equal(found, expected)
            assert found.flags.writeable
        again = store.stack(name, [where[-1], where[0], where[-1]])
        assert np.array_equal(again, expected[[-1, 0, -1]])
        fetched = [one[name] for one in store.select(name).fetch(where)]
        assert np.array_equal(store.stack(name, where), np.stack(fetched))


def test_a_slice_of_arrays_is_stacked(store: Store) -> None:
    first, second, _ = positions("complex")
    stacked = store.stack("plain", slice(first, second + 1))
    assert stacked.tolist() == [[0] * 3, [1j] * 3]


def test_a_stack_is_nobody_elses_memory(store: Store) -> None:
    where = positions("one dimension")
    found = store.stack("plain", where)
    found[:] = -1
    assert np.array_equal(store.stack("plain", where), np.stack(ALIKE["one dimension"]))


def test_images_are_stacked(store: Store) -> None:
    found = store.stack("image", [0, 2, 1, 0])
    assert (found.shape, found.dtype) == ((4, 7, 5, 3), RGB.dtype)
    assert np.array_equal(found, np.stack([RGB, RGB + 2, RGB + 1, RGB]))
    assert store[:COUNT].stack("image").shape == (COUNT, 7, 5, 3)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), where=st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_any_arrays_that_are_alike(data: st.DataObject, where: list[int]) -> None:
    values = data.draw(GROUPS)
    encoded = [bytes(ENCODINGS["array"].encode(value)) for value in values]
    chosen = [memoryview(encoded[i]) for i in where]
    expected = np.stack([values[i] for i in where])
    found = stacked_arrays(chosen)
    if found is None:
        assert not all(values[i].flags.c_contiguous for i in where)
    else:
        assert (found.shape, found.dtype) == (expected.shape, values[0].dtype)
        assert found.tobytes() == expected.astype(found.dtype).tobytes()


GROUPS: Final = st.tuples(
    st.sampled_from(["<i2", ">u4", "<f4", "|b1", "|S3", "<M8[D]"]).map(np.dtype),
    arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    st.booleans(),
).flatmap(
    lambda one: st.lists(
        arrays.arrays(one[0], one[1]).map(np.asfortranarray if one[2] else np.ascontiguousarray),
        min_size=4,
        max_size=4,
    )
)


# What cannot be stacked


@pytest.mark.parametrize(
    ("field", "where", "record", "match"),
    [
        ("plain", [0, 3, 6], 3, "shape"),
        ("packed", [0, 1, 21], 21, "shape"),
        ("plain", [EMPTY, 0], EMPTY, "no value"),
        ("plain", [0, 1, EMPTY, 3], EMPTY, "no value"),
        ("packed", [0, EMPTY], EMPTY, "no value"),
        ("image", [0, EMPTY, 1], EMPTY, "no value"),
        ("image", [0, 1, EMPTY + 1], EMPTY + 1, r"shape \(5, 5, 3\)"),
    ],
)
def test_what_does_not_fit_is_named(
    store: Store, field: str, where: list[int], record: int, match: str
) -> None:
    with pytest.raises(SchemaError, match=match) as caught:
        store.stack(field, where)
    assert caught.value.where == {"record": record, "field": field}


def test_another_dtype_of_the_same_size_does_not_fit(tmp_path: Path) -> None:
    values = [np.zeros(3, dtype) for dtype in ("<i4", "<f4", "<i4", "<u4")]
    with sqlstore.create(tmp_path / "s", fields={"a": "array"}) as store:
        store.extend({"a": one} for one in values)
        for other in (1, 3):
            with pytest.raises(SchemaError, match="cannot be stacked with") as caught:
                store.stack("a", [0, 2, other])
            assert caught.value.where["record"] == other


@pytest.mark.parametrize("field", ["other", "text"])
def test_only_arrays_are_stacked(store: Store, field: str) -> None:
    with pytest.raises(SchemaError, match="cannot be stacked"):
        store.stack(field, [COUNT + 1])


def test_nothing_has_no_shape(store: Store) -> None:
    for view in (store, store[:0], store[[]]):
        with pytest.raises(SchemaError, match="no records"):
            view.stack("plain", [])


def test_damage_is_no_array(root: Path) -> None:
    with sqlstore.open(root) as store:
        sql = "SELECT file, offset FROM record_locations WHERE field = 'plain' AND record = 1"
        (where,) = store.sql(sql).to_pylist()
    path = root / where["file"]
    good = path.read_bytes()
    bad = bytearray(good)
    bad[where["offset"] + 30] ^= 1
    try:
        path.write_bytes(bad)
        for how in IOS:
            with sqlstore.open(root, io=how) as store:
                with pytest.raises(ChecksumError) as caught:
                    store.stack("plain", [0, 1, 2])
                assert caught.value.where["record"] == 1
    finally:
        path.write_bytes(good)
