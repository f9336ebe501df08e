"""Views are shuffled, sampled, cut into shards, and combined by operators."""

from __future__ import annotations

import operator
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sqlstore
from sqlstore import (
    CorruptStoreError,
    DifferentStoresError,
    RecordNotFoundError,
    Store,
    UnknownNameError,
    View,
)
from tests.model import shuffled

METADATA = {"label": "string", "n": "int32"}


def make(path: Path, count: int, first: int = 0) -> Store:
    store = sqlstore.create(path, fields={"data": "bytes"}, metadata=METADATA)
    extend(store, first, first + count)
    return store


def extend(store: Store, start: int, stop: int) -> None:
    store.extend({"data": b"%d" % i, "label": "ab"[i % 2], "n": i} for i in range(start, stop))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with make(tmp_path_factory.mktemp("compose") / "birds", 20) as made:
        yield made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


# Shuffles, samples, shards


def test_a_shuffle_is_the_same_for_ever(store: Store) -> None:
    order = [2, 4, 6, 8, 5, 10, 1, 11, 7, 0, 9, 3]

    assert store[:12].shuffle(0).ids.tolist() == order
    assert store[:12].shuffle(seed=0)[0]["n"] == 2
    assert store[8:].shuffle(0).ids.tolist() == [8 + place for place in order]
    assert store[:12].shuffle(1).ids.tolist() != order
    assert store[[7, 7, 3]].shuffle(5).ids.tolist() == shuffled([7, 7, 3], 5)


def test_a_sample_is_how_a_shuffle_begins(store: Store) -> None:
    view = store.where("n >= 5")

    for count in range(16):
        sample = view.sample(count, seed=3)
        assert sample.ids.tolist() == view.shuffle(3).ids[:count].tolist()
        assert len(set(sample.ids.tolist())) == count
    assert view.sample(fraction=0.5, seed=3).ids.tolist() == view.sample(8, seed=3).ids.tolist()
    assert len(view.sample(fraction=1, seed=0)) == 15
    assert len(view.sample(fraction=0, seed=0)) == len(store[:0].sample(0, seed=0)) == 0
    assert store[[4, 4]].sample(2, seed=0).ids.tolist() == [4, 4]
    assert (
        view.sample(np.int64(3), seed=np.int64(3)).ids.tolist()
        == view.sample(3, seed=3).ids.tolist()
    )


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"count": 21}, ValueError, r"a sample of 21 from 20 records.*shuffle\(seed\)\.limit"),
        ({"count": -1}, ValueError, "a sample of -1"),
        ({"count": 1.5}, TypeError, "a number of records, not 1.5"),
        ({"fraction": 1.1}, ValueError, "fraction 1.1"),
        ({"fraction": -0.1}, ValueError, "fraction -0.1"),
        ({"fraction": float("nan")}, ValueError, "fraction nan"),
        ({}, TypeError, "either a count or fraction"),
        ({"count": 1, "fraction": 0.5}, TypeError, "either a count or fraction"),
        ({"count": 1, "seed": -1}, ValueError, "a seed is from 0"),
        ({"count": 1, "seed": "1"}, TypeError, "a seed is an integer"),
    ],
)
def test_a_sample_that_cannot_be_is_refused(
    store: Store, arguments: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        store.sample(**{"seed": 0, **arguments})


def test_shards_are_runs_of_the_view_or_every_so_manieth_record(store: Store) -> None:
    view = store[:11]

    assert [view.shard(i, 3).ids.tolist() for i in range(3)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10],
    ]
    assert view.shard(1, 3, contiguous=False).ids.tolist() == [1, 4, 7, 10]
    assert [len(store[:2].shard(i, 4)) for i in range(4)] == [1, 1, 0, 0]


@pytest.mark.parametrize(("index", "count"), [(3, 3), (-1, 3), (0, 0), (0, -1)])
def test_a_shard_that_is_not_there_is_refused(store: Store, index: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"shard {index} of {count}"):
        store.shard(index, count)


# Operators


def test_operators_keep_the_order_of_the_left_one(store: Store) -> None:
    left, right = store[[5, 3, 3, 9]], store[[8, 9, 8, 3]]

    assert (left | right).ids.tolist() == [5, 3, 9, 8]
    assert (left & right).ids.tolist() == [3, 9]
    assert (left - right).ids.tolist() == [5]
    assert (left ^ right).ids.tolist() == [5, 8]
    assert (left + right).ids.tolist() == [5, 3, 3, 9, 8, 9, 8, 3]
    assert (left - left).ids.tolist() == []


def test_a_store_is_the_view_of_all_its_records(store: Store) -> None:
    some = store[[5, 3, 3]]

    assert (store - some).ids.tolist() == [i for i in range(20) if i not in (3, 5)]
    assert (some | store).ids.tolist() == [5, 3, *(i for i in range(20) if i not in (3, 5))]
    assert type(store | store) is type(store.shuffle(0)) is View
    assert (store[:5] + store[5:])._record_ids() == range(20)
    assert (store & store[4:9])._record_ids() == range(4, 9)


def test_what_is_read_is_what_the_left_one_selects(store: Store) -> None:
    left, right = store[:2].select("label"), store[2:4].select("n")

    for view in (left | right, left + right, left ^ right):
        assert view.fetch([0, 3]) == [{"label": "a"}, {"label": "b"}]
    assert (store[:2] | right)[2] == {"data": b"2", "label": "a", "n": 2}
    with pytest.raises(UnknownNameError):
        (left | right).select("n")
    assert (left | right).where("n >= 2").order_by("n DESC").ids.tolist() == [3, 2]


OPERATORS = [operator.or_, operator.and_, operator.sub, operator.xor, operator.add]


@pytest.mark.parametrize("combine", OPERATORS)
@pytest.mark.parametrize("other", [[1], {1}, 1, np.array([1, 2]), None, "n > 1"], ids=repr)
def test_a_view_is_only_combined_with_a_view(
    store: Store, combine: Callable[[Any, Any], Any], other: Any
) -> None:
    with pytest.raises(TypeError, match="operand"):
        combine(store, other)
    with pytest.raises(TypeError):
        combine(other, store)


@pytest.mark.parametrize("combine", OPERATORS)
def test_views_of_different_stores_are_for_concat(
    store: Store, path: Path, combine: Callable[[Any, Any], Any]
) -> None:
    with make(path, 3) as other:
        with pytest.raises(DifferentStoresError, match=r"birds and .*sqlstore\.concat"):
            combine(store, other)
        with pytest.raises(ValueError, match="views of one store"):
            combine(other[:0], store)


# One store, opened more than once


def test_stores_opened_on_one_folder_are_one_store(path: Path) -> None:
    make(path, 10).close()
    link = path.with_name("link")
    link.symlink_to(path)
    with sqlstore.open(path) as one, sqlstore.open(link, io="pread") as two:
        assert (one[:3] | two[2:5]).ids.tolist() == [0, 1, 2, 3, 4]
        assert (two[2:5] - one[:3]).fetch([0])[0]["n"] == 3


def test_the_later_of_two_commits_is_seen(path: Path) -> None:
    make(path, 10).close()
    with sqlstore.open(path) as old, sqlstore.open(path, "a") as new:
        carried = pickle.loads(pickle.dumps(old))
        extend(new, 10, 20)
        assert (len(old), len(new)) == (10, 20)
        for before in (old, carried):
            for view in (before | new, before ^ new[5:], before + new[10:], before[:0] | new):
                assert [record["n"] for record in view] == view.ids.tolist()
                assert view.ids.max() == 19
                assert view.where("n >= 10").ids.tolist() == list(range(10, 20))
            assert (new - before).ids.tolist() == list(range(10, 20))
            assert (before - new[:4]).fetch([-1])[0]["n"] == 9
            assert sqlstore.concat([before, new])[-1]["n"] == 19
        assert len(old) == 10


def test_a_store_without_records_is_one_store_with_itself(path: Path) -> None:
    sqlstore.create(path, metadata=METADATA).close()
    with sqlstore.open(path) as empty, sqlstore.open(path, "a") as store:
        store.extend([{"n": 0}])
        assert (empty | store).ids.tolist() == (store | empty).ids.tolist() == [0]
        assert (empty | empty).ids.tolist() == []
    with (
        sqlstore.create(path.with_name("t"), metadata=METADATA) as one,
        sqlstore.open(one.path, "a") as two,
    ):
        two.add_column("more", "int8")
        assert (one | two).ids.tolist() == []
        assert (one | two).arrow_schema.names == ["id", "label", "n", "more"]


def test_deleted_records_are_in_no_store_but_in_views_of_before(path: Path) -> None:
    with make(path, 10) as store, sqlstore.open(path) as old:
        before = store[:4]
        store[[2, 7]].delete()
        left = [0, 1, 3, 4, 5, 6, 8, 9]
        assert (store | store[:3]).ids.tolist() == (old & store).ids.tolist() == left
        assert (old - store).ids.tolist() == [2, 7]
        assert store.shuffle(3).ids.tolist() == shuffled(left, 3)
        assert (before & store).fetch([-1])[0]["n"] == 3
        with pytest.raises(RecordNotFoundError, match="deleted"):
            (old | store).fetch([2])
        with make(path.with_name("t"), 2) as other:
            both = sqlstore.concat([other, store, before[3:]])
            assert both.ids.tolist() == [0, 1, *left, 3]
            assert [record["n"] for record in both.select("n")] == [0, 1, *left, 3]


def test_workers_combine_views_without_sqlite(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with make(path, 10) as store:
        old = pickle.dumps(store[:8])
        extend(store, 10, 20)
        new = pickle.dumps(store[5:])
    left, right = pickle.loads(old), pickle.loads(new)
    monkeypatch.setattr("sqlstore.attached.Finder", None)

    assert (left | right).shuffle(1).shard(0, 2).fetch([0])[0]["n"] == shuffled(range(20), 1)[0]
    assert (right & left).ids.tolist() == [5, 6, 7]


def test_a_copy_in_another_folder_is_another_store(path: Path) -> None:
    make(path, 3).close()
    copy = path.with_name("copy")
    shutil.copytree(path, copy)
    with sqlstore.open(path) as one, sqlstore.open(copy) as two:
        with pytest.raises(DifferentStoresError):
            one | two
        assert len(sqlstore.concat([one, two])) == 6


def test_views_of_different_histories_are_refused(path: Path) -> None:
    """A folder that was put back and written to again holds other records under the same ids."""
    make(path, 3).close()
    saved = path.with_name("saved")
    shutil.copytree(path, saved)
    with sqlstore.open(path, "a") as store:
        extend(store, 3, 6)
    before = sqlstore.open(path)
    shutil.rmtree(path)
    shutil.copytree(saved, path)
    with sqlstore.open(path, "a") as store:
        extend(store, 13, 14)
        with pytest.raises(CorruptStoreError, match="another history"):
            before | store
        extend(store, 14, 15)
        with pytest.raises(CorruptStoreError, match="another history"):
            store - before[:1]
        with pytest.raises(CorruptStoreError, match="another history"):
            sqlstore.concat([before[:1], store])
    before.close()
