"""The algebra of id sequences, against plain lists; and where a range must stay a range."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlstore import algebra

Sequence_: TypeAlias = Any  # a range or an int64 array

RUNS = st.builds(lambda a, n: range(a, a + n), st.integers(0, 20), st.integers(0, 20))
SLICED = st.builds(lambda run, step: run[::step], RUNS, st.sampled_from([1, 2, 3, -1, -2]))
NEAR = st.lists(st.integers(0, 30), max_size=40)
FAR = st.lists(st.sampled_from([0, 5, 10**9, 10**12, 2**62]), max_size=12)
ARRAYS = (NEAR | FAR).map(lambda ids: np.array(ids, np.int64))
IDS = RUNS | SLICED | ARRAYS


def plain(ids: Sequence_) -> list[int]:
    assert isinstance(ids, range) or (ids.dtype == np.int64 and ids.ndim == 1)
    return [int(one) for one in ids]


def once(ids: Sequence[int]) -> list[int]:
    return list(dict.fromkeys(ids))


MODELS: list[tuple[Callable[..., Any], Callable[[list[int], list[int]], list[int]]]] = [
    (algebra.within, lambda a, b: [i for i in a if i in b]),
    (algebra.without, lambda a, b: [i for i in a if i not in b]),
    (algebra.union, lambda a, b: once(a + b)),
    (algebra.intersection, lambda a, b: once([i for i in a if i in b])),
    (algebra.difference, lambda a, b: once([i for i in a if i not in b])),
    (
        algebra.symmetric_difference,
        lambda a, b: once([i for i in a if i not in b] + [i for i in b if i not in a]),
    ),
    (algebra.joined, lambda a, b: a + b),
]


@pytest.mark.parametrize(("function", "model"), MODELS, ids=range(len(MODELS)))
@given(left=IDS, right=IDS)
@settings(max_examples=60, deadline=None)
def test_two_sequences_are_combined_as_lists_are(
    function: Callable[..., Any], model: Callable[..., list[int]], left: Any, right: Any
) -> None:
    before = plain(left), plain(right)

    assert plain(function(left, right)) == model(*before)
    assert (plain(left), plain(right)) == before


@given(ids=IDS)
@settings(max_examples=80, deadline=None)
def test_distinct_ids_are_those_that_come_first(ids: Any) -> None:
    assert plain(algebra.distinct(ids)) == once(plain(ids))


@given(parts=st.lists(IDS, max_size=6))
@settings(max_examples=100, deadline=None)
def test_many_sequences_are_joined_in_order(parts: list[Any]) -> None:
    assert plain(algebra.joined(*parts)) == [i for part in parts for i in plain(part)]


@given(ids=IDS, count=st.integers(1, 9), contiguous=st.booleans())
@settings(max_examples=60, deadline=None)
def test_shards_are_disjoint_complete_and_of_one_size(
    ids: Any, count: int, contiguous: bool
) -> None:
    shards = [
        plain(algebra.shard(ids, index, count, contiguous=contiguous)) for index in range(count)
    ]

    if contiguous:
        assert [i for shard in shards for i in shard] == plain(ids)
    else:
        assert shards == [plain(ids)[index::count] for index in range(count)]
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@given(ids=IDS, by=st.integers(-5, 5))
def test_shifted_ids_are_each_so_much_more(ids: Any, by: int) -> None:
    assert plain(algebra.shifted(ids, by)) == [i + by for i in plain(ids)]


def test_runs_stay_ranges_of_any_length() -> None:
    many = 10**15

    assert algebra.joined(range(5), range(5, 5), range(5, many)) == range(many)
    assert algebra.union(range(many), range(many, 2 * many)) == range(2 * many)
    assert algebra.union(range(many), range(5, 9)) == range(many)
    assert algebra.intersection(range(many), range(7, 2 * many)) == range(7, many)
    assert algebra.difference(range(many), range(7)) == range(7, many)
    assert algebra.difference(range(many), range(7, many)) == range(7)
    assert algebra.symmetric_difference(range(many), range(5, many)) == range(5)
    assert algebra.shard(range(many), 1, 3, contiguous=True) == range(
        many // 3 + 1, many // 3 * 2 + 1
    )
    assert algebra.shard(range(many), 1, 3, contiguous=False) == range(1, many, 3)
    assert algebra.distinct(range(many)) == algebra.shifted(range(1, many + 1), -1)


def test_an_array_of_distinct_ids_is_not_copied() -> None:
    for ids in ([1, 5, 9], [9, 1, 5], [2**60, 0]):
        array = np.array(ids, np.int64)
        assert algebra.distinct(array) is array
