"""Groups that never cross a split, and folds, beside scikit-learn's splitters."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

import sqlstore
from tests.test_splits import RATIOS, WAYS, example, shared_groups, values

COUNT = 400
FOLDS = 5
Integers = NDArray[np.int64]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlstore.Store]:
    path = tmp_path_factory.mktemp("groups") / "s"
    metadata = {"label": "string", "patient": "int32", "hospital": "int8", "n": "int64"}
    with sqlstore.create(path, metadata=metadata) as opened:
        opened.extend(example(i) for i in range(COUNT))
        yield opened


def made(path: Path, patients: Integers, labels: Integers | None = None) -> sqlstore.Store:
    labels = np.zeros(len(patients), np.int64) if labels is None else labels
    store = sqlstore.create(path, metadata={"patient": "int64", "label": "int64"})
    store.extend(pa.table({"patient": patients, "label": labels}))
    return store


def sizes_of(splits: dict[str, sqlstore.View]) -> list[int]:
    return [len(part) for part in splits.values()]


def test_a_group_is_that_of_all_its_columns(store: sqlstore.Store) -> None:
    splits = store.split(RATIOS, group=["hospital", "patient"])
    assert not shared_groups(splits, ["hospital", "patient"])
    assert shared_groups(splits, "patient")  # which is in several hospitals
    assert shared_groups(splits, "hospital")


def test_records_of_no_group_are_split_one_by_one(tmp_path: Path) -> None:
    with sqlstore.create(tmp_path / "s", metadata={"a": "string", "b": "int8"}) as store:
        store.extend({"a": None, "b": 1} for _ in range(50))
        store.extend({"a": "x", "b": None} for _ in range(50))
        for group in ("a", ["a", "b"], ["b", "a"]):
            alone = 50 if group == "a" else 100
            for seed in range(3):
                splits = store.split({"u": 0.5, "v": 0.5}, group=group, seed=seed)
                assert sizes_of(splits) == [50, 50]
                firsts = [int((part.ids < 50).sum()) for part in splits.values()]
                assert (firsts in ([0, 50], [50, 0])) == (alone == 50)


def test_sizes_are_exact_where_small_groups_fill_what_large_ones_leave(tmp_path: Path) -> None:
    large, small = np.repeat(np.arange(40), np.arange(40)), np.arange(100, 300)
    with made(tmp_path / "s", np.concatenate([large, small])) as store:
        for seed in range(5):
            assert sizes_of(store.split(RATIOS, group="patient", seed=seed)) == [686, 196, 98]
            counts = {"a": 500, "b": None, "c": 1}
            assert sizes_of(store.split(counts, group="patient", seed=seed)) == [500, 479, 1]


def test_a_group_that_fits_nowhere_goes_where_most_room_is(tmp_path: Path) -> None:
    with made(tmp_path / "s", np.repeat([0, 1, 2], [90, 6, 4])) as store:
        sizes = sizes_of(store.split({"a": 0.3, "b": 0.6, "c": 0.1}, group="patient"))
        assert sizes == [6, 90, 4] or sizes == [10, 90, 0]


def test_each_split_gets_its_share_of_the_large_groups(tmp_path: Path) -> None:
    sizes = np.random.default_rng(0).permutation(np.repeat([1, 4, 30], [3000, 400, 60]))
    with made(tmp_path / "s", np.repeat(np.arange(len(sizes)), sizes)) as store:
        for seed in range(5):
            part = store.split(RATIOS, group="patient", seed=seed)["val"]
            of = np.bincount(part.to_arrow()["patient"].to_numpy(), minlength=len(sizes))
            assert [int((of == size).sum()) for size in (30, 4)] == [12, 80]


def test_large_groups_come_to_every_split_in_turn(tmp_path: Path) -> None:
    sizes = np.arange(90, 110)  # each of another size: there is an order from large to small
    with made(tmp_path / "s", np.repeat(np.arange(20), sizes)) as store:
        tested: set[int] = set()
        for seed in range(60):
            part = store.split({"train": 0.8, "test": 0.2}, group="patient", seed=seed)["test"]
            tested |= set(part.to_arrow()["patient"].to_pylist())
        assert tested == set(range(20))


@pytest.mark.parametrize("stratify", [None, "label"])
def test_all_copies_of_a_record_are_in_one_split(store: sqlstore.Store, stratify: Any) -> None:
    positions = np.random.default_rng(0).integers(0, 100, 1000)
    view = store.take(positions)
    splits = view.split({"a": 0.5, "b": 0.5}, stratify=stratify)
    a, b = (part.ids for part in splits.values())
    assert not set(a.tolist()) & set(b.tolist())
    assert abs(len(a) - 500) <= 2
    assert not shared_groups(view.split({"a": 0.5, "b": 0.5}, group="patient"), "patient")


def drawn(seed: int) -> tuple[Integers, Integers]:
    """Return groups and labels: few or many groups, of like or unlike sizes and labels."""
    random = np.random.default_rng(seed)
    n_groups, n_labels = int(random.choice([20, 50, 200])), int(random.choice([2, 3, 8]))
    sizes = [
        np.full(n_groups, 8),
        1 + random.poisson(6, n_groups),
        np.minimum(random.zipf(1.7, n_groups), 200),
        random.integers(1, 60, n_groups),
    ][seed % 4]
    groups = np.repeat(np.arange(n_groups), sizes)
    often = random.dirichlet(np.full(n_labels, random.choice([0.5, 2, 50])))
    likely = random.dirichlet(np.maximum(random.choice([0.3, 3, 300]) * often, 1e-3), n_groups)
    labels = (random.random(len(groups))[:, None] > likely[groups].cumsum(axis=1)).sum(axis=1)
    return groups, np.unique(np.minimum(labels, n_labels - 1), return_inverse=True)[1]


def numbered(folds: Any, count: int) -> Integers:
    """Return the fold that each record is tested in."""
    found = np.full(count, -1)
    for number, (_, test) in enumerate(folds):
        assert (found[test] < 0).all()
        found[test] = number
    return found


def ours(store: sqlstore.Store, **way: Any) -> Integers:
    folds = store.folds(FOLDS, **way)
    return numbered(((fold.train.ids, fold.test.ids) for fold in folds), len(store))


def quality(folds: Integers, labels: Integers) -> tuple[float, int]:
    """Return how unevenly the labels are spread over the folds, and how far sizes are off."""
    table = np.zeros((FOLDS, labels.max() + 1))
    np.add.at(table, (folds, labels), 1)
    spread = float((table / table.sum(axis=0)).std(axis=0).mean())
    return spread, int(np.ptp(table.sum(axis=1)))


def test_grouped_and_stratified_folds_are_no_worse_than_those_of_scikit_learn(
    tmp_path: Path,
) -> None:
    spreads, tied_or_better, sizes = [], 0, []
    for seed in range(24):
        groups, labels = drawn(seed)
        with made(tmp_path / str(seed), groups, labels) as store:
            found = ours(store, group="patient", stratify="label")
        splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of labels that are rarer than folds
            peer = numbered(splitter.split(labels, labels, groups), len(labels))
        (spread, size), (its_spread, its_size) = quality(found, labels), quality(peer, labels)
        assert len(set(zip(groups.tolist(), found.tolist(), strict=True))) == groups[-1] + 1
        assert size <= its_size
        tied_or_better += spread <= its_spread + 1e-9
        spreads.append(np.log(max(spread, 1e-3) / max(its_spread, 1e-3)))
        sizes.append((size, its_size))
    assert tied_or_better >= 12
    assert np.mean(spreads) <= 0
    assert sum(size for size, _ in sizes) < sum(size for _, size in sizes)


def test_grouped_folds_are_of_sizes_like_those_of_scikit_learn(tmp_path: Path) -> None:
    off, its_off = [], []
    for seed in range(12):
        groups, labels = drawn(seed)
        with made(tmp_path / str(seed), groups) as store:
            found = ours(store, group="patient", seed=seed)
        peer = numbered(GroupKFold(FOLDS).split(labels, labels, groups), len(labels))
        zeros = np.zeros_like(labels)
        off.append(quality(found, zeros)[1] / len(labels))
        its_off.append(quality(peer, zeros)[1] / len(labels))
    assert np.mean(off) <= np.mean(its_off) + 0.005


def test_folds_have_the_sizes_and_strata_of_scikit_learn(store: sqlstore.Store) -> None:
    view = store.limit(397)
    for stratify, splitter in ((None, KFold(FOLDS)), ("label", StratifiedKFold(FOLDS))):
        labels = np.array([str(label) for (label,) in values(view, "label")])
        folds = view.folds(FOLDS, stratify=stratify)
        reference = [len(test) for _, test in splitter.split(labels, labels)]
        assert sorted(len(fold.test) for fold in folds) == sorted(reference)
        for fold in folds:
            tested = [str(label) for (label,) in values(fold.test, "label")]
            for label in set(labels.tolist()) if stratify else ():
                assert abs(tested.count(label) - (labels == label).sum() / FOLDS) < 1.1


@pytest.mark.parametrize("way", WAYS[:-1], ids=str)
def test_folds_test_each_record_once_and_train_with_all_others(
    store: sqlstore.Store, way: dict[str, Any]
) -> None:
    view = store.order_by("hospital, n DESC")
    folds = view.folds(3, **way, seed=5)
    for fold in folds:
        tested = set(fold.test.ids.tolist())
        assert fold.test.ids.tolist() == [i for i in view.ids.tolist() if i in tested]
        assert fold.train.ids.tolist() == [i for i in view.ids.tolist() if i not in tested]
        if "group" in way:
            both = {"train": fold.train, "test": fold.test}
            assert not shared_groups(both, way["group"])
    assert sorted(i for fold in folds for i in fold.test.ids.tolist()) == list(range(COUNT))
    same = pickle.loads(pickle.dumps(folds))
    assert [fold.test.ids.tolist() for fold in same] == [fold.test.ids.tolist() for fold in folds]
    assert repr(folds[0]).startswith("<sqlstore.Fold: train ")


def test_folds_of_folds(store: sqlstore.Store) -> None:
    for outer in store.folds(4, group="patient", stratify="label"):
        inner = outer.train.folds(3, group="patient", stratify="label")
        tested = [i for fold in inner for i in fold.test.ids.tolist()]
        assert sorted(tested) == sorted(outer.train.ids.tolist())
        for fold in inner:
            parts = {"train": fold.train, "val": fold.test, "test": outer.test}
            assert not shared_groups(parts, "patient")
            assert len(fold.test) == pytest.approx(len(outer.train) / 3, abs=1)


def test_too_many_or_too_few_folds_are_refused(store: sqlstore.Store) -> None:
    assert {len(fold.test) for fold in store.folds(COUNT)} == {1}
    for view, count, group in (
        (store, 1, None),
        (store, COUNT + 1, None),
        (store.limit(0), 2, None),
        (store, 4, "hospital"),
    ):
        with pytest.raises(sqlstore.SplitError, match=f"{count} folds"):
            view.folds(count, group=group)
    with pytest.raises(TypeError, match="as an integer"):
        store.folds(2.5)  # type: ignore[arg-type]  # what is shown to be refused
