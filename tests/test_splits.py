"""Random splits: exact sizes, strata and groups, against what they promise and scikit-learn."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

import sqlstore
from sqlstore.splits import rounding
from sqlstore.splits.sizes import largest_remainder

LABELS = ["owl", "wren", None, "jay"]
COUNT = 600
RATIOS = {"train": 0.7, "val": 0.2, "test": 0.1}


def example(i: int) -> dict[str, Any]:
    """Return a record: labels are uneven, patients have 1 to 20 records or are unknown."""
    patient = int((i * 7919 % COUNT) ** 0.7) if i % 10 else None
    return {"label": LABELS[i % 30 % 7 % 4], "patient": patient, "hospital": i % 3, "n": i}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlstore.Store]:
    path = tmp_path_factory.mktemp("splits") / "s"
    metadata = {"label": "string", "patient": "int32", "hospital": "int8", "n": "int64"}
    with sqlstore.create(path, fields={"image": "bytes"}, metadata=metadata) as opened:
        opened.extend(example(i) for i in range(COUNT))
        yield opened


WAYS: list[dict[str, Any]] = [
    {},
    {"stratify": "label"},
    {"stratify": ["label", "hospital"]},
    {"group": "patient"},
    {"group": ["hospital", "patient"]},
    {"group": "patient", "stratify": "label"},
    {"by": "n"},
]
POSITIONS = st.lists(st.integers(0, COUNT - 1), max_size=80)


@given(
    positions=POSITIONS,
    weights=st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any),
    seed=st.integers(0, 2**64 - 1),
    way=st.sampled_from(WAYS),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_splits_are_disjoint_and_complete_and_keep_order_and_groups(
    store: sqlstore.Store, positions: list[int], weights: list[int], seed: int, way: dict[str, Any]
) -> None:
    view = store.take(positions)
    sizes = {f"s{i}": weight / sum(weights) for i, weight in enumerate(weights)}
    splits = view.split(sizes, seed=seed, **way)
    assert list(splits) == list(sizes)
    of = {int(record): name for name, part in splits.items() for record in part.ids}
    for name, part in splits.items():  # in order, with all copies, and nothing else
        assert part.ids.tolist() == [record for record in positions if of[record] == name]
    if "group" in way:
        assert not shared_groups(splits, way["group"])
    if "by" not in way and "group" not in way and len(set(positions)) == len(positions):
        check_sizes(splits, sizes, len(view))
        if "stratify" in way:
            check_strata(splits, way["stratify"])
    again = store.take(positions[::-1]).split(sizes, seed=seed, **way)
    for name, part in again.items():  # whatever the order of the view
        assert sorted(part.ids.tolist()) == sorted(splits[name].ids.tolist())


def check_sizes(splits: dict[str, sqlstore.View], sizes: dict[str, float], count: int) -> None:
    weights = [Fraction(repr(size)) for size in sizes.values()]
    assert [len(part) for part in splits.values()] == largest_remainder(count, weights)
    for part, weight in zip(splits.values(), weights, strict=True):
        assert abs(len(part) - weight * count / sum(weights)) < 1


def values(view: sqlstore.View, columns: Any) -> list[tuple[Any, ...]]:
    names = [columns] if isinstance(columns, str) else columns
    return list(zip(*(view.to_arrow()[name].to_pylist() for name in names), strict=True))


def check_strata(splits: dict[str, sqlstore.View], columns: Any) -> None:
    """Check that of each stratum a split has what it has of all, rounded up or down."""
    found = {name: Counter(values(part, columns)) for name, part in splits.items()}
    strata = sum(found.values(), Counter())
    for name, stratum in itertools.product(splits, strata):
        share = Fraction(strata[stratum] * len(splits[name]), strata.total())
        assert abs(found[name][stratum] - share) < 1


def shared_groups(splits: dict[str, sqlstore.View], columns: Any) -> set[Any]:
    known = [{v for v in values(part, columns) if None not in v} for part in splits.values()]
    return {value for a, b in itertools.combinations(known, 2) for value in a & b}


@given(total=st.integers(0, 1000), weights=st.lists(st.integers(0, 50), min_size=1).filter(any))
def test_the_largest_remainder_is_exact_to_within_one(total: int, weights: list[int]) -> None:
    found = largest_remainder(total, weights)
    assert sum(found) == total
    for size, weight in zip(found, weights, strict=True):
        assert abs(size - Fraction(total * weight, sum(weights))) < 1


@given(
    strata=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    weights=st.lists(st.integers(0, 20), min_size=1, max_size=7).filter(any),
)
@settings(max_examples=100, deadline=None)
def test_a_table_is_rounded_with_all_its_sums_kept(strata: list[int], weights: list[int]) -> None:
    total = sum(strata)
    sizes = largest_remainder(total, weights)
    counts = np.array(strata, np.int64)
    cells = rounding.allotted(counts, sizes, np.zeros((len(strata), len(sizes)), np.int64), counts)
    assert cells.sum(axis=1).tolist() == strata
    assert cells.sum(axis=0).tolist() == sizes
    for (row, n), (column, size) in itertools.product(enumerate(strata), enumerate(sizes)):
        assert abs(cells[row, column] - Fraction(n * size, max(total, 1))) < 1


@given(
    taken=st.lists(st.lists(st.integers(0, 20), min_size=3, max_size=3), min_size=1, max_size=8),
    free=st.lists(st.integers(0, 30), min_size=8, max_size=8),
    weights=st.lists(st.integers(1, 20), min_size=3, max_size=3),
)
@settings(max_examples=80, deadline=None)
def test_single_records_fill_what_groups_left(
    taken: list[list[int]], free: list[int], weights: list[int]
) -> None:
    had, left = np.array(taken, np.int64), np.array(free[: len(taken)], np.int64)
    counts = had.sum(axis=1) + left
    sizes = largest_remainder(int(counts.sum()), weights)
    cells = rounding.allotted(counts, sizes, had, left)
    assert cells.min(initial=0) >= 0
    assert cells.sum(axis=1).tolist() == left.tolist()
    room = np.array(sizes) - had.sum(axis=0)
    if room.min() >= 0:
        assert cells.sum(axis=0).tolist() == room.tolist()
    else:
        assert not cells.sum(axis=0)[room <= 0].any()


def test_sizes_are_those_of_scikit_learn(store: sqlstore.Store) -> None:
    for test in (0.1, 0.25, 0.5, 100, 1):
        rest = 1 - test if isinstance(test, float) else None
        splits = store.split({"train": rest, "test": test}, stratify="label")
        labels = [str(label) for label in store.to_arrow()["label"].to_pylist()]
        train, held = train_test_split(range(COUNT), test_size=test, random_state=0)
        assert [len(part) for part in splits.values()] == [len(train), len(held)]
        if test != 1:
            _, reference = train_test_split(labels, test_size=test, stratify=labels, random_state=0)
            found = Counter(str(label) for (label,) in values(splits["test"], "label"))
            for label, count in Counter(reference).items():
                assert abs(found[label] - count) <= 1


def test_counts_are_exact_and_one_may_be_the_rest(store: sqlstore.Store) -> None:
    for way in WAYS[:3]:
        splits = store.split({"train": None, "val": 17, "test": np.int64(30)}, **way)
        assert [len(part) for part in splits.values()] == [COUNT - 47, 17, 30]
    assert len(store.split({"all": None})["all"]) == COUNT
    thirds = store.split({"a": 0.3, "b": 0.3, "c": None})
    assert [len(part) for part in thirds.values()] == [180, 180, 240]
    assert len(store.split({"all": COUNT, "no": 0})["no"]) == 0


def test_ties_are_decided_as_the_numbers_are_written(store: sqlstore.Store) -> None:
    splits = store.limit(15).split({"train": 0.9, "val": 0.1})  # 13.5 and 1.5
    assert [len(part) for part in splits.values()] == [14, 1]


def test_the_seed_decides(store: sqlstore.Store) -> None:
    for way in WAYS:
        first, same, other = (store.split(RATIOS, seed=seed, **way)["test"] for seed in (1, 1, 2))
        assert first.ids.tolist() == same.ids.tolist() != other.ids.tolist()
    draws = [store.split(RATIOS, seed=seed)["test"].ids for seed in range(300)]
    often = np.bincount(np.concatenate(draws), minlength=COUNT)
    assert abs(often - 30).max() < 5 * np.sqrt(300 * 0.1 * 0.9)  # each record alike
    together = np.bincount([len(np.intersect1d(a, b)) for a, b in itertools.pairwise(draws)])
    assert abs((together * np.arange(len(together))).sum() / 299 - 6) < 1  # and independently


def test_a_view_keeps_what_it_selects(store: sqlstore.Store) -> None:
    view = store.select("n").split(RATIOS, group="patient", stratify="label")["val"]
    assert list(view[0]) == ["n"]


def test_deleted_records_are_in_no_split(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with sqlstore.create(path, metadata={"label": "string", "patient": "int32"}) as store:
        store.extend({"label": LABELS[i % 4], "patient": i // 4} for i in range(200))
        before = store.split(RATIOS, by="patient")
        store.where("id % 10 = 3").delete()
        store.where("id = 50").update(label="lark")
        splits = store.split(RATIOS, group="patient", stratify="label")
        assert np.allclose([len(part) for part in splits.values()], [126, 36, 18], atol=3)
        splits = store.split(RATIOS, stratify="label")
        assert [len(part) for part in splits.values()] == [126, 36, 18]
        of = sqlstore.split_names(splits)
        assert of["id"].to_pylist() == store.ids.tolist()
        after = store.split(RATIOS, by="patient")
        for name, part in before.items():
            assert after[name].ids.tolist() == [i for i in part.ids.tolist() if i % 10 != 3]
        store.add_column("split", "string", of["split"])
        assert store.where("split = 'test'").ids.tolist() == splits["test"].ids.tolist()


def test_no_records_are_split_into_none(store: sqlstore.Store) -> None:
    for way in WAYS:
        splits = store.limit(0).split(RATIOS, **way)
        assert [len(part) for part in splits.values()] == [0, 0, 0]


MISTAKES: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    ({"a": 0.5, "b": 0.6}, {}, sqlstore.SplitError, "sum to 1.1, not to 1"),
    ({"a": 0.5, "b": 0.4}, {}, sqlstore.SplitError, "None for the rest"),
    ({"a": 0.333, "b": 0.333, "c": 0.333}, {}, sqlstore.SplitError, "sum to 0.999"),
    ({"a": 1.5, "b": -0.5}, {}, sqlstore.SplitError, "'b' cannot have the size -0.5"),
    ({"a": float("nan"), "b": None}, {}, sqlstore.SplitError, "'a' cannot have the size nan"),
    ({"a": float("inf")}, {}, sqlstore.SplitError, "cannot have the size inf"),
    ({"a": 1.5, "b": None}, {}, sqlstore.SplitError, "sum to 1.5"),
    ({"a": None, "b": None}, {}, sqlstore.SplitError, "only one may be None"),
    ({"a": 500, "b": 99}, {}, sqlstore.SplitError, "not the 600 records"),
    ({"a": 1, "b": 0}, {}, sqlstore.SplitError, "write ratios as 1.0"),
    ({"a": 601, "b": None}, {}, sqlstore.SplitError, "not the 600 records"),
    ({}, {}, sqlstore.SplitError, "name one"),
    ([0.9, 0.1], {}, TypeError, "a mapping such as"),
    ({"a": "0.9"}, {}, TypeError, "a ratio or a count, not '0.9'"),
    ({"a": True}, {}, TypeError, "a ratio or a count"),
    ({1: 1.0}, {}, TypeError, "a split has a name, not 1"),
    ({"a": 1.0}, {"stratify": "image"}, sqlstore.UnknownNameError, "'image' is a field; stratify="),
    ({"a": 1.0}, {"group": ["label", "x"]}, sqlstore.UnknownNameError, "named 'x'"),
    ({"a": 1.0}, {"by": []}, sqlstore.SplitError, "by= names no column"),
    ({"a": 1.0}, {"by": [3]}, TypeError, "by= takes names"),
    ({"a": 1.0}, {"seed": "x"}, TypeError, "a seed is an integer"),
    ({"a": 1.0}, {"seed": -1, "by": "id"}, ValueError, "a seed is from 0"),
]


@pytest.mark.parametrize(("sizes", "way", "kind", "message"), MISTAKES, ids=range(len(MISTAKES)))
def test_a_mistake_is_told(
    store: sqlstore.Store, sizes: Any, way: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        store.split(sizes, **way)


def test_names_of_splits_are_a_table_by_id(store: sqlstore.Store) -> None:
    splits = store.order_by("n DESC").split(RATIOS, stratify="label")
    table = sqlstore.split_names(splits)
    assert table.column_names == ["id", "split"]
    assert table["id"].to_pylist() == list(range(COUNT))
    for name, part in splits.items():
        assert [table["split"][record].as_py() for record in part.ids[:9].tolist()] == [name] * 9
    twice = sqlstore.split_names({"a": store.take([5, 1, 5]), "b": store.take([2])})
    assert twice.to_pydict() == {"id": [1, 2, 5], "split": ["a", "b", "a"]}
    assert sqlstore.split_names({}).num_rows == 0
    with pytest.raises(sqlstore.SplitError, match=r"'a' and 'b' at once \(record 4\)"):
        sqlstore.split_names({"a": store.take([4]), "b": store.take([4])})
