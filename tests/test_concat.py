"""Views of several stores, put together, are chosen from and read as one view."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pytest

import sqlstore
from sqlstore import (
    ConcatView,
    Field,
    RecordNotFoundError,
    SchemaError,
    Store,
    UnknownNameError,
    View,
)
from sqlstore.arrow import reordered

COUNTS: Final = (30, 0, 20)
FIELDS: Final[dict[str, str | Field]] = {
    "data": Field("bytes", None),
    "image": "array",
    "words": "utf8[]",
}
METADATA: Final = {"n": "int32", "label": "string"}


def record_of(store: int, i: int) -> dict[str, Any]:
    return {
        "data": None if i % 7 == 3 else b"%d of %d " % (i, store) * (i % 4),
        "image": np.full((2, 3), 100 * store + i, np.int16),
        "words": None if i % 5 == 4 else [f"{store}-{i}-{k}" for k in range(i % 4)],
        "n": 1000 * store + i,
        "label": "ab"[i % 2],
    }


def make(path: Path, number: int, count: int) -> Store:
    """Make a store whose schema has its own order, and a name that no other has."""
    turn = 1 if number % 2 else -1
    fields = dict(list(FIELDS.items())[::turn])
    metadata = dict([*METADATA.items(), (f"extra{number}", "int8")][::turn])
    store = sqlstore.create(path, fields=fields, metadata=metadata)
    store.extend(record_of(number, i) for i in range(count))
    return store


NAMES: Final = (*FIELDS, *METADATA)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("concat")
    for number, count in enumerate(COUNTS):
        make(folder / f"s{number}", number, count).close()
    return folder


@pytest.fixture(params=["mmap", "pread"])
def views(root: Path, request: pytest.FixtureRequest) -> Iterator[list[View]]:
    how: Literal["mmap", "pread"] = request.param
    stores = [sqlstore.open(root / f"s{number}", io=how) for number in range(len(COUNTS))]
    yield [store.select(*NAMES) for store in stores]
    for store in stores:
        store.close()


@pytest.fixture
def both(views: list[View]) -> ConcatView:
    joint = sqlstore.concat(views)
    assert isinstance(joint, ConcatView)
    return joint


EXPECTED: Final = [
    record_of(number, i) for number, count in enumerate(COUNTS) for i in range(count)
]


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    return set(found) == set(expected) and all(
        np.array_equal(value, expected[name])
        if isinstance(value, np.ndarray)
        else value == expected[name]
        for name, value in found.items()
    )


ORDERS: Final[list[Any]] = [
    [0, 29, 30, 49],
    [49, 0, 48, 1, 1, 49, 30],
    [3, 17],
    [-1, -20],
    [],
    slice(25, 35),
    slice(None, None, -3),
    np.arange(50) % 3 == 0,
]


@pytest.mark.parametrize("positions", ORDERS, ids=repr)
def test_it_reads_like_a_view(both: ConcatView, positions: Any) -> None:
    places = np.arange(50)[positions].tolist()
    expected = [EXPECTED[place] for place in places]
    chosen = both[positions]

    assert len(chosen) == len(expected)
    for found in (
        both.fetch(positions),
        list(chosen),
        chosen.__getitems__(list(range(len(chosen)))),
    ):
        assert len(found) == len(expected)
        assert all(map(same, found, expected))
    bodies = [record["data"] for record in expected]
    for copy in (True, False):
        assert both.blobs("data", positions, copy=copy).to_pylist() == bodies
        blobs = chosen.blobs("data", copy=copy)
        blobs.validate(full=True)
        assert blobs.to_pylist() == bodies
    assert chosen.to_arrow()["n"].to_pylist() == [record["n"] for record in expected]
    assert chosen.to_arrow()["id"].to_pylist() == chosen.ids.tolist()
    assert chosen.ids.tolist() == [place - 30 if place >= 30 else place for place in places]
    assert chosen.origins.tolist() == [2 if place >= 30 else 0 for place in places]
    if expected:
        stacked = both.stack("image", positions)
        assert np.array_equal(stacked, np.stack([record["image"] for record in expected]))
        assert np.array_equal(chosen.stack("image"), stacked)


@pytest.mark.parametrize("place", [0, 29, 30, 33, 49, -1, -50])
def test_one_record_and_parts_of_it_are_read(both: ConcatView, place: int) -> None:
    expected = EXPECTED[place]

    assert same(both[place], expected)
    assert same(both[np.int64(place)], expected)
    assert both.raw(place, "data") == expected["data"]
    words = expected["words"]
    assert both.raw_items(place, "words") == (
        None if words is None else [w.encode() for w in words]
    )
    assert both.available(place) == {
        "data": expected["data"] is not None,
        "image": True,
        "words": False if words is None else range(len(words)),
    }
    assert both.read(place, {"n": True, "words": slice(1)}) == {
        "n": expected["n"],
        "words": None if words is None else words[:1],
    }
    if expected["data"] is None:
        with pytest.raises(RecordNotFoundError):
            both.open(place, "data")
    else:
        assert both.open(place, "data").read() == expected["data"]


@pytest.mark.parametrize("place", [50, -51, 2**70])
def test_a_position_outside_is_an_index_error(both: ConcatView, place: int) -> None:
    with pytest.raises(IndexError, match="50 records"):
        both[place]
    with pytest.raises(IndexError):
        both.raw(place, "data")
    with pytest.raises(IndexError):
        both.fetch([place])


def test_values_are_not_copied_unless_that_is_asked_for(tmp_path: Path) -> None:
    stores = [sqlstore.create(tmp_path / name, fields={"f": Field("bytes", None)}) for name in "ab"]
    for store in stores:
        store.extend({"f": b"%d" % i * 200_000} for i in range(5))
    mixed = sqlstore.concat(stores).shuffle(0)
    mixed.blobs("f", copy=False)  # maps the chunks
    before = pa.total_allocated_bytes()
    blobs = mixed.blobs("f", copy=False)
    assert pa.total_allocated_bytes() - before < 10_000
    assert blobs.to_pylist() == [b"%d" % i * 200_000 for i in mixed.ids]
    for store in stores:
        store.close()


@pytest.mark.parametrize("kind", [pa.binary_view(), pa.large_binary()])
def test_a_slice_of_an_array_is_reordered(kind: pa.DataType) -> None:
    values = [b"x", b"long enough for a buffer", None, b"y" * 13, None, b""]
    order = [3, 0, 1, 3]

    found = reordered(pa.array(values, kind)[1:], np.array(order))
    found.validate(full=True)
    assert found.type == kind
    assert found.to_pylist() == [values[1:][place] for place in order]


def test_what_is_chosen_is_one_of_its_kind(both: ConcatView, views: list[View]) -> None:
    for view in (
        both[3:],
        both.shuffle(1),
        both.sample(5, seed=1),
        both.shard(0, 2),
        both.limit(3),
    ):
        assert type(view) is ConcatView
    assert all(type(batch) is ConcatView for batch in both.batches(7))
    assert both.select("n")[31] == {"n": 2001}
    assert repr(both[:3].select("n")) == "<sqlstore.ConcatView of 3 records of s0, s1, s2: n>"
    with pytest.raises(UnknownNameError):
        both.select("extra0")
    parts = both.shuffle(4).parts
    assert [type(part) for part in parts] == [View] * 3
    assert [part.ids.tolist() for part in parts] == [
        [
            i
            for i, store in zip(both.shuffle(4).ids, both.shuffle(4).origins, strict=True)
            if store == k
        ]
        for k in range(3)
    ]
    assert parts[2].where("n > 2010").ids.tolist() == [i for i in parts[2].ids if i > 10]


# What concat gives


def test_one_store_gives_a_view(views: list[View]) -> None:
    first, _, _ = views

    assert type(sqlstore.concat([first])) is View
    joined = sqlstore.concat([first[5:9], first[9:], first[[3, 3]]])
    assert type(joined) is View
    assert joined.ids.tolist() == [*range(5, 30), 3, 3]
    assert sqlstore.concat([first[5:9], first[9:]])._record_ids() == range(5, 30)


def test_stores_that_are_put_together_whole_take_no_memory(views: list[View]) -> None:
    first, nothing, second = views
    whole = sqlstore.concat([first, nothing, second])

    assert whole._record_ids() == range(50)
    assert whole.shard(1, 2)._record_ids() == range(25, 50)
    assert sqlstore.concat([whole[:40], second[10:]])._record_ids() == range(50)
    assert len(pickle.dumps(whole)) < 5000


def test_what_was_put_together_is_put_together_again(views: list[View]) -> None:
    first, nothing, second = views
    one, other = sqlstore.concat([first, second]), sqlstore.concat([second, nothing, first])
    again = sqlstore.concat([one[25:35], other[::-7], first[:1]])

    assert isinstance(again, ConcatView)
    assert len(again.parts) == 3
    found = [record["n"] for record in again.select("n")]
    others = [*range(2000, 2020), *range(30)]
    assert found == [*range(25, 30), *range(2000, 2005), *others[::-7], 0]


def test_a_generator_of_views_will_do(views: list[View]) -> None:
    assert len(sqlstore.concat(view for view in views)) == 50
    with pytest.raises(TypeError, match=r"a list of views: concat\(\[a, b\]\)"):
        sqlstore.concat(views[0])  # type: ignore[arg-type]  # what people will try
    with pytest.raises(TypeError, match="takes views and stores, not 1"):
        sqlstore.concat([views[0], 1])  # type: ignore[list-item]  # as above
    with pytest.raises(ValueError, match="no views"):
        sqlstore.concat([])


def test_all_must_select_the_same(views: list[View]) -> None:
    first, _, second = views

    with pytest.raises(
        SchemaError, match="do not all select data, image, words; `select` the same"
    ):
        sqlstore.concat([first, second.select("n", "label")])
    with pytest.raises(SchemaError, match="do not all select n;"):
        sqlstore.concat([first, first.select(*(name for name in NAMES if name != "n"))])


@pytest.mark.parametrize(
    ("fields", "metadata", "kinds"),
    [
        ({"x": "int"}, {}, "is a metadata column in one store and a field in another"),
        ({"x": "int[]"}, {}, "is a metadata column in one store and a sequence in another"),
    ],
)
def test_a_name_must_mean_the_same_kind_of_thing(
    tmp_path: Path, fields: Any, metadata: Any, kinds: str
) -> None:
    with (
        sqlstore.create(tmp_path / "a", metadata={"x": "int32"}) as one,
        sqlstore.create(tmp_path / "b", fields=fields, metadata=metadata) as two,
        pytest.raises(SchemaError, match=kinds),
    ):
        sqlstore.concat([one, two])


def test_what_differs_in_type_or_shape_is_read_but_not_joined(tmp_path: Path) -> None:
    with (
        sqlstore.create(tmp_path / "a", fields={"f": "array"}, metadata={"x": "int32"}) as one,
        sqlstore.create(tmp_path / "b", fields={"f": "npy"}, metadata={"x": "int64"}) as two,
    ):
        one.extend([{"x": 1, "f": np.zeros(2, np.int8)}])
        two.extend([{"x": 2, "f": np.zeros(3, np.int8)}, {"x": 3, "f": np.zeros(2)}])
        both = sqlstore.concat([one, two])
        assert isinstance(both, ConcatView)
        assert [record["x"] for record in both] == [1, 2, 3]
        assert both[1]["f"].shape == (3,)
        with pytest.raises(SchemaError, match=r"int32 in one store and int64 in another.*column x"):
            both.to_arrow()
        for positions in ([0, 1], [2, 0]):
            with pytest.raises(SchemaError, match=r"the stores hold arrays of .*\(field f\)"):
                both.stack("f", positions)
        tables = [part.to_arrow() for part in both.parts]
        together = pa.concat_tables(tables, promote_options="permissive")
        assert together["x"].to_pylist() == [1, 2, 3]


def test_tables_go_anywhere(both: ConcatView) -> None:
    table = pa.table(both[::-1])

    assert table.schema == both.arrow_schema
    assert table["n"].to_pylist() == [record["n"] for record in EXPECTED[::-1]]


def test_the_stores_of_one_that_sees_more_stay_apart(tmp_path: Path) -> None:
    make(tmp_path / "a", 0, 10).close()
    make(tmp_path / "b", 2, 10).close()
    with (
        sqlstore.open(tmp_path / "a", "a") as one,
        sqlstore.open(tmp_path / "b") as two,
    ):
        before = sqlstore.concat([one.select(*NAMES), two.select(*NAMES)])
        one.extend(record_of(0, i) for i in range(10, 15))
        assert [record["n"] for record in before] == [*range(10), *range(2000, 2010)]
        with sqlstore.open(tmp_path / "a") as later:
            after = sqlstore.concat([before, later[12:].select(*NAMES)])
            found = [record["n"] for record in after]
            assert found == [*range(10), *range(2000, 2010), *range(12, 15)]
