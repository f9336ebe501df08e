"""Random programs of compositions, each step compared with plain lists.

``SQLSTORE_PROGRAMS=1000 pytest tests/test_programs.py`` tries so many programs.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sqlstore
from sqlstore import ConcatView, DifferentStoresError, SchemaError, View
from tests.model import once, shard, shuffled

PROGRAMS: Final = int(os.environ.get("SQLSTORE_PROGRAMS", "250"))

Member: TypeAlias = tuple[int, int]
"""The number of a store and a record id."""

NAMES: Final = ("data", "label", "n", "score")
SIZES: Final = (40, 25)
BATS: Final = [i for i in range(SIZES[1]) if i not in (4, 20)]
"""Which records of the second store were not deleted."""
OLDER: Final = 30
"""How many records the first store had when it was opened for the first time."""


def record_of(store: int, i: int) -> dict[str, Any]:
    return {
        "data": None if i % 7 == 3 else b"%d of %d" % (i, store),
        "label": ["owl", "wren", None, "bat"][(i + store) % 4],
        "n": None if i % 6 == 5 else i * 7 % 11 - 5,
        "score": [0.5, -1.0, None, 2.0][i * 3 % 4],
    }


RECORDS: Final = [[record_of(store, i) for i in range(size)] for store, size in enumerate(SIZES)]


def least(value: Any) -> tuple[bool, Any]:
    """Return what to sort by, as SQL does: nothing comes before everything."""
    return (value is not None, value or 0)


Row: TypeAlias = dict[str, Any]
CONDITIONS: Final[list[tuple[str, Callable[[int, Row], bool]]]] = [
    ("n > 0", lambda _, row: row["n"] is not None and row["n"] > 0),
    ("label = 'owl' OR label IS NULL", lambda _, row: row["label"] in ("owl", None)),
    ("id % 3 <> 1", lambda i, _: i % 3 != 1),
    ("score < 100 AND n < -100", lambda _, row: False),
    ("1", lambda _, row: True),
]
ORDERS: Final[list[tuple[str, Callable[[int, Row], Any]]]] = [
    ("label", lambda _, row: least(row["label"])),
    ("score, n", lambda _, row: (least(row["score"]), least(row["n"]))),
    ("id % 4, label", lambda i, row: (i % 4, least(row["label"]))),
    ("id", lambda i, _: i),
]


@dataclass(frozen=True)
class Case:
    """A selection, and what must be in it."""

    view: View | ConcatView
    members: list[Member]
    names: tuple[str, ...] = NAMES

    def row(self, member: Member) -> Row:
        store, i = member
        return RECORDS[store][i]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Case]]:
    """Return what to begin with: two stores, the first as of two commits, repeats and nothing."""
    root = tmp_path_factory.mktemp("programs")
    metadata = {"label": "string", "n": "int32", "score": "float64"}
    for store, name in enumerate(("birds", "bats")):
        with sqlstore.create(root / name, fields={"data": "bytes"}, metadata=metadata) as made:
            made.extend(RECORDS[store][:OLDER])
            if name == "bats":
                made[[4, 20]].delete()
    older = sqlstore.open(root / "birds")
    with sqlstore.open(root / "birds", "a") as made:
        made.extend(RECORDS[0][OLDER:])
    with sqlstore.open(root / "birds") as birds, sqlstore.open(root / "bats") as bats, older:
        begin = [
            Case(birds, [(0, i) for i in range(SIZES[0])]),
            Case(bats, [(1, i) for i in BATS]),
            Case(older, [(0, i) for i in range(OLDER)]),
        ]
        begin += [
            Case(birds[[3, 1, 1, 35, 3]], [(0, i) for i in (3, 1, 1, 35, 3)]),
            Case(bats[[9, 9, -1, 3]], [(1, i) for i in (10, 10, 24, 3)]),
            Case(bats[:0], []),
        ]
        copies = [replace(case, view=pickle.loads(pickle.dumps(case.view))) for case in begin]
        yield begin
        del copies  # as long as these are there, views that are unpickled share what they opened


Step: TypeAlias = Callable[[list[Case], Case], Case]

PICK: Final = st.integers(0, 100)
BOUND: Final = st.none() | st.integers(-45, 45)
SLICES: Final = st.builds(slice, BOUND, BOUND, st.sampled_from([None, 1, 2, -1, -3]))


def limited(count: int) -> Step:
    return lambda _, case: replace(case, view=case.view.limit(count), members=case.members[:count])


def sliced(key: slice) -> Step:
    return lambda _, case: replace(case, view=case.view[key], members=case.members[key])


def mixed(seed: int) -> Step:
    return lambda _, case: replace(
        case, view=case.view.shuffle(seed), members=shuffled(case.members, seed)
    )


def sampled(fraction: float, seed: int, by_count: bool) -> Step:
    def step(_: list[Case], case: Case) -> Case:
        count = round(fraction * len(case.members))
        view = (
            case.view.sample(count, seed=seed)
            if by_count
            else case.view.sample(fraction=fraction, seed=seed)
        )
        return replace(case, view=view, members=shuffled(case.members, seed)[:count])

    return step


def taken(positions: list[int]) -> Step:
    def step(_: list[Case], case: Case) -> Case:
        count = len(case.members)
        inside = [p % (2 * count) - count for p in positions] if count else []
        members = [case.members[p] for p in inside]
        return replace(case, view=case.view.take(inside), members=members)

    return step


def masked(divisor: int) -> Step:
    def step(_: list[Case], case: Case) -> Case:
        mask = [i % divisor == 0 for i in range(len(case.members))]
        members = [m for m, here in zip(case.members, mask, strict=True) if here]
        return replace(case, view=case.view.take(np.array(mask, bool)), members=members)

    return step


def sharded(index: int, count: int, contiguous: bool) -> Step:
    def step(_: list[Case], case: Case) -> Case:
        own = index % count
        view = case.view.shard(own, count, contiguous=contiguous)
        members = shard(case.members, own, count) if contiguous else case.members[own::count]
        return replace(case, view=view, members=members)

    return step


def batched(size: int, which: int) -> Step:
    def step(_: list[Case], case: Case) -> Case:
        batches: list[Any] = list(case.view.batches(size))
        assert [len(b) for b in batches[:-1]] == [size] * (len(batches) - 1)
        if not batches:
            return case
        start = which % len(batches)
        members = case.members[start * size : (start + 1) * size]
        return replace(case, view=batches[start], members=members)

    return step


def selected(count: int) -> Step:
    def step(_: list[Case], case: Case) -> Case:
        names = case.names[: 1 + count % len(case.names)]
        return replace(case, view=case.view.select(*names), names=names)

    return step


def filtered(which: int) -> Step:
    sql, holds = CONDITIONS[which % len(CONDITIONS)]

    def step(_: list[Case], case: Case) -> Case:
        if isinstance(case.view, ConcatView):
            return case
        members = [m for m in case.members if holds(m[1], case.row(m))]
        return replace(case, view=case.view.where(sql), members=members)

    return step


def ordered(which: int) -> Step:
    sql, key = ORDERS[which % len(ORDERS)]

    def step(_: list[Case], case: Case) -> Case:
        if isinstance(case.view, ConcatView):
            return case
        members = sorted(case.members, key=lambda m: key(m[1], case.row(m)))
        return replace(case, view=case.view.order_by(sql), members=members)

    return step


def carried(_: list[Case], case: Case) -> Case:
    return replace(case, view=pickle.loads(pickle.dumps(case.view)))


OPERATORS: Final[dict[str, Callable[[list[Member], list[Member]], list[Member]]]] = {
    "__or__": lambda a, b: once(a + b),
    "__and__": lambda a, b: once(m for m in a if m in b),
    "__sub__": lambda a, b: once(m for m in a if m not in b),
    "__xor__": lambda a, b: once([m for m in a if m not in b] + [m for m in b if m not in a]),
    "__add__": lambda a, b: a + b,
}


def combined(operator: str, other: int) -> Step:
    def step(pool: list[Case], case: Case) -> Case:
        right = pool[other % len(pool)]
        if isinstance(case.view, ConcatView) or isinstance(right.view, ConcatView):
            return case
        combine = getattr(case.view, operator)
        if case.view._source.store != right.view._source.store:
            with pytest.raises(DifferentStoresError, match="concat"):
                combine(right.view)
            return case
        members = OPERATORS[operator](case.members, right.members)
        return replace(case, view=combine(right.view), members=members)

    return step


def concatenated(others: list[int]) -> Step:
    def step(pool: list[Case], case: Case) -> Case:
        given_ = [case, *(pool[other % len(pool)] for other in others)]
        views = [one.view for one in given_]
        if any(set(one.names) != set(case.names) for one in given_):
            with pytest.raises(SchemaError, match="do not all select"):
                sqlstore.concat(views)
            return case
        members = [member for one in given_ for member in one.members]
        return replace(case, view=sqlstore.concat(views), members=members)

    return step


STEPS: Final = st.one_of(
    st.builds(limited, st.integers(0, 60)),
    st.builds(sliced, SLICES),
    st.builds(mixed, st.integers(0, 2**64 - 1)),
    st.builds(sampled, st.floats(0, 1), st.integers(0, 9), st.booleans()),
    st.builds(taken, st.lists(st.integers(0, 200), max_size=12)),
    st.builds(masked, st.integers(1, 4)),
    st.builds(sharded, PICK, st.integers(1, 7), st.booleans()),
    st.builds(batched, st.integers(1, 20), PICK),
    st.builds(selected, PICK),
    st.builds(filtered, PICK),
    st.builds(ordered, PICK),
    st.just(carried),
    st.builds(combined, st.sampled_from(sorted(OPERATORS)), PICK),
    st.builds(combined, st.sampled_from(sorted(OPERATORS)), PICK),
    st.builds(concatenated, st.lists(PICK, max_size=3)),
    st.builds(concatenated, st.lists(PICK, max_size=3)),
)


def check(case: Case) -> None:
    """Compare everything that tells which records these are, and what is read of them."""
    view, members = case.view, case.members
    assert len(view) == len(members)
    assert view.ids.tolist() == [i for _, i in members]
    if isinstance(view, ConcatView):
        stores = {number: part._source.root.name for number, part in enumerate(view.parts)}
        found = [("birds", "bats").index(stores[number]) for number in view.origins.tolist()]
        assert found == [store for store, _ in members]
        for number, part in enumerate(view.parts):
            assert part.ids.tolist() == view.ids[view.origins == number].tolist()
    expected = [{name: case.row(m)[name] for name in case.names} for m in members]
    assert view.fetch(slice(None)) == expected
    table = view.to_arrow()
    assert table["id"].to_pylist() == [i for _, i in members]
    for name in set(case.names) - {"data"}:
        assert table[name].to_pylist() == [row[name] for row in expected]


@given(program=st.lists(st.tuples(PICK, STEPS), min_size=1, max_size=12))
@settings(
    max_examples=PROGRAMS,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_program_of_compositions_gives_what_lists_give(
    cases: list[Case], program: list[tuple[int, Step]]
) -> None:
    pool = list(cases)
    for which, step in program:
        pool.append(step(pool, pool[-1 - which % len(pool)]))
        check(pool[-1])
